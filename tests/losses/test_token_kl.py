# SPDX-License-Identifier: Apache-2.0
"""token_kl: equal to the dense divergence, without an array of logits; sharding."""

import functools
import math
import os
import subprocess
import sys
import textwrap

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alignjax.losses import token_kl

ROWS, TIME, EMBED, REFERENCE_EMBED, VOCAB = 3, 7, 8, 5, 40
OPTIONS: list[dict[str, float]] = [{}, {"softcap": 2.0, "temperature": 0.7}]


def distribution(hidden, head, *, softcap=None, temperature=1.0):
    logits = hidden @ head
    if softcap is not None:
        logits = softcap * jnp.tanh(logits / softcap)
    return jax.nn.log_softmax(logits / temperature)


def dense(hidden, head, reference_hidden, reference_head, *, mask, **options):
    logprobs = distribution(hidden, head, **options)
    reference = distribution(reference_hidden, reference_head, **options)
    kl = (jnp.exp(reference) * (reference - logprobs)).sum(-1)
    return jnp.where(mask, kl, 0)


def example(dtype: type = np.float32) -> tuple[list[jax.Array], jax.Array, jax.Array]:
    """Hidden states and head of both models, a mask, and weights of the loss."""
    rng = np.random.default_rng(0)
    shapes = [
        (ROWS, TIME, EMBED),
        (EMBED, VOCAB),
        (ROWS, TIME, REFERENCE_EMBED),
        (REFERENCE_EMBED, VOCAB),
    ]
    arrays = [jnp.asarray(rng.normal(size=shape), dtype) for shape in shapes]
    mask = jnp.asarray(rng.random((ROWS, TIME)) < 0.7)
    return arrays, mask, jnp.asarray(rng.normal(size=(ROWS, TIME)), dtype)


def gradient(function, arrays, mask, weights, **options):
    """Weighted sum of the divergences, with its gradients by all four arrays."""

    def total(*arrays):
        return (weights * function(*arrays, mask=mask, **options)).sum()

    return jax.jit(jax.value_and_grad(total, (0, 1, 2, 3)))(*arrays)


def test_divergence_matches_hand_calculation():
    """q = (3/4, 1/4), p = (1/2, 1/2): 3/4 log(3/2) + 1/4 log(1/2) = 0.13081.

    d KL / d logits = p - q = (-1/4, 1/4), which is also the head's gradient at
    hidden = 1; the gradient of hidden is head @ (p - q) = 0 at head = 0.
    """
    reference = jnp.log(jnp.array([[0.75, 0.25]]))
    one = jnp.ones((1, 1))

    def total(hidden, head):
        return token_kl(hidden, head, one, reference).sum()

    value, (of_hidden, of_head) = jax.value_and_grad(total, (0, 1))(
        one, jnp.zeros((1, 2))
    )
    expected = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
    np.testing.assert_allclose(value, expected, rtol=1e-6)
    np.testing.assert_allclose(of_head, [[-0.25, 0.25]], rtol=1e-6)
    np.testing.assert_allclose(of_hidden, [[0]], atol=1e-7)


@pytest.mark.parametrize("chunk_tokens", [1, 4, 1000])
@pytest.mark.parametrize("options", OPTIONS, ids=["plain", "softcap"])
def test_values_and_gradients_equal_the_dense_computation(chunk_tokens, options):
    """Relative to the largest: 1e-5 in float32, 1e-12 in float64. The reference's
    gradients, the last two, are 0."""
    for dtype, rtol in [(np.float32, 1e-5), (np.float64, 1e-12)]:
        with jax.enable_x64(dtype == np.float64):
            arrays, mask, weights = example(dtype)
            chunked = functools.partial(token_kl, chunk_tokens=chunk_tokens)
            kl = chunked(*arrays, mask=mask, **options)
            expected = dense(*arrays, mask=mask, **options)
            assert kl.dtype == dtype
            assert (kl[mask] > 0).all()
            np.testing.assert_allclose(kl, expected, rtol=rtol)
            ours = gradient(chunked, arrays, mask, weights, **options)
            theirs = gradient(dense, arrays, mask, weights, **options)
            np.testing.assert_allclose(ours[0], theirs[0], rtol=rtol)
            for mine, other in zip(ours[1][:2], theirs[1][:2], strict=True):
                atol = rtol * float(jnp.abs(other).max())
                np.testing.assert_allclose(mine, other, rtol=rtol, atol=atol)
            assert all(not mine.any() for mine in ours[1][2:])


def test_same_model_gives_exactly_zero_and_no_gradient():
    (hidden, head, *_), mask, weights = example()
    arrays = [hidden, head, hidden, head]
    value, gradients = gradient(token_kl, arrays, mask, weights, chunk_tokens=4)
    assert value == 0
    assert all(not array.any() for array in gradients)


def test_masked_positions_give_zero_whatever_the_hidden_states_hold():
    arrays, mask, weights = example()
    bad = [jnp.where(mask[..., None], x, jnp.nan) for x in (arrays[0], arrays[2])]
    ours = gradient(token_kl, [bad[0], arrays[1], bad[1], arrays[3]], mask, weights)
    expected = gradient(token_kl, arrays, mask, weights)
    jax.tree.map(np.testing.assert_array_equal, ours, expected)
    assert not ours[1][0][~mask].any()


def test_without_a_mask_every_position_counts():
    arrays, _, _ = example()
    everywhere = jnp.ones((ROWS, TIME), bool)
    np.testing.assert_array_equal(token_kl(*arrays), token_kl(*arrays, mask=everywhere))


def test_vmap_equals_a_loop_and_half_precision_is_upcast():
    arrays, mask, _ = example()
    arrays = [array.astype(jnp.bfloat16) for array in arrays]
    kl = token_kl(*arrays, mask=mask)
    rows = jax.vmap(
        lambda hidden, reference, mask: token_kl(
            hidden, arrays[1], reference, arrays[3], mask=mask, chunk_tokens=3
        )
    )(arrays[0], arrays[2], mask)
    upcast = [array.astype(jnp.float32) for array in arrays]
    assert kl.dtype == jnp.float32
    np.testing.assert_allclose(kl, dense(*upcast, mask=mask), rtol=1e-5)
    np.testing.assert_allclose(rows, kl, rtol=1e-6)


def temporary_bytes(tokens: int, embed: int = 16, vocab: int = 4096) -> int:
    def total(*arrays):
        return token_kl(*arrays, chunk_tokens=32).sum()

    shapes = [
        jax.ShapeDtypeStruct(shape, jnp.float32)
        for shape in [(tokens, embed), (embed, vocab)] * 2
    ]
    gradient = jax.jit(jax.value_and_grad(total, (0, 1)))
    memory = gradient.lower(*shapes).compile().memory_analysis()
    assert memory is not None
    return memory.temp_size_in_bytes


def test_memory_does_not_hold_logits_of_all_tokens():
    """Logits of a model take 4 and 32 MiB, of a chunk 0.5. What grows is a few arrays
    of [tokens, embed], 64 bytes a token each."""
    small, large = temporary_bytes(256), temporary_bytes(2048)
    assert large < 4 * 2**20
    assert large - small < 8 * 64 * (2048 - 256)


def test_impossible_options_are_refused():
    arrays, _, _ = example()
    with pytest.raises(ValueError, match="token_kl: expected chunk_tokens >= 1"):
        token_kl(*arrays, chunk_tokens=0)


def test_on_eight_devices_tokens_and_columns_stay_where_they_are():
    """Rows on 4 devices, the vocabulary on 2 of each, for both functions.

    The gradients equal those of one device. No token and no column of the head goes to
    another device. The gradient of the head is summed over the rows in blocks of 16
    columns, of which a device has 8, each once.
    """
    code = """
        import re
        import jax, jax.numpy as jnp, numpy as np
        from jax.sharding import AxisType, NamedSharding, PartitionSpec as P
        from alignjax.losses import token_kl, token_logprobs

        assert jax.device_count() == 8
        axes = (AxisType.Auto, AxisType.Auto)
        mesh = jax.make_mesh((4, 2), ("data", "tensor"), axis_types=axes)
        rng = np.random.default_rng(0)
        hidden = rng.normal(size=(8, 512, 8)).astype(np.float32)
        head = rng.normal(size=(8, 64)).astype(np.float32)
        targets = rng.integers(-4, 64, size=(8, 512))

        def divergence(hidden, head, targets):
            kl = token_kl(
                hidden, head, 2 * hidden, head, mask=targets >= 0, chunk_tokens=256
            )
            return kl.sum()

        def logprob(hidden, head, targets):
            return token_logprobs(hidden, head, targets, chunk_tokens=256).sum()

        def close(ours, expected):
            for a, b in zip(ours, expected):
                np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)

        specs = P("data"), P(None, "tensor"), P("data")
        placed = [
            jax.device_put(array, NamedSharding(mesh, spec))
            for array, spec in zip((hidden, head, targets), specs)
        ]
        for function in divergence, logprob:
            gradient = jax.jit(jax.grad(function, (0, 1)))
            expected = gradient(hidden, head, targets)
            close(gradient(*placed), expected)
            text = gradient.lower(*placed).compile().as_text()
            moves = r" (all-gather|all-to-all|collective-permute)[(]"
            assert not re.search(moves, text)
            assert re.search(r"f32\\[8,8\\]\\S* all-reduce[(]", text)

            def summed(*arrays):
                return jax.lax.psum(function(*arrays), "data")

            specs = P("data"), P(), P("data")
            mapped = jax.shard_map(summed, mesh=mesh, in_specs=specs, out_specs=P())
            close(jax.jit(jax.grad(mapped, (0, 1)))(hidden, head, targets), expected)
    """
    flags = {
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": "--xla_force_host_platform_device_count=8",
    }
    process = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        env={**os.environ, **flags},
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 0, process.stderr
