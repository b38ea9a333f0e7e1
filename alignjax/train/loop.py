# SPDX-License-Identifier: Apache-2.0
"""The training run, from top to bottom: data, parameters, reference, steps.

Everything that a step depends on is a function of (config, dataset, weights, step), so
a killed run that is started again ends in the same parameters.

Where several processes train together, each does everything below; only the first
writes files, except for checkpoints, which Orbax writes from all of them.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import math
import signal
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import multihost_utils
from jax.sharding import Mesh

from alignjax import claim, models, sharding, whole_file
from alignjax import config as configs
from alignjax.checkpoint import Checkpoints
from alignjax.data import records
from alignjax.data.tokenizer import Tokenizer
from alignjax.metrics import JsonlWriter
from alignjax.models import Model, Params, decoder, lora, peft
from alignjax.progress import Progress
from alignjax.train.config import TrainConfig
from alignjax.train.optimizer import adamw, initial, schedule
from alignjax.train.setup import Setup, batch_of, prepare, with_reference
from alignjax.train.step import Follow, Step, TrainState, make_train_step

# How far terms may be from their value where policy == reference, at step 0.
_STEP_0_TOLERANCE = {"float32": 1e-4, "bfloat16": 1e-2}


def train(
    config: TrainConfig,
    *,
    model_folder: Path,
    tokenizer: Tokenizer,
    model_fingerprint: str,
    say: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Runs `config` to its end, continuing from the newest intact checkpoint.

    Args:
      model_folder: where the model in `config.model` was found.
      model_fingerprint: of its weights; names the reference cache.
      say: receives a line about what was left out or damaged.

    Returns:
      The summary, also in `summary.json`.

    Raises:
      ValueError: the dataset, the config or the output folder is not usable, or the
        first step shows that policy and reference differ; says what to do.
      OSError: the disk is full or not writable; checkpoints that are there stay.
      SystemExit: status 143, after SIGTERM and a checkpoint.
    """
    began = time.monotonic()
    objective = config.objective.find()
    mesh = sharding.make_mesh(**dataclasses.asdict(config.mesh))
    _check_rows(config, mesh)
    dataset = records.read(config.dataset)
    model, base = models.load(model_folder, dtype=config.dtype)
    setup = prepare(config, objective, dataset, tokenizer, model, say)
    out = Path(config.out)
    with claim.held(
        out,
        _identity(config, dataset.digest, model_fingerprint, tokenizer.fingerprint),
        config=configs.dump(config),
        what="training run",
        writes=_is_first_process(),
    ):
        if objective.reference and not config.reference.every:
            setup = with_reference(setup, config, model, base, model_fingerprint)
        model, trainable, frozen, join = _trainable(config, model, base)
        del base
        trainable, frozen = (sharding.shard(tree, mesh) for tree in (trainable, frozen))
        optimizer = adamw(config.optimizer, len(setup.batches))
        follow = Follow(**dataclasses.asdict(config.reference))
        step = make_train_step(
            objective.function,
            optimizer,
            model,
            join=join,
            follow=follow if follow.every else None,
        )
        state = initial(optimizer, trainable, mesh, has_reference=bool(follow.every))
        start = dict(objective.start()) if objective.reference else None
        state, wall_s = _run(
            config, setup, step, state, frozen, mesh, start, began, say
        )
        trained = sharding.to_host(state.trainable)
        summary = _summary(config, setup, wall_s)
        if _is_first_process():
            _export(out, config, model, trained, model_folder)
            whole_file.write(out / "summary.json", json.dumps(summary, indent=2) + "\n")
    return summary


def _run(
    config: TrainConfig,
    setup: Setup,
    step: Step,
    state: TrainState,
    frozen: Params,
    mesh: Mesh,
    start: Mapping[str, float] | None,
    began: float,
    say: Callable[[str], None],
) -> tuple[TrainState, float]:
    """All steps that no checkpoint holds yet: (state, seconds of all sessions up to
    their last checkpoint)."""
    out, total = Path(config.out), len(setup.batches)
    learning_rate = schedule(config.optimizer, total)
    earlier_s = wall_s = 0.0
    with contextlib.ExitStack() as stack:
        checkpoints = stack.enter_context(Checkpoints(out / "checkpoints", warn=say))
        restored = checkpoints.restore(state)
        if restored is not None:
            _, state, about = restored
            earlier_s = wall_s = about.get("wall_s", 0.0)
        first = int(state.step)
        writer = None
        if _is_first_process():
            path = out / "metrics.jsonl"
            writer = stack.enter_context(JsonlWriter(path, resume_step=first))
        progress = stack.enter_context(Progress("training", total=total))
        termination = stack.enter_context(_Termination())
        progress.start_at(first)
        for index in range(first, total):
            step_began = time.monotonic()
            batch = batch_of(setup, index, config.batch.microbatches)
            state, metrics = step(state, frozen, sharding.shard_batch(batch, mesh))
            row = {name: float(value) for name, value in metrics.items()}
            if index == 0 and start is not None:
                _check_step_0(row, start, config.dtype)
            _check_finite(row, index)
            row["learning_rate"] = float(jnp.asarray(learning_rate(index)))
            row["tokens"] = int((batch.group > 0).sum())
            row["step_s"] = time.monotonic() - step_began
            if writer is not None:
                writer.write({"step": index + 1, **row})
                progress.update(index + 1, _note(row))
            is_asked = termination.is_asked_anywhere()
            is_last = index + 1 == total
            if is_asked or is_last or (index + 1) % config.save_every == 0:
                if writer is not None:
                    writer.sync()
                wall_s = earlier_s + time.monotonic() - began
                about = {"total": total, "wall_s": wall_s}
                checkpoints.save(index + 1, state, about=about)
            if is_asked:
                raise SystemExit(143)
    return state, wall_s


def _check_rows(config: TrainConfig, mesh: Mesh) -> None:
    """The rows of a microbatch are split over data and fsdp."""
    size = config.batch.rows // config.batch.microbatches
    parts = mesh.shape["data"] * mesh.shape["fsdp"]
    if size % parts:
        raise ValueError(
            f"batch.rows / batch.microbatches = {size} rows cannot be split over "
            f"mesh.data x mesh.fsdp = {parts} devices; make batch.rows a multiple of "
            f"{parts * config.batch.microbatches}"
        )


def _identity(config: TrainConfig, *inputs: str) -> str:
    """Digest of what decides the result: the config, and the inputs by their content;
    where files lie is no part of it."""
    placeless = dataclasses.replace(config, model="", dataset="", out="")
    parts = [configs.digest(placeless), *inputs]
    return hashlib.sha256(" ".join(parts).encode()).hexdigest()


def _trainable(
    config: TrainConfig, model: Model, base: Params
) -> tuple[Model, Params, Params, Callable[[Params, Params], Params]]:
    """(model, trainable, frozen, join): adapters over a frozen base, or everything."""
    model_config = dataclasses.replace(model.config, remat=config.remat)
    if not config.adapter.rank:
        return decoder.build(model_config), base, {}, lambda all_of_it, _: all_of_it
    params, model_config = lora.add(
        base,
        model_config,
        rank=config.adapter.rank,
        alpha=config.adapter.alpha,
        modules=config.adapter.modules,
        key=jax.random.key(config.seed),
    )
    trainable, frozen = lora.split(params)
    return decoder.build(model_config), trainable, frozen, lora.join


def _check_step_0(
    row: Mapping[str, float], start: Mapping[str, float], dtype: str
) -> None:
    """Before the first update the policy is the reference: DPO = ln 2, margin = 0, and
    whatever the objective knows to be so."""
    tolerance = _STEP_0_TOLERANCE[dtype]
    for name, expected in start.items():
        if abs(row[name] - expected) <= tolerance * max(1, abs(expected)):
            continue
        raise ValueError(
            f"step 0: {name} is {row[name]:.6f}; where the policy is the reference it "
            f"must be {expected:.6f} within {tolerance} (relative above 1). The cached "
            "reference log-probabilities are not this model's: remove the folder "
            "'reference' in the output folder, and check that model and tokenizer "
            "belong together"
        )


def _check_finite(row: dict[str, float], index: int) -> None:
    bad = [name for name, value in row.items() if not math.isfinite(value)]
    if bad:
        raise ValueError(
            f"step {index + 1}: {', '.join(bad)} not finite; lower "
            "optimizer.learning_rate or optimizer.clip. The last checkpoint is intact"
        )


def _note(row: dict[str, float]) -> str:
    names = ("loss", "margin", "accuracy", "contrastive")
    shown = [f"{name} {row[name]:.3f}" for name in names if name in row]
    return f"{' '.join(shown)}  {row['tokens'] / row['step_s']:.0f} tokens/s"


def _export(
    out: Path, config: TrainConfig, model: Model, trained: Params, folder: Path
) -> None:
    """Writes what was trained: a PEFT adapter, or a model folder."""
    if config.adapter.rank:
        peft.write(out / "adapter", trained, model.config, base=config.model)
    else:
        models.save(out / "model", trained, model.config, like=folder)


def _summary(config: TrainConfig, setup: Setup, wall_s: float) -> dict[str, Any]:
    return {
        "objective": config.objective.name,
        "steps": len(setup.batches),
        "examples": len(setup.examples),
        "pairs": sum(example.negatives for example in setup.examples),
        "without_negatives": setup.without_negatives,
        "without_couple": setup.without_couple,
        "too_long": setup.too_long,
        "tokens": sum(
            setup.examples[index].length
            for batch in setup.batches
            for row in batch
            for index in row
        ),
        "wall_s": round(wall_s, 2),
    }


def _is_first_process() -> bool:
    return jax.process_index() == 0


class _Termination:
    """Turns SIGTERM into a checkpoint after the current step, then exit status 143."""

    def __init__(self) -> None:
        self._is_asked = False

    def __enter__(self) -> _Termination:
        self._before = signal.signal(signal.SIGTERM, self._ask)
        return self

    def __exit__(self, *exception: object) -> None:
        signal.signal(signal.SIGTERM, self._before)

    def is_asked_anywhere(self) -> bool:
        """Whether any process was asked. All get the same answer, since the signal
        reaches them at different steps and a checkpoint needs them all."""
        if jax.process_count() == 1:
            return self._is_asked
        asked = multihost_utils.process_allgather(jnp.asarray(self._is_asked))
        return bool(asked.any())

    def _ask(self, number: int, frame: object) -> None:
        self._is_asked = True
