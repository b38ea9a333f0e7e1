# SPDX-License-Identifier: Apache-2.0
"""Six requests that can be looked at one by one, and a sampler for them."""

from __future__ import annotations

import dataclasses
from typing import Any

from alignjax.models import Model, Params
from alignjax.sampling import Request, Sampler, Settings
from mixed_requests import SHAPES, Digits, prompt

GREEDY = Settings(temperature=0.0, max_new_tokens=12)
Tiny = tuple[Model, Params]

# Of several lengths (prefill calls of 32 and 64 tokens), settings and n.
REQUESTS = [
    Request("greedy", prompt(0, 5), settings=GREEDY),
    Request("warm", prompt(1, 9), n=5, seed=4, settings=Settings(max_new_tokens=20)),
    Request("long", prompt(2, 40), seed=9, settings=Settings(1.5, max_new_tokens=30)),
    Request("k", prompt(3, 32), n=4, settings=Settings(top_k=5, max_new_tokens=9)),
    Request("p", prompt(4, 1), seed=2, settings=Settings(0.7, 0, 0.8, 17)),
    Request("one", prompt(5, 33), seed=3, settings=Settings(max_new_tokens=1)),
]
WARM = REQUESTS[1]


def make(tiny: Tiny, *eos_ids: int, **changes: Any) -> Sampler:
    return Sampler(*tiny, Digits(*eos_ids), **{**SHAPES, **changes})


def greedy(size: int, tokens: int, *, seed: int = 8, name: str = "full") -> Request:
    settings = dataclasses.replace(GREEDY, max_new_tokens=tokens)
    return Request(name, prompt(seed, size), settings=settings)
