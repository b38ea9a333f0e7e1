# SPDX-License-Identifier: Apache-2.0
"""Progress: a line now and then in a file, a bar in a terminal."""

from __future__ import annotations

import io

import pytest

from alignjax import progress as module
from alignjax.progress import Progress


class Clock:
    """Stands in for `time`: it moves only when told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    return clock


class Stream(io.StringIO):
    """With what typing.TextIO asks for besides."""

    @property
    def mode(self) -> str:
        return "w"

    @property
    def name(self) -> str:
        return "stream"


class Terminal(Stream):
    def isatty(self) -> bool:
        return True


def test_a_line_comes_every_five_seconds_and_at_the_end(clock: Clock):
    """A second each; 4 of 12 took 4 s at second 4: too soon. At 5: 7 s are left."""
    stream = Stream()
    with Progress("training", total=12, stream=stream) as progress:
        for done in range(1, 13):
            clock.now += 1
            progress.update(done, note=f"loss {done}")
    assert stream.getvalue().splitlines() == [
        "training 5/12  loss 5  0:07 left",
        "training 10/12  loss 10  0:02 left",
        "training 12/12  loss 12",
    ]


def test_work_of_an_earlier_run_does_not_count_for_the_rate(clock: Clock):
    """From 80 on, 2 done in 20 s: 10 s each, so the last 18 take 180 s."""
    stream = Stream()
    with Progress("training", total=100, stream=stream) as progress:
        progress.start_at(80)
        clock.now += 20
        progress.update(82)
    assert stream.getvalue() == "training 82/100    3:00 left\n"


def test_nothing_done_gives_no_estimate(clock: Clock):
    stream = Stream()
    with Progress("training", total=10, stream=stream) as progress:
        clock.now += 6
        progress.update(0)
    assert stream.getvalue() == "training 0/10  \n"


def test_the_work_may_know_better_how_long_the_rest_takes(clock: Clock):
    """Nothing, then 65 minutes and a second, where the rate would say 0:00."""
    stream = Stream()
    estimates = [None, 3901.0]
    with Progress(
        "sampling", total=3, stream=stream, estimate=lambda: estimates.pop(0)
    ) as progress:
        for done in (1, 2, 3):
            clock.now += 5
            progress.update(done, note=f"{done} tokens")
    assert stream.getvalue().splitlines() == [
        "sampling 1/3  1 tokens",
        "sampling 2/3  2 tokens  1:05:01 left",
        "sampling 3/3  3 tokens",
    ]


def test_a_terminal_gets_a_bar_with_label_count_and_note():
    stream = Terminal()
    with Progress("[eval] a", total=2, stream=stream) as progress:
        progress.update(1, note="[b] loss 0.5")
        progress.update(2, note="[b] loss 0.4")
    text = stream.getvalue()
    assert "[eval] a" in text
    assert "2/2" in text
    assert "[b] loss 0.4" in text


def test_a_bar_ends_with_the_error_that_ends_the_work():
    stream = Terminal()
    with (
        pytest.raises(ValueError, match="stop"),
        Progress("training", total=2, stream=stream) as progress,
    ):
        progress.update(1)
        raise ValueError("stop")
    assert stream.getvalue().endswith("\n") or "\x1b[?25h" in stream.getvalue()
