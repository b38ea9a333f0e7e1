# SPDX-License-Identifier: Apache-2.0
"""Scores of given answers: those that the sampler reported when it drew them."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from alignjax.data.rows import Shape, Tokens
from alignjax.sampling import Request, Sampler, Settings, score

SHAPE = Shape(rows=2, time=64, blocks=5, block=40, scored=48)


def prompt(seed: int, size: int) -> tuple[int, ...]:
    return tuple(np.random.default_rng(seed).integers(0, 64, size).tolist())


@pytest.fixture(scope="module")
def sampled(tiny, digits) -> tuple[list[Tokens], list[list[tuple[float, ...]]]]:
    """Five prompts with one to four sampled answers each, and their log p."""
    model, params = tiny
    sampler = Sampler(model, params, digits(), slots=4, context=80)
    requests = [
        Request(str(i), prompt(i, size), n, i, Settings(max_new_tokens=5 + i))
        for i, (size, n) in enumerate([(12, 2), (3, 4), (30, 1), (1, 3), (7, 2)])
    ]
    drawn = {(r.id, r.sample): r for r in sampler.generate(requests)}
    examples, logprobs = [], []
    for request in requests:
        results = [drawn[request.id, i] for i in range(request.n)]
        responses = tuple(result.tokens for result in results)
        examples.append(Tokens(request.id, request.tokens, responses))
        logprobs.append([result.logprobs for result in results])
    return examples, logprobs


def test_scores_equal_the_logprobs_of_sampling(tiny, sampled):
    """Packed rows with shared prompts here, decoding with a cache there."""
    (model, params), (examples, expected) = tiny, sampled
    scores = score(model, params, examples, SHAPE)
    assert [len(ranks) for ranks in scores] == [2, 4, 1, 3, 2]
    for ranks, wanted in zip(scores, expected, strict=True):
        for got, logprobs in zip(ranks, wanted, strict=True):
            np.testing.assert_allclose(got, logprobs, atol=1e-4)


def test_scores_depend_neither_on_order_nor_on_the_shape_of_batches(tiny, sampled):
    (model, params), (examples, _) = tiny, sampled
    scores = score(model, params, examples, SHAPE)
    shape = dataclasses.replace(SHAPE, rows=3, time=50, block=41, scored=33)
    other = score(model, params, examples[::-1], shape)[::-1]
    for ranks, again in zip(scores, other, strict=True):
        for got, expected in zip(again, ranks, strict=True):
            np.testing.assert_allclose(got, expected, atol=1e-5)


def test_progress_counts_examples_up_to_their_number(tiny, sampled):
    (model, params), (examples, _) = tiny, sampled
    seen: list[int] = []
    score(model, params, examples, SHAPE, progress=seen.append)
    assert seen == sorted(seen) and seen[-1] == len(examples)


def test_an_example_that_fits_no_row_is_named(tiny, sampled):
    (model, params), (examples, _) = tiny, sampled
    shape = dataclasses.replace(SHAPE, block=20)
    with pytest.raises(ValueError, match="example 2 fits no row"):
        score(model, params, examples, shape)
