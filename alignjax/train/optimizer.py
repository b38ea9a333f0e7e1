# SPDX-License-Identifier: Apache-2.0
"""The optimizer: AdamW, its learning rate, and where its state lies."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from alignjax.models import Params
from alignjax.train.config import OptimizerConfig
from alignjax.train.step import TrainState


def schedule(config: OptimizerConfig, total: int) -> optax.Schedule:
    """Learning rate by step, from 0: linear warm-up to the peak, then linear decay that
    would reach zero one step after the last of `total`."""
    peak = config.learning_rate
    warmup = max(1, round(config.warmup * total))
    return optax.join_schedules(
        [
            optax.linear_schedule(peak / warmup, peak, warmup - 1),
            optax.linear_schedule(peak, 0.0, max(1, total - warmup + 1)),
        ],
        [warmup - 1],
    )


def adamw(config: OptimizerConfig, total: int) -> optax.GradientTransformation:
    """AdamW (Loshchilov & Hutter 2019, arXiv:1711.05101) on clipped gradients."""
    return optax.chain(
        optax.clip_by_global_norm(config.clip),
        optax.adamw(
            schedule(config, total),
            b1=config.b1,
            b2=config.b2,
            weight_decay=config.weight_decay,
        ),
    )


def initial(
    optimizer: optax.GradientTransformation,
    trainable: Params,
    mesh: Mesh,
    *,
    has_reference: bool = False,
) -> TrainState:
    """The state before step 1, with a copy as the moving reference if asked. The
    optimizer's moments lie where their parameters lie, all else everywhere, so that a
    restored state lies the same."""
    everywhere = NamedSharding(mesh, PartitionSpec())
    layout = optax.tree_utils.tree_map_params(
        optimizer,
        lambda _, leaf: leaf.sharding,
        jax.eval_shape(optimizer.init, trainable),
        trainable,
        transform_non_params=lambda _: everywhere,
    )
    return TrainState(
        jax.device_put(jnp.zeros((), jnp.int32), everywhere),
        trainable,
        jax.jit(optimizer.init, out_shardings=layout)(trainable),
        jax.tree.map(jnp.copy, trainable) if has_reference else None,
    )
