# SPDX-License-Identifier: Apache-2.0
"""Who sits where: which slot holds which answer, and which prompt it reads.

A request takes a row of the prompt store; up to `share` of its samples read that row
at once, each from a seat. Bookkeeping only: nothing here knows of arrays.
"""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

from alignjax.sampling.requests import Request


@dataclasses.dataclass
class Work:
    """A request, the next of its samples to be seated, and the rows of its prompt."""

    request: Request
    next_sample: int
    rows: list[int] = dataclasses.field(default_factory=list)

    @property
    def open_samples(self) -> int:
        return self.request.first + self.request.n - self.next_sample


@dataclasses.dataclass
class Row:
    """A prompt in the store.

    Attributes:
      stored: tokens whose keys and values are there; the last one of the prompt is
        left to the first decoding step, which predicts from it.
      seats: the slot in each seat.
    """

    work: Work
    seats: list[int | None]
    stored: int = 0

    @property
    def missing(self) -> int:
        """Tokens that are still to be stored."""
        return len(self.work.request.tokens) - 1 - self.stored


class Seated(NamedTuple):
    """A sample that has just got its slot."""

    slot: int
    row: int
    seat: int
    request: Request
    sample: int


class Copied(NamedTuple):
    """A row of the prompt store that must be copied into another."""

    source: int
    target: int


class Seating:
    """The slots and prompt rows of one replica.

    A row without an open sample is free again when its last answer has left; a request
    with more samples than seats gets further rows, copies of its first, while there
    are free slots and rows.
    """

    def __init__(self, *, slots: int, prompts: int, share: int):
        self.share = share
        self.rows: list[Row | None] = [None] * prompts
        self.places: list[tuple[int, int] | None] = [None] * slots  # (row, seat)
        self._works: list[Work] = []  # oldest first

    @property
    def free_slots(self) -> int:
        return self.places.count(None)

    @property
    def busy_slots(self) -> int:
        return len(self.places) - self.free_slots

    @property
    def open_samples(self) -> int:
        """Samples of requests that are here and have no slot yet."""
        return sum(work.open_samples for work in self._works)

    @property
    def has_room(self) -> bool:
        """Whether another request can be added, and would find a slot soon."""
        return None in self.rows and self.open_samples < self.free_slots

    def add(self, request: Request) -> None:
        """Gives a request a row; its prompt is to be stored next."""
        work = Work(request, request.first)
        self._works.append(work)
        self._take(Row(work, [None] * self.share))

    def filling(self) -> list[tuple[int, Row]]:
        """Rows whose prompt is not stored yet, oldest first."""
        first = ((work.rows[0], self._row(work.rows[0])) for work in self._works)
        return [(index, row) for index, row in first if row.missing]

    def seat(self) -> tuple[list[Seated], list[Copied]]:
        """Fills free slots with open samples, oldest request first."""
        seated: list[Seated] = []
        copied: list[Copied] = []
        for work in self._works:
            source = work.rows[0]
            stored = self._row(source)
            if stored.missing:
                continue
            for index in work.rows:
                seated += self._fill(index)
            while work.open_samples and self.free_slots and None in self.rows:
                target = self._take(Row(work, [None] * self.share, stored.stored))
                copied.append(Copied(source, target))
                seated += self._fill(target)
        return seated, copied

    def leave(self, slot: int) -> list[int]:
        """Frees the slot of an answer that has ended; the rows that are free now."""
        place = self.places[slot]
        assert place is not None
        index, seat = place
        self.places[slot] = None
        self._row(index).seats[seat] = None
        return self._free_rows()

    def _fill(self, index: int) -> list[Seated]:
        seated = []
        row = self._row(index)
        for seat, slot in enumerate(row.seats):
            if slot is None and row.work.open_samples and self.free_slots:
                slot = self.places.index(None)
                self.places[slot] = index, seat
                row.seats[seat] = slot
                sample, request = row.work.next_sample, row.work.request
                row.work.next_sample += 1
                seated.append(Seated(slot, index, seat, request, sample))
        return seated

    def _take(self, row: Row) -> int:
        index = self.rows.index(None)
        self.rows[index] = row
        row.work.rows.append(index)
        return index

    def _free_rows(self) -> list[int]:
        """Frees the rows that no answer reads and no open sample will."""
        freed = []
        for work in self._works:
            if work.open_samples:
                continue
            for index in list(work.rows):
                if all(slot is None for slot in self._row(index).seats):
                    self.rows[index] = None
                    work.rows.remove(index)
                    freed.append(index)
        self._works = [work for work in self._works if work.rows]
        return freed

    def _row(self, index: int) -> Row:
        row = self.rows[index]
        assert row is not None
        return row
