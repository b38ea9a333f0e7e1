# SPDX-License-Identifier: Apache-2.0
"""Objectives: from a model and a batch to named terms. The seam between losses and
training: a loss knows arrays, an objective knows where in the rows they stand."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float

from alignjax import losses
from alignjax.data.rows import Rows
from alignjax.losses import Pair, Views
from alignjax.models.decoder import Model, Params
from alignjax.sampling.scoring import row_logprobs


class Term(NamedTuple):
    """Part of a loss, or a metric: sum / weight, times the coefficient.

    Only the training step divides, by the weight of the whole batch, so microbatches
    and devices never change the number. The weight depends on the batch alone.
    """

    sum: Float[Array, ""]
    weight: Float[Array, ""]
    coefficient: float | Float[Array, ""] = 1.0


class Outcome(NamedTuple):
    """Terms whose weighted means add up to the loss, and metrics that do not enter."""

    terms: dict[str, Term]
    metrics: dict[str, Term]


# (model, params, batch, *, the options that it reads) -> Outcome
ObjectiveFunction = Callable[..., Outcome]


def sft(model: Model, params: Params, batch: Rows) -> Outcome:
    """Supervised fine-tuning: mean negative log-likelihood of the chosen tokens, each
    weighted as its example is."""
    logprobs, _ = row_logprobs(model, params, batch)
    term = _chosen_nll(logprobs, batch)
    return Outcome({"nll": term}, {"chosen_logprob": _chosen_logprob(logprobs, batch)})


def preference(
    model: Model,
    params: Params,
    batch: Rows,
    *,
    beta: float,
    label_smoothing: float,
    nll: float,
) -> Outcome:
    """DPO over every (chosen, negative) pair, plus `nll` times the chosen answer's NLL
    (the mix of Pang et al. 2024, arXiv:2404.19733, eq. 2).

    An example of weight w with k negatives counts as k pairs of weight w / k, as
    Self-Contrast trains them (arXiv:2404.00604).
    """
    logprobs, _ = row_logprobs(model, params, batch)
    policy = _pairs(_by_response(logprobs, batch), batch)
    reference = _pairs(_by_response(jnp.asarray(batch.reference), batch), batch)
    loss = losses.dpo(policy, reference, beta=beta, label_smoothing=label_smoothing)
    reward = losses.implicit_rewards(policy, reference, beta=beta)
    weight = batch.pair_weight.reshape(-1)
    is_right = (reward.chosen > reward.rejected).astype(loss.dtype)

    def over_pairs(value: Float[Array, " pair"]) -> Term:
        return Term(jnp.where(weight > 0, weight * value, 0).sum(), weight.sum())

    terms = {"dpo": over_pairs(loss)}
    if nll:
        terms["nll"] = _chosen_nll(logprobs, batch)._replace(coefficient=nll)
    metrics = {
        "margin": over_pairs(reward.chosen - reward.rejected),
        "accuracy": over_pairs(is_right),
        "chosen_logprob": over_pairs(policy.chosen),
        "rejected_logprob": over_pairs(policy.rejected),
    }
    if not nll:
        metrics["nll"] = _chosen_nll(logprobs, batch)
    return Outcome(terms, metrics)


def contrastive(
    model: Model,
    params: Params,
    batch: Rows,
    *,
    temperature: float,
    bound: float,
) -> Outcome:
    """CoIN (Yan et al. 2024, arXiv:2402.11138), as its released code computes it.

    Examples come in couples (i, j): the same instruction over two instances, each in
    its original and in a paraphrased wording. A couple is one row of four groups in
    the order of `records.ROLES` (original i, paraphrase i, original j, paraphrase j),
    with the answer as branch 1; the pooled state is that of the answer's last token
    (its end of turn; the released code trains without one). The loss is the sum of
    both wordings' NLL plus min(bound, L_gen / L_ctr) times the contrastive term, in
    which every couple counts the same.
    """
    logprobs, hidden = row_logprobs(model, params, batch)
    is_couple = jnp.all(batch.example[:, :4] >= 0, axis=1)
    pooled = jnp.take_along_axis(hidden, batch.last[:, :4, None], axis=1)
    loss = losses.coin(
        Views(original=pooled[:, 0], paraphrase=pooled[:, 1]),
        negative=Views(original=pooled[:, 2], paraphrase=pooled[:, 3]),
        temperature=temperature,
        mask=is_couple,
    )
    contrast = Term(loss.sum(), is_couple.sum(dtype=loss.dtype))
    is_paraphrase = jnp.arange(batch.example.shape[1]) % 2 == 1
    first = _chosen_nll(logprobs, batch, ~is_paraphrase)
    second = _chosen_nll(logprobs, batch, is_paraphrase)
    generation = _mean(first) + _mean(second)
    weight = losses.coin_weight(generation, _mean(contrast), bound=bound)
    terms = {
        "nll": first,
        "nll_paraphrase": second,
        "contrastive": contrast._replace(coefficient=weight),
    }
    return Outcome(terms, {"contrastive_weight": Term(weight, jnp.ones_like(weight))})


def _mean(term: Term) -> Float[Array, ""]:
    return jnp.where(term.weight > 0, term.sum / jnp.maximum(term.weight, 1e-30), 0.0)


def _by_response(
    values: Float[Array, "row score"], batch: Rows
) -> Float[Array, "row seq"]:
    """Sums scored tokens' values into their responses."""
    is_token = batch.scored >= 0
    count = batch.example.shape[1]
    member = batch.sequence[:, :, None] == jnp.arange(count)
    mask = member & is_token[:, :, None]
    return jnp.where(mask, values[:, :, None], 0).sum(axis=1)


def _pairs(values: Float[Array, "row seq"], batch: Rows) -> Pair:
    """(chosen, rejected) values of every pair, rows one after another; (x, x) where
    padded."""
    chosen, rejected = (
        jnp.take_along_axis(values, batch.pairs[:, :, side], axis=1).reshape(-1)
        for side in (0, 1)
    )
    return Pair(chosen, rejected)


def _chosen_nll(
    logprobs: Float[Array, "row score"],
    batch: Rows,
    among: Bool[Array, " seq"] | None = None,
) -> Term:
    """Weighted NLL summed over the tokens of chosen answers, and the tokens' weight."""
    weight = _chosen_weight(batch, logprobs.dtype)
    if among is not None:
        weight = jnp.where(among, weight, 0)
    weight = jnp.take_along_axis(weight, batch.sequence, axis=1)
    weight = jnp.where(batch.scored >= 0, weight, 0)
    return Term(-jnp.where(weight > 0, weight * logprobs, 0).sum(), weight.sum())


def _chosen_logprob(logprobs: Float[Array, "row score"], batch: Rows) -> Term:
    weight = _chosen_weight(batch, logprobs.dtype)
    sums = _by_response(logprobs, batch)
    return Term(jnp.where(weight > 0, weight * sums, 0).sum(), weight.sum())


def _chosen_weight(batch: Rows, dtype: DTypeLike) -> Float[Array, "row seq"]:
    """The example's weight where a response is the chosen one; 0 elsewhere."""
    is_chosen = (batch.rank == 0) & (batch.example >= 0)
    return jnp.where(is_chosen, batch.weight, 0).astype(dtype)
