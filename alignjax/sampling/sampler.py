# SPDX-License-Identifier: Apache-2.0
"""Continuous batching: requests stream in, answers stream out as they finish.

One round takes in requests while slots are free, stores their prompts, seats their
samples, and decodes a chunk of steps; docs/sampling.md has a picture.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Literal, NamedTuple

from jax.sharding import Mesh

from alignjax.models.decoder import Model, Params
from alignjax.sampling.requests import FinishReason, Request, Result
from alignjax.sampling.runner import Runner
from alignjax.sampling.seating import Seating
from alignjax.sampling.shapes import shapes
from alignjax.sampling.state import State
from alignjax.sampling.text import AnswerText, TextCodec


class Piece(NamedTuple):
    """New text of an answer in progress."""

    id: str
    sample: int
    text: str


class Tick(NamedTuple):
    """What one call of the device did, for profiles and pictures.

    Attributes:
      wall_s: how long it took.
      busy, slots: slots that held an answer, and all of them.
      tokens: of prompts that were stored, or of answers, as far as they are kept.
    """

    kind: Literal["prefill", "decode"]
    wall_s: float
    busy: int
    slots: int
    tokens: int


@dataclasses.dataclass
class _Answer:
    """An answer in progress."""

    request: Request
    sample: int
    text: AnswerText | None  # where somebody waits for a stop text or watches
    tokens: list[int] = dataclasses.field(default_factory=list)
    logprobs: list[float] = dataclasses.field(default_factory=list)


class Sampler:
    """Answers requests with the slots of one or more replicas.

    A request's tokens depend on the request, the weights and the sampler's shapes
    (slots, share, prompts, prefill_tokens, cache_dtype, size of the tensor axis), not
    on other requests, their order, or the number of replicas.

    Attributes:
      shapes: what was compiled in.
      steps, useful: slot-steps decoded, and those that became tokens of an answer.
      on_tick: called after every call of the device.
    """

    def __init__(
        self,
        model: Model,
        params: Params,
        codec: TextCodec,
        *,
        slots: int = 64,
        context: int = 256,
        answer: int | None = None,
        share: int = 1,
        prompts: int | None = None,
        prefill_tokens: int | None = None,
        chunk: int | None = None,
        cache_dtype: str | None = None,
        mesh: Mesh | None = None,
        memory_bytes: int | None = None,
    ):
        """Allocates the cache, after a look at the memory that it takes.

        Args:
          params: in the form to train with; a copy in the form to decode with is
            kept, so drop yours where memory is short.
          slots, context, answer, share, prompts, prefill_tokens, chunk, cache_dtype:
            as in `Shapes`; slots and prompts are rounded up to a multiple of 8 unless
            they are 1. What is left out is chosen for the platform, `answer` and
            `prompts` so that any request that fits the context is taken.
          mesh: of devices of this process; each of its data and fsdp devices is a
            replica with slots of its own, and tensor splits the weights.
          memory_bytes: that each device may take; default: what it has free.

        Raises:
          ValueError: a number out of range, more context than the model has
            positions, or not enough memory.
        """
        self.shapes = shapes(
            slots=slots,
            context=context,
            answer=answer,
            share=share,
            prompts=prompts,
            prefill_tokens=prefill_tokens,
            chunk=chunk,
            cache_dtype=cache_dtype,
        )
        if context > model.config.context:
            raise ValueError(
                f"context {context} exceeds the model's {model.config.context}"
            )
        self.model, self.codec = model, codec
        self._runner = Runner(
            model, params, self.shapes, mesh=mesh, memory_bytes=memory_bytes
        )
        self.steps = self.useful = 0
        self.on_tick: Callable[[Tick], None] | None = None
        self._observe: Callable[[Piece], None] | None = None
        self._is_busy = False
        self._reset()

    def generate(
        self,
        requests: Iterable[Request | None],
        *,
        observe: Callable[[Piece], None] | None = None,
    ) -> Iterator[Result]:
        """Streams results as answers finish, in no particular order.

        Args:
          requests: taken one by one as slots become free. None means "nothing at the
            moment": the iterator is asked again after further results, so requests
            may depend on earlier results. One that cannot be done comes back as `n`
            results that are "refused" with the reason: it does not fit the context,
            an id is not in the vocabulary, or the model's scores are not finite.
          observe: called with the text of each answer as it grows.

        Raises:
          RuntimeError: an earlier stream of this sampler is neither exhausted nor
            closed, or `requests` gave None while no answer was in progress.
        """
        if self._is_busy:
            raise RuntimeError(
                "this sampler is generating already; exhaust or close that stream first"
            )
        self._is_busy, self._observe = True, observe
        try:
            yield from self._rounds(iter(requests))
        finally:
            self._is_busy = False
            self._reset()

    def _rounds(self, incoming: Iterator[Request | None]) -> Iterator[Result]:
        refused: deque[Iterator[Result]] = deque()
        is_open = True
        while True:
            is_open = is_open and self._take_in(incoming, refused)
            yield from _drained(refused)
            self._store_prompts()
            self._seat()
            if any(seating.busy_slots for seating in self._seatings):
                yield from self._decode()
            elif not any(seating.filling() for seating in self._seatings):
                if not is_open:
                    return
                if not self._may_ask_again:
                    raise RuntimeError(
                        "the request iterator gave nothing while no answer was in "
                        "progress; it must end, or give a request"
                    )

    def _take_in(
        self, incoming: Iterator[Request | None], refused: deque[Iterator[Result]]
    ) -> bool:
        """Takes requests while a replica has room; false when there are no more."""
        self._may_ask_again = False
        while True:
            with_room = [seating for seating in self._seatings if seating.has_room]
            if not with_room:
                return True
            try:
                request = next(incoming)
            except StopIteration:
                return False
            if request is None:
                return True
            reason = self._objection(request)
            if reason:
                refused.append(_refusals(request, reason))
                # What is refused may lead to other requests: give it out first.
                self._may_ask_again = True
                return True
            max(with_room, key=lambda each: each.free_slots - each.open_samples).add(
                request
            )

    def _objection(self, request: Request) -> str:
        """Why a request cannot be done; empty if it can."""
        size, wanted = len(request.tokens), request.settings.max_new_tokens
        if size + wanted > self.shapes.context:
            return (
                f"prompt of {size} tokens and max_new_tokens={wanted} need "
                f"{size + wanted}, the sampler's context is {self.shapes.context}"
            )
        if wanted > self.shapes.answer:
            return (
                f"max_new_tokens={wanted} exceeds the {self.shapes.answer} tokens that "
                "the sampler keeps room for (its `answer`; --max-new-tokens of the "
                "command)"
            )
        vocab = self.model.config.vocab
        if not 0 <= min(request.tokens) <= max(request.tokens) < vocab:
            return (
                f"a prompt token is not in the model's vocabulary of {vocab}; is the "
                "tokenizer that of the model?"
            )
        settings = request.settings
        named = [token for token, _ in settings.logit_bias] + [*settings.banned]
        if named and max(named) >= vocab:
            return (
                f"logit_bias or banned names id {max(named)}, the model's vocabulary "
                f"has {vocab}"
            )
        if len(set(settings.banned)) == vocab:
            return f"all {vocab} tokens of the model's vocabulary are banned"
        return ""

    def _store_prompts(self) -> None:
        """Stores prompts, a call per bucket, until all are there; while most slots
        are busy, a prompt that takes several calls lets them go on in between."""
        while True:
            filling = [seating.filling() for seating in self._seatings]
            first = next((rows[0][1] for rows in filling if rows), None)
            if first is None:
                return
            bucket = self.shapes.bucket(first.missing)
            jobs = [
                [job for job in rows if self.shapes.bucket(job[1].missing) == bucket][
                    : self.shapes.rows(bucket)
                ]
                for rows in filling
            ]
            started = time.perf_counter()
            tokens = self._runner.prefill(bucket, jobs)
            self._tick("prefill", started, tokens)
            busy = sum(seating.busy_slots for seating in self._seatings)
            is_long = any(row.missing for rows in jobs for _, row in rows)
            if is_long and 2 * busy >= len(self._answers):
                return

    def _seat(self) -> None:
        """Gives free slots to the samples of stored prompts."""
        copied = []
        for replica, seating in enumerate(self._seatings):
            seated, copies = seating.seat()
            copied.append(copies)
            for slot, row, seat, request, sample in seated:
                self._state.put(
                    slot, request, sample, replica=replica, row=row, seat=seat
                )
                at = replica * self.shapes.slots + slot
                settings = request.settings
                if settings.repetition_penalty != 1 or settings.presence_penalty:
                    self._runner.remember(at, request.tokens)
                is_read = bool(settings.stop) or self._observe is not None
                text = AnswerText(self.codec, settings.stop) if is_read else None
                self._answers[at] = _Answer(request, sample, text)
        if any(copied):
            self._runner.copy_prompts(copied)

    def _decode(self) -> Iterator[Result]:
        """Decodes a chunk and gives back the answers that it finished."""
        started = time.perf_counter()
        tokens, logprobs = self._runner.decode(self._state)
        self.steps += tokens.size
        self._state.advance(tokens)
        finished, kept = [], 0
        for at, answer in enumerate(self._answers):
            if answer is None:
                continue
            before = len(answer.tokens)
            result = self._extend(answer, tokens[:, at].tolist(), logprobs[:, at])
            kept += len(answer.tokens) - before
            if result is not None:
                finished.append((at, result))
        self._tick("decode", started, kept)
        for at, result in finished:
            replica, slot = divmod(at, self.shapes.slots)
            self._answers[at] = None
            self._state.clear(slot, replica=replica)
            for row in self._seatings[replica].leave(slot):
                self._state.forget(row, replica=replica)
            self.useful += len(result.tokens)
        for _, result in finished:
            yield result

    def _extend(self, answer: _Answer, tokens, logprobs) -> Result | None:
        """Appends a chunk's tokens; a result once the answer has ended."""
        request, settings = answer.request, answer.request.settings
        for token, logprob in zip(tokens, logprobs.tolist(), strict=True):
            if not math.isfinite(logprob):
                reason = (
                    f"the model's scores are not finite after {len(answer.tokens)} "
                    "tokens; load it in float32"
                )
                return Result(request.id, answer.sample, (), "", (), "refused", reason)
            if token in self.codec.eos_ids or token in settings.stop_ids:
                return self._finish(answer, "stop")
            answer.tokens.append(token)
            answer.logprobs.append(logprob)
            if answer.text is not None:
                self._show(answer, answer.text.push(token))
                if answer.text.is_stopped:
                    return self._finish(answer, "stop")
            if len(answer.tokens) == settings.max_new_tokens:
                return self._finish(answer, "length")
        return None

    def _finish(self, answer: _Answer, reason: FinishReason) -> Result:
        if answer.text is None:
            text = self.codec.decode(answer.tokens)
        else:
            self._show(answer, answer.text.finish())
            text = answer.text.result()
        return Result(
            id=answer.request.id,
            sample=answer.sample,
            tokens=tuple(answer.tokens),
            text=text,
            logprobs=tuple(answer.logprobs),
            finish_reason=reason,
        )

    def _show(self, answer: _Answer, text: str) -> None:
        if text and self._observe is not None:
            self._observe(Piece(answer.request.id, answer.sample, text))

    def _tick(
        self, kind: Literal["prefill", "decode"], started: float, tokens: int
    ) -> None:
        if self.on_tick is not None:
            self._runner.wait()
            busy = sum(seating.busy_slots for seating in self._seatings)
            wall_s = time.perf_counter() - started
            self.on_tick(Tick(kind, wall_s, busy, len(self._answers), tokens))

    def _reset(self) -> None:
        """Empties all slots."""
        replicas, shapes = self._runner.replicas, self.shapes
        self._seatings = [
            Seating(slots=shapes.slots, prompts=shapes.prompts, share=shapes.share)
            for _ in range(replicas)
        ]
        self._answers: list[_Answer | None] = [None] * (replicas * shapes.slots)
        self._state = State(shapes, replicas=replicas, vocab=self.model.config.vocab)
        self._may_ask_again = False


def _drained(refused: deque[Iterator[Result]]) -> Iterator[Result]:
    while refused:
        yield from refused.popleft()


def _refusals(request: Request, reason: str) -> Iterator[Result]:
    for sample in range(request.first, request.first + request.n):
        yield Result(request.id, sample, (), "", (), "refused", reason)
