# SPDX-License-Identifier: Apache-2.0
"""How fast the sampler is: beside its peers, with uneven answers, and for long."""

from __future__ import annotations

import dataclasses
import itertools
import json
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from alignjax.sampling import Request, Sampler
from timing import parts, peers, record, subject, traffic
from timing.peers import Peer, Work
from timing.record import Compilations
from timing.subject import Subject

# `long` looks at the rate and at the memory whenever so many tokens are made.
MARKS = (1_000, 3_000, 10_000, 30_000, 100_000, 300_000, 1_000_000)


def side_by_side(
    it: Subject,
    work: Work,
    *,
    name: str,
    options: Mapping[str, Any],
    against: Sequence[Peer],
    rounds: int,
    repeats: int,
    seed: int,
    compilations: Compilations,
) -> Iterator[dict[str, Any]]:
    """Rounds of ours and the peers in turn, the best of some repeats in each.

    Yields:
      A line per system, with the bare matrix products of a step as one of them: what
      the machine would allow if nothing else took time.
    """
    if against and it.folder is None:
        raise ValueError("a peer needs a model folder")
    answers = work.prompts * work.samples
    chosen = {
        "slots": answers,
        "context": work.prompt + work.new,
        "answer": work.new,
        "share": work.samples,
        "prompts": work.prompts,
        **options,
    }
    sampler = it.sampler(**chosen)

    def requests(seed: int) -> list[Request]:
        return traffic.even(work, vocab=it.vocab, banned=it.end_ids, seed=seed)

    subject.run(sampler, requests(seed))
    warm = compilations.total
    ours: list[list[float]] = []
    products = parts.Products(it, answers)
    limits: list[float] = []
    cost: dict[str, Any] = {}
    theirs: dict[str, list[list[float]]] = {peer.name: [] for peer in against}
    runs = []
    for number in range(rounds):
        mine = [
            subject.run(sampler, requests(seed + 1 + number * repeats + repeat))
            for repeat in range(repeats)
        ]
        for run in mine:
            made = sum(len(result.tokens) for result in run.results)
            assert made == work.tokens, "an answer ended early"
        runs += mine
        ours.append([run.tokens_per_s for run in mine])
        record.say(f"{name}: round {number + 1}: alignjax {max(ours[-1]):.1f} tokens/s")
        # Before the products are compiled and take memory.
        cost = cost or _cost(compilations, warm)
        limits.append(products.tokens_per_s())
        record.say(f"{name}: round {number + 1}: products {limits[-1]:.1f} tokens/s")
        for peer in against:
            assert it.folder is not None
            spent = peer.seconds(it.folder, work, dtype=it.model.config.dtype)
            theirs[peer.name].append([work.tokens / s for s in spent])
            best = max(theirs[peer.name][-1])
            record.say(f"{name}: round {number + 1}: {peer.name} {best:.1f} tokens/s")
    best_of = {system: [max(r) for r in rates] for system, rates in theirs.items()}
    best_of["products"] = limits
    about = {
        "work": {"name": name, "model": it.name, **work._asdict()},
        "dtype": it.model.config.dtype,
        "rounds": rounds,
    }
    yield {
        "system": "alignjax",
        **about,
        "tokens_per_s": record.rates(list(itertools.chain(*ours))),
        "ratio": peers.ratios([max(rates) for rates in ours], best_of),
        "sampler": dataclasses.asdict(sampler.shapes),
        "seed": seed,
        "useful_share": round(subject.useful_share(runs), 4),
        **cost,
    }
    yield {
        "system": "products",
        **about,
        "tokens_per_s": record.rates(limits),
        "versions": record.versions(),
    }
    for peer in against:
        yield {
            "system": peer.name,
            **about,
            "tokens_per_s": record.rates(list(itertools.chain(*theirs[peer.name]))),
            "versions": peer.versions(),
        }


def uneven(
    it: Subject,
    *,
    answers: int,
    samples: Sequence[int],
    options: Mapping[str, Any],
    seed: int,
    compilations: Compilations,
    picture: Path,
) -> Iterator[dict[str, Any]]:
    """Answers of realistic lengths, with one and with several samples per prompt.

    Yields:
      A line for each number of samples. The busy slots over time go to `picture`.
    """
    drawn = []
    for n in samples:
        chosen = {
            "slots": 32,
            "context": traffic.CONTEXT,
            "answer": traffic.LONGEST + 1,
            "share": n,
            **options,
        }
        sampler = it.sampler(**chosen)
        requests, wanted = traffic.uneven(
            -(-answers // n), n=n, vocab=it.vocab, banned=it.end_ids, seed=seed
        )
        record.say(f"uneven, n={n}: finds where each answer ends")
        planned = subject.run(sampler, requests)
        requests = traffic.ended(requests, wanted, planned.results)
        warm = compilations.total
        timeline = Timeline(sampler)
        record.say(f"uneven, n={n}: {len(requests) * n} answers")
        run = subject.run(sampler, requests)
        _check_replay(planned, run)
        made = sorted(len(result.tokens) for result in run.results)
        share = round(subject.useful_share([run]), 4)
        drawn.append({"n": n, "useful_share": share, **timeline.picture()})
        yield {
            "system": "alignjax",
            "work": {
                "name": "uneven",
                "model": it.name,
                "answers": len(made),
                "samples": n,
                "prompt_tokens": list(traffic.PROMPTS),
                "new_tokens": traffic.LENGTHS,
            },
            "dtype": it.model.config.dtype,
            "tokens": sum(made),
            "median_length": statistics.median(made),
            "shortest": made[0],
            "longest": made[-1],
            "tokens_per_s": round(run.tokens_per_s, 1),
            "useful_share": share,
            "busy_share_before_the_last_prompt": round(timeline.busy_share(), 4),
            "sampler": dataclasses.asdict(sampler.shapes),
            "seed": seed,
            **_cost(compilations, warm),
        }
    about = {"model": it.name, "machine": record.machine(), "runs": drawn}
    picture.parent.mkdir(parents=True, exist_ok=True)
    picture.write_text(json.dumps(about, separators=(",", ":")) + "\n")


def long(
    it: Subject,
    *,
    tokens: int,
    options: Mapping[str, Any],
    seed: int,
    compilations: Compilations,
) -> dict[str, Any]:
    """Mixed requests until so many tokens are made: rate, memory and compilations."""
    chosen = {
        "slots": 32,
        "context": traffic.CONTEXT,
        "answer": traffic.LONGEST + 1,
        "share": 4,
        "prompts": 24,  # two requests out of three have one sample
        **options,
    }
    sampler = it.sampler(**chosen)

    def mixed(seed: int) -> Iterator[Request]:
        return traffic.mixed(vocab=it.vocab, banned=it.end_ids, seed=seed)

    warmup = list(itertools.islice(mixed(seed), 2 * chosen["slots"]))
    record.say(f"long: warm-up of {len(warmup)} requests")
    subject.run(sampler, warmup)
    warm = compilations.total
    marks = [mark for mark in MARKS if mark < tokens] + [tokens]
    windows: list[dict[str, Any]] = []
    made, began = 0, time.perf_counter()
    useful, steps = sampler.useful, sampler.steps

    def supply() -> Iterator[Request]:
        for request in mixed(seed + 1):
            if made >= tokens:
                return
            yield request

    last_made, last_s = 0, began
    for result in sampler.generate(supply()):
        if result.finish_reason == "refused":
            raise ValueError(f"request {result.id} was refused: {result.reason}")
        made += len(result.tokens)
        if len(windows) < len(marks) and made >= marks[len(windows)]:
            now = time.perf_counter()
            windows.append(
                {
                    "tokens": made,
                    "tokens_per_s": round((made - last_made) / (now - last_s), 1),
                    "memory_mib": record.memory_mib(),
                    "compilations": compilations.total,
                }
            )
            record.say(f"long: {json.dumps(windows[-1])}")
            last_made, last_s = made, now
    return {
        "system": "alignjax",
        "work": {
            "name": "long",
            "model": it.name,
            "samples": "1 and 4",
            "prompt_tokens": list(traffic.PROMPTS),
            "new_tokens": traffic.LENGTHS,
            "settings": "mixed",
        },
        "dtype": it.model.config.dtype,
        "tokens": made,
        "tokens_per_s": round(made / (time.perf_counter() - began), 1),
        "windows": windows,
        "useful_share": round((sampler.useful - useful) / (sampler.steps - steps), 4),
        "sampler": dataclasses.asdict(sampler.shapes),
        "seed": seed,
        **_cost(compilations, warm),
    }


class Timeline:
    """Hears of every device call of a sampler, from now on."""

    def __init__(self, sampler: Sampler):
        self.calls: list[tuple[float, Any]] = []
        self._began = time.perf_counter()
        sampler.on_tick = self._hear

    def _hear(self, tick: Any) -> None:
        end = time.perf_counter() - self._began
        self.calls.append((end - tick.wall_s, tick))

    def picture(self) -> dict[str, Any]:
        """For docs/plots.py: calls as [start, length, busy slots], in milliseconds."""
        kinds: dict[str, list[list[int]]] = {"prefill": [], "decode": []}
        for start, tick in self.calls:
            times = round(1000 * start), round(1000 * tick.wall_s)
            kinds[tick.kind].append([*times, tick.busy])
        return {"slots": max(tick.slots for _, tick in self.calls), **kinds}

    def seconds(self) -> dict[str, float]:
        """Spent in the calls of each kind."""
        spent = {"prefill": 0.0, "decode": 0.0}
        for _, tick in self.calls:
            spent[tick.kind] += tick.wall_s
        return spent

    def busy_share(self) -> float:
        """Busy slots, of all, in the decoding calls before the last prefill: without
        the end, when nothing waits for the slots that become free."""
        last = max(
            i for i, (_, tick) in enumerate(self.calls) if tick.kind == "prefill"
        )
        before = [tick for _, tick in self.calls[:last] if tick.kind == "decode"]
        slots = sum(tick.slots for tick in before)
        return sum(tick.busy for tick in before) / slots if slots else 0.0


def _check_replay(planned: subject.Run, run: subject.Run) -> None:
    """The answers are those of before, up to their ends."""
    whole = {(r.id, r.sample): r.tokens for r in planned.results}
    for result in run.results:
        before = whole[result.id, result.sample]
        common = min(len(before), len(result.tokens))
        assert result.tokens[:common] == before[:common], "an answer changed"


def _cost(compilations: Compilations, warm: int) -> dict[str, Any]:
    return {
        "compilations": {
            "total": compilations.total,
            "after_warm_up": compilations.total - warm,
        },
        "peak_memory_mib": record.peak_memory_mib(),
        "versions": record.versions(),
    }
