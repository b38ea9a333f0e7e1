# SPDX-License-Identifier: Apache-2.0
"""Metrics on disk: JSON Lines, one object a step, each step once."""

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

Value = float | int | str | bool | None


class JsonlWriter:
    """Appends one JSON object a step to a file; safe to kill and to open again.

    Opening a file that exists drops what a resumed run will write again: rows whose
    step is greater than `resume_step`, and a last line without its newline (a write
    that was cut off). Each row reaches the operating system before `write` returns.

    NaN and infinities are not JSON: such a value is written as null, and the row's
    "nonfinite" lists the names.
    """

    def __init__(self, path: str | Path, resume_step: int = 0) -> None:
        """Open for appending after the rows of steps 0 to `resume_step`.

        Args:
          path: the file; made with its parent folders if it does not exist.
          resume_step: last step whose row is kept; 0 for a new run that counts
            from 1, -1 for one that counts from 0.

        Raises:
          ValueError: a kept line is not a JSON object with an integer "step", or the
            steps do not rise; names the file and the line.
        """
        self._path = Path(path)
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._last_step, size = _kept(self._path, resume_step)
        self._file = self._path.open("ab")
        self._file.truncate(size)

    def write(self, row: Mapping[str, Value]) -> None:
        """Append one row and flush it.

        Args:
          row: plain scalars by name; "step" is required and rises from row to row.

        Raises:
          ValueError: "step" is missing or not greater than the last one, or a value is
            not a plain scalar (convert arrays with float() first).
        """
        step = row.get("step")
        if type(step) is not int or step <= self._last_step:
            raise ValueError(
                f"{self._path}: expected an integer step greater than "
                f"{self._last_step}, got {step!r}"
            )
        plain: dict[str, Any] = {}
        nonfinite = []
        for name, value in row.items():
            if not isinstance(value, (bool, int, float, str, type(None))):
                raise ValueError(
                    f"{self._path}: {name!r} is {type(value).__name__}, expected a "
                    "plain number, string, bool or None"
                )
            if isinstance(value, float) and not math.isfinite(value):
                nonfinite.append(name)
                value = None
            plain[name] = value
        if nonfinite:
            plain["nonfinite"] = nonfinite
        line = json.dumps(plain, ensure_ascii=False, separators=(",", ":"))
        self._file.write(line.encode("utf-8") + b"\n")
        self._file.flush()
        self._last_step = step

    def sync(self) -> None:
        """Wait until the rows are on the disk: call it where a checkpoint is saved."""
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> "JsonlWriter":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def read_jsonl(path: str | Path) -> list[dict[str, Any]]:
    """Read a JSON Lines file: one object per line, empty lines skipped.

    Lines end at the byte "\\n" and nowhere else: a text may contain U+2028 and other
    characters at which `str.splitlines` would cut.

    Raises:
      ValueError: the file is missing, or a line is not UTF-8, not JSON or not an
        object, names a key twice, or has a number that is not finite; names the file
        and the line.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"{path}: no such file")
    return [
        parse_line(line, f"{path}:{number}")
        for number, line in enumerate(path.read_bytes().split(b"\n"), start=1)
        if line.strip()
    ]


def parse_line(line: bytes, where: str) -> dict[str, Any]:
    """The object on one line; `where` names the line in errors. See `read_jsonl`."""
    try:
        row = json.loads(
            line.decode("utf-8"),
            object_pairs_hook=_unique,
            parse_float=_finite,
            parse_constant=_finite,
        )
        json.dumps(row, ensure_ascii=False).encode("utf-8")  # no lone surrogates
    except UnicodeDecodeError as error:
        raise ValueError(f"{where}: byte {error.start + 1} is not UTF-8") from error
    except UnicodeEncodeError as error:
        raise ValueError(f"{where}: invalid Unicode (a lone surrogate)") from error
    except json.JSONDecodeError as error:
        raise ValueError(f"{where}:{error.colno}: not JSON: {error.msg}") from error
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{where}: {error}") from error
    if not isinstance(row, dict):
        raise ValueError(f"{where}: expected a JSON object, got {type(row).__name__}")
    return row


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    row = dict(pairs)
    if len(row) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key {twice!r} is there twice")
    return row


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text} is not a finite number; use null")
    return number


def _kept(path: Path, resume_step: int) -> tuple[int, int]:
    """(last step kept, bytes kept) of a file whose rows rise in step."""
    if not path.exists():
        return resume_step, 0
    last, size = -1, 0
    *lines, _torn = path.read_bytes().split(b"\n")
    for number, line in enumerate(lines, start=1):
        step = parse_line(line, f"{path}:{number}").get("step")
        if type(step) is not int or step <= last:
            raise ValueError(
                f"{path}:{number}: expected an integer step greater than {last}, "
                f"got {step!r}"
            )
        if step > resume_step:
            break
        last, size = step, size + len(line) + 1
    return resume_step, size
