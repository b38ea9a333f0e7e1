# SPDX-License-Identifier: Apache-2.0
"""The table of losses: it agrees with the functions, and what is refused."""

import inspect
import math

import jax
import pytest

from alignjax.losses import LOSSES, find, reverse_kl
from loss_examples import EMBED, NEGATIVES, drawn

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


@pytest.mark.parametrize("name", LOSSES)
def test_entry_agrees_with_the_signature(name):
    """Inputs by position, in order; options and what else there is by keyword, the
    options with the defaults of the table, the rest with defaults that leave it out."""
    loss = LOSSES[name]
    parameters = inspect.signature(loss.function).parameters.values()
    by_position = [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]
    keywords = {p.name: p for p in parameters if p.kind is p.KEYWORD_ONLY}
    assert by_position == list(loss.inputs)
    assert loss.reference == ("reference" in by_position)
    assert loss.divergence == ("divergence" in keywords)
    assert set(loss.options) <= set(keywords)
    rest = set(keywords) - set(loss.options)
    assert rest <= {"divergence", "mask", "negatives", "negatives_mask", "axis_name"}
    assert all(keywords[each].default in (None, reverse_kl) for each in rest)
    for option, entry in loss.options.items():
        assert keywords[option].default in (inspect.Parameter.empty, entry.default)


@pytest.mark.parametrize("name", LOSSES)
def test_defaults_are_allowed_and_nothing_else_is_read(name):
    options = LOSSES[name].options
    assert find(name, {})[1] == {each: options[each].default for each in options}
    for each, option in options.items():
        assert option.is_allowed(option.default)
        for wrong in (math.nan, math.inf, -math.inf):
            with pytest.raises(ValueError, match=f"options.{each}: must be .*, got"):
                find(name, {each: wrong})
    with pytest.raises(ValueError, match="does not read 'betta'") as error:
        find(name, {"betta": 0.1})
    assert all(each in str(error.value) for each in options or ["no options"])


def test_the_shapes_of_the_examples_are_what_the_table_says():
    """`scores` is what the inputs hold a number of."""
    shapes = {"pair": {(2,)}, "ranking": {(2,), (2, NEGATIVES)}, "response": {(2,), ()}}
    for name, loss in LOSSES.items():
        found = {x.shape for x in jax.tree.leaves(drawn(name, batch=2))}
        if loss.scores == "views":
            assert found == {(2, EMBED)}
        elif loss.scores != "sequence":
            assert found <= shapes[loss.scores]
