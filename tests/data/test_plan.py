# SPDX-License-Identifier: Apache-2.0
"""The plan: which example stands in which batch."""

import dataclasses
import itertools
import random
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alignjax.data import plan
from alignjax.data.records import ROLES
from alignjax.data.rows import Shape, Tokens

SHAPE = Shape(rows=2, time=32, blocks=6, block=16, scored=24)


def example(number: int, prompt: int = 3, *responses: int) -> Tokens:
    lengths = responses or (4, 4)
    return Tokens(f"e{number}", (7,) * prompt, tuple((8,) * n for n in lengths))


EXAMPLES = [example(i, 2 + i % 4, 2 + i % 3, 3) for i in range(23)]


def flat(batches: list[plan.Batch]) -> list[int]:
    return [index for batch in batches for row in batch for index in row]


def test_the_plan_is_a_function_of_the_seed():
    first = plan.batches(EXAMPLES, SHAPE, seed=5, epochs=2)
    assert plan.batches(EXAMPLES, SHAPE, seed=5, epochs=2) == first
    assert plan.batches(EXAMPLES, SHAPE, seed=6, epochs=2) != first


def test_the_order_is_the_same_in_another_process():
    code = "from alignjax.data import plan; print(plan.order(9, seed=3, epoch=1))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == str(plan.order(9, seed=3, epoch=1))


@given(st.integers(0, 2**32 - 1), st.integers(1, 3))
@settings(max_examples=30, deadline=None)
def test_each_epoch_holds_each_example_once(seed, epochs):
    batches = plan.batches(EXAMPLES, SHAPE, seed=seed, epochs=epochs)
    counts = [flat(batches).count(index) for index in range(len(EXAMPLES))]
    assert counts == [epochs] * len(EXAMPLES)
    for batch in batches:
        assert len(batch) == SHAPE.rows
        for row in batch:
            for count, index in enumerate(row):
                placed = [EXAMPLES[other] for other in row[:count]]
                assert SHAPE.fits(placed, EXAMPLES[index])


def test_epochs_and_seeds_have_orders_of_their_own():
    orders = [
        tuple(plan.order(23, seed=seed, epoch=epoch))
        for seed, epoch in itertools.product((0, 1), (0, 1))
    ]
    assert len(set(orders)) == 4
    assert all(sorted(order) == list(range(23)) for order in orders)


def test_one_epoch_is_the_beginning_of_two():
    """Up to the last batch, which one epoch leaves short."""
    one = plan.batches(EXAMPLES, SHAPE, seed=0, epochs=1)
    two = plan.batches(EXAMPLES, SHAPE, seed=0, epochs=2)
    assert two[: len(one) - 1] == one[:-1]


def test_resuming_at_any_step_gives_the_same_remaining_batches():
    whole = plan.batches(EXAMPLES, SHAPE, seed=9, epochs=2)
    for step in range(len(whole)):
        again = plan.batches(EXAMPLES, SHAPE, seed=9, epochs=2)
        assert again[step:] == whole[step:]


def test_a_batch_is_closed_only_when_its_next_example_fits_no_row():
    batches = plan.batches(EXAMPLES, SHAPE, seed=1, epochs=2)
    stream = [
        int(index)
        for epoch in (0, 1)
        for index in plan.order(len(EXAMPLES), seed=1, epoch=epoch)
    ]
    taken = 0
    for batch in batches[:-1]:
        size = len(flat([batch]))
        assert sorted(flat([batch])) == sorted(stream[taken : taken + size])
        taken += size
        following = EXAMPLES[stream[taken]]
        for row in batch:
            assert not SHAPE.fits([EXAMPLES[index] for index in row], following)


def test_examples_that_fit_no_row_are_left_out():
    """Limits: 16 tokens of prompt + response, 32 of a row, 6 responses, 24 scored."""
    long_block = example(1, 10, 7)
    long_row = example(2, 8, 8, 8, 8, 8)  # 8 + 4 * 8 = 40
    many = example(3, 2, 1, 1, 1, 1, 1, 1, 1)
    scored = example(4, 1, 9, 9, 9)  # 27 scored
    good = example(5)
    groups = [[each] for each in (long_block, good, long_row, many, scored)]
    assert plan.fitting(groups, SHAPE) == [[good]]


def test_one_pass_for_scoring_holds_everything_once():
    batches = plan.in_order(EXAMPLES, SHAPE)
    assert sorted(flat(batches)) == list(range(len(EXAMPLES)))
    longest = [max(EXAMPLES[i].length for i in flat([batch])) for batch in batches]
    assert longest == sorted(longest)


def test_nothing_to_plan_is_an_error():
    with pytest.raises(ValueError, match="no training example"):
        plan.batches([], SHAPE, seed=0, epochs=1)
    with pytest.raises(ValueError, match="example e0 fits no row"):
        plan.batches([example(0, 20, 4)], SHAPE, seed=0, epochs=1)


# Four examples of 4 + 2 tokens fill 24 of a row's 32 tokens, and 4 of its 6 blocks.
COUPLES = [
    dataclasses.replace(example(number, 4, 2), couple=couple, role=role)
    for number, (couple, role) in enumerate(
        itertools.product([f"c{number:02}" for number in range(11)], ROLES)
    )
]


def by_name(batches: list[plan.Batch], examples: list[Tokens]) -> list[list[list[str]]]:
    return [[[examples[i].id for i in row] for row in batch] for batch in batches]


@given(st.integers(0, 2**32 - 1), st.integers(1, 3))
@settings(max_examples=30, deadline=None)
def test_each_row_is_one_whole_couple_in_the_order_of_roles(seed, epochs):
    batches = plan.couple_batches(COUPLES, SHAPE, seed=seed, epochs=epochs)
    counts = [flat(batches).count(index) for index in range(len(COUPLES))]
    assert counts == [epochs] * len(COUPLES)
    rows = [row for batch in batches for row in batch]
    assert all(len(batch) == SHAPE.rows for batch in batches)
    assert rows[11 * epochs :] == [[]] * (11 * epochs % 2)  # only the end is short
    for row in rows[: 11 * epochs]:
        assert [COUPLES[index].role for index in row] == list(ROLES)
        assert len({COUPLES[index].couple for index in row}) == 1


def test_couples_are_shuffled_by_seed_and_epoch():
    first = plan.couple_batches(COUPLES, SHAPE, seed=5, epochs=2)
    assert plan.couple_batches(COUPLES, SHAPE, seed=5, epochs=2) == first
    assert plan.couple_batches(COUPLES, SHAPE, seed=6, epochs=2) != first
    rows = [row for batch in first for row in batch]
    assert sorted(rows[:11]) == sorted(rows[11:])
    assert rows[:11] != rows[11:]


def test_the_order_of_examples_does_not_change_the_couples():
    expected = by_name(plan.couple_batches(COUPLES, SHAPE, seed=3, epochs=2), COUPLES)
    for shuffle in range(5):
        mixed = random.Random(shuffle).sample(COUPLES, len(COUPLES))
        assert mixed != COUPLES
        found = plan.couple_batches(mixed, SHAPE, seed=3, epochs=2)
        assert by_name(found, mixed) == expected
        assert plan.couples(mixed) == plan.couples(COUPLES)


def test_a_couple_fits_as_a_whole_or_not_at_all():
    """Each example alone fits a row of 32 tokens and 24 scored; four of 4 + 5 = 36
    tokens do not, nor four times 7 = 28 scored, nor a row of three blocks."""
    long, scored = (
        [dataclasses.replace(example(0, *size), role=role) for role in ROLES]
        for size in ((4, 5), (1, 7))
    )
    good, *_ = plan.couples(COUPLES)
    for each in (*long, *scored):
        assert plan.fitting([[each]], SHAPE)
    assert plan.fitting([long, good, scored], SHAPE) == [good]
    three = dataclasses.replace(SHAPE, blocks=3)
    assert plan.fitting([good], three) == []
    with pytest.raises(ValueError, match="couple c00 fits no row: Shape"):
        plan.couple_batches(COUPLES, three, seed=0, epochs=1)
    with pytest.raises(ValueError, match="no couple is left; nothing to plan"):
        plan.couple_batches([], SHAPE, seed=0, epochs=1)
