# SPDX-License-Identifier: Apache-2.0
"""Prompts files: what is to be sampled, one prompt a line.

A line of a JSONL file is an object with one of `prompt` (a text or messages),
`messages` and `text` (continued as it is, without the chat template); besides, `id`,
`n` (samples), `seed` and `settings`. In a .txt file each line is a user's turn.
"""

from __future__ import annotations

import dataclasses
import difflib
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from alignjax.data.records import Message, parse_messages
from alignjax.metrics import parse_line

STDIN = "-"
MAX_SAMPLES = 65_536  # of one prompt
_CONTENT = ("prompt", "messages", "text")
_KEYS = (*_CONTENT, "id", "n", "seed", "settings")


@dataclasses.dataclass(frozen=True)
class Prompt:
    """One line of a prompts file.

    Attributes:
      id: as given, else the number of the line.
      line: its number, from 1.
      messages: the conversation to go on with; empty where `text` is given.
      text: what is continued without a chat template.
      n, seed: as given; None leaves them to the command.
      settings: as given, unchecked.
      reason: why the line cannot be sampled; empty where nothing is wrong.
    """

    id: str
    line: int
    messages: tuple[Message, ...] = ()
    text: str = ""
    n: int | None = None
    seed: int | None = None
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    reason: str = ""


def read(path: str, *, limit: int | None = None) -> tuple[Prompt, ...]:
    """The prompts of a file in order; a line that is wrong becomes a prompt with a
    reason.

    Args:
      path: a .jsonl or a .txt file; any other, and "-" (standard input), is taken for
        JSONL where its first character is "{".
      limit: the first so many prompts; None = all.

    Raises:
      ValueError: the file is missing, is a folder, is no text, is a JSON array or
        holds no prompt.
    """
    if limit is not None and limit < 1:
        raise ValueError(f"limit must be > 0, got {limit}; leave it out to take all")
    name = "standard input" if path == STDIN else path
    try:
        text = _bytes(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{name}: not UTF-8 at byte {error.start}; expected JSONL or text, one "
            "prompt a line"
        ) from error
    if not path.endswith((".jsonl", ".txt")) and text.lstrip().startswith("["):
        raise ValueError(f"{name}: a JSON array; write its objects one a line (.jsonl)")
    is_json = path.endswith(".jsonl") or (
        not path.endswith(".txt") and text.lstrip().startswith("{")
    )
    prompts: list[Prompt] = []
    lines_of: dict[str, int] = {}
    for number, line in enumerate(text.split("\n"), start=1):
        line = line.removesuffix("\r")
        if not line.strip():
            continue
        if len(prompts) == limit:
            break
        prompt = _json(line, number) if is_json else _plain(line, number)
        # A line that cannot be read takes no id from one that can.
        first = number if prompt.reason else lines_of.setdefault(prompt.id, number)
        if first != number:
            reason = (
                f"line {number}: id {prompt.id!r:.80} is that of line {first} already; "
                "give each line an id of its own"
            )
            prompt = Prompt(prompt.id, number, reason=reason)
        prompts.append(prompt)
    if not prompts:
        raise ValueError(f"{name}: holds no prompts; add one a line")
    return tuple(prompts)


def _bytes(path: str) -> bytes:
    if path == STDIN:
        return sys.stdin.buffer.read()
    if Path(path).is_dir():
        raise ValueError(f"{path}: is a folder; expected a .jsonl or .txt file")
    if not Path(path).exists():
        raise ValueError(
            f"{path}: no such file; expected a .jsonl or .txt file with a prompt a line"
        )
    return Path(path).read_bytes()


def _plain(line: str, number: int) -> Prompt:
    return Prompt(str(number), number, (Message("user", line),))


def _json(line: str, number: int) -> Prompt:
    where, name = f"line {number}", str(number)
    try:
        row = parse_line(line.encode(), where)
        name = _id(row.get("id"), where, number)
        return _prompt(row, name, where, number)
    except ValueError as error:
        return Prompt(name, number, reason=str(error))


def _prompt(row: Mapping[str, Any], name: str, where: str, number: int) -> Prompt:
    for key in row:
        if key not in _KEYS:
            near = difflib.get_close_matches(key, _KEYS, 1)
            raise ValueError(
                f"{where}: unknown key {key!r:.80}"
                + (f"; did you mean {near[0]!r}?" if near else "")
                + f" (keys: {', '.join(_KEYS)})"
            )
    given = [key for key in _CONTENT if row.get(key) is not None]
    if len(given) != 1:
        raise ValueError(
            f"{where}: expected one of {', '.join(_CONTENT)}, got "
            f"{' and '.join(given) or 'none'}"
        )
    (key,) = given
    messages: tuple[Message, ...] = ()
    if key == "text" and not isinstance(row["text"], str):
        raise ValueError(f"{where}: text: expected a text; for messages say messages")
    if key == "messages" and isinstance(row["messages"], str):
        raise ValueError(f"{where}: messages: expected a list; for a text say prompt")
    if key != "text":
        messages = parse_messages(row[key], f"{where}: {key}")
    settings = row.get("settings")
    if not isinstance(settings, Mapping | None):
        raise ValueError(
            f'{where}: settings: expected an object such as {{"temperature": 0.5}}'
        )
    return Prompt(
        id=name,
        line=number,
        messages=messages,
        text=row["text"] if key == "text" else "",
        n=_integer(row, "n", 1, MAX_SAMPLES, where),
        seed=_integer(row, "seed", 0, (1 << 31) - 1, where),
        settings=settings or {},
    )


def _id(value: Any, where: str, number: int) -> str:
    if value is None:
        return str(number)
    if not isinstance(value, str | int) or isinstance(value, bool) or value == "":
        raise ValueError(f"{where}: id must be a text or an integer, got {value!r:.80}")
    return str(value)


def _integer(
    row: Mapping[str, Any], key: str, least: int, most: int, where: str
) -> int | None:
    value = row.get(key)
    if value is None or (type(value) is int and least <= value <= most):
        return value
    raise ValueError(
        f"{where}: {key} must be an integer from {least} to {most}, got {value!r:.80}"
    )
