# SPDX-License-Identifier: Apache-2.0
"""Engines: where text comes from. One protocol, results stream.

A result depends on its request and on the engine's fingerprint, never on which
other requests were in flight. That is what makes the store (see store.py) valid.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Protocol

from data_gen.records import Message, digest

__all__ = ["Engine", "Generate", "Generation", "Message", "Settings", "request_id"]


@dataclass(frozen=True)
class Settings:
    """How to sample; temperature 0 is greedy, top_k 0 means no limit."""

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    max_new_tokens: int = 128
    stop: tuple[str, ...] = ()


@dataclass(frozen=True)
class Generate:
    """Ask for `n` samples; `key` comes back with each of them.

    `engine` is the name of a configured engine, "" the default one.
    """

    key: str
    messages: tuple[Message, ...]
    n: int
    seed: int
    settings: Settings
    engine: str = ""


@dataclass(frozen=True)
class Generation:
    """Sample number `sample` of the request `key`.

    `finish_reason` is "stop", "length" (ran into max_new_tokens), "context" (the
    prompt leaves no room, nothing was sampled) or "missing" (recorded outputs hold
    none for this prompt). `sum_logprob` is in nats; it means nothing where there are
    no `token_ids`.
    """

    key: str
    sample: int
    text: str
    token_ids: tuple[int, ...]
    finish_reason: str
    sum_logprob: float


class Engine(Protocol):
    """Anything that answers requests.

    `fingerprint` changes whenever the same request might get another answer.
    `facts` says in words what went into it (kind, model, template, ...).
    """

    @property
    def fingerprint(self) -> str: ...

    @property
    def facts(self) -> Mapping[str, str]: ...

    def generate(self, requests: Iterable[Generate | None]) -> Iterator[Generation]:
        """Stream one Generation per sample, in any order.

        `requests` should be consumed lazily: results taken from the stream lead to
        more requests while others are still running. None means "nothing at the
        moment, ask again after the next result".
        """
        ...


def request_id(request: Generate, engine: str) -> str:
    """sha256 of what decides the answer: engine, messages, settings, seed.

    Neither `key` nor `n` is part of it: sample i is the same text whether 4 or 8 are
    asked for, whoever asks.
    """
    return digest(
        {
            "engine": engine,
            "messages": [asdict(message) for message in request.messages],
            "settings": asdict(request.settings),
            "seed": request.seed,
        }
    )
