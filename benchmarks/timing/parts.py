# SPDX-License-Identifier: Apache-2.0
"""The parts of one decoding step, each timed alone at the step's shapes.

Alone each part finds its inputs ready and nothing else in the processor's cache, so the
parts do not add up to the step exactly. What is left over is the "rest": norms,
rotations and sums of the layers. The "host" is what a step of the sampler takes beside
the device's: waiting, reading its tokens, finishing answers, seating others.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from alignjax.models import cache as caches
from alignjax.models.cache import Step
from alignjax.sampling import Request
from alignjax.sampling.choose import History, choose, uniforms
from alignjax.sampling.decode import Slots, decode
from alignjax.sampling.shapes import Shapes, empty_cache
from alignjax.sampling.state import State
from timing import subject
from timing.subject import Subject

_STEPS = 8  # in one call, as in a chunk of the sampler
_CALLS = 5
_NOTHING = 1e-30  # times the carry: makes an input depend on it, and changes nothing


class Part(NamedTuple):
    """`bytes` that it reads at least."""

    name: str
    ms: float
    bytes: int


class Products:
    """The matrix products of one step alone: no decoder that computes them so can be
    faster. Compiled once, its weights are prepared at each call and not kept."""

    def __init__(self, it: Subject, rows: int):
        config = it.model.config
        self._it = it
        self._shape = (config.embed, rows)

        @jax.jit
        def scores(params: Any, x: jax.Array) -> jax.Array:
            return _scores(it, params, _products(params["blocks"], x))

        self._scores = scores

    def tokens_per_s(self) -> float:
        """Of a step that took as long as the best of a few."""
        it, rows = self._it, self._shape[1]
        params = it.model.prepare(it.params)
        x = jax.random.normal(jax.random.key(0), self._shape, it.model.config.dtype)
        seconds = []
        for _ in range(1 + 3 * _CALLS):
            began = time.perf_counter()
            jax.block_until_ready(self._scores(params, x))
            seconds.append(time.perf_counter() - began)
        return rows / min(seconds[1:])


class Profile(NamedTuple):
    """Milliseconds of one step: of its parts and all of it, on the device; and all of
    it in a run of the sampler."""

    parts: tuple[Part, ...]
    device_ms: float
    run_ms: float

    @property
    def rest_ms(self) -> float:
        return self.device_ms - sum(part.ms for part in self.parts)

    @property
    def host_ms(self) -> float:
        return self.run_ms - self.device_ms


def profile(
    it: Subject, shapes: Shapes, *, prompt: int, answer: int, run_ms: float
) -> Profile:
    """A step at which every slot holds `answer` tokens, to prompts of `prompt`."""
    params = it.model.prepare(it.params)
    config = it.model.config
    state = State(shapes, replicas=1, vocab=config.vocab)
    request = Request("", (0,) * prompt, n=shapes.share)
    for slot in range(shapes.slots):
        row, seat = divmod(slot, shapes.share)
        state.put(slot, request, seat, replica=0, row=row, seat=seat)
    state.index[:] = answer
    slots = state.slots(jnp.array)
    blocks = None if shapes.is_dynamic else state.blocks()

    x = jax.random.normal(jax.random.key(0), (config.embed, shapes.slots), config.dtype)
    scores = _scores(it, params, x)
    products_ms = _ms(_products, params["blocks"], jnp.copy(x))
    choose_ms = _ms(_choose, (scores, slots), jnp.copy(slots.token))
    head_ms = _ms(partial(_head, it), (params, x), jnp.copy(scores))
    both_ms = _attention_ms(it, shapes, slots, blocks)
    alone = slots._replace(stored=jnp.zeros_like(slots.stored))
    own_ms = _attention_ms(it, shapes, alone, blocks and (0, blocks[1]))

    token = subject.cache_bytes(config, shapes.cache_dtype)
    head = it.model.output_head(params)
    rows = -(-shapes.slots // shapes.share)
    parts = (
        Part("products of the layers", products_ms, _kernel_bytes(params)),
        Part("attention to answers", own_ms, token * shapes.slots * answer),
        Part("attention to prompts", both_ms - own_ms, token * rows * prompt),
        Part("head", head_ms, head.nbytes),
        Part("choose", choose_ms, scores.nbytes),
    )
    return Profile(parts, _device_ms(it, params, shapes, slots, blocks), run_ms)


def table(found: Profile, bandwidth: float) -> str:
    """For a person: time and share of each part, and how near to the bandwidth."""
    lines = [f"{'part':<24}{'ms':>9}{'of step':>9}{'MB':>10}{'of bandwidth':>14}"]
    total = sum(part.bytes for part in found.parts)
    rows = [
        *found.parts,
        Part("rest", found.rest_ms, 0),
        Part("step on the device", found.device_ms, total),
        Part("host", found.host_ms, 0),
        Part("step in the run", found.run_ms, total),
    ]
    for part in rows:
        line = f"{part.name:<24}{part.ms:>9.3f}{part.ms / found.run_ms:>9.1%}"
        if part.bytes and part.ms > 0:
            reached = part.bytes / bandwidth / (part.ms / 1000)
            line += f"{part.bytes / 1e6:>10.1f}{reached:>14.1%}"
        lines.append(line)
    return "\n".join(lines)


def _products(blocks: Sequence[Any], x: jax.Array) -> jax.Array:
    """All maps of all layers, and as little as possible between them."""

    def product(layer: Any, name: str, x: jax.Array) -> jax.Array:
        return layer[name]["kernel"] @ x

    for layer in blocks:
        key, value = product(layer, "key", x), product(layer, "value", x)
        # Used, so that they are computed.
        x = x + product(layer, "out", product(layer, "query", x)) + (key * value).sum(0)
        x = x * jax.lax.rsqrt(1 + jnp.square(x).mean(axis=0))
        x = product(layer, "down", product(layer, "gate", x) * product(layer, "up", x))
    return x


def _scores(it: Subject, params: Any, x: jax.Array) -> jax.Array:
    head = it.model.output_head(params)
    return jnp.matmul(head.T, x, preferred_element_type=jnp.float32)


def _head(it: Subject, fixed: tuple[Any, jax.Array], scores: jax.Array) -> jax.Array:
    params, x = fixed
    nothing = _NOTHING * scores[: len(x)]
    return _scores(it, params, x + nothing.astype(x.dtype))


def _choose(fixed: tuple[jax.Array, Slots], token: jax.Array) -> jax.Array:
    """The token that was chosen before makes the next uniform number."""
    scores, slots = fixed
    scores = scores + _NOTHING * token
    history = History(
        jnp.zeros((len(token), 1), jnp.int32), slots.prompt, slots.prompt + slots.index
    )
    drawn = uniforms(slots.seed, slots.sample, token)
    return choose(scores, drawn, slots.options, history)[0]


def _attention_ms(
    it: Subject, shapes: Shapes, slots: Slots, blocks: tuple[int, int] | None
) -> float:
    """All layers' attention, the writing of the new token included."""
    config = it.model.config
    cache = empty_cache(config, shapes)
    key = jax.random.key(0)
    shape = (shapes.slots, 1, config.heads, config.head_dim)
    query = jax.random.normal(key, shape, config.dtype)
    kv_shape = (shapes.slots, 1, config.kv_heads, config.head_dim)
    new = jax.random.normal(key, kv_shape, config.dtype)

    def attend(fixed: Any, carry: Any) -> Any:
        (slots, new), (query, cache) = fixed, carry
        step = Step(slots.index, slots.seat, slots.table, slots.stored, blocks)
        written = []
        for layer in cache:
            query, layer = caches.attend(query, new, new, step, layer)
            written.append(layer)
        return query, tuple(written)

    return _ms(attend, (slots, new), (query, cache))


def _device_ms(
    it: Subject,
    params: Any,
    shapes: Shapes,
    slots: Slots,
    blocks: tuple[int, int] | None,
) -> float:
    """The whole step, as the sampler calls it."""
    cache = empty_cache(it.model.config, shapes)
    history = jnp.zeros((shapes.slots, shapes.context), jnp.int32)
    call = partial(decode, model=it.model, steps=shapes.chunk, blocks=blocks)
    cache, history, _ = jax.block_until_ready(call(params, cache, history, slots))
    seconds = []
    for _ in range(_CALLS):
        began = time.perf_counter()
        cache, history, _ = jax.block_until_ready(call(params, cache, history, slots))
        seconds.append(time.perf_counter() - began)
    return 1000 * float(np.median(seconds)) / shapes.chunk


def _ms(function: Callable[[Any, Any], Any], fixed: Any, carry: Any) -> float:
    """Milliseconds of carry = function(fixed, carry), repeated inside one call, which
    takes the carry's memory for its own. What does not depend on the carry, XLA would
    compute once for all, so all that costs must."""

    @partial(jax.jit, donate_argnums=1)
    def many(fixed: Any, carry: Any) -> Any:
        return jax.lax.fori_loop(0, _STEPS, lambda _, x: function(fixed, x), carry)

    carry = jax.block_until_ready(many(fixed, carry))
    seconds = []
    for _ in range(_CALLS):
        began = time.perf_counter()
        carry = jax.block_until_ready(many(fixed, carry))
        seconds.append(time.perf_counter() - began)
    return 1000 * float(np.median(seconds)) / _STEPS


def _kernel_bytes(params: Any) -> int:
    return sum(
        leaf.size * jnp.dtype(leaf.dtype).itemsize
        for layer in params["blocks"]
        for module in layer.values()
        for name, leaf in module.items()
        if name == "kernel"
    )
