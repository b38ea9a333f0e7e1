# SPDX-License-Identifier: Apache-2.0
"""Run by test_mesh in a process that has eight virtual CPU devices.

Prints one JSON object: for each mesh, how the answers to the same requests compare with
those of a sampler on one device, and what was compiled.
"""

import dataclasses
import json
import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh

import tiny_models
from alignjax import sharding
from alignjax.models import Model, Params, decoder
from alignjax.sampling import Sampler, decode
from mixed_requests import SHAPES, VOCAB, Digits, answers, compare, mixed

CONFIG = tiny_models.decoder(vocab=VOCAB, is_tied=False, context=128)
# One prefill bucket, so that there is less to compile.
ASKED: dict[str, Any] = {**SHAPES, "prefill_tokens": 32}
REQUESTS = mixed(100)
# Sizes of data, fsdp and tensor. Two key and value heads cannot be split over four
# devices: each has both.
MESHES = {
    "one": (1, 1, 1),
    "two": (2, 1, 1),
    "eight": (4, 2, 1),
    "tensor": (1, 2, 2),
    "heads": (2, 1, 4),
}


def main() -> None:
    """Of the meshes that are named, all with int8 if that is."""
    tiny = decoder.build(CONFIG), random_params()
    asked = {**ASKED, "cache_dtype": "int8" if "int8" in sys.argv else None}
    alone = answers(Sampler(*tiny, Digits(), **asked), REQUESTS)
    report = {
        name: on(tiny, mesh(*MESHES[name]), asked, alone)
        for name in sys.argv[1:]
        if name in MESHES
    }
    json.dump(report, sys.stdout)


def on(tiny: tuple[Model, Params], mesh: Mesh, asked: Any, alone: Any) -> Any:
    before = compiled()
    sampler = Sampler(*tiny, Digits(), **asked, mesh=mesh)
    found = answers(sampler, REQUESTS)
    programs = [after - old for old, after in zip(before, compiled(), strict=True)]
    again = answers(sampler, REQUESTS[::-1])
    caches = [replica.cache for replica in sampler._runner._replicas]
    return {
        **dataclasses.asdict(compare(tiny, REQUESTS, alone, found)),
        "is_equal": found == alone,
        "is_repeated": again == found,
        "slots": len(sampler._answers),
        "programs": [count / sampler._runner.replicas for count in programs],
        "devices": len(set().union(*(x.devices() for x in jax.tree.leaves(caches)))),
    }


def mesh(*sizes: int) -> Mesh:
    """Over the first devices; `sharding.local_mesh` takes all."""
    devices = jax.devices()[: int(np.prod(sizes))]
    kinds = (AxisType.Auto,) * len(sizes)
    return jax.make_mesh(sizes, sharding.AXES, axis_types=kinds, devices=devices)


def compiled() -> list[int]:
    jitted: list[Any] = [decode.prefill, decode.copy_prompt, decode.decode]
    return [function._cache_size() for function in jitted]


def random_params() -> Params:
    rng = np.random.default_rng(0)
    return jax.tree.map(
        lambda leaf: jnp.asarray(rng.normal(size=leaf.shape) * 0.3, leaf.dtype),
        decoder.abstract(CONFIG),
    )


if __name__ == "__main__":
    main()
