# SPDX-License-Identifier: Apache-2.0
"""nll, sft, sequence_logprobs: masked reductions of log-probabilities."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from alignjax.losses import nll, sequence_logprobs, sft

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


@pytest.mark.parametrize("loss", [nll, sft])
def test_gradients_equal_finite_differences_in_float64(loss):
    with jax.enable_x64(True):
        logprobs = jnp.asarray(LOGPROBS, jnp.float64)
        assert loss(logprobs, MASK).dtype == jnp.float64
        check_grads(jax.jit(lambda x: loss(x, MASK)), (logprobs,), order=1, rtol=1e-6)


@pytest.mark.parametrize("loss", [nll, sft])
def test_jit_and_vmap_equal_eager(loss):
    eager = loss(LOGPROBS, MASK)
    np.testing.assert_array_equal(jax.jit(loss)(LOGPROBS, MASK), eager)
    np.testing.assert_array_equal(jax.vmap(loss)(LOGPROBS, MASK), eager)


@pytest.mark.parametrize("loss", [nll, sft])
def test_permuting_sequences_permutes_losses(loss):
    order = np.array([2, 0, 1])
    np.testing.assert_array_equal(
        loss(LOGPROBS[order], MASK[order]), loss(LOGPROBS, MASK)[order]
    )


def test_half_precision_is_summed_in_float32():
    """400 tokens of -1: bfloat16 would stop at -256."""
    logprobs = jnp.full((1, 400), -1, jnp.bfloat16)
    with jax.numpy_dtype_promotion("strict"):
        sums = sequence_logprobs(logprobs, jnp.ones((1, 400), bool))
        loss = sft(logprobs, jnp.ones((1, 400), bool))
    assert sums.total.dtype == loss.dtype == jnp.float32
    np.testing.assert_array_equal(sums.total, [-400])
    np.testing.assert_array_equal(sums.tokens, [400])
    np.testing.assert_array_equal(loss, [1])
