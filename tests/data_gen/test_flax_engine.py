# SPDX-License-Identifier: Apache-2.0
"""The local engine on a tiny model with random weights."""

import json
from pathlib import Path

import numpy as np
import pytest
import tokenizers
from safetensors.numpy import save_file
from tokenizers import decoders, models, pre_tokenizers

from data_gen.engines import Generate, Settings
from data_gen.engines.flax import FlaxEngine
from data_gen.records import Message
from data_gen.store import Store, StoredEngine

WIDTH, HIDDEN, HEADS, LAYERS = 32, 48, 2, 2
TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['content'] + "
    "'<|im_end|>' }}{% endfor %}"
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A Llama of two layers, byte-level, in Hugging Face's layout."""
    folder = tmp_path_factory.mktemp("tiny")
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {token: i for i, token in enumerate(alphabet)}
    tokenizer = tokenizers.Tokenizer(models.BPE(vocab=vocab, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<|im_start|>", "<|im_end|>"])
    tokenizer.save(str(folder / "tokenizer.json"))
    write(
        folder / "tokenizer_config.json",
        {"chat_template": TEMPLATE, "eos_token": "<|im_end|>"},
    )
    config = {
        "model_type": "llama",
        "architectures": ["LlamaForCausalLM"],
        "vocab_size": len(alphabet) + 2,
        "hidden_size": WIDTH,
        "intermediate_size": HIDDEN,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "num_key_value_heads": HEADS,
        "max_position_embeddings": 128,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "hidden_act": "silu",
        "tie_word_embeddings": True,
    }
    write(folder / "config.json", config)
    shapes = {
        "embed_tokens": (len(alphabet) + 2, WIDTH),
        "norm": (WIDTH,),
    }
    for layer in range(LAYERS):
        names = {
            **dict.fromkeys(["input_layernorm", "post_attention_layernorm"], (WIDTH,)),
            **{f"self_attn.{x}_proj": (WIDTH, WIDTH) for x in "qkvo"},
            "mlp.gate_proj": (HIDDEN, WIDTH),
            "mlp.up_proj": (HIDDEN, WIDTH),
            "mlp.down_proj": (WIDTH, HIDDEN),
        }
        shapes |= {f"layers.{layer}.{name}": shape for name, shape in names.items()}
    rng = np.random.default_rng(0)
    tensors = {
        f"model.{name}.weight": rng.normal(size=shape, scale=0.3).astype(np.float32)
        for name, shape in shapes.items()
    }
    save_file(tensors, folder / "model.safetensors")
    return folder


def write(path: Path, value) -> None:
    path.write_text(json.dumps(value))


def engine(folder: Path, slots: int = 4) -> FlaxEngine:
    return FlaxEngine(folder, slots=slots, context=64)


def ask(key: str, text: str, n: int = 3, tokens: int = 8) -> Generate:
    settings = Settings(temperature=1.0, max_new_tokens=tokens)
    return Generate(key, (Message("user", text),), n, 5, settings)


def test_every_sample_comes_back_with_ids_and_logprob(folder):
    found = list(engine(folder).generate([ask("a", "hello"), ask("b", "sea", n=2)]))
    assert sorted((g.key, g.sample) for g in found) == [
        *(("a", i) for i in range(3)),
        *(("b", i) for i in range(2)),
    ]
    for generation in found:
        assert 0 < len(generation.token_ids) <= 8
        assert generation.sum_logprob < 0
        assert generation.finish_reason in ("stop", "length")


def test_samples_do_not_depend_on_order_or_neighbours(folder):
    first, second = ask("a", "hello"), ask("b", "the sea")

    def texts(requests):
        generated = engine(folder).generate(requests)
        return {(g.key, g.sample): g.token_ids for g in generated}

    together = texts([first, second])
    assert texts([second, first]) == together
    assert texts([first]) == {k: v for k, v in together.items() if k[0] == "a"}


def test_a_prompt_without_room_is_not_sampled(folder):
    """60 letters and 8 new tokens do not fit 64; the other request is unharmed."""
    found = list(
        engine(folder).generate([ask("long", "x" * 60, n=2), ask("a", "hello", n=1)])
    )
    reasons = {(g.key, g.sample): g.finish_reason for g in found}
    assert reasons["long", 0] == reasons["long", 1] == "context"
    assert reasons["a", 0] in ("stop", "length")


def test_a_refused_prompt_can_lead_to_another_request(folder):
    """Behind the store and on its own: the second request waits for the first."""
    received = []

    def requests():
        yield ask("long", "x" * 60, n=1)
        while not received:
            yield None
        yield ask("short", "hello", n=1)

    received.clear()
    for generation in engine(folder).generate(requests()):
        received.append(generation.finish_reason)
    assert received[0] == "context"
    assert len(received) == 2


def test_known_samples_need_no_weights(folder, tmp_path):
    request = ask("a", "hello")
    with Store(tmp_path / "cache.sqlite") as store:
        first = list(StoredEngine(engine(folder), store).generate([request]))
    again = engine(folder)
    with Store(tmp_path / "cache.sqlite") as store:
        second = list(StoredEngine(again, store).generate([request]))
    assert sorted(second, key=lambda g: g.sample) == sorted(
        first, key=lambda g: g.sample
    )
    assert again._sampler is None


def test_the_fingerprint_covers_weights_slots_and_template(folder, tmp_path):
    prints = {engine(folder).fingerprint, engine(folder, slots=2).fingerprint}
    other = tmp_path / "other"
    other.mkdir()
    for path in folder.iterdir():
        if not path.name.startswith("."):
            (other / path.name).write_bytes(path.read_bytes())
    assert engine(other).fingerprint in prints
    config = json.loads((other / "tokenizer_config.json").read_text())
    write(other / "tokenizer_config.json", {**config, "chat_template": TEMPLATE + "!"})
    prints.add(engine(other).fingerprint)
    weights = bytearray((other / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (other / "model.safetensors").write_bytes(weights)
    prints.add(engine(other).fingerprint)
    assert len(prints) == 4
