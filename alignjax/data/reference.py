# SPDX-License-Identifier: Apache-2.0
"""Reference log-probabilities on disk, so the reference model leaves memory.

The cache's name is a digest of all that decides its content: the reference's weights,
the dataset's bytes, the tokenizer, and which examples were scored.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from alignjax.data.rows import Tokens

Logprobs = list[tuple[np.ndarray, ...]]  # [example][rank] -> one value per token


def key(model: str, examples: Sequence[Tokens], *, dtype: str) -> str:
    """Digest of the reference's weights (`model`, a fingerprint) and of the very token
    ids that are scored."""
    digest = hashlib.sha256(f"{model} {dtype}\n".encode())
    for example in examples:
        content = [example.prompt, example.responses]
        digest.update(json.dumps(content).encode() + b"\n")
    return digest.hexdigest()


def load(folder: Path, name: str, examples: Sequence[Tokens]) -> Logprobs | None:
    """The cached values, or None where there are none."""
    path = folder / f"{name}.npz"
    if not path.is_file():
        return None
    with np.load(path, allow_pickle=False) as file:
        flat = file["logprobs"]
    lengths = [len(r) for example in examples for r in example.responses]
    if flat.shape != (sum(lengths),):
        raise ValueError(f"{path}: holds {flat.shape} values; remove the file")
    parts = iter(np.split(flat, np.cumsum(lengths)[:-1]))
    return [tuple(next(parts) for _ in example.responses) for example in examples]


def save(folder: Path, name: str, logprobs: Logprobs) -> None:
    """Writes the cache whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    flat = np.concatenate([part for example in logprobs for part in example])
    partial = folder / f".{name}.partial"
    with open(partial, "wb") as file:
        np.savez(file, logprobs=flat.astype(np.float32))
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, folder / f"{name}.npz")
