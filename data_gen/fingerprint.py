# SPDX-License-Identifier: Apache-2.0
"""Fingerprints of model folders: sha256 over the files that decide the output."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

WEIGHTS = ("*.safetensors", "*.gguf", "config.json")
TEMPLATE = (
    "tokenizer*",
    "*.jinja",
    "chat_template*",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.*",
    "merges.txt",
    "generation_config.json",
)


def folder_digest(folder: Path, patterns: Sequence[str] = WEIGHTS + TEMPLATE) -> str:
    """sha256 (hex) of the names and contents of the matching files.

    Raises:
      ValueError: no such folder, or no file in it matches.
    """
    if not folder.is_dir():
        raise ValueError(f"{folder}: no such model folder")
    names = {path.name for pattern in patterns for path in folder.glob(pattern)}
    if not names:
        raise ValueError(
            f"{folder} holds none of {', '.join(patterns)}; is it a model folder?"
        )
    total = hashlib.sha256()
    for name in sorted(names):
        with open(folder / name, "rb") as file:
            content = hashlib.file_digest(file, "sha256").hexdigest()
        total.update(f"{name} {content}\n".encode())
    return total.hexdigest()
