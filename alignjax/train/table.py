# SPDX-License-Identifier: Apache-2.0
"""The table of objectives: the losses that can be trained, and what each one reads."""

from __future__ import annotations

import dataclasses
import difflib
import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Literal

import jax.numpy as jnp

from alignjax import losses
from alignjax.losses import LOSSES, Option, Pair
from alignjax.losses.divergences import DIVERGENCES
from alignjax.losses.table import complete, not_negative, positive
from alignjax.train import objectives
from alignjax.train.objectives import ObjectiveFunction, Part


@dataclasses.dataclass(frozen=True)
class Objective:
    """An objective and the facts that other code needs about it.

    Attributes:
      function: (model, params, batch) -> Outcome.
      data: what it trains on: chosen answers; examples with negatives; single answers
        that are chosen or rejected, beside answers to other prompts; or couples.
      reference: whether it needs reference log-probabilities.
      coupled: whether it compares the examples of a batch with each other. A
        microbatch is then not a smaller batch, and accumulation is refused.
      start: computes what its terms are where the policy is the reference, as far as
        that does not depend on the data.
    """

    function: ObjectiveFunction
    data: Literal["answers", "pairs", "labels", "couples"]
    reference: bool = False
    coupled: bool = False
    start: Callable[[], Mapping[str, float]] = dict


DIVERGENCE_NAMES = (*DIVERGENCES, "alpha")
WEIGHTINGS = ("none", "wpo")
POOLINGS = ("last", "mean", "first_last")
NEGATIVES = ("hard", "in_batch")

_NLL = not_negative(0.0)
_WEIGHT = positive(1.0)
_LENGTH_ALPHA = Option(1.0, lambda value: 0 <= value <= 1, "in [0, 1]")
_BOUND = Option(1000.0, lambda value: 1 <= value < math.inf, "1 or above")
_ALPHA = Option(0.5, lambda value: -10 <= value <= 10, "in [-10, 10]")
# Where the method is more than its loss: the coefficients of both parts.
_DEFAULTS = {"cpo": {"nll": 1.0}, "orpo": {"nll": 1.0, "weight": 0.1}}

# Losses that are no objective: what they read is not in a batch.
_ONLY_LOSSES = {
    "tdpo": "the reference's probabilities of all tokens, which are not cached",
    "coin_triplet": "triplets; couples are trained by 'coin'",
    "info_nce": "any views; those of couples are trained by 'coin'",
}
NAMES = tuple(name for name in LOSSES if name not in _ONLY_LOSSES)
_PAIRS = tuple(name for name in NAMES if LOSSES[name].scores == "pair")

Options = Mapping[str, float]


def find(
    name: str,
    options: Options | None = None,
    *,
    mix: Mapping[str, Options] | None = None,
    divergence: str = "reverse_kl",
    weighting: str = "none",
    pooling: str = "last",
    negatives: str = "hard",
) -> Objective:
    """The objective of that name.

    Args:
      options: settings of the loss, and `nll`, `weight`, `length_alpha` (LD-DPO) where
        the objective reads them; see `options_of`.
      mix: further losses of pairs by name, each with its own settings and `weight`.
      divergence: one of `DIVERGENCE_NAMES`; "alpha" reads the option alpha.
      weighting: "wpo" weighs pairs by how likely the policy would write them.
      pooling, negatives: of CoIN, see `objectives.contrastive`.

    Raises:
      ValueError: unknown name, an option or modifier that is not read, or one out of
        its range; lists what is.
    """
    settings = complete(name, options_of(name, divergence), options or {})
    mixed = {
        other: complete(f"mix.{other}", _options_in_mix(name, other), given)
        for other, given in (mix or {}).items()
    }
    _check_divergence((name, *mixed), divergence)
    _check_weighting((name, *mixed), weighting)
    _check_choice("pooling", pooling, POOLINGS, name == "coin")
    _check_choice("negatives", negatives, NEGATIVES, name == "coin")
    if name == "sft":
        return Objective(objectives.sft, "answers")
    if name == "coin":
        function = partial(
            objectives.contrastive, pooling=pooling, negatives=negatives, **settings
        )
        return Objective(function, "couples", coupled=True)
    if name == "kto":
        nll = settings.pop("nll")
        function = partial(objectives.kto, options=settings, nll=nll)
        return Objective(
            function,
            "labels",
            reference=True,
            coupled=True,
            start=lambda: {"chosen_reward": 0.0, "rejected_reward": 0.0},
        )
    parts = [
        _part(each, own, divergence, settings.get("alpha"))
        for each, own in {name: settings, **mixed}.items()
    ]
    function = partial(
        objectives.preference,
        parts=tuple(parts),
        nll=settings["nll"],
        length_alpha=settings.get("length_alpha", 1.0),
        is_weighted=weighting == "wpo",
    )
    return Objective(
        function,
        "pairs",
        reference=any(part.loss.reference for part in parts),
        coupled=any(part.loss.coupled for part in parts),
        start=lambda: _at_reference(parts, weighting),
    )


def options_of(name: str, divergence: str = "reverse_kl") -> dict[str, Option]:
    """The options that an objective reads, with defaults and ranges.

    Raises:
      ValueError: there is no objective of that name.
    """
    if name in _ONLY_LOSSES:
        reads = _ONLY_LOSSES[name]
        raise ValueError(f"{name!r} is a loss without objective: it reads {reads}")
    if name not in LOSSES:
        near = difflib.get_close_matches(name, NAMES, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"no objective {name!r}{hint} (known: {', '.join(NAMES)})")
    found = dict(LOSSES[name].options)
    kind = LOSSES[name].scores
    if name == "coin":
        found["bound"] = _BOUND
    if kind in ("pair", "ranking", "response"):
        found["nll"] = _NLL
    if kind in ("pair", "ranking"):
        found["weight"] = _WEIGHT
    if kind == "pair":
        found["length_alpha"] = _LENGTH_ALPHA
    if divergence == "alpha" and LOSSES[name].divergence:
        found["alpha"] = _ALPHA
    for option, default in _DEFAULTS.get(name, {}).items():
        found[option] = dataclasses.replace(found[option], default=default)
    return found


def _options_in_mix(name: str, other: str) -> dict[str, Option]:
    """What a loss reads beside another one: what the whole has is not its own."""
    if name not in _PAIRS:
        raise ValueError(f"mix: {name!r} is no loss of pairs, so nothing mixes with it")
    if other not in _PAIRS or other == name:
        others = ", ".join(each for each in _PAIRS if each != name)
        raise ValueError(
            f"mix: {other!r} is no other loss of pairs (known: {others}; the chosen "
            "answers' NLL is options.nll)"
        )
    return {**LOSSES[other].options, "weight": _WEIGHT}


def _check_divergence(names: Sequence[str], divergence: str) -> None:
    _check_choice("divergence", divergence, DIVERGENCE_NAMES, is_read=True)
    unable = [each for each in names if not LOSSES[each].divergence]
    if divergence != "reverse_kl" and unable:
        able = ", ".join(each for each in NAMES if LOSSES[each].divergence)
        raise ValueError(
            f"divergence: {unable[0]!r} does not read it (these do: {able})"
        )


def _check_weighting(names: Sequence[str], weighting: str) -> None:
    _check_choice("weighting", weighting, WEIGHTINGS, is_read=True)
    for name in names:
        if weighting != "none" and (name not in _PAIRS or LOSSES[name].coupled):
            raise ValueError(
                f"weighting: {name!r} has no loss of its own for each pair, so pairs "
                "cannot be weighed"
            )


def _check_choice(field: str, value: str, known: Sequence[str], is_read: bool) -> None:
    if value not in known:
        raise ValueError(f"no {field} {value!r} (known: {', '.join(known)})")
    if not is_read and value != known[0]:
        raise ValueError(f"{field}: only 'coin' reads it")


def _part(name: str, settings: Options, divergence: str, alpha: float | None) -> Part:
    loss = LOSSES[name]
    options: dict[str, Any] = {option: settings[option] for option in loss.options}
    if divergence == "alpha" and alpha is not None:
        options["divergence"] = losses.alpha_divergence(alpha)
    elif divergence != "reverse_kl":
        options["divergence"] = DIVERGENCES[divergence]
    return Part(name, loss, options, settings["weight"])


def _at_reference(parts: Sequence[Part], weighting: str) -> dict[str, float]:
    """The margin, and the losses of pairs, which are the same for all of them where
    policy == reference. A ranking's depends on its length; without a reference nothing
    is known."""
    if not parts[0].loss.reference:
        return {}
    same = Pair(jnp.zeros(1), jnp.zeros(1))
    found = {"margin": 0.0}
    for name, loss, options, _ in parts:
        if loss.scores != "pair" or not loss.reference or weighting != "none":
            continue
        given = {"tokens": Pair(jnp.ones(1), jnp.ones(1))}
        inputs = [given.get(each, same) for each in loss.inputs]
        found[name] = float(loss.function(*inputs, **options)[0])
    return found
