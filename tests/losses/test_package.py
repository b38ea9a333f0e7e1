# SPDX-License-Identifier: Apache-2.0
"""The package as a whole: doctests, cheap import, automatic sharding, shard_map."""

import doctest
import importlib
import pkgutil
import subprocess
import sys
import textwrap

import pytest

import alignjax.losses

MODULES = [module.name for module in pkgutil.iter_modules(alignjax.losses.__path__)]


def run(code: str) -> str:
    """Output of a fresh interpreter, which needs its own device count or imports."""
    result = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.mark.parametrize("name", MODULES)
def test_examples_in_docstrings_are_true(name):
    module = importlib.import_module(f"alignjax.losses.{name}")
    failed, attempted = doctest.testmod(module)
    assert attempted > 0
    assert failed == 0


def test_every_public_function_has_an_example():
    for name in alignjax.losses.__all__:
        public = getattr(alignjax.losses, name)
        if callable(public) and not isinstance(public, type):
            assert ">>>" in (public.__doc__ or ""), name


def test_import_needs_only_jax_and_costs_little():
    """CPU seconds on top of jax, so that a busy machine does not fail it."""
    output = run(
        """
        import sys, time
        import jax, jax.numpy
        before = time.process_time()
        import alignjax.losses
        print(time.process_time() - before)
        heavy = {"flax", "transformers", "datasets", "optax", "orbax", "torch"}
        print(sorted(heavy & set(sys.modules)))
        """
    )
    seconds, heavy = output.split("\n")[:2]
    assert float(seconds) < 0.3
    assert heavy == "[]"


def test_losses_on_eight_devices_equal_one_device():
    """Automatic sharding of data and vocabulary, and shard_map with a psum.

    Eight rows of 512 tokens: with rows on 4 devices a chunk of 256 tokens is 64 on
    each, and no device ever receives another's hidden states: the loop's only
    communication is over the vocabulary, in arrays of 64 tokens.
    """
    run(
        """
        import os, re
        os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=8"
        os.environ["JAX_PLATFORMS"] = "cpu"
        import jax, jax.numpy as jnp, numpy as np
        from jax.sharding import AxisType, NamedSharding, PartitionSpec as P
        from alignjax.losses import Pair, Views, dpo, info_nce, sft, token_logprobs

        assert jax.device_count() == 8
        axes = (AxisType.Auto, AxisType.Auto)
        mesh = jax.make_mesh((4, 2), ("data", "tensor"), axis_types=axes)
        rng = np.random.default_rng(0)
        hidden = rng.normal(size=(8, 512, 8)).astype(np.float32)
        head = rng.normal(size=(8, 64)).astype(np.float32)
        targets = rng.integers(-4, 64, size=(8, 512))
        reference = Pair(*rng.normal(size=(2, 4)).astype(np.float32))

        def step(hidden, head, targets):
            logprobs = token_logprobs(hidden, head, targets, chunk_tokens=256)
            mask = targets >= 0
            scores = jnp.where(mask, logprobs, 0).mean(-1)
            preference = dpo(Pair(scores[:4], scores[4:]), reference, beta=0.1)
            pooled = Views(hidden[:4, -1], hidden[4:, -1])
            contrast = info_nce(pooled, temperature=0.5)
            return preference.mean() + sft(logprobs, mask).mean() + contrast.mean()

        def total(hidden, head, targets):
            return token_logprobs(hidden, head, targets, chunk_tokens=256).sum()

        def close(ours, expected):
            for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(expected)):
                np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)

        def placed(*head_spec):
            return [
                jax.device_put(array, NamedSharding(mesh, P(*spec)))
                for array, spec in [
                    (hidden, ("data",)), (head, head_spec), (targets, ("data",)),
                ]
            ]

        gradient = jax.jit(jax.value_and_grad(step, (0, 1)))
        expected = gradient(hidden, head, targets)
        for spec in [(None, "tensor"), ("data", None)]:
            close(gradient(*placed(*spec)), expected)

        lowered = jax.jit(jax.grad(total)).lower(*placed(None, "tensor"))
        text = lowered.compile().as_text()
        assert " all-reduce(" in text
        assert not re.search(r" (all-gather|all-to-all|collective-permute)[(]", text)

        def summed(hidden, head, targets):
            return jax.lax.psum(total(hidden, head, targets), "data")

        def mapped(function, out):
            specs = (P("data"), P(), P("data"))
            return jax.shard_map(function, mesh=mesh, in_specs=specs, out_specs=out)

        expected = jax.jit(jax.grad(total, (0, 1)))(hidden, head, targets)
        outside = jax.grad(mapped(summed, P()), (0, 1))
        inside = mapped(jax.grad(total, (0, 1)), (P("data"), P()))
        for ours in outside, inside:
            close(jax.jit(ours)(hidden, head, targets), expected)
        """
    )
