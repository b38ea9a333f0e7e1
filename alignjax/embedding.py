# SPDX-License-Identifier: Apache-2.0
"""Sentence embeddings from an encoder's folder (MiniLM, for one)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

_ROWS = 32
_CONTEXT = 256  # tokens; a longer text is cut


class SentenceEncoder:
    """Maps texts to float32 [text, embed], each row of length 1.

    The weights are loaded at the first call. Shapes are padded to powers of two, so
    compilations are few; the last digits of a vector depend on the shape, so on the
    texts that are given together.
    """

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)
        self._embed: Callable[[np.ndarray, np.ndarray], np.ndarray] | None = None

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        if self._embed is None:
            self._load()
        assert self._embed is not None
        ids = [self._ids(text) for text in texts]
        parts = [
            self._embed(*_padded(ids[start : start + _ROWS], self._limit))[
                : len(ids) - start
            ]
            for start in range(0, len(ids), _ROWS)
        ]
        return np.concatenate(parts) if parts else np.zeros((0, 0), np.float32)

    def _ids(self, text: str) -> list[int]:
        ids = self._tokenizer.sentence_ids(text)
        return ids if len(ids) <= self._limit else [*ids[: self._limit - 1], ids[-1]]

    def _load(self) -> None:
        import jax

        from alignjax import models
        from alignjax.data.tokenizer import load_tokenizer
        from alignjax.models import encoder

        model, params = models.load_encoder(self.folder)
        self._tokenizer = load_tokenizer(self.folder)
        self._limit = min(_CONTEXT, model.config.context)

        @jax.jit
        def embed(params, tokens, is_token):
            return encoder.pool(model.apply(params, tokens, is_token), is_token)

        self._embed = lambda tokens, is_token: np.asarray(
            embed(params, tokens, is_token)
        )


def _padded(ids: Sequence[Sequence[int]], limit: int) -> tuple[np.ndarray, np.ndarray]:
    """Tokens, and which of them are real: [row, time], both sizes powers of two; time
    at most `limit`."""
    rows = 1 << (len(ids) - 1).bit_length()
    time = min(limit, max(32, 1 << (max(map(len, ids)) - 1).bit_length()))
    tokens = np.zeros((rows, time), np.int32)
    is_token = np.zeros((rows, time), bool)
    for row, own in enumerate(ids):
        tokens[row, : len(own)] = own
        is_token[row, : len(own)] = True
    return tokens, is_token
