# SPDX-License-Identifier: Apache-2.0
"""GGUF: one quantised Llama-type file -> a Hugging Face folder in float32.

The reader is the `gguf` package, after gguf_header.py has checked the structure of
the file. This module undoes what llama.cpp's converter did to the weights and
rebuilds the tokenizer from the metadata. Strings in the metadata are data: the chat
template is copied, never rendered here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from alignjax import json_file
from alignjax.models import gguf_header, weights

# Pre-tokenizers by their name in the metadata (llama.cpp: llama-vocab.cpp). The
# value says whether digits are split off one by one before byte-level BPE.
PRETOKENIZERS = {"smollm": True, "gpt-2": False}

MAX_TEMPLATE = 256_000

_NORMAL, _CONTROL, _USER_DEFINED = 1, 3, 4

_LAYER = {
    "attn_norm.weight": "input_layernorm.weight",
    "attn_q.weight": "self_attn.q_proj.weight",
    "attn_k.weight": "self_attn.k_proj.weight",
    "attn_v.weight": "self_attn.v_proj.weight",
    "attn_output.weight": "self_attn.o_proj.weight",
    "ffn_norm.weight": "post_attention_layernorm.weight",
    "ffn_gate.weight": "mlp.gate_proj.weight",
    "ffn_up.weight": "mlp.up_proj.weight",
    "ffn_down.weight": "mlp.down_proj.weight",
}
_TOP = {
    "token_embd.weight": "model.embed_tokens.weight",
    "output_norm.weight": "model.norm.weight",
    "output.weight": "lm_head.weight",
}


def convert(path: Path, folder: Path) -> None:
    """Write the model in `path` as a Hugging Face folder.

    Args:
      path: a GGUF file of architecture "llama" with a byte-level BPE tokenizer.
      folder: an existing folder; gets config.json, generation_config.json,
        model.safetensors (float32, tied output head left out), tokenizer.json,
        tokenizer_config.json and special_tokens_map.json.

    Raises:
      ValueError: the file is damaged, over a limit, or holds something that this
        conversion would change silently (another architecture, rope scaling,
        experts, biases, another pre-tokenizer).
    """
    gguf_header.check(path)
    import gguf

    try:
        reader = gguf.GGUFReader(path)
    except (ValueError, IndexError, KeyError) as error:
        raise ValueError(f"{path}: damaged GGUF file ({error})") from error
    metadata = {
        name: field.contents()
        for name, field in reader.fields.items()
        if not name.startswith("GGUF.")
    }
    tensors = {tensor.name: tensor for tensor in reader.tensors}
    config = model_config(metadata, tied="output.weight" not in tensors, where=path)
    names = {name: hf_name(name, where=path) for name in tensors}
    layout = {}
    for name, tensor in tensors.items():
        shape = tuple(int(n) for n in reversed(tensor.shape))
        layout[names[name]] = (np.dtype(np.float32), shape)
    _check_tensors(layout, config, where=path)
    _write_tokenizer(metadata, config, folder, where=path)
    json_file.write(folder / "config.json", config)
    ids = {key: config[key] for key in config if key.endswith("_token_id")}
    json_file.write(folder / "generation_config.json", ids)
    heads = {
        "attn_q.weight": config["num_attention_heads"],
        "attn_k.weight": config["num_key_value_heads"],
    }

    def dequantised() -> Iterator[tuple[str, np.ndarray]]:
        for name, tensor in tensors.items():
            array = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
            array = np.asarray(array, np.float32).reshape(layout[names[name]][1])
            kind = name.split(".", 2)[-1]
            if kind in heads:
                array = unpermute(array, heads[kind])
            yield names[name], array

    weights.write(folder / "model.safetensors", layout, dequantised())


def unpermute(weight: np.ndarray, heads: int) -> np.ndarray:
    """Undo llama.cpp's reordering of the rotary pairs of a q or k projection.

    llama.cpp stores the two members of a rotary pair in adjacent rows (2i, 2i+1);
    Hugging Face puts them half a head apart (i, i + head_dim / 2). Source:
    LlamaModel.permute in llama.cpp's convert_hf_to_gguf.py.

    Args:
      weight: [heads * head_dim, embed].
      heads: number of query heads (q) or key-value heads (k).
    """
    rows, embed = weight.shape
    pairs = weight.reshape(heads, rows // heads // 2, 2, embed)
    return pairs.swapaxes(1, 2).reshape(rows, embed)


def hf_name(name: str, *, where: Path) -> str:
    """blk.3.attn_q.weight -> model.layers.3.self_attn.q_proj.weight."""
    if name in _TOP:
        return _TOP[name]
    prefix, _, rest = name.partition(".")
    number, _, kind = rest.partition(".")
    if prefix == "blk" and number.isascii() and number.isdigit() and kind in _LAYER:
        return f"model.layers.{int(number)}.{_LAYER[kind]}"
    raise ValueError(
        f'{where}: tensor "{name[:80]}" has no place in a bias-free Llama model; '
        "convert this file with its own tools and pass the Hugging Face folder"
    )


def model_config(
    metadata: Mapping[str, Any], *, tied: bool, where: Path
) -> dict[str, Any]:
    """The config.json of the model that the metadata describes."""
    architecture = _get(metadata, "general.architecture", str, where)
    if architecture != "llama":
        raise ValueError(
            f'{where}: architecture is "{architecture}"; only "llama" is converted. '
            "Pass the model's Hugging Face folder instead"
        )
    for key in ("llama.rope.scaling.type", "llama.expert_count"):
        if metadata.get(key) not in (None, "none", 0):
            raise ValueError(
                f"{where}: {key} = {metadata[key]!r} is not supported by the "
                "conversion; pass the model's Hugging Face folder instead"
            )
    width = _get(metadata, "llama.embedding_length", int, where)
    heads = _get(metadata, "llama.attention.head_count", int, where)
    kv_heads = metadata.get("llama.attention.head_count_kv", heads)
    for count, whole in ((heads, width), (kv_heads, heads)):
        if not isinstance(count, int) or count < 1 or whole % count:
            raise ValueError(
                f"{where}: head counts {heads} and {kv_heads!r} must divide "
                f"{width} and {heads}"
            )
    head_dim = metadata.get("llama.attention.key_length", width // heads)
    rotary = metadata.get("llama.rope.dimension_count", head_dim)
    if rotary != head_dim or head_dim % 2:
        raise ValueError(
            f"{where}: llama.rope.dimension_count = {rotary} must be the head "
            f"width {head_dim}, and even; partial rotation is not converted"
        )
    bos = _get(metadata, "tokenizer.ggml.bos_token_id", int, where)
    eos = _get(metadata, "tokenizer.ggml.eos_token_id", int, where)
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "attention_bias": False,
        "attention_dropout": 0.0,
        "bos_token_id": bos,
        "eos_token_id": eos,
        "pad_token_id": metadata.get("tokenizer.ggml.padding_token_id", eos),
        "head_dim": head_dim,
        "hidden_act": "silu",
        "hidden_size": width,
        "initializer_range": 0.02,
        "intermediate_size": _get(metadata, "llama.feed_forward_length", int, where),
        "max_position_embeddings": _get(metadata, "llama.context_length", int, where),
        "mlp_bias": False,
        "num_attention_heads": heads,
        "num_hidden_layers": _get(metadata, "llama.block_count", int, where),
        "num_key_value_heads": kv_heads,
        "rms_norm_eps": _short_float(
            metadata.get("llama.attention.layer_norm_rms_epsilon", 1e-5)
        ),
        "rope_theta": _short_float(metadata.get("llama.rope.freq_base", 10_000.0)),
        "tie_word_embeddings": tied,
        "torch_dtype": "float32",
        "vocab_size": len(_get(metadata, "tokenizer.ggml.tokens", list, where)),
    }


def _check_tensors(layout: Mapping[str, Any], config: dict, *, where: Path) -> None:
    """Every tensor that the config asks for is there, with its shape."""
    width, hidden = config["hidden_size"], config["intermediate_size"]
    queries = config["num_attention_heads"] * config["head_dim"]
    keys = config["num_key_value_heads"] * config["head_dim"]
    shapes = {
        "model.embed_tokens.weight": (config["vocab_size"], width),
        "model.norm.weight": (width,),
    }
    if not config["tie_word_embeddings"]:
        shapes["lm_head.weight"] = (config["vocab_size"], width)
    layer = {
        "input_layernorm": (width,),
        "self_attn.q_proj": (queries, width),
        "self_attn.k_proj": (keys, width),
        "self_attn.v_proj": (keys, width),
        "self_attn.o_proj": (width, queries),
        "post_attention_layernorm": (width,),
        "mlp.gate_proj": (hidden, width),
        "mlp.up_proj": (hidden, width),
        "mlp.down_proj": (width, hidden),
    }
    if not 1 <= config["num_hidden_layers"] <= 1024:
        raise ValueError(f"{where}: llama.block_count must be in 1..1024")
    for number in range(config["num_hidden_layers"]):
        for name, shape in layer.items():
            shapes[f"model.layers.{number}.{name}.weight"] = shape
    missing = sorted(shapes.keys() - layout.keys())
    unexpected = sorted(layout.keys() - shapes.keys())
    if missing or unexpected:
        raise ValueError(
            f"{where}: {len(missing)} tensors missing {missing[:5]}, "
            f"{len(unexpected)} unexpected {unexpected[:5]}"
        )
    for name, shape in shapes.items():
        if layout[name][1] != shape:
            raise ValueError(
                f'{where}: tensor "{name}" has shape {list(layout[name][1])}; '
                f"the metadata says {list(shape)}"
            )


def _write_tokenizer(
    metadata: Mapping[str, Any], config: dict, folder: Path, *, where: Path
) -> None:
    """tokenizer.json and its companions from the vocabulary in the metadata."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    kind = _get(metadata, "tokenizer.ggml.model", str, where)
    pre = metadata.get("tokenizer.ggml.pre", "gpt-2")
    if kind != "gpt2" or pre not in PRETOKENIZERS:
        raise ValueError(
            f'{where}: tokenizer "{kind}" with pre-tokenizer "{pre}"; converted are '
            f'"gpt2" with one of {sorted(PRETOKENIZERS)}'
        )
    tokens = _get(metadata, "tokenizer.ggml.tokens", list, where)
    kinds = metadata.get("tokenizer.ggml.token_type") or [_NORMAL] * len(tokens)
    merges = [tuple(m.split(" ")) for m in metadata.get("tokenizer.ggml.merges", [])]
    if len(set(tokens)) != len(tokens) or len(kinds) != len(tokens):
        raise ValueError(
            f"{where}: {len(tokens)} tokens, {len(set(tokens))} distinct, "
            f"{len(kinds)} token types; the three must be equal"
        )
    if any(len(merge) != 2 for merge in merges):
        raise ValueError(f"{where}: a merge rule is not two symbols")
    model = models.BPE({token: i for i, token in enumerate(tokens)}, merges)
    tokenizer = Tokenizer(model)
    bytes_ = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    if PRETOKENIZERS[pre]:
        digits = pre_tokenizers.Digits(individual_digits=True)
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence([digits, bytes_])
    else:
        tokenizer.pre_tokenizer = bytes_
    tokenizer.decoder = decoders.ByteLevel()
    control = [t for t, k in zip(tokens, kinds, strict=True) if k == _CONTROL]
    user = [t for t, k in zip(tokens, kinds, strict=True) if k == _USER_DEFINED]
    tokenizer.add_special_tokens(
        [AddedToken(t, special=True, normalized=False) for t in control]
    )
    tokenizer.add_tokens([AddedToken(t, normalized=False) for t in user])
    tokenizer.save(str(folder / "tokenizer.json"))

    special = {}
    for role in ("bos", "eos", "pad"):
        number = config[f"{role}_token_id"]
        if not 0 <= number < len(tokens):
            raise ValueError(
                f"{where}: {role} token id {number} is outside 0..{len(tokens) - 1}"
            )
        special[f"{role}_token"] = tokens[number]
    unknown = metadata.get("tokenizer.ggml.unknown_token_id")
    if unknown is not None and 0 <= unknown < len(tokens):
        special["unk_token"] = tokens[unknown]
    settings: dict[str, Any] = {
        **special,
        "tokenizer_class": "PreTrainedTokenizerFast",
        "clean_up_tokenization_spaces": False,
        "model_max_length": config["max_position_embeddings"],
    }
    template = metadata.get("tokenizer.chat_template")
    if template is not None:
        if len(template) > MAX_TEMPLATE:
            raise ValueError(
                f"{where}: the chat template has {len(template)} characters; "
                f"limit {MAX_TEMPLATE}"
            )
        settings["chat_template"] = template
    json_file.write(folder / "tokenizer_config.json", settings)
    json_file.write(folder / "special_tokens_map.json", special)


def _get(metadata: Mapping[str, Any], key: str, kind: type, where: Path) -> Any:
    value = metadata.get(key)
    if not isinstance(value, kind):
        raise ValueError(
            f"{where}: metadata {key} should be {kind.__name__}, found {value!r:.80}"
        )
    return value


def _short_float(value: float) -> float:
    """The shortest decimal that is this float32: 9.99999974e-06 -> 1e-05."""
    return float(str(np.float32(value)))
