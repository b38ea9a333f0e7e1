# SPDX-License-Identifier: Apache-2.0
"""Couples: which two instances CoIN holds against each other, decided before a run.

A couple is one instruction over two instances whose answers differ (Yan et al. 2024,
arXiv:2402.11138): each is the other's hard negative. Instances that share a text are
one family and in one split.
"""

from __future__ import annotations

import dataclasses
import heapq
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from data_gen import seeds
from data_gen.couple_settings import SEEDS, CoIN, Source
from data_gen.records import Rejected, digest
from data_gen.seeds import Seed, SplitFractions
from data_gen.strategies import draw
from data_gen.tasks import OPEN, TASKS, Instance, families, same_answer
from data_gen.tasks import read as reading
from data_gen.tasks.read import instances
from data_gen.tasks.recorded import Recorded, recorded

NAME = "coin"


@dataclass(frozen=True)
class Side:
    """One instance of a couple: `reworded` is the same in other words, where a file
    has it; `labels` are the answers that its instruction offers."""

    source: str
    task: str
    labels: tuple[str, ...]
    instance: Instance
    reworded: Instance | None = None


@dataclass(frozen=True)
class Couple:
    """Two instances of one split, and the level at which they are to be reworded."""

    name: str
    split: str
    level: str
    i: Side
    j: Side


@dataclass(frozen=True)
class Pool:
    """All instances that can be used, by split and source, and what was dropped."""

    sides: Mapping[str, Mapping[str, tuple[Side, ...]]]
    rejected: tuple[Rejected, ...]


def gather(
    sources: Sequence[Source],
    splits: SplitFractions,
    *,
    seed: int,
    limit: int,
    near_duplicate: float,
    own_seeds: Sequence[Seed] = (),
) -> Pool:
    """Read all sources and put every family into its split.

    Args:
      sources: at least one; their names differ.
      splits: share of the families that each split gets.
      seed: decides which instances are taken where `limit` leaves some out.
      limit: instances of a source at most; 0 takes all.
      near_duplicate: a training instance is dropped if its words are at least this
        similar (Jaccard) to those of a held-out one.
      own_seeds: the seeds of the run, for a source that is of them.

    Raises:
      ValueError: a file cannot be read, or two sources have one name.
    """
    names = [source.name for source in sources]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"two sources are named {twice}: rename one of the files")
    rejected: list[Rejected] = []
    taken: list[Side] = []
    seen: dict[str, Instance] = {}
    for source in sources:
        found = []
        for side in _sides(source, own_seeds):
            own = side.instance
            reason = _unusable(side, seen)
            if reason:
                rejected.append(_dropped(own, "", reason, side.source))
                continue
            seen[own.id] = own
            found.append(side)
        found.sort(key=lambda side: draw(seed, NAME, "instance", side.instance.id))
        taken += found[: limit or None]
    root = families(side.instance for side in taken)
    split = {own: seeds.split_of(own, splits) for own in root.values()}
    near = _near_held_out(taken, root, split, near_duplicate)
    sides: dict[str, dict[str, list[Side]]] = {
        name: defaultdict(list) for name in ("train", "validation", "test")
    }
    for side in taken:
        family = root[side.instance.id]
        own = dataclasses.replace(side.instance, root_id=family)
        if own.id in near:
            detail = near[own.id]
            rejected.append(_dropped(own, "train", "near_held_out", detail))
            continue
        sides[split[family]][side.source].append(
            dataclasses.replace(side, instance=own)
        )
    return Pool(
        {name: {k: tuple(v) for k, v in own.items()} for name, own in sides.items()},
        tuple(rejected),
    )


def pair_up(
    pool: Pool,
    *,
    seed: int,
    levels: Sequence[str],
    repeats: int,
    is_mixed: bool,
    most: Mapping[str, int],
) -> tuple[list[Couple], list[Rejected]]:
    """The couples of all splits, and the instances that found no partner.

    Args:
      pool: from `gather`.
      seed: decides partners, order and levels.
      levels: at least one; couples take them in turn.
      repeats: how often all instances are paired; >= 1.
      is_mixed: partners come from another source, instead of the same one.
      most: couples of each split at most; 0 takes all, a split not named has none.
    """
    couples: list[Couple] = []
    dropped: list[Rejected] = []
    for split in pool.sides:
        if split not in most:
            continue
        own: list[Couple] = []
        for repeat in range(repeats):
            name = f"{NAME}/{seed}/{split}/{repeat}"
            for one, other in _partners(pool.sides[split], name, is_mixed):
                if other is not None and _differ(one, other):
                    own.append(_couple(name, split, one, other))
                elif repeat == 0:  # it finds none in a later round either
                    reason = "no_partner" if other is None else "same_answer"
                    detail = other.instance.id if other else one.instance.answer
                    dropped.append(_dropped(one.instance, split, reason, detail))
        own.sort(key=lambda couple: draw(seed, NAME, "order", couple.name))
        first = draw(seed, NAME, "level", split)
        couples += [
            dataclasses.replace(couple, level=levels[(first + place) % len(levels)])
            for place, couple in enumerate(own[: most[split] or None])
        ]
    return couples, dropped


@dataclass(frozen=True)
class Plan:
    """The couples of a run, what a file has recorded, and what was dropped."""

    couples: tuple[Couple, ...] = ()
    recorded: tuple[Recorded, ...] = ()
    rejected: tuple[Rejected, ...] = ()


def load(
    config: CoIN,
    splits: SplitFractions,
    *,
    seed: int,
    near_duplicate: float,
    own_seeds: Sequence[Seed] = (),
) -> Plan:
    """Read the sources and couple their instances.

    Raises:
      ValueError: a file cannot be read, or no training couple is left.
    """
    pool: Pool = gather(
        config.all_sources,
        splits,
        seed=seed,
        limit=config.instances,
        near_duplicate=near_duplicate,
        own_seeds=own_seeds,
    )
    most = {"train": config.couples}
    if config.held_out:
        most |= {"validation": config.held_out, "test": config.held_out}
    couples, dropped = pair_up(
        pool,
        seed=seed,
        levels=config.levels,
        repeats=config.repeats,
        is_mixed=config.negatives == "other_task",
        most=most,
    )
    if not any(couple.split == "train" for couple in couples):
        raise ValueError(
            "coin: no training couple: two training instances of a source must have "
            "different answers; give more instances, or a larger splits.train"
        )
    known = recorded(config.recorded) if config.recorded else ()
    return Plan(tuple(couples), known, (*pool.rejected, *dropped))


def fingerprint(config: CoIN) -> str:
    """sha256 of the content of all files that are read, by the names they go by."""
    files = [
        [source.name, *map(_content, (source.path, source.paraphrases))]
        for source in config.all_sources
    ]
    return digest([*files, _content(config.recorded)])


def _sides(source: Source, own_seeds: Sequence[Seed]) -> Iterator[Side]:
    """The instances of a source, each with its paraphrase where a file has one."""
    if source.path == SEEDS:
        for item in own_seeds:
            own = Instance(item.id, {"request": item.text}, item.answer or "")
            yield Side(source.name, source.task, (), own)
        return
    found = instances(source.task, source.path, source.labels)
    reworded: Sequence[Instance | None] = [None] * len(found)
    if source.paraphrases:
        reworded = instances(source.task, source.paraphrases, source.labels)
        if len(reworded) != len(found):
            raise ValueError(
                f"{source.paraphrases}: has {len(reworded)} instances, {source.path} "
                f"{len(found)}; each line must be the paraphrase of the same line there"
            )
    offered: tuple[str, ...] = ()
    if words := source.labels or TASKS[source.task].labels:
        given = {own.answer for own in found}
        offered = tuple(w for w in dict.fromkeys(words.values()) if w in given)
    for own, other in zip(found, reworded, strict=True):
        yield Side(source.name, source.task, offered, own, other)


def _unusable(side: Side, seen: Mapping[str, Instance]) -> str | None:
    """Why an instance cannot be in a couple, given those before it."""
    own = side.instance
    has_answer = same_answer(own.answer) or side.task == OPEN  # the model's, later
    if not has_answer or not all(own.fields.values()):
        return "empty"
    if own.id not in seen:
        return None
    is_same = same_answer(own.answer) == same_answer(seen[own.id].answer)
    return "duplicate" if is_same else "contradicted"


def _near_held_out(
    sides: Sequence[Side],
    root: Mapping[str, str],
    split: Mapping[str, str],
    threshold: float,
) -> dict[str, str]:
    """Training instances that nearly repeat a held-out one, and which."""
    texts = [Seed(side.instance.id, side.instance.text) for side in sides]
    near: dict[str, str] = {}
    for first, second, similarity in seeds.near_duplicates(texts, threshold):
        for own, other in ((first, second), (second, first)):
            held_out = split[root[other.id]]
            if split[root[own.id]] == "train" and held_out != "train":
                detail = f"like {held_out} instance {other.id} ({similarity:.2f})"
                near.setdefault(own.id, detail)
    return near


def _partners(
    by_source: Mapping[str, Sequence[Side]], name: str, is_mixed: bool
) -> Iterator[tuple[Side, Side | None]]:
    """Pairs of instances from two groups, largest groups first, so that as few as
    possible are left alone. The groups are the answers of a source, or the sources."""
    if is_mixed:
        yield from _matched(list(by_source.values()), name)
        return
    for sides in by_source.values():
        groups: dict[str, list[Side]] = defaultdict(list)
        for side in sides:
            groups[_answer(side)].append(side)
        yield from _matched(list(groups.values()), name)


def _matched(
    groups: Sequence[Sequence[Side]], name: str
) -> Iterator[tuple[Side, Side | None]]:
    queues = [
        sorted(group, key=lambda side: draw(name, side.instance.id), reverse=True)
        for group in groups
    ]
    heap = [
        (-len(queue), draw(name, queue[-1].instance.id), place)
        for place, queue in enumerate(queues)
        if queue
    ]
    heapq.heapify(heap)
    while len(heap) > 1:
        taken = [heapq.heappop(heap), heapq.heappop(heap)]
        one, other = (queues[place].pop() for _, _, place in taken)
        for _, tie, place in taken:
            if queues[place]:
                heapq.heappush(heap, (-len(queues[place]), tie, place))
        # Which of the two is i must not tell which answer is the more frequent one.
        if draw(name, one.instance.id, other.instance.id) % 2:
            one, other = other, one
        yield one, other
    for _, _, place in heap:
        for side in queues[place]:
            yield side, None


def _differ(one: Side, other: Side) -> bool:
    """The answers are not the same, so one is a true negative of the other."""
    return _answer(one) != _answer(other)


def _answer(side: Side) -> str:
    """What an answer is compared by; one that is not known yet is like no other."""
    own = side.instance
    return same_answer(own.answer) if own.answer else f"?{own.id}"


def _couple(name: str, split: str, one: Side, other: Side) -> Couple:
    ids = [name, one.source, one.instance.id, other.source, other.instance.id]
    return Couple(digest(ids)[:24], split, "", one, other)


def _dropped(own: Instance, split: str, reason: str, detail: str) -> Rejected:
    root = own.root_id or own.id
    return Rejected(NAME, root, 0, split, "plan", reason, detail, own.text)


def _content(path: str) -> str:
    return "" if path in ("", SEEDS) else reading.fingerprint(path)
