# SPDX-License-Identifier: Apache-2.0
"""What a measurement says about itself: one JSON line, and how it was obtained."""

from __future__ import annotations

import json
import os
import platform
import resource
import statistics
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import jax

RESULTS = Path(__file__).parent.parent / "results"
_COMPILED = "/jax/core/compile/backend_compile_duration"
_PACKAGES = ("alignjax", "jax", "jaxlib", "flax", "numpy")


def write(path: Path, line: Mapping[str, Any]) -> None:
    """Prints a line and appends it to the results, with machine and date added."""
    line = {
        **line,
        "machine": machine(),
        "date": datetime.now(UTC).date().isoformat(),
    }
    text = json.dumps(line)
    print(text, flush=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        file.write(text + "\n")


def say(text: str) -> None:
    """Progress, apart from the lines."""
    print(text, file=sys.stderr, flush=True)


def versions() -> dict[str, str]:
    return {
        "python": platform.python_version(),
        **{name: metadata.version(name) for name in _PACKAGES},
    }


def machine() -> str:
    """Processor and number of cores, or the accelerator."""
    device = jax.devices()[0]
    if device.platform != "cpu":
        return device.device_kind
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    models = [x.split(":")[1].strip() for x in lines if x.startswith("model name")]
    return f"{(*models, 'CPU')[0]}, {os.cpu_count()} cores"


def peak_memory_mib() -> int:
    """The most host memory that this process has held so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (1 << 20 if sys.platform == "darwin" else 1 << 10))


def memory_mib() -> int:
    """Host memory of this process now; its peak where the system does not say."""
    statm = Path("/proc/self/statm")
    if not statm.exists():
        return peak_memory_mib()
    return round(int(statm.read_text().split()[1]) * resource.getpagesize() / 2**20)


def rates(tokens_per_s: Sequence[float]) -> dict[str, Any]:
    """Best, median and all repeats."""
    return {
        "best": round(max(tokens_per_s), 1),
        "median": round(statistics.median(tokens_per_s), 1),
        "all": [round(rate, 1) for rate in tokens_per_s],
    }


class Compilations:
    """Counts what XLA compiles from now on, in this process."""

    def __init__(self) -> None:
        self.total = 0
        jax.monitoring.register_event_duration_secs_listener(self._hear)

    def _hear(self, event: str, duration_secs: float, **_: Any) -> None:
        self.total += event == _COMPILED
