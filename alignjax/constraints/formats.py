# SPDX-License-Identifier: Apache-2.0
"""Constraints on JSON under a schema, JSON lists, CSV, and codes of a form."""

from __future__ import annotations

import csv
import functools
import io
import itertools
import json
import random
import re
from collections.abc import Callable, Iterator
from typing import Any

from alignjax.constraints.constraint import (
    ConstraintType,
    Context,
    Params,
    Reading,
    Readings,
    exactly,
    facts,
)
from alignjax.constraints.notation import CodePattern, Schema
from alignjax.constraints.params import Integer, Words
from alignjax.constraints.text import (
    blocks,
    content_words,
    fillers,
    pick,
    strict_json,
)
from alignjax.constraints.vocabulary import (
    CSV_COLUMNS,
    KEYWORDS,
    SCHEMA_ENUMS,
    SCHEMA_FACTS,
    SCHEMA_LISTS,
    SCHEMA_NUMBERS,
    SCHEMA_TEXTS,
)

_FENCED = re.compile(r"```\w*[ \t]*\n(.*?)\n[ \t]*```", re.DOTALL)


def _inside(text: str) -> str:
    """What is in the first fenced block, or the text itself."""
    fenced = _FENCED.search(text)
    return fenced[1] if fenced else text


def _value(text: str) -> Any:
    """The JSON value that the text is, or None (which no constraint here asks for)."""
    try:
        return strict_json(text)
    except ValueError:
        return None


@functools.lru_cache(maxsize=256)
def _validator(schema: str) -> Callable[[Any], bool]:
    from jsonschema import Draft202012Validator  # 60 ms to import

    return Draft202012Validator(json.loads(schema)).is_valid


def _schema_readings(params: Params, text: str) -> Readings:
    is_valid = _validator(params["schema"])
    whole, inside = _value(text), _value(_inside(text))
    has_words = any(c.isalnum() for c in text)
    return facts(
        {
            "whole": is_valid(whole) and has_words,
            "code_block": is_valid(inside) and has_words,
        }
    )


def _schema_repair(params: Params, text: str) -> str:
    """Strings and lists hold the text; numbers, booleans and enums come first of what
    is allowed."""
    properties = json.loads(params["schema"])["properties"]
    sizes = {key: _size(field) for key, field in properties.items()}
    parts = iter(blocks(text, max(1, sum(sizes.values()))))
    values: dict[str, Any] = {}
    for key, field in properties.items():
        if "enum" in field:
            values[key] = pick(field["enum"], text)
        elif field["type"] == "integer":
            values[key] = pick(range(field["minimum"], field["maximum"] + 1), text)
        elif field["type"] == "boolean":
            values[key] = True
        elif field["type"] == "array":
            values[key] = list(itertools.islice(parts, sizes[key]))
        else:
            values[key] = next(parts)
    return json.dumps(values, ensure_ascii=False)


def _size(field: dict[str, Any]) -> int:
    """How many strings a property needs."""
    match field:
        case {"type": "string"}:
            return 1
        case {"type": "array", "minItems": int(least)}:
            return least
    return 0


def _schema_violations(params: Params, text: str) -> Iterator[str]:
    value = json.loads(_inside(text))
    for key in list(json.loads(params["schema"])["properties"])[::-1]:
        yield json.dumps(
            {name: v for name, v in value.items() if name != key}, ensure_ascii=False
        )
    yield text[:-1]


def _draw_schema(rng: random.Random, context: Context) -> Params:
    """A string, and two or three properties of other kinds."""
    del context
    low = rng.choice((2, 2, 3))
    level, levels = rng.choice(SCHEMA_ENUMS)
    options = [
        (
            rng.choice(SCHEMA_LISTS),
            {
                "type": "array",
                "items": {"type": "string"},
                "minItems": low,
                "maxItems": low + rng.choice((0, 1, 2)),
            },
        ),
        (
            rng.choice(SCHEMA_NUMBERS),
            {"type": "integer", "minimum": 1, "maximum": rng.choice((5, 10, 100))},
        ),
        (rng.choice(SCHEMA_FACTS), {"type": "boolean"}),
        (level, {"enum": list(levels)}),
    ]
    chosen = rng.sample(options, rng.choice((1, 2, 2, 3)))
    text: str = rng.choice(SCHEMA_TEXTS)
    properties = {text: {"type": "string"}, **dict(chosen)}
    return {"schema": json.dumps(Schema.of(properties), ensure_ascii=False)}


JSON_SCHEMA = ConstraintType(
    name="json_schema",
    family="formats",
    version=1,
    stage=35,
    schema=(Schema("schema"),),
    wordings=(
        "Answer with only a JSON object that is valid under the JSON Schema {schema}",
        "Your whole answer must be JSON that validates against this schema: {schema}",
    ),
    readings=_schema_readings,
    repair=_schema_repair,
    violations=_schema_violations,
    draw=_draw_schema,
    package="jsonschema",
)


def _array_readings(params: Params, text: str) -> Readings:
    """Length of the list of strings that the text, or its fenced block, is."""
    counts = {}
    for name, value in (("whole", _value(text)), ("code_block", _value(_inside(text)))):
        items = value if isinstance(value, list) else []
        is_text = all(isinstance(item, str) and item.strip() for item in items)
        counts[name] = len(items) if is_text else 0
    return exactly(counts, params["n"])


def _array_violations(params: Params, text: str) -> Iterator[str]:
    del params
    items = json.loads(_inside(text))
    yield json.dumps(items[:-1], ensure_ascii=False)
    yield json.dumps([*items, next(fillers(text))], ensure_ascii=False)


JSON_ARRAY = ConstraintType(
    name="json_array",
    family="formats",
    version=1,
    stage=35,
    schema=(Integer("n", 2, 20),),
    wordings=(
        "Answer with only a JSON array of exactly {n} strings.",
        "Write your answer as a JSON list with {n} strings and nothing else.",
    ),
    readings=_array_readings,
    repair=lambda params, text: json.dumps(
        blocks(text, params["n"]), ensure_ascii=False
    ),
    violations=_array_violations,
    draw=lambda rng, context: {"n": rng.choice((2, 3, 3, 4, 5))},
)


def _csv_rows(text: str, **dialect: Any) -> list[list[str]]:
    """Rows of a CSV text, or none if the quotes are wrong."""
    try:
        return list(csv.reader(io.StringIO(text), strict=True, **dialect))
    except csv.Error:
        return []


def _csv_readings(params: Params, text: str) -> Readings:
    """Rows below the right header, if no cell is missing or empty."""
    columns, n = list(params["columns"]), params["n"]
    spaced = _csv_rows(text, skipinitialspace=True)
    inside = _csv_rows(_inside(text), skipinitialspace=True)
    named = [[cell.strip().casefold() for cell in row] for row in inside[:1]]
    loose = [[c.casefold() for c in columns], *inside[1:]] if named else []
    if named and named[0] != [c.casefold() for c in columns]:
        loose = []
    headers = [columns, columns, [c.casefold() for c in columns]]
    found = [_csv_rows(text), spaced, [row for row in loose if row]]
    names = ("exact", "spaces_after_commas", "code_block_or_case")
    readings = {}
    for name, header, rows in zip(names, headers, found, strict=True):
        is_full = all(len(r) == len(columns) and all(map(str.strip, r)) for r in rows)
        passes = rows[:1] == [header] and is_full and len(rows) == n + 1
        readings[name] = Reading(max(0, len(rows) - 1), passes)
    return readings


def _write_csv(rows: list[list[str]]) -> str:
    file = io.StringIO()
    csv.writer(file, lineterminator="\n").writerows(rows)
    return file.getvalue().rstrip("\n")


def _csv_repair(params: Params, text: str) -> str:
    """Rows that begin with a word of the text and go on with its sentences."""
    columns, n = params["columns"], params["n"]
    width = max(1, len(columns) - 1)
    parts = [part.replace('"', "'") for part in blocks(text, n * width)]
    rows = [list(columns)]
    for i in range(n):
        own = parts[i * width : (i + 1) * width]
        words = [*content_words(own[0]), KEYWORDS[i]]
        rows.append([words[0], *own][-len(columns) :])
    return _write_csv(rows)


def _csv_violations(params: Params, text: str) -> Iterator[str]:
    rows = _csv_rows(text)
    yield _write_csv(rows[:-1])
    yield _write_csv([*rows, rows[-1]])


def _draw_csv(rng: random.Random, context: Context) -> Params:
    del context
    columns = rng.sample(CSV_COLUMNS, rng.choice((2, 2, 3)))
    return {"columns": tuple(columns), "n": rng.choice((2, 3, 4))}


CSV = ConstraintType(
    name="csv",
    family="formats",
    version=1,
    stage=35,
    schema=(Words("columns", 2, 5), Integer("n", 1, 20)),
    wordings=(
        "Answer with only CSV: a header with the columns {columns}, then exactly {n} "
        "row{n:s}.",
        "Write your answer as comma-separated values with the header {columns} and "
        "exactly {n} row{n:s} below it.",
    ),
    readings=_csv_readings,
    repair=_csv_repair,
    violations=_csv_violations,
    draw=_draw_csv,
)


def _code_readings(params: Params, text: str) -> Readings:
    """Whether a code stands alone on its line, perhaps after "Code:", or anywhere."""
    pattern = params["pattern"]
    line = rf"(?m)^[ \t]*(?:[Cc]ode: )?{pattern}[ \t]*$"
    whole = rf"(?<![\w-]){pattern}(?![\w-])"
    return facts(
        {
            "own_line": re.search(line, text) is not None,
            "whole_token": re.search(whole, text) is not None,
            "anywhere": re.search(pattern, text) is not None,
        }
    )


def _code(pattern: str, text: str) -> str:
    """A code that matches the pattern, always the same for the same text."""
    letters = {"A-Z": "ABCDEFGHJKLMNPRSTUVWXYZ", "a-z": "abcdefghijkmnpqrstuvwxyz"}
    code = ""
    for unit in re.finditer(r"(?:\[(A-Z|a-z|0-9)\]|(.))(?:\{(\d)\})?", pattern):
        for _ in range(int(unit[3] or 1)):
            options = letters.get(unit[1], "0123456789") if unit[1] else unit[2]
            code += pick(options, f"{text}{code}")
    return code


def _code_violations(params: Params, text: str) -> Iterator[str]:
    pattern = re.compile(params["pattern"])
    lines = text.split("\n")
    yield "\n".join(line for line in lines if not pattern.search(line))
    yield pattern.sub("", text)
    yield next(fillers(text))


CODE = ConstraintType(
    name="code",
    family="formats",
    version=1,
    stage=61,
    schema=(CodePattern("pattern"),),
    wordings=(
        "Put a code that matches the regular expression {pattern} on a line "
        "of its own.",
        "Add a line that has only a reference code of the form {pattern} (a regular "
        "expression).",
    ),
    readings=_code_readings,
    repair=lambda params, text: f"{text}\nCode: {_code(params['pattern'], text)}",
    violations=_code_violations,
    draw=lambda rng, context: {"pattern": _draw_pattern(rng)},
)


def _draw_pattern(rng: random.Random) -> str:
    letters = f"[{rng.choice(('A-Z', 'A-Z', 'a-z'))}]{{{rng.randint(2, 4)}}}"
    digits = f"[0-9]{{{rng.randint(2, 6)}}}"
    parts = rng.choice(
        ((letters, digits), (digits, letters), (letters, digits, "[0-9]"))
    )
    return rng.choice("-/_").join(parts)
