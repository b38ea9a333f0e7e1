# SPDX-License-Identifier: Apache-2.0
"""Parameters of constraint types: which values are valid and how they are written.

Each kind of parameter has a `name`, `problem(value)`, which says what is wrong with a
value or None, `show(value)`, its text, `pattern`, a regular expression without groups
that matches every such text, and `read`, the inverse of `show`.
"""

from __future__ import annotations

import itertools
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

WORD = r"[^\W\d_]+(?:['’-][^\W\d_]+)*"


@runtime_checkable  # for the shape checks of the tests
class Param(Protocol):
    """What each kind of parameter has; see the module."""

    @property
    def name(self) -> str: ...

    @property
    def pattern(self) -> str: ...

    def problem(self, value: Any) -> str | None: ...

    def show(self, value: Any) -> str: ...

    def read(self, shown: str) -> Any: ...


@dataclass(frozen=True)
class Integer:
    """A whole number in [low, high]."""

    name: str
    low: int
    high: int
    pattern: str = r"[0-9]{1,6}"

    def problem(self, value: Any) -> str | None:
        is_whole = isinstance(value, int) and not isinstance(value, bool)
        if is_whole and self.low <= value <= self.high:
            return None
        return f"expected a whole number from {self.low} to {self.high}"

    def show(self, value: Any) -> str:
        return str(value)

    def read(self, shown: str) -> int:
        return int(shown)


@dataclass(frozen=True)
class Word:
    """One word of letters, shown in double quotes."""

    name: str
    pattern: str = f'"{WORD}"'

    def problem(self, value: Any) -> str | None:
        if isinstance(value, str) and is_nfc(value) and re.fullmatch(WORD, value):
            return None
        return "expected one word of letters, in Unicode form NFC"

    def show(self, value: Any) -> str:
        return f'"{value}"'

    def read(self, shown: str) -> str:
        return shown[1:-1]


@dataclass(frozen=True)
class Phrase:
    """One line without double quotes, shown in double quotes.

    Attributes:
      longest: most characters.
    """

    name: str
    longest: int = 80

    @property
    def pattern(self) -> str:
        return rf'"[^"\n]{{1,{self.longest}}}"'

    def problem(self, value: Any) -> str | None:
        if isinstance(value, str) and is_nfc(value) and value == value.strip():
            is_word_like = any(letter.isalnum() for letter in value)
            if is_word_like and re.fullmatch(rf'[^"\n\r]{{1,{self.longest}}}', value):
                return None
        return (
            f"expected one line of 1 to {self.longest} characters in Unicode form NFC, "
            "with a letter or digit, without double quotes and without outer spaces"
        )

    def show(self, value: Any) -> str:
        return f'"{value}"'

    def read(self, shown: str) -> str:
        return shown[1:-1]


@dataclass(frozen=True)
class Choice:
    """One of a few fixed strings, shown as it is."""

    name: str
    options: tuple[str, ...]

    @property
    def pattern(self) -> str:
        longest_first = sorted(self.options, key=len, reverse=True)
        return "(?:" + "|".join(re.escape(option) for option in longest_first) + ")"

    def problem(self, value: Any) -> str | None:
        if value in self.options:
            return None
        return f"expected one of {', '.join(self.options)}"

    def show(self, value: Any) -> str:
        return value

    def read(self, shown: str) -> str:
        return shown


@dataclass(frozen=True)
class Words:
    """From `low` to `high` different words, shown as "a", "b" and "c"."""

    name: str
    low: int
    high: int

    @property
    def pattern(self) -> str:
        return f'"{WORD}"(?:, "{WORD}")*(?: and "{WORD}")?'

    def problem(self, value: Any) -> str | None:
        if isinstance(value, tuple) and self.low <= len(value) <= self.high:
            words = [word for word in value if Word("").problem(word) is None]
            if len({word.casefold() for word in words}) == len(value):
                return None
        return f"expected {self.low} to {self.high} different words of letters"

    def show(self, value: Any) -> str:
        return _listed([f'"{word}"' for word in value])

    def read(self, shown: str) -> tuple[str, ...]:
        return tuple(re.findall(f'"({WORD})"', shown))


@dataclass(frozen=True)
class Phrases:
    """From `low` to `high` phrases, none inside another, shown as "a", "b" and "c"."""

    name: str
    low: int
    high: int

    @property
    def pattern(self) -> str:
        one = Phrase("").pattern
        return f"{one}(?:, {one})*(?: and {one})?"

    def problem(self, value: Any) -> str | None:
        if isinstance(value, tuple) and self.low <= len(value) <= self.high:
            folded = [phrase.casefold() for phrase in value if _is_phrase(phrase)]
            nested = any(a in b for a, b in itertools.permutations(folded, 2))
            if len(folded) == len(value) and not nested:
                return None
        return f"expected {self.low} to {self.high} phrases, none inside another"

    def show(self, value: Any) -> str:
        return _listed([f'"{phrase}"' for phrase in value])

    def read(self, shown: str) -> tuple[str, ...]:
        return tuple(re.findall(r'"([^"\n]*)"', shown))


@dataclass(frozen=True)
class Integers:
    """From 2 to `longest` different whole numbers in [0, high], shown as 1, 2 and 3."""

    name: str
    high: int
    longest: int
    pattern: str = r"[0-9]{1,6}(?:, [0-9]{1,6})* and [0-9]{1,6}"

    def problem(self, value: Any) -> str | None:
        one = Integer(self.name, 0, self.high)
        if isinstance(value, tuple) and 2 <= len(value) <= self.longest:
            valid = {number for number in value if one.problem(number) is None}
            if len(valid) == len(value):
                return None
        return (
            f"expected 2 to {self.longest} different whole numbers from 0 to "
            f"{self.high}"
        )

    def show(self, value: Any) -> str:
        return _listed([str(number) for number in value])

    def read(self, shown: str) -> tuple[int, ...]:
        return tuple(int(number) for number in re.findall("[0-9]+", shown))


def validate(
    type_name: str, schema: tuple[Param, ...], params: Mapping[str, Any]
) -> None:
    """Raises ValueError unless `params` has exactly the schema's names, all valid."""
    expected = [param.name for param in schema]
    if set(params) != set(expected):
        raise ValueError(
            f"constraint {type_name!r}: expected parameters "
            f"({', '.join(expected) or 'none'}), got ({', '.join(params) or 'none'})"
        )
    for param in schema:
        problem = param.problem(params[param.name])
        if problem:
            raise ValueError(
                f"constraint {type_name!r}, parameter {param.name!r}: {problem}, "
                f"got {params[param.name]!r}"
            )


def _listed(shown: list[str]) -> str:
    """The parts as "a", as "a and b" or as "a, b and c"."""
    if len(shown) == 1:
        return shown[0]
    return ", ".join(shown[:-1]) + " and " + shown[-1]


def _is_phrase(value: Any) -> bool:
    return Phrase("").problem(value) is None


def is_nfc(value: str) -> bool:
    return unicodedata.is_normalized("NFC", value)
