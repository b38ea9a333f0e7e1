# SPDX-License-Identifier: Apache-2.0
"""What was asked, as data, and the shape that every kind of constraint has.

A verdict comes from a set of reasonable readings of the same request (words split at
hyphens or not, "*" counted as a bullet or not): it is PASS if every reading passes,
FAIL if none does, and AMBIGUOUS otherwise. What cannot be judged is AMBIGUOUS too.
"""

from __future__ import annotations

import enum
import hashlib
import json
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from alignjax.constraints import params as parameters
from alignjax.constraints import wording
from alignjax.constraints.params import Param
from alignjax.constraints.text import normalise

Params = Mapping[str, Any]


class Verdict(enum.StrEnum):
    """Whether a text meets a constraint: "pass", "fail" or "ambiguous"."""

    PASS = enum.auto()
    FAIL = enum.auto()
    AMBIGUOUS = enum.auto()


@dataclass(frozen=True)
class Constraint:
    """One verifiable request: a type name and its JSON-able parameters."""

    type: str
    params: Params = field(default_factory=dict)

    def __post_init__(self):
        values = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in sorted(self.params.items())
        }
        object.__setattr__(self, "params", values)

    def __hash__(self) -> int:
        return hash(self.id)

    @property
    def id(self) -> str:
        """16 hexadecimal digits of the SHA-256 of the canonical JSON."""
        canonical = json.dumps(self.to_json(), sort_keys=True, ensure_ascii=False)
        return hashlib.sha256(canonical.encode()).hexdigest()[:16]

    def to_json(self) -> dict[str, Any]:
        """A plain dict: `{"type": ..., "params": {...}}`, tuples as lists."""
        values = {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in self.params.items()
        }
        return {"type": self.type, "params": values}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Constraint:
        """The inverse of `to_json`; the type need not be known."""
        if not isinstance(value, Mapping) or set(value) != {"type", "params"}:
            raise ValueError(
                "constraint: expected an object with the fields type and params, "
                f"got {value!r}"
            )
        if not isinstance(value["type"], str) or not isinstance(
            value["params"], Mapping
        ):
            raise ValueError(
                f"constraint: type must be a string and params an object, got {value!r}"
            )
        return cls(value["type"], value["params"])


class Reading(NamedTuple):
    """One way to measure a text, and whether the text passes when read so."""

    value: int | str
    passes: bool


Readings = Mapping[str, Reading]


class Judgement(NamedTuple):
    """A verdict with the readings it came from."""

    verdict: Verdict
    readings: Readings


@dataclass(frozen=True)
class Context:
    """What parameters may be chosen from: an answer to violate, and the task's text."""

    answer: str = ""
    topic: str = ""


def no_problem(params: Params) -> str | None:
    """The `problem` of types whose parameters may be combined at will."""
    del params


def unchanged(params: Params, slack: int) -> Params:
    """The `tighten` of types that later repairs do not spoil."""
    del slack
    return params


@dataclass(frozen=True)
class ConstraintType:
    """One kind of constraint.

    Attributes:
      version: rises when a verdict may change for the same text.
      stage: where the repair belongs among repairs: what removes words comes before
        what adds them, then layout, then case, then what must be first or last.
      schema: the parameters.
      wordings: templates, see `alignjax.constraints.wording`.
      readings: measurements of a normalised, non-empty text.
      repair: edits a text so that every reading passes, keeping its content.
      violations: edits of a passing text that should fail, smallest first.
      draw: parameters that are plausible and, given an answer, likely to fail on it.
      tighten: parameters to repair for when `slack` > 0 later repairs will spoil it.
      problem: what is wrong with valid parameters taken together, or None.
      keeps_content: the repaired text still says what the text said; where it does
        not (nothing here can translate), it proves that the constraint can be met,
        and is no answer to anything.
      package: the distribution that helps to decide the verdict, if any.
    """

    name: str
    family: str
    version: int
    stage: int
    schema: tuple[Param, ...]
    wordings: tuple[str, ...]
    readings: Callable[[Params, str], Readings]
    repair: Callable[[Params, str], str]
    violations: Callable[[Params, str], Iterator[str]]
    draw: Callable[[random.Random, Context], Params]
    tighten: Callable[[Params, int], Params] = unchanged
    problem: Callable[[Params], str | None] = no_problem
    keeps_content: bool = True
    package: str = ""

    def validate(self, params: Params) -> None:
        """Raises ValueError naming the parameter that does not fit the schema."""
        parameters.validate(self.name, self.schema, params)
        problem = self.problem(params)
        if problem:
            raise ValueError(
                f"constraint {self.name!r}: {problem}, got {dict(params)!r}"
            )

    def judge(self, params: Params, text: str) -> Judgement:
        """The verdict on a text; raises what `validate` and `readings` raise."""
        self.validate(params)
        text = normalise(text)
        if not text:
            return Judgement(Verdict.FAIL, {"empty": Reading(0, False)})
        readings = self.readings(params, text)
        passes = [reading.passes for reading in readings.values()]
        if not passes:
            return Judgement(Verdict.AMBIGUOUS, readings)
        if all(passes):
            return Judgement(Verdict.PASS, readings)
        return Judgement(Verdict.AMBIGUOUS if any(passes) else Verdict.FAIL, readings)

    def render(self, params: Params, variant: int) -> str:
        """One imperative sentence; `variant` counts modulo the number of wordings."""
        self.validate(params)
        template = self.wordings[variant % len(self.wordings)]
        return wording.render(template, self.schema, params)

    def find(self, text: str) -> Iterator[tuple[int, int, dict[str, Any]]]:
        """Yields (start, end, params) of each rendered sentence inside `text`."""
        for template in self.wordings:
            for hit in wording.find(self.name, template, self.schema, text):
                if not self.problem(hit[2]):
                    yield hit

    def witness(self, params: Params, text: str) -> str:
        """The text itself if it passes, else the repaired text."""
        if self.judge(params, text).verdict is Verdict.PASS:
            return text
        return self.repaired(params, text)

    def repaired(self, params: Params, text: str, slack: int = 0) -> str:
        """The repaired text, with room for later repairs if `slack` > 0."""
        return normalise(self.repair(self.tighten(params, slack), normalise(text)))

    def mutants(self, params: Params, text: str) -> Iterator[str]:
        """Yields edits of a passing text that fail, smallest first."""
        for mutant in self.violations(params, normalise(text)):
            mutant = normalise(mutant)
            if mutant and self.judge(params, mutant).verdict is Verdict.FAIL:
                yield mutant


def at_least(counts: Mapping[str, int], n: int) -> Readings:
    """Readings that pass where the count is n or more."""
    return {name: Reading(count, count >= n) for name, count in counts.items()}


def at_most(counts: Mapping[str, int], n: int) -> Readings:
    """Readings that pass where the count is n or less."""
    return {name: Reading(count, count <= n) for name, count in counts.items()}


def exactly(counts: Mapping[str, int], n: int) -> Readings:
    """Readings that pass where the count is n."""
    return {name: Reading(count, count == n) for name, count in counts.items()}


def facts(values: Mapping[str, bool]) -> Readings:
    """Readings that are yes or no; the value is 1 or 0."""
    return {name: Reading(int(value), value) for name, value in values.items()}


def nothing(rng: random.Random, context: Context) -> Params:
    """Draws the parameters of a type that has none."""
    del rng, context
    return {}


def choose(
    rng: random.Random, options: Sequence[Any], avoid: Sequence[Any] = ()
) -> Any:
    """One option, outside `avoid` where there is one."""
    return rng.choice([o for o in options if o not in avoid] or list(options))
