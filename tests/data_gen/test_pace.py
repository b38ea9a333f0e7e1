# SPDX-License-Identifier: Apache-2.0
"""Pace: how many requests are in flight, by simulated servers."""

import asyncio
import heapq
import itertools
import random

import pytest

from data_gen.engines.pace import (
    LONGEST_WAIT_S,
    START,
    Gate,
    Pace,
    backoff_s,
    retry_after_s,
)

TOKENS = 100


def simulate(pace, *, slots, slower_at, refused_above=10**9, count=4000):
    """Sends `count` requests as the pace admits them to a server that answers so many
    at once, queues the rest, and says 429 to more than `refused_above` in all.

    A token takes 10 ms * (1 + b / slower_at) in a batch of b.

    Returns:
      Answers a second over the second half, the limits after each answer, and how many
      were refused.
    """
    now, left, refused = 0.0, count, 0
    order = itertools.count()
    queue, running = [], []  # (sent_at); (end, number, sent_at)
    limits, ends = [], []

    def serve():
        while queue and len(running) < slots:
            sent_at = queue.pop(0)
            each = 0.01 * (1 + (len(running) + 1) / slower_at)
            heapq.heappush(running, (now + TOKENS * each, next(order), sent_at))

    while left or running or queue:
        while left and pace.admits(len(queue) + len(running), now):
            if len(queue) + len(running) >= refused_above:
                refused += 1
                pace.failed(sent_at=now, now=now, wait_s=0.1)
                continue
            left -= 1
            queue.append(now)
            serve()
        if not running:
            now = max(now, pace.resume_at)
            continue
        now, _, sent_at = heapq.heappop(running)
        pace.succeeded(sent_at=sent_at, now=now, tokens=TOKENS)
        limits.append(pace.limit)
        ends.append(now)
        serve()
    half = len(ends) // 2
    return (len(ends) - half) / (ends[-1] - ends[half]), limits, refused


def best(**server):
    """Answers a second with the best of all fixed numbers in flight."""
    return max(simulate(Fixed(n), **server)[0] for n in (1, 2, 4, 8, 16, 32, 64, 128))


class Fixed:
    """A pace that never changes."""

    resume_at = 0.0

    def __init__(self, limit):
        self.limit = limit

    def admits(self, in_flight, now):
        return in_flight < self.limit

    def succeeded(self, **what):
        pass


@pytest.mark.parametrize(
    "server",
    [
        {"slots": 1000, "slower_at": 1e9},  # never full
        {"slots": 64, "slower_at": 64},  # a batch of 64 takes twice as long
        {"slots": 32, "slower_at": 1e9},  # queues beyond 32
        {"slots": 16, "slower_at": 16},
        {"slots": 4, "slower_at": 1e9},
    ],
)
def test_a_silent_server_is_kept_busy_without_a_long_queue(server):
    """At least 85 % of what the best fixed number gives, and a latency of three times
    that of the start: no more than three times the slots in flight, or three times
    START where there are fewer slots."""
    pace = Pace(most=128, patience_s=60)
    rate, limits, _ = simulate(pace, **server)
    assert rate >= 0.85 * best(**server)
    later = limits[len(limits) // 2 :]
    assert max(later) <= min(3 * max(server["slots"], START) + 2, 128)


def test_a_server_that_refuses_gets_about_what_it_takes():
    """It takes 40: the number goes to and fro between 20 and 40, so at least 0.7 of
    40 are in flight on average, and few requests are refused."""
    server = {"slots": 1000, "slower_at": 1e9, "refused_above": 40}
    rate, limits, refused = simulate(Pace(most=128, patience_s=60), **server)
    assert rate >= 0.65 * 40
    later = limits[len(limits) // 2 :]
    assert min(later) >= 15 and max(later) <= 42
    assert refused < 0.02 * 4000


def test_one_bad_moment_halves_the_number_once():
    """Eight requests are sent together and fail together: 8, then 4, not 8 / 2^8. What
    is sent after that and fails halves it again, and 1 is the least."""
    pace = Pace(most=64, patience_s=60)
    for _ in range(8):
        pace.failed(sent_at=0.0, now=1.0, wait_s=None)
    assert pace.limit == 4
    for later in range(2, 10):
        pace.failed(sent_at=later, now=later + 0.5, wait_s=None)
    assert pace.limit == 1
    assert pace.admits(0, 20.0) and not pace.admits(1, 20.0)


def test_nothing_is_sent_while_the_server_wants_to_be_left_alone():
    pace = Pace(most=64, patience_s=60)
    pace.failed(sent_at=0.0, now=1.0, wait_s=5.0)
    pace.failed(sent_at=0.0, now=2.0, wait_s=1.0)
    assert not pace.admits(0, 5.9)
    assert pace.admits(0, 6.0)


def test_it_is_hopeless_after_patience_and_several_failures_in_a_row():
    """From 10 on, 60 s: not at 69.9, at 70. One answer, and it begins anew. Two
    failures an hour apart are not hopeless."""
    pace = Pace(most=64, patience_s=60)
    for now in (10.0, 20.0, 30.0, 40.0, 69.9):
        pace.failed(sent_at=now, now=now, wait_s=None)
        assert not pace.is_hopeless(now)
    assert pace.is_hopeless(70.0)
    pace.succeeded(sent_at=70.0, now=71.0, tokens=10)
    for now in (72.0, 4000.0):
        pace.failed(sent_at=now, now=now, wait_s=None)
        assert not pace.is_hopeless(now)


@pytest.mark.parametrize(
    ("slower", "since", "before", "then"), [(5.0, 1000, 64, 16), (2.5, 20, 28, 36)]
)
def test_other_requests_are_not_taken_for_a_slow_server(slower, since, before, then):
    """The server is never full. At some time prompts become so long that a token takes
    several times as long: the number falls, or stays, and recovers when it has been
    measured what is usual now."""
    pace, now, limits = Pace(most=64, patience_s=60), 0.0, []
    for number in range(12_000):
        each = 0.01 if number < since else 0.01 * slower
        now += TOKENS * each / pace.limit
        pace.succeeded(sent_at=now - TOKENS * each, now=now, tokens=TOKENS)
        limits.append(pace.limit)
    assert limits[since - 1] == before
    assert min(limits[since + 500 : since + 2000]) < then
    assert limits[-1] > 48


def test_answers_without_tokens_say_nothing_about_latency():
    """Refusals come at once; the answer after them is not a hundred times slower."""
    pace = Pace(most=64, patience_s=60)
    for _ in range(100):
        pace.succeeded(sent_at=0.0, now=0.001, tokens=0)
    for number in range(8):
        pace.succeeded(sent_at=0.0, now=1.0 + number, tokens=100)
    assert pace.limit == START + 8


def test_waits_double_up_to_a_minute():
    """0.5, 1, 2, ... 32, 60, 60 s, each less up to a half."""
    rng = random.Random(0)
    for failures in range(1, 2000, 7):
        longest = min(0.5 * 2 ** min(failures - 1, 20), LONGEST_WAIT_S)
        assert longest / 2 <= backoff_s(failures, rng) <= longest


@pytest.mark.parametrize(
    ("value", "wait"),
    [
        (None, None),
        ("5", 5.0),
        ("0", 0.0),
        ("2.5", 2.5),
        ("-7", 0.0),
        ("1e9", LONGEST_WAIT_S),
        ("inf", LONGEST_WAIT_S),
        ("nan", None),
        ("", None),
        ("soon", None),
        ("9" * 5000, None),
        ("Thu, 01 Jan 1970 00:17:10 GMT", 30.0),
        ("Thu, 01 Jan 1970 00:00:10 GMT", 0.0),
        ("Thu, 01 Jan 2970 00:00:10 GMT", LONGEST_WAIT_S),
        ("Thu, 99 Foo 1970 99:99:99 GMT", None),
    ],
)
def test_retry_after_is_read_within_bounds(value, wait):
    """It is 1000 s after the epoch; 00:17:10 is 1030."""
    assert retry_after_s(value, 1000.0) == wait


def test_the_gate_lets_pass_in_order_and_gives_places_back():
    """Two places. Of five who come, the third gives up while waiting, the fourth when
    it has just been let in."""

    async def play():
        passed = []
        gate = Gate(Fixed(2), lambda: 0.0, asyncio.sleep)  # type: ignore[arg-type]

        async def come(name):
            await gate.enter()
            passed.append(name)

        tasks = [asyncio.create_task(come(name)) for name in "abcde"]
        await asyncio.sleep(0)
        assert gate.in_flight == 2
        tasks[2].cancel()
        await asyncio.sleep(0)
        gate.leave()  # d is let in ...
        tasks[3].cancel()  # ... and gives up before it knows
        await asyncio.sleep(0.001)
        assert passed == ["a", "b", "e"]
        assert gate.in_flight == 2
        gate.leave()
        gate.leave()
        assert gate.in_flight == 0
        gate.close()

    asyncio.run(play())


def test_the_gate_opens_again_when_the_pause_is_over():
    async def play():
        now = 0.0
        slept = []

        async def sleep(seconds):
            nonlocal now
            slept.append(seconds)
            now += seconds
            await asyncio.sleep(0)

        pace = Pace(most=8, patience_s=60)
        gate = Gate(pace, lambda: now, sleep)
        pace.failed(sent_at=0.0, now=0.0, wait_s=7.0)
        await asyncio.gather(gate.enter(), gate.enter())
        assert slept == [7.0]
        gate.close()

    asyncio.run(play())
