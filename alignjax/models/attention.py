# SPDX-License-Identifier: Apache-2.0
"""Attention over rows that hold prompts with several responses.

Which token sees which is data, never a matrix: token i sees token j iff they share a
group, j <= i, and branch[j] is 0 (the prompt) or branch[i] (the same response).
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

_HIDDEN = -1e30  # a score that softmax turns into exactly 0 in float32


class Blocks(NamedTuple):
    """The same visibility as small causal problems: one per response.

    A block is a prompt followed by one of its responses. Attention runs inside
    blocks, so its cost grows with the sum of the blocks' squares, not the row's.

    Attributes:
      tokens: index into the row of each block entry; -1 pads a block on the right.
      home: for each row token, the flat index `block * length + offset` where its own
        output is computed (prompt tokens: in the first block of their group).
    """

    tokens: Int[Array, "row block length"]
    home: Int[Array, "row time"]


class Visibility(NamedTuple):
    """Who sees whom. Give `blocks` where responses share prompts in long rows."""

    group: Int[Array, "row time"]
    branch: Int[Array, "row time"]
    blocks: Blocks | None = None


def visible(
    group: Int[Array, "row time"], branch: Int[Array, "row time"]
) -> Bool[Array, "row time time"]:
    """The definition of visibility, written out: [row, query, key]."""
    time = group.shape[-1]
    same_group = group[:, :, None] == group[:, None, :]
    same_branch = branch[:, :, None] == branch[:, None, :]
    is_prompt = (branch == 0)[:, None, :]
    causal = jnp.arange(time)[:, None] >= jnp.arange(time)[None, :]
    return same_group & (same_branch | is_prompt) & causal


def attend(
    query: Float[Array, "row time heads head_dim"],
    key: Float[Array, "row time kv_heads head_dim"],
    value: Float[Array, "row time kv_heads head_dim"],
    visibility: Visibility,
) -> Float[Array, "row time heads head_dim"]:
    """Scaled dot-product attention under `visibility`; grouped key/value heads."""
    if visibility.blocks is not None:
        return _attend_blocks(query, key, value, visibility.blocks)
    mask = visible(visibility.group, visibility.branch)
    key, value = key.swapaxes(1, 2), value.swapaxes(1, 2)
    return _mix(query, key, value, mask)


def _attend_blocks(query, key, value, blocks: Blocks):
    """Gathers each block's tokens, attends causally inside it, and sends each token's
    output home."""
    row, block, length = blocks.tokens.shape
    inside = jnp.maximum(blocks.tokens, 0).reshape(row, block * length)

    def gather(x):
        taken = jnp.take_along_axis(x, inside[:, :, None, None], axis=1)
        return taken.reshape(row * block, length, *x.shape[2:])

    causal = jnp.tril(jnp.ones((length, length), bool))
    # A pad comes after every real token of its block, so causality hides it already.
    mixed = _mix(
        gather(query),
        gather(key).swapaxes(1, 2),
        gather(value).swapaxes(1, 2),
        causal[None],
    )
    mixed = mixed.reshape(row, block * length, *query.shape[2:])
    return jnp.take_along_axis(mixed, blocks.home[:, :, None, None], axis=1)


def _mix(
    query: Float[Array, "row time heads head_dim"],
    key: Float[Array, "row kv_heads source head_dim"],
    value: Float[Array, "row kv_heads source head_dim"],
    mask: Bool[Array, "#row time source"],
) -> Float[Array, "row time heads head_dim"]:
    """softmax(q k' / sqrt(head_dim)) v, the softmax in at least float32."""
    row, time, heads, head_dim = query.shape
    kv_heads = key.shape[1]
    shared = heads // kv_heads  # query heads that share a key/value head
    # Two plain batched products: XLA's CPU backend runs other contractions as loops.
    query = query.reshape(row, time, kv_heads, shared, head_dim)
    query = query.transpose(0, 2, 3, 1, 4).reshape(row, kv_heads, -1, head_dim)
    scores = (query @ key.swapaxes(2, 3)).reshape(row, kv_heads, shared, time, -1)
    scores = scores.astype(jnp.promote_types(scores.dtype, jnp.float32))
    scores = jnp.where(mask[:, None, None], scores * head_dim**-0.5, _HIDDEN)
    weights = jax.nn.softmax(scores, axis=-1).astype(value.dtype)
    mixed = weights.reshape(row, kv_heads, shared * time, -1) @ value
    mixed = mixed.reshape(row, kv_heads, shared, time, head_dim)
    return mixed.transpose(0, 3, 1, 2, 4).reshape(row, time, heads, head_dim)
