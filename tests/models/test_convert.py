# SPDX-License-Identifier: Apache-2.0
"""Conversion from and to Hugging Face: nothing guessed, nothing dropped, all named."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import save_file

from alignjax import models
from alignjax.models import convert, decoder, encoder, weights
from alignjax.models.rope import RopeScaling

LLAMA = {
    "model_type": "llama",
    "vocab_size": 128,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
}
BERT = {**LLAMA, "model_type": "bert", "max_position_embeddings": 64}
LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}


def test_defaults_are_those_of_transformers():
    config = convert.decoder_config(LLAMA, where="config.json")
    assert config == decoder.DecoderConfig(
        vocab=128,
        embed=64,
        layers=2,
        heads=4,
        kv_heads=4,
        head_dim=16,
        mlp=96,
        rope_theta=10_000.0,
        norm_eps=1e-6,
        is_tied=False,
        context=2048,
    )
    assert convert.encoder_config(BERT, where="") == encoder.EncoderConfig(
        vocab=128, embed=64, layers=2, heads=4, mlp=96, context=64
    )


def test_null_means_the_default():
    fields = ("num_key_value_heads", "head_dim", "rope_theta", "rope_scaling")
    nulls = dict.fromkeys(fields)
    assert convert.decoder_config({**LLAMA, **nulls}, where="") == (
        convert.decoder_config(LLAMA, where="")
    )


def test_rope_is_read_where_old_and_new_files_keep_it():
    expected = RopeScaling(8.0, 1.0, 4.0, 32)
    new = {"rope_parameters": {**LLAMA3, "rope_theta": 5e5}}
    old = {"rope_scaling": LLAMA3, "rope_theta": 5e5}
    for fields in (new, old):
        config = convert.decoder_config({**LLAMA, **fields}, where="")
        assert (config.rope_scaling, config.rope_theta) == (expected, 5e5)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"model_type": "mamba"}, "model_type is 'mamba'"),
        ({"auto_map": {"AutoModel": "x.Y"}}, "needs remote code"),
        ({"attention_bias": True}, "attention_bias is True; only False"),
        ({"hidden_act": "gelu"}, "hidden_act is 'gelu'; only 'silu'"),
        ({"partial_rotary_factor": 0.5}, "partial_rotary_factor is 0.5"),
        ({"vocab_size": None}, "field 'vocab_size' is missing"),
        ({"vocab_size": 0}, "vocab_size is 0; expected a whole number in 1.."),
        ({"hidden_size": "64"}, "hidden_size is '64'"),
        ({"hidden_size": 64.0}, "hidden_size is 64.0"),
        ({"intermediate_size": True}, "intermediate_size is True"),
        ({"num_hidden_layers": -1}, "num_hidden_layers is -1"),
        ({"num_hidden_layers": 10**9}, "whole number in 1..1024"),
        ({"num_attention_heads": 5}, "hidden_size (64) must be a multiple of"),
        ({"num_key_value_heads": 3}, "must be a multiple of num_key_value_heads (3)"),
        ({"num_key_value_heads": 0}, "num_key_value_heads is 0"),
        ({"head_dim": 5}, "head_dim is 5"),
        ({"rms_norm_eps": 0}, "rms_norm_eps is 0"),
        ({"rope_theta": float("nan")}, "rope_theta is nan"),
        ({"rope_theta": float("inf")}, "rope_theta is inf"),
        ({"tie_word_embeddings": "false"}, "tie_word_embeddings is 'false'"),
        ({"rope_scaling": [1]}, "rope_parameters is [1]"),
        ({"rope_scaling": {"type": "yarn"}}, "rope_type 'yarn'"),
        ({"rope_scaling": {**LLAMA3, "factor": None}}, "field 'factor' is missing"),
        (
            {"rope_scaling": {**LLAMA3, "low_freq_factor": 4.0}},
            "low_freq_factor 4.0 must be below high_freq_factor 4.0",
        ),
    ],
)
def test_a_decoder_config_that_cannot_be_run_is_refused_by_field(
    changed: dict[str, Any], message: str
):
    with pytest.raises(ValueError, match=r"^folder/") as caught:
        convert.decoder_config({**LLAMA, **changed}, where="folder/config.json")
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"model_type": "llama"}, "model_type is 'llama'"),
        ({"auto_map": {}}, "needs remote code"),
        ({"hidden_act": "relu"}, "hidden_act is 'relu'; only 'gelu'"),
        ({"position_embedding_type": "relative_key"}, "position_embedding_type"),
        ({"max_position_embeddings": None}, "'max_position_embeddings' is missing"),
        ({"num_attention_heads": 3}, "multiple of num_attention_heads (3)"),
        ({"layer_norm_eps": -1}, "layer_norm_eps is -1"),
    ],
)
def test_an_encoder_config_that_cannot_be_run_is_refused_by_field(
    changed: dict[str, Any], message: str
):
    with pytest.raises(ValueError, match=r"^folder/") as caught:
        convert.encoder_config({**BERT, **changed}, where="folder/config.json")
    assert message in str(caught.value)


@pytest.mark.parametrize("name", ["tiny_llama_tied", "tiny_llama_untied"])
def test_decoder_tensors_is_the_inverse_of_decoder_params(golden: Path, name: str):
    tensors = weights.read(golden / name)
    config = convert.decoder_config(
        models.read_config(golden / name), where="config.json"
    )
    params = convert.decoder_params(tensors, config, where=name)
    shapes = jax.tree.map(lambda leaf: leaf.shape, params)
    assert shapes == jax.tree.map(lambda leaf: leaf.shape, decoder.abstract(config))
    back = convert.decoder_tensors(params, config)
    assert back.keys() == tensors.keys()
    for key, tensor in tensors.items():
        np.testing.assert_array_equal(back[key], tensor, err_msg=key)


LAYER = "model.layers.1.mlp.up_proj.weight"
WRONG_TENSORS = {
    "missing": ({LAYER: None}, f"tensor '{LAYER}' is missing"),
    "unknown": ({"model.extra": np.ones(2, np.float32)}, "1 tensors .* model.extra"),
    "bias": (
        {"model.layers.0.self_attn.q_proj.bias": np.ones(64, np.float32)},
        r"1 tensors .* model\.layers\.0\.self_attn\.q_proj\.bias",
    ),
    "vocabulary": (
        {"model.embed_tokens.weight": np.ones((127, 64), np.float32)},
        r"'model\.embed_tokens\.weight' has shape \(127, 64\).*should be \(128, 64\)",
    ),
    "transposed": (
        {LAYER: np.ones((64, 96), np.float32)},
        r"up_proj\.weight' has shape \(64, 96\).*should be \(96, 64\)",
    ),
    "norm": (
        {"model.norm.weight": np.ones((1, 64), np.float32)},
        r"'model\.norm\.weight' has shape \(1, 64\)",
    ),
    "quantised": ({LAYER: np.ones((96, 64), np.int8)}, "is of type int8; weights must"),
}


@pytest.mark.parametrize("name", WRONG_TENSORS)
def test_tensors_that_do_not_fit_are_refused_by_name(golden: Path, name: str):
    changed, message = WRONG_TENSORS[name]
    folder = golden / "tiny_llama_untied"
    config = convert.decoder_config(models.read_config(folder), where="config.json")
    tensors = weights.read(folder) | changed
    tensors = {key: tensor for key, tensor in tensors.items() if tensor is not None}
    with pytest.raises(ValueError, match=f"^folder: .*{message}"):
        convert.decoder_params(tensors, config, where="folder")


def test_what_older_files_hold_on_top_is_passed_over(golden: Path):
    """A tied head stored all the same, and rotary frequencies."""
    folder = golden / "tiny_llama_tied"
    config = convert.decoder_config(models.read_config(folder), where="config.json")
    tensors = weights.read(folder)
    extra = {
        "lm_head.weight": tensors["model.embed_tokens.weight"],
        "model.layers.0.self_attn.rotary_emb.inv_freq": np.ones(8, np.float32),
    }
    params = convert.decoder_params({**tensors, **extra}, config, where="folder")
    assert "head" not in params


def test_bert_tensors_may_have_a_prefix_and_a_pooler(golden: Path):
    folder = golden / "tiny_bert"
    config = convert.encoder_config(models.read_config(folder), where="config.json")
    tensors = weights.read(folder)
    plain = convert.encoder_params(tensors, config, where="folder")
    prefixed = {f"bert.{name}": tensor for name, tensor in tensors.items()}
    prefixed["bert.pooler.dense.weight"] = np.ones((64, 64), np.float32)
    prefixed["bert.embeddings.position_ids"] = np.arange(64)
    again = convert.encoder_params(prefixed, config, where="folder")
    jax.tree.map(np.testing.assert_array_equal, again, plain)
    name = "encoder.layer.1.output.dense.bias"
    with pytest.raises(ValueError, match=rf"folder: tensor '{name}' has shape \(63,\)"):
        wrong = {**tensors, name: np.ones(63, np.float32)}
        convert.encoder_params(wrong, config, where="folder")


def test_a_saved_model_loads_again_bitwise_and_says_nothing_of_its_origin(
    golden: Path, tmp_path: Path
):
    like = tmp_path / "like"
    shutil.copytree(golden / "tiny_llama_untied", like)
    (like / "origin.json").write_text('{"package": "the base model"}')
    (like / "tokenizer.json").write_text("{}")
    model, params = models.load(like)
    changed = jax.tree.map(lambda leaf: leaf + 1, params)
    models.save(tmp_path / "saved", changed, model.config, like=like)
    names = sorted(path.name for path in (tmp_path / "saved").iterdir())
    assert names == ["config.json", "model.safetensors", "tokenizer.json"]
    again, read = models.load(tmp_path / "saved")
    assert again.config == model.config
    jax.tree.map(np.testing.assert_array_equal, read, changed)


def test_an_adapter_is_not_saved_as_a_model(
    golden: Path, tmp_path: Path, random_params
):
    folder = golden / "tiny_llama_tied"
    config = convert.decoder_config(models.read_config(folder), where="")
    adapted = dataclasses.replace(config, lora_rank=2)
    with pytest.raises(ValueError, match=r"lora\.fold"):
        models.save(tmp_path / "saved", random_params(adapted), adapted, like=folder)
    assert not (tmp_path / "saved").exists()


def test_the_dtype_of_load_is_that_of_parameters_and_cache(golden: Path):
    model, params = models.load(golden / "tiny_llama_tied", dtype="bfloat16")
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype("bfloat16")}
    cache = decoder.empty_cache(
        model.config,
        prompts=1,
        prompt_tokens=8,
        prompt_block=8,
        answers=1,
        answer_tokens=8,
        answer_block=8,
    )
    assert {leaf.dtype for leaf in jax.tree.leaves(cache)} == {jnp.dtype("bfloat16")}
    with pytest.raises(ValueError, match="dtype 'int4' is not one of float32"):
        models.load(golden / "tiny_llama_tied", dtype="int4")


def test_a_folder_without_a_usable_config_is_named(tmp_path: Path):
    with pytest.raises(ValueError, match=r"config\.json: no such file; is .* a model"):
        models.load(tmp_path)
    (tmp_path / "config.json").write_text('{"a": 1, "a": 2}')
    with pytest.raises(ValueError, match=r'config\.json: "a" appears twice'):
        models.load(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(LLAMA))
    save_file({"a": np.ones(2, np.float32)}, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match=r"'model\.embed_tokens\.weight' is missing"):
        models.load(tmp_path)
