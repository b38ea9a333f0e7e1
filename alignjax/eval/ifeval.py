# SPDX-License-Identifier: Apache-2.0
"""IFEval on saved answers: files in, verdicts and accuracies out, no model.

The metrics are those of Zhou et al. 2023 (arXiv:2311.07911): the share of prompts whose
instructions are all followed, and the share of instructions followed, both strict and
loose.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from alignjax import json_file
from alignjax.constraints import ifeval
from alignjax.eval.contrast import Contrast, contrast, wilson

_SHOWN = 60  # characters of a prompt in an error


class Prompt(NamedTuple):
    """One prompt of the benchmark; `kwargs` has one entry per instruction."""

    prompt: str
    instruction_ids: tuple[str, ...]
    kwargs: tuple[Mapping[str, Any], ...]
    key: int | str | None


class Answer(NamedTuple):
    """One answer to a prompt: None where there is no response, and the strict verdicts
    of another checker, where the file has them."""

    prompt: str
    response: str | None
    recorded: tuple[bool, ...] | None = None


class Verdict(NamedTuple):
    """Which instructions of a prompt a response follows, in their order; `recorded` is
    what another checker says."""

    prompt: Prompt
    response: str | None
    strict: tuple[bool, ...]
    loose: tuple[bool, ...]
    recorded: tuple[bool, ...] | None = None

    def to_json(self) -> dict[str, Any]:
        """The line of a verdicts file; names as in the published result files."""
        key = {} if self.prompt.key is None else {"key": self.prompt.key}
        return {
            **key,
            "prompt": self.prompt.prompt,
            "instruction_id_list": list(self.prompt.instruction_ids),
            "follow_instruction_list": list(self.strict),
            "follow_instruction_list_loose": list(self.loose),
            "follow_all_instructions": all(self.strict),
            "follow_all_instructions_loose": all(self.loose),
        }


def read_prompts(path: Path) -> dict[str, Prompt]:
    """The prompts of an IFEval file, by their text, in its order.

    Args:
      path: JSON lines with `prompt`, `instruction_id_list`, `kwargs` and perhaps `key`;
        other fields are ignored. `.gz` is unpacked.

    Raises:
      OSError: cannot be read.
      ValueError: a line that does not fit, or a prompt that stands twice; names
        file and line.
    """
    found: dict[str, Prompt] = {}
    places: dict[str, str] = {}
    for where, row in _rows(path):
        prompt = _prompt(row, where)
        _refuse_second(prompt.prompt, where, places)
        found[prompt.prompt] = prompt
    if not found:
        raise ValueError(f"{path}: holds no prompts")
    return found


def read_answers(path: Path, prompts: Mapping[str, Prompt]) -> list[Answer]:
    """The answers of a file to some of the prompts, in its order.

    Args:
      path: JSON lines with `prompt`, `response`, a text or null, and perhaps
        `follow_instruction_list`, the strict verdicts of another checker; other fields
        are ignored. `.gz` is unpacked.

    Raises:
      OSError: cannot be read.
      ValueError: a line that does not fit, a prompt that is not one of `prompts`, or a
        second answer to one; names file and line.
    """
    found: list[Answer] = []
    places: dict[str, str] = {}
    for where, row in _rows(path):
        prompt = _text(row, "prompt", where)
        if "response" not in row or not isinstance(row["response"], str | None):
            raise ValueError(f'{where}: expected "response", a text or null')
        if prompt not in prompts:
            raise ValueError(
                f"{where}: {_short(prompt)} is no prompt of the prompts' file; prompts "
                "are matched letter by letter"
            )
        _refuse_second(prompt, where, places)
        recorded = _recorded(row, len(prompts[prompt].instruction_ids), where)
        found.append(Answer(prompt, row["response"], recorded))
    if not found:
        raise ValueError(f"{path}: holds no answers")
    return found


def score(prompts: Mapping[str, Prompt], answers: Iterable[Answer]) -> list[Verdict]:
    """The verdicts on each answer, in order."""
    return [_judge(prompts[answer.prompt], answer) for answer in answers]


def summary(verdicts: Sequence[Verdict]) -> dict[str, Any]:
    """Accuracies over the verdicts, JSON-able.

    Returns:
      `prompts` and `no_response` (None or blank), counts; for `strict` and `loose`,
      `prompt_level` and `instruction_level`, and `types` by instruction id, each
      `{"followed": count, "n": count, "accuracy": share}`; `prompt_level` with its
      Wilson interval of 95 %.
    """
    return {
        "prompts": len(verdicts),
        "no_response": sum(
            not (verdict.response or "").strip() for verdict in verdicts
        ),
        "strict": _accuracies(verdicts, [verdict.strict for verdict in verdicts]),
        "loose": _accuracies(verdicts, [verdict.loose for verdict in verdicts]),
    }


def agreement(verdicts: Iterable[Verdict]) -> dict[str, Any]:
    """How far the strict verdicts agree with recorded ones, JSON-able.

    Returns:
      `agree` and `n`, counts of instruction verdicts, their `share`, and `differ`, a
      list of `{"key", "prompt", "instruction_id", "recorded", "here"}`; n is 0 where
      nothing is recorded.
    """
    n, differ = 0, []
    for verdict in verdicts:
        given = verdict.recorded or ()
        n += len(given)
        for name, recorded, here in zip(
            verdict.prompt.instruction_ids, given, verdict.strict, strict=False
        ):
            if recorded != here:
                where = {"key": verdict.prompt.key, "prompt": verdict.prompt.prompt}
                found = {"instruction_id": name, "recorded": recorded, "here": here}
                differ.append({**where, **found})
    share = (n - len(differ)) / n if n else None
    return {"agree": n - len(differ), "n": n, "share": share, "differ": differ}


def compare(
    first: Iterable[Verdict], second: Iterable[Verdict]
) -> dict[str, dict[str, Any]]:
    """Contrast accuracy of one model's answers over another's, strict, JSON-able.

    Only prompts that both answered are compared.

    Returns:
      `more_followed`, where the answer that follows more of its prompt's instructions
      wins, and `all_followed`, where one that follows all wins over one that does not;
      each with wins, losses, ties, accuracy and its Wilson interval of 95 %.
    """
    return _compare(
        {verdict.prompt.prompt: verdict.strict for verdict in first},
        {verdict.prompt.prompt: verdict.strict for verdict in second},
    )


def compare_recorded(
    first: Iterable[Verdict], second: Iterable[Verdict]
) -> dict[str, dict[str, Any]]:
    """The same by the recorded verdicts, over the answers that have them."""
    return _compare(
        {found.prompt.prompt: found.recorded for found in first if found.recorded},
        {found.prompt.prompt: found.recorded for found in second if found.recorded},
    )


def lines(verdicts: Iterable[Verdict]) -> Iterator[bytes]:
    """Yields the lines of a verdicts file."""
    for verdict in verdicts:
        yield json.dumps(verdict.to_json(), ensure_ascii=False).encode() + b"\n"


def _judge(prompt: Prompt, answer: Answer) -> Verdict:
    found = [
        ifeval.judge(name, kwargs, answer.response)
        for name, kwargs in zip(prompt.instruction_ids, prompt.kwargs, strict=True)
    ]
    strict = tuple(verdict.strict for verdict in found)
    loose = tuple(verdict.loose for verdict in found)
    return Verdict(prompt, answer.response, strict, loose, answer.recorded)


def _accuracies(
    verdicts: Sequence[Verdict], followed: Sequence[tuple[bool, ...]]
) -> dict[str, Any]:
    complete = [all(flags) for flags in followed]
    types: dict[str, list[bool]] = {}
    for verdict, flags in zip(verdicts, followed, strict=True):
        for name, flag in zip(verdict.prompt.instruction_ids, flags, strict=True):
            types.setdefault(ifeval.plain_id(name), []).append(flag)
    interval = wilson(sum(complete), len(complete))
    return {
        "prompt_level": {**_share(complete), "interval_95": list(interval)},
        "instruction_level": _share([flag for flags in followed for flag in flags]),
        "types": {name: _share(flags) for name, flags in sorted(types.items())},
    }


def _share(followed: Sequence[bool]) -> dict[str, Any]:
    n = len(followed)
    return {"followed": sum(followed), "n": n, "accuracy": sum(followed) / n}


def _compare(
    first: Mapping[str, tuple[bool, ...]], second: Mapping[str, tuple[bool, ...]]
) -> dict[str, dict[str, Any]]:
    pairs = [(first[prompt], second[prompt]) for prompt in first if prompt in second]
    return {
        "more_followed": _contrast(contrast((sum(a), sum(b)) for a, b in pairs)),
        "all_followed": _contrast(contrast((all(a), all(b)) for a, b in pairs)),
    }


def _contrast(found: Contrast) -> dict[str, Any]:
    return {
        **found._asdict(),
        "accuracy": found.accuracy,
        "interval_95": list(found.interval),
    }


def _rows(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yields `file:line` and the object of each line that is not blank."""
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rb") as file:
        for number, line in enumerate(file, 1):
            where = f"{path}:{number}"
            if line.strip():
                yield where, json_file.parse(line, where=where)


def _prompt(row: Mapping[str, Any], where: str) -> Prompt:
    text = _text(row, "prompt", where)
    ids, kwargs = row.get("instruction_id_list"), row.get("kwargs")
    if not isinstance(ids, list) or not ids or not _all(ids, str):
        raise ValueError(f'{where}: expected "instruction_id_list", a list of ids')
    if not isinstance(kwargs, list) or not _all(kwargs, dict):
        raise ValueError(f'{where}: expected "kwargs", a list of objects')
    if len(kwargs) != len(ids):
        raise ValueError(
            f"{where}: expected kwargs for each of the {len(ids)} instructions, got "
            f"{len(kwargs)}"
        )
    for name, given in zip(ids, kwargs, strict=True):
        try:
            ifeval.arguments(name, given)
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from error
    key = row.get("key")
    if not isinstance(key, int | str | None):
        raise ValueError(f'{where}: expected "key", a number or a text, got {key!r}')
    return Prompt(text, tuple(ids), tuple(kwargs), key)


def _recorded(row: Mapping[str, Any], n: int, where: str) -> tuple[bool, ...] | None:
    given = row.get("follow_instruction_list")
    if given is None:
        return None
    if not isinstance(given, list) or len(given) != n or not _all(given, bool):
        raise ValueError(
            f'{where}: expected "follow_instruction_list", true or false for each of '
            f"the {n} instructions"
        )
    return tuple(given)


def _text(row: Mapping[str, Any], name: str, where: str) -> str:
    value = row.get(name)
    if not isinstance(value, str) or not value:
        raise ValueError(f'{where}: expected "{name}", a text')
    try:
        value.encode()  # the verdicts' file repeats it
    except UnicodeEncodeError as error:
        raise ValueError(f'{where}: "{name}" holds half a surrogate pair') from error
    return value


def _all(values: Sequence[Any], kind: type) -> bool:
    return all(isinstance(value, kind) for value in values)


def _refuse_second(prompt: str, where: str, places: dict[str, str]) -> None:
    if prompt in places:
        raise ValueError(
            f"{where}: {_short(prompt)} stands in {places[prompt]} already; keep one"
        )
    places[prompt] = where


def _short(prompt: str) -> str:
    return repr(prompt if len(prompt) <= _SHOWN else f"{prompt[:_SHOWN]}...")
