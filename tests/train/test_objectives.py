# SPDX-License-Identifier: Apache-2.0
"""Objectives against sums done by hand, on a model that is a table of probabilities.

The model's hidden state is the token itself, one-hot, and its head holds log P, so that
log p(next | everything before) = log P[current, next].
"""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alignjax.data import rows
from alignjax.data.rows import Rows, Shape, Tokens
from alignjax.models import Model, Output
from alignjax.train import OBJECTIVES, find
from alignjax.train.objectives import Outcome, contrastive, preference, sft

P = np.array(
    [
        [0.1, 0.2, 0.3, 0.4],
        [0.4, 0.3, 0.2, 0.1],
        [0.25, 0.25, 0.25, 0.25],
        [0.7, 0.1, 0.1, 0.1],
    ]
)
SHAPE = Shape(rows=2, time=24, blocks=6, block=8, scored=16)


def log_p(*tokens: int) -> float:
    """log p of all tokens but the first, given the first."""
    return sum(math.log(P[pair]) for pair in itertools.pairwise(tokens))


def table_model() -> Model:
    def apply(params, tokens, positions, visibility, cache=None):
        return Output(jax.nn.one_hot(tokens, 4), None)

    def output_head(params):
        return params["head"]

    return Model(None, apply, output_head)  # type: ignore[arg-type]


MODEL, PARAMS = table_model(), {"head": jnp.asarray(np.log(P), jnp.float32)}


def batch(*examples: Tokens, reference: list[tuple[float, ...]] | None = None) -> Rows:
    """One row with all examples, and an empty one; `reference` gives each response's
    log p, spread over its tokens."""
    built = rows.build([list(range(len(examples))), []], examples, SHAPE)
    if reference is None:
        return built
    spread = [
        tuple(
            np.full(len(response), value / len(response), np.float32)
            for response, value in zip(example.responses, values, strict=True)
        )
        for example, values in zip(examples, reference, strict=True)
    ]
    return rows.with_reference(built, spread)


def mean(outcome: Outcome, name: str) -> float:
    term = {**outcome.terms, **outcome.metrics}[name]
    return float(term.sum / term.weight)


def softplus(x: float) -> float:
    return math.log1p(math.exp(x))


# Prompt ... 1; chosen 2 3, rejected 0: log p = log .2 + log .25, and log .4
PAIR = Tokens("a", (0, 1), ((2, 3), (0,)))
# Prompt ... 3; chosen 0, rejected 1 1: log .7, and log .1 + log .3
OTHER = Tokens("b", (2, 3), ((0,), (1, 1)))


def test_sft_is_the_mean_over_tokens():
    """Three chosen tokens: -(log .2 + log .25 + log .7) / 3."""
    outcome = sft(MODEL, PARAMS, batch(PAIR, OTHER))
    expected = -(math.log(0.2) + math.log(0.25) + math.log(0.7)) / 3
    assert mean(outcome, "nll") == pytest.approx(expected, rel=1e-6)
    assert float(outcome.terms["nll"].weight) == 3
    chosen = (math.log(0.2) + math.log(0.25) + math.log(0.7)) / 2
    assert mean(outcome, "chosen_logprob") == pytest.approx(chosen, rel=1e-6)


def test_sft_weighs_tokens_by_their_example():
    """Weight 2 on the first: -(2 log .2 + 2 log .25 + log .7) / (2 + 2 + 1)."""
    heavy = Tokens("a", PAIR.prompt, PAIR.responses, weight=2.0)
    outcome = sft(MODEL, PARAMS, batch(heavy, OTHER))
    expected = -(2 * math.log(0.2) + 2 * math.log(0.25) + math.log(0.7)) / 5
    assert mean(outcome, "nll") == pytest.approx(expected, rel=1e-6)


def dpo(arrays: Rows, **changes: float) -> Outcome:
    _, options = find("dpo", changes)
    return preference(MODEL, PARAMS, arrays, **options)


def test_dpo_matches_hand_calculation():
    """Policy margins log(.2 * .25 / .4) and log(.7 / (.1 * .3)); reference margins
    -1 - -2 = 1 and -3 - -2.5 = -0.5; beta 0.5."""
    reference = [(-1.0, -2.0), (-3.0, -2.5)]
    outcome = dpo(batch(PAIR, OTHER, reference=reference), beta=0.5)
    first = 0.5 * (math.log(0.2 * 0.25 / 0.4) - 1.0)
    second = 0.5 * (math.log(0.7 / (0.1 * 0.3)) + 0.5)
    expected = (softplus(-first) + softplus(-second)) / 2
    assert mean(outcome, "dpo") == pytest.approx(expected, rel=1e-6)
    assert mean(outcome, "margin") == pytest.approx((first + second) / 2, rel=1e-5)
    assert mean(outcome, "accuracy") == 0.5  # first < 0 < second
    rejected = (math.log(0.4) + math.log(0.1 * 0.3)) / 2
    assert mean(outcome, "rejected_logprob") == pytest.approx(rejected, rel=1e-6)
    assert outcome.terms.keys() == {"dpo"}
    assert "nll" in outcome.metrics


def test_dpo_is_log_2_where_policy_and_reference_agree():
    reference = [(log_p(1, 2, 3), log_p(1, 0)), (log_p(3, 0), log_p(3, 1, 1))]
    outcome = dpo(batch(PAIR, OTHER, reference=reference))
    assert mean(outcome, "dpo") == pytest.approx(math.log(2), rel=1e-6)
    assert mean(outcome, "margin") == pytest.approx(0, abs=1e-6)


def test_dpo_with_nll_adds_the_chosen_answers_nll():
    """Loss = dpo + 0.3 * (mean NLL of the three chosen tokens)."""
    arrays = batch(PAIR, OTHER, reference=[(-1.0, -2.0), (-3.0, -2.5)])
    outcome = dpo(arrays, nll=0.3)
    assert outcome.terms["nll"].coefficient == 0.3
    assert mean(outcome, "nll") == mean(sft(MODEL, PARAMS, arrays), "nll")
    assert "nll" not in outcome.metrics


def test_label_smoothing_mixes_both_labels():
    """With z the scaled margin: 0.8 * softplus(-z) + 0.2 * softplus(z)."""
    arrays = batch(PAIR, reference=[(-1.0, -2.0)])
    z = 0.1 * (math.log(0.2 * 0.25 / 0.4) - 1.0)
    outcome = dpo(arrays, label_smoothing=0.2)
    expected = 0.8 * softplus(-z) + 0.2 * softplus(z)
    assert mean(outcome, "dpo") == pytest.approx(expected, rel=1e-6)


def test_k_negatives_are_k_pairs_of_one_example():
    """One example with two negatives and weight 3 counts as two pairs of weight 1.5."""
    both = Tokens("a", (0, 1), ((2, 3), (0,), (1, 1)), weight=3.0)
    apart = [
        Tokens("a", (0, 1), ((2, 3), (0,)), weight=1.5),
        Tokens("b", (0, 1), ((2, 3), (1, 1)), weight=1.5),
    ]
    third = Tokens("c", (2, 3), ((0,), (1,)), weight=0.5)
    shared = dpo(batch(both, third, reference=[(-1.0, -2.0, -2.5), (-1.0, -1.5)]))
    paired = dpo(
        batch(*apart, third, reference=[(-1.0, -2.0), (-1.0, -2.5), (-1.0, -1.5)])
    )
    for name in ("dpo", "margin", "accuracy", "chosen_logprob", "rejected_logprob"):
        assert mean(shared, name) == pytest.approx(mean(paired, name), rel=1e-6)
    assert float(shared.terms["dpo"].weight) == 3.5


def test_one_negative_is_a_pair():
    """K = 1 by itself: softplus(-0.1 * (log(.2 * .25 / .4) - 1))."""
    outcome = dpo(batch(PAIR, reference=[(-1.0, -2.0)]))
    z = 0.1 * (math.log(0.2 * 0.25 / 0.4) - 1.0)
    assert mean(outcome, "dpo") == pytest.approx(softplus(-z), rel=1e-6)


def test_padding_changes_nothing():
    one_row = batch(PAIR, OTHER, reference=[(-1.0, -2.0), (-3.0, -2.5)])
    wide = Shape(rows=5, time=40, blocks=9, block=12, scored=30)
    built = rows.build([[1], [0]], [PAIR, OTHER], wide)
    values = [
        (np.full(2, -0.5, np.float32), np.full(1, -2.0, np.float32)),
        (np.full(1, -3.0, np.float32), np.full(2, -1.25, np.float32)),
    ]
    padded = dpo(rows.with_reference(built, values), nll=0.5)
    plain = dpo(one_row, nll=0.5)
    for name in (*plain.terms, *plain.metrics):
        assert mean(padded, name) == pytest.approx(mean(plain, name), rel=1e-6)


# The last token of an answer is its pooled state: e_2 for i, e_3 for j.
COUPLE = [
    Tokens("original i", (0,), ((1, 2),)),
    Tokens("paraphrase i", (1,), ((1, 2),)),
    Tokens("original j", (0,), ((0, 3),)),
    Tokens("paraphrase j", (1,), ((0, 3),)),
]


def coin(arrays: Rows, **changes: float) -> Outcome:
    _, options = find("coin", changes)
    return contrastive(MODEL, PARAMS, arrays, **options)


def test_coin_reads_a_couple_from_one_row():
    """Same answers agree (cosine 1), i and j do not (cosine 0): each of the four
    cross-entropies is log(1 + exp((0 - 1) / 0.5))."""
    outcome = coin(batch(*COUPLE), temperature=0.5)
    expected = softplus(-2.0)
    assert mean(outcome, "contrastive") == pytest.approx(expected, rel=1e-6)
    assert float(outcome.terms["contrastive"].weight) == 1  # the empty row is none
    original = -(log_p(0, 1, 2) + log_p(0, 0, 3)) / 4
    paraphrase = -(log_p(1, 1, 2) + log_p(1, 0, 3)) / 4
    assert mean(outcome, "nll") == pytest.approx(original, rel=1e-6)
    assert mean(outcome, "nll_paraphrase") == pytest.approx(paraphrase, rel=1e-6)
    weight = (original + paraphrase) / expected
    assert outcome.terms["contrastive"].coefficient == pytest.approx(weight, rel=1e-5)


def test_coin_weight_is_bounded():
    outcome = coin(batch(*COUPLE), temperature=0.05, bound=7.0)
    assert outcome.terms["contrastive"].coefficient == 7.0


def test_the_order_in_a_coin_row_says_who_is_who():
    """Swapping paraphrase i and original j makes the false pairs the near ones:
    S_ab = cos(original_a, paraphrase_b) with originals e_2, e_2 and paraphrases e_3,
    e_3 has all four entries 0, so every cross-entropy is log 2."""
    i, i_too, j, j_too = COUPLE
    outcome = coin(batch(i, j, i_too, j_too), temperature=0.5)
    assert mean(outcome, "contrastive") == pytest.approx(math.log(2), rel=1e-6)


def test_a_row_that_is_no_couple_has_no_contrastive_term():
    outcome = coin(batch(*COUPLE[:2]), temperature=0.5)
    assert float(outcome.terms["contrastive"].sum) == 0
    assert float(outcome.terms["contrastive"].weight) == 0
    assert np.isfinite(float(outcome.terms["contrastive"].coefficient))


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("ppo", {}, "no objective 'ppo' (known: sft, dpo, coin)"),
        ("sft", {"beta": 0.1}, "'sft' does not read 'beta' (it reads no options)"),
        ("dpo", {"bta": 0.1}, "'dpo' does not read 'bta' (it reads beta, label_smooth"),
        ("dpo", {"beta": 0.0}, "options.beta: must be above 0, got 0"),
        ("dpo", {"beta": math.inf}, "options.beta: must be above 0, got inf"),
        ("dpo", {"label_smoothing": 0.5}, "must be in [0, 0.5), got 0.5"),
        ("dpo", {"nll": -1.0}, "options.nll: must be 0 (none) or above, got -1"),
        ("coin", {"temperature": -1.0}, "options.temperature: must be above 0"),
        ("coin", {"bound": 0.5}, "options.bound: must be 1 or above, got 0.5"),
    ],
)
def test_wrong_objectives_and_options_are_named(name, options, message):
    with pytest.raises(ValueError) as caught:
        find(name, options)
    assert message in str(caught.value)


def test_defaults_are_filled_in_and_within_their_ranges():
    for name, objective in OBJECTIVES.items():
        _, options = find(name, objective.options)
        assert options == dict(objective.options)
    assert find("dpo", {"beta": 0.3})[1] == {
        "beta": 0.3,
        "label_smoothing": 0.0,
        "nll": 0.0,
    }
