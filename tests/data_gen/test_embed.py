# SPDX-License-Identifier: Apache-2.0
"""Embedders: unit vectors, and cosines that can be counted by hand."""

import numpy as np
import pytest

from data_gen.embed import HashedNgrams, cosines


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
