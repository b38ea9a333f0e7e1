# SPDX-License-Identifier: Apache-2.0
"""Ensemble: several engines as one, all of them at work at once.

Each engine that is asked gets a thread, which does nothing but hand it requests and
take its results; requests and what becomes of results stay in the caller's thread.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Generator, Iterable, Iterator, Mapping

from data_gen.engines import Engine, Generate, Generation


def generate(
    engines: Mapping[str, Engine], requests: Iterable[Generate | None]
) -> Generator[Generation, None, None]:
    """Stream the samples of all requests, each from the engine that it names.

    Args:
      engines: by name; two of the same fingerprint are one engine, which is asked
        through the first of its names. With one engine no thread is started.
      requests: as in `Engine.generate`; all that there are at the moment are taken.

    Raises:
      ValueError: a request names an engine that there is not.
      RuntimeError: `requests` gave None while no result was missing, or an engine
        ended before it had answered.
      Whatever an engine raised. The others take no more requests then, but finish what
        they have begun, so that what is paid for comes into the store.
    """
    first = {engine.fingerprint: engine for engine in reversed([*engines.values()])}
    if len(first) == 1:
        (engine,) = first.values()
        yield from engine.generate(_known(engines, requests))
        return
    results: queue.SimpleQueue[Generation | BaseException] = queue.SimpleQueue()
    lanes: dict[str, _Lane] = {}
    incoming = _known(engines, requests)
    in_flight = 0
    is_open, is_abandoned = True, True
    try:
        while is_open or in_flight:
            while is_open:
                request = next(incoming, _END)
                if request is _END:
                    is_open = False
                elif request is None:
                    break
                elif isinstance(request, Generate):
                    name = engines[request.engine].fingerprint
                    if name not in lanes:
                        lanes[name] = _Lane(first[name], results)
                    lanes[name].put(request)
                    in_flight += len(request.wanted)
            if is_open and not in_flight:
                raise RuntimeError("there is no request, although no result is missing")
            if not in_flight:
                break
            result = results.get()
            if isinstance(result, BaseException):
                is_abandoned = not isinstance(result, Exception)
                raise result
            in_flight -= 1
            yield result
        is_abandoned = False
    finally:
        for lane in lanes.values():
            lane.end(is_abandoned=is_abandoned)
        for lane in lanes.values():
            lane.thread.join(_ABANDON_S if is_abandoned else None)


_END = object()
_ABANDON_S = 5.0  # for an engine to notice that nobody waits for it


def _known(
    engines: Mapping[str, Engine], requests: Iterable[Generate | None]
) -> Iterator[Generate | None]:
    for request in requests:
        if request is not None and request.engine not in engines:
            known = ", ".join(name or "the default" for name in engines)
            raise ValueError(
                f"there is no engine {request.engine!r} (engines: {known})"
            )
        yield request


class _Abandoned(BaseException):
    """Ends an engine whose results nobody waits for."""


class _Lane:
    """One engine in a thread of its own."""

    def __init__(
        self, engine: Engine, results: queue.SimpleQueue[Generation | BaseException]
    ) -> None:
        self._engine, self._results = engine, results
        self._requests: queue.SimpleQueue[Generate | None] = queue.SimpleQueue()
        self._missing = 0  # results; only the thread changes it
        self._is_ending = self._is_abandoned = False
        # A daemon, so that an interrupt need not wait for a device or a server.
        self.thread = threading.Thread(target=self._work, daemon=True)
        self.thread.start()

    def put(self, request: Generate) -> None:
        self._requests.put(request)

    def end(self, *, is_abandoned: bool) -> None:
        """No more requests; of those that were begun, the results or nothing."""
        self._is_ending, self._is_abandoned = True, is_abandoned
        self._requests.put(None)

    def _work(self) -> None:
        try:
            for generation in self._engine.generate(self._feed()):
                self._missing -= 1
                self._results.put(generation)
            if not self._is_ending:
                raise RuntimeError("an engine ended before its requests did")
        except _Abandoned:
            pass
        except BaseException as error:  # noqa: BLE001 - raised again by the caller
            self._results.put(error)

    def _feed(self) -> Iterator[Generate | None]:
        while True:
            try:
                # Where results are missing, the engine must not wait for requests.
                request = self._requests.get(block=not self._missing)
            except queue.Empty:
                request = None
            if self._is_abandoned:
                raise _Abandoned
            if self._is_ending:
                return
            if request is not None:
                self._missing += len(request.wanted)
            yield request
