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

from alignjax import losses
from alignjax.data import plan, rows
from alignjax.data.rows import Rows, Shape, Tokens
from alignjax.losses import LOSSES
from alignjax.models import Model, Output
from alignjax.train import NAMES, find, options_of
from alignjax.train.objectives import Outcome, sft

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
    return find("dpo", changes).function(MODEL, PARAMS, arrays)


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
    return find("coin", changes).function(MODEL, PARAMS, arrays)


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


def test_coin_pools_prompt_and_answer_as_asked():
    """The mean over prompt and answer: i is (0; 1, 2) and (1; 1, 2), j is (0; 0, 3) and
    (1; 0, 3), one-hot each, a third of every token."""
    pooled = np.zeros((4, 4), np.float32)
    for row, ids in enumerate([(0, 1, 2), (1, 1, 2), (0, 0, 3), (1, 0, 3)]):
        for each in ids:
            pooled[row, each] += 1 / 3
    outcome = objective(
        "coin", batch(*COUPLE), options={"temperature": 0.5}, pooling="mean"
    )
    states = jnp.asarray(pooled)
    i, j = losses.Views(states[:1], states[1:2]), losses.Views(states[2:3], states[3:])
    expected = losses.coin(i, j, temperature=0.5)
    assert mean(outcome, "contrastive") == pytest.approx(float(expected[0]), rel=1e-5)


def test_in_batch_negatives_are_all_other_couples():
    """Two couples, so four views: all of i agree (e_2), all of j too (e_3). Each row
    meets itself and its twin at cosine 1 and the two others at 0: log(2 + 2 e^-2)."""
    built = rows.build([[0, 1, 2, 3], [0, 1, 2, 3]], COUPLE, SHAPE)
    settings = {"options": {"temperature": 0.5}, "negatives": "in_batch"}
    outcome = objective("coin", built, **settings)
    assert float(outcome.terms["contrastive"].weight) == 4
    expected = math.log(2 + 2 * math.exp(-2))
    assert mean(outcome, "contrastive") == pytest.approx(expected, rel=1e-5)
    alone = objective("coin", batch(*COUPLE), **settings)
    assert mean(alone, "contrastive") == pytest.approx(softplus(-2.0), rel=1e-5)


def test_a_row_that_is_no_couple_has_no_contrastive_term():
    outcome = coin(batch(*COUPLE[:2]), temperature=0.5)
    assert float(outcome.terms["contrastive"].sum) == 0
    assert float(outcome.terms["contrastive"].weight) == 0
    assert np.isfinite(float(outcome.terms["contrastive"].coefficient))


def objective(name: str, arrays: Rows, **settings) -> Outcome:
    return find(name, **settings).function(MODEL, PARAMS, arrays)


REFERENCE = [(-1.0, -2.0), (-3.0, -2.5)]


def scores_by_hand():
    """(policy, reference, tokens) of PAIR and OTHER, as (chosen, rejected) each."""
    policy = [(log_p(1, 2, 3), log_p(1, 0)), (log_p(3, 0), log_p(3, 1, 1))]
    return policy, REFERENCE, [(2, 1), (1, 2)]


def as_pair(numbers) -> losses.Pair:
    return losses.Pair(*jnp.asarray(numbers, jnp.float32).T)


PAIR_LOSSES = [name for name in NAMES if LOSSES[name].scores == "pair"]


@pytest.mark.parametrize("name", PAIR_LOSSES)
def test_an_objective_is_its_loss_of_the_scores_in_the_rows(name):
    """Every loss of pairs, on scores summed by hand."""
    policy, reference, tokens = map(as_pair, scores_by_hand())
    given = {"policy": policy, "reference": reference, "tokens": tokens}
    loss, options = losses.find(name, {})
    expected = loss.function(*(given[each] for each in loss.inputs), **options)
    outcome = objective(name, batch(PAIR, OTHER, reference=REFERENCE))
    assert mean(outcome, name) == pytest.approx(float(expected.mean()), rel=1e-5)
    assert outcome.terms[name].coefficient == (0.1 if name == "orpo" else 1.0)
    assert ("nll" in outcome.terms) == (name in ("cpo", "orpo"))


@pytest.mark.parametrize("name", ["softmax_dpo", "plackett_luce", "nca_ranking"])
def test_a_ranking_is_one_example_with_all_its_negatives(name):
    """Two negatives in one row, one in the other; the mean is weighted 3 to 0.5."""
    three = Tokens("a", (0, 1), ((2, 3), (0,), (1, 1)), weight=3.0)
    two = Tokens("b", (2, 3), ((0,), (1,)), weight=0.5)
    reference = [(-1.0, -2.0, -2.5), (-1.0, -1.5)]
    outcome = objective(name, batch(three, two, reference=reference))
    policy = [(log_p(1, 2, 3), log_p(1, 0), log_p(1, 1, 1)), (log_p(3, 0), log_p(3, 1))]
    loss = LOSSES[name].function
    values = []
    for own, other in zip(policy, reference, strict=True):
        rankings = [
            losses.Ranking(jnp.array(each[:1]), jnp.array([each[1:]]))
            for each in (own, other)
        ]
        values.append(float(loss(*rankings, beta=0.1)[0]))
    expected = (3 * values[0] + 0.5 * values[1]) / 3.5
    assert mean(outcome, name) == pytest.approx(expected, rel=1e-5)
    assert float(outcome.terms[name].weight) == 3.5


def test_a_mix_adds_losses_each_with_its_own_options():
    """MPO's mix: 0.8 DPO + 0.2 BCO + NLL, each with its own beta."""
    arrays = batch(PAIR, OTHER, reference=REFERENCE)
    options = {"beta": 0.3, "weight": 0.8, "nll": 1.0}
    mix = {"bco": {"weight": 0.2, "beta": 0.7}}
    outcome = objective("dpo", arrays, options=options, mix=mix)
    coefficients = {name: term.coefficient for name, term in outcome.terms.items()}
    assert coefficients == {"dpo": 0.8, "bco": 0.2, "nll": 1.0}
    for name, beta in (("dpo", 0.3), ("bco", 0.7)):
        alone = objective(name, arrays, options={"beta": beta})
        assert mean(outcome, name) == mean(alone, name)


def test_a_divergence_reaches_the_loss():
    """Forward KL: h(x) = 1 - e^-x of both log-ratios."""
    outcome = objective(
        "dpo", batch(PAIR, reference=[(-1.0, -2.0)]), divergence="forward_kl"
    )
    a, b = log_p(1, 2, 3) + 1, log_p(1, 0) + 2
    z = 0.1 * ((1 - math.exp(-a)) - (1 - math.exp(-b)))
    assert mean(outcome, "dpo") == pytest.approx(softplus(-z), rel=1e-6)
    half = objective(
        "dpo",
        batch(PAIR, reference=[(-1.0, -2.0)]),
        divergence="alpha",
        options={"alpha": 0.5},
    )
    z = 0.1 * 2 * (math.exp(-b / 2) - math.exp(-a / 2))
    assert mean(half, "dpo") == pytest.approx(softplus(-z), rel=1e-6)


def test_length_alpha_discounts_what_is_longer_than_the_other_answer():
    """LD-DPO: chosen 2 3 against rejected 0: only the first chosen token counts in
    full, log .2 + 0.5 log .25, and the reference's -0.5 - 0.5 * 0.5."""
    arrays = batch(PAIR, reference=[(-1.0, -2.0)])
    outcome = objective("dpo", arrays, options={"length_alpha": 0.5})
    a = math.log(0.2) + 0.5 * math.log(0.25) + 0.75
    b = math.log(0.4) + 2
    assert mean(outcome, "dpo") == pytest.approx(softplus(-0.1 * (a - b)), rel=1e-5)


def test_length_alpha_gives_a_chosen_answer_one_score_beside_each_negative():
    """Chosen 2 3 counts its second token half beside the negative 0, and in full
    beside 1 1."""
    both = Tokens("a", (0, 1), ((2, 3), (0,), (1, 1)))
    arrays = batch(both, reference=[(-1.0, -2.0, -2.5)])
    outcome = objective("dpo", arrays, options={"length_alpha": 0.5})
    short = math.log(0.2) + 0.5 * math.log(0.25) + 0.75 - (math.log(0.4) + 2)
    whole = log_p(1, 2, 3) + 1 - (log_p(1, 1, 1) + 2.5)
    expected = (softplus(-0.1 * short) + softplus(-0.1 * whole)) / 2
    assert mean(outcome, "dpo") == pytest.approx(expected, rel=1e-5)


def test_wpo_weighs_a_pair_by_the_product_of_both_answers_weights():
    """log sum p^2 of the rows of P: after 1 .30, after 2 .25, after 3 .52 (row 1: .16 +
    .09 + .04 + .01). Chosen 2 3: sqrt(.2 / .3 * .25 / .25); rejected 0: .4 / .3."""
    arrays = batch(PAIR, reference=[(-1.0, -2.0)])
    plain = objective("dpo", arrays)
    outcome = objective("dpo", arrays, weighting="wpo")
    factor = math.sqrt(0.2 / 0.3) * 0.4 / 0.3
    assert mean(outcome, "likeness") == pytest.approx(factor, rel=1e-5)
    expected = factor * mean(plain, "dpo")
    assert mean(outcome, "dpo") == pytest.approx(expected, rel=1e-5)


def test_kto_sees_single_answers_and_a_baseline_of_answers_to_other_prompts():
    """Baseline: log-ratios of 0 after 1 and of 2 3 after 3, with references -1 and -9,
    clipped at 0 from below."""
    examples = plan.with_mismatched([PAIR, OTHER])
    assert [each.responses[-1] for each in examples] == [(0,), (2, 3)]
    reference = [(-1.0, -2.0, -1.0), (-3.0, -2.5, -9.0)]
    outcome = objective("kto", batch(*examples, reference=reference))
    baseline = (log_p(1, 0) + 1 + log_p(3, 2, 3) + 9) / 2
    assert mean(outcome, "baseline") == pytest.approx(baseline, rel=1e-5)

    def sigmoid(x):
        return 1 / (1 + math.exp(-x))

    good = [log_p(1, 2, 3) + 1, log_p(3, 0) + 3]
    bad = [log_p(1, 0) + 2, log_p(3, 1, 1) + 2.5]
    expected = sum(sigmoid(0.1 * (baseline - ratio)) for ratio in good)
    expected += sum(sigmoid(0.1 * (ratio - baseline)) for ratio in bad)
    assert mean(outcome, "kto") == pytest.approx(expected / 4, rel=1e-5)
    assert float(outcome.terms["kto"].weight) == 4
    reward = 0.1 * sum(good) / 2
    assert mean(outcome, "chosen_reward") == pytest.approx(reward, rel=1e-5)


def test_answers_to_other_prompts_are_no_pairs():
    examples = plan.with_mismatched([PAIR, OTHER])
    reference = [(-1.0, -2.0, -1.0), (-3.0, -2.5, -9.0)]
    with_them = dpo(batch(*examples, reference=reference))
    without = dpo(batch(PAIR, OTHER, reference=REFERENCE))
    for name in (*without.terms, *without.metrics):
        assert mean(with_them, name) == pytest.approx(mean(without, name), rel=1e-6)


def test_the_next_other_prompt_is_found_around_the_end():
    """Prompts p p q p: the first two take q's answer, q the last's, the last q's."""
    p = [Tokens(str(i), (1,), ((10 + i,),)) for i in (0, 1, 3)]
    q = Tokens("2", (2,), ((12,),))
    found = plan.with_mismatched([p[0], p[1], q, p[2]])
    assert [each.responses[-1] for each in found] == [(12,), (12,), (13,), (12,)]
    assert [each.is_mismatched for each in found] == [True] * 4
    assert [each.negatives for each in found] == [0] * 4


def test_one_prompt_for_all_has_no_answers_to_others():
    with pytest.raises(ValueError, match="have the same prompt"):
        plan.with_mismatched([PAIR, PAIR])


@pytest.mark.parametrize("name", [n for n in NAMES if not find(n).coupled])
def test_sums_and_weights_of_rows_add_up_to_those_of_the_batch(name):
    """What makes accumulation over microbatches exact."""
    values = [
        tuple(np.full(len(r), -1.0 - i, np.float32) for i, r in enumerate(e.responses))
        for e in (PAIR, OTHER)
    ]

    def outcome(*members: list[int]) -> Outcome:
        built = rows.build(members, [PAIR, OTHER], SHAPE)
        return objective(name, rows.with_reference(built, values))

    whole, first, second = outcome([0], [1]), outcome([0]), outcome([1])
    for kind in ("terms", "metrics"):
        for term, value in getattr(whole, kind).items():
            parts = [getattr(each, kind)[term] for each in (first, second)]
            for field in ("sum", "weight"):
                total = sum(float(getattr(part, field)) for part in parts)
                expected = float(getattr(value, field))
                assert total == pytest.approx(expected, rel=1e-5), (term, field)


@pytest.mark.parametrize("name", [n for n in NAMES if find(n).reference])
def test_the_start_is_what_the_terms_are_where_policy_is_reference(name):
    """Reference = the policy's own scores."""
    examples = [PAIR, OTHER]
    policy = [(log_p(1, 2, 3), log_p(1, 0)), (log_p(3, 0), log_p(3, 1, 1))]
    if find(name).data == "labels":
        examples = plan.with_mismatched(examples)
        policy = [(*policy[0], log_p(1, 0)), (*policy[1], log_p(3, 2, 3))]
    outcome = objective(name, batch(*examples, reference=policy))
    start = find(name).start()
    assert start
    for term, expected in start.items():
        assert mean(outcome, term) == pytest.approx(expected, rel=1e-4, abs=1e-6)


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("ppo", {}, "no objective 'ppo'; did you mean 'sppo'? (known: sft, dpo, dpo_"),
        ("tdpo", {}, "'tdpo' is a loss without objective: it reads the reference's pr"),
        ("sft", {"beta": 0.1}, "'sft' does not read 'beta' (it reads no options)"),
        ("dpo", {"bta": 0.1}, "'dpo' does not read 'bta' (it reads beta, label_smooth"),
        ("dpo", {"beta": 0.0}, "options.beta: must be above 0, got 0"),
        ("dpo", {"beta": math.inf}, "options.beta: must be above 0, got inf"),
        ("dpo", {"label_smoothing": 0.5}, "must be in [0, 0.5), got 0.5"),
        ("dpo", {"nll": -1.0}, "options.nll: must be 0 or above, got -1"),
        ("dpo", {"alpha": 0.5}, "'dpo' does not read 'alpha'"),
        (
            "dpo",
            {"length_alpha": 2.0},
            "length_alpha: must be in [0, 1], got 2",
        ),
        ("kto", {"length_alpha": 0.5}, "'kto' does not read 'length_alpha'"),
        ("exo", {"label_smoothing": 0.0}, "must be in (0, 0.5), got 0"),
        ("coin", {"temperature": -1.0}, "options.temperature: must be above 0"),
        ("coin", {"bound": 0.5}, "options.bound: must be 1 or above, got 0.5"),
    ],
)
def test_wrong_objectives_and_options_are_named(name, settings, message):
    with pytest.raises(ValueError) as caught:
        find(name, settings)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("dpo", {"divergence": "kl"}, "no divergence 'kl' (known: reverse_kl"),
        (
            "nca",
            {"divergence": "forward_kl"},
            "divergence: 'nca' does not read it (",
        ),
        ("sft", {"divergence": "alpha"}, "divergence: 'sft' does not read it"),
        ("dpo", {"weighting": "ipo"}, "no weighting 'ipo' (known: none, wpo)"),
        ("aot", {"weighting": "wpo"}, "weighting: 'aot' has no loss of its own"),
        (
            "softmax_dpo",
            {"weighting": "wpo"},
            "weighting: 'softmax_dpo' has no",
        ),
        ("sft", {"mix": {"dpo": {}}}, "mix: 'sft' is no loss of pairs"),
        ("dpo", {"mix": {"sft": {}}}, "mix: 'sft' is no other loss of pairs"),
        ("dpo", {"mix": {"dpo": {}}}, "mix: 'dpo' is no other loss of pairs"),
        ("dpo", {"mix": {"bc": {}}}, "mix: 'bc' is no other loss of pairs"),
        ("dpo", {"mix": {"bco": {"weight": 0.0}}}, "options.weight: must be above 0"),
        (
            "dpo",
            {"mix": {"bco": {"weight": math.inf}}},
            "options.weight: must be above",
        ),
        ("dpo", {"mix": {"exo": {"label_smoothing": 0.0}}}, "must be in (0, 0.5), got"),
        ("dpo", {"mix": {"bco": {"nll": 1.0}}}, "'mix.bco' does not read 'nll'"),
        ("dpo", {"pooling": "mean"}, "pooling: only 'coin' reads it"),
        ("dpo", {"negatives": "in_batch"}, "negatives: only 'coin' reads it"),
        ("coin", {"pooling": "max"}, "no pooling 'max' (known: last, mean, first_last"),
    ],
)
def test_wrong_modifiers_are_named(name, settings, message):
    with pytest.raises(ValueError) as caught:
        find(name, **settings)
    assert message in str(caught.value)


@pytest.mark.parametrize("name", NAMES)
def test_defaults_are_within_their_ranges(name):
    for option, value in options_of(name).items():
        assert value.is_allowed(value.default), option
        find(name, {option: value.default})


def test_every_loss_is_an_objective_or_says_why_not():
    for name in LOSSES:
        if name not in NAMES:
            with pytest.raises(ValueError, match="without objective: it reads"):
                find(name)
