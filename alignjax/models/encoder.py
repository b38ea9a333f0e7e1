# SPDX-License-Identifier: Apache-2.0
"""BERT-type text encoder (Devlin et al. 2019) for sentence embeddings (MiniLM)."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Int


@dataclasses.dataclass(frozen=True)
class EncoderConfig:
    """Shape of a BERT-type encoder, as in its `config.json`."""

    vocab: int
    embed: int
    layers: int
    heads: int
    mlp: int
    context: int = 512
    token_types: int = 2
    norm_eps: float = 1e-12

    def __post_init__(self) -> None:
        if self.embed % self.heads:
            raise ValueError(
                f"embed ({self.embed}) must be a multiple of heads ({self.heads})"
            )


class Dense(nnx.Module):
    """x @ kernel + bias, stacked over layers."""

    def __init__(
        self, size_in: int, size_out: int, config: EncoderConfig, *, rngs: nnx.Rngs
    ):
        shape = (config.layers, size_in, size_out)
        self.kernel = nnx.Param(0.02 * jax.random.normal(rngs.params(), shape))
        self.bias = nnx.Param(jnp.zeros((config.layers, size_out)))

    def __call__(self, x: Float[Array, "*n inner"]) -> Float[Array, "*n outer"]:
        return x @ self.kernel[...] + self.bias[...]


class LayerNorm(nnx.Module):
    """Layer norm (Ba et al. 2016) with scale and bias."""

    def __init__(self, shape: tuple[int, ...], config: EncoderConfig):
        self.weight = nnx.Param(jnp.ones(shape))
        self.bias = nnx.Param(jnp.zeros(shape))
        self.eps = config.norm_eps

    def __call__(self, x: Float[Array, "*n embed"]) -> Float[Array, "*n embed"]:
        mean = x.mean(-1, keepdims=True)
        variance = jnp.square(x - mean).mean(-1, keepdims=True)
        normed = (x - mean) * jax.lax.rsqrt(variance + self.eps)
        return normed * self.weight[...] + self.bias[...]


class Block(nnx.Module):
    """Bidirectional attention and MLP, each followed by its norm (post-norm)."""

    def __init__(self, config: EncoderConfig, *, rngs: nnx.Rngs):
        c = config
        self.config = config
        self.query = Dense(c.embed, c.embed, c, rngs=rngs)
        self.key = Dense(c.embed, c.embed, c, rngs=rngs)
        self.value = Dense(c.embed, c.embed, c, rngs=rngs)
        self.out = Dense(c.embed, c.embed, c, rngs=rngs)
        self.attention_norm = LayerNorm((c.layers, c.embed), c)
        self.up = Dense(c.embed, c.mlp, c, rngs=rngs)
        self.down = Dense(c.mlp, c.embed, c, rngs=rngs)
        self.mlp_norm = LayerNorm((c.layers, c.embed), c)

    def __call__(
        self, x: Float[Array, "row time embed"], is_token: Bool[Array, "row time"]
    ) -> Float[Array, "row time embed"]:
        row, time, embed = x.shape
        heads = self.config.heads

        def split(y):
            return y.reshape(row, time, heads, embed // heads)

        query, key, value = map(split, (self.query(x), self.key(x), self.value(x)))
        scores = jnp.einsum("bthd,bshd->bhts", query, key) * (embed // heads) ** -0.5
        scores = jnp.where(is_token[:, None, None, :], scores, -1e30)
        mixed = jnp.einsum("bhts,bshd->bthd", jax.nn.softmax(scores, -1), value)
        x = self.attention_norm(x + self.out(mixed.reshape(row, time, embed)))
        hidden = jax.nn.gelu(self.up(x), approximate=False)
        return self.mlp_norm(x + self.down(hidden))


class Encoder(nnx.Module):
    """The encoder's parameters. It runs through `apply`, below."""

    def __init__(self, config: EncoderConfig, *, rngs: nnx.Rngs):
        def table(size: int) -> nnx.Param:
            shape = (size, config.embed)
            return nnx.Param(0.02 * jax.random.normal(rngs.params(), shape))

        self.words = table(config.vocab)
        self.positions = table(config.context)
        self.token_types = table(config.token_types)
        self.norm = LayerNorm((config.embed,), config)
        self.blocks = Block(config, rngs=rngs)


class EncoderModel(NamedTuple):
    """`apply(params, tokens, is_token)` gives hidden states [row, time, embed]."""

    config: EncoderConfig
    apply: Callable[..., Float[Array, "row time embed"]]


def build(config: EncoderConfig) -> EncoderModel:
    """The encoder of a config as a pure function of a nested dict of arrays."""
    shapes = nnx.eval_shape(lambda: Encoder(config, rngs=nnx.Rngs(0)))
    graph, norm_graph = nnx.split(shapes.blocks)[0], nnx.split(shapes.norm)[0]

    def apply(
        params: dict[str, Any],
        tokens: Int[Array, "row time"],
        is_token: Bool[Array, "row time"],
    ) -> Float[Array, "row time embed"]:
        time = tokens.shape[1]
        x = params["words"][tokens] + params["token_types"][0]
        x = nnx.merge(norm_graph, params["norm"])(x + params["positions"][:time])

        def step(x, layer):
            return nnx.merge(graph, layer)(x, is_token), None

        return jax.lax.scan(step, x, params["blocks"])[0]

    return EncoderModel(config, apply)


def init(config: EncoderConfig, *, key: Array) -> dict[str, Any]:
    """Random parameters (normal, 0.02)."""
    _, state = nnx.split(Encoder(config, rngs=nnx.Rngs(params=key)))
    return nnx.to_pure_dict(state)


def abstract(config: EncoderConfig) -> dict[str, Any]:
    """Shapes and dtypes of the parameters, without making them."""
    return jax.eval_shape(lambda key: init(config, key=key), jax.random.key(0))


def pool(
    hidden: Float[Array, "row time embed"], is_token: Bool[Array, "row time"]
) -> Float[Array, "row embed"]:
    """Mean over real tokens, scaled to length 1 (Reimers & Gurevych 2019)."""
    total = jnp.where(is_token[..., None], hidden, 0).sum(1)
    mean = total / jnp.maximum(is_token.sum(1, keepdims=True), 1)
    return mean / jnp.maximum(jnp.linalg.norm(mean, axis=-1, keepdims=True), 1e-12)
