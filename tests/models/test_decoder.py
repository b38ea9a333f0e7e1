# SPDX-License-Identifier: Apache-2.0
"""The decoder: PyTorch's numbers, and the invariants that training and sampling use."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import tiny_models
from alignjax import models
from alignjax.data import rows
from alignjax.data.rows import Rows, Shape, Tokens
from alignjax.models import decoder
from alignjax.models.attention import Visibility, visible
from alignjax.models.decoder import Model, Params
from alignjax.models.rope import RopeScaling, cosine_sine, frequencies, rotate
from alignjax.sampling import Request, Sampler, Settings

CONFIG = tiny_models.decoder()


@pytest.fixture(scope="module")
def tiny(random_params: Callable[..., Params]) -> tuple[Model, Params]:
    return decoder.build(CONFIG), random_params(CONFIG)


def hidden_of(model: Model, params: Params, batch: Rows, *, is_dense: bool = False):
    """Hidden states of a batch, by its blocks or by one dense mask."""
    visibility = Visibility(
        jnp.asarray(batch.group),
        jnp.asarray(batch.branch),
        None if is_dense else jax.tree.map(jnp.asarray, batch.blocks),
    )
    tokens, positions = jnp.asarray(batch.tokens), jnp.asarray(batch.positions)
    return model.apply(params, tokens, positions, visibility).hidden


def logits_of(model: Model, params: Params, tokens: Sequence[int]) -> np.ndarray:
    """Scores after each token of one plain sequence: [time, vocab]."""
    padded = np.zeros(-(-len(tokens) // 64) * 64, np.int32)  # seen by nobody
    padded[: len(tokens)] = tokens
    return np.asarray(_logits(params, padded, model=model))[: len(tokens)]


@partial(jax.jit, static_argnames="model")
def _logits(params: Params, tokens: jax.Array, *, model: Model) -> jax.Array:
    ids = tokens[None]
    visibility = Visibility(jnp.ones_like(ids), jnp.zeros_like(ids))
    positions = jnp.arange(ids.shape[1])[None]
    hidden = model.apply(params, ids, positions, visibility).hidden
    return hidden[0] @ model.output_head(params)


def example(name: str, prompt: int, *responses: int) -> Tokens:
    """Random tokens, `prompt` and `responses` of them."""
    rng = np.random.default_rng(ord(name))

    def draw(count: int) -> tuple[int, ...]:
        return tuple(rng.integers(0, CONFIG.vocab, count).tolist())

    return Tokens(name, draw(prompt), tuple(map(draw, responses)))


PAIRS = [example("a", 5, 3, 4), example("b", 2, 6, 1), example("c", 7, 2, 2)]
K3 = [example("d", 4, 3, 5, 1, 2), example("e", 1, 2, 2, 3, 4)]
SHAPES = {
    "pairs": (
        PAIRS,
        [[0, 1], [2]],
        Shape(rows=2, time=24, blocks=5, block=11, scored=20),
    ),
    "k3": (K3, [[0, 1]], Shape(rows=1, time=32, blocks=9, block=10, scored=24)),
}


def batch_of(name: str) -> Rows:
    examples, batch, shape = SHAPES[name]
    return rows.build(batch, examples, shape)


@pytest.mark.parametrize("name", ["tied", "untied", "llama3"])
def test_logits_equal_those_of_torch(golden: Path, tmp_path: Path, name: str):
    """Within 4e-5: of the logits up to 7.2, torch's own are 2.2e-5 away from the same
    computation in float64 (tied, third sequence), ours 1.1e-5."""
    about = json.loads((golden / "tiny.json").read_text())
    folder = golden / f"tiny_llama_{'tied' if name == 'tied' else 'untied'}"
    if name == "llama3":
        config = json.loads((folder / "config.json").read_text())
        config["rope_parameters"] = about["llama3"]
        (tmp_path / "config.json").write_text(json.dumps(config))
        (tmp_path / "model.safetensors").symlink_to(folder / "model.safetensors")
        folder = tmp_path
    model, params = models.load(folder)
    expected = np.load(golden / "tiny.npz")
    for i, tokens in enumerate(about["sequences"]):
        got = logits_of(model, params, tokens)
        np.testing.assert_allclose(got, expected[f"llama_{name}_{i}"], atol=4e-5)


@pytest.mark.slow
def test_smollm2_answers_as_in_torch(golden: Path, fetched: Callable[[str], Path]):
    """The same logits to 3e-4 and, decoded greedily, the same 32 tokens (8 of the
    first prompt, whose answer ends there)."""
    model, params = models.load(fetched("smollm2"))
    prompts = json.loads((golden / "smollm2.json").read_text())["prompts"]
    expected = np.load(golden / "smollm2.npz")
    for i, prompt in enumerate(prompts):
        tokens = [*prompt["ids"], *prompt["greedy"]]
        logits = logits_of(model, params, tokens)
        columns = logits[:, expected["columns"]]
        np.testing.assert_allclose(columns, expected[f"logits_{i}"], atol=3e-4)
        np.testing.assert_allclose(logits.max(-1), expected[f"max_{i}"], atol=3e-4)
        total = jax.nn.logsumexp(logits, axis=-1)
        np.testing.assert_allclose(total, expected[f"logsumexp_{i}"], atol=3e-4)

    class Codec:
        eos_ids: tuple[int, ...] = ()

        def decode(self, ids: list[int]) -> str:
            return ""

    sampler = Sampler(model, params, Codec(), slots=4, context=128)
    settings = Settings(temperature=0.0, max_new_tokens=32)
    asked = [
        Request(str(i), tuple(prompt["ids"]), settings=settings)
        for i, prompt in enumerate(prompts)
    ]
    for result in sampler.generate(asked):
        greedy = prompts[int(result.id)]["greedy"]
        assert list(result.tokens[: len(greedy)]) == greedy


def test_visibility_is_what_its_definition_says():
    """One group: prompt p, branch 1 a b, branch 2 c; then another group q; then pad.

    a and b see p (branch 0) and themselves; c sees p and c, not a or b.
    """
    group = jnp.array([[1, 1, 1, 1, 2, 0]])
    branch = jnp.array([[0, 1, 1, 2, 0, 0]])
    #              p  a  b  c  q  -
    expected = [
        [1, 0, 0, 0, 0, 0],
        [1, 1, 0, 0, 0, 0],
        [1, 1, 1, 0, 0, 0],
        [1, 0, 0, 1, 0, 0],
        [0, 0, 0, 0, 1, 0],
        [0, 0, 0, 0, 0, 1],
    ]
    np.testing.assert_array_equal(visible(group, branch)[0], np.array(expected, bool))


@pytest.mark.parametrize("name", SHAPES)
def test_blocks_equal_the_dense_mask_in_values_and_gradients(tiny, name: str):
    model, params = tiny
    batch = batch_of(name)
    is_token = (batch.group > 0)[:, :, None]
    weight = jax.random.normal(jax.random.key(1), (*batch.tokens.shape, CONFIG.embed))

    @jax.jit
    def both(params):
        def loss(params, is_dense):
            hidden = hidden_of(model, params, batch, is_dense=is_dense)
            hidden = jnp.where(is_token, hidden, 0)
            return (weight * hidden).sum(), hidden

        grad = jax.value_and_grad(loss, has_aux=True)
        return grad(params, False), grad(params, True)

    ((_, blocks), own), ((_, dense), expected) = both(params)
    np.testing.assert_allclose(blocks, dense, atol=1e-5)
    for path, value in jax.tree_util.tree_leaves_with_path(expected):
        scale = float(jnp.abs(value).max())
        got = own
        for part in path:
            got = got[part.key]
        np.testing.assert_allclose(got, value, atol=2e-5 * scale, err_msg=str(path))


@pytest.mark.parametrize("is_dense", [False, True])
def test_a_branch_sees_no_other_branch_and_no_other_group(tiny, is_dense: bool):
    """Each branch's tokens are changed in turn: only its own hidden states move, and
    of a prompt's change only its own group learns."""
    model, params = tiny
    apply = jax.jit(lambda batch: hidden_of(model, params, batch, is_dense=is_dense))
    batch = batch_of("k3")
    before = np.asarray(apply(batch))
    for group in (1, 2):
        for branch in range(5):
            changed = (batch.group == group) & (batch.branch == branch)
            tokens = np.where(changed, (batch.tokens + 1) % CONFIG.vocab, batch.tokens)
            after = np.asarray(apply(batch._replace(tokens=tokens)))
            touched = (batch.group == group) & (
                (branch == 0) | (batch.branch == branch)
            )
            touched |= batch.group == 0
            np.testing.assert_array_equal(after[~touched], before[~touched])
            assert (np.abs(after - before)[changed].max(-1) > 1e-3).all()


def test_a_response_in_company_equals_the_plain_sequence(tiny):
    """Prompt and response 2 of the packed row, laid out as a sequence of their own."""
    model, params = tiny
    batch = batch_of("k3")
    hidden = np.asarray(jax.jit(lambda: hidden_of(model, params, batch))())
    head = np.asarray(model.output_head(params))
    own = (batch.group[0] == 1) & np.isin(batch.branch[0], [0, 2])
    plain = logits_of(model, params, [*K3[0].prompt, *K3[0].responses[1]])
    np.testing.assert_allclose(hidden[0, own] @ head, plain, atol=1e-5)


def test_remat_changes_neither_values_nor_gradients(tiny):
    model, params = tiny
    again = decoder.build(dataclasses.replace(CONFIG, remat=True))
    batch = batch_of("pairs")

    def loss(params, model):
        return (hidden_of(model, params, batch) ** 2).sum()

    grad = jax.jit(jax.value_and_grad(loss), static_argnums=1)
    value, gradient = grad(params, model)
    remat_value, remat_gradient = grad(params, again)
    np.testing.assert_allclose(remat_value, value, rtol=1e-6)
    for got, expected in zip(
        jax.tree.leaves(remat_gradient), jax.tree.leaves(gradient), strict=True
    ):
        scale = float(jnp.abs(expected).max())
        np.testing.assert_allclose(got, expected, atol=1e-6 * scale)


def test_init_gives_norms_of_one_and_an_adapter_that_does_nothing():
    config = dataclasses.replace(CONFIG, is_tied=False, lora_rank=3, dtype="bfloat16")
    params = jax.jit(decoder.init, static_argnums=0)(config, key=jax.random.key(0))
    assert jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), params) == (
        jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), decoder.abstract(config))
    )
    assert {leaf.dtype for leaf in jax.tree.leaves(params["blocks"]["up"])} == (
        {jnp.dtype("bfloat16"), jnp.dtype("float32")}
    )
    np.testing.assert_array_equal(params["norm"]["weight"], 1)
    np.testing.assert_array_equal(params["blocks"]["up"]["lora_b"], 0)
    # 2 x 16 x 24 draws of variance 1/16: mean square 0.0625, spread 0.0625 sqrt(2/768).
    kernel = np.asarray(params["blocks"]["up"]["kernel"], np.float32)
    assert abs(np.mean(kernel**2) - 1 / 16) < 4 * (1 / 16) * math.sqrt(2 / 768)


def test_heads_must_be_a_multiple_of_kv_heads():
    with pytest.raises(ValueError, match=r"heads \(4\) must be a multiple of kv_heads"):
        dataclasses.replace(CONFIG, kv_heads=3)


def test_rotation_turns_pairs_half_a_head_apart():
    """Head of width 4, theta = 10000: frequencies 1 and 10000^(-2/4) = 0.01.

    At position 2, (1, 0, 0, 3) has pairs (1, 0) turned by 2 and (0, 3) by 0.02.
    """
    cosine, sine = cosine_sine(jnp.array([[2]]), 4, 10_000.0, None)
    x = jnp.array([1.0, 0.0, 0.0, 3.0]).reshape(1, 1, 1, 4)
    expected = [
        math.cos(2),
        -3 * math.sin(0.02),
        math.sin(2),
        3 * math.cos(0.02),
    ]
    np.testing.assert_allclose(rotate(x, cosine, sine)[0, 0, 0], expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("wavelength", "expected"),
    [
        (6.0, 1.0),  # below 32 / 4 = 8: kept
        (100.0, 1 / 8),  # above 32 / 1 = 32: stretched by the factor
        (16.0, 5 / 12),  # s = (32 / 16 - 1) / (4 - 1) = 1/3; (1 - s) / 8 + s = 5/12
    ],
)
def test_llama3_scaling_by_hand(wavelength: float, expected: float):
    """Head of width 4: the second frequency is theta^(-1/2) = 2 pi / wavelength."""
    scaling = RopeScaling(
        factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_context=32
    )
    frequency = 2 * math.pi / wavelength
    scaled = frequencies(4, frequency**-2, scaling)
    np.testing.assert_allclose(scaled, [1.0, expected * frequency], rtol=1e-5)
