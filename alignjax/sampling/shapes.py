# SPDX-License-Identifier: Apache-2.0
"""The shapes of a sampler: everything that is compiled in, and what memory it takes."""

from __future__ import annotations

import dataclasses
import math
import os
from pathlib import Path

import jax

from alignjax.models import decoder
from alignjax.models.decoder import Cache, DecoderConfig, Params
from alignjax.sampling.requests import MAX_BIASES

_GIB = 1 << 30
_MOST_BLOCKS = 8  # each is compiled into every layer
_EVEN = 8
_CACHE_DTYPES = (None, "int8")
_CGROUP = Path("/sys/fs/cgroup")


@dataclasses.dataclass(frozen=True)
class Shapes:
    """Sizes of one replica.

    Attributes:
      slots: answers in progress at once; 1 or a multiple of 8, as is `prompts`.
      context: tokens of prompt and answer together, at most.
      answer: tokens of an answer, at most.
      share: samples of a prompt that read one copy of its keys and values.
      prompts: prompts in progress at once.
      prefill_tokens: of a prefill call; longer prompts take several.
      shortest_prefill: of such a call; shorter prompts are padded.
      prefill_rows: prompts of a prefill call, at most.
      chunk: decoding steps between two looks at what finished.
      block: tokens of a block of the cache, if so few make no more than eight; else
        twice as many, and so on.
      is_dynamic: whether attention ends where the longest answer does, or at a
        compiled-in power of two. A branch is free on a CPU; a GPU waits for the host.
      cache_dtype: of keys and values: None for the model's, or "int8".
    """

    slots: int
    context: int
    answer: int
    share: int
    prompts: int
    prefill_tokens: int
    shortest_prefill: int
    prefill_rows: int
    block: int
    chunk: int
    is_dynamic: bool
    cache_dtype: str | None

    def __post_init__(self) -> None:
        for name in ("slots", "context", "answer", "share", "prompts", "chunk"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be > 0, got {getattr(self, name)}")
        if self.prompts * self.share < self.slots:
            raise ValueError(
                f"prompts={self.prompts} x share={self.share} seats are fewer than "
                f"slots={self.slots}: some would stay empty"
            )
        if self.prefill_tokens < 1 or self.prefill_tokens % self.shortest_prefill:
            raise ValueError(
                f"prefill_tokens must be a multiple of {self.shortest_prefill}, got "
                f"{self.prefill_tokens}"
            )
        if self.cache_dtype not in _CACHE_DTYPES:
            raise ValueError(
                f"cache_dtype must be int8 or left out, got {self.cache_dtype!r}"
            )

    def bucket(self, tokens: int) -> int:
        """The length of the call that stores the next of `tokens` missing tokens."""
        if tokens >= self.prefill_tokens:
            return self.prefill_tokens
        return min(_doubled(self.shortest_prefill, tokens), self.prefill_tokens)

    @property
    def prompt_block(self) -> int:
        """Tokens of a block of the prompt store."""
        return _doubled(self.block, -(-self.context // _MOST_BLOCKS))

    @property
    def answer_block(self) -> int:
        """Tokens of a block of the answer store."""
        return _doubled(self.block, -(-self.answer // _MOST_BLOCKS))

    def rows(self, bucket: int) -> int:
        """Prompts of a prefill call of that length; a function of it alone, so that a
        prompt's numbers do not depend on how many others came with it."""
        return max(1, min(self.prefill_rows, self.prefill_tokens // bucket))


def shapes(
    *,
    slots: int,
    context: int,
    answer: int | None = None,
    share: int = 1,
    prompts: int | None = None,
    prefill_tokens: int | None = None,
    chunk: int | None = None,
    cache_dtype: str | None = None,
) -> Shapes:
    """The shapes asked for, with what suits this platform for what is left out."""
    # A CPU is busy with a hundred tokens; an accelerator needs more to be, and a look
    # at what finished costs it a wait.
    is_cpu = jax.default_backend() == "cpu"
    if prompts is None:
        # Twice as many as full shares would take: the samples of a prompt do not end
        # together, and its row stays taken until the last has. (Simulated: with 1.5
        # times, four samples each and uneven lengths, 13 % of the slots stay empty,
        # with twice as many none.)
        prompts = slots if share <= 1 else min(slots, -(-2 * slots // share))
    has_seats = prompts * share >= slots
    slots, prompts = _even(slots), _even(prompts)
    if has_seats and prompts * share < slots:
        prompts = _even(-(-slots // share))  # seats for the slots that rounding added
    if prefill_tokens is None:
        prefill_tokens = 128 if is_cpu else 1024
    if chunk is None:
        chunk = 4 if is_cpu else 16
    return Shapes(
        slots=slots,
        context=context,
        answer=context if answer is None else answer,
        share=share,
        prompts=prompts,
        prefill_tokens=prefill_tokens,
        prefill_rows=2 if is_cpu else 32,
        shortest_prefill=32 if is_cpu else 128,
        block=64 if is_cpu else 128,
        chunk=chunk,
        is_dynamic=is_cpu,
        cache_dtype=cache_dtype,
    )


def empty_cache(config: DecoderConfig, shapes: Shapes) -> Cache:
    """Zeroed keys and values of a replica."""
    return decoder.empty_cache(
        config,
        prompts=shapes.prompts,
        prompt_tokens=shapes.context,
        prompt_block=shapes.prompt_block,
        answers=shapes.slots,
        answer_tokens=shapes.answer,
        answer_block=shapes.answer_block,
        dtype=shapes.cache_dtype,
    )


def estimate_bytes(
    config: DecoderConfig, shapes: Shapes, params: Params, *, devices: int = 1
) -> int:
    """Memory that a replica takes on each of its devices, before it is allocated.

    Weights, cache, the scores of all slots with what choosing makes of them, and the
    activations of the widest call. Scores are whole on each device, and so is the
    cache where its heads cannot be split.
    """
    weights = sum(leaf.nbytes for leaf in jax.tree.leaves(params)) // devices
    cache = cache_bytes(config, shapes)
    if config.kv_heads % devices == 0:
        cache //= devices
    per_slot = 7 * config.vocab + shapes.context + 2 * MAX_BIASES
    tokens = max(shapes.slots, shapes.prefill_tokens)
    block = max(shapes.prompt_block, shapes.answer_block)
    width = 4 * config.embed + 3 * config.mlp
    width += config.heads * (4 * config.head_dim + 2 * block)
    return weights + cache + 4 * (shapes.slots * per_slot + tokens * width // devices)


def cache_bytes(config: DecoderConfig, shapes: Shapes) -> int:
    """What `empty_cache` will take."""
    cache = jax.eval_shape(lambda: empty_cache(config, shapes))
    return sum(
        math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(cache)
    )


def check_memory(
    config: DecoderConfig,
    shapes: Shapes,
    params: Params,
    *,
    devices: int = 1,
    available: int | None = None,
) -> None:
    """Refuses shapes for which there is no memory, before anything is allocated.

    Args:
      devices: that share a replica (the tensor axis).
      available: bytes that each may take; default: what is free, if that is known.

    Raises:
      ValueError: says what is needed, what there is, and how many slots would fit.
    """
    if available is None:
        available = free_bytes()
    if available is None:
        return
    needed = estimate_bytes(config, shapes, params, devices=devices)
    if needed <= available:
        return
    fitting = 0
    for slots in (1, *(_EVEN << doublings for doublings in range(20))):
        if slots < shapes.slots:
            prompts = _even(-(-shapes.prompts * slots // shapes.slots))
            fewer = dataclasses.replace(shapes, slots=slots, prompts=prompts)
            if estimate_bytes(config, fewer, params, devices=devices) <= available:
                fitting = slots
    advice = (
        f"{fitting} slots would fit"
        if fitting
        else "not even one slot would fit: take a smaller model, context or dtype"
    )
    raise ValueError(
        f"{shapes.slots} slots of {shapes.context} tokens need "
        f"{needed / _GIB:.2f} GiB with the weights, {available / _GIB:.2f} GiB are "
        f"free; {advice}"
    )


def _even(rows: int) -> int:
    """1, or the next multiple of 8. Of the last few of another number a CPU computes
    each by itself and rounds otherwise (jax 0.12), so that answers would depend on
    their slots."""
    return rows if rows <= 1 else -(-rows // _EVEN) * _EVEN


def free_bytes() -> int | None:
    """Memory that may still be taken on the first device, if the system tells."""
    stats = jax.local_devices()[0].memory_stats()
    if stats and "bytes_limit" in stats:
        return stats["bytes_limit"] - stats.get("bytes_in_use", 0)
    if jax.default_backend() != "cpu":
        return None
    try:
        free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        meminfo = Path("/proc/meminfo").read_text()
        for line in meminfo.splitlines():
            if line.startswith("MemAvailable:"):
                free = int(line.split()[1]) * 1024
    except (OSError, ValueError):
        return None
    return min(free, _cgroup_bytes())


def _doubled(number: int, least: int) -> int:
    """number x 1, 2, 4, ...: the first that is at least `least`."""
    while number < least:
        number *= 2
    return number


def _cgroup_bytes() -> int:
    """What a container's limit leaves; very much where there is none."""
    try:
        limit = (_CGROUP / "memory.max").read_text().strip()
        used = int((_CGROUP / "memory.current").read_text())
    except (OSError, ValueError):
        return 1 << 62
    return 1 << 62 if limit == "max" else int(limit) - used
