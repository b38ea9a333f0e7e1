# SPDX-License-Identifier: Apache-2.0
"""Answers: samples with their verdicts, and which of them become negatives."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from alignjax import constraints
from alignjax.constraints import Constraint, Verdict
from data_gen import filters
from data_gen.embed import cosines
from data_gen.engines import Generate, Generation
from data_gen.records import Negative, Response
from data_gen.strategies import Context, Trail

_SENTENCE_END = re.compile(r"[.!?][\"')\]]*(?=\s|$)")


@dataclass(frozen=True)
class Answer:
    """A candidate with its verdicts on the constraints of its round."""

    text: str
    kind: str  # "sample" | "witness"
    token_ids: tuple[int, ...] = ()
    generation: str = ""
    sum_logprob: float | None = None
    verdicts: tuple[Verdict, ...] = ()

    @property
    def passes(self) -> bool:
        """Meets every constraint."""
        return all(verdict is Verdict.PASS for verdict in self.verdicts)

    @property
    def violates(self) -> bool:
        """Fails one constraint at least, and no verdict is in doubt."""
        return Verdict.FAIL in self.verdicts and Verdict.AMBIGUOUS not in self.verdicts

    @property
    def hardness(self) -> float:
        """Share of the constraints that it meets, in [0, 1]."""
        passed = sum(verdict is Verdict.PASS for verdict in self.verdicts)
        return passed / max(len(self.verdicts), 1)

    def response(self) -> Response:
        """As the preferred answer of an example."""
        return Response(
            text=self.text,
            kind=self.kind,
            token_ids=self.token_ids,
            generation=self.generation,
            sum_logprob=self.sum_logprob,
        )

    def negative(self, kind: str, rank: int, cosine: float | None = None) -> Negative:
        """As a negative of an example."""
        return Negative(
            text=self.text,
            kind=kind,
            rank=rank,
            token_ids=self.token_ids,
            generation=self.generation,
            cosine=cosine,
            sum_logprob=self.sum_logprob,
        )


def judged(answer: Answer, asked: Sequence[Constraint]) -> Answer:
    """The answer with its verdicts on these constraints."""
    verdicts = tuple(constraints.check_all(asked, answer.text))
    return replace(answer, verdicts=verdicts)


def gated(
    samples: Sequence[Generation],
    request: Generate,
    parts: Sequence[str],
    round_number: int,
    context: Context,
    trail: Trail,
) -> list[Answer]:
    """The samples that are answers at all, in order; the others go on the trail."""
    kept = []
    for sample in samples:
        name = context.generation(request, sample.sample)
        reason = filters.answer(sample.text, sample.finish_reason, parts, context.gates)
        if reason is not None:
            trail.drop(
                round_number, "answer", reason, text=sample.text, generation=name
            )
            continue
        logprob = sample.sum_logprob
        kept.append(Answer(sample.text, "sample", sample.token_ids, name, logprob))
    return kept


def trimmed(
    samples: Sequence[Generation],
    request: Generate,
    parts: Sequence[str],
    context: Context,
) -> list[Answer]:
    """Samples that ran into the token limit, cut back to their last whole sentence.

    For answers to bare tasks, where nothing depends on how the text ends. The ids that
    were sampled are left out, since the text is no longer theirs.
    """
    kept = []
    for sample in samples:
        ends = list(_SENTENCE_END.finditer(sample.text))
        if sample.finish_reason != "length" or not ends:
            continue
        text = sample.text[: ends[-1].end()]
        if filters.answer(text, "stop", parts, context.gates) is None:
            name = context.generation(request, sample.sample)
            kept.append(Answer(text, "sample", generation=name))
    return kept


def on_topic(
    reference: Answer,
    answers: Sequence[Answer],
    round_number: int,
    context: Context,
    trail: Trail,
) -> list[Answer]:
    """The answers about the same thing as `reference`; all where nothing embeds."""
    if context.embed is None:
        return list(answers)
    similarities = cosines(context.embed, reference.text, [a.text for a in answers])
    kept = []
    for answer, similarity in zip(answers, similarities, strict=True):
        reason = filters.off_topic(similarity, context.gates.min_similarity)
        if reason is None:
            kept.append(answer)
            continue
        trail.drop(
            round_number,
            "answer",
            reason,
            text=answer.text,
            generation=answer.generation,
            detail=f"cosine {similarity:g}",
        )
    return kept


def graded_negatives(
    parent: Answer,
    older: Sequence[Answer],
    own: Sequence[Answer],
    chosen: Answer,
    asked: Sequence[Constraint],
) -> list[tuple[str, Answer]]:
    """(kind, answer): the parent's, then older ones and failing samples, hardest first.

    A shorter list of negatives is the beginning of a longer one.
    """
    candidates = [("parent", judged(answer, asked)) for answer in reversed(older)]
    candidates += [("sample", answer) for answer in own]
    candidates.sort(key=lambda candidate: -candidate[1].hardness)
    negatives = [("parent", judged(parent, asked))]
    seen = {chosen.text.strip(), parent.text.strip()}
    for kind, answer in candidates:
        if answer.violates and answer.text.strip() not in seen:
            seen.add(answer.text.strip())
            negatives.append((kind, answer))
    return negatives
