# SPDX-License-Identifier: Apache-2.0
"""Log-probabilities of given answers, many per prompt, the prompt computed once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from alignjax.data import plan, rows
from alignjax.data.rows import Rows, Shape, Tokens
from alignjax.losses import TokenStatistics, token_logprobs, token_statistics
from alignjax.models.attention import Visibility
from alignjax.models.decoder import Model, Params


def row_logprobs(
    model: Model, params: Params, batch: Rows
) -> tuple[Float[Array, "row score"], Float[Array, "row time embed"]]:
    """Log p of each scored token in nats (0 where padded), and all hidden states."""
    hidden, predicting, targets = _predicting(model, params, batch)
    head = model.output_head(params)
    return token_logprobs(predicting, head, targets, softcap=model.softcap), hidden


def row_statistics(
    model: Model, params: Params, batch: Rows
) -> tuple[TokenStatistics, Float[Array, "row time embed"]]:
    """The same with what else is known of each scored token."""
    hidden, predicting, targets = _predicting(model, params, batch)
    head = model.output_head(params)
    return token_statistics(predicting, head, targets, softcap=model.softcap), hidden


def _predicting(
    model: Model, params: Params, batch: Rows
) -> tuple[Array, Array, Array]:
    """All hidden states; for each scored token the one that predicts it, and its id
    (-1 where padded)."""
    group, branch = jnp.asarray(batch.group), jnp.asarray(batch.branch)
    visibility = Visibility(group, branch, batch.blocks)
    hidden = model.apply(params, batch.tokens, batch.positions, visibility).hidden
    scored = jnp.maximum(batch.scored, 0)
    source = jnp.take_along_axis(batch.source, scored, axis=1)
    predicting = jnp.take_along_axis(hidden, source[:, :, None], axis=1)
    target = jnp.take_along_axis(batch.tokens, scored, axis=1)
    return hidden, predicting, jnp.where(batch.scored >= 0, target, -1)


@partial(jax.jit, static_argnames=("model",))
def _score_batch(params: Params, batch: Rows, *, model: Model):
    return row_logprobs(model, params, batch)[0]


def score(
    model: Model,
    params: Params,
    examples: Sequence[Tokens],
    shape: Shape,
    *,
    progress: Callable[[int], None] = lambda done: None,
) -> list[tuple[np.ndarray, ...]]:
    """Log-probability of every response token.

    Args:
      examples: prompts with their responses.
      shape: of the batches; every example must fit an empty row.
      progress: called with the number of examples done so far.

    Returns:
      For each example, for each of its responses, log p of its tokens in nats.
    """
    found: list[list[np.ndarray]] = [[] for _ in examples]
    done = 0
    for batch in plan.in_order(examples, shape):
        arrays = rows.build(batch, examples, shape)
        logprobs = np.asarray(_score_batch(params, arrays, model=model))
        for row in range(len(batch)):
            for seq in np.flatnonzero(arrays.example[row] >= 0):
                mine = (arrays.sequence[row] == seq) & (arrays.scored[row] >= 0)
                found[arrays.example[row, seq]].append(logprobs[row, mine])
        done += sum(map(len, batch))
        progress(done)
    return [tuple(responses) for responses in found]
