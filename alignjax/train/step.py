# SPDX-License-Identifier: Apache-2.0
"""One training step: a pure, jitted function of (state, frozen parameters, batch)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from alignjax.data.rows import Rows
from alignjax.models.decoder import Model, Params
from alignjax.sampling.scoring import row_logprobs
from alignjax.train.objectives import ObjectiveFunction, Outcome, Term


class TrainState(NamedTuple):
    """All that a step changes: step counts updates done, from 0. `reference` is what
    the reference has in place of `trainable`, where it moves."""

    step: Int[Array, ""]
    trainable: Params
    optimizer: Any
    reference: Params | None = None


class Follow(NamedTuple):
    """TR-DPO's soft update, Gorbatovski et al. 2024, eq. 4 (arXiv:2404.09656): every
    `every` steps, reference <- alpha * policy + (1 - alpha) * reference."""

    every: int
    alpha: float


Join = Callable[[Params, Params], Params]
Step = Callable[[TrainState, Params, Rows], tuple[TrainState, dict[str, Array]]]


def make_train_step(
    objective: ObjectiveFunction,
    optimizer: optax.GradientTransformation,
    model: Model,
    *,
    join: Join,
    follow: Follow | None = None,
) -> Step:
    """Makes the jitted step.

    The batch's arrays carry a leading microbatch axis. Gradients are accumulated over
    it, each term divided by its weight over the whole batch: the same number as from
    one large batch.

    Args:
      join: (trainable, frozen) -> the parameters that the model takes.
      follow: how the reference moves; None = it does not, and its log-probabilities
        come with the batch.

    Returns:
      step(state, frozen, batch) -> (new state, metrics): the loss, each term, each
      metric, and the norm of the gradient. The old state's buffers are donated.
    """
    compute = partial(objective, model)

    def total_weights(params: Params, batch: Rows) -> dict[str, Array]:
        """Weights depend on the batch alone, so the compiler drops the forward pass."""

        def add(total, micro):
            outcome = compute(params, micro)
            return jax.tree.map(jnp.add, total, _weights(outcome)), None

        shapes = jax.eval_shape(compute, params, jax.tree.map(lambda x: x[0], batch))
        zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), _weights(shapes))
        return jax.lax.scan(add, zeros, batch)[0]

    def with_reference(state, frozen, micro):
        if follow is None:
            return micro
        logprobs, _ = row_logprobs(model, join(state.reference, frozen), micro)
        return micro._replace(reference=jax.lax.stop_gradient(logprobs))

    def moved(reference, trainable, count):
        if follow is None:
            return None
        is_due = count % follow.every == 0
        share = jnp.where(is_due, follow.alpha, 0.0)
        return jax.tree.map(
            lambda old, new: ((1 - share) * old + share * new).astype(old.dtype),
            reference,
            trainable,
        )

    def micro_loss(trainable, frozen, micro, totals):
        outcome = compute(join(trainable, frozen), micro)
        means = {
            name: _divide(term.sum, totals[name])
            for name, term in {**outcome.terms, **outcome.metrics}.items()
        }
        loss = sum(
            term.coefficient * means[name] for name, term in outcome.terms.items()
        )
        return loss, {"loss": loss, **means}

    @partial(jax.jit, donate_argnames=("state",))
    def step(state: TrainState, frozen: Params, batch: Rows):
        totals = total_weights(join(state.trainable, frozen), batch)
        gradient_of = jax.value_and_grad(micro_loss, has_aux=True)

        def accumulate(carry, micro):
            micro = with_reference(state, frozen, micro)
            (_, metrics), gradient = gradient_of(state.trainable, frozen, micro, totals)
            return jax.tree.map(jnp.add, carry, (gradient, metrics)), None

        first = jax.tree.map(lambda x: x[0], batch)
        _, metrics = jax.eval_shape(micro_loss, state.trainable, frozen, first, totals)
        zeros = jax.tree.map(
            lambda x: jnp.zeros(x.shape, x.dtype), (state.trainable, metrics)
        )
        (gradient, metrics), _ = jax.lax.scan(accumulate, zeros, batch)
        updates, optimizer_state = optimizer.update(
            gradient, state.optimizer, state.trainable
        )
        trainable = cast(Params, optax.apply_updates(state.trainable, updates))
        metrics["grad_norm"] = optax.tree.norm(gradient)
        count = state.step + 1
        reference = moved(state.reference, trainable, count)
        return TrainState(count, trainable, optimizer_state, reference), metrics

    return step


def _weights(outcome: Outcome) -> dict[str, Any]:
    both: dict[str, Term] = {**outcome.terms, **outcome.metrics}
    return {name: term.weight for name, term in both.items()}


def _divide(total: Float[Array, ""], weight: Float[Array, ""]) -> Float[Array, ""]:
    """total / weight; 0 where nothing was counted."""
    return jnp.where(weight > 0, total / jnp.where(weight > 0, weight, 1), 0.0)
