# SPDX-License-Identifier: Apache-2.0
"""Inputs for every loss of the table, made from its entry alone: a loss that is added
there is tested without another line here, unless it reads something new."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from alignjax.losses import (
    LOSSES,
    Pair,
    Ranking,
    Views,
    find,
    kto_baseline,
)

Inputs = dict[str, Any]

# Sizes besides the batch: rejected responses, tokens, width of hidden states.
NEGATIVES, TIME, EMBED = 3, 4, 5
VOCAB = 50
EXTREME = 1e4

# Compiles large programs that run once.
quickly = functools.partial(
    jax.jit, compiler_options={"xla_backend_optimization_level": 0}
)


def call(
    name: str, inputs: Inputs, *, options: Mapping[str, Any] | None = None, **more
):
    """The loss with its default options, and `more`, which the table does not check;
    KTO's baseline, where it is not given, is that of the batch."""
    loss, settings = find(name, options or {})
    if "baseline" in loss.inputs and "baseline" not in inputs:
        baseline = kto_baseline(inputs["policy"], inputs["reference"])
        inputs = {**inputs, "baseline": baseline}
    given = (inputs[each] for each in loss.inputs)
    return loss.function(*given, **{**settings, **more})


def call_all(inputs: dict[str, Inputs]) -> dict[str, jax.Array]:
    return {name: call(name, inputs[name]) for name in inputs}


def drawn(name: str, *, batch: int, dtype: DTypeLike = np.float32) -> Inputs:
    """Random inputs: log-probabilities below 0, the policy's mostly above the
    reference's, so that KTO's baseline is."""
    rng = np.random.default_rng(0)

    def logprobs(scale: float) -> Callable[..., np.ndarray]:
        return lambda *shape: -scale * (0.1 + np.abs(rng.normal(size=shape)))

    return _inputs(
        name,
        batch,
        dtype,
        policy=logprobs(2.0),
        reference=logprobs(4.0),
        tokens=lambda *shape: rng.integers(1, 9, size=shape),
        kl=lambda *shape: np.abs(rng.normal(size=shape)),
        states=lambda *shape: rng.normal(size=shape),
    )


def neutral(name: str, *, batch: int) -> Inputs:
    """Inputs where policy == reference; without a reference, where both responses are
    equally likely a token, all tokens equally likely, or all states equal."""
    rng = np.random.default_rng(0)
    scores = -rng.random(batch)
    has_reference = LOSSES[name].reference

    def policy(*shape: int) -> np.ndarray:
        if LOSSES[name].scores == "sequence":
            return np.full(shape, -np.log(VOCAB))
        by_response = np.arange(np.prod(shape[1:], dtype=int)).reshape(shape[1:])
        spread = scores.reshape(-1, *[1] * (len(shape) - 1))
        return spread - by_response if has_reference else spread + 0 * by_response

    return _inputs(
        name,
        batch,
        np.float32,
        policy=policy,
        reference=policy,
        tokens=lambda *shape: np.full(shape, 3),
        kl=lambda *shape: np.zeros(shape),
        states=lambda *shape: np.ones(shape),
    )


def extreme(name: str, *, batch: int) -> Inputs:
    """Log-ratios of -1e4, 0 and 1e4 in all combinations (nine of a pair)."""
    ends = np.array([-EXTREME, 0.0, EXTREME])

    def policy(*shape: int) -> np.ndarray:
        if LOSSES[name].scores == "sequence":
            return np.full(shape, -EXTREME)
        # The first response changes slowest, so that nine pairs are all there are.
        index = np.arange(shape[0])[:, None] // 3 ** np.arange(np.prod(shape[1:]) or 1)
        return ends[index.astype(int) % 3].reshape(shape)

    return _inputs(
        name,
        batch,
        np.float32,
        policy=policy,
        reference=lambda *shape: np.zeros(shape),
        tokens=lambda *shape: np.ones(shape, int),
        kl=lambda *shape: np.abs(policy(*shape)),
        states=lambda *shape: EXTREME * np.random.default_rng(0).normal(size=shape),
    )


def _inputs(
    name: str, batch: int, dtype: DTypeLike, **draw: Callable[..., np.ndarray]
) -> Inputs:
    loss = LOSSES[name]

    def floats(kind: str, *shape: int) -> jax.Array:
        return jnp.asarray(draw[kind](*shape), dtype)

    def scores(kind: str) -> Any:
        if loss.scores == "pair":
            return Pair(*floats(kind, batch, 2).T)
        if loss.scores == "ranking":
            every = floats(kind, batch, 1 + NEGATIVES)
            return Ranking(every[:, 0], every[:, 1:])
        return floats(kind, batch)

    def views() -> Views:
        return Views(*floats("states", 2, batch, EMBED))

    made = {
        "policy": lambda: scores("policy"),
        "reference": lambda: scores("reference"),
        "kl": lambda: scores("kl"),
        "tokens": lambda: Pair(*jnp.asarray(draw["tokens"](batch, 2)).T),
        "is_desirable": lambda: jnp.arange(batch) % 2 == 0,
        "logprobs": lambda: floats("policy", batch, TIME),
        "mask": lambda: jnp.arange(TIME) <= jnp.arange(batch)[:, None] % TIME,
        "views": views,
        "anchor": lambda: floats("states", batch, EMBED),
        "positive": lambda: floats("states", batch, EMBED),
        "negative": lambda: (
            views() if "views" in loss.inputs else floats("states", batch, EMBED)
        ),
    }
    return {each: made[each]() for each in loss.inputs if each != "baseline"}
