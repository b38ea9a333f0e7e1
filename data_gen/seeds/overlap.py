# SPDX-License-Identifier: Apache-2.0
"""Overlap: seeds that ask for nearly the same thing, by the words they share.

Similarity is |A & B| / |A | B| over sets of content words: words other than function
words and the words that ask for a short answer, which most seeds share.

The search is exact, yet need not look at all pairs. Where two sets are at least t
similar they share at least ceil(t |A|) words, so in any fixed order of all words they
share one among the first |A| - ceil(t |A|) + 1 of A, and of B likewise (prefix
filtering; Chaudhuri et al. 2006, Bayardo et al. 2007). With the rarest words first few
seeds share one of those.
"""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from data_gen.seeds.seed import Seed, normalise

_SLACK = 1e-9  # a product such as 0.7 * 10 must not round up to 8 words


class Overlap(NamedTuple):
    """Two seeds and the Jaccard similarity of their content words, in (0, 1]."""

    first: Seed
    second: Seed
    similarity: float


class Nearby:
    """Word sets seen so far, and those of them that are near a new one.

    Args:
      threshold: similarity from which two sets are near, in (0, 1].
      frequency: in how many sets a word occurs, of all sets or of some; decides only
        how fast a search is.
    """

    def __init__(self, threshold: float, frequency: Mapping[str, int]):
        _check(threshold)
        self._threshold = threshold
        self._frequency = frequency
        self._sets: list[frozenset[str]] = []
        self._holders: dict[str, list[int]] = defaultdict(list)

    def find(self, words: frozenset[str]) -> list[tuple[int, float]]:
        """(number, similarity) of the added sets that are near, in order of adding."""
        candidates = {n for word in self._prefix(words) for n in self._holders[word]}
        least, most = self._threshold * len(words), len(words) / self._threshold
        found = []
        for number in sorted(candidates):
            other = self._sets[number]
            if not least - _SLACK <= len(other) <= most + _SLACK:
                continue
            both = len(words & other)
            similarity = both / (len(words) + len(other) - both)
            if similarity >= self._threshold:
                found.append((number, similarity))
        return found

    def add(self, words: frozenset[str]) -> None:
        """Remember a set under the next number: 0, 1, ..."""
        for word in self._prefix(words):
            self._holders[word].append(len(self._sets))
        self._sets.append(words)

    def _prefix(self, words: frozenset[str]) -> list[str]:
        """The first words of a set: any set near it has one of them among its own."""
        if not words:
            return []
        shared = math.ceil(self._threshold * len(words) - _SLACK)
        order = sorted(words, key=lambda word: (self._frequency.get(word, 0), word))
        return order[: len(words) - shared + 1]


def near_duplicates(seeds: Sequence[Seed], threshold: float) -> list[Overlap]:
    """Pairs of seeds that ask for nearly the same thing, most similar first.

    Args:
      seeds: any number; the cost grows with the pairs that share a rare content word.
      threshold: report pairs at or above this similarity; in (0, 1].
    """
    _check(threshold)
    words = [content_words(seed.whole) for seed in seeds]
    index = Nearby(threshold, Counter(word for own in words for word in own))
    found = []
    for second, own in enumerate(words):
        found += [(-alike, first, second) for first, alike in index.find(own)]
        index.add(own)
    return [
        Overlap(seeds[first], seeds[second], -negated)
        for negated, first, second in sorted(found)
    ]


def content_words(text: str) -> frozenset[str]:
    """The words of a text that say what it is about."""
    return frozenset(re.findall(r"\w+", normalise(text))) - _IGNORED


def _check(threshold: float) -> None:
    if not 0.0 < threshold <= 1.0:
        raise ValueError(
            f"near-duplicate threshold must be in (0, 1], got {threshold}; try 0.5"
        )


_FUNCTION_WORDS = """
a an the this that these those and or but if in on of at to for from by with about as
than i me my we us our you your he she it its they them their who what when where which
why how is are was were be been do does did can could may might will would should has
have had not no so some any there
"""

_SHORT_ANSWER_WORDS = """
short shortly brief briefly quick few couple one two three word words sentence sentences
answer reply explanation description keep give tell say write describe explain please
enough fine
"""

_IGNORED = frozenset((*_FUNCTION_WORDS.split(), *_SHORT_ANSWER_WORDS.split()))
