# SPDX-License-Identifier: Apache-2.0
"""Log-probabilities of tokens from hidden states, without an array of logits."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int


def token_logprobs(
    hidden: Float[Array, "*t embed"],
    head: Float[Array, "embed vocab"],
    targets: Int[Array, "*t"],
    *,
    softcap: float | None = None,
    temperature: float = 1.0,
    chunk_tokens: int = 256,
) -> Float[Array, "*t"]:
    """Log-probability of each target under softmax(hidden @ head).

        logits = hidden @ head;  logits = softcap * tanh(logits / softcap) if softcap
        result = (logits / temperature)[target] - logsumexp(logits / temperature)

    Logits exist for `chunk_tokens` tokens at a time, in the forward pass and, computed
    again, in the backward pass (custom VJP). Products are accumulated and everything
    after them is computed in float32, or float64 if an input is float64. The head's
    gradient costs nothing when it is not asked for: under jit XLA removes it.

    A chunk takes every n-th token, not n neighbours, so that tokens sharded along their
    leading axis stay where they are; `chunk_tokens` then counts all devices' tokens.

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
    *leading, embed = hidden.shape
    vocab = head.shape[-1]
    tokens = targets.size
    if chunk_tokens < 1:
        raise ValueError(
            f"token_logprobs: expected chunk_tokens >= 1, got {chunk_tokens}"
        )
    if not temperature > 0:
        raise ValueError(
            f"token_logprobs: expected temperature > 0, got {temperature}; "
            "greedy scoring (temperature 0) has no log-probabilities"
        )
    if softcap is not None and not softcap > 0:
        raise ValueError(f"token_logprobs: expected softcap > 0 or None, got {softcap}")

    is_valid = (targets >= 0) & (targets < vocab)
    hidden = jnp.where(is_valid[..., None], hidden, 0).reshape(tokens, embed)
    targets = jnp.where(is_valid, targets, 0).astype(jnp.int32).reshape(tokens)
    chunks = max(1, -(-tokens // chunk_tokens))
    length = -(-tokens // chunks)
    logprobs = _chunked_logprobs(
        softcap,
        temperature,
        _vary_like(_split(hidden, chunks, length), head),
        _vary_like(head, hidden),
        _split(targets, chunks, length),
    )
    logprobs = logprobs.T.reshape(chunks * length)[:tokens].reshape(leading)
    return jnp.where(is_valid, logprobs, 0)


def _split(tokens: Array, chunks: int, length: int) -> Array:
    """[tokens, ...] to [chunks, length, ...]; token i goes to chunk i % chunks."""
    padding = chunks * length - tokens.shape[0]
    if padding:
        tokens = jnp.pad(tokens, [(0, padding)] + [(0, 0)] * (tokens.ndim - 1))
    return tokens.reshape(length, chunks, *tokens.shape[1:]).swapaxes(0, 1)


def _vary_like(x: Array, other: Array) -> Array:
    """Inside shard_map: marks x as varying over the mesh axes over which other does.

    The transpose is the psum that the gradient of a replicated head needs; a custom
    VJP, unlike other functions, does not insert it by itself.
    """
    varying = jax.typeof(other).manual_axis_type.varying
    axes = tuple(sorted(varying - jax.typeof(x).manual_axis_type.varying))
    return jax.lax.pcast(x, axes, to="varying")


def _logits(
    softcap: float | None, hidden: Array, head: Array
) -> tuple[Array, Array | float]:
    """Capped logits of one chunk, and the derivative of the cap."""
    dtype = np.promote_types(np.promote_types(hidden.dtype, np.float32), head.dtype)
    # Half-precision factors go in as they are: their products are exact in float32.
    operand = hidden.dtype if hidden.dtype == head.dtype else dtype
    logits = jax.lax.dot(
        hidden.astype(operand), head.astype(operand), preferred_element_type=dtype
    )
    if softcap is None:
        return logits, 1.0
    bounded = jnp.tanh(logits / softcap)
    return softcap * bounded, 1 - bounded**2


def _logprobs(
    softcap: float | None,
    temperature: float,
    hidden: Array,
    head: Array,
    targets: Array,
) -> Array:
    """[chunks, length, embed], [embed, vocab], [chunks, length] to [chunks, length]."""
    return _logprobs_forward(softcap, temperature, hidden, head, targets)[0]


def _logprobs_forward(softcap, temperature, hidden, head, targets):
    def score(chunk):
        hidden, targets = chunk
        logits = _logits(softcap, hidden, head)[0] / temperature
        target = jnp.take_along_axis(logits, targets[:, None], axis=1)[:, 0]
        log_total = jax.nn.logsumexp(logits, axis=1)
        return target - log_total, log_total

    logprobs, log_total = jax.lax.map(score, (hidden, targets))
    return logprobs, (hidden, head, targets, log_total)


def _logprobs_backward(softcap, temperature, residuals, gradient):
    """d logprob / d logits = (onehot(target) - softmax(logits)) / temperature."""
    hidden, head, targets, log_total = residuals
    dtype = gradient.dtype

    def accumulate(head_gradient, chunk):
        hidden, targets, log_total, gradient = chunk
        logits, slope = _logits(softcap, hidden, head)
        softmax = jnp.exp(logits / temperature - log_total[:, None])
        ids = jax.lax.broadcasted_iota(targets.dtype, logits.shape, 1)
        error = (ids == targets[:, None]).astype(dtype) - softmax
        error = (gradient / temperature)[:, None] * error * slope
        head_gradient += jax.lax.dot(hidden.astype(dtype).T, error)
        hidden_gradient = jax.lax.dot(error, head.astype(dtype).T)
        return head_gradient, hidden_gradient.astype(hidden.dtype)

    # Under jit an unused head_gradient leaves the loop: it depends only on itself.
    start = _vary_like(jnp.zeros(head.shape, dtype), gradient)
    head_gradient, hidden_gradient = jax.lax.scan(
        accumulate, start, (hidden, targets, log_total, gradient)
    )
    return hidden_gradient, head_gradient.astype(head.dtype), None


_chunked_logprobs = jax.custom_vjp(_logprobs, nondiff_argnums=(0, 1))
_chunked_logprobs.defvjp(_logprobs_forward, _logprobs_backward)
