# SPDX-License-Identifier: Apache-2.0
"""Objectives: from a model and a batch to named terms. The seam between losses and
training: a loss knows arrays, an objective knows where in the rows they stand."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike, DTypeLike
from jaxtyping import Array, Bool, Float

from alignjax import losses
from alignjax.data.rows import Rows
from alignjax.losses import Loss, Pair, Views
from alignjax.models.decoder import Model, Params
from alignjax.sampling.scoring import row_logprobs, row_statistics
from alignjax.train import scores


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


# (model, params, batch) -> Outcome
ObjectiveFunction = Callable[[Model, Params, Rows], Outcome]


class Part(NamedTuple):
    """One of the losses that `preference` adds up: `options` are its keywords."""

    name: str
    loss: Loss
    options: Mapping[str, Any]
    coefficient: float


def sft(model: Model, params: Params, batch: Rows) -> Outcome:
    """Supervised fine-tuning: mean negative log-likelihood over the chosen tokens of
    the batch, each weighted as its example is; `losses.sft` takes each response's."""
    logprobs, _ = row_logprobs(model, params, batch)
    term = _chosen_nll(logprobs, batch)
    return Outcome({"nll": term}, {"chosen_logprob": _chosen_logprob(logprobs, batch)})


def preference(
    model: Model,
    params: Params,
    batch: Rows,
    *,
    parts: Sequence[Part],
    nll: float,
    length_alpha: float,
    is_weighted: bool,
) -> Outcome:
    """Losses of pairs and of rankings, plus `nll` times the chosen answer's NLL (RPO,
    Pang et al. 2024, arXiv:2404.19733, eq. 2).

    A loss of pairs sees an example of weight w with k negatives as k pairs of weight
    w / k, as Self-Contrast trains them (arXiv:2404.00604); a loss of rankings sees one
    ranking of weight w. In a coupled loss every pair counts the same. The NLL is a mean
    over the chosen tokens of the batch, as in TRL; RPO's own takes each answer's mean.

    Args:
      parts: the losses; the metrics' reward is the first one's.
      nll: coefficient of the NLL; where it is 0 the NLL is a metric.
      length_alpha: of LD-DPO, see `losses.length_desensitized`; 1 = none.
      is_weighted: whether pairs carry their WPO weight, see `losses.wpo_weight`.
    """
    if is_weighted:
        statistics, _ = row_statistics(model, params, batch)
        logprobs, likeness = statistics.logprob, scores.pair_likeness(statistics, batch)
    else:
        logprobs, likeness = row_logprobs(model, params, batch)[0], 1.0
    given = {"policy": logprobs, "reference": jnp.asarray(batch.reference)}
    sums = {name: scores.responses(values, batch) for name, values in given.items()}
    whole = {name: scores.pairs(found.total, batch) for name, found in sums.items()}
    inputs = dict(whole)
    if length_alpha != 1:
        for name, values in given.items():
            inputs[name] = scores.length_desensitized_pairs(
                values, batch, alpha=length_alpha
            )
    inputs["tokens"] = scores.pairs(sums["policy"].tokens, batch)
    weight = batch.pair_weight.reshape(-1)

    def over_pairs(value: Float[Array, " pair"]) -> Term:
        total = jnp.where(weight > 0, weight * value, 0).sum()
        return Term(total, weight.sum(dtype=total.dtype))

    terms = {}
    for name, loss, options, coefficient in parts:
        if loss.scores == "ranking":
            value = _over_rankings(loss, options, sums, batch)
        else:
            read = [inputs[each] for each in loss.inputs]
            if loss.coupled:
                each = loss.function(*read, **options, mask=jnp.asarray(weight > 0))
                value = Term(each.sum(), (weight > 0).sum(dtype=each.dtype))
            else:
                value = over_pairs(likeness * loss.function(*read, **options))
        terms[name] = value._replace(coefficient=coefficient)
    reward = _rewards(parts[0], inputs)
    is_right = (reward.chosen > reward.rejected).astype(reward.chosen.dtype)
    metrics = {
        "margin": over_pairs(reward.chosen - reward.rejected),
        "accuracy": over_pairs(is_right),
        "chosen_logprob": over_pairs(whole["policy"].chosen),
        "rejected_logprob": over_pairs(whole["policy"].rejected),
    }
    if is_weighted:
        metrics["likeness"] = over_pairs(jnp.asarray(likeness))
    (terms if nll else metrics)["nll"] = _chosen_nll(logprobs, batch)._replace(
        coefficient=nll
    )
    return Outcome(terms, metrics)


def kto(
    model: Model,
    params: Params,
    batch: Rows,
    *,
    options: Mapping[str, float],
    nll: float,
) -> Outcome:
    """KTO, Ethayarajh et al. 2024 (arXiv:2402.01306): chosen answers are desirable,
    negatives undesirable, each by itself with its example's weight.

    Answers to other prompts (`plan.with_mismatched`) give the baseline, over the whole
    batch.
    """
    logprobs, _ = row_logprobs(model, params, batch)
    policy = scores.responses(logprobs, batch).total
    reference = scores.responses(jnp.asarray(batch.reference), batch).total
    is_mismatched = jnp.asarray((batch.rank < 0) & (batch.example >= 0))
    baseline = losses.kto_baseline(policy, reference, is_mismatched)
    loss = losses.kto(
        policy, reference, jnp.asarray(batch.rank == 0), baseline, **options
    )
    weight = jnp.where(is_mismatched, 0, batch.weight)
    reward = options["beta"] * (policy - reference)

    def over(value: Float[Array, "row seq"], among: ArrayLike = True) -> Term:
        own = jnp.where(among, weight, 0)
        return Term(jnp.where(own > 0, own * value, 0).sum(), own.sum())

    terms = {"kto": over(loss)}
    metrics = {
        "chosen_reward": over(reward, batch.rank == 0),
        "rejected_reward": over(reward, batch.rank > 0),
        "baseline": Term(baseline, jnp.ones_like(baseline)),
        "chosen_logprob": over(policy, batch.rank == 0),
    }
    (terms if nll else metrics)["nll"] = _chosen_nll(logprobs, batch)._replace(
        coefficient=nll
    )
    return Outcome(terms, metrics)


def contrastive(
    model: Model,
    params: Params,
    batch: Rows,
    *,
    temperature: float,
    bound: float,
    pooling: str,
    negatives: str,
) -> Outcome:
    """CoIN (Yan et al. 2024, arXiv:2402.11138), as its released code computes it.

    Examples come in couples (i, j): the same instruction over two instances, each in
    its original and in a paraphrased wording. A couple is one row of four groups in
    the order of `records.ROLES` (original i, paraphrase i, original j, paraphrase j),
    with the answer as branch 1. The loss is the sum of both wordings' NLL plus
    min(bound, L_gen / L_ctr) times the contrastive term, in which every couple counts
    the same.

    Args:
      pooling: see `losses.pool`. "last" is the state of the answer's end of turn; the
        released code trains without one.
      negatives: "hard", the other instance of the couple, or "in_batch", all others of
        the batch as well.
    """
    logprobs, hidden = row_logprobs(model, params, batch)
    is_couple = jnp.all(batch.example[:, :4] >= 0, axis=1)
    is_member = batch.group[:, None, :] == jnp.arange(1, 5)[:, None]
    pool = jax.vmap(partial(losses.pool, hidden, how=pooling), 1, 1)
    pooled = pool(jnp.asarray(is_member))
    if negatives == "hard":
        loss = losses.coin(
            Views(original=pooled[:, 0], paraphrase=pooled[:, 1]),
            negative=Views(original=pooled[:, 2], paraphrase=pooled[:, 3]),
            temperature=temperature,
            mask=is_couple,
        )
        contrast = Term(loss.sum(), is_couple.sum(dtype=loss.dtype))
    else:
        views = Views(*(_flat(pooled[:, side::2]) for side in (0, 1)))
        is_valid = jnp.repeat(is_couple, 2)
        loss = losses.info_nce(views, temperature=temperature, mask=is_valid)
        contrast = Term(loss.sum(), is_valid.sum(dtype=loss.dtype))
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


def _flat(states: Float[Array, "row two embed"]) -> Float[Array, "both embed"]:
    return states.reshape(-1, states.shape[-1])


def _mean(term: Term) -> Float[Array, ""]:
    return jnp.where(term.weight > 0, term.sum / jnp.maximum(term.weight, 1e-30), 0.0)


def _over_rankings(
    loss: Loss,
    options: Mapping[str, Any],
    sums: Mapping[str, losses.Sequences],
    batch: Rows,
) -> Term:
    policy, reference = (
        scores.rankings(sums[name].total, batch) for name in ("policy", "reference")
    )
    value = loss.function(policy.scores, reference.scores, mask=policy.mask, **options)
    weight = policy.weight
    return Term(jnp.where(weight > 0, weight * value, 0).sum(), weight.sum())


def _rewards(part: Part, inputs: Mapping[str, Pair]) -> Pair:
    """What the metrics call reward: beta * log-ratio, summed over the response; without
    a reference beta * log-probability, a token's mean where the loss reads that."""
    policy, beta = inputs["policy"], part.options.get("beta", 1.0)
    if part.loss.reference:
        return losses.implicit_rewards(policy, inputs["reference"], beta=beta)
    if "tokens" in part.loss.inputs:
        policy = losses.per_token(policy, inputs["tokens"])
    return Pair(beta * policy.chosen, beta * policy.rejected)


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
    sums = scores.responses(logprobs, batch).total
    return Term(jnp.where(weight > 0, weight * sums, 0).sum(), weight.sum())


def _chosen_weight(batch: Rows, dtype: DTypeLike) -> Float[Array, "row seq"]:
    """The example's weight where a response is the chosen one; 0 elsewhere."""
    is_chosen = (batch.rank == 0) & (batch.example >= 0)
    return jnp.where(is_chosen, batch.weight, 0).astype(dtype)
