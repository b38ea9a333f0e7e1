# SPDX-License-Identifier: Apache-2.0
"""Sharding: parameters lie where the table says, and the numbers stay."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from alignjax import sharding


@pytest.fixture(scope="module")
def report(on_eight_devices) -> dict[str, Any]:
    """What eight_devices.py says of the mesh (data=2, fsdp=2, tensor=2)."""
    return on_eight_devices(Path(__file__).with_name("eight_devices.py"))


def test_minus_one_takes_the_devices_that_are_left(report):
    assert report["mesh"] == {"data": 2, "fsdp": 2, "tensor": 2}


# Sizes: vocab 32, embed 16, 4 heads and 2 kv heads of 4, mlp 24, rank 2, 2 layers.
PLACED = {
    "embedding": (["tensor", "fsdp"], [16, 8]),
    "head": (["tensor", "fsdp"], [16, 8]),
    "norm/weight": ([], [16]),
    "blocks/attention_norm/weight": ([], [2, 16]),
    "blocks/query/kernel": ([None, "fsdp", "tensor"], [2, 8, 8]),
    "blocks/key/kernel": ([None, "fsdp", "tensor"], [2, 8, 4]),
    "blocks/up/kernel": ([None, "fsdp", "tensor"], [2, 8, 12]),
    "blocks/out/kernel": ([None, "tensor", "fsdp"], [2, 8, 8]),
    "blocks/down/kernel": ([None, "tensor", "fsdp"], [2, 12, 8]),
    "blocks/gate/lora_a": ([], [2, 16, 2]),
    "blocks/gate/lora_b": ([None, None, "tensor"], [2, 2, 12]),
    "blocks/down/lora_a": ([None, "tensor", None], [2, 12, 2]),
    "blocks/down/lora_b": ([], [2, 2, 16]),
}


@pytest.mark.parametrize("path", PLACED)
def test_a_parameter_lies_where_the_table_says(report, path: str):
    spec, local = PLACED[path]
    assert report["placed"][path] == {"spec": spec, "local": local}


def test_placing_changes_no_number(report):
    assert report["is_equal"]


def test_a_step_on_the_mesh_equals_a_step_on_one_device(report):
    """To 1e-5 in every metric and every parameter, of a step that moves them by more;
    what comes out lies where it went in."""
    step = report["step"]
    assert step["metrics_off"] < 1e-5 and step["params_off"] < 1e-5
    assert step["moved"] > 1e-3 and step["loss"] > 0
    assert step["kept_in_place"]


def test_a_checkpoint_of_sharded_parameters_comes_back_in_place(report):
    assert report["restored"]


def test_a_parameter_without_a_rule_is_named():
    mesh = sharding.make_mesh(data=1, fsdp=1, tensor=1)
    params = {"blocks": {"query": {"bias": np.zeros((2, 4))}}}
    with pytest.raises(ValueError, match=r"no sharding rule .*'blocks/query/bias'"):
        sharding.shard(params, mesh)
    with pytest.raises(ValueError, match="'overhead'"):
        sharding.shard({"overhead": np.zeros(4)}, mesh)


def test_an_axis_that_cannot_be_divided_stays_whole(report):
    """Of ["tensor", "fsdp"], two each, an odd size keeps none."""
    assert report["uneven"] == {
        "33 x 16": [None, "fsdp"],
        "32 x 17": ["tensor", None],
        "33 x 17": [None, None],
    }


@pytest.mark.parametrize(
    "sizes", [(2, 1, 1), (0, 1, 1), (-1, 0, 1), (-1, -1, 1), (-2, 1, 1), (-1, 2, 1)]
)
def test_a_mesh_that_does_not_cover_the_device_is_refused(sizes):
    data, fsdp, tensor = sizes
    message = f"mesh data={data} fsdp={fsdp} tensor={tensor} does not cover the 1 dev"
    with pytest.raises(ValueError, match=message):
        sharding.make_mesh(data=data, fsdp=fsdp, tensor=tensor)


def test_the_mesh_of_a_sampler_has_a_replica_per_device_or_group_of_devices(report):
    """Eight devices of this process; `tensor` of them make a replica."""
    assert report["local"] == [
        {"data": 8, "fsdp": 1, "tensor": 1},
        {"data": 4, "fsdp": 1, "tensor": 2},
        {"data": 1, "fsdp": 1, "tensor": 8},
    ]
    assert report["odd_tensor"] == "tensor must divide the number of devices, 8, got 3"


def test_rows_that_cannot_be_split_are_refused(report):
    message = "6 rows cannot be split over data=2 x fsdp=2; make rows / microbatches"
    assert f"{message} a multiple of 4" in report["odd_rows"]
