# SPDX-License-Identifier: Apache-2.0
"""Masked reductions of log-probabilities: hand calculations."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alignjax.losses import (
    length_desensitized,
    nll,
    sequence_logprobs,
    sft,
    wpo_weight,
)

LOGPROBS = jnp.array([[-1.0, -2.0, -4.0], [-3.0, -5.0, -7.0], [-1.0, -1.0, -1.0]])
MASK = jnp.array([[True, True, False], [False, False, True], [False, False, False]])


def test_sequence_logprobs_match_hand_calculation():
    """-1 - 2 = -3 over 2 tokens; -7 over 1; nothing over 0."""
    sums = sequence_logprobs(LOGPROBS, MASK)
    np.testing.assert_array_equal(sums.total, [-3, -7, 0])
    np.testing.assert_array_equal(sums.tokens, [2, 1, 0])


def test_nll_matches_hand_calculation():
    expected = [[1, 2, 0], [0, 0, 7], [0, 0, 0]]
    np.testing.assert_array_equal(nll(LOGPROBS, MASK), expected)


def test_sft_matches_hand_calculation():
    """(1 + 2) / 2 = 1.5; 7 / 1 = 7; the empty mask is defined as 0."""
    np.testing.assert_array_equal(sft(LOGPROBS, MASK), [1.5, 7, 0])


@pytest.mark.parametrize("loss", [nll, sft])
def test_masked_tokens_may_be_nan_and_get_no_gradient(loss):
    """d mean(1, 2) / d logprob = -1/2 each; d sum = -1 each."""
    logprobs = jnp.where(MASK, LOGPROBS, jnp.nan)
    value, gradient = jax.value_and_grad(lambda x: loss(x, MASK).sum())(logprobs)
    share = 2 if loss is sft else 1
    expected = [[-1 / share, -1 / share, 0], [0, 0, -1], [0, 0, 0]]
    np.testing.assert_allclose(value, 8.5 if loss is sft else 10)
    np.testing.assert_allclose(gradient, expected)


def test_nll_of_an_empty_batch_is_empty():
    assert nll(LOGPROBS[:0], MASK[:0]).shape == (0, 3)


def test_length_desensitized_matches_hand_calculation():
    """Public 1 of 2 tokens: -1 + 0.5 * -2 = -2. Public 1, and the mask has its first
    token last: -7. Public more than there is, or an empty mask: all, or nothing."""
    sums = length_desensitized(LOGPROBS, MASK, jnp.array([1, 1, 2]), alpha=0.5)
    np.testing.assert_array_equal(sums.total, [-2, -7, 0])
    np.testing.assert_array_equal(sums.tokens, [2, 1, 0])


def test_one_public_length_may_stand_for_all_sequences():
    one = length_desensitized(LOGPROBS, MASK, 1, alpha=0.25)
    each = length_desensitized(LOGPROBS, MASK, jnp.array([1, 1, 1]), alpha=0.25)
    np.testing.assert_array_equal(one.total, each.total)


@pytest.mark.parametrize(("alpha", "total"), [(1.0, [-3, -7, 0]), (0.0, [-1, 0, 0])])
def test_alpha_is_the_weight_of_the_excess(alpha, total):
    """1: `sequence_logprobs`; 0: cut at the public length, here 1, 0 and 0."""
    sums = length_desensitized(LOGPROBS, MASK, jnp.array([1, 0, 0]), alpha=alpha)
    np.testing.assert_array_equal(sums.total, total)
    np.testing.assert_array_equal(sums.tokens, [2, 1, 0])


def test_length_desensitized_gives_no_gradient_to_masked_nan():
    """Public 1 of 2 tokens at alpha = 1/4: slopes 1 and 1/4."""
    logprobs = jnp.where(MASK, LOGPROBS, jnp.nan)

    def total(logprobs):
        public = jnp.array([1, 1, 1])
        return length_desensitized(logprobs, MASK, public, alpha=0.25).total.sum()

    slope = jax.grad(total)(logprobs)
    np.testing.assert_array_equal(slope, [[1, 0.25, 0], [0, 0, 1], [0, 0, 0]])


def test_wpo_weight_matches_hand_calculation():
    """p = 1/2, 1/4 where sum p^2 = 3/8, 1/2: mean log = 1/2 log(4/3 * 1/2), so
    sqrt(2/3). One token of p = 0.9 among sum p^2 = 0.82: above 1. Nothing: 1."""
    logprobs = jnp.log(jnp.array([[0.5, 0.25], [0.9, jnp.nan], [0.1, 0.1]]))
    collision = jnp.log(jnp.array([[0.375, 0.5], [0.82, jnp.nan], [0.1, 0.1]]))
    mask = jnp.array([[True, True], [True, False], [False, False]])
    weight = wpo_weight(logprobs, collision, mask)
    np.testing.assert_allclose(weight, [(2 / 3) ** 0.5, 0.9 / 0.82, 1], rtol=1e-6)


def test_wpo_weight_carries_no_gradient():
    def total(logprobs, collision):
        return wpo_weight(logprobs, collision, MASK).sum()

    for slope in jax.grad(total, (0, 1))(LOGPROBS, LOGPROBS / 2):
        np.testing.assert_array_equal(slope, np.zeros((3, 3)))


def test_half_precision_is_summed_in_float32():
    """400 tokens of -1: bfloat16 would stop at -256."""
    logprobs = jnp.full((1, 400), -1, jnp.bfloat16)
    mask = jnp.ones((1, 400), bool)
    sums, loss = sequence_logprobs(logprobs, mask), sft(logprobs, mask)
    weighted = length_desensitized(logprobs, mask, jnp.array([0]), alpha=0.5)
    assert wpo_weight(logprobs, logprobs, mask).dtype == jnp.float32
    np.testing.assert_array_equal(weighted.total, [-200])
    assert sums.total.dtype == loss.dtype == jnp.float32
    np.testing.assert_array_equal(sums.total, [-400])
    np.testing.assert_array_equal(sums.tokens, [400])
    np.testing.assert_array_equal(loss, [1])
