# SPDX-License-Identifier: Apache-2.0
"""Edits: what was changed in a text, as data that gives the new text back."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

_TOKENS = re.compile(r"\s+|\w+|[^\w\s]")


class Edit(NamedTuple):
    """`before` at characters start..end of the original became `after`."""

    op: str
    start: int
    end: int
    before: str
    after: str

    @property
    def cost(self) -> int:
        """Characters changed: no less than the Levenshtein distance of the two."""
        before, after = self.before, self.after
        while before and after and before[0] == after[0]:
            before, after = before[1:], after[1:]
        while before and after and before[-1] == after[-1]:
            before, after = before[:-1], after[:-1]
        return max(len(before), len(after))


def edit(op: str, text: str, start: int, end: int, after: str) -> Edit:
    """The edit that puts `after` in the place of text[start:end]."""
    return Edit(op, start, end, text[start:end], after)


def apply(text: str, edits: Sequence[Edit]) -> str:
    """The text after all edits, whose places are those of the original.

    Raises:
      ValueError: an edit is not about this text, or two of them overlap.
    """
    parts, last = [], 0
    for item in sorted(edits, key=lambda item: (item.start, item.end)):
        if item.start < last or text[item.start : item.end] != item.before:
            raise ValueError(
                f"the edit {tuple(item)} does not fit the text at {item.start}: "
                f"{text[item.start : item.end]!r}"
            )
        parts += [text[last : item.start], item.after]
        last = item.end
    return "".join([*parts, text[last:]])


def script(op: str, before: str, after: str) -> tuple[Edit, ...]:
    """Edits that turn one text into another, found word by word."""
    old, new = _TOKENS.findall(before), _TOKENS.findall(after)
    places = [0]
    for token in old:
        places.append(places[-1] + len(token))
    matcher = difflib.SequenceMatcher(None, old, new, autojunk=False)
    return tuple(
        edit(op, before, places[i], places[j], "".join(new[k:m]))
        for tag, i, j, k, m in matcher.get_opcodes()
        if tag != "equal"
    )


def from_json(rows: Iterable[Sequence[Any]]) -> tuple[Edit, ...]:
    """Edits as they are stored: lists of their five fields."""
    return tuple(Edit(*row) for row in rows)
