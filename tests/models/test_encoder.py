# SPDX-License-Identifier: Apache-2.0
"""The encoder and sentence embeddings: PyTorch's numbers, padding, pooling."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alignjax import embedding, models
from alignjax.embedding import SentenceEncoder
from alignjax.models import EncoderModel, Params, encoder


@pytest.fixture(scope="module")
def tiny(golden: Path) -> tuple[EncoderModel, Params]:
    return models.load_encoder(golden / "tiny_bert")


@partial(jax.jit, static_argnames="model")
def hidden_of(params: Params, tokens, is_token, *, model: EncoderModel):
    return model.apply(params, tokens, is_token)


def padded(sequences: list[list[int]], time: int) -> tuple[np.ndarray, np.ndarray]:
    """Tokens, padded with id 7, and which are real."""
    tokens = np.full((len(sequences), time), 7, np.int32)
    is_token = np.zeros((len(sequences), time), bool)
    for row, sequence in enumerate(sequences):
        tokens[row, : len(sequence)] = sequence
        is_token[row, : len(sequence)] = True
    return tokens, is_token


def test_hidden_states_equal_those_of_torch_whatever_the_padding(tiny, golden: Path):
    model, params = tiny
    sequences = json.loads((golden / "tiny.json").read_text())["sequences"]
    expected = np.load(golden / "tiny.npz")
    tokens, is_token = padded(sequences, 64)
    hidden = hidden_of(params, tokens, is_token, model=model)
    for i, sequence in enumerate(sequences):
        got = hidden[i, : len(sequence)]
        np.testing.assert_allclose(got, expected[f"bert_{i}"], atol=2e-5)


def test_padding_is_seen_by_nobody(tiny):
    """Other ids where nothing stands: the real tokens' hidden states stay bitwise."""
    model, params = tiny
    tokens, is_token = padded([[1, 2, 3], [4]], 64)
    before = np.asarray(hidden_of(params, tokens, is_token, model=model))
    other = np.where(is_token, tokens, 99)
    after = np.asarray(hidden_of(params, other, is_token, model=model))
    np.testing.assert_array_equal(after[is_token], before[is_token])


def test_pool_is_the_mean_of_real_tokens_scaled_to_length_one():
    """Mean of (0, 4) and (6, 4) is (3, 4), of length 5; a row of padding gives 0."""
    hidden = jnp.array([[[0.0, 4.0], [6.0, 4.0], [1e9, math.inf]], [[1.0, 1.0]] * 3])
    is_token = jnp.array([[True, True, False], [False] * 3])
    pooled = encoder.pool(hidden, is_token)
    np.testing.assert_allclose(pooled, [[0.6, 0.8], [0.0, 0.0]], rtol=1e-6)


def test_sentence_shapes_are_powers_of_two_within_the_limit():
    """3 texts of at most 33 tokens: 4 rows of 64, or of 48 where that is all there is;
    short texts get 32."""
    ids = [[1] * 33, [2], [3, 4]]
    tokens, is_token = embedding._padded(ids, 256)
    assert tokens.shape == is_token.shape == (4, 64)
    np.testing.assert_array_equal(is_token.sum(1), [33, 1, 2, 0])
    assert embedding._padded(ids, 48)[0].shape == (4, 48)
    assert embedding._padded([[5]], 256)[0].shape == (1, 32)


def test_a_folder_without_a_model_is_named_at_the_first_text(tmp_path: Path):
    with pytest.raises(ValueError, match=r"config\.json: no such file"):
        SentenceEncoder(tmp_path)(["text"])


@pytest.mark.slow
def test_minilm_embeddings_equal_those_of_torch(
    golden: Path, fetched: Callable[[str], Path]
):
    encode = SentenceEncoder(fetched("minilm"))
    sentences = json.loads((golden / "minilm.json").read_text())["sentences"]
    expected = np.load(golden / "minilm.npz")["embeddings"]
    embeddings = encode(sentences)
    np.testing.assert_allclose(embeddings, expected, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(embeddings, axis=1), 1, atol=1e-6)
    many = encode(sentences * 6)  # 36 texts: two batches
    np.testing.assert_allclose(many, np.tile(expected, (6, 1)), atol=1e-5)
    assert encode([]).shape[0] == 0
    # Beyond 256 tokens a text is cut: another tail is another text to no one.
    long = "word " * 300
    same = encode([long + "apple", long + "stone"])
    np.testing.assert_array_equal(same[0], same[1])
