# SPDX-License-Identifier: Apache-2.0
"""Run: plan, generate, gate, export, report; resumable at any moment."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from alignjax import config as configs
from alignjax import lock, whole_file
from alignjax.progress import Progress
from data_gen import claim, couples, seeds, summary
from data_gen.couple_settings import CoIN
from data_gen.embed import HASHED_NGRAMS, Embedder, FlaxEmbedder, HashedNgrams
from data_gen.engines import Engine
from data_gen.filters import Gates
from data_gen.prompts import Evaluation, held_out_prompts
from data_gen.records import Example, Rejected, write_dataset
from data_gen.seeds import Seed, SplitFractions
from data_gen.store import Store, StoredEmbedder, StoredEngine
from data_gen.strategies import (
    Context,
    Lineage,
    Outcome,
    Stages,
    Tick,
    coin,
    draw,
    drive,
    ecd,
    self_contrast,
)
from data_gen.strategies.ecd import ECD
from data_gen.strategies.self_contrast import SelfContrast

Tasks = dict[str, list[Seed]]  # by split


@dataclass(frozen=True)
class EngineConfig:
    """The local engine.

    Args:
      slots: answers in progress at once.
      context: tokens of prompt and answer together, at most.
      dtype: of weights and activations, "float32" or "bfloat16".
      share: samples of a prompt that read one copy of its keys and values; above 1 it
        pays where every request has at least so many samples.
    """

    slots: int = 16
    context: int = 512
    dtype: str = "float32"
    share: int = 1


@dataclass(frozen=True)
class RunConfig:
    """One data_gen run.

    Args:
      model: folder, hub id or known name of the model that answers.
      out: dataset folder to write.
      seeds: "builtin", a .jsonl or a .txt file.
      embedder: the same of a sentence encoder, for topic gates and Self-Contrast;
        "" for none, "hashed-ngrams" for one without weights (weak, instant).
      limit: use the first so many seeds; null takes all.
      seed: decides everything random.
      cache: the sqlite file with all samples; "" is OUT/cache.sqlite. Runs that share
        one share their samples.
      near_duplicate: a training task is dropped if its words are at least this similar
        (Jaccard) to those of a held-out task, in (0, 1].
    """

    model: str
    out: str
    seeds: str = seeds.BUILTIN
    embedder: str = ""
    limit: int | None = None
    seed: int = 0
    cache: str = ""
    near_duplicate: float = 0.6
    engine: EngineConfig = field(default_factory=EngineConfig)
    splits: SplitFractions = field(default_factory=SplitFractions)
    gates: Gates = field(default_factory=Gates)
    ecd: ECD | None = None
    self_contrast: SelfContrast | None = None
    coin: CoIN | None = None
    evaluation: Evaluation | None = None

    def __post_init__(self) -> None:
        if not (self.ecd or self.self_contrast or self.coin or self.evaluation):
            raise ValueError(
                "nothing to do: give at least one of ecd, self_contrast, coin, "
                "evaluation (`ecd: {}` takes its defaults)"
            )
        if self.self_contrast and not self.embedder:
            raise ValueError(
                "self_contrast needs an embedder: the folder of a sentence encoder"
            )


def run(
    config: RunConfig,
    *,
    engine: Engine | None = None,
    embedder: Embedder | None = None,
    is_fresh: bool = False,
    locate: Callable[[str], Path] = Path,
    say: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Make the dataset folder `config.out`.

    A run that was killed goes on where it was when it is started again; a finished one
    is exported again from its samples, to the same bytes.

    Args:
      config: what to do.
      engine: instead of the local one.
      embedder: instead of the configured one.
      is_fresh: take over a folder that holds another configuration's run. Its samples
        stay and are reused where they fit; its exported files are replaced.
      locate: the folder of a model that the config names.
      say: receives a line now and then.

    Returns:
      The report, as in report.json.

    Raises:
      ValueError: a setting is wrong, the folder belongs to another run or is in use.
      OSError: the disk is full or not writable; finished work is kept.
    """
    tasks, near = split_tasks(config)
    coupled = _couples(config)
    near += coupled.rejected
    settings = configs.plain(config)
    out = Path(config.out)
    out.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        stack.enter_context(lock.held(out, what="data-gen run"))
        # A model that cannot be had must not leave the folder claimed for it.
        engine = engine or _local_engine(config, locate)
        embedder = embedder or _local_embedder(config, locate)
        inputs = {
            "seeds_fingerprint": seeds.fingerprint(config.seeds),
            "model_fingerprint": engine.facts["model"],
            "template_fingerprint": engine.facts["template"],
            "engine_fingerprint": engine.fingerprint,
            "embedder_fingerprint": embedder.fingerprint if embedder else "",
        }
        if config.coin:
            inputs["instances_fingerprint"] = couples.fingerprint(config.coin)
        claim.take(out, settings, inputs, is_fresh=is_fresh, say=say)
        cache = Path(config.cache) if config.cache else out / "cache.sqlite"
        if config.cache:
            cache.parent.mkdir(parents=True, exist_ok=True)
            stack.enter_context(
                lock.held_beside(cache, what="data-gen run", instead="cache")
            )
        store = stack.enter_context(Store(cache))
        context = Context(
            seed=config.seed,
            engine=engine.fingerprint,
            facts=engine.facts,
            gates=config.gates,
            embed=StoredEmbedder(embedder, store) if embedder else None,
        )
        lineages = plan(tasks, config, context)
        if config.coin:
            lineages += coin.plan(coupled, config.coin, context)
        counts = ", ".join(f"{len(tasks[split])} {split}" for split in tasks)
        say(f"{counts} tasks; {len(lineages)} lineages; samples in {cache}")
        outcomes = _generate(lineages, StoredEngine(engine, store), store)
        store.commit()

        examples, rejected, stages = gate(list(outcomes.values()), config)
        prompts = (
            held_out_prompts(tasks, config.evaluation, seed=config.seed)
            if config.evaluation
            else []
        )
        write_dataset(
            out,
            examples,
            [*near, *rejected],
            prompts,
            config=claim.digest(settings, inputs),
            facts=inputs,
        )
        report = summary.build(
            examples, [*near, *rejected], stages, prompts, effort=store.effort()
        )
        content = json.dumps(report, indent=2, sort_keys=True) + "\n"
        whole_file.write(out / "report.json", content.encode())
    return report


def split_tasks(config: RunConfig) -> tuple[Tasks, list[Rejected]]:
    """The tasks of each split, without training tasks that nearly repeat others.

    Raises:
      ValueError: a strategy is configured and no training task is left.
    """
    if not (config.ecd or config.self_contrast or config.evaluation):
        return {
            split: [] for split in ("train", "validation", "test")
        }, []  # nobody reads them
    loaded = seeds.load_seeds(config.seeds, config.limit)
    split = {seed.id: seeds.split_of(seed.id, config.splits) for seed in loaded}
    repeated: dict[str, str] = {}
    for first, second, similarity in seeds.near_duplicates(
        loaded, config.near_duplicate
    ):
        for own, other in ((first, second), (second, first)):
            if split[own.id] == "train" and split[other.id] != "train":
                detail = f"like {split[other.id]} task {other.id} ({similarity:.2f})"
                repeated.setdefault(own.id, detail)
    rejected = [
        Rejected("", s.id, 0, "train", "plan", "near_held_out", repeated[s.id], s.text)
        for s in loaded
        if s.id in repeated
    ]
    tasks: Tasks = {"train": [], "validation": [], "test": []}
    for seed in loaded:
        if seed.id not in repeated:
            tasks[split[seed.id]].append(seed)
    if (config.ecd or config.self_contrast) and not tasks["train"]:
        raise ValueError(
            f"none of the {len(loaded)} seeds of {config.seeds} is a training task; "
            "give more seeds, a larger limit, or a larger splits.train"
        )
    return tasks, rejected


def plan(tasks: Tasks, config: RunConfig, context: Context) -> list[Lineage]:
    """All lineages of a run, none started."""
    lineages = []
    if config.ecd:
        own = _seeded(tasks["train"], config.seed, ecd.NAME)
        own = own[: config.ecd.prompts or None]
        chosen = [(task, "train") for task in own]
        for split in ("validation", "test"):
            own = _seeded(tasks[split], config.seed, f"ecd/{split}")
            chosen += [(task, split) for task in own[: config.ecd.held_out]]
        lineages += ecd.plan(chosen, config.ecd, context)
    if config.self_contrast:
        own = _seeded(tasks["train"], config.seed, self_contrast.NAME)
        own = own[: config.self_contrast.prompts or None]
        chosen = [(task, "train") for task in own]
        lineages += self_contrast.plan(chosen, config.self_contrast, context)
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
    for example in examples:
        stages[example.strategy, example.round, "exported"] += 1
    return examples, rejected, stages


def _couples(config: RunConfig) -> couples.Plan:
    if config.coin is None:
        return couples.Plan()
    own = config.coin.reads_seeds
    return couples.load(
        config.coin,
        config.splits,
        seed=config.seed,
        near_duplicate=config.near_duplicate,
        own_seeds=seeds.load_seeds(config.seeds, config.limit) if own else (),
    )


def _seeded(tasks: Sequence[Seed], seed: int, purpose: str) -> list[Seed]:
    return sorted(tasks, key=lambda task: draw(seed, purpose, task.id))


def _local_engine(config: RunConfig, locate: Callable[[str], Path]) -> Engine:
    from data_gen.engines.flax import FlaxEngine

    return FlaxEngine(
        locate(config.model),
        slots=config.engine.slots,
        context=config.engine.context,
        dtype=config.engine.dtype,
        share=config.engine.share,
    )


def _local_embedder(
    config: RunConfig, locate: Callable[[str], Path]
) -> Embedder | None:
    if not config.embedder:
        return None
    if config.embedder == HASHED_NGRAMS:
        return HashedNgrams()
    return FlaxEmbedder(locate(config.embedder))


def _generate(
    lineages: Sequence[Lineage], engine: Engine, store: Store
) -> dict[str, Outcome]:
    total = sum(lineage.planned for lineage in lineages)
    with Progress("data-gen: samples", total=total) as progress:
        since: float | None = None

        def report(tick: Tick) -> None:
            nonlocal since
            note = f"{tick.examples} pairs"
            if store.new_samples:
                since = since or time.monotonic()
                elapsed = max(time.monotonic() - since, 1.0)
                note += f", {store.new_tokens / elapsed:.0f} tok/s"
            else:
                progress.start_at(tick.done)  # known samples say nothing about speed
            progress.update(tick.done, note=note)

        return drive(lineages, engine, report)
