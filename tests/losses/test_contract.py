# SPDX-License-Identifier: Apache-2.0
"""The contract of losses, held to every entry of the table.

A loss that is added to the table is under it at once; all that it needs is its closed
form in CLOSED_FORMS and, if it has no reference, its symmetry in SYMMETRIES.
"""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_vjp

from alignjax.losses import (
    DIVERGENCES,
    LOSSES,
    Option,
    alpha_divergence,
    find,
)
from loss_examples import (
    NEGATIVES,
    TIME,
    VOCAB,
    Inputs,
    call,
    call_all,
    drawn,
    extreme,
    neutral,
    quickly,
)

BATCH = 9
EVERY_DIVERGENCE = {**DIVERGENCES, "alpha": alpha_divergence(0.5)}
every_loss = pytest.mark.parametrize("name", LOSSES)
every_divergence = pytest.mark.parametrize(
    ("name", "divergence"),
    [
        (name, divergence)
        for name, loss in LOSSES.items()
        for divergence in (EVERY_DIVERGENCE if loss.divergence else ["reverse_kl"])
    ],
)
# Losses of a sorted batch: entry i is that of a quantile, not of example i.
SORTED = {"aot", "aot_unpaired"}


def softplus(x: float) -> float:
    return math.log1p(math.exp(x))


def smoothed(z: float, options: dict[str, float]) -> float:
    e = options["label_smoothing"]
    return (1 - e) * softplus(-z) + e * softplus(z)


LOG_2 = math.log(2)
# Of the options: the loss at `neutral` inputs, where every log-ratio is 0, and so is
# every divergence of it.
CLOSED_FORMS: dict[str, Callable[[dict[str, float]], float]] = {
    "sft": lambda o: math.log(VOCAB),
    "dpo": lambda o: smoothed(-o["margin"], o),
    "dpo_norm": lambda o: smoothed(-o["margin"], o),
    "robust_dpo": lambda o: LOG_2,  # [(1 - e) log 2 - e log 2] / (1 - 2 e)
    "ipo": lambda o: (1 / (2 * o["beta"])) ** 2,
    "ipo_sum": lambda o: (1 / (2 * o["beta"])) ** 2,
    "hinge": lambda o: max(0, 1 + o["margin"]),
    # 1/2 [log 1/2 - log(1 - e)] + 1/2 [log 1/2 - log e]
    "exo": lambda o: (
        -LOG_2
        - (math.log(o["label_smoothing"]) + math.log(1 - o["label_smoothing"])) / 2
    ),
    "discopop": lambda o: (LOG_2 + 1) / 2,
    "tdpo": lambda o: LOG_2,
    "nca": lambda o: LOG_2 + LOG_2 / 2 + LOG_2 / 2,
    "bco": lambda o: softplus(o["shift"]) + softplus(-o["shift"]),
    "sppo": lambda o: 2 * (1 / (2 * o["beta"])) ** 2,
    "apo_zero": lambda o: 1 / 2 + 1 / 2,
    "apo_down": lambda o: 1 / 2 + 1 / 2,
    "aot": lambda o: LOG_2,
    "aot_unpaired": lambda o: LOG_2,
    "simpo": lambda o: smoothed(-o["margin"], o),
    "cpo": lambda o: LOG_2,
    "orpo": lambda o: LOG_2,
    "softmax_dpo": lambda o: math.log(1 + NEGATIVES),
    "plackett_luce": lambda o: math.log(math.factorial(1 + NEGATIVES)),
    "nca_ranking": lambda o: LOG_2 + (1 + NEGATIVES) * LOG_2 / (1 + NEGATIVES),
    # Both weights are changed together below.
    "kto": lambda o: o["desirable_weight"] / 2,
    "coin": lambda o: LOG_2,
    "coin_triplet": lambda o: LOG_2,
    "info_nce": lambda o: math.log(BATCH),
}


def add(scores: Any, amount: Any) -> Any:
    """The same amount, or that of each example, onto all its scores."""
    return jax.tree.map(
        lambda x: x + np.reshape(amount, np.shape(amount) + (1,) * (x.ndim - 1)), scores
    )


def lengthened(inputs: Inputs) -> Inputs:
    factor = np.linspace(0.5, 2, BATCH, dtype=np.float32)[:, None]
    return {each: jax.tree.map(lambda x: factor * x, inputs[each]) for each in inputs}


AMOUNT = np.linspace(-1, 1, BATCH, dtype=np.float32)
# Of inputs: other inputs, and what is to be added to the loss. With a reference a loss
# depends on log-ratios alone: see the test. Without:
SYMMETRIES: dict[str, Callable[[Inputs], tuple[Inputs, Any]]] = {
    # A token's log-probability more is that much loss less.
    "sft": lambda i: ({**i, "logprobs": add(i["logprobs"], AMOUNT)}, -AMOUNT),
    # The same amount on both responses.
    "cpo": lambda i: ({"policy": add(i["policy"], AMOUNT)}, 0),
    # The same amount on all tokens of both responses.
    "simpo": lambda i: (
        {
            **i,
            "policy": jax.tree.map(
                lambda x, n: x + AMOUNT * n, i["policy"], i["tokens"]
            ),
        },
        0,
    ),
    # Odds depend on the probability itself; only its mean over tokens counts.
    "orpo": lambda i: (jax.tree.map(lambda x: 2 * x, i), 0),
    # Directions only.
    "coin": lambda i: (lengthened(i), 0),
    "coin_triplet": lambda i: (lengthened(i), 0),
    "info_nce": lambda i: (lengthened(i), 0),
    # Sorts the policy's margins and the reference's apart, so that it depends on their
    # distributions, not on the log-ratios of each pair: one amount for all.
    "aot": lambda i: (
        {each: i[each]._replace(chosen=i[each].chosen + 3) for each in i},
        0,
    ),
}


def value_and_gradient(name: str, inputs: Inputs, **more: Any) -> tuple[Any, list[Any]]:
    """The loss, and the gradient of its sum with respect to all real inputs."""
    leaves, rebuild, where = split(inputs)

    def total(reals: list[jax.Array]) -> tuple[jax.Array, jax.Array]:
        loss = call(name, rebuild(reals), **more)
        return loss.sum(), loss

    slopes, loss = jax.grad(total, has_aux=True)([leaves[i] for i in where])
    return loss, slopes


def split(inputs: Inputs) -> tuple[list[jax.Array], Callable[..., Inputs], list[int]]:
    """Leaves of the inputs, how to put other real numbers in, and where those are."""
    leaves, structure = jax.tree.flatten(inputs)
    where = [i for i, x in enumerate(leaves) if jnp.issubdtype(x.dtype, jnp.floating)]

    def rebuild(reals: list[jax.Array]) -> Inputs:
        new = dict(zip(where, reals, strict=True))
        return jax.tree.unflatten(
            structure, [new.get(i, x) for i, x in enumerate(leaves)]
        )

    return leaves, rebuild, where


def changed(option: Option) -> float:
    """An allowed value other than the default."""
    candidates = (0.3, 0.75, 1.5)
    return next(c for c in candidates if c != option.default and option.is_allowed(c))


def test_every_loss_has_a_closed_form_and_a_symmetry():
    assert set(CLOSED_FORMS) == set(LOSSES)
    assert {name for name in LOSSES if not LOSSES[name].reference} <= set(SYMMETRIES)


@every_divergence
def test_value_where_policy_equals_reference(name, divergence):
    """Closed forms, at the default options and at others."""
    inputs = neutral(name, batch=BATCH)
    more = (
        {"divergence": EVERY_DIVERGENCE[divergence]} if LOSSES[name].divergence else {}
    )
    others = {each: changed(option) for each, option in LOSSES[name].options.items()}
    for given in ({}, others):
        options = find(name, given)[1]
        loss = call(name, inputs, options=given, **more)
        assert loss.shape == (BATCH,)
        assert loss.dtype == jnp.float32
        np.testing.assert_allclose(loss, CLOSED_FORMS[name](options), rtol=2e-6)


@every_loss
def test_permuting_examples_permutes_losses(name):
    """Of a sorted batch nothing changes at all."""
    inputs = drawn(name, batch=BATCH)
    order = np.random.default_rng(1).permutation(BATCH)
    loss = call(name, inputs)
    shuffled = call(name, jax.tree.map(lambda x: x[order], inputs))
    expected = loss if name in SORTED else loss[order]
    # The sums over a batch of those that are coupled run in another order.
    np.testing.assert_allclose(shuffled, expected, rtol=1e-5)
    if not LOSSES[name].coupled:
        np.testing.assert_array_equal(shuffled, expected)


@every_loss
def test_loss_depends_on_log_ratios_only(name):
    """Policy and reference up by the same amount, another for each example and side;
    those that are no function of log-ratios have a symmetry of their own."""
    inputs = drawn(name, batch=BATCH)
    if name in SYMMETRIES:
        moved, change = SYMMETRIES[name](inputs)
    else:
        rng = np.random.default_rng(2)
        leaves, structure = jax.tree.flatten(inputs["policy"])
        amounts = [rng.normal(size=x.shape).astype(np.float32) for x in leaves]
        amount, change = jax.tree.unflatten(structure, amounts), 0
        moved = {
            **inputs,
            "policy": jax.tree.map(jnp.add, inputs["policy"], amount),
            "reference": jax.tree.map(jnp.add, inputs["reference"], amount),
        }
    loss = call(name, inputs)
    np.testing.assert_allclose(call(name, moved), loss + change, rtol=1e-4, atol=1e-5)


@every_divergence
def test_value_and_gradient_are_finite_at_extremes(name, divergence):
    """Log-ratios of -1e4, 0 and 1e4. e^1e4 is infinite: divergences clamp at e^80."""
    inputs = extreme(name, batch=BATCH)
    more, given = {}, [{}]
    if divergence != "reverse_kl":
        more = {"divergence": EVERY_DIVERGENCE[divergence]}
    elif LOSSES[name].options:
        given += [{each: changed(o) for each, o in LOSSES[name].options.items()}]
    for options in given:
        loss, slopes = value_and_gradient(name, inputs, options=options, **more)
        assert np.isfinite(loss).all()
        assert all(np.isfinite(slope).all() for slope in slopes)


@functools.cache
def compiled() -> dict[str, jax.Array]:
    """All losses in one program."""
    return jax.jit(call_all)({name: drawn(name, batch=BATCH) for name in LOSSES})


@every_loss
def test_jit_equals_eager(name):
    eager = call(name, drawn(name, batch=BATCH))
    np.testing.assert_allclose(compiled()[name], eager, rtol=2e-6, atol=1e-6)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
@every_loss
def test_half_precision_is_upcast_to_float32(name, dtype):
    """Equal to float32 on the same rounded numbers, without any implicit promotion."""
    inputs = drawn(name, batch=BATCH, dtype=dtype)
    single = jax.tree.map(
        lambda x: x.astype(jnp.float32) if x.dtype == dtype else x, inputs
    )
    with jax.numpy_dtype_promotion("strict"):
        assert jax.eval_shape(functools.partial(call, name), inputs).dtype == np.float32
    loss = call(name, inputs)
    assert loss.dtype == jnp.float32
    np.testing.assert_array_equal(loss, call(name, single))


# Inputs through which no gradient flows, or not all of it; tested on their own.
STOPPED = {"kto": {"baseline": np.float64(0.3)}, "tdpo": {"kl": None}}


class Float64(NamedTuple):
    """All losses under all their divergences in one program, and their gradients in
    another; `reals` are the inputs with respect to which these are taken."""

    reals: dict[tuple[str, str], list[jax.Array]]
    losses: Callable[[Any], dict[tuple[str, str], jax.Array]]
    pullback: Callable[[Any, Any], dict[tuple[str, str], list[jax.Array]]]


@functools.cache
def float64() -> Float64:
    reals, functions = {}, {}
    for name, loss in LOSSES.items():
        inputs = drawn(name, batch=BATCH, dtype=np.float64)
        held = {
            each: inputs[each] if value is None else value
            for each, value in STOPPED.get(name, {}).items()
        }
        leaves, rebuild, where = split({k: inputs[k] for k in inputs if k not in held})
        for divergence in EVERY_DIVERGENCE if loss.divergence else ["reverse_kl"]:
            reals[name, divergence] = [leaves[i] for i in where]
            functions[name, divergence] = (rebuild, held)

    def losses(reals):
        found = {}
        for (name, divergence), (rebuild, held) in functions.items():
            inputs = {**rebuild(reals[name, divergence]), **held}
            by = EVERY_DIVERGENCE[divergence]
            more: dict[str, Any] = {"divergence": by} if LOSSES[name].divergence else {}
            found[name, divergence] = call(name, inputs, **more)
        return found

    def pullback(reals, cotangents):
        return jax.vjp(losses, reals)[1](cotangents)[0]

    return Float64(reals, quickly(losses), quickly(pullback))


@every_divergence
def test_gradients_equal_finite_differences_in_float64(name, divergence):
    """And float64 stays float64."""
    with jax.enable_x64(True):
        reals, losses, pullback = float64()
        nothing = jax.tree.map(jnp.zeros_like, losses(reals))
        key = (name, divergence)

        def loss(own):
            return losses({**reals, key: own})[key]

        def loss_and_pullback(own):
            def pull(cotangent):
                cotangents = {**nothing, key: cotangent}
                return (pullback({**reals, key: own}, cotangents)[key],)

            return loss(own), pull

        assert loss(reals[key]).dtype == jnp.float64
        check_vjp(loss, loss_and_pullback, (reals[key],), rtol=1e-5)


@functools.cache
def of_no_examples() -> dict[str, jax.Array]:
    empty = {name: drawn(name, batch=0) for name in LOSSES}
    return jax.jit(call_all)(empty)


@every_loss
def test_an_empty_batch_gives_no_losses(name):
    loss = of_no_examples()[name]
    assert loss.shape == (0,)
    assert loss.dtype == jnp.float32


MASKED = [
    name
    for name, loss in LOSSES.items()
    if "mask" in inspect.signature(loss.function).parameters
]


@pytest.mark.parametrize("name", MASKED)
def test_an_empty_mask_gives_zero_with_zero_gradient(name):
    """Even if all numbers are NaN: a prompt without rejected responses is padding."""
    inputs = drawn(name, batch=BATCH)
    wanted = {"sequence": (BATCH, TIME), "ranking": (BATCH, NEGATIVES)}
    mask = jnp.zeros(wanted.get(LOSSES[name].scores, (BATCH,)), bool)

    def emptied(x: jax.Array) -> jax.Array:
        is_real = jnp.issubdtype(x.dtype, jnp.floating)
        return jnp.full_like(x, jnp.nan) if is_real else x

    inputs = jax.tree.map(emptied, inputs)
    if "mask" in LOSSES[name].inputs:
        inputs, more = {**inputs, "mask": mask}, {}
    else:
        more = {"mask": mask}
    loss, slopes = value_and_gradient(name, inputs, **more)
    np.testing.assert_array_equal(loss, np.zeros(BATCH))
    for slope in slopes:
        np.testing.assert_array_equal(slope, np.zeros(slope.shape))
