# SPDX-License-Identifier: Apache-2.0
"""What is installed: the wheel's contents, what it needs, and the lock files."""

import ast
import email
import functools
import importlib.metadata
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

import alignjax

ROOT = Path(__file__).resolve().parent.parent
LOCKS = {
    "3.11": ROOT / "requirements" / "lock-py311.txt",
    "3.12": ROOT / "requirements" / "lock-py312.txt",
}
SOURCES = ("alignjax", "data_gen", "configs")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> zipfile.ZipFile:
    """The wheel that setup.py makes of a copy of the sources."""
    source = tmp_path_factory.mktemp("source")
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, source / name)
    for name in ("setup.py", "pyproject.toml", "LICENSE", "README.md"):
        if (ROOT / name).is_file():
            shutil.copy(ROOT / name, source / name)
    done = subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "."],
        capture_output=True,
        check=False,
        cwd=source,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (built,) = (source / "dist").glob("*.whl")
    return zipfile.ZipFile(built)


@pytest.fixture(scope="module")
def metadata(wheel):
    (name,) = [n for n in wheel.namelist() if n.endswith(".dist-info/METADATA")]
    return email.message_from_bytes(wheel.read(name))


def requirements(metadata) -> list[Requirement]:
    return [Requirement(line) for line in metadata.get_all("Requires-Dist")]


def pins(lock: Path) -> dict[str, Version]:
    found = re.findall(r"^([A-Za-z0-9_.-]+)==(\S+)", lock.read_text(), re.MULTILINE)
    return {canonicalize_name(name): Version(version) for name, version in found}


def imports() -> list[tuple[str, str]]:
    """(file, top-level package) of every import in the sources."""
    found = set()
    for package in ("alignjax", "data_gen"):
        for path in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text("utf-8"))):
                names = []
                if isinstance(node, ast.Import):
                    names = [alias.name for alias in node.names]
                elif isinstance(node, ast.ImportFrom) and node.module:
                    names = [] if node.level else [node.module]
                where = path.relative_to(ROOT).as_posix()
                found |= {(where, name.partition(".")[0]) for name in names}
    return sorted(found)


@functools.cache
def distributions() -> Mapping[str, list[str]]:
    return importlib.metadata.packages_distributions()


def owners(name: str) -> set[str]:
    """The installed distributions that an import name belongs to."""
    return {canonicalize_name(owner) for owner in distributions().get(name, [name])}


def test_the_wheel_holds_every_module_and_the_data_they_read(wheel):
    names = set(wheel.namelist())
    expected = {
        path.relative_to(ROOT).as_posix()
        for package in ("alignjax", "data_gen")
        for pattern in ("*.py", "*.html", "*.jsonl")
        for path in (ROOT / package).rglob(pattern)
    }
    assert "data_gen/data/seeds.jsonl" in expected
    assert expected - names == set()
    assert [name for name in names if name.startswith("tests/")] == []


def test_the_wheel_carries_the_example_configs(wheel):
    prefix = f"alignjax-{alignjax.__version__}.data/data/share/alignjax/"
    found = {name.removeprefix(prefix) for name in wheel.namelist()}
    assert "configs/quickstart.yaml" in found


def test_the_wheel_gives_both_commands(wheel):
    (name,) = [n for n in wheel.namelist() if n.endswith("/entry_points.txt")]
    text = wheel.read(name).decode()
    assert "alignjax = alignjax.cli:main" in text
    assert "data-gen = data_gen.cli:main" in text


def test_the_metadata_states_version_python_and_licence(metadata):
    assert metadata["Name"] == "alignjax"
    assert metadata["Version"] == alignjax.__version__
    assert metadata["Requires-Python"] == ">=3.11"
    assert "Apache-2.0" in (metadata["License-Expression"] or metadata["License"])


def test_torch_is_never_required(metadata):
    assert "torch" not in {canonicalize_name(r.name) for r in requirements(metadata)}


def test_extras_are_the_documented_ones(metadata):
    assert set(metadata.get_all("Provides-Extra")) == {
        "cuda12",
        "cuda13",
        "tpu",
        "tb",
        "wandb",
        "test",
        "dev",
    }


def test_every_package_that_the_sources_import_is_declared(metadata):
    declared = {canonicalize_name(r.name) for r in requirements(metadata)}
    known = {"alignjax", "data_gen", *sys.stdlib_module_names}
    undeclared = [
        (path, name)
        for path, name in imports()
        if name not in known and not owners(name) & declared
    ]
    assert undeclared == []


def test_every_package_that_is_required_is_imported(metadata):
    """But `sentencepiece`, which transformers imports when needed, and `safetensors`,
    which the tests compare our own reader and writer with."""
    required = {
        canonicalize_name(r.name) for r in requirements(metadata) if not r.marker
    }
    imported = {owner for _, name in imports() for owner in owners(name)}
    assert required - imported == {"safetensors", "sentencepiece"}


@pytest.mark.parametrize("python", LOCKS)
def test_the_lock_pins_every_requirement_inside_its_range(metadata, python):
    locked = pins(LOCKS[python])
    environment = {"python_version": python, "extra": "dev"}
    for requirement in requirements(metadata):
        if requirement.marker and not requirement.marker.evaluate(environment):
            continue
        name = canonicalize_name(requirement.name)
        assert name in locked, f"{name} is not in {LOCKS[python].name}: make lock"
        assert requirement.specifier.contains(locked[name]), (name, locked[name])


@pytest.mark.parametrize("python", LOCKS)
def test_the_lock_has_hashes_for_everything_and_names_no_host(python):
    text = LOCKS[python].read_text()
    entries = re.split(r"^(?=[A-Za-z0-9])", text, flags=re.MULTILINE)[1:]
    assert len(entries) == len(pins(LOCKS[python])) > 50
    assert [entry for entry in entries if "--hash=sha256:" not in entry] == []
    assert "://" not in text
    options = [line for line in text.splitlines() if line.startswith("-")]
    assert options == []
    assert "torch" not in pins(LOCKS[python])


def test_the_two_locks_are_the_two_supported_lines_of_jax():
    old, new = pins(LOCKS["3.11"]), pins(LOCKS["3.12"])
    assert old["jax"] == Version("0.10.2") == old["jaxlib"]
    assert old["flax"] == Version("0.12.8")
    assert new["jax"] >= Version("0.11.1") and new["flax"] >= Version("0.12.11")
