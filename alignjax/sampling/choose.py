# SPDX-License-Identifier: Apache-2.0
"""The next token of each row from its scores: penalties, biases, filters, one draw.

Sampling inverts the cumulative distribution at one uniform number per row: a Gumbel
draw would need a random number per vocabulary entry. Scores lie [vocab, row], since
the head's product and all sums over the vocabulary are faster that way.

All filters end in one number per row: how many nats below its best token a token may
lie. So they cost nothing where none is set, and a row's token does not depend on what
its neighbours ask for.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

_LANE = 64  # tokens whose scores are summed together
_BEST = 128  # best tokens that are looked at before a search in the whole vocabulary
_NO_WEIGHT = 128.0  # nats below the best; exp(-128) is 0 in float32
_FINITE = jnp.finfo(jnp.float32)


class Options(NamedTuple):
    """How each row is sampled, as in `Settings`.

    Attributes:
      temperature: 0 = greedy.
      top_k: 0 = all.
      top_p: 1 = all.
      min_p: 0 = all.
      repetition: penalty for tokens of prompt and answer; 1 = none.
      presence: penalty for tokens of the answer; 0 = none.
      bias_ids: tokens whose scores are changed; an id >= vocab is an unused place.
      bias: what is added to their scores; -inf = banned.
    """

    temperature: Float[Array, " row"]
    top_k: Int[Array, " row"]
    top_p: Float[Array, " row"]
    min_p: Float[Array, " row"]
    repetition: Float[Array, " row"]
    presence: Float[Array, " row"]
    bias_ids: Int[Array, "row bias"]
    bias: Float[Array, "row bias"]


class History(NamedTuple):
    """What each row has read and written.

    Attributes:
      tokens: prompt, then answer.
      prompt: tokens of the prompt.
      length: tokens of prompt and answer; what comes after them is not read.
    """

    tokens: Int[Array, "row context"]
    prompt: Int[Array, " row"]
    length: Int[Array, " row"]


def choose(
    scores: Float[Array, "vocab row"],
    uniform: Float[Array, " row"],
    options: Options,
    history: History,
) -> tuple[Int[Array, " row"], Float[Array, " row"]]:
    """Chooses a token per row.

    In this order: repetition penalty (Keskar et al. 2019, arXiv:1909.05858), presence
    penalty, biases and bans on the scores; temperature; top-k; top-p of what is left
    (Holtzman et al. 2020, arXiv:1904.09751); min-p (Nguyen et al. 2024,
    arXiv:2407.01082). Tokens that tie with the last one kept are kept. Greedy is the
    first largest score after penalties, biases and bans.

    Args:
      scores: the model's scores (logits) of the next token.
      uniform: one number in [0, 1) per row; not used where temperature is 0.
      options: how each row is sampled.
      history: tokens so far, for the penalties.

    Returns:
      The token ids (0 where every token is banned), and their log-probability under
      the scores as they came, untempered, in nats; not a number where a score is none.
    """
    scores = scores.astype(jnp.float32)
    lanes = _lanes(_adjust(scores, options, history))
    maxima = lanes.max(axis=1)
    is_greedy = options.temperature < _FINITE.tiny
    scale = _Scale(maxima.max(axis=0), jnp.where(is_greedy, 1, options.temperature))
    deepest = jnp.where(is_greedy, jnp.inf, _deepest(lanes, scale, options, is_greedy))

    # The first lane, then the first token in it, where the cumulated weight exceeds
    # the target.
    weights = _weights(scale.depth(lanes), deepest).sum(axis=1)
    cumulated = jnp.cumsum(weights, axis=0)
    total = cumulated[-1]
    lane = jnp.where(
        is_greedy,
        jnp.argmax(maxima, axis=0),
        _first(weights, cumulated > uniform * total),
    )
    inside = jnp.take_along_axis(lanes, lane[None, None], axis=0)[0]
    before = jnp.take_along_axis(cumulated - weights, lane[None], axis=0)
    weights = _weights(scale.depth(inside), deepest)
    offset = jnp.where(
        is_greedy,
        jnp.argmax(inside, axis=0),
        _first(weights, before + jnp.cumsum(weights, axis=0) > uniform * total),
    )
    token = lane * _LANE + offset

    # Where the weights are those of the untouched scores, their total serves.
    is_plain = (scale.temperature == 1) & (deepest == jnp.inf)
    is_plain &= ~jnp.any(jnp.stack(_used(options, len(scores))), axis=0)
    log_total = jnp.where(
        is_plain,
        scale.largest + jnp.log(total),
        jax.lax.cond(
            jnp.all(is_plain), lambda: jnp.zeros_like(total), lambda: _logsumexp(scores)
        ),
    )
    return token, jnp.take_along_axis(scores, token[None], axis=0)[0] - log_total


def uniforms(
    seed: Int[Array, " row"], sample: Int[Array, " row"], index: Int[Array, " row"]
) -> Float[Array, " row"]:
    """One number in [0, 1) per row, a function of (seed, sample, index) alone."""

    def one(seed, sample, index):
        key = jax.random.fold_in(jax.random.key(seed), sample)
        return jax.random.uniform(jax.random.fold_in(key, index))

    return jax.vmap(one)(seed, sample, index)


def _used(options: Options, vocab: int) -> tuple[Bool[Array, " row"], ...]:
    """Which rows have a repetition penalty, a presence penalty, biases or bans."""
    return (
        options.repetition != 1,
        options.presence != 0,
        jnp.any(options.bias_ids < vocab, axis=1),
    )


def _adjust(
    scores: Float[Array, "vocab row"], options: Options, history: History
) -> Float[Array, "vocab row"]:
    """Scores after penalties, biases and bans; they stay finite but for bans."""
    vocab = len(scores)
    place = jnp.arange(history.tokens.shape[1])
    in_text = place < history.length[:, None]
    in_answer = in_text & (place >= history.prompt[:, None])

    def repetition(old):
        penalty = jnp.maximum(options.repetition, _FINITE.tiny)[:, None]
        return _finite(jnp.where(old > 0, old / penalty, old * penalty))

    def presence(old):
        return _finite(old - options.presence[:, None])

    def bias(old):
        is_banned = options.bias == -jnp.inf
        return jnp.where(is_banned, -jnp.inf, _finite(old + options.bias))

    changes = (
        (repetition, jnp.where(in_text, history.tokens, vocab)),
        (presence, jnp.where(in_answer, history.tokens, vocab)),
        (bias, options.bias_ids),
    )
    for is_used, (change, ids) in zip(_used(options, vocab), changes, strict=True):
        scores = jax.lax.cond(
            jnp.any(is_used),
            partial(_change, ids=ids, change=change),
            lambda scores: scores,
            scores,
        )
    return scores


def _change(
    scores: Float[Array, "vocab row"],
    ids: Int[Array, "row id"],
    change: Callable[[Array], Array],
) -> Float[Array, "vocab row"]:
    """Changes the scores of the ids of each row, once each: an id that occurs twice is
    written twice with the same number. An id >= vocab is passed over."""
    rows = jnp.arange(len(ids))[:, None]
    new = change(scores.at[ids, rows].get(mode="clip"))
    return scores.at[ids, rows].set(new, mode="drop")


def _finite(scores: Array) -> Array:
    return jnp.clip(scores, _FINITE.min, _FINITE.max)


class _Scale(NamedTuple):
    """What scores are measured by: each row's largest one, and its temperature."""

    largest: Float[Array, " row"]
    temperature: Float[Array, " row"]

    def depth(self, scores: Array) -> Array:
        """Nats below the best token, after temperature; >= 0."""
        # Where all tokens are banned, the largest score is -inf.
        largest = jnp.maximum(self.largest, _FINITE.min)
        return (largest - scores) / self.temperature


def _weights(depth: Array, deepest: Array) -> Array:
    """What tokens weigh beside the best one; nothing where a filter drops them."""
    # In this order a score that is not a number stays one and shows in the result.
    return jnp.where(depth > deepest, 0.0, jnp.exp(-depth))


def _deepest(
    lanes: Float[Array, "lane token row"],
    scale: _Scale,
    options: Options,
    is_greedy: Bool[Array, " row"],
) -> Float[Array, " row"]:
    """Depth down to which all filters keep the tokens."""
    top_k = jnp.where(is_greedy, 0, options.top_k)
    top_p = jnp.where(is_greedy, 1.0, options.top_p)
    deepest = jax.lax.cond(
        jnp.any((top_k > 0) | (top_p < 1)),
        lambda: _top(lanes, scale, top_k, top_p),
        lambda: jnp.full_like(top_p, jnp.inf),
    )
    return jnp.minimum(deepest, -jnp.log(options.min_p))


def _top(
    lanes: Float[Array, "lane token row"],
    scale: _Scale,
    top_k: Int[Array, " row"],
    top_p: Float[Array, " row"],
) -> Float[Array, " row"]:
    """Depth down to which top-k and then top-p keep the tokens: found among the best
    tokens where it lies among them, else by a search. Which of the two a row takes
    depends on that row alone."""
    has_k, has_p = top_k > 0, top_p < 1
    best = scale.depth(_best(lanes))
    place = jnp.clip(top_k - 1, 0, len(best) - 1)
    k = jnp.where(has_k, _at(best, place), jnp.inf)
    weights = _weights(best, k)
    wanted = top_p * jnp.where(
        has_k,
        weights.sum(axis=0),
        jax.lax.cond(
            jnp.any(has_p & ~has_k),
            lambda: jnp.exp(-scale.depth(lanes)).sum(axis=(0, 1)),
            lambda: jnp.zeros_like(top_p),
        ),
    )
    is_enough = jnp.cumsum(weights, axis=0) >= wanted
    p = _at(best, jnp.argmax(is_enough, axis=0))
    # Tokens that tie with the k-th count for top-p: all must be among the best.
    is_found = jnp.where(
        has_k, (top_k <= len(best)) & (k < best[-1]), ~has_p | is_enough[-1]
    )

    def search():
        depth = scale.depth(lanes).reshape(-1, lanes.shape[-1])
        low = _bits(best[-1]) - 1
        k = _search(
            lambda t: jnp.where(depth <= t, 1.0, 0.0).sum(axis=0) >= top_k,
            low,
            ~is_found & has_k,
        )
        k = jnp.where(has_k, k, jnp.inf)
        wanted = top_p * _weights(depth, k).sum(axis=0)
        p = _search(
            lambda t: _weights(depth, jnp.minimum(t, k)).sum(axis=0) >= wanted,
            jnp.where(has_k, -1, low),
            ~is_found & has_p,
        )
        return jnp.where(has_p, jnp.minimum(p, k), k)

    found = jnp.where(has_p, p, k)
    searched = jax.lax.cond(jnp.all(is_found), lambda: found, search)
    return jnp.where(is_found, found, searched)


def _best(lanes: Float[Array, "lane token row"]) -> Float[Array, "best row"]:
    """The best scores, descending. They lie in the lanes with the largest maxima."""
    lane, _, row = lanes.shape
    _, chosen = jax.lax.top_k(lanes.max(axis=1).T, min(_BEST, lane))
    candidates = jnp.take_along_axis(lanes, chosen.T[:, None], axis=0)
    candidates = candidates.reshape(-1, row).T
    best, _ = jax.lax.top_k(candidates, min(_BEST, candidates.shape[1]))
    # XLA's fast top-k on CPUs is lost to a sort if further slices merge with its own.
    return jax.lax.optimization_barrier(best).T


def _search(
    is_enough: Callable[[Array], Array],
    low: Int[Array, " row"],
    is_wanted: Bool[Array, " row"],
) -> Float[Array, " row"]:
    """Smallest depth that is enough, exactly: bisects the bits of floats >= 0, which,
    read as integers, are in the same order. `low` holds bits that are not enough."""
    low = jnp.where(is_wanted, low, 0)
    high = jnp.where(is_wanted, _bits(jnp.float32(_NO_WEIGHT)), 0)

    def halve(interval):
        low, high = interval
        middle = high - (high - low) // 2  # `high` once the two are neighbours
        enough = is_enough(_float(middle))
        return jnp.where(enough, low, middle), jnp.where(enough, middle, high)

    _, high = jax.lax.while_loop(
        lambda interval: jnp.any(interval[1] - interval[0] > 1), halve, (low, high)
    )
    return _float(high)


def _bits(depth: Float[Array, "..."]) -> Int[Array, "..."]:
    return jax.lax.bitcast_convert_type(depth, jnp.int32)


def _float(bits: Int[Array, "..."]) -> Float[Array, "..."]:
    return jax.lax.bitcast_convert_type(bits, jnp.float32)


def _lanes(scores: Float[Array, "vocab row"]) -> Float[Array, "lane token row"]:
    vocab, row = scores.shape
    scores = jnp.pad(scores, ((0, -vocab % _LANE), (0, 0)), constant_values=-jnp.inf)
    return scores.reshape(-1, _LANE, row)


def _first(
    weights: Float[Array, "n row"], is_past: Bool[Array, "n row"]
) -> Int[Array, " row"]:
    """First entry with weight past the target; if rounding leaves none, the last entry
    with weight."""
    index = jnp.arange(len(weights))[:, None]
    first = jnp.where(is_past & (weights > 0), index, len(weights)).min(axis=0)
    return jnp.minimum(first, jnp.where(weights > 0, index, 0).max(axis=0))


def _at(values: Float[Array, "n row"], index: Int[Array, " row"]) -> Array:
    return jnp.take_along_axis(values, index[None], axis=0)[0]


def _logsumexp(scores: Float[Array, "vocab row"]) -> Float[Array, " row"]:
    largest = scores.max(axis=0)
    return largest + jnp.log(jnp.exp(scores - largest).sum(axis=0))
