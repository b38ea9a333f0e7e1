# SPDX-License-Identifier: Apache-2.0
"""Log-probabilities of tokens from hidden states, without an array of logits."""

import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Bool, Float, Integer

# A vocabulary sharded over this many devices, or a divisor, stays where it is.
SHARDS = 16


class TokenStatistics(NamedTuple):
    """What the distribution of the next token says of each target, and of itself."""

    logprob: Float[Array, "*t"]
    entropy: Float[Array, "*t"]
    log_collision: Float[Array, "*t"]
    is_top: Bool[Array, "*t"]


def token_logprobs(
    hidden: Float[Array, "*t embed"],
    head: Float[Array, "embed vocab"],
    targets: Integer[Array, "*t"],
    *,
    softcap: float | None = None,
    temperature: float = 1.0,
    chunk_tokens: int = 512,
) -> Float[Array, "*t"]:
    """Log-probability of each target under softmax(hidden @ head).

        logits = hidden @ head;  logits = softcap * tanh(logits / softcap) if softcap
        result = (logits / temperature)[target] - logsumexp(logits / temperature)

    Logits exist for `chunk_tokens` tokens at a time. The gradient of `hidden` is found
    in the forward pass, up to the factor that arrives later, while the chunk's logits
    are there (as in Liger Kernel, Hsu et al. 2024, arXiv:2410.10989); the head's takes
    the logits again, as many of them at a time: some columns for all tokens. What is
    not asked for costs nothing: under jit XLA removes it. Products are accumulated and
    everything after them is computed in float32, or float64 if an input is float64.

    A chunk takes every n-th token, not n neighbours, so that tokens sharded along their
    leading axis stay where they are; `chunk_tokens` then counts all devices' tokens. A
    vocabulary sharded over a divisor of 16 devices stays where it is, too.

    Args:
      hidden: output of the model's final norm at the position that predicts the target.
      head: output projection; a tied embedding matrix, transposed.
      targets: token ids. An id outside [0, vocab), such as the padding marker -1, gives
        0 and a zero gradient, whatever `hidden` holds there.
      softcap: bound on the absolute logits, > 0 (Gemma 2, arXiv:2408.00118, section 2).
      temperature: divides the capped logits; > 0.
      chunk_tokens: tokens whose logits are held at once; sets memory, not the result.

    Returns:
      Log-probabilities in nats, <= 0; -log(vocab) where the logits are all equal.

    >>> head = jnp.array([[0.0, 1.0]])
    >>> logprobs = token_logprobs(jnp.ones((2, 1)), head, jnp.array([1, -1]))
    >>> print(f"{logprobs[0]:.4f} {logprobs[1]:.4f}")  # log sigmoid(1), padding
    -0.3133 0.0000
    """
    return token_statistics(
        hidden,
        head,
        targets,
        softcap=softcap,
        temperature=temperature,
        chunk_tokens=chunk_tokens,
    ).logprob


def token_statistics(
    hidden: Float[Array, "*t embed"],
    head: Float[Array, "embed vocab"],
    targets: Integer[Array, "*t"],
    *,
    softcap: float | None = None,
    temperature: float = 1.0,
    chunk_tokens: int = 512,
) -> TokenStatistics:
    """`token_logprobs`, and what else the same logits tell, in the same pass.

        p = softmax(logits / temperature), logits as in `token_logprobs`
        logprob = log p(target)
        entropy = -sum_v p(v) log p(v)
        log_collision = log sum_v p(v)^2
        is_top = p(target) = max_v p(v)

    `log_collision`, minus the Renyi entropy of order 2, is for `wpo_weight`. Gradients
    go through `logprob` alone: the others have none. Under jit an output that is not
    used is not computed.

    Args:
      hidden, head, targets, softcap, temperature, chunk_tokens: as `token_logprobs`.

    Returns:
      logprob: in nats, <= 0.
      entropy: in nats, in [0, log(vocab)].
      log_collision: in nats, in [-log(vocab), 0]; at least -entropy.
      is_top: whether no token is likelier than the target.
      A target outside the vocabulary gives 0, 0, 0 and false.

    >>> head = jnp.log(jnp.array([[0.5, 0.25, 0.25]]))
    >>> found = token_statistics(jnp.ones((1, 1)), head, jnp.array([1]))
    >>> print(f"{found.logprob[0]:.4f} {found.entropy[0]:.4f}")  # -log 4, 1.5 log 2
    -1.3863 1.0397
    >>> print(f"{found.log_collision[0]:.4f} {found.is_top[0]}")  # log 3/8
    -0.9808 False
    """
    _check("token_statistics", softcap, temperature, chunk_tokens)
    # As int32 first: a vocabulary's size wraps around in the narrow types of ids.
    targets = jnp.asarray(targets).astype(jnp.int32)
    is_valid = (targets >= 0) & (targets < head.shape[-1])
    ids = jnp.where(is_valid, targets, 0)
    hidden = _flat(hidden, is_valid)
    found = _statistics(
        softcap,
        temperature,
        max(1, -(-targets.size // chunk_tokens)),
        _vary_like(hidden, head),
        _vary_like(head, hidden),
        ids.reshape(-1),
    )
    found = jax.tree.map(lambda x: x.reshape(targets.shape), found)
    return TokenStatistics(
        jnp.where(is_valid, found.logprob, 0),
        jax.lax.stop_gradient(jnp.where(is_valid, found.entropy, 0)),
        jax.lax.stop_gradient(jnp.where(is_valid, found.log_collision, 0)),
        found.is_top & is_valid,
    )


def token_kl(
    hidden: Float[Array, "*t embed"],
    head: Float[Array, "embed vocab"],
    reference_hidden: Float[Array, "*t reference_embed"],
    reference_head: Float[Array, "reference_embed vocab"],
    *,
    mask: Bool[Array, "*t"] | None = None,
    softcap: float | None = None,
    temperature: float = 1.0,
    chunk_tokens: int = 512,
) -> Float[Array, "*t"]:
    """KL(reference || policy) of the next token at each position, for `tdpo`.

        q = softmax(reference logits), p = softmax(policy logits), both as in
        `token_logprobs`;  result = sum_v q(v) (log q(v) - log p(v))

    The terms of the sequential KL of Zeng et al. 2024 (arXiv:2404.11999). Chunks,
    precision and sharding as in `token_logprobs`. The gradient goes to the policy's
    `hidden` and `head`; the reference has none.

    Args:
      hidden, head: of the policy, as `token_logprobs`.
      reference_hidden, reference_head: the same of the frozen reference model.
      mask: true for the positions to compare, all if None. Elsewhere the result and
        the gradient are 0, whatever the hidden states hold.
      softcap, temperature: of both models' logits, as `token_logprobs`.
      chunk_tokens: tokens whose logits are held at once, of both models.

    Returns:
      Divergence in nats, >= 0 up to rounding; 0 where the two models agree.

    >>> policy, reference = jnp.array([[0.0, 0.0]]), jnp.log(jnp.array([[0.75, 0.25]]))
    >>> kl = token_kl(jnp.ones((1, 1)), policy, jnp.ones((1, 1)), reference)
    >>> print(f"{kl[0]:.4f}")  # 0.75 log 1.5 + 0.25 log 0.5
    0.1308
    """
    _check("token_kl", softcap, temperature, chunk_tokens)
    shape = hidden.shape[:-1]
    if mask is None:
        mask = jnp.ones(shape, bool)
    policy, reference = _flat(hidden, mask), _flat(reference_hidden, mask)
    arrays = policy, head, reference, reference_head
    arrays = [functools.reduce(_vary_like, arrays, x) for x in arrays]
    chunks = max(1, -(-mask.size // chunk_tokens))
    divergence = _divergence(softcap, temperature, chunks, *arrays)
    return jnp.where(mask, divergence.reshape(shape), 0)


def _check(
    function: str, softcap: float | None, temperature: float, chunk_tokens: int
) -> None:
    if any(isinstance(x, Tracer) for x in (softcap, temperature)):
        raise ValueError(
            f"{function}: softcap and temperature must be numbers, not traced values; "
            "make them static arguments of jit, or divide the hidden states instead"
        )
    if chunk_tokens < 1:
        raise ValueError(f"{function}: expected chunk_tokens >= 1, got {chunk_tokens}")
    if not temperature > 0:
        raise ValueError(
            f"{function}: expected temperature > 0, got {temperature}; "
            "greedy scoring (temperature 0) has no log-probabilities"
        )
    if softcap is not None and not softcap > 0:
        raise ValueError(f"{function}: expected softcap > 0 or None, got {softcap}")


def _flat(hidden: Array, mask: Array) -> Array:
    """[..., embed] to [tokens, embed]; zeros where the mask is off."""
    return jnp.where(mask[..., None], hidden, 0).reshape(mask.size, hidden.shape[-1])


def _vary_like(x: Array, other: Array) -> Array:
    """Inside shard_map: marks x as varying over the mesh axes over which other does.

    The transpose is the psum that the gradient of a replicated head needs; a custom
    VJP, unlike other functions, does not insert it by itself.
    """
    varying = jax.typeof(other).manual_axis_type.varying
    axes = tuple(sorted(varying - jax.typeof(x).manual_axis_type.varying))
    return jax.lax.pcast(x, axes, to="varying")


def _logits(
    softcap: float | None, temperature: float, hidden: Array, head: Array
) -> tuple[Array, Array | float]:
    """Logits, capped and divided, and their derivative by hidden @ head."""
    dtype = np.promote_types(np.promote_types(hidden.dtype, np.float32), head.dtype)
    # Half-precision factors go in as they are: their products are exact in float32.
    operand = hidden.dtype if hidden.dtype == head.dtype else dtype
    logits = jax.lax.dot(
        hidden.astype(operand), head.astype(operand), preferred_element_type=dtype
    )
    if softcap is None:
        return logits / temperature, 1 / temperature
    bounded = jnp.tanh(logits / softcap)
    return softcap * bounded / temperature, (1 - bounded**2) / temperature


def _softmax(logits: Array, log_total: Array) -> Array:
    return jnp.exp(logits - log_total[:, None])


def _map_tokens(function: Callable, chunks: int, *arrays: Array):
    """Maps a function of arrays [n, ...] over chunks of arrays [tokens, ...].

    Token i goes to chunk i % chunks.
    """
    tokens = arrays[0].shape[0]
    length = -(-tokens // chunks)

    def split(x: Array) -> Array:
        if padding := chunks * length - tokens:
            x = jnp.pad(x, [(0, padding)] + [(0, 0)] * (x.ndim - 1))
        return x.reshape(length, chunks, *x.shape[1:]).swapaxes(0, 1)

    def join(x: Array) -> Array:
        return x.swapaxes(0, 1).reshape(chunks * length, *x.shape[2:])[:tokens]

    results = jax.lax.map(lambda chunk: function(*chunk), tuple(map(split, arrays)))
    return jax.tree.map(join, results)


def _head_gradient(
    error: Callable[..., Array], chunks: int, hidden: Array, *heads: Array
) -> Array:
    """hidden.T @ error, where error(ids, *heads' columns) is [tokens, len(ids)].

    The columns are taken as [shards, width], of which a block is [shards, size]: some
    of each device's own. The last block begins early if need be: it repeats columns.
    """
    embed, vocab = heads[0].shape
    shards = math.gcd(vocab, SHARDS)
    width = vocab // shards
    size = -(-width // chunks)
    starts = jnp.minimum(jnp.arange(0, width, size, jnp.int32), width - size)
    ids = jnp.arange(vocab, dtype=jnp.int32)

    def columns(x: Array, start: Array) -> Array:
        x = x.reshape(*x.shape[:-1], shards, width)
        x = jax.lax.dynamic_slice_in_dim(x, start, size, axis=-1)
        return x.reshape(*x.shape[:-2], shards * size)

    def fill(gradient: Array, block: tuple[Array, Array]) -> tuple[Array, None]:
        start, ids = block
        errors = error(ids, *(columns(head, start) for head in heads))
        filled = jax.lax.dot(hidden.astype(errors.dtype).T, errors)
        filled = filled.astype(gradient.dtype).reshape(embed, shards, size)
        return jax.lax.dynamic_update_slice_in_dim(gradient, filled, start, 2), None

    gradient = jnp.zeros((embed, shards, width), heads[0].dtype)
    gradient = _vary_like(gradient, hidden)
    blocks = starts, jax.vmap(columns, (None, 0))(ids, starts)
    return jax.lax.scan(fill, gradient, blocks)[0].reshape(embed, vocab)


def _all_statistics(softcap, temperature, chunks, hidden, head, targets):
    """[tokens, embed], [embed, vocab], [tokens] to statistics, each [tokens]."""
    return _statistics_forward(softcap, temperature, chunks, hidden, head, targets)[0]


def _statistics_forward(softcap, temperature, chunks, hidden, head, targets):
    """d logprob / d logits = onehot(target) - softmax(logits)."""

    def score(hidden, targets):
        logits, slope = _logits(softcap, temperature, hidden, head)
        target = jnp.take_along_axis(logits, targets[:, None], axis=1)[:, 0]
        highest = logits.max(axis=1)
        below = logits - highest[:, None]
        odds = jnp.exp(below)  # to the likeliest token; total * softmax
        total = odds.sum(axis=1)
        log_total = jnp.log(total)
        found = TokenStatistics(
            logprob=target - highest - log_total,
            entropy=log_total - (odds * below).sum(axis=1) / total,
            log_collision=jnp.log((odds**2).sum(axis=1)) - 2 * log_total,
            is_top=target >= highest,
        )
        is_target = targets[:, None] == jnp.arange(head.shape[1], dtype=jnp.int32)
        error = (jnp.where(is_target, total[:, None], 0) - odds) * slope
        hidden_slope = jax.lax.dot(error, head.astype(error.dtype).T)
        return found, highest + log_total, hidden_slope / total[:, None]

    found, log_total, slopes = _map_tokens(score, chunks, hidden, targets)
    return found, (hidden, head, targets, log_total, slopes)


def _statistics_backward(softcap, temperature, chunks, residuals, gradients):
    hidden, head, targets, log_total, slopes = residuals
    gradient = gradients.logprob[:, None]

    def error(ids, head):
        logits, slope = _logits(softcap, temperature, hidden, head)
        one_hot = (targets[:, None] == ids).astype(logits.dtype)
        return gradient * (one_hot - _softmax(logits, log_total)) * slope

    head_gradient = _head_gradient(error, chunks, hidden, head)
    return (gradient * slopes).astype(hidden.dtype), head_gradient, None


_statistics = jax.custom_vjp(_all_statistics, nondiff_argnums=(0, 1, 2))
_statistics.defvjp(_statistics_forward, _statistics_backward)


def _divergences(
    softcap: float | None,
    temperature: float,
    chunks: int,
    hidden: Array,
    head: Array,
    reference_hidden: Array,
    reference_head: Array,
) -> Array:
    """[tokens, embed], [embed, vocab], twice, to [tokens]."""
    return _divergence_forward(
        softcap, temperature, chunks, hidden, head, reference_hidden, reference_head
    )[0]


def _divergence_forward(
    softcap, temperature, chunks, hidden, head, reference_hidden, reference_head
):
    """d KL / d logits = softmax(logits) - softmax(reference logits)."""

    def compare(hidden, reference_hidden):
        logits, slope = _logits(softcap, temperature, hidden, head)
        reference = _logits(softcap, temperature, reference_hidden, reference_head)[0]
        reference = reference.astype(logits.dtype)
        totals = [jax.nn.logsumexp(x, axis=1) for x in (logits, reference)]
        aim = _softmax(reference, totals[1])
        ratio = reference - logits - (totals[1] - totals[0])[:, None]
        error = (_softmax(logits, totals[0]) - aim) * slope
        hidden_slopes = jax.lax.dot(error, head.astype(error.dtype).T)
        return (aim * ratio).sum(axis=1), totals, hidden_slopes

    divergence, totals, slopes = _map_tokens(compare, chunks, hidden, reference_hidden)
    return divergence, (hidden, head, reference_hidden, reference_head, totals, slopes)


def _divergence_backward(softcap, temperature, chunks, residuals, gradient):
    hidden, head, reference_hidden, reference_head, totals, slopes = residuals
    gradient = gradient[:, None]

    def error(ids, head, reference_head):
        del ids
        logits, slope = _logits(softcap, temperature, hidden, head)
        reference = _logits(softcap, temperature, reference_hidden, reference_head)[0]
        aim = _softmax(reference.astype(logits.dtype), totals[1])
        return gradient * (_softmax(logits, totals[0]) - aim) * slope

    head_gradient = _head_gradient(error, chunks, hidden, head, reference_head)
    return (gradient * slopes).astype(hidden.dtype), head_gradient, None, None


_divergence = jax.custom_vjp(_divergences, nondiff_argnums=(0, 1, 2))
_divergence.defvjp(_divergence_forward, _divergence_backward)
