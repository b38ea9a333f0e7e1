# SPDX-License-Identifier: Apache-2.0
"""Answers files: a sample a line, appended as they finish, in order when complete.

Each line begins with its key, a digest of all that decides the sample. So a run that
was stopped knows what is there already, and a line of another run is recognised.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from alignjax import lock, whole_file
from alignjax.metrics import parse_line

SYNC_S = 5.0  # between two waits for the disk
_START = b'{"key": "'


class _Line(NamedTuple):
    """Where a row is in the file."""

    key: str
    start: int
    size: int


class Answers:
    """Rows by key: those of an earlier run, and those that are appended.

    Attributes:
      reasons: of each row that is there, why it was refused; "" where it was not.
    """

    def __init__(self, file: BinaryIO, reasons: dict[str, str]):
        self.reasons = reasons
        self._file = file
        self._synced = time.monotonic()

    def append(self, key: str, row: Mapping[str, Any]) -> None:
        """Writes a row; it reaches the operating system before this returns."""
        line = json.dumps({"key": key, **row}, ensure_ascii=False) + "\n"
        self._file.write(line.encode())
        self._file.flush()
        self.reasons[key] = row.get("reason", "")
        if time.monotonic() - self._synced >= SYNC_S:
            self.sync()

    def sync(self) -> None:
        """Waits until the rows are on the disk, where there is one."""
        if self._file.seekable():
            os.fsync(self._file.fileno())
        self._synced = time.monotonic()


@contextmanager
def stream(file: BinaryIO) -> Iterator[Answers]:
    """Rows as they finish, to a pipe or a terminal."""
    yield Answers(file, {})


@contextmanager
def opened(
    path: Path, keys: Sequence[str], *, is_fresh: bool = False
) -> Iterator[Answers]:
    """An answers file; this process's alone until the block ends.

    When the block ends and no row is missing, the file is put in the order of `keys`,
    whole or not at all.

    Args:
      keys: of all rows, in order.
      is_fresh: drop the rows of other keys instead of refusing the file.

    Raises:
      ValueError: another process is at work on it, it holds something else, or rows of
        other keys; says what to do.
      OSError: the disk is full or not writable.
    """
    _check_place(path)
    if path.is_symlink():
        path = path.resolve()  # what it points to is replaced, not the link
    ranks = {key: rank for rank, key in enumerate(keys)}
    with lock.held_beside(path, what="sampling", instead="--out"):
        reasons = _take_over(path, ranks, is_fresh) if path.exists() else {}
        with path.open("ab") as file:
            whole_file.sync(path.parent)
            answers = Answers(file, reasons)
            try:
                yield answers
            except OSError as error:
                error.filename = error.filename or str(path)
                raise
            finally:
                answers.sync()
                if not reasons:
                    path.unlink()
        if len(reasons) == len(ranks):
            _sort(path, ranks)


def _check_place(path: Path) -> None:
    if path.is_dir():
        raise ValueError(f"{path}: is a folder; give --out the name of a file")
    if path.exists() and not path.is_file():
        raise ValueError(f"{path}: is not a regular file; --out - writes to a pipe")
    if not path.absolute().parent.is_dir():
        raise ValueError(
            f"{path}: the folder {path.parent} does not exist; make it, or choose "
            "another --out"
        )


def _take_over(path: Path, ranks: Mapping[str, int], is_fresh: bool) -> dict[str, str]:
    """The reasons by key of the rows that stay; cuts off what a kill left behind."""
    lines: dict[str, _Line] = {}
    reasons: dict[str, str] = {}
    others: list[int] = []
    for number, (line, row) in enumerate(_rows(path), start=1):
        if line.key in ranks and line.key not in lines:
            lines[line.key] = line
            reasons[line.key] = str(row.get("reason", ""))
        else:
            others.append(number)
    if others and not is_fresh:
        raise ValueError(
            f"{path}: {len(others)} of its {len(others) + len(lines)} answers are not "
            f"of this command, the first on line {others[0]}: the model, the settings "
            "or the prompts were others; choose another --out, remove the file, or add "
            "--fresh to drop those answers and keep the rest"
        )
    if others:
        whole_file.write_pieces(path, _pieces(path, lines.values()))
    else:
        end = sum(line.size for line in lines.values())
        if path.stat().st_size > end:
            os.truncate(path, end)
    return reasons


def _rows(path: Path) -> Iterator[tuple[_Line, dict[str, Any]]]:
    """Every whole line; the last may lack its end, the mark of a kill."""
    start = 0
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.startswith(_START[: len(line)]):
                raise ValueError(
                    f"{path}:{number}: is no answer of `alignjax sample`; choose "
                    "another --out"
                )
            if not line.endswith(b"\n"):
                return
            try:
                row = parse_line(line, f"{path}:{number}")
            except ValueError as error:
                raise ValueError(
                    f"{error}; remove that line and its answer is sampled again"
                ) from error
            yield _Line(str(row["key"]), start, len(line)), row
            start += len(line)


def _sort(path: Path, ranks: Mapping[str, int]) -> None:
    lines = [line for line, _ in _rows(path)]
    ordered = sorted(lines, key=lambda line: ranks[line.key])
    if ordered != lines:
        whole_file.write_pieces(path, _pieces(path, ordered))


def _pieces(path: Path, lines: Iterable[_Line]) -> Iterator[bytes]:
    with path.open("rb") as file:
        for line in lines:
            file.seek(line.start)
            yield file.read(line.size)
