# SPDX-License-Identifier: Apache-2.0
"""Constraints on sections, on two answers at once, and on what paragraphs hold."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator

from alignjax.constraints.constraint import (
    ConstraintType,
    Context,
    Params,
    Reading,
    Readings,
    exactly,
    facts,
)
from alignjax.constraints.params import Choice, Integer, Word
from alignjax.constraints.text import (
    WORD,
    append,
    blocks,
    fillers,
    groups,
    lower_first,
    nonempty_lines,
    plain_sentences,
    sentence_counts,
    upper_first,
)
from alignjax.constraints.vocabulary import FIRST_WORDS, SECTION_MARKERS

_SIX = "******"


def _section_readings(params: Params, text: str) -> Readings:
    """Numbered markers that start a line and are followed by text, in order; that start
    a line, perhaps after markup; and anywhere."""
    marker, n = params["marker"], params["n"]
    parts = re.split(rf"(?m)^{marker} (\d{{1,4}})\b", text)
    numbers = [int(number) for number in parts[1::2]]
    filled = all(any(c.isalnum() for c in part) for part in parts[2::2])
    in_order = numbers == list(range(1, len(numbers) + 1)) and filled
    line = rf"(?mi)^[\s#*_>-]*{marker} ?\d+\b"
    counts = {
        "in_order": len(numbers) if in_order else 0,
        "own_line": len(re.findall(line, text)),
        "anywhere": len(re.findall(rf"(?i)\b{marker} ?\d+\b", text)),
    }
    return exactly(counts, n)


def _section_repair(params: Params, text: str) -> str:
    marker = params["marker"]
    text = re.sub(rf"(?i)\b{marker} ?(\d+)\b:?", r"\1", text)
    parts = blocks(text, params["n"])
    return "\n\n".join(f"{marker} {i}\n{part}" for i, part in enumerate(parts, 1))


def _section_violations(params: Params, text: str) -> Iterator[str]:
    marker, n = params["marker"], params["n"]
    yield re.sub(rf"(?m)^{marker} {n}\b\n?", "", text)
    yield f"{text}\n\n{marker} {n + 1}\n{next(fillers(text))}"


SECTIONS = ConstraintType(
    name="sections",
    family="sections",
    version=1,
    stage=34,
    schema=(Integer("n", 2, 12), Choice("marker", SECTION_MARKERS)),
    wordings=(
        'Write {n} sections and start each with a line "{marker} 1", "{marker} 2" and '
        "so on.",
        "Divide your answer into exactly {n} sections headed {marker} 1, {marker} 2 "
        "and so on.",
    ),
    readings=_section_readings,
    repair=_section_repair,
    violations=_section_violations,
    draw=lambda rng, context: {
        "n": rng.choice((2, 2, 3, 4)),
        "marker": rng.choice(SECTION_MARKERS),
    },
)


def _different(parts: list[str]) -> bool:
    bare = [" ".join(WORD.findall(part.casefold())) for part in parts]
    filled = [part for part in bare if part]
    return len(filled) == 2 and filled[0] != filled[1]


def _answers_readings(params: Params, text: str) -> Readings:
    """Two different answers, with the separator on its own line or anywhere."""
    del params
    own_line = re.split(r"(?m)^[ \t]*\*{6}[ \t]*$", text)
    anywhere = re.split(r"\*{6,}", text)
    return facts(
        {
            "own_line": len(own_line) == 2 and _different(own_line),
            "anywhere": _different(anywhere),
        }
    )


def _answers_repair(params: Params, text: str) -> str:
    """The text, and its first sentence again in short."""
    del params
    text = re.sub(r"\*{6,}", "", text).strip()
    first = next(iter(plain_sentences(text)), next(fillers(text)))
    return f"{text}\n{_SIX}\nIn short, {lower_first(first)}"


def _answers_violations(params: Params, text: str) -> Iterator[str]:
    del params
    first, _, second = text.partition(_SIX)
    yield f"{first.rstrip()}\n{second.lstrip()}"
    yield f"{first}{_SIX}{first}"


TWO_ANSWERS = ConstraintType(
    name="two_answers",
    family="sections",
    version=1,
    stage=36,
    schema=(),
    wordings=(
        "Give exactly two different answers, separated by a line with only ******.",
        "Write two different answers with six asterisks (******) on a line between "
        "them.",
    ),
    readings=_answers_readings,
    repair=_answers_repair,
    violations=_answers_violations,
    draw=lambda rng, context: {},
)


def _paragraphs(text: str) -> dict[str, list[str]]:
    """Paragraphs as blocks between blank lines, and as lines."""
    split = {
        "blank_lines": re.split(r"\n[ \t]*\n", text),
        "lines": nonempty_lines(text),
    }
    return {
        name: [part for part in parts if any(c.isalnum() for c in part)]
        for name, parts in split.items()
    }


def _first_word(text: str) -> str:
    found = WORD.search(text)
    return found[0] if found else ""


def _start_readings(params: Params, text: str) -> Readings:
    n, k, word = params["n"], params["k"], params["word"].casefold()
    readings = {}
    for name, parts in _paragraphs(text).items():
        first = _first_word(parts[k - 1]) if len(parts) >= k else ""
        passes = len(parts) == n and first.casefold() == word
        readings[name] = Reading(f"{first} in {len(parts)}", passes)
    return readings


def _start_repair(params: Params, text: str) -> str:
    parts = blocks(text, params["n"])
    index = params["k"] - 1
    if _first_word(parts[index]).casefold() != params["word"].casefold():
        parts[index] = f"{params['word']}, {lower_first(parts[index])}"
    return "\n\n".join(parts)


def _start_violations(params: Params, text: str) -> Iterator[str]:
    parts = _paragraphs(text)["blank_lines"]
    index = params["k"] - 1
    rest = re.sub(r"^\W*\w+(?:['’]\w+)*[,:]?\s*", "", parts[index])
    yield "\n\n".join([*parts[:index], upper_first(rest), *parts[index + 1 :]])
    yield "\n\n".join([*parts, next(fillers(text))])


def _too_few(params: Params) -> str | None:
    if params["k"] <= params["n"]:
        return None
    return "expected the number of a paragraph that is asked for, k <= n"


def _draw_start(rng: random.Random, context: Context) -> Params:
    del context
    n = rng.choice((2, 2, 3))
    return {"n": n, "k": rng.randint(1, n), "word": rng.choice(FIRST_WORDS)}


PARAGRAPH_START = ConstraintType(
    name="paragraph_start",
    family="sections",
    version=1,
    stage=43,
    schema=(Integer("n", 2, 10), Integer("k", 1, 10), Word("word")),
    wordings=(
        "Write exactly {n} paragraphs with a blank line between them, and start "
        "paragraph {k} with the word {word}.",
        "Your answer should have {n} paragraphs separated by blank lines; paragraph "
        "number {k} must begin with {word}.",
    ),
    readings=_start_readings,
    repair=_start_repair,
    violations=_start_violations,
    draw=_draw_start,
    problem=_too_few,
)


def _size_readings(params: Params, text: str) -> Readings:
    """Sentences of each paragraph, in every reading of both words."""
    n, size = params["n"], params["size"]
    readings = {}
    for name, parts in _paragraphs(text).items():
        counts = [sentence_counts(part) for part in parts]
        for split in ("punctuation", "abbreviations"):
            found = [count[split] for count in counts]
            shown = " ".join(map(str, found[:20]))
            readings[f"{name}_{split}"] = Reading(shown, found == [size] * n)
    return readings


def _size_repair(params: Params, text: str) -> str:
    n, size = params["n"], params["size"]
    sentences = plain_sentences(text)[: n * size]
    filler = fillers(text)
    while len(sentences) < n * size:
        sentences.append(next(filler))
    return "\n\n".join(" ".join(group) for group in groups(sentences, n))


def _size_violations(params: Params, text: str) -> Iterator[str]:
    parts = _paragraphs(text)["blank_lines"]
    shorter = plain_sentences(parts[-1])[:-1]
    if shorter:
        yield "\n\n".join([*parts[:-1], " ".join(shorter)])
    yield append(text, next(fillers(text)))


def _draw_size(rng: random.Random, context: Context) -> Params:
    del context
    return {"n": rng.choice((2, 2, 3)), "size": rng.choice((1, 2, 2, 3))}


PARAGRAPH_SENTENCES = ConstraintType(
    name="paragraph_sentences",
    family="sections",
    version=1,
    stage=33,
    schema=(Integer("n", 1, 10), Integer("size", 1, 10)),
    wordings=(
        "Write {n} paragraph{n:s} of exactly {size} sentence{size:s} each, with blank "
        "lines between paragraphs.",
        "Your answer should consist of {n} paragraph{n:s} separated by blank lines, "
        "each with exactly {size} sentence{size:s}.",
    ),
    readings=_size_readings,
    repair=_size_repair,
    violations=_size_violations,
    draw=_draw_size,
)
