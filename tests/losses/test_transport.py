# SPDX-License-Identifier: Apache-2.0
"""Optimal transport: hand calculations, and what a batch as a whole means."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alignjax.losses import Pair, aot, aot_unpaired, dpo


def softplus(x):
    return np.log1p(np.exp(x))


def random_pairs(batch=5):
    scores = np.random.default_rng(0).normal(size=(4, batch)).astype(np.float32)
    return Pair(*scores[:2]), Pair(*scores[2:])


def by_definition(loss, policy, reference, beta, e):
    """d is the difference of quantiles, the lowest first."""
    if loss is aot:
        margins = (np.subtract(*pair) for pair in (policy, reference))
        high, low = (np.sort(margin) for margin in margins)
    else:
        ratios = (np.subtract(*x) for x in zip(policy, reference, strict=True))
        high, low = (np.sort(ratio) for ratio in ratios)
    z = beta * (high - low)
    return (1 - e) * softplus(-z) + e * softplus(z)


def test_aot_matches_hand_calculation():
    """Policy margins 3, 1 sort to 1, 3; the reference's 0, 2 to 0, 2: d = 1, 1."""
    policy = Pair(jnp.array([3.0, 2.0]), jnp.array([0.0, 1.0]))
    reference = Pair(jnp.array([1.0, 3.0]), jnp.array([1.0, 1.0]))
    loss = aot(policy, reference, beta=0.5)
    np.testing.assert_allclose(loss, np.full(2, softplus(-0.5)), rtol=1e-6)


def test_aot_unpaired_matches_hand_calculation():
    """a = 2, -1 sorts to -1, 2; b = -1, 0 to -1, 0: d = 0, 2; smoothing 0.1."""
    policy = Pair(jnp.array([3.0, 2.0]), jnp.array([0.0, 1.0]))
    reference = Pair(jnp.array([1.0, 3.0]), jnp.array([1.0, 1.0]))
    loss = aot_unpaired(policy, reference, beta=0.5, label_smoothing=0.1)
    expected = [math.log(2), 0.9 * softplus(-1) + 0.1 * softplus(1)]
    np.testing.assert_allclose(loss, expected, rtol=1e-6)


@pytest.mark.parametrize("loss", [aot, aot_unpaired])
def test_loss_equals_the_definition_whatever_is_masked(loss):
    """As if the masked pairs, which hold NaN, were not there; their losses are 0 and
    come last."""
    policy, reference = random_pairs()
    for mask in ([1, 1, 1, 1, 1], [0, 1, 1, 0, 1], [0, 0, 0, 1, 0], [0, 0, 0, 0, 0]):
        mask = np.array(mask, bool)
        kept = [Pair(*(x[mask] for x in pair)) for pair in (policy, reference)]
        expected = by_definition(loss, *kept, beta=0.7, e=0.2)
        padded = [
            Pair(*(jnp.where(mask, x, jnp.nan) for x in pair))
            for pair in (policy, reference)
        ]
        found = loss(*padded, beta=0.7, label_smoothing=0.2, mask=jnp.asarray(mask))
        np.testing.assert_allclose(found[: mask.sum()], expected, rtol=1e-5)
        np.testing.assert_array_equal(found[mask.sum() :], np.zeros((~mask).sum()))


@pytest.mark.parametrize("loss", [aot, aot_unpaired])
def test_gradient_goes_to_the_pair_of_each_quantile(loss):
    """With policy == reference every slope is -+beta / 2; masked pairs get none."""
    policy, _ = jax.tree.map(jnp.asarray, random_pairs())
    mask = jnp.array([True, False, True, True, False])

    def total(policy):
        return loss(policy, jax.lax.stop_gradient(policy), beta=0.4, mask=mask).sum()

    slope = jax.grad(total)(policy)
    np.testing.assert_allclose(slope.chosen, np.where(mask, -0.2, 0), rtol=1e-6)
    np.testing.assert_allclose(slope.rejected, np.where(mask, 0.2, 0), rtol=1e-6)


@pytest.mark.parametrize("loss", [aot, aot_unpaired])
@pytest.mark.parametrize("shape", [(), (4, 3)])
def test_scores_that_are_not_of_one_batch_are_refused(loss, shape):
    same = Pair(jnp.zeros(shape), jnp.zeros(shape))
    with pytest.raises(ValueError, match=r"\[batch\], got shape \("):
        loss(same, same, beta=0.1)


@pytest.mark.parametrize("loss", [aot, aot_unpaired])
def test_over_one_pair_it_is_dpo(loss):
    policy, reference = jax.tree.map(jnp.asarray, random_pairs(1))
    found = loss(policy, reference, beta=0.3, label_smoothing=0.1)
    expected = dpo(policy, reference, beta=0.3, label_smoothing=0.1)
    np.testing.assert_allclose(found, expected, rtol=1e-6)
