# SPDX-License-Identifier: Apache-2.0
"""Plain seed files: the builtin ones, JSON Lines of ours, one instruction a line.

These are a user's own: anything odd is an error that says what to do about it.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from typing import Any

from data_gen.records import Message
from data_gen.seeds import files
from data_gen.seeds.seed import Seed, bad_character, content_id

BUILTIN = "builtin"
_TEXTS = ("id", "text", "domain", "answer", "instruction", "input", "label")
_LISTS = ("rejected", "constraints")
FIELDS = (*_TEXTS, *_LISTS, "history")


def load_seeds(path: str | Path, limit: int | None = None) -> tuple[Seed, ...]:
    """Read seeds in file order.

    Args:
      path: "builtin" (the seeds of this package, domains in turn), a .jsonl file with
        objects {"text", "id"?, "domain"?, "answer"?, ...} (see `read_seed`), or a .txt
        file with one instruction a line. Blank lines are skipped. A seed without an id
        gets one that depends on its text only.
      limit: keep the first so many; None keeps all. The whole file is checked anyway.

    Raises:
      ValueError: names file and line, what is wrong there and what to do.
    """
    if limit is not None and limit < 1:
        raise ValueError(
            f"seed limit must be at least 1, got {limit}; leave it out to use all seeds"
        )
    with _located(path) as (source, file):
        seeds = _distinct(source, _seeds(source, file), limit)
    if not seeds:
        raise ValueError(f"{source}: no seeds in it; add one instruction a line")
    return tuple(seeds)


def fingerprint(path: str | Path) -> str:
    """The kind of the file that `path` means and the sha256 of its bytes, as in
    "jsonl:5f2c..."; together they decide the seeds."""
    with _located(path) as (source, file):
        return f"{Path(source).suffix[1:]}:{files.sha256(file)}"


def read_seed(record: Mapping[str, Any]) -> Seed:
    """A seed from an object of a seed file.

    "text" is the instruction. "id", "domain", "answer", "instruction", "input" and
    "label" are texts, "rejected" and "constraints" lists of texts, "history" a list of
    {"role", "content"}; each may be left out (see `Seed`).

    Raises:
      ValueError: a field is unknown, missing or of the wrong type.
    """
    for key in record:
        if key not in FIELDS:
            near = difflib.get_close_matches(key, FIELDS, n=1)
            hint = f"did you mean {near[0]!r}?" if near else "remove it"
            raise ValueError(
                f"a seed has no field {key!r}; {hint} (fields: {', '.join(FIELDS)})"
            )
    if "text" not in record:
        raise ValueError('no "text" in the object; add the instruction as "text"')
    for key in _TEXTS:
        if key in record:
            check_string(f'"{key}"', record[key])
    for key in _LISTS:
        if not isinstance(record.get(key, []), list):
            raise ValueError(f'"{key}" must be a list of texts')
        for value in record.get(key, []):
            check_string(f'an item of "{key}"', value)
    text = record["text"].strip()
    seed = Seed(
        id=record.get("id", ""),
        text=text,
        domain=record.get("domain", ""),
        answer=record.get("answer"),
        rejected=tuple(record.get("rejected", ())),
        history=_history(record.get("history", [])),
        instruction=record.get("instruction", ""),
        input=record.get("input", ""),
        label=record.get("label", ""),
        constraints=tuple(record.get("constraints", ())),
    )
    return seed if seed.id else dataclasses.replace(seed, id=content_id(seed.whole))


def write_seed(seed: Seed) -> str:
    """A line of a seed file, without its end: what `read_seed` reads the seed from."""
    fields = dataclasses.asdict(seed)
    empty = (None, "", ())
    kept = {name: value for name, value in fields.items() if value not in empty}
    return json.dumps(kept, ensure_ascii=False)


def check_string(what: str, value: Any) -> None:
    """Raise unless `value` is a string with something in it that UTF-8 can hold."""
    if not isinstance(value, str):
        raise ValueError(
            f"{what} must be a string, got {type(value).__name__} "
            f"({json.dumps(value)[:40]}); put it in quotes, or leave it out"
        )
    if not value.strip():
        raise ValueError(f"{what} is empty; fill it in or remove it")
    if found := bad_character(value):
        raise ValueError(f"{what} has {found}; remove it")


def _history(value: Any) -> tuple[Message, ...]:
    if not isinstance(value, list):
        raise ValueError('"history" must be a list of {"role", "content"}')
    for turn in value:
        if not isinstance(turn, dict) or set(turn) != {"role", "content"}:
            raise ValueError('each turn of "history" needs "role" and "content" only')
        check_string('"role" in "history"', turn["role"])
        check_string('"content" in "history"', turn["content"])
    return tuple(Message(turn["role"], turn["content"]) for turn in value)


@contextmanager
def _located(path: str | Path) -> Iterator[tuple[str, Path]]:
    """Name for messages and place of the file that `path` means."""
    if path == BUILTIN:
        builtin = resources.files("data_gen").joinpath("data", "seeds.jsonl")
        with resources.as_file(builtin) as file:
            yield "data_gen/data/seeds.jsonl", file
        return
    path = Path(path)
    if path.suffix not in (".jsonl", ".txt"):
        raise ValueError(
            f"{path}: seeds are a .jsonl file (one JSON object a line), a .txt file "
            f"(one instruction a line) or {BUILTIN!r}; rename or convert it, or read "
            "another data set with seeds: {source: ..., format: ...}"
        )
    if not path.is_file():
        raise ValueError(
            f"{path}: no such seed file; check the path, or use {BUILTIN!r} for the "
            "seeds that come with data_gen"
        )
    yield str(path), path


def _distinct(
    source: str, seeds: Iterator[tuple[int, Seed]], limit: int | None
) -> list[Seed]:
    kept: list[Seed] = []
    ids: dict[str, int] = {}
    texts: dict[str, int] = {}
    for line, seed in seeds:
        where = f"{source}:{line}"
        text = content_id(seed.whole)
        if text in texts:
            raise ValueError(
                f"{where}: same text as line {texts[text]} (case, spacing and Unicode "
                "form do not count): remove one of them"
            )
        if seed.id in ids:
            raise ValueError(
                f"{where}: id {seed.id!r} is already on line {ids[seed.id]}; "
                "give each seed its own id, or leave ids out"
            )
        texts[text] = ids[seed.id] = line
        if limit is None or len(kept) < limit:
            kept.append(seed)
    return kept


def _seeds(source: str, path: Path) -> Iterator[tuple[int, Seed]]:
    for number, line, problem in files.lines(path):
        where = f"{source}:{number}"
        if problem is not None:
            raise ValueError(f"{where}: {problem}")
        line = line.strip(" \t\r")
        try:
            if source.endswith(".txt"):
                check_string("the instruction", line)
                yield number, Seed(content_id(line), line)
            else:
                yield number, read_seed(_record(line))
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from error


def _record(line: str) -> Mapping[str, Any]:
    try:
        record = json.loads(line, object_pairs_hook=_object)
    except (ValueError, RecursionError) as error:
        raise ValueError(
            f"not JSON: {error}; write one object a line, like "
            '{"text": "Name a fruit."}'
        ) from error
    if not isinstance(record, dict):
        raise ValueError(
            f"expected a JSON object, got {type(record).__name__}; write "
            '{"text": "Name a fruit."}'
        )
    return record


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    record = dict(pairs)
    if len(record) < len(pairs):
        repeated = Counter(key for key, _ in pairs).most_common(1)[0][0]
        raise ValueError(f"key {repeated!r} is given twice")
    return record
