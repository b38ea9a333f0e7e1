# SPDX-License-Identifier: Apache-2.0
"""What a run trains on: tokens, the plan of all batches, the reference's scores."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import jax

from alignjax.data import encode, plan, records, reference, rows
from alignjax.data.plan import Batch
from alignjax.data.rows import Rows, Shape, Tokens
from alignjax.data.tokenizer import Tokenizer
from alignjax.models import Model, Params
from alignjax.progress import Progress
from alignjax.sampling import score
from alignjax.train import Objective
from alignjax.train.config import TrainConfig


@dataclasses.dataclass(frozen=True)
class Setup:
    """The data of a run, before its first step.

    Attributes:
      examples: what is trained on, as tokens.
      without_negatives, too_long: how many examples were left out because the
        objective needs pairs, or because they fit no row.
      batches: of the whole run, in order, as indices into `examples`.
      reference: log-probabilities under the reference, where the objective needs them.
    """

    examples: list[Tokens]
    without_negatives: int
    too_long: int
    batches: list[Batch]
    shape: Shape
    reference: reference.Logprobs | None = None


def prepare(
    config: TrainConfig,
    objective: Objective,
    dataset: records.Dataset,
    tokenizer: Tokenizer,
    model: Model,
    say: Callable[[str], None],
) -> Setup:
    """Examples as tokens, and the plan of all batches.

    Raises:
      ValueError: nothing is left to train on, or an example exceeds the model's
        context; says what to change.
    """
    selected = dataset.select("train", config.strategies)
    if objective.reference:
        chosen = [record for record in selected if record.negatives]
    else:
        chosen = [dataclasses.replace(record, negatives=()) for record in selected]
    without = len(selected) - len(chosen)
    if not chosen:
        strategies = sorted({record.strategy for record in dataset.records} - {""})
        raise ValueError(
            f"{config.dataset}: no training example for objective "
            f"{config.objective.name!r}: of {len(dataset.records)} records "
            f"{len(selected)} are of the split 'train' and of the strategies "
            f"{', '.join(config.strategies) or '(all)'}, and {without} of these lack "
            f"a rejected answer; strategies there: {', '.join(strategies) or 'none'}"
        )
    # Ids sampled under another tokenizer mean nothing here.
    same = dataset.template_fingerprint == tokenizer.fingerprint
    encoded = encode.encode(chosen, tokenizer, reuse_ids=same)
    fields = dataclasses.asdict(config.batch)
    del fields["microbatches"]
    shape = Shape(**fields)
    examples, too_long = plan.fitting(encoded, shape)
    if not examples:
        least = min(encoded, key=lambda example: example.longest)
        raise ValueError(
            f"{config.dataset}: none of the {len(encoded)} training examples fits a "
            f"row; {least.id} needs batch.block {least.longest}, batch.time "
            f"{least.length}, batch.blocks {len(least.responses)} and batch.scored "
            f"{least.length - len(least.prompt)} or more"
        )
    longest = max(examples, key=lambda example: example.longest)
    if longest.longest > model.config.context:
        raise ValueError(
            f"{config.dataset}: example {longest.id} has {longest.longest} tokens, the "
            f"model's context is {model.config.context}; set batch.block to that or "
            "less, which leaves such examples out"
        )
    if without or too_long:
        say(
            f"left out {without} examples without a rejected answer and "
            f"{len(too_long)} that fit no row (batch.block {shape.block}, batch.time "
            f"{shape.time}, batch.blocks {shape.blocks}, batch.scored {shape.scored})"
        )
    batches = plan.batches(examples, shape, seed=config.seed, epochs=config.epochs)
    if config.max_steps:
        batches = batches[: config.max_steps]
    return Setup(examples, without, len(too_long), batches, shape)


def with_reference(
    setup: Setup,
    config: TrainConfig,
    model: Model,
    base: Params,
    model_fingerprint: str,
) -> Setup:
    """The same with the reference's log-probabilities, from the cache in the output
    folder or computed once."""
    examples = setup.examples
    folder = Path(config.out) / "reference"
    name = reference.key(model_fingerprint, examples, dtype=config.dtype)
    cached = reference.load(folder, name, examples)
    if cached is None:
        with Progress("reference", total=len(examples)) as progress:
            cached = score(model, base, examples, setup.shape, progress=progress.update)
        if jax.process_index() == 0:
            reference.save(folder, name, cached)
    return dataclasses.replace(setup, reference=cached)


def batch_of(setup: Setup, index: int, microbatches: int) -> Rows:
    """Batch `index` as arrays with a leading microbatch axis."""
    arrays = rows.build(setup.batches[index], setup.examples, setup.shape)
    if setup.reference is not None:
        arrays = rows.with_reference(arrays, setup.reference)
    size = setup.shape.rows // microbatches
    return jax.tree.map(lambda x: x.reshape(microbatches, size, *x.shape[1:]), arrays)
