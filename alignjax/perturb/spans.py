# SPDX-License-Identifier: Apache-2.0
"""Spans: the parts of an instruction that a rewording may not touch.

A number, a quotation, code, an address, a placeholder, a constraint, a word that is one
of the answers, a word that decides the meaning ("not", "only", "three"): change one,
and another question is asked.
"""

from __future__ import annotations

import functools
import re
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from alignjax import constraints

# What stands first in the list wins where two begin at the same place.
_KINDS = {
    "code": r"```.*?```|`[^`\n]+`",
    "address": r"(?:https?://|www\.)\S+|[\w.+-]+@[\w-]+\.[\w.-]+\w",
    "placeholder": r"\{\w+\}|<\w+>|\[\w+\]",
    "quotation": r"\"[^\"\n]+\"|“[^”\n]+”|‘[^’\n]+’|(?<!\w)'[^'\n]+'(?!\w)",
    "number": r"(?<!\w)[$€£]?[+-]?\d+(?:[.,:/]\d+)*(?:%|\w+)?",
}
_QUANTITIES = """
    zero one two three four five six seven eight nine ten eleven twelve dozen hundred
    first second third last once twice half double all any both each either every
    neither none only least most more less fewer exactly between before after
"""
_NEGATIONS = "not no never nor without cannot"
_DECISIVE = rf"\b(?:{'|'.join([*_QUANTITIES.split(), *_NEGATIONS.split()])})\b"
_NEGATED = re.compile(rf"\b(?:{'|'.join(_NEGATIONS.split())})\b|n['’]t\b", re.I)
_CONTRACTED = r"\b\w+n['’]t\b"
_OR_NOT = re.compile(r"\bor not\b", re.I)  # "whether or not" denies nothing


class Span(NamedTuple):
    """Characters start..end of a text, and why they are protected."""

    start: int
    end: int
    kind: str


def protected(text: str, labels: Sequence[str] = ()) -> tuple[Span, ...]:
    """The protected parts of a text, in order; they do not overlap.

    Args:
      text: an instruction.
      labels: answers that it may name, such as "positive"; whole words, in any case.

    Returns:
      Spans of the kinds constraint, code, address, placeholder, quotation, number,
      label and decisive. A part within another is not listed by itself.
    """
    found = list(_constraints(text))
    for match in _pattern(tuple(labels)).finditer(text):
        found.append(Span(match.start(), match.end(), match.lastgroup or ""))
    kept: list[Span] = []
    for span in sorted(found, key=lambda span: (span.start, -span.end)):
        if kept and span.start < kept[-1].end:
            if span.end > kept[-1].end:  # they cross: protect both, as one
                kept[-1] = kept[-1]._replace(end=span.end)
            continue
        kept.append(span)
    return tuple(kept)


def without_constraints(text: str) -> str:
    """The text with the sentences of its constraints cut out."""
    parts, last = [], 0
    for span in sorted(_constraints(text)):
        parts.append(text[last : span.start])
        last = max(last, span.end)
    return "".join([*parts, text[last:]])


def asked(text: str) -> tuple[constraints.Constraint, ...]:
    """The constraints that a text states, in order."""
    return constraints.parse(text) if _constraints(text) else ()


def facts(text: str) -> Counter[tuple[str, str]]:
    """What a rewording must say as often as the original, by kind: numbers,
    quotations, code, addresses, placeholders. Quotation marks do not count."""
    return Counter(
        (match.lastgroup or "", match[0].strip("\"'“”‘’"))
        for match in _pattern(()).finditer(text)
        if match.lastgroup != "decisive"
    )


def named(text: str, labels: Sequence[str]) -> tuple[str, ...]:
    """Which of the labels a text names, in the order given."""
    return tuple(label for label in labels if _label_pattern(label).search(text))


def negates(text: str) -> bool:
    """Whether anything is denied in a text."""
    return _NEGATED.search(_OR_NOT.sub("", text)) is not None


@functools.lru_cache(maxsize=4096)
def _constraints(text: str) -> tuple[Span, ...]:
    """Each place where a wording of a constraint is found; they may overlap."""
    return tuple(
        Span(start, end, "constraint")
        for kind in constraints.TYPES.values()
        for start, end, _ in kind.find(text)
    )


@functools.cache
def _pattern(labels: tuple[str, ...]) -> re.Pattern[str]:
    parts = [f"(?P<{kind}>{pattern})" for kind, pattern in _KINDS.items()]
    if labels:
        longest_first = sorted(labels, key=len, reverse=True)
        words = "|".join(map(re.escape, longest_first))
        parts.append(rf"(?P<label>(?<!\w)(?i:{words})(?!\w))")
    parts.append(f"(?P<decisive>(?i:{_DECISIVE}|{_CONTRACTED}))")
    return re.compile("|".join(parts), re.DOTALL)


@functools.cache
def _label_pattern(label: str) -> re.Pattern[str]:
    return re.compile(rf"(?<!\w){re.escape(label)}(?!\w)", re.I)
