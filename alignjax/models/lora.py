# SPDX-License-Identifier: Apache-2.0
"""Low-rank adapters (Hu et al. 2021, arXiv:2106.09685) as operations on parameters."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array

from alignjax.models.decoder import LINEAR, DecoderConfig, Params


def add(
    params: Params,
    config: DecoderConfig,
    *,
    rank: int,
    alpha: float,
    modules: Sequence[str] = LINEAR,
    key: Array,
) -> tuple[Params, DecoderConfig]:
    """Puts an adapter beside linear maps of every layer.

    `b` starts at zero, so the adapted model is the given one; `a` is normal with
    variance 1 / fan_in.

    Args:
      rank: width of the adapter; > 0.
      alpha: the adapter's output is scaled by alpha / rank; > 0.
      modules: which maps, by their names in a block.

    Returns:
      The parameters with adapters (float32), and the config that runs them.

    Raises:
      ValueError: rank or alpha out of range, or there is an adapter already.
    """
    if rank <= 0:
        raise ValueError(f"lora rank must be positive, got {rank}")
    if not alpha > 0:
        raise ValueError(f"lora alpha must be positive, got {alpha}")
    unknown = [name for name in modules if name not in LINEAR]
    if unknown or not modules:
        raise ValueError(
            f"lora modules: expected some of {', '.join(LINEAR)}; got "
            f"{', '.join(unknown) or 'none'}"
        )
    if config.lora_rank:
        raise ValueError(
            f"the model has an adapter of rank {config.lora_rank} already; fold it "
            "into the kernels first (lora.fold)"
        )
    blocks = dict(params["blocks"])
    for name, subkey in zip(LINEAR, jax.random.split(key, len(LINEAR)), strict=True):
        if name not in modules:
            continue
        kernel = blocks[name]["kernel"]
        depth, size_in, size_out = kernel.shape
        normal = jax.random.normal(subkey, (depth, size_in, rank), jnp.float32)
        blocks[name] = {
            "kernel": kernel,
            "lora_a": size_in**-0.5 * normal,
            "lora_b": jnp.zeros((depth, rank, size_out), jnp.float32),
        }
    adapted = dataclasses.replace(
        config, lora_rank=rank, lora_alpha=alpha, lora_modules=tuple(modules)
    )
    return {**params, "blocks": blocks}, adapted


def split(params: Params) -> tuple[Params, Params]:
    """(adapter, base): two trees that `join` puts together again."""
    adapter, base = {}, {**params, "blocks": dict(params["blocks"])}
    for name in LINEAR:
        entry = params["blocks"][name]
        if "lora_a" not in entry:
            continue
        adapter[name] = {k: v for k, v in entry.items() if k.startswith("lora_")}
        base["blocks"][name] = {"kernel": entry["kernel"]}
    return {"blocks": adapter}, base


def join(adapter: Params, base: Params) -> Params:
    """The inverse of `split`."""
    blocks = dict(base["blocks"])
    for name, entry in adapter["blocks"].items():
        blocks[name] = {**blocks[name], **entry}
    return {**base, "blocks": blocks}


def fold(adapter: Params, base: Params, *, scale: float) -> Params:
    """The base model with kernel + scale * a @ b in each adapted place.

    Args:
      scale: alpha / rank.

    Raises:
      ValueError: the adapter was made for a model of other sizes.
    """
    blocks = dict(base["blocks"])
    for name, entry in adapter["blocks"].items():
        kernel = blocks[name]["kernel"]
        changed = (*entry["lora_a"].shape[:2], entry["lora_b"].shape[2])
        if kernel.shape != changed:
            raise ValueError(
                f"the adapter of {name!r} changes kernels of shape {changed}, the "
                f"model's are {kernel.shape}; it belongs to another model"
            )
        delta = jnp.einsum("lir,lro->lio", entry["lora_a"], entry["lora_b"])
        blocks[name] = {"kernel": (kernel + scale * delta).astype(kernel.dtype)}
    return {**base, "blocks": blocks}
