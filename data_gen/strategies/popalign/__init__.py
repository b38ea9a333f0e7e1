# SPDX-License-Identifier: Apache-2.0
"""PopAlign: preference pairs from six contrasts (arXiv:2410.13785), and baselines.

Each contrast asks for two answers to an instruction in two ways of which one is
expected to be better: with another prompt, from another model, or once more. Nobody
labels anything; an oracle measures how often the expectation holds. The example's
prompt is the bare instruction, whatever was shown while sampling. We know the paper
from its abstract and tables; it has no released code.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence

from data_gen.records import Example, Rejected
from data_gen.seeds import Seed
from data_gen.strategies import Context, Lineage, Steps, Trail, draw
from data_gen.strategies.popalign import baselines, contrasts
from data_gen.strategies.popalign.case import NAME, Case, Prompt, prompt_of
from data_gen.strategies.popalign.contrasts import Contrast
from data_gen.strategies.popalign.oracle import COUNTED, measured
from data_gen.strategies.popalign.settings import (
    BASELINES,
    CONTRASTS,
    STRATEGIES,
    ModelContrast,
    PopAlign,
)

__all__ = [
    "BASELINES",
    "CONTRASTS",
    "NAME",
    "STAGES",
    "STRATEGIES",
    "ModelContrast",
    "PopAlign",
    "measured",
    "plan",
    "surplus",
]

STAGES = ("tasks", "answered", *COUNTED, "pairs", "exported")

COROUTINES: dict[str, Callable[[Case], Contrast]] = {
    "prefix": contrasts.prefix,
    "demonstration": contrasts.demonstration,
    "elicitive": contrasts.elicitive,
    "parameters": contrasts.parameters,
    "leaderboard": contrasts.leaderboard,
    "refine": contrasts.refine,
    "rlcd": contrasts.rlcd,
    "rlaif": baselines.rlaif,
    "context_distillation": baselines.context_distillation,
    "best_of_n": baselines.best_of_n,
    "spin": baselines.spin,
}


def plan(
    tasks: Sequence[tuple[Seed, str]], config: PopAlign, context: Context
) -> list[Lineage]:
    """One lineage per contrast or baseline and (task, split).

    Raises:
      ValueError: the oracle is a reward and none was given.
    """
    if config.oracle == "reward" and context.reward is None:
        raise ValueError(
            "popalign: `oracle: reward` needs the callable: run(config, reward=...); "
            "from the command line use `oracle: judge`, or constraints"
        )
    prompts = [prompt_of(task, config, context) for task, _ in tasks]
    judged = config.judged or len(tasks)
    return [
        Lineage(
            f"{STRATEGIES[name]}/{task.id}",
            _planned(name, config),
            _steps(
                name,
                task,
                split,
                Prompt(task.text, history=task.history)
                if name == "spin" and config.constraints
                else prompt,
                config,
                context,
                is_judged=name in BASELINES or index < judged,
            ),
        )
        for name in config.names
        for index, ((task, split), prompt) in enumerate(
            zip(tasks, prompts, strict=True)
        )
    ]


def surplus(examples: Sequence[Example], total: int) -> list[Rejected]:
    """Set gate: which training pairs go so that at most `total` remain.

    Strategies give in turn, in the order of a hash of their examples, so each keeps
    equally many as far as it has them.

    Args:
      examples: of PopAlign and its baselines.
      total: 0 lets everything pass.
    """
    if not total:
        return []
    own: dict[str, list[Example]] = defaultdict(list)
    for example in sorted(examples, key=lambda example: draw(NAME, example.id)):
        if example.split == "train":
            own[example.strategy].append(example)
    turns = [
        (place, strategy, example)
        for strategy, group in own.items()
        for place, example in enumerate(group)
    ]
    turns.sort(key=lambda turn: turn[:2])
    return [
        Rejected(
            example.strategy,
            example.root_id,
            example.round,
            example.split,
            "export",
            "total",
            detail=example.id,
            text=example.chosen.text,
        )
        for _, _, example in turns[total:]
    ]


def _planned(name: str, config: PopAlign) -> int:
    """The most samples that a lineage may ask for."""
    judged = 2 * (config.oracle == "judge")
    if name == "best_of_n":
        pairs = config.samples * (config.samples - 1) // 2
        return config.samples + judged * (pairs + 1)
    sides = 1 if name in ("context_distillation", "spin") else 2
    return sides * config.attempts + judged


def _steps(
    name: str,
    task: Seed,
    split: str,
    prompt: Prompt | None,
    config: PopAlign,
    context: Context,
    *,
    is_judged: bool,
) -> Steps:
    trail = Trail(STRATEGIES[name], task.id, split)
    trail.count(0, "tasks")
    if prompt is None:
        trail.drop(0, "constraint", "not_constrained", text=task.text)
        return trail.outcome()
    case = Case(name, task, split, prompt, config, context, is_judged, trail)
    yield from COROUTINES[name](case)
    return trail.outcome()
