# SPDX-License-Identifier: Apache-2.0
"""Locks: one process at a time works in a folder, or on a file.

The lock is the kernel's (flock) and ends with its process, so a killed run leaves
nothing to clean up; the lock file only names the holder.
"""

from __future__ import annotations

import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

NAME = ".lock"


@contextmanager
def held(folder: Path, *, what: str) -> Iterator[None]:
    """Holds the lock of a folder, which must exist, until the block ends.

    Args:
      what: the kind of work, for the error.

    Raises:
      ValueError: another process holds it; names its pid and host.
      OSError: the folder cannot be locked; names the lock file.
    """
    refusal = f"{folder}: another {what} is at work in this folder"
    with _held(folder / NAME, refusal, instead="--out"):
        yield


@contextmanager
def held_beside(file: Path, *, what: str, instead: str) -> Iterator[None]:
    """Holds the lock of a file, {file}.lock, until the block ends.

    Args:
      file: need not exist; its folder must.
      what: as in `held`.
      instead: the setting that names another file.
    """
    refusal = f"{file}: another {what} is at work on this file"
    with _held(file.with_name(f"{file.name}.lock"), refusal, instead=instead):
        yield


@contextmanager
def _held(path: Path, refusal: str, *, instead: str) -> Iterator[None]:
    with _locked(path, refusal, instead) as file:
        try:
            yield
        finally:
            if _is_at(path, file):
                path.unlink(missing_ok=True)


def _locked(path: Path, refusal: str, instead: str) -> BinaryIO:
    """The file at `path`, locked; it names this process."""
    me = f"pid {os.getpid()} on host {socket.gethostname()}\n"
    while True:
        file = path.open("ab+", buffering=0)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_at(path, file):
                file.truncate(0)
                file.write(me.encode())
                return file
        except BlockingIOError:
            with file:
                file.seek(0)
                holder = file.read(300).decode(errors="replace").strip()
            raise ValueError(
                f"{refusal} ({holder or 'it gives no pid'}); wait for it, stop it, or "
                f"choose another {instead}"
            ) from None
        except OSError as error:
            file.close()
            raise OSError(error.errno, error.strerror, str(path)) from error
        file.close()  # the last holder removed it between our two calls


def _is_at(path: Path, file: BinaryIO) -> bool:
    """Whether `path` still names this open file."""
    try:
        return os.path.samestat(path.stat(), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False
