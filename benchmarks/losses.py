# SPDX-License-Identifier: Apache-2.0
"""What log-probabilities in chunks cost, against the same with all logits in memory.

    python benchmarks/losses.py                          # SmolLM2's head, 1024 tokens
    python benchmarks/losses.py --vocab 131072 --embed 1024 --repeats 5

Prints one JSON line per function, head (trained: gradients of hidden and head; frozen:
of hidden alone) and system. `ratio` is the median over the rounds of a system's
processor seconds to the dense system's of the same round, so that other work on the
machine, which slows both, matters little; `ratio_wall` is the same of wall time. Two
dense systems: "dense" subtracts the logsumexp from the target's logit, the least that
can be done; "log_softmax" is how it is usually written.
"""

from __future__ import annotations

import argparse
import functools
import json
import statistics
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import NamedTuple

import jax
import jax.numpy as jnp

from alignjax.losses import token_kl, token_logprobs, token_statistics
from timing import record

Function = Callable[..., jax.Array]


class Example(NamedTuple):
    hidden: jax.Array
    head: jax.Array
    reference_hidden: jax.Array
    reference_head: jax.Array
    targets: jax.Array
    weights: jax.Array


class Seconds(NamedTuple):
    wall: float
    cpu: float


def main() -> None:
    parser = argparse.ArgumentParser(description="What log-probabilities cost.")
    parser.add_argument("--tokens", type=int, default=1024)
    parser.add_argument("--embed", type=int, default=576)
    parser.add_argument("--vocab", type=int, default=49_152)
    parser.add_argument("--chunk-tokens", type=int, default=512)
    parser.add_argument("--repeats", type=int, default=9)
    arguments = parser.parse_args()
    example = _example(arguments.tokens, arguments.embed, arguments.vocab)
    for name, systems in _systems(arguments.chunk_tokens).items():
        for trained in (True, False):
            compiled = {
                system: _gradient(function, trained).lower(example).compile()
                for system, function in systems.items()
            }
            rounds = _rounds(compiled, example, arguments.repeats)
            for system, seconds in rounds.items():
                line = {
                    "function": name,
                    "head": "trained" if trained else "frozen",
                    "system": system,
                    **vars(arguments),
                    **_summary(seconds, rounds["dense"]),
                    "temporary_mib": _temporary_mib(compiled[system]),
                    "dtype": str(example.hidden.dtype),
                    "jax": jax.__version__,
                    "machine": record.machine(),
                    "date": datetime.now(UTC).date().isoformat(),
                }
                print(json.dumps(line), flush=True)


def _systems(chunk_tokens: int) -> dict[str, dict[str, Function]]:
    chunked = functools.partial(token_logprobs, chunk_tokens=chunk_tokens)
    found = functools.partial(token_statistics, chunk_tokens=chunk_tokens)
    kl = functools.partial(token_kl, chunk_tokens=chunk_tokens)
    return {
        "token_logprobs": {
            "dense": lambda x: _dense(x.hidden, x.head, x.targets),
            "log_softmax": lambda x: _log_softmax(x.hidden, x.head, x.targets),
            "chunked": lambda x: chunked(x.hidden, x.head, x.targets),
            "chunked, with statistics": lambda x: jax.tree.reduce(
                jnp.add, found(x.hidden, x.head, x.targets)
            ),
        },
        "token_kl": {
            "dense": lambda x: _dense_kl(*x[:4]),
            "chunked": lambda x: kl(*x[:4]),
        },
    }


def _dense(hidden: jax.Array, head: jax.Array, targets: jax.Array) -> jax.Array:
    logits = hidden @ head
    target = jnp.take_along_axis(logits, targets[:, None], axis=1)[:, 0]
    return target - jax.nn.logsumexp(logits, axis=1)


def _log_softmax(hidden: jax.Array, head: jax.Array, targets: jax.Array) -> jax.Array:
    logprobs = jax.nn.log_softmax(hidden @ head)
    return jnp.take_along_axis(logprobs, targets[:, None], axis=1)[:, 0]


def _dense_kl(
    hidden: jax.Array,
    head: jax.Array,
    reference_hidden: jax.Array,
    reference_head: jax.Array,
) -> jax.Array:
    reference = jax.nn.log_softmax(reference_hidden @ reference_head)
    logprobs = jax.nn.log_softmax(hidden @ head)
    return (jnp.exp(reference) * (reference - logprobs)).sum(axis=1)


def _gradient(function: Function, trained: bool) -> jax.stages.Wrapped:
    """Jitted value and gradients of a weighted sum over the tokens."""

    def total(hidden: jax.Array, head: jax.Array, example: Example) -> jax.Array:
        return example.weights @ function(example._replace(hidden=hidden, head=head))

    gradient = jax.value_and_grad(total, (0, 1) if trained else 0)
    return jax.jit(lambda example: gradient(example.hidden, example.head, example))


def _example(tokens: int, embed: int, vocab: int) -> Example:
    keys = jax.random.split(jax.random.key(0), 6)
    hidden, reference_hidden = (
        jax.random.normal(key, (tokens, embed)) for key in keys[:2]
    )
    head, reference_head = (
        0.05 * jax.random.normal(key, (embed, vocab)) for key in keys[2:4]
    )
    targets = jax.random.randint(keys[4], (tokens,), 0, vocab)
    weights = jax.random.normal(keys[5], (tokens,))
    return Example(hidden, head, reference_hidden, reference_head, targets, weights)


def _rounds(
    compiled: dict[str, jax.stages.Compiled], example: Example, repeats: int
) -> dict[str, list[Seconds]]:
    """Each round runs every system once, after one round that is not counted."""
    rounds: dict[str, list[Seconds]] = {system: [] for system in compiled}
    for _ in range(repeats + 1):
        for system, function in compiled.items():
            wall, cpu = time.perf_counter(), time.process_time()
            jax.block_until_ready(function(example))
            spent = Seconds(time.perf_counter() - wall, time.process_time() - cpu)
            rounds[system].append(spent)
    return {system: seconds[1:] for system, seconds in rounds.items()}


def _summary(own: list[Seconds], dense: list[Seconds]) -> dict[str, float]:
    pairs = list(zip(own, dense, strict=True))
    return {
        "cpu_s": round(statistics.median(spent.cpu for spent in own), 3),
        "wall_s": round(statistics.median(spent.wall for spent in own), 3),
        "ratio": round(statistics.median(a.cpu / b.cpu for a, b in pairs), 3),
        "ratio_wall": round(statistics.median(a.wall / b.wall for a, b in pairs), 3),
    }


def _temporary_mib(compiled: jax.stages.Compiled) -> int:
    memory = compiled.memory_analysis()
    assert memory is not None
    return round(memory.temp_size_in_bytes / 2**20)


if __name__ == "__main__":
    main()
