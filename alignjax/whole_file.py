# SPDX-License-Identifier: Apache-2.0
"""Files that appear whole or not at all: a reader sees the old bytes or the new."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path


def write(path: Path, content: bytes | str) -> None:
    """Replaces `path`, even if the process is killed meanwhile, and waits for the disk.

    Raises:
      OSError: the disk is full or not writable; names `path`, which is as it was.
    """
    write_pieces(path, [content.encode() if isinstance(content, str) else content])


def write_pieces(path: Path, pieces: Iterable[bytes]) -> None:
    """The same for content that need not be in memory at once."""
    partial = path.with_name(f".{path.name}.partial")
    try:
        with partial.open("wb") as file:
            file.writelines(pieces)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise OSError(error.errno, error.strerror, str(path)) from error
    except BaseException:  # what gives the pieces failed
        partial.unlink(missing_ok=True)
        raise
    # The new name itself must reach the disk, not only the bytes.
    sync(path.parent)


def sync(path: Path) -> None:
    """Waits until a file or a folder is on the disk as it is."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
