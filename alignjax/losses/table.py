# SPDX-License-Identifier: Apache-2.0
"""The table of losses: what each one reads, and what it may be combined with.

Training, the tests of the contract and the documentation all go by it. A setting that a
loss does not read is refused with the list of those that it does.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any, Literal

from alignjax.losses import (
    contrastive,
    likelihood,
    preference,
    ranking,
    reference_free,
    rewards,
    transport,
)


@dataclasses.dataclass(frozen=True)
class Option:
    """A setting: its default, and what it may be."""

    default: float
    is_allowed: Callable[[float], bool]
    allowed: str


@dataclasses.dataclass(frozen=True)
class Loss:
    """A loss and the facts that other code needs about it.

    Attributes:
      function: of `inputs`, in that order, and of keyword settings.
      scores: what its inputs hold a number of: each response of a pair, of a ranking,
        or a single response; the tokens of a sequence; or none but pooled hidden
        states ("views").
      inputs: policy and reference log-probabilities, token counts, and so on.
      options: the settings that it reads, by name.
      divergence: whether it takes another divergence than the reverse KL.
      coupled: whether an example's loss depends on the others of the batch, which must
        then be the global one.
      trl: its `loss_type` in TRL 1.16's DPO trainer, or the trainer's name; "" = none.
    """

    function: Callable[..., Any]
    scores: Literal["pair", "ranking", "response", "sequence", "views"]
    inputs: tuple[str, ...]
    options: Mapping[str, Option] = dataclasses.field(default_factory=dict)
    divergence: bool = False
    coupled: bool = False
    trl: str = ""

    @property
    def reference(self) -> bool:
        """Whether it needs log-probabilities under a reference model."""
        return "reference" in self.inputs


def find(name: str, options: Mapping[str, float]) -> tuple[Loss, dict[str, float]]:
    """The loss of that name and its settings, defaults filled in.

    Raises:
      ValueError: unknown name, a setting that the loss does not read, or one out of
        its range.

    >>> loss, options = find("dpo", {"beta": 0.3})
    >>> loss.reference, options["beta"], options["label_smoothing"]
    (True, 0.3, 0.0)
    """
    if name not in LOSSES:
        raise ValueError(f"no loss {name!r} (known: {', '.join(LOSSES)})")
    loss = LOSSES[name]
    return loss, complete(name, loss.options, options)


def complete(
    name: str, readable: Mapping[str, Option], given: Mapping[str, float]
) -> dict[str, float]:
    """The settings with defaults filled in.

    Raises:
      ValueError: one that is not readable, or out of its range; names it.
    """
    unread = sorted(set(given) - set(readable))
    if unread:
        reads = ", ".join(readable) or "no options"
        raise ValueError(
            f"options: {name!r} does not read {unread[0]!r} (it reads {reads})"
        )
    for option, value in given.items():
        if not readable[option].is_allowed(value):
            raise ValueError(
                f"options.{option}: must be {readable[option].allowed}, got {value:g}"
            )
    defaults = {option: readable[option].default for option in readable}
    return {**defaults, **given}


def positive(default: float) -> Option:
    return Option(default, lambda value: 0 < value < math.inf, "above 0")


def not_negative(default: float) -> Option:
    return Option(default, lambda value: 0 <= value < math.inf, "0 or above")


def finite(default: float) -> Option:
    return Option(default, math.isfinite, "a finite number")


_SMOOTHING = Option(0.0, lambda value: 0 <= value < 0.5, "in [0, 0.5)")
_PAIR = ("policy", "reference")
_BETA = {"beta": positive(0.1)}
_SMOOTHED = {**_BETA, "label_smoothing": _SMOOTHING}

LOSSES: Mapping[str, Loss] = {
    "sft": Loss(likelihood.sft, "sequence", ("logprobs", "mask"), trl="sft"),
    "dpo": Loss(
        preference.dpo,
        "pair",
        _PAIR,
        {**_SMOOTHED, "margin": finite(0.0)},
        divergence=True,
        trl="sigmoid",
    ),
    "dpo_norm": Loss(
        preference.dpo_norm,
        "pair",
        (*_PAIR, "tokens"),
        {"beta": positive(5.0), "label_smoothing": _SMOOTHING, "margin": finite(0.0)},
        divergence=True,
        trl="sigmoid_norm",
    ),
    "robust_dpo": Loss(
        preference.robust_dpo,
        "pair",
        _PAIR,
        {
            **_BETA,
            "label_smoothing": dataclasses.replace(_SMOOTHING, default=0.1),
        },
        divergence=True,
        trl="robust",
    ),
    "ipo": Loss(
        preference.ipo, "pair", (*_PAIR, "tokens"), _BETA, divergence=True, trl="ipo"
    ),
    "ipo_sum": Loss(preference.ipo_sum, "pair", _PAIR, _BETA, divergence=True),
    "hinge": Loss(
        preference.hinge,
        "pair",
        _PAIR,
        {**_BETA, "margin": finite(0.0)},
        divergence=True,
        trl="hinge",
    ),
    "exo": Loss(
        preference.exo,
        "pair",
        _PAIR,
        {
            **_BETA,
            "label_smoothing": Option(1e-3, lambda e: 0 < e < 0.5, "in (0, 0.5)"),
        },
        divergence=True,
        trl="exo_pair",
    ),
    "discopop": Loss(
        preference.discopop,
        "pair",
        _PAIR,
        {**_BETA, "temperature": positive(0.05)},
        divergence=True,
        trl="discopop",
    ),
    "tdpo": Loss(
        preference.tdpo, "pair", (*_PAIR, "kl"), {**_BETA, "alpha": not_negative(0.5)}
    ),
    "nca": Loss(rewards.nca, "pair", _PAIR, _BETA, trl="nca_pair"),
    "bco": Loss(
        rewards.bco, "pair", _PAIR, {**_BETA, "shift": finite(0.0)}, trl="bco_pair"
    ),
    "sppo": Loss(
        rewards.sppo, "pair", _PAIR, {"beta": positive(1e-3)}, trl="sppo_hard"
    ),
    "apo_zero": Loss(rewards.apo_zero, "pair", _PAIR, _BETA, trl="apo_zero"),
    "apo_down": Loss(rewards.apo_down, "pair", _PAIR, _BETA, trl="apo_down"),
    "aot": Loss(transport.aot, "pair", _PAIR, _SMOOTHED, coupled=True, trl="aot"),
    "aot_unpaired": Loss(
        transport.aot_unpaired,
        "pair",
        _PAIR,
        _SMOOTHED,
        coupled=True,
        trl="aot_unpaired",
    ),
    "simpo": Loss(
        reference_free.simpo,
        "pair",
        ("policy", "tokens"),
        {
            "beta": positive(2.0),
            "margin": finite(0.5),
            "label_smoothing": _SMOOTHING,
        },
        trl="CPOTrainer, simpo",
    ),
    "cpo": Loss(
        reference_free.cpo, "pair", ("policy",), _SMOOTHED, trl="CPOTrainer, sigmoid"
    ),
    "orpo": Loss(reference_free.orpo, "pair", ("policy", "tokens"), trl="ORPOTrainer"),
    "softmax_dpo": Loss(ranking.softmax_dpo, "ranking", _PAIR, _BETA),
    "plackett_luce": Loss(ranking.plackett_luce, "ranking", _PAIR, _BETA),
    "nca_ranking": Loss(ranking.nca_ranking, "ranking", _PAIR, _BETA),
    "kto": Loss(
        rewards.kto,
        "response",
        (*_PAIR, "is_desirable", "baseline"),
        {
            **_BETA,
            "desirable_weight": not_negative(1.0),
            "undesirable_weight": not_negative(1.0),
        },
        coupled=True,
        trl="KTOTrainer",
    ),
    "coin": Loss(
        contrastive.coin,
        "views",
        ("views", "negative"),
        {"temperature": positive(0.05)},
    ),
    "coin_triplet": Loss(
        contrastive.coin_triplet,
        "views",
        ("anchor", "positive", "negative"),
        {"temperature": positive(0.05)},
    ),
    "info_nce": Loss(
        contrastive.info_nce,
        "views",
        ("views",),
        {"temperature": positive(0.05)},
        coupled=True,
    ),
}
