# SPDX-License-Identifier: Apache-2.0
"""Which instruction types there are, and which keyword arguments each takes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from alignjax.constraints.ifeval import instructions, language


@dataclass(frozen=True)
class Kwarg:
    """One kind of value: in words, and whether a value is of it."""

    expected: str
    accepts: Callable[[Any], bool]


@dataclass(frozen=True)
class Instruction:
    """One instruction type: how it judges a text, and its keyword arguments."""

    follows: Callable[..., bool]
    kwargs: Mapping[str, Kwarg] = field(default_factory=dict)


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _is_whole(value: Any, least: int) -> bool:
    is_int = isinstance(value, int) and not isinstance(value, bool)
    return is_int and value >= least


COUNT = Kwarg("a whole number from 0", lambda value: _is_whole(value, 0))
PLACE = Kwarg("a whole number from 1", lambda value: _is_whole(value, 1))
TEXT = Kwarg("a text", _is_text)
TEXTS = Kwarg(
    "a list of texts",
    lambda value: isinstance(value, list) and value != [] and all(map(_is_text, value)),
)
CHARACTER = Kwarg("one character", lambda value: _is_text(value) and len(value) == 1)
RELATION = Kwarg(
    f'"{instructions.AT_LEAST}" or "{instructions.LESS_THAN}"',
    lambda value: value in (instructions.AT_LEAST, instructions.LESS_THAN),
)
LANGUAGE = Kwarg(
    f"one of the language codes {' '.join(sorted(language.CODES))}",
    lambda value: isinstance(value, str) and value in language.CODES,
)

INSTRUCTIONS: dict[str, Instruction] = {
    "change_case:capital_word_frequency": Instruction(
        instructions.capital_word_frequency,
        {"capital_frequency": COUNT, "capital_relation": RELATION},
    ),
    "change_case:english_capital": Instruction(instructions.english_capital),
    "change_case:english_lowercase": Instruction(instructions.english_lowercase),
    "combination:repeat_prompt": Instruction(
        instructions.repeat_prompt, {"prompt_to_repeat": TEXT}
    ),
    "combination:two_responses": Instruction(instructions.two_responses),
    "detectable_content:number_placeholders": Instruction(
        instructions.number_placeholders, {"num_placeholders": COUNT}
    ),
    "detectable_content:postscript": Instruction(
        instructions.postscript, {"postscript_marker": TEXT}
    ),
    "detectable_format:constrained_response": Instruction(
        instructions.constrained_response
    ),
    "detectable_format:json_format": Instruction(instructions.json_format),
    "detectable_format:multiple_sections": Instruction(
        instructions.multiple_sections, {"section_spliter": TEXT, "num_sections": COUNT}
    ),
    "detectable_format:number_bullet_lists": Instruction(
        instructions.number_bullet_lists, {"num_bullets": COUNT}
    ),
    "detectable_format:number_highlighted_sections": Instruction(
        instructions.number_highlighted_sections, {"num_highlights": COUNT}
    ),
    "detectable_format:title": Instruction(instructions.title),
    "keywords:existence": Instruction(
        instructions.keywords_existence, {"keywords": TEXTS}
    ),
    "keywords:forbidden_words": Instruction(
        instructions.forbidden_words, {"forbidden_words": TEXTS}
    ),
    "keywords:frequency": Instruction(
        instructions.keyword_frequency,
        {"keyword": TEXT, "frequency": COUNT, "relation": RELATION},
    ),
    "keywords:letter_frequency": Instruction(
        instructions.letter_frequency,
        {"letter": CHARACTER, "let_frequency": COUNT, "let_relation": RELATION},
    ),
    "language:response_language": Instruction(
        instructions.response_language, {"language": LANGUAGE}
    ),
    "length_constraints:nth_paragraph_first_word": Instruction(
        instructions.nth_paragraph_first_word,
        {"num_paragraphs": COUNT, "nth_paragraph": PLACE, "first_word": TEXT},
    ),
    "length_constraints:number_paragraphs": Instruction(
        instructions.number_paragraphs, {"num_paragraphs": COUNT}
    ),
    "length_constraints:number_sentences": Instruction(
        instructions.number_sentences, {"num_sentences": COUNT, "relation": RELATION}
    ),
    "length_constraints:number_words": Instruction(
        instructions.number_words, {"num_words": COUNT, "relation": RELATION}
    ),
    "punctuation:no_comma": Instruction(instructions.no_comma),
    "startend:end_checker": Instruction(instructions.end_checker, {"end_phrase": TEXT}),
    "startend:quotation": Instruction(instructions.quotation),
}
