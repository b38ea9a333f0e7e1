# SPDX-License-Identifier: Apache-2.0
"""Names: Hugging Face's `config.json` and tensors to ours, and back.

One table per model type says where each tensor goes. A tensor that no line of the
table names, or a line that finds no tensor, is an error with the tensor's name.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from alignjax.models.decoder import DecoderConfig
from alignjax.models.encoder import EncoderConfig
from alignjax.models.rope import RopeScaling

# our path inside a block -> (Hugging Face's name inside a layer, is transposed)
_LLAMA_LAYER = {
    "attention_norm/weight": ("input_layernorm.weight", False),
    "query/kernel": ("self_attn.q_proj.weight", True),
    "key/kernel": ("self_attn.k_proj.weight", True),
    "value/kernel": ("self_attn.v_proj.weight", True),
    "out/kernel": ("self_attn.o_proj.weight", True),
    "mlp_norm/weight": ("post_attention_layernorm.weight", False),
    "gate/kernel": ("mlp.gate_proj.weight", True),
    "up/kernel": ("mlp.up_proj.weight", True),
    "down/kernel": ("mlp.down_proj.weight", True),
}
_LLAMA_TOP = {
    "embedding": "model.embed_tokens.weight",
    "norm/weight": "model.norm.weight",
    "head": "lm_head.weight",
}
_BERT_LAYER = {
    "query": "attention.self.query",
    "key": "attention.self.key",
    "value": "attention.self.value",
    "out": "attention.output.dense",
    "attention_norm": "attention.output.LayerNorm",
    "up": "intermediate.dense",
    "down": "output.dense",
    "mlp_norm": "output.LayerNorm",
}
_BERT_TOP = {
    "words": "embeddings.word_embeddings.weight",
    "positions": "embeddings.position_embeddings.weight",
    "token_types": "embeddings.token_type_embeddings.weight",
    "norm/weight": "embeddings.LayerNorm.weight",
    "norm/bias": "embeddings.LayerNorm.bias",
}


def decoder_config(hf: Mapping[str, Any], *, where: str) -> DecoderConfig:
    """Reads a Llama-type `config.json`.

    Raises:
      ValueError: another model type, remote code, or a feature that this decoder has
        not (biases, other activations, other rotary scalings); names the field.
    """
    _refuse_remote_code(hf, where)
    if hf.get("model_type") != "llama":
        raise ValueError(
            f"{where}: model_type is {hf.get('model_type')!r}; this decoder reads "
            "'llama' (Llama, SmolLM2 and others with the same layers)"
        )
    for field, wanted in (
        ("attention_bias", False),
        ("mlp_bias", False),
        ("hidden_act", "silu"),
    ):
        if hf.get(field, wanted) != wanted:
            raise ValueError(
                f"{where}: {field} is {hf[field]!r}; only {wanted!r} is supported"
            )
    try:
        heads = int(hf["num_attention_heads"])
        embed = int(hf["hidden_size"])
        rope = hf.get("rope_parameters") or hf.get("rope_scaling") or {}
        theta = hf.get("rope_theta", rope.get("rope_theta", 10_000.0))
        return DecoderConfig(
            vocab=int(hf["vocab_size"]),
            embed=embed,
            layers=int(hf["num_hidden_layers"]),
            heads=heads,
            kv_heads=int(hf.get("num_key_value_heads") or heads),
            head_dim=int(hf.get("head_dim") or embed // heads),
            mlp=int(hf["intermediate_size"]),
            rope_theta=float(theta),
            rope_scaling=_rope_scaling(rope, where),
            norm_eps=float(hf.get("rms_norm_eps", 1e-6)),
            is_tied=bool(hf.get("tie_word_embeddings", False)),
            context=int(hf.get("max_position_embeddings", 2048)),
        )
    except KeyError as missing:
        raise ValueError(f"{where}: field {missing} is missing") from None


def encoder_config(hf: Mapping[str, Any], *, where: str) -> EncoderConfig:
    """Reads a BERT-type `config.json`.

    Raises:
      ValueError: another model type or missing field, with its name.
    """
    _refuse_remote_code(hf, where)
    if hf.get("model_type") != "bert":
        raise ValueError(
            f"{where}: model_type is {hf.get('model_type')!r}; the embedding model "
            "must be of type 'bert' (MiniLM, for one)"
        )
    try:
        return EncoderConfig(
            vocab=int(hf["vocab_size"]),
            embed=int(hf["hidden_size"]),
            layers=int(hf["num_hidden_layers"]),
            heads=int(hf["num_attention_heads"]),
            mlp=int(hf["intermediate_size"]),
            context=int(hf["max_position_embeddings"]),
            token_types=int(hf.get("type_vocab_size", 2)),
            norm_eps=float(hf.get("layer_norm_eps", 1e-12)),
        )
    except KeyError as missing:
        raise ValueError(f"{where}: field {missing} is missing") from None


def decoder_params(
    tensors: Mapping[str, np.ndarray], config: DecoderConfig, *, where: str
) -> dict[str, Any]:
    """Hugging Face Llama tensors as our nested dict, layers stacked.

    Raises:
      ValueError: a tensor is missing, unknown or of another shape; names it.
    """
    source = _Source(tensors, where)
    top = dict(_LLAMA_TOP)
    if config.is_tied:
        del top["head"]
        source.ignore("lm_head.weight")
    source.ignore_suffix("rotary_emb.inv_freq")
    params = _nest({ours: source.take(theirs) for ours, theirs in top.items()})
    params["blocks"] = _nest(
        {
            ours: source.stack("model.layers.{}." + theirs, config.layers, transposed)
            for ours, (theirs, transposed) in _LLAMA_LAYER.items()
        }
    )
    source.finish()
    _check_shape(params["embedding"], (config.vocab, config.embed), "embedding", where)
    kernel = params["blocks"]["query"]["kernel"]
    expected = (config.layers, config.embed, config.heads * config.head_dim)
    _check_shape(kernel, expected, "query", where)
    return params


def decoder_tensors(
    params: Mapping[str, Any], config: DecoderConfig
) -> dict[str, np.ndarray]:
    """The inverse of `decoder_params`; a tied head is not written."""
    tensors = {
        theirs: np.asarray(_get(params, ours))
        for ours, theirs in _LLAMA_TOP.items()
        if not (ours == "head" and config.is_tied)
    }
    for ours, (theirs, transposed) in _LLAMA_LAYER.items():
        stacked = np.asarray(_get(params["blocks"], ours))
        for layer, value in enumerate(stacked):
            value = np.ascontiguousarray(value.T) if transposed else value
            tensors[f"model.layers.{layer}.{theirs}"] = value
    return tensors


def encoder_params(
    tensors: Mapping[str, np.ndarray], config: EncoderConfig, *, where: str
) -> dict[str, Any]:
    """Hugging Face BERT tensors (with or without the `bert.` prefix) as ours.

    Raises:
      ValueError: a tensor is missing or unknown; names it.
    """
    plain = {name.removeprefix("bert."): value for name, value in tensors.items()}
    source = _Source(plain, where)
    source.ignore_suffix("position_ids")
    source.ignore("pooler.dense.weight", "pooler.dense.bias")
    params = _nest({ours: source.take(theirs) for ours, theirs in _BERT_TOP.items()})
    flat = {}
    for ours, theirs in _BERT_LAYER.items():
        is_norm = ours.endswith("norm")
        name = "encoder.layer.{}." + theirs
        weight = source.stack(name + ".weight", config.layers, not is_norm)
        flat[f"{ours}/{'weight' if is_norm else 'kernel'}"] = weight
        flat[f"{ours}/bias"] = source.stack(name + ".bias", config.layers, False)
    params["blocks"] = _nest(flat)
    source.finish()
    return params


class _Source:
    """Tensors by name, remembering which were used."""

    def __init__(self, tensors: Mapping[str, np.ndarray], where: str):
        self.tensors, self.where, self.unused = tensors, where, set(tensors)

    def take(self, name: str) -> np.ndarray:
        if name not in self.tensors:
            raise ValueError(f"{self.where}: tensor {name!r} is missing")
        self.unused.discard(name)
        return self.tensors[name]

    def stack(self, pattern: str, depth: int, transposed: bool) -> np.ndarray:
        parts = [self.take(pattern.format(layer)) for layer in range(depth)]
        return np.stack([part.T if transposed else part for part in parts])

    def ignore(self, *names: str) -> None:
        self.unused.difference_update(names)

    def ignore_suffix(self, suffix: str) -> None:
        self.unused = {name for name in self.unused if not name.endswith(suffix)}

    def finish(self) -> None:
        if self.unused:
            names = ", ".join(sorted(self.unused)[:3])
            raise ValueError(
                f"{self.where}: {len(self.unused)} tensors have no place in this "
                f"model, {names} among them; is config.json that of these weights?"
            )


def _rope_scaling(rope: Mapping[str, Any], where: str) -> RopeScaling | None:
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind == "default":
        return None
    if kind != "llama3":
        raise ValueError(
            f"{where}: rope_type {kind!r} is not supported (default, llama3)"
        )
    return RopeScaling(
        factor=float(rope["factor"]),
        low_freq_factor=float(rope["low_freq_factor"]),
        high_freq_factor=float(rope["high_freq_factor"]),
        original_context=int(rope["original_max_position_embeddings"]),
    )


def _refuse_remote_code(hf: Mapping[str, Any], where: str) -> None:
    if "auto_map" in hf:
        raise ValueError(f"{where}: the model needs remote code (auto_map); refused")


def _check_shape(
    value: np.ndarray, expected: tuple[int, ...], name: str, where: str
) -> None:
    if value.shape != expected:
        raise ValueError(
            f"{where}: {name} has shape {value.shape}, config.json says {expected}"
        )


def _nest(flat: Mapping[str, Any]) -> dict[str, Any]:
    nested: dict[str, Any] = {}
    for path, value in flat.items():
        *parents, last = path.split("/")
        place = nested
        for parent in parents:
            place = place.setdefault(parent, {})
        place[last] = value
    return nested


def _get(nested: Mapping[str, Any], path: str) -> Any:
    for part in path.split("/"):
        nested = nested[part]
    return nested
