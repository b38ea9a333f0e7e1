# SPDX-License-Identifier: Apache-2.0
"""Satisfying several constraints at once, by repairs in several orders.

A text found here is a proof that the constraints are jointly satisfiable. That none is
found proves nothing, but such a set is treated as conflicting.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from alignjax.constraints.constraint import (
    ConstraintType,
    Params,
    Verdict,
    unchanged,
)
from alignjax.constraints.text import normalise

_ORDERS = 8
_SLACKS = (0, 1, 2, 4)
_ROUNDS = 3


class Bound(NamedTuple):
    """A constraint type with parameters."""

    type: ConstraintType
    params: Params


def satisfy(
    bound: Sequence[Bound], text: str, *, keep_content: bool = False
) -> str | None:
    """A text that passes all constraints, made from `text`, or None.

    Repairs run in the order of their stages, then reversed, then in other orders.
    After each order the constraints that do not pass are repaired again, up to three
    rounds. Where repairs spoil each other, constraints with a number are first
    repaired for a tighter one, to leave room. With `keep_content`, repairs that would
    replace the text are left out.
    """

    @functools.cache
    def passes(index: int, text: str) -> bool:
        kind, params = bound[index]
        return kind.judge(params, text).verdict is Verdict.PASS

    @functools.cache
    def repaired(index: int, text: str, slack: int) -> str:
        kind, params = bound[index]
        if passes(index, text) or (keep_content and not kind.keeps_content):
            return text
        return kind.repaired(params, text, slack)

    indices = range(len(bound))
    start = normalise(text)
    if all(passes(index, start) for index in indices):
        return start
    has_slack = any(kind.tighten is not unchanged for kind, _ in bound)
    for slack in _SLACKS if has_slack else (0,):
        for order in _orders(bound):
            edited = start
            for round_index in range(_ROUNDS):
                before = edited
                for index in order:
                    edited = repaired(index, edited, 0 if round_index else slack)
                if all(passes(index, edited) for index in indices):
                    return edited
                if edited == before:
                    break
    return None


def break_one(bound: Bound, text: str, keep: Sequence[Bound]) -> str | None:
    """The smallest edit of a passing text that fails `bound` and passes `keep`."""
    for mutant in bound.type.mutants(bound.params, text):
        if _passes_all(keep, mutant):
            return mutant
    return None


def _passes_all(bound: Sequence[Bound], text: str) -> bool:
    return all(
        kind.judge(params, text).verdict is Verdict.PASS for kind, params in bound
    )


def _orders(bound: Sequence[Bound]) -> Iterator[tuple[int, ...]]:
    """Different orders of the indices, by stage first; at most `_ORDERS` of them."""
    by_stage = sorted(range(len(bound)), key=lambda index: bound[index].type.stage)
    first = (tuple(by_stage), tuple(by_stage[::-1]))
    yield from dict.fromkeys(first)
    rest = (o for o in itertools.permutations(by_stage) if o not in first)
    yield from itertools.islice(rest, _ORDERS - len(first))
