# SPDX-License-Identifier: Apache-2.0
"""Preference losses over several rejected responses to a prompt.

With one rejected response each equals its pair loss: `pairwise` the one it is given,
`softmax_dpo` and `plackett_luce` `dpo`, `nca_ranking` `nca`.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from alignjax.losses.pairs import Pair
from alignjax.losses.precision import upcast


class Ranking(NamedTuple):
    """A number of the chosen response and of each rejected one, in nats; `rejected`
    from the best to the worst where a loss reads the order."""

    chosen: Float[Array, " batch"]
    rejected: Float[Array, "batch negative"]


def pairwise(
    loss: Callable[..., Float[Array, "batch negative"]],
    *inputs: Ranking,
    mask: Bool[Array, "batch negative"] | None = None,
) -> Float[Array, " batch"]:
    """Mean of a pair loss over the rejected responses, as Self-Contrast trains with
    several, Liu et al. 2024 (arXiv:2404.00604).

        loss = sum_k mask_k * loss(chosen, rejected_k) / sum_k mask_k

    Args:
      loss: of pairs that do not see each other, such as partial(dpo, beta=0.1).
      inputs: what it reads, in its order, of every response: policy, reference, tokens.
      mask: false where a prompt has fewer rejected responses; default: none.

    Returns:
      Loss of each prompt; 0 where it has no rejected response.

    >>> from functools import partial
    >>> from alignjax.losses.preference import hinge
    >>> policy = Ranking(jnp.array([2.0]), jnp.array([[1.0, 0.0]]))
    >>> reference = Ranking(jnp.array([0.0]), jnp.array([[0.0, 0.0]]))
    >>> print(
    ...     pairwise(partial(hinge, beta=0.25), policy, reference)
    ... )  # (0.75 + 0.5) / 2
    [0.625]
    """
    is_valid = _valid(inputs[0].rejected, mask)
    value = loss(*(_pairs(each, is_valid) for each in inputs))
    total = jnp.where(is_valid, value, 0).sum(-1)
    return total / jnp.maximum(is_valid.sum(-1, dtype=value.dtype), 1)


def softmax_dpo(
    policy: Ranking,
    reference: Ranking,
    *,
    beta: float,
    mask: Bool[Array, "batch negative"] | None = None,
) -> Float[Array, " batch"]:
    """The chosen response against all rejected ones at once, Chen et al. 2024
    (S-DPO, arXiv:2406.09215).

        loss = -log(e^(beta a) / (e^(beta a) + sum_k e^(beta b_k)))

    with the log-ratios a and b_k of policy and reference.

    Args:
      policy: log p(response | prompt) in nats, summed over response tokens.
      reference: the same under the frozen reference model.
      beta: inverse temperature of the implicit reward; > 0.
      mask: false where a prompt has fewer rejected responses; default: none.

    Returns:
      Loss of each prompt, in nats; log(1 + K) where policy == reference; 0 where it has
      no rejected response.

    >>> same = Ranking(jnp.array([1.0]), jnp.array([[1.0, 2.0, 3.0]]))
    >>> print(f"{softmax_dpo(same, same, beta=0.1)[0]:.4f}")  # log 4
    1.3863
    """
    is_valid = _valid(policy.rejected, mask)
    a, b = _log_ratios(policy, reference, is_valid)
    return jax.nn.softplus(_log_total(-beta * (a[:, None] - b), is_valid))


def plackett_luce(
    policy: Ranking,
    reference: Ranking,
    *,
    beta: float,
    mask: Bool[Array, "batch negative"] | None = None,
) -> Float[Array, " batch"]:
    """DPO over a whole ranking, Rafailov et al. 2023, appendix A.3, eq. 20
    (arXiv:2305.18290).

        loss = -sum_k log(e^(beta s_k) / sum_(j >= k) e^(beta s_j))

    with s the log-ratios of policy and reference, the chosen response first, then the
    rejected ones in their order.

    Args:
      policy, reference, mask: as for `softmax_dpo`; the order counts.
      beta: inverse temperature of the implicit reward; > 0.

    Returns:
      Loss of each prompt, in nats; log((1 + K)!) where policy == reference; 0 where it
      has no rejected response.

    >>> same = Ranking(jnp.array([1.0]), jnp.array([[1.0, 2.0]]))
    >>> print(f"{plackett_luce(same, same, beta=0.1)[0]:.4f}")  # log 6
    1.7918
    """
    is_valid = _valid(policy.rejected, mask)
    a, b = _log_ratios(policy, reference, is_valid)
    scores = jnp.concatenate([a[:, None], b], axis=1)
    is_valid = jnp.concatenate([jnp.ones(a[:, None].shape, bool), is_valid], axis=1)
    # [batch, k, j]: how far response j, placed after k, is ahead of it.
    gaps = -beta * (scores[:, :, None] - scores[:, None, :])
    is_after = jnp.triu(jnp.ones(gaps.shape[1:], bool), k=1)
    loss = jax.nn.softplus(_log_total(gaps, is_after & is_valid[:, None, :]))
    return jnp.where(is_valid, loss, 0).sum(-1)


def nca_ranking(
    policy: Ranking,
    reference: Ranking,
    *,
    beta: float,
    mask: Bool[Array, "batch negative"] | None = None,
) -> Float[Array, " batch"]:
    """Noise contrastive alignment over K rejected responses, Chen et al. 2024
    (arXiv:2402.05369), with all weight on the chosen one.

        loss = -log sigmoid(beta a)
               - [log sigmoid(-beta a) + sum_k log sigmoid(-beta b_k)] / (1 + K)

    Args:
      policy, reference, mask: as for `softmax_dpo`.
      beta: inverse temperature of the implicit reward; > 0.

    Returns:
      Loss of each prompt, in nats; 2 log 2 where policy == reference, for every K; 0
      where it has no rejected response.

    >>> same = Ranking(jnp.array([1.0]), jnp.array([[1.0, 2.0, 3.0]]))
    >>> print(f"{nca_ranking(same, same, beta=0.1)[0]:.4f}")
    1.3863
    """
    is_valid = _valid(policy.rejected, mask)
    a, b = _log_ratios(policy, reference, is_valid)
    pushed = jnp.where(is_valid, -jax.nn.log_sigmoid(-beta * b), 0).sum(-1)
    pushed = -jax.nn.log_sigmoid(-beta * a) + pushed
    count = is_valid.sum(-1, dtype=a.dtype)
    loss = -jax.nn.log_sigmoid(beta * a) + pushed / (1 + count)
    return jnp.where(count > 0, loss, 0)


def _pairs(scores: Ranking, is_valid: Bool[Array, "batch negative"]) -> Pair:
    """The chosen response beside each rejected one."""
    chosen, rejected = _masked(scores, is_valid)
    return Pair(jnp.broadcast_to(chosen[:, None], rejected.shape), rejected)


def _log_ratios(
    policy: Ranking, reference: Ranking, is_valid: Bool[Array, "batch negative"]
) -> Ranking:
    chosen, rejected = (
        upcast(own) - upcast(other)
        for own, other in zip(policy, reference, strict=True)
    )
    return _masked(Ranking(chosen, rejected), is_valid)


def _masked(scores: Ranking, is_valid: Bool[Array, "batch negative"]) -> Ranking:
    """0 for a rejected response that is none, and for a chosen one that has none beside
    it, so that not even NaN gets out of there."""
    return Ranking(
        jnp.where(is_valid.any(-1), scores.chosen, 0),
        jnp.where(is_valid, scores.rejected, 0),
    )


def _valid(values: Array, mask: Array | None) -> Bool[Array, "batch negative"]:
    return jnp.ones(values.shape, bool) if mask is None else mask


def _log_total(
    gaps: Float[Array, "*batch negative"], mask: Bool[Array, "*batch negative"]
) -> Float[Array, "*batch"]:
    """log sum exp over what the mask admits; far below zero, but finite, where that is
    nothing: the loss is 0 there, and so is its gradient."""
    excluded = jnp.finfo(gaps.dtype).min / 2
    return jax.nn.logsumexp(jnp.where(mask, gaps, excluded), axis=-1)
