# SPDX-License-Identifier: Apache-2.0
"""Golden values of models, made with PyTorch and transformers.

The package does not need PyTorch, so this runs in an environment of its own:

    python -m venv /tmp/golden
    /tmp/golden/bin/pip install torch transformers safetensors
    alignjax fetch smollm2 && alignjax fetch minilm
    /tmp/golden/bin/python tests/golden/make_golden.py ~/.cache/alignjax/models

Writes beside itself (everything float32 unless said):

    tiny_llama_tied/, tiny_llama_untied/, tiny_bert/
        random models in Hugging Face's layout, weights in bfloat16 (exact in float32)
    tiny.json   what made them, and the token sequences
    tiny.npz    llama_tied_{i}, llama_untied_{i}, llama_llama3_{i}: logits [time, vocab]
                of sequence i; llama3 is the untied model with rope_scaling of tiny.json
                bert_{i}: last hidden states [time, embed]
    smollm2.json  per prompt: messages, rendered text, prompt ids, 32 greedy ids
    smollm2.npz   columns: 64 vocabulary ids; logits_{i} [time, 64], max_{i} and
                  logsumexp_{i} [time], of prompt i followed by its greedy ids
    minilm.json   sentences and their ids
    minilm.npz    embeddings [6, 384]: mean of the last hidden states, length 1

Versions are in tiny.json. Made with torch 2.13.0 (CPU) and transformers 5.23.0.
"""

import json
import sys
from pathlib import Path

import numpy as np
import torch
import transformers
from safetensors.torch import save_file

HERE = Path(__file__).parent
SEQUENCES = [
    [1, 17, 99, 3, 3, 64, 127, 0, 5, 42, 8, 11],
    [2],
    [(7 * i + 3) % 128 for i in range(40)],
]
# Llama 3's scaling with numbers small enough to bend a head of width 16.
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 10000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}
PROMPTS = [
    [{"role": "user", "content": "What is the capital of France?"}],
    [
        {"role": "system", "content": "You answer in one short sentence."},
        {"role": "user", "content": "Name 3 animals that live in the sea."},
        {"role": "assistant", "content": "Whales, seals and octopuses."},
        {"role": "user", "content": "And in the desert, in 2024?"},
    ],
    [{"role": "user", "content": "Écris «bonjour» en 日本語 🙂\n\n  and\tstop."}],
]
SENTENCES = [
    "The cat sits on the mat.",
    "A feline rests on a rug.",
    "Stock prices fell sharply on Monday.",
    "Write a haiku about autumn leaves.",
    "naïve café — 42 ünïcödé",
    "Hi",
]


def main(models: Path) -> None:
    torch.set_grad_enabled(False)
    torch.use_deterministic_algorithms(True)
    tiny()
    smollm2(models / "smollm2")
    minilm(models / "minilm")


def tiny() -> None:
    arrays = {}
    settings = {
        "vocab_size": 128,
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "max_position_embeddings": 64,
        "rms_norm_eps": 1e-5,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 0,
    }
    for name, is_tied in (("tied", True), ("untied", False)):
        config = transformers.LlamaConfig(
            **settings,
            tie_word_embeddings=is_tied,
            rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
        )
        model = transformers.LlamaForCausalLM(config)
        randomise(model, seed=1)
        save(model, HERE / f"tiny_llama_{name}", config.to_dict())
        for i, ids in enumerate(SEQUENCES):
            arrays[f"llama_{name}_{i}"] = model(torch.tensor([ids])).logits[0].numpy()
    config = transformers.LlamaConfig(
        **settings, tie_word_embeddings=False, rope_parameters=LLAMA3
    )
    scaled = transformers.LlamaForCausalLM(config)
    scaled.load_state_dict(model.state_dict())
    scaled.eval()
    for i, ids in enumerate(SEQUENCES):
        arrays[f"llama_llama3_{i}"] = scaled(torch.tensor([ids])).logits[0].numpy()

    bert_config = transformers.BertConfig(
        vocab_size=128,
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=96,
        max_position_embeddings=64,
    )
    bert = transformers.BertModel(bert_config, add_pooling_layer=False)
    randomise(bert, seed=2)
    save(bert, HERE / "tiny_bert", bert_config.to_dict())
    for i, ids in enumerate(SEQUENCES):
        hidden = bert(torch.tensor([ids])).last_hidden_state[0]
        arrays[f"bert_{i}"] = hidden.numpy()
    np.savez_compressed(HERE / "tiny.npz", **arrays)
    write_json(
        "tiny.json",
        {
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "sequences": SEQUENCES,
            "llama3": LLAMA3,
        },
    )


def smollm2(folder: Path) -> None:
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32
    ).eval()
    columns = np.sort(np.random.default_rng(0).choice(49152, 64, replace=False))
    arrays = {"columns": columns}
    prompts = []
    for i, messages in enumerate(PROMPTS):
        text = tokenizer.apply_chat_template(
            messages, add_generation_prompt=True, tokenize=False
        )
        ids = tokenizer(text, add_special_tokens=False).input_ids
        out = model.generate(
            torch.tensor([ids]),
            attention_mask=torch.ones(1, len(ids)),
            max_new_tokens=32,
            do_sample=False,
        )[0].tolist()
        logits = model(torch.tensor([out])).logits[0]
        best = logits[len(ids) - 1 : -1].topk(2).values
        gap = (best[:, 0] - best[:, 1]).min().item()
        print(f"prompt {i}: smallest gap of the greedy choice {gap:.3f}")
        arrays[f"logits_{i}"] = logits[:, columns].numpy()
        arrays[f"max_{i}"] = logits.max(-1).values.numpy()
        arrays[f"logsumexp_{i}"] = logits.logsumexp(-1).numpy()
        greedy = out[len(ids) :]
        prompts.append(
            {"messages": messages, "text": text, "ids": ids, "greedy": greedy}
            | {"answer": tokenizer.decode(greedy), "smallest_gap": gap}
        )
    np.savez_compressed(HERE / "smollm2.npz", **arrays)
    write_json("smollm2.json", {"prompts": prompts})


def minilm(folder: Path) -> None:
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModel.from_pretrained(folder, dtype=torch.float32).eval()
    all_ids, embeddings = [], []
    for sentence in SENTENCES:
        ids = tokenizer(sentence).input_ids
        mean = model(torch.tensor([ids])).last_hidden_state[0].mean(0)
        all_ids.append(ids)
        embeddings.append((mean / mean.norm()).numpy())
    np.savez_compressed(HERE / "minilm.npz", embeddings=np.stack(embeddings))
    write_json("minilm.json", {"sentences": SENTENCES, "ids": all_ids})


def randomise(model: torch.nn.Module, *, seed: int) -> None:
    """Weights large enough that every part shows in the output; bfloat16 values."""
    model.eval()
    generator = torch.Generator().manual_seed(seed)
    for name, weight in sorted(model.named_parameters()):
        is_gain = weight.ndim == 1 and name.endswith("weight")
        draw = torch.randn(weight.shape, generator=generator) * 0.2 + is_gain
        weight.copy_(draw.bfloat16().float())


def save(model: torch.nn.Module, folder: Path, config: dict) -> None:
    folder.mkdir(exist_ok=True)
    tensors = {name: weight.bfloat16() for name, weight in model.named_parameters()}
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    kept = {key: value for key, value in config.items() if value is not None}
    kept.pop("transformers_version", None)
    write_json(f"{folder.name}/config.json", kept)


def write_json(name: str, value: object) -> None:
    text = json.dumps(value, indent=1, ensure_ascii=False) + "\n"
    (HERE / name).write_text(text, "utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
