# SPDX-License-Identifier: Apache-2.0
"""Label smoothing: what is refused, and that none is none even at infinity."""

import inspect
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alignjax.losses import LOSSES, Pair, dpo, robust_dpo
from loss_examples import call, drawn

SMOOTHED = [name for name, loss in LOSSES.items() if "label_smoothing" in loss.options]
PER_PAIR = [
    name
    for name in SMOOTHED
    if "*batch"
    in str(inspect.signature(LOSSES[name].function).parameters["label_smoothing"])
]


def smoothed(name, label_smoothing):
    return call(name, drawn(name, batch=2), label_smoothing=label_smoothing)


@pytest.mark.parametrize("kind", [float, np.float64, jnp.float32])
@pytest.mark.parametrize("name", SMOOTHED)
def test_what_has_no_meaning_is_refused(name, kind):
    """At exo's 0 the divergence is infinite; from 1/2 on the labels say nothing."""
    allowed = LOSSES[name].options["label_smoothing"].allowed
    for wrong in (0.5, -1e-9, math.nan, *([0.0] if name == "exo" else [])):
        with pytest.raises(ValueError) as error:
            smoothed(name, kind(wrong))
        message = f"label_smoothing must be {allowed}, got {wrong:g}"
        assert str(error.value) == message
    assert np.isfinite(smoothed(name, kind(0.499))).all()


@pytest.mark.parametrize("name", PER_PAIR)
def test_one_wrong_soft_label_is_refused(name):
    with pytest.raises(ValueError, match=r"got 0\.75"):
        smoothed(name, jnp.array([0.2, 0.75]))


@pytest.mark.parametrize("name", SMOOTHED)
def test_a_traced_value_is_not_checked(name):
    """It has no value yet."""
    compiled = jax.jit(lambda e: smoothed(name, e))
    assert compiled(jnp.float32(0.7)).shape == (2,)
    np.testing.assert_allclose(
        compiled(jnp.float32(0.3)), smoothed(name, 0.3), rtol=1e-5
    )


@pytest.mark.parametrize("kind", [float, lambda e: jnp.array([e])])
def test_no_smoothing_of_an_infinite_margin_is_zero(kind):
    """0 * log sigmoid(-inf) counts as 0: loss 0 and slope 0, as without."""

    def loss(chosen):
        policy, reference = Pair(chosen, jnp.zeros(1)), Pair(jnp.zeros(1), jnp.zeros(1))
        return dpo(policy, reference, beta=1.0, label_smoothing=kind(0.0))[0]

    for chosen, value, slope in [(jnp.inf, 0, 0), (-jnp.inf, jnp.inf, -1)]:
        found = jax.value_and_grad(loss)(jnp.array([chosen]))
        assert found == (value, slope)


def test_robust_dpo_without_smoothing_is_dpo_at_infinity():
    policy = Pair(jnp.array([jnp.inf, 1.0]), jnp.zeros(2))
    reference = Pair(jnp.zeros(2), jnp.zeros(2))
    robust = robust_dpo(policy, reference, beta=1.0, label_smoothing=0.0)
    np.testing.assert_array_equal(robust, dpo(policy, reference, beta=1.0))


def test_the_slope_by_the_label_is_the_margin():
    """d/de [-(1 - e) log sigmoid(z) - e log sigmoid(-z)] = z, at e = 0 as well."""
    policy = Pair(jnp.float32(-4), jnp.float32(-6))
    reference = Pair(jnp.float32(-4), jnp.float32(-5))
    slope = jax.grad(lambda e: dpo(policy, reference, beta=0.5, label_smoothing=e))
    np.testing.assert_allclose(slope(0.0), 0.5, rtol=1e-6)
