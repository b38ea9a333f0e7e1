# SPDX-License-Identifier: Apache-2.0
"""Embedders: unit vectors, and cosines that can be counted by hand."""

import json
import shutil

import numpy as np
import pytest

from alignjax.embedding import SentenceEncoder
from data_gen.embed import FlaxEmbedder, HashedNgrams, cosines


def test_hashed_ngrams_are_unit_vectors():
    vectors = HashedNgrams()(["a calm sea", "a calm sea", "Grey gulls!"])
    assert vectors.shape == (3, 512)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, rtol=1e-6)
    np.testing.assert_array_equal(vectors[0], vectors[1])


def test_a_cosine_counts_shared_words_and_pairs():
    """Both of "calm sea" and "calm lake" have 2 words and 1 pair; 1 of 3 is shared."""
    found = cosines(HashedNgrams(), "calm sea", ["calm lake", "Calm sea.", "gulls"])
    assert found == [pytest.approx(1 / 3, abs=1e-6), 1.0, 0.0]


def test_no_texts_need_no_embedding():
    assert cosines(HashedNgrams(), "calm sea", []) == []


def test_the_local_embedder_is_the_encoder_of_evaluation(tiny_encoder):
    texts = ["calm sea", "a grey gull over the harbour"]
    vectors = FlaxEmbedder(tiny_encoder)(texts)
    np.testing.assert_array_equal(vectors, SentenceEncoder(tiny_encoder)(texts))
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, rtol=1e-6)
    assert cosines(FlaxEmbedder(tiny_encoder), texts[0], texts[:1]) == [1.0]


def test_its_fingerprint_follows_weights_config_and_tokenizer(tiny_encoder, tmp_path):
    folder = tmp_path / "encoder"
    shutil.copytree(tiny_encoder, folder)
    (folder / ".fingerprint.json").unlink(missing_ok=True)
    prints = [FlaxEmbedder(tiny_encoder).fingerprint, FlaxEmbedder(folder).fingerprint]
    assert prints[0] == prints[1]
    weights = bytearray((folder / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (folder / "model.safetensors").write_bytes(weights)
    prints.append(FlaxEmbedder(folder).fingerprint)
    for name in ("config.json", "tokenizer.json"):
        content = json.loads((folder / name).read_text())
        (folder / name).write_text(json.dumps(content, indent=3))
        prints.append(FlaxEmbedder(folder).fingerprint)
    assert len(set(prints)) == 4
