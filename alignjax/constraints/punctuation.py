# SPDX-License-Identifier: Apache-2.0
"""Constraints on commas, digits, exclamation and question marks."""

from __future__ import annotations

import random
import re
import unicodedata
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
from alignjax.constraints.text import append, delete_last, filter_sentences, tidy
from alignjax.constraints.vocabulary import EXCLAMATIONS, NUMBER_SENTENCES, QUESTIONS

_COMMAS = ",，、،"
_ONES_WORDS = """
zero one two three four five six seven eight nine ten eleven twelve thirteen
fourteen fifteen sixteen seventeen eighteen nineteen
"""
_ONES = _ONES_WORDS.split()
_TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
_ORDINALS = {"1": "first", "2": "second", "3": "third", "5": "fifth"}


def _comma_readings(params: Params, text: str) -> Readings:
    del params
    counts = {
        "comma": text.count(","),
        "any_script": sum(text.count(comma) for comma in _COMMAS),
    }
    return at_most(counts, 0)


def _comma_violations(params: Params, text: str) -> Iterator[str]:
    del params
    words = text.split(" ")
    if len(words) > 1 and words[0][-1:].isalpha():
        yield " ".join([words[0] + ",", *words[1:]])
    yield append(text, "Well, that is it.")


NO_COMMAS = ConstraintType(
    name="no_commas",
    family="punctuation",
    version=1,
    stage=12,
    schema=(),
    wordings=(
        "Do not use any commas.",
        "Write your answer without commas.",
        "Avoid commas entirely.",
    ),
    readings=_comma_readings,
    repair=lambda params, text: re.sub(f"[{_COMMAS}]", "", text),
    violations=_comma_violations,
    draw=nothing,
)


def _spell(digits: str) -> str:
    """English words of a number below 100, else digit by digit."""
    n = int(digits)
    if n < 20 and len(digits) < 3:
        return _ONES[n]
    if n < 100 and len(digits) < 3:
        return _TENS[n // 10 - 2] + (f"-{_ONES[n % 10]}" if n % 10 else "")
    return " ".join(_ONES[int(digit)] for digit in digits)


def _digit_readings(params: Params, text: str) -> Readings:
    del params
    counts = {
        "ascii": sum(c in "0123456789" for c in text),
        "unicode": sum(c.isdigit() for c in text),
    }
    return at_most(counts, 0)


def _spell_digits(params: Params, text: str) -> str:
    del params
    text = re.sub(r"(?m)^([ \t]*)\d+[.)] ", r"\1- ", text)
    text = re.sub(r"(?<=\d),(?=\d{3})", "", text)
    text = re.sub(r"(?<=\d)\.(?=\d)", " point ", text)
    text = re.sub(
        r"\b([0-9]+)(?:st|nd|rd|th)\b",
        lambda match: _ORDINALS.get(match[1], f"{_spell(match[1])}th"),
        text,
    )
    text = "".join(
        f"{unicodedata.digit(c)}" if c.isdigit() and not c.isascii() else c
        for c in text
    )
    text = re.sub(r"(?<=[0-9])(?=[^\W\d_])|(?<=[^\W\d_])(?=[0-9])", " ", text)
    return re.sub(r"[0-9]+", lambda match: _spell(match[0]), text)


def _digit_violations(params: Params, text: str) -> Iterator[str]:
    del params
    for n, word in list(enumerate(_ONES))[1:]:
        spelled = re.compile(rf"(?<![\w-]){word}(?![\w-])", re.IGNORECASE)
        if spelled.search(text):
            yield spelled.sub(str(n), text, count=1)
    yield append(text, "There are 2 of them.")


NO_DIGITS = ConstraintType(
    name="no_digits",
    family="punctuation",
    version=1,
    stage=12,
    schema=(),
    wordings=(
        "Do not use any digits.",
        "Write your answer without digits such as 1 or 2.",
    ),
    readings=_digit_readings,
    repair=_spell_digits,
    violations=_digit_violations,
    draw=nothing,
)

_RUN = re.compile(r"[0-9]+")
_NUMBER = re.compile(r"[0-9]+(?:[.,:/][0-9]+)*")


def _number_readings(params: Params, text: str) -> Readings:
    unmarked = re.sub(r"(?m)^[ \t]*[0-9]+[.)](?:\s|$)", "", text)
    counts = {
        "digit_runs": len(_RUN.findall(text)),
        "numbers": len(_NUMBER.findall(text)),
        "outside_list_marks": len(_NUMBER.findall(unmarked)),
    }
    return at_least(counts, params["n"])


def _add_numbers(params: Params, text: str) -> str:
    missing = params["n"] - _number_readings(params, text)["outside_list_marks"].value
    for i in range(max(0, missing)):
        text = append(text, NUMBER_SENTENCES[i % len(NUMBER_SENTENCES)])
    return text


def _number_violations(params: Params, text: str) -> Iterator[str]:
    yield filter_sentences(text, lambda sentence: not _RUN.search(sentence))
    yield tidy(delete_last(_RUN, text, keep=params["n"] - 1)) or "None."


def _draw_small(rng: random.Random, context: Context) -> Params:
    del context
    return {"n": rng.choice((1, 1, 2, 3))}


NUMBERS_MIN = ConstraintType(
    name="numbers_min",
    family="punctuation",
    version=1,
    stage=26,
    schema=(Integer("n", 1, 20),),
    wordings=(
        "Include at least {n} number{n:s} written in digits.",
        "Mention {n} or more number{n:s} written in digits.",
    ),
    readings=_number_readings,
    repair=_add_numbers,
    violations=_number_violations,
    draw=_draw_small,
)


def _mark_counts(marks: str, text: str) -> dict[str, int]:
    """Marks one by one, and runs of them ("!!" is 2 and 1)."""
    return {
        "marks": sum(text.count(mark) for mark in marks),
        "runs": len(re.findall(f"[{marks}]+", text)),
    }


def _exclaim(params: Params, text: str) -> str:
    missing = params["n"] - _mark_counts("!！", text)["runs"]
    stop = re.compile(r"(?<=[^\W\d_]{3})\.(?=\s|$)")
    stops = list(stop.finditer(text))[: max(0, missing)]
    for match in stops[::-1]:
        text = text[: match.start()] + "!" + text[match.end() :]
    for i in range(missing - len(stops)):
        text = append(text, EXCLAMATIONS[i % len(EXCLAMATIONS)])
    return text


def _calm(params: Params, text: str) -> Iterator[str]:
    marks = list(re.finditer("[!！]", text))[params["n"] - 1 :]
    for match in marks[::-1]:
        text = text[: match.start()] + "." + text[match.end() :]
    yield text


EXCLAMATIONS_MIN = ConstraintType(
    name="exclamations_min",
    family="punctuation",
    version=1,
    stage=27,
    schema=(Integer("n", 1, 20),),
    wordings=(
        "Use at least {n} exclamation mark{n:s}.",
        "Include {n} or more exclamation mark{n:s}.",
    ),
    readings=lambda params, text: at_least(_mark_counts("!！", text), params["n"]),
    repair=_exclaim,
    violations=_calm,
    draw=_draw_small,
)


def _keep_exclamations(params: Params, text: str) -> str:
    marks = list(re.finditer("[!！]+", text))
    for i, match in list(enumerate(marks))[::-1]:
        mark = "!" if i < params["n"] else "."
        text = text[: match.start()] + mark + text[match.end() :]
    return text


def _too_many_exclamations(params: Params, text: str) -> Iterator[str]:
    missing = params["n"] + 1 - _mark_counts("!！", text)["runs"]
    yield _exclaim({"n": params["n"] + 1}, text)
    for i in range(missing):
        text = append(text, EXCLAMATIONS[i % len(EXCLAMATIONS)])
    yield text


def _draw_exclamations_max(rng: random.Random, context: Context) -> Params:
    count = _mark_counts("!！", context.answer)["runs"]
    return {"n": rng.randrange(count) if count else rng.choice((0, 0, 1, 2))}


EXCLAMATIONS_MAX = ConstraintType(
    name="exclamations_max",
    family="punctuation",
    version=1,
    stage=13,
    schema=(Integer("n", 0, 20),),
    wordings=(
        "Use no more than {n} exclamation mark{n:s}.",
        "The number of exclamation marks should be at most {n}.",
    ),
    readings=lambda params, text: at_most(_mark_counts("!！", text), params["n"]),
    repair=_keep_exclamations,
    violations=_too_many_exclamations,
    draw=_draw_exclamations_max,
)


def _ask(params: Params, text: str) -> str:
    missing = params["n"] - _mark_counts("?？", text)["runs"]
    for i in range(max(0, missing)):
        text = append(text, QUESTIONS[i % len(QUESTIONS)])
    return text


def _unask(params: Params, text: str) -> Iterator[str]:
    marks = list(re.finditer("[?？]", text))[params["n"] - 1 :]
    for match in marks[::-1]:
        text = text[: match.start()] + "." + text[match.end() :]
    yield text


QUESTIONS_MIN = ConstraintType(
    name="questions_min",
    family="punctuation",
    version=1,
    stage=26,
    schema=(Integer("n", 1, 20),),
    wordings=(
        "Ask at least {n} question{n:s} in your answer.",
        "Include {n} or more question{n:s} with a question mark.",
    ),
    readings=lambda params, text: at_least(_mark_counts("?？", text), params["n"]),
    repair=_ask,
    violations=_unask,
    draw=_draw_small,
)


def _end_readings(params: Params, text: str) -> Readings:
    del params
    inner = text.rstrip("\"'”’)]*_ ")
    last, last_inner = text[-1:], inner[-1:]
    return {
        "last_character": Reading(last, last in "?？"),
        "inside_quotes": Reading(last_inner, last_inner != "" and last_inner in "?？"),
    }


def _end_violations(params: Params, text: str) -> Iterator[str]:
    del params
    yield text.rstrip("?？!") + "."
    yield append(text, "That is all.")


END_QUESTION = ConstraintType(
    name="end_question",
    family="punctuation",
    version=1,
    stage=62,
    schema=(),
    wordings=(
        "End your answer with a question.",
        "The last character of your answer should be a question mark.",
        "Finish with a question mark.",
    ),
    readings=_end_readings,
    repair=lambda params, text: _ask(
        {"n": 1 + _mark_counts("?？", text)["runs"]}, text
    ),
    violations=_end_violations,
    draw=nothing,
)
