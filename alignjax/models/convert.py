# SPDX-License-Identifier: Apache-2.0
"""Names: Hugging Face's `config.json` and tensors to ours, and back.

One table per model type says where each tensor goes. A tensor that no line of the
table names, or a line that finds no tensor, is an error with the tensor's name.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

from alignjax.models import decoder, encoder
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

# Features that these models have not: the only values that their fields may take.
_LLAMA_FIXED = {
    "attention_bias": False,
    "mlp_bias": False,
    "hidden_act": "silu",
    "partial_rotary_factor": 1.0,
}
_BERT_FIXED = {"hidden_act": "gelu", "position_embedding_type": "absolute"}
_MOST = 1 << 30  # of any size in config.json
_MOST_LAYERS = 1024


def decoder_config(hf: Mapping[str, Any], *, where: str) -> DecoderConfig:
    """Reads a Llama-type `config.json`.

    Raises:
      ValueError: another model type, remote code, a feature that this decoder has not
        (biases, other activations, other rotary scalings), or a field that is missing
        or out of range; names the field.
    """
    _refuse_remote_code(hf, where)
    if hf.get("model_type") != "llama":
        raise ValueError(
            f"{where}: model_type is {hf.get('model_type')!r}; this decoder reads "
            "'llama' (Llama, SmolLM2 and others with the same layers)"
        )
    _require(hf, _LLAMA_FIXED, where)
    heads = _size(hf, "num_attention_heads", where)
    kv_heads = _size(hf, "num_key_value_heads", where, default=heads)
    _check_divides(heads, "num_attention_heads", kv_heads, "num_key_value_heads", where)
    embed = _size(hf, "hidden_size", where)
    if hf.get("head_dim") is None:
        _check_divides(embed, "hidden_size", heads, "num_attention_heads", where)
    head_dim = _size(hf, "head_dim", where, default=embed // heads)
    if head_dim % 2:
        raise ValueError(
            f"{where}: head_dim is {head_dim}; rotary embedding turns pairs, so it "
            "must be even"
        )
    rope = hf.get("rope_parameters") or hf.get("rope_scaling") or {}
    if not isinstance(rope, Mapping):
        raise ValueError(f"{where}: rope_parameters is {rope!r:.80}, not an object")
    theta = _positive(hf, "rope_theta", where, default=10_000.0)
    return DecoderConfig(
        vocab=_size(hf, "vocab_size", where),
        embed=embed,
        layers=_size(hf, "num_hidden_layers", where, most=_MOST_LAYERS),
        heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        mlp=_size(hf, "intermediate_size", where),
        rope_theta=_positive(rope, "rope_theta", where, default=theta),
        rope_scaling=_rope_scaling(rope, where),
        norm_eps=_positive(hf, "rms_norm_eps", where, default=1e-6),
        is_tied=_is(hf, "tie_word_embeddings", where, default=False),
        context=_size(hf, "max_position_embeddings", where, default=2048),
    )


def encoder_config(hf: Mapping[str, Any], *, where: str) -> EncoderConfig:
    """Reads a BERT-type `config.json`.

    Raises:
      ValueError: another model type or activation, or a field that is missing or out
        of range; names the field.
    """
    _refuse_remote_code(hf, where)
    if hf.get("model_type") != "bert":
        raise ValueError(
            f"{where}: model_type is {hf.get('model_type')!r}; the embedding model "
            "must be of type 'bert' (MiniLM, for one)"
        )
    _require(hf, _BERT_FIXED, where)
    heads = _size(hf, "num_attention_heads", where)
    embed = _size(hf, "hidden_size", where)
    _check_divides(embed, "hidden_size", heads, "num_attention_heads", where)
    return EncoderConfig(
        vocab=_size(hf, "vocab_size", where),
        embed=embed,
        layers=_size(hf, "num_hidden_layers", where, most=_MOST_LAYERS),
        heads=heads,
        mlp=_size(hf, "intermediate_size", where),
        context=_size(hf, "max_position_embeddings", where),
        token_types=_size(hf, "type_vocab_size", where, default=2),
        norm_eps=_positive(hf, "layer_norm_eps", where, default=1e-12),
    )


def decoder_params(
    tensors: Mapping[str, np.ndarray], config: DecoderConfig, *, where: str
) -> dict[str, Any]:
    """Hugging Face Llama tensors as our nested dict, layers stacked.

    Raises:
      ValueError: a tensor is missing, unknown, of another shape or of whole numbers;
        names it.
    """
    source = _Source(tensors, where)
    shapes = decoder.abstract(config)
    top = dict(_LLAMA_TOP)
    if config.is_tied:
        del top["head"]
        source.ignore("lm_head.weight")
    source.ignore_suffix("rotary_emb.inv_freq")
    params = _nest(
        {
            ours: source.take(theirs, _get(shapes, ours).shape)
            for ours, theirs in top.items()
        }
    )
    params["blocks"] = _nest(
        {
            ours: source.stack(
                "model.layers.{}." + theirs,
                _get(shapes["blocks"], ours).shape,
                transposed,
            )
            for ours, (theirs, transposed) in _LLAMA_LAYER.items()
        }
    )
    source.finish()
    return params


def decoder_tensors(
    params: Mapping[str, Any], config: DecoderConfig
) -> dict[str, np.ndarray]:
    """The inverse of `decoder_params`; a tied head is not written.

    Raises:
      ValueError: the parameters hold an adapter, which these names have no place for.
    """
    if any("lora_a" in params["blocks"][name] for name in decoder.LINEAR):
        raise ValueError(
            "the parameters hold a low-rank adapter; fold it into the kernels "
            "(lora.fold), or write it on its own (peft.write)"
        )
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
      ValueError: a tensor is missing, unknown, of another shape or of whole numbers;
        names it.
    """
    plain = {name.removeprefix("bert."): value for name, value in tensors.items()}
    source = _Source(plain, where)
    shapes = encoder.abstract(config)
    source.ignore_suffix("position_ids")
    source.ignore("pooler.dense.weight", "pooler.dense.bias")
    params = _nest(
        {
            ours: source.take(theirs, _get(shapes, ours).shape)
            for ours, theirs in _BERT_TOP.items()
        }
    )
    flat = {}
    for ours, theirs in _BERT_LAYER.items():
        is_norm = ours.endswith("norm")
        for part, name in ("weight" if is_norm else "kernel", "weight"), ("bias",) * 2:
            flat[f"{ours}/{part}"] = source.stack(
                f"encoder.layer.{{}}.{theirs}.{name}",
                shapes["blocks"][ours][part].shape,
                part == "kernel",
            )
    params["blocks"] = _nest(flat)
    source.finish()
    return params


class _Source:
    """Tensors by name, remembering which were used."""

    def __init__(self, tensors: Mapping[str, np.ndarray], where: str):
        self.tensors, self.where, self.unused = tensors, where, set(tensors)

    def take(self, name: str, shape: tuple[int, ...]) -> np.ndarray:
        if name not in self.tensors:
            raise ValueError(f"{self.where}: tensor {name!r} is missing")
        self.unused.discard(name)
        tensor = self.tensors[name]
        if tensor.shape != shape:
            raise ValueError(
                f"{self.where}: tensor {name!r} has shape {tensor.shape}, by "
                f"config.json it should be {shape}"
            )
        if not jnp.issubdtype(tensor.dtype, jnp.floating):
            raise ValueError(
                f"{self.where}: tensor {name!r} is of type {tensor.dtype}; weights "
                "must be floating-point numbers (quantised models are not read)"
            )
        return tensor

    def stack(
        self, pattern: str, shape: tuple[int, ...], transposed: bool
    ) -> np.ndarray:
        """One tensor per layer, as an array of `shape` = (layers, ...)."""
        depth, *own = shape
        stored = tuple(reversed(own) if transposed else own)
        parts = [self.take(pattern.format(i), stored) for i in range(depth)]
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
    scaling = RopeScaling(
        factor=_positive(rope, "factor", where),
        low_freq_factor=_positive(rope, "low_freq_factor", where),
        high_freq_factor=_positive(rope, "high_freq_factor", where),
        original_context=_size(rope, "original_max_position_embeddings", where),
    )
    if scaling.low_freq_factor >= scaling.high_freq_factor:
        raise ValueError(
            f"{where}: low_freq_factor {scaling.low_freq_factor} must be below "
            f"high_freq_factor {scaling.high_freq_factor}"
        )
    return scaling


def _refuse_remote_code(hf: Mapping[str, Any], where: str) -> None:
    if "auto_map" in hf:
        raise ValueError(f"{where}: the model needs remote code (auto_map); refused")


def _require(hf: Mapping[str, Any], fixed: Mapping[str, Any], where: str) -> None:
    """Refuses a field that asks for what the model cannot do."""
    for field, wanted in fixed.items():
        if hf.get(field, wanted) != wanted:
            raise ValueError(
                f"{where}: {field} is {hf[field]!r}; only {wanted!r} is supported"
            )


def _field(hf: Mapping[str, Any], field: str, where: str, default: Any) -> Any:
    """The field, or its default where it is missing or null."""
    value = hf.get(field)
    value = default if value is None else value
    if value is None:
        raise ValueError(f"{where}: field {field!r} is missing")
    return value


def _size(
    hf: Mapping[str, Any],
    field: str,
    where: str,
    *,
    default: int | None = None,
    most: int = _MOST,
) -> int:
    value = _field(hf, field, where, default)
    if type(value) is not int or not 1 <= value <= most:
        raise ValueError(
            f"{where}: {field} is {value!r:.80}; expected a whole number in 1..{most}"
        )
    return value


def _positive(
    hf: Mapping[str, Any], field: str, where: str, *, default: float | None = None
) -> float:
    value = _field(hf, field, where, default)
    if type(value) not in (int, float) or not 0 < value < math.inf:
        raise ValueError(
            f"{where}: {field} is {value!r:.80}; expected a number above 0"
        )
    return float(value)


def _is(hf: Mapping[str, Any], field: str, where: str, *, default: bool) -> bool:
    value = _field(hf, field, where, default)
    if type(value) is not bool:
        raise ValueError(f"{where}: {field} is {value!r:.80}; expected true or false")
    return value


def _check_divides(
    value: int, field: str, divisor: int, divisor_field: str, where: str
) -> None:
    if value % divisor:
        raise ValueError(
            f"{where}: {field} ({value}) must be a multiple of {divisor_field} "
            f"({divisor})"
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
