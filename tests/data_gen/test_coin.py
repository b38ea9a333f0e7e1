# SPDX-License-Identifier: Apache-2.0
"""CoIN: whole runs with a scripted engine, their proofs, and what training reads."""

import dataclasses
import json
import sys
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import pytest

from alignjax import config as configs
from alignjax import perturb
from alignjax.data import records as reader
from alignjax.data.records import ROLES
from alignjax.data.tokenizer import load_tokenizer
from alignjax.perturb import Limits
from alignjax.train import loop
from alignjax.train.config import BatchConfig, ObjectiveConfig, TrainConfig
from data_gen import claim, couple_proof, paraphrase, records
from data_gen.couple_settings import CoIN, Source
from data_gen.engines import Generation
from data_gen.engines.scripted import ScriptedEngine
from data_gen.exports.triplets import triplets, write_triplets
from data_gen.records import Example
from data_gen.run import RunConfig, run
from data_gen.strategies.self_contrast import SelfContrast
from data_gen.tasks import same_answer
from data_gen.verify import verify

sys.path.insert(0, str(Path(__file__).parent))
import scripts

EXPORTED = ("examples.parquet", "rejected.parquet", "prompts.jsonl", "manifest.json")
DATA = Path(__file__).parents[2] / "../shared/data"
LEAST: dict[str, Any] = {"min_similarity": -1.0, "max_similarity": 1.0}


def silent(messages, sample: int) -> str:
    raise AssertionError("rules and files ask no model")


def make(out: Path, engine: ScriptedEngine | None = None, **settings) -> dict:
    embedder = settings.pop("embedder", "hashed-ngrams")
    seed = settings.pop("seed", 0)
    config = RunConfig(
        model="scripted",
        out=str(out),
        embedder=embedder,
        seed=seed,
        coin=CoIN(**{**LEAST, **settings}),
    )
    return run(config, engine=engine or ScriptedEngine(silent))


def couples(folder: Path) -> dict[str, dict[str, Example]]:
    found: dict[str, dict[str, Example]] = defaultdict(dict)
    for example in records.read_examples(folder):
        found[example.couple][example.role] = example
    return found


@pytest.fixture(scope="module")
def clean(tmp_path_factory) -> Path:
    """A run by rules on the builtin instances, with held-out couples."""
    folder = tmp_path_factory.mktemp("coin") / "data"
    make(folder, held_out=8)
    return folder


def test_a_run_verifies_and_training_reads_its_couples(clean):
    found = verify(clean)
    assert (found.failures, found.notes) == ((), ())
    assert found.examples == 4 * len(couples(clean)) > 400
    read = reader.read(clean).records
    assert Counter(record.role for record in read) == dict.fromkeys(
        ROLES, len(read) // 4
    )


def test_two_runs_give_the_same_bytes_and_another_seed_others(clean, tmp_path):
    make(tmp_path / "same", held_out=8)
    make(tmp_path / "other", held_out=8, seed=1)
    for name in EXPORTED:
        own = (clean / name).read_bytes()
        assert (tmp_path / "same" / name).read_bytes() == own
    assert (tmp_path / "other" / EXPORTED[0]).read_bytes() != (
        clean / EXPORTED[0]
    ).read_bytes()


def test_a_couple_is_one_instruction_over_two_instances_in_two_wordings(clean):
    for own in couples(clean).values():
        i, i_too, j, j_too = (own[role] for role in ROLES)
        assert i.proof["wordings"] == j.proof["wordings"]
        assert i.prompt != i_too.prompt and j.prompt != j_too.prompt
        assert i.chosen.text == i_too.chosen.text
        assert same_answer(i.chosen.text) != same_answer(j.chosen.text)
        for example in own.values():
            prompt = example.prompt[0].content
            assert all(v in prompt for v in example.proof["fields"].values())
            assert {*example.proof["labels"]} <= {w for w in _words(prompt)}


def _words(prompt: str) -> set[str]:
    return {word.strip(".,:;?!") for word in prompt.split()}


def test_levels_are_balanced_and_every_drop_has_a_reason(clean):
    report = json.loads((clean / "report.json").read_text())
    levels = report["couples_by_level"]
    assert set(levels) == {"character", "word", "sentence", "semantic"}
    assert max(levels.values()) <= 1.2 * min(levels.values())
    stages = {row["stage"]: row["count"] for row in report["waterfall"]}
    lost = report["rejected"].get("no_rewording", 0)
    assert stages["couples"] - stages["reworded"] == lost
    assert stages["exported"] == 4 * stages["reworded"]
    assert all(item.reason and item.stage for item in records.read_rejected(clean))
    assert report["samples"] == 0
    assert set(report["couples_cosines"]) == set(levels)


def test_no_family_is_in_two_splits(clean):
    split_of: dict[str, set[str]] = defaultdict(set)
    for example in records.read_examples(clean):
        split_of[example.root_id].add(example.split)
    assert all(len(splits) == 1 for splits in split_of.values())
    counts = Counter(example.split for example in records.read_examples(clean))
    assert (counts["validation"], counts["test"]) == (32, 32)  # 8 couples of four


def test_the_similarity_band_is_kept_and_what_it_drops_is_recorded(tmp_path):
    make(tmp_path / "data", min_similarity=0.5, max_similarity=0.9)
    for example in records.read_examples(tmp_path / "data"):
        assert 0.5 <= example.proof["cosine"] <= 0.9
    reasons = Counter(r.reason for r in records.read_rejected(tmp_path / "data"))
    assert reasons["dissimilar"] and reasons["too_similar"]
    assert verify(tmp_path / "data").failures == ()


def test_without_an_embedder_nothing_is_said_about_similarity(tmp_path):
    make(tmp_path / "data", embedder="", couples=8)
    assert {e.proof["cosine"] for e in records.read_examples(tmp_path / "data")} == {
        None
    }
    assert verify(tmp_path / "data").failures == ()


@pytest.mark.parametrize("off", ["character", "word", "sentence", "semantic"])
def test_a_level_can_be_off(tmp_path, off):
    changes: dict[str, Any] = {off: "off"}
    make(tmp_path / "data", couples=12, **changes)
    found = {e.proof["level"] for e in records.read_examples(tmp_path / "data")}
    assert found == {"character", "word", "sentence", "semantic"} - {off}


def test_partners_of_another_task_have_wordings_of_their_own(tmp_path):
    make(tmp_path / "data", negatives="other_task", couples=20)
    assert verify(tmp_path / "data").failures == ()
    for own in couples(tmp_path / "data").values():
        i, j = own["original_i"].proof, own["original_j"].proof
        assert i["task"] != j["task"] and i["wordings"] != j["wordings"]


SENTENCES = {
    0: "Can you think it over and then tell me which it is?",
    1: "I am sorry, but I cannot do that.",
    2: "line one\nline two",
    3: "",
    4: "Tell me 3 things about this, please, right away.",
    5: "It is a rather nice day today.",
}


def model(messages, sample: int) -> str:
    roles = [message.role for message in messages]
    assert roles == ["user", "assistant"] * 4 + ["user"]
    asked = messages[-1].content.removeprefix("Say this in other words: ")
    assert asked != messages[-1].content
    if asked.startswith("You ") and sample == 0:
        return "You have all day to think it over."
    return SENTENCES[sample % 6]


ONLY_MODEL: dict[str, Any] = {
    **{"character": "off", "word": "off", "sentence": "off", "semantic": "model"},
    **{"samples": 6, "min_model_similarity": -1.0},
}


def test_a_model_is_asked_once_a_wording_and_its_bad_answers_are_dropped(tmp_path):
    engine = ScriptedEngine(model)
    make(tmp_path / "data", engine, **ONLY_MODEL)
    assert verify(tmp_path / "data").failures == ()
    examples = records.read_examples(tmp_path / "data")
    assert len(examples) > 100
    wordings = {e.proof["wordings"][0] for e in examples}
    assert len(engine.asked) < 6 * 80  # ten tasks have fewer than 80 wordings
    for example in examples:
        asked, answer = example.provenance["sentences"]
        assert asked in example.proof["wordings"][0] and "{" not in asked
        assert answer in example.proof["wordings"][1]
        is_statement = perturb.form(asked) == "statement"
        assert "think it over" in answer or (is_statement and answer == SENTENCES[5])
        assert example.proof["maker"] == "model"
        assert example.provenance["samples"] == 6
    assert len(wordings) > 10
    dropped = [r for r in records.read_rejected(tmp_path / "data") if r.generation]
    assert {item.reason for item in dropped} >= {
        *("refusal", "several_lines", "empty", "facts", "form")
    }


def test_a_model_may_not_swap_the_parts_of_a_question():
    asked = "How does the hypothesis relate to the premise?"
    texts = [
        "How does the premise relate to the hypothesis?",
        "In what way does the hypothesis relate to the premise?",
    ]
    samples = [
        (str(n), Generation("", n, text, (), "stop", 0.0))
        for n, text in enumerate(texts)
    ]
    made = paraphrase.by_model(
        f"{asked} {{options}}", asked, samples, (), Limits(), ("premise", "hypothesis")
    )
    assert [candidate.problem for candidate in made] == ["order", None]


def test_a_run_with_a_model_is_resumed_to_the_same_bytes(tmp_path):
    """The second run stops in the middle; the third finds its samples."""
    make(tmp_path / "one", ScriptedEngine(model), **ONLY_MODEL)
    asked = 0

    def stops(messages, sample):
        nonlocal asked
        asked += 1
        if asked > 40:
            raise KeyboardInterrupt
        return model(messages, sample)

    with pytest.raises(KeyboardInterrupt):
        make(tmp_path / "two", ScriptedEngine(stops), **ONLY_MODEL)
    assert not (tmp_path / "two" / "manifest.json").exists()
    again = ScriptedEngine(model)
    make(tmp_path / "two", again, **ONLY_MODEL)
    whole = ScriptedEngine(model)
    make(tmp_path / "three", whole, **ONLY_MODEL)
    assert len(again.asked) <= len(whole.asked) - 35
    for name in EXPORTED:
        first = (tmp_path / "one" / name).read_bytes()
        assert (tmp_path / "two" / name).read_bytes() == first


def write(path: Path, rows: list[dict]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def test_recorded_wordings_are_used_where_they_offer_the_answers(tmp_path):
    original = "Is this review positive or negative?"
    rows = [
        {"original": original, "paraphrase": "Is the review positive or negative?"},
        {"original": original, "paraphrase": "Is this review positive?"},
        {"original": "How is it?", "paraphrase": "How do you find it?"},
        {
            "original": original,
            "paraphrase": "Is ths review positive or negative?",
            "level": "character",
        },
    ]
    path = write(
        tmp_path / "recorded.jsonl", [{"task": "sentiment", **row} for row in rows]
    )
    off: dict[str, Any] = {
        "word": "off",
        "sentence": "off",
        "semantic": "file",
        "character": "file",
    }
    make(tmp_path / "data", sources=(Source("sentiment"),), recorded=path, **off)
    examples = records.read_examples(tmp_path / "data")
    assert {tuple(e.proof["wordings"]) for e in examples} == {
        (original, "Is the review positive or negative?"),
        (original, "Is ths review positive or negative?"),
    }
    prompts = [e.prompt[0].content for e in examples]
    assert all("\nText: " in prompt for prompt in prompts)
    reasons = Counter(r.reason for r in records.read_rejected(tmp_path / "data"))
    assert reasons["labels"] and reasons["options"]
    assert verify(tmp_path / "data").failures == ()


def problems(count: int, form: str, wrong: int = 0) -> list[dict]:
    """Every `wrong`-th has another answer than the others of its number would."""
    return [
        {
            "question": form.format(n, n + 2),
            "answer": str(2 * n + 2 + bool(wrong and n % wrong == 0)),
        }
        for n in range(count)
    ]


def test_instances_in_other_words_are_positives(tmp_path):
    """One recorded paraphrase in four comes with another answer, so it is none."""
    first = problems(40, "box{0} has {0} pens and {1} more. Total?")
    second = problems(40, "Some box{0} with {0} pens gets {1} others. How many?", 4)
    paths = [
        write(tmp_path / "first.jsonl", first),
        write(tmp_path / "second.jsonl", second),
    ]
    sources = (Source("word_problem", paths[0], paraphrases=paths[1]),)
    off: dict[str, Any] = {"character": "off", "word": "off", "sentence": "off"}
    make(tmp_path / "data", sources=sources, semantic="file", **off)
    examples = records.read_examples(tmp_path / "data")
    assert len(examples) > 20
    for example in examples:
        assert example.proof["concerns"] == "instance"
        one, other = example.proof["wordings"]
        assert one == other
        is_reworded = example.role.startswith("paraphrase")
        assert ("others." in example.prompt[0].content) is is_reworded
        assert int(example.proof["fields"]["question"].split()[2]) % 4
    reasons = Counter(r.reason for r in records.read_rejected(tmp_path / "data"))
    assert reasons["answer"] > 3
    assert verify(tmp_path / "data").failures == ()


def answers_or_words(messages, sample: int) -> str:
    """Of the tests' model; a few seeds get the same answer, and one a refusal."""
    task = messages[-1].content
    if "birds" in task:
        return "I am sorry, but I cannot help with that."
    if len(task) % 3 == 0:
        return "It depends on what you have at hand, as ever."
    return scripts.answer(messages, sample)


def test_seeds_are_coupled_with_the_answers_of_the_model(tmp_path):
    """The same greedy answers that Self-Contrast takes for its targets."""
    config = RunConfig(
        model="scripted",
        out=str(tmp_path / "data"),
        embedder="hashed-ngrams",
        limit=60,
        coin=CoIN(**LEAST, sources=(Source("open", "seeds"),), answer_tokens=60),
        self_contrast=SelfContrast(samples=3, max_new_tokens=60),
    )
    engine = ScriptedEngine(answers_or_words)
    run(config, engine=engine)
    assert verify(tmp_path / "data").failures == ()
    examples = records.read_examples(tmp_path / "data")
    coupled = [e for e in examples if e.strategy == "coin"]
    assert len(coupled) > 100
    target = {e.root_id: e.chosen for e in examples if e.strategy != "coin"}
    for example in coupled:
        if example.role.startswith("original"):
            assert example.prompt[0].content == example.provenance["task"]
            assert example.chosen == target.get(example.root_id, example.chosen)
            assert example.chosen.kind == "sample"
        else:
            assert example.prompt[0].content != example.provenance["task"]
            assert example.chosen.token_ids == ()
        first, second = example.proof["answers"]
        assert first != second
    assert {e.root_id for e in coupled} & set(target)
    reasons = Counter(r.reason for r in records.read_rejected(tmp_path / "data"))
    assert reasons["same_answer"]
    asked = Counter(key for key, _ in engine.asked)
    tasks = {e.root_id for e in examples}
    assert sum(asked.values()) <= 4 * (len(tasks) + 40)  # a target is sampled once


def changed(example: Example, **proof) -> Example:
    return dataclasses.replace(example, proof={**example.proof, **proof})


def test_a_proof_that_shows_too_little_is_found(clean):
    (own, *_) = (
        group
        for group in couples(clean).values()
        if group["original_i"].proof["level"] == "character"
    )
    i, i_too, j, j_too = (own[role] for role in ROLES)
    assert list(couple_proof.flaws(i_too)) == []
    wordings = i.proof["wordings"]

    def found(example: Example) -> str:
        return "; ".join(couple_proof.flaws(example))

    assert "not its wording filled" in found(dataclasses.replace(i, role=ROLES[1]))
    assert "has the role 'x'" in found(dataclasses.replace(i, role="x"))
    other = dataclasses.replace(i.chosen, text="perhaps")
    assert "the proof says" in found(dataclasses.replace(i, chosen=other))
    answers = [i.chosen.text, f"{i.chosen.text}."]
    assert "has the same answer" in found(changed(i, answers=answers))
    assert "the paraphrase is none: unchanged" in found(
        changed(i, wordings=[wordings[0]] * 2)
    )
    assert "the paraphrase is none: script" in found(changed(i, edits=[]))
    assert (
        "the paraphrase is none: distance"
        in found(changed(i, limits={**i.proof["limits"], "distance": 1, "edits": 9}))
        or i.proof["distance"] == 1
    )
    assert "distance is not what" in found(changed(i, distance=99))
    assert "protected is not what" in found(changed(i, protected=[]))
    assert "cosine 2 is outside" in found(changed(i, cosine=2))

    def torn(*examples: Example) -> str:
        return "; ".join(couple_proof.torn(examples))

    assert torn(i, i_too, j, j_too) == ""
    assert "have different proofs" in torn(changed(i, cosine=0), i_too, j, j_too)
    strange = [changed(e, partner="nobody") for e in (i, i_too)]
    assert "not each other's partners" in torn(*strange, j, j_too)
    level = [changed(e, level="word") for e in (i, i_too)]
    assert "its two proofs disagree" in torn(*level, j, j_too)


def test_triplets_are_anchor_positive_and_hard_negative(clean, tmp_path):
    examples = records.read_examples(clean)
    rows = list(triplets(examples))
    assert len(rows) == 2 * len(couples(clean))
    by_id = {example.id: example for example in examples}
    for row in rows:
        anchor, positive, negative = (
            by_id[row[name]["id"]] for name in ("anchor", "positive", "hard_negative")
        )
        assert anchor.role.startswith("original_")
        assert positive.role == anchor.role.replace("original", "paraphrase")
        assert (
            negative.role.startswith("paraphrase_") and negative.role != positive.role
        )
        assert row["anchor"]["answer"] == row["positive"]["answer"]
        assert row["anchor"]["answer"] != row["hard_negative"]["answer"]
        assert {anchor.couple, positive.couple, negative.couple} == {row["group"]}
        assert (row["level"], row["task"]) == (
            anchor.proof["level"],
            anchor.proof["task"],
        )
    count = write_triplets(reversed(examples), tmp_path / "t.jsonl")
    lines = (tmp_path / "t.jsonl").read_text().splitlines()
    assert count == len(lines) == sum(row["split"] == "train" for row in rows)
    write_triplets(examples, tmp_path / "u.jsonl")
    assert (tmp_path / "u.jsonl").read_bytes() == (tmp_path / "t.jsonl").read_bytes()
    with pytest.raises(ValueError, match="has no paraphrase_j"):
        list(triplets([e for e in examples if e.role != "paraphrase_j"]))


def test_training_takes_a_step_on_the_couples(tmp_path, tiny_llama):
    """8 couples, 4 a batch; the tiny model's tokens are bytes, so its rows are long."""
    make(tmp_path / "data", couples=8, sources=(Source("claim"), Source("yes_no")))
    config = TrainConfig(
        model=str(tiny_llama),
        dataset=str(tmp_path / "data"),
        out=str(tmp_path / "run"),
        objective=ObjectiveConfig("coin"),
        batch=BatchConfig(rows=4, time=1600, blocks=4, block=400, scored=128),
    )
    summary = loop.train(
        config,
        model_folder=tiny_llama,
        tokenizer=load_tokenizer(tiny_llama),
        model_fingerprint="tiny",
    )
    assert (summary["examples"], summary["steps"]) == (32, 2)
    assert summary["without_couple"] == summary["too_long"] == 0
    (first, *_) = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    metrics = json.loads(first)
    assert metrics["contrastive"] > 0
    likelihood = metrics["nll"] + metrics["nll_paraphrase"]
    assert metrics["loss"] == pytest.approx(
        likelihood + metrics["contrastive_weight"] * metrics["contrastive"], rel=1e-4
    )


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"repeats": 0}, "repeats must be at least 1, got 0"),
        ({"edits": 0}, "edits must be at least 1"),
        ({"temperature": 0.0, "semantic": "model"}, "temperature must be above 0"),
        ({"min_similarity": 0.9, "max_similarity": 0.5}, "min_similarity < max_simil"),
        (
            dict.fromkeys(("character", "word", "sentence", "semantic"), "off"),
            "all of ",
        ),
        ({"recorded": "a.jsonl"}, "recorded: no level reads it"),
        ({"word": "file"}, "word is 'file', but there is no file: give `recorded`"),
        ({"semantic": "file"}, "give `recorded`, or `paraphrases` of each source"),
        ({"answer_tokens": 9}, "answer_tokens: read only where a source is of the"),
        ({"min_model_similarity": 1.0, "semantic": "model"}, "must be in [-1, max_s"),
        ({"samples": 3}, "samples: only a model that rewords reads it"),
        (
            {"sources": (Source("claim", "a.jsonl", "b.jsonl"),)},
            "the paraphrases of claim/a.jsonl are not read; set semantic to 'file'",
        ),
    ],
)
def test_a_wrong_setting_is_named(settings, message):
    with pytest.raises(ValueError) as error:
        CoIN(**settings)
    assert message in str(error.value)


def test_a_config_is_read_strictly():
    least = {"model": "m", "out": "o"}
    coin = {"sources": [{"task": "claim"}], "word": "off"}
    assert configs.parse(RunConfig, {**least, "coin": coin}).coin == CoIN(
        sources=(Source("claim"),), word="off"
    )
    for wrong, message in (
        ({"lambda": 1}, "CoIN has no field 'lambda'"),
        ({"character": "model"}, "coin.character: expected 'rules' or 'file' or 'off'"),
        ({"sources": [{"task": "clam"}]}, "coin.sources.0: task: there is no task"),
    ):
        with pytest.raises(ValueError) as error:
            configs.parse(RunConfig, {**least, "coin": wrong})
        assert message in str(error.value)


def test_no_training_couple_is_an_error(tmp_path):
    rows = [{"claim": f"c{n} d{n}", "answer": "yes"} for n in range(9)]
    path = write(tmp_path / "c.jsonl", rows)
    with pytest.raises(ValueError, match="coin: no training couple: two training inst"):
        make(tmp_path / "data", sources=(Source("claim", path),))
    assert not (tmp_path / "data").exists()


def test_where_files_lie_does_not_count_but_what_is_in_them_does(tmp_path):
    rows = [
        {"claim": f"c{n} d{n}", "answer": "yes" if n % 2 else "no"} for n in range(40)
    ]
    digests = []
    for name, own in {"one": rows, "other": rows, "third": rows[:-1]}.items():
        (tmp_path / name).mkdir()
        path = write(tmp_path / name / "c.jsonl", own)
        make(tmp_path / f"{name}-data", sources=(Source("claim", path),))
        manifest = records.read_manifest(tmp_path / f"{name}-data")
        digests.append(manifest["config"])
    assert digests[0] == digests[1] != digests[2]
    path = str(tmp_path / "third" / "c.jsonl")
    with pytest.raises(ValueError, match="the content of coin's files"):
        make(tmp_path / "one-data", sources=(Source("claim", path),))
    assert claim.digest({"coin": {"a": 1}}, {}) != claim.digest({"coin": {"a": 2}}, {})


@pytest.mark.skipif(not DATA.is_dir(), reason="no real data beside it")
def test_a_run_on_glue_verifies(tmp_path):
    sources = (
        Source("sentiment", str(DATA / "glue_olora/SST-2_train.json.gz")),
        Source("entailment", str(DATA / "glue_olora/MNLI_dev.json.gz")),
        Source("paraphrase", str(DATA / "glue_olora/QQP_train.json.gz")),
        Source("choice", str(DATA / "glue_olora/COPA_train.json.gz")),
    )
    make(tmp_path / "data", sources=sources, instances=100, repeats=2, held_out=10)
    found = verify(tmp_path / "data")
    assert found.failures == ()
    assert found.examples > 700
    empty = [r for r in records.read_rejected(tmp_path / "data") if r.reason == "empty"]
    assert len(empty) > 50  # MNLI's instances without a gold label
