# SPDX-License-Identifier: Apache-2.0
"""PopAlign in whole runs: exports, proofs that are checked again, recorded outputs."""

import dataclasses
import gzip
import hashlib
import json
import sys
from collections import Counter
from pathlib import Path

import pytest

from alignjax import config as configs
from alignjax import constraints
from alignjax.data import records as reader
from data_gen import records
from data_gen.engines.choice import LocalModel
from data_gen.engines.recorded import Recorded
from data_gen.engines.scripted import ScriptedEngine
from data_gen.planning import split_tasks
from data_gen.run import RunConfig, run
from data_gen.seeds import SplitFractions
from data_gen.strategies.popalign import STRATEGIES, ModelContrast, PopAlign
from data_gen.strategies.popalign.oracle import accuracy, order
from data_gen.verify import verify

sys.path.insert(0, str(Path(__file__).parent))
import scripts

EXPORTED = ("examples.parquet", "rejected.parquet", "prompts.jsonl", "manifest.json")
ALL = PopAlign(
    contrasts=("prefix", "demonstration", "elicitive", "leaderboard", "refine"),
    baselines=("rlcd", "rlaif", "context_distillation", "best_of_n"),
    leaderboard=ModelContrast(("", "other")),
    weights={"refine": 0.5},
    constraints=1,
    types=scripts.TYPES,
    prompts=8,
    held_out=2,
    oracle="judge",
    judge="judge",
    drop="none",
)


class Seeded(ScriptedEngine):
    """Its rule is given the seed and the engine's name too, in place of the sample."""

    def generate(self, requests):
        for request in filter(None, requests):
            self.asked += [(request.key, sample) for sample in range(request.n)]
            name = f"{self.name}/{request.seed}"
            yield from ScriptedEngine(
                lambda messages, sample, name=name: self.rule(
                    messages,
                    f"{name}/{sample}",  # type: ignore[arg-type]
                )
            ).generate([request])


def answer(messages, sample) -> str:
    """As the script of the other strategies, in the form that is asked for; about
    every third answer is edited until it meets the constraints."""
    asked = messages[0].content if len(messages) == 3 else messages[-1].content
    key = "/".join(message.content for message in messages)
    number = int.from_bytes(hashlib.sha256(f"{key}/{sample}".encode()).digest()[:4])
    own = f"The view of number {number} is calm, as you know. It stays so for a while."
    if number % 3 == 0:
        own = constraints.compose(constraints.parse(asked), own) or own
    is_elicited = "Thought:" in messages[-1].content
    return f"Thought: be clear.\nResponse: {own}" if is_elicited else own


def first_letter(messages, sample) -> str:
    """A judge that prefers the reply whose text comes first in the alphabet."""
    text = messages[0].content
    first = text.split("[Reply A]\n")[1].split("\n\n[Reply B]")[0]
    second = text.split("[Reply B]\n")[1].split("\n\n[Question]")[0]
    return "A" if first < second else "B"


def config(out: Path, **changes) -> RunConfig:
    choice = LocalModel(model="scripted")
    settings = {
        "model": "scripted",
        "out": str(out),
        "limit": 24,
        "engines": {"other": choice, "judge": choice},
        "popalign": ALL,
    }
    return RunConfig(**{**settings, **changes})


def engines() -> dict[str, ScriptedEngine]:
    return {
        "other": Seeded(answer, name="other"),
        "judge": ScriptedEngine(first_letter, name="judge"),
    }


def make(out: Path, **changes):
    return run(config(out, **changes), engine=Seeded(answer), engines=engines())


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> tuple[Path, dict]:
    folder = tmp_path_factory.mktemp("popalign") / "data"
    return folder, make(folder)


def test_a_run_verifies_and_its_counts_add_up(made):
    folder, report = made
    found = verify(folder)
    assert found.failures == found.notes == ()
    examples = records.read_examples(folder)
    names = {STRATEGIES[name] for name in ALL.names}
    assert {example.strategy for example in examples} == names
    assert {example.split for example in examples} == {"train", "validation", "test"}
    counts = Counter((row["strategy"], row["stage"]) for row in report["waterfall"])
    assert max(counts.values()) == 1
    stages = {
        (row["strategy"], row["stage"]): row["count"] for row in report["waterfall"]
    }
    for row in report["contrast_accuracy"]:
        assert row["oracle"] == "verifiers"
        measured = sum(row[name] for name in ("won", "lost", "tied", "undecided"))
        assert measured == stages[row["strategy"], "pairs"]
    for name in names:
        assert stages[name, "exported"] == report["by_strategy"][name]
    weights = {example.strategy: example.weight for example in examples}
    assert weights["popalign.refine"] == 0.5


def test_the_evidence_is_what_the_verifiers_say(made):
    """Both kinds are there: about a third of all answers meets its constraint."""
    folder, _ = made
    kinds = Counter()
    for example in records.read_examples(folder):
        oracle = example.proof.get("oracle", {})
        kinds[example.proof["evidence"]] += 1
        # With one constraint, to meet more than the other answer is to meet all.
        is_proven = oracle.get("verdict") == "won" or (
            example.strategy == STRATEGIES["best_of_n"]
        )
        assert (example.proof["evidence"] == "programmatic") == is_proven
    assert min(kinds[name] for name in ("programmatic", "construction")) > 3


def test_two_runs_give_the_same_bytes_and_a_finished_one_samples_nothing(
    made, tmp_path
):
    folder, _ = made
    make(tmp_path / "data")
    own, others = Seeded(answer), engines()
    run(config(tmp_path / "data"), engine=own, engines=others)
    assert own.asked == others["other"].asked == others["judge"].asked == []
    for name in EXPORTED:
        assert (folder / name).read_bytes() == (tmp_path / "data" / name).read_bytes()


def test_another_named_engine_is_another_run(tmp_path):
    make(tmp_path)
    changed = engines() | {"judge": ScriptedEngine(first_letter, name="another")}
    with pytest.raises(ValueError, match="another configuration"):
        run(config(tmp_path), engine=Seeded(answer), engines=changed)


def test_a_contrast_alone_gives_what_it_gives_among_others(made, tmp_path):
    """So cumulative and leave-one-out subsets are filters by strategy."""
    folder, _ = made
    alone = dataclasses.replace(
        ALL, contrasts=("demonstration",), baselines=(), leaderboard=None, weights={}
    )
    make(tmp_path, popalign=alone)
    name = STRATEGIES["demonstration"]
    among = [e for e in records.read_examples(folder) if e.strategy == name]
    assert list(records.read_examples(tmp_path)) == among
    read = reader.read(folder).select("train", [name])
    assert [record.id for record in read] == [e.id for e in among if e.split == "train"]


def test_a_total_is_shared_equally(tmp_path):
    """12 pairs of 4 strategies: three each. Held-out pairs do not count."""
    config = dataclasses.replace(
        ALL,
        contrasts=("prefix", "demonstration", "refine"),
        baselines=("rlcd",),
        leaderboard=None,
        weights={},
        total=12,
    )
    report = make(tmp_path, popalign=config)
    examples = records.read_examples(tmp_path)
    train = Counter(e.strategy for e in examples if e.split == "train")
    assert list(train.values()) == [3, 3, 3, 3]
    assert len(examples) > 12
    assert report["rejected"]["total"] > 0
    assert verify(tmp_path).failures == ()


def test_spin_takes_answers_of_the_seeds(tmp_path):
    path = tmp_path / "seeds.jsonl"
    texts = ["a harbour", "an old mill", "the night sky", "some bread", "a red kite"]
    rows = [
        {"id": f"s{i}", "text": f"Describe {text}.", "answer": f"I see {text} there."}
        for i, text in enumerate(texts)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    spin = PopAlign(contrasts=(), baselines=("spin",))
    fractions = SplitFractions(1.0, 0.0, 0.0)
    make(tmp_path / "data", seeds=str(path), popalign=spin, splits=fractions)
    chosen = [e.chosen for e in records.read_examples(tmp_path / "data")]
    assert sorted(c.text for c in chosen) == sorted(row["answer"] for row in rows)
    assert {c.kind for c in chosen} == {"given"}
    assert verify(tmp_path / "data").failures == ()


def test_an_engine_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"'judge' that is not among engines; .*other"):
        config(tmp_path, engines={"other": LocalModel(model="m")})


def test_a_config_tells_models_from_recorded_outputs(tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text(
        "model: m\nout: o\nengines:\n"
        "  big: {kind: recorded, path: a.jsonl, model: big}\n"
        "  small: {kind: flax, model: tiny, slots: 4}\n"
        "popalign:\n"
        "  contrasts: [parameters]\n"
        "  parameters: {engines: [big, small], values: [34e9, 6e9], min_gap: 2}\n"
    )
    found = configs.load(RunConfig, path)
    assert found.engines == {
        "big": Recorded("a.jsonl", model="big"),
        "small": LocalModel("tiny", slots=4),
    }
    assert found.popalign is not None
    assert found.popalign.gaps("parameters")[0].gap == pytest.approx(34 / 6)
    path.write_text(path.read_text().replace("recorded", "recorder"))
    with pytest.raises(ValueError, match=r"engines\.big"):
        configs.load(RunConfig, path)


# Proofs that do not hold.


def altered(folder: Path, out: Path, change) -> str:
    """Failures of the dataset after `change` of its examples, with honest hashes."""
    examples = [change(example) for example in records.read_examples(folder)]
    rejected = records.read_rejected(folder)
    records.write_dataset(out, examples, rejected, [], config="c", facts={})
    return "\n".join(verify(out).failures)


def with_proof(example, **changes):
    return dataclasses.replace(example, proof={**example.proof, **changes})


def swapped(example):
    if not example.negatives:
        return example
    chosen, first = example.chosen.text, example.negatives[0]
    return dataclasses.replace(
        example,
        chosen=dataclasses.replace(example.chosen, text=first.text),
        negatives=(dataclasses.replace(first, text=chosen),),
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda e: e, ""),
        (swapped, "oracle's verdict is not what the texts give"),
        (lambda e: with_proof(e, evidence="programmatic"), "evidence is programmatic"),
        (lambda e: with_proof(e, kind="ecd"), "proof: is not of popalign.refine"),
        (lambda e: with_proof(e, contrast="prefix"), "proof: is not of popalign.refi"),
        (
            lambda e: dataclasses.replace(e, constraints=()),
            "the prompt states other constraints",
        ),
        (
            lambda e: dataclasses.replace(
                e, chosen=dataclasses.replace(e.chosen, text="A good answer: it is.")
            ),
            "answer 0: contrast_leak",
        ),
        (
            lambda e: dataclasses.replace(
                e,
                negatives=tuple(
                    dataclasses.replace(n, text=e.chosen.text.upper() + "!")
                    for n in e.negatives
                ),
            ),
            "the answers have the same words",
        ),
        (lambda e: dataclasses.replace(e, negatives=()), "has 0 negatives"),
    ],
)
def test_a_proof_that_does_not_hold_is_found(made, tmp_path, change, message):
    found = altered(made[0], tmp_path, change)
    assert message in found
    assert bool(found) == bool(message)


def test_a_changed_letter_of_the_judge_is_found(made, tmp_path):
    def forge(example):
        if "label" not in example.proof:
            return example
        label = {**example.proof["label"], "choices": ["B", "A"]}
        return with_proof(example, label=label)

    found = altered(made[0], tmp_path, forge)
    assert "label's verdict does not follow from its letters" in found


def test_a_changed_verifier_is_a_note(made, tmp_path):
    def older(example):
        if "oracle" not in example.proof:
            return example
        old = dict.fromkeys(example.proof["oracle"]["verifiers"], "x/0:old")
        oracle = {**example.proof["oracle"], "verifiers": old}
        return with_proof(example, oracle=oracle)

    assert altered(made[0], tmp_path, older) == ""
    assert all("was x/0:old" in note for note in verify(tmp_path).notes)
    assert verify(tmp_path).notes


# Recorded outputs.


def test_accuracy_counts_decided_pairs():
    """3 won, 1 lost: 3/4. Wilson, z = 1.96, n = 4: centre (0.75 + 0.480) / (1 + 0.960)
    = 0.6276, half width 1.96 sqrt(0.75 * 0.25 / 4 + 0.0600) / 1.960 = 0.3270."""
    pairs = [(2, 1)] * 3 + [(0, 1), (1, 1), (None, 1)]
    found = accuracy(order(*pair) for pair in pairs)
    assert found[:4] == (3, 1, 1, 1)
    assert found.accuracy == 0.75
    assert found.low == pytest.approx(0.3006, abs=1e-3)
    assert found.high == pytest.approx(0.9544, abs=1e-3)
    assert accuracy(["tied"]).accuracy is None
    with pytest.raises(ValueError, match="'win'"):
        accuracy(["win"])


def test_ranked_outputs_of_real_models_become_pairs(shared_data, tmp_path):
    """Four of the models of Self-Instruct's evaluation in the order of their ranking,
    two ranks apart at least; 252 prompts. Many answers have fewer than five words."""
    folder = shared_data / "self_instruct" / "predictions"
    ranking = (
        *("text-davinci-003", "text-davinci-001"),
        *("davinci-self-instruct", "davinci-superni-ft"),
    )
    prompts = set()
    with gzip.open(folder / f"{ranking[0]}.jsonl.gz", "rt", encoding="utf-8") as file:
        for line in file:
            row = json.loads(line)
            parts = [row["instruction"].strip(), row["input"].strip()]
            prompts.add("\n\n".join(part for part in parts if part))
    path = tmp_path / "seeds.jsonl"
    path.write_text("".join(json.dumps({"text": p}) + "\n" for p in sorted(prompts)))
    chosen = {
        name: Recorded(
            str(folder / f"{name}.jsonl.gz"),
            prompt=("instruction", "input"),
            output="response",
        )
        for name in ranking
    }
    board = PopAlign(
        contrasts=("leaderboard",), leaderboard=ModelContrast(ranking, min_gap=2)
    )
    ranked = config(
        tmp_path / "data",
        seeds=str(path),
        limit=None,
        engines=chosen,
        popalign=board,
        splits=SplitFractions(1.0, 0.0, 0.0),
    )
    report = run(ranked, engine=Seeded(answer))
    assert "not_recorded" not in report["rejected"]
    examples = records.read_examples(tmp_path / "data")
    tasks, _ = split_tasks(ranked)
    assert len(tasks["train"]) * 0.3 < len(examples) == report["pairs"]
    pairs = Counter(
        (e.proof["gap"]["better"], e.proof["gap"]["worse"]) for e in examples
    )
    assert set(pairs) == {
        (ranking[0], ranking[2]),
        (ranking[0], ranking[3]),
        (ranking[1], ranking[3]),
    }
    assert {e.chosen.token_ids for e in examples} == {()}
    assert verify(tmp_path / "data").failures == ()
