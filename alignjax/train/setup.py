# SPDX-License-Identifier: Apache-2.0
"""What a run trains on: tokens, the plan of all batches, the reference's scores."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Sequence
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
      without_negatives, without_couple, too_long: how many examples were left out
        because the objective needs pairs, or couples, or because they (or their
        couple) fit no row.
      batches: of the whole run, in order, as indices into `examples`.
      reference: log-probabilities under the reference, where the objective needs them.
    """

    examples: list[Tokens]
    without_negatives: int
    without_couple: int
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
    is_couples = objective.data == "couples"
    if objective.data == "pairs":
        chosen = [record for record in selected if record.negatives]
    elif objective.data == "labels":
        chosen = selected
    else:
        chosen = [dataclasses.replace(record, negatives=()) for record in selected]
    if is_couples:
        chosen = [record for record in chosen if record.couple]
    needed = "a couple" if is_couples else "a rejected answer"
    without = len(selected) - len(chosen)
    if not chosen:
        columns = " (columns 'couple' and 'role', see docs/data_format.md)"
        strategies = sorted({record.strategy for record in dataset.records} - {""})
        raise ValueError(
            f"{config.dataset}: no training example for objective "
            f"{config.objective.name!r}: of {len(dataset.records)} records "
            f"{len(selected)} are of the split 'train' and of the strategies "
            f"{', '.join(config.strategies) or '(all)'}, and {without} of these lack "
            f"{needed}{columns if is_couples else ''}; strategies there: "
            f"{', '.join(strategies) or 'none'}"
        )
    # Ids sampled under another tokenizer mean nothing here.
    same = dataset.template_fingerprint == tokenizer.fingerprint
    encoded = encode.encode(chosen, tokenizer, reuse_ids=same)
    if objective.data == "labels":
        encoded = plan.with_mismatched(encoded)
    fields = dataclasses.asdict(config.batch)
    del fields["microbatches"]
    shape = Shape(**fields)
    groups = plan.couples(encoded) if is_couples else [[e] for e in encoded]
    examples = list(itertools.chain.from_iterable(plan.fitting(groups, shape)))
    if not examples:
        what = "couples" if is_couples else "examples"
        raise ValueError(
            f"{config.dataset}: none of the {len(groups)} training {what} fits a row; "
            f"{_least(groups)} or more"
        )
    too_long = len(encoded) - len(examples)
    longest = max(examples, key=lambda example: example.longest)
    if longest.longest > model.config.context:
        raise ValueError(
            f"{config.dataset}: example {longest.id} has {longest.longest} tokens, the "
            f"model's context is {model.config.context}; set batch.block to that or "
            "less, which leaves such examples out"
        )
    if objective.data == "pairs" and objective.coupled:
        _check_weights(examples, config)
    if without or too_long:
        say(
            f"left out {without} examples without {needed} and {too_long} that fit "
            f"no row (batch.block {shape.block}, batch.time {shape.time}, batch.blocks "
            f"{shape.blocks}, batch.scored {shape.scored})"
        )
    make = plan.couple_batches if is_couples else plan.batches
    batches = make(examples, shape, seed=config.seed, epochs=config.epochs)
    if config.max_steps:
        batches = batches[: config.max_steps]
    return Setup(
        examples=examples,
        without_negatives=without if objective.data == "pairs" else 0,
        without_couple=without if is_couples else 0,
        too_long=too_long,
        batches=batches,
        shape=shape,
    )


def _check_weights(examples: Sequence[Tokens], config: TrainConfig) -> None:
    """A loss of the sorted batch has no place for weights: its pairs count the same."""
    weights = {example.weight: example.id for example in examples}
    if len(weights) > 1:
        (one, first), (two, second), *_ = weights.items()
        raise ValueError(
            f"{config.dataset}: examples {first} and {second} weigh {one:g} and "
            f"{two:g}, which objective {config.objective.name!r} does not read; give "
            "all the same weight"
        )


def _least(groups: Sequence[Sequence[Tokens]]) -> str:
    """The limits of a row that holds the group whose longest block is shortest."""
    least = min(groups, key=lambda group: max(each.longest for each in group))
    longest = max(each.longest for each in least)
    length = sum(each.length for each in least)
    responses = [response for each in least for response in each.responses]
    name = least[0].id if len(least) == 1 else f"couple {least[0].couple}"
    return (
        f"{name} needs batch.block {longest}, batch.time {length}, batch.blocks "
        f"{len(responses)} and batch.scored {sum(map(len, responses))}"
    )


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
