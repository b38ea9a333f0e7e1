# SPDX-License-Identifier: Apache-2.0
"""Overlap: seeds that ask for nearly the same thing, by the words they share.

Similarity is |A & B| / |A | B| over sets of content words: words other than function
words and the words that ask for a short answer, which most seeds share.

The search is exact, yet need not look at all pairs. Where two sets are at least t
similar they share at least ceil(t |A|) words, so in any fixed order of all words they
share one among the first |A| - ceil(t |A|) + 1 of A, and of B likewise (prefix
filtering; Chaudhuri et al. 2006, Bayardo et al. 2007). With the rarest words first few
seeds share one of those.

At thresholds below 0.8 these are no longer few where seeds are very many; `minhash`
then finds the pairs to look at, in linear time, and misses few of them.
"""

from __future__ import annotations

import itertools
import math
import re
from array import array
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from data_gen.seeds import minhash
from data_gen.seeds.seed import Seed, normalise

MANY = 20_000  # sets, and
FAR = 0.8  # similarity: above and below these, MinHash is the faster one
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
        self._numbers: dict[str, int] = {}
        self._sets: list[array[int]] = []  # a tenth of the memory of sets of texts
        self._holders: dict[str, list[int]] = defaultdict(list)

    def find(self, words: frozenset[str]) -> list[tuple[int, float]]:
        """(number, similarity) of the added sets that are near, in order of adding."""
        holders = (self._holders.get(word, ()) for word in self._prefix(words))
        candidates = set(itertools.chain.from_iterable(holders))
        own = {self._numbers[word] for word in words if word in self._numbers}
        least, most = self._threshold * len(words), len(words) / self._threshold
        found = []
        for number in sorted(candidates):
            other = self._sets[number]
            if not least - _SLACK <= len(other) <= most + _SLACK:
                continue
            both = len(own.intersection(other))
            similarity = both / (len(words) + len(other) - both)
            if similarity >= self._threshold:
                found.append((number, similarity))
        return found

    def add(self, words: frozenset[str]) -> None:
        """Remember a set under the next number: 0, 1, ..."""
        for word in self._prefix(words):
            self._holders[word].append(len(self._sets))
        numbers = self._numbers
        self._sets.append(
            array("I", [numbers.setdefault(word, len(numbers)) for word in words])
        )

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
      seeds: any number; of more than `MANY`, and below `FAR`, a pair at the threshold
        is found with probability 0.99, one above it with a larger one.
      threshold: report pairs at or above this similarity; in (0, 1].
    """
    _check(threshold)
    words = [seed_words(seed) for seed in seeds]
    if len(words) > MANY and threshold < FAR:
        found = [
            (-similarity, first, second)
            for first, second in minhash.candidates(words, threshold)
            if (similarity := jaccard(words[first], words[second])) >= threshold
        ]
    else:
        found = _all_pairs(words, threshold)
    return [
        Overlap(seeds[first], seeds[second], -negated)
        for negated, first, second in sorted(found)
    ]


def _all_pairs(
    words: Sequence[frozenset[str]], threshold: float
) -> list[tuple[float, int, int]]:
    index = Nearby(threshold, Counter(word for own in words for word in own))
    found = []
    for second, own in enumerate(words):
        found += [(-alike, first, second) for first, alike in index.find(own)]
        index.add(own)
    return found


def jaccard(one: frozenset[str], other: frozenset[str]) -> float:
    """|A & B| / |A | B|; the two are not both empty."""
    both = len(one & other)
    return both / (len(one) + len(other) - both)


def seed_words(seed: Seed) -> frozenset[str]:
    """What a seed is compared by: the content words of its prompt. Of an instance those
    of the instance, and the instruction as one word, since all instances share it."""
    if not seed.input:
        return content_words(seed.whole)
    return content_words(seed.input) | {normalise(seed.instruction)}


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
