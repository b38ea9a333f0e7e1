# SPDX-License-Identifier: Apache-2.0
"""Planning: which tasks and instances a run works on, what it makes of them, and the
gates that look at all of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from data_gen import couples, seeds
from data_gen.records import SPLITS, Example, Rejected
from data_gen.seeds import Seed
from data_gen.settings import RunConfig
from data_gen.strategies import (
    Context,
    Lineage,
    Outcome,
    Stages,
    coin,
    draw,
    ecd,
    popalign,
    self_contrast,
)
from data_gen.strategies.ecd import ECD
from data_gen.strategies.popalign import PopAlign

Tasks = dict[str, list[Seed]]  # by split


def split_tasks(
    config: RunConfig, loaded: seeds.Loaded | None = None
) -> tuple[Tasks, list[Rejected]]:
    """The tasks of each split, without training tasks that nearly repeat others.

    Args:
      config: seeds, splits, the threshold.
      loaded: the seeds, where they were read before.

    Returns:
      The tasks, and what was dropped: records that gave no seed, then near repeats.

    Raises:
      ValueError: a strategy is configured and no training task is left.
    """
    tasks: Tasks = {split: [] for split in SPLITS}
    if not (config.reads_tasks or (config.coin and config.coin.reads_seeds)):
        return tasks, []
    loaded = loaded or seeds.load(config.seeds, config.limit)
    found = loaded.seeds if config.reads_tasks else ()
    split = {seed.id: seeds.split_of(seed.id, config.splits) for seed in found}
    repeated: dict[str, str] = {}
    for first, second, similarity in seeds.near_duplicates(
        found, config.near_duplicate
    ):
        for own, other in ((first, second), (second, first)):
            if split[own.id] == "train" and split[other.id] != "train":
                detail = f"like {split[other.id]} task {other.id} ({similarity:.2f})"
                repeated.setdefault(own.id, detail)
    rejected = [
        Rejected("", item.id, 0, "", "seed", item.reason, _found_by(item), item.text)
        for item in loaded.dropped
    ]
    rejected += [
        Rejected("", s.id, 0, "train", "plan", "near_held_out", repeated[s.id], s.whole)
        for s in found
        if s.id in repeated
    ]
    for seed in found:
        if seed.id not in repeated:
            tasks[split[seed.id]].append(seed)
    has_strategy = config.ecd or config.self_contrast or config.popalign
    if has_strategy and not tasks["train"]:
        raise ValueError(
            f"none of the {len(found)} seeds of {_named(config)} is a training task; "
            "give more seeds, a larger limit, or a larger splits.train"
        )
    return tasks, rejected


def pair_instances(config: RunConfig, loaded: seeds.Loaded) -> couples.Plan:
    """The couples of CoIN; none where it is not configured."""
    if config.coin is None:
        return couples.Plan()
    return couples.load(
        config.coin,
        config.splits,
        seed=config.seed,
        near_duplicate=config.near_duplicate,
        own_seeds=loaded.seeds if config.coin.reads_seeds else (),
    )


def plan(
    tasks: Tasks, coupled: couples.Plan, config: RunConfig, context: Context
) -> list[Lineage]:
    """All lineages of a run, none started."""
    lineages = []
    if config.ecd:
        chosen = _chosen(tasks, config.seed, ecd.NAME, config.ecd, ecd.refuses)
        lineages += ecd.plan(chosen, config.ecd, context)
    if config.self_contrast:
        own = _seeded(tasks["train"], config.seed, self_contrast.NAME)
        own = own[: config.self_contrast.prompts or None]
        chosen = [(task, "train") for task in own]
        lineages += self_contrast.plan(chosen, config.self_contrast, context)
    if config.popalign:
        chosen = _chosen(tasks, config.seed, popalign.NAME, config.popalign)
        lineages += popalign.plan(chosen, config.popalign, context)
    if config.coin:
        lineages += coin.plan(coupled, config.coin, context)
    return lineages


def gate(
    outcomes: Sequence[Outcome], config: RunConfig
) -> tuple[list[Example], list[Rejected], Stages]:
    """Set gates over everything that the lineages made."""
    examples = [example for outcome in outcomes for example in outcome.examples]
    rejected = [item for outcome in outcomes for item in outcome.rejected]
    stages: Stages = Stages()
    for outcome in outcomes:
        stages.update(outcome.stages)
    if config.ecd:
        evolved = [example for example in examples if example.strategy == ecd.NAME]
        dropped = ecd.surplus_witnesses(evolved, config.ecd.max_witness_share)
        gone = {item.detail for item in dropped}
        examples = [example for example in examples if example.id not in gone]
        rejected += dropped
    if config.popalign:
        own = [e for e in examples if e.strategy in popalign.STRATEGIES.values()]
        dropped = popalign.surplus(own, config.popalign.total)
        gone = {item.detail for item in dropped}
        examples = [example for example in examples if example.id not in gone]
        rejected += dropped
    for example in examples:
        stages[example.strategy, example.round, "exported"] += 1
    return examples, rejected, stages


def _chosen(
    tasks: Tasks,
    seed: int,
    name: str,
    config: ECD | PopAlign,
    refuses: Callable[[Seed], str | None] = lambda task: None,
) -> list[tuple[Seed, str]]:
    """The tasks of a strategy: `prompts` training ones, `held_out` of the others."""
    own = _seeded(tasks["train"], seed, name, refuses)[: config.prompts or None]
    chosen = [(task, "train") for task in own]
    for split in ("validation", "test"):
        own = _seeded(tasks[split], seed, f"{name}/{split}", refuses)
        chosen += [(task, split) for task in own[: config.held_out]]
    return chosen


def _found_by(item: seeds.Dropped) -> str:
    return "; ".join(part for part in (item.place, item.gate, item.detail) if part)


def _named(config: RunConfig) -> str:
    return config.seeds if isinstance(config.seeds, str) else config.seeds.source


def _seeded(
    tasks: Sequence[Seed],
    seed: int,
    purpose: str,
    refuses: Callable[[Seed], str | None] = lambda task: None,
) -> list[Seed]:
    """The tasks in an order of their own, those that a strategy refuses last."""

    def place(task: Seed) -> tuple[bool, int]:
        return refuses(task) is not None, draw(seed, purpose, task.id)

    return sorted(tasks, key=place)
