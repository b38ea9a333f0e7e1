# SPDX-License-Identifier: Apache-2.0
"""A server's engine, against servers of every kind on this machine."""

import asyncio
import dataclasses
import json
import logging
import random
import re
import sys
import threading
import time
from pathlib import Path

import pytest

from data_gen.engines import Generate, Generation, Message, Settings, chat, transport
from data_gen.engines.choice import OpenAIServer
from data_gen.engines.openai import OpenAIEngine, sample_seed
from data_gen.engines.pace import LONGEST_WAIT_S, START
from data_gen.engines.secret import Secret
from data_gen.store import Store, StoredEngine

sys.path.insert(0, str(Path(__file__).parent))
import fault_server
from fault_server import Server, answer, error, raw, status, text_of

KEY = "sk-canary-0123456789abcdef"


class Clock:
    """Time that passes when somebody waits, and at once."""

    def __init__(self):
        self.now, self.waits = 1000.0, []

    def __call__(self):
        return self.now

    async def sleep(self, seconds):
        """Those who sleep at the same time wake at their times, not one by one."""
        self.waits.append(seconds)
        until = self.now + max(seconds, 0.0)
        await asyncio.sleep(0)
        self.now = max(self.now, until)


def engine(server, clock=None, key="", said=None, **changes) -> OpenAIEngine:
    clock = clock or Clock()
    # Waits are over at once, also while other answers are on their way, so this clock
    # runs ahead: patience is for the tests that are about it.
    usual = {"model": "tiny", "timeout_s": 5.0, "patience_s": 1e6}
    choice = OpenAIServer(**{"base_url": server.url, **usual, **changes})
    return OpenAIEngine(
        choice,
        Secret(key),
        name="strong",
        say=(said if said is not None else []).append,
        clock=clock,
        sleep=clock.sleep,
        rng=random.Random(0),
    )


def ask(key: str, n: int = 1, text: str | None = None, **settings) -> Generate:
    messages = (Message("user", text or f"Hello from {key}"),)
    made = Settings(temperature=0.7, max_new_tokens=40, **settings)
    return Generate(key, messages, n, 5, made)


REQUESTS = [ask("a", 3), ask("b", 2), ask("c", 1)]


def texts(found):
    return sorted((g.key, g.sample, g.text) for g in found)


def expected(requests=REQUESTS):
    """What a server without faults says."""
    return sorted(
        (r.key, i, f"You said {r.messages[0].content!r} with seed {sample_seed(5, i)}.")
        for r in requests
        for i in range(r.n)
    )


def first_attempts(count, *faults):
    """The first `count` attempts of each body get the faults in turn."""
    return lambda body, attempt: (
        faults[(attempt - 1) % len(faults)] if attempt <= count else None
    )


# What is sent, and what comes back


def test_each_sample_is_a_request_with_a_seed_of_its_own():
    request = ask("a", 3, top_p=0.9, stop=("\n\n",))
    with Server() as server:
        found = list(engine(server, key=KEY, extra={"min_p": 0.1}).generate([request]))
    assert texts(found) == expected([request])
    by_seed = {body.pop("seed"): body for body in server.bodies}
    assert set(by_seed) == {sample_seed(5, i) for i in range(3)}
    assert all(0 <= seed < 2**31 for seed in by_seed)
    assert list(by_seed.values()) == 3 * [
        {
            "model": "tiny",
            "messages": [{"role": "user", "content": "Hello from a"}],
            "temperature": 0.7,
            "top_p": 0.9,
            "max_tokens": 40,
            "stop": ["\n\n"],
            "min_p": 0.1,
        }
    ]
    for headers in server.headers:
        assert headers["path"] == "/v1/chat/completions"
        assert headers["Authorization"] == f"Bearer {KEY}"
        assert headers["Host"] == server.url.split("/")[2]


def test_what_the_server_tells_is_kept_and_the_rest_is_not_invented():
    """7 tokens at 2 and 11 at 10 a million: 14 + 110 = 124 millionths."""
    with Server() as server:
        asked = engine(server, prompt_price=2.0, completion_price=10.0)
        (found,) = asked.generate([ask("a")])
    assert (found.token_ids, found.sum_logprob, found.tokens) == ((), None, 11)
    assert found.served is not None
    assert found.served.cost == pytest.approx(124e-6)
    assert dataclasses.astuple(found.served)[:2] == (7, 11)
    assert found.served.model == "tiny-2026-01-01"
    assert found.served.system_fingerprint == "fp_1"


def test_no_key_is_sent_where_none_is_wanted():
    with Server() as server:
        list(engine(server).generate([ask("a")]))
    assert "Authorization" not in server.headers[0]


def test_the_names_of_fields_are_the_servers():
    with Server(lambda body, attempt: answer(choices=CHOICES)) as server:
        asked = engine(
            server, seed_field="", max_tokens_field="max_completion_tokens", extra={}
        )
        list(asked.generate([ask("a", top_k=20)]))
    (body,) = server.bodies
    assert "seed" not in body and "max_tokens" not in body
    assert (body["max_completion_tokens"], body["top_k"]) == (40, 20)


CHOICES = [{"message": {"content": "Fine."}, "finish_reason": "stop"}]


def test_known_samples_are_not_asked_for():
    request = dataclasses.replace(ask("a", 4), known=frozenset([0, 2]))
    with Server() as server:
        found = list(engine(server).generate([request]))
    assert [g.sample for g in sorted(found, key=lambda g: g.sample)] == [1, 3]
    assert len(server.bodies) == 2


def test_the_fingerprint_is_of_what_decides_an_answer():
    base = OpenAIServer(base_url="https://a.example/v1/", model="m")

    def print_of(**changes):
        return OpenAIEngine(
            dataclasses.replace(base, **changes), Secret("")
        ).fingerprint

    assert print_of() == print_of(base_url="https://A.example:443/v1")
    assert print_of() == print_of(
        concurrency=1, timeout_s=1.0, attempts=1, key="KEY", prompt_price=3.0
    )
    others = [
        {"model": "n"},
        {"base_url": "https://b.example/v1"},
        {"identity": "m in bf16"},
        {"extra": {"min_p": 0.1}},
        {"seed_field": ""},
        {"max_tokens_field": "max_completion_tokens"},
    ]
    assert len({print_of(), *(print_of(**other) for other in others)}) == 7
    moved = {"identity": "m", "base_url": "https://c.example/v1"}
    assert print_of(identity="m") == print_of(**moved)


def test_a_request_can_follow_from_a_result():
    received: list[Generation] = []

    def requests():
        yield ask("a")
        while not received:
            yield None
        yield ask("b", text=received[0].text)

    with Server() as server:
        for found in engine(server).generate(requests()):
            received.append(found)
    assert [g.key for g in received] == ["a", "b"]
    assert server.bodies[1]["messages"][0]["content"] == received[0].text


def test_no_request_no_connection():
    nowhere = OpenAIServer(base_url="http://127.0.0.1:9/v1", model="m")
    threads = threading.active_count()
    assert list(OpenAIEngine(nowhere, Secret("")).generate([])) == []
    assert threading.active_count() == threads


# Faults that pass (F19)

PASSING = {
    "429, Retry-After 0": status(429, Retry_After="0"),
    "429, Retry-After 5": status(429, Retry_After="5"),
    "429, Retry-After 1e9": status(429, Retry_After="1e9"),
    "429, Retry-After garbage": status(429, Retry_After="soon, I hope"),
    "429, Retry-After date": status(429, Retry_After="Wed, 21 Oct 2015 07:28:00 GMT"),
    "429, Retry-After negative": status(429, Retry_After="-3"),
    "429, Retry-After nan": status(429, Retry_After="nan"),
    "500": error(500, "out of memory"),
    "502 in HTML": status(502, "<html><h1>Bad Gateway</h1></html>"),
    "503": status(503),
    "529": error(529, "overloaded"),
    "408": status(408),
    "reset in the middle": fault_server.reset_in_the_middle,
    "closed at once": fault_server.reset_at_once,
    "HTML": fault_server.html,
    "truncated JSON": fault_server.truncated_json,
    "empty": raw(""),
    "a list": raw("[]"),
    "not UTF-8": raw(b'{"choices": "\xff"}'),
    "nested too deeply": raw("[" * 100_000),
    "a long number": raw('{"choices": ' + "9" * 5000 + "}"),
    "no choices": raw("{}"),
    "n too small": answer(choices=[]),
    "n too large, in another order": answer(choices=[CHOICES[0], CHOICES[0]]),
    "a choice is null": answer(choices=[None]),
    "no message": answer(choices=[{"finish_reason": "stop"}]),
    "content is a number": answer(
        choices=[{"message": {"content": 7}, "finish_reason": "stop"}]
    ),
    "content is a list": answer(
        choices=[{"message": {"content": ["a"]}, "finish_reason": "stop"}]
    ),
    "no finish_reason": answer(choices=[{"message": {"content": "a"}}]),
    "aborted": answer(choices=[{**CHOICES[0], "finish_reason": "abort"}]),
    "an error with status 200": raw('{"error": {"code": 502, "message": "upstream"}}'),
    "not HTTP": fault_server.not_http,
    "oversize": fault_server.oversize,
    "endless": fault_server.endless,
    "bomb": fault_server.bomb,
    "damaged gzip": raw(b"\x1f\x8b\x08junk", Content_Encoding="gzip"),
}


@pytest.mark.parametrize("name", PASSING)
def test_a_fault_that_passes_changes_nothing(name, monkeypatch):
    """Two attempts of each of 6 samples fail, the third succeeds: 18 requests."""
    monkeypatch.setattr(transport, "MAX_BYTES", 1 << 20)
    clock = Clock()
    with Server(first_attempts(2, PASSING[name])) as server:
        found = list(engine(server, clock).generate(REQUESTS))
    assert texts(found) == expected()
    assert len(server.bodies) == 3 * 6
    assert {g.served.attempts for g in found if g.served} == {3}
    assert max(clock.waits) <= LONGEST_WAIT_S
    assert min(clock.waits) >= 0.25  # half of the first wait


@pytest.mark.parametrize("fault", [fault_server.drip, fault_server.drip_headers])
def test_a_slow_response_ends_at_the_limit(fault):
    """A byte each 0.02 s would be 6 s and more; each of them resets a read's limit."""
    request = ask("a")
    with Server(first_attempts(1, fault)) as server:
        began = time.monotonic()
        found = list(engine(server, timeout_s=0.15).generate([request]))
        assert time.monotonic() - began < 2
    assert texts(found) == expected([request])


@pytest.mark.parametrize("name", ["oversize", "endless", "bomb"])
def test_a_response_is_read_up_to_a_limit(name, monkeypatch):
    monkeypatch.setattr(transport, "MAX_BYTES", 1 << 20)
    with Server(lambda body, attempt: PASSING[name]) as server:
        _, caught = collected(engine(server, attempts=1).generate([ask("a")]))
    assert "the last: a response of more than 1048576 bytes; finished" in str(caught)


def test_all_faults_together_change_nothing():
    """Each body gets other faults, by its seed; ten samples, three faults each."""
    faults = [PASSING[name] for name in sorted(PASSING) if name not in {"oversize"}]

    def fault(body, attempt):
        at = (body["seed"] + attempt) % len(faults)
        return faults[at] if attempt <= 3 else None

    requests = [ask(f"r{i}", 2) for i in range(5)]
    with Server(fault) as server:
        found = list(engine(server).generate(requests))
    assert texts(found) == expected(requests)


@pytest.mark.parametrize(
    ("value", "least", "most"),
    [("5", 5, 6), ("1e9", LONGEST_WAIT_S, LONGEST_WAIT_S + 1), ("x", 0.2, 1)],
)
def test_the_server_is_given_the_time_it_asks_for(value, least, most):
    """One request: it waits as long as asked, capped, else half a second or less."""
    clock = Clock()
    with Server(first_attempts(1, status(429, Retry_After=value))) as server:
        list(engine(server, clock).generate([ask("a")]))
    assert least <= clock.now - 1000 <= most


def test_waits_grow_and_are_not_the_same_for_all():
    """Attempt k waits 0.5 * 2^(k-1) s, less up to a half: never more than twice and
    never the same twice."""
    clock = Clock()
    with Server(first_attempts(5, error(500, "no"))) as server:
        list(engine(server, clock).generate([ask("a")]))
    for number, wait in enumerate(clock.waits):
        assert 0.25 * 2**number <= wait <= 0.5 * 2**number
    assert len(set(clock.waits)) == 5


def test_the_user_is_told_once_in_a_while_why_it_takes_long():
    said = []
    with Server(first_attempts(3, error(503, "loading the model"))) as server:
        list(engine(server, said=said).generate(REQUESTS))
    assert said[0].startswith("engine strong (http://127.0.0.1:")
    assert "HTTP 503: loading the model; trying again (1 so far" in said[0]
    assert len(said) < 6


# Faults that stay


def collected(stream):
    """What came before the error, and the error."""
    found = []
    with pytest.raises((ValueError, OSError)) as caught:
        found.extend(iter_into(stream, found))
    return found, caught.value


def iter_into(stream, found):
    for generation in stream:
        found.append(generation)
    return ()


def test_a_dead_server_stops_the_run_after_so_many_attempts():
    with Server() as server:
        asked = engine(server, attempts=3)
    found, caught = collected(asked.generate(REQUESTS))
    assert found == []
    assert isinstance(caught, OSError)
    assert re.fullmatch(
        r"engine strong \(http://127\.0\.0\.1:\d+/v1\): no answer in 3 attempts; the "
        r"last: no connection: .*; finished samples are kept, give the same command "
        r"again to go on",
        str(caught),
    )


def test_a_server_that_dies_keeps_what_it_gave():
    """Seeds are answered or not: what is answered comes out before the error."""
    good = sample_seed(5, 1)

    def fault(body, attempt):
        return None if body["seed"] == good else error(500, "broken")

    with Server(fault) as server:
        found, caught = collected(engine(server, attempts=4).generate([ask("a", 5)]))
    assert [g.sample for g in found] == [1]
    assert "HTTP 500: broken" in str(caught)
    assert len(server.bodies) <= 1 + 4 * 4


def test_throttling_without_end_stops_the_run():
    """429 for ever, 20 s each: after 100 s of it, and no earlier."""
    clock = Clock()
    with Server(lambda body, attempt: status(429, Retry_After="20")) as server:
        asked = engine(server, clock, patience_s=100.0)
        found, caught = collected(asked.generate([ask("a", 3)]))
    assert found == []
    assert "nothing but failures for 100 s; the last: HTTP 429" in str(caught)
    assert 1100 <= clock.now < 1250
    assert len(server.bodies) < 60


def test_throttling_that_goes_on_is_survived_as_long_as_answers_come():
    """Every second request is refused for ever, by count: 20 attempts and more of some
    requests, but never patience_s without an answer."""
    numbers = iter(range(10_000))

    def fault(body, attempt):
        return status(429) if next(numbers) % 3 else None

    requests = [ask(f"r{i}", 4) for i in range(10)]
    with Server(fault) as server:
        found = list(engine(server, attempts=2).generate(requests))
    assert texts(found) == expected(requests)


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (error(401, "Incorrect API key"), r"HTTP 401: Incorrect API key \(the API key"),
        (status(402), r"HTTP 402 \(the server wants to be paid\)"),
        (error(403, "no access to the model"), "HTTP 403: no access to the model"),
        (
            error(404, "The model `tiny` does not exist"),
            r"HTTP 404: The model.*model's",
        ),
        (status(405, "<html>nginx</html>"), "HTTP 405: nginx;"),
        (
            error(429, "You exceeded your current quota", "insufficient_quota"),
            "HTTP 429: You exceeded",
        ),
        (status(302, Location="http://127.0.0.1:1/"), "HTTP 302 .*redirects are not"),
        (status(308, Location="https://example.com/"), "HTTP 308 .*redirects are not"),
        (
            error(400, "unknown field 'top_p'"),
            "refuses requests of this kind: HTTP 400",
        ),
        (status(422, '{"detail": [{"loc": ["body"]}]}'), r'HTTP 422: \[{"loc":'),
    ],
)
def test_what_will_not_pass_ends_the_run_at_once(fault, message):
    clock = Clock()
    with Server(lambda body, attempt: fault) as server:
        found, caught = collected(engine(server, clock).generate([ask("a")]))
    assert found == []
    assert isinstance(caught, ValueError)
    assert re.search(message, str(caught))
    assert "\n" not in str(caught)
    assert clock.waits == []
    assert len(server.bodies) <= 2  # the request, and the plain one beside it


def test_redirects_are_not_followed():
    with Server() as other:
        there = status(307, Location=f"{other.url}/chat/completions")
        with Server(lambda body, attempt: there) as server:
            collected(engine(server, key=KEY).generate([ask("a")]))
    assert other.bodies == []


# What concerns one request only


TOO_LONG = "This model's maximum context length is 4096 tokens. However, you requested"


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (error(400, TOO_LONG, "context_length_exceeded"), "context"),
        (status(400, json.dumps({"object": "error", "message": TOO_LONG})), "context"),
        (error(413, "the prompt is too long"), "context"),
        (error(400, "The response was filtered", "content_filter"), "filtered"),
        (error(403, "Your input was flagged by moderation"), "filtered"),
        (
            answer(choices=[{**CHOICES[0], "finish_reason": "content_filter"}]),
            "filtered",
        ),
        (
            answer(
                choices=[
                    {
                        "message": {"content": None, "refusal": "I won't"},
                        "finish_reason": "stop",
                    }
                ]
            ),
            "filtered",
        ),
        (error(400, "roles must alternate"), "refused"),
        (error(422, "a lone surrogate"), "refused"),
        (answer(choices=[{**CHOICES[0], "finish_reason": "length"}]), "length"),
        (answer(choices=[{**CHOICES[0], "finish_reason": "tool_calls"}]), "other"),
        (answer(choices=[{**CHOICES[0], "finish_reason": "\x1b[2J"}]), "other"),
        (
            answer(choices=[{"message": {"content": None}, "finish_reason": "stop"}]),
            "stop",
        ),
    ],
)
def test_what_concerns_one_request_is_a_result(fault, reason):
    """The others are answered, and nothing is tried twice."""

    def of(body, attempt):
        return fault if body["messages"][0]["content"] == "odd" else None

    requests = [ask("a"), ask("odd", text="odd"), ask("b")]
    clock = Clock()
    with Server(of) as server:
        found = list(engine(server, clock).generate(requests))
    assert {g.key: g.finish_reason for g in found} == {
        "a": "stop",
        "odd": reason,
        "b": "stop",
    }
    (odd,) = [g for g in found if g.key == "odd"]
    assert odd.served is not None and odd.served.detail.isprintable()
    assert bool(odd.served.detail) == (reason not in ("length", "stop"))
    assert clock.waits == []
    # A request that is refused without a known reason costs one plain request, unless
    # another one with its settings was answered before.
    assert len(server.bodies) <= 3 + (reason == "refused")


def test_refusals_are_recorded_only_if_a_plain_request_is_answered(tmp_path):
    """All four are refused; so is the plain one: nothing is stored. Then the server
    takes plain ones: all four are stored as refused, with one plain request more."""
    plain = "Name a colour."
    takes_plain = False

    def fault(body, attempt):
        is_plain = body["messages"][0]["content"] == plain
        return None if is_plain and takes_plain else error(400, "bad request")

    requests = [ask(f"r{i}", 2) for i in range(2)]
    with Server(fault) as server, Store(tmp_path / "cache.sqlite") as store:
        stored = StoredEngine(engine(server), store)
        _, caught = collected(stored.generate(requests))
        assert "refuses requests of this kind: HTTP 400: bad request" in str(caught)
        assert store.new_samples == 0
        takes_plain = True
        server.bodies.clear()
        found = list(stored.generate(requests))
        assert [g.finish_reason for g in found] == 4 * ["refused"]
        asked = [body["messages"][0]["content"] for body in server.bodies]
        assert asked.count(plain) == 1
        assert store.new_samples == 4


def test_half_a_surrogate_pair_is_replaced():
    content = raw(
        json.dumps(
            fault_server.reply({"messages": [{"content": ""}], "seed": 0})
        ).replace("You said", "\\ud83d You said")
    )
    with Server(lambda body, attempt: content) as server:
        (found,) = engine(server).generate([ask("a")])
    assert found.text.startswith("\ufffd You said")
    found.text.encode()


# The key


def echoes(handler, body):
    """Sends the key back wherever it can."""
    token = handler.headers["Authorization"].removeprefix("Bearer ")
    number = len(handler.server.bodies) % 5
    said = f"{'x' * 190}{token} {token}"
    if number == 0:
        handler.wfile.write(f"HTTP/1.1 500 {token}\r\nX-Echo: {token}\r\n".encode())
        handler.wfile.write(b"Content-Length: 0\r\n\r\n")
    elif number == 1:
        handler.send(400, json.dumps({"error": {"message": said, "code": token}}))
    elif number == 2:
        handler.send(429, f"<html>{said}<{token}></html>", Retry_After=token)
    elif number == 3:
        handler.wfile.write(f"HTTP/1.1 {token}\r\n{token}\r\n\r\n".encode())
        handler.close_connection = True
    else:
        message = {"content": said, "refusal": said}
        choices = [{"message": message, "finish_reason": token}]
        changes = {"model": said, "system_fingerprint": said, "choices": choices}
        handler.send(200, json.dumps(fault_server.reply(body, **changes)))


def test_the_key_is_nowhere_but_in_the_header(tmp_path, caplog, capfd):
    """A server that sends it back in every way; errors, notes, logs at their loudest,
    the samples and the store hold no part of it."""
    caplog.set_level(logging.DEBUG)
    said, heard = [], []
    with Server(lambda body, attempt: echoes) as server:
        for n in range(1, 7):
            asked = engine(server, key=KEY, said=said, attempts=4)
            heard += [repr(asked.key), str(asked.facts), repr(vars(asked))]
            with Store(tmp_path / "cache.sqlite") as store:
                try:
                    requests = [ask(f"{n}-{i}", n) for i in range(3)]
                    heard += map(repr, StoredEngine(asked, store).generate(requests))
                except (ValueError, OSError) as error:
                    heard += [str(error), repr(error), repr(error.__cause__)]
    assert all(h["Authorization"] == f"Bearer {KEY}" for h in server.headers)
    heard += said + [record.getMessage() for record in caplog.records]
    heard += list(capfd.readouterr())
    everything = "\n".join(heard).encode()
    everything += b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert len(said) > 3 and b"***" in everything
    assert KEY[:6].encode() not in everything


def test_a_short_key_does_not_change_answers():
    with Server() as server:
        (found,) = engine(server, key="EMPTY").generate([ask("a", text="EMPTY")])
    assert "EMPTY" in found.text
    assert Secret("EMPTY").scrub("EMPTY!") == "***!"


# How many at once


def test_no_more_requests_than_allowed_are_in_flight():
    with Server(delay_s=0.005) as server:
        found = list(engine(server, concurrency=3).generate([ask("a", 24)]))
    assert len(found) == 24
    assert server.most_at_once == 3


def test_a_server_at_ease_gets_more_at_once():
    with Server(delay_s=0.02) as server:
        list(
            engine(server, concurrency=32).generate(
                [ask(f"r{i}", 8) for i in range(16)]
            )
        )
    assert START < server.most_at_once <= 32


def test_a_closed_stream_ends_its_thread_and_its_requests():
    threads = threading.active_count()
    with Server(delay_s=0.3) as server:
        before = threading.active_count()
        stream = engine(server).generate([ask("a", 4, text="slow"), ask("b", 4)])
        server.delay_s = 0.0
        next(stream)
        server.delay_s = 0.3
        began = time.monotonic()
        stream.close()
        assert time.monotonic() - began < 0.25
        assert not [t for t in threading.enumerate() if "asyncio" in t.name]
        assert before >= threads


def test_the_text_of_an_error_is_one_short_printable_line():
    assert (
        chat.shown("a\x1b[31m\nb\u202e" + "c" * 500) == "a [31m b " + "c" * 188 + "..."
    )
    assert text_of({"messages": [{"content": "x"}], "seed": 1}) == (
        "You said 'x' with seed 1."
    )
