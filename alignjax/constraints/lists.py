# SPDX-License-Identifier: Apache-2.0
"""Constraints on special lists: to tick off, lettered, sorted, or spelling a word."""

from __future__ import annotations

import itertools
import random
import re
from collections.abc import Iterator

from alignjax.constraints.constraint import (
    ConstraintType,
    Context,
    Params,
    Reading,
    Readings,
    choose,
    exactly,
)
from alignjax.constraints.params import Integer, Word
from alignjax.constraints.text import (
    MARKER,
    blocks,
    content_words,
    fillers,
    lower_first,
    nonempty_lines,
)
from alignjax.constraints.vocabulary import ACROSTICS, KEYWORDS, LINE_OPENERS

_BOX = re.compile(r"(?m)^- \[ \] +(?=\S)")
_ANY_BOX = re.compile(r"(?m)^[ \t]*(?:[-*+•] +|\d+[.)] +)?\[[ xX]?\] +(?=\S)")
_LETTERED = re.compile(r"(?m)^([a-z])\) +(?=\S)")
_ANY_LETTERED = re.compile(r"(?m)^[ \t]*\(?([a-zA-Z])[.)] +(?=\S)")
_ITEM = re.compile(r"(?m)^[ \t]*[-*•+–—] +(\S.*)$")


def _draw_n(rng: random.Random, context: Context) -> Params:
    del context
    return {"n": rng.choice((2, 3, 3, 4, 5))}


def _join_last(mark: re.Pattern[str], text: str) -> str:
    """The text without the last list mark: its item joins the line before."""
    last = list(mark.finditer(text))[-1]
    before, after = text[: last.start()].rstrip(), text[last.end() :]
    return f"{before} {after}" if before else after


def _box_readings(params: Params, text: str) -> Readings:
    counts = {
        "open_boxes": len(_BOX.findall(text)),
        "any_boxes": len(_ANY_BOX.findall(text)),
    }
    return exactly(counts, params["n"])


def _box_violations(params: Params, text: str) -> Iterator[str]:
    yield _join_last(_BOX, text)
    yield f"{text}\n- [ ] {next(fillers(text))}"


CHECKLIST = ConstraintType(
    name="checklist",
    family="lists",
    version=1,
    stage=32,
    schema=(Integer("n", 1, 30),),
    wordings=(
        "Write a checklist of exactly {n} item{n:s}, each on a line that starts with "
        '"- [ ] ".',
        'Answer as a Markdown task list with exactly {n} open item{n:s} like "- [ ] ".',
    ),
    readings=_box_readings,
    repair=lambda params, text: "\n".join(
        f"- [ ] {block}" for block in blocks(text, params["n"])
    ),
    violations=_box_violations,
    draw=_draw_n,
)


def _lettered_readings(params: Params, text: str) -> Readings:
    letters = [letter.lower() for letter in _ANY_LETTERED.findall(text)]
    in_order = letters == [chr(ord("a") + i) for i in range(len(letters))]
    counts = {
        "small_letters": len(_LETTERED.findall(text)),
        "any_letters": len(letters),
        "in_order": len(letters) if in_order else 0,
    }
    return exactly(counts, params["n"])


def _lettered_violations(params: Params, text: str) -> Iterator[str]:
    yield _join_last(_LETTERED, text)
    yield f"{text}\n{chr(ord('a') + params['n'])}) {next(fillers(text))}"


LETTERED = ConstraintType(
    name="lettered",
    family="lists",
    version=1,
    stage=32,
    schema=(Integer("n", 2, 20),),
    wordings=(
        'Write a list of exactly {n} items that start with "a) ", "b) " and so on.',
        'Answer as {n} points labelled with letters: "a) ", then "b) " and so forth.',
    ),
    readings=_lettered_readings,
    repair=lambda params, text: "\n".join(
        f"{chr(ord('a') + i)}) {block}"
        for i, block in enumerate(blocks(text, params["n"]))
    ),
    violations=_lettered_violations,
    draw=_draw_n,
)


def _sorted_readings(params: Params, text: str) -> Readings:
    """Number of items if they are sorted by all letters, by the first word, or without
    an article; else 0."""
    items = [re.sub(r"^\W+", "", item).casefold() for item in _ITEM.findall(text)]
    keys = {
        "letters": items,
        "first_words": [re.split(r"\W", item, maxsplit=1)[0] for item in items],
        "without_article": [re.sub(r"^(?:the|an?) ", "", item) for item in items],
    }
    return {
        name: Reading(len(found), found == sorted(found) and len(found) >= params["n"])
        for name, found in keys.items()
    }


def _sorted_repair(params: Params, text: str) -> str:
    """One item per block, each named by a word of it; sorted by these words."""
    named: dict[str, str] = {}
    for block in blocks(text, params["n"]):
        words = [w for w in content_words(block) if w.isascii()]
        words += [word for word in KEYWORDS if word not in words]
        named[next(word for word in words if word not in named)] = block
    return "\n".join(f"- {name.capitalize()}: {named[name]}" for name in sorted(named))


def _sorted_violations(params: Params, text: str) -> Iterator[str]:
    del params
    lines = text.split("\n")
    items = [i for i, line in enumerate(lines) if _ITEM.match(line)]
    for i, j in itertools.pairwise(items):
        swapped = list(lines)
        swapped[i], swapped[j] = lines[j], lines[i]
        yield "\n".join(swapped)
    yield "\n".join(lines[i] for i in items[::-1])
    yield _ITEM.sub(r"\1", text)


BULLETS_SORTED = ConstraintType(
    name="bullets_sorted",
    family="lists",
    version=1,
    stage=32,
    schema=(Integer("n", 2, 20),),
    wordings=(
        "Write a bulleted list of at least {n} items in alphabetical order.",
        "Use {n} or more bullet points, sorted from A to Z.",
    ),
    readings=_sorted_readings,
    repair=_sorted_repair,
    violations=_sorted_violations,
    draw=_draw_n,
)


def _initials(word: str) -> str:
    return "".join(c for c in word if c.isalpha()).casefold()


def _acrostic_readings(params: Params, text: str) -> Readings:
    """First characters of the lines, as they are and without marks and markup."""
    lines = nonempty_lines(text)
    bare = [re.sub(r"^[\W_]+", "", MARKER.sub("", line)) for line in lines]
    wanted = _initials(params["word"])
    found = {
        "first_characters": "".join(line[0] for line in lines),
        "first_letters": "".join(line[:1] for line in bare),
    }
    return {
        name: Reading(spelled, spelled.casefold() == wanted)
        for name, spelled in found.items()
    }


def _acrostic_repair(params: Params, text: str) -> str:
    letters = _initials(params["word"])
    lines = []
    for letter, block in zip(letters, blocks(text, len(letters)), strict=True):
        block = re.sub(r"^[\W_]+", "", block)
        if block[:1].casefold() != letter:
            opener = LINE_OPENERS.get(letter, letter.upper())
            block = f"{opener}, {lower_first(block)}"
        lines.append(block)
    return "\n".join(lines)


def _acrostic_violations(params: Params, text: str) -> Iterator[str]:
    del params
    lines = nonempty_lines(text)
    yield "\n".join(lines[:-1])
    yield "\n".join([*lines, next(fillers(text))])


def _unspellable(params: Params) -> str | None:
    letters = _initials(params["word"])
    if 2 <= len(letters) <= 12 and len(letters) == sum(
        map(str.isalpha, params["word"])
    ):
        return None
    return "expected a word of 2 to 12 letters"


ACROSTIC = ConstraintType(
    name="acrostic",
    family="lists",
    version=1,
    stage=42,
    schema=(Word("word"),),
    wordings=(
        "Let the first letters of your lines spell the word {word}.",
        "Write one line per letter of {word}, each starting with that letter.",
    ),
    readings=_acrostic_readings,
    repair=_acrostic_repair,
    violations=_acrostic_violations,
    draw=lambda rng, context: {
        "word": choose(rng, ACROSTICS, avoid=(context.answer[:4].upper(),))
    },
    problem=_unspellable,
)
