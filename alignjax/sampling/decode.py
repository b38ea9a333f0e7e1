# SPDX-License-Identifier: Apache-2.0
"""The compiled parts of sampling: prefill prompts, copy them, decode a few steps.

A slot is one row of the decoding batch. The products of a step have the shape of all
slots and those of a prefill that of its bucket, whatever they hold, and attention adds
up block by block (see models/cache.py), so a row's numbers never depend on the others.

On a mesh every data-parallel device is a replica with its own slots and prompts: the
same program with the same shapes, so their number changes no numbers either. Only the
tensor axis is the compiler's to split.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import Array, Float, Int

from alignjax.models import cache as caches
from alignjax.models.cache import Prefill, Step
from alignjax.models.decoder import Cache, Model, Params
from alignjax.sampling.choose import History, Options, choose, uniforms

REPLICAS = ("data", "fsdp")  # mesh axes over which there are replicas
_WHOLE = PartitionSpec()
_FIRST = PartitionSpec(REPLICAS)
_SECOND = PartitionSpec(None, REPLICAS)


class Slots(NamedTuple):
    """What the next step needs to know of each slot.

    Attributes:
      token: to feed next: the prompt's last at first, then what was sampled.
      index: tokens sampled so far.
      prompt: tokens of the prompt.
      seed, sample: name the stream of random numbers.
      seat, table, stored: who reads which prompt, as in `cache.Step`.
      options: how to choose.
    """

    token: Int[Array, " slot"]
    index: Int[Array, " slot"]
    prompt: Int[Array, " slot"]
    seed: Int[Array, " slot"]
    sample: Int[Array, " slot"]
    seat: Int[Array, " slot"]
    table: Int[Array, "prompt seat"]
    stored: Int[Array, " prompt"]
    options: Options


class Chunk(NamedTuple):
    """What a few decoding steps produced."""

    tokens: Int[Array, "step slot"]
    logprobs: Float[Array, "step slot"]


@partial(jax.jit, static_argnames=("model", "mesh"), donate_argnames=("cache",))
def prefill(
    params: Params,
    cache: Cache,
    tokens: Int[Array, "row bucket"],
    call: Prefill,
    *,
    model: Model,
    mesh: Mesh | None = None,
) -> Cache:
    """Writes the keys and values of the next tokens of some prompts into the cache."""

    def replica(params, cache, tokens, call):
        longest = _largest(call.start, mesh) + tokens.shape[1]
        block = cache[0].prompts[0].keys.shape[-1]
        call = call._replace(blocks=-(-longest // block))
        positions = call.start[:, None] + jnp.arange(tokens.shape[1])
        return model.apply(params, tokens, positions, call, cache).cache

    specs = (_WHOLE, _FIRST, _FIRST, _FIRST)
    return _each(replica, mesh, specs, _FIRST)(params, cache, tokens, call)


@partial(jax.jit, static_argnames=("mesh",), donate_argnames=("cache",))
def copy_prompt(
    cache: Cache,
    source: Int[Array, " replica"],
    target: Int[Array, " replica"],
    *,
    mesh: Mesh | None = None,
) -> Cache:
    """Copies a row of each replica's prompt store into another; a target out of range
    is passed over."""

    def replica(cache, source, target):
        return tuple(caches.copy_prompt(layer, source[0], target[0]) for layer in cache)

    specs = (_FIRST, _FIRST, _FIRST)
    return _each(replica, mesh, specs, _FIRST)(cache, source, target)


@partial(jax.jit, static_argnames=("mesh",), donate_argnames=("history",))
def remember(
    history: Int[Array, "slot context"],
    slot: Int[Array, " replica"],
    tokens: Int[Array, " context"],
    *,
    mesh: Mesh | None = None,
) -> Int[Array, "slot context"]:
    """Puts a prompt into the history of a slot of each replica; a slot out of range is
    passed over."""

    def replica(history, slot, tokens):
        return history.at[slot[0]].set(tokens, mode="drop")

    specs = (_FIRST, _FIRST, _WHOLE)
    return _each(replica, mesh, specs, _FIRST)(history, slot, tokens)


@partial(
    jax.jit,
    static_argnames=("model", "steps", "blocks", "mesh"),
    donate_argnames=("cache", "history"),
)
def decode(
    params: Params,
    cache: Cache,
    history: Int[Array, "slot context"],
    slots: Slots,
    *,
    model: Model,
    steps: int,
    blocks: tuple[int, int] | None = None,
    mesh: Mesh | None = None,
) -> tuple[Cache, Int[Array, "slot context"], Chunk]:
    """Feeds each slot's token and samples the next, `steps` times.

    Args:
      history: the tokens of prompt and answer, for the slots whose options need them.
      blocks: as in `cache.Step`.
    """
    replica = partial(_steps, model=model, steps=steps, blocks=blocks, mesh=mesh)
    specs = (_WHOLE, _FIRST, _FIRST, _FIRST)
    out = (_FIRST, _FIRST, _SECOND)
    return _each(replica, mesh, specs, out)(params, cache, history, slots)


def _steps(params, cache, history, slots: Slots, *, model: Model, steps, blocks, mesh):
    count = slots.token.shape[0]
    rows = jnp.arange(count)
    sizes = [store[0].keys.shape[-1] for store in cache[0]]  # of a block
    longest = _largest(slots.stored, mesh), _largest(slots.index, mesh)

    def step(i, carry):
        cache, history, token, chunk = carry
        index = slots.index + i
        needed = -(-longest[0] // sizes[0]), -(-(longest[1] + i + 1) // sizes[1])
        output = model.apply(
            params,
            token[:, None],
            (slots.prompt - 1 + index)[:, None],
            Step(index, slots.seat, slots.table, slots.stored, blocks or needed),
            cache,
        )
        # As [vocab, slot]: a quarter faster on a CPU than [slot, vocab]. The head is
        # taken here, since a transposition outside the loop would be carried out.
        scores = jnp.matmul(
            model.output_head(params).T,
            output.hidden[:, 0].T,
            preferred_element_type=jnp.float32,
        )
        if model.softcap is not None:
            scores = model.softcap * jnp.tanh(scores / model.softcap)
        if mesh is not None and mesh.shape["tensor"] > 1:
            # Whole on every device of the tensor axis, so that no branch of `choose`,
            # which other replicas may not take, waits for another device.
            scores = jax.lax.with_sharding_constraint(scores, _WHOLE)
        token, logprob = choose(
            scores,
            uniforms(slots.seed, slots.sample, index),
            slots.options,
            History(history, slots.prompt, slots.prompt + index),
        )
        history = history.at[rows, slots.prompt + index].set(token, mode="drop")
        chunk = Chunk(chunk.tokens.at[i].set(token), chunk.logprobs.at[i].set(logprob))
        return output.cache, history, token, chunk

    chunk = Chunk(
        jnp.zeros((steps, count), jnp.int32), jnp.zeros((steps, count), jnp.float32)
    )
    cache, history, _, chunk = jax.lax.fori_loop(
        0, steps, step, (cache, history, slots.token, chunk)
    )
    return cache, history, chunk


def _largest(tokens: Int[Array, " n"], mesh: Mesh | None) -> Int[Array, ""]:
    """The largest number; with a tensor axis, that of all replicas: the compiler may
    let all devices meet in a turn of a loop, so all must take as many turns."""
    largest = jnp.max(tokens)
    if mesh is None or mesh.shape["tensor"] == 1:
        return largest
    return jax.lax.pmax(largest, REPLICAS)


def _each(
    replica: Callable[..., Any], mesh: Mesh | None, specs: Any, out: Any
) -> Callable[..., Any]:
    """The function run by every replica on its part of the arrays."""
    if mesh is None:
        return replica
    return jax.shard_map(
        replica,
        mesh=mesh,
        in_specs=specs,
        out_specs=out,
        axis_names=set(REPLICAS),
        check_vma=False,
    )
