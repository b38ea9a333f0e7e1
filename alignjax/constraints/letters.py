# SPDX-License-Identifier: Apache-2.0
"""Constraints on how often a letter occurs."""

from __future__ import annotations

import random
import re
import string
import unicodedata
from collections.abc import Iterator

from alignjax.constraints.constraint import (
    ConstraintType,
    Context,
    Params,
    at_least,
    at_most,
)
from alignjax.constraints.params import Choice, Integer
from alignjax.constraints.text import append, fillers, filter_sentences, tidy
from alignjax.constraints.vocabulary import LETTER_SENTENCES

_RARE = "jkqvxz"
_SHORT = ("No.", "Yes.", "Why?", "A bit.", "Hmm.")


def _letter_counts(letter: str, text: str) -> dict[str, int]:
    """How often a letter occurs in any case, without and with its accented forms
    ("Élan e" has 1 and 2 times e)."""
    lowered = text.lower()
    return {
        "letter": lowered.count(letter),
        "with_accents": _count(letter, lowered),
    }


def _count(letter: str, text: str) -> int:
    return unicodedata.normalize("NFD", text.lower()).count(letter)


def _more_letters(params: Params, text: str) -> str:
    """The text with sentences added that have the letter, until there are n."""
    letter, n = params["letter"], params["n"]
    filler = fillers(text)
    while text.lower().count(letter) < n:
        if letter in LETTER_SENTENCES:
            text = append(text, LETTER_SENTENCES[letter])
        else:
            text = append(text, next(s for s in filler if letter in s.lower()))
    return text


def _fewer_letters(params: Params, text: str) -> str:
    """The text without the sentences, or else the words, that have the letter after
    its first n."""
    letter, n = params["letter"], params["n"]
    total = 0

    def fits(sentence: str) -> bool:
        nonlocal total
        count = _count(letter, sentence)
        if total + count > n:
            return False
        total += count
        return True

    shorter = filter_sentences(text, fits)
    if _count(letter, shorter) <= n and 2 * len(shorter) >= len(text):
        return shorter
    left = _count(letter, text)
    for word in list(re.finditer(r"[\w'’-]+|\S", text))[::-1]:
        if left > n and _count(letter, word[0]):
            left -= _count(letter, word[0])
            text = text[: word.start()] + text[word.end() :]
    text = tidy(text)
    if any(c.isalnum() for c in text):
        return text
    return next(short for short in _SHORT if _count(letter, short) <= n)


def _draw_min(rng: random.Random, context: Context) -> Params:
    letter = rng.choice(string.ascii_lowercase)
    count = _count(letter, context.answer)
    more = rng.choice((1, 2) if letter in _RARE else (3, 5, 8))
    return {"letter": letter, "n": min(count + more, 100)}


def _draw_max(rng: random.Random, context: Context) -> Params:
    counts = {c: context.answer.lower().count(c) for c in string.ascii_lowercase}
    frequent = [letter for letter, count in counts.items() if 3 <= count <= 12]
    if not frequent:
        return {"letter": rng.choice("bcdfghklmpuwy"), "n": rng.choice((1, 2, 3, 4))}
    letter = rng.choice(frequent)
    return {"letter": letter, "n": rng.randint(counts[letter] // 3, counts[letter] - 1)}


LETTER_MIN = ConstraintType(
    name="letter_min",
    family="letters",
    version=1,
    stage=24,
    schema=(Choice("letter", tuple(string.ascii_lowercase)), Integer("n", 1, 100)),
    wordings=(
        'The letter "{letter}" should appear at least {n} time{n:s}.',
        'Use the letter "{letter}" at least {n} time{n:s} in your answer.',
    ),
    readings=lambda params, text: at_least(
        _letter_counts(params["letter"], text), params["n"]
    ),
    repair=_more_letters,
    violations=lambda params, text: iter(
        [_fewer_letters({**params, "n": params["n"] - 1}, text)]
    ),
    draw=_draw_min,
)


def _max_violations(params: Params, text: str) -> Iterator[str]:
    yield _more_letters({**params, "n": params["n"] + 1}, text)


LETTER_MAX = ConstraintType(
    name="letter_max",
    family="letters",
    version=1,
    stage=14,
    schema=(Choice("letter", tuple(string.ascii_lowercase)), Integer("n", 1, 100)),
    wordings=(
        'The letter "{letter}" should appear at most {n} time{n:s}.',
        'Use the letter "{letter}" no more than {n} time{n:s} in your answer.',
    ),
    readings=lambda params, text: at_most(
        _letter_counts(params["letter"], text), params["n"]
    ),
    repair=_fewer_letters,
    violations=_max_violations,
    draw=_draw_max,
)
