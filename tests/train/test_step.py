# SPDX-License-Identifier: Apache-2.0
"""The step: accumulation is exact, the loss falls, and only what is trained changes."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import tiny_models
from alignjax.data import rows
from alignjax.data.rows import Rows, Shape, Tokens
from alignjax.models import Model, Params, decoder, lora
from alignjax.train import find
from alignjax.train.step import Follow, Step, TrainState, make_train_step

CONFIG = tiny_models.wide_decoder()
SHAPE = Shape(rows=4, time=40, blocks=6, block=16, scored=30)
# Rows of unequal weight: 3 pairs and 14 chosen tokens, 1 and 2, none, 2 and 3.
ROWS = [[0, 1], [2], [], [3, 4]]
EXAMPLES = [
    Tokens("a", (1, 2, 3), ((4, 5, 6, 7, 8, 9, 10), (11,), (12, 13)), weight=2.0),
    Tokens("b", (14,), ((15, 16, 17, 18, 19, 20, 21), (22, 23))),
    Tokens("c", (24, 25), ((26, 27), (28, 29, 30))),
    Tokens("d", (31, 32), ((33,), (34,)), weight=0.25),
    Tokens("e", (35,), ((36, 37), (38, 39, 40))),
]


class Kept(NamedTuple):
    """An optimizer state that is the gradient it was last given."""

    gradient: Params


def keeper() -> optax.GradientTransformation:
    """Changes nothing; keeps the gradient for the test to look at."""

    def init(params):
        return Kept(jax.tree.map(jnp.zeros_like, params))

    def update(updates, state, params=None):
        return jax.tree.map(jnp.zeros_like, updates), Kept(updates)

    return optax.GradientTransformation(init, update)


@pytest.fixture(scope="module")
def base(random_params) -> tuple[Model, Params]:
    return decoder.build(CONFIG), random_params(CONFIG)


def batch(microbatches: int) -> Rows:
    built = rows.build(ROWS, EXAMPLES, SHAPE)
    values = [
        tuple(np.full(len(r), -3.0 - i, np.float32) for i, r in enumerate(e.responses))
        for e in EXAMPLES
    ]
    built = rows.with_reference(built, values)
    size = SHAPE.rows // microbatches
    return jax.tree.map(lambda x: x.reshape(microbatches, size, *x.shape[1:]), built)


@pytest.fixture(scope="module")
def run(base):
    """(objective, microbatches, parameters) -> (metrics, gradient); each step is
    compiled once."""
    model, params = base
    optimizer = keeper()

    @functools.cache
    def compiled(name: str) -> Step:
        objective = find(name, {"nll": 0.5, "beta": 0.3} if name == "dpo" else {})
        join = lambda trainable, frozen: trainable  # noqa: E731
        return make_train_step(objective.function, optimizer, model, join=join)

    def call(
        name: str, arrays: Rows, at: Params = params
    ) -> tuple[dict[str, float], Params]:
        own = jax.tree.map(jnp.array, at)  # the step donates its state
        state = TrainState(jnp.zeros((), jnp.int32), own, optimizer.init(own))
        state, metrics = compiled(name)(state, {}, arrays)
        assert int(state.step) == 1
        return {k: float(v) for k, v in metrics.items()}, state.optimizer.gradient

    return call


@pytest.mark.parametrize(("name", "counts"), [("sft", (4,)), ("dpo", (2, 4))])
def test_microbatches_change_neither_loss_nor_gradient(run, name, counts):
    """Rows hold unequal numbers of pairs and tokens: a mean of means would differ."""
    expected, gradient = run(name, batch(1))
    assert expected["grad_norm"] > 0.01
    for microbatches in counts:
        metrics, other = run(name, batch(microbatches))
        for key, value in expected.items():
            assert metrics[key] == pytest.approx(value, rel=1e-6, abs=1e-6), key
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6),
            gradient,
            other,
        )


def test_the_loss_is_the_sum_of_its_terms(run):
    metrics, gradient = run("dpo", batch(2))
    expected = metrics["dpo"] + 0.5 * metrics["nll"]
    assert metrics["loss"] == pytest.approx(expected, rel=1e-6)
    square = sum(float((leaf**2).sum()) for leaf in jax.tree.leaves(gradient))
    assert metrics["grad_norm"] == pytest.approx(square**0.5, rel=1e-5)


def test_the_gradient_is_that_of_the_loss(run, base):
    """Central difference along the gradient itself: d loss / d t = |gradient|^2."""
    _, params = base
    metrics, gradient = run("dpo", batch(2))
    size = 1e-2 / metrics["grad_norm"]

    def moved(sign: float) -> float:
        shifted = jax.tree.map(lambda p, g: p + sign * size * g, params, gradient)
        return run("dpo", batch(2), shifted)[0]["loss"]

    slope = (moved(1) - moved(-1)) / (2 * size)
    assert slope == pytest.approx(metrics["grad_norm"] ** 2, rel=1e-2)


def test_an_empty_batch_has_loss_0_and_no_gradient(run):
    empty = rows.build([], EXAMPLES, SHAPE)
    metrics, _ = run("dpo", jax.tree.map(lambda x: x[None], empty))
    assert metrics["loss"] == metrics["grad_norm"] == 0


def test_two_runs_are_bitwise_equal(run):
    first, gradient = run("dpo", batch(2))
    second, again = run("dpo", batch(2))
    assert first == second
    jax.tree.map(np.testing.assert_array_equal, gradient, again)


def test_sft_loss_falls_and_only_the_adapter_changes(base):
    """Ten steps on one batch. The base is frozen, so it is the same to the bit."""
    _, params = base
    adapted, config = lora.add(params, CONFIG, rank=4, alpha=8.0, key=jax.random.key(0))
    trainable, frozen = lora.split(adapted)
    before = jax.tree.map(np.array, (trainable, frozen))
    objective = find("sft")
    optimizer = optax.adamw(1e-2)
    step = make_train_step(
        objective.function,
        optimizer,
        decoder.build(config),
        join=lora.join,
    )
    state = TrainState(jnp.zeros((), jnp.int32), trainable, optimizer.init(trainable))
    losses = []
    for _ in range(10):
        state, metrics = step(state, frozen, batch(2))
        losses.append(float(metrics["loss"]))
    assert losses[-1] < 0.7 * losses[0]
    assert losses == sorted(losses, reverse=True)
    assert int(state.step) == 10
    jax.tree.map(np.testing.assert_array_equal, before[1], frozen)
    for old, new in zip(
        jax.tree.leaves(before[0]), jax.tree.leaves(state.trainable), strict=True
    ):
        assert not np.array_equal(old, new)


def test_a_moving_reference_follows_every_second_step(base):
    """alpha = 0.25: unchanged after step 1, (3 reference + policy) / 4 after step 2.
    The margin is 0 before any update; the batch's own reference is not read."""
    model, params = base
    optimizer = optax.sgd(0.1)
    step = make_train_step(
        find("dpo").function,
        optimizer,
        model,
        join=lambda trainable, frozen: trainable,
        follow=Follow(every=2, alpha=0.25),
    )
    start = jax.tree.map(np.array, params)
    own, copy = (jax.tree.map(jnp.array, params) for _ in range(2))
    state = TrainState(jnp.zeros((), jnp.int32), own, optimizer.init(own), copy)
    state, first = step(state, {}, batch(2))
    assert float(first["margin"]) == 0
    assert float(first["dpo"]) == pytest.approx(np.log(2), rel=1e-6)
    jax.tree.map(np.testing.assert_array_equal, start, state.reference)
    state, second = step(state, {}, batch(2))
    assert float(second["margin"]) > 0
    jax.tree.map(
        lambda old, new, found: np.testing.assert_allclose(
            found, 0.75 * old + 0.25 * new, rtol=1e-6, atol=1e-7
        ),
        start,
        state.trainable,
        state.reference,
    )


def test_a_reference_that_follows_at_once_is_the_policy(base):
    """every = 1, alpha = 1: each step starts at margin 0."""
    model, params = base
    optimizer = optax.sgd(0.1)
    step = make_train_step(
        find("ipo").function,
        optimizer,
        model,
        join=lambda trainable, frozen: trainable,
        follow=Follow(every=1, alpha=1.0),
    )
    own, copy = (jax.tree.map(jnp.array, params) for _ in range(2))
    state = TrainState(jnp.zeros((), jnp.int32), own, optimizer.init(own), copy)
    for _ in range(3):
        state, metrics = step(state, {}, batch(1))
        assert float(metrics["margin"]) == 0
        assert float(metrics["ipo"]) == pytest.approx(25, rel=1e-6)  # 1 / (4 * 0.1^2)
