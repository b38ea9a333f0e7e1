# SPDX-License-Identifier: Apache-2.0
"""Adapters on disk, in the layout of Hugging Face PEFT."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from alignjax.models import weights
from alignjax.models.decoder import DecoderConfig, Params

_MODULES = {
    "query": "self_attn.q_proj",
    "key": "self_attn.k_proj",
    "value": "self_attn.v_proj",
    "out": "self_attn.o_proj",
    "gate": "mlp.gate_proj",
    "up": "mlp.up_proj",
    "down": "mlp.down_proj",
}
_FACTORS = {"lora_a": "lora_A", "lora_b": "lora_B"}


def write(folder: Path, adapter: Params, config: DecoderConfig, *, base: str) -> None:
    """Writes `adapter_model.safetensors` and `adapter_config.json`."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {}
    for ours, theirs in _MODULES.items():
        for factor, name in _FACTORS.items():
            for layer, value in enumerate(np.asarray(adapter["blocks"][ours][factor])):
                tensors[_name(layer, theirs, name)] = np.ascontiguousarray(value.T)
    weights.replace(folder / "adapter_model.safetensors", tensors)
    about = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base,
        "r": config.lora_rank,
        "lora_alpha": config.lora_alpha,
        "lora_dropout": 0.0,
        "bias": "none",
        "target_modules": [name.split(".")[-1] for name in _MODULES.values()],
        "inference_mode": True,
    }
    (folder / "adapter_config.json").write_text(json.dumps(about, indent=2) + "\n")


def read(folder: Path, *, layers: int) -> tuple[Params, float]:
    """An adapter and the scale of its output, alpha / rank.

    Raises:
      ValueError: a file or tensor is missing; names it.
    """
    about = _config(folder)
    path = folder / "adapter_model.safetensors"
    tensors = weights.read_file(path)
    blocks: dict[str, dict[str, Any]] = {}
    for ours, theirs in _MODULES.items():
        blocks[ours] = {}
        for factor, name in _FACTORS.items():
            names = [_name(layer, theirs, name) for layer in range(layers)]
            missing = [name for name in names if name not in tensors]
            if missing:
                raise ValueError(f"{path}: tensor {missing[0]!r} is missing")
            blocks[ours][factor] = np.stack([tensors[name].T for name in names])
    return {"blocks": blocks}, about["lora_alpha"] / about["r"]


def _name(layer: int, module: str, factor: str) -> str:
    return f"base_model.model.model.layers.{layer}.{module}.{factor}.weight"


def _config(folder: Path) -> dict[str, Any]:
    path = folder / "adapter_config.json"
    if not path.is_file():
        raise ValueError(f"{path}: no such file; is {folder} an adapter folder?")
    return json.loads(path.read_bytes())
