# SPDX-License-Identifier: Apache-2.0
"""The plan: which example stands in which batch."""

import itertools
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alignjax.data import plan
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


def test_examples_that_fit_no_row_are_reported():
    """Limits: 16 tokens of prompt + response, 32 of a row, 6 responses, 24 scored."""
    long_block = example(1, 10, 7)
    long_row = example(2, 8, 8, 8, 8, 8)  # 8 + 4 * 8 = 40
    many = example(3, 2, 1, 1, 1, 1, 1, 1, 1)
    scored = example(4, 1, 9, 9, 9)  # 27 scored
    good = example(5)
    kept, dropped = plan.fitting([long_block, good, long_row, many, scored], SHAPE)
    assert kept == [good]
    assert dropped == [long_block, long_row, many, scored]


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
