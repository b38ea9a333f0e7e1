# SPDX-License-Identifier: Apache-2.0
"""Run by test_devices in a process that has eight virtual CPU devices.

Prints one JSON object: for each way to run all losses of the table, and each loss, how
far it is from the same loss under jit on one device, relative to the largest value.
"""

import functools
import json
import sys
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from alignjax.losses import LOSSES, Views, info_nce, kto_baseline
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
        "gathered": gathered(mesh, inputs, expected),
    }
    json.dump(report, sys.stdout)


def losses(inputs: dict[str, Inputs]) -> Losses:
    return {name: call(name, inputs[name]) for name in inputs}


def gathered(mesh: jax.sharding.Mesh, inputs: Any, expected: Losses) -> Any:
    """The coupled losses that can be told of the other devices."""
    kto = inputs["kto"]
    baseline = kto_baseline(kto["policy"], kto["reference"])
    with_baseline = {**kto, "baseline": jnp.tile(baseline, DEVICES)}
    mapped = functools.partial(jax.shard_map, mesh=mesh, out_specs=P("data"))
    kto_loss = mapped(
        lambda x: call("kto", {**x, "baseline": x["baseline"][0]}), in_specs=P("data")
    )(with_baseline)
    return {
        "kto, shard_map": distance(kto_loss, expected["kto"]),
        **gathered_info_nce(mapped),
    }


def gathered_info_nce(mapped: Callable[..., Any]) -> dict[str, float]:
    """Values and gradients, with padding and further negatives on every device."""
    rng = np.random.default_rng(1)
    views, negatives = (
        Views(*rng.normal(size=(2, batch, 5)).astype(np.float32))
        for batch in (BATCH, DEVICES)
    )
    mask = jnp.arange(BATCH) % 5 != 2
    weight = jnp.asarray(rng.normal(size=BATCH), jnp.float32)
    loss = functools.partial(info_nce, temperature=0.3)

    def gradient(axis_name: str | None) -> Callable[..., Any]:
        def total(views, negatives, mask, weight):
            value = loss(views, mask=mask, negatives=negatives, axis_name=axis_name)
            return (value * weight).sum(), value

        def function(views, negatives, mask, weight):
            slope, value = jax.grad(total, (0, 1), has_aux=True)(
                views, negatives, mask, weight
            )
            return slope, value

        return function

    arguments = (views, negatives, mask, weight)
    slope, value = jax.jit(gradient(None))(*arguments)
    split = jax.tree.map(lambda x: x.reshape(DEVICES, -1, *x.shape[1:]), arguments)
    found = {
        "shard_map": jax.jit(mapped(gradient("data"), in_specs=P("data")))(*arguments),
        "pmap": jax.pmap(gradient("data"), axis_name="data")(*split),
        "vmap": jax.jit(jax.vmap(gradient("data"), axis_name="data"))(*split),
    }
    report = {}
    for way, (own_slope, own_value) in found.items():
        report[f"info_nce, {way}"] = distance(own_value, value)
        pairs = zip(jax.tree.leaves(own_slope), jax.tree.leaves(slope), strict=True)
        report[f"gradient of info_nce, {way}"] = max(distance(*pair) for pair in pairs)
    return report


def distances(found: Losses, expected: Losses) -> dict[str, float]:
    return {name: distance(found[name], expected[name]) for name in expected}


def distance(found: jax.Array, expected: jax.Array) -> float:
    ours, theirs = np.asarray(found).reshape(-1), np.asarray(expected).reshape(-1)
    ours = ours.reshape(theirs.shape)
    return float(np.abs(ours - theirs).max() / np.abs(theirs).max())


if __name__ == "__main__":
    main()
