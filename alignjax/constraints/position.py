# SPDX-License-Identifier: Apache-2.0
"""Constraints on how an answer, its lines or its sentences begin and end."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Sequence

from alignjax.constraints.constraint import (
    ConstraintType,
    Context,
    Params,
    Reading,
    Readings,
    choose,
    facts,
)
from alignjax.constraints.params import Choice, Phrase, Word
from alignjax.constraints.text import (
    MARKER,
    WORD,
    append,
    finish,
    lower_first,
    nonempty_lines,
    pick,
    plain_sentences,
    sentence_readings,
    upper_first,
)
from alignjax.constraints.vocabulary import (
    CLOSINGS,
    FIRST_WORDS,
    LABELS,
    LAST_WORDS,
    OPENINGS,
    POSTSCRIPTS,
    REQUESTS,
    SENTENCE_STARTS,
)

_MARKUP = " \t\n\"'“”‘’*_#>`-"


def _loose(text: str) -> str:
    """Without case, curly apostrophes and doubled spaces."""
    return " ".join(text.replace("’", "'").casefold().split())


def _start_readings(params: Params, text: str) -> Readings:
    phrase = params["phrase"]
    rest = text[len(phrase) : len(phrase) + 1]
    is_whole = not (phrase[-1].isalnum() and rest.isalnum())
    bare = _loose(text.lstrip(_MARKUP))
    loose = _loose(phrase.lstrip(_MARKUP)).rstrip(".,:;!?")
    return facts(
        {
            "exact": text.startswith(phrase) and is_whole,
            "any_case_or_markup": bare.startswith(loose),
        }
    )


def _first_text(options: Sequence[str], taken: str, text: str) -> str:
    return pick([o for o in options if _loose(o)[:4] != _loose(taken)[:4]], text)


def _start_violations(params: Params, text: str) -> Iterator[str]:
    rest = text[len(params["phrase"]) :].strip()
    yield rest
    other = _first_text(OPENINGS, params["phrase"], text)
    yield f"{other} {text}"


START_PHRASE = ConstraintType(
    name="start_phrase",
    family="position",
    version=1,
    stage=70,
    schema=(Phrase("phrase"),),
    wordings=(
        "Start your answer with the exact phrase {phrase}.",
        "Begin your answer with {phrase}.",
        "The first words of your answer should be {phrase}.",
    ),
    readings=_start_readings,
    repair=lambda params, text: f"{params['phrase']} {text}",
    violations=_start_violations,
    draw=lambda rng, context: {"phrase": rng.choice(OPENINGS)},
)


def _finish_readings(params: Params, text: str) -> Readings:
    phrase = params["phrase"]
    before = text[: -len(phrase)][-1:]
    is_whole = not (phrase[0].isalnum() and before.isalnum())
    bare = _loose(text).rstrip(_MARKUP + ".,:;!?)]")
    loose = _loose(phrase).rstrip(_MARKUP + ".,:;!?)]")
    return facts(
        {
            "exact": text.endswith(phrase) and is_whole,
            "any_case_or_markup": bare.endswith(loose),
        }
    )


def _finish_violations(params: Params, text: str) -> Iterator[str]:
    yield text[: -len(params["phrase"])].strip()
    yield append(text, _first_text(CLOSINGS, params["phrase"], text))


END_PHRASE = ConstraintType(
    name="end_phrase",
    family="position",
    version=1,
    stage=64,
    schema=(Phrase("phrase"),),
    wordings=(
        "End your answer with the exact phrase {phrase}.",
        "Finish your answer with {phrase} and nothing after it.",
        "The last words of your answer should be {phrase}.",
    ),
    readings=_finish_readings,
    repair=lambda params, text: append(text, params["phrase"]),
    violations=_finish_violations,
    draw=lambda rng, context: {"phrase": rng.choice(CLOSINGS)},
)


def _word_at(text: str, index: int) -> dict[str, str]:
    """The first (0) or last (-1) word, apart from hyphens and with them."""
    apart = WORD.findall(text) or [""]
    joined = re.findall(r"\w+(?:['’-]\w+)*", text) or [""]
    return {"word": apart[index], "hyphenated": joined[index]}


def _word_readings(word: str, text: str, index: int) -> Readings:
    found = _word_at(text, index)
    return {
        name: Reading(value, value.casefold() == word.casefold())
        for name, value in found.items()
    }


def _drop_first(params: Params, text: str) -> Iterator[str]:
    word = params["word"]
    yield upper_first(re.sub(r"^\W*\w+(?:['’]\w+)*[,:]?\s*", "", text))
    yield f"{choose(random.Random(0), FIRST_WORDS, avoid=(word.capitalize(),))} {text}"


FIRST_WORD = ConstraintType(
    name="first_word",
    family="position",
    version=1,
    stage=68,
    schema=(Word("word"),),
    wordings=(
        "Your answer should start with the word {word}.",
        "Let {word} be the first word of your answer.",
    ),
    readings=lambda params, text: _word_readings(params["word"], text, 0),
    repair=lambda params, text: f"{params['word']}, {lower_first(text)}",
    violations=_drop_first,
    draw=lambda rng, context: {"word": rng.choice(FIRST_WORDS)},
)


def _drop_last(params: Params, text: str) -> Iterator[str]:
    kept = re.sub(r"\s*\w+(?:['’]\w+)*\W*$", "", text)
    yield finish(kept) if kept else "Yes."
    yield append(text, "That is so.")
    yield append(text, "Here it is.")


LAST_WORD = ConstraintType(
    name="last_word",
    family="position",
    version=1,
    stage=62,
    schema=(Word("word"),),
    wordings=(
        "The last word of your answer should be {word}.",
        "Let {word} be the final word of your answer.",
    ),
    readings=lambda params, text: _word_readings(params["word"], text, -1),
    repair=lambda params, text: append(text, f"One last word: {params['word']}."),
    violations=_drop_last,
    draw=lambda rng, context: {"word": rng.choice(LAST_WORDS)},
)


def _label_readings(params: Params, text: str) -> Readings:
    label = f"[{params['label']}]"
    has_more = any(c.isalnum() for c in text[len(label) :])
    bare = text.lstrip(_MARKUP).casefold()
    return facts(
        {
            "exact": text.startswith(label) and has_more,
            "any_case_or_markup": bare.startswith(label.casefold()),
        }
    )


def _label_violations(params: Params, text: str) -> Iterator[str]:
    yield text[len(params["label"]) + 2 :].lstrip(" :\n-")
    yield f"{params['label']}{text[len(params['label']) + 2 :]}"


LABEL = ConstraintType(
    name="label",
    family="position",
    version=1,
    stage=72,
    schema=(Choice("label", LABELS),),
    wordings=(
        "Put the label [{label}] at the very start of your answer.",
        "Begin with the tag [{label}] in square brackets.",
    ),
    readings=_label_readings,
    repair=lambda params, text: f"[{params['label']}] {text}",
    violations=_label_violations,
    draw=lambda rng, context: {"label": rng.choice(LABELS)},
)


def _postscript_readings(params: Params, text: str) -> Readings:
    del params
    last = nonempty_lines(text)[-1].strip()
    strict = re.match(r"P\.S\.:? *\S.*\w", last)
    inline = re.search(r"(?i)(?<!\w)p\.? ?s\b", text)
    return facts({"last_line": strict is not None, "anywhere": inline is not None})


def _postscript_violations(params: Params, text: str) -> Iterator[str]:
    del params
    without = re.sub(r"(?i)(?<!\w)p\.? ?s\b[.:]* ?", "", text)
    yield "\n".join(nonempty_lines(text)[:-1])
    yield without


POSTSCRIPT = ConstraintType(
    name="postscript",
    family="position",
    version=1,
    stage=63,
    schema=(),
    wordings=(
        'At the end, add a postscript on its own line that starts with "P.S.".',
        'Finish with a postscript: a last line that starts with "P.S.".',
    ),
    readings=_postscript_readings,
    repair=lambda params, text: f"{text}\n\n{pick(POSTSCRIPTS, text)}",
    violations=_postscript_violations,
    draw=lambda rng, context: {},
)


def _sentence_start_readings(params: Params, text: str) -> Readings:
    word = params["word"].casefold()
    readings = {}
    for name, sentences in sentence_readings(text).items():
        firsts = [_word_at(MARKER.sub("", s.strip()), 0)["word"] for s in sentences]
        share = [first.casefold() == word for first in firsts]
        readings[name] = Reading(f"{sum(share)} of {len(share)}", all(share))
    return readings


def _start_sentences(params: Params, text: str) -> str:
    word = params["word"]
    edited = []
    for sentence in plain_sentences(text):
        if _word_at(sentence, 0)["word"].casefold() != word.casefold():
            sentence = f"{word}, {lower_first(sentence)}"
        edited.append(sentence)
    return " ".join(edited)


def _sentence_start_violations(params: Params, text: str) -> Iterator[str]:
    start = re.compile(rf"(?i)(?<!\w){re.escape(params['word'])},? *(?=\w)")
    matches = list(start.finditer(text))
    for match in matches[::-1]:
        yield text[: match.start()] + upper_first(text[match.end() :])
    yield append(text, "That is all.")


SENTENCE_START = ConstraintType(
    name="sentence_start",
    family="position",
    version=1,
    stage=40,
    schema=(Word("word"),),
    wordings=(
        "Start every sentence with the word {word}.",
        "Each sentence should begin with {word}.",
    ),
    readings=_sentence_start_readings,
    repair=_start_sentences,
    violations=_sentence_start_violations,
    draw=lambda rng, context: {"word": rng.choice(SENTENCE_STARTS)},
)


def _line_readings(params: Params, text: str) -> Readings:
    prefix, lines = params["prefix"], text.split("\n")
    filled = [line for line in lines if line.strip()]
    counts = {
        "with_space": sum(line.startswith(f"{prefix} ") for line in filled),
        "prefix": sum(line.lstrip().startswith(prefix) for line in filled),
    }
    return {
        name: Reading(f"{count} of {len(filled)}", count == len(filled))
        for name, count in counts.items()
    }


def _prefix_lines(params: Params, text: str) -> str:
    prefix, edited = params["prefix"], []
    for line in text.split("\n"):
        if line.strip():
            bare = MARKER.sub("", line).strip().removeprefix(prefix).strip()
            line = f"{prefix} {bare or '...'}"
        edited.append(line)
    return "\n".join(edited)


def _line_violations(params: Params, text: str) -> Iterator[str]:
    first, *rest = text.split("\n")
    yield "\n".join([first.removeprefix(params["prefix"]).strip(), *rest])


LINE_START = ConstraintType(
    name="line_start",
    family="position",
    version=1,
    stage=74,
    schema=(Choice("prefix", (">", "->", "=>", "+", "~", "#")),),
    wordings=(
        'Start every line with "{prefix} ".',
        'Each line of your answer should begin with "{prefix} ".',
    ),
    readings=_line_readings,
    repair=_prefix_lines,
    violations=_line_violations,
    draw=lambda rng, context: {"prefix": rng.choice((">", "->", "=>", "+", "~", "#"))},
)


def _request_readings(params: Params, text: str) -> Readings:
    request = params["request"]
    has_more = any(c.isalnum() for c in text[len(request) :])
    bare = _loose(text.lstrip(_MARKUP))
    return facts(
        {
            "exact": text.startswith(request) and has_more,
            "any_case_or_markup": bare.startswith(_loose(request.lstrip(_MARKUP))),
        }
    )


def _request_violations(params: Params, text: str) -> Iterator[str]:
    yield text[len(params["request"]) :].lstrip(" \n\"':")
    yield append("Here is my answer:", text)


def _draw_request(rng: random.Random, context: Context) -> Params:
    """The task, or its first sentence that can be quoted."""
    fits = _REQUEST.problem
    sentences = sentence_readings(context.topic)["lines"]
    options = [context.topic, *(sentence.strip() for sentence in sentences)]
    request = next((text for text in options if fits(text) is None), "")
    return {"request": request or rng.choice(REQUESTS)}


_REQUEST = Phrase("request", longest=300)

REPEAT_REQUEST = ConstraintType(
    name="repeat_request",
    family="position",
    version=1,
    stage=69,
    schema=(_REQUEST,),
    wordings=(
        "First repeat the request {request} word for word, then give your answer.",
        "Before you answer, copy this sentence without any change: {request} "
        "Then answer.",
    ),
    readings=_request_readings,
    repair=lambda params, text: f"{params['request']}\n\n{text}",
    violations=_request_violations,
    draw=_draw_request,
)
