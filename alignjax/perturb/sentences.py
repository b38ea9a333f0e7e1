# SPDX-License-Identifier: Apache-2.0
"""Sentence level: something is added that asks for nothing.

A stray token (CheckList, Ribeiro et al. 2020, arXiv:2005.04118), a tautology (the
stress tests of Naik et al. 2018, arXiv:1806.00692), or a courtesy.
"""

from __future__ import annotations

import random
import re
import string
from collections.abc import Sequence

from alignjax.perturb.edits import Edit
from alignjax.perturb.spans import Span

_STRAY_LENGTH = 10
_COURTESIES = (
    "Thank you in advance.",
    "Hello there.",
    "Take your time.",
    "This is for a small project of mine.",
    "I hope this finds you well.",
    "A friend sent me this.",
    "Here is the next item.",
)
_TAUTOLOGIES = (
    "Water is water.",
    "Today is today.",
    "And true is true.",
    "A stone is a stone.",
    "And what is so is so.",
)
_SENTENCE_END = re.compile(r"[.?!](?=\s|$)")


def additions(
    text: str, spans: Sequence[Span], rng: random.Random, count: int
) -> list[Edit]:
    """One addition, before the text or after one of its sentences; more than one
    would drown a short instruction, so `count` is not read."""
    del count
    places = [
        match.end()
        for match in _SENTENCE_END.finditer(text)
        if not any(s.start < match.end() < s.end for s in spans)
    ]
    op = rng.choice(("stray", "tautology", "courtesy"))
    place = rng.choice([0, *places])
    if op == "stray":
        # It begins with a letter, so that no digit in it is a number.
        letters = rng.choices(string.ascii_letters + string.digits, k=_STRAY_LENGTH - 1)
        added = rng.choice(string.ascii_letters) + "".join(letters)
    else:
        added = rng.choice(_TAUTOLOGIES if op == "tautology" else _COURTESIES)
    added = f" {added}" if place else f"{added} "
    return [Edit(op, place, place, "", added)]
