# SPDX-License-Identifier: Apache-2.0
"""Self-Contrast: many negatives from the model itself (arXiv:2404.00604).

The preferred answer is the target; the model's own samples are negatives, after those
most similar to the target, which may be good answers, are dropped. The released code
calls the share that it keeps "lastdedup-75"; the share dropped is what we name. It
draws the k negatives of each k anew and loses prompts with fewer than k; here one
seeded ranking is made, k takes its beginning, and a prompt gives what it has.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from data_gen.embed import cosines
from data_gen.engines import Settings
from data_gen.records import Example
from data_gen.seeds import Seed
from data_gen.strategies import Context, Lineage, Steps, Trail, draw
from data_gen.strategies.answers import Answer, gated, trimmed

NAME = "self_contrast"
STAGES = ("tasks", "targets", "distinct", "dissimilar", "pairs", "exported")


@dataclass(frozen=True)
class SelfContrast:
    """How negatives are drawn.

    Args:
      prompts: training tasks to use; 0 takes all.
      samples: answers per task.
      temperature, top_p: of these samples.
      max_new_tokens: of every answer; an answer that gets there is dropped.
      drop_most_similar: share of the distinct samples that is dropped, those with the
        largest cosine to the target, rounded up; in [0, 1). The code's a = 75 % kept
        is 0.25 here.
      negatives: at most so many per example.
      min_survivors: with fewer negatives than this a task gives no example.
    """

    prompts: int = 0
    samples: int = 8
    temperature: float = 1.0
    top_p: float = 1.0
    max_new_tokens: int = 128
    drop_most_similar: float = 0.25
    negatives: int = 3
    min_survivors: int = 1

    def __post_init__(self) -> None:
        least = {"samples": 1, "negatives": 1, "min_survivors": 1, "prompts": 0}
        for name, low in {**least, "max_new_tokens": 1}.items():
            if asdict(self)[name] < low:
                raise ValueError(
                    f"{name} must be at least {low}, got {asdict(self)[name]}"
                )
        if not 0 <= self.drop_most_similar < 1:
            raise ValueError(
                f"drop_most_similar must be in [0, 1), got {self.drop_most_similar}"
            )
        if self.temperature <= 0:
            raise ValueError(
                f"temperature must be above 0, got {self.temperature}: greedy samples "
                "are all the same"
            )

    @property
    def keep(self) -> float:
        """Share of the distinct samples that is kept: the paper's a."""
        return 1 - self.drop_most_similar


def plan(
    tasks: Sequence[tuple[Seed, str]], config: SelfContrast, context: Context
) -> list[Lineage]:
    """One lineage per (task, split)."""
    return [
        Lineage(
            f"{NAME}/{task.id}",
            config.samples + (task.answer is None),
            contrast(task, split, config, context),
        )
        for task, split in tasks
    ]


def contrast(task: Seed, split: str, config: SelfContrast, context: Context) -> Steps:
    """The coroutine of one task; see the module."""
    if context.embed is None:
        raise ValueError("self_contrast needs an embedder to find similar answers")
    trail = Trail(NAME, task.id, split)
    name = f"{NAME}/{context.seed}/{task.id}"
    trail.count(0, "tasks")
    messages = task.messages
    sampled = Settings(
        temperature=config.temperature,
        top_p=config.top_p,
        max_new_tokens=config.max_new_tokens,
    )
    request = context.ask(name, "samples", messages, config.samples, sampled)
    if task.answer is None:
        greedy = Settings(temperature=0.0, max_new_tokens=config.max_new_tokens)
        first = context.ask(name, "target", messages, 1, greedy)
        targets, samples = yield (first, request)
        found = gated(targets, first, (task.text,), 0, context, trail)
        found = found or trimmed(targets, first, (task.text,), context)
        target = found[0] if found else None
    else:
        (samples,) = yield (request,)
        target = Answer(task.answer, "given")
    if target is None:
        trail.drop(0, "target", "no_target")
        return trail.outcome()
    trail.count(0, "targets")

    answers = gated(samples, request, (task.text,), 0, context, trail)
    distinct = _distinct(target, answers, trail)
    trail.count(0, "distinct", len(distinct))
    similarity = dict(
        zip(
            [answer.generation for answer in distinct],
            cosines(context.embed, target.text, [answer.text for answer in distinct]),
            strict=True,
        )
    )
    similar = most_similar(similarity, config.drop_most_similar)
    for answer in distinct:
        if answer.generation in similar:
            trail.drop(
                0,
                "similarity",
                "most_similar",
                text=answer.text,
                generation=answer.generation,
                detail=f"cosine {similarity[answer.generation]:g}",
            )
    survivors = [answer for answer in distinct if answer.generation not in similar]
    trail.count(0, "dissimilar", len(survivors))
    if len(survivors) < config.min_survivors:
        trail.drop(0, "pair", "too_few_survivors", detail=f"{len(survivors)} left")
        return trail.outcome()
    survivors.sort(key=lambda answer: draw(name, "rank", answer.generation))
    kept = survivors[: config.negatives]
    trail.examples.append(
        Example(
            strategy=NAME,
            root_id=task.id,
            parent_id=task.id,
            round=0,
            split=split,
            prompt=messages,
            chosen=target.response(),
            negatives=tuple(
                answer.negative("sample", rank, similarity[answer.generation])
                for rank, answer in enumerate(kept)
            ),
            proof={
                "cosines": similarity,
                "drop_most_similar": config.drop_most_similar,
                "keep": config.keep,
                "order": [answer.generation for answer in survivors],
                "embedder": context.embed.fingerprint,
            },
            provenance={
                **context.provenance(request, task.whole),
                "target": "given" if task.answer is not None else "greedy",
            },
        )
    )
    trail.count(0, "pairs")
    return trail.outcome()


def most_similar(similarity: dict[str, float], share: float) -> set[str]:
    """Names of the ceil(share * n) most similar; ties go by name."""
    count = math.ceil(share * len(similarity) - 1e-9)
    ranked = sorted(similarity, key=lambda name: (-similarity[name], name))
    return set(ranked[:count])


def _distinct(target: Answer, answers: Sequence[Answer], trail: Trail) -> list[Answer]:
    """First occurrences of each text; none that repeats the target."""
    seen = {target.text.strip()}
    kept = []
    for answer in answers:
        if answer.text.strip() in seen:
            trail.drop(
                0,
                "duplicate",
                "duplicate",
                text=answer.text,
                generation=answer.generation,
            )
            continue
        seen.add(answer.text.strip())
        kept.append(answer)
    return kept
