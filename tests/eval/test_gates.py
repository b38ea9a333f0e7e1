# SPDX-License-Identifier: Apache-2.0
"""Gates: thresholds that are met exactly pass; measures are counts done by hand."""

import numpy as np
import pytest

from alignjax.eval import gates
from alignjax.eval.gates import GateConfig

TEXT = "Red cats see old trees and small houses."


def test_an_answer_passes_all_gates():
    found = gates.judge(TEXT, 0.8, GateConfig())
    assert found.passed
    assert found.similarity == 0.8


@pytest.mark.parametrize(
    ("text", "similarity", "failed"),
    [
        ("Red cats see trees.", 0.8, "long_enough"),  # 4 words, 5 are needed
        ("", 0.8, "long_enough"),
        ("to be or to be or to be or", 0.8, "not_repetitive"),
        (TEXT, 0.29, "on_topic"),
    ],
)
def test_each_gate_fails_alone(text, similarity, failed):
    found = gates.judge(text, similarity, GateConfig())
    names = ("long_enough", "not_repetitive", "on_topic")
    assert [name for name in names if not getattr(found, name)] == [failed]
    assert not found.passed


def test_thresholds_that_are_met_exactly_pass():
    """Five words; 6 trigrams of which 3 repeat; cosine 0.35."""
    exact = GateConfig(min_words=8, max_repetition=0.5, min_similarity=0.35)
    assert gates.judge("to be or to be or to be", 0.35, exact).passed
    assert not gates.judge("to be or to be or to be", 0.3499, exact).passed


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", 0.0),
        ("one two", 0.0),
        ("one two three", 0.0),
        ("to be or to be or to be", 0.5),  # 6 trigrams, 3 distinct
        ("a a a a a", 2 / 3),  # 3 trigrams, 1 distinct
        ("A a, A? a!", 0.5),  # case and punctuation do not count: 2 trigrams, 1 kind
    ],
)
def test_repetition_counts_trigrams(text, expected):
    assert gates.repetition(text) == pytest.approx(expected)


def test_words_are_runs_of_letters_digits_and_apostrophes():
    assert gates.words("Don't stop, été 42-times!") == [
        "don't",
        "stop",
        "été",
        "42",
        "times",
    ]


def test_the_nearest_reference_counts():
    """(0.6, 0.8) . (1, 0) = 0.6 and . (0, 1) = 0.8; (0, 1) . (0, -1) = -1 and
    . (1, 0) = 0."""
    vectors = np.array([[0.6, 0.8], [0.0, 1.0]])
    references = np.array([[[1.0, 0.0], [0.0, 1.0]], [[0.0, -1.0], [1.0, 0.0]]])
    assert gates.similarities(vectors, references) == [0.8, 0.0]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"min_words": -1}, "min_words must be 0 or above, got -1"),
        ({"max_repetition": 1.1}, "max_repetition is a share, got 1.1"),
        ({"min_similarity": -2.0}, "min_similarity is a cosine, got -2.0"),
    ],
)
def test_thresholds_out_of_range_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        GateConfig(**changes)
