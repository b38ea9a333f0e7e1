# SPDX-License-Identifier: Apache-2.0
"""The next token: greedy, temperature, top-k, top-p, against their definitions."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from alignjax.sampling import choose as module

VOCAB = 300  # three lanes, the last one not full
ROWS = 512
choose = jax.jit(module.choose)
kept_by = jax.jit(module._filter)
uniforms = jax.jit(module.uniforms)


def pick(
    scores: np.ndarray, uniform: np.ndarray, *, temperature=1.0, top_k=0, top_p=1.0
) -> tuple[np.ndarray, np.ndarray]:
    """`choose` with one setting for all rows; scores of one row serve all."""
    rows = len(uniform)
    tokens, logprobs = choose(
        np.broadcast_to(scores, (rows, scores.shape[-1])).astype(np.float32),
        jnp.asarray(uniform, jnp.float32),
        temperature=jnp.full(rows, temperature, jnp.float32),
        top_k=jnp.full(rows, top_k, jnp.int32),
        top_p=jnp.full(rows, top_p, jnp.float32),
    )
    return np.asarray(tokens), np.asarray(logprobs)


def softmax(scores: np.ndarray) -> np.ndarray:
    weights = np.exp(np.asarray(scores, np.float64) - scores.max())
    return weights / weights.sum()


def even(count: int) -> np.ndarray:
    """The middles of `count` equal parts of [0, 1): an interval of length p holds
    count * p of them, give or take one."""
    return (np.arange(count) + 0.5) / count


def test_greedy_takes_the_first_largest_score():
    scores = np.array([[1.0, 3.0, 2.0, 3.0], [-5.0, -9.0, -9.0, -9.0], [0.0] * 4])
    tokens, _ = pick(scores, np.array([0.9, 0.9, 0.9]), temperature=0.0)
    np.testing.assert_array_equal(tokens, [1, 0, 0])


def test_logprobs_are_those_of_the_untempered_scores():
    """Scores (0, log 3): p = (1/4, 3/4), whatever the temperature and the filters."""
    scores = np.array([0.0, math.log(3)])
    for temperature, top_k in ((0.0, 0), (0.5, 0), (3.0, 1)):
        tokens, logprobs = pick(
            scores, np.array([0.01, 0.99]), temperature=temperature, top_k=top_k
        )
        expected = np.log(np.array([0.25, 0.75]))[tokens]
        np.testing.assert_allclose(logprobs, expected, rtol=1e-6)


def test_a_token_takes_its_share_of_the_unit_interval():
    """p = (1/8, 1/2, 0, 3/8): the borders are 0.125, 0.625 and 0.625."""
    scores = np.log(np.array([1.0, 4.0, 1e-30, 3.0]))
    uniform = np.array([0.0, 0.12, 0.13, 0.62, 0.63, 0.999])
    tokens, _ = pick(scores, uniform)
    np.testing.assert_array_equal(tokens, [0, 0, 1, 1, 3, 3])


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_frequencies_follow_the_tempered_softmax(temperature: float):
    """With evenly spread numbers each token comes N p times, give or take one."""
    scores = np.random.default_rng(0).normal(size=VOCAB) * 2
    count = 1 << 14
    tokens, _ = pick(scores, even(count), temperature=temperature)
    counts = np.bincount(tokens, minlength=VOCAB)
    expected = count * softmax(scores / temperature)
    assert np.abs(counts - expected).max() < 1.1


def test_frequencies_pass_a_chi_square_test_with_the_stream_of_random_numbers():
    """Sum of (count - N p)^2 / (N p) over 7 tokens: 6 degrees of freedom, of which one
    in a thousand samples exceeds 22.46."""
    scores = np.array([0.0, 1.0, -1.0, 2.0, 0.5, 0.0, 1.5])
    count = 1 << 14
    index = jnp.arange(count)
    for seed, sample, step in (
        (index, 0 * index, 0 * index),
        (0 * index + 7, index, 0 * index),
        (0 * index + 7, 0 * index, index),
    ):
        tokens, _ = pick(scores, np.asarray(uniforms(seed, sample, step)))
        expected = count * softmax(scores)
        counts = np.bincount(tokens, minlength=7)
        assert ((counts - expected) ** 2 / expected).sum() < 22.46


def test_random_numbers_depend_on_seed_sample_and_index_alone():
    """Three rows in another order: the same three numbers; all distinct."""
    seed, sample, index = jnp.array([[5, 5, 6], [0, 1, 0], [2, 2, 2]])
    first = np.asarray(uniforms(seed, sample, index))
    again = np.asarray(uniforms(seed[::-1], sample[::-1], index[::-1]))
    np.testing.assert_array_equal(first[::-1], again)
    assert len({*first.tolist()}) == 3
    assert (first >= 0).all() and (first < 1).all()


def kept_by_sorting(
    scores: np.ndarray, top_k: int, top_p: float
) -> tuple[np.ndarray, float]:
    """The definition: which tokens survive, and how close top-p's cut was.

    The k-th largest score and all that equal it stay; of those, from the largest
    score down, all scores until their probability reaches top_p, ties together.
    """
    kept = np.ones(len(scores), bool)
    if 0 < top_k < len(scores):
        kept = scores >= np.sort(scores)[::-1][top_k - 1]
    if top_p == 1:
        return kept, math.inf
    probability = softmax(np.where(kept, scores, -np.inf))
    closest, total, survivors = math.inf, 0.0, np.zeros(len(scores), bool)
    for value in np.unique(scores[kept])[::-1]:
        survivors |= kept & (scores == value)
        total += probability[scores == value].sum()
        closest = min(closest, abs(total - top_p))
        if total >= top_p:
            break
    return survivors, closest


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    spread=st.sampled_from([0.1, 1.0, 5.0, 50.0]),
    has_ties=st.booleans(),
    temperature=st.sampled_from([0.2, 1.0, 3.0]),
    top_k=st.sampled_from([0, 1, 2, 5, 40, VOCAB - 1, VOCAB, VOCAB + 7]),
    top_p=st.one_of(st.just(1.0), st.floats(0.01, 0.999)),
)
def test_filters_keep_what_sorting_keeps(
    seed, spread, has_ties, temperature, top_k, top_p
):
    rng = np.random.default_rng(seed)
    scores = rng.normal(size=VOCAB) * spread
    if has_ties:
        scores = np.round(scores * 2) / 2
    scores = scores.astype(np.float32)
    tempered = (scores - scores.max()) / np.float32(temperature)
    expected, closest = kept_by_sorting(tempered, top_k, top_p)
    assume(closest > 1e-5)  # else rounding decides
    kept = kept_by(tempered[None], jnp.array([top_k]), jnp.array([top_p], jnp.float32))
    np.testing.assert_array_equal(np.asarray(kept)[0], expected)
    tokens, _ = pick(
        scores, even(ROWS), temperature=temperature, top_k=top_k, top_p=top_p
    )
    probability = softmax(np.where(expected, tempered, -np.inf))
    assert expected[tokens].all()
    counts = np.bincount(tokens, minlength=VOCAB)
    assert np.abs(counts - ROWS * probability).max() < 1.1


def test_top_1_is_greedy_and_ties_at_the_cut_stay():
    """Scores 3, 1, 2, 2: top-1 gives token 0; top-2 keeps both twos."""
    scores = np.array([3.0, 1.0, 2.0, 2.0])
    tokens, _ = pick(scores, even(8), top_k=1)
    np.testing.assert_array_equal(tokens, 0)
    tokens, _ = pick(scores, even(512), top_k=2)
    assert set(tokens.tolist()) == {0, 2, 3}


def test_top_p_by_hand():
    """p = (0.5, 0.3, 0.15, 0.05): 0.6 needs two tokens, renormalised to 5/8 and 3/8."""
    scores = np.log(np.array([0.15, 0.5, 0.05, 0.3]))
    tokens, _ = pick(scores, even(80), top_p=0.6)
    counts = np.bincount(tokens, minlength=4)
    assert (counts[0], counts[2]) == (0, 0)
    assert abs(counts[1] - 50) <= 1 and abs(counts[3] - 30) <= 1
    tokens, _ = pick(scores, even(80), top_p=0.4)
    np.testing.assert_array_equal(tokens, 1)


def test_top_p_counts_what_top_k_has_left():
    """p = (0.4, 0.3, 0.2, 0.1); top-2 leaves (4/7, 3/7); 0.5 is then token 0 alone,
    though 0.4 of the whole would not have been enough."""
    scores = np.log(np.array([0.4, 0.3, 0.2, 0.1]))
    tokens, _ = pick(scores, even(64), top_k=2, top_p=0.5)
    np.testing.assert_array_equal(tokens, 0)


def test_a_row_does_not_notice_the_filters_of_its_neighbours():
    scores = np.random.default_rng(1).normal(size=(4, VOCAB)).astype(np.float32)
    uniform = jnp.array([0.1, 0.4, 0.6, 0.9])

    def both(top_k: list[int], top_p: list[float], temperature: list[float]):
        return choose(
            scores,
            uniform,
            temperature=jnp.array(temperature),
            top_k=jnp.array(top_k),
            top_p=jnp.array(top_p),
        )

    alone = both([0] * 4, [1.0] * 4, [0.7] * 4)
    mixed = both([0, 3, 0, 1], [1.0, 1.0, 1.0, 0.2], [0.7, 1.0, 0.7, 0.0])
    for before, after in zip(alone, mixed, strict=True):
        np.testing.assert_array_equal(before[::2], after[::2])


@pytest.mark.parametrize("uniform", [0.0, 0.5, 1 - 2**-24])
def test_no_token_without_weight_is_chosen_at_the_ends_of_the_interval(uniform: float):
    """Only token 200 has weight; rounding must not push the choice past it."""
    scores = np.full(VOCAB, -1e4)
    scores[200] = 0.1
    tokens, _ = pick(scores, np.full(4, uniform))
    np.testing.assert_array_equal(tokens, 200)
    flat = np.zeros(VOCAB)
    tokens, _ = pick(flat, np.full(4, uniform))
    assert tokens[0] == min(int(uniform * VOCAB), VOCAB - 1)
