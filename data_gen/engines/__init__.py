# SPDX-License-Identifier: Apache-2.0
"""Engines: where text comes from. One protocol, results stream.

A result depends on its request and on the engine's fingerprint, never on which
other requests were in flight. That is what makes the store (see store.py) valid. A
server may answer the same request otherwise the next time; there the store makes the
first answer the only one.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Protocol

from data_gen.records import Message, digest

__all__ = [
    "Engine",
    "Generate",
    "Generation",
    "Message",
    "Served",
    "Settings",
    "request_id",
]


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

    `engine` is the name of a configured engine, "" the default one. `known` are numbers
    of samples that the asker has; they do not come back.
    """

    key: str
    messages: tuple[Message, ...]
    n: int
    seed: int
    settings: Settings
    engine: str = ""
    known: frozenset[int] = frozenset()

    @property
    def wanted(self) -> list[int]:
        """Numbers of the samples that come back."""
        return [sample for sample in range(self.n) if sample not in self.known]


@dataclass(frozen=True)
class Served:
    """What a server told with one sample. It stays in the store and the report: what is
    exported does not depend on it.

    `cost` is what the tokens cost at the configured prices, `attempts` how often the
    request was sent, `detail` why there is no answer.
    """

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost: float = 0.0
    attempts: int = 1
    model: str = ""
    system_fingerprint: str = ""
    detail: str = ""


@dataclass(frozen=True)
class Generation:
    """Sample number `sample` of the request `key`.

    `finish_reason` is "stop", "length" (ran into max_new_tokens) or "context" (the
    prompt leaves no room, nothing was sampled); from a server also "filtered" (its
    content filter), "refused" (it does not take this request) or "other" (it ended in
    a way that is not known here), from recorded outputs "missing" (they hold none for
    this prompt). `sum_logprob` is in nats, None where nobody told it;
    `token_ids` are empty there.
    """

    key: str
    sample: int
    text: str
    token_ids: tuple[int, ...]
    finish_reason: str
    sum_logprob: float | None
    served: Served | None = None

    @property
    def tokens(self) -> int:
        """How many were sampled, as far as it is known."""
        return len(self.token_ids) or (
            self.served.completion_tokens if self.served else 0
        )


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
        """Stream one Generation per sample that is wanted, in any order.

        `requests` should be consumed lazily: results taken from the stream lead to
        more requests while others are still running. None means "nothing at the
        moment, ask again later", after the next result at the latest; it comes only
        while results are missing. When `requests` ends, what was begun is finished.
        """
        ...


def request_id(request: Generate, engine: str) -> str:
    """sha256 of what decides the answer: engine, messages, settings, seed.

    Neither `key` nor `n` is part of it, nor the engine's name: sample i is the same
    text whether 4 or 8 are asked for, whoever asks.
    """
    return digest(
        {
            "engine": engine,
            "messages": [asdict(message) for message in request.messages],
            "settings": asdict(request.settings),
            "seed": request.seed,
        }
    )
