# SPDX-License-Identifier: Apache-2.0
"""What is asked of the sampler, and what it returns."""

from __future__ import annotations

import dataclasses
from typing import Literal

FinishReason = Literal["stop", "length"]


@dataclasses.dataclass(frozen=True)
class Settings:
    """How one request is sampled.

    Attributes:
      temperature: divides the scores; 0 = greedy. >= 0.
      top_k: keep the k most probable tokens; 0 = all.
      top_p: then keep the smallest set of most probable tokens whose probability
        reaches top_p; in (0, 1], 1 = all (Holtzman et al. 2020, arXiv:1904.09751).
      max_new_tokens: at most this many tokens are sampled; > 0.
      stop: texts that end the answer; the answer is cut before them.
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    max_new_tokens: int = 128
    stop: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not 0 <= self.temperature < float("inf"):
            raise ValueError(
                f"temperature must be 0 (greedy) or above, got {self.temperature}"
            )
        if self.top_k < 0:
            raise ValueError(f"top_k must be 0 (all) or above, got {self.top_k}")
        if not 0 < self.top_p <= 1:
            raise ValueError(f"top_p must be in (0, 1], got {self.top_p}")
        if self.max_new_tokens < 1:
            raise ValueError(f"max_new_tokens must be > 0, got {self.max_new_tokens}")
        if "" in self.stop:
            raise ValueError("stop: an empty text would end every answer at once")


@dataclasses.dataclass(frozen=True)
class Request:
    """A prompt to be continued `n` times.

    Sample i is a function of (tokens, settings, seed, i) and of the sampler's shapes
    and weights; neighbours and order do not change it. The seed is in [0, 2^31).
    """

    id: str
    tokens: tuple[int, ...]
    n: int = 1
    seed: int = 0
    settings: Settings = Settings()

    def __post_init__(self) -> None:
        if not self.tokens:
            raise ValueError(f"request {self.id}: the prompt is empty")
        if self.n < 1:
            raise ValueError(f"request {self.id}: n must be > 0, got {self.n}")
        if not 0 <= self.seed < 1 << 31:
            raise ValueError(
                f"request {self.id}: seed must be in [0, 2^31), got {self.seed}"
            )


@dataclasses.dataclass(frozen=True)
class Result:
    """One sampled answer.

    Attributes:
      tokens: sampled ids without the end-of-turn token; those of a stop text stay.
      text: the ids decoded; where a stop text ended it, cut before that text.
      logprobs: log p of each of `tokens` under the untempered model, in nats.
      finish_reason: "stop" (end-of-turn token or stop text) or "length".
    """

    id: str
    sample: int
    tokens: tuple[int, ...]
    text: str
    logprobs: tuple[float, ...]
    finish_reason: FinishReason
