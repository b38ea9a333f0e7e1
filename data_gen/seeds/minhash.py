# SPDX-License-Identifier: Apache-2.0
"""MinHash: pairs of word sets that may be similar, in time that grows with the sets.

Each set gets a signature of minima over random hash functions; two sets agree in one
with the probability of their Jaccard similarity s. Sets that agree in all rows of one
of b bands of r become candidates: with probability 1 - (1 - s^r)^b (Broder 1997;
Leskovec, Rajaraman and Ullman, Mining of Massive Datasets, section 3.4).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

FUNCTIONS = 256
RECALL = 0.99  # of the pairs whose similarity is the threshold; of others more
_SEED = 5


def rows_of_a_band(threshold: float) -> int:
    """The most rows with which pairs at the threshold are found as often as `RECALL`
    says: more rows give fewer candidates that are not near."""
    rows = 1
    while True:
        bands = FUNCTIONS // (rows + 1)
        if bands < 1 or 1 - (1 - threshold ** (rows + 1)) ** bands < RECALL:
            return rows
        rows += 1


def candidates(
    sets: Sequence[frozenset[str]], threshold: float
) -> list[tuple[int, int]]:
    """Pairs (first, second), first < second, in order, each once.

    Args:
      sets: empty ones are in no pair.
      threshold: the similarity that candidates are looked for from, in (0, 1].
    """
    kept = [number for number, words in enumerate(sets) if words]
    signatures = _signatures([sets[number] for number in kept])
    rows = rows_of_a_band(threshold)
    found: set[tuple[int, int]] = set()
    for band in range(FUNCTIONS // rows):
        columns = signatures[:, band * rows : (band + 1) * rows]
        order = np.lexsort(columns.T[::-1])
        ordered = columns[order]
        is_new = np.ones(len(order), bool)
        is_new[1:] = (ordered[1:] != ordered[:-1]).any(axis=1)
        starts = np.flatnonzero(is_new)
        ends = np.append(starts[1:], len(order))
        shared = np.flatnonzero(ends - starts > 1)
        for start, end in zip(starts[shared], ends[shared], strict=True):
            group = sorted(order[start:end].tolist())  # few bands hold many at once
            found.update(
                (kept[first], kept[second])
                for place, first in enumerate(group)
                for second in group[place + 1 :]
            )
    return sorted(found)


def _signatures(sets: Sequence[frozenset[str]]) -> np.ndarray:
    """[sets, FUNCTIONS] of uint32: minima of multiply-shift hashes of the words."""
    rng = np.random.default_rng(_SEED)
    factors, shifts = rng.integers(0, 2**64, (2, FUNCTIONS, 1), dtype=np.uint64)
    factors |= np.uint64(1)
    known: dict[str, int] = {}

    def number(word: str) -> int:
        if word not in known:
            digest = hashlib.blake2b(word.encode(), digest_size=8).digest()
            known[word] = int.from_bytes(digest, "little")
        return known[word]

    signatures = np.empty((len(sets), FUNCTIONS), np.uint32)
    for row, words in enumerate(sets):
        hashes = np.array([number(word) for word in words], np.uint64)
        mixed = factors * hashes + shifts  # modulo 2^64
        signatures[row] = (mixed >> np.uint64(32)).min(axis=1)
    return signatures
