# SPDX-License-Identifier: Apache-2.0
"""Semantic level: the same request in another form."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence

from alignjax import constraints
from alignjax.perturb.edits import Edit, edit, script
from alignjax.perturb.spans import Span

# Verbs that open an instruction, so that "Decide ..." can become "Your task is to
# decide ..." without knowing any grammar.
_IMPERATIVES = """
add analyse analyze answer ask assess calculate check choose classify compare
compose compute consider convert count create decide describe design determine
develop discuss draft draw edit estimate evaluate examine explain express extract
fill find generate give help identify imagine invent judge label list make mark name
outline pick plan predict propose provide rank rate read recommend rephrase reply
report respond review rewrite say select share show sketch solve sort state study
suggest summarise summarize take talk tell think translate use verify work write
"""
_REQUESTS = (
    "Please {}",
    "Kindly {}",
    "Your task is to {}",
    "I would like you to {}",
    "I need you to {}",
    "What I want you to do is to {}",
    "You are asked to {}",
)
_OPENING = re.compile(r"\A(?:Please |Kindly )?([A-Za-z]+)\b")


def form(sentence: str) -> str:
    """ "question", "request" (it opens with a verb that asks for something), or
    "statement"."""
    if sentence.rstrip(" \"'”’").endswith("?"):
        return "question"
    opening = _OPENING.match(sentence)
    is_request = opening and opening[1].lower() in _IMPERATIVES.split()
    return "request" if is_request else "statement"


def rewordings(
    text: str, spans: Sequence[Span], rng: random.Random, count: int
) -> list[Edit]:
    """The opening as another kind of request, and each constraint in other words.

    `count` is not read: a text that is rephrased is rephrased throughout.
    """
    del count
    found = []
    opening = _OPENING.match(text)
    if opening and opening[1].lower() in _IMPERATIVES.split():
        verb = opening[1].lower()
        forms = [form.format(verb) for form in _REQUESTS]
        others = [form for form in forms if form != opening[0]]
        end = opening.end()
        if not any(span.start < end for span in spans):
            found.append(edit("request", text, 0, end, rng.choice(others)))
    for span in spans:
        if span.kind == "constraint":
            found += _restated(text, span, rng)
    return found


def template(text: str, alternatives: Sequence[str], rng: random.Random) -> list[Edit]:
    """One of other wordings of the same instruction, as word by word edits."""
    others = [other for other in alternatives if other != text]
    return list(script("template", text, rng.choice(others))) if others else []


def _restated(text: str, span: Span, rng: random.Random) -> list[Edit]:
    """A constraint's sentence in another of its wordings, if it can be read back."""
    sentence = text[span.start : span.end]
    stated = constraints.parse(sentence)
    if len(stated) != 1:
        return []
    wordings = {constraints.render(stated[0], variant) for variant in range(16)}
    others = [
        wording
        for wording in sorted(wordings - {sentence})
        if constraints.parse(wording) == stated
    ]
    if not others:
        return []
    return [edit("constraint", text, span.start, span.end, rng.choice(others))]
