# SPDX-License-Identifier: Apache-2.0
"""Preference losses without a reference model: the policy's own log-probabilities."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from alignjax.losses.pairs import Pair, per_token
from alignjax.losses.precision import upcast
from alignjax.losses.preference import PerPair, smoothed_logistic


def simpo(
    policy: Pair,
    tokens: Pair,
    *,
    beta: float,
    margin: float = 0.5,
    label_smoothing: PerPair = 0.0,
) -> Float[Array, "*batch"]:
    """Simple preference optimisation, Meng et al. 2024, eq. 6 (arXiv:2405.14734).

        x = policy.chosen / chosen tokens - policy.rejected / rejected tokens
        loss = -(1 - e) log sigmoid(beta x - margin) - e log sigmoid(margin - beta x)

    with e = label_smoothing, 0 in the paper.

    Args:
      policy: log p(response | prompt) in nats, summed over response tokens.
      tokens: number of response tokens behind each score; below 1 counts as 1.
      beta: scale of the rewards; > 0; 2 to 10 in the paper.
      margin: the paper's gamma in nats of reward, 0.3 to 1.6 there (many settings
        give gamma / beta instead).
      label_smoothing: probability that the label is flipped, in [0, 0.5).

    Returns:
      Loss of each pair, in nats; log(1 + exp(margin)) where both are as likely a token.

    >>> policy, tokens = Pair(jnp.array([-2.0]), jnp.array([-6.0])), Pair(2, 4)
    >>> loss = simpo(policy, tokens, beta=2.0, margin=0.5)
    >>> print(f"{loss[0]:.4f}")  # log(1 + exp(-(2 * (-1 + 1.5) - 0.5)))
    0.4741
    """
    chosen, rejected = per_token(policy, tokens)
    return smoothed_logistic(beta * (chosen - rejected) - margin, label_smoothing)


def cpo(
    policy: Pair, *, beta: float, label_smoothing: PerPair = 0.0
) -> Float[Array, "*batch"]:
    """Contrastive preference optimisation, Xu et al. 2024 (arXiv:2401.08417).

        loss = -(1 - e) log sigmoid(beta x) - e log sigmoid(-beta x)
        x = policy.chosen - policy.rejected

    with e = label_smoothing, 0 in the paper. The method adds the mean negative
    log-likelihood of the chosen response (`sft`) with weight 1.

    Args:
      policy: log p(response | prompt) in nats, summed over response tokens.
      beta: scale of the rewards; > 0.
      label_smoothing: probability that the label is flipped, in [0, 0.5).

    Returns:
      Loss of each pair, in nats; log 2 where both are equally likely.

    >>> loss = cpo(Pair(jnp.array([-2.0]), jnp.array([-6.0])), beta=0.25)
    >>> print(f"{loss[0]:.4f}")  # log(1 + exp(-1))
    0.3133
    """
    chosen, rejected = map(upcast, policy)
    return smoothed_logistic(beta * (chosen - rejected), label_smoothing)


def orpo(policy: Pair, tokens: Pair) -> Float[Array, "*batch"]:
    """Odds ratio preference optimisation, Hong et al. 2024, eq. 7 (arXiv:2403.07691):
    the odds ratio term.

        p = exp(log-probability / tokens);  odds = p / (1 - p)
        loss = -log sigmoid(log(odds of chosen / odds of rejected))

    The method is the chosen response's negative log-likelihood (`sft`) plus this, times
    0.1 (lambda; `beta` in TRL).

    Args:
      policy: log p(response | prompt) in nats, summed over response tokens.
      tokens: number of response tokens behind each score; below 1 counts as 1.

    Returns:
      Loss of each pair, in nats; log 2 where both are as likely a token. The mean
      log-probability counts as at most -1e-6, where the odds are a million.

    >>> policy, tokens = (
    ...     Pair(jnp.log(jnp.array([0.25])), jnp.log(jnp.array([0.125]))),
    ...     Pair(2, 3),
    ... )
    >>> print(f"{orpo(policy, tokens)[0]:.4f}")  # both p = 1/2: log 2
    0.6931
    """
    chosen, rejected = map(_log_odds, per_token(policy, tokens))
    return -jax.nn.log_sigmoid(chosen - rejected)


def _log_odds(logprob: Float[Array, "*batch"]) -> Float[Array, "*batch"]:
    """log(p / (1 - p)) of log p < 0."""
    logprob = jnp.minimum(logprob, -1e-6)
    return logprob - jnp.log(-jnp.expm1(logprob))
