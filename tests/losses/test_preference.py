# SPDX-License-Identifier: Apache-2.0
"""dpo: hand calculations, TRL's golden values, invariants."""

import functools
import json
import math
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads
from jax.typing import DTypeLike

from alignjax.losses import Pair, dpo, implicit_rewards

GOLDEN = Path(__file__).parents[2] / "../shared/golden/trl116_golden.json"


def random_pairs(dtype: DTypeLike = np.float32, batch: int = 6) -> tuple[Pair, Pair]:
    scores = np.random.default_rng(0).normal(size=(4, batch), scale=3)
    chosen, rejected, reference_chosen, reference_rejected = jnp.asarray(scores, dtype)
    return Pair(chosen, rejected), Pair(reference_chosen, reference_rejected)


def permuted(pair, order):
    return Pair(pair.chosen[order], pair.rejected[order])


def test_dpo_matches_hand_calculation():
    """margin = (4 - 1) - (2 - 1) = 2, so loss = log(1 + exp(-0.5 * 2)) = 0.31326."""
    policy = Pair(jnp.array([4.0]), jnp.array([1.0]))
    reference = Pair(jnp.array([2.0]), jnp.array([1.0]))
    loss = dpo(policy, reference, beta=0.5)
    np.testing.assert_allclose(loss, [math.log1p(math.exp(-1))], rtol=1e-6)


def test_label_smoothing_matches_hand_calculation():
    """z = 1: 0.9 * log(1 + e^-1) + 0.1 * log(1 + e) = 0.41326."""
    policy = Pair(jnp.array([4.0]), jnp.array([1.0]))
    reference = Pair(jnp.array([2.0]), jnp.array([1.0]))
    loss = dpo(policy, reference, beta=0.5, label_smoothing=0.1)
    expected = 0.9 * math.log1p(math.exp(-1)) + 0.1 * math.log1p(math.e)
    np.testing.assert_allclose(loss, [expected], rtol=1e-6)


def test_loss_is_log_2_where_policy_equals_reference():
    policy, _ = random_pairs()
    loss = dpo(policy, policy, beta=0.1, label_smoothing=0.2)
    np.testing.assert_allclose(loss, np.full(6, math.log(2)), rtol=1e-6)


def golden_pairs(golden, dtype):
    """Sums over completion tokens; TRL's mask is shifted by one against its tokens."""
    mask = np.array(golden["completion_mask"], bool)[:, 1:]
    pairs = []
    for name in ("per_token_logps", "ref_per_token_logps"):
        sums = jnp.asarray(np.where(mask, golden[name], 0).sum(1), dtype)
        pairs.append(Pair(sums[: golden["B"]], sums[golden["B"] :]))
    return pairs


@pytest.fixture
def golden():
    if not GOLDEN.exists():
        pytest.skip("no golden file of TRL 1.16 beside the repository")
    return json.loads(GOLDEN.read_text())


def test_dpo_equals_trl(golden):
    """TRL's sigmoid loss ignores label smoothing, so ours is 0 here."""
    cases = [
        case
        for case in golden["cases"]
        if case["loss_type"] == "sigmoid" and case["tag"] == "base"
    ]
    assert {case["beta"] for case in cases} >= {0.1, 0.5}
    for case in cases:
        single = dpo(*golden_pairs(golden, np.float32), beta=case["beta"])
        np.testing.assert_allclose(single.mean(), case["loss"], rtol=1e-5)
        with jax.enable_x64(True):
            double = dpo(*golden_pairs(golden, np.float64), beta=case["beta"])
            assert double.dtype == jnp.float64
            np.testing.assert_allclose(double.mean(), case["loss"], rtol=0, atol=1e-9)


def test_implicit_rewards_equal_trl(golden):
    metrics = golden["metrics"]
    with jax.enable_x64(True):
        rewards = implicit_rewards(
            *golden_pairs(golden, np.float64), beta=metrics["beta"]
        )
        is_correct = rewards.chosen > rewards.rejected
        for ours, name in [
            (rewards.chosen, "rewards/chosen"),
            (rewards.rejected, "rewards/rejected"),
            (rewards.chosen - rewards.rejected, "rewards/margins"),
            (is_correct, "rewards/accuracies"),
        ]:
            np.testing.assert_allclose(ours.mean(), metrics[name], rtol=0, atol=1e-9)


@pytest.mark.parametrize("label_smoothing", [0.0, 0.1])
@pytest.mark.parametrize("margin", [1e4, -1e4])
def test_value_and_gradient_are_finite_at_extreme_margins(margin, label_smoothing):
    """z = +-1e4: the sigmoid is 1 or 0, so loss and slope in z are, with smoothing e,

    z = +1e4: e * 1e4 and e;    z = -1e4: (1 - e) * 1e4 and -(1 - e).
    """
    zero = jnp.zeros(1)

    def loss(chosen):
        return dpo(
            Pair(chosen, zero),
            Pair(zero, zero),
            beta=1.0,
            label_smoothing=label_smoothing,
        )[0]

    value, slope = jax.value_and_grad(loss)(jnp.array([margin]))
    share = label_smoothing if margin > 0 else -(1 - label_smoothing)
    np.testing.assert_allclose(value, share * margin, rtol=1e-6)
    np.testing.assert_allclose(slope, [share], rtol=1e-6)


def test_gradient_is_minus_beta_times_the_chance_of_error():
    """Rafailov et al., eq. 7: d loss / d chosen = -beta sigmoid(-z)."""
    policy, reference = random_pairs()
    gradient = jax.grad(lambda policy: dpo(policy, reference, beta=0.3).sum())(policy)
    rewards = implicit_rewards(policy, reference, beta=0.3)
    expected = -0.3 * jax.nn.sigmoid(rewards.rejected - rewards.chosen)
    np.testing.assert_allclose(gradient.chosen, expected, rtol=1e-5)
    np.testing.assert_allclose(gradient.rejected, -expected, rtol=1e-5)


def test_gradients_equal_finite_differences_in_float64():
    with jax.enable_x64(True):
        check_grads(
            jax.jit(functools.partial(dpo, beta=0.4, label_smoothing=0.1)),
            random_pairs(np.float64),
            order=1,
            rtol=1e-5,
        )


def test_permuting_pairs_permutes_losses():
    policy, reference = random_pairs()
    order = np.array([3, 0, 5, 1, 4, 2])
    loss = dpo(policy, reference, beta=0.1)
    shuffled = dpo(permuted(policy, order), permuted(reference, order), beta=0.1)
    np.testing.assert_array_equal(shuffled, loss[order])


def test_jit_and_vmap_equal_eager():
    policy, reference = random_pairs()
    eager = dpo(policy, reference, beta=0.1)

    def single(policy, reference):
        return dpo(policy, reference, beta=0.1)

    np.testing.assert_allclose(jax.jit(single)(policy, reference), eager, rtol=1e-6)
    # Each group of two pairs on its own.
    grouped = jax.tree.map(lambda x: x.reshape(3, 2), (policy, reference))
    np.testing.assert_allclose(jax.vmap(single)(*grouped).reshape(6), eager, rtol=1e-6)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_half_precision_is_upcast_before_the_margin_is_taken(dtype):
    """256 - 1 rounds to 256 in bfloat16 after a sum, but is 255 in float32."""
    policy = Pair(jnp.array([256.0], dtype), jnp.array([1.0], dtype))
    reference = Pair(jnp.array([256.0], dtype), jnp.array([0.0], dtype))
    with jax.numpy_dtype_promotion("strict"):
        loss = dpo(policy, reference, beta=1.0, label_smoothing=0.1)
    assert loss.dtype == jnp.float32
    # z = 255 - 256 = -1
    expected = 0.9 * math.log1p(math.e) + 0.1 * math.log1p(math.exp(-1))
    np.testing.assert_allclose(loss, [expected], rtol=1e-6)


def test_an_empty_batch_gives_no_losses():
    empty = Pair(jnp.zeros(0), jnp.zeros(0))
    assert dpo(empty, empty, beta=0.1).shape == (0,)
