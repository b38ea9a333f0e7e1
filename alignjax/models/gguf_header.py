# SPDX-License-Identifier: Apache-2.0
"""GGUF headers: counts, lengths and names held to limits before anything is read.

Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import BinaryIO

MAX_KEYS = 4096
MAX_TENSORS = 65_536
MAX_STRING = 1 << 20
MAX_ARRAY = 4 << 20
MAX_DIMENSION = 1 << 31

# Bytes of each scalar value type, by its code.
_SCALARS = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
_STRING, _ARRAY = 8, 9


def check(path: Path) -> None:
    """Walk the header, so that the `gguf` package can be let loose on it.

    Raises:
      ValueError: not GGUF version 2 or 3 (little-endian), a count, length or
        dimension over its limit, a repeated key, or a file that ends too early.
    """
    with path.open("rb") as file:
        walk = _Walk(path, file)
        magic = file.read(4)
        if magic != b"GGUF":
            raise ValueError(
                f"{path}: not a GGUF file: it starts with {magic!r}, not b'GGUF'"
            )
        version = walk.number("<I", "version")
        if version not in (2, 3):
            raise ValueError(f"{path}: GGUF version {version}; versions 2 and 3 work")
        tensors = walk.number("<Q", "tensor count", limit=MAX_TENSORS)
        keys = walk.number("<Q", "key count", limit=MAX_KEYS)
        seen: set[str] = set()
        for _ in range(keys):
            walk.unique(seen)
            walk.value(walk.number("<I", "value type"), depth=0)
        seen.clear()
        for _ in range(tensors):
            name = walk.unique(seen)
            for _ in range(walk.number("<I", f"dimensions of {name}", limit=4)):
                walk.number("<Q", f"a dimension of {name}", limit=MAX_DIMENSION)
            walk.number("<I", f"type of {name}")
            walk.number("<Q", f"offset of {name}", limit=walk.size)


class _Walk:
    """A cursor over a GGUF header that refuses to leave the file."""

    def __init__(self, path: Path, file: BinaryIO):
        self.path = path
        self.file = file
        self.size = path.stat().st_size

    def number(self, form: str, what: str, limit: int | None = None) -> int:
        data = self.file.read(struct.calcsize(form))
        if len(data) < struct.calcsize(form):
            raise ValueError(f"{self.path}: the file ends inside the {what}")
        (value,) = struct.unpack(form, data)
        if limit is not None and value > limit:
            raise ValueError(f"{self.path}: {what} is {value}; limit {limit}")
        return value

    def string(self, what: str, limit: int) -> bytes:
        length = self.number("<Q", f"length of {what}", limit)
        data = self.file.read(length)
        if len(data) < length:
            raise ValueError(f"{self.path}: the file ends inside {what}")
        return data

    def unique(self, seen: set[str]) -> str:
        name = self.string("a name", 1024).decode("utf-8", "replace")
        if name in seen:
            raise ValueError(f'{self.path}: "{name[:80]}" appears twice')
        seen.add(name)
        return name

    def value(self, kind: int, depth: int) -> None:
        if kind in _SCALARS:
            self._skip(_SCALARS[kind])
        elif kind == _STRING:
            self.string("a string", MAX_STRING)
        elif kind == _ARRAY and depth < 2:
            item = self.number("<I", "array type")
            count = self.number("<Q", "array length", MAX_ARRAY)
            if item in _SCALARS:
                self._skip(count * _SCALARS[item])
            else:
                for _ in range(count):
                    self.value(item, depth + 1)
        else:
            raise ValueError(f"{self.path}: value type {kind} is not known")

    def _skip(self, count: int) -> None:
        if self.file.tell() + count > self.size:
            raise ValueError(f"{self.path}: the file ends inside a value")
        self.file.seek(count, 1)
