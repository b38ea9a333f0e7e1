# SPDX-License-Identifier: Apache-2.0
"""Embedders: texts to unit vectors, for topic gates and Self-Contrast's filter."""

import hashlib
import itertools
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from data_gen.fingerprint import folder_digest

HASHED_NGRAMS = "hashed-ngrams"
_ROWS = 32
_CONTEXT = 256


class Embedder(Protocol):
    """Maps n texts to float32 [n, width], each row of length 1."""

    @property
    def fingerprint(self) -> str: ...

    def __call__(self, texts: Sequence[str]) -> np.ndarray: ...


class FlaxEmbedder:
    """A sentence encoder from a model folder; its weights load at the first call.

    Texts beyond 256 tokens are cut. A call is padded to powers of two in both
    directions, so a vector is a function of its call and compilations are few.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.fingerprint: str = folder_digest(folder)
        self._apply: Callable[[np.ndarray, np.ndarray], np.ndarray] | None = None

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        if self._apply is None:
            self._apply = self._load()
        ids = [self._ids(text) for text in texts]
        vectors = [
            self._apply(*_padded(ids[start : start + _ROWS]))[: len(ids) - start]
            for start in range(0, len(ids), _ROWS)
        ]
        return np.concatenate(vectors) if vectors else np.zeros((0, 0), np.float32)

    def _ids(self, text: str) -> list[int]:
        ids = self._tokenizer.sentence_ids(text)
        return (
            ids if len(ids) <= self._context else [*ids[: self._context - 1], ids[-1]]
        )

    def _load(self) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
        import jax  # heavy: only where texts are embedded

        from alignjax import models
        from alignjax.data.tokenizer import load_tokenizer
        from alignjax.models import encoder

        model, params = models.load_encoder(self.folder)
        self._tokenizer = load_tokenizer(self.folder)
        self._context = min(_CONTEXT, model.config.context)

        @jax.jit
        def embed(params, tokens, is_token):
            return encoder.pool(model.apply(params, tokens, is_token), is_token)

        return lambda tokens, is_token: np.asarray(embed(params, tokens, is_token))


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


def open_embedder(name: str) -> Embedder | None:
    """The embedder of a config: a model folder, "hashed-ngrams", or "" for none."""
    if not name:
        return None
    return HashedNgrams() if name == HASHED_NGRAMS else FlaxEmbedder(Path(name))


def cosines(embed: Embedder, reference: str, texts: Sequence[str]) -> list[float]:
    """cos(reference, text) of each text, rounded to six digits.

    One call to the embedder, whose texts are a function of the arguments alone.
    """
    if not texts:
        return []
    vectors = embed([reference, *texts])
    return [round(float(value), 6) for value in vectors[1:] @ vectors[0]]


def _padded(ids: Sequence[Sequence[int]]) -> tuple[np.ndarray, np.ndarray]:
    """Tokens and what is a token, [row, time], both sizes powers of two."""
    rows = 1 << (len(ids) - 1).bit_length()
    time = max(32, 1 << (max(map(len, ids)) - 1).bit_length())
    tokens = np.zeros((rows, time), np.int32)
    is_token = np.zeros((rows, time), bool)
    for row, own in enumerate(ids):
        tokens[row, : len(own)] = own
        is_token[row, : len(own)] = True
    return tokens, is_token
