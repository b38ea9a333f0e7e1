# SPDX-License-Identifier: Apache-2.0
"""Every loss of the table gives the same numbers however a batch is spread.

Losses that couple the examples of a batch do so over what one call sees. Of a batch
that is sharded by the compiler it sees the whole, so they are the same too. Under vmap,
pmap and shard_map it sees one device's share: there they differ, and say so by
`coupled`. `info_nce` gathers the others when it is told the axis; KTO's baseline is an
input, to be taken over all; AOT has to be given the global batch.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from alignjax.losses import LOSSES

# float32: sums of 16 numbers in another order, divided by temperatures of 0.05.
TOLERANCE = 1e-5


@pytest.fixture(scope="module")
def report(root: Path) -> dict[str, Any]:
    program = Path(__file__).with_name("eight_devices.py")
    path = os.pathsep.join([str(root), *filter(None, [os.environ.get("PYTHONPATH")])])
    process = subprocess.run(
        [sys.executable, str(program)],
        env={
            **os.environ,
            "JAX_PLATFORMS": "cpu",
            "XLA_FLAGS": "--xla_force_host_platform_device_count=8",
            "PYTHONPATH": path,
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    return json.loads(process.stdout)


@pytest.mark.parametrize("name", LOSSES)
def test_a_sharded_batch_gives_the_same_numbers(report, name):
    """Sharded by the compiler: coupled losses included."""
    assert report["sharded"][name] < TOLERANCE


@pytest.mark.parametrize("way", ["vmap", "pmap", "shard_map"])
@pytest.mark.parametrize("name", LOSSES)
def test_shares_of_a_batch_give_the_same_numbers(report, name, way):
    """Two examples a device. Unless the loss is coupled, and then it is another one."""
    off = report[way][name]
    assert off > 1e-3 if LOSSES[name].coupled else off < TOLERANCE


def test_coupled_losses_equal_the_global_ones_when_told_of_the_other_devices(report):
    """And so do gradients of InfoNCE, which flow back to every device."""
    assert len(report["gathered"]) == 7
    assert all(off < TOLERANCE for off in report["gathered"].values())
