# SPDX-License-Identifier: Apache-2.0
"""Progress of long work: a live bar in a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import TextIO

_INTERVAL_S = 5.0  # between two lines where there is no terminal


class Progress:
    """Shows how much of `total` is done, at what rate, and how long the rest takes.

    with Progress("training", total=60) as progress:
        progress.update(done, note="loss 0.69")

    Where the work knows better how long the rest takes, `estimate` gives it in seconds,
    None where nothing can be said yet.
    """

    def __init__(
        self,
        label: str,
        *,
        total: int,
        stream: TextIO | None = None,
        estimate: Callable[[], float | None] | None = None,
    ):
        self.label, self.total = label, total
        self.stream = stream or sys.stderr
        self._estimate = estimate
        self._started = self._printed = time.monotonic()
        self._first = 0
        self._done = 0
        self._bar = None

    def __enter__(self) -> Progress:
        if self.stream.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

            self._bar = Progress(
                TextColumn("{task.description}", markup=False),
                BarColumn(),
                TextColumn("{task.completed:.0f}/{task.total:.0f}"),
                TimeElapsedColumn(),
                TextColumn("{task.fields[note]}", markup=False),
                console=Console(file=self.stream),
            )
            self._bar.start()
            self._task = self._bar.add_task(self.label, total=self.total, note="")
        return self

    def start_at(self, done: int) -> None:
        """Counts what an earlier run did, without crediting this one's rate."""
        self._first = self._done = done

    def update(self, done: int, note: str = "") -> None:
        """Sets how much is done."""
        self._done = done
        now = time.monotonic()
        remaining = self._remaining(now)
        note = f"{note}  {remaining}" if remaining else note
        if self._bar is not None:
            self._bar.update(self._task, completed=done, note=note)
        elif now - self._printed >= _INTERVAL_S or done == self.total:
            self._printed = now
            print(f"{self.label} {done}/{self.total}  {note}", file=self.stream)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def _remaining(self, now: float) -> str:
        new = self._done - self._first
        if self._done >= self.total:
            return ""
        if self._estimate is not None:
            seconds = self._estimate()
        elif new > 0:
            seconds = (now - self._started) / new * (self.total - self._done)
        else:
            seconds = None
        if seconds is None:
            return ""
        minutes, rest = divmod(int(seconds), 60)
        if minutes < 60:
            return f"{minutes}:{rest:02d} left"
        return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d} left"
