# SPDX-License-Identifier: Apache-2.0
"""The sampler: a request's answer depends on nothing but the request."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alignjax.models import Model, Params
from alignjax.models.attention import Visibility
from alignjax.sampling import Request, Result, Sampler, Settings, decode
from alignjax.sampling.sampler import TextCodec

GREEDY = Settings(temperature=0.0, max_new_tokens=12)
CONTEXT = 80


def prompt(seed: int, size: int) -> tuple[int, ...]:
    return tuple(np.random.default_rng(seed).integers(0, 64, size).tolist())


# Of several lengths (two prefill buckets: up to 32 and up to 64), settings and n.
REQUESTS = [
    Request("greedy", prompt(0, 5), settings=GREEDY),
    Request("warm", prompt(1, 9), n=3, seed=4, settings=Settings(max_new_tokens=20)),
    Request("long", prompt(2, 40), seed=9, settings=Settings(1.5, max_new_tokens=30)),
    Request("k", prompt(3, 32), n=2, settings=Settings(top_k=5, max_new_tokens=9)),
    Request("p", prompt(4, 1), seed=2, settings=Settings(0.7, 0, 0.8, 17)),
    Request("one", prompt(5, 33), seed=3, settings=Settings(max_new_tokens=1)),
]


def make(tiny: tuple[Model, Params], codec: TextCodec) -> Sampler:
    model, params = tiny
    return Sampler(model, params, codec, slots=3, context=CONTEXT)


@pytest.fixture
def sampler(tiny, digits) -> Sampler:
    return make(tiny, digits())


def answers(
    sampler: Sampler, requests: Iterable[Request | None]
) -> dict[tuple[str, int], Result]:
    results = list(sampler.generate(requests))
    found = {(result.id, result.sample): result for result in results}
    assert len(found) == len(results)
    return found


@pytest.fixture(scope="module")
def together(tiny, digits) -> dict[tuple[str, int], Result]:
    return answers(make(tiny, digits()), REQUESTS)


@partial(jax.jit, static_argnames="model")
def scores_of(params: Params, tokens: jax.Array, *, model: Model) -> jax.Array:
    visibility = Visibility(jnp.ones_like(tokens), jnp.zeros_like(tokens))
    positions = jnp.arange(tokens.shape[1])[None]
    hidden = model.apply(params, tokens, positions, visibility).hidden
    return hidden[0] @ model.output_head(params)


def next_scores(tiny: tuple[Model, Params], tokens: Iterable[int]) -> np.ndarray:
    """Scores after the last token, by one forward over everything."""
    model, params = tiny
    tokens = list(tokens)
    padded = np.zeros((1, CONTEXT), np.int32)
    padded[0, : len(tokens)] = tokens
    return np.asarray(scores_of(params, padded, model=model))[len(tokens) - 1]


def test_greedy_answers_are_the_best_tokens_of_the_whole_forward(tiny, together):
    request, result = REQUESTS[0], together["greedy", 0]
    tokens = list(request.tokens)
    for token, logprob in zip(result.tokens, result.logprobs, strict=True):
        scores = next_scores(tiny, tokens)
        best, second = np.sort(scores)[:-3:-1]
        assert best - second > 1e-4  # else rounding decides
        assert token == scores.argmax()
        expected = best - np.logaddexp.reduce(scores.astype(np.float64))
        assert math.isclose(logprob, expected, abs_tol=1e-4)
        tokens.append(token)
    assert len(result.tokens) == 12 and len(set(result.tokens)) > 3


def test_every_request_is_answered_n_times_to_its_length(together):
    """9 samples through 3 slots; no id ends an answer, so all run to their limit."""
    asked = {(r.id, i): r for r in REQUESTS for i in range(r.n)}
    assert together.keys() == asked.keys()
    for key, result in together.items():
        assert len(result.tokens) == asked[key].settings.max_new_tokens
        assert len(result.logprobs) == len(result.tokens)
        assert result.finish_reason == "length"
        assert result.text == "".join(f"{token:02d}" for token in result.tokens)


@pytest.mark.parametrize("request_", REQUESTS, ids=lambda request: request.id)
def test_a_request_alone_gives_bitwise_what_it_gives_in_company(
    sampler, together, request_
):
    for key, result in answers(sampler, [request_]).items():
        assert result == together[key]


def test_order_changes_nothing(sampler, together):
    assert answers(sampler, reversed(REQUESTS)) == together
    assert answers(sampler, REQUESTS[3:] + REQUESTS[:3]) == together


def test_sampled_tokens_follow_the_seed_and_the_sample(sampler, together):
    """Another seed gives other tokens; sample i is the same for every n."""
    warm = REQUESTS[1]
    streams = [together["warm", i].tokens for i in range(3)]
    assert len(set(streams)) == 3
    other = answers(sampler, [dataclasses.replace(warm, seed=5)])
    assert other["warm", 0].tokens not in streams
    more = answers(sampler, [dataclasses.replace(warm, n=5)])
    assert [more["warm", i].tokens for i in range(3)] == streams


def test_n_samples_share_one_prefill(sampler, monkeypatch: pytest.MonkeyPatch):
    """Seven samples in three slots, inserted at three different times: one call.
    Two requests at once share a call as well."""
    calls: list[int] = []
    prefill = decode.prefill

    def counting(params, cache, tokens, call, *, model, mesh):
        calls.append(tokens.shape[1])
        return prefill(params, cache, tokens, call, model=model, mesh=mesh)

    monkeypatch.setattr(decode, "prefill", counting)
    settings = Settings(max_new_tokens=11)
    assert len(answers(sampler, [Request("a", prompt(6, 7), 7, 0, settings)])) == 7
    assert calls == [32]
    two = [Request(name, prompt(7, 20), settings=settings) for name in "ab"]
    answers(sampler, two)
    assert calls == [32] * 2


def test_an_end_token_stops_the_answer_and_is_left_out(tiny, digits, together):
    whole = together["greedy", 0]
    end = whole.tokens[4]
    cut = whole.tokens.index(end)
    unused = next(i for i in range(64) if i not in whole.tokens)
    sampler = make(tiny, digits(unused, end))
    result = answers(sampler, REQUESTS[:1])["greedy", 0]
    assert result.tokens == whole.tokens[:cut]
    assert result.logprobs == whole.logprobs[:cut]
    assert (result.finish_reason, result.text) == ("stop", whole.text[: 2 * cut])


@pytest.mark.parametrize("start", [0, 5, 6, 9])
def test_a_stop_text_cuts_the_text_just_before_it(sampler, together, start: int):
    """Four digits from an odd place cover three tokens; the text ends where they
    begin, the tokens with the one that completed them."""
    whole = together["greedy", 0]
    stop = whole.text[start : start + 4]
    begin = whole.text.index(stop)
    settings = dataclasses.replace(GREEDY, stop=("xx", stop))
    request = dataclasses.replace(REQUESTS[0], settings=settings)
    result = answers(sampler, [request])["greedy", 0]
    assert result.text == whole.text[:begin]
    assert result.tokens == whole.tokens[: -(-(begin + 4) // 2)]
    assert result.finish_reason == "stop"


def test_of_two_stop_texts_the_first_in_the_text_counts(sampler, together):
    """Both are complete with the same token: the earlier one cuts."""
    text = together["greedy", 0].text
    settings = dataclasses.replace(GREEDY, stop=(text[3:6], text[1:6]))
    request = dataclasses.replace(REQUESTS[0], settings=settings)
    assert answers(sampler, [request])["greedy", 0].text == text[:1]


def test_a_prompt_and_answer_that_just_fill_the_context_are_sampled(sampler, tiny):
    """70 + 10 = 80; the last token is that of the whole forward."""
    settings = dataclasses.replace(GREEDY, max_new_tokens=10)
    request = Request("full", prompt(8, 70), settings=settings)
    tokens = answers(sampler, [request])["full", 0].tokens
    scores = next_scores(tiny, [*request.tokens, *tokens[:-1]])
    assert tokens[-1] == scores.argmax()
    longer = dataclasses.replace(request, tokens=prompt(8, 71))
    refused = answers(sampler, [longer])["full", 0]
    assert refused.finish_reason == "refused" and not refused.tokens
    assert refused.reason.startswith(
        "prompt of 71 tokens and max_new_tokens=10 need 81"
    )


def test_requests_may_wait_for_results(sampler):
    """The iterator gives None until the first answer is there, then asks with it."""
    seen: list[Result] = []
    nothing = 0

    def requests() -> Iterator[Request | None]:
        nonlocal nothing
        yield REQUESTS[2]
        while not seen:
            nothing += 1
            yield None
        yield Request("second", seen[0].tokens, settings=GREEDY)

    for result in sampler.generate(requests()):
        seen.append(result)
    assert [result.id for result in seen] == ["long", "second"]
    assert nothing > 0


def test_waiting_for_nothing_is_an_error(sampler):
    with pytest.raises(RuntimeError, match="gave nothing while no answer"):
        answers(sampler, [None])


def test_slots_are_used_again_without_compiling_anything(sampler, together):
    answers(sampler, REQUESTS)
    jitted: list[Any] = [decode.prefill, decode.copy_prompt, decode.decode]
    before = [function._cache_size() for function in jitted]
    more = [
        dataclasses.replace(request, id=f"{request.id}{copy}", seed=copy)
        for request in REQUESTS
        for copy in range(3)
    ]
    assert len(answers(sampler, more)) == 3 * len(together)
    assert [function._cache_size() for function in jitted] == before


def test_useful_counts_answers_and_steps_counts_slots(tiny, digits):
    """12 tokens in chunks of 4: three chunks of three slots, 36 steps, 12 useful."""
    sampler = make(tiny, digits())
    answers(sampler, REQUESTS[:1])
    assert (sampler.steps, sampler.useful) == (36, 12)


def test_a_stream_that_is_left_leaves_nothing_behind(sampler, together):
    stream = sampler.generate(REQUESTS)
    next(stream)
    with pytest.raises(RuntimeError, match="exhaust or close that stream first"):
        next(sampler.generate(REQUESTS))
    stream.close()
    assert answers(sampler, REQUESTS[1:2]).keys() == {("warm", i) for i in range(3)}
    bad = Request("bad", (64,), settings=GREEDY)
    found = answers(sampler, [bad, REQUESTS[0]])
    assert "vocabulary of 64" in found["bad", 0].reason
    assert found["greedy", 0] == together["greedy", 0]


def test_scores_that_are_not_finite_are_reported(tiny, digits):
    model, params = tiny
    broken = {**params, "head": params["head"].at[0].set(jnp.inf)}
    sampler = make((model, broken), digits())
    found = answers(sampler, REQUESTS[:1])["greedy", 0]
    assert found.finish_reason == "refused"
    assert "not finite after 0 tokens" in found.reason


def test_a_sampler_needs_a_slot_and_positions(tiny, digits):
    model, params = tiny
    with pytest.raises(ValueError, match="slots must be > 0, got 0"):
        Sampler(model, params, digits(), slots=0)
    with pytest.raises(ValueError, match="context 129 exceeds the model's 128"):
        Sampler(model, params, digits(), slots=1, context=129)
