# SPDX-License-Identifier: Apache-2.0
"""Pace: how many requests a server gets at once, and how long to wait for it.

The number in flight follows additive increase, multiplicative decrease (Chiu and Jain
1989), as in TCP: one more per round of answers, half as many when the server says that
it is too much. Servers that queue without a word are known by their latency: a token
that takes more than twice as long as it did stops the increase, more than three times
as long turns it around. (A server that batches gives more tokens a second until then,
although each of them comes later.)
"""

from __future__ import annotations

import asyncio
import email.utils
import math
import random
from collections import deque
from collections.abc import Awaitable, Callable

START = 8  # requests in flight at first; latency alone never leads below it
LONGEST_WAIT_S = 60.0  # between two attempts, whatever the server asks for
_FIRST_WAIT_S = 0.5
_IN_A_ROW = 5  # attempts that fail before it is said that nothing succeeds
_OVERHEAD_TOKENS = 16  # what the way and the prompt of a request cost, in tokens
_HOLD, _CUT = 2.0, 3.0  # times the latency of a token when the server was at ease
_STALE = 32  # slow windows in a row after which the usual latency is measured anew


class Pace:
    """How many requests may be in flight. Times are of any clock that does not jump.

    Args:
      most: never more than this.
      patience_s: see `is_hopeless`.

    Attributes:
      limit: requests that may be in flight, as a float; its whole part counts.
      resume_at: nothing is sent before; the server asked for it.
    """

    def __init__(self, *, most: int, patience_s: float) -> None:
        self.limit = float(min(START, most))
        self.resume_at = -math.inf
        self._most, self._patience_s = most, patience_s
        self._is_starting = True
        self._cut_at = -math.inf
        self._failed_since: float | None = None
        self._in_a_row = 0
        self._usual_s = math.inf  # of a token, when few requests were in flight
        self._slow_windows = 0
        self._resume_limit: float | None = None  # while the usual is measured anew
        self._open_window()

    def admits(self, in_flight: int, now: float) -> bool:
        """Whether one more may be sent."""
        return in_flight < int(self.limit) and now >= self.resume_at

    def succeeded(self, *, sent_at: float, now: float, tokens: int) -> None:
        """The server did its work; `tokens` is 0 where no answer was sampled."""
        self._failed_since, self._in_a_row = None, 0
        if not tokens or sent_at < self._cut_at:  # of before, it is old news
            return
        self._answers += 1
        self._wall_s += now - sent_at
        self._tokens += tokens + _OVERHEAD_TOKENS
        slowness = self._slowness()
        if self._answers >= self._window:
            self._close_window(now, slowness)
        if slowness <= _HOLD and self._resume_limit is None:
            self.limit += 1.0 if self._is_starting else 1.0 / self.limit
            self.limit = min(self.limit, float(self._most))

    def failed(self, *, sent_at: float, now: float, wait_s: float | None) -> None:
        """The server said that it is too much, and perhaps how long to wait; or it gave
        nothing that can be used, for which the load may be to blame."""
        self._in_a_row += 1
        if self._failed_since is None:
            self._failed_since = now
        if wait_s is not None:
            self.resume_at = max(self.resume_at, now + wait_s)
        if sent_at >= self._cut_at:
            self._cut(now, to=self.limit / 2)

    def is_hopeless(self, now: float) -> bool:
        """Nothing but failures, several in a row, for `patience_s`."""
        since = self._failed_since
        return (
            since is not None
            and self._in_a_row >= _IN_A_ROW
            and now - since >= self._patience_s
        )

    def _cut(self, now: float, *, to: float) -> None:
        self.limit, self._resume_limit = max(1.0, to), None
        self._cut_at, self._is_starting = now, False
        self._open_window()

    def _open_window(self) -> None:
        """Latency is looked at in windows of about as many answers as are in flight."""
        self._window = max(int(self.limit), START)
        self._answers, self._wall_s, self._tokens = 0, 0.0, 0

    def _slowness(self) -> float:
        """How long a token takes in this window; 1 = as usual."""
        mean_s = self._wall_s / self._tokens
        return mean_s / self._usual_s if 0 < self._usual_s < math.inf else 1.0

    def _close_window(self, now: float, slowness: float) -> None:
        mean_s, least = self._wall_s / self._tokens, min(START, self._most)
        self._open_window()
        if self.limit <= least:  # so few that this is what a token takes at ease
            self._usual_s, self._slow_windows = mean_s, 0
            self.limit = self._resume_limit or self.limit
            self._resume_limit = None
            return
        self._usual_s = min(mean_s, self._usual_s)
        if slowness <= _HOLD:
            self._slow_windows = 0
            return
        self._is_starting = False
        self._slow_windows += 1
        if self._slow_windows >= _STALE:  # or are the requests others than before?
            limit = self.limit
            self._cut(now, to=least)
            self._resume_limit = limit
        elif slowness > _CUT:
            self._cut(now, to=max(self.limit * 0.8, least))


class Gate:
    """Lets coroutines pass, first come first served, as a pace admits them."""

    def __init__(
        self,
        pace: Pace,
        clock: Callable[[], float],
        sleep: Callable[[float], Awaitable[None]],
    ) -> None:
        self._pace, self._clock, self._sleep = pace, clock, sleep
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._timer: asyncio.Task[None] | None = None
        self.in_flight = 0

    async def enter(self) -> None:
        """Returns once one more may be sent; `leave` gives the place back."""
        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(place)
        self._admit()
        try:
            await place
        except asyncio.CancelledError:
            if place.done() and not place.cancelled():
                self.leave()
            raise

    def leave(self) -> None:
        """An answer came, or none will."""
        self.in_flight -= 1
        self._admit()

    def _admit(self) -> None:
        while self._waiting and self._pace.admits(self.in_flight, self._clock()):
            place = self._waiting.popleft()
            if not place.cancelled():
                self.in_flight += 1
                place.set_result(None)
        is_paused = self._clock() < self._pace.resume_at
        if self._waiting and is_paused and self._timer is None:
            self._timer = asyncio.create_task(self._resume())

    async def _resume(self) -> None:
        await self._sleep(self._pace.resume_at - self._clock())
        self._timer = None
        self._admit()

    def close(self) -> None:
        """Ends the timer; nobody waits any more."""
        if self._timer is not None:
            self._timer.cancel()


def backoff_s(failures: int, rng: random.Random) -> float:
    """How long to wait after so many failures (>= 1) of a request: twice as long each
    time, less up to a half by chance, so that requests do not come back together."""
    longest = min(_FIRST_WAIT_S * 2.0 ** min(failures - 1, 30), LONGEST_WAIT_S)
    return longest * rng.uniform(0.5, 1.0)


def retry_after_s(value: str | None, now_epoch_s: float) -> float | None:
    """What a Retry-After header asks for, within [0, LONGEST_WAIT_S]; None where there
    is none, or where it says nothing.

    Args:
      value: seconds, or a date as in RFC 9110, section 10.2.3.
      now_epoch_s: seconds since 1970.
    """
    if value is None or len(value) > 64:
        return None
    try:
        wanted = float(value)
    except ValueError:
        try:
            when = email.utils.parsedate_to_datetime(value)
            wanted = when.timestamp() - now_epoch_s
        except (ValueError, OverflowError, OSError):
            return None
    if math.isnan(wanted):
        return None
    return min(max(wanted, 0.0), LONGEST_WAIT_S)
