# SPDX-License-Identifier: Apache-2.0
"""Equality with the formulas of TRL 1.16's CPO, ORPO and KTO trainers, written out by
hand in float64 numpy: term by term as they stand there, not simplified."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alignjax.losses import Pair, cpo, kto, kto_baseline, orpo, simpo

RNG = np.random.default_rng(0)
BATCH = 6
# Sums of log-probabilities below 0, and how many tokens they are of.
CHOSEN, REJECTED, REFERENCE_CHOSEN, REFERENCE_REJECTED = -RNG.gamma(4, size=(4, BATCH))
N_CHOSEN, N_REJECTED = RNG.integers(1, 9, size=(2, BATCH))


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def pair(chosen, rejected):
    return Pair(jnp.asarray(chosen), jnp.asarray(rejected))


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_cpo_with_sigmoid(smoothing):
    """Without cpo_alpha times the likelihood."""
    beta = 0.1
    logits = CHOSEN - REJECTED
    theirs = (
        -np.log(sigmoid(beta * logits)) * (1 - smoothing)
        - np.log(sigmoid(-beta * logits)) * smoothing
    )
    with jax.enable_x64(True):
        ours = cpo(pair(CHOSEN, REJECTED), beta=beta, label_smoothing=smoothing)
        np.testing.assert_allclose(ours, theirs, rtol=1e-12)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("beta", [0.1, 2.0])
def test_cpo_with_simpo(beta, smoothing):
    """simpo_gamma 0.5, its default, is our margin; the trainer divides it by beta."""
    gamma = 0.5
    logits = CHOSEN / N_CHOSEN - REJECTED / N_REJECTED - gamma / beta
    theirs = (
        -np.log(sigmoid(beta * logits)) * (1 - smoothing)
        - np.log(sigmoid(-beta * logits)) * smoothing
    )
    with jax.enable_x64(True):
        ours = simpo(
            pair(CHOSEN, REJECTED),
            pair(N_CHOSEN, N_REJECTED),
            beta=beta,
            margin=gamma,
            label_smoothing=smoothing,
        )
        np.testing.assert_allclose(ours, theirs, rtol=1e-12)


def test_orpo():
    """loss = likelihood - mean(beta * log sigmoid(log_odds)): beta is the weight of
    ours, which is the other term."""
    beta = 0.1
    chosen, rejected = CHOSEN / N_CHOSEN, REJECTED / N_REJECTED
    log_odds = (chosen - rejected) - (
        np.log1p(-np.exp(chosen)) - np.log1p(-np.exp(rejected))
    )
    theirs = -(beta * np.log(sigmoid(log_odds))).mean()
    with jax.enable_x64(True):
        ours = orpo(pair(CHOSEN, REJECTED), pair(N_CHOSEN, N_REJECTED))
        np.testing.assert_allclose(beta * ours.mean(), theirs, rtol=1e-12)


@pytest.mark.parametrize("sign", [1, -1])
def test_kto(sign):
    """The mean over desirable and undesirable responses together, weights 1.5 and 0.5;
    where the mean log-ratio is below 0 the baseline is 0."""
    beta, desirable, undesirable = 0.1, 1.5, 0.5
    policy_kl, reference_kl = sign * np.abs(RNG.normal(size=BATCH)), np.zeros(BATCH)
    kl = (policy_kl - reference_kl).mean().clip(min=0)
    assert (kl > 0) == (sign > 0)
    chosen_ratios = CHOSEN - REFERENCE_CHOSEN
    rejected_ratios = REJECTED[:2] - REFERENCE_REJECTED[:2]
    chosen_losses = 1 - sigmoid(beta * (chosen_ratios - kl))
    rejected_losses = 1 - sigmoid(beta * (kl - rejected_ratios))
    theirs = np.concatenate(
        [desirable * chosen_losses, undesirable * rejected_losses]
    ).mean()
    with jax.enable_x64(True):
        ours = kto(
            jnp.concatenate([CHOSEN, REJECTED[:2]]),
            jnp.concatenate([REFERENCE_CHOSEN, REFERENCE_REJECTED[:2]]),
            jnp.arange(BATCH + 2) < BATCH,
            kto_baseline(jnp.asarray(policy_kl), jnp.asarray(reference_kl)),
            beta=beta,
            desirable_weight=desirable,
            undesirable_weight=undesirable,
        )
        np.testing.assert_allclose(ours.mean(), theirs, rtol=1e-12)
