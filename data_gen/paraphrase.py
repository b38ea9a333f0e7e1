# SPDX-License-Identifier: Apache-2.0
"""Paraphrasers: who rewords an instruction, and what comes of it.

Rules, a model or a file may have written a paraphrase; all are held to the same checks
(`alignjax.perturb.flaw`, and the embedder's similarity).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from alignjax import perturb
from alignjax.perturb import Edit, Limits
from data_gen import filters
from data_gen.embed import Embedder, cosines
from data_gen.engines import Generation
from data_gen.records import Message
from data_gen.strategies import Trail, draw
from data_gen.tasks import Instance, same_answer
from data_gen.tasks.recorded import Recorded

# A small model says what it is shown; these are about nothing that a task is about.
_SHOWN = (
    ("Pick the word that fits into the gap.", "Choose which word belongs in the gap."),
    (
        "Is the second line a reply to the first?",
        "Does the second line answer the first one?",
    ),
    (
        "You are a judge at a flower show and hand out the prizes.",
        "You give the prizes at a flower show, where you are the judge.",
    ),
    (
        "Sort what follows by {colour}, from dark to light.",
        "Put what follows in order of {colour}, beginning with the darkest.",
    ),
)
_ASK = "Say this in other words: {}"
_SENTENCE = re.compile(r"[^\n.?!]+[.?!:]*")
_LEAST_WORDS = 4
_TRIES = 3


class Candidate(NamedTuple):
    """An instruction and a rewording of it; `problem` is why it cannot be one.

    Where a model reworded one sentence, `sentences` are that one and its answer, and
    `generation` names the sample that it is.
    """

    original: str
    text: str
    edits: tuple[Edit, ...]
    problem: str | None = None
    sentences: tuple[str, ...] = ()
    generation: str = ""

    @property
    def compared(self) -> tuple[str, str]:
        """The two texts whose similarity counts: a sentence that changed is not to
        hide among others that did not."""
        before, after = self.sentences or (self.original, self.text)
        return before, after


def by_rules(
    wordings: Sequence[str],
    level: str,
    name: str,
    labels: Sequence[str],
    limits: Limits,
) -> Iterator[Candidate]:
    """Rewordings by rules, of one wording after the other in an order that follows from
    the name; at the semantic level, of each into another."""
    for wording in _order(wordings, name):
        alternatives = [other for other in wordings if other != wording]
        for draw_number in range(_TRIES):
            made = perturb.perturb(
                wording,
                level,
                name=f"{name}/{draw_number}",
                labels=labels,
                alternatives=alternatives,
                limits=limits,
            )
            if made is not None:
                yield Candidate(wording, made.text, made.edits)


def by_file(
    found: Sequence[Recorded],
    task: str,
    level: str,
    name: str,
    labels: Sequence[str],
    limits: Limits,
) -> Iterator[Candidate]:
    """What a file has recorded for a task and a level, in an order that follows from
    the name. An instruction must say which answers there are."""
    own = [item for item in found if (item.task, item.level) == (task, level)]
    for item in sorted(
        own, key=lambda item: draw(name, item.original, item.paraphrase)
    ):
        edits = perturb.script("recorded", item.original, item.paraphrase)
        problem = "options"
        if _offers(item.original, labels):
            problem = perturb.flaw(
                item.original,
                item.paraphrase,
                edits,
                level,
                labels=labels,
                limits=limits,
            )
        yield Candidate(item.original, item.paraphrase, edits, problem)


def question(
    wordings: Sequence[str], name: str
) -> tuple[str, str, tuple[Message, ...]]:
    """A wording, the sentence of it that a model is to reword, and the request.

    The first wording, in an order that follows from the name, that has a sentence
    without slots; its longest such sentence. Where there is none, a whole wording.
    """
    ordered = _order(wordings, name)
    for wording in ordered:
        sentences = [match[0].strip() for match in _SENTENCE.finditer(wording)]
        plain = [sentence for sentence in sentences if "{" not in sentence]
        asked = max(plain, key=len, default="")
        if len(asked.split()) >= _LEAST_WORDS:
            break
    else:
        wording = asked = ordered[0]
    shown = [
        Message(role, text)
        for before, after in _SHOWN
        for role, text in (("user", _ASK.format(before)), ("assistant", after))
    ]
    return wording, asked, (*shown, Message("user", _ASK.format(asked)))


def by_model(
    wording: str,
    asked: str,
    samples: Sequence[tuple[str, Generation]],
    labels: Sequence[str],
    limits: Limits,
    terms: Sequence[str] = (),
) -> Iterator[Candidate]:
    """What a model made of `asked`, put in its place.

    Args:
      wording, asked: from `question`.
      samples: (name, sample) of each answer.
      terms: names of the parts of an instance; where both are named, as in "how does
        the hypothesis relate to the premise", their order is part of the question.
    """
    for generation, sample in samples:
        answer = sample.text.strip().strip('"“”').strip()
        problem = filters.unfinished(sample.finish_reason) or filters.empty(answer)
        problem = problem or filters.template_leak(answer) or filters.refusal(answer)
        if problem is None and "\n" in answer and "\n" not in asked:
            problem = "several_lines"
        if problem is None and not _same_form(asked, answer):
            problem = "form"
        if problem is None and _mentions(asked, terms) != _mentions(answer, terms):
            problem = "order"
        text = wording.replace(asked, answer, 1)
        edits = perturb.script("model", wording, text)
        problem = problem or perturb.flaw(
            wording, text, edits, "semantic", labels=labels, limits=limits
        )
        yield Candidate(wording, text, edits, problem, (asked, answer), generation)


def by_instance(
    own: Instance, other: Instance, labels: Sequence[str], limits: Limits
) -> Iterator[Candidate]:
    """An instance as a file words it; its answer must be the same."""
    edits = perturb.script("recorded", own.text, other.text)
    problem = None
    if not all(other.fields.values()):
        problem = "empty"
    elif same_answer(own.answer) != same_answer(other.answer):
        problem = "answer"
    else:
        problem = perturb.flaw(
            own.text, other.text, edits, "semantic", labels=labels, limits=limits
        )
    yield Candidate(own.text, other.text, edits, problem)


def first(
    candidates: Iterator[Candidate],
    band: tuple[float, float],
    embed: Embedder | None,
    trail: Trail,
) -> tuple[Candidate, float | None] | None:
    """The first candidate without a problem whose cosine to its original is in the
    band, and that cosine; the ones before it go on the trail."""
    for candidate in candidates:
        cosine = None
        problem, detail = candidate.problem, candidate.original
        if problem is None and embed is not None:
            before, after = candidate.compared
            (cosine,) = cosines(embed, before, [after])
            if not band[0] <= cosine <= band[1]:
                problem = "dissimilar" if cosine < band[0] else "too_similar"
                detail = f"cosine {cosine:g}"
        if problem is None:
            return candidate, cosine
        trail.drop(
            0,
            "paraphrase",
            problem,
            detail=detail,
            text=candidate.text,
            generation=candidate.generation,
        )
    return None


def _offers(wording: str, labels: Sequence[str]) -> bool:
    """The wording has a slot for the answers, or names each of them."""
    return "{options}" in wording or set(perturb.named(wording, labels)) == set(labels)


def _mentions(text: str, terms: Sequence[str]) -> list[str]:
    """The terms as a text names them, one after the other."""
    return [word for word in re.findall(r"\w+", text.casefold()) if word in terms]


def _same_form(asked: str, answer: str) -> bool:
    """A question or a request stays one of the two, a statement a statement: what
    answers a question, or goes on after it, is no rewording of it."""
    forms = [perturb.form(text) for text in (asked, answer)]
    return forms[0] == forms[1] or "statement" not in forms


def _order(wordings: Sequence[str], name: str) -> list[str]:
    return sorted(wordings, key=lambda wording: draw(name, wording))
