# SPDX-License-Identifier: Apache-2.0
"""Likelihood losses: log-probabilities of tokens in, one loss per sequence out."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from alignjax.losses.precision import upcast


class Sequences(NamedTuple):
    """Masked sums over the tokens of each sequence."""

    total: Float[Array, "*batch"]
    tokens: Float[Array, "*batch"]


def sequence_logprobs(
    logprobs: Float[Array, "*batch time"], mask: Bool[Array, "*batch time"]
) -> Sequences:
    """Log-probability of each sequence: the sum over its masked tokens.

        total = sum_t mask_t * log p(token_t);  tokens = sum_t mask_t

    Inputs below float32 are upcast to float32. Where the mask is off the
    log-probability may be anything, NaN included.

    Args:
      logprobs: log-probabilities of tokens in nats.
      mask: true for the tokens to score.

    Returns:
      Sums in nats and token counts, in the dtype of the sums; both 0 where the mask
      is empty.

    >>> logprobs = jnp.array([[-1.0, -2.0, -4.0]])
    >>> sums = sequence_logprobs(logprobs, jnp.array([[True, True, False]]))
    >>> print(sums.total, sums.tokens)
    [-3.] [2.]
    """
    logprobs = upcast(logprobs)
    return Sequences(
        jnp.where(mask, logprobs, 0).sum(-1), mask.sum(-1, dtype=logprobs.dtype)
    )


def nll(
    logprobs: Float[Array, "*batch time"], mask: Bool[Array, "*batch time"]
) -> Float[Array, "*batch time"]:
    """Negative log-likelihood of each token (cross-entropy of supervised fine-tuning).

        loss_t = -log p(token_t | tokens before t)   where mask_t, else 0

    Divide the sum by the number of masked tokens of the whole batch for the usual
    token mean. Inputs below float32 are upcast to float32.

    Args:
      logprobs: log-probabilities of tokens in nats.
      mask: true for the tokens to learn.

    Returns:
      Loss of each token in nats; 0 where the mask is off; log(vocab) for a model that
      knows nothing.

    >>> logprobs = jnp.array([[-1.0, -2.0, -4.0]])
    >>> print(nll(logprobs, jnp.array([[True, True, False]])))
    [[1. 2. 0.]]
    """
    return jnp.where(mask, -upcast(logprobs), 0)


def sft(
    logprobs: Float[Array, "*batch time"], mask: Bool[Array, "*batch time"]
) -> Float[Array, "*batch"]:
    """Mean negative log-likelihood per token of each sequence.

        loss = -sum_t mask_t * log p(token_t | tokens before t) / sum_t mask_t

    Each sequence counts the same, whatever its length; use `nll` where each token
    should. Inputs below float32 are upcast to float32.

    Args:
      logprobs: log-probabilities of tokens in nats.
      mask: true for the tokens to learn.

    Returns:
      Loss of each sequence in nats per token; 0, with zero gradient, where the mask is
      empty.

    >>> logprobs = jnp.array([[-1.0, -2.0, -4.0], [-1.0, -1.0, -1.0]])
    >>> print(sft(logprobs, jnp.array([[True, True, False], [False, False, False]])))
    [1.5 0. ]
    """
    loss = nll(logprobs, mask)
    return loss.sum(-1) / jnp.maximum(mask.sum(-1, dtype=loss.dtype), 1)


def length_desensitized(
    logprobs: Float[Array, "*batch time"],
    mask: Bool[Array, "*batch time"],
    public: int | Int[Array, "*batch"],
    *,
    alpha: float,
) -> Sequences:
    """Scores of LD-DPO, Liu et al. 2024 (arXiv:2409.06411): what lies beyond the
    length that both responses share counts less.

        total = sum over the first `public` masked tokens of log p(token_t)
                + alpha * sum over the rest

    Both responses of a pair take the smaller of their token counts as `public`, under
    the policy and under the reference. The token count stays the whole one.

    Args:
      logprobs: log-probabilities of tokens in nats.
      mask: true for the tokens to score.
      public: how many tokens count in full, of each sequence or of all.
      alpha: weight of the rest, in [0, 1]; 1 is `sequence_logprobs`.

    Returns:
      Weighted sums in nats, and counts of all masked tokens.

    >>> logprobs, mask = jnp.array([[-1.0, -2.0, -4.0]]), jnp.ones((1, 3), bool)
    >>> print(length_desensitized(logprobs, mask, jnp.array([1]), alpha=0.5).total)
    [-4.]
    """
    logprobs = upcast(logprobs)
    is_public = jnp.cumsum(mask, axis=-1) <= jnp.asarray(public)[..., None]
    weighted = jnp.where(is_public, logprobs, alpha * logprobs)
    return Sequences(
        jnp.where(mask, weighted, 0).sum(-1), mask.sum(-1, dtype=logprobs.dtype)
    )


def wpo_weight(
    logprobs: Float[Array, "*batch time"],
    log_collision: Float[Array, "*batch time"],
    mask: Bool[Array, "*batch time"],
) -> Float[Array, "*batch"]:
    """How likely the policy itself would write a response, Zhou et al. 2024
    (WPO, arXiv:2406.11827).

        weight = exp(mean over masked tokens of [log p(token_t) - log sum_v p(v)^2])

    A pair's loss is multiplied by the weights of both responses. The second term is
    about what the first is for the policy's own samples, so that those weigh about 1. A
    weight is not clamped: a greedy answer's is above 1.

    Args:
      logprobs: log-probabilities of tokens in nats.
      log_collision: log sum over the vocabulary of p^2, see `token_statistics`.
      mask: true for the tokens of the response.

    Returns:
      Weight of each response, without gradient; 1 where the mask is empty.

    >>> logprobs, mask = jnp.log(jnp.array([[0.5, 0.25]])), jnp.ones((1, 2), bool)
    >>> print(wpo_weight(logprobs, jnp.log(jnp.array([[0.5, 0.5]])), mask))  # sqrt(1/2)
    [0.70710677]
    """
    excess = jnp.where(mask, upcast(logprobs) - upcast(log_collision), 0).sum(-1)
    mean = excess / jnp.maximum(mask.sum(-1, dtype=excess.dtype), 1)
    return jax.lax.stop_gradient(jnp.exp(mean))
