# SPDX-License-Identifier: Apache-2.0
"""What a DPO step costs, by what is trained: all parameters, or adapters on some maps.

    python benchmarks/training_step.py                 # SmolLM2-135M's shape, 6 layers
    python benchmarks/training_step.py --layers 30

Prints one JSON line per variant: processor seconds of one gradient (all threads added
up, best of three, so that other work on the machine matters little), over random
weights and packed pairs of a 60-token prompt and two answers of 30 to 70 tokens.
"""

from __future__ import annotations

import argparse
import json
import time

import jax
import numpy as np

from alignjax.data import plan, rows
from alignjax.data.rows import Shape, Tokens
from alignjax.models import decoder, lora
from alignjax.models.decoder import LINEAR, DecoderConfig
from alignjax.train import find

ATTENTION = ("query", "key", "value", "out")
MLP = ("gate", "up", "down")
VARIANTS: dict[str, tuple[str, ...]] = {
    "all parameters": (),
    "adapters on all maps": LINEAR,
    "adapters on gate, up, down": MLP,
    "adapters on query, key, value, out": ATTENTION,
}


def main() -> None:
    parser = argparse.ArgumentParser(description="What a DPO step costs.")
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    config = DecoderConfig(
        vocab=49_152,
        embed=576,
        layers=arguments.layers,
        heads=9,
        kv_heads=3,
        head_dim=64,
        mlp=1536,
    )
    base = decoder.init(config, key=jax.random.key(0))
    batch, pairs = _batch()
    for name, modules in VARIANTS.items():
        params, adapted = base, config
        if modules:
            params, adapted = lora.add(
                base,
                config,
                rank=arguments.rank,
                alpha=32.0,
                modules=modules,
                key=jax.random.key(1),
            )
        trainable, frozen = lora.split(params) if modules else (params, {})
        join = lora.join if modules else lambda everything, _: everything
        gradient = jax.jit(jax.grad(_loss(decoder.build(adapted), join)))
        seconds = _cpu_seconds(gradient, trainable, frozen, batch, arguments.repeats)
        line = {
            "variant": name,
            "layers": arguments.layers,
            "parameters": sum(x.size for x in jax.tree.leaves(trainable)),
            "tokens": int((batch.group > 0).sum()),
            "pairs": pairs,
            "cpu_s": round(seconds, 3),
            "jax": jax.__version__,
        }
        print(json.dumps(line), flush=True)


def _batch() -> tuple[rows.Rows, int]:
    draw = np.random.default_rng(0)

    def ids(low: int, high: int) -> tuple[int, ...]:
        return tuple(draw.integers(5, 49_000, draw.integers(low, high + 1)).tolist())

    examples = [
        Tokens(str(i), ids(60, 60), (ids(30, 70), ids(30, 70))) for i in range(16)
    ]
    shape = Shape(rows=2, time=512, blocks=8, block=136, scored=384)
    first = plan.batches(examples, shape, seed=0, epochs=1)[0]
    return rows.build(first, examples, shape), sum(map(len, first))


def _loss(model, join):
    objective = find("dpo")

    def loss(trainable, frozen, batch):
        outcome = objective.function(model, join(trainable, frozen), batch)
        term = outcome.terms["dpo"]
        return term.sum / term.weight

    return loss


def _cpu_seconds(gradient, trainable, frozen, batch, repeats: int) -> float:
    jax.block_until_ready(gradient(trainable, frozen, batch))
    found = []
    for _ in range(repeats):
        began = time.process_time()
        jax.block_until_ready(gradient(trainable, frozen, batch))
        found.append(time.process_time() - began)
    return min(found)


if __name__ == "__main__":
    main()
