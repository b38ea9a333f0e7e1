# SPDX-License-Identifier: Apache-2.0
"""Adapters on disk, in the layout of Hugging Face PEFT."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from alignjax import json_file
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
# Variants of the adapter that would need other arithmetic: the values that leave plain
# low-rank adapters.
_PLAIN = {
    "peft_type": ("LORA",),
    "bias": ("none",),
    "use_rslora": (False, None),
    "use_dora": (False, None),
    "fan_in_fan_out": (False, None),
    "rank_pattern": ({}, None),
    "alpha_pattern": ({}, None),
    "modules_to_save": ([], None),
}


def write(folder: Path, adapter: Params, config: DecoderConfig, *, base: str) -> None:
    """Writes `adapter_model.safetensors` and `adapter_config.json`."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {}
    for ours in config.lora_modules:
        theirs = _MODULES[ours]
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
        "target_modules": [
            _MODULES[name].split(".")[-1] for name in config.lora_modules
        ],
        "inference_mode": True,
    }
    (folder / "adapter_config.json").write_text(json.dumps(about, indent=2) + "\n")


def read(folder: Path, *, layers: int) -> tuple[Params, float]:
    """An adapter and the scale of its output, alpha / rank.

    Args:
      layers: of the model that the adapter belongs to.

    Raises:
      ValueError: a file or tensor is missing, unknown or of another rank, or the
        adapter is not a plain low-rank one; names it.
    """
    rank, alpha, modules = _config(folder)
    path = folder / "adapter_model.safetensors"
    if not path.is_file():
        raise ValueError(f"{path}: no such file; is {folder} an adapter folder?")
    tensors = weights.read_file(path)
    blocks: dict[str, dict[str, Any]] = {}
    for ours in modules:
        theirs = _MODULES[ours]
        blocks[ours] = {}
        for factor, name in _FACTORS.items():
            names = [_name(layer, theirs, name) for layer in range(layers)]
            missing = [name for name in names if name not in tensors]
            if missing:
                raise ValueError(f"{path}: tensor {missing[0]!r} is missing")
            factors = [tensors.pop(name) for name in names]
            axis = 0 if factor == "lora_a" else 1
            for name, value in zip(names, factors, strict=True):
                if value.ndim != 2 or value.shape[axis] != rank:
                    raise ValueError(
                        f"{path}: tensor {name!r} has shape {value.shape}; axis {axis} "
                        f"should be r = {rank}"
                    )
            blocks[ours][factor] = np.stack([value.T for value in factors])
    if tensors:
        raise ValueError(
            f"{path}: {len(tensors)} tensors have no place in a model of {layers} "
            f"layers, {min(tensors)!r} among them"
        )
    return {"blocks": blocks}, alpha / rank


def _name(layer: int, module: str, factor: str) -> str:
    return f"base_model.model.model.layers.{layer}.{module}.{factor}.weight"


def _config(folder: Path) -> tuple[int, float, list[str]]:
    """(rank, alpha, our names of the adapted maps) of a plain low-rank adapter."""
    path = folder / "adapter_config.json"
    if not path.is_file():
        raise ValueError(f"{path}: no such file; is {folder} an adapter folder?")
    about = json_file.read(path)
    for field, plain in _PLAIN.items():
        if about.get(field, plain[0]) not in plain:
            raise ValueError(
                f"{path}: {field} is {about[field]!r:.80}; only {plain[0]!r} is "
                "supported"
            )
    for field, kinds in (("r", (int,)), ("lora_alpha", (int, float))):
        if type(about.get(field)) not in kinds or not about[field] > 0:
            raise ValueError(
                f"{path}: {field} is {about.get(field)!r:.80}; expected a number > 0"
            )
    targets = about.get("target_modules")
    names = {theirs.split(".")[-1]: ours for ours, theirs in _MODULES.items()}
    if not isinstance(targets, list) or not targets or not set(targets) <= set(names):
        raise ValueError(
            f"{path}: target_modules is {targets!r:.80}; expected some of "
            f"{', '.join(names)}"
        )
    return about["r"], about["lora_alpha"], [names[name] for name in targets]
