# SPDX-License-Identifier: Apache-2.0
"""The table of losses: what is refused, and in which words."""

import math

import pytest

from alignjax.losses import LOSSES, find

# Just outside of each range, and values at its ends that are inside.
OUTSIDE = {
    "above 0": ([0.0, -0.1], [1e-9, 1e6]),
    "0 or above": ([-1e-9], [0.0, 1e6]),
    "a finite number": ([math.nan], [-1e6, 0.0, 1e6]),
    "in [0, 0.5)": ([-1e-9, 0.5], [0.0, 0.499]),
    "in (0, 0.5)": ([0.0, 0.5], [1e-9, 0.499]),
}


@pytest.mark.parametrize("name", LOSSES)
def test_ranges_are_what_they_say(name):
    for option in LOSSES[name].options.values():
        outside, inside = OUTSIDE[option.allowed]
        assert not any(map(option.is_allowed, outside))
        assert all(map(option.is_allowed, inside))


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("dpoo", {}, r"no loss 'dpoo' \(known: sft, dpo, "),
        (
            "ipo",
            {"label_smoothing": 0.1},
            r"'label_smoothing' \(it reads beta\)",
        ),
        ("orpo", {"beta": 0.1}, r"'orpo' does not read 'beta' \(it reads no options\)"),
        ("dpo", {"beta": 0}, r"options.beta: must be above 0, got 0"),
        ("exo", {"label_smoothing": 0}, r"must be in \(0, 0.5\), got 0"),
    ],
)
def test_what_is_not_read_is_refused(name, options, message):
    with pytest.raises(ValueError, match=message):
        find(name, options)


def test_defaults_fill_in_what_is_not_given():
    """SimPO: beta 2, margin 0.5; Tulu 3's normalised DPO: beta 5."""
    assert find("simpo", {"beta": 2.5})[1] == {
        "beta": 2.5,
        "margin": 0.5,
        "label_smoothing": 0.0,
    }
    assert find("dpo_norm", {})[1]["beta"] == 5


def test_trl_names_are_used_once():
    """Two losses of one TRL name could not both be what TRL computes."""
    names = [loss.trl for loss in LOSSES.values() if loss.trl]
    assert len(names) == len(set(names))
