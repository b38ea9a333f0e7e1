# SPDX-License-Identifier: Apache-2.0
"""Meaning: whether a rewording still asks for the same thing, checked on the texts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from alignjax.constraints import Constraint
from alignjax.perturb.edits import Edit, apply
from alignjax.perturb.spans import (
    asked,
    facts,
    named,
    negates,
    protected,
    without_constraints,
)

SEMANTIC = "semantic"


@dataclass(frozen=True)
class Limits:
    """How much of an instruction a rewording may change.

    Args:
      edits: changes of one instruction at most, at the levels below semantic.
      distance: characters changed at most, at these levels; the Levenshtein distance
        is no more. 30 is DeepWordBug's bound.
      growth: how many times as long as the other either text may be, at the semantic
        level.
    """

    edits: int = 3
    distance: int = 40
    growth: float = 2.5

    def __post_init__(self) -> None:
        for name, value in {"edits": self.edits, "distance": self.distance}.items():
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        if self.growth < 1:
            raise ValueError(f"growth must be at least 1, got {self.growth}")


def distance(edits: Sequence[Edit]) -> int:
    """Characters that the edits change: at least the Levenshtein distance."""
    return sum(item.cost for item in edits)


def flaw(
    original: str,
    text: str,
    edits: Sequence[Edit],
    level: str,
    *,
    labels: Sequence[str] = (),
    limits: Limits | None = None,
) -> str | None:
    """The first reason why `text` is no rewording of `original`, or None.

    Args:
      original: the instruction.
      text: the reworded one.
      edits: what was changed.
      level: "character", "word", "sentence" or "semantic".
      labels: answers that the instruction may name.
      limits: the budget; its defaults where None.

    Returns:
      "unchanged": only case and spacing differ;
      "script": the edits do not give the text;
      "constraints": other constraints are read in it;
      "facts": other numbers, quotations, code, addresses or placeholders;
      "labels": other answers are named;
      and at the levels below semantic "protected": an edit lies in a protected span;
      "edits", "distance": over the budget; at the semantic level "negation": one
      denies something and the other does not; "growth": one is much longer.
    """
    limits = limits or Limits()
    if _plain(original) == _plain(text):
        return "unchanged"
    try:
        if apply(original, edits) != text:
            return "script"
    except ValueError:
        return "script"
    before, after = asked(original), asked(text)
    if _counted(before) != _counted(after):
        return "constraints"
    # A constraint's wordings have words of their own: it is compared as what it asks.
    task, other = without_constraints(original), without_constraints(text)
    if facts(task) != facts(other):
        return "facts"
    if set(named(original, labels)) != set(named(text, labels)):
        return "labels"
    if level == SEMANTIC:
        if negates(task) != negates(other):
            return "negation"
        shorter, longer = sorted((len(original), len(text)))
        return "growth" if longer > limits.growth * shorter else None
    if before != after:
        return "constraints"
    for span in protected(original, labels):
        if any(_touches(item, span.start, span.end) for item in edits):
            return "protected"
    if len(edits) > limits.edits:
        return "edits"
    return "distance" if distance(edits) > limits.distance else None


def _touches(item: Edit, start: int, end: int) -> bool:
    """Whether an edit reaches into start..end; an insertion at its border does not."""
    if item.start == item.end:
        return start < item.start < end
    return item.start < end and start < item.end


def _counted(stated: Sequence[Constraint]) -> Counter[str]:
    return Counter(repr(item.to_json()) for item in stated)


def _plain(text: str) -> str:
    return " ".join(text.casefold().split())
