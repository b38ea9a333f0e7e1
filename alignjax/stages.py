# SPDX-License-Identifier: Apache-2.0
"""Stages: which commands a pipeline may run, and what its config says about them."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Mapping
from typing import Any

_RESERVED = {"fetch", "report", "configs", "previous"}
# Settings of the commands that name files or folders, perhaps those of a stage.
_PATHS = ("adapter", "dataset", "embedder", "model", "references", "seeds")


@dataclasses.dataclass(frozen=True)
class Command:
    """A command that a stage may run.

    Attributes:
      argv: of the process; the config file is appended.
      outputs: patterns, inside the stage's folder, of the files that later stages read.
        What changes from run to run without meaning (times, caches) is not among them.
      beside: files that the report reads: they must be there, their bytes may differ.
      shared: pipeline settings that its config takes over.
      takes_over: arguments with which it works in a folder that it filled before from
        other inputs; none = that folder is moved aside.
    """

    argv: tuple[str, ...]
    outputs: tuple[str, ...]
    beside: tuple[str, ...]
    shared: tuple[str, ...]
    takes_over: tuple[str, ...] = ()


COMMANDS = {
    "data-gen run": Command(
        (sys.executable, "-m", "data_gen.cli", "run"),
        outputs=("manifest.json", "*.parquet", "prompts.jsonl"),
        beside=("report.json",),
        shared=("model", "embedder", "seed"),
        takes_over=("--fresh",),  # keeps its samples, which fit other configs too
    ),
    "alignjax train": Command(
        (sys.executable, "-m", "alignjax.cli", "train"),
        outputs=("adapter/*", "model/*"),
        beside=("summary.json", "metrics.jsonl"),
        shared=("model", "seed"),
    ),
    "alignjax eval": Command(
        (sys.executable, "-m", "alignjax.cli", "eval"),
        outputs=("answers.jsonl", "references.jsonl"),
        beside=("results.json",),
        shared=("model", "embedder", "seed"),
    ),
}


@dataclasses.dataclass(frozen=True)
class StageConfig:
    """One stage: `run` names a command, `config` is its config without what the
    pipeline shares, `needs` lists the earlier stages whose files it reads. Its output
    folder is its name."""

    name: str
    run: str
    config: Mapping[str, Any]
    needs: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.run not in COMMANDS:
            known = ", ".join(COMMANDS)
            raise ValueError(f"run is {self.run!r}; a stage runs one of: {known}")
        if not self.name.replace("-", "").replace("_", "").isalnum():
            raise ValueError(f"name {self.name!r} must be letters, digits, - and _")
        if self.name in _RESERVED:
            raise ValueError(
                f"name {self.name!r} is the pipeline's own; choose another"
            )
        if "out" in self.config:
            raise ValueError(
                f"stage {self.name!r}: config.out is not read (a stage's folder is its "
                "name); remove it"
            )

    def paths(self) -> list[str]:
        """What its config names as files and folders (or by a model's name)."""
        values = [self.config.get(name) for name in _PATHS]
        source = self.config.get("seeds")
        if isinstance(source, Mapping):  # a SeedSource of data_gen
            values += [source.get("source"), *(source.get("decontaminate") or ())]
        return [value for value in values if isinstance(value, str) and value]


@dataclasses.dataclass(frozen=True)
class PipelineConfig:
    """`alignjax pipeline CONFIG`.

    Attributes:
      out: the run's folder. Relative paths in the stages' configs are relative to it.
      model, embedder: names, folders or hub ids; fetched before the first stage.
      seed: of every stage that reads one.
    """

    out: str
    model: str
    stages: tuple[StageConfig, ...]
    embedder: str = "minilm"
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.stages:
            raise ValueError("stages is empty; there is nothing to run")
        seen: set[str] = set()
        for stage in self.stages:
            missing = [name for name in stage.needs if name not in seen]
            if missing:
                raise ValueError(
                    f"stage {stage.name!r} needs {missing[0]!r}, which is not an "
                    "earlier stage"
                )
            unsaid = {part_of(path) for path in stage.paths()} & seen
            unsaid -= set(stage.needs)
            if unsaid:
                raise ValueError(
                    f"stage {stage.name!r} reads {min(unsaid)!r}; list it in needs, so "
                    "that it is run again when that changes"
                )
            if stage.name in seen:
                raise ValueError(f"two stages are named {stage.name!r}")
            seen.add(stage.name)


def part_of(path: str) -> str:
    """The first part of a relative path: the stage that it belongs to, perhaps."""
    return path.removeprefix("./").partition("/")[0]
