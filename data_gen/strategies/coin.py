# SPDX-License-Identifier: Apache-2.0
"""CoIN: contrastive instruction tuning, Yan et al. 2024 (arXiv:2402.11138).

A couple is one instruction over two instances with different answers, each in the
original wording and in a paraphrase: the paraphrase is the positive, the other instance
under the same instruction the hard negative. The paper paraphrases by FLAN's templates;
here other levels of perturbation come beside them, and each is checked for its meaning.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from alignjax.perturb import SEMANTIC
from data_gen import paraphrase
from data_gen.couple_proof import prompt_of, prove
from data_gen.couple_settings import CoIN
from data_gen.couples import NAME, Couple, Plan, Side
from data_gen.engines import Generate, Generation, Settings
from data_gen.paraphrase import Candidate
from data_gen.records import Example, Message, digest
from data_gen.strategies import Context, Lineage, Steps, Trail, draw
from data_gen.strategies.answers import Answer, gated, trimmed
from data_gen.tasks import OPEN, TASKS, same_answer
from data_gen.tasks.recorded import Recorded

STAGES = ("couples", "reworded", "exported")


def plan(made: Plan, config: CoIN, context: Context) -> list[Lineage]:
    """One lineage per couple."""
    lineages = []
    for couple in made.couples:
        planned = len(_unanswered(couple))
        if config.maker(couple.level) == "model":
            planned += config.samples * len(_reworded(couple))
        steps = contrast(couple, made.recorded, config, context)
        lineages.append(Lineage(f"{NAME}/{couple.name}", planned, steps))
    return lineages


@dataclass(frozen=True)
class _Question:
    """What a model is asked: to put `sentence` of `original` in other words."""

    original: str
    sentence: str
    request: Generate


@dataclass(frozen=True)
class _Rewording:
    """What became of one side of a couple."""

    candidate: Candidate
    cosine: float | None
    request: Generate | None


def contrast(
    couple: Couple, found: Sequence[Recorded], config: CoIN, context: Context
) -> Steps:
    """The coroutine of one couple; see the module."""
    trail = Trail(NAME, couple.i.instance.root_id, couple.split)
    trail.count(0, "couples")
    targets = {
        side.instance.id: _target(couple, side, config, context)
        for side in _unanswered(couple)
    }
    questions: dict[str, _Question] = {}
    if config.maker(couple.level) == "model":
        questions = {
            key: _question(couple, side, config, context)
            for key, side in _reworded(couple).items()
        }
    samples: dict[str, tuple[Generation, ...]] = {}
    requests = (*targets.values(), *(item.request for item in questions.values()))
    if requests:
        received = yield requests
        samples = {
            request.key: answers
            for request, answers in zip(requests, received, strict=True)
        }

    answers: list[Answer] = []
    for side in (couple.i, couple.j):
        target = targets.get(side.instance.id)
        received = samples[target.key] if target else ()
        answer = _answer(side, target, received, context, trail)
        if answer is None:
            trail.drop(0, "target", "no_target", text=side.instance.text)
            return trail.outcome()
        answers.append(answer)
    if same_answer(answers[0].text) == same_answer(answers[1].text):
        trail.drop(0, "couple", "same_answer", text=answers[0].text)
        return trail.outcome()

    rewordings: dict[str, _Rewording] = {}
    for key, side in _reworded(couple).items():
        question = questions.get(key)
        if question is None:
            candidates = _candidates(couple, side, found, config)
        else:
            request = question.request
            named = [
                (context.generation(request, sample.sample), sample)
                for sample in samples[request.key]
            ]
            named.sort(key=lambda item: draw(couple.name, item[0]))
            candidates = paraphrase.by_model(
                question.original,
                question.sentence,
                named,
                side.labels,
                config.limits,
                TASKS[side.task].fields,
            )
        band = config.band(couple.level)
        kept = paraphrase.first(candidates, band, context.embed, trail)
        if kept is None:
            detail = f"{couple.name}: {couple.level} level, {side.source}"
            text = side.instance.text
            trail.drop(0, "couple", "no_rewording", detail=detail, text=text)
            return trail.outcome()
        rewordings[key] = _Rewording(*kept, question.request if question else None)
    trail.count(0, "reworded")
    for name, own in (("i", 0), ("j", 1)):
        side = (couple.i, couple.j)[own]
        rewording = rewordings[_key(side, couple)]
        pair = (answers[own], answers[1 - own])
        trail.examples.extend(_examples(couple, name, pair, rewording, config, context))
    return trail.outcome()


def _concerns(side: Side, couple: Couple) -> str:
    """Whether the instance is put in other words, or the instruction above it."""
    has_file = side.reworded is not None and couple.level == SEMANTIC
    return "instance" if has_file or side.task == OPEN else "wording"


def _key(side: Side, couple: Couple) -> str:
    """Sides of one key share their paraphrase."""
    is_shared = _concerns(side, couple) == "wording"
    return side.source if is_shared else side.instance.id


def _reworded(couple: Couple) -> dict[str, Side]:
    return {_key(side, couple): side for side in (couple.j, couple.i)}


def _unanswered(couple: Couple) -> list[Side]:
    return [side for side in (couple.i, couple.j) if not side.instance.answer]


def _wordings(side: Side) -> Sequence[str]:
    """What is reworded: one of the task's wordings, or an instruction of its own."""
    return [side.instance.text] if side.task == OPEN else TASKS[side.task].wordings


def _target(couple: Couple, side: Side, config: CoIN, context: Context) -> Generate:
    """The request for the model's greedy answer: the one that Self-Contrast makes."""
    settings = Settings(temperature=0.0, max_new_tokens=config.answer_tokens)
    messages = (Message("user", side.instance.text),)
    name = f"{NAME}/{couple.name}/{side.instance.id}"
    return context.ask(name, "target", messages, 1, settings)


def _answer(
    side: Side,
    target: Generate | None,
    samples: Sequence[Generation],
    context: Context,
    trail: Trail,
) -> Answer | None:
    """The answer that came with an instance, else the model's; None for none."""
    if target is None:
        return Answer(side.instance.answer, "given")
    parts = (side.instance.text,)
    found = gated(samples, target, parts, 0, context, trail)
    found = found or trimmed(samples, target, parts, context)
    return found[0] if found else None


def _question(couple: Couple, side: Side, config: CoIN, context: Context) -> _Question:
    """Couples that took the same wording share its samples: only the key is theirs."""
    key = digest([couple.name, _key(side, couple)])[:32]
    original, sentence, messages = paraphrase.question(_wordings(side), key)
    settings = Settings(
        temperature=config.temperature, max_new_tokens=config.max_new_tokens
    )
    name = f"{NAME}/{context.seed}"
    request = context.ask(name, sentence, messages, config.samples, settings)
    return _Question(original, sentence, dataclasses.replace(request, key=key))


def _candidates(
    couple: Couple, side: Side, found: Sequence[Recorded], config: CoIN
) -> Iterator[Candidate]:
    """Of the instance's own paraphrase, of a file, or by rules."""
    name = f"{couple.name}/{_key(side, couple)}"
    labels, limits = side.labels, config.limits
    if side.reworded is not None and couple.level == SEMANTIC:
        return paraphrase.by_instance(side.instance, side.reworded, labels, limits)
    if config.maker(couple.level) == "file":
        known = [
            item
            for item in found
            if side.task != OPEN or item.original == side.instance.text
        ]
        return paraphrase.by_file(known, side.task, couple.level, name, labels, limits)
    return paraphrase.by_rules(_wordings(side), couple.level, name, labels, limits)


def _examples(
    couple: Couple,
    name: str,
    answers: tuple[Answer, Answer],
    rewording: _Rewording,
    config: CoIN,
    context: Context,
) -> Iterator[Example]:
    """One instance in its original wording and in the paraphrase; the answers are its
    own and its partner's."""
    side, other = (couple.i, couple.j) if name == "i" else (couple.j, couple.i)
    candidate, own = rewording.candidate, side.instance
    concerns, reworded = _concerns(side, couple), None
    wordings = (candidate.original, candidate.text)
    if concerns == "instance":
        wording = _wording(couple, side)
        wordings = (wording, wording)
        reworded = {"request": candidate.text}
        if side.task != OPEN:
            assert side.reworded is not None
            reworded = side.reworded.fields
    proof = prove(
        level=couple.level,
        maker=config.maker(couple.level),
        concerns=concerns,
        task=side.task,
        labels=side.labels,
        wordings=wordings,
        fields=own.fields,
        reworded=reworded,
        edits=candidate.edits,
        limits=config.limits,
        cosine=rewording.cosine,
        band=config.band(couple.level),
        embedder=context.embed.fingerprint if context.embed else "",
        instance=own.id,
        partner=other.instance.id,
        answers=(answers[0].text, answers[1].text),
    )
    provenance: dict[str, Any] = {"task": own.text, "source": side.source}
    if rewording.request is not None:
        provenance = {**context.provenance(rewording.request, own.text), **provenance}
        provenance["generation"] = candidate.generation
        provenance["sentences"] = list(candidate.sentences)
    for wording in ("original", "paraphrase"):
        role = f"{wording}_{name}"
        # What was sampled for the original is not the paraphrase's own sample.
        answer = (
            answers[0] if wording == "original" else Answer(answers[0].text, "given")
        )
        yield Example(
            strategy=NAME,
            root_id=own.root_id,
            parent_id=own.id,
            round=0,
            split=couple.split,
            prompt=(Message("user", prompt_of(proof, role)),),
            chosen=answer.response(),
            negatives=(),
            proof=proof,
            provenance=provenance,
            couple=couple.name,
            role=role,
        )


def _wording(couple: Couple, side: Side) -> str:
    """The wording of a couple whose instances are reworded: the same for both."""
    wordings = TASKS[side.task].wordings
    return wordings[draw(couple.name, "wording", side.source) % len(wordings)]
