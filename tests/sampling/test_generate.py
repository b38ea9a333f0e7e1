# SPDX-License-Identifier: Apache-2.0
"""The stream of requests and answers: refusals, waiting, interruptions, and counts."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import jax.numpy as jnp
import pytest

from alignjax.sampling import (
    Piece,
    Request,
    Result,
    Settings,
    decode,
)
from few_requests import GREEDY, REQUESTS, WARM, greedy, make
from mixed_requests import (
    answers,
    mixed,
    next_scores,
    prompt,
)


def test_pieces_make_up_the_text(sampler, together):
    """Several of an answer, as it grows; watching changes no result."""
    pieces: list[Piece] = []
    text = together["greedy", 0].text
    settings = dataclasses.replace(GREEDY, stop=(text[13:17],))
    stopped = dataclasses.replace(REQUESTS[0], id="stopped", settings=settings)
    watched = {
        (result.id, result.sample): result
        for result in sampler.generate([*REQUESTS, stopped], observe=pieces.append)
    }
    assert watched.pop(("stopped", 0)).text == text[: text.index(text[13:17])]
    assert watched == together
    told = {key: "" for key in [*together, ("stopped", 0)]}
    for piece in pieces:
        told[piece.id, piece.sample] += piece.text
    assert told.pop(("stopped", 0)) == text[: text.index(text[13:17])]
    assert told == {key: result.text for key, result in together.items()}
    assert sum(piece.id == "greedy" for piece in pieces) == 12


def test_a_prompt_and_answer_that_just_fill_the_context_are_sampled(sampler, tiny):
    """96 + 32 = 128; the last token is that of the whole forward."""
    request = greedy(96, 32)
    result = answers(sampler, [request])["full", 0]
    scores = next_scores(tiny, [*request.tokens, *result.tokens[:-1]])
    assert len(result.tokens) == 32 and result.tokens[-1] == scores.argmax()


@pytest.mark.parametrize(
    ("request_", "reason"),
    [
        (
            greedy(97, 32),
            "prompt of 97 tokens and max_new_tokens=32 need 129, the sampler's "
            "context is 128",
        ),
        (
            greedy(5, 33),
            "max_new_tokens=33 exceeds the 32 tokens that the sampler keeps room for "
            "(its `answer`; --max-new-tokens of the command)",
        ),
        (
            Request("full", (3, 64), settings=GREEDY),
            "a prompt token is not in the model's vocabulary of 64; is the tokenizer "
            "that of the model?",
        ),
        (
            Request("full", (-1, 3), settings=GREEDY),
            "a prompt token is not in the model's vocabulary of 64; is the tokenizer "
            "that of the model?",
        ),
        (
            Request("full", (3,), settings=dataclasses.replace(GREEDY, banned=(70,))),
            "logit_bias or banned names id 70, the model's vocabulary has 64",
        ),
        (
            Request(
                "full",
                (3,),
                settings=dataclasses.replace(GREEDY, banned=tuple(range(64))),
            ),
            "all 64 tokens of the model's vocabulary are banned",
        ),
    ],
    ids=["context", "answer", "vocabulary", "negative", "banned", "all banned"],
)
def test_what_cannot_be_done_is_refused_and_the_others_go_on(
    sampler, together, request_: Request, reason: str
):
    refused = dataclasses.replace(request_, n=3, first=2)
    found = answers(sampler, [REQUESTS[0], refused, WARM])
    for sample in (2, 3, 4):
        result = found.pop(("full", sample))
        assert result == Result("full", sample, (), "", (), "refused", reason)
    expected = {key: r for key, r in together.items() if key[0] in ("greedy", "warm")}
    assert found == expected


def test_a_refusal_may_lead_to_another_request(sampler):
    """Nothing is in progress when the iterator gives None after the refusal."""
    seen: list[Result] = []

    def requests() -> Iterator[Request | None]:
        yield greedy(5, 33)
        while not seen:
            yield None
        yield greedy(5, 3, name="shorter")

    for result in sampler.generate(requests()):
        seen.append(result)
    assert [(result.id, result.finish_reason) for result in seen] == [
        ("full", "refused"),
        ("shorter", "length"),
    ]


def test_scores_that_are_not_finite_are_refused_and_leave_nothing_behind(tiny):
    """Token 7 breaks the model for who reads it; who comes after, in the same slots
    and rows, gets the same numbers as before."""
    model, params = tiny
    broken = {**params, "embedding": params["embedding"].at[7].set(jnp.inf)}
    for changes in ({}, {"cache_dtype": "int8"}):
        sampler = make((model, broken), **changes)
        requests = [
            dataclasses.replace(
                request, settings=dataclasses.replace(request.settings, banned=(7,))
            )
            for request in mixed(40, seed=3)
            if 7 not in request.tokens and request.settings.logit_bias == ()
        ]
        before = answers(sampler, requests)
        bad = Request("bad", (7,) * 60, n=9, settings=Settings(max_new_tokens=9))
        found = answers(sampler, [bad, *requests, bad_twin(bad)])
        for name in ("bad", "twin"):
            for sample in range(9):
                result = found.pop((name, sample))
                assert (result.finish_reason, result.tokens) == ("refused", ())
                assert "scores are not finite after 0 tokens" in result.reason
        assert found == before and len(before) > 30


def bad_twin(bad: Request) -> Request:
    return dataclasses.replace(bad, id="twin", tokens=(1, 2, 7, 3))


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


def test_a_stream_that_is_left_leaves_nothing_behind(sampler, together):
    stream = sampler.generate(REQUESTS)
    next(stream)
    with pytest.raises(RuntimeError, match="exhaust or close that stream first"):
        next(sampler.generate(REQUESTS))
    stream.close()
    assert answers(sampler, [WARM]).keys() == {("warm", i) for i in range(5)}
    assert answers(sampler, REQUESTS[:1]) == {("greedy", 0): together["greedy", 0]}


@pytest.mark.parametrize("kind", ["decode", "prefill", "piece", "request"])
def test_an_interruption_anywhere_leaves_nothing_behind(sampler, together, kind: str):
    """As Ctrl-C in a chat: raised by the third call of what the sampler calls."""
    count = 0

    def interrupt(on: str) -> None:
        nonlocal count
        count += on == kind
        if count == 3:
            raise KeyboardInterrupt

    def requests() -> Iterator[Request]:
        for request in mixed(30):
            interrupt("request")
            yield request

    sampler.on_tick = lambda tick: interrupt(tick.kind)
    with pytest.raises(KeyboardInterrupt):
        list(sampler.generate(requests(), observe=lambda piece: interrupt("piece")))
    sampler.on_tick = None
    assert answers(sampler, REQUESTS) == together


def test_useful_counts_answers_and_steps_counts_slots(tiny):
    """12 tokens in chunks of 4: three chunks of eight slots, 96 steps, 12 useful."""
    sampler = make(tiny)
    answers(sampler, REQUESTS[:1])
    assert (sampler.steps, sampler.useful) == (96, 12)


def test_ticks_tell_what_each_call_did(sampler, ticks):
    """Two samples of 6 and one of 3 tokens: two chunks of 4 steps. Of the first, 4 + 4
    + 3 tokens are kept, of the second 2 + 2. Prompts store all tokens but the last."""
    found = answers(
        sampler,
        [
            Request("a", prompt(1, 10), n=2, settings=Settings(max_new_tokens=6)),
            Request("b", prompt(2, 5), settings=Settings(max_new_tokens=3)),
        ],
    )
    assert [(t.kind, t.busy, t.slots, t.tokens) for t in ticks] == [
        ("prefill", 0, 8, 13),
        ("decode", 3, 8, 11),
        ("decode", 2, 8, 4),
    ]
    assert all(tick.wall_s > 0 for tick in ticks)
    assert sum(len(result.tokens) for result in found.values()) == 15


def compiled() -> list[int]:
    jitted: list[Any] = [
        decode.prefill,
        decode.copy_prompt,
        decode.remember,
        decode.decode,
    ]
    return [function._cache_size() for function in jitted]


def test_lengths_and_settings_compile_nothing(sampler, together):
    """After one stream that fills both buckets, copies a prompt and has a penalty:
    160 requests of all lengths and settings, and no program more."""
    answers(sampler, mixed(40))
    before = compiled()
    assert len(answers(sampler, mixed(160, seed=5))) > 400
    assert compiled() == before


def test_a_sampler_compiles_a_program_per_bucket_and_one_of_each_other(tiny):
    """Buckets of 32, 64 and 96 tokens."""
    sampler = make(tiny, slots=16, prefill_tokens=96, share=3)
    before = compiled()
    answers(sampler, mixed(60))
    found = [after - old for old, after in zip(before, compiled(), strict=True)]
    assert found == [3, 1, 1, 1]
