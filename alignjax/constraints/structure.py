# SPDX-License-Identifier: Apache-2.0
"""Constraints on bullets, numbered items, parts and paragraphs."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator

from alignjax.constraints.constraint import (
    ConstraintType,
    Context,
    Params,
    Readings,
    choose,
    exactly,
)
from alignjax.constraints.params import Choice, Integer
from alignjax.constraints.text import blocks, fillers, nonempty_lines

_BULLET = re.compile(r"(?m)^- +(?=\S)")
_NUMBERED = re.compile(r"(?m)^[ \t]*(\d+)[.)] +(?=\S)")


def _draw_n(
    count: Callable[[str], int],
) -> Callable[[random.Random, Context], Params]:
    """Draws n from 2 to 5, other than the count of the answer."""
    return lambda rng, context: {
        "n": choose(rng, (2, 3, 3, 4, 5), avoid=(count(context.answer),))
    }


def _fewer(params: Params, slack: int) -> Params:
    return {**params, "n": max(1, params["n"] - slack)}


def _join_last(mark: re.Pattern[str], text: str) -> str:
    """The text without the last list mark: its item joins the line before."""
    last = list(mark.finditer(text))[-1]
    before, after = text[: last.start()].rstrip(), text[last.end() :]
    return f"{before} {after}" if before else after


def _bullet_readings(params: Params, text: str) -> Readings:
    counts = {
        "hyphen": len(_BULLET.findall(text)),
        "indented": len(re.findall(r"(?m)^[ \t]*- +\S", text)),
        "any_bullet": len(re.findall(r"(?m)^[ \t]*[-*•+–—] +\S", text)),
    }
    return exactly(counts, params["n"])


def _bullet_violations(params: Params, text: str) -> Iterator[str]:
    yield _join_last(_BULLET, text)
    yield f"{text}\n- {next(fillers(text))}"


BULLETS = ConstraintType(
    name="bullets",
    family="structure",
    version=1,
    stage=32,
    schema=(Integer("n", 1, 30),),
    wordings=(
        'Use exactly {n} bullet point{n:s}, each on a line that starts with "- ".',
        'Write your answer as {n} bullet point{n:s} that start with "- ".',
    ),
    readings=_bullet_readings,
    repair=lambda params, text: "\n".join(
        f"- {block}" for block in blocks(text, params["n"])
    ),
    violations=_bullet_violations,
    draw=_draw_n(lambda answer: len(_BULLET.findall(answer))),
)


def _numbered_readings(params: Params, text: str) -> Readings:
    numbers = [int(number) for number in _NUMBERED.findall(text)]
    in_order = numbers == list(range(1, len(numbers) + 1))
    counts = {
        "items": len(numbers),
        "with_full_stop": len(re.findall(r"(?m)^\d+\. +\S", text)),
        "in_order": len(numbers) if in_order else 0,
    }
    return exactly(counts, params["n"])


def _numbered_violations(params: Params, text: str) -> Iterator[str]:
    yield _join_last(_NUMBERED, text)
    yield f"{text}\n{params['n'] + 1}. {next(fillers(text))}"


NUMBERED = ConstraintType(
    name="numbered",
    family="structure",
    version=1,
    stage=32,
    schema=(Integer("n", 1, 30),),
    wordings=(
        'Write a numbered list with exactly {n} item{n:s}, starting with "1.".',
        "Answer as a numbered list of exactly {n} item{n:s}.",
    ),
    readings=_numbered_readings,
    repair=lambda params, text: "\n".join(
        f"{i}. {block}" for i, block in enumerate(blocks(text, params["n"]), 1)
    ),
    violations=_numbered_violations,
    draw=_draw_n(lambda answer: len(_NUMBERED.findall(answer))),
)


def _filled(parts: list[str]) -> int:
    return sum(any(c.isalnum() for c in part) for part in parts)


def _part_readings(params: Params, text: str) -> Readings:
    separator = params["separator"]
    own_line = re.split(rf"(?m)^[ \t]*{re.escape(separator)}[ \t]*$", text)
    anywhere = text.split(separator)
    return exactly(
        {
            "own_line": _filled(own_line),
            "anywhere": _filled(anywhere),
            "with_empty": len(anywhere),
        },
        params["n"],
    )


def _part_violations(params: Params, text: str) -> Iterator[str]:
    separator = params["separator"]
    before, after = text.rsplit(separator, 1)
    yield f"{before.rstrip()}\n{after.lstrip()}"
    yield f"{text}\n{separator}\n{next(fillers(text))}"


def _draw_parts(rng: random.Random, context: Context) -> Params:
    del context
    return {"n": rng.choice((2, 2, 3, 4)), "separator": rng.choice(_SEPARATORS)}


_SEPARATORS = ("***", "---", "===")

PARTS = ConstraintType(
    name="parts",
    family="structure",
    version=1,
    stage=34,
    schema=(Integer("n", 2, 20), Choice("separator", _SEPARATORS)),
    wordings=(
        "Write exactly {n} paragraphs separated by a line with only {separator}.",
        "Divide your answer into {n} parts with {separator} on a line between them.",
    ),
    readings=_part_readings,
    repair=lambda params, text: f"\n{params['separator']}\n".join(
        blocks(text.replace(params["separator"], ""), params["n"])
    ),
    violations=_part_violations,
    draw=_draw_parts,
)


def _paragraph_counts(text: str) -> dict[str, int]:
    """Blocks between blank lines, and lines with words."""
    return {
        "blank_lines": _filled(re.split(r"\n[ \t]*\n", text)),
        "lines": _filled(nonempty_lines(text)),
    }


def _paragraph_violations(params: Params, text: str) -> Iterator[str]:
    yield " ".join(re.split(r"\n[ \t]*\n", text))
    yield f"{text}\n\n{next(fillers(text))}"


PARAGRAPHS = ConstraintType(
    name="paragraphs",
    family="structure",
    version=1,
    stage=33,
    schema=(Integer("n", 1, 20),),
    wordings=(
        "Write exactly {n} paragraph{n:s} separated by blank lines.",
        "Your answer should have exactly {n} paragraph{n:s} with a blank line between "
        "paragraphs.",
    ),
    readings=lambda params, text: exactly(_paragraph_counts(text), params["n"]),
    repair=lambda params, text: "\n\n".join(blocks(text, params["n"])),
    violations=_paragraph_violations,
    draw=_draw_n(lambda answer: _paragraph_counts(answer)["blank_lines"]),
    tighten=_fewer,
)
