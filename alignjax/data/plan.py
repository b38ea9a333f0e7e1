# SPDX-License-Identifier: Apache-2.0
"""Which examples stand in which batch: a pure function of (examples, seed).

Batches are filled by tokens, not by count: the next example of the shuffled order goes
into the first row with room, and a batch is closed when none has. Every batch has the
same static shape; the loss divides by what a batch holds.

A coupled objective compares the four examples of a couple: there a row is one couple.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Sequence

import numpy as np

from alignjax.data.records import ROLES
from alignjax.data.rows import Shape, Tokens

Batch = list[list[int]]  # rows of example indices


def couples(examples: Sequence[Tokens]) -> list[list[Tokens]]:
    """The examples of each couple in the order of `records.ROLES`; couples by name."""
    return [[examples[index] for index in row] for row in _couple_rows(examples)]


def with_mismatched(examples: Sequence[Tokens]) -> list[Tokens]:
    """Each example with the chosen answer of the next one that has another prompt as
    an additional response: what KTO's baseline is estimated from.

    Raises:
      ValueError: all prompts are the same.
    """
    # From the back, once around: the next example with another prompt.
    following: dict[int, Tokens] = {}
    for index in reversed(range(2 * len(examples))):
        here, after = (examples[i % len(examples)] for i in (index, index + 1))
        if here.prompt != after.prompt:
            following[index] = after
        elif index + 1 in following:
            following[index] = following[index + 1]
    if examples and 0 not in following:
        raise ValueError(
            "all training examples have the same prompt; KTO's baseline needs answers "
            "to other prompts"
        )
    return [
        dataclasses.replace(
            example,
            responses=(*example.responses, following[index].responses[0]),
            is_mismatched=True,
        )
        for index, example in enumerate(examples)
    ]


def fitting(groups: Sequence[list[Tokens]], shape: Shape) -> list[list[Tokens]]:
    """Those groups of examples that fit an empty row together."""
    return [group for group in groups if _fits(group, shape)]


def order(count: int, *, seed: int, epoch: int) -> np.ndarray:
    """The shuffled order of one epoch; Philox counter-based, so the same everywhere."""
    bits = np.random.Philox(key=np.array([seed, epoch], np.uint64))
    return np.random.Generator(bits).permutation(count)


def batches(
    examples: Sequence[Tokens], shape: Shape, *, seed: int, epochs: int
) -> list[Batch]:
    """Every batch of the run, in order. Epochs follow each other without a gap, so
    only the last batch may be short.

    Raises:
      ValueError: no example, or one that does not fit an empty row.
    """
    if not examples:
        raise ValueError("no training example is left; nothing to plan")
    stream = (
        int(index)
        for epoch in range(epochs)
        for index in order(len(examples), seed=seed, epoch=epoch)
    )
    return list(_pack(stream, examples, shape))


def couple_batches(
    examples: Sequence[Tokens], shape: Shape, *, seed: int, epochs: int
) -> list[Batch]:
    """The same where each row is one couple, its examples in the order of
    `records.ROLES`. Couples are shuffled as wholes, by name: the order of the examples
    does not matter.

    Raises:
      ValueError: no couple, or one that does not fit an empty row.
    """
    rows = _couple_rows(examples)
    if not rows:
        raise ValueError("no couple is left; nothing to plan")
    for row in rows:
        members = [examples[index] for index in row]
        if not _fits(members, shape):
            raise ValueError(f"couple {members[0].couple} fits no row: {shape}")
    stream = [
        list(rows[index])
        for epoch in range(epochs)
        for index in order(len(rows), seed=seed, epoch=epoch)
    ]
    stream += [[] for _ in range(-len(stream) % shape.rows)]
    return [
        stream[start : start + shape.rows]
        for start in range(0, len(stream), shape.rows)
    ]


def in_order(examples: Sequence[Tokens], shape: Shape) -> list[Batch]:
    """One unshuffled pass, for scoring: similar lengths side by side."""
    stream = sorted(range(len(examples)), key=lambda index: examples[index].length)
    return list(_pack(iter(stream), examples, shape))


def _couple_rows(examples: Sequence[Tokens]) -> Batch:
    """Indices of the examples of each couple, by the couple's name, then by role."""
    found = sorted(
        (example.couple, ROLES.index(example.role), index)
        for index, example in enumerate(examples)
    )
    named = itertools.groupby(found, key=lambda each: each[0])
    return [[index for *_, index in members] for _, members in named]


def _fits(group: Sequence[Tokens], shape: Shape) -> bool:
    return all(
        shape.fits(group[:count], example) for count, example in enumerate(group)
    )


def _pack(
    stream: Iterator[int], examples: Sequence[Tokens], shape: Shape
) -> Iterator[Batch]:
    batch: Batch = [[] for _ in range(shape.rows)]
    for index in stream:
        example = examples[index]
        row = _row_with_room(batch, example, examples, shape)
        if row is None:
            yield batch
            batch = [[] for _ in range(shape.rows)]
            row = batch[0]
            if not shape.fits((), example):
                raise ValueError(f"example {example.id} fits no row: {shape}")
        row.append(index)
    if any(batch):
        yield batch


def _row_with_room(
    batch: Batch, example: Tokens, examples: Sequence[Tokens], shape: Shape
) -> list[int] | None:
    for row in batch:
        if shape.fits([examples[index] for index in row], example):
            return row
    return None
