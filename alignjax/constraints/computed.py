# SPDX-License-Identifier: Apache-2.0
"""Constraints that ask for the answer of a small problem beside the task."""

from __future__ import annotations

import random
import re
import string

from alignjax.constraints.constraint import ConstraintType, Context, Params
from alignjax.constraints.notation import Expression
from alignjax.constraints.params import Choice, Integer, Integers, Word
from alignjax.constraints.stated import Statement
from alignjax.constraints.vocabulary import COUNTED_WORDS, GOODS, WEEKDAYS

_STAGE = 61


def evaluate(expression: str) -> int:
    """The value of an `Expression`; products come before sums ("2 + 3 * 4" is 14)."""
    total = 0
    for sign, term in re.findall(r"(^|[-+] )([0-9]+(?: \* [0-9]+)*)", expression):
        value = 1
        for factor in term.split(" * "):
            value *= int(factor)
        total += -value if sign == "- " else value
    return total


def _draw_expression(rng: random.Random, context: Context) -> Params:
    """A product and a sum, with a value of at least 0."""
    del context
    a, b, c = rng.randint(3, 29), rng.randint(3, 19), rng.randint(11, 98)
    forms = [
        f"{a} * {b} + {c}",
        f"{a + 100} + {c} + {b}",
        f"{c} + {a} * {b}",
        f"{a} * {b} - {min(c, a * b)}",
        f"{c + 100} - {b} * 5",
    ]
    return {"expression": rng.choice(forms)}


_RESULT = Statement("Result", lambda params: evaluate(params["expression"]))

ARITHMETIC = ConstraintType(
    name="arithmetic",
    family="computed",
    version=1,
    stage=_STAGE,
    schema=(Expression("expression"),),
    wordings=(
        'Also work out {expression} and add a line of the form "Result: N".',
        'On a line of its own that starts with "Result:", give the value of '
        "{expression} too.",
    ),
    readings=_RESULT.readings,
    repair=_RESULT.repair,
    violations=_RESULT.violations,
    draw=_draw_expression,
)


def _change(params: Params) -> int:
    return params["paid"] - params["n"] * params["price"]


def _too_little(params: Params) -> str | None:
    return None if _change(params) >= 0 else "expected that enough is paid"


def _draw_purchase(rng: random.Random, context: Context) -> Params:
    del context
    n, price = rng.randint(3, 12), rng.randint(2, 15)
    paid = (n * price // 50 + rng.choice((1, 1, 2))) * 50
    return {"item": rng.choice(GOODS), "n": n, "price": price, "paid": paid}


_CHANGE = Statement("Change", _change)

PURCHASE = ConstraintType(
    name="purchase",
    family="computed",
    version=1,
    stage=_STAGE,
    schema=(
        Choice("item", GOODS),
        Integer("n", 2, 99),
        Integer("price", 1, 999),
        Integer("paid", 1, 99_999),
    ),
    wordings=(
        "Someone buys {n} {item} at {price} coin{price:s} each and pays with {paid} "
        'coin{paid:s}. Add a line of the form "Change: N" with the coins that come '
        "back.",
        'End with a line "Change: N": how many of {paid} coin{paid:s} are left after '
        "buying {n} {item} for {price} coin{price:s} each.",
    ),
    readings=_CHANGE.readings,
    repair=_CHANGE.repair,
    violations=_CHANGE.violations,
    draw=_draw_purchase,
    problem=_too_little,
)


def _draw_numbers(rng: random.Random, context: Context) -> Params:
    del context
    numbers = rng.sample(range(1, 200), rng.choice((4, 5, 6)))
    if numbers == sorted(numbers):
        numbers.reverse()
    return {"numbers": tuple(numbers)}


_SORTED = Statement("Sorted", lambda params: tuple(sorted(params["numbers"])))

SORT_NUMBERS = ConstraintType(
    name="sort_numbers",
    family="computed",
    version=1,
    stage=_STAGE,
    schema=(Integers("numbers", 999, 12),),
    wordings=(
        'Add a line that starts with "Sorted:" and has the numbers {numbers} from the '
        "smallest to the largest, separated by commas.",
        "Also sort the numbers {numbers} in ascending order, separated by commas, on a "
        'line that begins with "Sorted:".',
    ),
    readings=_SORTED.readings,
    repair=_SORTED.repair,
    violations=_SORTED.violations,
    draw=_draw_numbers,
)


def _count_letter(params: Params) -> int:
    return params["word"].lower().count(params["letter"])


def _draw_counted(rng: random.Random, context: Context) -> Params:
    del context
    word = rng.choice(COUNTED_WORDS)
    return {"letter": rng.choice(word), "word": word}


_LETTERS = Statement("Letters", _count_letter)

COUNT_LETTERS = ConstraintType(
    name="count_letters",
    family="computed",
    version=1,
    stage=_STAGE,
    schema=(Choice("letter", tuple(string.ascii_lowercase)), Word("word")),
    wordings=(
        'Add a line of the form "Letters: N" that says how often the letter '
        '"{letter}" occurs in the word {word}.',
        'Count the letter "{letter}" in {word} and state it on a line of the form '
        '"Letters: N".',
    ),
    readings=_LETTERS.readings,
    repair=_LETTERS.repair,
    violations=_LETTERS.violations,
    draw=_draw_counted,
)


def _later_day(params: Params) -> str:
    return WEEKDAYS[(WEEKDAYS.index(params["day"]) + params["n"]) % len(WEEKDAYS)]


def _draw_day(rng: random.Random, context: Context) -> Params:
    del context
    days = rng.choice([n for n in range(4, 60) if n % len(WEEKDAYS)])
    return {"day": rng.choice(WEEKDAYS), "n": days}


_WEEKDAY = Statement("Weekday", _later_day)

WEEKDAY = ConstraintType(
    name="weekday",
    family="computed",
    version=1,
    stage=_STAGE,
    schema=(Choice("day", WEEKDAYS), Integer("n", 1, 1000)),
    wordings=(
        'Add a line of the form "Weekday: D" that names the day of the week {n} '
        "day{n:s} after a {day}.",
        "Today is a {day}; which day is it in {n} day{n:s}? Say it on a line of the "
        'form "Weekday: D".',
    ),
    readings=_WEEKDAY.readings,
    repair=_WEEKDAY.repair,
    violations=_WEEKDAY.violations,
    draw=_draw_day,
)


def _end_time(params: Params) -> str:
    minutes = params["hour"] * 60 + params["minute"] + params["duration"]
    return f"{minutes // 60 % 24:02d}:{minutes % 60:02d}"


def _draw_film(rng: random.Random, context: Context) -> Params:
    del context
    return {
        "hour": rng.randint(10, 21),
        "minute": rng.choice((10, 15, 20, 35, 45, 50)),
        "duration": rng.choice((75, 85, 95, 110, 125, 140)),
    }


_ENDS = Statement("Ends", _end_time)

END_TIME = ConstraintType(
    name="end_time",
    family="computed",
    version=1,
    stage=_STAGE,
    schema=(
        Integer("hour", 10, 23),
        Integer("minute", 10, 59),
        Integer("duration", 2, 600),
    ),
    wordings=(
        "A film starts at {hour}:{minute} and takes {duration} minutes. Add a line of "
        'the form "Ends: HH:MM".',
        'Add a line of the form "Ends: HH:MM" with the time {duration} minutes after '
        "{hour}:{minute}.",
    ),
    readings=_ENDS.readings,
    repair=_ENDS.repair,
    violations=_ENDS.violations,
    draw=_draw_film,
)
