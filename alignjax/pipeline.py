# SPDX-License-Identifier: Apache-2.0
"""Pipelines: a list of the ordinary commands, run in order, each only when needed.

Every stage runs as a process in the run's folder, with a config file of its own that
can be run again by hand. What a stage was made from (its config, the files of the
stages it reads, the models' weights, the version) and what it wrote are recorded as
hashes in pipeline.json; a stage whose inputs and outputs did not change is not run
again. One whose inputs did change starts anew, and what it made before is kept in
previous/.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import alignjax
from alignjax import config as configs
from alignjax import json_file, lock, strict_yaml, whole_file
from alignjax.stages import COMMANDS, PipelineConfig, StageConfig, part_of

RECORD = "pipeline.json"
# What a pipeline that is killed at its start may leave in its folder.
_EARLY = {lock.NAME, f".{RECORD}.partial"}


@dataclasses.dataclass(frozen=True)
class _Fetched:
    """A model: how the stages' configs name it, and the fingerprint of its weights."""

    name: str
    fingerprint: str


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
      ValueError: a stage's config is wrong (found before anything is fetched or
        run), another pipeline is at work in the folder, it is no pipeline's folder, or
        a stage failed; says what to do.
      SystemExit: status 143, after SIGTERM, which the stage at work got too.
    """
    out = Path(config.out).absolute()
    _refuse_others(out)
    _check_configs(config, environment)
    out.mkdir(parents=True, exist_ok=True)
    with lock.held(out, what="pipeline"):
        record = _read_record(out)
        began = time.monotonic()
        fetched = {
            name: _fetch(fetch, name) for name in {config.model, config.embedder}
        }
        _note(record, "fetch", "alignjax fetch", began)
        _write_record(out, record, config)
        for number, stage in enumerate(config.stages, start=1):
            label = f"[{number}/{len(config.stages)}] {stage.name}"
            _run_stage(label, stage, out, config, fetched, record, environment, say)
        began = time.monotonic()
        report = write_report(out)
        _note(record, "report", "alignjax report", began)
        _write_record(out, record, config)
        return report


def _refuse_others(out: Path) -> None:
    if out.exists() and not out.is_dir():
        raise ValueError(f"{out}: is a file, not a folder; choose another --out")
    if (out / RECORD).is_file() or not out.is_dir():
        return
    if {path.name for path in out.iterdir()} - _EARLY:
        raise ValueError(
            f"{out}: is not empty and holds no pipeline; choose another --out"
        )


def _check_configs(config: PipelineConfig, environment: Mapping[str, str]) -> None:
    """Every stage's command reads its config, all at the same time."""
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        asked = []
        for stage in config.stages:
            path = Path(folder) / f"{stage.name}.yaml"
            content = _stage_config(
                stage, config, model=config.model, embedder=config.embedder
            )
            path.write_text(content, encoding="utf-8")
            process = subprocess.Popen(
                [*COMMANDS[stage.run].argv, str(path), "--check"],
                env=_with_package(environment),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
            )
            asked.append((stage, path, stack.enter_context(process)))
        for stage, path, process in asked:
            _, complaint = process.communicate()
            if process.returncode:
                # The last line is the error; the file that it names is ours.
                line = complaint.strip().splitlines()[-1].partition(f"{path}: ")[2]
                raise ValueError(f"stage {stage.name!r}: {line or complaint.strip()}")


def _fetch(fetch: Callable[[str], tuple[Path, str]], name: str) -> _Fetched:
    """A folder's path is made absolute, since stages run in another folder."""
    folder, fingerprint = fetch(name)
    is_path = folder.absolute() == Path(name).expanduser().absolute()
    return _Fetched(str(folder.absolute()) if is_path else name, fingerprint)


def _run_stage(
    label: str,
    stage: StageConfig,
    out: Path,
    config: PipelineConfig,
    fetched: Mapping[str, _Fetched],
    record: dict[str, Any],
    environment: Mapping[str, str],
    say: Callable[[str], None],
) -> None:
    """Runs one stage if its inputs or outputs changed, and records it."""
    path = _write_stage_config(out, stage, config, fetched)
    inputs = _inputs(out, stage, config, fetched, path, record)
    before = record.get(stage.name)
    is_same = before is not None and before["inputs"] == inputs
    if before is not None and is_same and _is_complete(out, stage, before):
        say(f"{label}: unchanged, not run again")
        before["status"] = "unchanged"
        return
    command = COMMANDS[stage.run]
    if before is not None and not is_same and not command.takes_over:
        aside = _move_aside(out, stage.name)
        if aside is not None:
            say(f"{label}: its inputs changed; the earlier result is now in {aside}")
    # The record comes first: whoever finds the folder later knows whose it is.
    earlier_s = before["wall_s"] if before is not None and is_same else 0.0
    entry = _entry(stage.name, stage.run, "unfinished", earlier_s, inputs)
    record[stage.name] = entry
    _write_record(out, record, config)
    say(f"{label}: {stage.run} {path.relative_to(out)}")
    began = time.monotonic()
    try:
        options = command.takes_over if before is not None else ()
        _run_process(stage, (str(path), *options), out, environment)
        entry["outputs"] = _outputs(out, stage)
        entry["status"] = "run"
    finally:
        entry["wall_s"] = round(earlier_s + time.monotonic() - began, 2)
        _write_record(out, record, config)


def _run_process(
    stage: StageConfig,
    arguments: tuple[str, ...],
    out: Path,
    environment: Mapping[str, str],
) -> None:
    process = subprocess.Popen(
        [*COMMANDS[stage.run].argv, *arguments],
        cwd=out,
        env=_with_package(environment),
    )
    is_asked = False

    def pass_on(number: int, frame: object) -> None:
        nonlocal is_asked
        is_asked = True
        process.send_signal(signal.SIGTERM)

    handler = signal.signal(signal.SIGTERM, pass_on)
    try:
        with process:
            code = process.wait()
    finally:
        signal.signal(signal.SIGTERM, handler)
    if is_asked:
        raise SystemExit(143)
    if code:
        how = f"stopped with exit code {code} (its message is above)"
        if code < 0:
            how = f"was killed by {signal.Signals(-code).name} (out of memory?)"
        raise ValueError(
            f"stage {stage.name!r} {how}; what is finished is kept: run the same "
            "command again to continue"
        )


def _with_package(environment: Mapping[str, str]) -> dict[str, str]:
    """Stages run the package that runs now, also from a checkout that is not
    installed."""
    package = str(Path(alignjax.__file__).resolve().parent.parent)
    search = [package, *filter(None, [environment.get("PYTHONPATH")])]
    return {**environment, "PYTHONPATH": os.pathsep.join(search)}


def _write_stage_config(
    out: Path,
    stage: StageConfig,
    config: PipelineConfig,
    fetched: Mapping[str, _Fetched],
) -> Path:
    path = out / "configs" / f"{stage.name}.yaml"
    path.parent.mkdir(exist_ok=True)
    content = _stage_config(
        stage,
        config,
        model=fetched[config.model].name,
        embedder=fetched[config.embedder].name,
    )
    whole_file.write(path, content)
    return path


def _stage_config(
    stage: StageConfig, config: PipelineConfig, *, model: str, embedder: str
) -> str:
    """The stage's own config as YAML, with the shared settings filled in."""
    settings = {"model": model, "embedder": embedder, "seed": config.seed}
    shared = {name: settings[name] for name in COMMANDS[stage.run].shared}
    content = {**shared, **configs.plain(stage.config), "out": stage.name}
    return strict_yaml.write(content)


def _inputs(
    out: Path,
    stage: StageConfig,
    config: PipelineConfig,
    fetched: Mapping[str, _Fetched],
    path: Path,
    record: Mapping[str, Any],
) -> dict[str, str]:
    """Hashes of all that decides what the stage writes."""
    shared = set(COMMANDS[stage.run].shared) - set(stage.config)
    models = {"model": config.model, "embedder": config.embedder}
    inputs = {
        "version": alignjax.__version__,
        "config": _sha256(path),
        **{
            f"{role} {name}": fetched[name].fingerprint
            for role, name in models.items()
            if role in shared
        },
    }
    for name in stage.needs:
        for file, digest in record[name]["outputs"].items():
            inputs[f"{name}/{file}"] = digest
    for name in stage.paths():
        if part_of(name) not in stage.needs and (out / name).exists():
            inputs[f"path {name}"] = _content(out / name)
    return inputs


def _content(path: Path) -> str:
    """Digest of a file or of a folder's files; of a dataset, that of its manifest."""
    if path.is_file():
        return _sha256(path)
    if (path / "manifest.json").is_file():
        return _sha256(path / "manifest.json")
    files = [file for file in sorted(path.iterdir()) if file.is_file()]
    held = [f"{f.name} {_sha256(f)}" for f in files if not f.name.startswith(".")]
    return hashlib.sha256("\n".join(held).encode()).hexdigest()


def _outputs(out: Path, stage: StageConfig) -> dict[str, str]:
    """Hashes of the files that later stages may read."""
    folder = out / stage.name
    paths = {
        path
        for pattern in COMMANDS[stage.run].outputs
        for path in folder.glob(pattern)
        if path.is_file() and not path.name.startswith(".")
    }
    return {str(path.relative_to(folder)): _sha256(path) for path in sorted(paths)}


def _is_complete(out: Path, stage: StageConfig, before: Mapping[str, Any]) -> bool:
    """Whether the stage ended, and everything it wrote is still there as it was."""
    return (
        before["status"] != "unfinished"
        and bool(before["outputs"])
        and all((out / stage.name / n).is_file() for n in COMMANDS[stage.run].beside)
        and before["outputs"] == _outputs(out, stage)
    )


def _move_aside(out: Path, name: str) -> Path | None:
    """Moves a stage's folder to previous/NAME-1, -2, ...; None where there is none."""
    if not (out / name).exists():
        return None
    number = 1
    while (aside := out / "previous" / f"{name}-{number}").exists():
        number += 1
    aside.parent.mkdir(exist_ok=True)
    (out / name).rename(aside)
    return aside.relative_to(out)


def _entry(
    name: str,
    command: str,
    status: str,
    wall_s: float,
    inputs: Mapping[str, str],
) -> dict[str, Any]:
    return {
        "name": name,
        "command": command,
        "wall_s": round(wall_s, 2),
        "status": status,
        "inputs": dict(inputs),
        "outputs": {},
    }


def _note(record: dict[str, Any], name: str, command: str, began: float) -> None:
    """Records what the pipeline does itself."""
    record[name] = _entry(name, command, "run", time.monotonic() - began, {})


def _read_record(out: Path) -> dict[str, Any]:
    """What is known of each stage, by name."""
    path = out / RECORD
    if not path.is_file():
        return {}
    stages = json_file.read(path, limit=100_000_000).get("stages")
    fields = {"name": str, "wall_s": (int, float), "status": str}
    fields |= {"inputs": dict, "outputs": dict}
    for stage in stages if isinstance(stages, list) else [None]:
        if not isinstance(stage, dict) or not all(
            isinstance(stage.get(field), kind) for field, kind in fields.items()
        ):
            raise ValueError(
                f"{path}: damaged; choose another --out (what the stages made stays)"
            )
    return {stage["name"]: stage for stage in stages or []}


def _write_record(out: Path, record: Mapping[str, Any], config: PipelineConfig) -> None:
    names = ["fetch", *(stage.name for stage in config.stages), "report"]
    stages = [record[name] for name in names if name in record]
    content = {
        "model": config.model,
        "seed": config.seed,
        "stages": stages,
        "wall_s": round(sum(stage["wall_s"] for stage in stages), 2),
    }
    whole_file.write(out / RECORD, json.dumps(content, indent=2) + "\n")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
