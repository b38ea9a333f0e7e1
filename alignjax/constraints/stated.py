# SPDX-License-Identifier: Apache-2.0
"""Computed answers, stated on a line of their own such as "Result: 42".

A constraint that asks for one knows the answer. It may be right on its own line, right
in other words ("the result is **42**"), or there at all; a wrong statement fails in
every reading, whatever else the text holds.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from alignjax.constraints.constraint import Params, Reading, Readings

Answer = int | str | tuple[int, ...]

_NUMBER = re.compile(
    r"(?<![\w.,])[-−]?(?:[0-9]{1,3}(?:,[0-9]{3})+|[0-9]+)(?:\.[0-9]+)?(?!\w)"
)
_ENDS = " \t.!\"'”’)]*_`"
_LONGEST = 200  # characters of a statement that are looked at


@dataclass(frozen=True)
class Statement:
    """A line that begins with `label` and states what `answer` computes."""

    label: str
    answer: Callable[[Params], Answer]

    def readings(self, params: Params, text: str) -> Readings:
        """As asked for: the only line with the label, and nothing else on it; and in
        other words: the last statement with the label, or any where there is none."""
        answer = self.answer(params)
        lines = _line(self.label).findall(text)
        loose = [s for s in _loose(self.label).findall(text) if _says(answer, s)]
        exact = len(lines) == 1 and _equals(answer, lines[0].strip(_ENDS))
        return {
            "own_line": Reading(lines[-1][:_LONGEST] if lines else "", exact),
            "stated": Reading(
                loose[-1].strip() if loose else "",
                _has(answer, loose[-1] if loose else text),
            ),
        }

    def repair(self, params: Params, text: str) -> str:
        """The text with the statement as its last line, and no other of its kind."""
        own = _line(self.label)
        kept = [line for line in text.split("\n") if not own.match(line)]
        line = f"{self.label}: {show(self.answer(params))}"
        return "\n".join([*kept, line]).strip()

    def violations(self, params: Params, text: str) -> Iterator[str]:
        """A wrong answer on the line; the line gone."""
        answer = self.answer(params)
        line = _line(self.label)
        for wrong in _wrong(answer):
            yield line.sub(f"{self.label}: {wrong}", text)
        yield line.sub("", text)


def show(answer: Answer) -> str:
    """The answer as it is written on its line."""
    if isinstance(answer, tuple):
        return ", ".join(map(str, answer))
    return str(answer)


@functools.cache
def _line(label: str) -> re.Pattern[str]:
    return re.compile(rf"(?mi)^{label}:[ \t]*(.*)$")


@functools.cache
def _loose(label: str) -> re.Pattern[str]:
    """The label as a word, with markup, then ":", "=" or "is", then the statement."""
    link = r"[*_`\"”)]{0,3} {0,2}(?::|=|\bis\b)"
    return re.compile(rf"(?i)(?<!\w){label}{link}([^\n]{{0,{_LONGEST}}})")


def _numbers(text: str) -> list[int | None]:
    """Whole numbers in a text; None stands for one with a fraction."""
    found: list[int | None] = []
    for match in _NUMBER.finditer(text):
        whole, _, fraction = match[0].replace(",", "").replace("−", "-").partition(".")
        found.append(None if fraction.strip("0") or len(whole) > 18 else int(whole))
    return found


def _equals(answer: Answer, stated: str) -> bool:
    """Whether the statement is the answer and nothing else."""
    if isinstance(answer, str):
        return stated.casefold() == answer.casefold()
    if isinstance(answer, tuple):
        parts = [part.strip() for part in stated.split(",")]
        return parts == [str(number) for number in answer]
    return _NUMBER.fullmatch(stated) is not None and _numbers(stated) == [answer]


def _says(answer: Answer, stated: str) -> bool:
    """Whether a statement has the kind of value that is asked for, right or wrong."""
    return bool(stated.strip(_ENDS) if isinstance(answer, str) else _numbers(stated))


def _has(answer: Answer, text: str) -> bool:
    """Whether the answer occurs in the text."""
    if isinstance(answer, str):
        whole = rf"(?<![\w:]){re.escape(answer)}(?![\w:])"
        return re.search(whole, text, re.IGNORECASE) is not None
    if isinstance(answer, tuple):
        apart = _numbers(re.sub(r"[,;]", " ", text))
        n = len(answer)
        return any(tuple(apart[i : i + n]) == answer for i in range(len(apart)))
    return answer in _numbers(text)


def _wrong(answer: Answer) -> Iterator[str]:
    """Answers that are not right."""
    if isinstance(answer, str):
        yield "none"
    elif isinstance(answer, tuple):
        yield show(answer[::-1])
    else:
        yield str(answer + 1)
        yield str(answer + 10)
