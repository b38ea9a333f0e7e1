# SPDX-License-Identifier: Apache-2.0
"""A server's engine: chat completions over HTTP, from anyone who offers them.

A sample is a request of its own, with a seed of its own, so that samples can be
resumed one by one. What a server says at one time it may not say at another; the store
keeps the first answer. Requests run in an event loop in a thread; the caller's thread
hands them over and takes results.
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import queue
import random
import threading
import time
from collections.abc import Awaitable, Callable, Generator, Iterable, Mapping
from typing import NamedTuple

from data_gen.engines import Generate, Generation, Message, Served, Settings, chat
from data_gen.engines.address import parse
from data_gen.engines.chat import Kind, Problem, Reply
from data_gen.engines.choice import OpenAIServer
from data_gen.engines.pace import Gate, Pace, backoff_s
from data_gen.engines.secret import Secret
from data_gen.engines.transport import Response, Transport
from data_gen.records import canonical, digest

_VERSION = "1"  # raise it when the same request is sent in other words
_AHEAD = 2  # samples that wait here per request that may be in flight
_POLL_S = 0.1  # how soon a request that came meanwhile is seen
_DRAIN_S = 30.0  # for what is in flight when the run has to stop
_SAY_EVERY_S = 15.0
_PLAIN = (Message("user", "Name a colour."),)


class OpenAIEngine:
    """Samples from the server that `choice` describes.

    Args:
      choice: with the model's name.
      key: is sent as a bearer token, unless it is empty.
      name: of the engine in the config, "" for the default one; for errors.
      say: receives a line when the server has to be waited for, now and then.
      clock, sleep, rng: of the waits between attempts; tests have their own.

    The fingerprint covers what is declared (model, identity or base_url) and the form
    of a request. What the server really runs cannot be known.
    """

    def __init__(
        self,
        choice: OpenAIServer,
        key: Secret,
        *,
        name: str = "",
        say: Callable[[str], None] = lambda line: None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        rng: random.Random | None = None,
    ) -> None:
        self.choice, self.key, self.say = choice, key, say
        self.clock, self.sleep = clock, sleep
        self.rng = rng or random.Random()
        self.address = parse(choice.base_url, choice.allow)
        self.label = f"engine {name or 'default'} ({self.address.url})"
        self.facts: Mapping[str, str] = {
            "kind": "openai",
            "version": _VERSION,
            "model": f"declared:{choice.model}",
            "template": "unknown",
            "server": choice.identity or self.address.url,
            "seed_field": choice.seed_field,
            "max_tokens_field": choice.max_tokens_field,
            "extra": canonical(choice.extra),
        }
        self.fingerprint: str = digest(self.facts)

    def generate(
        self, requests: Iterable[Generate | None]
    ) -> Generator[Generation, None, None]:
        """Streams samples as they come; connects at the first request.

        Raises:
          ValueError: the server refuses (the key, the address, the model, requests of
            this kind), or is where it must not be. Says what to do.
          OSError: the server does not answer, or not in a way that can be used. In
            both cases what was in flight is waited for and given out before.
        """
        incoming = iter(requests)
        first = next(incoming, _END)
        if first is _END:
            return
        pending = itertools.chain([first], incoming)
        session = _Session(self)
        error: BaseException | None = None
        is_open = True
        missing = 0
        deadline = float("inf")
        try:
            while is_open or missing:
                while is_open and missing < _AHEAD * session.pace.limit:
                    request = next(pending, _END)
                    if request is None:
                        if not missing:
                            raise RuntimeError(
                                "there is no request, although no result is missing"
                            )
                        break
                    if not isinstance(request, Generate):
                        is_open = False
                        break
                    for sample in request.wanted:
                        session.submit(request, sample)
                        missing += 1
                if not missing:
                    continue
                try:
                    result = session.results.get(timeout=_POLL_S)
                except queue.Empty:
                    if time.monotonic() > deadline:
                        break
                    continue
                missing -= 1
                if isinstance(result, Generation):
                    yield result
                elif error is None and result is not None:
                    error, is_open = result, False
                    deadline = time.monotonic() + _DRAIN_S
                    session.drain()
        finally:
            session.close()
        if error is not None:
            raise error


_END = object()


def sample_seed(seed: int, sample: int) -> int:
    """The seed of one sample of a request, in [0, 2^31)."""
    content = f"{seed}/{sample}".encode()
    return int.from_bytes(hashlib.sha256(content).digest()[:4], "big") >> 1


class _Settled(NamedTuple):
    """How a request ended, after how many attempts."""

    outcome: Reply | Problem
    attempts: int


class _Session:
    """The event loop, in its thread, with everything that lives in it.

    `results` receives per sample that was submitted a Generation, an Exception that
    ends the run, or None (given up because another sample ended the run).
    """

    def __init__(self, engine: OpenAIEngine) -> None:
        self._engine, self._choice = engine, engine.choice
        self.results: queue.SimpleQueue[Generation | BaseException | None] = (
            queue.SimpleQueue()
        )
        self.pace = Pace(
            most=engine.choice.concurrency, patience_s=engine.choice.patience_s
        )
        self._gate = Gate(self.pace, engine.clock, engine.sleep)
        self._tasks: set[asyncio.Task[Generation]] = set()
        self._sending: set[asyncio.Task | None] = set()
        self._proven: set[Settings] = set()  # the server answers to requests like these
        self._retries, self._said_at = 0, float("-inf")
        self._is_draining = False
        self._ended, self._proof = asyncio.Event(), asyncio.Lock()
        self._transport = Transport(
            engine.address,
            engine.key,
            connections=engine.choice.concurrency,
            timeout_s=engine.choice.timeout_s,
        )
        started: queue.SimpleQueue[asyncio.AbstractEventLoop] = queue.SimpleQueue()
        # A daemon, so that an interrupt need not wait for a server.
        self._thread = threading.Thread(
            target=lambda: asyncio.run(self._work(started)), daemon=True
        )
        self._thread.start()
        self._loop = started.get()

    def submit(self, request: Generate, sample: int) -> None:
        self._loop.call_soon_threadsafe(self._start, request, sample)

    def drain(self) -> None:
        """Only what is on its way may still end well."""
        self._loop.call_soon_threadsafe(self._give_up_the_rest)

    def close(self) -> None:
        """Gives up everything and ends the thread."""
        self._loop.call_soon_threadsafe(self._ended.set)
        self._thread.join()

    async def _work(self, started: queue.SimpleQueue) -> None:
        async with self._transport:
            started.put(asyncio.get_running_loop())
            await self._ended.wait()
            self._gate.close()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def _start(self, request: Generate, sample: int) -> None:
        if self._is_draining:
            self.results.put(None)
            return
        task = asyncio.create_task(self._generation(request, sample))
        self._tasks.add(task)
        task.add_done_callback(self._finish)

    def _finish(self, task: asyncio.Task[Generation]) -> None:
        self._tasks.discard(task)
        if task.cancelled():
            self.results.put(None)
        else:
            self.results.put(task.exception() or task.result())

    def _give_up_the_rest(self) -> None:
        self._is_draining = True
        for task in self._tasks - self._sending:
            task.cancel()

    async def _generation(self, request: Generate, sample: int) -> Generation:
        seed = sample_seed(request.seed, sample)
        outcome, attempts = await self._settle(request.messages, request.settings, seed)
        if isinstance(outcome, Problem):
            await self._check_like_it(request.settings, outcome)
            outcome = Reply("", "refused", detail=outcome.detail)
        elif outcome.finish_reason in ("stop", "length"):
            self._proven.add(request.settings)
        choice = self._choice
        millions = (
            outcome.prompt_tokens * choice.prompt_price
            + outcome.completion_tokens * choice.completion_price
        )
        return Generation(
            key=request.key,
            sample=sample,
            text=self._engine.key.scrub_answer(outcome.text),
            token_ids=(),
            finish_reason=outcome.finish_reason,
            sum_logprob=None,
            served=Served(
                prompt_tokens=outcome.prompt_tokens,
                completion_tokens=outcome.completion_tokens,
                cost=millions / 1e6,
                attempts=attempts,
                model=outcome.model,
                system_fingerprint=outcome.system_fingerprint,
                detail=outcome.detail,
            ),
        )

    async def _check_like_it(self, settings: Settings, problem: Problem) -> None:
        """A request was refused. If the server answers a plain one with the same
        settings, that one is to blame; else the run's config is, and nothing of it may
        be stored."""
        async with self._proof:
            if settings in self._proven:
                return
            outcome, _ = await self._settle(_PLAIN, settings, 0)
            if isinstance(outcome, Problem):
                raise ValueError(
                    self._told(f"refuses requests of this kind: {outcome.detail}")
                ) from None
            self._proven.add(settings)

    async def _settle(
        self, messages: tuple[Message, ...], settings: Settings, seed: int
    ) -> _Settled:
        """Sends a request until it is answered or cannot be."""
        choice = self._choice
        content = chat.payload(
            messages,
            settings,
            model=choice.model,
            seed=seed,
            seed_field=choice.seed_field,
            max_tokens_field=choice.max_tokens_field,
            extra=choice.extra,
        )
        failures = 0
        for attempt in itertools.count(1):
            outcome = await self._attempt(content)
            if isinstance(outcome, Reply) or outcome.kind is Kind.UNFIT:
                return _Settled(outcome, attempt)
            if outcome.kind is Kind.FATAL:
                raise ValueError(self._told(outcome.detail))
            failures += outcome.kind is Kind.BROKEN
            if failures >= choice.attempts:
                raise OSError(
                    self._told(
                        f"no answer in {failures} attempts; the last: {outcome.detail}"
                    )
                )
            if self.pace.is_hopeless(self._engine.clock()):
                raise OSError(
                    self._told(
                        f"nothing but failures for {choice.patience_s:g} s; the last: "
                        f"{outcome.detail}"
                    )
                )
            self._say(outcome.detail)
            await self._engine.sleep(backoff_s(attempt, self._engine.rng))
        raise AssertionError("attempts end")

    async def _attempt(self, content: bytes) -> Reply | Problem:
        """One attempt, when the pace admits it."""
        task, clock = asyncio.current_task(), self._engine.clock
        await self._gate.enter()
        self._sending.add(task)
        try:
            sent_at, wait_s = clock(), None
            outcome = await self._transport.post(chat.PATH, content)
            if isinstance(outcome, Response):
                wait_s = outcome.retry_after_s
                scrub = self._engine.key.scrub
                outcome = chat.read(outcome.status, outcome.body, scrub)
            if isinstance(outcome, Reply):
                tokens = outcome.completion_tokens or len(outcome.text) // 4
                self.pace.succeeded(sent_at=sent_at, now=clock(), tokens=tokens)
            elif outcome.kind in (Kind.BUSY, Kind.BROKEN):
                self.pace.failed(sent_at=sent_at, now=clock(), wait_s=wait_s)
        finally:
            self._sending.discard(task)
            self._gate.leave()
        if self._is_draining and isinstance(outcome, Problem):
            raise asyncio.CancelledError
        return outcome

    def _told(self, what: str) -> str:
        """The line that ends a run."""
        return (
            f"{self._engine.label}: {what}; finished samples are kept, give the same "
            "command again to go on"
        )

    def _say(self, detail: str) -> None:
        self._retries += 1
        if self._engine.clock() - self._said_at >= _SAY_EVERY_S:
            self._said_at = self._engine.clock()
            self._engine.say(
                f"{self._engine.label}: {detail}; trying again ({self._retries} so "
                f"far, {int(self.pace.limit)} requests at once)"
            )
