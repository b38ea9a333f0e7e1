# SPDX-License-Identifier: Apache-2.0
"""Settings of PopAlign and of the baselines it is compared with."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import NamedTuple

from data_gen.prompts import known_types
from data_gen.strategies.popalign.wording import DEMONSTRATIONS, VARIANTS

PROMPT_LEVEL = ("prefix", "demonstration", "elicitive")
MODEL_LEVEL = ("parameters", "leaderboard")
PIPELINE_LEVEL = ("refine",)
CONTRASTS = (*PROMPT_LEVEL, *MODEL_LEVEL, *PIPELINE_LEVEL)
BASELINES = ("rlcd", "rlaif", "context_distillation", "best_of_n", "spin")
STRATEGIES = {
    **{name: f"popalign.{name}" for name in CONTRASTS},
    **{name: f"baseline.{name}" for name in BASELINES},
}
ORACLES = ("none", "judge", "reward")
FILTERS = ("none", "verifiers", "any")


class Gap(NamedTuple):
    """Two engines, the preferred one first, and how far apart they are."""

    better: str
    worse: str
    gap: float


@dataclass(frozen=True)
class ModelContrast:
    """Named engines in an order of quality.

    Args:
      engines: names of configured engines, the best first; "" is the default one.
      values: what the order rests on, one for each engine, falling: numbers of
        parameters, or points on a leaderboard. Left out, a leaderboard counts ranks.
      min_gap: how far apart the two engines of a pair are at least. Of `parameters`,
        the quotient of their numbers (34e9 and 6e9: 5.7); of `leaderboard`, the
        difference of their points, or of their ranks.
    """

    engines: tuple[str, ...]
    values: tuple[float, ...] = ()
    min_gap: float = 0.0

    def __post_init__(self) -> None:
        if len(self.engines) < 2 or len(set(self.engines)) < len(self.engines):
            raise ValueError(
                "a model contrast needs two different engines at least, the best "
                f"first; got {', '.join(map(repr, self.engines)) or 'none'}"
            )
        if self.values and len(self.values) != len(self.engines):
            raise ValueError(
                f"values must be one per engine: {len(self.engines)} engines, "
                f"{len(self.values)} values"
            )
        if any(a <= b for a, b in itertools.pairwise(self.values)):
            raise ValueError(
                f"values must fall from the first engine to the last, got {self.values}"
            )
        if self.min_gap < 0:
            raise ValueError(f"min_gap must be at least 0, got {self.min_gap}")

    def pairs(self, *, is_quotient: bool) -> list[Gap]:
        """All pairs of engines that are at least `min_gap` apart."""
        values = self.values or tuple(-float(rank) for rank in range(len(self.engines)))
        ranked = list(zip(self.engines, values, strict=True))
        found = [
            Gap(better, worse, high / low if is_quotient else high - low)
            for (better, high), (worse, low) in itertools.combinations(ranked, 2)
        ]
        return [pair for pair in found if pair.gap >= self.min_gap]


@dataclass(frozen=True)
class PopAlign:
    """Which contrasts are made, how their answers are sampled, who measures them.

    Args:
      contrasts: some of prefix, demonstration, elicitive, parameters, leaderboard,
        refine.
      baselines: some of rlcd, rlaif, context_distillation, best_of_n, spin.
      weights: of a contrast's or baseline's examples in the loss, by name; 1 where
        nothing is said.
      variant: of all wordings: "general" (good and bad) or "hh" (helpful and harmless,
        or not).
      parameters: engines by number of parameters, for the contrast of that name.
      leaderboard: engines by rank, for the contrast of that name.
      demonstrations: worked examples that the demonstration contrast shows, 1 to 3.
      shows_form: the elicitive contrast shows a worked example of its form first, good
        or bad as the side is; for small models, which do not keep the form otherwise.
      prompts: training tasks to use; 0 takes all.
      held_out: tasks of validation, and again of test, that get pairs as well.
      constraints: verifiable constraints that are added to every task, so that
        verifiers can measure the contrasts; 0 leaves tasks as they are.
      types: constraint types to draw these from; () takes all.
      attempts: how often a side is asked again until an answer passes the gates.
      temperature, top_p: of all answers.
      max_new_tokens: of every answer; one that gets there is dropped.
      thought_tokens: so many more for an elicitive answer, whose thought is removed.
      keep_refusals: a refusal may be the preferred answer of a prompt-level contrast
        or of a baseline made like one. For prompts that one should decline.
      samples: answers per task of best_of_n, at least 2.
      oracle: who measures pairs whose prompt carries no constraint, and chooses for
        the baselines: "judge" (an engine, asked in both orders; weak), "reward" (the
        callable given to `run`) or "none". Prompts with constraints go to verifiers.
      judge: name of the judge's engine; "" is the default one.
      judged: tasks of each contrast that the judge sees; 0 takes all.
      drop: pairs whose label the oracle contradicts are dropped if "verifiers" say so,
        if "any" oracle does, or never ("none"). They are counted either way.
      total: at most so many training pairs, equally many of each contrast and
        baseline as far as they go; 0 keeps all. For comparisons at equal size.
    """

    contrasts: tuple[str, ...] = (*PROMPT_LEVEL, *PIPELINE_LEVEL)
    baselines: tuple[str, ...] = ()
    weights: dict[str, float] = field(default_factory=dict)
    variant: str = "general"
    parameters: ModelContrast | None = None
    leaderboard: ModelContrast | None = None
    demonstrations: int = 3
    shows_form: bool = False
    prompts: int = 0
    held_out: int = 0
    constraints: int = 0
    types: tuple[str, ...] = ()
    attempts: int = 2
    temperature: float = 1.0
    top_p: float = 1.0
    max_new_tokens: int = 128
    thought_tokens: int = 96
    keep_refusals: bool = False
    samples: int = 4
    oracle: str = "none"
    judge: str = ""
    judged: int = 0
    drop: str = "verifiers"
    total: int = 0

    def __post_init__(self) -> None:
        _check_names("contrasts", self.contrasts, CONTRASTS)
        _check_names("baselines", self.baselines, BASELINES)
        if not self.names:
            raise ValueError("popalign: name at least one of contrasts or baselines")
        _check_names("weights", tuple(self.weights), self.names)
        for name, weight in self.weights.items():
            if weight <= 0:
                raise ValueError(
                    f"weights.{name} must be above 0, got {weight}; to leave it out, "
                    "leave it out of contrasts or baselines"
                )
        for name, allowed in (
            ("variant", VARIANTS),
            ("oracle", ORACLES),
            ("drop", FILTERS),
        ):
            if asdict(self)[name] not in allowed:
                raise ValueError(
                    f"{name} must be one of {', '.join(allowed)}; got "
                    f"{asdict(self)[name]!r}"
                )
        self._check_models()
        self._check_numbers()
        self._check_oracle()

    @property
    def names(self) -> tuple[str, ...]:
        """Contrasts and baselines."""
        return (*self.contrasts, *self.baselines)

    @property
    def engines(self) -> tuple[str, ...]:
        """Names of all engines that are asked, without the default one."""
        models = [model.engines for model in self._models().values()]
        named = [*itertools.chain(*models), self.judge]
        return tuple(sorted({name for name in named if name}))

    def gaps(self, contrast: str) -> list[Gap]:
        """The pairs of engines of a model contrast; never empty in a valid config."""
        is_quotient = contrast == "parameters"
        return self._models()[contrast].pairs(is_quotient=is_quotient)

    def _models(self) -> dict[str, ModelContrast]:
        given = {"parameters": self.parameters, "leaderboard": self.leaderboard}
        return {name: model for name, model in given.items() if model is not None}

    def _check_models(self) -> None:
        given = self._models()
        for name in MODEL_LEVEL:
            if name in self.contrasts and name not in given:
                raise ValueError(
                    f"the contrast {name} needs its engines, the best first: "
                    f"`{name}: {{engines: [large, small]}}`"
                )
            if name in given and name not in self.contrasts:
                raise ValueError(f"{name} is given, but is not among contrasts")
        if self.parameters and (
            not self.parameters.values or self.parameters.values[-1] <= 0
        ):
            raise ValueError(
                "parameters.values must give each engine's number of parameters, "
                "above 0, such as [34e9, 6e9]"
            )
        for name in given:
            if not self.gaps(name):
                raise ValueError(
                    f"{name}: no two engines are {given[name].min_gap:g} apart; lower "
                    "min_gap"
                )

    def _check_numbers(self) -> None:
        known_types(self.types)
        least = {"prompts": 0, "held_out": 0, "constraints": 0, "attempts": 1}
        least |= {"max_new_tokens": 1, "thought_tokens": 0, "samples": 2, "judged": 0}
        for name, low in {**least, "total": 0}.items():
            if asdict(self)[name] < low:
                raise ValueError(
                    f"{name} must be at least {low}, got {asdict(self)[name]}"
                )
        if not 1 <= self.demonstrations <= len(DEMONSTRATIONS):
            raise ValueError(
                f"demonstrations must be in [1, {len(DEMONSTRATIONS)}], got "
                f"{self.demonstrations}"
            )
        if self.temperature < 0 or not 0 < self.top_p <= 1:
            raise ValueError(
                "temperature must be at least 0 and top_p in (0, 1], got "
                f"{self.temperature} and {self.top_p}"
            )
        samplers = {"rlaif", "best_of_n"} & set(self.baselines)
        if self.temperature == 0 and (self.attempts > 1 or samplers):
            raise ValueError(
                "temperature 0 gives the same answer every time; set attempts to 1 and "
                "leave out rlaif and best_of_n, or set temperature above 0"
            )
        if self.types and not self.constraints:
            raise ValueError("types are read only with constraints above 0")

    def _check_oracle(self) -> None:
        if self.oracle != "judge" and (self.judge or self.judged):
            raise ValueError("judge and judged are read only with `oracle: judge`")
        if "rlaif" in self.baselines and self.oracle != "judge":
            raise ValueError("rlaif takes its labels from a judge: set `oracle: judge`")
        if "best_of_n" in self.baselines and not (
            self.constraints or self.oracle != "none"
        ):
            raise ValueError(
                "best_of_n needs somebody who chooses: set oracle to judge or reward, "
                "or constraints above 0"
            )


def _check_names(what: str, given: Sequence[str], known: Sequence[str]) -> None:
    for name in given:
        if name not in known:
            raise ValueError(
                f"{what}: there is no {name!r}; expected some of {', '.join(known)}"
            )
    if len(set(given)) < len(given):
        raise ValueError(f"{what}: given twice in {', '.join(given)}")
