# SPDX-License-Identifier: Apache-2.0
"""Locks: one process at a time works in a folder."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

NAME = ".lock"


@contextmanager
def held(folder: Path, *, what: str) -> Iterator[None]:
    """Holds the folder's lock until the block ends or the process dies.

    Args:
      folder: must exist; its lock file stays and means nothing by itself.
      what: the kind of work, for the error.

    Raises:
      ValueError: another process holds it.
    """
    with (folder / NAME).open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(
                f"{folder}: another {what} is at work in this folder; wait for it, or "
                "choose another --out"
            ) from None
        yield
