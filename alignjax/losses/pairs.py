# SPDX-License-Identifier: Apache-2.0
"""Pairs: the scores of two responses, and the rewards that they imply."""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from alignjax.losses.divergences import Divergence, reverse_kl
from alignjax.losses.precision import upcast


class Pair(NamedTuple):
    """A number of each of the two responses to one prompt: mostly its log-probability
    in nats, summed over its tokens."""

    chosen: Float[Array, "*batch"]
    rejected: Float[Array, "*batch"]


def log_ratios(
    policy: Pair, reference: Pair, divergence: Divergence = reverse_kl
) -> Pair:
    """divergence(policy - reference) of both responses, in float32 at least."""
    chosen, rejected = (
        divergence(upcast(own) - upcast(other))
        for own, other in zip(policy, reference, strict=True)
    )
    return Pair(chosen, rejected)


def implicit_rewards(policy: Pair, reference: Pair, *, beta: float) -> Pair:
    """Implicit rewards of DPO, Rafailov et al. 2023, section 4 (arXiv:2305.18290).

        reward = beta * (log p_policy - log p_reference)

    Args:
      policy: log p(response | prompt) in nats, summed over response tokens.
      reference: the same under the frozen reference model.
      beta: inverse temperature of the implicit reward; > 0.

    Returns:
      Rewards in nats, without the term that depends on the prompt alone;
      0 where policy == reference.

    >>> policy = Pair(jnp.array([4.0]), jnp.array([1.0]))
    >>> reference = Pair(jnp.array([2.0]), jnp.array([1.0]))
    >>> print(implicit_rewards(policy, reference, beta=0.5).chosen)
    [1.]
    """
    ratios = log_ratios(policy, reference)
    return Pair(beta * ratios.chosen, beta * ratios.rejected)


def per_token(scores: Pair, tokens: Pair) -> Pair:
    """Scores divided by their numbers of tokens, in float32 at least; an empty response
    counts as one token.

    >>> tokens = Pair(jnp.array([2]), jnp.array([0]))
    >>> print(per_token(Pair(jnp.array([-3.0]), jnp.array([0.0])), tokens).chosen)
    [-1.5]
    """
    chosen, rejected = (
        score / jnp.maximum(jnp.asarray(count, score.dtype), 1)
        for score, count in zip(map(upcast, scores), tokens, strict=True)
    )
    return Pair(chosen, rejected)
