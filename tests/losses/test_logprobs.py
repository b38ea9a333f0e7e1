# SPDX-License-Identifier: Apache-2.0
"""token_logprobs: equal to the dense computation, without an array of logits."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads
from jax.typing import DTypeLike

from alignjax.losses import token_logprobs

ROWS, TIME, EMBED, VOCAB = 3, 7, 8, 29


def dense(hidden, head, targets, *, softcap=None, temperature=1.0):
    """The textbook computation, with every logit in memory."""
    dtype = jnp.promote_types(jnp.result_type(hidden, head), jnp.float32)
    logits = hidden.astype(dtype) @ head.astype(dtype)
    if softcap is not None:
        logits = softcap * jnp.tanh(logits / softcap)
    logprobs = jax.nn.log_softmax(logits / temperature)
    is_valid = (targets >= 0) & (targets < head.shape[1])
    ids = jnp.where(is_valid, targets, 0)[..., None]
    return jnp.where(is_valid, jnp.take_along_axis(logprobs, ids, -1)[..., 0], 0)


def example(dtype: DTypeLike = np.float32) -> tuple[jax.Array, ...]:
    """Hidden states, head, targets from -2 to vocab + 2, and weights of the loss."""
    rng = np.random.default_rng(0)
    hidden = jnp.asarray(rng.normal(size=(ROWS, TIME, EMBED)), dtype)
    head = jnp.asarray(rng.normal(size=(EMBED, VOCAB)), dtype)
    targets = jnp.asarray(rng.integers(-2, VOCAB + 3, size=(ROWS, TIME)), jnp.int32)
    weights = jnp.asarray(rng.normal(size=(ROWS, TIME)), jnp.float32)
    return hidden, head, targets, weights


def test_logprobs_match_hand_calculation():
    """Logits (0, 1, 2): log p(2) = 2 - log(1 + e + e^2) = -0.40761."""
    hidden, head = jnp.ones((1, 1)), jnp.array([[0.0, 1.0, 2.0]])
    logprobs = token_logprobs(hidden, head, jnp.array([2]))
    expected = 2 - math.log(1 + math.e + math.e**2)
    np.testing.assert_allclose(logprobs, [expected], rtol=1e-6)


def test_softcap_bounds_logits_before_temperature_divides_them():
    """Logits (0, 8), cap 2, temperature 0.5: z = 2 tanh(4) / 0.5; log sigmoid(z)."""
    hidden, head = jnp.ones((1, 1)), jnp.array([[0.0, 8.0]])
    logprobs = token_logprobs(
        hidden, head, jnp.array([0]), softcap=2.0, temperature=0.5
    )
    z = 2 * math.tanh(4) / 0.5
    np.testing.assert_allclose(logprobs, [-math.log1p(math.exp(z))], rtol=1e-6)


@pytest.mark.parametrize("chunk_tokens", [1, 4, 7, 21, 1000])
@pytest.mark.parametrize(
    "options", [{}, {"softcap": 2.0, "temperature": 0.7}], ids=["plain", "softcap"]
)
def test_values_and_gradients_equal_the_dense_computation(chunk_tokens, options):
    """Chunks that divide the 21 tokens and chunks that leave a rest."""
    hidden, head, targets, weights = example()
    chunked = functools.partial(token_logprobs, chunk_tokens=chunk_tokens)

    def total(function, hidden, head):
        logprobs = function(hidden, head, targets, **options)
        return (weights * logprobs).sum(), logprobs

    gradient = jax.grad(total, argnums=(1, 2), has_aux=True)
    ours, logprobs = jax.jit(gradient, static_argnums=0)(chunked, hidden, head)
    theirs, expected = jax.jit(gradient, static_argnums=0)(dense, hidden, head)
    assert logprobs.shape == targets.shape
    np.testing.assert_allclose(logprobs, expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(ours[0], theirs[0], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(ours[1], theirs[1], rtol=1e-5, atol=1e-6)


def test_gradients_equal_finite_differences_in_float64():
    with jax.enable_x64(True):
        hidden, head, targets, _ = example(np.float64)
        score = functools.partial(
            token_logprobs,
            targets=targets,
            softcap=3.0,
            temperature=0.8,
            chunk_tokens=4,
        )
        assert score(hidden, head).dtype == jnp.float64
        check_grads(jax.jit(score), (hidden, head), 1, modes=["rev"], rtol=1e-6)


def test_targets_outside_the_vocabulary_give_zero_whatever_hidden_holds():
    """Positions 1 (id -1) and 2 (id vocab) hold NaN and infinity."""
    hidden = jnp.array([[1.0], [jnp.nan], [jnp.inf]])
    head = jnp.array([[0.0, 1.0]])
    targets = jnp.array([0, -1, 2])

    def total(hidden, head):
        return token_logprobs(hidden, head, targets).sum()

    logprobs = token_logprobs(hidden, head, targets)
    hidden_gradient, head_gradient = jax.grad(total, (0, 1))(hidden, head)
    p = 1 / (1 + math.exp(-1))  # of token 1, so d log p(0) / d logits = (p, -p)
    np.testing.assert_allclose(logprobs, [math.log(1 - p), 0, 0], rtol=1e-6)
    np.testing.assert_allclose(hidden_gradient, [[-p], [0], [0]], rtol=1e-6)
    np.testing.assert_allclose(head_gradient, [[p, -p]], rtol=1e-6)


def test_no_valid_target_gives_zeros():
    hidden, head, targets, _ = example()
    logprobs = token_logprobs(hidden, head, jnp.full_like(targets, -1))
    np.testing.assert_array_equal(logprobs, np.zeros((ROWS, TIME)))
    assert token_logprobs(hidden[:0], head, targets[:0]).shape == (0, TIME)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_half_precision_is_upcast_before_the_product_is_summed(dtype):
    """Equal to the dense float32 computation on the same rounded inputs."""
    hidden, head, targets, weights = example(dtype)

    def total(function, hidden, head):
        return (weights * function(hidden, head, targets)).sum()

    logprobs = token_logprobs(hidden, head, targets)
    assert logprobs.dtype == jnp.float32
    np.testing.assert_allclose(
        logprobs, dense(hidden, head, targets), rtol=1e-5, atol=1e-6
    )
    gradient = jax.jit(jax.grad(total, (1, 2)), static_argnums=0)
    ours = gradient(token_logprobs, hidden, head)
    theirs = gradient(dense, hidden, head)
    for mine, reference in zip(ours, theirs, strict=True):
        assert mine.dtype == dtype
        # Both are rounded once, from float32 numbers that agree to 1e-6.
        np.testing.assert_allclose(
            np.float32(mine), np.float32(reference), rtol=2**-7, atol=1e-4
        )


def test_hidden_and_head_of_different_dtypes_mix_under_strict_promotion():
    hidden, head, targets, _ = example()
    hidden = hidden.astype(jnp.bfloat16)
    with jax.numpy_dtype_promotion("strict"):
        logprobs, gradient = jax.value_and_grad(
            lambda head: token_logprobs(hidden, head, targets, chunk_tokens=4).sum()
        )(head)
    expected = dense(hidden, head, targets).sum()
    np.testing.assert_allclose(logprobs, expected, rtol=1e-5)
    assert gradient.dtype == jnp.float32


def test_chunk_size_and_order_of_tokens_do_not_change_the_result():
    hidden, head, targets, _ = example()
    order = np.random.default_rng(1).permutation(TIME)
    logprobs = token_logprobs(hidden, head, targets, chunk_tokens=2)
    permuted = token_logprobs(hidden[:, order], head, targets[:, order], chunk_tokens=5)
    np.testing.assert_allclose(permuted, logprobs[:, order], rtol=1e-6, atol=1e-6)


def test_vmap_equals_a_loop():
    hidden, head, targets, _ = example()
    score = functools.partial(token_logprobs, chunk_tokens=3)
    batched = jax.jit(jax.vmap(score, in_axes=(0, None, 0)))(hidden, head, targets)
    np.testing.assert_allclose(
        batched, score(hidden, head, targets), rtol=1e-6, atol=1e-6
    )

    def total(head, hidden, targets):
        return score(hidden, head, targets).sum()

    per_row = jax.vmap(jax.grad(total), in_axes=(None, 0, 0))
    np.testing.assert_allclose(
        jax.jit(per_row)(head, hidden, targets).sum(0),
        jax.jit(jax.grad(total))(head, hidden, targets),
        rtol=1e-5,
        atol=1e-5,
    )


def compiled_gradient(tokens, argnums, embed=16, vocab=4096):
    def total(hidden, head, targets):
        return token_logprobs(hidden, head, targets, chunk_tokens=32).sum()

    shapes = (
        jax.ShapeDtypeStruct((tokens, embed), jnp.float32),
        jax.ShapeDtypeStruct((embed, vocab), jnp.float32),
        jax.ShapeDtypeStruct((tokens,), jnp.int32),
    )
    return jax.jit(jax.grad(total, argnums)).lower(*shapes).compile()


def temporary_bytes(compiled: jax.stages.Compiled) -> int:
    memory = compiled.memory_analysis()
    assert memory is not None
    return memory.temp_size_in_bytes


def flops(compiled: jax.stages.Compiled) -> float:
    cost = compiled.cost_analysis()
    assert cost is not None
    return cost["flops"]


def test_memory_of_the_gradient_does_not_hold_logits_of_all_tokens():
    """Logits of 256 and 2048 tokens take 4 and 32 MiB; a chunk of 32 takes 0.5."""
    small = temporary_bytes(compiled_gradient(256, (0, 1)))
    large = temporary_bytes(compiled_gradient(2048, (0, 1)))
    assert large < 4 * 2**20
    assert large - small < 2**20


def test_frozen_head_costs_no_gradient():
    """Products of a step: forward, again, d hidden [, d head]: 3 of 4 remain.

    The gradient of the head (16 * 4096 floats = 256 KiB, but for a few bytes of loop
    counters) is not allocated either.
    """
    frozen, trained = compiled_gradient(256, 0), compiled_gradient(256, (0, 1))
    assert 0.74 < flops(frozen) / flops(trained) < 0.78
    saved = temporary_bytes(trained) - temporary_bytes(frozen)
    assert saved > 0.9 * 16 * 4096 * 4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": 0.0}, "temperature > 0, got 0.0"),
        ({"softcap": 0.0}, "softcap > 0 or None, got 0.0"),
        ({"chunk_tokens": 0}, "chunk_tokens >= 1, got 0"),
    ],
)
def test_impossible_options_are_refused(options, message):
    hidden, head, targets, _ = example()
    with pytest.raises(ValueError, match=message):
        token_logprobs(hidden, head, targets, **options)
