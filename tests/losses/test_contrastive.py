# SPDX-License-Identifier: Apache-2.0
"""CoIN: hand calculations, the released code's values, pooling, negatives."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alignjax.losses import Views, coin_weight, contrastive

# Compiled as a whole: much quicker than operation by operation.
info_nce = jax.jit(contrastive.info_nce, static_argnames="temperature")
coin = jax.jit(contrastive.coin, static_argnames="temperature")
coin_triplet = jax.jit(contrastive.coin_triplet, static_argnames="temperature")
pool = jax.jit(contrastive.pool, static_argnums=2)

# Three-four-five triangles: cosines are products of 0, 0.6, 0.8 and 1.
EAST, NORTH, STEEP = [1.0, 0.0], [0.0, 1.0], [0.6, 0.8]


def softplus(x):
    return math.log1p(math.exp(x))


def random_views(seed: int = 0, batch: int = 6) -> Views:
    states = np.random.default_rng(seed).normal(size=(2, batch, 5))
    return Views(*jnp.asarray(states, jnp.float32))


def permuted(views, order):
    return Views(views.original[order], views.paraphrase[order])


@functools.partial(jax.jit, static_argnames="temperature")
def all_losses(views, negative, mask=None, *, temperature):
    return (
        info_nce(views, temperature=temperature, mask=mask),
        coin(views, negative, temperature=temperature, mask=mask),
        coin_triplet(
            views.original,
            views.paraphrase,
            negative.original,
            temperature=temperature,
            mask=mask,
        ),
    )


def test_coin_matches_hand_calculation():
    """i = (east, steep), j = (north, north), temperature 0.2.

    cosines of rows i, j with columns i, j: [[0.6, 0], [0.8, 1]]; S = [[3, 0], [4, 5]]
    rows:    log(1 + e^(0 - 3)), log(1 + e^(4 - 5))
    columns: log(1 + e^(4 - 3)), log(1 + e^(0 - 5))
    """
    i = Views(2 * jnp.array([EAST]), 3 * jnp.array([STEEP]))
    j = Views(jnp.array([NORTH]), 5 * jnp.array([NORTH]))
    loss = coin(i, j, temperature=0.2)
    expected = (softplus(-3) + softplus(-1) + softplus(1) + softplus(-5)) / 4
    np.testing.assert_allclose(loss, [expected], rtol=1e-5)


def test_info_nce_matches_hand_calculation():
    """The same four vectors as one batch: S = [[3, 0], [4, 5]].

    Example 0: row log(1 + e^-3), column log(1 + e^1); example 1: e^-1 and e^-5.
    """
    views = Views(jnp.array([EAST, NORTH]), jnp.array([STEEP, NORTH]))
    loss = info_nce(views, temperature=0.2)
    expected = [(softplus(-3) + softplus(1)) / 2, (softplus(-1) + softplus(-5)) / 2]
    np.testing.assert_allclose(loss, expected, rtol=1e-5)


def test_coin_triplet_matches_hand_calculation():
    """Cosines 0.6 with the positive, 0 with the negative: log(1 + e^(-0.6 / 0.2))."""
    loss = coin_triplet(
        jnp.array([EAST]), jnp.array([STEEP]), jnp.array([NORTH]), temperature=0.2
    )
    np.testing.assert_allclose(loss, [softplus(-3)], rtol=1e-5)


def test_coin_is_info_nce_of_each_pair_of_entries():
    """The released code runs CLIP's loss on micro-batches of two entries."""
    i, j = random_views(0), random_views(1)
    loss = coin(i, j, temperature=0.05)
    entries = jax.tree.map(lambda *pair: jnp.stack(pair, axis=1), i, j)
    two_by_two = jax.vmap(functools.partial(info_nce, temperature=0.05))(entries)
    assert two_by_two.shape == (6, 2)
    np.testing.assert_allclose(loss, two_by_two.mean(1), rtol=1e-4)


def test_info_nce_equals_the_mean_of_two_cross_entropies():
    """1/2 [CE(S, arange) + CE(S^T, arange)], written the long way in float64."""
    views = random_views()
    original, paraphrase = (
        np.float64(x) / np.linalg.norm(np.float64(x), axis=1, keepdims=True)
        for x in views
    )
    scores = original @ paraphrase.T / 0.05
    rows = np.log(np.exp(scores).sum(1)) - np.diag(scores)
    columns = np.log(np.exp(scores).sum(0)) - np.diag(scores)
    loss = info_nce(views, temperature=0.05)
    np.testing.assert_allclose(loss, (rows + columns) / 2, rtol=1e-4, atol=1e-6)


def test_small_losses_keep_their_digits_in_float32():
    """Cosines 0.9 and 0.5 at temperature 0.05: log(1 + e^-8) = 3.3541e-4.

    As log(e^18 + e^10) - 18 float32 would give 3.3569e-4 or 3.3379e-4.
    """
    anchor = jnp.array([[1.0, 0.0]])
    positive = jnp.array([[0.9, math.sqrt(1 - 0.9**2)]])
    negative = jnp.array([[0.5, math.sqrt(1 - 0.5**2)]])
    loss = coin_triplet(anchor, positive, negative, temperature=0.05)
    np.testing.assert_allclose(loss, [softplus(-8)], rtol=1e-5)


def test_weight_is_the_smaller_of_bound_and_ratio():
    """Released code: (2, 0.5) -> 2 / 0.5 = 4; (2, 0.001) -> min(1000, 2000) = 1000."""
    generation, contrastive = jnp.array([2.0, 2.0]), jnp.array([0.5, 0.001])
    weight = coin_weight(generation, contrastive, bound=1000.0)
    np.testing.assert_allclose(weight, [4, 1000], rtol=1e-6)
    # A gap of 8 in logits, loss 3.35e-4: weighted by the bound it reads 0.335.
    small = jnp.float32(softplus(-8))
    weighted = coin_weight(jnp.float32(2), small, bound=1000.0) * small
    np.testing.assert_allclose(weighted, 0.3354, atol=1e-4)


def test_weight_is_the_bound_where_the_contrastive_loss_is_zero():
    weight = coin_weight(jnp.array([2.0, 0.0]), jnp.zeros(2), bound=1000.0)
    np.testing.assert_array_equal(weight, [1000, 1000])


def test_weight_carries_no_gradient():
    """L = g + min(1000, g / c) c at g = 2, c = 0.5: value 4, dL/dg = 1, dL/dc = 4."""

    def total(generation, contrastive):
        weight = coin_weight(generation, contrastive, bound=1000.0)
        return generation + weight * contrastive

    value, gradient = jax.value_and_grad(total, (0, 1))(
        jnp.float32(2.0), jnp.float32(0.5)
    )
    np.testing.assert_allclose(value, 4)
    np.testing.assert_allclose(gradient, (1, 4))


def test_masked_examples_score_zero_and_are_not_negatives():
    """The last two of five are padding that holds NaN: as if the batch were three."""
    views, negative = random_views(0, 5), random_views(1, 5)
    mask = jnp.array([True, True, True, False, False])
    padded = jax.tree.map(lambda x: jnp.where(mask[:, None], x, jnp.nan), views)
    kept = permuted(views, np.arange(3)), permuted(negative, np.arange(3))

    def total(views, negative, mask):
        losses = all_losses(views, negative, mask, temperature=0.1)
        return sum(loss.sum() for loss in losses), losses

    gradient = jax.jit(jax.grad(total, has_aux=True))
    ours, masked = gradient(padded, negative, mask)
    theirs, expected = gradient(*kept, None)
    for loss, other in zip(masked, expected, strict=True):
        np.testing.assert_allclose(loss[:3], other, rtol=1e-5)
        np.testing.assert_array_equal(loss[3:], [0, 0])
    for slope, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(slope[:3], other, rtol=1e-4, atol=1e-5)
        np.testing.assert_array_equal(slope[3:], np.zeros((2, 5)))


@pytest.mark.parametrize("kept", [0, 1])
def test_no_negative_gives_zero_with_zero_gradient(kept):
    """An empty mask, and a batch in which one example is left alone."""
    views = random_views(0, 3)
    mask = jnp.arange(3) < kept

    def total(views, mask):
        return info_nce(views, temperature=0.1, mask=mask).sum()

    value, gradient = jax.jit(jax.value_and_grad(total))(views, mask)
    assert value == 0
    np.testing.assert_array_equal(gradient.original, np.zeros((3, 5)))
    np.testing.assert_array_equal(gradient.paraphrase, np.zeros((3, 5)))


def test_value_and_gradient_are_finite_for_extreme_vectors():
    """Cosine 0 for zero vectors: info_nce log 6, the others log 2."""

    @jax.jit
    @functools.partial(jax.grad, has_aux=True)
    def loss_and_copy(views, negative):
        losses = all_losses(views, negative, temperature=1e-3)
        return sum(loss.sum() for loss in losses), losses

    for scale in (0.0, 1e-6, 1e4):
        examples = random_views(0), random_views(1)
        views, negative = jax.tree.map(lambda x, s=scale: s * x, examples)
        gradients, losses = loss_and_copy(views, negative)
        assert all(np.isfinite(x).all() for x in jax.tree.leaves((losses, gradients)))
        if scale == 0:
            for loss, count in zip(losses, (6, 2, 2), strict=True):
                np.testing.assert_allclose(loss, np.full(6, math.log(count)), rtol=1e-6)


def test_further_negatives_match_hand_calculation():
    """One example, east and steep (cosine 0.6), beside one negative, north and north:
    S = 3 at temperature 0.2; row 0 / 0.2 = 0, column 0.8 / 0.2 = 4."""
    views = Views(jnp.array([EAST]), jnp.array([STEEP]))
    negative = Views(jnp.array([NORTH]), jnp.array([NORTH]))
    loss = info_nce(views, temperature=0.2, negatives=negative)
    np.testing.assert_allclose(loss, [(softplus(-3) + softplus(1)) / 2], rtol=1e-5)


def test_further_negatives_are_as_if_in_the_batch_but_not_scored():
    """Four examples, of which one is padding, and two negatives: six of a batch."""
    views = random_views(0, 6)
    mask = jnp.array([True, False, True, True, True, True])
    expected = info_nce(views, temperature=0.1, mask=mask)
    own, negatives = permuted(views, np.arange(4)), permuted(views, np.arange(4, 6))
    loss = info_nce(own, temperature=0.1, mask=mask[:4], negatives=negatives)
    np.testing.assert_allclose(loss, expected[:4], rtol=1e-5)


def test_a_half_filled_memory_is_as_if_it_were_as_long_as_it_is_full():
    """Of three negatives the last two are not there yet, and hold NaN."""
    views, negatives = random_views(0, 4), random_views(1, 3)
    is_filled = jnp.array([True, False, False])
    memory = jax.tree.map(
        lambda x: jnp.where(is_filled[:, None], x, jnp.nan), negatives
    )

    def total(memory, mask):
        loss = info_nce(views, temperature=0.1, negatives=memory, negatives_mask=mask)
        return loss.sum(), loss

    slope, loss = jax.grad(total, has_aux=True)(memory, is_filled)
    first = permuted(negatives, np.arange(1))
    other_slope, expected = jax.grad(total, has_aux=True)(first, None)
    np.testing.assert_allclose(loss, expected, rtol=1e-6)
    for ours, theirs in zip(slope, other_slope, strict=True):
        np.testing.assert_allclose(ours[:1], theirs, rtol=1e-5, atol=1e-6)
        np.testing.assert_array_equal(ours[1:], np.zeros((2, 5)))


def test_random_negatives_are_coin_with_another_example():
    """Every example against the one before it: the mean over both of a batch of two is
    InfoNCE's, where all that is random is taken."""
    views = random_views(0, 2)
    other = permuted(views, np.array([1, 0]))
    loss = coin(views, other, temperature=0.1)
    expected = info_nce(views, temperature=0.1).mean()
    np.testing.assert_allclose(loss, np.full(2, expected), rtol=1e-5)


STATES = jnp.arange(1.0, 13.0).reshape(3, 4, 1)
TOKENS = jnp.array([[0, 1, 1, 1], [1, 0, 1, 0], [0, 0, 0, 0]], bool)


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        ("last", [4, 7, 0]),  # the last of 2 3 4, of 5 7, and of none
        ("mean", [3, 6, 0]),  # (2 + 3 + 4) / 3; (5 + 7) / 2
        ("first_last", [3, 6, 0]),  # (2 + 4) / 2; (5 + 7) / 2
    ],
)
def test_pool_matches_hand_calculation(how, expected):
    """Padding on either side, or in between, holds NaN, and gets no gradient."""
    hidden = jnp.where(TOKENS[..., None], STATES, jnp.nan)
    states = pool(hidden, TOKENS, how)
    np.testing.assert_allclose(states, np.array(expected)[:, None], rtol=1e-6)
    slope = jax.grad(lambda hidden: pool(hidden, TOKENS, how).sum())(hidden)
    np.testing.assert_array_equal(slope[~TOKENS], np.zeros((7, 1)))
    np.testing.assert_allclose(slope.sum((1, 2)), [1, 1, 0], rtol=1e-6)


def test_pools_differ_where_first_and_last_are_not_the_mean():
    """States 1, 2, 6: last 6, mean 3, ends 3.5; of one token all three are it."""
    hidden, mask = jnp.array([[1.0], [2.0], [6.0]]), jnp.ones(3, bool)
    for how, expected in [("last", 6), ("mean", 3), ("first_last", 3.5)]:
        np.testing.assert_allclose(pool(hidden, mask, how), [expected], rtol=1e-6)
        np.testing.assert_allclose(pool(hidden[:1], mask[:1], how), [1], rtol=1e-6)


def test_pool_is_in_float32_and_refuses_other_ways():
    hidden = jnp.ones((1, 300, 1), jnp.bfloat16)
    states = pool(hidden, jnp.ones((1, 300), bool), "mean")
    assert states.dtype == jnp.float32
    np.testing.assert_allclose(states, [[1]], rtol=1e-5)
    with pytest.raises(ValueError, match="must be last, mean or first_last, got 'max'"):
        pool(hidden, jnp.ones((1, 300), bool), "max")


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_half_precision_weight_is_float32(dtype):
    weight = coin_weight(dtype(3), dtype(0.5), bound=1000.0)
    assert (weight.dtype, weight) == (jnp.float32, 6)
