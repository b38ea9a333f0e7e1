# SPDX-License-Identifier: Apache-2.0
"""Sources: where seeds come from, and how foreign records become seeds of a run."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Literal, NamedTuple

from data_gen.records import digest
from data_gen.seeds import files, hub, plain
from data_gen.seeds.contamination import Contamination
from data_gen.seeds.formats import FORMATS, Options, Unusable, detect
from data_gen.seeds.gates import SeedGates, first_finding
from data_gen.seeds.overlap import Nearby, seed_words
from data_gen.seeds.seed import Dropped, Seed, content_id

_BLOCK = 4096  # seeds whose words say which words are rare
_MANY = 100  # bad records after which a file that is mostly bad is left
_TEXT = 2000  # characters of a dropped record that are kept


@dataclass(frozen=True)
class SeedSource:
    """A data set to take seeds from.

    Args:
      source: a file (.jsonl, .json, .tsv, .txt, each perhaps with .gz, or .parquet), a
        folder that `Dataset.save_to_disk` made, or the name of a data set on the hub.
      format: name of a format (`data-gen formats`); "" takes the one that the first
        record fits.
      split: of a data set on the hub or in a folder; "" is "train".
      subset, revision: of a data set on the hub; "" is its default.
      limit: stop after so many seeds; 0 takes all.
      turn: of conversations, which answer is the given one; "" is the format's choice.
      task: of formats whose records do not say it.
      max_bad_share: share of the records that may be unreadable or of another format;
        they are dropped, and counted where the source ends. 0 makes the first one an
        error. In [0, 1].
      gates: thresholds of the seed gates.
      decontaminate: files of evaluation sets, in any format; a seed that shares a
        stretch of words with one is dropped.
    """

    source: str
    format: str = ""
    split: str = ""
    subset: str = ""
    revision: str = ""
    limit: int = 0
    turn: Literal["", "first", "last"] = ""
    task: str = ""
    max_bad_share: float = 0.0
    gates: SeedGates = field(default_factory=SeedGates)
    decontaminate: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.format and self.format not in FORMATS:
            raise ValueError(
                f"format is {self.format!r}, expected one of {', '.join(FORMATS)}"
            )
        if self.limit < 0:
            raise ValueError(f"limit must be 0 (all) or above, got {self.limit}")
        if not 0 <= self.max_bad_share <= 1:
            raise ValueError(
                f"max_bad_share must be in [0, 1], got {self.max_bad_share}"
            )
        if self.format and FORMATS[self.format].is_evaluation:
            raise ValueError(_refusal(self.format))


class Loaded(NamedTuple):
    """Seeds in order, what was dropped on the way, and what decides both."""

    seeds: tuple[Seed, ...]
    dropped: tuple[Dropped, ...]
    fingerprint: str


def load(source: str | SeedSource, limit: int | None = None) -> Loaded:
    """The seeds of a run.

    Args:
      source: "builtin" or a plain seed file (see `load_seeds`), or a `SeedSource`.
      limit: use the first so many; None takes all.

    Raises:
      ValueError: nothing to read, nothing usable in it, or a bad record; says where.
    """
    if isinstance(source, str):
        found = plain.load_seeds(source, limit)
        return Loaded(found, (), plain.fingerprint(source))
    if limit is not None and limit < 1:
        raise ValueError(
            f"seed limit must be at least 1, got {limit}; leave it out to use all seeds"
        )
    if limit is not None:
        source = replace(source, limit=min(limit, source.limit or limit))
    seeds: list[Seed] = []
    dropped: list[Dropped] = []
    for item in read(source):
        if isinstance(item, Dropped):
            dropped.append(item)
        else:
            seeds.append(item)
    if not seeds:
        reasons = Counter(item.reason for item in dropped)
        told = ", ".join(f"{count} {reason}" for reason, count in reasons.items())
        raise ValueError(f"{source.source}: gives no seeds ({told or 'it is empty'})")
    content = [[asdict(seed) for seed in seeds], [asdict(item) for item in dropped]]
    return Loaded(tuple(seeds), tuple(dropped), f"seeds:{digest(content)}")


def read(source: SeedSource) -> Iterator[Seed | Dropped]:
    """Seeds and dropped records in the order of the source, one at a time.

    Memory does not grow with the records' size: what is kept of earlier seeds are
    hashes, and where near repeats are looked for, their words.

    Raises:
      ValueError: as in `load`.
    """
    evaluation = _contamination(source.decontaminate)
    found = _gated(_converted(source), source.gates)
    found = _first_occurrences(found)
    if evaluation is not None:
        found = _decontaminated(found, evaluation)
    if source.gates.near_duplicate:
        block = min(_BLOCK, source.limit or _BLOCK)
        found = _dissimilar(found, source.gates.near_duplicate, block)
    left = source.limit
    for item in found:
        if isinstance(item, Dropped):
            yield item
            continue
        yield item.seed
        left -= 1
        if left == 0:
            return


class _Placed(NamedTuple):
    """A seed and where its record stood."""

    place: str
    seed: Seed


_Stream = Iterator[_Placed | Dropped]


def _rows(source: SeedSource) -> Iterator[files.Row]:
    path = Path(source.source)
    saved = hub.is_saved(path)
    named = hub.is_name(source.source) and not path.exists() and not path.suffix
    reads = {"split"} if saved else {"split", "subset", "revision"} if named else set()
    for name in ("split", "subset", "revision"):
        if asdict(source)[name] and name not in reads:
            raise ValueError(
                f"{source.source}: {name} is not read of a file or folder: remove it"
            )
    if not (saved or named):
        return files.rows(path)
    return hub.rows(
        source.source,
        subset=source.subset,
        split=source.split,
        revision=source.revision,
    )


def _converted(source: SeedSource) -> _Stream:
    """What each record gives, by the source's format."""
    options = Options(source.turn, source.task, Path(source.source).name)
    name, is_checked = source.format, False
    count = bad = 0
    first = ""
    for count, row in enumerate(_rows(source), start=1):
        problem, found = row.problem, []
        if problem is None:
            if not is_checked:
                name = name or _detected(source, row)
                _check_options(name, options)
                is_checked = True
            try:
                found = list(FORMATS[name].read(row.value, options))
            except ValueError as error:
                problem = str(error)
        if problem is not None:
            bad += 1
            first = first or f"{row.where(source.source)}: {problem}"
            if not source.max_bad_share:
                raise ValueError(
                    f"{first}; mend or remove it, or set max_bad_share to drop such "
                    "records"
                )
            if bad > max(_MANY, count / 2, source.max_bad_share * count):
                raise ValueError(_too_many(source, bad, count, first))
            yield Dropped(row.place, "format/1", "bad_record", problem[:200])
        for item in found:
            if isinstance(item, Unusable):
                text = _kept(item.text)
                yield Dropped(row.place, f"{name}/1", item.reason, item.detail, text)
            else:
                yield _Placed(row.place, item)
    if bad > source.max_bad_share * count:
        raise ValueError(_too_many(source, bad, count, first))


def _detected(source: SeedSource, row: files.Row) -> str:
    try:
        name = detect(row.value)
    except ValueError as error:
        raise ValueError(f"{row.where(source.source)}: {error}") from error
    if FORMATS[name].is_evaluation:
        raise ValueError(f"{source.source}: {_refusal(name)}")
    return name


def _check_options(name: str, options: Options) -> None:
    for option, value in (("turn", options.turn), ("task", options.task)):
        if value and option not in FORMATS[name].options:
            raise ValueError(f"{option} is not read by the format {name}: remove it")


def _refusal(name: str) -> str:
    return (
        f"{name} is an evaluation set: no seeds are taken from it; name its file under "
        "decontaminate instead"
    )


def _too_many(source: SeedSource, bad: int, count: int, first: str) -> str:
    return (
        f"{source.source}: {bad} of {count} records are bad, more than max_bad_share "
        f"{source.max_bad_share:g}; the first: {first}"
    )


def _gated(stream: _Stream, gates: SeedGates) -> _Stream:
    for item in stream:
        found = None if isinstance(item, Dropped) else first_finding(item.seed, gates)
        if isinstance(item, Dropped) or found is None:
            yield item
        else:
            gate, (reason, detail) = found
            yield _dropped(item, gate.label, reason, detail)


def _first_occurrences(stream: _Stream) -> _Stream:
    """Without seeds whose prompt, or whose id, an earlier one has."""
    prompts: dict[str, str] = {}
    ids: set[str] = set()
    for item in stream:
        if isinstance(item, Dropped):
            yield item
            continue
        prompt = content_id(item.seed.whole)
        if prompt in prompts:
            detail = f"the prompt of {prompts[prompt]}"
            yield _dropped(item, "duplicate/1", "repeated_seed", detail)
        elif item.seed.id in ids:
            yield _dropped(item, "duplicate/1", "repeated_id", item.seed.id)
        else:
            prompts[prompt] = item.place
            ids.add(item.seed.id)
            yield item


def _decontaminated(stream: _Stream, evaluation: Contamination) -> _Stream:
    for item in stream:
        if isinstance(item, Dropped):
            yield item
            continue
        for place, text in item.seed.texts():
            if hit := evaluation.find(text):
                detail = f"{place}: {hit.name}: {hit.words}"
                yield _dropped(item, "contamination/1", "contaminated", detail)
                break
        else:
            yield item


def _dissimilar(stream: _Stream, threshold: float, block: int) -> _Stream:
    """Without seeds that are near an earlier one that stays. Reads a block ahead."""
    head = list(itertools.islice(stream, block))
    words = (seed_words(i.seed) for i in head if isinstance(i, _Placed))
    index = Nearby(threshold, Counter(word for own in words for word in own))
    earlier: list[_Known] = []
    for item in itertools.chain(head, stream):
        if isinstance(item, Dropped):
            yield item
            continue
        own = seed_words(item.seed)
        near = [
            (similarity, -number)
            for number, similarity in index.find(own)
            if not _is_contrast(item.seed, earlier[number])
        ]
        if near:
            similarity, negated = max(near)
            detail = f"like {earlier[-negated].place} ({similarity:.2f})"
            yield _dropped(item, "near_duplicate/1", "near_repeat", detail)
        else:
            index.add(own)
            known = _Known(item.place, bool(item.seed.input), item.seed.label)
            earlier.append(known)
            yield item


class _Known(NamedTuple):
    """What is kept of an earlier seed."""

    place: str
    is_instance: bool
    label: str


def _is_contrast(seed: Seed, other: _Known) -> bool:
    """Two instances of one task whose results differ: what CoIN makes negatives of."""
    return bool(seed.input) and other.is_instance and seed.label != other.label


def _contamination(paths: Sequence[str]) -> Contamination | None:
    """The index of all evaluation files; None where there are none."""
    if not paths:
        return None
    return Contamination(itertools.chain.from_iterable(map(_evaluation, paths)))


def _evaluation(path: str) -> Iterable[tuple[str, str]]:
    """(name, text) of every user's turn in an evaluation file."""
    name = ""
    options = Options(name=Path(path).name)
    for row in files.rows(Path(path)):
        try:
            if row.problem is not None:
                raise ValueError(row.problem)
            name = name or detect(row.value)
            for item in FORMATS[name].read(row.value, options):
                if isinstance(item, Seed):
                    for turn in item.messages:
                        if turn.role == "user":
                            yield f"{Path(path).name} {row.place}", turn.content
        except ValueError as error:
            raise ValueError(f"{row.where(path)}: {error}") from error


def _dropped(item: _Placed, gate: str, reason: str, detail: str) -> Dropped:
    text = _kept(item.seed.whole)
    return Dropped(item.place, gate, reason, detail, text, item.seed.id)


def _kept(text: str) -> str:
    return text if len(text) <= _TEXT else text[:_TEXT] + " ..."
