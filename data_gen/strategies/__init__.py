# SPDX-License-Identifier: Apache-2.0
"""Strategies: one coroutine per seed, many at once on one or several engines.

A coroutine yields a tuple of requests, receives for each the tuple of its samples, and
returns an Outcome. Everything random in it derives from the lineage's name, so neither
the order of answers nor the set of other lineages changes what it makes.
"""

from __future__ import annotations

import hashlib
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, Protocol

from data_gen.embed import Embedder
from data_gen.engines import (
    Engine,
    Generate,
    Generation,
    Settings,
    ensemble,
    request_id,
)
from data_gen.filters import Gates
from data_gen.records import Example, Message, Rejected, digest

Steps = Generator[tuple[Generate, ...], tuple[tuple[Generation, ...], ...], "Outcome"]
Stages = Counter[tuple[str, int, str]]  # (strategy, round, stage) -> how many


class Identity(NamedTuple):
    """What an engine's samples are stored and exported under."""

    fingerprint: str
    facts: Mapping[str, str]


class Reward(Protocol):
    """Scores answers to one prompt, higher is better; a function of its arguments and
    of what `fingerprint` names."""

    @property
    def fingerprint(self) -> str: ...

    def __call__(
        self, prompt: Sequence[Message], answers: Sequence[str]
    ) -> Sequence[float]: ...


@dataclass(frozen=True)
class Context:
    """What all lineages of a run share: a seed, the default engine, gates, an embedder,
    the named engines and a reward."""

    seed: int
    engine: str  # fingerprint
    facts: Mapping[str, str]
    gates: Gates = field(default_factory=Gates)
    embed: Embedder | None = None
    engines: Mapping[str, Identity] = field(default_factory=dict)
    reward: Reward | None = None

    def identity(self, name: str) -> Identity:
        """Of the engine with this name; "" is the default one.

        Raises:
          ValueError: no engine is configured under that name.
        """
        if not name:
            return Identity(self.engine, self.facts)
        if name not in self.engines:
            known = ", ".join(sorted(self.engines)) or "none"
            raise ValueError(
                f"there is no engine {name!r}; the section `engines` of the config "
                f"names them (now: {known})"
            )
        return self.engines[name]

    def ask(
        self,
        lineage: str,
        step: str,
        messages: tuple[Message, ...],
        n: int,
        settings: Settings,
        *,
        engine: str = "",
    ) -> Generate:
        """The request of one step of a lineage, its seed derived from their names.

        Greedy requests have seed 0: strategies that ask the same share the answer. The
        engines that a step asks have the same seed.
        """
        self.identity(engine)
        seed = draw(self.seed, lineage, step) if settings.temperature else 0
        key = digest([lineage, step, *filter(None, [engine])])[:32]
        return Generate(key, messages, n, seed, settings, engine)

    def generation(self, request: Generate, sample: int) -> str:
        """The name under which a sample is stored and exported."""
        engine = self.identity(request.engine)
        return f"{request_id(request, engine.fingerprint)}/{sample}"

    def provenance(self, request: Generate, task: str) -> dict[str, Any]:
        """Where an example's samples came from, down to the sampler's settings."""
        engine = self.identity(request.engine)
        named = {"name": request.engine} if request.engine else {}
        return {
            "engine": {**engine.facts, "fingerprint": engine.fingerprint, **named},
            "settings": {
                "temperature": request.settings.temperature,
                "top_k": request.settings.top_k,
                "top_p": request.settings.top_p,
                "max_new_tokens": request.settings.max_new_tokens,
                "stop": list(request.settings.stop),
            },
            "seed": request.seed,
            "samples": request.n,
            "task": task,
        }


@dataclass(frozen=True)
class Outcome:
    """What a lineage made, what it dropped, and how many got how far."""

    examples: tuple[Example, ...] = ()
    rejected: tuple[Rejected, ...] = ()
    stages: Stages = field(default_factory=Counter)


@dataclass(frozen=True)
class Lineage:
    """A coroutine with its name and the most samples that it may ask for."""

    name: str
    planned: int
    steps: Steps


@dataclass
class Trail:
    """Collects what one lineage does; its coroutine fills it and returns `outcome`."""

    strategy: str
    root_id: str
    split: str
    examples: list[Example] = field(default_factory=list)
    rejected: list[Rejected] = field(default_factory=list)
    stages: Stages = field(default_factory=Counter)

    def count(self, round_number: int, stage: str, count: int = 1) -> None:
        """So many got as far as this stage."""
        self.stages[self.strategy, round_number, stage] += count

    def drop(
        self,
        round_number: int,
        stage: str,
        reason: str,
        *,
        text: str = "",
        generation: str = "",
        detail: str = "",
    ) -> None:
        """Record something that goes no further."""
        self.rejected.append(
            Rejected(
                self.strategy,
                self.root_id,
                round_number,
                self.split,
                stage,
                reason,
                detail,
                text,
                generation,
            )
        )

    def outcome(self) -> Outcome:
        return Outcome(tuple(self.examples), tuple(self.rejected), self.stages)


@dataclass(frozen=True)
class Tick:
    """How far a run is: `done` of `total` planned samples, of which `samples` were
    given out (the others turned out not to be needed), with `tokens` tokens."""

    done: int
    total: int
    samples: int
    tokens: int
    examples: int


@dataclass
class _Running:
    lineage: Lineage
    requests: tuple[Generate, ...] = ()
    samples: dict[str, dict[int, Generation]] = field(default_factory=dict)
    missing: int = 0
    received: int = 0


def drive(
    lineages: Sequence[Lineage],
    engine: Engine | Mapping[str, Engine],
    report: Callable[[Tick], None] = lambda tick: None,
) -> dict[str, Outcome]:
    """Run all lineages; every engine is kept full as long as there is work for it.

    Args:
      lineages: with names that differ.
      engine: the only one, or several by the names that requests give, "" the default
        one. Token ids of an engine with another template than the default's are left
        out: training would read them with the wrong tokenizer.
      report: called after every sample.

    Returns:
      Outcomes by lineage name, in the order of `lineages`.
    """
    engines = engine if isinstance(engine, Mapping) else {"": engine}
    template = engines[""].facts.get("template")
    foreign = {n for n in engines if engines[n].facts.get("template") != template}
    waiting: deque[Generate] = deque()
    owner: dict[str, _Running] = {}
    outcomes: dict[str, Outcome] = {}
    total = sum(lineage.planned for lineage in lineages)
    done = tokens = examples = in_flight = 0

    def advance(run: _Running, answers: tuple[tuple[Generation, ...], ...] | None):
        nonlocal done, examples
        try:
            # A fresh generator takes None; after that it takes its answers.
            run.requests = run.lineage.steps.send(answers)  # type: ignore[arg-type]
        except StopIteration as stop:
            outcomes[run.lineage.name] = stop.value
            done += run.lineage.planned - run.received
            examples += len(stop.value.examples)
            return
        run.samples = {request.key: {} for request in run.requests}
        run.missing = sum(request.n for request in run.requests)
        for request in run.requests:
            if request.key in owner:
                raise ValueError(f"{run.lineage.name}: asks twice as {request.key}")
            owner[request.key] = run
        waiting.extend(run.requests)

    def feed() -> Iterator[Generate | None]:
        nonlocal in_flight
        while waiting or in_flight:
            if waiting:
                request = waiting.popleft()
                in_flight += request.n
                yield request
            else:
                yield None

    for lineage in lineages:
        advance(_Running(lineage), None)
    with closing(ensemble.generate(engines, feed())) as stream:
        for samples, generation in enumerate(stream, start=1):
            run = owner[generation.key]
            asked = next(r for r in run.requests if r.key == generation.key)
            if asked.engine in foreign:
                generation = replace(generation, token_ids=())
            run.samples[generation.key][generation.sample] = generation
            run.missing -= 1
            run.received += 1
            in_flight -= 1
            done += 1
            tokens += generation.tokens
            if run.missing == 0:
                answers = tuple(
                    tuple(run.samples[request.key][i] for i in range(request.n))
                    for request in run.requests
                )
                advance(run, answers)
            report(Tick(done, total, samples, tokens, examples))
    return {lineage.name: outcomes[lineage.name] for lineage in lineages}


def draw(*parts: object) -> int:
    """A number in [0, 2**31) that depends on the parts only."""
    content = "\x1f".join(str(part) for part in parts).encode()
    return int.from_bytes(hashlib.sha256(content).digest()[:4], "big") >> 1
