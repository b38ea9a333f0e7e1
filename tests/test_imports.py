# SPDX-License-Identifier: Apache-2.0
"""Which module may import what; read from the source, without running it."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FILES = sorted(
    path.relative_to(ROOT)
    for package in ("alignjax", "data_gen")
    for path in (ROOT / package).rglob("*.py")
)


def imported(path: Path) -> set[str]:
    """Dotted names that a file imports anywhere, also inside functions.

    `from a import b` counts as a.b; `importlib.import_module("a.b")` as a.b.
    """
    names: set[str] = set()
    package = path.parent.parts if path.name != "__init__.py" else path.parts[:-1]
    for node in ast.walk(ast.parse((ROOT / path).read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            parents = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join([*parents, *([node.module] if node.module else [])])
            names |= {f"{module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(
            ("import_module", "__import__", "find_spec")
        ):
            first = node.args[0] if node.args else None
            if isinstance(first, ast.Constant) and isinstance(first.value, str):
                names.add(first.value)
    return names


def inside(name: str, package: str) -> bool:
    return name == package or name.startswith(f"{package}.")


def importers(package: str) -> list[str]:
    """The files that import a package or anything in it."""
    return [
        path.as_posix()
        for path in FILES
        if any(inside(name, package) for name in imported(path))
    ]


def outsiders(folder: str, allowed: set[str]) -> list[str]:
    """`file: name` for each import in a folder that is neither stdlib nor allowed."""
    return [
        f"{path.as_posix()}: {name}"
        for path in FILES
        if path.is_relative_to(folder)
        for name in sorted(imported(path))
        if name.partition(".")[0] not in sys.stdlib_module_names
        and not any(inside(name, package) for package in allowed)
    ]


def test_there_are_files_to_check():
    assert Path("alignjax/config.py") in FILES
    assert any(path.is_relative_to("data_gen") for path in FILES)


def test_relative_and_nested_imports_are_seen(tmp_path, monkeypatch):
    """`from . import x` in a/b.py is a.x; `from .. import y` in a/c/d.py is a.y."""
    monkeypatch.setattr(sys.modules[__name__], "ROOT", tmp_path)
    (tmp_path / "a" / "c").mkdir(parents=True)
    (tmp_path / "a" / "b.py").write_text("def f():\n  from . import x\n  import p.q\n")
    (tmp_path / "a" / "c" / "d.py").write_text("from ..y import z\nfrom .. import w\n")
    (tmp_path / "a" / "__init__.py").write_text("from .m import n\n")
    assert imported(Path("a/b.py")) == {"a.x", "p.q"}
    assert imported(Path("a/c/d.py")) == {"a.y.z", "a.w"}
    assert imported(Path("a/__init__.py")) == {"a.m.n"}


def test_alignjax_never_imports_data_gen():
    assert [
        path for path in importers("data_gen") if path.startswith("alignjax/")
    ] == []


def test_only_models_imports_flax():
    found = importers("flax")
    assert [path for path in found if not path.startswith("alignjax/models/")] == []


def test_only_checkpoint_imports_orbax():
    assert set(importers("orbax")) <= {"alignjax/checkpoint.py"}


def test_nothing_imports_torch():
    assert importers("torch") == []


def test_losses_import_jax_numpy_and_jaxtyping_only():
    allowed = {"alignjax.losses", "jax", "numpy", "jaxtyping"}
    assert outsiders("alignjax/losses", allowed) == []


def test_constraints_need_three_small_packages():
    packages = ("jsonschema", "langdetect", "py3langid")
    allowed = {"alignjax.constraints", *packages}
    assert outsiders("alignjax/constraints", allowed) == []
    for package in packages:
        assert len(importers(package)) == 1


def test_perturbations_are_pure_python():
    allowed = {"alignjax.perturb", "alignjax.constraints"}
    assert outsiders("alignjax/perturb", allowed) == []


def test_models_know_no_loss_no_data_and_no_training():
    for package in ("losses", "data", "train", "eval", "constraints", "sampling"):
        found = importers(f"alignjax.{package}")
        assert [path for path in found if path.startswith("alignjax/models/")] == []


def test_every_file_begins_with_the_licence_line_and_a_docstring():
    def begins_well(path: Path) -> bool:
        text = (ROOT / path).read_text("utf-8")
        licensed = text.startswith("# SPDX-License-Identifier: Apache-2.0\n")
        return licensed and ast.get_docstring(ast.parse(text)) is not None

    assert [path.as_posix() for path in FILES if not begins_well(path)] == []


def test_modules_are_one_noun_of_at_most_400_lines():
    lengths = {
        path.as_posix(): len((ROOT / path).read_text("utf-8").splitlines())
        for path in FILES
    }
    assert {path: n for path, n in lengths.items() if n > 400} == {}
    vague = {"utils", "util", "common", "misc", "base", "core", "helpers"}
    assert [path for path in lengths if Path(path).stem in vague] == []


def loaded_after(statement: str) -> set[str]:
    """Top-level packages in sys.modules of a fresh Python after a statement."""
    program = f"{statement}\nimport json, sys\nprint(json.dumps(sorted(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        check=False,
        cwd=ROOT,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return {name.partition(".")[0] for name in json.loads(done.stdout)}


HEAVY = {
    "datasets",
    "flax",
    "jax",
    "matplotlib",
    "numpy",
    "optax",
    "orbax",
    "pandas",
    "pyarrow",
    "torch",
    "transformers",
}


def test_importing_the_losses_loads_jax_and_nothing_heavier():
    """jax brings numpy; everything else must stay out."""
    assert loaded_after("import alignjax.losses") & HEAVY == {"jax", "numpy"}


@pytest.mark.parametrize("module", ["alignjax", "alignjax.cli", "data_gen.cli"])
def test_the_command_lines_load_nothing_heavy(module):
    assert loaded_after(f"import {module}") & HEAVY == set()


def test_importing_every_module_opens_no_connection():
    """Nothing is fetched at import: a look-up or a connection ends the process."""
    modules = [
        ".".join(path.with_suffix("").parts).removesuffix(".__init__")
        for path in FILES
        if path.name != "__main__.py"
    ]
    program = """
import importlib, socket, sys

def refuse(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo"):
        raise SystemExit(f"{current}: {event} {arguments}")

sys.addaudithook(refuse)
for current in sys.argv[1:]:
    importlib.import_module(current)
"""
    done = subprocess.run(
        [sys.executable, "-c", program, *modules],
        capture_output=True,
        check=False,
        cwd=ROOT,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
