# SPDX-License-Identifier: Apache-2.0
"""Contamination: whether a text holds a stretch of an evaluation set.

Two texts overlap if they share 13 words in a row, in any spelling of case, spacing and
punctuation (Brown et al. 2020, arXiv:2005.14165, appendix C). An evaluation text of 8
to 12 words must be in the other whole; a shorter one must be all of it, since so few
words in a row are found anywhere. A stretch that more than ten evaluation texts share
is a template's, not any one text's, and counts for nothing.

What says the same in other words is not found.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from data_gen.seeds.seed import normalise

WORDS = 13
FEWEST = 8
MOST_SHARED = 10


class Hit(NamedTuple):
    """The evaluation text that was found, and the words that both have."""

    name: str
    words: str


class _Entry(NamedTuple):
    text: int  # number of the first evaluation text that has it
    shared: int  # how many have it


class Contamination:
    """The stretches of words of some evaluation texts.

    Args:
      texts: (name, text) of each, the name for messages.
      words: length of a stretch.
    """

    def __init__(self, texts: Iterable[tuple[str, str]], *, words: int = WORDS):
        self._length = words
        self._names: list[str] = []
        self._entries: dict[bytes, _Entry] = {}
        self._lengths: set[int] = set()
        self._whole: dict[bytes, int] = {}
        for name, text in texts:
            own = split(text)
            if not own:
                continue
            number = len(self._names)
            self._names.append(name)
            self._whole.setdefault(_key(own), number)
            length = min(words, len(own))
            if length < FEWEST:
                continue
            self._lengths.add(length)
            for key in {_key(part) for part in _stretches(own, length)}:
                known = self._entries.get(key, _Entry(number, 0))
                self._entries[key] = _Entry(known.text, known.shared + 1)

    def __len__(self) -> int:
        """How many evaluation texts are known."""
        return len(self._names)

    def find(self, text: str) -> Hit | None:
        """The first stretch of `text` that an evaluation text has too."""
        own = split(text)
        if own and (number := self._whole.get(_key(own))) is not None:
            return Hit(self._names[number], " ".join(own[: self._length]))
        for length in sorted(self._lengths, reverse=True):
            for part in _stretches(own, length):
                entry = self._entries.get(_key(part))
                if entry is not None and entry.shared <= MOST_SHARED:
                    return Hit(self._names[entry.text], " ".join(part))
        return None


def split(text: str) -> list[str]:
    """The words of a text: letters and digits, without case."""
    return re.findall(r"\w+", normalise(text))


def _stretches(words: list[str], length: int) -> Iterator[list[str]]:
    for start in range(len(words) - length + 1):
        yield words[start : start + length]


def _key(words: list[str]) -> bytes:
    """64 bits: among a hundred million stretches two share one in a thousandth of
    cases, and such a seed is dropped for nothing."""
    return hashlib.blake2b(" ".join(words).encode(), digest_size=8).digest()
