# SPDX-License-Identifier: Apache-2.0
"""Constraints on which words are chosen: too often, several of them, in which order."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator

from alignjax.constraints.constraint import (
    ConstraintType,
    Context,
    Params,
    Readings,
    at_most,
    choose,
    exactly,
    facts,
)
from alignjax.constraints.keywords import (
    forbidden_forms,
    mention,
    new_word,
    occurrences,
    remove,
    whole_word,
    without,
)
from alignjax.constraints.params import Integer, Phrases, Word, Words
from alignjax.constraints.text import (
    WORD,
    append,
    content_words,
    fillers,
    filter_sentences,
    pick,
    tidy,
)
from alignjax.constraints.vocabulary import COMMON_WORDS, KEYWORDS, PHRASE_CHOICES


def _draw_word_max(rng: random.Random, context: Context) -> Params:
    """A word that the answer has at least twice, and fewer times than that."""
    words = [word.lower() for word in WORD.findall(context.answer) if word.isalpha()]
    counts = {word: words.count(word) for word in dict.fromkeys(words)}
    repeated = [word for word, count in counts.items() if count > 1 and len(word) > 2]
    if not repeated:
        return {"word": new_word(rng, context), "n": rng.choice((1, 1, 2, 3))}
    word = rng.choice(repeated)
    return {"word": word, "n": rng.randint(1, counts[word] - 1)}


WORD_TIMES_MAX = ConstraintType(
    name="word_times_max",
    family="wordchoice",
    version=1,
    stage=10,
    schema=(Word("word"), Integer("n", 1, 20)),
    wordings=(
        "Use the word {word} at most {n} time{n:s}.",
        "The word {word} should appear no more than {n} time{n:s}.",
    ),
    readings=lambda params, text: at_most(
        occurrences(params["word"], text), params["n"]
    ),
    repair=lambda params, text: remove(params["word"], text, keep=params["n"]),
    violations=lambda params, text: iter(
        [mention(params["word"], params["n"] + 1, text)]
    ),
    draw=_draw_word_max,
)


def _forbidden_counts(params: Params, text: str) -> Readings:
    """Of the forbidden words, how often any occurs, in each reading of "occurs"."""
    found: dict[str, int] = {}
    for word in params["words"]:
        for name, pattern in forbidden_forms(word).items():
            found[name] = found.get(name, 0) + len(pattern.findall(text))
    return at_most(found, 0)


def _without_words(params: Params, text: str) -> str:
    forms = [forbidden_forms(word)["inflected"].pattern for word in params["words"]]
    return without(re.compile("|".join(forms), re.IGNORECASE), text)


def _forbidden_violations(params: Params, text: str) -> Iterator[str]:
    for word in params["words"]:
        yield append(text, f'Some would say "{word}" here.')
        for space in list(re.finditer(r"(?<=\w) (?=\w)", text))[::-1]:
            yield f"{text[: space.start()]} {word} {text[space.end() :]}"


def _draw_forbidden(rng: random.Random, context: Context) -> Params:
    """Two or three words, one of which the answer has."""
    answer, topic = context.answer.lower(), content_words(context.topic)
    used = [word for word in COMMON_WORDS if whole_word(word).search(answer)]
    used += [w for w in content_words(answer) if w not in topic and w not in used]
    first = rng.choice(used or COMMON_WORDS)
    others = [word for word in (*COMMON_WORDS, *used) if word != first]
    rest = rng.sample(sorted(set(others)), rng.choice((1, 2)))
    return {"words": (first, *rest)}


FORBIDDEN_WORDS = ConstraintType(
    name="forbidden_words",
    family="wordchoice",
    version=1,
    stage=10,
    schema=(Words("words", 2, 6),),
    wordings=(
        "Do not use any of the words {words}.",
        "Your answer must not contain the words {words}.",
    ),
    readings=_forbidden_counts,
    repair=_without_words,
    violations=_forbidden_violations,
    draw=_draw_forbidden,
)


def _order_readings(params: Params, text: str) -> Readings:
    """Whether one word comes before the other: at first, and always."""
    first = [match.start() for match in whole_word(params["first"]).finditer(text)]
    second = [match.start() for match in whole_word(params["second"]).finditer(text)]
    has_both = bool(first and second)
    return facts(
        {
            "first_mentions": has_both and first[0] < second[0],
            "all_mentions": has_both and first[-1] < second[0],
            "some_mentions": has_both and first[0] < second[-1],
        }
    )


def _order_repair(params: Params, text: str) -> str:
    text = remove(params["second"], text)
    text = mention(params["first"], 1, text)
    return mention(params["second"], 1, text, first=1)


def _order_violations(params: Params, text: str) -> Iterator[str]:
    for word in (params["second"], params["first"]):
        yield filter_sentences(text, lambda s, w=word: not whole_word(w).search(s))
        yield tidy(whole_word(word).sub("", text))
    yield next(fillers(text))


def _draw_order(rng: random.Random, context: Context) -> Params:
    first = new_word(rng, context)
    return {"first": first, "second": choose(rng, KEYWORDS, avoid=(first,))}


def _same_words(params: Params) -> str | None:
    first, second = params["first"].casefold(), params["second"].casefold()
    if first in second or second in first:
        return "expected two words of which none is inside the other"
    return None


WORD_ORDER = ConstraintType(
    name="word_order",
    family="wordchoice",
    version=1,
    stage=25,
    schema=(Word("first"), Word("second")),
    wordings=(
        "Mention the word {first} before the word {second}.",
        "Use both words {first} and {second}, in this order.",
    ),
    readings=_order_readings,
    repair=_order_repair,
    violations=_order_violations,
    draw=_draw_order,
    problem=_same_words,
)


def _choice_readings(params: Params, text: str) -> Readings:
    """How many of the phrases are there, as they are written and in any case."""
    phrases, folded = params["phrases"], text.casefold()
    return exactly(
        {
            "exact": sum(phrase in text for phrase in phrases),
            "any_case": sum(phrase.casefold() in folded for phrase in phrases),
        },
        1,
    )


def _without_phrases(params: Params, text: str) -> str:
    for phrase in params["phrases"]:
        text = re.sub(re.escape(phrase), "", text, flags=re.IGNORECASE)
    return tidy(text)


def _choice_repair(params: Params, text: str) -> str:
    return append(_without_phrases(params, text), pick(params["phrases"], text))


def _choice_violations(params: Params, text: str) -> Iterator[str]:
    yield _without_phrases(params, text) or next(fillers(text))
    absent = [phrase for phrase in params["phrases"] if phrase not in text]
    yield append(text, absent[0])


def _draw_choice(rng: random.Random, context: Context) -> Params:
    del context
    return {"phrases": rng.choice(PHRASE_CHOICES)}


PHRASE_CHOICE = ConstraintType(
    name="phrase_choice",
    family="wordchoice",
    version=1,
    stage=26,
    schema=(Phrases("phrases", 2, 6),),
    wordings=(
        "Include exactly one of the phrases {phrases}.",
        "Choose one of {phrases} and use only that one in your answer.",
    ),
    readings=_choice_readings,
    repair=_choice_repair,
    violations=_choice_violations,
    draw=_draw_choice,
)
