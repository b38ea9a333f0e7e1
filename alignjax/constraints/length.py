# SPDX-License-Identifier: Apache-2.0
"""Constraints on the number of words, sentences and lines."""

from __future__ import annotations

import itertools
import random
import re
from collections.abc import Iterator

from alignjax.constraints.constraint import (
    ConstraintType,
    Context,
    Params,
    Readings,
    at_least,
    at_most,
    choose,
    exactly,
    facts,
    nothing,
)
from alignjax.constraints.params import Integer
from alignjax.constraints.text import (
    MARKER,
    WORD,
    append,
    blocks,
    cut_words,
    fillers,
    filter_sentences,
    finish,
    lower_first,
    nonempty_lines,
    plain_sentences,
    sentence_counts,
    sentence_readings,
    unmistakable,
    upper_first,
    word_counts,
)
from alignjax.constraints.vocabulary import FILLERS

_WORDS = (10, 15, 20, 25, 30, 40, 50, 60, 80, 100)


def _grow(text: str, n: int) -> str:
    """The text with neutral sentences added until each reading has n words."""
    filler = fillers(text)
    while min(word_counts(text).values()) < n:
        text = append(text, next(filler))
    return text


def _draw_words_max(rng: random.Random, context: Context) -> Params:
    count = min(word_counts(context.answer).values())
    fitting = [n for n in _WORDS if 0.2 * count <= n <= 0.75 * count]
    return {"n": rng.choice(fitting or _WORDS[:7])}


def _words_max_violations(params: Params, text: str) -> Iterator[str]:
    yield _grow(text, params["n"] + 1)


WORDS_MAX = ConstraintType(
    name="words_max",
    family="length",
    version=1,
    stage=20,
    schema=(Integer("n", 1, 1000),),
    wordings=(
        "Use at most {n} word{n:s}.",
        "Keep your answer to {n} word{n:s} or fewer.",
        "Do not write more than {n} word{n:s}.",
    ),
    readings=lambda params, text: at_most(word_counts(text), params["n"]),
    repair=lambda params, text: cut_words(text, params["n"]),
    violations=_words_max_violations,
    draw=_draw_words_max,
    tighten=lambda params, slack: {"n": max(1, params["n"] - 5 * slack)},
)


def _draw_words_min(rng: random.Random, context: Context) -> Params:
    count = max(word_counts(context.answer).values())
    fitting = [n for n in _WORDS if 1.3 * count <= n <= count + 50]
    return {"n": rng.choice(fitting or _WORDS[3:9])}


def _words_min_violations(params: Params, text: str) -> Iterator[str]:
    yield cut_words(text, params["n"] - 1)


WORDS_MIN = ConstraintType(
    name="words_min",
    family="length",
    version=1,
    stage=21,
    schema=(Integer("n", 2, 1000),),
    wordings=(
        "Use at least {n} words.",
        "Write {n} or more words.",
        "Your answer should have no fewer than {n} words.",
    ),
    readings=lambda params, text: at_least(word_counts(text), params["n"]),
    repair=lambda params, text: _grow(text, params["n"]),
    violations=_words_min_violations,
    draw=_draw_words_min,
    tighten=lambda params, slack: {"n": params["n"] + 5 * slack},
)


def _fewer_sentences(params: Params, slack: int) -> Params:
    return {"n": max(1, params["n"] - slack)}


def _first_sentences(text: str, n: int) -> str:
    return " ".join(plain_sentences(text)[:n]) or next(fillers(text))


def _exact_sentences(params: Params, text: str) -> str:
    filler = fillers(text)
    text = _first_sentences(text, params["n"])
    while sentence_counts(text)["lines"] < params["n"]:
        text = append(text, next(filler))
    return text


def _more_sentences(params: Params, text: str) -> Iterator[str]:
    filler = fillers(text)
    while min(sentence_counts(text).values()) <= params["n"]:
        text = append(text, next(filler))
    yield text


def _drop_sentence(params: Params, text: str) -> Iterator[str]:
    """Without its last sentence, or with one more."""
    seen = 0

    def is_early(sentence: str) -> bool:
        nonlocal seen
        seen += bool(sentence)
        return seen < params["n"]

    yield filter_sentences(text, is_early)
    yield from _more_sentences(params, text)


def _draw_sentences(rng: random.Random, context: Context) -> Params:
    counts = sentence_counts(context.answer).values()
    return {"n": choose(rng, (1, 2, 3, 4, 5), avoid=tuple(counts))}


SENTENCES_EXACT = ConstraintType(
    name="sentences_exact",
    family="length",
    version=1,
    stage=22,
    schema=(Integer("n", 1, 50),),
    wordings=(
        "Use exactly {n} sentence{n:s}.",
        "Your answer should be exactly {n} sentence{n:s} long.",
        "Answer in exactly {n} sentence{n:s}.",
    ),
    readings=lambda params, text: exactly(sentence_counts(text), params["n"]),
    repair=_exact_sentences,
    violations=_drop_sentence,
    draw=_draw_sentences,
    tighten=_fewer_sentences,
)


def _draw_sentences_max(rng: random.Random, context: Context) -> Params:
    count = min(sentence_counts(context.answer).values())
    fitting = [n for n in (1, 2, 3, 4) if n < count]
    return {"n": rng.choice(fitting or (1, 2, 3))}


SENTENCES_MAX = ConstraintType(
    name="sentences_max",
    family="length",
    version=1,
    stage=22,
    schema=(Integer("n", 1, 50),),
    wordings=(
        "Use at most {n} sentence{n:s}.",
        "Do not write more than {n} sentence{n:s}.",
        "Keep your answer to no more than {n} sentence{n:s}.",
    ),
    readings=lambda params, text: at_most(sentence_counts(text), params["n"]),
    repair=lambda params, text: _first_sentences(text, params["n"]),
    violations=_more_sentences,
    draw=_draw_sentences_max,
    tighten=_fewer_sentences,
)


def _fewer_than_asked(params: Params, text: str) -> Iterator[str]:
    for n in range(params["n"] - 1, 0, -1):
        yield _first_sentences(text, n)
    yield next(fillers(text))


def _more_sentences_repair(params: Params, text: str) -> str:
    filler = fillers(text)
    while (missing := params["n"] - min(sentence_counts(text).values())) > 0:
        for _ in range(missing):
            text = append(text, next(filler))
    return text


def _draw_sentences_min(rng: random.Random, context: Context) -> Params:
    count = max(sentence_counts(context.answer).values())
    return {"n": min(50, max(2, count + rng.choice((1, 2, 3))))}


SENTENCES_MIN = ConstraintType(
    name="sentences_min",
    family="length",
    version=1,
    stage=21,
    schema=(Integer("n", 2, 50),),
    wordings=(
        "Use at least {n} sentences.",
        "Write {n} or more sentences.",
        "Your answer should have no fewer than {n} sentences.",
    ),
    readings=lambda params, text: at_least(sentence_counts(text), params["n"]),
    repair=_more_sentences_repair,
    violations=_fewer_than_asked,
    draw=_draw_sentences_min,
    tighten=lambda params, slack: {"n": params["n"] + slack},
)


def _longest(text: str) -> dict[str, int]:
    """Words of the longest sentence, for each way to find sentences and words."""
    sizes: dict[str, tuple[int, int]] = {}
    longest = {}
    for split, sentences in sentence_readings(text).items():
        for sentence in sentences:
            if sentence not in sizes:
                sizes[sentence] = (len(sentence.split()), len(WORD.findall(sentence)))
        found = [sizes[sentence] for sentence in sentences] or [(0, 0)]
        longest[f"{split}_whitespace"] = max(tokens for tokens, _ in found)
        longest[f"{split}_hyphens_split"] = max(words for _, words in found)
    return longest


def _pieces(sentence: str, n: int) -> list[str]:
    """A sentence in sentences of at most n words, cut at commas and the like where
    that is soon enough, else where it must be."""
    pieces: list[str] = []
    rest = sentence
    while len(WORD.findall(rest)) > n or len(rest.split()) > n:
        # Two words less, because an end that looks like an abbreviation grows.
        fits = cut_words(rest.replace(".", " "), n - 2).rstrip(".")
        at = max(len(fits), len(rest.split(maxsplit=1)[0]))
        breaks = [m.end() for m in re.finditer(r"[,;:](?= )| (?=and |but )", fits)]
        if breaks and len(fits[: breaks[-1]].split()) * 2 >= n:
            at = breaks[-1]
        pieces.append(unmistakable(rest[:at].strip()))
        rest = upper_first(rest[at:].lstrip(" ,;:-–—.…"))
    return [*pieces, rest] if any(c.isalnum() for c in rest) else pieces


def _short_sentences(params: Params, text: str) -> str:
    n = params["n"]
    return " ".join(p for s in plain_sentences(text) for p in _pieces(s, n))


def _long_sentence(params: Params, text: str) -> Iterator[str]:
    """With sentences joined until one is too long, or with such a sentence added."""
    for sentences in (plain_sentences(text), ()):
        joined = ""
        for sentence in itertools.chain(sentences, FILLERS * 10):
            bare = re.sub(r"[.!?…]+(?=\W|$)", "", sentence)
            joined += (" and " if joined else "") + lower_first(bare)
            if len(joined.split()) > params["n"]:
                yield upper_first(joined) + "."
                break


def _draw_sentence_words(rng: random.Random, context: Context) -> Params:
    longest = min(_longest(context.answer).values())
    fitting = [n for n in (6, 8, 10, 12, 15, 20) if n < longest]
    return {"n": rng.choice(fitting or (6, 8, 10, 12))}


SENTENCE_WORDS_MAX = ConstraintType(
    name="sentence_words_max",
    family="length",
    version=1,
    stage=23,
    schema=(Integer("n", 5, 100),),
    wordings=(
        "Keep every sentence to at most {n} words.",
        "No sentence should have more than {n} words.",
    ),
    readings=lambda params, text: at_most(_longest(text), params["n"]),
    repair=_short_sentences,
    violations=_long_sentence,
    draw=_draw_sentence_words,
)


def _one_line(params: Params, text: str) -> str:
    del params
    parts = [MARKER.sub("", line).strip() for line in text.splitlines()]
    parts = [part for part in parts if any(c.isalnum() for c in part)]
    return " ".join([finish(part) for part in parts[:-1]] + parts[-1:])


def _break_line(params: Params, text: str) -> Iterator[str]:
    del params
    if " " in text:
        after_sentence = re.search(r"(?<=[.!?]) ", text)
        cut = after_sentence.start() if after_sentence else text.rindex(" ")
        yield text[:cut] + "\n" + text[cut + 1 :]
    yield text + "\n" + next(fillers(text))


SINGLE_LINE = ConstraintType(
    name="single_line",
    family="length",
    version=1,
    stage=30,
    schema=(),
    wordings=(
        "Write your answer on a single line, with no line breaks.",
        "Do not use any line breaks.",
    ),
    readings=lambda params, text: facts({"line_breaks": len(text.splitlines()) == 1}),
    repair=_one_line,
    violations=_break_line,
    draw=nothing,
)


def _line_counts(params: Params, text: str) -> Readings:
    counts = {"all": len(text.split("\n")), "nonempty": len(nonempty_lines(text))}
    return exactly(counts, params["n"])


def _fewer_lines(params: Params, text: str) -> Iterator[str]:
    if params["n"] > 1:
        yield " ".join(text.rsplit("\n", 1))
    yield text + "\n" + next(fillers(text))


def _draw_lines(rng: random.Random, context: Context) -> Params:
    count = len(nonempty_lines(context.answer))
    return {"n": choose(rng, (2, 3, 4, 5), avoid=(count,))}


LINES_EXACT = ConstraintType(
    name="lines_exact",
    family="length",
    version=1,
    stage=31,
    schema=(Integer("n", 1, 50),),
    wordings=(
        "Write exactly {n} line{n:s} of text.",
        "Your answer should have exactly {n} line{n:s}.",
    ),
    readings=_line_counts,
    repair=lambda params, text: "\n".join(blocks(text, params["n"])),
    violations=_fewer_lines,
    draw=_draw_lines,
    tighten=_fewer_sentences,
)
