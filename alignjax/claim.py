# SPDX-License-Identifier: Apache-2.0
"""Claims: an output folder is one run's, and one process at a time works in it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from alignjax import json_file, lock, whole_file

MARKER = "run.json"
_CONFIG = "config.yaml"
# What a run that is killed while it claims its folder may leave there.
_EARLY = {lock.NAME, f".{MARKER}.partial", MARKER, f".{_CONFIG}.partial", _CONFIG}


@contextmanager
def held(
    out: Path, identity: str, *, config: str, what: str, writes: bool = True
) -> Iterator[None]:
    """Makes `out` this run's, and keeps others out until the block ends.

    Args:
      identity: digest of all that decides what the run writes.
      config: text that is kept as config.yaml.
      what: the kind of run, for errors.
      writes: false in the processes of a run that leave the files to its first one.

    Raises:
      ValueError: the folder belongs to another run, is not a run's folder at all, or
        another process is at work in it; says what to do.
    """
    _refuse_others(out, identity, what)
    if not writes:
        yield
        return
    out.mkdir(parents=True, exist_ok=True)
    with lock.held(out, what=what):
        _refuse_others(out, identity, what)
        whole_file.write(out / MARKER, json.dumps({"identity": identity}) + "\n")
        whole_file.write(out / _CONFIG, config)
        yield


def _refuse_others(out: Path, identity: str, what: str) -> None:
    if out.exists() and not out.is_dir():
        raise ValueError(f"{out}: is a file, not a folder; choose another --out")
    marker = out / MARKER
    if marker.is_file():
        if json_file.read(marker).get("identity") != identity:
            raise ValueError(
                f"{out}: belongs to another {what}: config, dataset or model differ "
                f"from this one's (see {out / _CONFIG}); choose another --out or "
                "remove the folder"
            )
        return
    if out.is_dir() and {path.name for path in out.iterdir()} - _EARLY:
        raise ValueError(
            f"{out}: is not empty and holds no {what}; choose another --out"
        )
