# SPDX-License-Identifier: Apache-2.0
"""Scores: from the log-probabilities of a batch's tokens to those of its responses,
pairs and rankings.

Responses lie one after another among the scored tokens of a row. The losses want a
masked sequence each, so a mask is spread out: [row, response, score].
"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from alignjax import losses
from alignjax.data.rows import Rows
from alignjax.losses import Pair, Ranking, Sequences, TokenStatistics


class Rankings(NamedTuple):
    """Every response of a batch taken as the chosen one; those that are not have weight
    0. Negatives stand in their order; where there are fewer the mask is false."""

    scores: Ranking
    mask: Bool[Array, "ranking negative"]
    weight: Float[Array, " ranking"]


def responses(values: Float[Array, "row score"], batch: Rows) -> Sequences:
    """Sums and token counts of each response, [row, seq]."""
    mask = _members(batch, _all_responses(batch))
    return losses.sequence_logprobs(_spread(values, mask), mask)


def pairs(values: Float[Array, "row seq"], batch: Rows) -> Pair:
    """(chosen, rejected) values of every pair, rows one after another; (x, x) where
    padded."""
    chosen, rejected = (
        jnp.take_along_axis(values, batch.pairs[:, :, side], axis=1).reshape(-1)
        for side in (0, 1)
    )
    return Pair(chosen, rejected)


def length_desensitized_pairs(
    values: Float[Array, "row score"], batch: Rows, *, alpha: float
) -> Pair:
    """`losses.length_desensitized` of every pair, each up to its shorter response: a
    chosen response has a score of its own beside every negative."""
    masks = [_members(batch, batch.pairs[:, :, side]) for side in (0, 1)]
    shorter = jnp.minimum(*(mask.sum(-1) for mask in masks))
    chosen, rejected = (
        losses.length_desensitized(_spread(values, mask), mask, shorter, alpha=alpha)
        for mask in masks
    )
    return Pair(chosen.total.reshape(-1), rejected.total.reshape(-1))


def pair_likeness(statistics: TokenStatistics, batch: Rows) -> Float[Array, " pair"]:
    """Product of `losses.wpo_weight` over the two responses of every pair."""
    mask = _members(batch, _all_responses(batch))
    weight = losses.wpo_weight(
        _spread(statistics.logprob, mask), _spread(statistics.log_collision, mask), mask
    )
    chosen, rejected = pairs(weight, batch)
    return chosen * rejected


def rankings(values: Float[Array, "row seq"], batch: Rows) -> Rankings:
    """The chosen response of every example against all its negatives."""
    is_response = batch.example >= 0
    is_own = batch.example[:, :, None] == batch.example[:, None, :]
    is_negative = (batch.rank > 0) & is_response
    mask = jnp.asarray(is_own & is_negative[:, None, :])
    is_chosen = (batch.rank == 0) & is_response & mask.any(axis=2)
    rows, count = batch.example.shape
    rejected = jnp.broadcast_to(values[:, None, :], (rows, count, count))
    return Rankings(
        Ranking(values.reshape(-1), rejected.reshape(-1, count)),
        mask.reshape(-1, count),
        jnp.where(is_chosen, batch.weight, 0).astype(values.dtype).reshape(-1),
    )


def _all_responses(batch: Rows) -> Int[np.ndarray, "row seq"]:
    return np.broadcast_to(np.arange(batch.example.shape[1]), batch.example.shape)


def _members(
    batch: Rows, sequence: Int[Array | np.ndarray, "row some"]
) -> Bool[Array, "row some score"]:
    """Which scored tokens belong to these responses of the row."""
    is_token = batch.scored >= 0
    is_member = batch.sequence[:, None, :] == sequence[:, :, None]
    return jnp.asarray(is_member & is_token[:, None, :])


def _spread(
    values: Float[Array, "row score"], mask: Bool[Array, "row some score"]
) -> Float[Array, "row some score"]:
    return jnp.broadcast_to(values[:, None, :], mask.shape)
