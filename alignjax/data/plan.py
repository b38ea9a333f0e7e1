# SPDX-License-Identifier: Apache-2.0
"""Which examples stand in which batch: a pure function of (examples, seed).

Batches are filled by tokens, not by count: the next example of the shuffled order goes
into the first row with room, and a batch is closed when none has. Every batch has the
same static shape; the loss divides by what a batch holds.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from alignjax.data.rows import Shape, Tokens

Batch = list[list[int]]  # rows of example indices


def fitting(
    examples: Sequence[Tokens], shape: Shape
) -> tuple[list[Tokens], list[Tokens]]:
    """(examples that fit an empty row, those that are too long for one)."""
    fits = [shape.fits((), example) for example in examples]
    kept = [example for example, ok in zip(examples, fits, strict=True) if ok]
    dropped = [example for example, ok in zip(examples, fits, strict=True) if not ok]
    return kept, dropped


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


def in_order(examples: Sequence[Tokens], shape: Shape) -> list[Batch]:
    """One unshuffled pass, for scoring: similar lengths side by side."""
    stream = sorted(range(len(examples)), key=lambda index: examples[index].length)
    return list(_pack(iter(stream), examples, shape))


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
