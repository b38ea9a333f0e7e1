# SPDX-License-Identifier: Apache-2.0
"""An answer depends on its request alone: its tokens and log-probabilities are bitwise
the same whoever else is there.

Samplers of other shapes agree until rounding decides; `mixed_requests.Choice.is_close`
says when it does.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pytest

from alignjax.models import Model, Params
from alignjax.sampling import Request, Result, Sampler
from alignjax.sampling import sampler as module
from alignjax.sampling import shapes as shapes_module
from mixed_requests import SHAPES, Answers, Digits, answers, choice, compare, mixed

REQUESTS = mixed(300)
Tiny = tuple[Model, Params]


def make(tiny: Tiny, **changes: Any) -> Sampler:
    return Sampler(*tiny, Digits(), **{**SHAPES, **changes})


@pytest.fixture(scope="module")
def sampler(tiny: Tiny) -> Sampler:
    return make(tiny)


@pytest.fixture(scope="module")
def together(sampler: Sampler) -> Answers:
    """All 300 requests in one stream: about 900 answers through 8 slots."""
    return answers(sampler, REQUESTS)


def of(found: Answers, requests: Sequence[Request]) -> Answers:
    """The answers to some of the requests."""
    names = {request.id for request in requests}
    return {key: result for key, result in found.items() if key[0] in names}


def test_the_requests_are_of_all_kinds_and_their_answers_end_in_all_ways(together):
    assert len(together) > 800
    reasons = [result.finish_reason for result in together.values()]
    assert reasons.count("stop") > 50 and reasons.count("length") > 500
    lengths = [len(result.tokens) for result in together.values()]
    assert min(lengths) == 0 and max(lengths) == 30
    assert sum(1 for request in REQUESTS if len(request.tokens) > 65) > 50
    for name in (field.name for field in dataclasses.fields(REQUESTS[0].settings)):
        assert len({getattr(request.settings, name) for request in REQUESTS}) > 1


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_order_changes_no_bit(sampler, together, seed: int):
    order = np.random.default_rng(seed).permutation(len(REQUESTS))
    assert answers(sampler, [REQUESTS[i] for i in order]) == together


def test_half_of_the_load_changes_no_bit(sampler, together):
    for half in (REQUESTS[::2], REQUESTS[1::2]):
        assert answers(sampler, half) == of(together, half)


def test_requests_that_trickle_in_change_no_bit(sampler, together):
    """One request every other time that the sampler asks: few slots are busy."""

    def trickle() -> Iterator[Request | None]:
        for request in REQUESTS[:150]:
            yield request
            yield None

    assert answers(sampler, trickle()) == of(together, REQUESTS[:150])


def test_a_request_alone_changes_no_bit(sampler, together):
    for request in REQUESTS[::12]:
        assert answers(sampler, [request]) == of(together, [request])


def test_samples_that_are_asked_for_apart_change_no_bit(sampler, together):
    """Each in a request of its own, with a prefill of its own."""
    many = [request for request in REQUESTS if request.n > 2][:20]
    apart = [
        dataclasses.replace(request, id=f"{request.id}:{i}", n=1, first=i)
        for request in many
        for i in range(request.first, request.first + request.n)
    ]
    expected = of(together, many)
    for (name, sample), result in answers(sampler, apart).items():
        name = name.split(":")[0]
        assert dataclasses.replace(result, id=name) == expected.pop((name, sample))
    assert not expected


def test_chunks_of_another_length_change_no_bit(tiny, together):
    """The host looks at the answers after other tokens; the numbers stay."""
    odd = make(tiny, chunk=7)
    some = REQUESTS[:60]
    assert answers(odd, some) == of(together, some)


def check_agreement(
    tiny: Tiny,
    requests: Sequence[Request],
    one: Answers,
    other: Answers,
    record: Callable[[str, object], None],
) -> None:
    """Until the first token that rounding decided: the same tokens, and the same
    log-probabilities to 1e-4."""
    found = compare(tiny, requests, one, other)
    told = f"{found.splits} of {found.answers} answers split, {found.tokens} tokens"
    print(f"{told}, log-probabilities within {found.off:.1e} nats")
    record("agreement", told)
    assert not found.unexplained
    assert found.off < 1e-4
    assert found.splits <= found.answers / 100


def test_other_shapes_agree_until_rounding_decides(tiny, together, record_property):
    """Three times the slots, shares of three, prompts in calls of 32 tokens."""
    some = REQUESTS[:150]
    other = make(tiny, slots=24, share=3, prefill_tokens=32)
    found = answers(other, some)
    check_agreement(tiny, some, of(together, some), found, record_property)


def with_blocks(monkeypatch: pytest.MonkeyPatch, **changes: Any) -> None:
    """Samplers that are made from now on get other blocks than this platform's."""
    plain = shapes_module.shapes

    def changed(**asked: Any) -> shapes_module.Shapes:
        return dataclasses.replace(plain(**asked), **changes)

    monkeypatch.setattr(module, "shapes", changed)


def test_loops_over_blocks_that_are_compiled_in_change_no_bit(
    tiny, together, monkeypatch, record_property
):
    """As on an accelerator: a program for each power of two of blocks, so that the
    longest neighbour decides which one runs. Between them no bit differs; from this
    platform's they differ as from other shapes."""
    with_blocks(monkeypatch, is_dynamic=False)
    static = make(tiny)
    some = REQUESTS[:60]
    found = answers(static, some)
    assert answers(static, some[::-1]) == found
    for request in some[:12]:
        assert answers(static, [request]) == of(found, [request])
    check_agreement(tiny, some, of(together, some), found, record_property)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("asked", "changes"),
    [
        ({"slots": 1, "share": 1}, {}),
        ({"slots": 16, "share": 5, "prefill_tokens": 128}, {}),
        ({"slots": 40, "share": 1, "prefill_tokens": 96}, {"block": 16}),
        ({"slots": 8, "prefill_tokens": 32}, {"block": 32, "is_dynamic": False}),
        ({"slots": 8, "cache_dtype": "int8"}, {}),
    ],
)
def test_every_shape_is_independent_and_agrees_with_the_others(
    tiny, together, monkeypatch, record_property, asked, changes
):
    with_blocks(monkeypatch, **changes)
    other = make(tiny, **asked)
    requests = [*REQUESTS, *(mixed(600, seed=1) if asked["slots"] > 1 else [])]
    requests = [dataclasses.replace(r, id=str(i)) for i, r in enumerate(requests)]
    found = answers(other, requests)
    order = np.random.default_rng(4).permutation(len(requests))
    assert answers(other, [requests[i] for i in order]) == found
    for request in requests[::20]:
        assert answers(other, [request]) == of(found, [request])
    if "cache_dtype" not in asked:
        same = {
            (request.id, i): together[old.id, i]
            for request, old in zip(requests, REQUESTS, strict=False)
            for i in range(old.first, old.first + old.n)
        }
        first = requests[: len(REQUESTS)]
        check_agreement(tiny, first, same, of(found, first), record_property)


def test_every_token_is_the_one_that_the_definitions_give(tiny, together):
    """Against float64 over a whole forward: where rounding may decide both are right.
    The log-probability is that of the untouched scores."""
    checked = 0
    for request in REQUESTS[::9]:
        result: Result = together[request.id, request.first]
        for place, token in enumerate(result.tokens):
            there = choice(tiny, request, result.sample, result.tokens[:place])
            expected = there.token()
            assert token == expected or there.is_close(token, expected)
            checked += token == expected
    total = sum(len(together[r.id, r.first].tokens) for r in REQUESTS[::9])
    assert checked >= total - 2 and total > 300
