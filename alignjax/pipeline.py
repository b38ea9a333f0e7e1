# SPDX-License-Identifier: Apache-2.0
"""Pipelines: a list of the ordinary commands, run in order, each only when needed.

Every stage runs as a process in the run's folder, with a config file of its own that
can be run again by hand. What a stage was made from (its config, the files of the
stages it reads, the models' weights, the version) and what it wrote are recorded as
hashes in pipeline.json; a stage whose inputs and outputs did not change is not run
again.
"""

from __future__ import annotations

import dataclasses
import fcntl
import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

import alignjax


@dataclasses.dataclass(frozen=True)
class Command:
    """A command that a stage may run.

    Attributes:
      argv: of the process; the config file is appended.
      outputs: patterns, inside the stage's folder, of the files that later stages read.
        What changes from run to run without meaning (times, caches) is not among them.
      shared: pipeline settings that its config takes over.
    """

    argv: tuple[str, ...]
    outputs: tuple[str, ...]
    shared: tuple[str, ...]


COMMANDS = {
    "data-gen run": Command(
        (sys.executable, "-m", "data_gen.cli", "run"),
        ("manifest.json", "*.parquet", "prompts.jsonl"),
        ("model", "embedder", "seed"),
    ),
    "alignjax train": Command(
        (sys.executable, "-m", "alignjax.cli", "train"),
        ("adapter/*", "model/*"),
        ("model", "seed"),
    ),
    "alignjax eval": Command(
        (sys.executable, "-m", "alignjax.cli", "eval"),
        ("answers.jsonl", "references.jsonl"),
        ("model", "embedder", "seed"),
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
        seen: set[str] = set()
        for stage in self.stages:
            missing = [name for name in stage.needs if name not in seen]
            if missing:
                raise ValueError(
                    f"stage {stage.name!r} needs {missing[0]!r}, which is not an "
                    "earlier stage"
                )
            if stage.name in seen:
                raise ValueError(f"two stages are named {stage.name!r}")
            seen.add(stage.name)


def run(
    config: PipelineConfig,
    *,
    fetch: Callable[[str], tuple[Path, str]],
    write_report: Callable[[Path], dict[str, Any]],
    environment: Mapping[str, str],
    say: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Runs what has to be run, then writes the report.

    Args:
      fetch: a model's name, path or id -> (its folder, the fingerprint of its weights).
      write_report: makes report.html and report.json of a run's folder.
      environment: of the stages' processes.

    Returns:
      The report's numbers.

    Raises:
      ValueError: another pipeline is at work in the folder, or a stage failed; says
        what to do.
    """
    out = Path(config.out).absolute()
    try:
        out.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise ValueError(
            f"{out}: is a file, not a folder; choose another --out"
        ) from None
    with _lock(out / ".lock"):
        record = _read_record(out)
        began = time.monotonic()
        fingerprints = {}
        for name in (config.model, config.embedder):
            _, fingerprints[name] = fetch(name)
        _note_stage(record, "fetch", "alignjax fetch", time.monotonic() - began)
        _write_record(out, record, config)
        for number, stage in enumerate(config.stages, start=1):
            label = f"[{number}/{len(config.stages)}] {stage.name}"
            path = _write_stage_config(out, stage, config)
            inputs = _inputs(out, stage, config, fingerprints, path, record)
            before = record["stages"].get(stage.name)
            if _is_unchanged(out, stage, before, inputs):
                say(f"{label}: unchanged, not run again")
                before["status"] = "unchanged"
                continue
            say(f"{label}: {stage.run} {path.relative_to(out)}")
            began = time.monotonic()
            _run_process(stage, path, out, environment)
            wall_s = time.monotonic() - began
            earlier = before["wall_s"] if _was_cut_off(before, inputs) else 0.0
            _note_stage(record, stage.name, stage.run, wall_s + earlier, inputs)
            record["stages"][stage.name]["outputs"] = _outputs(out, stage)
            _write_record(out, record, config)
        began = time.monotonic()
        report = write_report(out)
        _note_stage(record, "report", "alignjax report", time.monotonic() - began)
        _write_record(out, record, config)
        return report


def _run_process(
    stage: StageConfig, path: Path, out: Path, environment: Mapping[str, str]
) -> None:
    argv = [*COMMANDS[stage.run].argv, str(path)]
    done = subprocess.run(argv, cwd=out, env=dict(environment), check=False)
    if done.returncode:
        raise ValueError(
            f"stage {stage.name!r} stopped with exit code {done.returncode} (its "
            "message is above); what is finished is kept: run the same command again "
            "to continue"
        )


def _write_stage_config(out: Path, stage: StageConfig, config: PipelineConfig) -> Path:
    """The stage's own config file, with the shared settings filled in."""
    shared = {
        name: getattr(config, name)
        for name in COMMANDS[stage.run].shared
        if name not in stage.config
    }
    content = {**shared, **stage.config, "out": stage.name}
    path = out / "configs" / f"{stage.name}.yaml"
    path.parent.mkdir(exist_ok=True)
    path.write_text(yaml.safe_dump(_plain(content), sort_keys=False))
    return path


def _inputs(
    out: Path,
    stage: StageConfig,
    config: PipelineConfig,
    fingerprints: Mapping[str, str],
    path: Path,
    record: Mapping[str, Any],
) -> dict[str, str]:
    """Hashes of all that decides what the stage writes."""
    inputs = {
        "version": alignjax.__version__,
        "config": _sha256(path),
        **{f"model {name}": value for name, value in fingerprints.items()},
    }
    for name in stage.needs:
        for file, digest in record["stages"][name]["outputs"].items():
            inputs[f"{name}/{file}"] = digest
    return inputs


def _outputs(out: Path, stage: StageConfig) -> dict[str, str]:
    folder = out / stage.name
    paths = {
        path
        for pattern in COMMANDS[stage.run].outputs
        for path in folder.glob(pattern)
        if path.is_file()
    }
    return {str(path.relative_to(folder)): _sha256(path) for path in sorted(paths)}


def _is_unchanged(
    out: Path,
    stage: StageConfig,
    before: Mapping[str, Any] | None,
    inputs: Mapping[str, str],
) -> bool:
    return (
        before is not None
        and before["inputs"] == inputs
        and bool(before["outputs"])
        and before["outputs"] == _outputs(out, stage)
    )


def _was_cut_off(before: Mapping[str, Any] | None, inputs: Mapping[str, str]) -> bool:
    return before is not None and before["inputs"] == inputs and not before["outputs"]


def _note_stage(
    record: dict[str, Any],
    name: str,
    command: str,
    wall_s: float,
    inputs: Mapping[str, str] | None = None,
) -> None:
    record["stages"].pop(name, None)
    record["stages"][name] = {
        "name": name,
        "command": command,
        "wall_s": round(wall_s, 2),
        "status": "run",
        "inputs": dict(inputs or {}),
        "outputs": {},
    }


def _read_record(out: Path) -> dict[str, Any]:
    path = out / "pipeline.json"
    if not path.is_file():
        return {"stages": {}}
    try:
        stages = json.loads(path.read_bytes())["stages"]
        return {"stages": {stage["name"]: stage for stage in stages}}
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{path}: damaged ({error}); remove it to run all stages again"
        ) from None


def _write_record(out: Path, record: Mapping[str, Any], config: PipelineConfig) -> None:
    stages = list(record["stages"].values())
    content = {
        "model": config.model,
        "seed": config.seed,
        "stages": stages,
        "wall_s": round(sum(stage["wall_s"] for stage in stages), 2),
    }
    partial = out / ".pipeline.json.partial"
    partial.write_text(json.dumps(content, indent=2) + "\n")
    os.replace(partial, out / "pipeline.json")


@contextmanager
def _lock(path: Path) -> Iterator[None]:
    """Held until the block ends or the process dies."""
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(
                f"{path.parent}: another pipeline is at work in this folder; wait for "
                "it, or choose another --out"
            ) from None
        yield


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(item) for item in value]
    return value
