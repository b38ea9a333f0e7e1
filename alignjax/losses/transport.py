# SPDX-License-Identifier: Apache-2.0
"""Preference losses over a batch as a whole: alignment by optimal transport.

They compare the distribution of chosen scores with that of rejected ones, quantile by
quantile, so every example of the batch moves every loss: the batch must be the global
one, or `axis_name` says over what it is spread. Over one example both are `dpo`.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from alignjax.losses.pairs import Pair, log_ratios
from alignjax.losses.precision import upcast
from alignjax.losses.preference import Scalar, smoothed_logistic


def aot(
    policy: Pair,
    reference: Pair,
    *,
    beta: float,
    label_smoothing: Scalar = 0.0,
    mask: Bool[Array, " batch"] | None = None,
    axis_name: str | None = None,
) -> Float[Array, " batch"]:
    """Alignment via optimal transport of pairs, Melnyk et al. 2024
    (arXiv:2406.05882).

        d = sort(policy.chosen - policy.rejected)
            - sort(reference.chosen - reference.rejected)
        loss = -(1 - e) log sigmoid(beta d) - e log sigmoid(-beta d)

    Args:
      policy: log p(response | prompt) in nats, summed over response tokens.
      reference: the same under the frozen reference model.
      beta: inverse temperature of the implicit reward; > 0.
      label_smoothing: e, probability that a label is flipped, in [0, 0.5).
      mask: false for padding; default: none.
      axis_name: inside shard_map or pmap, the axis over which the batch is spread, in
        equal shares: the scores of all devices are gathered, and each returns its share
        of the quantiles, the first device the lowest; default: each on its own.

    Returns:
      Loss of each quantile, in nats, from the lowest, not of each pair: entry i does
      not belong to pair i. Padding's are 0, at the end. log 2 where policy ==
      reference. With `axis_name` the mean over the global batch is psum(loss.sum()) /
      psum(mask.sum()): a device's quantiles are not those of its own pairs, nor are
      they as many where there is padding.

    Raises:
      ValueError: scores are not of one batch, or label_smoothing is outside [0, 0.5).

    >>> policy = Pair(jnp.array([0.0, 2.0]), jnp.array([0.0, 0.0]))
    >>> reference = Pair(jnp.array([2.0, 0.0]), jnp.array([0.0, 0.0]))
    >>> print(aot(policy, reference, beta=1.0))  # equally distributed: log 2
    [0.6931472 0.6931472]
    """
    own, other = (
        upcast(pair.chosen) - upcast(pair.rejected) for pair in (policy, reference)
    )
    return _quantile_loss(own, other, beta, label_smoothing, mask, axis_name)


def aot_unpaired(
    policy: Pair,
    reference: Pair,
    *,
    beta: float,
    label_smoothing: Scalar = 0.0,
    mask: Bool[Array, " batch"] | None = None,
    axis_name: str | None = None,
) -> Float[Array, " batch"]:
    """Alignment via optimal transport without pairs, Melnyk et al. 2024
    (arXiv:2406.05882): chosen and rejected responses may belong to different prompts.

        d = sort(policy.chosen - reference.chosen)
            - sort(policy.rejected - reference.rejected)
        loss as `aot`

    Args:
      policy, reference, beta, label_smoothing, mask, axis_name: as for `aot`.

    Returns:
      Loss of each quantile, in nats, as for `aot`; log 2 where policy == reference.

    >>> policy = Pair(jnp.array([3.0, 1.0]), jnp.array([1.0, 0.0]))
    >>> reference = Pair(jnp.array([2.0, 1.0]), jnp.array([0.0, 0.0]))
    >>> print(aot_unpaired(policy, reference, beta=1.0))  # log-ratios 1, 0 and 1, 0
    [0.6931472 0.6931472]
    """
    ratios = log_ratios(policy, reference)
    return _quantile_loss(*ratios, beta, label_smoothing, mask, axis_name)


def _quantile_loss(
    high: Float[Array, "*batch"],
    low: Float[Array, "*batch"],
    beta: float,
    label_smoothing: Scalar,
    mask: Bool[Array, "*batch"] | None,
    axis_name: str | None,
) -> Float[Array, "*batch"]:
    if high.ndim != 1:
        raise ValueError(
            f"aot: scores must be of one batch, [batch], got shape {high.shape}; "
            "jax.vmap takes several"
        )
    share = high.size
    valid = jnp.ones(high.shape, bool) if mask is None else mask
    if axis_name is not None:
        high, low, valid = jax.lax.all_gather((high, low, valid), axis_name, tiled=True)
    # Padding sorts to the end of both, where it is left out.
    high, low = (jnp.sort(jnp.where(valid, x, jnp.inf)) for x in (high, low))
    is_score = jnp.arange(high.size) < valid.sum()
    difference = jnp.where(is_score, high, 0) - jnp.where(is_score, low, 0)
    loss = smoothed_logistic(beta * difference, label_smoothing)
    loss = jnp.where(is_score, loss, 0)
    if axis_name is None:
        return loss
    start = share * jax.lax.axis_index(axis_name)
    return jax.lax.dynamic_slice_in_dim(loss, start, share)
