# SPDX-License-Identifier: Apache-2.0
"""Turns: conversations of data sets, and the seed that each of them gives."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from data_gen.records import Message
from data_gen.seeds.seed import Seed, content_id

_HH_TURN = re.compile(r"\n\n(Human|Assistant):")
_HH_STRAY = re.compile(r"(?:^|\s)(?:Human|Assistant):")
_HH_ROLES = {"Human": "user", "Assistant": "assistant"}
_SHAREGPT_ROLES = {
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "bing": "assistant",
    "bard": "assistant",
    "assistant": "assistant",
    "system": "system",
}


class Options(NamedTuple):
    """What a source says about how its rows are read; "" takes the format's own way.

    `turn` is "first" or "last": which answer of a conversation is the given one.
    `task` names the task that all rows are of, `name` the file or data set.
    """

    turn: str = ""
    task: str = ""
    name: str = ""


class Unusable(NamedTuple):
    """A row that is as it should be, and still gives no seed."""

    reason: str
    detail: str = ""
    text: str = ""


Found = Seed | Unusable


def cleaned(text: str) -> str:
    """Line ends as one newline, no white space around it."""
    return text.replace("\r\n", "\n").replace("\r", "\n").strip()


def text_of(row: Mapping[str, Any], name: str) -> str:
    """A field that must be a text, cleaned; ValueError says what it is instead."""
    if not isinstance(row, Mapping) or name not in row:
        fields = ", ".join(row) if isinstance(row, Mapping) else type(row).__name__
        raise ValueError(f'no "{name}" (fields: {fields})')
    value = row[name]
    if not isinstance(value, str):
        raise ValueError(f'"{name}" must be a text, got {type(value).__name__}')
    return cleaned(value)


def list_of(row: Mapping[str, Any], name: str) -> list[Any]:
    """A field that must be a list."""
    if not isinstance(row, Mapping) or name not in row:
        fields = ", ".join(row) if isinstance(row, Mapping) else type(row).__name__
        raise ValueError(f'no "{name}" (fields: {fields})')
    if not isinstance(row[name], list):
        raise ValueError(f'"{name}" must be a list, got {type(row[name]).__name__}')
    return row[name]


def messages_of(
    row: Mapping[str, Any], name: str, role: str = "role", content: str = "content"
) -> list[Message]:
    """A field that must be a list of turns; roles as ShareGPT calls them are known."""
    turns = []
    for item in list_of(row, name):
        if not isinstance(item, Mapping):
            raise ValueError(f'a turn of "{name}" must be an object')
        said = text_of(item, role)
        if said not in _SHAREGPT_ROLES:
            known = ", ".join(_SHAREGPT_ROLES)
            raise ValueError(f'a turn of "{name}" is by {said!r}; known: {known}')
        turns.append(Message(_SHAREGPT_ROLES[said], text_of(item, content)))
    return turns


def hh_turns(text: str) -> list[Message]:
    """The turns of a text in which "\\n\\nHuman:" and "\\n\\nAssistant:" begin them."""
    before, *parts = _HH_TURN.split(text)
    if before.strip() or not parts or parts[0] != "Human":
        raise ValueError('the text does not begin with "\\n\\nHuman:"')
    return [
        Message(_HH_ROLES[role], cleaned(content))
        for role, content in zip(parts[::2], parts[1::2], strict=True)
    ]


def hh_flaw(turns: Sequence[Message]) -> Unusable | None:
    """A speaker's name inside a turn: a break between two turns was lost."""
    for turn in turns:
        if found := _HH_STRAY.search(turn.content):
            return Unusable("lost_turn", f"{found[0].strip()!r} inside a turn")
    return None


def prompt_flaw(turns: Sequence[Message]) -> Unusable | None:
    """Why these turns cannot be a prompt: after a system's turn, if there is one, users
    and assistants must take turns, and a user must come first and last."""
    text = turns[-1].content if turns else ""
    has_system = bool(turns) and turns[0].role == "system"
    spoken = turns[1:] if has_system else turns
    if any(turn.role == "system" for turn in spoken):
        return Unusable("system_turns", "a system turn that is not the first", text)
    if not spoken or spoken[0].role != "user":
        return Unusable("no_user_turn", "begins with an answer", text)
    if any(a.role == b.role for a, b in itertools.pairwise(spoken)):
        return Unusable("same_speaker", "two turns in a row by one speaker", text)
    if spoken[-1].role != "user":
        return Unusable("no_user_turn", "ends with an answer", text)
    if any(not turn.content for turn in turns[:-1]):
        return Unusable("empty_turn", "", text)
    return None


def asked(turns: Sequence[Message], **fields: Any) -> Found:
    """The seed whose prompt these turns are, or what is wrong with them."""
    if flaw := prompt_flaw(turns):
        return flaw
    seed = Seed("", turns[-1].content, history=tuple(turns[:-1]), **fields)
    return named(seed)


def named(seed: Seed) -> Seed:
    """The seed with the id that its prompt gives it."""
    return replace(seed, id=content_id(seed.whole))


def answered(turns: Sequence[Message], which: str, **fields: Any) -> Found:
    """The seed of a conversation: the prompt up to its first or last answer."""
    ends = [n for n, turn in enumerate(turns) if turn.role == "assistant" and n > 0]
    if turns and turns[0].role == "assistant":
        return Unusable("no_user_turn", "begins with an answer", turns[0].content)
    if not ends:
        return Unusable(
            "no_answer", "nobody answers", turns[-1].content if turns else ""
        )
    end = ends[0] if which == "first" else ends[-1]
    if not turns[end].content:
        return Unusable("empty_answer", "", turns[end - 1].content)
    return asked(turns[:end], answer=turns[end].content, **fields)
