# SPDX-License-Identifier: Apache-2.0
"""Models: the only place that knows Flax. Outside it a model is a config, a nested dict
of arrays and plain functions."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import jax.tree

from alignjax import json_file
from alignjax.models import convert, decoder, encoder, weights
from alignjax.models.decoder import DecoderConfig, Model, Output, Params
from alignjax.models.encoder import EncoderModel

__all__ = [
    "DecoderConfig",
    "EncoderModel",
    "Model",
    "Output",
    "Params",
    "load",
    "load_encoder",
    "read_config",
    "save",
]

_DTYPES = ("float32", "bfloat16", "float16")
# What `save` copies from the folder that the model came from, where it is there.
_COPIED = (
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "tokenizer.model",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
)


def load(folder: str | Path, *, dtype: str = "float32") -> tuple[Model, Params]:
    """A Llama-type model from a folder in Hugging Face's layout.

    Args:
      folder: holds `config.json` and safetensors, in one file or with an index.
      dtype: of parameters, activations and cache: float32, bfloat16 or float16.

    Returns:
      The model's functions and its parameters.

    Raises:
      ValueError: names what is missing or wrong in which file.
    """
    if dtype not in _DTYPES:
        raise ValueError(f"dtype {dtype!r} is not one of {', '.join(_DTYPES)}")
    folder = Path(folder)
    config = convert.decoder_config(read_config(folder), where=_config_path(folder))
    config = dataclasses.replace(config, dtype=dtype)
    tensors = weights.read(folder)
    params = convert.decoder_params(tensors, config, where=str(folder))
    model = decoder.build(config)
    return model, jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), params)


def save(
    folder: str | Path, params: Params, config: DecoderConfig, *, like: str | Path
) -> None:
    """Writes a decoder as a folder in Hugging Face's layout.

    Args:
      params: without an adapter; fold it in first.
      like: the folder that the model was loaded from; its `config.json` and tokenizer
        files are copied. What says where its weights came from is not.
    """
    tensors = convert.decoder_tensors(params, config)
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for name in _COPIED:
        if (Path(like) / name).is_file():
            (folder / name).write_bytes((Path(like) / name).read_bytes())
    weights.replace(folder / weights.SINGLE, tensors)


def load_encoder(folder: str | Path) -> tuple[EncoderModel, Params]:
    """A BERT-type encoder from a folder in Hugging Face's layout, in float32.

    Raises:
      ValueError: names what is missing or wrong in which file.
    """
    folder = Path(folder)
    config = convert.encoder_config(read_config(folder), where=_config_path(folder))
    params = convert.encoder_params(weights.read(folder), config, where=str(folder))
    return encoder.build(config), jax.tree.map(
        lambda leaf: jnp.asarray(leaf, "float32"), params
    )


def read_config(folder: Path) -> dict[str, Any]:
    """The folder's `config.json`.

    Raises:
      ValueError: it is missing or not a JSON object.
    """
    path = folder / "config.json"
    if not path.is_file():
        raise ValueError(f"{path}: no such file; is {folder} a model folder?")
    return json_file.read(path)


def _config_path(folder: Path) -> str:
    return str(folder / "config.json")
