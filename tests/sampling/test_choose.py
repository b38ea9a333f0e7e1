# SPDX-License-Identifier: Apache-2.0
"""The next token: penalties, biases, temperature and filters against their definitions
in numpy, by exact inversion over evenly spread numbers."""

from __future__ import annotations

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alignjax.sampling import choose as module
from alignjax.sampling.choose import History, Options

VOCAB = 300  # five lanes, the last one not full
NOWHERE = 1 << 30  # an id that is in no vocabulary
choose = jax.jit(module.choose)
uniforms = jax.jit(module.uniforms)
PLAIN = {
    "temperature": 1.0,
    "top_k": 0,
    "top_p": 1.0,
    "min_p": 0.0,
    "repetition": 1.0,
    "presence": 0.0,
}


def options(rows: int, *, biases: Any = (), **settings: Any) -> Options:
    """The same settings for all rows, or an array of one per row."""
    values = {
        name: jnp.asarray(
            np.broadcast_to(settings.pop(name, plain), rows),
            jnp.int32 if name == "top_k" else jnp.float32,
        )
        for name, plain in PLAIN.items()
    }
    assert not settings
    padded = (*biases, (NOWHERE, 7.0))  # the bias of an unused place is not read
    ids, bias = zip(*padded, strict=True)
    return Options(
        **values,
        bias_ids=jnp.tile(jnp.array(ids, jnp.int32), (rows, 1)),
        bias=jnp.tile(jnp.array(bias, jnp.float32), (rows, 1)),
    )


def history(
    rows: int, prompt: tuple[int, ...] = (), answer: tuple[int, ...] = ()
) -> History:
    """The same text for all rows, followed by a place that is not filled."""
    tokens = jnp.array([*prompt, *answer, 0], jnp.int32)
    return History(
        tokens=jnp.tile(tokens, (rows, 1)),
        prompt=jnp.full(rows, len(prompt)),
        length=jnp.full(rows, len(prompt) + len(answer)),
    )


def pick(
    scores: np.ndarray,
    uniform: np.ndarray,
    *,
    text: History | None = None,
    **settings: Any,
) -> tuple[np.ndarray, np.ndarray]:
    """`choose` for scores [vocab] that serve all rows, or [vocab, row]."""
    rows = len(uniform)
    if scores.ndim == 1:
        scores = np.broadcast_to(scores[:, None], (len(scores), rows))
    tokens, logprobs = choose(
        scores.astype(np.float32),
        uniform.astype(np.float32),
        options(rows, **settings),
        history(rows) if text is None else text,
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
    scores = np.array([[1.0, 3.0, 2.0, 3.0], [-5.0, -9.0, -9.0, -9.0], [0.0] * 4]).T
    tokens, _ = pick(scores, np.full(3, 0.9), temperature=0.0)
    np.testing.assert_array_equal(tokens, [1, 0, 0])
    scores = np.zeros(VOCAB)
    scores[[70, 140, 200]] = 1.0
    tokens, _ = pick(scores, np.full(2, 0.9), temperature=0.0, top_k=2, top_p=0.9)
    np.testing.assert_array_equal(tokens, 70)


def test_logprobs_are_those_of_the_scores_as_they_came():
    """Scores (0, log 3): p = (1/4, 3/4), whatever is done to them before the draw."""
    scores = np.array([0.0, math.log(3)])
    text = history(2, (0,), (1,))
    for settings in (
        {},
        {"temperature": 0.0},
        {"temperature": 0.5},
        {"temperature": 3.0, "top_k": 1},
        {"top_p": 0.5},
        {"min_p": 0.5},
        {"repetition": 2.0},
        {"presence": 1.0},
        {"biases": ((0, 5.0),)},
        {"biases": ((1, -math.inf),)},
    ):
        tokens, logprobs = pick(scores, np.array([0.01, 0.99]), text=text, **settings)
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


def adjusted(
    scores: np.ndarray,
    prompt: np.ndarray,
    answer: np.ndarray,
    *,
    repetition: float,
    presence: float,
    biases: dict[int, float],
) -> np.ndarray:
    """One row's scores after penalties, biases and bans, each token once."""
    scores = scores.astype(np.float32).copy()
    for token in {*prompt.tolist(), *answer.tolist()}:  # as transformers has it
        if scores[token] < 0:
            scores[token] *= np.float32(repetition)
        else:
            scores[token] /= np.float32(repetition)
    for token in {*answer.tolist()}:
        scores[token] -= np.float32(presence)
    for token, bias in biases.items():
        scores[token] += np.float32(bias)
    return scores


def filtered(
    scores: np.ndarray, *, temperature: float, top_k: int, top_p: float, min_p: float
) -> tuple[np.ndarray, float]:
    """One row's probabilities after temperature and filters, and how close a cut was.

    The k-th largest score and all that equal it stay; of those, from the largest score
    down, all scores until their probability reaches top_p, ties together; of those,
    the ones that are min_p times as probable as the largest.
    """
    tempered = (scores - scores.max()).astype(np.float32) / np.float32(temperature)
    kept = np.isfinite(tempered)
    if 0 < top_k < kept.sum():
        kept &= tempered >= np.sort(tempered)[::-1][top_k - 1]
    closest = math.inf
    if top_p < 1:
        probability = softmax(np.where(kept, tempered, -np.inf))
        values, inverse = np.unique(tempered, return_inverse=True)
        reached = np.cumsum(np.bincount(inverse, probability)[::-1])
        cut = int((reached >= top_p).argmax())
        closest = np.abs(reached - top_p).min()
        kept &= tempered >= values[::-1][cut]
    if min_p > 0:
        closest = min(closest, np.abs(np.exp(tempered) / min_p - 1).min())
        kept &= np.exp(tempered) >= min_p
    return softmax(np.where(kept, tempered, -np.inf)), closest


def check_inversion(
    tokens: np.ndarray, uniform: np.ndarray, probability: np.ndarray
) -> None:
    """Each token's share of the unit interval holds the number that chose it, up to
    float32."""
    assert (probability[tokens] > 0).all()
    borders = np.concatenate([[0.0], np.cumsum(probability)])
    assert (uniform >= borders[tokens] - 2e-6).all()
    assert (uniform <= borders[tokens + 1] + 2e-6).all()


@pytest.mark.parametrize("vocab", [VOCAB, 20_000])
@pytest.mark.parametrize("seed", range(4))
def test_the_whole_chain_keeps_what_its_definition_keeps(vocab: int, seed: int):
    """Random settings for 24 rows in one call, at 48 numbers each."""
    rng = np.random.default_rng(seed)
    rows, width = 24, 40
    spread = rng.choice([0.1, 1.0, 3.0, 30.0], rows)
    scores = rng.normal(size=(vocab, rows)) * spread
    scores = np.where(rng.random(rows) < 0.5, np.round(scores * 2) / 2, scores)
    scores = scores.astype(np.float32)

    def some(values, plain):
        return np.where(rng.random(rows) < 0.5, rng.choice(values, rows), plain)

    top_k = some([1, 2, 5, 40, 127, 128, 129, 250, vocab - 1, vocab + 7], 0)
    settings = {
        "temperature": rng.choice([0.2, 0.7, 1.0, 3.0], rows),
        "top_k": top_k,
        "top_p": some([0.05, 0.3, 0.6, 0.9, 0.99], 1.0),
        "min_p": some([0.001, 0.02, 0.3, 0.9], 0.0),
        "repetition": some([0.5, 1.2, 3.0], 1.0),
        "presence": some([-1.0, 0.5, 2.0], 0.0),
    }
    text = History(
        # Few different ids, so that they repeat within prompt and answer.
        tokens=jnp.asarray(rng.integers(0, 30, (rows, width)), jnp.int32),
        prompt=jnp.asarray(rng.integers(1, 10, rows), jnp.int32),
        length=jnp.asarray(rng.integers(10, width + 1, rows), jnp.int32),
    )
    ids = np.stack([rng.permutation(60)[:8] for _ in range(rows)]).astype(np.int32)
    bias = rng.choice([-math.inf, -2.0, 0.5, 4.0], (rows, 8)).astype(np.float32)
    ids[rng.random((rows, 8)) < 0.4] = NOWHERE
    ids[rng.random(rows) < 0.5] = NOWHERE
    given = options(rows, **settings)
    given = given._replace(bias_ids=jnp.asarray(ids), bias=jnp.asarray(bias))

    uniform = even(48)
    tokens = np.stack(
        [
            np.asarray(choose(scores, np.full(rows, u, np.float32), given, text)[0])
            for u in uniform
        ]
    )
    undecided = 0
    for row in range(rows):
        prompt, length = text.prompt[row], text.length[row]
        changed = adjusted(
            scores[:, row],
            np.asarray(text.tokens[row, :prompt]),
            np.asarray(text.tokens[row, prompt:length]),
            repetition=settings["repetition"][row],
            presence=settings["presence"][row],
            biases={
                int(i): b
                for i, b in zip(ids[row], bias[row], strict=True)
                if i != NOWHERE
            },
        )
        probability, closest = filtered(
            changed,
            **{
                name: settings[name][row]
                for name in ("temperature", "top_k", "top_p", "min_p")
            },
        )
        if closest < 1e-5:  # rounding decides
            undecided += 1
            continue
        check_inversion(tokens[:, row], uniform, probability)
    assert undecided <= 4


@pytest.mark.parametrize("vocab", [VOCAB, 20_000])
def test_cuts_found_among_the_best_and_by_search_are_the_same(monkeypatch, vocab: int):
    """With a single best token nearly all rows are searched in the vocabulary."""
    rng = np.random.default_rng(0)
    rows = 48
    scores = (rng.normal(size=(vocab, rows)) * 3).astype(np.float32)
    scores[:, ::3] = np.round(scores[:, ::3])
    given = options(
        rows,
        top_k=rng.choice([0, 0, 1, 2, 30, 120], rows),
        top_p=rng.choice([0.05, 0.3, 0.7, 1.0], rows),
    )

    def draw(best: int) -> list[np.ndarray]:
        monkeypatch.setattr(module, "_BEST", best)
        program = jax.jit(lambda *arguments: module.choose(*arguments))
        return [
            np.asarray(
                program(scores, np.full(rows, u, np.float32), given, history(rows))[0]
            )
            for u in even(64)
        ]

    np.testing.assert_array_equal(draw(128), draw(1))


def test_top_1_is_greedy_and_ties_at_the_cut_stay():
    """Scores 3, 1, 2, 2: top-1 gives token 0; top-2 keeps both twos."""
    scores = np.array([3.0, 1.0, 2.0, 2.0])
    tokens, _ = pick(scores, even(8), top_k=1)
    np.testing.assert_array_equal(tokens, 0)
    tokens, _ = pick(scores, even(512), top_k=2)
    assert set(tokens.tolist()) == {0, 2, 3}


def test_all_ties_with_the_kth_stay_however_many():
    """200 equal scores: top-1 keeps them all, and top-p counts them together."""
    scores = np.full(VOCAB, -1.0)
    scores[50:250] = 0.0
    for top_k, top_p in ((1, 1.0), (0, 0.01), (150, 0.5)):
        tokens, _ = pick(scores, even(400), top_k=top_k, top_p=top_p)
        np.testing.assert_array_equal(np.bincount(tokens)[50:250], 2)


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


def test_min_p_is_a_share_of_the_most_probable_after_temperature():
    """p = (0.4, 0.3, 0.2, 0.1): min-p 0.6 asks for 0.24 and keeps two, 4/7 and 3/7.
    At temperature 1/2 their weights are 16, 9, 4, 1: 0.6 of 16 leaves one."""
    scores = np.log(np.array([0.4, 0.3, 0.2, 0.1]))
    tokens, _ = pick(scores, even(70), min_p=0.6)
    counts = np.bincount(tokens, minlength=4)
    assert abs(counts[0] - 40) <= 1 and abs(counts[1] - 30) <= 1
    tokens, _ = pick(scores, even(70), min_p=0.6, temperature=0.5)
    np.testing.assert_array_equal(tokens, 0)


def test_penalties_by_hand():
    """Scores (2, 1, -1, 0), prompt (0, 2), answer (2, 2, 3); repetition 2, presence 1.

    Token 0 is in the prompt: 2 / 2. Token 1 is new. Token 2 is in both, once though it
    occurs three times: -1 * 2 - 1. Token 3: 0 / 2 - 1.
    """
    scores = np.array([2.0, 1.0, -1.0, 0.0])
    text = history(1, (0, 2), (2, 2, 3))
    changed = jax.jit(module._adjust)(
        jnp.asarray(scores[:, None], jnp.float32),
        options(1, repetition=2.0, presence=1.0),
        text,
    )
    np.testing.assert_array_equal(np.asarray(changed)[:, 0], [1.0, 1.0, -3.0, -1.0])
    count = 1 << 12
    tokens, _ = pick(
        scores,
        even(count),
        text=history(count, (0, 2), (2, 2, 3)),
        repetition=2.0,
        presence=1.0,
    )
    expected = count * softmax(np.array([1.0, 1.0, -3.0, -1.0]))
    assert np.abs(np.bincount(tokens, minlength=4) - expected).max() < 1.1


def test_places_after_the_text_are_not_read():
    """The place behind the text holds id 0, which must not be penalised."""
    scores = np.array([1.0, 0.9])
    for settings in ({"repetition": 5.0}, {"presence": 5.0}):
        tokens, _ = pick(
            scores, np.zeros(1), text=history(1), temperature=0.0, **settings
        )
        assert tokens[0] == 0


def test_biases_are_added_and_banned_tokens_never_come():
    """Scores 0: a bias of log 2 gives token 1 two parts of four; token 3 is banned."""
    scores = np.zeros(4)
    biases = ((1, math.log(2)), (3, -math.inf))
    tokens, _ = pick(scores, even(400), biases=biases)
    counts = np.bincount(tokens, minlength=4)
    assert np.abs(counts - [100, 200, 100, 0]).max() <= 1 and counts[3] == 0
    ends = np.array([0.0, 1 - 2**-24])
    for temperature in (0.0, 1.0):
        banned = tuple((i, -math.inf) for i in (0, 1, 3))
        tokens, _ = pick(scores, ends, biases=banned, temperature=temperature)
        np.testing.assert_array_equal(tokens, 2)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("settings", [{}, {"top_k": 2}, {"top_p": 0.5, "min_p": 0.1}])
def test_where_all_tokens_are_banned_it_is_token_0(temperature: float, settings: dict):
    biases = tuple((i, -math.inf) for i in range(4))
    tokens, logprobs = pick(
        np.zeros(4),
        np.array([0.0, 0.9]),
        biases=biases,
        temperature=temperature,
        **settings,
    )
    np.testing.assert_array_equal(tokens, 0)
    np.testing.assert_allclose(logprobs, math.log(0.25), rtol=1e-6)


MIXED = {
    "temperature": [0.7, 1.0, 0.0, 1.0, 2.0, 1.0, 0.7, 1.0, 1.0, 1.0, 0.3, 1.0, 1.0],
    "top_k": [0, 3, 0, 290, 0, 0, 0, 200, 0, 0, 0, 0, 0],
    "top_p": [1.0, 1.0, 0.2, 1.0, 0.95, 0.5, 1.0, 0.9, 1.0, 1.0, 0.99, 1.0, 1.0],
    "min_p": [0.0, 0.0, 0.1, 0.0, 0.0, 0.0, 0.2, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0],
    "repetition": [1.0, 1.0, 1.5, 1.0, 1.0, 1.1, 1.0, 1.0, 1.3, 1.0, 1.0, 1.0, 1.0],
    "presence": [0.0, 0.0, 0.0, 0.5, 0.0, 0.0, 1.0, 0.0, 0.0, 0.7, 0.0, 0.0, 0.0],
}


def mixed_company():
    """13 rows with all kinds of settings; the last one has a ban, the one before it
    nothing at all. 300 tokens, so that nuclei lie within and beyond the best 128."""
    rng = np.random.default_rng(1)
    rows = len(MIXED["top_k"])
    scores = rng.normal(size=(VOCAB, rows)).astype(np.float32)
    given = options(rows, **{name: np.array(v) for name, v in MIXED.items()})
    given = given._replace(
        bias_ids=given.bias_ids.at[-1].set(7), bias=given.bias.at[-1].set(-math.inf)
    )
    text = history(rows, (1, 2, 3), (3, 4, 5, 3))
    return scores, given, text


def test_a_row_does_not_notice_its_neighbours():
    """Bitwise: each row in mixed company and among rows without any setting."""
    scores, given, text = mixed_company()
    rows = scores.shape[1]
    plain = options(rows)
    for u in (0.03, 0.5, 0.97):
        uniform = np.full(rows, u, np.float32)
        mixed = choose(scores, uniform, given, text)
        for row in range(rows):
            here = np.arange(rows) == row
            alone = choose(
                np.where(here, scores, 1.0).astype(np.float32),
                uniform,
                Options(
                    *(
                        jnp.where(here if a.ndim == 1 else here[:, None], a, b)
                        for a, b in zip(given, plain, strict=True)
                    )
                ),
                text,
            )
            for before, after in zip(mixed, alone, strict=True):
                assert before[row] == after[row]


def test_a_row_does_not_notice_its_place():
    """Bitwise: the rows in another order."""
    scores, given, text = mixed_company()
    order = np.random.default_rng(2).permutation(scores.shape[1])
    for u in even(16):
        uniform = np.full(len(order), u, np.float32)
        there = choose(scores, uniform, given, text)
        here = choose(
            np.ascontiguousarray(scores[:, order]),
            uniform,
            Options(*(array[order] for array in given)),
            text,
        )
        for before, after in zip(there, here, strict=True):
            np.testing.assert_array_equal(np.asarray(before)[order], after)


def test_one_program_serves_all_settings():
    traced = []

    @jax.jit
    def program(*arguments):
        traced.append(arguments)
        return module.choose(*arguments)

    scores, given, text = mixed_company()
    uniform = np.zeros(scores.shape[1], np.float32)
    program(scores, uniform, given, text)
    program(scores, uniform, options(len(uniform)), text)
    assert len(traced) == 1


def test_devices_mapped_over_give_what_each_gives():
    scores, given, text = mixed_company()
    uniform = even(scores.shape[1]).astype(np.float32)
    pair = [
        (scores, uniform, given, text),
        (scores[:, ::-1], uniform, options(len(uniform)), text),
    ]
    stacked = jax.tree.map(lambda *arrays: np.stack(arrays), *pair)
    tokens, logprobs = jax.jit(jax.vmap(module.choose))(*stacked)
    for i, arguments in enumerate(pair):
        expected = choose(*arguments)
        np.testing.assert_array_equal(tokens[i], expected[0])
        np.testing.assert_allclose(logprobs[i], expected[1], rtol=1e-5)


def test_bfloat16_scores_are_read_as_float32():
    scores, given, text = mixed_company()
    uniform = even(scores.shape[1]).astype(np.float32)
    coarse = jnp.asarray(scores, jnp.bfloat16)
    tokens, logprobs = choose(coarse, uniform, given, text)
    expected = choose(coarse.astype(jnp.float32), uniform, given, text)
    np.testing.assert_array_equal(tokens, expected[0])
    np.testing.assert_array_equal(logprobs, expected[1])
    assert logprobs.dtype == jnp.float32


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


@functools.cache
def extreme_scores() -> dict[str, np.ndarray]:
    peak = np.full(VOCAB, -1e30)
    peak[7] = 1e30
    falling = -np.logspace(-30, 38, VOCAB)
    return {
        "equal": np.zeros(VOCAB),
        "low": np.full(VOCAB, -1e30),
        "high": np.full(VOCAB, 3e38),
        "peak": peak,
        "falling": falling,
        "far": np.where(np.arange(VOCAB) % 2, 3e38, -3e38),
    }


@pytest.mark.parametrize("name", extreme_scores())
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"temperature": 0.0},
        {"temperature": 1e-30},
        {"temperature": 1e20},
        {"top_k": 3},
        {"top_k": 200, "top_p": 0.5},
        {"top_p": 1e-6},
        {"top_p": 0.999999},
        {"min_p": 0.999},
        {"repetition": 1e-30, "presence": 3e38},
        {"repetition": 1e30, "presence": -3e38},
        {"biases": ((7, 3e38), (8, -3e38), (9, -math.inf))},
    ],
)
def test_extreme_scores_and_settings_give_an_id_and_a_number(name: str, settings: dict):
    uniform = np.array([0.0, 0.5, 1 - 2**-24])
    scores = extreme_scores()[name]
    tokens, logprobs = pick(
        scores, uniform, text=history(3, (7, 8), (8, 10)), **settings
    )
    assert ((tokens >= 0) & (tokens < VOCAB)).all()
    assert not np.isnan(logprobs).any() and (logprobs <= 1e-5).all()
    if "biases" in settings:
        assert (tokens != 9).all()
    if name == "peak" and not {"repetition", "biases"} & {*settings}:
        np.testing.assert_array_equal(tokens, 7)


@pytest.mark.parametrize("broken", [math.nan, math.inf])
@pytest.mark.parametrize(
    "settings",
    [{}, {"temperature": 0.0}, {"temperature": 0.7}, {"top_k": 3}, {"top_p": 0.9}],
)
def test_a_score_that_is_no_finite_number_shows(broken: float, settings: dict):
    """In its own row alone; the id is one of the vocabulary all the same."""
    scores = np.random.default_rng(0).normal(size=(VOCAB, 2))
    scores[70, 0] = broken
    tokens, logprobs = pick(scores, np.full(2, 0.5), **settings)
    np.testing.assert_array_equal(np.isnan(logprobs), [True, False])
    assert ((tokens >= 0) & (tokens < VOCAB)).all()
