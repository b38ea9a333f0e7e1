# SPDX-License-Identifier: Apache-2.0
"""Every loss of the table gives the same numbers however a batch is spread, over eight
devices or over microbatches.

Losses that couple the examples of a batch do so over what one call sees. Of a batch
that is sharded by the compiler it sees the whole, so they are the same too. Under vmap,
pmap, shard_map and accumulation it sees a share: there they differ, and say so by
`coupled`. `info_nce`, AOT and KTO's baseline look at the others when told the axis.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from alignjax.losses import LOSSES
from loss_examples import Inputs, call, call_all, drawn, quickly

# Examples in one process; `eight_devices` has a number of its own.
BATCH = 9
# float32: sums of 16 numbers in another order, divided by temperatures of 0.05.
TOLERANCE = 1e-5


@pytest.fixture(scope="module")
def report(on_eight_devices) -> dict[str, Any]:
    program = Path(__file__).with_name("eight_devices.py")
    return on_eight_devices(program, is_optimised=False)


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


@pytest.mark.parametrize("padding", ["gathered", "gathered, padded"])
def test_coupled_losses_equal_the_global_ones_when_told_of_the_other_devices(
    report, padding
):
    """And so do their gradients, which flow back to every device."""
    assert set(report[padding]) == {"shard_map", "pmap", "vmap"}
    for losses in report[padding].values():
        assert set(losses) == {"aot", "aot_unpaired", "info_nce", "kto"}
        assert all(off < TOLERANCE for off in losses.values())


@pytest.mark.parametrize("name", LOSSES)
def test_coupled_says_whether_examples_see_each_other(name):
    """The first example becomes a copy of the second; the others stay."""
    inputs = drawn(name, batch=BATCH)
    other = jax.tree.map(lambda x: x.at[0].set(x[1]), inputs)
    loss, after = call(name, inputs)[2:], call(name, other)[2:]
    assert np.array_equal(loss, after) == (not LOSSES[name].coupled)


@functools.cache
def means() -> dict[int, dict[str, jax.Array]]:
    """Means over 1, 2, 4 and 8 microbatches, in one program."""

    def accumulated(inputs: dict[str, Inputs], count: int) -> dict[str, jax.Array]:
        parts = jax.tree.map(lambda x: x.reshape(count, -1, *x.shape[1:]), inputs)
        losses = jax.vmap(call_all)(parts)
        return {name: loss.mean(1).mean(0) for name, loss in losses.items()}

    inputs = {name: drawn(name, batch=8) for name in LOSSES}
    counts = (1, 2, 4, 8)
    return quickly(lambda x: {count: accumulated(x, count) for count in counts})(inputs)


@pytest.mark.parametrize("name", LOSSES)
def test_mean_over_microbatches_is_the_mean_over_the_batch(name):
    """Unless the loss is coupled, and then it is not."""
    whole = means()[1][name]
    for count in (2, 4, 8):
        if LOSSES[name].coupled:
            assert abs(means()[count][name] - whole) > 1e-5
        else:
            np.testing.assert_allclose(means()[count][name], whole, rtol=1e-6)
