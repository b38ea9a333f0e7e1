# SPDX-License-Identifier: Apache-2.0
"""IFEval's own reading of its 25 instruction types (Zhou et al., arXiv:2311.07911).

It stands beside the two-sided check of `alignjax.constraints`, which fails, passes or
abstains by many readings of a request: this one has one reading, that of the published
benchmark, so that scores can be compared with published ones. It labels no training
data. `docs/ifeval.md` says where the two readings and the recorded verdicts differ.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from alignjax.constraints.ifeval.table import INSTRUCTIONS, Instruction

__all__ = ["INSTRUCTIONS", "Verdicts", "arguments", "judge", "plain_id"]

# M-IFEval, which carries the benchmark on, writes "en:keywords:existence".
_PREFIX = "en:"


class Verdicts(NamedTuple):
    """Whether a response follows an instruction; loose whenever strict."""

    strict: bool
    loose: bool


def judge(
    instruction_id: str, kwargs: Mapping[str, Any], response: str | None
) -> Verdicts:
    """IFEval's verdicts on one instruction.

    Args:
      instruction_id: such as "keywords:existence"; "en:keywords:existence" is the same.
      kwargs: the instruction's keyword arguments; those that are None count as absent.
      response: what is judged; None and whitespace follow nothing.

    Returns:
      strict: the response as it is follows the instruction. loose: it does, or it does
      without its first line, its last line or both, with or without its asterisks.

    Raises:
      ValueError: unknown id, or keyword arguments that do not fit; see `arguments`.
    """
    given = arguments(instruction_id, kwargs)
    follows = _instruction(instruction_id).follows
    if response is None or not response.strip():
        return Verdicts(strict=False, loose=False)
    if follows(response, **given):
        return Verdicts(strict=True, loose=True)
    others = {variant for variant in _variants(response) if variant.strip()}
    is_loose = any(follows(variant, **given) for variant in others - {response})
    return Verdicts(strict=False, loose=is_loose)


def arguments(instruction_id: str, kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """The keyword arguments without those that are None.

    Raises:
      ValueError: unknown id (the nearest is named), or an argument that is missing,
        unknown or of the wrong kind.
    """
    expected = _instruction(instruction_id).kwargs
    given = {name: value for name, value in kwargs.items() if value is not None}
    if set(given) != set(expected):
        raise ValueError(
            f"{instruction_id}: expected the kwargs ({', '.join(expected) or 'none'}), "
            f"got ({', '.join(given) or 'none'})"
        )
    for name, kind in expected.items():
        if not kind.accepts(given[name]):
            raise ValueError(
                f"{instruction_id}: expected {kind.expected} as {name}, got "
                f"{given[name]!r}"
            )
    return given


def plain_id(instruction_id: str) -> str:
    """The id as IFEval writes it, without M-IFEval's prefix."""
    return instruction_id.removeprefix(_PREFIX)


def _instruction(instruction_id: str) -> Instruction:
    name = plain_id(instruction_id)
    if name not in INSTRUCTIONS:
        near = difflib.get_close_matches(name, INSTRUCTIONS, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"unknown instruction id {instruction_id!r}{hint}")
    return INSTRUCTIONS[name]


def _variants(response: str) -> Iterator[str]:
    """The response, and what is left of it without first and last line."""
    lines = response.split("\n")
    cuts = (lines[1:], lines[:-1], lines[1:-1])
    for variant in (response, *("\n".join(cut).strip() for cut in cuts)):
        yield variant
        yield variant.replace("*", "")
