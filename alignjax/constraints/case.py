# SPDX-License-Identifier: Apache-2.0
"""Constraints on upper and lower case."""

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
    at_least,
    at_most,
    nothing,
)
from alignjax.constraints.params import Integer
from alignjax.constraints.text import append, content_words, upper_first

_EMPHASIS = ("THIS", "POINT", "REALLY", "MATTERS", "FOR", "EVERYONE")
_WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)*")
_LETTERS = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)*")


def _lowercase_readings(params: Params, text: str) -> Readings:
    del params
    capitals = sum(letter != letter.lower() for letter in text)
    has_letters = any(letter != letter.upper() for letter in text)
    return {
        "capitals": Reading(capitals, capitals == 0),
        "capitals_with_letters": Reading(capitals, capitals == 0 and has_letters),
    }


def _lowercase_violations(params: Params, text: str) -> Iterator[str]:
    del params
    for match in _LETTERS.finditer(text):
        yield text[: match.start()] + upper_first(text[match.start() :])


LOWERCASE = ConstraintType(
    name="lowercase",
    family="case",
    version=1,
    stage=50,
    schema=(),
    wordings=(
        "Write everything in lowercase letters.",
        "Use only lowercase letters.",
        "Your whole answer should be in lowercase, with no capital letters.",
    ),
    readings=_lowercase_readings,
    repair=lambda params, text: text.lower(),
    violations=_lowercase_violations,
    draw=nothing,
)


def _uppercase_readings(params: Params, text: str) -> Readings:
    del params
    small = sum(letter != letter.upper() for letter in text)
    has_letters = any(letter != letter.lower() for letter in text)
    return {
        "small_letters": Reading(small, small == 0),
        "small_with_letters": Reading(small, small == 0 and has_letters),
    }


def _uppercase_violations(params: Params, text: str) -> Iterator[str]:
    del params
    for match in list(_LETTERS.finditer(text))[::-1]:
        yield text[: match.start()] + match[0].lower() + text[match.end() :]


UPPERCASE = ConstraintType(
    name="uppercase",
    family="case",
    version=1,
    stage=50,
    schema=(),
    wordings=(
        "Write everything in capital letters.",
        "Use only capital letters.",
        "Your whole answer should be in uppercase.",
    ),
    readings=_uppercase_readings,
    repair=lambda params, text: text.upper(),
    violations=_uppercase_violations,
    draw=nothing,
)


def _capitals(text: str, shortest: int) -> list[re.Match[str]]:
    words = _LETTERS.finditer(text)
    return [word for word in words if word[0].isupper() and len(word[0]) >= shortest]


def _capital_words_readings(params: Params, text: str) -> Readings:
    counts = {
        "two_letters_or_more": len(_capitals(text, 2)),
        "any_length": len(_capitals(text, 1)),
    }
    return at_least(counts, params["n"])


def _capital_words_repair(params: Params, text: str) -> str:
    n = params["n"]
    for word in sorted(content_words(text), key=len, reverse=True):
        if len(_capitals(text, 2)) >= n:
            return text
        whole = re.compile(rf"(?<![\w'’]){word}(?![\w'’])", re.IGNORECASE)
        text = whole.sub(lambda match: match[0].upper(), text, count=1)
    missing = max(0, n - len(_capitals(text, 2)))
    if not missing:
        return text
    repeated = _EMPHASIS * (missing // len(_EMPHASIS) + 1)
    return append(text, " ".join(repeated[:missing]) + ".")


def _capital_words_violations(params: Params, text: str) -> Iterator[str]:
    for word in _capitals(text, 1)[params["n"] - 1 :][::-1]:
        text = text[: word.start()] + word[0].lower() + text[word.end() :]
    yield text


def _capital_words_draw(rng: random.Random, context: Context) -> Params:
    del context
    return {"n": rng.choice((1, 2, 3, 4))}


CAPITAL_WORDS = ConstraintType(
    name="capital_words",
    family="case",
    version=1,
    stage=52,
    schema=(Integer("n", 1, 20),),
    wordings=(
        "Write at least {n} word{n:s} in all capital letters.",
        "Emphasize {n} or more word{n:s} by writing in ALL CAPS.",
    ),
    readings=_capital_words_readings,
    repair=_capital_words_repair,
    violations=_capital_words_violations,
    draw=_capital_words_draw,
)


def _fewer_capitals(params: Params, text: str) -> str:
    for word in _capitals(text, 1)[params["n"] :][::-1]:
        small = "me" if word[0] == "I" else word[0].lower()
        text = text[: word.start()] + small + text[word.end() :]
    return text


def _more_capitals(params: Params, text: str) -> Iterator[str]:
    yield _capital_words_repair({"n": params["n"] + 1}, text)


def _draw_capitals_max(rng: random.Random, context: Context) -> Params:
    count = len(_capitals(context.answer, 2))
    return {"n": rng.randrange(count) if count else rng.choice((0, 1, 2, 3))}


CAPITAL_WORDS_MAX = ConstraintType(
    name="capital_words_max",
    family="case",
    version=1,
    stage=52,
    schema=(Integer("n", 0, 20),),
    wordings=(
        "Write at most {n} word{n:s} in all capital letters.",
        "No more than {n} word{n:s} should be in ALL CAPS.",
    ),
    readings=lambda params, text: at_most(
        {
            "two_letters_or_more": len(_capitals(text, 2)),
            "any_length": len(_capitals(text, 1)),
        },
        params["n"],
    ),
    repair=_fewer_capitals,
    violations=_more_capitals,
    draw=_draw_capitals_max,
)


def _starts_small(word: str) -> bool:
    return word[0] != word[0].upper()


def _title_case_readings(params: Params, text: str) -> Readings:
    del params
    words = _WORD.findall(text)
    tokens = [re.sub(r"^[\W_]+", "", token) for token in text.split()]
    small = {
        "words": sum(_starts_small(word) for word in words),
        "tokens": sum(_starts_small(token) for token in tokens if token),
        "long_words": sum(
            _starts_small(word)
            for i, word in enumerate(words)
            if i == 0 or len(word) > 3
        ),
    }
    return {name: Reading(count, count == 0) for name, count in small.items()}


def _title_case_violations(params: Params, text: str) -> Iterator[str]:
    del params
    for word in sorted(_WORD.finditer(text), key=lambda word: -len(word[0])):
        yield text[: word.start()] + word[0].lower() + text[word.end() :]


TITLE_CASE = ConstraintType(
    name="title_case",
    family="case",
    version=1,
    stage=51,
    schema=(),
    wordings=(
        "Start every word with a capital letter.",
        "Capitalize the first letter of each word.",
    ),
    readings=_title_case_readings,
    repair=lambda params, text: _WORD.sub(lambda word: upper_first(word[0]), text),
    violations=_title_case_violations,
    draw=nothing,
)
