# SPDX-License-Identifier: Apache-2.0
"""Weights: safetensors files, whole or sharded, checked before they are read.

Format: 8 bytes little-endian header length, a JSON header, then the data
(https://github.com/huggingface/safetensors#format). The library accepts repeated
names, hostile names and non-finite values; this reader does not.
"""

from __future__ import annotations

import json
import math
import os
import struct
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np

from alignjax import json_file

MAX_HEADER = 100_000_000
MAX_DIMENSION = 1 << 40
MAX_RANK = 8

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"

DTYPES = {
    "BOOL": np.dtype(np.bool_),
    "U8": np.dtype(np.uint8),
    "I8": np.dtype(np.int8),
    "U16": np.dtype(np.uint16),
    "I16": np.dtype(np.int16),
    "U32": np.dtype(np.uint32),
    "I32": np.dtype(np.int32),
    "U64": np.dtype(np.uint64),
    "I64": np.dtype(np.int64),
    "F16": np.dtype(np.float16),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "F32": np.dtype(np.float32),
    "F64": np.dtype(np.float64),
}
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")
# Exponent bits of each float format: all set means infinity or NaN.
_EXPONENT = {
    "F16": (np.uint16, 0x7C00),
    "BF16": (np.uint16, 0x7F80),
    "F32": (np.uint32, 0x7F80_0000),
    "F64": (np.uint64, 0x7FF0_0000_0000_0000),
}


class Entry(NamedTuple):
    """Where one tensor lies: bytes [begin, end) of the file."""

    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


def read(folder: Path) -> dict[str, np.ndarray]:
    """All tensors of a Hugging Face folder.

    Returns:
      Read-only arrays mapped from the files, in the stored dtype: memory is used
      only where they are touched.

    Raises:
      ValueError: no safetensors weights, a damaged file or index, a tensor with
        NaN or infinity; names the file and the tensor.
    """
    tensors: dict[str, np.ndarray] = {}
    for path in files(folder):
        tensors.update(read_file(path))
    return tensors


def read_file(path: Path) -> dict[str, np.ndarray]:
    """All tensors of one safetensors file; see `read`."""
    entries = read_header(path)
    data = np.memmap(path, np.uint8, "r") if path.stat().st_size else np.empty(0)
    tensors = {}
    for name, entry in entries.items():
        raw = data[entry.begin : entry.end]
        _check_values(path, name, entry, raw)
        array = np.ndarray(entry.shape, DTYPES[entry.dtype], raw)
        array.flags.writeable = False
        tensors[name] = array
    return tensors


def write(
    path: Path,
    layout: Mapping[str, tuple[np.dtype, tuple[int, ...]]],
    tensors: Iterable[tuple[str, np.ndarray]],
) -> None:
    """Write a new safetensors file one tensor at a time, and flush it to disk.

    Args:
      path: must not exist.
      layout: dtype and shape of every tensor.
      tensors: the same names, in the same order.
    """
    codes = {dtype: code for code, dtype in DTYPES.items()}
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for name, (dtype, shape) in layout.items():
        end = offset + math.prod(shape) * dtype.itemsize
        entry = {"dtype": codes[dtype], "shape": shape, "data_offsets": [offset, end]}
        header[name] = entry
        offset = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # the data starts at a multiple of 8
    with path.open("xb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for (name, array), expected in zip(tensors, layout, strict=True):
            assert name == expected, (name, expected)
            assert (array.dtype, array.shape) == layout[name], name
            # Through bytes: bfloat16 has no buffer protocol of its own.
            file.write(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
        file.flush()
        os.fsync(file.fileno())


def replace(path: Path, tensors: Mapping[str, np.ndarray]) -> None:
    """Write a safetensors file whole or not at all, over an older one if need be."""
    partial = path.with_name(f".{path.name}.partial")
    partial.unlink(missing_ok=True)
    layout = {name: (array.dtype, array.shape) for name, array in tensors.items()}
    write(partial, layout, tensors.items())
    os.replace(partial, path)


def files(folder: Path) -> list[Path]:
    """The weight files of a folder, in the order of their names.

    Raises:
      ValueError: none, pickles only, or an index that leads outside the folder, to
        a missing shard, or disagrees with what the shards hold.
    """
    single, index = folder / SINGLE, folder / INDEX
    if single.is_file():
        return [single]
    if not index.is_file():
        pickles = sorted(p.name for pattern in _PICKLES for p in folder.glob(pattern))
        if pickles:
            raise ValueError(
                f"{folder / pickles[0]}: pickle weights are refused (they can run "
                "code); convert them to safetensors"
            )
        raise ValueError(f"{folder}: neither {SINGLE} nor {INDEX} is there")
    weight_map = json_file.read(index, limit=MAX_HEADER).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise ValueError(f'{index}: "weight_map" should map tensor names to files')
    claimed: dict[str, set[str]] = {}
    for name, shard in weight_map.items():
        if not isinstance(shard, str) or not _is_plain_name(shard):
            raise ValueError(
                f'{index}: tensor "{name[:80]}" is said to be in {shard!r:.80}, which '
                "is not the name of a .safetensors file in this folder"
            )
        claimed.setdefault(shard, set()).add(name)
    missing = sorted(shard for shard in claimed if not (folder / shard).is_file())
    if missing:
        raise ValueError(
            f"{folder}: {len(missing)} of {len(claimed)} shards are missing, "
            f"{missing[0]} first; download them again"
        )
    for shard, names in claimed.items():
        held = read_header(folder / shard).keys()
        if held != names:
            name = min(held ^ names)
            side = "does not hold" if name in names else "also holds"
            raise ValueError(
                f'{folder / shard}: {side} tensor "{name[:80]}", against {INDEX}'
            )
    return [folder / shard for shard in sorted(claimed)]


def read_header(path: Path) -> dict[str, Entry]:
    """The tensors of one safetensors file, with file offsets, all checks done.

    Raises:
      ValueError: anything that makes the header unfit to be believed.
    """
    size = path.stat().st_size
    if size < 8:
        raise ValueError(
            f"{path}: file is {size} bytes, too short to be safetensors; "
            "download it again"
        )
    with path.open("rb") as file:
        start = file.read(8)
        (length,) = struct.unpack("<Q", start)
        guess = _looks_like(start)
        if guess and length > size - 8:
            raise ValueError(f"{path}: looks like {guess}, not safetensors")
        if length > MAX_HEADER:
            raise ValueError(
                f"{path}: header claims {length} bytes; limit {MAX_HEADER}"
            )
        if length > size - 8:
            raise ValueError(
                f"{path}: header claims {length} bytes but file has {size}; "
                "download it again"
            )
        header = json_file.parse(file.read(length), where=f"{path}: header")
    header.pop("__metadata__", None)
    entries = {
        name: _entry(f'{path}: tensor "{name[:80]}"', name, value)
        for name, value in header.items()
    }
    _check_coverage(path, entries, size - 8 - length)
    return {
        name: e._replace(begin=e.begin + 8 + length, end=e.end + 8 + length)
        for name, e in entries.items()
    }


def _entry(where: str, name: str, value: Any) -> Entry:
    if not name or len(name) > 512 or not name.isprintable() or ".." in name:
        raise ValueError(f"{where}: illegal tensor name")
    if not isinstance(value, dict) or value.keys() != {
        "dtype",
        "shape",
        "data_offsets",
    }:
        raise ValueError(f"{where}: expected dtype, shape and data_offsets")
    dtype, shape, offsets = value["dtype"], value["shape"], value["data_offsets"]
    if not isinstance(dtype, str) or dtype not in DTYPES:
        raise ValueError(
            f"{where}: unsupported dtype {dtype!r:.40}; supported: {', '.join(DTYPES)}"
        )
    if not _is_naturals(shape) or len(shape) > MAX_RANK:
        raise ValueError(f"{where}: shape {shape!r:.80} is not a list of sizes")
    if any(n > MAX_DIMENSION for n in shape):
        raise ValueError(f"{where}: dimension {max(shape)} over limit {MAX_DIMENSION}")
    if not _is_naturals(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise ValueError(f"{where}: data_offsets {offsets!r:.80} is not [begin, end]")
    begin, end = offsets
    needed = math.prod(shape) * DTYPES[dtype].itemsize
    if end - begin != needed:
        raise ValueError(
            f"{where}: shape {shape} x {dtype} needs {needed} bytes, has {end - begin}"
        )
    return Entry(dtype, tuple(shape), begin, end)


def _check_coverage(path: Path, entries: Mapping[str, Entry], size: int) -> None:
    """The tensors fill the data section: no overlap, no hole, no rest."""
    position, previous = 0, ""
    for name, entry in sorted(entries.items(), key=lambda e: (e[1].begin, e[1].end)):
        if entry.begin < position:
            raise ValueError(
                f'{path}: tensors "{previous}" and "{name}" overlap at bytes '
                f"{entry.begin}-{position}"
            )
        if entry.begin > position:
            raise ValueError(
                f"{path}: {entry.begin - position} unclaimed bytes at offset {position}"
            )
        position, previous = entry.end, name
    if position > size:
        raise ValueError(
            f"{path}: file is {position - size} bytes short; download it again"
        )
    if position < size:
        raise ValueError(
            f"{path}: {size - position} unclaimed bytes at offset {position}"
        )


def _check_values(path: Path, name: str, entry: Entry, raw: np.ndarray) -> None:
    if entry.dtype == "BOOL" and raw.size and raw.max() > 1:
        raise ValueError(f'{path}: tensor "{name}" holds BOOL value {raw.max()}')
    if entry.dtype not in _EXPONENT:
        return
    word, exponent = _EXPONENT[entry.dtype]
    bits = np.ndarray(math.prod(entry.shape), word, raw)
    bad = 0
    for start in range(0, bits.size, 1 << 20):  # small pieces stay in the cache
        piece = bits[start : start + (1 << 20)]
        bad += int(np.count_nonzero((piece & word(exponent)) == exponent))
    if bad:
        raise ValueError(f'{path}: tensor "{name}" holds {bad} non-finite values')


def _is_plain_name(name: str) -> bool:
    """A bare file name: joined to a folder it cannot leave it."""
    return (
        name.endswith(".safetensors")
        and len(name) <= 255
        and name.isprintable()
        and not set(name) & set("/\\:")
    )


def _is_naturals(value: Any) -> bool:
    return isinstance(value, list) and all(
        type(item) is int and item >= 0 for item in value
    )


def _looks_like(start: bytes) -> str | None:
    if start.startswith(b"version "):
        return "a git-LFS pointer (the file itself was not downloaded)"
    if start.startswith(b"PK\x03\x04") or start.startswith(b"\x80"):
        return "a pickle or a PyTorch checkpoint (refused: they can run code)"
    if start.lstrip()[:1] == b"<":
        return "an HTML page"
    if start.startswith(b"GGUF"):
        return "a GGUF file"
    return None
