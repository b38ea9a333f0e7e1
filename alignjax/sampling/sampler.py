# SPDX-License-Identifier: Apache-2.0
"""Continuous batching: a fixed number of slots, refilled as their answers finish."""

from __future__ import annotations

import dataclasses
import math
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Protocol, runtime_checkable

import jax.numpy as jnp
import numpy as np

from alignjax.models import decoder
from alignjax.models.decoder import Cache, Model, Params
from alignjax.sampling import decode
from alignjax.sampling.requests import Request, Result

_BUCKET = 32  # prompts are padded to a multiple of this
_PREFILL_ROWS = 2  # prompts trickle in; a wider call would mostly compute padding
_CHUNK = 8  # decoding steps between two looks at what finished


@runtime_checkable
class TextCodec(Protocol):
    """What the sampler needs of a tokenizer."""

    eos_ids: tuple[int, ...]

    def decode(self, ids: list[int]) -> str: ...


@dataclasses.dataclass
class _Prompt:
    """A prefilled prompt that waits for slots: `row` of `cache`."""

    request: Request
    cache: Cache
    row: int
    next_sample: int = 0


@dataclasses.dataclass
class _Answer:
    """An answer in progress, in one slot."""

    request: Request
    sample: int
    tokens: list[int] = dataclasses.field(default_factory=list)
    logprobs: list[float] = dataclasses.field(default_factory=list)


class Sampler:
    """Owns the cache of `slots` answers of up to `context` tokens, prompt included.

    The samples of one request share one prefill. A request's tokens depend on the
    request, the weights and (slots, context), not on its neighbours or their order.

    Attributes:
      steps, useful: slot-steps decoded, and those that ended up in an answer.
    """

    def __init__(
        self,
        model: Model,
        params: Params,
        codec: TextCodec,
        *,
        slots: int = 64,
        context: int = 256,
    ):
        """Allocates the cache: `decoder.cache_bytes(model.config, slots, context)`.

        Raises:
          ValueError: no slot, or more context than the model has positions.
        """
        if slots < 1:
            raise ValueError(f"slots must be > 0, got {slots}")
        if context > model.config.context:
            raise ValueError(
                f"context {context} exceeds the model's {model.config.context}"
            )
        self.model, self.codec = model, codec
        self.params = decoder.unstack(params)
        self.slots, self.context = slots, context
        self.steps = self.useful = 0
        self._cache = decoder.empty_cache(model.config, slots, context)
        self._state = _idle(slots)
        self._answers: list[_Answer | None] = [None] * slots
        self._is_busy = False

    def generate(self, requests: Iterable[Request | None]) -> Iterator[Result]:
        """Streams results as answers finish, in no particular order.

        Args:
          requests: taken one by one as slots become free. None means "nothing at the
            moment": the iterator is asked again after further results, so requests
            may depend on earlier results.

        Raises:
          ValueError: prompt and answer do not fit `context`, or an id is not in the
            vocabulary; names the request. The answers in progress are lost.
          RuntimeError: an earlier stream of this sampler is neither exhausted nor
            closed, or `requests` gave None while no answer was in progress.
        """
        if self._is_busy:
            raise RuntimeError(
                "this sampler is generating already; exhaust or close that stream first"
            )
        self._is_busy = True
        try:
            yield from self._generate(iter(requests))
        finally:
            self._is_busy = False
            self._answers = [None] * self.slots
            self._state = _idle(self.slots)

    def _generate(self, incoming: Iterator[Request | None]) -> Iterator[Result]:
        waiting: deque[_Prompt] = deque()
        is_open = True
        while True:
            free = sum(answer is None for answer in self._answers)
            open_samples = sum(p.request.n - p.next_sample for p in waiting)
            while is_open and open_samples < free:
                batch, is_open = self._take(incoming, free - open_samples)
                if not batch:
                    break
                prefilled = self._prefill(batch)
                waiting.extend(prefilled)
                open_samples += sum(p.request.n for p in prefilled)
            if waiting and free:
                self._insert(waiting)
            if all(answer is None for answer in self._answers):
                if not is_open:
                    return
                raise RuntimeError(
                    "the request iterator gave nothing while no answer was in "
                    "progress; it must end, or give a request"
                )
            yield from self._decode()

    def _take(
        self, incoming: Iterator[Request | None], samples: int
    ) -> tuple[list[Request], bool]:
        """Up to a prefill batch of requests with `samples` samples or just above."""
        batch: list[Request] = []
        while len(batch) < _PREFILL_ROWS and sum(r.n for r in batch) < samples:
            try:
                request = next(incoming)
            except StopIteration:
                return batch, False
            if request is None:
                break
            needed = len(request.tokens) + request.settings.max_new_tokens
            if needed > self.context:
                raise ValueError(
                    f"request {request.id}: prompt of {len(request.tokens)} tokens and "
                    f"max_new_tokens={request.settings.max_new_tokens} need {needed}, "
                    f"the sampler's context is {self.context}"
                )
            vocab = self.model.config.vocab
            if not 0 <= min(request.tokens) <= max(request.tokens) < vocab:
                raise ValueError(
                    f"request {request.id}: a prompt token is not in the model's "
                    f"vocabulary of {vocab}; is the tokenizer that of the model?"
                )
            batch.append(request)
        return batch, True

    def _prefill(self, batch: list[Request]) -> list[_Prompt]:
        """Computes the prompts' keys and values, a call per bucket. The last prompt
        token is left to the first decoding step, which predicts from it."""
        by_bucket: dict[int, list[Request]] = {}
        for request in batch:
            bucket = -(-len(request.tokens) // _BUCKET) * _BUCKET
            by_bucket.setdefault(min(bucket, self.context), []).append(request)
        prompts = []
        for bucket, members in by_bucket.items():
            tokens = np.zeros((_PREFILL_ROWS, bucket), np.int32)
            for row, request in enumerate(members):
                tokens[row, : len(request.tokens)] = request.tokens
            cache = decode.prefill(self.params, jnp.asarray(tokens), model=self.model)
            prompts.extend(
                _Prompt(request, cache, row) for row, request in enumerate(members)
            )
        return prompts

    def _insert(self, waiting: deque[_Prompt]) -> None:
        """Fills free slots with samples of waiting prompts, prefill call by call."""
        free = deque(i for i, answer in enumerate(self._answers) if answer is None)
        state = {name: np.array(x) for name, x in self._state._asdict().items()}
        while waiting and free:
            cache = waiting[0].cache
            slots = np.full(self.slots, self.slots, np.int32)  # out of range: dropped
            rows = np.zeros(self.slots, np.int32)
            count = 0
            while waiting and free and waiting[0].cache is cache:
                prompt = waiting[0]
                slot, request = free.popleft(), prompt.request
                slots[count], rows[count] = slot, prompt.row
                count += 1
                settings = request.settings
                state["token"][slot] = request.tokens[-1]
                state["length"][slot] = len(request.tokens) - 1
                state["index"][slot] = 0
                state["seed"][slot] = request.seed
                state["sample"][slot] = prompt.next_sample
                state["temperature"][slot] = settings.temperature
                state["top_k"][slot] = settings.top_k
                state["top_p"][slot] = settings.top_p
                self._answers[slot] = _Answer(request, prompt.next_sample)
                prompt.next_sample += 1
                if prompt.next_sample == request.n:
                    waiting.popleft()
            self._cache = decode.insert(
                self._cache, cache, jnp.asarray(slots), jnp.asarray(rows)
            )
        self._state = decode.Slots(**{k: jnp.asarray(v) for k, v in state.items()})

    def _decode(self) -> Iterator[Result]:
        """Decodes a chunk and gives back the answers that it finished."""
        self._cache, state, chunk = decode.decode(
            self.params, self._cache, self._state, model=self.model, steps=_CHUNK
        )
        tokens, logprobs = np.asarray(chunk.tokens), np.asarray(chunk.logprobs)
        for slot, answer in enumerate(self._answers):
            self.steps += _CHUNK
            if answer is None:
                continue
            result = self._advance(answer, tokens[:, slot], logprobs[:, slot])
            if result is not None:
                self._answers[slot] = None
                self.useful += len(result.tokens)
                yield result
        # An idle slot stays at the start of its cache instead of running off its end.
        length = np.array(state.length)
        length[[i for i, answer in enumerate(self._answers) if answer is None]] = 0
        self._state = state._replace(length=jnp.asarray(length))

    def _advance(
        self, answer: _Answer, tokens: np.ndarray, logprobs: np.ndarray
    ) -> Result | None:
        """Appends a chunk's tokens; a result once the answer has ended."""
        settings = answer.request.settings
        for token, logprob in zip(tokens.tolist(), logprobs.tolist(), strict=True):
            if token in self.codec.eos_ids:
                return self._result(answer, "stop")
            if not math.isfinite(logprob):
                raise ValueError(
                    f"request {answer.request.id}: the model's scores are not finite "
                    f"after {len(answer.tokens)} tokens; load it in float32"
                )
            answer.tokens.append(token)
            answer.logprobs.append(logprob)
            if settings.stop:
                text = self.codec.decode(answer.tokens)
                cuts = [text.find(stop) for stop in settings.stop if stop in text]
                if cuts:
                    return self._result(answer, "stop", text[: min(cuts)])
            if len(answer.tokens) == settings.max_new_tokens:
                return self._result(answer, "length")
        return None

    def _result(self, answer: _Answer, reason, text: str | None = None) -> Result:
        return Result(
            id=answer.request.id,
            sample=answer.sample,
            tokens=tuple(answer.tokens),
            text=self.codec.decode(answer.tokens) if text is None else text,
            logprobs=tuple(answer.logprobs),
            finish_reason=reason,
        )


def _idle(slots: int) -> decode.Slots:
    zeros = jnp.zeros(slots, jnp.int32)
    return decode.Slots(
        token=zeros,
        length=zeros,
        index=zeros,
        seed=zeros,
        sample=zeros,
        temperature=jnp.zeros(slots, jnp.float32),
        top_k=zeros,
        top_p=jnp.ones(slots, jnp.float32),
    )
