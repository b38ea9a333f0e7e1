# SPDX-License-Identifier: Apache-2.0
"""Claims: a dataset folder is one run's, whose data its settings and inputs decide.

Inputs (seeds, model, embedder) count by their content: the same run may find them at
another place, and another content at the same place makes it another run. So do named
engines and servers: what decides their answers is in their fingerprints, and how often
a server is asked at once decides nothing.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from alignjax import json_file, lock, whole_file
from data_gen import records

_MARKER = "run.json"
# What a run that is killed before it claims its folder may leave there.
_EARLY = {lock.NAME, f".{_MARKER}.partial", "cache.sqlite"}
_PLACES = {"out", "cache", "seeds", "model", "embedder"}
_FILES = {"path", "paraphrases", "recorded"}
_INPUTS = {
    "seeds_fingerprint": "the content of the seeds",
    "model_fingerprint": "the model's weights",
    "template_fingerprint": "the model's tokenizer or chat template",
    "embedder_fingerprint": "the embedder",
    "instances_fingerprint": "the content of coin's files",
}


def digest(config: Mapping[str, Any], inputs: Mapping[str, Any]) -> str:
    """sha256 (hex) of what decides the data; where files lie is no part of it.

    Args:
      config: all settings, as plain values.
      inputs: fingerprints of what the settings name by its place, those of named
        engines by name under `engine_fingerprints`, where there are any.
    """
    return records.digest({"settings": _settings(config), "inputs": dict(inputs)})


def take(
    out: Path,
    config: Mapping[str, Any],
    inputs: Mapping[str, Any],
    *,
    is_fresh: bool,
    say: Callable[[str], None],
) -> None:
    """Makes the folder this run's; its lock is held.

    Args:
      config, inputs: as in `digest`.
      is_fresh: replace the export of another run; its samples stay.

    Raises:
      ValueError: the folder is another run's, another command's, or no run's; says
        what differs and what to do.
    """
    before = _found(out)
    now = digest(config, inputs)
    if before and before["digest"] != now:
        known = before["digest"][:12]
        if not is_fresh:
            named = ", ".join(_changes(before, config, inputs))
            differs = f"what differs: {named}; " if named else ""
            raise ValueError(
                f"{out} holds the run of another configuration ({differs}digest "
                f"{known}, this one is {now[:12]}); give another --out, or --fresh to "
                "replace its exported files (its samples are kept and reused)"
            )
        say(f"replacing the run {known} in {out}; its samples are kept")
        for name in ("manifest.json", "report.json"):
            (out / name).unlink(missing_ok=True)
    marker = {"digest": now, "config": config, "inputs": inputs}
    whole_file.write(out / _MARKER, json.dumps(marker, indent=2, sort_keys=True) + "\n")


def _found(out: Path) -> dict[str, Any]:
    """Digest, config and inputs of the run that the folder is of; {} in a new one."""
    path = out / _MARKER
    if path.is_file():
        marker = json_file.read(path)
        if not isinstance(marker.get("digest"), str):
            raise ValueError(
                f"{out} is the folder of another command (see {path}); give another "
                "--out"
            )
        return marker
    path = out / "manifest.json"
    if path.is_file():
        manifest = json_file.read(path)
        if not isinstance(manifest.get("config"), str):
            raise ValueError(f"{path} is no dataset's manifest; give another --out")
        return {"digest": manifest["config"], "inputs": manifest}
    others = sorted({entry.name for entry in out.iterdir()} - _EARLY)
    if others:
        raise ValueError(
            f"{out} is not empty and holds no dataset ({others[0]} is there); give "
            "another --out"
        )
    return {}


def _settings(config: Mapping[str, Any]) -> dict[str, Any]:
    left_out = {*_PLACES, "engines"}
    if "kind" in (config.get("engine") or {}):  # a server
        left_out.add("engine")
    kept = {name: value for name, value in config.items() if name not in left_out}
    return _without_folders(kept)


def _without_folders(value: Any) -> Any:
    """Of coin's files the names count, since instances are known by them."""
    if isinstance(value, Mapping):
        return {
            name: Path(own).name
            if name in _FILES and isinstance(own, str)
            else _without_folders(own)
            for name, own in value.items()
        }
    if isinstance(value, list | tuple):
        return [_without_folders(own) for own in value]
    return value


def _changes(
    before: Mapping[str, Any], config: Mapping[str, Any], inputs: Mapping[str, Any]
) -> list[str]:
    """What a folder's run has otherwise than this one, as far as it was recorded."""
    old, known = before.get("config", {}), before.get("inputs", {})
    found = _differing(_settings(old), _settings(config)) if old else []
    found += [
        text
        for name, text in _INPUTS.items()
        if name in inputs and known.get(name, inputs[name]) != inputs[name]
    ]
    named = known.get("engine_fingerprints", {})
    found += _differing(named, inputs.get("engine_fingerprints", {}), "engines")
    engine = known.get("engine_fingerprint")
    if not found and engine not in (None, inputs["engine_fingerprint"]):
        return ["the model's config.json, or the engine's version or address"]
    return found


def _differing(before: Any, now: Any, name: str = "") -> list[str]:
    """Dotted names of the fields that differ."""
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        return [
            found
            for key in sorted({*before, *now})
            for found in _differing(
                before.get(key), now.get(key), f"{name}.{key}".lstrip(".")
            )
        ]
    return [name] if before != now else []
