# SPDX-License-Identifier: Apache-2.0
"""Checkpoints: what comes back is what was saved, or another step, or an error."""

from __future__ import annotations

import gc
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alignjax.checkpoint import Checkpoints, checksums

# Orbax leaves coroutines behind where a file cannot be read.
pytestmark = pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning"
)


def state(step: int) -> dict[str, Any]:
    """Random numbers: they do not compress, so a flipped bit hits one of them."""
    rng = np.random.default_rng(step)
    return {
        "step": jnp.int32(step),
        "kernel": jnp.asarray(rng.normal(size=(64, 64)), jnp.float32),
        "adapter": {"lora_a": jnp.asarray(rng.normal(size=300), jnp.bfloat16)},
    }


def is_state(found: Any, step: int) -> bool:
    return checksums(found) == checksums(state(step))


@pytest.fixture(autouse=True)
def collected() -> Iterator[None]:
    """Those coroutines go in the test that made them."""
    yield
    gc.collect()


@pytest.fixture
def warnings() -> list[str]:
    return []


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """Steps 10 and 20."""
    with Checkpoints(tmp_path / "run") as checkpoints:
        for step in (10, 20):
            checkpoints.save(step, state(step), about={"total": step})
    return tmp_path / "run"


def payload(folder: Path, step: int) -> Path:
    """The file that holds the arrays: the largest."""
    files = [path for path in (folder / str(step)).rglob("*") if path.is_file()]
    return max(files, key=lambda path: path.stat().st_size)


def flip(path: Path, byte: int, bit: int = 0) -> None:
    data = bytearray(path.read_bytes())
    data[byte] ^= 1 << bit
    path.write_bytes(data)


def damage(folder: Path, step: int) -> None:
    path = payload(folder, step)
    flip(path, path.stat().st_size // 2)


def test_the_newest_step_comes_back_bitwise_with_what_it_is_about(saved, warnings):
    with Checkpoints(saved, warn=warnings.append) as checkpoints:
        restored = checkpoints.restore(state(0))
    assert restored is not None
    step, found, about = restored
    assert (step, about, warnings) == (20, {"total": 20}, [])
    assert is_state(found, 20)
    assert found["adapter"]["lora_a"].dtype == jnp.bfloat16


def test_an_empty_folder_gives_none(tmp_path: Path):
    with Checkpoints(tmp_path / "new") as checkpoints:
        assert checkpoints.restore(state(0)) is None


def test_two_steps_are_kept(saved):
    with Checkpoints(saved, keep=2) as checkpoints:
        checkpoints.save(30, state(30), about={})
    assert sorted(path.name for path in saved.iterdir()) == ["20", "30"]


def test_a_flipped_bit_is_noticed_and_the_step_before_is_taken(saved, warnings):
    """The kernel is 16 kB of the 16.6 kB of arrays; its middle bit is flipped."""
    damage(saved, 20)
    with Checkpoints(saved, warn=warnings.append) as checkpoints:
        restored = checkpoints.restore(state(0))
    assert restored is not None and restored[0] == 10
    assert is_state(restored[1], 10)
    (warning,) = warnings
    assert f"{saved / '20'} is damaged: leaf ['kernel'] does not have" in warning


def test_no_bit_of_any_file_restores_as_another_state(saved, warnings):
    """Sixty flips over all files of the newest step: it is either noticed, or step 20
    comes back as it was saved."""
    draw = random.Random(0)
    files = sorted(path for path in (saved / "20").rglob("*") if path.is_file())
    files = [path for path in files if path.stat().st_size]
    noticed = 0
    for index in range(60):
        path = files[index % len(files)]
        byte, bit = draw.randrange(path.stat().st_size), draw.randrange(8)
        flip(path, byte, bit)
        with Checkpoints(saved, warn=warnings.append) as checkpoints:
            restored = checkpoints.restore(state(0))
        assert restored is not None
        assert is_state(restored[1], restored[0]), (path, byte, bit)
        noticed += restored[0] == 10
        flip(path, byte, bit)
    assert noticed == len(warnings) > 10


@pytest.mark.parametrize("kind", ["truncated", "removed"])
def test_a_file_that_is_cut_or_gone_is_noticed(saved, warnings, kind: str):
    path = payload(saved, 20)
    if kind == "removed":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:100])
    with Checkpoints(saved, warn=warnings.append) as checkpoints:
        restored = checkpoints.restore(state(0))
    assert restored is not None and restored[0] == 10
    (warning,) = warnings
    assert "20 is damaged: " in warning and "\n" not in warning
    assert len(warning) < 400


def test_where_no_step_is_intact_the_error_says_so(saved, warnings):
    damage(saved, 10)
    damage(saved, 20)
    with (
        Checkpoints(saved, warn=warnings.append) as checkpoints,
        pytest.raises(
            ValueError, match=r"none of the checkpoints \[20, 10\] is intact"
        ),
    ):
        checkpoints.restore(state(0))
    assert len(warnings) == 2


def test_the_damaged_step_is_saved_again_when_the_run_gets_there(saved, warnings):
    """Orbax itself would skip a step that is not above the newest it knows."""
    damage(saved, 20)
    with Checkpoints(saved, warn=warnings.append) as checkpoints:
        checkpoints.restore(state(0))
        checkpoints.save(15, state(15), about={})
    with Checkpoints(saved) as checkpoints:
        restored = checkpoints.restore(state(0))
        assert restored is not None and restored[0] == 15
        checkpoints.save(20, state(20), about={})
        restored = checkpoints.restore(state(0))
    assert restored is not None and restored[0] == 20
    assert is_state(restored[1], 20)


def test_a_checksum_sees_bytes_dtype_and_shape():
    zeros = np.zeros(4, np.float32)
    others = [zeros.view(np.int32), zeros.reshape(2, 2), -zeros, zeros[:2]]
    sums = {checksums([array])["[0]"] for array in [zeros, *others]}
    assert len(sums) == 5
    assert checksums({"a": {"b": zeros}}).keys() == {"['a']['b']"}


def test_a_restored_state_has_the_shardings_that_were_asked_for(saved):
    """On the only device here; on several, in test_sharding."""
    like = jax.device_put(state(0), jax.devices()[0])
    with Checkpoints(saved) as checkpoints:
        restored = checkpoints.restore(like)
    assert restored is not None
    for leaf, wanted in zip(
        jax.tree.leaves(restored[1]), jax.tree.leaves(like), strict=True
    ):
        assert leaf.sharding.is_equivalent_to(wanted.sharding, leaf.ndim)
