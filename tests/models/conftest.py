# SPDX-License-Identifier: Apache-2.0
"""What the tests of models share: golden values, fetched models, and a small GGUF
file, written as llama.cpp's converter writes one."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from tokenizers.pre_tokenizers import ByteLevel

from tiny_models import LLAMA, llama_shapes

HEADS, KV_HEADS = LLAMA["num_attention_heads"], LLAMA["num_key_value_heads"]
LAYERS = LLAMA["num_hidden_layers"]
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
MERGES = ["h e", "l l", "he ll", "hell o", "Ġ hello", "1 2"]
TOKENS = [
    *SPECIAL,
    *sorted(ByteLevel.alphabet()),
    *(merge.replace(" ", "") for merge in MERGES),
]
TEMPLATE = (
    "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\\n' + "
    "message['content'] + '<|im_end|>' + '\\n'}}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)


def hf_tensors(*, is_tied: bool = True) -> dict[str, np.ndarray]:
    """Random weights of the model under their Hugging Face names."""
    rng = np.random.default_rng(0)
    shapes = llama_shapes(len(TOKENS), is_tied=is_tied)
    return {n: rng.normal(size=s).astype(np.float32) for n, s in shapes.items()}


def llama_cpp_permute(weight: np.ndarray, heads: int) -> np.ndarray:
    """LlamaModel.permute of llama.cpp's convert_hf_to_gguf.py, line for line."""
    return (
        weight.reshape(heads, 2, weight.shape[0] // heads // 2, *weight.shape[1:])
        .swapaxes(1, 2)
        .reshape(weight.shape)
    )


@pytest.fixture(scope="session")
def golden(root: Path) -> Path:
    """The folder of golden values; see make_golden.py in it."""
    return root / "tests" / "golden"


@pytest.fixture(scope="session")
def fetched() -> Callable[[str], Path]:
    """The folder of a fetched model by its name; skips where it is not there."""
    # Not at the top: JAX must not be imported before pytest_configure has run.
    from alignjax import fetch

    def find(name: str) -> Path:
        folder = fetch.home(os.environ) / "models" / name
        if not (folder / "model.safetensors").is_file():
            pytest.skip(f"{folder} is not there: alignjax fetch {name}")
        return folder

    return find


@pytest.fixture
def write_gguf(tmp_path: Path) -> Callable[..., tuple[Path, dict[str, np.ndarray]]]:
    """Writes tiny.gguf; returns its path and the weights that went in.

    `changed` replaces metadata (None removes a key), `extra` adds tensors,
    `quantised` stores the matrices as Q8_0.
    """

    def write(
        *,
        is_tied: bool = True,
        quantised: bool = False,
        changed: dict[str, Any] | None = None,
        extra: dict[str, np.ndarray] | None = None,
    ) -> tuple[Path, dict[str, np.ndarray]]:
        tensors = hf_tensors(is_tied=is_tied)
        path = tmp_path / "tiny.gguf"
        writer = gguf.GGUFWriter(path, "llama")
        metadata: dict[str, Any] = {
            "llama.embedding_length": LLAMA["hidden_size"],
            "llama.feed_forward_length": LLAMA["intermediate_size"],
            "llama.block_count": LAYERS,
            "llama.context_length": LLAMA["max_position_embeddings"],
            "llama.attention.head_count": HEADS,
            "llama.attention.head_count_kv": KV_HEADS,
            "llama.rope.freq_base": LLAMA["rope_theta"],
            "llama.attention.layer_norm_rms_epsilon": LLAMA["rms_norm_eps"],
            "tokenizer.ggml.model": "gpt2",
            "tokenizer.ggml.pre": "smollm",
            "tokenizer.ggml.tokens": TOKENS,
            "tokenizer.ggml.token_type": [3] * 3 + [1] * (len(TOKENS) - 3),
            "tokenizer.ggml.merges": MERGES,
            "tokenizer.ggml.bos_token_id": 1,
            "tokenizer.ggml.eos_token_id": 2,
            "tokenizer.ggml.unknown_token_id": 0,
            "tokenizer.ggml.padding_token_id": 2,
            "tokenizer.chat_template": TEMPLATE,
            **(changed or {}),
        }
        for key, value in metadata.items():
            if isinstance(value, list):
                writer.add_array(key, value)
            elif isinstance(value, str):
                writer.add_string(key, value)
            elif isinstance(value, float):
                writer.add_float32(key, value)
            elif value is not None:
                writer.add_uint32(key, value)
        for name, array in tensors.items():
            stored = array
            if "q_proj" in name:
                stored = llama_cpp_permute(array, HEADS)
            elif "k_proj" in name:
                stored = llama_cpp_permute(array, KV_HEADS)
            if quantised and array.ndim == 2:
                kind = gguf.GGMLQuantizationType.Q8_0
                stored = gguf.quants.quantize(stored, kind)
                writer.add_tensor(_gguf_name(name), stored, raw_dtype=kind)
            else:
                writer.add_tensor(_gguf_name(name), stored)
        for name, array in (extra or {}).items():
            writer.add_tensor(name, array)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        return path, tensors

    return write


def _gguf_name(name: str) -> str:
    """By the names that the `gguf` package knows, not by our own table."""
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, LAYERS)
    found = names.get_name(name, try_suffixes=(".weight",))
    assert found, name
    return found
