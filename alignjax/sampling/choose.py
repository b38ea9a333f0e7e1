# SPDX-License-Identifier: Apache-2.0
"""The next token of each row from its scores: greedy, temperature, top-k, top-p.

Sampling inverts the cumulative distribution at one uniform number per row. A Gumbel
draw would need a random number per vocabulary entry: at 64 rows of 49,152 scores that
takes 66 ms on two cores, as long as the model itself; this takes 2 ms.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

_BISECTIONS = 40  # leaves an interval of (range of scores) / 2^40
_LANE = 128


def choose(
    scores: Float[Array, "row vocab"],
    uniform: Float[Array, " row"],
    *,
    temperature: Float[Array, " row"],
    top_k: Int[Array, " row"],
    top_p: Float[Array, " row"],
) -> tuple[Int[Array, " row"], Float[Array, " row"]]:
    """Chooses a token per row.

    Args:
      scores: the model's scores (logits) of the next token.
      uniform: one number in [0, 1) per row; not used where temperature is 0.
      temperature, top_k, top_p: as in `Settings`, per row.

    Returns:
      The token ids, and their log-probability under the untempered scores, in nats.
    """
    scores = scores.astype(jnp.float32)
    largest = scores.max(axis=-1, keepdims=True)
    is_greedy = temperature == 0
    tempered = (scores - largest) / jnp.where(is_greedy, 1.0, temperature)[:, None]
    kept = jax.lax.cond(
        jnp.any((top_k > 0) | (top_p < 1)),
        lambda: _filter(tempered, top_k, top_p),
        lambda: jnp.ones_like(tempered, bool),
    )
    weights = jnp.where(kept, jnp.exp(tempered), 0.0)
    # The first largest score; cheaper than argmax, whose reduction is not vectorised.
    index = jnp.arange(scores.shape[-1])
    greedy = jnp.where(scores == largest, index, scores.shape[-1]).min(axis=-1)
    token = jnp.where(is_greedy, greedy, _invert(weights, uniform))
    picked = jnp.take_along_axis(scores, token[:, None], axis=-1)[:, 0]
    return token, picked - jax.nn.logsumexp(scores, axis=-1)


def uniforms(
    seed: Int[Array, " row"], sample: Int[Array, " row"], index: Int[Array, " row"]
) -> Float[Array, " row"]:
    """One number in [0, 1) per row, a function of (seed, sample, index) alone."""

    def one(seed, sample, index):
        key = jax.random.fold_in(jax.random.key(seed), sample)
        return jax.random.uniform(jax.random.fold_in(key, index))

    return jax.vmap(one)(seed, sample, index)


def _invert(
    weights: Float[Array, "row vocab"], uniform: Float[Array, " row"]
) -> Int[Array, " row"]:
    """First token at which the cumulated weight exceeds uniform * total, found in two
    steps: the lane of 128 tokens, then the token in it."""
    row, vocab = weights.shape
    weights = jnp.pad(weights, ((0, 0), (0, -vocab % _LANE)))
    lanes = weights.reshape(row, -1, _LANE)
    cumulated = jnp.cumsum(lanes.sum(-1), axis=-1)
    target = uniform * cumulated[:, -1]
    lane = jnp.sum(cumulated <= target[:, None], axis=-1)
    lane = jnp.minimum(lane, _last_positive(lanes.sum(-1)))
    before = jnp.where(lane > 0, _at(cumulated, jnp.maximum(lane - 1, 0)), 0.0)
    inside = jnp.take_along_axis(lanes, lane[:, None, None], axis=1)[:, 0]
    within = jnp.cumsum(inside, axis=-1) + before[:, None]
    offset = jnp.sum(within <= target[:, None], axis=-1)
    # Rounding may push the target past the last token that has weight.
    offset = jnp.minimum(offset, _last_positive(inside))
    return lane * _LANE + offset


def _filter(
    tempered: Float[Array, "row vocab"],
    top_k: Int[Array, " row"],
    top_p: Float[Array, " row"],
) -> Bool[Array, "row vocab"]:
    """Tokens that survive top-k, then top-p of what is left. Ties are kept. The cut is
    found by bisection, since sorting the vocabulary costs more than the model."""
    vocab = tempered.shape[-1]
    wanted = jnp.where(top_k > 0, top_k, vocab).astype(jnp.float32)
    ones = jnp.ones_like(tempered)
    kept = tempered >= _threshold(tempered, ones, wanted)[:, None]
    weights = jnp.where(kept, jnp.exp(tempered), 0.0)
    mass = jnp.where(top_p < 1, top_p, 2.0) * weights.sum(-1)
    cut = _threshold(tempered, weights, mass)[:, None]
    return kept & ((tempered >= cut) | (top_p >= 1)[:, None])


def _threshold(
    tempered: Float[Array, "row vocab"],
    weights: Float[Array, "row vocab"],
    wanted: Float[Array, " row"],
) -> Float[Array, " row"]:
    """Largest t, up to bisection, with sum(weights where tempered >= t) >= wanted."""

    def halve(_, interval):
        low, high = interval
        middle = (low + high) / 2
        total = jnp.where(tempered >= middle[:, None], weights, 0.0).sum(-1)
        enough = total >= wanted
        return jnp.where(enough, middle, low), jnp.where(enough, high, middle)

    low = tempered.min(axis=-1)
    high = jnp.full_like(low, 1e-6)  # the largest tempered score is 0
    low, _ = jax.lax.fori_loop(0, _BISECTIONS, halve, (low, high))
    return low


def _at(
    values: Float[Array, "row n"], index: Int[Array, " row"]
) -> Float[Array, " row"]:
    return jnp.take_along_axis(values, index[:, None], axis=-1)[:, 0]


def _last_positive(values: Float[Array, "row n"]) -> Int[Array, " row"]:
    """Index of the last entry above zero."""
    return jnp.where(values > 0, jnp.arange(values.shape[-1]), 0).max(axis=-1)
