# SPDX-License-Identifier: Apache-2.0
"""Contrast accuracy: how often the answer that should be better is measured better."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

_Z95 = 1.959963984540054  # of the normal distribution, two sides


class Contrast(NamedTuple):
    """Pairs of answers to the same prompts: how many times the first is better, the
    second is, and neither."""

    wins: int
    losses: int
    ties: int

    @property
    def accuracy(self) -> float | None:
        """Wins over wins plus losses; None where every pair is a tie."""
        decided = self.wins + self.losses
        return self.wins / decided if decided else None

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval of the accuracy; see `wilson`."""
        return wilson(self.wins, self.wins + self.losses)


def contrast(pairs: Iterable[tuple[float, float]]) -> Contrast:
    """Compares the scores of two answers, pair by pair; the higher score wins."""
    wins = losses = ties = 0
    for first, second in pairs:
        wins += first > second
        losses += first < second
        ties += first == second
    return Contrast(wins, losses, ties)


def wilson(successes: int, n: int) -> tuple[float, float]:
    """The score interval of a share, Wilson 1927 (JASA 22:158), at 95 %.

    It takes the n cases for independent. With n = 0 it is (0, 1).
    """
    if n == 0:
        return 0.0, 1.0
    share, z2 = successes / n, _Z95**2
    middle = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = _Z95 * math.sqrt(share * (1 - share) / n + z2 / (4 * n * n)) / (1 + z2 / n)
    return max(0.0, middle - half), min(1.0, middle + half)
