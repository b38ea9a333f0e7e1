# SPDX-License-Identifier: Apache-2.0
"""Parameters that have a notation of their own: sums, codes, tables and JSON Schemas.

Each is a string or a tuple of strings, so that a constraint stays flat JSON; what the
string may hold is small enough to be met by construction. The kinds of parameter and
what they have in common are described in `alignjax.constraints.params`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from alignjax.constraints.params import WORD, Word, is_nfc


@dataclass(frozen=True)
class Expression:
    """Two to five whole numbers below 1000 joined by + - *, such as "7 * 24 - 5"."""

    name: str
    pattern: str = r"[0-9]{1,3}(?: [-+*] [0-9]{1,3}){1,4}"

    def problem(self, value: Any) -> str | None:
        # Without leading zeros, so that a value has one spelling.
        number = r"(?:0|[1-9][0-9]{0,2})"
        form = rf"{number}(?: [-+*] {number}){{1,4}}"
        if isinstance(value, str) and re.fullmatch(form, value):
            return None
        return "expected 2 to 5 whole numbers below 1000 joined by ' + ', ' - ', ' * '"

    def show(self, value: Any) -> str:
        return value

    def read(self, shown: str) -> str:
        return shown


@dataclass(frozen=True)
class CodePattern:
    """A regular expression for a short code: characters and the classes [A-Z], [a-z]
    and [0-9], each with or without a number of repeats, such as [A-Z]{3}-[0-9]{4}.

    So small a language cannot backtrack, and says by itself how to write a code.
    """

    name: str
    pattern: str = r"(?:(?:\[(?:A-Z|a-z|0-9)\]|[A-Za-z0-9/_:#-])(?:\{[1-9]\})?){2,12}"

    def problem(self, value: Any) -> str | None:
        if isinstance(value, str) and re.fullmatch(self.pattern, value):
            ends_in_punctuation = re.search("[/_:#-]$", value)
            if "[" in value and not ends_in_punctuation:
                return None
        return (
            "expected 2 to 12 of the classes [A-Z], [a-z], [0-9] and the characters "
            "A-Z a-z 0-9 / _ : # -, each perhaps with {1} to {9}, among them a class, "
            "and no punctuation at the end"
        )

    def show(self, value: Any) -> str:
        return value

    def read(self, shown: str) -> str:
        return shown


@dataclass(frozen=True)
class Table:
    """Rows of a table as strings with " | " between cells: first the header, then 2 to
    9 rows that begin with different names and go on with whole numbers.

    Shown as a Markdown table.
    """

    name: str
    pattern: str = r"\|[^\n]{1,200}\|(?:\n\|[^\n]{1,200}\|){3,10}"

    def problem(self, value: Any) -> str | None:
        if isinstance(value, tuple) and all(isinstance(row, str) for row in value):
            cells = [row.split(" | ") for row in value]
            if 3 <= len(cells) <= 10 and self._is_regular(cells):
                return None
        return (
            "expected a header and 2 to 9 rows of 2 to 5 cells with ' | ' between; "
            "the header and the first cells are different words, the others numbers"
        )

    def show(self, value: Any) -> str:
        rule = " | ".join(["---"] * len(value[0].split(" | ")))
        return "\n".join(f"| {row} |" for row in (value[0], rule, *value[1:]))

    def read(self, shown: str) -> tuple[str, ...]:
        rows = [row[2:-2] for row in shown.split("\n")]
        return (rows[0], *rows[2:])

    def _is_regular(self, cells: list[list[str]]) -> bool:
        header, rows = cells[0], cells[1:]
        names = [row[0] for row in rows]
        words = [*header, *names]
        numbers = [cell for row in rows for cell in row[1:]]
        return (
            2 <= len(header) <= 5
            and all(len(row) == len(header) for row in rows)
            and all(re.fullmatch(f"{WORD}(?: {WORD})*", word) for word in words)
            and all(is_nfc(word) and len(word) <= 30 for word in words)
            and len({word.casefold() for word in header}) == len(header)
            and len({name.casefold() for name in names}) == len(names)
            and all(re.fullmatch("0|[1-9][0-9]{0,5}", cell) for cell in numbers)
        )


@dataclass(frozen=True)
class Schema:
    """The JSON Schema of an object, as JSON on one line with sorted keys.

    Properties are words; each is a string, an integer with a range, a boolean, one of a
    few strings, or a list of strings with bounds on its length. All are required and
    no other is allowed.
    """

    name: str
    pattern: str = r"\{[^\n]{2,900}?\}(?!\S)"

    def problem(self, value: Any) -> str | None:
        try:
            schema = json.loads(value)
            is_canonical = json.dumps(schema, ensure_ascii=False) == value
        except (TypeError, ValueError, RecursionError):
            is_canonical, schema = False, None
        if is_canonical and isinstance(schema, dict):
            properties = schema.get("properties")
            if isinstance(properties, dict) and schema == self.of(properties):
                is_known = all(
                    Word("").problem(key) is None and _is_field(field)
                    for key, field in properties.items()
                )
                if is_known and 1 <= len(properties) <= 5:
                    return None
        return (
            "expected the JSON Schema of an object with 1 to 5 required properties: "
            "strings, integers with minimum and maximum, booleans, enums of strings, "
            "or arrays of strings with minItems and maxItems"
        )

    @staticmethod
    def of(properties: Mapping[str, Any]) -> dict[str, Any]:
        """The schema of an object that has these properties and no others."""
        return {
            "type": "object",
            "properties": dict(properties),
            "required": list(properties),
            "additionalProperties": False,
        }

    def show(self, value: Any) -> str:
        return value

    def read(self, shown: str) -> str:
        return shown


def _is_field(field: Any) -> bool:
    """Whether this is one of the five kinds of property that a `Schema` has."""
    if not isinstance(field, dict):
        return False
    match field:
        case {"type": "string"} | {"type": "boolean"}:
            return len(field) == 1
        case {"type": "integer", "minimum": low, "maximum": high}:
            return len(field) == 3 and _in_order(0, low, high, 1000)
        case {"enum": [_, _, *_] as values}:
            words = all(Word("").problem(value) is None for value in values)
            return len(field) == 1 and words and len(set(values)) == len(values) <= 5
        case {
            "type": "array",
            "items": {"type": "string", **rest},
            "minItems": low,
            "maxItems": high,
        }:
            return len(field) == 4 and not rest and _in_order(1, low, high, 10)
    return False


def _in_order(*values: Any) -> bool:
    """Whether these are whole numbers, none smaller than the one before."""
    is_whole = all(isinstance(v, int) and not isinstance(v, bool) for v in values)
    return is_whole and list(values) == sorted(values)
