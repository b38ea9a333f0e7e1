# SPDX-License-Identifier: Apache-2.0
"""The project's own constraint types for what IFEval's instructions ask.

They read a request in several ways and abstain where those differ, and some ask for
more than IFEval does (a number of sections is exact, a postscript comes last), so that
a prompt written from them states it all. `docs/ifeval.md` has the table.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from alignjax.constraints.constraint import Constraint
from alignjax.constraints.ifeval import arguments, plain_id
from alignjax.constraints.ifeval.instructions import ANSWERS, AT_LEAST, LESS_THAN


class Take(NamedTuple):
    """The value of a keyword argument; `plus` is added to a whole number."""

    kwarg: str
    plus: int = 0


class Each(NamedTuple):
    """One constraint for each text in the list of a keyword argument."""

    kwarg: str


class Named(NamedTuple):
    """The English name of the language whose code is a keyword argument."""

    kwarg: str


@dataclass(frozen=True)
class Own:
    """One of our types, and where its parameters come from.

    Attributes:
      params: a `Take`, `Each` or `Named`, or else the value itself. A parameter that
        IFEval leaves open is not there.
      relation: the only relation that it stands for, or "" for any.
    """

    type: str
    params: Mapping[str, Any] = field(default_factory=dict)
    relation: str = ""


LANGUAGE_NAMES = {
    "ar": "Arabic",
    "bg": "Bulgarian",
    "bn": "Bengali",
    "de": "German",
    "en": "English",
    "es": "Spanish",
    "fa": "Persian",
    "fi": "Finnish",
    "fr": "French",
    "gu": "Gujarati",
    "he": "Hebrew",
    "hi": "Hindi",
    "it": "Italian",
    "ja": "Japanese",
    "kn": "Kannada",
    "ko": "Korean",
    "ml": "Malayalam",
    "mr": "Marathi",
    "ne": "Nepali",
    "pa": "Punjabi",
    "pl": "Polish",
    "pt": "Portuguese",
    "ru": "Russian",
    "sw": "Swahili",
    "ta": "Tamil",
    "te": "Telugu",
    "th": "Thai",
    "uk": "Ukrainian",
    "ur": "Urdu",
    "vi": "Vietnamese",
}
_ENGLISH = Own("language", {"language": "English"})

OWN: dict[str, tuple[Own, ...]] = {
    "change_case:capital_word_frequency": (
        Own("capital_words", {"n": Take("capital_frequency")}, AT_LEAST),
        Own("capital_words_max", {"n": Take("capital_frequency", -1)}, LESS_THAN),
    ),
    "change_case:english_capital": (Own("uppercase"), _ENGLISH),
    "change_case:english_lowercase": (Own("lowercase"), _ENGLISH),
    "combination:repeat_prompt": (
        Own("repeat_request", {"request": Take("prompt_to_repeat")}),
    ),
    "combination:two_responses": (Own("two_answers"),),
    "detectable_content:number_placeholders": (
        Own("placeholders", {"n": Take("num_placeholders")}),
    ),
    "detectable_content:postscript": (Own("postscript"),),
    "detectable_format:constrained_response": (
        Own("phrase_choice", {"phrases": ANSWERS}),
    ),
    "detectable_format:json_format": (Own("json"),),
    "detectable_format:multiple_sections": (
        Own("sections", {"n": Take("num_sections"), "marker": Take("section_spliter")}),
    ),
    "detectable_format:number_bullet_lists": (
        Own("bullets", {"n": Take("num_bullets")}),
    ),
    "detectable_format:number_highlighted_sections": (
        Own("highlights", {"n": Take("num_highlights")}),
    ),
    "detectable_format:title": (Own("title"),),
    "keywords:existence": (Own("include_word", {"word": Each("keywords")}),),
    "keywords:forbidden_words": (
        Own("forbidden_word", {"word": Each("forbidden_words")}),
    ),
    "keywords:frequency": (
        Own("word_times", {"word": Take("keyword"), "n": Take("frequency")}, AT_LEAST),
        Own(
            "word_times_max",
            {"word": Take("keyword"), "n": Take("frequency", -1)},
            LESS_THAN,
        ),
    ),
    "keywords:letter_frequency": (
        Own(
            "letter_min",
            {"letter": Take("letter"), "n": Take("let_frequency")},
            AT_LEAST,
        ),
        Own(
            "letter_max",
            {"letter": Take("letter"), "n": Take("let_frequency", -1)},
            LESS_THAN,
        ),
    ),
    "language:response_language": (Own("language", {"language": Named("language")}),),
    "length_constraints:nth_paragraph_first_word": (
        Own(
            "paragraph_start",
            {
                "n": Take("num_paragraphs"),
                "k": Take("nth_paragraph"),
                "word": Take("first_word"),
            },
        ),
    ),
    "length_constraints:number_paragraphs": (
        Own("parts", {"n": Take("num_paragraphs"), "separator": "***"}),
    ),
    "length_constraints:number_sentences": (
        Own("sentences_min", {"n": Take("num_sentences")}, AT_LEAST),
        Own("sentences_max", {"n": Take("num_sentences", -1)}, LESS_THAN),
    ),
    "length_constraints:number_words": (
        Own("words_min", {"n": Take("num_words")}, AT_LEAST),
        Own("words_max", {"n": Take("num_words", -1)}, LESS_THAN),
    ),
    "punctuation:no_comma": (Own("no_commas"),),
    "startend:end_checker": (Own("end_phrase", {"phrase": Take("end_phrase")}),),
    "startend:quotation": (Own("quoted"),),
}


def own_constraints(
    instruction_id: str, kwargs: Mapping[str, Any]
) -> tuple[Constraint, ...]:
    """Our constraints for one of IFEval's instructions.

    They need not be valid: IFEval's numbers and texts may lie outside what a type
    takes, and a parameter that it leaves open is missing; `constraints.validate` tells.

    Raises:
      ValueError: unknown id, or kwargs that do not fit.
    """
    given = arguments(instruction_id, kwargs)
    relation = next((given[name] for name in given if name.endswith("relation")), "")
    return tuple(
        Constraint(own.type, params)
        for own in OWN[plain_id(instruction_id)]
        if own.relation in ("", relation)
        for params in _params(own.params, given)
    )


def _params(
    params: Mapping[str, Any], given: Mapping[str, Any]
) -> Iterator[dict[str, Any]]:
    """Yields the parameters of one constraint, or of one for each text."""
    listed = {name: source for name, source in params.items() if type(source) is Each}
    if listed:
        ((name, source),) = listed.items()
        for value in given[source.kwarg]:
            yield {name: value}
    else:
        yield {name: _value(source, given) for name, source in params.items()}


def _value(source: Any, given: Mapping[str, Any]) -> Any:
    if isinstance(source, Take):
        value = given[source.kwarg]
        return value + source.plus if source.plus else value
    if isinstance(source, Named):
        return LANGUAGE_NAMES[given[source.kwarg]]
    return source
