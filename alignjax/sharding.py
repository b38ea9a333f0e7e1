# SPDX-License-Identifier: Apache-2.0
"""Sharding: one mesh (data, fsdp, tensor) and one table from parameter path to layout.

Rows of a batch are split over data and fsdp; parameters over fsdp and tensor.
"""

from __future__ import annotations

import re
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

AXES = ("data", "fsdp", "tensor")

Rules = tuple[tuple[str, PartitionSpec], ...]

# The first pattern that matches a parameter's path decides. Kernels are
# [layer, in, out]: columns go to tensor where heads or units are made, rows where they
# are summed up again.
RULES: Rules = (
    (r"(^|/)(embedding|head)$", PartitionSpec("tensor", "fsdp")),
    (
        r"blocks/(query|key|value|gate|up)/kernel$",
        PartitionSpec(None, "fsdp", "tensor"),
    ),
    (r"blocks/(out|down)/kernel$", PartitionSpec(None, "tensor", "fsdp")),
    (
        r"blocks/(query|key|value|gate|up)/lora_b$",
        PartitionSpec(None, None, "tensor"),
    ),
    (r"blocks/(out|down)/lora_a$", PartitionSpec(None, "tensor", None)),
    (r"blocks/\w+/lora_[ab]$", PartitionSpec()),
    (r"norm/weight$", PartitionSpec()),
)

# To decode, each replica has all weights at hand, and kernels are [out, in].
DECODE_RULES: Rules = (
    (r"(^|/)(embedding|head)$", PartitionSpec("tensor")),
    (r"/(query|key|value|gate|up)/kernel$", PartitionSpec("tensor")),
    (r"/(out|down)/kernel$", PartitionSpec(None, "tensor")),
    (r"/(query|key|value|gate|up)/lora_b$", PartitionSpec(None, "tensor")),
    (r"/(out|down)/lora_a$", PartitionSpec("tensor")),
    (r"/lora_[ab]$", PartitionSpec()),
    (r"norm/weight$", PartitionSpec()),
)


def make_mesh(*, data: int, fsdp: int, tensor: int) -> Mesh:
    """The mesh over all devices; one axis may be -1 and takes what is left.

    Raises:
      ValueError: the sizes do not multiply to the number of devices.
    """
    sizes = [data, fsdp, tensor]
    count = len(jax.devices())
    if sizes.count(-1) == 1 and 0 not in sizes:
        sizes[sizes.index(-1)] = count // -int(np.prod(sizes))
    if int(np.prod(sizes)) != count or min(sizes) < 1:
        raise ValueError(
            f"mesh data={data} fsdp={fsdp} tensor={tensor} does not cover the "
            f"{count} devices; their product must be {count} (-1 fills one axis)"
        )
    # jax.make_mesh makes Explicit axes unless told otherwise; GSPMD needs Auto.
    return jax.make_mesh(tuple(sizes), AXES, axis_types=(AxisType.Auto,) * len(AXES))


def local_mesh(*, tensor: int = 1, replicas: int = 0) -> Mesh:
    """The mesh over the devices of this process, for a sampler: `tensor` of them share
    a copy of the weights, and there are `replicas` copies; 0 is as many as that leaves.

    Raises:
      ValueError: `tensor` does not divide the number of devices, or there are too few.
    """
    devices = jax.local_devices()
    if replicas:
        if tensor * replicas > len(devices):
            raise ValueError(
                f"tensor={tensor} x replicas={replicas} need more than the "
                f"{len(devices)} devices that there are"
            )
        devices = devices[: tensor * replicas]
    if tensor < 1 or len(devices) % tensor:
        raise ValueError(
            f"tensor must divide the number of devices, {len(devices)}, got {tensor}"
        )
    return jax.make_mesh(
        (len(devices) // tensor, 1, tensor),
        AXES,
        axis_types=(AxisType.Auto,) * len(AXES),
        devices=devices,
    )


def replicas(mesh: Mesh) -> list[Mesh]:
    """For each place on data and fsdp the mesh of its tensor devices."""
    groups = mesh.devices.reshape(-1, 1, 1, mesh.shape["tensor"])
    kinds = (AxisType.Auto,) * len(AXES)
    return [Mesh(devices, AXES, axis_types=kinds) for devices in groups]


def shard(params: Any, mesh: Mesh) -> Any:
    """Places every parameter as the table says.

    Raises:
      ValueError: no rule matches a parameter; names its path.
    """
    return jax.device_put(params, shardings(params, mesh))


def shardings(params: Any, mesh: Mesh, *, rules: Rules = RULES) -> Any:
    """The sharding of every parameter: a tree like `params`."""
    return jax.tree_util.tree_map_with_path(
        lambda path, leaf: NamedSharding(mesh, _spec(path, leaf, mesh, rules)), params
    )


def shard_to_decode(params: Any, mesh: Mesh) -> Any:
    """Places prepared parameters (`Model.prepare`): split over tensor.

    Raises:
      ValueError: no rule matches a parameter; names its path.
    """
    return jax.device_put(params, shardings(params, mesh, rules=DECODE_RULES))


def shard_batch(batch: Any, mesh: Mesh) -> Any:
    """Splits a batch [microbatch, row, ...] by rows over data and fsdp.

    Raises:
      ValueError: the rows cannot be divided evenly.
    """
    rows = jax.tree.leaves(batch)[0].shape[1]
    parts = mesh.shape["data"] * mesh.shape["fsdp"]
    if rows % parts:
        raise ValueError(
            f"a microbatch of {rows} rows cannot be split over data="
            f"{mesh.shape['data']} x fsdp={mesh.shape['fsdp']}; make rows / "
            f"microbatches a multiple of {parts}"
        )
    sharding = NamedSharding(mesh, PartitionSpec(None, ("data", "fsdp")))
    return jax.tree.map(lambda leaf: jax.device_put(leaf, sharding), batch)


def replicate(tree: Any, mesh: Mesh) -> Any:
    """A copy of everything on every device."""
    return jax.device_put(tree, NamedSharding(mesh, PartitionSpec()))


def to_host(tree: Any) -> Any:
    """Every array whole, as NumPy, in every process: all must call this together."""

    def whole(leaf: Any) -> np.ndarray:
        is_split = isinstance(leaf, jax.Array) and not leaf.is_fully_addressable
        if is_split and not leaf.is_fully_replicated:
            leaf = multihost_utils.process_allgather(leaf, tiled=True)
        return np.asarray(leaf)

    return jax.tree.map(whole, tree)


def _spec(path: tuple[Any, ...], leaf: Any, mesh: Mesh, rules: Rules) -> PartitionSpec:
    name = jax.tree_util.keystr(path, simple=True, separator="/")
    for pattern, spec in rules:
        if re.search(pattern, name):
            return _divisible(spec, leaf.shape, mesh)
    raise ValueError(
        f"no sharding rule matches parameter {name!r}; add a line to sharding.RULES"
    )


def _divisible(
    spec: PartitionSpec, shape: tuple[int, ...], mesh: Mesh
) -> PartitionSpec:
    """Leaves an axis whole where its size is not a multiple of the mesh axis."""
    kept = [
        axis if axis is None or size % mesh.shape[axis] == 0 else None
        for axis, size in zip(spec, shape, strict=False)
    ]
    return PartitionSpec(*kept)
