# SPDX-License-Identifier: Apache-2.0
"""Equality with TRL 1.16: values of its source text, for every loss of its DPO trainer.

Where we differ by intent, and where TRL 0.24 differs from 1.16 (`compat`):

| what | TRL 1.16 | here | compat: TRL 0.24 |
|---|---|---|---|
| sigmoid, label smoothing | ignored | read (cDPO) | as here |
| sft | mean over all tokens | `sft` per sequence; token mean by `nll` | - |
| exo_pair, smoothing 0 | refused | refused; default 1e-3 | 0 means 1e-3 |
| robust, smoothing 0.5 | warns | refused | no check |
| alpha divergence | coefficient 1 - alpha | the paper's alpha | as here, default 1 |
| f-divergence elsewhere | refused | refused | partly ignored |
| bco_pair | no shift | option `shift`, 0 | running mean of rewards |
| WPO weight of a pair | not clamped | not clamped | product, at most 1 |
| LD-DPO | policy and reference | as 1.16 | policy only, prompt counted |
| aot_unpaired | this name | this name | `aot_pair` |
| aot | sorted in a microbatch | over what it is given | as 1.16 |
"""

from __future__ import annotations

import functools
import json
import math
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.typing import DTypeLike

from alignjax.losses import (
    LOSSES,
    Pair,
    alpha_divergence,
    aot,
    bco,
    dpo,
    find,
    forward_kl,
    implicit_rewards,
    jensen_shannon,
    length_desensitized,
    nll,
    sequence_logprobs,
    sft,
    wpo_weight,
)

GOLDEN = Path(__file__).parents[2] / "../shared/golden/trl116_golden.json"
CASES = 84
BETA = 0.1
# Our name of each loss type that the file has.
NAMES = {
    loss.trl: name
    for name, loss in LOSSES.items()
    if (loss.scores == "pair" and loss.reference and loss.trl) or name == "sft"
}
# TRL's coefficient is 1 - alpha; 0.5, its default, is ours too.
TRL_ALPHA = 0.5
DIVERGENCES = {
    "forward_kl": forward_kl,
    "js_divergence": jensen_shannon,
    "alpha_divergence": alpha_divergence(1 - TRL_ALPHA),
}


@pytest.fixture(scope="module")
def golden() -> dict[str, Any]:
    if not GOLDEN.exists():
        pytest.skip("no golden file of TRL 1.16 beside the repository")
    return json.loads(GOLDEN.read_text())


def token_pair(golden: dict[str, Any], key: str, dtype: DTypeLike) -> Pair:
    """Per token, [pair, time]; the batch is all chosen responses, then all rejected."""
    values = jnp.asarray(np.array(golden[key]), dtype)
    return Pair(values[: golden["B"]], values[golden["B"] :])


def mask_pair(golden: dict[str, Any]) -> Pair:
    """TRL's mask is of tokens; its log-probabilities leave out the first one."""
    mask = jnp.asarray(np.array(golden["completion_mask"], bool)[:, 1:])
    return Pair(mask[: golden["B"]], mask[golden["B"] :])


def scores(
    golden: dict[str, Any], dtype: DTypeLike, ld_alpha: float = 1.0
) -> tuple[Pair, Pair, Pair]:
    """Policy and reference sums, and token counts."""
    mask = mask_pair(golden)
    shorter = jnp.minimum(*(side.sum(-1) for side in mask))
    sums = []
    for key in ("per_token_logps", "ref_per_token_logps"):
        logprobs = token_pair(golden, key, dtype)
        sides = [
            length_desensitized(values, valid, shorter, alpha=ld_alpha)
            for values, valid in zip(logprobs, mask, strict=True)
        ]
        sums.append(Pair(*(side.total for side in sides)))
        tokens = Pair(*(side.tokens for side in sides))
    return sums[0], sums[1], tokens


def likeness(golden: dict[str, Any], dtype: DTypeLike) -> Pair:
    weights = map(
        wpo_weight,
        token_pair(golden, "per_token_logps", dtype),
        token_pair(golden, "log_sum_sq_probs", dtype),
        mask_pair(golden),
    )
    return Pair(*weights)


def ours(golden: dict[str, Any], case: dict[str, Any], dtype: DTypeLike) -> jax.Array:
    """The same case with our functions."""
    weight = 1
    if case.get("wpo"):
        weight = math.prod(likeness(golden, dtype))
    if case["loss_type"] == "sft":
        chosen = token_pair(golden, "per_token_logps", dtype).chosen
        mask = mask_pair(golden).chosen
        loss = nll(chosen, mask).sum() / mask.sum()
    else:
        policy, reference, tokens = scores(golden, dtype, case.get("ld", 1.0))
        given = {"policy": policy, "reference": reference, "tokens": tokens}
        options = {"beta": case.get("beta", BETA)}
        # 1.16 ignores label smoothing for sigmoid: 0 in ours.
        if case["e"] and case["loss_type"] != "sigmoid":
            options["label_smoothing"] = case["e"]
        loss, settings = find(NAMES[case["loss_type"]], options)
        more = {"divergence": DIVERGENCES[case["f"]]} if "f" in case else {}
        loss = loss.function(*(given[each] for each in loss.inputs), **settings, **more)
    return (loss * weight).mean()


def test_every_case_is_compared(golden):
    """15 loss types; every option that a case has is one that `ours` reads."""
    cases = golden["cases"]
    assert len(cases) == CASES
    assert {case["loss_type"] for case in cases} == set(NAMES)
    known = {"loss_type", "tag", "loss", "beta", "e", "ld", "wpo", "f"}
    assert set().union(*cases) == known
    assert {case["f"] for case in cases if "f" in case} == set(DIVERGENCES)


@pytest.mark.parametrize("loss_type", NAMES)
def test_losses_equal_trl(golden, loss_type):
    """To 1e-9 in 64-bit floats, to 1e-5 in 32."""
    cases = [case for case in golden["cases"] if case["loss_type"] == loss_type]
    assert cases
    for case in cases:
        single = ours(golden, case, np.float32)
        assert single.dtype == jnp.float32
        # The absolute part is for robust, whose losses of both signs cancel.
        np.testing.assert_allclose(single, case["loss"], rtol=1e-5, atol=1e-6)
    with jax.enable_x64(True):
        for case in cases:
            double = ours(golden, case, np.float64)
            assert double.dtype == jnp.float64
            np.testing.assert_allclose(double, case["loss"], rtol=0, atol=1e-9)


def test_mpo_equals_trl(golden):
    """MPO (arXiv:2411.10442): 0.8 sigmoid + 0.2 bco_pair + 1 sft."""
    parts = {"sigmoid": 0.8, "bco_pair": 0.2, "sft": 1.0}
    with jax.enable_x64(True):
        total = sum(
            share * ours(golden, {"loss_type": name, "e": 0.0}, np.float64)
            for name, share in parts.items()
        )
        np.testing.assert_allclose(total, golden["mpo"], rtol=0, atol=1e-9)


def test_implicit_rewards_equal_trl(golden):
    metrics = golden["metrics"]
    with jax.enable_x64(True):
        policy, reference, _ = scores(golden, np.float64)
        rewards = implicit_rewards(policy, reference, beta=metrics["beta"])
        for value, name in [
            (rewards.chosen, "rewards/chosen"),
            (rewards.rejected, "rewards/rejected"),
            (rewards.chosen - rewards.rejected, "rewards/margins"),
            (rewards.chosen > rewards.rejected, "rewards/accuracies"),
            (policy.chosen, "logps/chosen"),
            (policy.rejected, "logps/rejected"),
        ]:
            np.testing.assert_allclose(value.mean(), metrics[name], rtol=0, atol=1e-9)


def example() -> tuple[Pair, Pair]:
    rng = np.random.default_rng(0)
    policy, reference = (jnp.asarray(rng.normal(size=(2, 6))) for _ in range(2))
    return Pair(*policy), Pair(*reference)


@pytest.mark.parametrize("coefficient", [-0.5, 0.0, 0.3, 1.0, 2.0])
def test_trls_alpha_is_one_minus_ours(coefficient):
    """TRL 1.16: h(x) = (e^((c - 1) x) - 1) / (c - 1), and x where c = 1."""
    x = np.linspace(-3, 3, 7)
    power = coefficient - 1
    expected = x if power == 0 else np.expm1(power * x) / power
    with jax.enable_x64(True):
        h = alpha_divergence(1 - coefficient)(jnp.asarray(x))
    np.testing.assert_allclose(h, expected, rtol=1e-12, atol=1e-12)


def test_label_smoothing_of_dpo_is_that_of_trl_0_24():
    """0.24: -(1 - e) log sigmoid(z) - e log sigmoid(-z); 1.16: e ignored. In 1.16 AOT
    over one pair is the same thing."""
    with jax.enable_x64(True):
        policy, reference = example()
        z = np.subtract(*(np.subtract(*pair) for pair in (policy, reference))) * BETA
        smoothed = dpo(policy, reference, beta=BETA, label_smoothing=0.2)
        expected = 0.8 * np.log1p(np.exp(-z)) + 0.2 * np.log1p(np.exp(z))
        np.testing.assert_allclose(smoothed, expected, rtol=1e-12)
        one = jax.vmap(functools.partial(aot, beta=BETA, label_smoothing=0.2))(
            *jax.tree.map(lambda x: x[:, None], (policy, reference))
        )
        np.testing.assert_allclose(one[:, 0], smoothed, rtol=1e-12)


def test_shift_of_bco_is_the_running_mean_of_trl_0_24():
    """0.24: -log sigmoid(beta a - delta) - log sigmoid(-(beta b - delta))."""
    with jax.enable_x64(True):
        policy, reference = example()
        a, b = (BETA * np.subtract(*x) for x in zip(policy, reference, strict=True))
        delta = float(np.concatenate([a, b]).mean())
        expected = np.log1p(np.exp(delta - a)) + np.log1p(np.exp(b - delta))
        loss = bco(policy, reference, beta=BETA, shift=delta)
        np.testing.assert_allclose(loss, expected, rtol=1e-12)


def test_sft_of_each_sequence_is_not_trls_mean_over_tokens(golden):
    """5, 3, 4 and 2 tokens: a token of the last counts more in ours."""
    logprobs = token_pair(golden, "per_token_logps", np.float32).chosen
    mask = mask_pair(golden).chosen
    sums = sequence_logprobs(logprobs, mask)
    np.testing.assert_array_equal(sums.tokens, [5, 3, 4, 2])
    by_sequence = sft(logprobs, mask)
    np.testing.assert_allclose(by_sequence, -sums.total / sums.tokens, rtol=1e-6)
    trl = next(c["loss"] for c in golden["cases"] if c["loss_type"] == "sft")
    assert abs(by_sequence.mean() - trl) > 0.05
    np.testing.assert_allclose(by_sequence @ sums.tokens / 14, trl, rtol=1e-6)


def test_wpo_weight_is_not_clamped_as_in_trl_0_24(golden):
    """There the product of both weights is at most 1: of these four pairs one's is
    above."""
    policy, reference, _ = scores(golden, np.float32)
    loss = dpo(policy, reference, beta=BETA)
    chosen, rejected = likeness(golden, np.float32)
    weight = chosen * rejected
    assert (weight > 1).sum() == 1
    case = {"loss_type": "sigmoid", "e": 0.0, "wpo": True}
    found = ours(golden, case, np.float32)
    np.testing.assert_allclose(found, (weight * loss).mean(), rtol=1e-6)
    np.testing.assert_allclose(found, 0.428794, atol=1e-6)
    clamped = jnp.minimum(weight, 1)
    np.testing.assert_allclose((clamped * loss).mean(), 0.418372, atol=1e-6)
