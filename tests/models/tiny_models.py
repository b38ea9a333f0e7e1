# SPDX-License-Identifier: Apache-2.0
"""The tiny models of the tests: their sizes, written once."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

# JAX must not be imported before pytest_configure has run.
if TYPE_CHECKING:
    from alignjax.models import DecoderConfig

# config.json of a Llama in Hugging Face's layout, without the vocabulary.
LLAMA: dict[str, Any] = {
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 256,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10_000.0,
}


def llama_shapes(vocab_size: int, *, is_tied: bool) -> dict[str, tuple[int, ...]]:
    """Shapes of LLAMA's weights by their names in Hugging Face's layout."""
    width, hidden = LLAMA["hidden_size"], LLAMA["intermediate_size"]
    keys = LLAMA["num_key_value_heads"] * LLAMA["head_dim"]
    shapes: dict[str, tuple[int, ...]] = {
        "model.embed_tokens.weight": (vocab_size, width),
        "model.norm.weight": (width,),
    }
    if not is_tied:
        shapes["lm_head.weight"] = (vocab_size, width)
    for layer in range(LLAMA["num_hidden_layers"]):
        for name, shape in {
            "input_layernorm": (width,),
            "self_attn.q_proj": (width, width),
            "self_attn.k_proj": (keys, width),
            "self_attn.v_proj": (keys, width),
            "self_attn.o_proj": (width, width),
            "post_attention_layernorm": (width,),
            "mlp.gate_proj": (hidden, width),
            "mlp.up_proj": (hidden, width),
            "mlp.down_proj": (width, hidden),
        }.items():
            shapes[f"model.layers.{layer}.{name}.weight"] = shape
    return shapes


def decoder(**changes: Any) -> DecoderConfig:
    """Two layers of width 16; fast to compile, and keys are shared by two heads."""
    from alignjax.models import DecoderConfig

    config = DecoderConfig(
        vocab=32,
        embed=16,
        layers=2,
        heads=4,
        kv_heads=2,
        head_dim=4,
        mlp=24,
        context=64,
    )
    return dataclasses.replace(config, **changes)


def wide_decoder() -> DecoderConfig:
    """Width 32, and 50 tokens for examples that share few."""
    return decoder(vocab=50, embed=32, head_dim=8, mlp=48)
