# SPDX-License-Identifier: Apache-2.0
"""Embedders: texts to unit vectors, for topic gates and Self-Contrast's filter."""

import hashlib
import itertools
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from alignjax import fetch
from alignjax.data.tokenizer import load_tokenizer
from alignjax.embedding import SentenceEncoder
from data_gen.records import digest

HASHED_NGRAMS = "hashed-ngrams"


class Embedder(Protocol):
    """Maps n texts to float32 [n, width], each row of length 1."""

    @property
    def fingerprint(self) -> str: ...

    def __call__(self, texts: Sequence[str]) -> np.ndarray: ...


class FlaxEmbedder:
    """A sentence encoder from a model folder; its weights load at the first call."""

    def __init__(self, folder: Path) -> None:
        facts = {
            "model": fetch.fingerprint(folder),
            "config": hashlib.sha256((folder / "config.json").read_bytes()).hexdigest(),
            "tokenizer": load_tokenizer(folder).fingerprint,
        }
        self.fingerprint: str = digest(facts)
        self._encode = SentenceEncoder(folder)

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        return self._encode(texts)


class HashedNgrams:
    """Hashed counts of words and word pairs: no weights, so weak but instant.

    Texts that share no word have cosine near 0. For tests and demos.
    """

    def __init__(self, width: int = 512) -> None:
        self.width = width
        self.fingerprint: str = f"hashed-ngrams/1/{width}"

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        vectors = np.zeros((len(texts), self.width), np.float32)
        for row, text in zip(vectors, texts, strict=True):
            words = re.findall(r"\w+", text.casefold())
            pairs = [" ".join(pair) for pair in itertools.pairwise(words)]
            for gram in words + pairs:
                hashed = hashlib.sha256(gram.encode()).digest()
                row[int.from_bytes(hashed[:4], "big") % self.width] += 1.0
        norms = np.linalg.norm(vectors, axis=1, keepdims=True)
        return vectors / np.maximum(norms, 1e-12)


def cosines(embed: Embedder, reference: str, texts: Sequence[str]) -> list[float]:
    """cos(reference, text) of each text, rounded to six digits.

    One call to the embedder, whose texts are a function of the arguments alone.
    """
    if not texts:
        return []
    vectors = embed([reference, *texts])
    return [round(float(value), 6) for value in vectors[1:] @ vectors[0]]
