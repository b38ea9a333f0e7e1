# SPDX-License-Identifier: Apache-2.0
"""Reference log-probabilities on disk, so the reference model leaves memory.

The cache's name is a digest of all that decides its content: the reference's weights,
their type, and the token ids that were scored (so dataset, tokenizer and template).
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from alignjax import whole_file
from alignjax.data.rows import Tokens

Logprobs = list[tuple[np.ndarray, ...]]  # [example][rank] -> one value per token


def key(model: str, examples: Sequence[Tokens], *, dtype: str) -> str:
    """Digest of the reference's weights (`model`, a fingerprint), their type, and the
    very token ids that are scored."""
    digest = hashlib.sha256(f"{model} {dtype}\n".encode())
    for example in examples:
        content = [example.prompt, example.responses]
        digest.update(json.dumps(content).encode() + b"\n")
    return digest.hexdigest()


def load(folder: Path, name: str, examples: Sequence[Tokens]) -> Logprobs | None:
    """The cached values, or None where there are none.

    Raises:
      ValueError: the file is damaged (it carries a checksum), or holds values of other
        examples; names it.
    """
    path = folder / f"{name}.npz"
    if not path.is_file():
        return None
    try:
        with np.load(path, allow_pickle=False) as file:
            flat = file["logprobs"]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(
            f"{path}: the cached reference log-probabilities are damaged ({error}); "
            "remove the file, it is made again"
        ) from error
    lengths = [len(r) for example in examples for r in example.responses]
    if flat.shape != (sum(lengths),) or not np.isfinite(flat).all():
        raise ValueError(
            f"{path}: expected {sum(lengths)} finite log-probabilities, found shape "
            f"{flat.shape}; remove the file, it is made again"
        )
    parts = iter(np.split(flat, np.cumsum(lengths)[:-1]))
    return [tuple(next(parts) for _ in example.responses) for example in examples]


def save(folder: Path, name: str, logprobs: Logprobs) -> None:
    """Writes the cache whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    flat = np.concatenate([part for example in logprobs for part in example])
    file = io.BytesIO()
    np.savez(file, logprobs=flat.astype(np.float32))
    whole_file.write(folder / f"{name}.npz", file.getvalue())
