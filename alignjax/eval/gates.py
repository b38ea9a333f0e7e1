# SPDX-License-Identifier: Apache-2.0
"""Gates: does an answer still answer? A constraint can be met by saying nothing, so an
answer counts as good only if it is long enough, not repetitive and on topic."""

from __future__ import annotations

import dataclasses
import re
import zlib
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float


@dataclasses.dataclass(frozen=True)
class GateConfig:
    """Thresholds, fixed before training.

    Attributes:
      min_words: fewest words of an answer.
      max_repetition: largest `repetition`; [0, 1].
      min_similarity: smallest cosine between the embeddings of the answer and of the
        nearest of the untrained model's answers to the bare task.
    """

    min_words: int = 5
    max_repetition: float = 0.5
    min_similarity: float = 0.3

    def __post_init__(self) -> None:
        if self.min_words < 0:
            raise ValueError(f"min_words must be 0 or above, got {self.min_words}")
        if not 0 <= self.max_repetition <= 1:
            raise ValueError(f"max_repetition is a share, got {self.max_repetition}")
        if not -1 <= self.min_similarity <= 1:
            raise ValueError(f"min_similarity is a cosine, got {self.min_similarity}")


@dataclasses.dataclass(frozen=True)
class Gates:
    """Which gates an answer passes, and its similarity to the reference."""

    long_enough: bool
    not_repetitive: bool
    on_topic: bool
    similarity: float

    @property
    def passed(self) -> bool:
        return self.long_enough and self.not_repetitive and self.on_topic


def judge(text: str, similarity: float, config: GateConfig) -> Gates:
    """Applies the thresholds to an answer with a given similarity."""
    return Gates(
        long_enough=len(words(text)) >= config.min_words,
        not_repetitive=repetition(text) <= config.max_repetition,
        on_topic=similarity >= config.min_similarity,
        similarity=similarity,
    )


def words(text: str) -> list[str]:
    """Lower-cased runs of letters, digits and apostrophes."""
    return re.findall(r"[\w']+", text.lower())


def repetition(text: str) -> float:
    """Share of word trigrams that occurred before in the text; 0 below three words.

    It is counted with "don't" as one word and as two, and the larger share counts. For
    text without spaces, or one long loop inside a word, what compression saves stands
    in: 1 - compressed/plain, from 200 bytes up, where it exceeds 0.85. data_gen gates
    its samples by the same number.

    >>> repetition("to be or to be or to be")  # 6 trigrams, 3 distinct
    0.5
    """
    share = max(_repeated(words(text)), _repeated(re.findall(r"\w+", text.casefold())))
    raw = text.encode()
    if len(raw) < 200:
        return share
    saved = 1 - len(zlib.compress(raw, 9)) / len(raw)
    return max(share, saved) if saved > 0.85 else share


def similarities(
    vectors: Float[np.ndarray, "text embed"],
    references: Float[np.ndarray, "text reference embed"],
) -> list[float]:
    """Cosine of each text with the nearest of its references, rounded to four digits.

    All vectors have length 1. The nearest counts because a model may answer in
    several ways, and a small one now and then beside the point.
    """
    cosines = np.einsum("te,tre->tr", vectors, references)
    return [round(float(cosine), 4) for cosine in cosines.max(axis=1)]


def _repeated(found: Sequence[str]) -> float:
    trigrams = list(zip(found, found[1:], found[2:], strict=False))
    return 1 - len(set(trigrams)) / len(trigrams) if trigrams else 0.0
