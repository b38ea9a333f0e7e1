# SPDX-License-Identifier: Apache-2.0
"""Llama-type decoder: one forward for training, scoring and sampling.

Shapes in this file: row (batch), time (tokens of a row), embed (model width), heads,
kv_heads, head_dim, layer, vocab. Layers are stacked on a leading axis and run under
`lax.scan`, so that compilation time does not grow with depth.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from alignjax.models.attention import LayerCache, Visibility, attend
from alignjax.models.rope import RopeScaling, cosine_sine, rotate

Params = dict[str, Any]
LINEAR = ("query", "key", "value", "out", "gate", "up", "down")  # maps of a block
Cache = tuple[LayerCache, ...]


@dataclasses.dataclass(frozen=True)
class DecoderConfig:
    """Shape of a Llama-type decoder; every number is read from `config.json`.

    `lora_rank` = 0 means no adapter; else the maps in `lora_modules` have one, and
    `lora_alpha / lora_rank` scales the adapter's
    output (Hu et al. 2021, arXiv:2106.09685). `remat` recomputes each layer's
    activations in the backward pass.
    """

    vocab: int
    embed: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    mlp: int
    rope_theta: float = 10_000.0
    rope_scaling: RopeScaling | None = None
    norm_eps: float = 1e-5
    is_tied: bool = True
    context: int = 2048
    dtype: str = "float32"
    lora_rank: int = 0
    lora_alpha: float = 32.0
    lora_modules: tuple[str, ...] = LINEAR
    remat: bool = False

    def __post_init__(self) -> None:
        if self.heads % self.kv_heads:
            raise ValueError(
                f"heads ({self.heads}) must be a multiple of kv_heads ({self.kv_heads})"
            )


class Output(NamedTuple):
    """Final hidden states, after the last norm, and the updated cache."""

    hidden: Float[Array, "row time embed"]
    cache: Cache | None


class Linear(nnx.Module):
    """x @ kernel, plus scale * (x @ a) @ b where an adapter is present.

    The low-rank product is kept apart from the kernel: with a frozen kernel the
    backward pass then never forms the [in, out] weight gradient.
    """

    def __init__(
        self,
        name: str,
        size_in: int,
        size_out: int,
        config: DecoderConfig,
        *,
        rngs: nnx.Rngs,
    ):
        shape = (config.layers, size_in, size_out)
        scale = size_in**-0.5
        self.kernel = nnx.Param(
            scale * jax.random.normal(rngs.params(), shape, config.dtype)
        )
        self.scale = 0.0
        if config.lora_rank and name in config.lora_modules:
            rank = config.lora_rank
            self.scale = config.lora_alpha / rank
            self.lora_a = nnx.Param(
                scale * jax.random.normal(rngs.params(), (config.layers, size_in, rank))
            )
            self.lora_b = nnx.Param(jnp.zeros((config.layers, rank, size_out)))

    def __call__(self, x: Float[Array, "*n inner"]) -> Float[Array, "*n outer"]:
        out = x @ self.kernel[...]
        if self.scale:
            a, b = self.lora_a[...].astype(x.dtype), self.lora_b[...].astype(x.dtype)
            out = out + self.scale * ((x @ a) @ b)
        return out


class RMSNorm(nnx.Module):
    """Root-mean-square norm (Zhang & Sennrich 2019), computed in float32."""

    def __init__(self, shape: tuple[int, ...], config: DecoderConfig):
        self.weight = nnx.Param(jnp.ones(shape, config.dtype))
        self.eps = config.norm_eps

    def __call__(self, x: Float[Array, "*n embed"]) -> Float[Array, "*n embed"]:
        x32 = x.astype(jnp.promote_types(x.dtype, jnp.float32))
        mean_square = jnp.mean(x32 * x32, axis=-1, keepdims=True)
        normed = x32 * jax.lax.rsqrt(mean_square + self.eps)
        return normed.astype(x.dtype) * self.weight[...]


class Block(nnx.Module):
    """Attention and gated MLP. Parameters carry the leading layer axis; `nnx.merge`
    on one slice of them gives the block that runs."""

    def __init__(self, config: DecoderConfig, *, rngs: nnx.Rngs):
        heads = config.heads * config.head_dim
        kv_heads = config.kv_heads * config.head_dim
        self.config = config
        self.attention_norm = RMSNorm((config.layers, config.embed), config)
        self.query = Linear("query", config.embed, heads, config, rngs=rngs)
        self.key = Linear("key", config.embed, kv_heads, config, rngs=rngs)
        self.value = Linear("value", config.embed, kv_heads, config, rngs=rngs)
        self.out = Linear("out", heads, config.embed, config, rngs=rngs)
        self.mlp_norm = RMSNorm((config.layers, config.embed), config)
        self.gate = Linear("gate", config.embed, config.mlp, config, rngs=rngs)
        self.up = Linear("up", config.embed, config.mlp, config, rngs=rngs)
        self.down = Linear("down", config.mlp, config.embed, config, rngs=rngs)

    def __call__(
        self,
        x: Float[Array, "row time embed"],
        angles: tuple[Array, Array],
        visibility: Visibility,
        cache: LayerCache | None = None,
    ) -> tuple[Float[Array, "row time embed"], LayerCache | None]:
        c = self.config
        row, time, _ = x.shape
        h = self.attention_norm(x)
        query = self.query(h).reshape(row, time, c.heads, c.head_dim)
        key = self.key(h).reshape(row, time, c.kv_heads, c.head_dim)
        value = self.value(h).reshape(row, time, c.kv_heads, c.head_dim)
        query, key = rotate(query, *angles), rotate(key, *angles)
        mixed, cache = attend(query, key, value, visibility, cache)
        x = x + self.out(mixed.reshape(row, time, c.heads * c.head_dim))
        h = self.mlp_norm(x)
        x = x + self.down(jax.nn.silu(self.gate(h)) * self.up(h))
        return x, cache


class Decoder(nnx.Module):
    """The parameters of the whole model. It runs through `apply`, below."""

    def __init__(self, config: DecoderConfig, *, rngs: nnx.Rngs):
        shape = (config.vocab, config.embed)
        self.embedding = nnx.Param(
            0.02 * jax.random.normal(rngs.params(), shape, config.dtype)
        )
        self.blocks = Block(config, rngs=rngs)
        self.norm = RMSNorm((config.embed,), config)
        if not config.is_tied:
            self.head = nnx.Param(
                0.02 * jax.random.normal(rngs.params(), shape, config.dtype)
            )


class Model(NamedTuple):
    """What objectives and the sampler take: functions of a nested dict of arrays.

    `apply(params, tokens, positions, visibility, cache=None)` returns `Output`;
    `output_head(params)` the [embed, vocab] matrix whose product with a hidden state
    scores the next token. A hand-written or Linen model fits by giving the same.
    """

    config: DecoderConfig
    apply: Callable[..., Output]
    output_head: Callable[[Params], Float[Array, "embed vocab"]]
    softcap: float | None = None


def build(config: DecoderConfig) -> Model:
    """The model of a config: modules are split once, here, into pure functions."""
    graph, _ = nnx.split(
        nnx.eval_shape(lambda: Decoder(config, rngs=nnx.Rngs(0)).blocks)
    )
    norm_graph, _ = nnx.split(nnx.eval_shape(lambda: RMSNorm((config.embed,), config)))

    def apply(
        params: Params,
        tokens: Int[Array, "row time"],
        positions: Int[Array, "row time"],
        visibility: Visibility,
        cache: Cache | None = None,
    ) -> Output:
        x = params["embedding"][tokens]
        angles = cosine_sine(
            positions, config.head_dim, config.rope_theta, config.rope_scaling
        )

        def run(x, layer_params, layer_cache):
            block = nnx.merge(graph, layer_params)
            return block(x, angles, visibility, layer_cache)

        if cache is None:
            if config.remat:
                run = jax.checkpoint(run)
            x, _ = jax.lax.scan(
                lambda x, layer: run(x, layer, None), x, params["blocks"]
            )
        else:
            # With a cache the layers are unrolled: a scan would copy each layer's
            # weights and cache out of the stack at every decoded token (measured:
            # 273 against 329 tokens/s at 64 rows of a 135M model on two cores).
            written = []
            for layer, layer_cache in zip(layers(params), cache, strict=True):
                x, layer_cache = run(x, layer, layer_cache)
                written.append(layer_cache)
            cache = tuple(written)
        return Output(nnx.merge(norm_graph, params["norm"])(x), cache)

    def output_head(params: Params) -> Float[Array, "embed vocab"]:
        return params["embedding" if config.is_tied else "head"].T

    return Model(config, apply, output_head)


def init(config: DecoderConfig, *, key: Array) -> Params:
    """Random parameters: normal with variance 1/fan_in, embeddings 0.02, norms 1."""
    _, state = nnx.split(Decoder(config, rngs=nnx.Rngs(params=key)))
    return nnx.to_pure_dict(state)


def abstract(config: DecoderConfig) -> Params:
    """Shapes and dtypes of the parameters, without making them."""
    return jax.eval_shape(lambda key: init(config, key=key), jax.random.key(0))


def layers(params: Params) -> tuple[Params, ...]:
    """One dict per layer; the stack is split unless `unstack` has done so already."""
    blocks = params["blocks"]
    if isinstance(blocks, tuple):
        return blocks
    depth = jax.tree.leaves(blocks)[0].shape[0]
    return tuple(jax.tree.map(lambda leaf, i=i: leaf[i], blocks) for i in range(depth))


def unstack(params: Params) -> Params:
    """The same parameters with one array per layer: the form to decode with."""
    return {**params, "blocks": layers(params)}


def empty_cache(config: DecoderConfig, rows: int, context: int) -> Cache:
    """Zeroed keys and values for `rows` sequences of up to `context` tokens."""
    shape = (rows, config.kv_heads, context, config.head_dim)
    return tuple(
        LayerCache(jnp.zeros(shape, config.dtype), jnp.zeros(shape, config.dtype))
        for _ in range(config.layers)
    )


def cache_bytes(config: DecoderConfig, rows: int, context: int) -> int:
    """Memory that `empty_cache` takes, in bytes."""
    itemsize = jnp.dtype(config.dtype).itemsize
    entries = rows * config.kv_heads * context * config.head_dim
    return 2 * config.layers * entries * itemsize
