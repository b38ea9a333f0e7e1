# SPDX-License-Identifier: Apache-2.0
"""The sampler: what it answers, from which prompts, and in how much memory."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from alignjax.models import Params
from alignjax.sampling import (
    Request,
    Sampler,
    Settings,
    shapes,
)
from alignjax.sampling.runner import Runner
from few_requests import GREEDY, REQUESTS, WARM, Tiny, greedy, make
from mixed_requests import (
    SHAPES,
    Answers,
    Digits,
    answers,
    choice,
    next_scores,
    prompt,
)


def test_greedy_answers_are_the_best_tokens_of_the_whole_forward(tiny, together):
    request, result = REQUESTS[0], together["greedy", 0]
    tokens = list(request.tokens)
    for token, logprob in zip(result.tokens, result.logprobs, strict=True):
        scores = next_scores(tiny, tokens)
        best, second = np.sort(scores)[:-3:-1]
        assert best - second > 1e-4  # else rounding decides
        assert token == scores.argmax()
        expected = best - np.logaddexp.reduce(scores)
        assert math.isclose(logprob, expected, abs_tol=1e-4)
        tokens.append(token)
    assert len(result.tokens) == 12 and len(set(result.tokens)) > 3


def test_every_request_is_answered_n_times_to_its_length(together):
    """No id ends an answer, so all run to their limit."""
    asked = {(r.id, i): r for r in REQUESTS for i in range(r.n)}
    assert together.keys() == asked.keys()
    for key, result in together.items():
        assert len(result.tokens) == asked[key].settings.max_new_tokens
        assert len(result.logprobs) == len(result.tokens)
        assert (result.finish_reason, result.reason) == ("length", "")
        assert result.text == "".join(f"{token:02d}" for token in result.tokens)


def test_sampled_tokens_follow_the_seed_and_the_sample(sampler, together):
    """Another seed gives other tokens; sample i is the same for every n."""
    streams = [together["warm", i].tokens for i in range(5)]
    assert len(set(streams)) == 5
    other = answers(sampler, [dataclasses.replace(WARM, seed=5)])
    assert other["warm", 0].tokens not in streams
    more = answers(sampler, [dataclasses.replace(WARM, n=7)])
    assert [more["warm", i].tokens for i in range(5)] == streams


def test_samples_may_begin_later_than_the_first(sampler, together):
    """Samples 3 and 4 of the five."""
    later = dataclasses.replace(WARM, first=3, n=2)
    expected = {("warm", i): together["warm", i] for i in (3, 4)}
    assert answers(sampler, [later]) == expected


SETTINGS: dict[str, dict[str, Any]] = {
    "top_k": {"top_k": 3},
    "top_p": {"top_p": 0.6},
    "min_p": {"min_p": 0.2},
    "repetition_penalty": {"repetition_penalty": 1.6},
    "presence_penalty": {"presence_penalty": 1.5},
    "logit_bias": {"logit_bias": ((7, 8.0), (24, -6.0))},
    "banned": {"banned": (3, 60)},
    "all": {
        "top_k": 12,
        "top_p": 0.9,
        "min_p": 0.05,
        "repetition_penalty": 0.8,
        "presence_penalty": -0.5,
        "logit_bias": ((7, 1.0),),
        "banned": (9,),
    },
}


@pytest.mark.parametrize("temperature", [0.0, 0.8])
@pytest.mark.parametrize("name", SETTINGS)
def test_settings_choose_the_tokens_of_their_definitions(
    sampler, tiny, name: str, temperature: float
):
    """Token by token in float64, from the scores of a whole forward; no draw is so
    close that rounding decides. Log-probabilities are those of the plain scores."""
    settings = Settings(temperature, max_new_tokens=20, **SETTINGS[name])
    request = Request(name, prompt(6, 25), seed=11, settings=settings)
    result = answers(sampler, [request])[name, 0]
    assert len(result.tokens) == 20
    for place, token in enumerate(result.tokens):
        there = choice(tiny, request, 0, result.tokens[:place])
        assert token == there.token()
        scores = next_scores(tiny, [*request.tokens, *result.tokens[:place]])
        expected = scores[token] - np.logaddexp.reduce(scores)
        assert math.isclose(result.logprobs[place], expected, abs_tol=1e-4)
    plain = dataclasses.replace(request, settings=Settings(temperature, 0, 1.0, 20))
    if not (temperature == 0 and name in ("top_k", "top_p", "min_p")):
        assert answers(sampler, [plain])[name, 0].tokens != result.tokens


def test_an_end_token_stops_the_answer_and_is_left_out(tiny, together):
    whole = together["greedy", 0]
    end = whole.tokens[4]
    cut = whole.tokens.index(end)
    unused = next(i for i in range(64) if i not in whole.tokens)
    result = answers(make(tiny, unused, end), REQUESTS[:1])["greedy", 0]
    assert result.tokens == whole.tokens[:cut]
    assert result.logprobs == whole.logprobs[:cut]
    assert (result.finish_reason, result.text) == ("stop", whole.text[: 2 * cut])


def test_a_stop_id_is_an_end_token_of_its_request_alone(sampler, together):
    whole = together["greedy", 0]
    end = whole.tokens[4]
    settings = dataclasses.replace(GREEDY, stop_ids=(62, end))
    cut, again = (
        answers(sampler, [dataclasses.replace(REQUESTS[0], settings=s)])["greedy", 0]
        for s in (settings, GREEDY)
    )
    assert cut.tokens == whole.tokens[: whole.tokens.index(end)]
    assert cut.finish_reason == "stop" and again == whole


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


def test_n_samples_share_one_prefill_and_its_copies(sampler, ticks):
    """Seven samples, two to a row: one call, and a copy for each further row. Two
    requests at once share a call as well."""
    settings = Settings(max_new_tokens=11)
    copies = Counter()
    copy = sampler._runner.copy_prompts

    def counting(copied: Any) -> None:
        copies.update(pair for mine in copied for pair in mine)
        copy(copied)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sampler._runner, "copy_prompts", counting)
        assert len(answers(sampler, [Request("a", prompt(6, 7), 7, 0, settings)])) == 7
    assert [tick.tokens for tick in ticks if tick.kind == "prefill"] == [6]
    assert len(copies) == 3
    ticks.clear()
    answers(sampler, [Request(name, prompt(7, 20), settings=settings) for name in "ab"])
    assert [tick.tokens for tick in ticks if tick.kind == "prefill"] == [38]


def test_a_prompt_in_parts_gives_what_one_call_gives(tiny):
    """90 tokens: one call of 128, or two of 64, or three of 32 that a busy sampler
    stops between. Log-probabilities to 1e-5."""
    request = greedy(90, 30)
    found = {
        size: answers(make(tiny, prefill_tokens=size), [request])["full", 0]
        for size in (32, 64, 128)
    }
    for result in (found[32], found[64]):
        assert result.tokens == found[128].tokens
        np.testing.assert_allclose(
            result.logprobs, found[128].logprobs, rtol=0, atol=1e-5
        )


def test_a_busy_sampler_goes_on_while_a_long_prompt_is_stored(sampler, ticks):
    """Seven of eight slots are busy when a prompt of 91 tokens comes: its two calls
    (64 and 26 tokens) have a decoding call between them. Into an empty sampler both
    come at once."""
    busy = Request("busy", prompt(9, 4), n=7, settings=Settings(max_new_tokens=30))
    alone = answers(sampler, [greedy(91, 4)])
    kinds = [tick.kind for tick in ticks]
    assert kinds[:3] == ["prefill", "prefill", "decode"]
    ticks.clear()

    def requests() -> Iterator[Request | None]:
        yield busy
        yield None
        yield greedy(91, 4)

    found = answers(sampler, requests())
    kinds = [tick.kind for tick in ticks]
    assert kinds[:5] == ["prefill", "decode", "prefill", "decode", "prefill"]
    assert [tick.tokens for tick in ticks if tick.kind == "prefill"] == [3, 64, 26]
    assert found["full", 0] == alone["full", 0]


def test_shares_and_rows_change_no_token(tiny, together):
    """Every sample with a row of its own, or all of a prompt with one."""
    for share, prompts in ((1, 8), (5, 4)):
        other = answers(make(tiny, share=share, prompts=prompts), REQUESTS)
        for key, result in together.items():
            assert other[key].tokens == result.tokens
            np.testing.assert_allclose(
                other[key].logprobs, result.logprobs, rtol=0, atol=1e-5
            )


def test_memory_is_looked_at_before_anything_is_allocated(
    tiny: Tiny, monkeypatch: pytest.MonkeyPatch
):
    model, params = tiny
    asked = {**SHAPES, "slots": 64}
    fits = shapes.shapes(**{**asked, "slots": 32})
    available = shapes.estimate_bytes(model.config, fits, params)

    def allocate(self: Runner, mesh: Any, params: Params) -> None:
        raise AssertionError("allocated")

    monkeypatch.setattr(Runner, "_replica", allocate)
    with pytest.raises(
        ValueError, match=r"^64 slots of 128 tokens .* 32 slots would f"
    ):
        Sampler(*tiny, Digits(), **asked, memory_bytes=available)


@pytest.fixture(scope="module")
def rounded(tiny: Tiny) -> Answers:
    return answers(make(tiny, cache_dtype="int8"), REQUESTS)


def test_an_int8_cache_stays_near_the_plain_one(together, rounded):
    """Same prompts, same random numbers: until the first token that differs, the
    log-probabilities are within 0.1 nats, and on average within 0.02."""
    assert rounded.keys() == together.keys()
    off: list[float] = []
    for key, result in together.items():
        for a, b in zip(
            zip(result.tokens, result.logprobs, strict=True),
            zip(rounded[key].tokens, rounded[key].logprobs, strict=True),
            strict=True,
        ):
            if a[0] != b[0]:
                break
            off.append(abs(a[1] - b[1]))
    assert len(off) > 80
    assert 0 < np.mean(off) < 0.02 and max(off) < 0.1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"slots": 0}, "slots must be > 0, got 0"),
        ({"chunk": 0}, "chunk must be > 0, got 0"),
        ({"context": 129}, "context 129 exceeds the model's 128"),
        ({"cache_dtype": "int4"}, "cache_dtype must be int8 or left out, got 'int4'"),
    ],
)
def test_numbers_out_of_range_are_refused(tiny, changes: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        make(tiny, **changes)
