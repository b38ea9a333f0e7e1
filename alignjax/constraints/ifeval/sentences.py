# SPDX-License-Identifier: Apache-2.0
"""English sentences, counted as IFEval counts them: full stops, question marks and
exclamation marks end one, line breaks do not, and the number of a list item is one.

IFEval takes the Punkt splitter (Kiss and Strunk 2006, Computational Linguistics 32:4)
with its English model. These rules are our own and need no model; `docs/ifeval.md` says
how often the two count differently.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator

# A mark counts where a blank and more text follow, or a character that no word has, so
# not in "3.5" or "example.com".
_MARK = re.compile(r"(?<![.?!])[.?!]++(?=[]\[(){}\"'*:;@]|\s+\S)")
_BLANK = re.compile(r"\s")
_CLOSERS = re.compile(r"[\"')\]}]+(?=\s|$|--)")
_WORD_BEFORE = re.compile(r"(?:(?<=\w)'(?=\w)|[^]\[\s(){}\"'*:;@#&`,!?])*\Z")
_WORD_AFTER = re.compile(r"\s*([^\W\d_]+)")
_LINE_BEGINS = re.compile(r"(?:\A|\n)[ *#-]*\Z")
_WINDOW = 60  # characters before a mark that are looked at
# Letters with full stops between them; after a postscript's mark a sentence begins.
_INITIALS = re.compile(r"(?!p\.s|p\.p)(?:[^\W\d_]\.)+[^\W\d_]")
_ABBREVIATIONS = """
adm ave bros capt cf cie co col corp cpl dept dr fig ft gen gov hon inc jr lt ltd maj
messrs mr mrs ms mt no op ph.d prof rep rev sen sgt sr st vs
jan feb mar apr aug sept oct nov dec
"""
# Words that have a capital only where a sentence begins with them.
_STARTERS = """
a after all also although an and are as at because before but by can did do does for
from has have he her here his how however i if in is it its let many may most my no not
now of on one or our please she should since so some such that the their then there
therefore these they this those thus to was we were what when where which while who why
will with would yes you your
"""
ABBREVIATIONS = frozenset(_ABBREVIATIONS.split())
STARTERS = frozenset(_STARTERS.split())


def count_sentences(text: str) -> int:
    """Number of sentences, at least 1 unless the text is only whitespace."""
    return sum(1 for sentence in _sentences(text.strip()) if sentence)


def _sentences(text: str) -> Iterator[str]:
    begin = 0
    for mark in _last_marks(text):
        if _ends_sentence(text, mark):
            closers = _CLOSERS.match(text, mark.end())
            end = closers.end() if closers else mark.end()
            yield text[begin:end].strip()
            begin = end
    yield text[begin:].strip()


def _last_marks(text: str) -> Iterator[re.Match[str]]:
    """Of several marks in a run of text without blanks, the last."""
    marks = list(_MARK.finditer(text))
    for mark, following in itertools.zip_longest(marks, marks[1:]):
        if not following or _BLANK.search(text, mark.end(), following.start()):
            yield mark


def _ends_sentence(text: str, mark: re.Match[str]) -> bool:
    if mark[0].strip("."):
        return True
    earliest = max(0, mark.start() - _WINDOW)
    before = _WORD_BEFORE.search(text, earliest, mark.start())
    after = _WORD_AFTER.match(text, mark.end())
    word = before[0].lower() if before else ""
    follower = after[1] if after else ""
    begins_anew = follower.istitle() and follower.lower() in STARTERS
    is_ellipsis = len(mark[0]) > 1
    is_abbreviation = word.rpartition("-")[2] in ABBREVIATIONS
    if is_ellipsis or is_abbreviation or _INITIALS.fullmatch(word):
        return begins_anew
    if len(word) == 1 and word.isalpha():  # an initial, or "A." in an outline
        in_front = _LINE_BEGINS.search(text, earliest, mark.start() - 1)
        return begins_anew or in_front is not None
    return not (word.isdigit() and follower[:1].islower())
