# SPDX-License-Identifier: Apache-2.0
"""Run by test_sharding in a process that has eight virtual CPU devices.

Prints one JSON object: where parameters were placed, and how far a training step on
the mesh (data=2, fsdp=2, tensor=2) is from the same step on one device.
"""

import json
import sys
import tempfile
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh

import tiny_models
from alignjax import sharding
from alignjax.checkpoint import Checkpoints
from alignjax.data import rows
from alignjax.data.rows import Rows, Shape, Tokens
from alignjax.models import decoder, lora
from alignjax.models.decoder import Params
from alignjax.train import find
from alignjax.train.step import TrainState, make_train_step

# With an adapter beside every kernel.
CONFIG = tiny_models.decoder(is_tied=False, lora_rank=2, lora_alpha=4.0)
SHAPE = Shape(rows=8, time=32, blocks=6, block=10, scored=20)


def main() -> None:
    mesh = sharding.make_mesh(data=2, fsdp=-1, tensor=2)
    params = random_params()
    placed = sharding.shard(params, mesh)
    report = {
        "mesh": dict(mesh.shape),
        "placed": {
            jax.tree_util.keystr(path, simple=True, separator="/"): {
                "spec": list(leaf.sharding.spec),
                "local": leaf.sharding.shard_shape(leaf.shape),
            }
            for path, leaf in jax.tree_util.tree_leaves_with_path(placed)
        },
        "is_equal": all(
            np.array_equal(one, other)
            for one, other in zip(
                jax.tree.leaves(params), jax.tree.leaves(placed), strict=True
            )
        ),
        "uneven": {
            f"{vocab} x {embed}": list(
                sharding.shard({"head": jnp.zeros((vocab, embed))}, mesh)[
                    "head"
                ].sharding.spec
            )
            for vocab, embed in [(33, 16), (32, 17), (33, 17)]
        },
        "local": [dict(sharding.local_mesh(tensor=size).shape) for size in (1, 2, 8)],
        "odd_tensor": refusal(lambda: sharding.local_mesh(tensor=3)),
        "odd_rows": refusal(lambda: sharding.shard_batch(np.zeros((3, 6, 8)), mesh)),
        "step": compare(params, mesh),
        "restored": restores(placed),
    }
    json.dump(report, sys.stdout)


def compare(params: Params, mesh: Mesh) -> dict[str, float]:
    """Largest differences of metrics and parameters after one step, and the loss.

    The kernels are frozen where there is an adapter; embedding and head are trained
    with the adapters, so that every rule of the table has its part in a gradient.
    """
    adapter, frozen = lora.split(params)
    trainable = {
        **adapter,
        **{name: frozen.pop(name) for name in ("embedding", "head")},
    }

    def join(trainable: Params, frozen: Params) -> Params:
        ends = {name: trainable[name] for name in ("embedding", "head")}
        return {**lora.join(trainable, frozen), **ends}

    optimizer = optax.sgd(0.1)
    step = make_train_step(
        find("dpo", {"beta": 0.5, "label_smoothing": 0.1, "nll": 0.3}).function,
        optimizer,
        decoder.build(CONFIG),
        join=join,
    )
    batch = jax.tree.map(lambda x: x.reshape(2, 4, *x.shape[1:]), example_batch())

    def state(trainable: Params) -> TrainState:
        copied = jax.tree.map(jnp.array, trainable)
        return TrainState(jnp.zeros((), jnp.int32), copied, optimizer.init(copied))

    one, metrics = step(state(trainable), frozen, batch)
    many, mesh_metrics = step(
        state(sharding.shard(trainable, mesh)),
        sharding.shard(frozen, mesh),
        sharding.shard_batch(batch, mesh),
    )
    moved = jax.tree.map(lambda a, b: jnp.abs(a - b).max(), one.trainable, trainable)
    return {
        "loss": float(metrics["loss"]),
        "moved": max(map(float, jax.tree.leaves(moved))),
        "metrics_off": max(
            abs(float(value) - float(mesh_metrics[name]))
            for name, value in metrics.items()
        ),
        "params_off": max(
            float(np.abs(np.asarray(a) - np.asarray(b)).max())
            for a, b in zip(
                jax.tree.leaves(one.trainable),
                jax.tree.leaves(many.trainable),
                strict=True,
            )
        ),
        "kept_in_place": all(
            leaf.sharding.is_equivalent_to(wanted, leaf.ndim)
            for leaf, wanted in zip(
                jax.tree.leaves(many.trainable),
                jax.tree.leaves(sharding.shardings(trainable, mesh)),
                strict=True,
            )
        ),
    }


def refusal(call: Callable[[], object]) -> str:
    try:
        call()
    except ValueError as error:
        return str(error)
    return ""


def restores(placed: Params) -> bool:
    """Whether a checkpoint comes back with the same numbers in the same places."""
    with tempfile.TemporaryDirectory() as folder, Checkpoints(folder) as checkpoints:
        checkpoints.save(1, placed, about={})
        restored = checkpoints.restore(placed)
    assert restored is not None
    return all(
        np.array_equal(one, other)
        and one.sharding.is_equivalent_to(other.sharding, one.ndim)
        for one, other in zip(
            jax.tree.leaves(placed), jax.tree.leaves(restored[1]), strict=True
        )
    )


def example_batch() -> Rows:
    """Eight rows of one to two examples with one to two negatives; the reference's
    log-probabilities are made up."""
    rng = np.random.default_rng(1)

    def draw(count: int) -> tuple[int, ...]:
        return tuple(rng.integers(0, CONFIG.vocab, count).tolist())

    examples = [
        Tokens(str(i), draw(2 + i % 4), (draw(3), draw(2), draw(4))[: 2 + i % 2])
        for i in range(11)
    ]
    members = [[i, i + 8] if i < 3 else [i] for i in range(8)]
    batch = rows.build(members, examples, SHAPE)
    made_up = rng.normal(size=batch.reference.shape) - 3
    return batch._replace(
        reference=np.where(batch.scored >= 0, made_up, 0).astype(np.float32)
    )


def random_params() -> Params:
    rng = np.random.default_rng(0)
    return jax.tree.map(
        lambda leaf: jnp.asarray(rng.normal(size=leaf.shape) * 0.3, leaf.dtype),
        decoder.abstract(CONFIG),
    )


if __name__ == "__main__":
    main()
