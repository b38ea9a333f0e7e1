# SPDX-License-Identifier: Apache-2.0
"""Run: plan, generate, gate, export, report; resumable at any moment."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from alignjax import config as configs
from alignjax import lock, whole_file
from alignjax.progress import Progress
from data_gen import claim, seeds, summary
from data_gen.embed import HASHED_NGRAMS, Embedder, FlaxEmbedder, HashedNgrams
from data_gen.engines import Engine, choice
from data_gen.engines.choice import EngineChoice, OpenAIServer
from data_gen.filters import Gates
from data_gen.prompts import Evaluation, held_out_prompts
from data_gen.records import Example, Rejected, write_dataset
from data_gen.seeds import Seed, SeedSource, SplitFractions
from data_gen.store import Store, StoredEmbedder, StoredEngine
from data_gen.strategies import (
    Context,
    Identity,
    Lineage,
    Outcome,
    Reward,
    Stages,
    Tick,
    draw,
    drive,
    ecd,
    popalign,
    self_contrast,
)
from data_gen.strategies.ecd import ECD
from data_gen.strategies.popalign import PopAlign
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
      seeds: "builtin", a .jsonl or a .txt file, or the fields of a `SeedSource`: any
        data set, its format and the gates that its records must pass (docs/seeds.md).
      embedder: the same of a sentence encoder, for topic gates and Self-Contrast;
        "" for none, "hashed-ngrams" for one without weights (weak, instant).
      limit: use the first so many seeds; null takes all.
      seed: decides everything random.
      cache: the sqlite file with all samples; "" is OUT/cache.sqlite. Runs that share
        one share their samples.
      engine: how the model is run; with `kind: openai` a server runs it, and `model` is
        its name there.
      engines: further ones by the names that strategies give them, each with its
        `kind`: flax (another local model), openai (a server) or recorded (a file).
      near_duplicate: a training task is dropped if its words are at least this similar
        (Jaccard) to those of a held-out task, in (0, 1].
    """

    model: str
    out: str
    seeds: str | SeedSource = seeds.BUILTIN
    embedder: str = ""
    limit: int | None = None
    seed: int = 0
    cache: str = ""
    near_duplicate: float = 0.6
    engine: EngineConfig | OpenAIServer = field(default_factory=EngineConfig)
    engines: dict[str, EngineChoice] = field(default_factory=dict)
    splits: SplitFractions = field(default_factory=SplitFractions)
    gates: Gates = field(default_factory=Gates)
    ecd: ECD | None = None
    self_contrast: SelfContrast | None = None
    popalign: PopAlign | None = None
    evaluation: Evaluation | None = None

    def __post_init__(self) -> None:
        if not (self.ecd or self.self_contrast or self.popalign or self.evaluation):
            raise ValueError(
                "nothing to do: give at least one of ecd, self_contrast, popalign, "
                "evaluation (`ecd: {}` takes its defaults)"
            )
        if self.popalign:
            for name in self.popalign.engines:
                if name not in self.engines:
                    raise ValueError(
                        f"popalign asks an engine {name!r} that is not among engines; "
                        f"there are: {', '.join(self.engines) or 'none'}"
                    )
        if self.self_contrast and not self.embedder:
            raise ValueError(
                "self_contrast needs an embedder: the folder of a sentence encoder"
            )
        choice.check(self.engines)
        if isinstance(self.engine, OpenAIServer) and self.engine.model:
            raise ValueError(
                "engine.model is not read: the run's `model` is the model's name at "
                "the server"
            )

    @property
    def choices(self) -> dict[str, EngineChoice]:
        """The named engines and, under "", the default one where it is a server."""
        if isinstance(self.engine, OpenAIServer):
            return {"": replace(self.engine, model=self.model), **self.engines}
        return self.engines


def run(
    config: RunConfig,
    *,
    engine: Engine | None = None,
    engines: Mapping[str, Engine] | None = None,
    embedder: Embedder | None = None,
    reward: Reward | None = None,
    is_fresh: bool = False,
    environment: Mapping[str, str] | None = None,
    locate: Callable[[str], Path] = Path,
    say: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Make the dataset folder `config.out`.

    A run that was killed goes on where it was when it is started again; a finished one
    is exported again from its samples, to the same bytes.

    Args:
      config: what to do.
      engine: instead of the configured default one.
      engines: instead of the configured named ones.
      embedder: instead of the configured one.
      reward: what PopAlign's `oracle: reward` asks.
      is_fresh: take over a folder that holds another configuration's run. Its samples
        stay and are reused where they fit; its exported files are replaced.
      environment: variables that hold the API keys of servers.
      locate: the folder of a model that the config names.
      say: receives a line now and then.

    Returns:
      The report, as in report.json.

    Raises:
      ValueError: a setting is wrong, the folder belongs to another run or is in use, a
        server refuses; finished work is kept.
      OSError: the disk is full or not writable, or a server does not answer; finished
        work is kept.
    """
    loaded = seeds.load(config.seeds, config.limit)
    tasks, near = split_tasks(config, loaded)
    settings = configs.plain(config)
    out = Path(config.out)
    out.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        stack.enter_context(lock.held(out, what="data-gen run"))
        # A model that cannot be had must not leave the folder claimed for it.
        given = {**({"": engine} if engine else {}), **(engines or {})}
        found = choice.make_all(
            config.choices, given, environment or {}, locate=locate, say=say
        )
        engine = found.pop("", None) or _local_engine(config, locate)
        named = dict(sorted(found.items()))
        embedder = embedder or _local_embedder(config, locate)
        inputs: dict[str, Any] = {
            "seeds_fingerprint": loaded.fingerprint,
            "model_fingerprint": engine.facts["model"],
            "template_fingerprint": engine.facts["template"],
            "engine_fingerprint": engine.fingerprint,
            "embedder_fingerprint": embedder.fingerprint if embedder else "",
        }
        if named:
            prints = {name: other.fingerprint for name, other in named.items()}
            inputs["engine_fingerprints"] = prints
        if reward is not None:
            inputs["reward_fingerprint"] = reward.fingerprint
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
            engines={
                name: Identity(other.fingerprint, other.facts)
                for name, other in named.items()
            },
            reward=reward,
        )
        lineages = plan(tasks, config, context)
        counts = ", ".join(f"{len(tasks[split])} {split}" for split in tasks)
        say(f"{counts} tasks; {len(lineages)} lineages; samples in {cache}")
        stored = {
            name: StoredEngine(other, store)
            for name, other in {"": engine, **named}.items()
        }
        outcomes = _generate(lineages, stored, store)
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
            examples,
            [*near, *rejected],
            stages,
            prompts,
            effort=store.effort(),
            usage=store.usage(),
        )
        content = json.dumps(report, indent=2, sort_keys=True) + "\n"
        whole_file.write(out / "report.json", content.encode())
    return report


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
    loaded = loaded or seeds.load(config.seeds, config.limit)
    found = loaded.seeds
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
    tasks: Tasks = {"train": [], "validation": [], "test": []}
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


def plan(tasks: Tasks, config: RunConfig, context: Context) -> list[Lineage]:
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


def _local_engine(config: RunConfig, locate: Callable[[str], Path]) -> Engine:
    from data_gen.engines.flax import FlaxEngine

    assert isinstance(config.engine, EngineConfig)
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
    lineages: Sequence[Lineage], engines: Mapping[str, Engine], store: Store
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

        return drive(lineages, engines, report)
