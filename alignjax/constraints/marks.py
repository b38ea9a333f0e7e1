# SPDX-License-Identifier: Apache-2.0
"""Constraints on semicolons, contractions and emoji."""

from __future__ import annotations

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
    nothing,
)
from alignjax.constraints.params import Integer
from alignjax.constraints.text import append, delete_last, lower_first, tidy
from alignjax.constraints.vocabulary import EMOJI, SEMICOLON_SENTENCES

_MARK = re.compile("[;；]")
_ENTITY = re.compile(r"&#?\w{1,10};")


def _draw_small(rng: random.Random, context: Context) -> Params:
    del context
    return {"n": rng.choice((1, 1, 2, 3))}


def _semicolon_readings(params: Params, text: str) -> Readings:
    counts = {
        "marks": len(_MARK.findall(text)),
        "outside_entities": len(_MARK.findall(_ENTITY.sub("", text))),
        "runs": len(re.findall("[;；]+", text)),
    }
    return at_least(counts, params["n"])


def _semicolon_count(params: Params, text: str) -> int:
    readings = _semicolon_readings(params, text)
    return min(int(reading.value) for reading in readings.values())


def _add_semicolons(params: Params, text: str) -> str:
    """Joins sentences with semicolons, and adds sentences that have one."""
    stop = re.compile(r"(?<=[^\W\d_]{3})\. (?=[^\W\d_]{2})")
    stops = list(stop.finditer(text))
    for match in stops[: max(0, params["n"] - _semicolon_count(params, text))][::-1]:
        text = f"{text[: match.start()]}; {lower_first(text[match.end() :])}"
    for i in range(max(0, params["n"] - _semicolon_count(params, text))):
        text = append(text, SEMICOLON_SENTENCES[i % len(SEMICOLON_SENTENCES)])
    return text


def _semicolon_violations(params: Params, text: str) -> Iterator[str]:
    for match in list(_MARK.finditer(text))[params["n"] - 1 :][::-1]:
        text = text[: match.start()] + "," + text[match.end() :]
    yield text


SEMICOLONS_MIN = ConstraintType(
    name="semicolons_min",
    family="marks",
    version=1,
    stage=27,
    schema=(Integer("n", 1, 20),),
    wordings=(
        "Use at least {n} semicolon{n:s}.",
        "Include {n} or more semicolon{n:s} in your answer.",
    ),
    readings=_semicolon_readings,
    repair=_add_semicolons,
    violations=_semicolon_violations,
    draw=_draw_small,
)

_FULL_FORMS = (
    (r"\bcan['’]t\b", "cannot"),
    (r"\bwon['’]t\b", "will not"),
    (r"\bshan['’]t\b", "shall not"),
    (r"\b(let)['’]s\b", r"\1 us"),
    (r"\b(it|that|there|he|she|what|who|here|where|how)['’]s\b", r"\1 is"),
    (r"(?<=\w)n['’]t\b", " not"),
    (r"(?<=\w)['’]re\b", " are"),
    (r"(?<=\w)['’]ll\b", " will"),
    (r"(?<=\w)['’]ve\b", " have"),
    (r"(?<=\w)['’]m\b", " am"),
    (r"(?<=\w)['’]d\b", " would"),
)
_CONTRACTION = re.compile(
    "|".join(pattern for pattern, _ in _FULL_FORMS), re.IGNORECASE
)
# A possessive ("the tree's leaf") looks like a contraction.
_APOSTROPHE = re.compile(r"(?<=\w)['’](?=\w)")
_SHORT_FORMS = (
    ("do not", "don't"),
    ("is not", "isn't"),
    ("are not", "aren't"),
    ("it is", "it's"),
    ("that is", "that's"),
    ("cannot", "can't"),
    ("will not", "won't"),
)


def _contraction_readings(params: Params, text: str) -> Readings:
    del params
    counts = {
        "contractions": len(_CONTRACTION.findall(text)),
        "apostrophes": len(_APOSTROPHE.findall(text)),
    }
    return at_most(counts, 0)


def _spell_out(params: Params, text: str) -> str:
    del params
    for pattern, full in _FULL_FORMS:
        text = re.sub(pattern, full, text, flags=re.IGNORECASE)
    return _APOSTROPHE.sub("", re.sub(r"(?<=\w)['’]s\b", "", text))


def _contract(params: Params, text: str) -> Iterator[str]:
    del params
    for full, short in _SHORT_FORMS:
        whole = re.compile(rf"\b{full}\b", re.IGNORECASE)
        for match in whole.finditer(text):
            form = short if match[0][0].islower() else short.capitalize()
            yield text[: match.start()] + form + text[match.end() :]
    yield append(text, "That's it.")


NO_CONTRACTIONS = ConstraintType(
    name="no_contractions",
    family="marks",
    version=1,
    stage=12,
    schema=(),
    wordings=(
        'Do not use contractions such as "don\'t".',
        'Write out all contractions: "do not" instead of "don\'t".',
    ),
    readings=_contraction_readings,
    repair=_spell_out,
    violations=_contract,
    draw=nothing,
)

_PICTURE = "[\U0001f300-\U0001f3fa\U0001f400-\U0001faff]"
_SYMBOL = "[\u2600-\u27bf\u2b00-\u2bff\u2300-\u23ff\U0001f000-\U0001f2ff]"
# One picture with its skin tone, variation selector and joined parts.
_ONE_EMOJI = (
    f"(?:{_PICTURE}|{_SYMBOL}\ufe0f)[\U0001f3fb-\U0001f3ff\ufe0f]*"
    f"(?:\u200d(?:{_PICTURE}|{_SYMBOL})[\U0001f3fb-\U0001f3ff\ufe0f]*)*"
)
_EMOJI = re.compile(_ONE_EMOJI)
_EMOJI_RUN = re.compile(f"(?:{_ONE_EMOJI})+")
_ANY_EMOJI = re.compile(f"{_PICTURE}|{_SYMBOL}")


def _emoji_readings(params: Params, text: str) -> Readings:
    counts = {
        "emoji": len(_EMOJI.findall(text)),
        "with_symbols": len(_ANY_EMOJI.findall(text)),
        "runs": len(_EMOJI_RUN.findall(text)),
    }
    return at_least(counts, params["n"])


def _add_emoji(params: Params, text: str) -> str:
    missing = params["n"] - int(_emoji_readings(params, text)["runs"].value)
    for i in range(max(0, missing)):
        text = f"{text} {EMOJI[i % len(EMOJI)]}"
    return text


def _separate_emoji(params: Params, text: str) -> str:
    """Emoji with spaces between them, and more of them where they are too few."""
    if int(_emoji_readings(params, text)["emoji"].value) >= params["n"]:
        text = _EMOJI.sub(lambda match: f" {match[0]}", text)
    return _add_emoji(params, text)


def _emoji_violations(params: Params, text: str) -> Iterator[str]:
    yield tidy(delete_last(_ANY_EMOJI, text, keep=params["n"] - 1))


EMOJI_MIN = ConstraintType(
    name="emoji_min",
    family="marks",
    version=1,
    stage=49,
    schema=(Integer("n", 1, 10),),
    wordings=(
        "Use at least {n} emoji.",
        "Include {n} or more emoji in your answer.",
    ),
    readings=_emoji_readings,
    repair=_separate_emoji,
    violations=_emoji_violations,
    draw=_draw_small,
)
