# SPDX-License-Identifier: Apache-2.0
"""token_logprobs and token_statistics: the dense numbers, without its logits."""

import functools
import inspect
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads
from jax.typing import DTypeLike

from alignjax.losses import (
    TokenStatistics,
    logprobs,
    token_logprobs,
    token_statistics,
)

ROWS, TIME, EMBED, VOCAB = 3, 7, 8, 29
OPTIONS: list[dict[str, float]] = [{}, {"softcap": 2.0, "temperature": 0.7}]


def distribution(hidden, head, *, softcap=None, temperature=1.0):
    """Log-probabilities of the whole vocabulary: the textbook computation."""
    dtype = jnp.promote_types(jnp.result_type(hidden, head), jnp.float32)
    logits = hidden.astype(dtype) @ head.astype(dtype)
    if softcap is not None:
        logits = softcap * jnp.tanh(logits / softcap)
    return jax.nn.log_softmax(logits / temperature)


def dense(hidden, head, targets, **options):
    logprobs = distribution(hidden, head, **options)
    is_valid = (targets >= 0) & (targets < head.shape[1])
    ids = jnp.where(is_valid, targets, 0)[..., None]
    return jnp.where(is_valid, jnp.take_along_axis(logprobs, ids, -1)[..., 0], 0)


def dense_statistics(hidden, head, targets, **options):
    logprobs = distribution(hidden, head, **options)
    is_valid = (targets >= 0) & (targets < head.shape[1])
    return TokenStatistics(
        dense(hidden, head, targets, **options),
        jnp.where(is_valid, -(jnp.exp(logprobs) * logprobs).sum(-1), 0),
        jnp.where(is_valid, jax.nn.logsumexp(2 * logprobs, axis=-1), 0),
        is_valid & (logprobs.argmax(-1) == targets),
    )


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


def test_statistics_match_hand_calculation():
    """p = (1/2, 1/4, 1/4), p^2 sums to 3/8; the last token is padding."""
    head = jnp.log(jnp.array([[0.5, 0.25, 0.25]]))
    found = token_statistics(jnp.ones((3, 1)), head, jnp.array([0, 2, -1]))
    halves = math.log(2) * np.array([1, 2, 0])
    np.testing.assert_allclose(found.logprob, -halves, rtol=1e-6)
    entropy, collision = 1.5 * math.log(2), math.log(3 / 8)
    np.testing.assert_allclose(found.entropy, [entropy, entropy, 0], rtol=1e-6)
    np.testing.assert_allclose(found.log_collision, [collision] * 2 + [0], rtol=1e-6)
    assert found.is_top.tolist() == [True, False, False]


def test_statistics_of_a_flat_and_of_a_certain_distribution():
    """Flat: log 29, -log 29, and every token is on top. Certain: 0 and 0."""
    hidden, head = jnp.array([[0.0], [1.0]]), jnp.zeros((1, VOCAB)).at[0, 3].set(200)
    found = token_statistics(hidden, head, jnp.array([5, 3]))
    np.testing.assert_allclose(found.entropy, [math.log(VOCAB), 0], rtol=1e-6)
    np.testing.assert_allclose(found.log_collision, [-math.log(VOCAB), 0], rtol=1e-6)
    assert found.is_top.tolist() == [True, True]


@pytest.mark.parametrize("chunk_tokens", [4, 1000])
@pytest.mark.parametrize("options", OPTIONS, ids=["plain", "softcap"])
def test_statistics_equal_the_dense_computation(chunk_tokens, options):
    """In float64 too, and the target is the likeliest token of some rows."""
    hidden, head, targets, _ = example()
    targets = targets.at[:2].set(distribution(hidden[:2], head).argmax(-1))
    score = functools.partial(token_statistics, chunk_tokens=chunk_tokens, **options)
    found = jax.jit(score)(hidden, head, targets)
    expected = dense_statistics(hidden, head, targets, **options)
    assert 14 <= found.is_top.sum() < 21
    jax.tree.map(
        functools.partial(np.testing.assert_allclose, rtol=1e-5), found, expected
    )
    with jax.enable_x64(True):
        hidden, head = hidden.astype(np.float64), head.astype(np.float64)
        found = jax.jit(score)(hidden, head, targets)
        expected = dense_statistics(hidden, head, targets, **options)
        assert found.entropy.dtype == jnp.float64
        jax.tree.map(
            functools.partial(np.testing.assert_allclose, rtol=1e-12), found, expected
        )


def test_statistics_and_logprobs_have_the_same_gradient_and_the_rest_has_none():
    hidden, head, targets, weights = example()

    def through(hidden, head, *, rest):
        found = token_statistics(hidden, head, targets, chunk_tokens=4)
        others = (found.entropy + found.log_collision + found.is_top).sum()
        return (weights * found.logprob).sum() + rest * others

    def alone(hidden, head):
        logprobs = token_logprobs(hidden, head, targets, chunk_tokens=4)
        return (weights * logprobs).sum()

    expected = jax.grad(alone, (0, 1))(hidden, head)
    for rest in (0, 10):
        ours = jax.jit(jax.grad(functools.partial(through, rest=rest), (0, 1)))
        for mine, theirs in zip(ours(hidden, head), expected, strict=True):
            np.testing.assert_allclose(mine, theirs, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("chunk_tokens", [1, 4, 7, 21, 1000])
@pytest.mark.parametrize("options", OPTIONS, ids=["plain", "softcap"])
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


@pytest.mark.parametrize("vocab", [29, 32, 40])
def test_float64_equals_the_dense_computation_to_twelve_digits(vocab):
    """Also where blocks of the head's columns are of 1, 16 and 8 parts, or overlap."""
    with jax.enable_x64(True):
        hidden, _, targets, weights = example(np.float64)
        head = jnp.asarray(np.random.default_rng(1).normal(size=(EMBED, vocab)))
        score = functools.partial(token_logprobs, chunk_tokens=4)

        def total(function, hidden, head):
            return (weights * function(hidden, head, targets, **OPTIONS[1])).sum()

        gradient = jax.jit(jax.value_and_grad(total, (1, 2)), static_argnums=0)
        ours, theirs = gradient(score, hidden, head), gradient(dense, hidden, head)
        for mine, expected in zip(
            jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True
        ):
            assert mine.dtype == jnp.float64
            np.testing.assert_allclose(mine, expected, rtol=1e-12, atol=1e-13)


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


def compiled(function, tokens, argnums=(), embed=16, vocab=4096, chunk_tokens=32):
    """Values of all tokens, or, given argnums, their sum and its gradients."""
    score = functools.partial(function, chunk_tokens=chunk_tokens)

    def total(hidden, head, targets):
        return score(hidden, head, targets).sum()

    shapes = (
        jax.ShapeDtypeStruct((tokens, embed), jnp.float32),
        jax.ShapeDtypeStruct((embed, vocab), jnp.float32),
        jax.ShapeDtypeStruct((tokens,), jnp.int32),
    )
    evaluated = jax.value_and_grad(total, argnums) if argnums != () else score
    return jax.jit(evaluated).lower(*shapes).compile()


def temporary_bytes(compiled: jax.stages.Compiled) -> int:
    memory = compiled.memory_analysis()
    assert memory is not None
    return memory.temp_size_in_bytes


def flops(compiled: jax.stages.Compiled) -> float:
    """Of one turn of every loop: 2 * 16 + some for each of a chunk's 2^17 logits."""
    cost = compiled.cost_analysis()
    assert cost is not None
    return cost["flops"]


@pytest.mark.parametrize("vocab", [4096, 4099])
def test_memory_of_the_gradient_does_not_hold_logits_of_all_tokens(vocab):
    """Logits of 256 and 2048 tokens take 4 and 32 MiB; a chunk of 32 takes 0.5.

    What grows is a few arrays of [tokens, embed], 64 bytes a token each.
    """
    small, large = (
        temporary_bytes(compiled(token_logprobs, tokens, (0, 1), vocab=vocab))
        for tokens in (256, 2048)
    )
    assert large < 4 * 2**20
    assert large - small < 8 * 64 * (2048 - 256)


def test_a_size_that_dense_cannot_hold_compiles_to_little():
    """Logits of 2^17 tokens and 2^17 words are 64 GiB; of a chunk of 64, 32 MiB.

    Hidden states and the head are 8 MiB each. Not run: see the next test.
    """
    gradient = compiled(
        token_logprobs, 2**17, (0, 1), embed=16, vocab=2**17, chunk_tokens=64
    )
    assert temporary_bytes(gradient) < 200 * 2**20


@pytest.mark.slow
def test_a_size_that_dense_cannot_hold_runs():
    """2^14 tokens, 2^17 words: 8 GiB of logits. 64 tokens, 256 times over."""
    times, tokens, vocab = 256, 64, 2**17
    rng = np.random.default_rng(0)
    hidden, head = rng.normal(size=(tokens, 8)), rng.normal(size=(8, vocab))
    hidden, head = jnp.asarray(hidden, jnp.float32), jnp.asarray(head, jnp.float32)
    targets = jnp.asarray(rng.integers(0, vocab, size=tokens))

    def total(function, hidden, head, targets):
        logprobs = function(hidden, head, targets)
        return logprobs.sum() / (logprobs.size / tokens), logprobs

    gradient = jax.grad(total, (1, 2), has_aux=True)
    gradient = jax.jit(gradient, static_argnums=0)
    expected, logprobs = gradient(dense, hidden, head, targets)
    many = jnp.tile(hidden, (times, 1)), head, jnp.tile(targets, times)
    ours, found = gradient(token_logprobs, *many)
    np.testing.assert_allclose(found, jnp.tile(logprobs, times), rtol=1e-5)
    repeated = ours[0].reshape(times, tokens, 8).sum(0)
    np.testing.assert_allclose(repeated, expected[0], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(ours[1], expected[1], rtol=1e-5, atol=1e-6)


def test_only_the_products_that_are_asked_for_are_computed():
    """Logits | d hidden | logits again, d head: 1, 2, 3 or 4 products of 2^22 flops.

    Everything else is less than half a product: 16 flops a logit.
    """
    product = 2 * 16 * 2**17
    for argnums, products in [((), 1), (0, 2), (1, 3), ((0, 1), 4)]:
        cost = flops(compiled(token_logprobs, 256, argnums))
        assert products < cost / product < products + 0.5


def test_frozen_head_allocates_no_gradient():
    """It would be 256 * 4096 floats, 4 MiB. Twice a chunk's logits are 1 MiB."""
    frozen = compiled(token_logprobs, 256, 0, embed=256)
    assert temporary_bytes(frozen) < 3 * 2**20


def test_logprobs_do_not_pay_for_the_other_statistics():
    """Less work than with them, and as much as if they had never been written."""

    def logprob(*arguments, **options):
        return token_statistics(*arguments, **options).logprob

    def all_of_them(*arguments, **options):
        return jnp.stack(jax.tree.leaves(token_statistics(*arguments, **options)))

    for argnums in [(), (0, 1)]:
        alone, first, everything = (
            flops(compiled(function, 256, argnums))
            for function in (token_logprobs, logprob, all_of_them)
        )
        assert alone == first < everything - 2 * 2**17
    text = compiled(token_logprobs, 256).as_text()
    # The largest logit, the sum of exponentials; none of x p, none of p^2.
    assert text is not None
    assert text.count(" reduce(") == 2


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
    with pytest.raises(ValueError, match=f"token_statistics: expected {message}"):
        token_logprobs(hidden, head, targets, **options)


@pytest.mark.parametrize(
    ("dtype", "vocab"),
    [(jnp.uint8, 256), (jnp.int8, 128), (jnp.uint16, 1 << 16), (jnp.int16, 1 << 15)],
)
def test_narrow_ids_count_the_vocabulary_right(dtype, vocab):
    """The size does not fit the type of the ids; all logits 0: -log(vocab)."""
    ids = jnp.array([0, 1, 100], dtype)
    logprobs = token_logprobs(jnp.ones((3, 2)), jnp.zeros((2, vocab)), ids)
    np.testing.assert_allclose(logprobs, np.full(3, -np.log(vocab)), rtol=1e-6)


def test_traced_temperatures_are_refused_in_one_line():
    # Without the type checker of the tests, which refuses such a temperature itself.
    unchecked = inspect.unwrap(logprobs._check)

    def check(temperature):
        unchecked("token_logprobs", None, temperature, 256)
        return temperature

    with pytest.raises(ValueError, match="must be numbers, not traced values"):
        jax.jit(check)(1.0)
