# SPDX-License-Identifier: Apache-2.0
"""Training: objectives, one step, one loop.

`OBJECTIVES` is the table of what can be trained. `options` are the settings that an
objective reads, with their defaults; any other is refused.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping

from alignjax.train import objectives
from alignjax.train.objectives import ObjectiveFunction


@dataclasses.dataclass(frozen=True)
class Objective:
    """An objective and the facts that other code needs about it.

    Attributes:
      function: (model, params, batch, **options) -> Outcome.
      reference: whether it needs reference log-probabilities.
      coupled: whether it compares examples with each other: those of a couple, which
        share a row. A microbatch is then not a smaller batch, and accumulation is
        refused.
      options: the settings that it reads, with their defaults.
    """

    function: ObjectiveFunction
    reference: bool
    coupled: bool
    options: Mapping[str, float]


OBJECTIVES = {
    "sft": Objective(objectives.sft, reference=False, coupled=False, options={}),
    "dpo": Objective(
        objectives.preference,
        reference=True,
        coupled=False,
        options={"beta": 0.1, "label_smoothing": 0.0, "nll": 0.0},
    ),
    "coin": Objective(
        objectives.contrastive,
        reference=False,
        coupled=True,
        options={"temperature": 0.05, "bound": 1000.0},
    ),
}


def find(name: str, options: Mapping[str, float]) -> tuple[Objective, dict[str, float]]:
    """The objective of that name and its options, defaults filled in.

    Raises:
      ValueError: unknown name, an option that this objective does not read, or one
        out of its range.
    """
    if name not in OBJECTIVES:
        known = ", ".join(OBJECTIVES)
        raise ValueError(f"no objective {name!r} (known: {known})")
    objective = OBJECTIVES[name]
    unread = sorted(set(options) - set(objective.options))
    if unread:
        reads = ", ".join(objective.options) or "no options"
        raise ValueError(
            f"options: {name!r} does not read {unread[0]!r} (it reads {reads})"
        )
    for option, value in options.items():
        is_allowed, allowed = _RANGES[option]
        if not is_allowed(value):
            raise ValueError(f"options.{option}: must be {allowed}, got {value:g}")
    return objective, {**objective.options, **options}


_POSITIVE = (lambda value: 0 < value < math.inf, "above 0")
_RANGES: Mapping[str, tuple[Callable[[float], bool], str]] = {
    "beta": _POSITIVE,
    "bound": (lambda value: 1 <= value < math.inf, "1 or above"),
    "label_smoothing": (lambda value: 0 <= value < 0.5, "in [0, 0.5)"),
    "nll": (lambda value: 0 <= value < math.inf, "0 (none) or above"),
    "temperature": _POSITIVE,
}
