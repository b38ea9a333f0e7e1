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
from dataclasses import dataclass, field

from data_gen import seeds
from data_gen.records import Rejected, digest
from data_gen.seeds import Seed, SplitFractions
from data_gen.strategies import draw
from data_gen.tasks import TASKS, Instance, families, same_answer
from data_gen.tasks.read import BUILTIN, instances

NAME = "coin"


@dataclass(frozen=True)
class Source:
    """Where instances of a task come from.

    Args:
      task: sentiment, topic, grammar, entailment, paraphrase, word_sense, choice,
        yes_no, claim or word_problem.
      path: a .jsonl, .json or .tsv file, gzipped or not (for their formats see
        `data_gen.tasks.read`), or "builtin" for the project's own.
      paraphrases: a file of the same format whose lines are the instances of `path` in
        other words; "" for none.
      labels: what the file calls an answer -> the word to ask for; {} takes the task's.
    """

    task: str
    path: str = BUILTIN
    paraphrases: str = ""
    labels: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.task not in TASKS:
            raise ValueError(
                f"task: there is no task {self.task!r} (known: {', '.join(TASKS)})"
            )
        if self.labels and not TASKS[self.task].labels:
            raise ValueError(
                f"labels: the answers of {self.task} are texts; leave it out"
            )

    @property
    def name(self) -> str:
        """Distinguishes sources; does not depend on where the file lies."""
        return f"{self.task}/{self.path.replace(chr(92), '/').rpartition('/')[2]}"


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
) -> Pool:
    """Read all sources and put every family into its split.

    Args:
      sources: at least one; their names differ.
      splits: share of the families that each split gets.
      seed: decides which instances are taken where `limit` leaves some out.
      limit: instances of a source at most; 0 takes all.
      near_duplicate: a training instance is dropped if its words are at least this
        similar (Jaccard) to those of a held-out one.

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
        for side in _sides(source):
            own = side.instance
            reason = _unusable(own, seen)
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


def _sides(source: Source) -> Iterator[Side]:
    """The instances of a source, each with its paraphrase where a file has one."""
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


def _unusable(own: Instance, seen: Mapping[str, Instance]) -> str | None:
    """Why an instance cannot be in a couple, given those before it."""
    if not same_answer(own.answer) or not all(own.fields.values()):
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
            groups[same_answer(side.instance.answer)].append(side)
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
    return same_answer(one.instance.answer) != same_answer(other.instance.answer)


def _couple(name: str, split: str, one: Side, other: Side) -> Couple:
    ids = [name, one.source, one.instance.id, other.source, other.instance.id]
    return Couple(digest(ids)[:24], split, "", one, other)


def _dropped(own: Instance, split: str, reason: str, detail: str) -> Rejected:
    root = own.root_id or own.id
    return Rejected(NAME, root, 0, split, "plan", reason, detail, own.text)
