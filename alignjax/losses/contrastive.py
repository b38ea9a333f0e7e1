# SPDX-License-Identifier: Apache-2.0
"""Contrastive losses: pooled hidden states in, one loss per example out.

What an example is held against: `coin` one other example, which is a hard negative, or
a random one if that is what it is given; `info_nce` the rest of the batch, and
`negatives` beyond it.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from alignjax.losses.precision import upcast


class Views(NamedTuple):
    """Pooled hidden states of an instruction and of its paraphrase, same input."""

    original: Float[Array, "batch embed"]
    paraphrase: Float[Array, "batch embed"]


def pool(
    hidden: Float[Array, "*batch time embed"],
    mask: Bool[Array, "*batch time"],
    how: str = "last",
) -> Float[Array, "*batch embed"]:
    """One vector per sequence: `last`, `average_all` and `average_first_last` of the
    released code of CoIN, Yan et al. 2024 (arXiv:2402.11138), which pools with "last".

        last:        the state of the last masked token
        mean:        the mean over all masked tokens
        first_last:  the mean of the first and the last one

    Where the mask is off the state may be anything, NaN included. Inputs below float32
    are upcast to float32.

    Args:
      hidden: output of the model's final norm.
      mask: true for the tokens to pool: in CoIN prompt and target, so that the last one
        is the target's.
      how: "last", "mean" or "first_last".

    Returns:
      States, in no unit; 0 where the mask is empty.

    Raises:
      ValueError: no such way to pool.

    >>> hidden, mask = jnp.array([[[2.0], [4.0], [9.0]]]), jnp.array([[1, 1, 0]]) > 0
    >>> print([pool(hidden, mask, how).item() for how in ("last", "mean")])
    [4.0, 3.0]
    """
    hidden = upcast(hidden)
    count = jnp.cumsum(mask, axis=-1, dtype=hidden.dtype)
    total = count[..., -1:]
    if how == "last":
        weight = count == total
    elif how == "mean":
        weight = 1 / jnp.maximum(total, 1)
    elif how == "first_last":
        weight = (0.0 + (count == 1) + (count == total)) / 2
    else:
        raise ValueError(f"pool: how must be last, mean or first_last, got {how!r}")
    weight = jnp.where(mask, weight, 0).astype(hidden.dtype)[..., None]
    return jnp.where(mask[..., None], weight * hidden, 0).sum(-2)


def info_nce(
    views: Views,
    *,
    temperature: float,
    mask: Bool[Array, " batch"] | None = None,
    negatives: Views | None = None,
    negatives_mask: Bool[Array, " more"] | None = None,
    axis_name: str | None = None,
) -> Float[Array, " batch"]:
    """InfoNCE with in-batch negatives, van den Oord et al. 2018 (arXiv:1807.03748).

    In the symmetric form of CLIP, Radford et al. 2021, figure 3 (arXiv:2103.00020):

        S_ab = cos(original_a, paraphrase_b) / temperature
        loss_a = 1/2 [log sum_b exp(S_ab - S_aa) + log sum_b exp(S_ba - S_aa)]

    where b runs over the batch and `negatives`. Couples the examples of a batch: the
    mean over two halves is not the mean over the whole. Inputs below float32 are upcast
    to float32. The cosine with a zero vector is 0.

    Args:
      views: pooled hidden states; example b is a negative of every other example a.
      temperature: divides the cosines; > 0; 0.05 in CoIN.
      mask: false for padding, which is neither scored nor a negative; default: none.
      negatives: further examples, negatives of every example and not scored: drawn at
        random, or kept from earlier batches; default: none.
      negatives_mask: false for those that are none, such as the rest of a memory that
        is not full yet; default: none.
      axis_name: inside shard_map or pmap, the axis over which the batch is spread: each
        device scores its own examples against those of all devices, gathered with their
        masks and negatives; default: each device on its own.

    Returns:
      Loss of each example in nats; log(batch + negatives) where all vectors are equal;
      0 where the mask is off or there is no negative.

    >>> same = jnp.ones((4, 8))
    >>> loss = info_nce(Views(same, same), temperature=0.05)
    >>> print(f"{loss[0]:.4f}")  # log 4
    1.3863
    """
    own = Views(*(_unit(view, mask) for view in views))
    is_valid = _valid(own.original, mask)
    others, is_other = own, is_valid
    if negatives is not None:
        more = [_unit(view, negatives_mask) for view in negatives]
        others = Views(*map(jnp.concatenate, zip(own, more, strict=True)))
        is_other = jnp.concatenate([is_valid, _valid(more[0], negatives_mask)])
    position = jnp.arange(is_valid.size)
    if axis_name is not None:
        position += jax.lax.axis_index(axis_name) * is_other.size
        others, is_other = jax.lax.all_gather((others, is_other), axis_name, tiled=True)
    rows = _cosines(own.original, others.paraphrase) / temperature
    columns = _cosines(own.paraphrase, others.original) / temperature
    loss = _cross_entropy(rows, position, is_other)
    loss = (loss + _cross_entropy(columns, position, is_other)) / 2
    return jnp.where(is_valid, loss, 0)


def coin(
    views: Views,
    negative: Views,
    *,
    temperature: float,
    mask: Bool[Array, " batch"] | None = None,
) -> Float[Array, " batch"]:
    """Contrastive instruction tuning, Yan et al. 2024 (arXiv:2402.11138).

    As in the released code, each example i meets one hard negative j, which has the
    same instruction with another input and output, and S is 2 x 2:

        S_ab = cos(original_a, paraphrase_b) / temperature,   a, b in {i, j}
        loss = 1/4 sum_a [log sum_b exp(S_ab - S_aa) + log sum_b exp(S_ba - S_aa)]

    Examples do not see each other; `info_nce` is the in-batch form. Inputs below
    float32 are upcast to float32. The cosine with a zero vector is 0.

    Args:
      views: pooled hidden states of i.
      negative: pooled hidden states of j, the hard negative of i, in the same order; of
        a random other example for random negatives.
      temperature: divides the cosines; > 0; 0.05 in the paper.
      mask: false for padding; default: none.

    Returns:
      Loss of each (i, j) in nats; log 2 where all four vectors are equal; 0 where the
      mask is off.

    >>> i = Views(jnp.array([[1.0, 0.0]]), jnp.array([[1.0, 0.0]]))
    >>> j = Views(jnp.array([[0.0, 1.0]]), jnp.array([[0.0, 1.0]]))
    >>> loss = coin(i, j, temperature=1.0)
    >>> print(f"{loss[0]:.4f}")  # log(1 + exp(0 - 1))
    0.3133
    """
    original, paraphrase = (
        jnp.stack([_unit(i, mask), _unit(j, mask)], axis=1)
        for i, j in zip(views, negative, strict=True)
    )
    scores = _cosines(original, paraphrase) / temperature
    position, every = jnp.arange(2), jnp.ones(2, bool)
    loss = _cross_entropy(scores, position, every)
    loss += _cross_entropy(scores.swapaxes(-2, -1), position, every)
    loss = loss.mean(-1) / 2
    return loss if mask is None else jnp.where(mask, loss, 0)


def coin_triplet(
    anchor: Float[Array, "batch embed"],
    positive: Float[Array, "batch embed"],
    negative: Float[Array, "batch embed"],
    *,
    temperature: float,
    mask: Bool[Array, " batch"] | None = None,
) -> Float[Array, " batch"]:
    """The row of `coin` that concerns i, for hard negatives that have no paraphrase.

        gap = cos(anchor, negative) - cos(anchor, positive)
        loss = log(1 + exp(gap / temperature))

    Inputs below float32 are upcast to float32. The cosine with a zero vector is 0.

    Args:
      anchor: pooled hidden states of the original instructions.
      positive: the same of their paraphrases.
      negative: the same of their hard negatives.
      temperature: divides the cosines; > 0.
      mask: false for padding; default: none.

    Returns:
      Loss of each triplet in nats; log 2 where positive == negative; 0 where the mask
      is off.

    >>> anchor, positive = jnp.array([[1.0, 0.0]]), jnp.array([[0.6, 0.8]])
    >>> loss = coin_triplet(anchor, positive, -positive, temperature=0.3)
    >>> print(f"{loss[0]:.4f}")  # log(1 + exp(-1.2 / 0.3))
    0.0181
    """
    gap = (_unit(negative, mask) - _unit(positive, mask)) * _unit(anchor, mask)
    loss = jax.nn.softplus(gap.sum(-1) / temperature)
    return loss if mask is None else jnp.where(mask, loss, 0)


def coin_weight(
    generation_loss: float | Float[Array, "*batch"],
    contrastive_loss: float | Float[Array, "*batch"],
    *,
    bound: float,
) -> Float[Array, "*batch"]:
    """Weight of the contrastive loss, Yan et al. 2024 (arXiv:2402.11138).

        weight = min(bound, stop_gradient(generation_loss / contrastive_loss))
        loss = generation_loss + weight * contrastive_loss

    The minimum is the released code's: `bound` (its lambda, 1000) is an upper bound.
    Where the minimum is the ratio, the weighted term equals generation_loss, so the
    total reads 2 * generation_loss while the contrastive gradient is still there.

    The weight depends on the losses of the whole batch: a microbatch's weight is
    another number. Inputs below float32 are upcast to float32.

    Args:
      generation_loss: mean loss in nats; originals and paraphrases added up.
      contrastive_loss: mean loss in nats.
      bound: largest weight; >= 1.

    Returns:
      Weight without gradient, no unit; `bound` where contrastive_loss is 0.

    >>> print(coin_weight(2.0, 0.5, bound=1000.0))
    4.0
    """
    generation, contrast = upcast(generation_loss), upcast(contrastive_loss)
    is_positive = contrast > 0
    ratio = generation / jnp.where(is_positive, contrast, 1)
    weight = jnp.where(is_positive, jnp.minimum(bound, ratio), bound)
    return jax.lax.stop_gradient(weight)


def _valid(vectors: Array, mask: Array | None) -> Array:
    return jnp.ones(len(vectors), bool) if mask is None else mask


def _unit(x: Array, mask: Array | None) -> Array:
    """Vectors of length 1 along the last axis; 0, with finite gradient, stays 0.

    Where the mask is off they become 0, so that not even NaN gets out of there.
    """
    x = upcast(x)
    if mask is not None:
        x = jnp.where(mask[..., None], x, 0)
    return x * jax.lax.rsqrt(jnp.maximum((x * x).sum(-1, keepdims=True), 1e-16))


def _cosines(rows: Array, columns: Array) -> Array:
    """Unit vectors [..., rows, embed], [..., columns, embed] to [..., rows, columns].

    Full precision: TensorFloat-32 is off by 1e-3, which a temperature of 0.05 makes
    0.02 nats.
    """
    return jnp.einsum("...ae,...be->...ab", rows, columns, precision="highest")


def _cross_entropy(scores: Array, position: Array, is_valid: Array) -> Array:
    """Cross-entropy of each row of [..., rows, columns] with its column at `position`
    as target and the other valid columns as negatives.

    Written as log(1 + sum over negatives), which float32 resolves near 0 where the
    difference of two numbers near 1 / temperature would not.
    """
    is_target = position[:, None] == jnp.arange(scores.shape[-1])
    target = jnp.where(is_target, scores, 0).sum(-1, keepdims=True)
    # Finite, so that an example without negatives has loss 0 and gradient 0, not NaN.
    excluded = jnp.finfo(scores.dtype).min / 2
    gaps = jnp.where(~is_target & is_valid, scores - target, excluded)
    return jax.nn.softplus(jax.nn.logsumexp(gaps, axis=-1))
