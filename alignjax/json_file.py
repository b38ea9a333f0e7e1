# SPDX-License-Identifier: Apache-2.0
"""JSON files of a model folder: one object, held to a size, no name given twice."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from alignjax import whole_file

MAX_DIGITS = 20


def read(path: Path, *, limit: int = 1_000_000) -> dict[str, Any]:
    """The object in a file of at most `limit` bytes.

    Raises:
      ValueError: missing, too large, or not one JSON object; names file and place.
    """
    if not path.is_file():
        raise ValueError(f"{path}: no such file")
    size = path.stat().st_size
    if size > limit:
        raise ValueError(f"{path}: {size} bytes; limit {limit}")
    return parse(path.read_bytes(), where=str(path))


def parse(data: bytes, *, where: str) -> dict[str, Any]:
    """The object in `data`; see `read`."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name, value in pairs:
            if name in found:
                raise ValueError(f'{where}: "{name[:80]}" appears twice')
            found[name] = value
        return found

    def integer(digits: str) -> int:
        if len(digits) > MAX_DIGITS:
            raise ValueError(
                f"{where}: a number of {len(digits)} digits; limit {MAX_DIGITS}"
            )
        return int(digits)

    try:
        text = data.decode("utf-8")
        value = json.loads(text, object_pairs_hook=unique, parse_int=integer)
    except UnicodeDecodeError as error:
        raise ValueError(f"{where} is not valid UTF-8 at byte {error.start}") from error
    except json.JSONDecodeError as error:
        raise ValueError(
            f"{where} is not valid JSON at line {error.lineno} column {error.colno}"
        ) from error
    except RecursionError as error:
        raise ValueError(f"{where} is not valid JSON: nested too deeply") from error
    if not isinstance(value, dict):
        raise ValueError(f"{where}: expected a JSON object, got {type(value).__name__}")
    return value


def write(path: Path, value: Any) -> None:
    """Write `value`, whole or not at all; see `whole_file.write`."""
    whole_file.write(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")
