# SPDX-License-Identifier: Apache-2.0
"""Character level: slips of the finger, in words that stay readable.

The four operations are those of DeepWordBug (Gao et al. 2018, arXiv:1801.04354). First
and last letters stay, as in the misspellings that people read without noticing.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence

from alignjax.perturb.edits import Edit, edit
from alignjax.perturb.spans import Span

_WORD = re.compile(r"(?<![^\W_])[A-Za-z]{4,}(?![^\W_])")
# Slips that are other words: what they would change is more than the spelling.
_CONFUSED = """
    angel angle causal casual chose choose dairy diary field filed form from lead
    lean least lest list lost loose lose marital martial move more note not quiet
    quite sacred salt scared slat than that them then there these they this those
    though thought three through tired tough trail trial tried united untied were
    where which witch word work world would
"""
_ROWS = ("qwertyuiop", "asdfghjkl", "zxcvbnm")


def slips(
    text: str, spans: Sequence[Span], rng: random.Random, count: int
) -> list[Edit]:
    """At most `count` words of four letters or more, each with one slip."""
    free = [
        match
        for match in _WORD.finditer(text)
        if not any(s.start < match.end() and match.start() < s.end for s in spans)
    ]
    known = {*_CONFUSED.split(), *(match[0].lower() for match in _WORD.finditer(text))}
    found = []
    for match in rng.sample(free, min(count, len(free))):
        op = rng.choice(("swap", "substitute", "delete", "insert"))
        slipped = _slip(match[0], op, rng)
        if slipped != match[0] and slipped.lower() not in known:
            found.append(edit(op, text, match.start(), match.end(), slipped))
    return found


def _slip(word: str, op: str, rng: random.Random) -> str:
    """One letter inside a word is wrong; the word itself where nothing can be."""
    if op == "swap":
        places = [i for i in range(1, len(word) - 2) if word[i] != word[i + 1]]
        if not places:
            return word
        i = rng.choice(places)
        return word[:i] + word[i + 1] + word[i] + word[i + 2 :]
    i = rng.randrange(1, len(word) - 1)
    if op == "delete":
        return word[:i] + word[i + 1 :]
    near = _neighbour(word[i], rng)
    return word[:i] + near + word[i + (op == "substitute") :]


def _neighbour(letter: str, rng: random.Random) -> str:
    """A letter beside this one on the keyboard, in its case."""
    row = next(row for row in _ROWS if letter.lower() in row)
    i = row.index(letter.lower())
    near = rng.choice(row[max(i - 1, 0) : i] + row[i + 1 : i + 2])
    return near.upper() if letter.isupper() else near
