# SPDX-License-Identifier: Apache-2.0
"""Constraints that give the whole answer a machine-readable shape."""

from __future__ import annotations

import itertools
import json
import random
import re
from collections.abc import Iterator

from alignjax.constraints.constraint import (
    ConstraintType,
    Context,
    Params,
    Reading,
    Readings,
    facts,
)
from alignjax.constraints.params import Integer, Word, Words
from alignjax.constraints.text import (
    blocks,
    content_words,
    fillers,
    nonempty_lines,
    strict_json,
)
from alignjax.constraints.vocabulary import JSON_KEYS, KEYWORDS, TABLE_HEADERS


def _object_keys(text: str) -> list[str] | None:
    """Keys of the JSON object that `text` is, or None if it is not one."""
    try:
        value = strict_json(text)
    except ValueError:
        return None
    return list(value) if isinstance(value, dict) else None


def _json_readings(params: Params, text: str) -> Readings:
    fenced = re.search(r"```(?:json)?\s*\n(.*?)\n\s*```", text, re.DOTALL)
    whole, wanted = _object_keys(text), set(params["keys"])
    inside = whole if whole is not None or not fenced else _object_keys(fenced[1])
    shown = "no object" if inside is None else ", ".join(inside)
    return {
        "exact_keys": Reading(shown, whole is not None and set(whole) == wanted),
        "keys_included": Reading(shown, whole is not None and wanted <= set(whole)),
        "code_block": Reading(shown, inside is not None and wanted <= set(inside)),
    }


def _json_repair(params: Params, text: str) -> str:
    keys = params["keys"]
    values = dict(zip(keys, blocks(text, len(keys)), strict=True))
    return json.dumps(values, ensure_ascii=False)


def _json_violations(params: Params, text: str) -> Iterator[str]:
    key = params["keys"][-1]
    other = next(k for k in JSON_KEYS if k not in params["keys"])
    yield text.replace(f'"{key}"', f'"{other}"', 1)
    yield text[:-1]


def _draw_json(rng: random.Random, context: Context) -> Params:
    del context
    return {"keys": tuple(rng.sample(JSON_KEYS, rng.choice((1, 2, 2, 3))))}


JSON = ConstraintType(
    name="json",
    family="shape",
    version=1,
    stage=35,
    schema=(Words("keys", 1, 4),),
    wordings=(
        "Answer with only a JSON object with the keys {keys}.",
        "Write your answer as a JSON object that has the keys {keys}.",
    ),
    readings=_json_readings,
    repair=_json_repair,
    violations=_json_violations,
    draw=_draw_json,
)


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip().strip("|").split("|")]


def _table_readings(params: Params, text: str) -> Readings:
    header = [params["left"].casefold(), params["right"].casefold()]
    lines = nonempty_lines(text)
    rows = [line for line in lines if line.strip().startswith("|")]
    cells = [_cells(row) for row in rows]
    has_header = bool(cells) and [c.casefold() for c in cells[0]] == header
    is_rule = [all(re.fullmatch(r":?-+:?", c) for c in row) for row in cells]
    full = [row for row, rule in zip(cells, is_rule, strict=True) if not rule][1:]
    is_filled = bool(full) and all(len(row) == 2 and all(row) for row in full)
    has_rule = len(rows) > 1 and is_rule[1] and sum(is_rule) == 1
    return facts(
        {
            "whole": len(rows) == len(lines) and has_header and is_filled and has_rule,
            "contains_table": has_header and is_filled and has_rule,
            "without_rule": has_header and bool(full),
        }
    )


def _table_repair(params: Params, text: str) -> str:
    rows = [f"| {params['left']} | {params['right']} |", "| --- | --- |"]
    n = max(1, min(3, len(text.split()) // 8))
    for block in blocks(text.replace("|", " "), n):
        words = content_words(block)
        left = words[0].capitalize() if words else f"Part {len(rows) - 1}"
        rows.append(f"| {left} | {block} |")
    return "\n".join(rows)


def _table_violations(params: Params, text: str) -> Iterator[str]:
    del params
    yield "\n".join(text.split("\n")[2:])
    yield text.replace("|", "")


def _draw_table(rng: random.Random, context: Context) -> Params:
    del context
    left, right = rng.choice(TABLE_HEADERS)
    return {"left": left, "right": right}


TABLE = ConstraintType(
    name="table",
    family="shape",
    version=1,
    stage=35,
    schema=(Word("left"), Word("right")),
    wordings=(
        "Answer with only a Markdown table with the two columns {left} and {right}.",
        "Write your answer as a two-column Markdown table with the header {left} and "
        "{right}.",
    ),
    readings=_table_readings,
    repair=_table_repair,
    violations=_table_violations,
    draw=_draw_table,
)


def _items_readings(params: Params, text: str) -> Readings:
    """Items between commas, with a final "and" as a comma, and if all are short."""
    items = [item.strip() for item in text.rstrip(".").split(",")]
    joined = re.split(r",? and |,", text.rstrip("."))
    is_line = "\n" not in text and all(items)
    is_short = all(len(item.split()) <= 4 for item in items)
    n = params["n"]
    return {
        "commas": Reading(len(items), is_line and len(items) == n),
        "and_splits": Reading(len(joined), is_line and len(joined) == n),
        "short_items": Reading(len(items), is_line and is_short and len(items) == n),
    }


def _items_repair(params: Params, text: str) -> str:
    words = content_words(text)
    words += [word for word in KEYWORDS if word not in words]
    return ", ".join(words[: params["n"]])


def _items_violations(params: Params, text: str) -> Iterator[str]:
    del params
    yield text.rsplit(",", 1)[0]
    yield next(fillers(text))


def _draw_items(rng: random.Random, context: Context) -> Params:
    del context
    return {"n": rng.choice((3, 4, 5, 6))}


COMMA_LIST = ConstraintType(
    name="comma_list",
    family="shape",
    version=1,
    stage=35,
    schema=(Integer("n", 2, 20),),
    wordings=(
        "Answer with only a single line of exactly {n} items separated by commas.",
        "Write your answer as exactly {n} comma-separated items on one line.",
    ),
    readings=_items_readings,
    repair=_items_repair,
    violations=_items_violations,
    draw=_draw_items,
)


def _tables(text: str) -> list[list[list[str]]]:
    """Markdown tables, as rows of cells: runs of lines with "|" whose second line is a
    rule ("|---|---|"), without the rule."""
    found: list[list[list[str]]] = []
    run: list[list[str]] = []
    for line in [*text.split("\n"), ""]:
        if "|" in line:
            run.append([cell.strip() for cell in line.strip().strip("|").split("|")])
            continue
        if len(run) > 1 and all(re.fullmatch(r":?-+:?", cell) for cell in run[1]):
            found.append([run[0], *run[2:]])
        run = []
    return found


def _size_of(table: list[list[str]]) -> tuple[int, int]:
    """Columns and rows below the header; (0, 0) where a row has too few or too many."""
    widths = {len(row) for row in table}
    return (widths.pop(), len(table) - 1) if len(widths) == 1 else (0, 0)


def _sized_readings(params: Params, text: str) -> Readings:
    wanted = (params["columns"], params["rows"])
    tables = _tables(text)
    filled = [t for t in tables if all(cell for row in t for cell in row)]
    shown = ", ".join("x".join(map(str, _size_of(table))) for table in tables[:5])
    return {
        "only_table": Reading(
            shown, [_size_of(t) for t in tables] == [wanted] and filled == tables
        ),
        "any_table": Reading(shown, wanted in [_size_of(table) for table in tables]),
    }


def _sized_repair(params: Params, text: str) -> str:
    """The text without its tables, then a table of its words."""
    columns, rows = params["columns"], params["rows"]
    kept = [line for line in text.split("\n") if "|" not in line]
    text = "\n".join(kept).strip()
    words = [*content_words(text), *KEYWORDS]
    header = [name for pair in TABLE_HEADERS for name in pair]
    header = list(dict.fromkeys([*header, *(f"Point {i}" for i in range(columns))]))
    cells = itertools.cycle(word.capitalize() for word in dict.fromkeys(words))
    lines = [header[:columns], ["---"] * columns]
    lines += [list(itertools.islice(cells, columns)) for _ in range(rows)]
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return f"{text}\n\n{table}" if text else table


def _sized_violations(params: Params, text: str) -> Iterator[str]:
    del params
    lines = text.split("\n")
    last = max(i for i, line in enumerate(lines) if "|" in line)
    yield "\n".join([*lines[:last], *lines[last + 1 :]])
    yield "\n".join([*lines[: last + 1], lines[last], *lines[last + 1 :]])


TABLE_SIZE = ConstraintType(
    name="table_size",
    family="formats",
    version=1,
    stage=39,
    schema=(Integer("columns", 2, 8), Integer("rows", 1, 20)),
    wordings=(
        "Include a Markdown table with exactly {columns} columns and {rows} "
        "row{rows:s} below the header.",
        "Add a Markdown table of {columns} columns that has a header and exactly "
        "{rows} more row{rows:s}.",
    ),
    readings=_sized_readings,
    repair=_sized_repair,
    violations=_sized_violations,
    draw=lambda rng, context: {
        "columns": rng.choice((2, 3, 3, 4)),
        "rows": rng.choice((2, 3, 4)),
    },
)
