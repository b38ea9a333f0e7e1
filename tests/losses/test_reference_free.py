# SPDX-License-Identifier: Apache-2.0
"""Losses without a reference: hand calculations."""

import math

import jax
import jax.numpy as jnp
import numpy as np

from alignjax.losses import Pair, cpo, orpo, simpo


def softplus(x):
    return math.log1p(math.exp(x))


def check(loss, expected):
    np.testing.assert_allclose(loss, [expected], rtol=1e-6)


def test_simpo_matches_hand_calculation():
    """-6 / 4 + 4 / 2 = 1/2, times 3, less the margin 0.5: z = 1."""
    policy = Pair(jnp.array([-6.0]), jnp.array([-4.0]))
    tokens = Pair(jnp.array([4]), jnp.array([2]))
    check(simpo(policy, tokens, beta=3.0), softplus(-1))
    smoothed = simpo(policy, tokens, beta=3.0, label_smoothing=0.1)
    check(smoothed, 0.9 * softplus(-1) + 0.1 * softplus(1))


def test_the_margin_of_simpo_is_gamma_not_gamma_over_beta():
    """Its paper's gamma = 1 at beta = 2 is gamma / beta = 0.5 in many settings; TRL:
    -log sigmoid(beta (x - gamma / beta))."""
    policy = Pair(jnp.array([-1.0]), jnp.array([-3.0]))
    tokens = Pair(jnp.array([1]), jnp.array([1]))
    check(simpo(policy, tokens, beta=2.0, margin=1.0), softplus(-2 * (2 - 1 / 2)))


def test_cpo_matches_hand_calculation():
    """z = 0.5 * (-4 + 6) = 1."""
    policy = Pair(jnp.array([-4.0]), jnp.array([-6.0]))
    check(cpo(policy, beta=0.5), softplus(-1))
    smoothed = cpo(policy, beta=0.5, label_smoothing=0.1)
    check(smoothed, 0.9 * softplus(-1) + 0.1 * softplus(1))


def test_orpo_matches_hand_calculation():
    """p = 1/2 and 1/4 a token: odds 1 and 1/3, so -log sigmoid(log 3) = log(4/3)."""
    policy = Pair(2 * jnp.log(jnp.array([0.5])), 3 * jnp.log(jnp.array([0.25])))
    tokens = Pair(jnp.array([2]), jnp.array([3]))
    check(orpo(policy, tokens), math.log(4 / 3))


def test_orpo_of_a_certain_response_is_finite():
    """p = 1 counts as e^-1e-6: odds 1e6 against 1, so log(1 + 1e-6); no gradient
    pushes the chosen response further."""
    policy = Pair(jnp.zeros(1), jnp.log(jnp.array([0.5])))
    tokens = Pair(jnp.array([1]), jnp.array([1]))
    loss, slope = jax.value_and_grad(lambda policy: orpo(policy, tokens)[0])(policy)
    np.testing.assert_allclose(loss, 1e-6, rtol=1e-2)
    np.testing.assert_array_equal(slope.chosen, [0])
    assert 0 < slope.rejected[0] < 1e-5
