# SPDX-License-Identifier: Apache-2.0
"""Several rejected responses: one is the pair loss, padding is nothing, and the
Plackett-Luce model is the product that it is."""

import functools
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alignjax.losses import (
    LOSSES,
    Pair,
    Ranking,
    aot,
    aot_unpaired,
    dpo,
    find,
    nca,
    nca_ranking,
    pairwise,
    plackett_luce,
    softmax_dpo,
)
from loss_examples import drawn

BETA = 0.7
PAIRWISE_DPO = functools.partial(pairwise, functools.partial(dpo, beta=BETA))
EAGER = {
    "pairwise": PAIRWISE_DPO,
    "softmax_dpo": functools.partial(softmax_dpo, beta=BETA),
    "plackett_luce": functools.partial(plackett_luce, beta=BETA),
    "nca_ranking": functools.partial(nca_ranking, beta=BETA),
}
# Compiled as a whole: much quicker than operation by operation.
LISTS = {name: jax.jit(loss) for name, loss in EAGER.items()}
every_list = pytest.mark.parametrize("name", LISTS)


def random_rankings(batch: int = 4, negatives: int = 3) -> tuple[Ranking, Ranking]:
    scores = np.random.default_rng(0).normal(size=(2, batch, 1 + negatives), scale=2)
    policy, reference = jnp.asarray(scores, jnp.float32)
    return (
        Ranking(policy[:, 0], policy[:, 1:]),
        Ranking(reference[:, 0], reference[:, 1:]),
    )


def cut(ranking: Ranking, negatives: int) -> Ranking:
    return Ranking(ranking.chosen, ranking.rejected[:, :negatives])


def log_ratios(policy: Ranking, reference: Ranking) -> np.ndarray:
    """[batch, response], the chosen response first."""
    own, other = (
        np.concatenate([np.asarray(r.chosen)[:, None], r.rejected], axis=1)
        for r in (policy, reference)
    )
    return own - other


@pytest.mark.parametrize(
    "name",
    [n for n, loss in LOSSES.items() if loss.scores == "pair" and not loss.coupled],
)
def test_pairwise_is_the_mean_of_any_loss_of_pairs(name):
    """Of all that it reads: over one negative bit for bit, over two of three the mean
    of the two pairs."""
    loss, options = find(name, {})
    pair_loss = functools.partial(loss.function, **options)
    inputs = drawn(name, batch=12)
    pairs = [inputs[each] for each in loss.inputs]
    one = [Ranking(pair.chosen, pair.rejected[:, None]) for pair in pairs]
    np.testing.assert_array_equal(pairwise(pair_loss, *one), pair_loss(*pairs))

    three = [Ranking(x.chosen[::3], x.rejected.reshape(4, 3)) for x in pairs]
    apart = [Pair(jnp.repeat(x.chosen[::3], 3), x.rejected) for x in pairs]
    mask = jnp.tile(jnp.array([True, False, True]), (4, 1))
    expected = pair_loss(*apart).reshape(4, 3)[:, ::2].mean(1)
    found = pairwise(pair_loss, *three, mask=mask)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.parametrize("loss", [aot, aot_unpaired])
def test_pairwise_refuses_losses_of_a_batch(loss):
    with pytest.raises(ValueError, match="scores must be of one batch"):
        pairwise(functools.partial(loss, beta=BETA), *random_rankings())


@pytest.mark.parametrize(
    ("name", "pair_loss"),
    [("softmax_dpo", dpo), ("plackett_luce", dpo), ("nca_ranking", nca)],
)
def test_one_negative_is_the_pair_loss_bit_for_bit(name, pair_loss):
    policy, reference = (cut(r, 1) for r in random_rankings())
    pairs = [Pair(r.chosen, r.rejected[:, 0]) for r in (policy, reference)]
    found = EAGER[name](policy, reference)
    np.testing.assert_array_equal(found, pair_loss(*pairs, beta=BETA))


def test_softmax_dpo_matches_hand_calculation():
    """beta a = log 3, beta b = log 2, 0: -log(3 / (3 + 2 + 1)) = log 2."""
    policy = Ranking(jnp.log(jnp.array([3.0])), jnp.log(jnp.array([[2.0, 1.0]])))
    reference = Ranking(jnp.zeros(1), jnp.zeros((1, 2)))
    loss = softmax_dpo(policy, reference, beta=1.0)
    np.testing.assert_allclose(loss, [math.log(2)], rtol=1e-6)


def test_plackett_luce_matches_hand_calculation():
    """3 of 3 + 2 + 1, then 2 of 2 + 1: -log(1/2 * 2/3) = log 3."""
    policy = Ranking(jnp.log(jnp.array([3.0])), jnp.log(jnp.array([[2.0, 1.0]])))
    reference = Ranking(jnp.zeros(1), jnp.zeros((1, 2)))
    loss = plackett_luce(policy, reference, beta=1.0)
    np.testing.assert_allclose(loss, [math.log(3)], rtol=1e-6)


def test_nca_ranking_matches_hand_calculation():
    """beta a = log 3, beta b = -log 3, 0: -log(3/4) - [log(1/4) + log(3/4) + log(1/2)]
    / 3."""
    third = math.log(3)
    policy = Ranking(jnp.array([third]), jnp.array([[-third, 0.0]]))
    reference = Ranking(jnp.zeros(1), jnp.zeros((1, 2)))
    expected = -math.log(0.75) - math.log(0.25 * 0.75 * 0.5) / 3
    loss = nca_ranking(policy, reference, beta=1.0)
    np.testing.assert_allclose(loss, [expected], rtol=1e-6)


def test_probabilities_of_all_rankings_add_up_to_one():
    """4! = 24 orders of four responses."""
    policy, reference = random_rankings(batch=1)
    ratios = log_ratios(policy, reference)[0]
    orders = np.array(list(itertools.permutations(ratios)), np.float32)
    ranked = Ranking(jnp.asarray(orders[:, 0]), jnp.asarray(orders[:, 1:]))
    same = Ranking(jnp.zeros(24), jnp.zeros((24, 3)))
    probability = jnp.exp(-LISTS["plackett_luce"](ranked, same))
    np.testing.assert_allclose(probability.sum(), 1, rtol=1e-5)


def softplus(x):
    return np.log1p(np.exp(x))


# Of the scaled log-ratios of one prompt, the chosen response first.
DEFINITIONS = {
    "pairwise": lambda s: softplus(s[1:] - s[0]).mean(),
    "softmax_dpo": lambda s: -np.log(np.exp(s[0]) / np.exp(s).sum()),
    # Every next response is chosen among those that are left.
    "plackett_luce": lambda s: (
        -np.log(math.prod(np.exp(s[k]) / np.exp(s[k:]).sum() for k in range(len(s))))
    ),
    "nca_ranking": lambda s: softplus(-s[0]) + softplus(s).mean(),
}


@every_list
def test_loss_equals_the_definition_whatever_is_masked(name):
    """Three, two, one and no negatives. What is masked is NaN and gets no gradient;
    without negatives so is the chosen response, and the loss is 0."""
    policy, reference = random_rankings()
    counts = np.array([3, 2, 1, 0])
    mask = jnp.asarray(np.arange(3) < counts[:, None])
    padded = [
        Ranking(
            jnp.where(mask.any(-1), r.chosen, jnp.nan),
            jnp.where(mask, r.rejected, jnp.nan),
        )
        for r in (policy, reference)
    ]

    def total(policy):
        loss = LISTS[name](policy, padded[1], mask=mask)
        return loss.sum(), loss

    slope, loss = jax.jit(jax.grad(total, has_aux=True))(padded[0])
    scaled = BETA * log_ratios(policy, reference)
    expected = [
        DEFINITIONS[name](row[: 1 + count])
        for row, count in zip(scaled[:3], counts, strict=False)
    ]
    np.testing.assert_allclose(loss, [*expected, 0], rtol=1e-5)
    assert slope.chosen[3] == 0
    np.testing.assert_array_equal(np.where(mask, 0, slope.rejected), np.zeros((4, 3)))
    assert all(np.isfinite(x).all() for x in slope)


@every_list
def test_the_order_of_negatives_counts_for_plackett_luce_only(name):
    policy, reference = random_rankings()
    turned = [Ranking(r.chosen, r.rejected[:, ::-1]) for r in (policy, reference)]
    loss, after = LISTS[name](policy, reference), LISTS[name](*turned)
    assert np.allclose(loss, after, rtol=1e-5) == (name != "plackett_luce")


@every_list
def test_no_negatives_at_all_give_zero(name):
    policy, reference = (cut(r, 0) for r in random_rankings())
    np.testing.assert_array_equal(LISTS[name](policy, reference), np.zeros(4))
