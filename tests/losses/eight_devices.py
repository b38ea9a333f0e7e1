# SPDX-License-Identifier: Apache-2.0
"""Run by test_devices in a process that has eight virtual CPU devices.

Prints one JSON object: for each way to run all losses of the table, and each loss, how
far it is from the same loss under jit on one device, relative to the largest value.
"""

import functools
import json
import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from alignjax.losses import (
    LOSSES,
    Pair,
    Views,
    aot,
    aot_unpaired,
    info_nce,
    kto,
    kto_baseline,
)
from loss_examples import Inputs, call, drawn

DEVICES, BATCH = 8, 16
Losses = dict[str, jax.Array]


def main() -> None:
    assert jax.device_count() == DEVICES
    mesh = jax.make_mesh((DEVICES,), ("data",), axis_types=(AxisType.Auto,))
    inputs = {name: drawn(name, batch=BATCH) for name in LOSSES}
    expected = jax.jit(losses)(inputs)
    by_device = jax.tree.map(
        lambda x: x.reshape(DEVICES, -1, *x.shape[1:]), (inputs, expected)
    )
    sharding = NamedSharding(mesh, P("data"))
    sharded = jax.jit(losses, out_shardings=sharding)(jax.device_put(inputs, sharding))
    assert all(not loss.is_fully_replicated for loss in sharded.values())
    mapped = jax.shard_map(losses, mesh=mesh, in_specs=P("data"), out_specs=P("data"))
    report = {
        "vmap": distances(jax.jit(jax.vmap(losses))(by_device[0]), by_device[1]),
        "pmap": distances(jax.pmap(losses)(by_device[0]), by_device[1]),
        "shard_map": distances(jax.jit(mapped)(inputs), expected),
        "sharded": distances(sharded, expected),
        "gathered": gathered(mesh, None),
        # On most devices, on some none, and of the last nothing is left.
        "gathered, padded": gathered(
            mesh, (jnp.arange(BATCH) % 5 != 2) & (jnp.arange(BATCH) < BATCH - 2)
        ),
    }
    json.dump(report, sys.stdout)


def losses(inputs: dict[str, Inputs]) -> Losses:
    return {name: call(name, inputs[name]) for name in inputs}


def gathered(mesh: jax.sharding.Mesh, mask: jax.Array | None) -> dict[str, Any]:
    """Values and gradients of the coupled losses that are told of the other devices."""
    rng = np.random.default_rng(1)

    def draw(*shape: int) -> jax.Array:
        return jnp.asarray(rng.normal(size=shape), jnp.float32)

    inputs = {
        "aot": (Pair(*draw(2, BATCH)), Pair(*draw(2, BATCH))),
        "aot_unpaired": (Pair(*draw(2, BATCH)), Pair(*draw(2, BATCH))),
        "info_nce": (Views(*draw(2, BATCH, 5)), Views(*draw(2, DEVICES, 5))),
        "kto": (draw(BATCH) + 1, draw(BATCH)),
    }
    weights = {name: draw(BATCH) for name in inputs}
    arguments = (inputs, weights, mask)
    told = functools.partial(gradients, axis_name="data")
    mapped = jax.shard_map(told, mesh=mesh, in_specs=P("data"), out_specs=P("data"))
    split = jax.tree.map(lambda x: x.reshape(DEVICES, -1, *x.shape[1:]), arguments)
    expected = jax.jit(gradients)(*arguments)
    found = {
        "shard_map": jax.jit(mapped)(*arguments),
        "pmap": jax.pmap(told, axis_name="data")(*split),
        "vmap": jax.jit(jax.vmap(told, axis_name="data"))(*split),
    }
    return {
        way: {
            name: max(
                map(distance, *map(jax.tree.leaves, (result[name], expected[name])))
            )
            for name in expected
        }
        for way, result in found.items()
    }


def gradients(
    inputs: Inputs,
    weights: Losses,
    mask: jax.Array | None,
    *,
    axis_name: str | None = None,
) -> dict[str, Any]:
    """Each loss, and the gradient of its weighted sum by its own inputs."""

    def total(inputs: Inputs) -> tuple[jax.Array, Losses]:
        found = coupled(inputs, {"mask": mask, "axis_name": axis_name})
        weighted = [(found[name] * weights[name]).sum() for name in found]
        return jnp.stack(weighted).sum(), found

    slopes, found = jax.grad(total, has_aux=True)(inputs)
    return {name: (found[name], slopes[name]) for name in found}


def coupled(inputs: Inputs, told: dict[str, Any]) -> Losses:
    views, memory = inputs["info_nce"]
    is_filled = memory.original[:, 0] > 0
    policy, reference = inputs["kto"]
    baseline = kto_baseline(policy, reference, **told)
    return {
        "aot": aot(*inputs["aot"], beta=0.5, label_smoothing=0.1, **told),
        "aot_unpaired": aot_unpaired(*inputs["aot_unpaired"], beta=0.5, **told),
        "info_nce": info_nce(
            views, temperature=0.3, negatives=memory, negatives_mask=is_filled, **told
        ),
        "kto": kto(policy, reference, reference > 0, baseline, beta=0.5),
    }


def distances(found: Losses, expected: Losses) -> dict[str, float]:
    return {name: distance(found[name], expected[name]) for name in expected}


def distance(found: jax.Array, expected: jax.Array) -> float:
    ours, theirs = np.asarray(found).reshape(-1), np.asarray(expected).reshape(-1)
    ours = ours.reshape(theirs.shape)
    return float(np.abs(ours - theirs).max() / np.abs(theirs).max())


if __name__ == "__main__":
    main()
