# SPDX-License-Identifier: Apache-2.0
"""Words, sentences and lines of a text, in more than one reading, and small edits."""

from __future__ import annotations

import itertools
import json
import re
import unicodedata
import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from alignjax.constraints.vocabulary import FILLERS, SHORT_FILLERS, STOPWORDS

Item = TypeVar("Item")

WORD = re.compile(r"\w+(?:['’]\w+)*")
MARKER = re.compile(r"^[ \t]*(?:[-*•+>]|\d+[.)]|#{1,6})[ \t]+")
# Lines that state a computed answer, see `alignjax.constraints.stated`.
LABELS = (
    "Result",
    "Change",
    "Sorted",
    "Letters",
    "Weekday",
    "Ends",
    "Value",
    "Total",
    "Rows",
    "Name",
    "Code",
)
STATEMENT = re.compile(rf"(?i)(?:{'|'.join(LABELS)}): \S")
_CLOSERS = "\"'”’)]*_"
_END = re.compile(rf"[.!?…]+[{re.escape(_CLOSERS)}]*(?=\s|$)")
_FINAL = re.compile(rf"[.!?…]+[{re.escape(_CLOSERS)}]*$")
_ABBREVIATION = re.compile(
    r"(?:^|(?<=[\s(\"'“*]))(?:e\.g|i\.e|etc|vs|cf|mr|mrs|ms|dr|prof|jr|sr|fig|"
    r"approx|p\.s|a\.m|p\.m|u\.s|[a-hj-z])\.$",
    re.IGNORECASE,
)
_LIST_NUMBER = re.compile(r"(?:^|\n)[ \t]*\d+\.$")
_EXPANSIONS = {"e.g.": "for example", "i.e.": "that is", "etc.": "and so on"}


def normalise(text: str) -> str:
    """Unicode form NFC, line feeds only, no outer whitespace."""
    text = unicodedata.normalize("NFC", text)
    return text.replace("\r\n", "\n").replace("\r", "\n").strip()


def word_counts(text: str) -> dict[str, int]:
    """Number of words: whitespace tokens, those with a letter or digit, and with
    hyphenated words taken apart ("well-known" is 1, 1 and 2)."""
    tokens = text.split()
    return {
        "whitespace": len(tokens),
        "alphanumeric": sum(any(c.isalnum() for c in token) for token in tokens),
        "hyphens_split": len(WORD.findall(text)),
    }


def sentence_readings(text: str) -> dict[str, list[str]]:
    """Sentences: cut after . ! ? …, the same but not after abbreviations and list
    numbers, and with line breaks cutting too ("e.g. tea." is 2, 1 and 1)."""
    return {
        "punctuation": _split(text, _always),
        "abbreviations": _split(text, _ends_sentence),
        "lines": [s for line in text.split("\n") for s in _split(line, _ends_sentence)],
    }


def sentence_counts(text: str) -> dict[str, int]:
    """Number of sentences in each of the `sentence_readings`."""
    return {name: len(found) for name, found in sentence_readings(text).items()}


def plain_sentences(text: str) -> list[str]:
    """The content of a text as sentences on which all readings agree: list markers
    and abbreviations are rewritten, and each sentence ends with . ! or ?"""
    text = _expand(text)
    found = []
    for line in text.split("\n"):
        for sentence in _split(MARKER.sub("", line), _always):
            found.append(unmistakable(MARKER.sub("", sentence.strip())))
    return found


def finish(sentence: str) -> str:
    """The sentence with an end mark; trailing commas, colons and dashes give way."""
    if _FINAL.search(sentence):
        return sentence
    return sentence.rstrip(" ,;:-–—") + "."


def unmistakable(sentence: str) -> str:
    """The sentence, finished so that no reading takes its end for an abbreviation."""
    sentence = finish(sentence)
    mark = _FINAL.search(sentence)
    if mark and _ends_sentence(sentence, mark):
        return sentence
    if _LIST_NUMBER.search(sentence):
        return f"It is {sentence}"
    return sentence[:-1] + " too."


def nonempty_lines(text: str) -> list[str]:
    """Lines that have more than whitespace."""
    return [line for line in text.split("\n") if line.strip()]


def groups(items: Sequence[Item], n: int) -> list[list[Item]]:
    """`items` in n runs whose lengths differ by at most 1; len(items) >= n."""
    edges = [i * len(items) // n for i in range(n + 1)]
    return [list(items[a:b]) for a, b in itertools.pairwise(edges)]


def blocks(text: str, n: int) -> list[str]:
    """The content of a text in exactly n one-line blocks, filled up if it is short."""
    sentences = plain_sentences(text)
    is_short = len(text.split()) < 12
    for filler in itertools.cycle(SHORT_FILLERS) if is_short else fillers(text):
        if len(sentences) >= n:
            break
        sentences.append(filler)
    return [" ".join(group) for group in groups(sentences, n)]


def pick(options: Sequence[Item], text: str) -> Item:
    """One option, always the same for the same text."""
    return options[zlib.crc32(text.encode()) % len(options)]


def fillers(text: str) -> Iterator[str]:
    """Yields neutral sentences, first those that `text` does not have, without end."""
    start = zlib.crc32(text.encode()) % len(FILLERS)
    ordered = FILLERS[start:] + FILLERS[:start]
    yield from (filler for filler in ordered if filler not in text)
    while True:
        yield from ordered


def append(text: str, sentence: str) -> str:
    """The text with one more sentence at the end of its last line, or on a new line
    where the last one is a statement, which must stand alone."""
    if not text:
        return sentence
    lines = text.rstrip().split("\n")
    last = lines[-1]
    if STATEMENT.match(last):
        return "\n".join([*lines, sentence])
    if any(c.isalnum() for c in last):
        last = finish(last)
    return "\n".join([*lines[:-1], f"{last} {sentence}"])


def cut_words(text: str, n: int) -> str:
    """A beginning of at most n words in every reading, at a sentence end if that
    keeps half of what fits; at least one word."""
    total, end = 0, 0
    for token in re.finditer(r"\S+", text):
        total += max(1, len(WORD.findall(token[0])))
        if total > n and end:
            break
        end = token.end()
    if end == len(text.rstrip()):
        return text
    prefix = text[:end]
    ends = [m.end() for m in _END.finditer(prefix) if _ends_sentence(prefix, m)]
    if ends and len(prefix[: ends[-1]].split()) * 2 >= len(prefix.split()):
        return prefix[: ends[-1]]
    return finish(prefix.rstrip(" \n*-•"))


def filter_sentences(text: str, keep: Callable[[str], bool]) -> str:
    """The text without the sentences that `keep` rejects; lines stay lines."""
    lines = []
    for line in text.split("\n"):
        sentences = _split(line, _ends_sentence)
        kept = [sentence.strip() for sentence in sentences if keep(sentence)]
        if len(kept) == len(sentences):
            lines.append(line)
        elif kept:
            lines.append(" ".join(kept))
    return "\n".join(lines).strip()


def tidy(text: str) -> str:
    """Repairs the spacing and punctuation that deleted words leave behind."""
    text = re.sub(r"[ \t]+", " ", text)
    text = re.sub(r" +([,.;:!?…])", r"\1", text)
    text = re.sub(r"[,;:]+([.!?…])", r"\1", text)
    text = re.sub(r"([.!?…] )[.,;:!?…]+ ?", r"\1", text)
    text = re.sub(r"(?m)^ *[,.;:!?…]+ *| +$", "", text)
    text = re.sub(r"(?m)^(?:[-*•+>]|\d+[.)])$\n?", "", text)
    return re.sub(r"\n{3,}", "\n\n", text).strip()


def upper_first(text: str) -> str:
    """The text with its first character in upper case."""
    return text[:1].upper() + text[1:]


def lower_first(sentence: str) -> str:
    """The sentence with a lower-case start, unless it begins with "I" or capitals."""
    first = WORD.match(sentence)
    if not first or re.split("['’]", first[0])[0] == "I" or first[0][1:2].isupper():
        return sentence
    return sentence[0].lower() + sentence[1:]


def content_words(text: str) -> list[str]:
    """Different words of four or more letters that are not function words, lower
    case, in order of appearance."""
    found = {}
    for word in re.findall(r"[^\W\d_]{4,}", text):
        if word.lower() not in STOPWORDS:
            found.setdefault(word.lower(), None)
    return list(found)


def title(text: str) -> str:
    """A short title made of the first content words."""
    words = content_words(text)[:3]
    return " ".join(word.capitalize() for word in words) or "My Answer"


def delete_last(pattern: re.Pattern[str], text: str, *, keep: int) -> str:
    """The text without matches of `pattern` after the first `keep`; a match is
    replaced by its group "inner" if the pattern has one."""
    has_inner = "inner" in pattern.groupindex
    for match in list(pattern.finditer(text))[keep:][::-1]:
        inner = match["inner"] if has_inner else ""
        text = text[: match.start()] + inner + text[match.end() :]
    return text


def strict_json(text: str) -> Any:
    """The value of a JSON text; ValueError also for a key that is there twice and for
    NaN and Infinity."""
    return json.loads(text, object_pairs_hook=_unique, parse_constant=_not_json)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    keys = [key for key, _ in pairs]
    if len(set(keys)) != len(keys):
        raise ValueError(f"duplicate JSON key in {keys}")
    return dict(pairs)


def _not_json(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _split(text: str, ends: Callable[[str, re.Match[str]], bool]) -> list[str]:
    edges = [m.end() for m in _END.finditer(text) if ends(text, m)]
    parts = [text[a:b] for a, b in zip([0, *edges], [*edges, len(text)], strict=True)]
    return [part for part in parts if any(c.isalnum() for c in part)]


def _always(text: str, mark: re.Match[str]) -> bool:
    del text, mark
    return True


def _ends_sentence(text: str, mark: re.Match[str]) -> bool:
    before = text[max(0, mark.start() - 12) : mark.start() + 1]
    if mark[0].rstrip(_CLOSERS) != ".":
        return True
    return not (_ABBREVIATION.search(before) or _LIST_NUMBER.search(before))


def _expand(text: str) -> str:
    """Abbreviations written out or without their full stops."""

    def plain(match: re.Match[str]) -> str:
        token = match[0]
        if not _ABBREVIATION.search(token):
            return token
        return _EXPANSIONS.get(token.lower(), token.replace(".", ""))

    return re.sub(r"(?<![A-Za-z.])[A-Za-z.]+\.(?=[\s\"'”’)\]*_]|$)", plain, text)
