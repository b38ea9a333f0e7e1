# SPDX-License-Identifier: Apache-2.0
"""The files of a run's folder, checked and made safe to print.

What a model wrote is hostile text: control characters could rewrite a terminal's
lines, and bidirectional overrides the order of a page's words. They are made visible
here, once, for everything that reads a run.
"""

from __future__ import annotations

import dataclasses
import math
import unicodedata
from pathlib import Path
from typing import Any

from alignjax import json_file
from alignjax.metrics import read_jsonl

Row = dict[str, Any]
Columns = dict[str, Any]  # a type, or several, by the column's name

# Columns of metrics.jsonl that the report shows.
CURVES = (
    *("loss", "dpo", "nll", "nll_paraphrase", "contrastive", "margin", "accuracy"),
    *("chosen_logprob", "rejected_logprob", "tokens", "step_s"),
)

_LIMIT = 200_000_000  # bytes of one JSON file
_ANSWER = {
    **dict.fromkeys(("id", "root_id", "type", "prompt", "answer", "verdict"), str),
    "gates": dict,
}
_BIDI = {chr(c) for c in (0x061C, 0x200E, 0x200F, *range(0x202A, 0x202F))}
_BIDI |= {chr(c) for c in range(0x2066, 0x206A)}


@dataclasses.dataclass(frozen=True)
class Source:
    """A JSON file of the run; `content` is empty where it is not part of the run."""

    path: Path
    content: Row

    def value(self, *names: str) -> Any:
        """The value at a nested place; None without a file, or below a null.

        Raises:
          ValueError: it is missing; names file and field.
        """
        value: Any = self.content or None
        for name in names:
            if value is None:
                return None
            if not isinstance(value, dict) or name not in value:
                raise ValueError(f"{self.path}: field {'.'.join(names)!r} is missing")
            value = value[name]
        return value

    def number(self, *names: str) -> float | int | None:
        """The number at a place."""
        return self._number(self.value(*names), names)

    def numbers(self, *names: str) -> list[float]:
        """The list of numbers at a place; nulls (NaN when written) are left out."""
        values = self._of(list, names)
        numbers = [self._number(value, names) for value in values]
        return [number for number in numbers if number is not None]

    def counts(self, *names: str) -> dict[str, float]:
        """The mapping of names to numbers at a place."""
        found = self._of(dict, names)
        return {key: self.number(*names, key) or 0 for key in found}

    def mapping(self, *names: str) -> Row:
        """The mapping at a place."""
        return self._of(dict, names)

    def table(self, name: str, columns: Columns) -> list[Row]:
        """A list of objects, each with these columns of these types."""
        rows = self._of(list, (name,))
        for number, row in enumerate(rows):
            _check(row, columns, f"{self.path}: {name}[{number}]")
        return rows

    def _of(self, kind: type, names: tuple[str, ...]) -> Any:
        """The list or mapping at a place, empty without a file or where it is null."""
        value = self.value(*names)
        if value is not None and not isinstance(value, kind):
            raise ValueError(
                f"{self.path}: {'.'.join(names)!r} must be a {kind.__name__}"
            )
        return kind() if value is None else value

    def _number(self, value: Any, names: tuple[str, ...]) -> float | int | None:
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if value is not None and not is_number:
            raise ValueError(
                f"{self.path}: {'.'.join(names)!r} must hold numbers, got {value!r}"
            )
        return value


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """One eval folder; `answers` by the prompt's id."""

    results: Source
    answers: dict[str, Row]


@dataclasses.dataclass(frozen=True)
class Run:
    """What a run's folder holds."""

    name: str
    pipeline: Source
    data: Source
    training: Source
    metrics: list[Row]
    before: Evaluation
    after: Evaluation


def read(run: Path) -> Run:
    """The files of a run's folder.

    Raises:
      ValueError: nothing to report, or a damaged file; names it and the line.
    """
    found = Run(
        name=visible(run.resolve().name),
        pipeline=_source(run / "pipeline.json"),
        data=_source(run / "data" / "report.json"),
        training=_source(run / "train" / "summary.json"),
        metrics=_metrics(run / "train" / "metrics.jsonl"),
        before=_evaluation(run / "eval-before"),
        after=_evaluation(run / "eval-after"),
    )
    results = (found.before.results, found.after.results)
    sources = (found.pipeline, found.data, found.training, *results)
    if not (found.metrics or any(source.content for source in sources)):
        raise ValueError(
            f"{run}: nothing to report; expected a run's folder with some of "
            "pipeline.json, data/, train/, eval-before/, eval-after/"
        )
    return found


def visible(text: str) -> str:
    """Control characters as pictures (ESC becomes ␛), and bidirectional marks and lone
    surrogates as their code points; newlines and tabs stay."""
    return text if text.isprintable() else "".join(map(_visible, text))


def passes(answer: Row) -> bool:
    """Whether the answer meets its constraint; an ambiguous verdict is not a pass."""
    return answer["verdict"] == "pass"


def passes_gated(answer: Row) -> bool:
    """Whether it meets its constraint and is still an answer by all gates."""
    return passes(answer) and all(answer["gates"].values())


def change(before: Row, after: Row) -> str:
    """What training did to the verdict: "fixed", "broken" or "same"."""
    if passes(before) == passes(after):
        return "same"
    return "fixed" if passes(after) else "broken"


def _visible(character: str) -> str:
    if character in "\n\t":
        return character
    code = ord(character)
    if code < 0x20:
        return chr(0x2400 + code)
    if code == 0x7F:
        return "␡"
    if character in _BIDI or unicodedata.category(character) in ("Cc", "Cs"):
        return f"⟨U+{code:04X}⟩"
    return character


def _evaluation(folder: Path) -> Evaluation:
    path = folder / "answers.jsonl"
    answers = {}
    for number, row in enumerate(_rows(path), start=1):
        _check(row, _ANSWER, f"{path}:{number}")
        answers[row["id"]] = row
    return Evaluation(_source(folder / "results.json"), answers)


def _source(path: Path) -> Source:
    content = json_file.read(path, limit=_LIMIT) if path.exists() else {}
    return Source(path, _clean(content))


def _rows(path: Path) -> list[Row]:
    return [_clean(row) for row in read_jsonl(path)] if path.exists() else []


def _metrics(path: Path) -> list[Row]:
    rows = _rows(path)
    for number, row in enumerate(rows, start=1):
        _check(row, {"step": int}, f"{path}:{number}")
        for name, value in row.items():
            if name in CURVES and not isinstance(value, (int, float, type(None))):
                raise ValueError(
                    f"{path}:{number}: {name!r} must be a number, got {value!r}"
                )
    return rows


def _check(row: Any, columns: Columns, where: str) -> None:
    for name, kind in columns.items():
        if not isinstance(row, dict) or name not in row:
            raise ValueError(f"{where}: field {name!r} is missing")
        if not isinstance(row[name], kind):
            raise ValueError(f"{where}: field {name!r} is damaged: {row[name]!r}")


def _clean(value: Any) -> Any:
    """The same with visible text, and None for NaN and infinities."""
    if isinstance(value, str):
        return visible(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {visible(key): _clean(item) for key, item in value.items()}
    return [_clean(item) for item in value] if isinstance(value, list) else value
