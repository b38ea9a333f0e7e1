# SPDX-License-Identifier: Apache-2.0
"""Run: plan, generate, gate, export, report; resumable at any moment."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from alignjax import config as configs
from alignjax import lock, whole_file
from alignjax.progress import Progress
from data_gen import claim, couples, seeds, summary
from data_gen.embed import HASHED_NGRAMS, Embedder, FlaxEmbedder, HashedNgrams
from data_gen.engines import Engine, choice
from data_gen.planning import gate, pair_instances, plan, split_tasks
from data_gen.prompts import held_out_prompts
from data_gen.records import write_dataset
from data_gen.settings import EngineConfig, RunConfig
from data_gen.store import Store, StoredEmbedder, StoredEngine
from data_gen.strategies import (
    Context,
    Identity,
    Lineage,
    Outcome,
    Reward,
    Tick,
    drive,
)


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
    coupled = pair_instances(config, loaded)
    near += coupled.rejected
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
            engines={
                name: Identity(other.fingerprint, other.facts)
                for name, other in named.items()
            },
            reward=reward,
        )
        lineages = plan(tasks, coupled, config, context)
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
