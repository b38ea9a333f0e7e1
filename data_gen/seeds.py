# SPDX-License-Identifier: Apache-2.0
"""Seeds: the instructions that a run starts from, and the split each belongs to."""

import difflib
import hashlib
import json
import math
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Literal, NamedTuple

BUILTIN = "builtin"
FIELDS = ("id", "text", "domain", "answer")
Split = Literal["train", "validation", "test"]


@dataclass(frozen=True)
class Seed:
    """One instruction. `answer` is a preferred answer that came with it, if any."""

    id: str
    text: str
    domain: str = ""
    answer: str | None = None


@dataclass(frozen=True)
class SplitFractions:
    """Share of the seeds that each split gets; the three sum to 1."""

    train: float = 0.6
    validation: float = 0.15
    test: float = 0.25

    def __post_init__(self):
        shares = {
            "train": self.train,
            "validation": self.validation,
            "test": self.test,
        }
        for name, share in shares.items():
            if not 0.0 <= share <= 1.0:
                raise ValueError(
                    f"split fraction {name} must be in [0, 1], got {share}; "
                    "give each split its share of the seeds, e.g. 0.6, 0.15, 0.25"
                )
        total = sum(shares.values())
        if not math.isclose(total, 1.0, abs_tol=1e-9):
            raise ValueError(
                f"split fractions must sum to 1, got {self.train} + "
                f"{self.validation} + {self.test} = {total:g}; change one of "
                "train, validation, test"
            )


class Overlap(NamedTuple):
    """Two seeds and the Jaccard similarity of their content words, in (0, 1]."""

    first: Seed
    second: Seed
    similarity: float


def load_seeds(path: str | Path, limit: int | None = None) -> tuple[Seed, ...]:
    """Read seeds in file order.

    Args:
      path: "builtin" (the seeds of this package, domains in turn), a .jsonl file with
        objects {"text", "id"?, "domain"?, "answer"?}, or a .txt file with one
        instruction a line. Blank lines are skipped. A seed without an id gets one
        that depends on its text only.
      limit: keep the first so many; None keeps all. The whole file is checked anyway.

    Raises:
      ValueError: names file and line, what is wrong there and what to do.
    """
    if limit is not None and limit < 1:
        raise ValueError(
            f"seed limit must be at least 1, got {limit}; leave it out to use all seeds"
        )
    source, raw = _read(path)
    reader = _text_seeds if source.endswith(".txt") else _json_seeds
    seeds: list[Seed] = []
    ids: dict[str, int] = {}
    texts: dict[str, int] = {}
    for line, seed in reader(source, raw):
        where = f"{source}:{line}"
        text = normalise(seed.text)
        if text in texts:
            raise ValueError(
                f"{where}: same text as line {texts[text]} (case, spacing and Unicode "
                "form do not count): remove one of them"
            )
        if seed.id in ids:
            raise ValueError(
                f"{where}: id {seed.id!r} is already on line {ids[seed.id]}; "
                "give each seed its own id, or leave ids out"
            )
        texts[text] = ids[seed.id] = line
        seeds.append(seed)
    if not seeds:
        raise ValueError(f"{source}: no seeds in it; add one instruction a line")
    return tuple(seeds[:limit])


def fingerprint(path: str | Path) -> str:
    """The kind of the file that `path` means and the sha256 of its bytes, as in
    "jsonl:5f2c..."; together they decide the seeds."""
    source, raw = _read(path)
    return f"{Path(source).suffix[1:]}:{hashlib.sha256(raw).hexdigest()}"


def split_of(seed_id: str, fractions: SplitFractions) -> Split:
    """The split of a seed and of everything derived from it.

    A pure function of the id: SHA-256 gives a number that is uniform in [0, 1), and
    the cumulative fractions cut that interval into train, validation and test. Adding,
    removing or reordering seeds moves no other seed.
    """
    digest = hashlib.sha256(seed_id.encode("utf-8")).digest()
    # 53 bits: what a double holds exactly, so the quotient stays below 1.
    uniform = (int.from_bytes(digest[:8], "big") >> 11) / 2**53
    if uniform < fractions.train:
        return "train"
    if uniform < fractions.train + fractions.validation:
        return "validation"
    return "test"


def near_duplicates(seeds: Sequence[Seed], threshold: float) -> list[Overlap]:
    """Pairs of seeds that ask for nearly the same thing, most similar first.

    Similarity is |A & B| / |A | B| over sets of content words: words other than
    function words and the words that ask for a short answer, which most seeds share.

    Args:
      seeds: any number; the cost grows with the pairs that share a content word.
      threshold: report pairs at or above this similarity; in (0, 1].
    """
    if not 0.0 < threshold <= 1.0:
        raise ValueError(
            f"near-duplicate threshold must be in (0, 1], got {threshold}; try 0.5"
        )
    words = [_content_words(seed.text) for seed in seeds]
    holders: dict[str, list[int]] = defaultdict(list)
    found = []
    for second, own in enumerate(words):
        shared: Counter[int] = Counter()
        for word in own:
            shared.update(holders[word])
            holders[word].append(second)
        for first, both in shared.items():
            similarity = both / (len(own) + len(words[first]) - both)
            if similarity >= threshold:
                found.append((-similarity, first, second))
    return [
        Overlap(seeds[first], seeds[second], -negated)
        for negated, first, second in sorted(found)
    ]


def normalise(text: str) -> str:
    """The text without what does not change its meaning: NFKC, casefold, spacing."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def _read(path: str | Path) -> tuple[str, bytes]:
    """Name for messages and content of the file that `path` means."""
    if path == BUILTIN:
        builtin = resources.files("data_gen").joinpath("data", "seeds.jsonl")
        return "data_gen/data/seeds.jsonl", builtin.read_bytes()
    path = Path(path)
    if path.suffix not in (".jsonl", ".txt"):
        raise ValueError(
            f"{path}: seeds are a .jsonl file (one JSON object a line), a .txt file "
            f"(one instruction a line) or {BUILTIN!r}; rename or convert it"
        )
    if not path.is_file():
        raise ValueError(
            f"{path}: no such seed file; check the path, or use {BUILTIN!r} for the "
            "seeds that come with data_gen"
        )
    return str(path), path.read_bytes()


def _lines(source: str, raw: bytes) -> Iterator[tuple[int, str]]:
    """Line numbers and text of the lines that are not blank.

    Bytes are split on b"\\n" only: str.splitlines would also cut at U+2028 and U+0085,
    which JSON strings may hold.
    """
    if raw.startswith(b"\xef\xbb\xbf"):
        raise ValueError(
            f"{source}:1: starts with a byte-order mark; save it as UTF-8 without one"
        )
    for number, line in enumerate(raw.split(b"\n"), start=1):
        try:
            text = line.decode("utf-8").strip(" \t\r")
        except UnicodeDecodeError as error:
            raise ValueError(
                f"{source}:{number}: byte {error.start + 1} of the line is not UTF-8 "
                f"({error.reason}); save the file as UTF-8"
            ) from error
        if text:
            yield number, text


def _text_seeds(source: str, raw: bytes) -> Iterator[tuple[int, Seed]]:
    for number, text in _lines(source, raw):
        _check_string(f"{source}:{number}", "the instruction", text)
        yield number, Seed(_content_id(text), text)


def _json_seeds(source: str, raw: bytes) -> Iterator[tuple[int, Seed]]:
    for number, line in _lines(source, raw):
        where = f"{source}:{number}"
        try:
            record = json.loads(line, object_pairs_hook=_object)
        except (ValueError, RecursionError) as error:
            raise ValueError(
                f"{where}: not JSON: {error}; write one object a line, like "
                '{"text": "Name a fruit."}'
            ) from error
        yield number, _seed(where, record)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    record = dict(pairs)
    if len(record) < len(pairs):
        repeated = Counter(key for key, _ in pairs).most_common(1)[0][0]
        raise ValueError(f"key {repeated!r} is given twice")
    return record


def _seed(where: str, record: Any) -> Seed:
    if not isinstance(record, dict):
        raise ValueError(
            f"{where}: expected a JSON object, got {type(record).__name__}; write "
            '{"text": "Name a fruit."}'
        )
    for key in record:
        if key not in FIELDS:
            near = difflib.get_close_matches(key, FIELDS, n=1)
            hint = f"did you mean {near[0]!r}?" if near else "remove it"
            raise ValueError(
                f"{where}: a seed has no field {key!r}; {hint} "
                f"(fields: {', '.join(FIELDS)})"
            )
    if "text" not in record:
        raise ValueError(
            f'{where}: no "text" in the object; add the instruction as "text"'
        )
    for key, value in record.items():
        _check_string(where, f'"{key}"', value)
    text = record["text"].strip()
    return Seed(
        id=record.get("id", _content_id(text)),
        text=text,
        domain=record.get("domain", ""),
        answer=record.get("answer"),
    )


def _check_string(where: str, what: str, value: Any) -> None:
    """Raise unless `value` is a string with something in it that UTF-8 can hold."""
    if not isinstance(value, str):
        raise ValueError(
            f"{where}: {what} must be a string, got {type(value).__name__} "
            f"({json.dumps(value)[:40]}); put it in quotes, or leave it out"
        )
    if not value.strip():
        raise ValueError(f"{where}: {what} is empty; fill it in or remove it")
    for position, character in enumerate(value, start=1):
        category = unicodedata.category(character)
        if category == "Cs" or (category == "Cc" and character not in "\n\t"):
            kind = "a lone surrogate" if category == "Cs" else "a control character"
            raise ValueError(
                f"{where}: {what} has {kind}, U+{ord(character):04X}, at character "
                f"{position}; remove it"
            )


def _content_id(text: str) -> str:
    digest = hashlib.sha256(normalise(text).encode("utf-8")).hexdigest()
    return f"h{digest[:16]}"


def _content_words(text: str) -> frozenset[str]:
    ignored = {*_FUNCTION_WORDS.split(), *_SHORT_ANSWER_WORDS.split()}
    return frozenset(re.findall(r"\w+", normalise(text))) - ignored


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
