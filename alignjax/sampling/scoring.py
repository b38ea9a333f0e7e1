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
from alignjax.losses import token_logprobs
from alignjax.models.attention import Visibility
from alignjax.models.decoder import Model, Params


def row_logprobs(
    model: Model, params: Params, batch: Rows
) -> tuple[Float[Array, "row score"], Float[Array, "row time embed"]]:
    """Log p of each scored token in nats (0 where padded), and all hidden states."""
    group, branch = jnp.asarray(batch.group), jnp.asarray(batch.branch)
    visibility = Visibility(group, branch, batch.blocks)
    output = model.apply(params, batch.tokens, batch.positions, visibility)
    scored = jnp.maximum(batch.scored, 0)
    source = jnp.take_along_axis(batch.source, scored, axis=1)
    predicting = jnp.take_along_axis(output.hidden, source[:, :, None], axis=1)
    target = jnp.take_along_axis(batch.tokens, scored, axis=1)
    logprobs = token_logprobs(
        predicting,
        model.output_head(params),
        jnp.where(batch.scored >= 0, target, -1),
        softcap=model.softcap,
    )
    return logprobs, output.hidden


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
    found: list[dict[int, np.ndarray]] = [{} for _ in examples]
    done = 0
    for batch in plan.in_order(examples, shape):
        arrays = rows.build(batch, examples, shape)
        logprobs = np.asarray(_score_batch(params, arrays, model=model))
        for row in range(len(batch)):
            for seq in np.flatnonzero(arrays.example[row] >= 0):
                mine = (arrays.sequence[row] == seq) & (arrays.scored[row] >= 0)
                index, rank = arrays.example[row, seq], arrays.rank[row, seq]
                found[index][int(rank)] = logprobs[row, mine]
        done += sum(map(len, batch))
        progress(done)
    return [tuple(ranks[i] for i in sorted(ranks)) for ranks in found]
