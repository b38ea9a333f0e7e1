# SPDX-License-Identifier: Apache-2.0
"""Losses of the rewards: hand calculations.

The pair of most of them: log-ratios a = log 3 and b = -log 3, beta = 1, so that
sigmoid(beta a) = sigmoid(-beta b) = 3/4.
"""

import inspect
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alignjax.losses import (
    Pair,
    apo_down,
    apo_zero,
    bco,
    kto,
    kto_baseline,
    nca,
    sppo,
)

LOG_3 = math.log(3)
POLICY = Pair(jnp.array([LOG_3 - 2]), jnp.array([-4.0]))
REFERENCE = Pair(jnp.array([-2.0]), jnp.array([LOG_3 - 4]))


def check(loss, expected):
    np.testing.assert_allclose(loss, [expected], rtol=1e-6)


def test_nca_matches_hand_calculation():
    """-log(3/4) - 1/2 log(1/4) - 1/2 log(3/4)."""
    expected = -1.5 * math.log(0.75) - 0.5 * math.log(0.25)
    check(nca(POLICY, REFERENCE, beta=1.0), expected)


def test_bco_matches_hand_calculation():
    """-2 log(3/4); with the shift log 3: -log sigmoid(0) - log sigmoid(2 log 3) =
    -log(1/2) - log(9/10)."""
    check(bco(POLICY, REFERENCE, beta=1.0), -2 * math.log(0.75))
    shifted = bco(POLICY, REFERENCE, beta=1.0, shift=LOG_3)
    check(shifted, -math.log(0.5) - math.log(0.9))


def test_sppo_matches_hand_calculation():
    """(log 3 - 2)^2 + (-log 3 + 2)^2 at 1 / (2 beta) = 2."""
    check(sppo(POLICY, REFERENCE, beta=0.25), 2 * (LOG_3 - 2) ** 2)


def test_apo_zero_matches_hand_calculation():
    """sigmoid(-log 3) + sigmoid(-log 3) = 1/4 + 1/4."""
    check(apo_zero(POLICY, REFERENCE, beta=1.0), 0.5)


def test_apo_down_matches_hand_calculation():
    """sigmoid(log 3) + sigmoid(-2 log 3) = 3/4 + 1/10."""
    check(apo_down(POLICY, REFERENCE, beta=1.0), 0.85)


@pytest.mark.parametrize(
    ("loss", "chosen", "rejected"), [(apo_zero, -1, 1), (apo_down, 1, 1)]
)
def test_apo_moves_responses_where_it_says(loss, chosen, rejected):
    """Signs of the slopes at policy == reference: a lower loss by a more likely chosen
    response (-1), or by a less likely one (1)."""
    slope = jax.grad(lambda policy: loss(policy, REFERENCE, beta=1.0).sum())(REFERENCE)
    # apo_down: sigmoid'(0) - sigmoid'(0) = 0 for the chosen response, at the start.
    assert np.sign(slope.chosen) == (chosen if loss is apo_zero else 0)
    assert np.sign(slope.rejected) == rejected


def test_kto_matches_hand_calculation():
    """r = log 3 and beta = 1; desirable 2 * sigmoid(-log 3) = 2/4, undesirable
    3 * sigmoid(log 3) = 9/4. At the baseline log 3: 2/2 and 3/2."""
    policy, reference = jnp.full(2, LOG_3), jnp.zeros(2)
    label = jnp.array([True, False])
    weights = {"desirable_weight": 2.0, "undesirable_weight": 3.0}
    loss = kto(policy, reference, label, 0.0, beta=1.0, **weights)
    np.testing.assert_allclose(loss, [0.5, 2.25], rtol=1e-6)
    loss = kto(policy, reference, label, jnp.float32(LOG_3), beta=1.0, **weights)
    np.testing.assert_allclose(loss, [1, 1.5], rtol=1e-6)


def test_kto_has_no_gradient_through_the_baseline():
    """d loss / d policy = -+beta sigmoid(log 3) sigmoid(-log 3) = -+3/16."""
    label = jnp.array([True, False])

    def total(policy, baseline):
        return kto(policy, jnp.zeros(2), label, baseline, beta=1.0).sum()

    slope, none = jax.grad(total, (0, 1))(jnp.full(2, LOG_3), jnp.float32(0))
    np.testing.assert_allclose(slope, [-3 / 16, 3 / 16], rtol=1e-6)
    assert none == 0


def test_kto_refuses_labels_that_are_not_boolean():
    """1 and -1 would both be true. Beneath the annotation, which tests check too."""
    score = jnp.zeros(2)
    with pytest.raises(ValueError, match="is_desirable must be boolean, got int32"):
        inspect.unwrap(kto)(score, score, jnp.array([1, -1]), 0.0, beta=0.1)


def test_kto_baseline_matches_hand_calculation():
    """Log-ratios 3, 1, -1: mean 1; of the last two 0; of the last alone -1, so 0."""
    policy, reference = jnp.array([3.0, 2.0, 1.0]), jnp.array([0.0, 1.0, 2.0])
    assert kto_baseline(policy, reference) == 1
    for mask, expected in [([1, 1, 0], 2), ([0, 1, 1], 0), ([0, 0, 1], 0)]:
        assert kto_baseline(policy, reference, jnp.array(mask, bool)) == expected


def test_kto_baseline_of_nothing_is_zero():
    """Neither an empty mask over NaN nor an empty batch gives NaN."""
    nothing = jnp.full(3, jnp.nan)
    assert kto_baseline(nothing, nothing, jnp.zeros(3, bool)) == 0
    assert kto_baseline(jnp.zeros(0), jnp.zeros(0)) == 0


def test_kto_baseline_carries_no_gradient():
    slope = jax.grad(kto_baseline)(jnp.array([3.0, 2.0]), jnp.zeros(2))
    np.testing.assert_array_equal(slope, [0, 0])


def test_half_precision_baseline_is_upcast():
    baseline = kto_baseline(jnp.array([256.0, 1.0], jnp.bfloat16), jnp.zeros(2))
    assert (baseline.dtype, baseline) == (jnp.float32, 128.5)
