# SPDX-License-Identifier: Apache-2.0
"""Batches: a prompts file sampled into an answers file, from where it stopped."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

from alignjax.progress import Progress
from alignjax.sampling import requests
from alignjax.sampling.commands.answers import Answers
from alignjax.sampling.commands.prompts import MAX_SAMPLES, Prompt
from alignjax.sampling.requests import Request, Result, Settings
from alignjax.sampling.sampler import Tick

VERSION = "1"  # raise it when the sampler gives other tokens for the same request
_SHOWN = 3  # reasons in a summary


@runtime_checkable
class Source(Protocol):
    """What a batch needs of a sampler; see `Sampler`."""

    steps: int
    useful: int
    on_tick: Callable[[Tick], None] | None

    def generate(self, requests: Iterable[Request | None]) -> Iterator[Result]: ...


@dataclasses.dataclass(frozen=True)
class Command:
    """What holds for every line that does not say otherwise.

    Attributes:
      settings: fields of `Settings` that are given.
      n: samples of each prompt.
      seed: with the id of a line it makes the line's seed.
      logprobs: write the log-probability of each token, not only their sum.
    """

    settings: Mapping[str, Any]
    n: int = 1
    seed: int = 0
    logprobs: bool = False

    def __post_init__(self) -> None:
        if not 1 <= self.n <= MAX_SAMPLES:
            raise ValueError(f"samples must be from 1 to {MAX_SAMPLES}, got {self.n}")
        if not 0 <= self.seed < 1 << 31:
            raise ValueError(f"seed must be in [0, 2^31), got {self.seed}")
        requests.settings(self.settings)


@dataclasses.dataclass(frozen=True)
class Job:
    """A line with all that decides its samples; `keys` has one of each sample.

    A line that cannot be sampled has one key, of the row that says why.
    """

    prompt: Prompt
    seed: int
    settings: Settings
    keys: tuple[str, ...]
    reason: str = ""


@dataclasses.dataclass(frozen=True)
class Summary:
    """What a run did.

    Attributes:
      rows: of the whole file.
      kept: those of an earlier run.
      answers, tokens: of this run, refused ones left out.
      wall_s: from the first request to the last answer, compilation included.
      steps, useful: slot-steps decoded, and those that became tokens of an answer.
      refused: those of the whole file that are no answers.
      reasons: of the first few of them.
    """

    rows: int
    kept: int
    answers: int = 0
    tokens: int = 0
    wall_s: float = 0.0
    steps: int = 0
    useful: int = 0
    refused: int = 0
    reasons: tuple[str, ...] = ()

    def lines(self) -> list[str]:
        """The summary as a user reads it."""
        told = f"{self.answers:,} answers, {self.tokens:,} tokens"
        if self.wall_s and self.steps:
            told += (
                f" in {self.wall_s:.1f} s: {self.tokens / self.wall_s:,.0f} tokens/s, "
                f"{self.useful / self.steps:.0%} of the slots useful"
            )
        if self.kept == self.rows:
            told = f"nothing was left to do: all {self.rows:,} lines are there"
        elif self.kept:
            told += f"; {self.kept:,} lines were there already"
        found = [told]
        if self.refused:
            found.append(f"{self.refused:,} refused, with the reason in the file:")
            found += [f"  {reason}" for reason in self.reasons]
        return found


def plan(
    prompts: Sequence[Prompt], command: Command, facts: Mapping[str, str]
) -> list[Job]:
    """A job per line, its keys made.

    Args:
      facts: of model, template and sampler: all that decides a sample besides its line.
    """
    shared = _digest([VERSION, dict(facts), command.logprobs])
    jobs = []
    for prompt in prompts:
        reason, settings = prompt.reason, Settings()
        if not reason:
            try:
                settings = requests.settings(
                    {**command.settings, **prompt.settings},
                    where=f"line {prompt.line}: settings",
                )
            except ValueError as error:
                reason = str(error)
        if reason:
            key = _digest([shared, prompt.line, prompt.id, reason])
            jobs.append(Job(prompt, 0, settings, (key,), reason))
            continue
        seed = _seed(command.seed, prompt.id) if prompt.seed is None else prompt.seed
        turns = [[message.role, message.content] for message in prompt.messages]
        line = _digest(
            [shared, prompt.id, turns, prompt.text, seed, dataclasses.asdict(settings)]
        )
        count = command.n if prompt.n is None else prompt.n
        keys = tuple(_digest([line, sample]) for sample in range(count))
        jobs.append(Job(prompt, seed, settings, keys))
    return jobs


def run(
    jobs: Sequence[Job],
    answers: Answers,
    *,
    encode: Callable[[Prompt], Sequence[int]],
    source: Callable[[], Source],
    logprobs: bool = False,
) -> Summary:
    """Samples what `answers` lacks.

    Args:
      encode: tokens of a prompt; a ValueError refuses that prompt alone.
      source: makes the sampler; not called where nothing is to be sampled.
      logprobs: as in `Command`.

    Raises:
      OSError: the disk is full or not writable; what is finished is kept.
    """
    kept = len(answers.reasons)
    by_id = {job.prompt.id: job for job in jobs if not job.reason}
    total = sum(len(job.keys) for job in jobs)
    is_missing = any(
        key not in answers.reasons for job in by_id.values() for key in job.keys
    )
    # Before anything is written: it may fail.
    sampler = source() if is_missing else None
    for job in jobs:
        if job.reason and job.keys[0] not in answers.reasons:
            answers.append(job.keys[0], _refusal(job, 0, job.reason))
    summary = Summary(rows=total, kept=kept)
    if sampler is not None:
        pace = Pace()
        with Progress("sampling", total=total, estimate=pace.remaining_s) as progress:
            progress.start_at(len(answers.reasons))

            def show() -> None:
                pace.left = total - len(answers.reasons)
                progress.update(len(answers.reasons), note=pace.note())

            def tick(each: Tick) -> None:
                pace.tick(each)
                show()

            sampler.on_tick = tick
            began = time.monotonic()
            for result in sampler.generate(_requests(by_id.values(), answers, encode)):
                job = by_id[result.id]
                answers.append(job.keys[result.sample], _row(job, result, logprobs))
                pace.add(result)
                show()
            wall_s = time.monotonic() - began
        assert len(answers.reasons) == total, "the sampler left samples out"
        summary = Summary(
            rows=total,
            kept=kept,
            answers=pace.answers,
            tokens=pace.tokens,
            wall_s=wall_s,
            steps=sampler.steps,
            useful=sampler.useful,
        )
    reasons = [
        reason
        for job in jobs
        for reason in [next(filter(None, map(answers.reasons.get, job.keys)), "")]
        if reason
    ]
    return dataclasses.replace(
        summary,
        refused=sum(map(bool, answers.reasons.values())),
        reasons=tuple(reasons[:_SHOWN]),
    )


class Pace:
    """How fast this run samples, and how long it will take.

    The clock starts after the first decoding call, which compiles. Nothing is said of
    the time left before as many answers have finished as were ever in progress at
    once: the first to finish are the short ones.
    """

    def __init__(self) -> None:
        self.answers = self.tokens = 0  # finished
        self.left = 0
        self._began: float | None = None
        self._busiest = self._sampled = 0

    def tick(self, tick: Tick) -> None:
        if tick.kind != "decode":
            return
        self._busiest = max(self._busiest, tick.busy)
        if self._began is None:
            self._began = time.monotonic()
        else:
            self._sampled += tick.tokens

    def add(self, result: Result) -> None:
        if result.finish_reason != "refused":
            self.answers += 1
            self.tokens += len(result.tokens)

    def rate(self) -> float | None:
        """Tokens a second, those of unfinished answers included."""
        passed = 0.0 if self._began is None else time.monotonic() - self._began
        return self._sampled / passed if passed > 0 and self._sampled else None

    def remaining_s(self) -> float | None:
        rate = self.rate()
        if rate is None or self.answers < max(self._busiest, 1):
            return None
        return self.left * self.tokens / self.answers / rate

    def note(self) -> str:
        rate = self.rate()
        told = "" if rate is None else f", {rate:,.0f} tokens/s"
        return f"{self.tokens:,} tokens{told}"


def _requests(
    jobs: Iterable[Job],
    answers: Answers,
    encode: Callable[[Prompt], Sequence[int]],
) -> Iterator[Request]:
    """What is missing, in runs of samples; refuses what cannot be asked."""
    for job in jobs:
        missing = [i for i, key in enumerate(job.keys) if key not in answers.reasons]
        if not missing:
            continue
        try:
            tokens = tuple(encode(job.prompt))
            made = [
                Request(
                    id=job.prompt.id,
                    tokens=tokens,
                    n=count,
                    seed=job.seed,
                    settings=job.settings,
                    first=first,
                )
                for first, count in _runs(missing)
            ]
        except ValueError as error:
            for sample in missing:
                row = _refusal(job, sample, f"line {job.prompt.line}: {error}")
                answers.append(job.keys[sample], row)
        else:
            yield from made


def _runs(numbers: Sequence[int]) -> Iterator[tuple[int, int]]:
    """(first, count) of each run: 0 1 2 5 6 gives (0, 3), (5, 2)."""
    for _, group in itertools.groupby(
        enumerate(numbers), lambda pair: pair[1] - pair[0]
    ):
        members = [number for _, number in group]
        yield members[0], len(members)


def _row(job: Job, result: Result, logprobs: bool) -> dict[str, Any]:
    if result.finish_reason == "refused":
        return _refusal(job, result.sample, f"line {job.prompt.line}: {result.reason}")
    row = {
        "id": job.prompt.id,
        "sample": result.sample,
        "seed": job.seed,
        "text": result.text,
        "finish_reason": result.finish_reason,
        "tokens": list(result.tokens),
        "logprob": sum(result.logprobs),
    }
    return {**row, "logprobs": list(result.logprobs)} if logprobs else row


def _refusal(job: Job, sample: int, reason: str) -> dict[str, Any]:
    """A row of the same shape, without an answer."""
    return {
        "id": job.prompt.id,
        "sample": sample,
        "seed": job.seed,
        "text": "",
        "finish_reason": "refused",
        "tokens": [],
        "logprob": 0.0,
        "reason": reason,
    }


def _seed(seed: int, name: str) -> int:
    """In [0, 2^31): lines that repeat a prompt get other samples."""
    return int(_digest([seed, name]), 16) % (1 << 31)


def _digest(value: Any) -> str:
    text = json.dumps(value, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
