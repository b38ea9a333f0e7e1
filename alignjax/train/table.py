# SPDX-License-Identifier: Apache-2.0
"""The table of objectives: the losses that can be trained, and what each one reads."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Literal

import jax.numpy as jnp

from alignjax import losses
from alignjax.losses import LOSSES, Option, Pair
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


DIVERGENCES = ("reverse_kl", "forward_kl", "jensen_shannon", "alpha")

_NLL = not_negative(0.0)
_WEIGHT = positive(1.0)
_LENGTH_ALPHA = Option(1.0, lambda value: 0 <= value <= 1, "in [0, 1]")
_BOUND = Option(1000.0, lambda value: 1 <= value < float("inf"), "1 or above")
_ALPHA = Option(0.5, lambda value: -10 <= value <= 10, "in [-10, 10]")
# Where the method is more than its loss: the coefficients of both parts.
_DEFAULTS = {"cpo": {"nll": 1.0}, "orpo": {"nll": 1.0, "weight": 0.1}}

# Losses that are no objective: what they read is not in a batch.
_ONLY_LOSSES = {
    "tdpo": "the reference's probabilities of all tokens, which are not cached",
    "coin_triplet": "triplets; couples are trained by 'coin'",
    "info_nce": "paraphrases without hard negatives; couples are trained by 'coin'",
}
NAMES = tuple(name for name in LOSSES if name not in _ONLY_LOSSES)


def find(
    name: str,
    options: Mapping[str, float] | None = None,
    *,
    mix: Mapping[str, float] | None = None,
    divergence: str = "reverse_kl",
    weighting: str = "none",
) -> Objective:
    """The objective of that name.

    Args:
      options: settings of the loss, and `nll`, `weight`, `length_alpha` (LD-DPO) where
        the objective reads them; see `options_of`.
      mix: further losses of pairs, by name, and their coefficients; they share the
        options that they read.
      divergence: one of `DIVERGENCES`; "alpha" reads the option alpha.
      weighting: "wpo" weighs pairs by how likely the policy would write them.

    Raises:
      ValueError: unknown name, an option or modifier that is not read, or one out of
        its range; lists what is.
    """
    mix = dict(mix or {})
    readable = options_of(name, mix, divergence)
    settings = complete(name, readable, options or {})
    _check_modifiers(name, mix, divergence, weighting)
    loss = LOSSES[name]
    if name == "sft":
        return Objective(objectives.sft, "answers")
    if name == "coin":
        function = partial(objectives.contrastive, **settings)
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
    parts = [_part(name, settings, divergence, settings["weight"])]
    parts += [_part(other, settings, divergence, mix[other]) for other in mix]
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
        start=lambda: _at_reference(parts, weighting) if loss.reference else {},
    )


def options_of(
    name: str, mix: Mapping[str, float] | None = None, divergence: str = "reverse_kl"
) -> dict[str, Option]:
    """The options that an objective reads, with defaults and ranges.

    Raises:
      ValueError: there is no objective of that name, or of one in the mix.
    """
    for each in (name, *(mix or {})):
        if each in _ONLY_LOSSES:
            reads = _ONLY_LOSSES[each]
            raise ValueError(f"{each!r} is a loss without objective: it reads {reads}")
        if each not in LOSSES:
            raise ValueError(f"no objective {each!r} (known: {', '.join(NAMES)})")
    found: dict[str, Option] = {}
    for each in (name, *(mix or {})):
        for option, value in LOSSES[each].options.items():
            found.setdefault(option, value)
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


def _check_modifiers(
    name: str, mix: Mapping[str, float], divergence: str, weighting: str
) -> None:
    if divergence not in DIVERGENCES:
        raise ValueError(
            f"no divergence {divergence!r} (known: {', '.join(DIVERGENCES)})"
        )
    if weighting not in ("none", "wpo"):
        raise ValueError(f"no weighting {weighting!r} (known: none, wpo)")
    named = (name, *mix)
    is_pair = LOSSES[name].scores == "pair"
    if mix and not is_pair:
        raise ValueError(f"mix: {name!r} is no loss of pairs, so nothing mixes with it")
    for other in mix:
        if LOSSES[other].scores != "pair" or other == name:
            pairs = [n for n in NAMES if LOSSES[n].scores == "pair" and n != name]
            raise ValueError(
                f"mix: {other!r} is no other loss of pairs (known: {', '.join(pairs)}; "
                "the chosen answers' NLL is options.nll)"
            )
        if not mix[other] > 0:
            raise ValueError(f"mix.{other}: must be above 0, got {mix[other]:g}")
    unable = [each for each in named if not LOSSES[each].divergence]
    if divergence != "reverse_kl" and unable:
        able = ", ".join(each for each in NAMES if LOSSES[each].divergence)
        raise ValueError(
            f"divergence: {unable[0]!r} does not read it (these do: {able})"
        )
    coupled = [each for each in named if LOSSES[each].coupled or not is_pair]
    if weighting != "none" and coupled:
        raise ValueError(
            f"weighting: {coupled[0]!r} has no loss of its own for each pair, so pairs "
            "cannot be weighed"
        )


def _part(
    name: str, settings: Mapping[str, float], divergence: str, coefficient: float
) -> Part:
    loss = LOSSES[name]
    options: dict[str, Any] = {option: settings[option] for option in loss.options}
    if loss.divergence and divergence != "reverse_kl":
        if divergence == "alpha":
            options["divergence"] = losses.alpha_divergence(settings["alpha"])
        else:
            options["divergence"] = getattr(losses, divergence)
    return Part(name, loss, options, coefficient)


def _at_reference(parts: Sequence[Part], weighting: str) -> dict[str, float]:
    """The margin, and the losses of pairs, which are the same for all of them where
    policy == reference. A ranking's depends on its length."""
    same = Pair(jnp.zeros(1), jnp.zeros(1))
    found = {"margin": 0.0}
    for name, loss, options, _ in parts:
        if loss.scores != "pair" or not loss.reference or weighting != "none":
            continue
        given = {"tokens": Pair(jnp.ones(1), jnp.ones(1))}
        inputs = [given.get(each, same) for each in loss.inputs]
        found[name] = float(loss.function(*inputs, **options)[0])
    return found
