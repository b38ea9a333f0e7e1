# SPDX-License-Identifier: Apache-2.0
"""Constraints that supply a table and ask for what follows from it."""

from __future__ import annotations

import random
from collections.abc import Sequence

from alignjax.constraints.constraint import ConstraintType, Context, Params
from alignjax.constraints.notation import Table
from alignjax.constraints.params import Choice, Integer, Phrase
from alignjax.constraints.stated import Statement
from alignjax.constraints.vocabulary import TABLE_TOPICS

_STAGE = 61


def _cells(params: Params) -> list[list[str]]:
    return [row.split(" | ") for row in params["table"]]


def _column(params: Params) -> dict[str, int]:
    """The numbers of the column that is asked about, by the name of their row."""
    header, *rows = _cells(params)
    index = header.index(params["column"])
    return {row[0]: int(row[index]) for row in rows}


def _unknown(params: Params) -> str | None:
    """Names that the table does not have."""
    header, *rows = _cells(params)
    if params["column"] not in header[1:]:
        return "expected a column of numbers that the table has"
    if "row" in params and params["row"] not in [row[0] for row in rows]:
        return "expected a row that the table has"
    return None


def _draw_table(rng: random.Random) -> dict[str, tuple[str, ...] | str]:
    """A table of 2 or 3 columns of numbers and 3 to 6 rows, and one of its columns."""
    header, names = rng.choice(TABLE_TOPICS)
    columns = rng.sample(header[1:], rng.choice((2, 2, 3)))
    rows = rng.sample(names, rng.choice((3, 4, 5, 6)))
    numbers = [rng.sample(range(3, 98), len(rows)) for _ in columns]
    lines = zip(rows, *numbers, strict=True)
    table = [_row([header[0], *columns]), *(_row(line) for line in lines)]
    return {"table": tuple(table), "column": rng.choice(columns)}


def _row(cells: Sequence[object]) -> str:
    return " | ".join(map(str, cells))


def _draw_lookup(rng: random.Random, context: Context) -> Params:
    del context
    drawn = _draw_table(rng)
    return {**drawn, "row": rng.choice(list(_column(drawn)))}


_VALUE = Statement("Value", lambda params: _column(params)[params["row"]])

TABLE_VALUE = ConstraintType(
    name="table_value",
    family="lookup",
    version=1,
    stage=_STAGE,
    schema=(Table("table"), Phrase("column"), Phrase("row")),
    wordings=(
        'Add a line of the form "Value: N" with {column} of {row} in this table:\n\n'
        "{table}",
        "Here is a table:\n\n{table}\n\nLook up {column} of {row} and state it on a "
        'line of the form "Value: N".',
    ),
    readings=_VALUE.readings,
    repair=_VALUE.repair,
    violations=_VALUE.violations,
    draw=_draw_lookup,
    problem=_unknown,
)

_TOTAL = Statement("Total", lambda params: sum(_column(params).values()))

TABLE_TOTAL = ConstraintType(
    name="table_total",
    family="lookup",
    version=1,
    stage=_STAGE,
    schema=(Table("table"), Phrase("column")),
    wordings=(
        'Add a line of the form "Total: N" with the sum of {column} in this table:\n\n'
        "{table}",
        "Here is a table:\n\n{table}\n\nAdd up the column {column} and state the sum "
        'on a line of the form "Total: N".',
    ),
    readings=_TOTAL.readings,
    repair=_TOTAL.repair,
    violations=_TOTAL.violations,
    draw=lambda rng, context: _draw_table(rng),
    problem=_unknown,
)


def _above(params: Params) -> int:
    return sum(number > params["n"] for number in _column(params).values())


def _draw_rows(rng: random.Random, context: Context) -> Params:
    """A bound that at least one row is above and one is not."""
    del context
    drawn = _draw_table(rng)
    numbers = sorted(_column(drawn).values())
    return {**drawn, "n": rng.choice(numbers[:-1])}


_ROWS = Statement("Rows", _above)

TABLE_ROWS = ConstraintType(
    name="table_rows",
    family="lookup",
    version=1,
    stage=_STAGE,
    schema=(Table("table"), Phrase("column"), Integer("n", 0, 999_999)),
    wordings=(
        'Add a line of the form "Rows: N" that says how many rows of this table have '
        "more than {n} in {column}:\n\n{table}",
        "Here is a table:\n\n{table}\n\nCount the rows with {column} above {n} and "
        'state the number on a line of the form "Rows: N".',
    ),
    readings=_ROWS.readings,
    repair=_ROWS.repair,
    violations=_ROWS.violations,
    draw=_draw_rows,
    problem=_unknown,
)


def _extreme(params: Params) -> str:
    column = _column(params)
    pick = max if params["end"] == "largest" else min
    return pick(column, key=lambda name: column[name])


def _tied(params: Params) -> str | None:
    """As `_unknown`, and where two rows share the number that is asked for."""
    problem = _unknown(params)
    if problem:
        return problem
    column = _column(params)
    if list(column.values()).count(column[_extreme(params)]) > 1:
        return f"expected one row with the {params['end']} number"
    return None


def _draw_extreme(rng: random.Random, context: Context) -> Params:
    del context
    return {**_draw_table(rng), "end": rng.choice(("largest", "smallest"))}


_NAME = Statement("Name", _extreme)

TABLE_EXTREME = ConstraintType(
    name="table_extreme",
    family="lookup",
    version=1,
    stage=_STAGE,
    schema=(
        Table("table"),
        Phrase("column"),
        Choice("end", ("largest", "smallest")),
    ),
    wordings=(
        'Add a line of the form "Name: X" with the row of this table that has the '
        "{end} number in {column}:\n\n{table}",
        "Here is a table:\n\n{table}\n\nFind the row with the {end} {column} and state "
        'its name on a line of the form "Name: X".',
    ),
    readings=_NAME.readings,
    repair=_NAME.repair,
    violations=_NAME.violations,
    draw=_draw_extreme,
    problem=_tied,
)
