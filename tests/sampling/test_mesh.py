# SPDX-License-Identifier: Apache-2.0
"""Sampling on a mesh: replicas change no bit, a split model only the last ones."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="module")
def run(on_eight_devices) -> Callable[..., dict[str, Any]]:
    """What eight_devices.py says of some meshes."""
    program = Path(__file__).with_name("eight_devices.py")
    return partial(on_eight_devices, program, is_optimised=False)


@pytest.fixture(scope="module")
def report(run) -> dict[str, Any]:
    return run("two", "tensor")


@pytest.fixture(scope="module")
def slow_report(run) -> dict[str, Any]:
    return run("one", "eight", "heads")


@pytest.fixture(scope="module")
def rounded_report(run) -> dict[str, Any]:
    return run("int8", "two", "tensor")


def check_replicas(found: dict[str, Any], slots: int) -> None:
    assert found["is_equal"] and found["is_repeated"]
    assert found["answers"] > 250 and found["slots"] == slots
    assert (found["splits"], found["off"]) == (0, 0)


def check_split(found: dict[str, Any]) -> None:
    """The same tokens until rounding decides, log-probabilities to 1e-4."""
    print(f"{found['splits']} of {found['answers']} answers split: {found['off']:.1e}")
    assert found["is_repeated"]
    assert not found["unexplained"]
    assert 0 < found["off"] < 1e-4
    assert found["splits"] <= found["answers"] / 100


def test_two_replicas_answer_bitwise_as_one(report):
    check_replicas(report["two"], slots=16)
    assert report["two"]["devices"] == 2


def test_a_model_split_over_two_devices_answers_the_same(report):
    """Two replicas of two devices each; fsdp devices are replicas as data's are."""
    check_split(report["tensor"])
    assert (report["tensor"]["slots"], report["tensor"]["devices"]) == (16, 4)


def test_a_replica_compiles_each_program_once(report):
    """A prefill, a copy and a decoding program."""
    for found in report.values():
        assert found["programs"] == [1, 1, 1]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "slots"), [("one", 8), ("eight", 64)])
def test_any_number_of_replicas_answers_bitwise_as_one(slow_report, name, slots):
    check_replicas(slow_report[name], slots)


@pytest.mark.slow
def test_heads_that_cannot_be_split_are_whole_on_each_device(slow_report):
    check_split(slow_report["heads"])


@pytest.mark.slow
def test_an_int8_cache_is_the_same_on_a_mesh(rounded_report):
    check_replicas(rounded_report["two"], slots=16)
    check_split(rounded_report["tensor"])
