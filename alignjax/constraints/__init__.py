# SPDX-License-Identifier: Apache-2.0
"""Verifiable constraints: what was asked, as data, with its own proof of compliance.

A constraint is written into an instruction (`render`), read back from it (`parse`),
checked on an answer without a model (`check`), met by editing an answer (`witness`,
`compose`), violated by a small edit (`mutate`, `violate`), drawn at random (`sample`)
and drawn so that a given answer fails (`propose`). Nothing here is random unless a
generator is passed, and nothing needs a network or a model.
"""

from __future__ import annotations

import functools
import hashlib
import inspect
import random
import sys
from collections.abc import Iterable, Sequence
from importlib.metadata import version
from typing import Any

from alignjax.constraints import (
    case,
    composition,
    computed,
    constraint,
    formats,
    keywords,
    language,
    length,
    letters,
    lists,
    lookup,
    marks,
    markup,
    notation,
    params,
    position,
    punctuation,
    sections,
    shape,
    stated,
    structure,
    text,
    wordchoice,
    wrap,
)
from alignjax.constraints.composition import Bound
from alignjax.constraints.constraint import (
    Constraint,
    ConstraintType,
    Context,
    Judgement,
    Reading,
    Verdict,
)

__all__ = [
    "TYPES",
    "Constraint",
    "ConstraintType",
    "Verdict",
    "check",
    "check_all",
    "compose",
    "fingerprint",
    "measure",
    "mutate",
    "parse",
    "propose",
    "render",
    "sample",
    "validate",
    "violate",
    "witness",
]

TYPES: dict[str, ConstraintType] = {
    "lowercase": case.LOWERCASE,
    "uppercase": case.UPPERCASE,
    "capital_words": case.CAPITAL_WORDS,
    "capital_words_max": case.CAPITAL_WORDS_MAX,
    "title_case": case.TITLE_CASE,
    "words_max": length.WORDS_MAX,
    "words_min": length.WORDS_MIN,
    "sentences_exact": length.SENTENCES_EXACT,
    "sentences_max": length.SENTENCES_MAX,
    "sentences_min": length.SENTENCES_MIN,
    "sentence_words_max": length.SENTENCE_WORDS_MAX,
    "single_line": length.SINGLE_LINE,
    "lines_exact": length.LINES_EXACT,
    "include_word": keywords.INCLUDE_WORD,
    "word_times": keywords.WORD_TIMES,
    "include_words": keywords.INCLUDE_WORDS,
    "include_phrase": keywords.INCLUDE_PHRASE,
    "forbidden_word": keywords.FORBIDDEN_WORD,
    "forbidden_letter": keywords.FORBIDDEN_LETTER,
    "word_times_max": wordchoice.WORD_TIMES_MAX,
    "forbidden_words": wordchoice.FORBIDDEN_WORDS,
    "word_order": wordchoice.WORD_ORDER,
    "phrase_choice": wordchoice.PHRASE_CHOICE,
    "letter_min": letters.LETTER_MIN,
    "letter_max": letters.LETTER_MAX,
    "no_commas": punctuation.NO_COMMAS,
    "no_digits": punctuation.NO_DIGITS,
    "numbers_min": punctuation.NUMBERS_MIN,
    "exclamations_min": punctuation.EXCLAMATIONS_MIN,
    "exclamations_max": punctuation.EXCLAMATIONS_MAX,
    "questions_min": punctuation.QUESTIONS_MIN,
    "end_question": punctuation.END_QUESTION,
    "semicolons_min": marks.SEMICOLONS_MIN,
    "no_contractions": marks.NO_CONTRACTIONS,
    "emoji_min": marks.EMOJI_MIN,
    "start_phrase": position.START_PHRASE,
    "end_phrase": position.END_PHRASE,
    "first_word": position.FIRST_WORD,
    "last_word": position.LAST_WORD,
    "label": position.LABEL,
    "postscript": position.POSTSCRIPT,
    "sentence_start": position.SENTENCE_START,
    "line_start": position.LINE_START,
    "repeat_request": position.REPEAT_REQUEST,
    "bullets": structure.BULLETS,
    "numbered": structure.NUMBERED,
    "parts": structure.PARTS,
    "paragraphs": structure.PARAGRAPHS,
    "sections": sections.SECTIONS,
    "two_answers": sections.TWO_ANSWERS,
    "paragraph_start": sections.PARAGRAPH_START,
    "paragraph_sentences": sections.PARAGRAPH_SENTENCES,
    "checklist": lists.CHECKLIST,
    "lettered": lists.LETTERED,
    "bullets_sorted": lists.BULLETS_SORTED,
    "acrostic": lists.ACROSTIC,
    "highlights": markup.HIGHLIGHTS,
    "placeholders": markup.PLACEHOLDER,
    "hashtags": markup.HASHTAGS,
    "title": markup.TITLE,
    "bold_title": markup.BOLD_TITLE,
    "heading": markup.HEADING,
    "subheadings": markup.SUBHEADINGS,
    "quoted": wrap.QUOTED,
    "parentheses": wrap.PARENTHESES,
    "tag": wrap.TAG,
    "code_block": wrap.CODE_BLOCK,
    "json": shape.JSON,
    "table": shape.TABLE,
    "table_size": shape.TABLE_SIZE,
    "comma_list": shape.COMMA_LIST,
    "json_schema": formats.JSON_SCHEMA,
    "json_array": formats.JSON_ARRAY,
    "csv": formats.CSV,
    "code": formats.CODE,
    "arithmetic": computed.ARITHMETIC,
    "purchase": computed.PURCHASE,
    "sort_numbers": computed.SORT_NUMBERS,
    "count_letters": computed.COUNT_LETTERS,
    "weekday": computed.WEEKDAY,
    "end_time": computed.END_TIME,
    "table_value": lookup.TABLE_VALUE,
    "table_total": lookup.TABLE_TOTAL,
    "table_rows": lookup.TABLE_ROWS,
    "table_extreme": lookup.TABLE_EXTREME,
    "language": language.LANGUAGE,
}

# What a family's readings need besides the modules that all of them need.
HELPERS = {
    "wordchoice": (keywords,),
    "formats": (notation,),
    "computed": (notation, stated),
    "lookup": (notation, stated),
}
_DRAWS = 6


def validate(constraint: Constraint) -> None:
    """Raises ValueError if the type is unknown or a parameter does not fit."""
    _type(constraint.type).validate(constraint.params)


def check(constraint: Constraint, text: str) -> Verdict:
    """Whether `text` meets the constraint; an empty text fails.

    What cannot be judged (unknown type, invalid parameters, an error in a verifier)
    is AMBIGUOUS, never PASS; `measure` tells why.
    """
    return _judge(constraint, text).verdict


def check_all(constraints: Sequence[Constraint], text: str) -> list[Verdict]:
    """The verdict on each constraint, in order."""
    return [check(constraint, text) for constraint in constraints]


def measure(constraint: Constraint, text: str) -> dict[str, dict[str, Any]]:
    """The readings that the verdict came from, JSON-able.

    Returns:
      `{reading: {"value": int | str, "passes": bool}}`; a text that could not be
      judged has the one reading "error", whose value is the message.
    """
    readings = _judge(constraint, text).readings
    return {
        name: {"value": value, "passes": passes}
        for name, (value, passes) in readings.items()
    }


def render(constraint: Constraint, variant: int = 0) -> str:
    """One imperative sentence; `variant` counts modulo the number of wordings."""
    return _type(constraint.type).render(constraint.params, variant)


def parse(text: str) -> tuple[Constraint, ...]:
    """The constraints whose rendered sentences stand in `text`, in order.

    Inverts `render` for every wording. Where two wordings overlap, the one that
    starts first counts, then the longer one.
    """
    found = [
        (start, -end, Constraint(name, values))
        for name, kind in TYPES.items()
        for start, end, values in kind.find(text)
    ]
    kept: list[Constraint] = []
    free_from = 0
    for start, minus_end, item in sorted(found, key=lambda hit: hit[:2]):
        if start >= free_from:
            kept.append(item)
            free_from = -minus_end
    return tuple(kept)


def witness(constraint: Constraint, text: str) -> str:
    """`text` if it passes, else an edit of it that should, on the same content.

    Applying it again changes nothing. Repairs know their limits: call `check`, or
    `compose`, where the result must be certain.
    """
    return _type(constraint.type).witness(constraint.params, text)


def mutate(constraint: Constraint, text: str) -> str:
    """A small edit of a passing text so that it fails; else ValueError."""
    mutant = violate(constraint, text)
    if mutant is None:
        raise ValueError(f"found no edit that violates {constraint} in {text!r}")
    return mutant


def violate(
    constraint: Constraint, text: str, keep: Sequence[Constraint] = ()
) -> str | None:
    """A small edit that fails `constraint` but passes all of `keep`, or None.

    Raises:
      ValueError: `text` does not pass `constraint`.
    """
    if check(constraint, text) is not Verdict.PASS:
        raise ValueError(
            f"expected a text that passes {constraint}, got {text!r}: repair it with "
            "witness() first"
        )
    return composition.break_one(_bind(constraint), text, [_bind(c) for c in keep])


def compose(
    constraints: Sequence[Constraint], text: str, *, keep_content: bool = False
) -> str | None:
    """An edit of `text` that passes all constraints, or None if none was found.

    Without `keep_content` it proves no more than that they can be met together: for a
    language, `text` may give way to another text.
    """
    bound = [_bind(constraint) for constraint in constraints]
    return composition.satisfy(bound, text, keep_content=keep_content)


def sample(type: str, rng: random.Random, *, topic: str = "") -> Constraint:
    """A constraint with plausible parameters; keywords may come from `topic`."""
    context = Context(topic=text.normalise(topic))
    return Constraint(type, _type(type).draw(rng, context))


def propose(
    rng: random.Random,
    answer: str,
    existing: Sequence[Constraint],
    types: Iterable[str],
    *,
    topic: str = "",
) -> Constraint | None:
    """A constraint that `answer` fails and that can be met together with `existing`.

    Args:
      rng: decides the type and the parameters.
      answer: the counterexample.
      existing: constraints already asked; their types are not used again.
      types: names to choose from, each with the same chance.
      topic: the task's text, from which keywords may come.

    Returns:
      The constraint, or None if no type gives one or the answer is empty.
    """
    answer, topic = text.normalise(answer), text.normalise(topic)
    if not answer:
        return None
    taken = {constraint.type for constraint in existing}
    names = [name for name in types if name not in taken]
    rng.shuffle(names)
    for name in names:
        kind = _type(name)
        tried: set[Constraint] = set()
        for _ in range(_DRAWS):
            drawn = Constraint(name, kind.draw(rng, Context(answer, topic)))
            if drawn in tried:
                continue
            tried.add(drawn)
            if check(drawn, answer) is not Verdict.FAIL:
                continue
            if compose([*existing, drawn], answer) is not None:
                return drawn
    return None


@functools.cache
def fingerprint(type: str) -> str:
    """`name/version:hash`, the hash of the source that decides the verdict, and of the
    version of the package that helps to."""
    kind = _type(type)
    family = sys.modules[f"{__name__}.{kind.family}"]
    digest = hashlib.sha256()
    helpers = HELPERS.get(kind.family, ())
    for module in (family, text, constraint, params, *helpers):
        digest.update(inspect.getsource(module).encode())
    if kind.package:
        digest.update(f"{kind.package}=={version(kind.package)}".encode())
    return f"{kind.name}/{kind.version}:{digest.hexdigest()[:16]}"


def _type(name: str) -> ConstraintType:
    if name not in TYPES:
        raise ValueError(
            f"unknown constraint type {name!r}; expected one of {', '.join(TYPES)}"
        )
    return TYPES[name]


def _bind(item: Constraint) -> Bound:
    kind = _type(item.type)
    kind.validate(item.params)
    return Bound(kind, item.params)


def _judge(item: Constraint, answer: str) -> Judgement:
    try:
        return _type(item.type).judge(item.params, answer)
    except Exception as error:  # noqa: BLE001  a broken verifier decides no label
        message = f"{type(error).__name__}: {error}"
        return Judgement(Verdict.AMBIGUOUS, {"error": Reading(message, False)})
