# SPDX-License-Identifier: Apache-2.0
"""Likelihood losses: log-probabilities of tokens in, one loss per sequence out."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float


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
    dtype = np.promote_types(logprobs.dtype, np.float32)
    return Sequences(
        jnp.where(mask, logprobs.astype(dtype), 0).sum(-1),
        mask.sum(-1, dtype=dtype),
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
    dtype = np.promote_types(logprobs.dtype, np.float32)
    return jnp.where(mask, -logprobs.astype(dtype), 0)


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
