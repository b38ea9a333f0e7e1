# SPDX-License-Identifier: Apache-2.0
"""What is timed: a model, and the sampler over it."""

from __future__ import annotations

import dataclasses
import inspect
import json
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from alignjax import fetch, models
from alignjax.data.tokenizer import Tokenizer, load_tokenizer
from alignjax.models import DecoderConfig, Model, Params, convert, decoder, weights
from alignjax.sampling import Request, Result, Sampler
from timing import record
from timing.traffic import NoText

LLAMA_1B = DecoderConfig(
    vocab=128_256,
    embed=2048,
    layers=16,
    heads=32,
    kv_heads=8,
    head_dim=64,
    mlp=8192,
    rope_theta=500_000.0,
    context=4096,
)


@dataclasses.dataclass(frozen=True)
class Subject:
    """A model and what goes with it. `folder` is None for random weights."""

    name: str
    model: Model
    params: Params
    tokenizer: Tokenizer | None
    folder: Path | None

    @property
    def vocab(self) -> int:
        return self.model.config.vocab

    @property
    def end_ids(self) -> tuple[int, ...]:
        return self.tokenizer.eos_ids if self.tokenizer else ()

    def sampler(self, **options: Any) -> Sampler:
        return Sampler(self.model, self.params, self.tokenizer or NoText(), **options)


class Run(NamedTuple):
    """One pass over some requests."""

    results: list[Result]
    seconds: float
    useful: int
    steps: int

    @property
    def tokens_per_s(self) -> float:
        return sum(len(result.tokens) for result in self.results) / self.seconds


def load(model: str, *, dtype: str, layers: int = 0) -> Subject:
    """A model by name or folder, cut to its first layers unless `layers` is 0.

    Raises:
      ValueError: no such model, or more layers than it has.
    """
    folder = fetch.resolve(model, fetch.home(os.environ), progress=record.say)
    whole, params = models.load(folder, dtype=dtype)
    config = _cut(whole.config, layers)
    if layers:
        blocks = jax.tree.map(lambda leaf: leaf[:layers], params["blocks"])
        params = {**params, "blocks": blocks}
    name = folder.name + (f", {layers} layers" if layers else "")
    return Subject(name, decoder.build(config), params, load_tokenizer(folder), folder)


def llama_1b(*, dtype: str, layers: int = 0) -> Subject:
    """Random weights: the time does not depend on them."""
    config = dataclasses.replace(_cut(LLAMA_1B, layers), dtype=dtype)
    params = jax.jit(lambda key: decoder.init(config, key=key))(jax.random.key(0))
    name = "Llama 1B, random weights" + (f", {layers} layers" if layers else "")
    return Subject(name, decoder.build(config), params, None, None)


def write_folder(subject: Subject, folder: Path) -> None:
    """The model in Hugging Face's layout, for a peer to load; without a tokenizer."""
    config = subject.model.config
    (folder / "config.json").write_text(
        json.dumps(
            {
                "architectures": ["LlamaForCausalLM"],
                "model_type": "llama",
                "vocab_size": config.vocab,
                "hidden_size": config.embed,
                "num_hidden_layers": config.layers,
                "num_attention_heads": config.heads,
                "num_key_value_heads": config.kv_heads,
                "head_dim": config.head_dim,
                "intermediate_size": config.mlp,
                "max_position_embeddings": config.context,
                "rope_theta": config.rope_theta,
                "rms_norm_eps": config.norm_eps,
                "tie_word_embeddings": config.is_tied,
                "hidden_act": "silu",
                "torch_dtype": config.dtype,
                "bos_token_id": 0,
                "eos_token_id": 1,
            }
        )
    )
    tensors = convert.decoder_tensors(subject.params, config)
    weights.replace(folder / weights.SINGLE, tensors)


def run(sampler: Sampler, requests: Iterable[Request]) -> Run:
    """Answers all requests, by the clock.

    Raises:
      ValueError: the sampler refused a request; says why.
    """
    useful, steps = sampler.useful, sampler.steps
    began = time.perf_counter()
    results = list(sampler.generate(requests))
    seconds = time.perf_counter() - began
    for result in results:
        if result.finish_reason == "refused":
            raise ValueError(f"request {result.id} was refused: {result.reason}")
    return Run(results, seconds, sampler.useful - useful, sampler.steps - steps)


def useful_share(runs: Sequence[Run]) -> float:
    """Of the slots' steps, those that became tokens of an answer."""
    return sum(r.useful for r in runs) / max(sum(r.steps for r in runs), 1)


def sampler_options(given: Sequence[str]) -> dict[str, Any]:
    """Of `--sampler NAME=VALUE ...`.

    Raises:
      ValueError: a name that the sampler does not have, or a value that is no number.
    """
    parameters: Mapping[str, inspect.Parameter] = inspect.signature(Sampler).parameters
    known = [
        name
        for name, parameter in parameters.items()
        if parameter.kind is parameter.KEYWORD_ONLY and name != "mesh"
    ]
    options: dict[str, Any] = {}
    for option in given:
        name, _, value = option.partition("=")
        if name not in known:
            raise ValueError(f"--sampler {option}: it has {', '.join(known)}")
        if name == "cache_dtype":
            options[name] = value
        elif value.isdecimal():
            options[name] = int(value)
        else:
            raise ValueError(f"--sampler {option}: {value!r} is not a number")
    return options


def parameter_bytes(params: Params) -> int:
    return sum(
        leaf.size * jnp.dtype(leaf.dtype).itemsize for leaf in jax.tree.leaves(params)
    )


def cache_bytes(config: DecoderConfig, cache_dtype: str | None) -> int:
    """Of one token: keys and values of all layers, and for int8 their scales."""
    entry = config.head_dim * jnp.dtype(cache_dtype or config.dtype).itemsize
    scale = 4 if cache_dtype == "int8" else 0
    return 2 * config.layers * config.kv_heads * (entry + scale)


def _cut(config: DecoderConfig, layers: int) -> DecoderConfig:
    """With so many layers; 0 = all."""
    if not 0 <= layers <= config.layers:
        raise ValueError(f"--layers {layers}: the model has {config.layers}")
    return dataclasses.replace(config, layers=layers or config.layers)
