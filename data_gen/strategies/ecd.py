# SPDX-License-Identifier: Apache-2.0
"""ECD: Evolutionary Contrastive Distillation (arXiv:2410.07513), made provable.

An instruction evolves one constraint at a time. The constraint of a round is chosen
by counterexample: the answer of the round before fails it, and a composed text shows
that it can be met together with the older ones. The new answer passes all of them and
is preferred; the old one passes all but the newest and is the hard negative. The paper
lets a language model write the constraints and checks neither answer.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from alignjax import constraints
from alignjax.constraints import Constraint, Verdict
from data_gen import demonstrations, filters
from data_gen.demonstrations import STOCK
from data_gen.engines import Generate, Settings
from data_gen.prompts import instruct, known_types
from data_gen.proof import prove
from data_gen.records import Example, Message, Rejected
from data_gen.seeds import Seed
from data_gen.strategies import Context, Lineage, Steps, Trail, draw
from data_gen.strategies.answers import (
    Answer,
    gated,
    graded_negatives,
    judged,
    on_topic,
    trimmed,
)

NAME = "ecd"
_WAVE = 2  # samples asked for at once
STAGES = ("tasks", "answered", "constrained", "sampled", "witness", "pairs", "exported")


@dataclass(frozen=True)
class ECD:
    """How instructions evolve.

    Args:
      types: constraint types; () takes all.
      prompts: training tasks to use; 0 takes all.
      rounds: constraints that are added, one a round.
      samples: at most so many answers to each evolved instruction, of which the first
        that passes is preferred; two are asked for at a time.
      later_samples: the same in the rounds after the first, where instructions with
        several constraints are rarely met; 0 means `samples`.
      demonstrations: worked examples shown while these are sampled, 0 to 6; they are
        no part of the example's prompt.
      greedy_first: the first of them is greedy: the likeliest answer, and for small
        models the best one.
      temperature, top_p: of the others.
      max_new_tokens: of every answer; an answer to an evolved instruction that gets
        there is dropped.
      base_samples: answers to the bare task; the first that passes the gates counts,
        else the first that does when cut back to its last whole sentence.
      base_temperature: of these; 0 is greedy.
      max_negatives: at most so many per example, the hardest first.
      max_witness_share: at most this share of the pairs of a split may have an edited
        answer as the preferred one, in [0, 1].
      held_out: tasks of validation, and again of test, that get pairs as well.
    """

    types: tuple[str, ...] = ()
    prompts: int = 0
    rounds: int = 2
    samples: int = 4
    later_samples: int = 0
    demonstrations: int = 0
    greedy_first: bool = True
    temperature: float = 0.7
    top_p: float = 1.0
    max_new_tokens: int = 128
    base_samples: int = 1
    base_temperature: float = 0.0
    max_negatives: int = 3
    max_witness_share: float = 0.5
    held_out: int = 0

    def __post_init__(self) -> None:
        known_types(self.types)
        least = {"rounds": 1, "samples": 1, "base_samples": 1, "max_negatives": 1}
        least |= {"max_new_tokens": 1, "later_samples": 0, "prompts": 0, "held_out": 0}
        for name, low in least.items():
            if asdict(self)[name] < low:
                raise ValueError(
                    f"{name} must be at least {low}, got {asdict(self)[name]}"
                )
        if self.base_temperature == 0 and self.base_samples > 1:
            raise ValueError(
                "base_temperature 0 gives the same answer every time; set base_samples "
                "to 1, or base_temperature above 0"
            )
        if self.temperature == 0 and self.samples > 1:
            raise ValueError(
                "temperature 0 gives the same answer every time; set samples to 1, or "
                "temperature above 0"
            )
        if not 0 <= self.demonstrations <= len(STOCK):
            raise ValueError(
                f"demonstrations must be in [0, {len(STOCK)}], got "
                f"{self.demonstrations}"
            )
        if not 0 <= self.max_witness_share <= 1:
            raise ValueError(
                f"max_witness_share must be in [0, 1], got {self.max_witness_share}"
            )


def plan(
    tasks: Sequence[tuple[Seed, str]], config: ECD, context: Context
) -> list[Lineage]:
    """One lineage per (task, split)."""
    later = (config.rounds - 1) * (config.later_samples or config.samples)
    planned = config.base_samples + config.samples + later
    return [
        Lineage(f"{NAME}/{task.id}", planned, evolve(task, split, config, context))
        for task, split in tasks
    ]


def refuses(task: Seed) -> str | None:
    """Why instructions cannot evolve from a task, or None.

    Constraints are added to an instruction that stands alone: an answer in the middle
    of a conversation is not checked by what its last turn asks for.
    """
    return "multi_turn" if task.history else None


def type_order(root_id: str, types: Sequence[str], seed: int) -> list[str]:
    """The types in the order in which this lineage tries them.

    A permutation drawn by hash: over many lineages every type comes first equally
    often, in every round.
    """
    return sorted(types, key=lambda name: draw(seed, NAME, root_id, name))


def evolve(task: Seed, split: str, config: ECD, context: Context) -> Steps:
    """The coroutine of one task; see the module."""
    trail = Trail(NAME, task.id, split)
    name = f"{NAME}/{context.seed}/{task.id}"
    trail.count(0, "tasks")
    if (reason := refuses(task)) is not None:
        detail = f"{len(task.history)} turns before the instruction"
        trail.drop(0, "plan", reason, text=task.whole, detail=detail)
        return trail.outcome()
    settings = Settings(
        temperature=config.base_temperature, max_new_tokens=config.max_new_tokens
    )
    messages = (Message("user", task.text),)
    request = context.ask(name, "0", messages, config.base_samples, settings)
    (samples,) = yield (request,)
    answers = gated(samples, request, (task.text,), 0, context, trail)
    answers = answers or trimmed(samples, request, (task.text,), context)
    if not answers:
        return trail.outcome()
    trail.count(0, "answered")

    order = type_order(task.id, known_types(config.types), context.seed)
    parent, parent_id = answers[0], task.id
    older: list[Answer] = []
    asked: list[Constraint] = []
    for number in range(1, config.rounds + 1):
        quota = next((t for t in order if t not in {c.type for c in asked}), "")
        found = _counterexample(parent.text, asked, order, task, f"{name}/{number}")
        if found is None:
            trail.drop(number, "constraint", "no_counterexample", text=parent.text)
            break
        asked.append(found)
        instruction = instruct(task.text, asked, name)
        if instruction is None:
            detail = constraints.render(found)
            trail.drop(number, "constraint", "unreadable_wording", detail=detail)
            break
        trail.count(number, "constrained")
        messages = (Message("user", instruction.text),)
        step = f"{name}/{number}"
        shown = demonstrations.turns(asked, count=config.demonstrations, name=step)
        parts = instruction.parts + demonstrations.sentences(shown)
        own: list[Answer] = []
        asked_for = 0
        for request in _requests(step, shown + messages, number, config, context):
            asked_for += request.n
            (samples,) = yield (request,)
            answers = gated(samples, request, parts, number, context, trail)
            answers = on_topic(parent, answers, number, context, trail)
            own += [judged(answer, asked) for answer in answers]
            if any(answer.passes for answer in own):
                break
        _note_failures(own, asked, number, trail)
        chosen = next((answer for answer in own if answer.passes), None)
        if chosen is not None:
            trail.count(number, "sampled")
        else:
            sources = [parent, *sorted(own, key=lambda answer: -answer.hardness)]
            chosen = _witness(sources, asked, instruction.parts, number, context, trail)
            if chosen is None:
                trail.drop(number, "pair", "nothing_passes", text=parent.text)
                break
            trail.count(number, "witness")
        negatives = graded_negatives(parent, older, own, chosen, asked)
        negatives = negatives[: config.max_negatives]
        example = Example(
            strategy=NAME,
            root_id=task.id,
            parent_id=parent_id,
            round=number,
            split=split,
            prompt=messages,
            chosen=chosen.response(),
            negatives=tuple(
                negative.negative(kind, rank)
                for rank, (kind, negative) in enumerate(negatives)
            ),
            constraints=tuple(constraint.to_json() for constraint in asked),
            proof=prove(asked, chosen.text, [n.text for _, n in negatives]),
            provenance={
                **context.provenance(request, task.text),
                "samples": asked_for,
                "demonstrations": len(shown) // 2,
                "greedy_first": config.greedy_first,
                "quota": quota,
                "passing_samples": sum(answer.passes for answer in own),
            },
        )
        trail.examples.append(example)
        trail.count(number, "pairs")
        parent_id = example.id
        older.append(parent)
        parent = chosen
    return trail.outcome()


def surplus_witnesses(examples: Sequence[Example], share: float) -> list[Rejected]:
    """Set gate: which pairs with an edited answer go, so that at most `share` remain.

    Each split is counted for itself. With s pairs that have a sampled answer,
    floor(s * share / (1 - share)) edited ones may stay. The type (of the newest
    constraint) with the most pairs gives first, and within it the largest id.
    """
    if share >= 1:
        return []
    dropped = []
    for split in sorted({example.split for example in examples}):
        sizes: dict[str, int] = defaultdict(int)
        witnesses: dict[str, list[Example]] = defaultdict(list)
        own = [example for example in examples if example.split == split]
        for example in sorted(own, key=lambda example: example.id):
            sizes[newest_type(example)] += 1
            if example.chosen.kind == "witness":
                witnesses[newest_type(example)].append(example)
        edited = sum(map(len, witnesses.values()))
        allowed = int((len(own) - edited) * share / (1 - share) + 1e-9)
        for _ in range(edited - allowed):
            name = max(
                (n for n in witnesses if witnesses[n]), key=lambda n: (sizes[n], n)
            )
            example = witnesses[name].pop()
            sizes[name] -= 1
            dropped.append(
                Rejected(
                    NAME,
                    example.root_id,
                    example.round,
                    split,
                    "export",
                    "witness_share",
                    detail=example.id,
                    text=example.chosen.text,
                )
            )
    return dropped


def newest_type(example: Example) -> str:
    """The type of the constraint that the first negative fails."""
    return example.constraints[-1]["type"]


def _requests(
    name: str,
    messages: tuple[Message, ...],
    number: int,
    config: ECD,
    context: Context,
) -> list[Generate]:
    """All answers that a round may ask for: one greedy, if that is wanted, then two at
    a time."""
    greedy = Settings(temperature=0.0, max_new_tokens=config.max_new_tokens)
    sampled = Settings(
        temperature=config.temperature,
        top_p=config.top_p,
        max_new_tokens=config.max_new_tokens,
    )
    requests = []
    left = config.samples
    if number > 1:
        left = config.later_samples or config.samples
    if config.greedy_first:
        requests.append(context.ask(name, "greedy", messages, 1, greedy))
        left -= 1
    while left > 0:
        step = f"sampled/{len(requests)}"
        requests.append(context.ask(name, step, messages, min(left, _WAVE), sampled))
        left -= _WAVE
    return requests


def _counterexample(
    answer: str,
    asked: Sequence[Constraint],
    order: Sequence[str],
    task: Seed,
    name: str,
) -> Constraint | None:
    """A constraint that `answer` fails, of the first type in `order` that gives one."""
    for kind in order:
        rng = random.Random(draw(name, kind))
        found = constraints.propose(rng, answer, asked, (kind,), topic=task.text)
        if found is not None:
            return found
    return None


def _note_failures(
    own: Sequence[Answer], asked: Sequence[Constraint], number: int, trail: Trail
) -> None:
    for answer in own:
        broken = [
            f"{constraint.type} {verdict}"
            for constraint, verdict in zip(asked, answer.verdicts, strict=True)
            if verdict is not Verdict.PASS
        ]
        if broken:
            trail.drop(
                number,
                "constraints",
                "violates" if answer.violates else "ambiguous",
                text=answer.text,
                generation=answer.generation,
                detail=", ".join(broken),
            )


def _witness(
    sources: Sequence[Answer],
    asked: Sequence[Constraint],
    parts: Sequence[str],
    number: int,
    context: Context,
    trail: Trail,
) -> Answer | None:
    """An edit of the first source that passes constraints and gates.

    `sources` begins with the negative itself: a pair made from it differs in what was
    asked and in nothing else.
    """
    for source in sources:
        text = constraints.compose(asked, source.text, keep_content=True)
        if text is None:
            trail.drop(number, "witness", "not_composable", text=source.text)
            continue
        reason = filters.answer(text, "stop", parts, context.gates)
        if reason is not None:
            trail.drop(number, "witness", reason, text=text)
            continue
        edited = judged(Answer(text, "witness"), asked)
        if edited.passes and on_topic(sources[0], [edited], number, context, trail):
            return edited
    return None
