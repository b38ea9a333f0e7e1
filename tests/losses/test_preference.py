# SPDX-License-Identifier: Apache-2.0
"""Losses of the margin: hand calculations.

The pair of most of them: log-ratios a = -4 + 7 = 3 and b = -6 + 7 = 1, so D = 2.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alignjax.losses import (
    Pair,
    discopop,
    dpo,
    dpo_norm,
    exo,
    forward_kl,
    hinge,
    implicit_rewards,
    ipo,
    ipo_sum,
    per_token,
    robust_dpo,
    tdpo,
)

POLICY = Pair(jnp.array([-4.0]), jnp.array([-6.0]))
REFERENCE = Pair(jnp.array([-7.0]), jnp.array([-7.0]))
# beta at which z = beta * D = log 3: sigmoid(z) = 3/4, sigmoid(-z) = 1/4.
BETA_3 = math.log(3) / 2


def softplus(x):
    return math.log1p(math.exp(x))


def check(loss, expected):
    np.testing.assert_allclose(loss, [expected], rtol=1e-6)


def test_dpo_matches_hand_calculation():
    """z = 0.5 * 2 = 1: log(1 + e^-1) = 0.31326."""
    check(dpo(POLICY, REFERENCE, beta=0.5), softplus(-1))


def test_label_smoothing_matches_hand_calculation():
    """z = 1: 0.9 * log(1 + e^-1) + 0.1 * log(1 + e) = 0.41326."""
    loss = dpo(POLICY, REFERENCE, beta=0.5, label_smoothing=0.1)
    check(loss, 0.9 * softplus(-1) + 0.1 * softplus(1))


def test_margin_matches_hand_calculation():
    """z - 3 = -2: log(1 + e^2)."""
    check(dpo(POLICY, REFERENCE, beta=0.5, margin=3), softplus(2))


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_soft_labels_and_margins_may_differ_by_pair(dtype):
    """z = 1, 1, 1 with e = 0, 1/4, 1/4 and margins 0, 0, 3."""
    policy, reference = jax.tree.map(lambda x: jnp.tile(x, 3), (POLICY, REFERENCE))
    loss = dpo(
        policy,
        reference,
        beta=0.5,
        label_smoothing=jnp.array([0, 0.25, 0.25], dtype),
        margin=jnp.array([0, 0, 3], dtype),
    )
    soft = 0.75 * softplus(-1) + 0.25 * softplus(1)
    late = 0.75 * softplus(2) + 0.25 * softplus(-2)
    assert loss.dtype == jnp.float32
    np.testing.assert_allclose(loss, [softplus(-1), soft, late], rtol=1e-6)


def test_dpo_norm_matches_hand_calculation():
    """D = 3 / 6 - 1 / 4 = 1/4, z = 4 * 1/4 = 1, less the margin 2: log(1 + e)."""
    tokens = Pair(jnp.array([6]), jnp.array([4]))
    check(dpo_norm(POLICY, REFERENCE, tokens, beta=4.0, margin=2), softplus(1))


def test_an_empty_response_counts_as_one_token():
    """3 / 1 - 1 / 2 = 2.5 where the chosen response has none."""
    tokens = Pair(jnp.array([0]), jnp.array([2]))
    ratios = Pair(jnp.array([3.0]), jnp.array([1.0]))
    np.testing.assert_array_equal(per_token(ratios, tokens), [[3], [0.5]])
    check(ipo(POLICY, REFERENCE, tokens, beta=0.5), (2.5 - 1) ** 2)


def test_robust_dpo_matches_hand_calculation():
    """z = 1, e = 0.1: (0.9 log(1 + e^-1) - 0.1 log(1 + e)) / 0.8."""
    loss = robust_dpo(POLICY, REFERENCE, beta=0.5, label_smoothing=0.1)
    check(loss, (0.9 * softplus(-1) - 0.1 * softplus(1)) / 0.8)


def test_robust_dpo_is_unbiased():
    """Over labels of which a share e is flipped its mean is DPO's loss of the right
    ones: (1 - e) robust(z) + e robust(-z) = dpo(z)."""
    flipped = [Pair(pair.rejected, pair.chosen) for pair in (POLICY, REFERENCE)]
    right = robust_dpo(POLICY, REFERENCE, beta=0.5, label_smoothing=0.2)
    wrong = robust_dpo(*flipped, beta=0.5, label_smoothing=0.2)
    check(0.8 * right + 0.2 * wrong, softplus(-1))


def test_ipo_matches_hand_calculation():
    """(3 / 6 - 1 / 4 - 1 / (2 * 0.25))^2 = (-1.75)^2."""
    tokens = Pair(jnp.array([6]), jnp.array([4]))
    check(ipo(POLICY, REFERENCE, tokens, beta=0.25), 1.75**2)


def test_ipo_sum_matches_hand_calculation():
    """(2 - 1 / (2 * 0.1))^2 = 9."""
    check(ipo_sum(POLICY, REFERENCE, beta=0.1), 9)


def test_hinge_matches_hand_calculation():
    """1 - 0.1 * 2 = 0.8; 1 - (0.1 * 2 - 0.5) = 1.3; 0 from z = 1 on."""
    check(hinge(POLICY, REFERENCE, beta=0.1), 0.8)
    check(hinge(POLICY, REFERENCE, beta=0.1, margin=0.5), 1.3)
    check(hinge(POLICY, REFERENCE, beta=0.6), 0)


def test_exo_matches_hand_calculation():
    """z = log 3, e = 0.1: 3/4 log(3/4 / 0.9) + 1/4 log(1/4 / 0.1)."""
    loss = exo(POLICY, REFERENCE, beta=BETA_3, label_smoothing=0.1)
    check(loss, 0.75 * math.log(0.75 / 0.9) + 0.25 * math.log(0.25 / 0.1))


def test_exo_is_zero_where_policy_and_label_agree():
    """A reverse KL: 0 at sigmoid(z) = 3/4 = 1 - e."""
    loss = exo(POLICY, REFERENCE, beta=BETA_3, label_smoothing=0.25)
    np.testing.assert_allclose(loss, [0], atol=1e-7)


def test_discopop_matches_hand_calculation():
    """z = log 3, temperature 1/2: m = sigmoid(2 log 3) = 9/10, so
    1/10 log(4/3) + 9/10 * 1/3."""
    loss = discopop(POLICY, REFERENCE, beta=BETA_3, temperature=0.5)
    check(loss, 0.1 * math.log(4 / 3) + 0.9 / 3)


def test_tdpo_matches_hand_calculation():
    """z = 1, kl = 1 and 3: log(1 + e^-(1 - 0.5 * 0.5 * (3 - 1))) = log(1 + e^-0.5)."""
    kl = Pair(jnp.array([1.0]), jnp.array([3.0]))
    check(tdpo(POLICY, REFERENCE, kl, beta=0.5, alpha=0.5), softplus(-0.5))
    check(tdpo(POLICY, REFERENCE, kl, beta=0.5, alpha=0.0), softplus(-1))


def test_tdpo_has_no_gradient_through_the_chosen_kl():
    """d loss / d kl.rejected = alpha beta sigmoid(-(z - ...)) = 1/4 sigmoid(-1/2)."""
    kl = Pair(jnp.array([1.0]), jnp.array([3.0]))
    slope = jax.grad(lambda kl: tdpo(POLICY, REFERENCE, kl, beta=0.5).sum())(kl)
    np.testing.assert_array_equal(slope.chosen, [0])
    check(slope.rejected, 0.25 / (1 + math.exp(0.5)))


def test_divergence_is_of_each_log_ratio():
    """Forward KL, a = log 2, b = -log 2: h = 1 - 1/2 and 1 - 2; D = 3/2, z = 3/4."""
    policy = Pair(jnp.log(jnp.array([0.5])), jnp.log(jnp.array([0.25])))
    reference = Pair(jnp.log(jnp.array([0.25])), jnp.log(jnp.array([0.5])))
    check(dpo(policy, reference, beta=0.5, divergence=forward_kl), softplus(-0.75))
    check(ipo_sum(policy, reference, beta=0.5, divergence=forward_kl), 0.5**2)


def test_implicit_rewards_match_hand_calculation():
    """0.5 * 3 and 0.5 * 1."""
    rewards = implicit_rewards(POLICY, REFERENCE, beta=0.5)
    check(rewards.chosen, 1.5)
    check(rewards.rejected, 0.5)


@pytest.mark.parametrize("label_smoothing", [0.0, 0.1])
@pytest.mark.parametrize("margin", [1e4, -1e4])
def test_dpo_is_linear_at_extreme_margins(margin, label_smoothing):
    """z = +-1e4: the sigmoid is 1 or 0, so loss and slope in z are, with smoothing e,

    z = +1e4: e * 1e4 and e;    z = -1e4: (1 - e) * 1e4 and -(1 - e).
    """
    zero = jnp.zeros(1)

    def loss(chosen):
        return dpo(
            Pair(chosen, zero),
            Pair(zero, zero),
            beta=1.0,
            label_smoothing=label_smoothing,
        )[0]

    value, slope = jax.value_and_grad(loss)(jnp.array([margin]))
    share = label_smoothing if margin > 0 else -(1 - label_smoothing)
    np.testing.assert_allclose(value, share * margin, rtol=1e-6)
    np.testing.assert_allclose(slope, [share], rtol=1e-6)


def test_squares_stand_still_where_float32_ends():
    """Forward KL at -60: h = -1.1e26, whose square is no float32; at -40: 2.4e17."""

    def loss(chosen):
        zero = jnp.zeros(1)
        policy, reference = Pair(chosen, zero), Pair(zero, zero)
        return ipo_sum(policy, reference, beta=0.5, divergence=forward_kl)[0]

    value, slope = jax.value_and_grad(loss)(jnp.array([-60.0]))
    assert (value, slope) == (np.float32(1e18) ** 2, 0)
    value, slope = jax.value_and_grad(loss)(jnp.array([-40.0]))
    np.testing.assert_allclose(value, math.exp(80), rtol=1e-5)
    np.testing.assert_allclose(slope, [-2 * math.exp(80)], rtol=1e-5)


def test_gradient_is_minus_beta_times_the_chance_of_error():
    """Rafailov et al., section 4: d loss / d chosen = -beta sigmoid(-z)."""
    slope = jax.grad(lambda policy: dpo(policy, REFERENCE, beta=BETA_3).sum())(POLICY)
    check(slope.chosen, -BETA_3 / 4)
    check(slope.rejected, BETA_3 / 4)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_half_precision_is_upcast_before_the_margin_is_taken(dtype):
    """256 - 1 rounds to 256 in bfloat16 after a sum, but is 255 in float32."""
    policy = Pair(jnp.array([256.0], dtype), jnp.array([1.0], dtype))
    reference = Pair(jnp.array([256.0], dtype), jnp.array([0.0], dtype))
    loss = dpo(policy, reference, beta=1.0, label_smoothing=0.1)
    # z = 255 - 256 = -1
    check(loss, 0.9 * softplus(1) + 0.1 * softplus(-1))
