# SPDX-License-Identifier: Apache-2.0
"""The compiled parts of sampling: prefill, insert into slots, decode a few steps.

A slot is one row of the decoding batch with its own cache. Every shape here is fixed by
(slots, context, chunk) or by a prefill bucket, so that a row's arithmetic never depends
on its neighbours.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from alignjax.models import decoder
from alignjax.models.attention import LayerCache, Visibility
from alignjax.models.decoder import Cache, Model, Params
from alignjax.sampling.choose import choose, uniforms


class Slots(NamedTuple):
    """Per slot: the token to feed next, how full its cache is, and its settings.

    `index` counts the tokens sampled so far; `seed` and `sample` name the stream of
    random numbers.
    """

    token: Int[Array, " slot"]
    length: Int[Array, " slot"]
    index: Int[Array, " slot"]
    seed: Int[Array, " slot"]
    sample: Int[Array, " slot"]
    temperature: Float[Array, " slot"]
    top_k: Int[Array, " slot"]
    top_p: Float[Array, " slot"]


class Chunk(NamedTuple):
    """What a few decoding steps produced."""

    tokens: Int[Array, "step slot"]
    logprobs: Float[Array, "step slot"]


@partial(jax.jit, static_argnames=("model",))
def prefill(params: Params, tokens: Int[Array, "row bucket"], *, model: Model) -> Cache:
    """Keys and values of padded prompts: a cache of the bucket's length."""
    row, bucket = tokens.shape
    zeros = jnp.zeros(row, jnp.int32)
    visibility = Visibility(
        group=jnp.ones_like(tokens), branch=jnp.zeros_like(tokens), lengths=zeros
    )
    positions = jnp.broadcast_to(jnp.arange(bucket), tokens.shape)
    empty = decoder.empty_cache(model.config, row, bucket)
    cache = model.apply(params, tokens, positions, visibility, empty).cache
    assert cache is not None
    return cache


@partial(jax.jit, donate_argnames=("cache",))
def insert(
    cache: Cache,
    prompts: Cache,
    slots: Int[Array, " slot"],
    rows: Int[Array, " slot"],
) -> Cache:
    """Copies row rows[i] of prefilled prompts into slot slots[i]; slots out of range
    are passed over."""

    def copy(mine: Array, theirs: Array) -> Array:
        bucket = theirs.shape[2]
        return mine.at[slots, :, :bucket].set(theirs[rows], mode="drop")

    return tuple(
        LayerCache(copy(mine.keys, theirs.keys), copy(mine.values, theirs.values))
        for mine, theirs in zip(cache, prompts, strict=True)
    )


@partial(jax.jit, static_argnames=("model", "steps"), donate_argnames=("cache",))
def decode(
    params: Params, cache: Cache, slots: Slots, *, model: Model, steps: int
) -> tuple[Cache, Slots, Chunk]:
    """Feeds each slot's token and samples the next, `steps` times."""
    head = model.output_head(params)
    count = slots.token.shape[0]
    group = jnp.ones((count, 1), jnp.int32)

    def step(i, carry):
        cache, slots, chunk = carry
        visibility = Visibility(
            group=group, branch=jnp.zeros_like(group), lengths=slots.length
        )
        output = model.apply(
            params, slots.token[:, None], slots.length[:, None], visibility, cache
        )
        scores = jnp.matmul(
            output.hidden[:, 0], head, preferred_element_type=jnp.float32
        )
        if model.softcap is not None:
            scores = model.softcap * jnp.tanh(scores / model.softcap)
        token, logprob = choose(
            scores,
            uniforms(slots.seed, slots.sample, slots.index),
            temperature=slots.temperature,
            top_k=slots.top_k,
            top_p=slots.top_p,
        )
        chunk = Chunk(chunk.tokens.at[i].set(token), chunk.logprobs.at[i].set(logprob))
        slots = slots._replace(
            token=token, length=slots.length + 1, index=slots.index + 1
        )
        return output.cache, slots, chunk

    chunk = Chunk(
        jnp.zeros((steps, count), jnp.int32), jnp.zeros((steps, count), jnp.float32)
    )
    return jax.lax.fori_loop(0, steps, step, (cache, slots, chunk))
