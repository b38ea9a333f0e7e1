# SPDX-License-Identifier: Apache-2.0
"""Constraints on words that must or must not appear."""

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
    choose,
)
from alignjax.constraints.params import Choice, Integer, Phrase, Word, Words
from alignjax.constraints.text import (
    append,
    content_words,
    delete_last,
    fillers,
    filter_sentences,
    tidy,
    upper_first,
)
from alignjax.constraints.vocabulary import (
    COMMON_WORDS,
    KEYWORDS,
    LETTER_WORDS,
    MENTIONS,
    PHRASES,
)


def whole_word(word: str) -> re.Pattern[str]:
    return re.compile(rf"(?<!\w){re.escape(word)}(?!\w)", re.IGNORECASE)


def occurrences(word: str, text: str) -> dict[str, int]:
    """How often a word occurs, in any case: between non-letters, not joined by a
    hyphen, and anywhere ("well" in "well-known swell" is 1, 0 and 2)."""
    apart = rf"(?<![\w-]){re.escape(word)}(?![\w-])"
    return {
        "word": len(whole_word(word).findall(text)),
        "not_hyphenated": len(re.findall(apart, text, re.IGNORECASE)),
        "substring": len(re.findall(re.escape(word), text, re.IGNORECASE)),
    }


def mention(word: str, n: int, text: str, first: int = 0) -> str:
    """The text with sentences added until the word is there n times."""
    missing = n - occurrences(word, text)["not_hyphenated"]
    for i in range(max(0, missing)):
        text = append(text, MENTIONS[(first + i) % len(MENTIONS)].format(word=word))
    return text


def remove(word: str, text: str, *, keep: int = 0) -> str:
    """The text in which the word occurs `keep` times, even as a part of words."""
    inside = re.compile(
        rf"(?<![\w'’-])[\w'’-]*{re.escape(word)}[\w'’-]*", re.IGNORECASE
    )
    return tidy(delete_last(inside, text, keep=keep)) or next(fillers(text))


def _drop(word: str, text: str, *, keep: int = 0) -> Iterator[str]:
    """Without sentences that have the word after `keep` of them; without the word."""
    seen = 0

    def is_kept(sentence: str) -> bool:
        nonlocal seen
        seen += len(re.findall(re.escape(word), sentence, re.IGNORECASE))
        return seen <= keep or word.lower() not in sentence.lower()

    shorter = filter_sentences(text, is_kept)
    if 2 * len(shorter) >= len(text):
        yield shorter
    yield remove(word, text, keep=keep)


def new_word(rng: random.Random, context: Context) -> str:
    """A word that the answer does not have, from the task half of the time."""
    answer = context.answer.lower()
    topical = [word for word in content_words(context.topic) if word not in answer]
    if topical and rng.random() < 0.5:
        return rng.choice(topical)
    return choose(rng, [word for word in KEYWORDS if word not in answer] or KEYWORDS)


INCLUDE_WORD = ConstraintType(
    name="include_word",
    family="keywords",
    version=1,
    stage=25,
    schema=(Word("word"),),
    wordings=(
        "Include the word {word}.",
        "Use the word {word} in your answer.",
        "Make sure that the word {word} appears in your answer.",
    ),
    readings=lambda params, text: at_least(occurrences(params["word"], text), 1),
    repair=lambda params, text: mention(params["word"], 1, text),
    violations=lambda params, text: _drop(params["word"], text),
    draw=lambda rng, context: {"word": new_word(rng, context)},
)


def _word_times_violations(params: Params, text: str) -> Iterator[str]:
    yield from _drop(params["word"], text, keep=params["n"] - 1)
    yield remove(params["word"], text)


def _draw_word_times(rng: random.Random, context: Context) -> Params:
    return {"word": new_word(rng, context), "n": rng.choice((2, 2, 3))}


WORD_TIMES = ConstraintType(
    name="word_times",
    family="keywords",
    version=1,
    stage=25,
    schema=(Word("word"), Integer("n", 2, 20)),
    wordings=(
        "Use the word {word} at least {n} times.",
        "The word {word} should appear {n} or more times.",
    ),
    readings=lambda params, text: at_least(
        occurrences(params["word"], text), params["n"]
    ),
    repair=lambda params, text: mention(params["word"], params["n"], text),
    violations=_word_times_violations,
    draw=_draw_word_times,
)


def _words_readings(params: Params, text: str) -> Readings:
    """Of the asked words, how many occur, in each reading of "occurs"."""
    found: dict[str, int] = {}
    for word in params["words"]:
        for name, count in occurrences(word, text).items():
            found[name] = found.get(name, 0) + (count > 0)
    return at_least(found, len(params["words"]))


def _words_repair(params: Params, text: str) -> str:
    for i, word in enumerate(params["words"]):
        text = mention(word, 1, text, first=i)
    return text


def _words_violations(params: Params, text: str) -> Iterator[str]:
    for word in params["words"]:
        yield from _drop(word, text)


def _draw_words(rng: random.Random, context: Context) -> Params:
    first = new_word(rng, context)
    return {"words": (first, choose(rng, KEYWORDS, avoid=(first,)))}


INCLUDE_WORDS = ConstraintType(
    name="include_words",
    family="keywords",
    version=1,
    stage=25,
    schema=(Words("words", 2, 4),),
    wordings=(
        "Include the words {words}.",
        "Your answer must contain the words {words}.",
    ),
    readings=_words_readings,
    repair=_words_repair,
    violations=_words_violations,
    draw=_draw_words,
)


def forbidden_forms(word: str) -> dict[str, re.Pattern[str]]:
    """What counts as using a word: itself, itself in a compound, or inflected."""
    stem = re.escape(word)
    return {
        "not_hyphenated": re.compile(rf"(?<![\w-]){stem}(?![\w-])", re.IGNORECASE),
        "word": whole_word(word),
        "inflected": re.compile(
            rf"(?<!\w){stem}(?:['’]?s|es|e?d|ing|er|ly)?(?!\w)", re.IGNORECASE
        ),
    }


def _forbidden_readings(params: Params, text: str) -> Readings:
    patterns = forbidden_forms(params["word"])
    counts = {name: len(found.findall(text)) for name, found in patterns.items()}
    return at_most(counts, 0)


def without(pattern: re.Pattern[str], text: str) -> str:
    """The text without sentences that match, or else without the matches."""
    shorter = filter_sentences(text, lambda sentence: not pattern.search(sentence))
    if not pattern.search(shorter) and 2 * len(shorter) >= len(text):
        return shorter
    edited = tidy(pattern.sub("", text))
    if text[:1].isupper():
        edited = upper_first(edited)
    if any(letter.isalnum() for letter in edited):
        return edited
    sentences = fillers(text)
    plain = (next(sentences) for _ in range(40))
    return next((s for s in plain if not pattern.search(s)), "It is so.")


def _forbidden_violations(params: Params, text: str) -> Iterator[str]:
    yield append(text, f'Some would say "{params["word"]}" here.')
    for space in list(re.finditer(r"(?<=\w) (?=\w)", text))[::-1]:
        yield f"{text[: space.start()]} {params['word']} {text[space.end() :]}"


def _draw_forbidden(rng: random.Random, context: Context) -> Params:
    answer, topic = context.answer.lower(), content_words(context.topic)
    used = [word for word in COMMON_WORDS if whole_word(word).search(answer)]
    used += [word for word in content_words(answer) if word not in topic]
    return {"word": rng.choice(used or topic or COMMON_WORDS)}


FORBIDDEN_WORD = ConstraintType(
    name="forbidden_word",
    family="keywords",
    version=1,
    stage=10,
    schema=(Word("word"),),
    wordings=(
        "Do not use the word {word}.",
        "Avoid the word {word}.",
        "Your answer must not contain the word {word}.",
    ),
    readings=_forbidden_readings,
    repair=lambda params, text: without(
        forbidden_forms(params["word"])["inflected"], text
    ),
    violations=_forbidden_violations,
    draw=_draw_forbidden,
)


def _letter_readings(params: Params, text: str) -> Readings:
    count = text.lower().count(params["letter"])
    return {"any_case": Reading(count, count == 0)}


def _draw_letter(rng: random.Random, context: Context) -> Params:
    present = [letter for letter in LETTER_WORDS if letter in context.answer.lower()]
    return {"letter": rng.choice(present or list(LETTER_WORDS))}


FORBIDDEN_LETTER = ConstraintType(
    name="forbidden_letter",
    family="keywords",
    version=1,
    stage=11,
    schema=(Choice("letter", tuple(LETTER_WORDS)),),
    wordings=(
        'Do not use the letter "{letter}".',
        'Avoid all words that contain the letter "{letter}".',
    ),
    readings=_letter_readings,
    repair=lambda params, text: without(
        re.compile(rf"[\w'’-]*{params['letter']}[\w'’-]*", re.IGNORECASE), text
    ),
    violations=lambda params, text: iter(
        [append(text, f"That is {LETTER_WORDS[params['letter']]}.")]
    ),
    draw=_draw_letter,
)


def _phrase_readings(params: Params, text: str) -> Readings:
    spaced = re.escape(params["phrase"]).replace(r"\ ", r"\s+")
    counts = {
        "same_line": len(whole_word(params["phrase"]).findall(text)),
        "any_spacing": len(re.findall(rf"(?<!\w){spaced}(?!\w)", text, re.IGNORECASE)),
    }
    return at_least(counts, 1)


def _phrase_violations(params: Params, text: str) -> Iterator[str]:
    words = re.escape(params["phrase"]).replace(r"\ ", r"\s+")
    spaced = re.compile(words, re.IGNORECASE)
    shorter = filter_sentences(text, lambda sentence: not spaced.search(sentence))
    if 2 * len(shorter) >= len(text):
        yield shorter
    yield tidy(spaced.sub("", text)) or next(fillers(text))


INCLUDE_PHRASE = ConstraintType(
    name="include_phrase",
    family="keywords",
    version=1,
    stage=25,
    schema=(Phrase("phrase"),),
    wordings=(
        "Include the phrase {phrase}.",
        "Use the phrase {phrase} somewhere in your answer.",
    ),
    readings=_phrase_readings,
    repair=lambda params, text: append(
        text, f"{upper_first(params['phrase'])}, this is worth a try."
    ),
    violations=_phrase_violations,
    draw=lambda rng, context: {
        "phrase": choose(
            rng, [p for p in PHRASES if p not in context.answer.lower()] or PHRASES
        )
    },
)
