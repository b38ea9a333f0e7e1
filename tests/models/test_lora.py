# SPDX-License-Identifier: Apache-2.0
"""Adapters: they start as nothing, fold into the kernels, and survive the disk."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import tiny_models
from alignjax.models import Model, Params, decoder, lora, peft
from alignjax.models.attention import Visibility
from alignjax.models.decoder import DecoderConfig

CONFIG = tiny_models.decoder()
RANK, ALPHA = 3, 12.0  # scale 4
TOKENS = jnp.array([[3, 9, 27, 17, 19, 25]])


@pytest.fixture(scope="module")
def base(random_params: Callable[..., Params]) -> Params:
    return random_params(CONFIG)


@pytest.fixture(scope="module")
def adapted(random_params: Callable[..., Params]) -> tuple[Params, DecoderConfig]:
    """Adapters whose `b` is not zero."""
    config = dataclasses.replace(CONFIG, lora_rank=RANK, lora_alpha=ALPHA)
    return random_params(config), config


@partial(jax.jit, static_argnames="model")
def hidden_of(params: Params, *, model: Model):
    visibility = Visibility(jnp.ones_like(TOKENS), jnp.zeros_like(TOKENS))
    positions = jnp.arange(TOKENS.shape[1])[None]
    return model.apply(params, TOKENS, positions, visibility).hidden


def equal(left: Params, right: Params) -> bool:
    return jax.tree.structure(left) == jax.tree.structure(right) and all(
        np.array_equal(a, b)
        for a, b in zip(jax.tree.leaves(left), jax.tree.leaves(right), strict=True)
    )


def test_an_adapter_starts_as_the_model_that_it_adapts(base: Params):
    """b = 0, so x W + scale (x a) 0 = x W, bit for bit."""
    params, config = lora.add(
        base, CONFIG, rank=RANK, alpha=ALPHA, key=jax.random.key(0)
    )
    before = hidden_of(base, model=decoder.build(CONFIG))
    after = hidden_of(params, model=decoder.build(config))
    np.testing.assert_array_equal(after, before)
    shapes = jax.tree.map(lambda leaf: leaf.shape, params)
    assert shapes == jax.tree.map(lambda leaf: leaf.shape, decoder.abstract(config))


def test_a_folded_adapter_computes_what_the_adapter_computes(adapted):
    params, config = adapted
    folded = lora.fold(*lora.split(params), scale=ALPHA / RANK)
    expected = hidden_of(params, model=decoder.build(config))
    got = hidden_of(folded, model=decoder.build(CONFIG))
    np.testing.assert_allclose(got, expected, atol=2e-5)
    plain = hidden_of(lora.split(params)[1], model=decoder.build(CONFIG))
    assert np.abs(np.asarray(plain - expected)).max() > 0.1


def test_fold_by_hand():
    """W = 1, a = 2, b = 3, scale 4: every kernel becomes 1 + 4 x 2 x 3 = 25."""
    one = jnp.ones((1, 1, 1))
    adapter = {"blocks": {"query": {"lora_a": 2 * one, "lora_b": 3 * one}}}
    folded = lora.fold(adapter, {"blocks": {"query": {"kernel": one}}}, scale=4.0)
    np.testing.assert_array_equal(folded["blocks"]["query"]["kernel"], [[[25.0]]])


def test_join_undoes_split(adapted):
    params, _ = adapted
    adapter, base = lora.split(params)
    assert equal(lora.join(adapter, base), params)
    names = {path[-1].key for path, _ in jax.tree_util.tree_leaves_with_path(adapter)}
    assert names == {"lora_a", "lora_b"}
    assert jax.tree.structure(base) == jax.tree.structure(decoder.abstract(CONFIG))


@pytest.mark.parametrize(
    ("rank", "alpha", "message"),
    [(0, 1.0, "rank must be positive, got 0"), (2, 0.0, "alpha must be positive")],
)
def test_a_rank_or_alpha_of_nothing_is_refused(base, rank, alpha, message: str):
    with pytest.raises(ValueError, match=message):
        lora.add(base, CONFIG, rank=rank, alpha=alpha, key=jax.random.key(0))


def test_a_second_adapter_is_refused(adapted):
    params, config = adapted
    with pytest.raises(ValueError, match=r"adapter of rank 3 already; fold it"):
        lora.add(params, config, rank=2, alpha=1.0, key=jax.random.key(0))


def test_only_the_named_maps_are_adapted(base, random_params, tmp_path: Path):
    """Two of seven: the other kernels stay as they are, also through the disk."""
    some = ("down", "query")
    params, config = lora.add(
        base, CONFIG, rank=RANK, alpha=ALPHA, modules=some, key=jax.random.key(0)
    )
    assert jax.tree.structure(params) == jax.tree.structure(decoder.abstract(config))
    params = random_params(config)
    adapter, plain = lora.split(params)
    assert adapter["blocks"].keys() == set(some)
    assert equal(lora.join(adapter, plain), params)
    peft.write(tmp_path, adapter, config, base="some/model")
    about = json.loads((tmp_path / "adapter_config.json").read_text())
    assert about["target_modules"] == ["down_proj", "q_proj"]
    read, scale = peft.read(tmp_path, layers=2)
    folded = lora.fold(read, plain, scale=scale)
    for name, entry in folded["blocks"].items():
        is_same = equal(entry, plain["blocks"][name])
        assert is_same == (name not in some), name
    expected = hidden_of(params, model=decoder.build(config))
    got = hidden_of(folded, model=decoder.build(CONFIG))
    np.testing.assert_allclose(got, expected, atol=2e-5)


@pytest.mark.parametrize(
    ("modules", "message"), [(("query", "norm"), "got norm"), ((), "got none")]
)
def test_maps_that_the_block_has_not_are_refused(base, modules, message: str):
    with pytest.raises(
        ValueError, match=rf"lora modules: expected some of .*{message}"
    ):
        lora.add(
            base, CONFIG, rank=1, alpha=1.0, modules=modules, key=jax.random.key(0)
        )


def test_the_adapter_of_another_model_does_not_fold(adapted, random_params):
    smaller = dataclasses.replace(CONFIG, layers=1)
    with pytest.raises(ValueError, match=r"'query'.*\(2, 16, 16\).*\(1, 16, 16\)"):
        lora.fold(lora.split(adapted[0])[0], random_params(smaller), scale=1.0)


def test_peft_names_and_transposes(adapted, tmp_path: Path):
    """PEFT stores lora_A as [rank, in], lora_B as [out, rank], torch's way around."""
    params, config = adapted
    adapter, _ = lora.split(params)
    peft.write(tmp_path, adapter, config, base="some/model")
    tensors = load_file(tmp_path / "adapter_model.safetensors")
    assert len(tensors) == 7 * 2 * 2  # maps x factors x layers
    prefix = "base_model.model.model.layers.1.mlp.down_proj"
    down = adapter["blocks"]["down"]
    np.testing.assert_array_equal(
        tensors[f"{prefix}.lora_A.weight"], np.asarray(down["lora_a"])[1].T
    )
    assert tensors[f"{prefix}.lora_B.weight"].shape == (16, RANK)
    about = json.loads((tmp_path / "adapter_config.json").read_text())
    assert (about["peft_type"], about["r"], about["lora_alpha"]) == ("LORA", 3, 12.0)
    assert about["base_model_name_or_path"] == "some/model"
    assert set(about["target_modules"]) == {
        *("q_proj", "k_proj", "v_proj", "o_proj"),
        *("gate_proj", "up_proj", "down_proj"),
    }


def test_an_adapter_comes_back_from_the_disk_bitwise(adapted, tmp_path: Path):
    params, config = adapted
    adapter, _ = lora.split(params)
    peft.write(tmp_path, adapter, config, base="some/model")
    read, scale = peft.read(tmp_path, layers=2)
    assert equal(read, adapter)
    assert scale == ALPHA / RANK


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"r": 4}, r"lora_A\.weight' has shape \(3, 16\); axis 0 should be r = 4"),
        ({"r": 0}, r"r is 0; expected a number > 0"),
        ({"lora_alpha": None}, r"lora_alpha is None"),
        ({"peft_type": "IA3"}, r"peft_type is 'IA3'; only 'LORA'"),
        ({"use_rslora": True}, r"use_rslora is True"),
        ({"use_dora": True}, r"use_dora is True"),
        ({"bias": "all"}, r"bias is 'all'"),
        ({"rank_pattern": {"q_proj": 8}}, r"rank_pattern is"),
        ({"modules_to_save": ["lm_head"]}, r"modules_to_save is \['lm_head'\]"),
        ({"target_modules": ["fc1"]}, r"target_modules is \['fc1'\]; expected some of"),
        ({"target_modules": "all-linear"}, r"target_modules is 'all-linear'"),
        ({"target_modules": ["q_proj"]}, r"24 tensors have no place"),
    ],
)
def test_an_adapter_of_another_kind_is_refused(adapted, tmp_path, changed, message):
    params, config = adapted
    peft.write(tmp_path, lora.split(params)[0], config, base="some/model")
    path = tmp_path / "adapter_config.json"
    about = json.loads(path.read_text()) | changed
    path.write_text(json.dumps(about))
    with pytest.raises(ValueError, match=message):
        peft.read(tmp_path, layers=2)


def test_missing_and_unknown_tensors_are_named(adapted, tmp_path: Path):
    params, config = adapted
    peft.write(tmp_path, lora.split(params)[0], config, base="some/model")
    with pytest.raises(ValueError, match=r"layers\.2\.self_attn\.q_proj.*is missing"):
        peft.read(tmp_path, layers=3)
    with pytest.raises(ValueError, match=r"14 tensors have no place in a model of 1"):
        peft.read(tmp_path, layers=1)
    path = tmp_path / "adapter_model.safetensors"
    save_file(load_file(path) | {"lm_head.lora_A": np.ones(2, np.float32)}, path)
    with pytest.raises(ValueError, match=r"1 tensors.*'lm_head\.lora_A'"):
        peft.read(tmp_path, layers=2)
    path.unlink()
    with pytest.raises(ValueError, match=r"is .* an adapter folder"):
        peft.read(tmp_path, layers=2)
