# SPDX-License-Identifier: Apache-2.0
"""Rows: the one representation of training examples, padded or packed.

A row holds groups side by side; a group is one prompt and its responses, each response
a branch. Token i sees token j iff they share a group, j <= i, and branch[j] is 0 (the
prompt) or branch[i]. So a prompt is computed once however many responses it has.

    tokens     the  prompt  ans-wer <eos> oth-er <eos>   next  prompt ...   pad
    group        1     1     1   1    1    1   1   1      2      2          0
    branch       0     0     1   1    1    2   2   2      0      0          0
    positions    0     1     2   3    4    2   3   4      0      1          0
    source       -     0     1   2    3    1   5   6      -      8          -

Positions restart after the prompt in every branch, and the first token of a branch is
predicted from the last token of the prompt: `source` says which position predicts
which token.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from alignjax.models.attention import Blocks


@dataclasses.dataclass(frozen=True)
class Tokens:
    """One example as token ids.

    Attributes:
      id: the record's id.
      prompt: ids of the rendered prompt, up to and with the assistant's header.
      responses: ids of each response, chosen first, negatives by rank; each ends with
        the end-of-turn token unless it was cut.
      weight: of the example in the loss; > 0.
      is_mismatched: whether the last response answers another prompt (for KTO's
        baseline); it is neither chosen nor a negative.
      couple, role: the four examples that belong together, and which of them this is
        (see `records.ROLES`); empty where there is no couple.
    """

    id: str
    prompt: tuple[int, ...]
    responses: tuple[tuple[int, ...], ...]
    weight: float = 1.0
    is_mismatched: bool = False
    couple: str = ""
    role: str = ""

    @property
    def length(self) -> int:
        """Tokens that the example takes in a row."""
        return len(self.prompt) + sum(map(len, self.responses))

    @property
    def negatives(self) -> int:
        """Responses that are neither chosen nor another prompt's."""
        return len(self.responses) - 1 - self.is_mismatched

    @property
    def longest(self) -> int:
        """Tokens of its longest block: the prompt and one response."""
        return len(self.prompt) + max(map(len, self.responses))


@dataclasses.dataclass(frozen=True)
class Shape:
    """The static shape of a batch: one compiled step serves all that fit.

    Attributes:
      rows, time: rows of a batch and tokens of a row.
      blocks, block: responses that a row can hold, and tokens of prompt + response.
      scored: scored tokens that a row can hold.
    """

    rows: int
    time: int
    blocks: int
    block: int
    scored: int

    def fits(self, row: Sequence[Tokens], example: Tokens) -> bool:
        """Whether `example` still fits into a row that holds `row`."""
        members = [*row, example]
        responses = [r for member in members for r in member.responses]
        return (
            sum(member.length for member in members) <= self.time
            and len(responses) <= self.blocks
            and example.longest <= self.block
            and sum(map(len, responses)) <= self.scored
        )


class Rows(NamedTuple):
    """A batch. Axes: row, time (tokens of a row), score (scored tokens of a row),
    seq (responses of a row), pair ((chosen, rejected) pairs of a row).

    Attributes:
      tokens, positions, group, branch: see the module; group 0 is padding.
      source: position whose hidden state predicts tokens[i]; 0 where none does.
      blocks: the same visibility as small causal problems (see `models.attention`).
      scored: positions of the tokens that enter the loss; -1 pads. Kept as a list, not
        a mask, so that the output head runs on scored tokens only.
      sequence: which response of the row each scored token belongs to; 0 where padded.
      example: index into the dataset of each response's example; -1 pads.
      rank: 0 = chosen (or the SFT answer), 1.. = negatives, -1 = another prompt's
        answer; 0 where padded.
      last: position of each response's last token; 0 where padded.
      weight: of each response's example in the loss; 0 pads.
      pairs: (chosen, rejected) as indices into seq; (0, 0) pads.
      pair_weight: the example's weight / number of its negatives; 0 pads.
      reference: log p of each scored token under the reference, in nats; 0 if unused.
    """

    tokens: Int[np.ndarray, "row time"]
    positions: Int[np.ndarray, "row time"]
    group: Int[np.ndarray, "row time"]
    branch: Int[np.ndarray, "row time"]
    source: Int[np.ndarray, "row time"]
    blocks: Blocks
    scored: Int[np.ndarray, "row score"]
    sequence: Int[np.ndarray, "row score"]
    example: Int[np.ndarray, "row seq"]
    rank: Int[np.ndarray, "row seq"]
    last: Int[np.ndarray, "row seq"]
    weight: Float[np.ndarray, "row seq"]
    pairs: Int[np.ndarray, "row pair 2"]
    pair_weight: Float[np.ndarray, "row pair"]
    reference: Float[np.ndarray, "row score"]


def build(
    batch: Sequence[Sequence[int]], examples: Sequence[Tokens], shape: Shape
) -> Rows:
    """Lays out examples (indices, row by row) as arrays of the given shape.

    Raises:
      ValueError: the rows do not fit the shape.
    """
    if len(batch) > shape.rows:
        raise ValueError(f"{len(batch)} rows given, the shape holds {shape.rows}")
    rows = _empty(shape)
    for row, members in enumerate(batch):
        placed: list[Tokens] = []
        for index in members:
            if not shape.fits(placed, examples[index]):
                raise ValueError(
                    f"example {examples[index].id} does not fit into row {row}: {shape}"
                )
            placed.append(examples[index])
        _fill(rows, row, members, examples)
    return rows


def with_reference(rows: Rows, logprobs: Sequence[Sequence[np.ndarray]]) -> Rows:
    """Puts cached reference log-probabilities (`logprobs[example][response]`, one
    value per response token, nats) beside the scored tokens."""
    reference = np.zeros_like(rows.reference)
    for row in range(rows.tokens.shape[0]):
        for seq in np.flatnonzero(rows.example[row] >= 0):
            mine = (rows.sequence[row] == seq) & (rows.scored[row] >= 0)
            # Rank -1, the answer to another prompt, is also the last response.
            values = logprobs[rows.example[row, seq]][rows.rank[row, seq]]
            reference[row, mine] = values
    return rows._replace(reference=reference)


def _empty(shape: Shape) -> Rows:
    def full(*axes: int, value: float = 0, dtype: type = np.int32) -> Any:
        return np.full((shape.rows, *axes), value, dtype)

    time, blocks, scored = shape.time, shape.blocks, shape.scored
    return Rows(
        tokens=full(time),
        positions=full(time),
        group=full(time),
        branch=full(time),
        source=full(time),
        blocks=Blocks(full(blocks, shape.block, value=-1), full(time)),
        scored=full(scored, value=-1),
        sequence=full(scored),
        example=full(blocks, value=-1),
        rank=full(blocks),
        last=full(blocks),
        weight=full(blocks, dtype=np.float32),
        pairs=full(blocks, 2),
        pair_weight=full(blocks, dtype=np.float32),
        reference=full(scored, dtype=np.float32),
    )


def _fill(
    rows: Rows, row: int, members: Sequence[int], examples: Sequence[Tokens]
) -> None:
    """Writes one row, example after example."""
    time = seq = score = pair = 0
    for group, index in enumerate(members, start=1):
        example = examples[index]
        size = len(example.prompt)
        prompt = np.arange(time, time + size)
        rows.tokens[row, prompt] = example.prompt
        rows.positions[row, prompt] = np.arange(size)
        rows.group[row, prompt] = group
        rows.source[row, prompt[1:]] = prompt[:-1]
        length = rows.blocks.tokens.shape[-1]
        rows.blocks.home[row, prompt] = seq * length + np.arange(size)
        time += size
        chosen = seq
        negatives = example.negatives
        for branch, response in enumerate(example.responses, start=1):
            rank = branch - 1 if branch <= negatives + 1 else -1
            count = len(response)
            own = np.arange(time, time + count)
            rows.tokens[row, own] = response
            rows.positions[row, own] = size + np.arange(count)
            rows.group[row, own] = group
            rows.branch[row, own] = branch
            rows.source[row, own] = [prompt[-1], *own[:-1]]
            rows.blocks.tokens[row, seq, : size + count] = [*prompt, *own]
            rows.blocks.home[row, own] = seq * length + size + np.arange(count)
            rows.scored[row, score : score + count] = own
            rows.sequence[row, score : score + count] = seq
            rows.example[row, seq] = index
            rows.rank[row, seq] = rank
            rows.last[row, seq] = own[-1]
            rows.weight[row, seq] = example.weight
            if rank > 0:
                rows.pairs[row, pair] = chosen, seq
                rows.pair_weight[row, pair] = example.weight / negatives
                pair += 1
            time, seq, score = time + count, seq + 1, score + count
