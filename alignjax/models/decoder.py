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

from alignjax.models import cache as caches
from alignjax.models.attention import Visibility, attend
from alignjax.models.cache import LayerCache, Prefill, Step, Store
from alignjax.models.rope import RopeScaling, cosine_sine, rotate

Params = dict[str, Any]
LINEAR = ("query", "key", "value", "out", "gate", "up", "down")  # maps of a block
Cache = tuple[LayerCache, ...]
Call = Prefill | Step


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

    With features first it takes [in, n], by a kernel that lies [out, in].
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

    def __call__(self, x: Array, *, features: int = -1) -> Array:
        kernel = self.kernel[...]
        out = x @ kernel if features else kernel @ x
        if self.scale:
            a, b = self.lora_a[...].astype(x.dtype), self.lora_b[...].astype(x.dtype)
            low = (x @ a) @ b if features else b.T @ (a.T @ x)
            out = out + self.scale * low
        return out


class RMSNorm(nnx.Module):
    """Root-mean-square norm (Zhang & Sennrich 2019), computed in float32."""

    def __init__(self, shape: tuple[int, ...], config: DecoderConfig):
        self.weight = nnx.Param(jnp.ones(shape, config.dtype))
        self.eps = config.norm_eps

    def __call__(self, x: Array, *, features: int = -1) -> Array:
        x32 = x.astype(jnp.promote_types(x.dtype, jnp.float32))
        mean_square = jnp.mean(x32 * x32, axis=features, keepdims=True)
        normed = x32 * jax.lax.rsqrt(mean_square + self.eps)
        weight = self.weight[...]
        return normed.astype(x.dtype) * (weight if features else weight[:, None])


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
    ) -> Float[Array, "row time embed"]:
        """The block over whole sequences: training and scoring."""
        c = self.config
        row, time, _ = x.shape
        h = self.attention_norm(x)
        query = self.query(h).reshape(row, time, c.heads, c.head_dim)
        key = self.key(h).reshape(row, time, c.kv_heads, c.head_dim)
        value = self.value(h).reshape(row, time, c.kv_heads, c.head_dim)
        query, key = rotate(query, *angles), rotate(key, *angles)
        mixed = attend(query, key, value, visibility)
        x = x + self.out(mixed.reshape(row, time, c.heads * c.head_dim))
        h = self.mlp_norm(x)
        return x + self.down(jax.nn.silu(self.gate(h)) * self.up(h))

    def extend(
        self,
        x: Float[Array, "embed tokens"],
        angles: tuple[Array, Array],
        call: Call,
        cache: LayerCache,
    ) -> tuple[Float[Array, "embed tokens"], LayerCache]:
        """The same over the next tokens of sequences that are cached."""
        c = self.config
        row, time = angles[0].shape[:2]

        def heads(linear: Linear) -> Float[Array, "row time heads head_dim"]:
            out = linear(h, features=0).reshape(-1, c.head_dim, row, time)
            return out.transpose(2, 3, 0, 1)

        h = self.attention_norm(x, features=0)
        query, key, value = heads(self.query), heads(self.key), heads(self.value)
        query, key = rotate(query, *angles), rotate(key, *angles)
        mixed, cache = caches.attend(query, key, value, call, cache)
        mixed = mixed.transpose(2, 3, 0, 1).reshape(-1, row * time)
        x = x + self.out(mixed, features=0)
        h = self.mlp_norm(x, features=0)
        gated = jax.nn.silu(self.gate(h, features=0)) * self.up(h, features=0)
        return x + self.down(gated, features=0), cache


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

    `apply(params, tokens, positions, visibility)` returns `Output`;
    `apply(prepare(params), tokens, positions, call, cache)` the same for the next
    tokens of cached sequences, where `call` is a `cache.Prefill` or `cache.Step`;
    `output_head(params)`, of either, the [embed, vocab] matrix whose product with a
    hidden state scores the next token. A hand-written or Linen model fits by giving
    the same; `apply` without a cache is enough to train and to score.
    """

    config: DecoderConfig
    apply: Callable[..., Output]
    output_head: Callable[[Params], Float[Array, "embed vocab"]]
    softcap: float | None = None
    prepare: Callable[[Params], Params] = dict


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
        visibility: Visibility | Call,
        cache: Cache | None = None,
    ) -> Output:
        angles = cosine_sine(
            positions, config.head_dim, config.rope_theta, config.rope_scaling
        )
        x = params["embedding"][tokens]
        norm = nnx.merge(norm_graph, params["norm"])
        if cache is not None:
            assert not isinstance(visibility, Visibility)
            return extend(params["blocks"], x, angles, visibility, cache, norm)
        assert isinstance(visibility, Visibility)

        def run(x, layer_params):
            return nnx.merge(graph, layer_params)(x, angles, visibility), None

        if config.remat:
            run = jax.checkpoint(run)
        x, _ = jax.lax.scan(run, x, params["blocks"])
        return Output(norm(x), None)

    def extend(blocks, x, angles, call: Call, cache: Cache, norm: RMSNorm) -> Output:
        # The layers are unrolled: a scan would copy each layer's weights and cache
        # out of the stack at every decoded token (measured: 273 against 329 tokens/s
        # at 64 rows of a 135M model on two cores). Features lie first: few tokens
        # times [in, out] kernels take 68 ms, [out, in] kernels times few tokens 55
        # (32 tokens through the same model).
        row, time = x.shape[:2]
        x = x.reshape(row * time, -1).T
        # Else XLA computes each cosine again in every head of every layer.
        angles = jax.lax.optimization_barrier(angles)
        written = []
        for layer_params, layer_cache in zip(blocks, cache, strict=True):
            block = nnx.merge(graph, layer_params)
            x, layer_cache = block.extend(x, angles, call, layer_cache)
            written.append(layer_cache)
        hidden = norm(x, features=0).T.reshape(row, time, -1)
        return Output(hidden, tuple(written))

    def output_head(params: Params) -> Float[Array, "embed vocab"]:
        return params["embedding" if config.is_tied else "head"].T

    return Model(config, apply, output_head, prepare=prepare)


def init(config: DecoderConfig, *, key: Array) -> Params:
    """Random parameters: normal with variance 1/fan_in, embeddings 0.02, norms 1."""
    _, state = nnx.split(Decoder(config, rngs=nnx.Rngs(params=key)))
    return nnx.to_pure_dict(state)


def abstract(config: DecoderConfig) -> Params:
    """Shapes and dtypes of the parameters, without making them."""
    return jax.eval_shape(lambda key: init(config, key=key), jax.random.key(0))


def prepare(params: Params) -> Params:
    """The form to decode with: one dict per layer, kernels transposed to [out, in]."""
    blocks = params["blocks"]
    depth = jax.tree.leaves(blocks)[0].shape[0]

    def layer(index: int) -> Params:
        return {
            name: {
                part: leaf[index].T if part == "kernel" else leaf[index]
                for part, leaf in module.items()
            }
            for name, module in blocks.items()
        }

    return {**params, "blocks": tuple(layer(index) for index in range(depth))}


def empty_cache(
    config: DecoderConfig,
    *,
    prompts: int,
    prompt_tokens: int,
    prompt_block: int,
    answers: int,
    answer_tokens: int,
    answer_block: int,
    dtype: str | None = None,
) -> Cache:
    """Zeroed stores for some prompts and answers of up to so many tokens.

    Args:
      prompt_block, answer_block: tokens of a block of the stores.
      dtype: of keys and values: the model's unless "int8".
    """

    def store(rows: int, tokens: int, block: int) -> Store:
        return caches.empty_store(
            rows=rows,
            tokens=tokens,
            kv_heads=config.kv_heads,
            head_dim=config.head_dim,
            block=block,
            dtype=dtype or config.dtype,
        )

    return tuple(
        LayerCache(
            store(prompts, prompt_tokens, prompt_block),
            store(answers, answer_tokens, answer_block),
        )
        for _ in range(config.layers)
    )
