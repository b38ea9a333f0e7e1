# SPDX-License-Identifier: Apache-2.0
"""Evaluation of a model on held-out prompts and pairs of a dataset folder.

Greedy answers to (task, constraint) prompts are checked by the constraint's verifier
and by the gates; held-out pairs are scored under the model and under its base.
"""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Float

from alignjax import claim, constraints, models, whole_file
from alignjax import config as configs
from alignjax.constraints import Verdict
from alignjax.data import encode, records
from alignjax.data.records import Dataset, Message
from alignjax.data.rows import Shape
from alignjax.data.tokenizer import Tokenizer, load_tokenizer
from alignjax.embedding import SentenceEncoder
from alignjax.eval import gates
from alignjax.eval.config import EvalConfig
from alignjax.eval.gates import GateConfig
from alignjax.eval.prompts import Prompt, Reference, read_prompts, read_references
from alignjax.models import Model, Params, lora, peft
from alignjax.progress import Progress
from alignjax.sampling import Request, Result, Sampler, Settings, score

_REFERENCE_TEMPERATURE = 0.5

# texts -> [text, embed], each row of length 1
Embed = Callable[[Sequence[str]], np.ndarray]


def evaluate(
    config: EvalConfig, *, model_folder: Path, embedder_folder: Path
) -> dict[str, Any]:
    """Evaluates and writes `results.json` and `answers.jsonl`.

    Raises:
      ValueError: the dataset has no prompts of the split, files are damaged, or the
        output folder belongs to another evaluation; names the file.
      OSError: the disk is full or not writable.
    """
    started = time.monotonic()
    out = Path(config.out)
    prompts = read_prompts(Path(config.dataset) / "prompts.jsonl", config.split)
    dataset = records.read(config.dataset)
    tokenizer = load_tokenizer(model_folder)
    references = None
    if config.references:
        path = Path(config.references) / "references.jsonl"
        references = read_references(path, prompts)
    model, base = models.load(model_folder)
    params = base
    if config.adapter:
        adapter, scale = peft.read(Path(config.adapter), layers=model.config.layers)
        params = lora.fold(adapter, base, scale=scale)
    with claim.held(
        out,
        configs.digest(dataclasses.replace(config, out="")),
        config=configs.dump(config),
        what="evaluation",
        writes=_is_first_process(),
    ):
        if references is None:
            references = make_references(config, prompts, model, base, tokenizer)
        _write_lines(
            out / "references.jsonl", [dataclasses.asdict(each) for each in references]
        )
        asks = [_Ask(prompt.id, prompt.prompt) for prompt in prompts]
        answers = _generate(config, asks, model, params, tokenizer, "evaluation")
        embed = SentenceEncoder(embedder_folder)
        rows = judge_answers(prompts, answers, references, embed, config.gates)
        _write_lines(out / "answers.jsonl", rows)
        results = {
            "model": config.model,
            "adapter": config.adapter or None,
            "split": config.split,
            "seed": config.seed,
            "constraint": summarise(rows),
            "gates": calibrate(references, embed, config.gates),
            "preference": preferences(config, dataset, model, params, base, tokenizer),
            "length": _lengths(rows),
            "truncated": float(np.mean([r["finish_reason"] == "length" for r in rows])),
            "wall_s": round(time.monotonic() - started, 2),
        }
        _write(out / "results.json", json.dumps(results, indent=2) + "\n")
    return results


def make_references(
    config: EvalConfig,
    prompts: Sequence[Prompt],
    model: Model,
    base: Params,
    tokenizer: Tokenizer,
) -> list[Reference]:
    """The base model's answers to the bare tasks of the prompts."""
    tasks = {prompt.root_id: prompt.task for prompt in prompts}
    numbers = range(config.reference_answers)
    asks = [
        _Ask(
            f"{root}/{number}", task, _REFERENCE_TEMPERATURE if number else 0.0, number
        )
        for root, task in tasks.items()
        for number in numbers
    ]
    found = _generate(config, asks, model, base, tokenizer, "references")
    return [
        Reference(root, task, tuple(found[f"{root}/{n}"].text for n in numbers))
        for root, task in tasks.items()
    ]


def judge_answers(
    prompts: Sequence[Prompt],
    answers: dict[str, Result],
    references: Sequence[Reference],
    embed: Embed,
    config: GateConfig,
) -> list[dict[str, Any]]:
    """One row per prompt: the verdict of its constraint and of the gates."""
    row_of = {reference.root_id: row for row, reference in enumerate(references)}
    expected = _embed_references(references, embed)
    texts = [answers[prompt.id].text for prompt in prompts]
    of_task = expected[[row_of[prompt.root_id] for prompt in prompts]]
    cosines = gates.similarities(embed(texts), of_task)
    rows = []
    for prompt, text, cosine in zip(prompts, texts, cosines, strict=True):
        found = gates.judge(text, cosine, config)
        rows.append(
            {
                "id": prompt.id,
                "root_id": prompt.root_id,
                "type": prompt.constraint.type,
                "task": prompt.task,
                "prompt": prompt.prompt,
                "answer": text,
                "tokens": len(answers[prompt.id].tokens),
                "finish_reason": answers[prompt.id].finish_reason,
                "verdict": str(constraints.check(prompt.constraint, text)),
                "gates": {
                    "long_enough": found.long_enough,
                    "not_repetitive": found.not_repetitive,
                    "on_topic": found.on_topic,
                },
                "similarity": cosine,
            }
        )
    return rows


def summarise(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Accuracy over the prompts and per type. An ambiguous verdict is not a pass."""
    by_type: dict[str, dict[str, int]] = {}
    for row in rows:
        entry = by_type.setdefault(
            row["type"], {"n": 0, "passed": 0, "gated_passed": 0}
        )
        passed = row["verdict"] == Verdict.PASS
        entry["n"] += 1
        entry["passed"] += passed
        entry["gated_passed"] += passed and all(row["gates"].values())
    total = sum(entry["n"] for entry in by_type.values())

    def share(field: str) -> float:
        return sum(entry[field] for entry in by_type.values()) / total

    return {
        "accuracy": share("passed"),
        "gated_accuracy": share("gated_passed"),
        "n": total,
        "ambiguous": sum(row["verdict"] == Verdict.AMBIGUOUS for row in rows),
        "by_type": dict(sorted(by_type.items())),
    }


def calibrate(
    references: Sequence[Reference], embed: Embed, config: GateConfig
) -> dict[str, Any]:
    """How the gates judge the base itself: each of its answers to a bare task against
    its others to that task, and against all of them to every other task."""
    vectors = _embed_references(references, embed)
    own, other = [], []
    for task, reference in enumerate(references):
        for number, text in enumerate(reference.answers):
            for against, expected in enumerate(vectors):
                if against == task:
                    expected = np.delete(expected, number, axis=0)
                found = gates.similarities(vectors[task, [number]], expected[None])
                passed = gates.judge(text, found[0], config).passed
                (own if against == task else other).append(passed)
    return {
        "thresholds": dataclasses.asdict(config),
        "own_task_pass_rate": float(np.mean(own)),
        "other_task_pass_rate": float(np.mean(other)) if other else 0.0,
        "n_own": len(own),
        "n_other": len(other),
    }


def preferences(
    config: EvalConfig,
    dataset: Dataset,
    model: Model,
    params: Params,
    base: Params,
    tokenizer: Tokenizer,
) -> dict[str, Any] | None:
    """Accuracy and margin on held-out pairs: the share with log p(chosen) > log
    p(rejected), and the mean gain of that difference over the base, in nats."""
    held_out = [record for record in dataset.select(config.split) if record.negatives]
    if config.pairs:
        held_out = held_out[: config.pairs]
    if not held_out:
        return None
    # Ids sampled under another tokenizer mean nothing here.
    same = dataset.template_fingerprint == tokenizer.fingerprint
    examples = encode.encode(held_out, tokenizer, reuse_ids=same)
    block = max(example.longest for example in examples)
    time_ = max(512, *(example.length for example in examples))
    blocks = max(12, *(len(example.responses) for example in examples))
    shape = Shape(rows=2, time=time_, blocks=blocks, block=block, scored=time_)
    with Progress("held-out pairs", total=len(examples)) as progress:
        policy = score(model, params, examples, shape, progress=progress.update)
    reference = policy
    if params is not base:
        reference = score(model, base, examples, shape)
    chosen, rejected, margins = [], [], []
    for mine, theirs in zip(policy, reference, strict=True):
        sums = [float(part.sum()) for part in mine]
        base_sums = [float(part.sum()) for part in theirs]
        for rank in range(1, len(sums)):
            chosen.append(sums[0])
            rejected.append(sums[rank])
            margins.append((sums[0] - sums[rank]) - (base_sums[0] - base_sums[rank]))
    is_right = np.array(chosen) > np.array(rejected)
    return {
        "accuracy": float(is_right.mean()),
        "margin": float(np.mean(margins)),
        "chosen_logprob": float(np.mean(chosen)),
        "rejected_logprob": float(np.mean(rejected)),
        "n": len(chosen),
    }


def _embed_references(
    references: Sequence[Reference], embed: Embed
) -> Float[np.ndarray, "task answer embed"]:
    texts = [text for reference in references for text in reference.answers]
    return embed(texts).reshape(len(references), len(references[0].answers), -1)


class _Ask(NamedTuple):
    """What to generate an answer to; `number` tells samples of one text apart."""

    id: str
    text: str
    temperature: float = 0.0
    number: int = 0


def _generate(
    config: EvalConfig,
    asks: Sequence[_Ask],
    model: Model,
    params: Params,
    tokenizer: Tokenizer,
    label: str,
) -> dict[str, Result]:
    """Answers by id."""
    requests = [
        Request(
            id=ask.id,
            tokens=tuple(tokenizer.prompt_ids([Message("user", ask.text)])),
            seed=config.seed + ask.number,
            settings=Settings(
                temperature=ask.temperature, max_new_tokens=config.max_new_tokens
            ),
        )
        for ask in asks
    ]
    sampler = Sampler(
        model,
        params,
        tokenizer,
        slots=config.slots,
        context=config.context,
        answer=config.max_new_tokens,
    )
    found: dict[str, Result] = {}
    with Progress(label, total=len(requests)) as progress:
        for result in sampler.generate(requests):
            if result.finish_reason == "refused":
                raise ValueError(f"{label}, prompt {result.id}: {result.reason}")
            found[result.id] = result
            progress.update(len(found))
    return found


def _lengths(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    tokens = [row["tokens"] for row in rows]
    words = [len(gates.words(row["answer"])) for row in rows]
    return {
        "mean_tokens": float(np.mean(tokens)),
        "mean_words": float(np.mean(words)),
        "tokens": tokens,
    }


def _write_lines(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in rows]
    _write(path, "".join(lines))


def _write(path: Path, text: str) -> None:
    """Where several processes were started, each evaluates and the first writes."""
    if _is_first_process():
        whole_file.write(path, text)


def _is_first_process() -> bool:
    return jax.process_index() == 0
