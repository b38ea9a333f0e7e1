# SPDX-License-Identifier: Apache-2.0
"""Preference losses of the margin: how much more a policy than its reference prefers
the chosen response.

All of them read one number per pair,

    D = h(policy.chosen - reference.chosen) - h(policy.rejected - reference.rejected)
    z = beta * D

where h is the divergence (h(x) = x unless said otherwise), and return one loss per pair
in nats, in float32 at least.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float

from alignjax.losses.divergences import LARGEST_EXPONENT, Divergence, reverse_kl
from alignjax.losses.pairs import Pair, log_ratios, per_token
from alignjax.losses.precision import upcast

Scalar = float | Float[Array, ""]
PerPair = Scalar | Float[Array, "*batch"]


def dpo(
    policy: Pair,
    reference: Pair,
    *,
    beta: float,
    label_smoothing: PerPair = 0.0,
    margin: PerPair = 0.0,
    divergence: Divergence = reverse_kl,
) -> Float[Array, "*batch"]:
    """Direct Preference Optimization, Rafailov et al. 2023, eq. 7 (arXiv:2305.18290).

        loss = -(1 - label_smoothing) * log sigmoid(z - margin)
               - label_smoothing * log sigmoid(margin - z)

    Label smoothing is conservative DPO, Mitchell 2023
    (https://ericmitchell.ai/cdpo.pdf); one value per pair makes it a soft label. The
    margin is ODPO's offset, Amini et al. 2024 (arXiv:2402.10571); divergences are
    f-DPO's, Wang et al. 2023 (arXiv:2309.16240).

    Args:
      policy: log p(response | prompt) in nats, summed over response tokens.
      reference: the same under the frozen reference model.
      beta: inverse temperature of the implicit reward; > 0.
      label_smoothing: probability that the label is flipped, in [0, 0.5).
      margin: by how many nats of reward the chosen response should be ahead.
      divergence: of `alignjax.losses.divergences`.

    Returns:
      Loss of each pair, in nats; log 2 where policy == reference and margin == 0.

    Raises:
      ValueError: label_smoothing is outside [0, 0.5); a traced one is not checked.

    >>> policy = Pair(jnp.array([4.0]), jnp.array([1.0]))
    >>> reference = Pair(jnp.array([2.0]), jnp.array([1.0]))
    >>> loss = dpo(policy, reference, beta=0.5)
    >>> print(f"{loss[0]:.4f}")  # log(1 + exp(-0.5 * 2))
    0.3133
    """
    z = _scaled_margin(policy, reference, beta, divergence)
    return smoothed_logistic(z - margin, label_smoothing)


def dpo_norm(
    policy: Pair,
    reference: Pair,
    tokens: Pair,
    *,
    beta: float,
    label_smoothing: PerPair = 0.0,
    margin: PerPair = 0.0,
    divergence: Divergence = reverse_kl,
) -> Float[Array, "*batch"]:
    """DPO with rewards per token, Lambert et al. 2024, section 5 (Tulu 3,
    arXiv:2411.15124).

        D = h(chosen log-ratio) / chosen tokens
            - h(rejected log-ratio) / rejected tokens
        loss as `dpo`

    Since D is per token, beta is larger than DPO's: 5 in Tulu 3.

    Args:
      policy, reference, label_smoothing, margin, divergence: as for `dpo`.
      tokens: number of response tokens behind each score; below 1 counts as 1.
      beta: inverse temperature; > 0.

    Returns:
      Loss of each pair, in nats; log 2 where policy == reference and margin == 0.

    >>> policy = Pair(jnp.array([4.0]), jnp.array([1.0]))
    >>> reference = Pair(jnp.array([2.0]), jnp.array([1.0]))
    >>> loss = dpo_norm(
    ...     policy, reference, Pair(jnp.array([4]), jnp.array([2])), beta=2.0
    ... )
    >>> print(f"{loss[0]:.4f}")  # log(1 + exp(-2 * (2 / 4 - 0 / 2)))
    0.3133
    """
    z = beta * _margin(per_token(log_ratios(policy, reference, divergence), tokens))
    return smoothed_logistic(z - margin, label_smoothing)


def robust_dpo(
    policy: Pair,
    reference: Pair,
    *,
    beta: float,
    label_smoothing: Scalar,
    divergence: Divergence = reverse_kl,
) -> Float[Array, "*batch"]:
    """Provably robust DPO, Chowdhury et al. 2024 (arXiv:2403.00409).

        loss = [-(1 - e) * log sigmoid(z) + e * log sigmoid(-z)] / (1 - 2 e)

    with e = label_smoothing: its mean over labels of which a share e is flipped is
    DPO's loss over the right ones. As z grows it falls without bound.

    Args:
      policy, reference, beta, divergence: as for `dpo`.
      label_smoothing: share of flipped labels, in [0, 0.5); 0 is `dpo`.

    Returns:
      Loss of each pair, in nats; log 2 where policy == reference.

    Raises:
      ValueError: label_smoothing is outside [0, 0.5); a traced one is not checked.

    >>> policy = Pair(jnp.array([4.0]), jnp.array([1.0]))
    >>> reference = Pair(jnp.array([2.0]), jnp.array([1.0]))
    >>> loss = robust_dpo(policy, reference, beta=0.5, label_smoothing=0.1)
    >>> print(f"{loss[0]:.4f}")  # (0.9 * 0.3133 - 0.1 * 1.3133) / 0.8
    0.1883
    """
    _check(label_smoothing)
    z = _scaled_margin(policy, reference, beta, divergence)
    e = jnp.asarray(label_smoothing, z.dtype)
    return (-(1 - e) * jax.nn.log_sigmoid(z) - _flipped(z, e)) / (1 - 2 * e)


def ipo(
    policy: Pair,
    reference: Pair,
    tokens: Pair,
    *,
    beta: float,
    divergence: Divergence = reverse_kl,
) -> Float[Array, "*batch"]:
    """Identity Preference Optimisation over mean log-ratios, Azar et al. 2023, eq. 17
    (arXiv:2310.12036).

        D = h(chosen log-ratio) / chosen tokens
            - h(rejected log-ratio) / rejected tokens
        loss = (D - 1 / (2 beta))^2

    The mean over tokens is how the authors meant it (they said so when it was added to
    TRL); `ipo_sum` takes the sums that the paper writes.

    Args:
      policy, reference, divergence: as for `dpo`.
      tokens: number of response tokens behind each score; below 1 counts as 1.
      beta: the paper's tau: 1 / (2 beta) is the wanted difference in nats per token.

    Returns:
      Loss of each pair, in squared nats; 1 / (4 beta^2) where policy == reference.

    >>> policy = Pair(jnp.array([4.0]), jnp.array([1.0]))
    >>> reference = Pair(jnp.array([2.0]), jnp.array([1.0]))
    >>> tokens = Pair(jnp.array([4]), jnp.array([2]))
    >>> print(ipo(policy, reference, tokens, beta=0.25))  # (2 / 4 - 2)^2
    [2.25]
    """
    ratios = per_token(log_ratios(policy, reference, divergence), tokens)
    return _square(_margin(ratios) - 1 / (2 * beta))


def ipo_sum(
    policy: Pair,
    reference: Pair,
    *,
    beta: float,
    divergence: Divergence = reverse_kl,
) -> Float[Array, "*batch"]:
    """Identity Preference Optimisation over summed log-ratios, Azar et al. 2023, eq. 17
    (arXiv:2310.12036), as written there.

        loss = (D - 1 / (2 beta))^2

    Args:
      policy, reference, divergence: as for `dpo`.
      beta: the paper's tau: 1 / (2 beta) is the wanted difference in nats.

    Returns:
      Loss of each pair, in squared nats; 1 / (4 beta^2) where policy == reference.

    >>> policy = Pair(jnp.array([4.0]), jnp.array([1.0]))
    >>> reference = Pair(jnp.array([2.0]), jnp.array([1.0]))
    >>> print(ipo_sum(policy, reference, beta=0.5))  # (2 - 1)^2
    [1.]
    """
    margin = _margin(log_ratios(policy, reference, divergence))
    return _square(margin - 1 / (2 * beta))


def hinge(
    policy: Pair,
    reference: Pair,
    *,
    beta: float,
    margin: PerPair = 0.0,
    divergence: Divergence = reverse_kl,
) -> Float[Array, "*batch"]:
    """SLiC's hinge loss (Zhao et al. 2023, arXiv:2305.10425) with a reference, Liu et
    al. 2023 (RSO, arXiv:2309.06657).

        loss = max(0, 1 - (z - margin))

    Args:
      policy, reference, divergence, margin: as for `dpo`.
      beta: 1 / beta is the wanted difference in nats; > 0.

    Returns:
      Loss of each pair; 1 where policy == reference and margin == 0.

    >>> policy = Pair(jnp.array([4.0]), jnp.array([1.0]))
    >>> reference = Pair(jnp.array([2.0]), jnp.array([1.0]))
    >>> print(hinge(policy, reference, beta=0.25))  # 1 - 0.25 * 2
    [0.5]
    """
    z = _scaled_margin(policy, reference, beta, divergence)
    return jax.nn.relu(1 - (z - margin))


def exo(
    policy: Pair,
    reference: Pair,
    *,
    beta: float,
    label_smoothing: Scalar = 1e-3,
    divergence: Divergence = reverse_kl,
) -> Float[Array, "*batch"]:
    """Efficient exact optimisation from pairs, Ji et al. 2024, eq. 16
    (arXiv:2402.00856): reverse KL between the policy's preference and the label's.

        loss = sigmoid(z) * [log sigmoid(z) - log(1 - e)]
               + sigmoid(-z) * [log sigmoid(-z) - log e]

    Args:
      policy, reference, beta, divergence: as for `dpo`.
      label_smoothing: e, in (0, 0.5); at 0 the divergence would be infinite.

    Returns:
      Loss of each pair, in nats; -log(2 sqrt(e (1 - e))) where policy == reference.

    Raises:
      ValueError: label_smoothing is outside (0, 0.5); a traced one is not checked.

    >>> same = Pair(jnp.array([1.0]), jnp.array([1.0]))
    >>> loss = exo(same, same, beta=0.1, label_smoothing=0.1)
    >>> print(f"{loss[0]:.4f}")  # -log(2 * 0.3)
    0.5108
    """
    _check(label_smoothing, "(0, 0.5)")
    z = _scaled_margin(policy, reference, beta, divergence)
    smoothing = jnp.asarray(label_smoothing, z.dtype)
    right = jax.nn.log_sigmoid(z) - jnp.log1p(-smoothing)
    wrong = jax.nn.log_sigmoid(-z) - jnp.log(smoothing)
    return jax.nn.sigmoid(z) * right + jax.nn.sigmoid(-z) * wrong


def discopop(
    policy: Pair,
    reference: Pair,
    *,
    beta: float,
    temperature: float = 0.05,
    divergence: Divergence = reverse_kl,
) -> Float[Array, "*batch"]:
    """DiscoPOP, found by a language model, Lu et al. 2024, eq. 5
    (arXiv:2406.08414).

        m = sigmoid(z / temperature)
        loss = (1 - m) * -log sigmoid(z) + m * exp(-z)

    Args:
      policy, reference, beta, divergence: as for `dpo`.
      temperature: how sharply the exponential takes over above z = 0; > 0.

    Returns:
      Loss of each pair; (log 2 + 1) / 2 where policy == reference.

    >>> same = Pair(jnp.array([1.0]), jnp.array([1.0]))
    >>> print(f"{discopop(same, same, beta=0.1)[0]:.4f}")
    0.8466
    """
    z = _scaled_margin(policy, reference, beta, divergence)
    gate = z / temperature
    logistic = jax.nn.sigmoid(-gate) * -jax.nn.log_sigmoid(z)
    # One exponent: far below 0 exp(-z) alone is infinite, and m is 0. Clamped, as at
    # temperatures above 1 the sum grows there.
    exponent = jnp.minimum(jax.nn.log_sigmoid(gate) - z, LARGEST_EXPONENT)
    return logistic + jnp.exp(exponent)


def tdpo(
    policy: Pair,
    reference: Pair,
    kl: Pair,
    *,
    beta: float,
    alpha: float = 0.5,
) -> Float[Array, "*batch"]:
    """Token-level DPO (TDPO2), Zeng et al. 2024 (arXiv:2404.11999).

        loss = -log sigmoid(z - alpha * beta * (kl.rejected - stop_gradient(kl.chosen)))

    Args:
      policy, reference, beta: as for `dpo`.
      kl: KL(reference || policy) of the next token, summed over the positions of each
        response, in nats, with its gradient.
      alpha: weight of the difference in KL; >= 0; 0 is `dpo`.

    Returns:
      Loss of each pair, in nats; log 2 where policy == reference, as kl is 0 there.

    >>> policy = Pair(jnp.array([4.0]), jnp.array([1.0]))
    >>> reference = Pair(jnp.array([2.0]), jnp.array([1.0]))
    >>> kl = Pair(jnp.array([1.0]), jnp.array([3.0]))
    >>> loss = tdpo(policy, reference, kl, beta=0.5)
    >>> print(f"{loss[0]:.4f}")  # log(1 + exp(-(1 - 0.5 * 0.5 * 2)))
    0.4741
    """
    z = _scaled_margin(policy, reference, beta, reverse_kl)
    excess = upcast(kl.rejected) - jax.lax.stop_gradient(upcast(kl.chosen))
    return -jax.nn.log_sigmoid(z - alpha * beta * excess)


def smoothed_logistic(
    logits: Float[Array, "*batch"], label_smoothing: PerPair
) -> Float[Array, "*batch"]:
    """Binary cross-entropy of "chosen is better" with a share of flipped labels."""
    _check(label_smoothing)
    if isinstance(label_smoothing, (int, float)) and label_smoothing == 0:
        return -jax.nn.log_sigmoid(logits)
    e = jnp.asarray(label_smoothing, logits.dtype)
    return -(1 - e) * jax.nn.log_sigmoid(logits) + _flipped(logits, e)


def _flipped(
    logits: Float[Array, "*batch"], e: Float[Array, "..."]
) -> Float[Array, "*batch"]:
    """-e log sigmoid(-logits); 0 where e is 0, even at infinity."""
    is_nothing = (e == 0) & jnp.isinf(logits)
    return -e * jax.nn.log_sigmoid(-jnp.where(is_nothing, 0, logits))


def _square(x: Float[Array, "*batch"]) -> Float[Array, "*batch"]:
    """x^2; stands still from 1e36 on, which a clamped exponential would exceed."""
    return jnp.clip(x, -1e18, 1e18) ** 2


def _margin(scores: Pair) -> Float[Array, "*batch"]:
    return scores.chosen - scores.rejected


def _scaled_margin(
    policy: Pair, reference: Pair, beta: float, divergence: Divergence
) -> Float[Array, "*batch"]:
    return beta * _margin(log_ratios(policy, reference, divergence))


def _check(label_smoothing: PerPair, allowed: str = "[0, 0.5)") -> None:
    """Refuses a number, or one of several, that is not allowed; what is traced has no
    value yet, and passes."""
    if isinstance(label_smoothing, Tracer):
        return
    e = np.asarray(label_smoothing, np.float64).ravel()
    is_allowed = (e < 0.5) & ((e >= 0) if allowed == "[0, 0.5)" else (e > 0))
    if not is_allowed.all():
        wrong = e[~is_allowed][0]
        raise ValueError(f"label_smoothing must be in {allowed}, got {wrong:g}")
