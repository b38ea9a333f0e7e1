# SPDX-License-Identifier: Apache-2.0
"""The compiled parts of sampling: prefill prompts, copy them, decode a few steps.

A slot is one row of the decoding batch. The products of a step have the shape of all
slots and those of a prefill that of its bucket, whatever they hold, and attention adds
up block by block (see models/cache.py), so a row's numbers never depend on the others.

All here is of one replica, which has its own slots and prompts; several run the same
program, so their number changes no numbers either. A replica of several devices has
its weights split over them, which the compiler does (see sharding.DECODE_RULES).
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Float, Int

from alignjax.models import cache as caches
from alignjax.models.cache import Prefill, Step
from alignjax.models.decoder import Cache, Model, Params
from alignjax.sampling.choose import History, Options, choose, uniforms


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


@partial(jax.jit, static_argnames=("model",), donate_argnames=("cache",))
def prefill(
    params: Params,
    cache: Cache,
    tokens: Int[Array, "row bucket"],
    call: Prefill,
    *,
    model: Model,
) -> Cache:
    """Writes the keys and values of the next tokens of some prompts into the cache."""
    positions = call.start[:, None] + jnp.arange(tokens.shape[1])
    written = model.apply(params, tokens, positions, call, cache).cache
    assert written is not None
    return written


@partial(jax.jit, donate_argnames=("cache",))
def copy_prompt(cache: Cache, source: Int[Array, ""], target: Int[Array, ""]) -> Cache:
    """Copies a row of the prompt store into another."""
    return tuple(caches.copy_prompt(layer, source, target) for layer in cache)


@partial(jax.jit, donate_argnames=("history",))
def remember(
    history: Int[Array, "slot context"],
    slot: Int[Array, ""],
    tokens: Int[Array, " context"],
) -> Int[Array, "slot context"]:
    """Puts a prompt into a slot's history."""
    return history.at[slot].set(tokens)


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
      mesh: that the weights are split over.
    """
    count = slots.token.shape[0]
    rows = jnp.arange(count)

    def step(i, carry):
        cache, history, token, chunk = carry
        index = slots.index + i
        output = model.apply(
            params,
            token[:, None],
            (slots.prompt - 1 + index)[:, None],
            Step(index, slots.seat, slots.table, slots.stored, blocks),
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
        if mesh is not None:
            # Whole on each device: to choose from parts of a vocabulary they would
            # have to wait for each other time and again.
            whole = NamedSharding(mesh, PartitionSpec())
            scores = jax.lax.with_sharding_constraint(scores, whole)
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
