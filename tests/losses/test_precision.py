# SPDX-License-Identifier: Apache-2.0
"""Precision: whatever comes in, numbers are float32 at least. The losses of the table
are under test_contract; here is the rest of what is public."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alignjax.losses import (
    DIVERGENCES,
    Pair,
    Ranking,
    alpha_divergence,
    coin_weight,
    dpo,
    implicit_rewards,
    kto_baseline,
    length_desensitized,
    nll,
    pairwise,
    per_token,
    pool,
    sequence_logprobs,
    wpo_weight,
)
from alignjax.losses.precision import upcast

MASK = jnp.arange(4) < jnp.array([[4], [2], [0]])
TOKENS = Pair(jnp.array([257, 3, 0]), jnp.array([1, 2, 70_000]))


def ranking(scores):
    return Ranking(scores[:, 0], scores[:, 1:])


# Of random numbers [3, 4].
HELPERS = {
    "implicit_rewards": lambda x: implicit_rewards(
        Pair(x[:, 0], x[:, 1]), Pair(x[:, 2], x[:, 3]), beta=0.1
    ),
    "per_token": lambda x: per_token(Pair(x[:, 0], x[:, 1]), TOKENS),
    "pairwise": lambda x: pairwise(
        functools.partial(dpo, beta=0.1), ranking(x), ranking(2 * x), mask=MASK[:, 1:]
    ),
    "kto_baseline": lambda x: kto_baseline(-x, x, MASK),
    "sequence_logprobs": lambda x: sequence_logprobs(x, MASK),
    "nll": lambda x: nll(x, MASK),
    "length_desensitized": lambda x: length_desensitized(x, MASK, 2, alpha=0.3),
    "wpo_weight": lambda x: wpo_weight(x, 2 * x, MASK),
    "pool": lambda x: pool(x[..., None], MASK, "mean"),
    "coin_weight": lambda x: coin_weight(-x, -x.T.reshape(3, 4), bound=3.0),
    **DIVERGENCES,
    "alpha_divergence": alpha_divergence(0.5),
}


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
@pytest.mark.parametrize("name", HELPERS)
def test_half_precision_is_upcast_to_float32(name, dtype):
    """Equal to float32 on the same rounded numbers, without any implicit promotion."""
    numbers = -np.abs(np.random.default_rng(0).normal(size=(3, 4)))
    half = jnp.asarray(numbers, dtype)
    with jax.numpy_dtype_promotion("strict"):
        found = HELPERS[name](half)
    expected = HELPERS[name](half.astype(jnp.float32))
    for ours, theirs in zip(*map(jax.tree.leaves, (found, expected)), strict=True):
        assert ours.dtype == jnp.float32
        np.testing.assert_array_equal(ours, theirs)


def test_counts_are_not_rounded_to_the_dtype_of_the_scores():
    """70,000 is infinite in float16, 257 is 256 in bfloat16."""
    tokens = Pair(jnp.array([70_000]), jnp.array([257]))
    for dtype in (jnp.float16, jnp.bfloat16):
        scores = Pair(jnp.full(1, -300, dtype), jnp.full(1, -257, jnp.float16))
        found = per_token(scores, tokens)
        np.testing.assert_array_equal(found.chosen, [np.float32(-300 / 70_000)])
        np.testing.assert_array_equal(found.rejected, [-1])


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("x", [3, 3.0, True, np.int64(3), np.arange(3), np.ones(2)])
def test_python_numbers_integers_and_booleans_become_float32(x):
    found = upcast(x)
    assert found.dtype == jnp.float32
    np.testing.assert_array_equal(found, x)
    np.testing.assert_array_equal(upcast(jnp.asarray(x)), x)


def test_float64_stays_and_integers_are_float32_beside_it():
    with jax.enable_x64(True):
        assert upcast(np.ones(2)).dtype == jnp.float64
        assert upcast(np.arange(2)).dtype == jnp.float32


@pytest.mark.parametrize("kind", [int, float, np.float64, np.array])
def test_losses_read_python_and_numpy_numbers(kind):
    """D = 2 - 1 = 1, z = 0.1: log(1 + e^-0.1); 2 / 0.5 = 4."""
    policy, reference = Pair(kind(-4), kind(-6)), Pair(kind(-4), kind(-5))
    loss = dpo(policy, reference, beta=0.1)
    np.testing.assert_allclose(loss, np.log1p(np.exp(-0.1)), rtol=1e-6)
    assert loss.dtype == jnp.float32
    assert coin_weight(2.0, 0.5, bound=1000.0) == 4
