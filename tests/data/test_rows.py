# SPDX-License-Identifier: Apache-2.0
"""Rows: what stands where, and that packing changes no log-probability."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tiny_models
from alignjax.data import plan, rows
from alignjax.data.rows import Shape, Tokens
from alignjax.models import decoder
from alignjax.sampling import score

FIRST = Tokens("a", (11, 12), ((21, 22, 2), (31, 32, 2)), weight=3.0)
SECOND = Tokens("b", (13, 14), ((23, 2),))
SHAPE = Shape(rows=2, time=14, blocks=4, block=6, scored=10)


def test_the_row_of_the_module_docstring():
    """Tokens 0 to 7 are the first group, 8 to 11 the second, 12 and 13 padding."""
    built = rows.build([[0, 1], []], [FIRST, SECOND], SHAPE)
    row = {
        name: value[0] for name, value in built._asdict().items() if name != "blocks"
    }
    expected = {
        "tokens": [11, 12, 21, 22, 2, 31, 32, 2, 13, 14, 23, 2, 0, 0],
        "group": [1, 1, 1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 0, 0],
        "branch": [0, 0, 1, 1, 1, 2, 2, 2, 0, 0, 1, 1, 0, 0],
        "positions": [0, 1, 2, 3, 4, 2, 3, 4, 0, 1, 2, 3, 0, 0],
        "source": [0, 0, 1, 2, 3, 1, 5, 6, 0, 8, 9, 10, 0, 0],
        "scored": [2, 3, 4, 5, 6, 7, 10, 11, -1, -1],
        "sequence": [0, 0, 0, 1, 1, 1, 2, 2, 0, 0],
        "example": [0, 0, 1, -1],
        "rank": [0, 1, 0, 0],
        "last": [4, 7, 11, 0],
        "weight": [3, 3, 1, 0],
        "pairs": [[0, 1], [0, 0], [0, 0], [0, 0]],
        "pair_weight": [3, 0, 0, 0],
        "reference": [0] * 10,
    }
    assert row.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_array_equal(row[name], value, err_msg=name)
    np.testing.assert_array_equal(
        built.blocks.tokens[0],
        [
            [0, 1, 2, 3, 4, -1],
            [0, 1, 5, 6, 7, -1],
            [8, 9, 10, 11, -1, -1],
            [-1] * 6,
        ],
    )
    # block * 6 + offset; prompts live in the first block of their group
    np.testing.assert_array_equal(
        built.blocks.home[0], [0, 1, 2, 3, 4, 8, 9, 10, 12, 13, 14, 15, 0, 0]
    )


def test_a_row_without_examples_is_padding():
    built = rows.build([[0]], [FIRST], SHAPE)
    assert (built.group[1] == 0).all()
    assert (built.scored[1] == -1).all()
    assert (built.example[1] == -1).all()
    assert (built.pair_weight[1] == 0).all()


def test_k_negatives_share_the_weight_of_their_example():
    """Weight 1.5 over 3 negatives: 0.5 each; all are paired with response 0."""
    example = Tokens("a", (1, 2), ((3,), (4,), (5,), (6,)), weight=1.5)
    built = rows.build([[0]], [example], SHAPE)
    np.testing.assert_array_equal(built.pairs[0], [[0, 1], [0, 2], [0, 3], [0, 0]])
    np.testing.assert_array_equal(built.pair_weight[0], [0.5, 0.5, 0.5, 0])
    np.testing.assert_array_equal(built.rank[0], [0, 1, 2, 3])


def test_reference_values_stand_beside_their_tokens():
    built = rows.build([[1, 0], []], [FIRST, SECOND], SHAPE)
    values = [
        (np.array([-1.0, -2.0, -3.0]), np.array([-4.0, -5.0, -6.0])),
        (np.array([-7.0, -8.0]),),
    ]
    filled = rows.with_reference(built, values)
    np.testing.assert_array_equal(
        filled.reference[0], [-7, -8, -1, -2, -3, -4, -5, -6, 0, 0]
    )
    assert (filled.reference[1] == 0).all()


@pytest.mark.parametrize(
    ("shape", "fits"),
    [
        (Shape(rows=1, time=12, blocks=3, block=5, scored=8), True),
        (Shape(rows=1, time=11, blocks=3, block=5, scored=8), False),  # 8 + 4 tokens
        (Shape(rows=1, time=12, blocks=2, block=5, scored=8), False),  # 2 + 1 responses
        (Shape(rows=1, time=12, blocks=3, block=4, scored=8), False),  # 2 + 3 tokens
        (Shape(rows=1, time=12, blocks=3, block=5, scored=7), False),  # 6 + 2 scored
    ],
)
def test_each_limit_of_the_shape_counts(shape, fits):
    assert (shape.fits([SECOND], FIRST)) == fits
    if fits:
        rows.build([[1, 0]], [FIRST, SECOND], shape)
    else:
        with pytest.raises(ValueError, match="example a does not fit into row 0"):
            rows.build([[1, 0]], [FIRST, SECOND], shape)


def test_too_many_rows_are_refused():
    with pytest.raises(ValueError, match="3 rows given, the shape holds 2"):
        rows.build([[0], [1], [1]], [FIRST, SECOND], SHAPE)


ids = st.integers(0, 49)
lists = st.lists(ids, min_size=1, max_size=8).map(tuple)
drawn = st.lists(
    st.tuples(lists, st.lists(lists, min_size=1, max_size=4)), min_size=1, max_size=6
)


def made(given_: list[tuple]) -> list[Tokens]:
    return [Tokens("x", prompt, tuple(responses)) for prompt, responses in given_]


PACKED = Shape(rows=2, time=64, blocks=8, block=16, scored=48)
ALONE = Shape(rows=1, time=16, blocks=1, block=16, scored=8)


@given(drawn)
@settings(max_examples=100, deadline=None)
def test_sources_positions_and_homes_agree_with_the_definition_of_visibility(given_):
    examples = made(given_)
    (batch, *_) = plan.in_order(examples, PACKED)
    built = rows.build(batch, examples, PACKED)
    blocks, home = built.blocks.tokens, built.blocks.home
    for row in range(PACKED.rows):
        group, branch = built.group[row], built.branch[row]
        position, source = built.positions[row], built.source[row]
        for i in np.flatnonzero(group):
            seen = [
                j
                for j in range(i + 1)
                if group[j] == group[i] and branch[j] in (0, branch[i])
            ]
            assert position[i] == len(seen) - 1
            if len(seen) > 1:
                assert source[i] == seen[-2]
            block, offset = divmod(home[row, i], PACKED.block)
            np.testing.assert_array_equal(blocks[row, block, : offset + 1], seen)


@pytest.fixture(scope="module")
def model(random_params):
    config = tiny_models.wide_decoder()
    return decoder.build(config), random_params(config)


def test_packed_responses_score_as_they_do_alone(model):
    """Every response scored in packed rows, beside others and behind a shared prompt,
    and once more alone behind its own prompt in a row of its own. Values are around
    -30, which float32 holds to 2e-6."""
    decoder_, params = model

    @given(drawn)
    @settings(max_examples=15, deadline=None)
    def check(given_):
        packed = score(decoder_, params, made(given_), PACKED)
        alone = [
            Tokens("y", prompt, (response,))
            for prompt, responses in given_
            for response in responses
        ]
        expected = iter(score(decoder_, params, alone, ALONE))
        for ranks in packed:
            for values in ranks:
                own = next(expected)[0]
                np.testing.assert_allclose(values, own, rtol=1e-5, atol=1e-5)

    check()
