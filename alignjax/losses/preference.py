# SPDX-License-Identifier: Apache-2.0
"""Preference losses: per-sequence scores in, one loss per pair out."""

from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Float


class Pair(NamedTuple):
    """Scores of the two responses to one prompt, in nats."""

    chosen: Float[Array, " batch"]
    rejected: Float[Array, " batch"]


def dpo(
    policy: Pair, reference: Pair, *, beta: float, label_smoothing: float = 0.0
) -> Float[Array, " batch"]:
    """Direct Preference Optimization, Rafailov et al. 2023, eq. 7 (arXiv:2305.18290).

        z = beta * ((policy.chosen - policy.rejected)
                    - (reference.chosen - reference.rejected))
        loss = -(1 - label_smoothing) * log sigmoid(z)
               - label_smoothing * log sigmoid(-z)

    Label smoothing is conservative DPO, Mitchell 2023
    (https://ericmitchell.ai/cdpo.pdf). Inputs below float32 are upcast to float32.

    Args:
      policy: log p(response | prompt) in nats, summed over response tokens.
      reference: the same under the frozen reference model.
      beta: inverse temperature of the implicit reward; > 0.
      label_smoothing: probability that a label is flipped, in [0, 0.5).

    Returns:
      Loss of each pair, in nats; log 2 where policy == reference.

    >>> import jax.numpy as jnp
    >>> policy = Pair(jnp.array([4.0]), jnp.array([1.0]))
    >>> reference = Pair(jnp.array([2.0]), jnp.array([1.0]))
    >>> loss = dpo(policy, reference, beta=0.5)
    >>> print(f"{loss[0]:.4f}")  # log(1 + exp(-0.5 * 2))
    0.3133
    """
    margin = _margin(policy) - _margin(reference)
    return _smoothed_logistic(beta * margin, label_smoothing)


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

    >>> import jax.numpy as jnp
    >>> policy = Pair(jnp.array([4.0]), jnp.array([1.0]))
    >>> reference = Pair(jnp.array([2.0]), jnp.array([1.0]))
    >>> print(implicit_rewards(policy, reference, beta=0.5).chosen)
    [1.]
    """
    policy, reference = _upcast(policy), _upcast(reference)
    return Pair(
        beta * (policy.chosen - reference.chosen),
        beta * (policy.rejected - reference.rejected),
    )


def _upcast(pair: Pair) -> Pair:
    """To float32 at least, before anything is subtracted."""
    chosen, rejected = (
        scores.astype(np.promote_types(scores.dtype, np.float32)) for scores in pair
    )
    return Pair(chosen, rejected)


def _margin(scores: Pair) -> Float[Array, " batch"]:
    scores = _upcast(scores)
    return scores.chosen - scores.rejected


def _smoothed_logistic(
    logits: Float[Array, " batch"], label_smoothing: float
) -> Float[Array, " batch"]:
    """Binary cross-entropy of "chosen is better" with a share of flipped labels."""
    kept = -(1 - label_smoothing) * jax.nn.log_sigmoid(logits)
    if label_smoothing == 0:
        return kept
    return kept - label_smoothing * jax.nn.log_sigmoid(-logits)
