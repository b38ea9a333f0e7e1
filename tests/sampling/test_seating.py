# SPDX-License-Identifier: Apache-2.0
"""Seating: every sample gets one slot and one seat, in turn, and gives them back."""

from __future__ import annotations

import dataclasses
from collections import deque

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alignjax.sampling.requests import Request
from alignjax.sampling.seating import Copied, Seated, Seating


def request(name: str, n: int, *, size: int = 5, first: int = 0) -> Request:
    return Request(name, tuple(range(size)), n=n, first=first)


@dataclasses.dataclass
class Simulation:
    """Runs a seating as the sampler does, and checks it after every move."""

    seating: Seating
    waiting: deque[Request]
    stored: dict[int, Request] = dataclasses.field(default_factory=dict)  # by row
    sitting: dict[int, Seated] = dataclasses.field(default_factory=dict)  # by slot
    seen: list[tuple[str, int]] = dataclasses.field(default_factory=list)

    def take_in(self) -> None:
        while self.waiting and self.seating.has_room:
            self.seating.add(self.waiting.popleft())

    def store(self, tokens: int, calls: int) -> None:
        """At most `calls` calls, each for the oldest prompt that lacks something."""
        for _ in range(calls):
            filling = self.seating.filling()
            if not filling:
                return
            order = [self.age(row.work.request.id) for _, row in filling]
            assert order == sorted(order)
            index, row = filling[0]
            assert index not in self.stored
            row.stored += min(tokens, row.missing)

    def age(self, name: str) -> int:
        """Requests are named by their place in the queue."""
        return int(name)

    def seat(self) -> None:
        for index, row in enumerate(self.seating.rows):
            if row is not None and not row.missing:
                self.stored.setdefault(index, row.work.request)
        seated, copied = self.seating.seat()
        self.check_copies(copied)
        for place in seated:
            # A slot of its own, and a seat of its own in a row with its prompt.
            assert place.slot not in self.sitting
            others = [(p.row, p.seat) for p in self.sitting.values()]
            assert (place.row, place.seat) not in others
            assert 0 <= place.seat < self.seating.share
            assert self.stored[place.row] is place.request
            self.sitting[place.slot] = place
            self.seen.append((place.request.id, place.sample))
        ages = [self.age(place.request.id) for place in seated]
        assert ages == sorted(ages)
        self.check_turn(max(ages, default=-1))

    def check_copies(self, copied: list[Copied]) -> None:
        for source, target in copied:
            assert target not in self.stored
            self.stored[target] = self.stored[source]

    def check_turn(self, newest: int) -> None:
        """A slot is left free, or given to a newer request, only where a request can't
        take it: its seats are all taken, and there is no row for a copy."""
        free = self.seating.free_slots
        assert free == len(self.seating.places) - len(self.sitting)
        for row in self.seating.rows:
            if row is None or row.missing or not row.work.open_samples:
                continue
            if free or newest > self.age(row.work.request.id):
                assert None not in row.seats and None not in self.seating.rows

    def leave(self, slot: int) -> None:
        del self.sitting[slot]
        for row in self.seating.leave(slot):
            assert row not in [place.row for place in self.sitting.values()]
            del self.stored[row]


COUNTS = st.lists(
    st.tuples(st.integers(1, 9), st.integers(1, 12), st.integers(0, 3)), max_size=12
)


@settings(max_examples=150, deadline=None)
@given(
    slots=st.integers(1, 7),
    share=st.integers(1, 4),
    spare=st.integers(0, 4),
    counts=COUNTS,
    data=st.data(),
)
def test_all_samples_are_seated_once_and_all_rows_are_freed(
    slots, share, spare, counts, data
):
    """Requests of n samples, prompt length and first sample as drawn; answers end in
    any order."""
    requests = [
        request(str(i), n, size=size, first=first)
        for i, (n, size, first) in enumerate(counts)
    ]
    prompts = -(-slots // share) + spare
    seating = Seating(slots=slots, prompts=prompts, share=share)
    room = Simulation(seating, deque(requests))
    for _ in range(1000):
        room.take_in()
        room.store(4, data.draw(st.integers(1, 3)) if room.sitting else 1)
        room.seat()
        if room.sitting:
            number = data.draw(st.integers(1, len(room.sitting)))
            order = data.draw(st.permutations(sorted(room.sitting)))
            for slot in order[:number]:
                room.leave(slot)
        elif not room.waiting and not seating.filling():
            break
    expected = [(r.id, r.first + i) for r in requests for i in range(r.n)]
    assert sorted(room.seen) == sorted(expected)
    assert seating.rows == [None] * prompts and not room.stored
    assert seating.open_samples == seating.busy_slots == 0


def stored(seating: Seating) -> tuple[list[Seated], list[Copied]]:
    for _, row in seating.filling():
        row.stored += row.missing
    return seating.seat()


def test_samples_beyond_the_seats_of_a_row_read_copies():
    """Five samples, two seats a row, four slots: two in the row, two in a copy; the
    fifth gets the first seat that is free."""
    seating = Seating(slots=4, prompts=3, share=2)
    seating.add(request("0", 5))
    seated, copied = stored(seating)
    assert [(s.slot, s.row, s.seat, s.sample) for s in seated] == [
        (0, 0, 0, 0),
        (1, 0, 1, 1),
        (2, 1, 0, 2),
        (3, 1, 1, 3),
    ]
    assert copied == [Copied(0, 1)]
    assert seating.leave(2) == []
    # Row 2 is free, but a copy would be a waste.
    seated, copied = seating.seat()
    assert [(s.slot, s.row, s.seat, s.sample) for s in seated] == [(2, 1, 0, 4)]
    assert not copied


def test_a_row_is_kept_until_no_sample_needs_it():
    seating = Seating(slots=2, prompts=2, share=1)
    seating.add(request("0", 3))
    stored(seating)
    assert seating.leave(1) == []  # the third sample will read it
    seating.seat()
    assert seating.leave(0) == [0]
    assert seating.leave(1) == [1]


def test_a_row_that_the_last_open_sample_did_not_need_is_freed_with_the_next_answer():
    """The copy is empty when the last open sample sits down in the first row."""
    seating = Seating(slots=4, prompts=2, share=2)
    seating.add(request("0", 5))
    stored(seating)
    for slot in (0, 2, 3):
        assert seating.leave(slot) == []
    ((last, *_),) = seating.seat()[0]
    assert seating.places[last] == (0, 0)
    assert seating.leave(last) == [1]


def test_the_copy_of_an_older_request_comes_before_a_newer_one():
    """Request 2 has four of its six samples in its row, and three of request 3's five
    have the other slots. The row that request 1 leaves becomes a copy of 2's; when its
    answer ends, the slot is for 2's last sample, though 3 has a free seat as well."""
    seating = Seating(slots=9, prompts=4, share=4)
    for name, n in [("0", 1), ("1", 1), ("2", 6), ("3", 5)]:
        assert seating.has_room
        seating.add(request(name, n))
        if name == "1":
            stored(seating)
    assert [s.request.id for s in stored(seating)[0]] == ["2"] * 4 + ["3"] * 3
    assert seating.leave(1) == [1]
    seated, copied = seating.seat()
    assert copied == [Copied(2, 1)]
    assert [(s.request.id, s.sample, s.slot) for s in seated] == [("2", 4, 1)]
    seating.leave(1)
    ((slot, row, _, of, sample),) = seating.seat()[0]
    assert (slot, row, of.id, sample) == (1, 1, "2", 5)


def test_what_is_not_stored_is_not_seated_and_lets_others_go_first():
    seating = Seating(slots=2, prompts=2, share=1)
    seating.add(request("0", 1, size=9))
    seating.add(request("1", 1))
    (_, long), (_, short) = seating.filling()
    assert (long.missing, short.missing) == (8, 4)
    long.stored += 4
    short.stored += 4
    assert [s.request.id for s in seating.seat()[0]] == ["1"]
    long.stored += 4
    assert [s.request.id for s in seating.seat()[0]] == ["0"]


@pytest.mark.parametrize("size", [1, 2])
def test_the_last_token_of_a_prompt_is_left_to_the_first_step(size: int):
    seating = Seating(slots=1, prompts=1, share=1)
    seating.add(request("0", 1, size=size))
    assert [row.missing for _, row in seating.filling()] == [1] * (size - 1)


def test_there_is_room_while_samples_would_find_slots_and_a_row_is_free():
    seating = Seating(slots=3, prompts=2, share=2)
    assert seating.has_room
    seating.add(request("0", 2))
    assert seating.has_room  # two of three slots are spoken for
    seating.add(request("1", 1))
    assert not seating.has_room
    roomy = Seating(slots=2, prompts=9, share=1)
    roomy.add(request("0", 2))
    assert not roomy.has_room  # rows are free, but no slot that nobody waits for
    stored(seating)
    seating.leave(0)
    assert not seating.has_room  # a slot is free, but no row
    assert seating.leave(1) == [0]
    assert seating.has_room
