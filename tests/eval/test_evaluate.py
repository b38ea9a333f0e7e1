# SPDX-License-Identifier: Apache-2.0
"""Evaluation of a tiny model, end to end, and its counts by hand."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from alignjax import config as configs
from alignjax.constraints import Constraint
from alignjax.eval import evaluate as evaluation
from alignjax.eval.config import EvalConfig
from alignjax.eval.gates import GateConfig
from alignjax.eval.prompts import Prompt, Reference, read_prompts, read_references
from alignjax.models import load, lora, peft
from alignjax.sampling import Result
from data_gen import records as made

LOWER = {"type": "lowercase", "params": {}}
COMMAS = {"type": "no_commas", "params": {}}
GATES = GateConfig(min_words=3, max_repetition=0.9, min_similarity=-1.0)


def prompt_row(number: int, constraint: dict[str, Any], split: str) -> dict[str, Any]:
    return {
        "id": f"{split}{number}",
        "split": split,
        "root_id": f"{split}-task{number % 2}",
        "task": f"Say something, number {number % 2}.",
        "constraint": constraint,
        "prompt": f"Say something, number {number % 2}. Without {constraint['type']}.",
    }


@pytest.fixture(scope="module")
def dataset(tmp_path_factory) -> Path:
    """Four test prompts over two tasks, one of validation; two pairs in test."""
    folder = tmp_path_factory.mktemp("dataset")
    prompts = [
        prompt_row(0, LOWER, "test"),
        prompt_row(1, LOWER, "test"),
        prompt_row(2, COMMAS, "test"),
        prompt_row(3, COMMAS, "test"),
        prompt_row(0, LOWER, "validation"),
    ]
    examples = [
        made.Example(
            strategy="ecd",
            root_id=name,
            parent_id="p",
            round=1,
            split="test",
            prompt=(made.Message("user", f"Say {name}."),),
            chosen=made.Response(" The cat.", "given"),
            negatives=tuple(
                made.Negative(f" My tree, and a {word}.", "sample", rank)
                for rank, word in enumerate(words)
            ),
        )
        for name, words in (("one", ["cat"]), ("two", ["cat", "house"]))
    ]
    facts = {"template_fingerprint": "another"}
    made.write_dataset(folder, examples, [], prompts, config="c", facts=facts)
    return folder


@pytest.fixture
def make(tiny_llama, tiny_encoder, dataset, tmp_path):
    def config(**changes: Any) -> EvalConfig:
        settings: dict[str, Any] = {
            "model": str(tiny_llama),
            "dataset": str(dataset),
            "out": str(tmp_path / "eval"),
            "embedder": str(tiny_encoder),
            "gates": GATES,
            "max_new_tokens": 24,
            "slots": 4,
            "context": 128,
        }
        return EvalConfig(**{**settings, **changes})

    return config


def run(config: EvalConfig) -> dict[str, Any]:
    return evaluation.evaluate(
        config,
        model_folder=Path(config.model),
        embedder_folder=Path(config.embedder),
    )


@pytest.fixture(scope="module")
def base(tiny_llama, tiny_encoder, dataset, tmp_path_factory) -> Path:
    """The folder of an evaluation of the base model."""
    out = tmp_path_factory.mktemp("base") / "eval"
    run(
        EvalConfig(
            model=str(tiny_llama),
            dataset=str(dataset),
            out=str(out),
            embedder=str(tiny_encoder),
            gates=GATES,
            max_new_tokens=24,
            slots=4,
            context=128,
        )
    )
    return out


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_the_base_model_is_evaluated(base, tiny_llama):
    """Answers read " The old tree, and ...": one capital and a comma, so both
    constraints fail in all of them."""
    results = json.loads((base / "results.json").read_text())
    answers = lines(base / "answers.jsonl")
    assert [answer["id"] for answer in answers] == [f"test{i}" for i in range(4)]
    for answer in answers:
        assert answer["answer"].startswith(" The ") and "," in answer["answer"]
        assert answer["verdict"] == "fail"
        assert answer["gates"].keys() == {"long_enough", "not_repetitive", "on_topic"}
    assert results["model"] == str(tiny_llama)
    assert results["adapter"] is None
    assert (results["split"], results["seed"]) == ("test", 0)
    constraint = results["constraint"]
    assert (constraint["n"], constraint["ambiguous"]) == (4, 0)
    assert constraint["accuracy"] == constraint["gated_accuracy"] == 0
    assert constraint["by_type"]["lowercase"]["n"] == 2
    assert results["length"]["tokens"] == [answer["tokens"] for answer in answers]
    cut = sum(answer["finish_reason"] == "length" for answer in answers)
    assert results["truncated"] == cut / 4
    assert results["gates"]["thresholds"] == dataclasses.asdict(GATES)
    # 2 tasks with 3 answers each: 6 against the own task, 6 against the other.
    assert (results["gates"]["n_own"], results["gates"]["n_other"]) == (6, 6)
    assert len(lines(base / "references.jsonl")) == 2


def test_the_base_has_no_margin_over_itself(base):
    preference = json.loads((base / "results.json").read_text())["preference"]
    assert preference["n"] == 3  # one negative, and two
    assert preference["margin"] == 0
    assert preference["accuracy"] == 1  # three tokens against eight of its own kind
    assert preference["chosen_logprob"] > preference["rejected_logprob"]


def test_the_same_evaluation_gives_the_same_files(base, make, tmp_path):
    run(make())
    for name in ("answers.jsonl", "references.jsonl"):
        assert (tmp_path / "eval" / name).read_bytes() == (base / name).read_bytes()


def test_an_adapter_is_measured_against_the_base(base, make, tmp_path, tiny_llama):
    """A random adapter: other answers, references of the base, and a margin."""
    model, params = load(tiny_llama)
    adapted, config = lora.add(
        params, model.config, rank=2, alpha=4.0, key=jax.random.key(0)
    )
    adapter, _ = lora.split(adapted)
    rng = np.random.default_rng(0)
    adapter = jax.tree.map(lambda leaf: 0.3 * rng.normal(size=leaf.shape), adapter)
    adapter = jax.tree.map(lambda leaf: leaf.astype(np.float32), adapter)
    peft.write(tmp_path / "adapter", adapter, config, base=str(tiny_llama))
    results = run(make(adapter=str(tmp_path / "adapter"), references=str(base)))
    assert results["adapter"] == str(tmp_path / "adapter")
    assert results["preference"]["margin"] != 0
    written = (tmp_path / "eval" / "references.jsonl").read_bytes()
    assert written == (base / "references.jsonl").read_bytes()
    texts = [row["answer"] for row in lines(tmp_path / "eval" / "answers.jsonl")]
    assert texts != [row["answer"] for row in lines(base / "answers.jsonl")]


def answer(name: str, text: str) -> Result:
    return Result(name, 0, (1, 2), text, (-1.0, -1.0), "stop")


def test_judging_and_counting_by_hand():
    """Two of three lower-case answers pass; one of them is too short for the gate."""
    texts = {"a": "red cats see trees", "b": "red cats", "c": "Red cats see trees"}
    constraint = Constraint("lowercase", {})
    prompts = [Prompt(name, "r", "task", "prompt", constraint) for name in texts]
    references = [Reference("r", "task", ("x", "y"))]

    def same(texts):
        return np.tile(np.array([[0.6, 0.8]], np.float32), (len(texts), 1))

    rows = evaluation.judge_answers(
        prompts,
        {name: answer(name, text) for name, text in texts.items()},
        references,
        same,
        GateConfig(min_words=3),
    )
    assert [row["verdict"] for row in rows] == ["pass", "pass", "fail"]
    assert [row["gates"]["long_enough"] for row in rows] == [True, False, True]
    assert all(row["similarity"] == 1.0 for row in rows)
    rows[2]["verdict"] = "ambiguous"
    assert evaluation.summarise(rows) == {
        "accuracy": pytest.approx(2 / 3),
        "gated_accuracy": pytest.approx(1 / 3),
        "n": 3,
        "ambiguous": 1,
        "by_type": {"lowercase": {"n": 3, "passed": 2, "gated_passed": 1}},
    }


def test_calibration_compares_tasks_with_each_other():
    """Own, each against the other answer: a1 and a2 with cos 1 pass, b1 and b2 with
    cos 0 do not. Other, each against the nearer one: a1, a2 and b1 find cos 1, only b2
    has cos 0 with both."""
    vectors = {"a1": [1, 0], "a2": [1, 0], "b1": [1, 0], "b2": [0, 1]}

    def embed(texts):
        return np.array([vectors[text] for text in texts], np.float32)

    found = evaluation.calibrate(
        [Reference("1", "t", ("a1", "a2")), Reference("2", "t", ("b1", "b2"))],
        embed,
        GateConfig(min_words=1, min_similarity=0.5),
    )
    assert (found["own_task_pass_rate"], found["n_own"]) == (0.5, 4)
    assert (found["other_task_pass_rate"], found["n_other"]) == (0.75, 4)


def test_another_evaluations_folder_is_refused(make, tmp_path):
    out = tmp_path / "eval"
    out.mkdir()
    (out / "run.json").write_text('{"identity": "other"}')
    (out / "results.json").write_text("{}")
    with pytest.raises(ValueError, match="belongs to another evaluation"):
        run(make())
    (out / "run.json").unlink()
    with pytest.raises(ValueError, match="is not empty and holds no evaluation"):
        run(make())
    assert (out / "results.json").read_text() == "{}"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"split": "tset"}, "no prompt of the split 'tset' (splits there: test, valid"),
        ({"dataset": "nowhere"}, "prompts.jsonl: no such file; the dataset must be a"),
        ({"references": "nowhere"}, "references.jsonl: no such file; references must"),
        ({"adapter": "nowhere"}, "nowhere"),
        ({"context": 300}, "context 300 exceeds the model's 256"),
    ],
)
def test_wrong_inputs_are_named(make, changes, message):
    with pytest.raises(ValueError) as caught:
        run(make(**changes))
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"slots": 0}, "slots must be > 0, got 0"),
        ({"max_new_tokens": 128}, "max_new_tokens (128) leaves no room for a prompt"),
        ({"pairs": -1}, "pairs must be 0 (all) or above, got -1"),
    ],
)
def test_wrong_settings_are_named(make, changes, message):
    with pytest.raises(ValueError) as caught:
        make(**changes)
    assert message in str(caught.value)


GOOD = prompt_row(0, LOWER, "test")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({k: v for k, v in GOOD.items() if k != "task"}, "field 'task' is missing"),
        ({**GOOD, "task": 3}, "expected a text, got 3"),
        ({**GOOD, "constraint": {"type": "lowercase"}}, "constraint: "),
        (
            {**GOOD, "constraint": {"type": "x", "params": {}}},
            "unknown constraint type",
        ),
        (GOOD, "id 'test0' is there twice"),
    ],
)
def test_a_bad_prompt_is_named(tmp_path, row, message):
    path = tmp_path / "prompts.jsonl"
    path.write_text(json.dumps(GOOD) + "\n" + json.dumps(row) + "\n")
    with pytest.raises(ValueError) as caught:
        read_prompts(path, "test")
    assert str(caught.value).startswith(f"{path}:2: ")
    assert message in str(caught.value)


def test_references_must_cover_the_prompts(tmp_path):
    path = tmp_path / "references.jsonl"
    reference = {"root_id": "a", "task": "t", "answers": ["g", "s"]}
    path.write_text(json.dumps(reference) + "\n")
    prompts = [Prompt("1", "a", "t", "p", Constraint("lowercase", {}))]
    assert read_references(path, prompts) == [Reference("a", "t", ("g", "s"))]
    other = [dataclasses.replace(prompts[0], root_id="b")]
    with pytest.raises(ValueError, match="no reference for task 'b'"):
        read_references(path, other)
    path.write_text('{"root_id": "a"}\n')
    with pytest.raises(ValueError, match=r"jsonl:1: expected the texts root_id and"):
        read_references(path, prompts)
    path.write_text(
        json.dumps(reference) + "\n" + json.dumps({**reference, "answers": ["g"]})
    )
    with pytest.raises(ValueError, match="jsonl:2: 1 answers, line 1 has 2"):
        read_references(path, prompts)


def test_the_config_is_kept(base, make):
    found = configs.load(EvalConfig, base / "config.yaml")
    assert dataclasses.replace(found, out="") == dataclasses.replace(make(), out="")
