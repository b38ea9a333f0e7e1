# SPDX-License-Identifier: Apache-2.0
"""Divergences: h is the derivative of f, and stays finite."""

import functools
import inspect
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alignjax.losses import (
    DIVERGENCES,
    Pair,
    alpha_divergence,
    dpo,
    forward_kl,
    jensen_shannon,
    reverse_kl,
)


def alpha_generator(alpha):
    """f of the alpha-divergences, f-DPO's table 1."""
    return lambda u: (
        (u ** (1 - alpha) - (1 - alpha) * u - alpha) / (alpha * (alpha - 1))
    )


# h and the f of its divergence E_reference[f(policy / reference)].
GENERATORS = {
    "reverse_kl": (reverse_kl, lambda u: u * jnp.log(u)),
    "forward_kl": (forward_kl, lambda u: -jnp.log(u)),
    "jensen_shannon": (
        jensen_shannon,
        lambda u: u * jnp.log(u) - (u + 1) * jnp.log((u + 1) / 2),
    ),
    "alpha 0.3": (alpha_divergence(0.3), alpha_generator(0.3)),
    "alpha -1": (alpha_divergence(-1.0), alpha_generator(-1.0)),
    "alpha 2": (alpha_divergence(2.0), alpha_generator(2.0)),
}
every_divergence = pytest.mark.parametrize("name", GENERATORS)


@every_divergence
def test_h_is_the_derivative_of_f(name):
    """h(x) = f'(e^x) - f'(1)."""
    h, f = GENERATORS[name]
    with jax.enable_x64(True):
        x = jnp.linspace(-3, 3, 13)
        slope = jax.vmap(jax.grad(f))
        expected = slope(jnp.exp(x)) - slope(jnp.ones(13))
        np.testing.assert_allclose(h(x), expected, rtol=1e-10, atol=1e-12)


def test_values_match_hand_calculation():
    """x = log 4: 4 likelier; 1 - 1/4; log(2 * 4/5); (1 - 1/2) / 0.5; (1 - 1/16) / 2."""
    x = jnp.log(jnp.float32(4))
    for h, expected in [
        (reverse_kl, math.log(4)),
        (forward_kl, 0.75),
        (jensen_shannon, math.log(1.6)),
        (alpha_divergence(0.5), 1),
        (alpha_divergence(2.0), 15 / 32),
    ]:
        np.testing.assert_allclose(h(x), expected, rtol=1e-6)


def test_exponents_are_clamped_at_80():
    """At -80 and far below: -e^80 and no gradient; float32 ends at e^88.7."""
    for h in (forward_kl, alpha_divergence(1.0), alpha_divergence(2.0)):
        value, slope = jax.value_and_grad(h)(jnp.float32(-1e4))
        assert slope == 0
        assert value < -1e34
        assert np.isfinite(value)
    np.testing.assert_allclose(forward_kl(jnp.float32(-1e4)), -math.exp(80), rtol=1e-5)
    # Just before: the slope is e^-x.
    slope = jax.grad(forward_kl)(jnp.float32(-79))
    np.testing.assert_allclose(slope, math.exp(79), rtol=1e-5)


def test_alpha_divergences_lie_between_the_two_kls():
    x = jnp.linspace(-2, 2, 9)
    np.testing.assert_array_equal(alpha_divergence(0.0)(x), reverse_kl(x))
    np.testing.assert_array_equal(alpha_divergence(1.0)(x), forward_kl(x))
    # 1e-4 x^2 / 2 off at most; expm1 keeps the digits.
    np.testing.assert_allclose(alpha_divergence(1e-4)(x), x, atol=2.1e-4)


def test_equal_alphas_are_compiled_once():
    """As static arguments; another alpha is another program."""
    compiled = []

    @functools.partial(jax.jit, static_argnames="divergence")
    def loss(pair, divergence):
        compiled.append(divergence)
        return dpo(pair, pair, beta=0.1, divergence=divergence)

    for alpha in (0.5, 0.5, 0.25, np.float64(0.25)):
        loss(Pair(jnp.zeros(2), jnp.ones(2)), alpha_divergence(alpha))
    assert compiled == [alpha_divergence(0.5), alpha_divergence(0.25)]


def test_alpha_is_a_python_number():
    """Beneath the annotation, which the tests check too."""
    unchecked = inspect.unwrap(alpha_divergence)
    with pytest.raises(ValueError, match="alpha must be a Python number, got a Array"):
        unchecked(jnp.float32(0.5))
    with pytest.raises(ValueError, match="compile once for each alpha"):
        jax.jit(lambda alpha: unchecked(alpha)(jnp.zeros(2)))(0.5)


def test_names_are_those_of_the_functions():
    functions = (reverse_kl, forward_kl, jensen_shannon)
    assert {h.__name__: h for h in functions} == DIVERGENCES


@every_divergence
def test_small_log_ratios_keep_their_digits(name):
    """h(x) = h'(0) x (1 + O(x)), at 1e-6 in float32; 1/2 x for Jensen-Shannon, which is
    the difference of two numbers near log 2."""
    h, _ = GENERATORS[name]
    is_difference = name == "jensen_shannon"
    expected, tolerance = (5e-7, 1e-7) if is_difference else (1e-6, 1e-11)
    np.testing.assert_allclose(h(jnp.float32(1e-6)), expected, atol=tolerance)
