# SPDX-License-Identifier: Apache-2.0
"""Hub: the rows of a data set by its name, or of a folder that `datasets` saved."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from data_gen.seeds.files import Row

_NAME = re.compile(r"[\w.-]+/[\w.-]+|[\w-]+")
_SAVED = ("dataset_info.json", "dataset_dict.json")


def is_name(source: str) -> bool:
    """Whether this may be the name of a data set: "owner/name", or "name"."""
    return bool(_NAME.fullmatch(source)) and not source.startswith((".", "~"))


def is_saved(path: Path) -> bool:
    """Whether this is a folder that `Dataset.save_to_disk` made."""
    return path.is_dir() and any((path / name).is_file() for name in _SAVED)


def rows(source: str, *, subset: str, split: str, revision: str) -> Iterator[Row]:
    """The rows of one split, downloaded where they are not in the cache of `datasets`.

    No code of the data set is run: `datasets` reads data files only.

    Raises:
      ValueError: no such data set, subset or split, or the hub cannot be reached; in
        one line.
    """
    import datasets

    split = split or "train"
    try:
        if is_saved(Path(source)):
            found: Any = datasets.load_from_disk(source)
        else:
            found = datasets.load_dataset(
                source, subset or None, split=split, revision=revision or None
            )
    except (OSError, ValueError, RuntimeError) as error:
        told = " ".join(str(error).split())[:300]
        raise ValueError(
            f"the data set {source!r} cannot be had ({type(error).__name__}: {told}); "
            "check its name, or download a file of it and give the path"
        ) from error
    if isinstance(found, dict):  # a DatasetDict
        if split not in found:
            raise ValueError(
                f"{source}: has no split {split!r}; it has {', '.join(found)}"
            )
        found = found[split]
    for number, value in enumerate(found, start=1):
        yield Row("row", number, value)
