# SPDX-License-Identifier: Apache-2.0
"""Words in capitals, counted as the Penn Treebank convention takes text apart."""

from __future__ import annotations

import re

# Marks that stand alone; a comma or colon inside a number belongs to it.
_MARKS = re.compile(r"[][(){}<>;@#$%&?!*\"“”‘’«»„`…]|--|\.{2,}|[:,](?!\d)")
# "I'M" is two words, "DON'T" too; only these clitics, in lower case or in capitals.
_CLITICS = re.compile(
    r"(?<=[^'\s])(?='(?:s|S|m|M|d|D|ll|LL|re|RE|ve|VE)(?!\S))"
    r"|(?<=[^'\s])(?=(?:n't|N'T)(?!\S))"
)
# Words that the convention takes for two.
_JOINED = re.compile(
    r"\b(?:(can)(not)|(gim)(me)|(gon)(na)|(got)(ta)|(lem)(me)|(wan)(na))\b",
    re.IGNORECASE,
)


def count_capital_words(text: str) -> int:
    """Number of tokens with at least one letter and none in lower case."""
    text = _MARKS.sub(" ", text)
    text = _JOINED.sub(lambda match: " ".join(filter(None, match.groups())), text)
    text = _CLITICS.sub(" ", text)
    return sum(token.isupper() for token in text.split())
