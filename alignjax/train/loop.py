# SPDX-License-Identifier: Apache-2.0
"""The training run, from top to bottom: data, parameters, reference, steps.

Everything that a step depends on is a function of (config, dataset, weights, step), so
a killed run that is started again ends in the same parameters.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from alignjax import config as config_module
from alignjax import models, sharding
from alignjax.checkpoint import Checkpoints
from alignjax.data import encode, plan, records, reference, rows
from alignjax.data.plan import Batch
from alignjax.data.rows import Rows, Shape, Tokens
from alignjax.data.tokenizer import Tokenizer
from alignjax.metrics import JsonlWriter
from alignjax.models import Model, Params, decoder, lora, peft
from alignjax.progress import Progress
from alignjax.sampling import score
from alignjax.train import Objective, find
from alignjax.train.config import TrainConfig
from alignjax.train.step import TrainState, make_train_step

# |DPO term - ln 2| and |margin| allowed at step 0, where policy == reference.
_STEP_0_TOLERANCE = {"float32": 1e-4, "bfloat16": 1e-2}


@dataclasses.dataclass(frozen=True)
class Setup:
    """What a run is made of, before its first step."""

    examples: list[Tokens]
    too_long: list[Tokens]
    batches: list[Batch]
    shape: Shape
    reference: reference.Logprobs | None


def train(
    config: TrainConfig,
    *,
    model_folder: Path,
    tokenizer: Tokenizer,
    model_fingerprint: str,
) -> dict[str, Any]:
    """Runs `config` to its end, continuing from the newest intact checkpoint.

    Args:
      model_folder: where the model in `config.model` was found.
      model_fingerprint: of its weights; names the reference cache.

    Returns:
      The summary, also in `summary.json`.

    Raises:
      ValueError: the dataset, the config or the output folder is not usable, or the
        first step shows that policy and reference differ; says what to do.
    """
    started = time.monotonic()
    objective, options = find(config.objective.name, config.objective.options)
    if objective.coupled and config.batch.microbatches > 1:
        raise ValueError(
            f"objective {config.objective.name!r} compares the examples of a batch "
            "with each other, so microbatches would change it; set "
            "batch.microbatches to 1"
        )
    out = Path(config.out)
    dataset = records.read(config.dataset)
    _claim(out, config, f"{dataset.digest} {model_fingerprint}")
    model, base = models.load(model_folder, dtype=config.dtype)
    setup = _setup(
        config, objective, dataset, tokenizer, model, base, model_fingerprint, out
    )
    model, trainable, frozen, join = _trainable(config, model, base)
    mesh = sharding.make_mesh(**dataclasses.asdict(config.mesh))
    trainable, frozen = (sharding.shard(tree, mesh) for tree in (trainable, frozen))
    total = len(setup.batches)
    optimizer = _optimizer(config, total)
    state = TrainState(
        jnp.zeros((), jnp.int32), trainable, jax.jit(optimizer.init)(trainable)
    )
    step = make_train_step(
        objective.function, optimizer, model, join=join, options=options
    )
    with Checkpoints(out / "checkpoints") as checkpoints:
        restored = checkpoints.restore(state)
        if restored is not None:
            _, state, _ = restored
        first = int(state.step)
        with (
            JsonlWriter(out / "metrics.jsonl", resume_step=first) as writer,
            Progress("training", total=total) as progress,
            _Termination() as termination,
        ):
            progress.start_at(first)
            for index in range(first, total):
                began = time.monotonic()
                batch = _batch(setup, index, config.batch.microbatches)
                state, metrics = step(state, frozen, sharding.shard_batch(batch, mesh))
                row = {name: float(value) for name, value in metrics.items()}
                if index == 0 and "dpo" in row:
                    _check_step_0(row, config.dtype)
                _check_finite(row, index)
                row["learning_rate"] = float(_schedule(config, total)(index))
                row["tokens"] = int((batch.group > 0).sum())
                row["step_s"] = time.monotonic() - began
                writer.write({"step": index + 1, **row})
                progress.update(index + 1, _note(row))
                done = index + 1 == total or termination.is_asked
                if done or (index + 1) % config.save_every == 0:
                    writer.sync()
                    checkpoints.save(index + 1, state, about={"total": total})
                if termination.is_asked:
                    raise SystemExit(143)
    _export(out, config, model, state.trainable, model_folder)
    summary = _summary(config, setup, out, time.monotonic() - started)
    return summary


def _claim(out: Path, config: TrainConfig, inputs: str) -> None:
    """Marks the folder as this run's; refuses one that belongs to another.

    Raises:
      ValueError: the folder holds a run with another config, dataset or model.
    """
    identity = hashlib.sha256(
        f"{config_module.digest(config)} {inputs}".encode()
    ).hexdigest()
    marker = out / "run.json"
    if marker.is_file():
        found = json.loads(marker.read_bytes())["identity"]
        if found != identity:
            raise ValueError(
                f"{out}: belongs to another run (its config, dataset or model differ; "
                f"see {out / 'config.yaml'}); choose another --out or remove the folder"
            )
        return
    if out.is_dir() and any(out.iterdir()):
        raise ValueError(
            f"{out}: is not empty and is not a training run; choose another --out"
        )
    out.mkdir(parents=True, exist_ok=True)
    (out / "config.yaml").write_text(config_module.dump(config))
    partial = out / "run.json.partial"
    partial.write_text(json.dumps({"identity": identity}) + "\n")
    os.replace(partial, marker)


def _setup(
    config: TrainConfig,
    objective: Objective,
    dataset: records.Dataset,
    tokenizer: Tokenizer,
    model: Model,
    base: Params,
    model_fingerprint: str,
    out: Path,
) -> Setup:
    """Examples as tokens, the plan of all batches, and the reference's scores."""
    chosen = dataset.select("train", config.strategies)
    if objective.reference:
        chosen = [record for record in chosen if record.negatives]
    else:
        chosen = [dataclasses.replace(record, negatives=()) for record in chosen]
    if not chosen:
        raise ValueError(
            f"{config.dataset}: no training example for objective "
            f"{config.objective.name!r} (strategies: {config.strategies or 'all'})"
        )
    # Ids sampled under another tokenizer mean nothing here.
    same = dataset.template_fingerprint in (None, tokenizer.fingerprint)
    encoded = encode.encode(chosen, tokenizer, reuse_ids=same)
    fields = dataclasses.asdict(config.batch)
    del fields["microbatches"]
    shape = Shape(**fields)
    examples, too_long = plan.fitting(encoded, shape)
    batches = plan.batches(examples, shape, seed=config.seed, epochs=config.epochs)
    if config.max_steps:
        batches = batches[: config.max_steps]
    logprobs = None
    if objective.reference:
        logprobs = _reference(config, examples, shape, model, base, model_fingerprint)
    return Setup(examples, too_long, batches, shape, logprobs)


def _reference(
    config: TrainConfig,
    examples: list[Tokens],
    shape: Shape,
    model: Model,
    base: Params,
    model_fingerprint: str,
) -> reference.Logprobs:
    """The reference's log-probabilities, from the cache or computed once."""
    folder = Path(config.out) / "reference"
    name = reference.key(model_fingerprint, examples, dtype=config.dtype)
    cached = reference.load(folder, name, examples)
    if cached is None:
        with Progress("reference", total=len(examples)) as progress:
            cached = score(model, base, examples, shape, progress=progress.update)
        reference.save(folder, name, cached)
    return cached


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
        key=jax.random.key(config.seed),
    )
    trainable, frozen = lora.split(params)
    return decoder.build(model_config), trainable, frozen, lora.join


def _schedule(config: TrainConfig, total: int) -> optax.Schedule:
    """Linear warm-up, then linear decay to zero after the last step."""
    peak = config.optimizer.learning_rate
    warmup = max(1, round(config.optimizer.warmup * total))
    return optax.join_schedules(
        [
            optax.linear_schedule(peak / warmup, peak, warmup - 1),
            optax.linear_schedule(peak, 0.0, max(1, total - warmup + 1)),
        ],
        [warmup - 1],
    )


def _optimizer(config: TrainConfig, total: int) -> optax.GradientTransformation:
    c = config.optimizer
    return optax.chain(
        optax.clip_by_global_norm(c.clip),
        optax.adamw(
            _schedule(config, total), b1=c.b1, b2=c.b2, weight_decay=c.weight_decay
        ),
    )


def _batch(setup: Setup, index: int, microbatches: int) -> Rows:
    """Batch `index` as arrays with a leading microbatch axis."""
    batch = rows.build(setup.batches[index], setup.examples, setup.shape)
    if setup.reference is not None:
        batch = rows.with_reference(batch, setup.reference)
    size = setup.shape.rows // microbatches
    return jax.tree.map(lambda x: x.reshape(microbatches, size, *x.shape[1:]), batch)


def _check_step_0(row: dict[str, float], dtype: str) -> None:
    """Before the first update the policy is the reference: DPO = ln 2, margin = 0."""
    tolerance = _STEP_0_TOLERANCE[dtype]
    wrong = max(abs(row["dpo"] - math.log(2)), abs(row["margin"]))
    if not wrong <= tolerance:
        raise ValueError(
            f"step 0: the DPO term is {row['dpo']:.6f} and the margin "
            f"{row['margin']:.6f}; where the policy is the reference they must be ln 2 "
            f"= {math.log(2):.6f} and 0 within {tolerance}. The cached reference "
            "log-probabilities are not this model's: remove the folder 'reference' in "
            "the output folder, and check that model and tokenizer belong together"
        )


def _check_finite(row: dict[str, float], index: int) -> None:
    bad = [name for name, value in row.items() if not math.isfinite(value)]
    if bad:
        raise ValueError(
            f"step {index + 1}: {', '.join(bad)} not finite; lower "
            "optimizer.learning_rate or optimizer.clip. The last checkpoint is intact"
        )


def _note(row: dict[str, float]) -> str:
    names = ("loss", "margin", "accuracy")
    shown = [f"{name} {row[name]:.3f}" for name in names if name in row]
    return f"{' '.join(shown)}  {row['tokens'] / row['step_s']:.0f} tokens/s"


def _export(
    out: Path, config: TrainConfig, model: Model, trainable: Params, folder: Path
) -> None:
    """Writes what was trained: a PEFT adapter, or a model folder."""
    trainable = jax.tree.map(np.asarray, trainable)
    if config.adapter.rank:
        peft.write(out / "adapter", trainable, model.config, base=config.model)
    else:
        models.save(out / "model", trainable, model.config, like=folder)


def _summary(
    config: TrainConfig, setup: Setup, out: Path, wall_s: float
) -> dict[str, Any]:
    pairs = sum(len(example.responses) - 1 for example in setup.examples)
    summary = {
        "objective": config.objective.name,
        "steps": len(setup.batches),
        "examples": len(setup.examples),
        "pairs": pairs,
        "too_long": len(setup.too_long),
        "tokens": sum(
            setup.examples[index].length
            for batch in setup.batches
            for row in batch
            for index in row
        ),
        "wall_s": round(wall_s, 2),
    }
    (out / "summary.json").write_text(json.dumps(summary, indent=2) + "\n")
    return summary


class _Termination:
    """Turns SIGTERM into a checkpoint after the current step, then exit status 143."""

    def __init__(self) -> None:
        self.is_asked = False

    def __enter__(self) -> _Termination:
        self._before = signal.signal(signal.SIGTERM, self._ask)
        return self

    def __exit__(self, *exception: object) -> None:
        signal.signal(signal.SIGTERM, self._before)

    def _ask(self, number: int, frame: object) -> None:
        self.is_asked = True
