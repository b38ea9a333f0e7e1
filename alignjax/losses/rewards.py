# SPDX-License-Identifier: Apache-2.0
"""Preference losses of the rewards: how much more likely each response has become, the
chosen and the rejected apart.

They read the log-ratios of both responses,

    a = policy.chosen - reference.chosen;  b = policy.rejected - reference.rejected

so, unlike the losses of the margin, they say where each should go: a margin that grows
while both fall is not the same to them.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from alignjax.losses.pairs import Pair, log_ratios
from alignjax.losses.precision import upcast


def nca(policy: Pair, reference: Pair, *, beta: float) -> Float[Array, "*batch"]:
    """Noise contrastive alignment of pairs, Chen et al. 2024
    (arXiv:2402.05369).

        loss = -log sigmoid(beta a)
               - 1/2 log sigmoid(-beta a) - 1/2 log sigmoid(-beta b)

    Args:
      policy: log p(response | prompt) in nats, summed over response tokens.
      reference: the same under the frozen reference model.
      beta: inverse temperature of the implicit reward; > 0.

    Returns:
      Loss of each pair, in nats; 2 log 2 where policy == reference.

    >>> same = Pair(jnp.array([1.0]), jnp.array([1.0]))
    >>> print(f"{nca(same, same, beta=0.1)[0]:.4f}")
    1.3863
    """
    a, b = log_ratios(policy, reference)
    pull = -jax.nn.log_sigmoid(beta * a)
    push = -jax.nn.log_sigmoid(-beta * a) - jax.nn.log_sigmoid(-beta * b)
    return pull + push / 2


def bco(
    policy: Pair,
    reference: Pair,
    *,
    beta: float,
    shift: float | Float[Array, ""] = 0.0,
) -> Float[Array, "*batch"]:
    """Binary classifier optimisation, Jung et al. 2024 (arXiv:2404.04656).

        loss = -log sigmoid(beta a - shift) - log sigmoid(shift - beta b)

    Args:
      policy, reference, beta: as for `nca`.
      shift: the paper's delta in nats, a running mean of the rewards of both; 0 leaves
        it out.

    Returns:
      Loss of each pair, in nats; 2 log 2 where policy == reference and shift == 0.

    >>> same = Pair(jnp.array([1.0]), jnp.array([1.0]))
    >>> print(f"{bco(same, same, beta=0.1)[0]:.4f}")
    1.3863
    """
    a, b = log_ratios(policy, reference)
    return -jax.nn.log_sigmoid(beta * a - shift) - jax.nn.log_sigmoid(shift - beta * b)


def sppo(policy: Pair, reference: Pair, *, beta: float) -> Float[Array, "*batch"]:
    """Self-play preference optimisation with hard labels, Wu et al. 2024
    (arXiv:2405.00675), win rates being 1 and 0; `sppo_hard` in TRL.

        loss = (a - 1 / (2 beta))^2 + (b + 1 / (2 beta))^2

    Args:
      policy, reference: as for `nca`.
      beta: 1 / eta of the paper: 1 / (2 beta) is where the log-ratios should go; > 0.

    Returns:
      Loss of each pair, in squared nats; 1 / (2 beta^2) where policy == reference.

    >>> policy = Pair(jnp.array([3.0]), jnp.array([1.0]))
    >>> reference = Pair(jnp.array([1.0]), jnp.array([1.0]))
    >>> print(sppo(policy, reference, beta=0.25))  # (2 - 2)^2 + (0 + 2)^2
    [4.]
    """
    a, b = log_ratios(policy, reference)
    target = 1 / (2 * beta)
    return (a - target) ** 2 + (b + target) ** 2


def apo_zero(policy: Pair, reference: Pair, *, beta: float) -> Float[Array, "*batch"]:
    """Anchored preference optimisation for chosen responses better than the policy's
    own, D'Oosterlinck et al. 2024, eq. 7 (arXiv:2408.06266): they become more likely,
    the rejected less.

        loss = sigmoid(-beta a) + sigmoid(beta b)

    Args:
      policy, reference, beta: as for `nca`.

    Returns:
      Loss of each pair, in (0, 2); 1 where policy == reference.

    >>> same = Pair(jnp.array([1.0]), jnp.array([1.0]))
    >>> print(apo_zero(same, same, beta=0.1))
    [1.]
    """
    a, b = log_ratios(policy, reference)
    return jax.nn.sigmoid(-beta * a) + jax.nn.sigmoid(beta * b)


def apo_down(policy: Pair, reference: Pair, *, beta: float) -> Float[Array, "*batch"]:
    """Anchored preference optimisation for chosen responses worse than the policy's
    own, D'Oosterlinck et al. 2024, eq. 8 (arXiv:2408.06266): both become less likely,
    the rejected more so.

        loss = sigmoid(beta a) + sigmoid(-beta (a - b))

    Args:
      policy, reference, beta: as for `nca`.

    Returns:
      Loss of each pair, in (0, 2); 1 where policy == reference.

    >>> same = Pair(jnp.array([1.0]), jnp.array([1.0]))
    >>> print(apo_down(same, same, beta=0.1))
    [1.]
    """
    a, b = log_ratios(policy, reference)
    return jax.nn.sigmoid(beta * a) + jax.nn.sigmoid(-beta * (a - b))


def kto(
    policy: Float[Array, "*batch"],
    reference: Float[Array, "*batch"],
    is_desirable: Bool[Array, "*batch"],
    baseline: Float[Array, ""] | float,
    *,
    beta: float,
    desirable_weight: float = 1.0,
    undesirable_weight: float = 1.0,
) -> Float[Array, "*batch"]:
    """Kahneman-Tversky optimisation of single responses, Ethayarajh et al. 2024,
    section 4.1 (arXiv:2402.01306).

        r = policy - reference
        loss = desirable_weight * sigmoid(beta (baseline - r))    if desirable
               undesirable_weight * sigmoid(beta (r - baseline))  else

    It needs no pairs: a response is marked good or bad.

    Args:
      policy: log p(response | prompt) in nats, summed over response tokens.
      reference: the same under the frozen reference model.
      is_desirable: the label of each response.
      baseline: the paper's z_0 / beta in nats, see `kto_baseline`; no gradient flows.
      beta: inverse temperature; > 0.
      desirable_weight, undesirable_weight: of the two kinds; the paper wants the
        desirable ones to weigh in total as much as the others, or up to 4/3 of that.

    Returns:
      Loss of each response, in (0, its weight); half of it where r == baseline.

    Raises:
      ValueError: is_desirable is not boolean.

    >>> score, label = jnp.array([1.0, 1.0]), jnp.array([True, False])
    >>> print(kto(score, score, label, 0.0, beta=0.1))
    [0.5 0.5]
    """
    is_desirable = jnp.asarray(is_desirable)
    if is_desirable.dtype != bool:
        raise ValueError(
            f"kto: is_desirable must be boolean, got {is_desirable.dtype}; "
            "labels of 1 and -1, say, are given as labels > 0"
        )
    ratio = upcast(policy) - upcast(reference)
    baseline = jax.lax.stop_gradient(jnp.asarray(baseline, ratio.dtype))
    ahead = beta * (ratio - baseline)
    return jnp.where(
        is_desirable,
        desirable_weight * jax.nn.sigmoid(-ahead),
        undesirable_weight * jax.nn.sigmoid(ahead),
    )


def kto_baseline(
    policy: Float[Array, "*batch"],
    reference: Float[Array, "*batch"],
    mask: Bool[Array, "*batch"] | None = None,
    *,
    axis_name: str | None = None,
) -> Float[Array, ""]:
    """Estimate of KL(policy || reference) for `kto`, Ethayarajh et al. 2024, section
    4.1 (arXiv:2402.01306): the mean log-ratio of responses to other prompts.

        baseline = max(0, mean(policy - reference))

    It couples the examples of a batch: take it over all of them, microbatches and
    devices included.

    Args:
      policy: log p(response | prompt) in nats of mismatched prompts and responses.
      reference: the same under the frozen reference model.
      mask: false for padding; default: none.
      axis_name: inside shard_map or pmap, the axis over which the batch is spread: sums
        and counts are added over all devices; default: each device on its own.

    Returns:
      Nats, >= 0, without gradient; 0 where the mask is empty.

    >>> print(kto_baseline(jnp.array([3.0, 1.0]), jnp.array([1.0, 1.0])))
    1.0
    """
    ratio = upcast(policy) - upcast(reference)
    is_valid = jnp.ones(ratio.shape, bool) if mask is None else mask
    total = jnp.where(is_valid, ratio, 0).sum()
    count = is_valid.sum(dtype=ratio.dtype)
    if axis_name is not None:
        total, count = jax.lax.psum((total, count), axis_name)
    return jax.lax.stop_gradient(jax.nn.relu(total / jnp.maximum(count, 1)))
