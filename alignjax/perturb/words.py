# SPDX-License-Identifier: Apache-2.0
"""Word level: another word for the same thing.

TextFooler (Jin et al. 2020, arXiv:1907.11932) takes neighbours in an embedding space
and filters them. Here the neighbours are a short list of words that instructions are
made of and that can stand for each other in them; it is small, and none is a guess.
"""

from __future__ import annotations

import functools
import random
import re
from collections.abc import Sequence

from alignjax.perturb.edits import Edit, edit
from alignjax.perturb.spans import Span

# "a, b": either may stand for the other. "a > b, c": only from left to right, because
# the words on the right are also other parts of speech.
_SYNONYMS = """
accurate, correct
answer with, reply with, respond with
appropriate, suitable
author > writer
begin > start
brief, short
carefully, closely, attentively
choose, pick, select
classify, categorise, categorize
compose, write
consider > think about
conveys, expresses
decide if, determine if
decide whether, determine whether
decide which, determine which
details, particulars
determine > establish, work out
evaluate, assess > judge
examine, inspect, look at
explain, clarify
express > convey
find > locate
follows from > can be concluded from
following > subsequent
given > provided
give > provide, supply
help me > assist me
identical > the same
identify > recognise, recognize
kind > sort, type
mentioned > named
mood > attitude, tone
movie > film
needed, required
opinion > view
options > choices, alternatives
overall > on the whole
passage > excerpt
person > individual
question > query
reach > arrive at
read the > go through the
read this > go through this
really, truly, actually
reviewer > critic
says > states, asserts
sense > meaning
shopper > buyer
simply > merely
solve > work through
statement > assertion
suggests > implies, indicates
topic > subject
used > employed
using > employing
usual > ordinary
verify, check
"""
_ARTICLE = re.compile(r"\b(a|an) $", re.I)


def substitutions(
    text: str, spans: Sequence[Span], rng: random.Random, count: int
) -> list[Edit]:
    """At most `count` words of the list, each replaced by another."""
    pattern, others = _lexicon()
    places = []
    for match in pattern.finditer(text):
        article = _ARTICLE.search(text, 0, match.start())
        start = article.start() if article else match.start()
        if not any(s.start < match.end() and start < s.end for s in spans):
            places.append((match, article))
    found = []
    for match, article in rng.sample(places, min(count, len(places))):
        word = match[0].lower()
        other = rng.choice(others[word])
        if article:
            if other.startswith("the "):
                continue
            other = ("an " if other[0] in "aeiou" else "a ") + other
        start = article.start() if article else match.start()
        if text[start].isupper():
            other = other[0].upper() + other[1:]
        found.append(edit("synonym", text, start, match.end(), other))
    return found


@functools.cache
def _lexicon() -> tuple[re.Pattern[str], dict[str, tuple[str, ...]]]:
    """A pattern of the words that can be replaced, and what may stand for each."""
    found: dict[str, tuple[str, ...]] = {}
    for line in _SYNONYMS.strip().splitlines():
        left, _, right = line.partition(" > ")
        own = [word.strip() for word in left.split(",")]
        others = [*own, *(word.strip() for word in right.split(",") if right)]
        for word in own:
            found[word] = tuple(other for other in others if other != word)
    longest_first = sorted(found, key=len, reverse=True)
    return re.compile(rf"\b(?:{'|'.join(longest_first)})\b", re.I), found
