# SPDX-License-Identifier: Apache-2.0
"""Runs: the same bytes every time, killed or not, and folders that are not mixed up."""

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from alignjax import lock
from data_gen import records
from data_gen.couples import Plan
from data_gen.planning import plan, split_tasks
from data_gen.run import RunConfig, run
from data_gen.seeds import SplitFractions, split_of
from data_gen.strategies import Context
from data_gen.strategies.ecd import ECD
from data_gen.verify import verify

sys.path.insert(0, str(Path(__file__).parent))
import scripts

EXPORTED = ("examples.parquet", "rejected.parquet", "prompts.jsonl", "manifest.json")


def exported(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in EXPORTED}


@pytest.fixture(scope="module")
def clean(tmp_path_factory) -> Path:
    """The folder of an undisturbed run."""
    folder = tmp_path_factory.mktemp("clean") / "data"
    run(scripts.config(folder), engine=scripts.engine())
    return folder


def test_a_run_verifies(clean):
    found = verify(clean)
    assert found.failures == ()
    assert found.notes == ()
    assert found.examples > 30
    assert found.prompts == 2 * 5 * 3  # two splits, five types, three prompts


def test_two_runs_give_the_same_bytes(clean, tmp_path):
    run(scripts.config(tmp_path / "other"), engine=scripts.engine())
    assert exported(tmp_path / "other") == exported(clean)


def test_a_finished_run_is_exported_again_without_sampling(clean, tmp_path):
    out = tmp_path / "data"
    first = run(scripts.config(out), engine=scripts.engine())
    engine = scripts.engine()
    second = run(scripts.config(out), engine=engine)
    assert engine.asked == []
    assert second == first
    assert exported(out) == exported(clean)


def test_a_killed_run_goes_on_to_the_same_bytes(clean, root, tmp_path):
    """SIGKILL at three moments; then once to the end. All samples are made once: what
    the sessions found in the store is what they did not sample."""
    out = tmp_path / "data"
    command = [sys.executable, str(Path(scripts.__file__)), str(out)]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    for samples in (10, 60, 110):
        process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
        while process.poll() is None and stored(out) < samples:
            time.sleep(0.02)
        assert process.poll() is None, "the run ended before it could be killed"
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert not (out / "manifest.json").exists()
    before = stored(out)
    last = subprocess.run(
        command, env=environment, capture_output=True, text=True, check=True
    )
    assert exported(out) == exported(clean)
    assert stored(out) == stored(clean)
    again = int(last.stdout.split("sampled ")[1]) - (stored(out) - before)
    assert 0 <= again < 6  # the known samples of a request cut in the middle


def stored(folder: Path) -> int:
    """How many samples another process could find in the store now."""
    import sqlite3

    if not (folder / "cache.sqlite").exists():
        return 0
    try:
        with sqlite3.connect(f"file:{folder}/cache.sqlite?mode=ro", uri=True) as db:
            return db.execute("SELECT count(*) FROM generations").fetchone()[0]
    except sqlite3.OperationalError:
        return 0  # the tables are not there yet


def test_another_configurations_folder_is_refused(tmp_path):
    config = scripts.config(tmp_path)
    run(config, engine=scripts.engine())
    before = exported(tmp_path)
    assert config.ecd is not None
    other = dataclasses.replace(
        config, seed=1, ecd=dataclasses.replace(config.ecd, samples=2)
    )
    with pytest.raises(
        ValueError, match=r"another configuration \(what differs: ecd\.samples, seed; "
    ) as caught:
        run(other, engine=scripts.engine())
    assert digest(tmp_path)[:12] in str(caught.value)
    assert "--fresh" in str(caught.value)
    assert exported(tmp_path) == before


def digest(folder: Path) -> str:
    return json.loads((folder / "manifest.json").read_text())["config"]


def test_the_same_content_at_another_place_is_the_same_run(clean, tmp_path):
    """The seeds of the package, in two files of the user's."""
    content = Path(records.__file__).with_name("data") / "seeds.jsonl"
    out = tmp_path / "data"
    for name in ("mine.jsonl", "moved.jsonl"):
        shutil.copy(content, tmp_path / name)
        engine = scripts.engine()
        config = scripts.config(out, seeds=str(tmp_path / name), model=f"./{name}")
        run(config, engine=engine)
        assert exported(out) == exported(clean)
    assert engine.asked == []


def test_changed_seeds_are_another_run(tmp_path):
    path, out = tmp_path / "seeds.txt", tmp_path / "data"
    lines = [f"Describe the trade of a {name}.\n" for name in TRADES]
    path.write_text("".join(lines))
    config = scripts.config(out, seeds=str(path), self_contrast=None)
    run(config, engine=scripts.engine())
    before = exported(out)
    path.write_text("".join(lines[:-1]))
    with pytest.raises(
        ValueError, match=r"\(what differs: the content of the seeds; digest"
    ):
        run(config, engine=scripts.engine())
    assert exported(out) == before
    run(config, engine=scripts.engine(), is_fresh=True)
    assert digest(out) != json.loads(before["manifest.json"])["config"]
    assert verify(out).failures == ()


TRADES = (
    *("baker", "carpenter", "tailor", "fisher", "miller", "weaver", "potter"),
    *("mason", "glazier", "cobbler", "printer", "brewer", "farrier", "saddler"),
)


def test_other_weights_are_another_run(tmp_path):
    config = scripts.config(tmp_path)
    run(config, engine=scripts.engine())
    other = scripts.engine()
    other.name = "other weights"
    with pytest.raises(
        ValueError, match=r"\(what differs: the model's weights; digest"
    ):
        run(config, engine=other)
    assert other.asked == []


def test_one_run_at_a_time(hold_lock, tmp_path):
    config = scripts.config(tmp_path)
    holder = hold_lock(tmp_path)
    with pytest.raises(ValueError, match="another data-gen run is at work in this"):
        run(config, engine=scripts.engine())
    assert sorted(path.name for path in tmp_path.iterdir()) == [".lock"]
    holder.kill()
    holder.wait()
    run(config, engine=scripts.engine())
    assert not (tmp_path / ".lock").exists()


def test_a_shared_cache_is_used_by_one_run_at_a_time(tmp_path):
    cache = tmp_path / "cache.sqlite"
    config = scripts.config(tmp_path / "data", cache=str(cache))
    message = r"cache\.sqlite: another data-gen run .*; wait .* another cache$"
    with (
        lock.held_beside(cache, what="run", instead="cache"),
        pytest.raises(ValueError, match=message),
    ):
        run(config, engine=scripts.engine())


def test_fresh_replaces_the_export_and_keeps_the_samples(clean, tmp_path):
    """The other configuration takes two samples of three, in the same lineages: it
    finds everything that both have in common, among it every first answer."""
    config = scripts.config(tmp_path)
    run(config, engine=scripts.engine())
    assert config.ecd is not None
    fewer = dataclasses.replace(config.ecd, samples=2)
    other = dataclasses.replace(config, ecd=fewer)
    engine, said = scripts.engine(), []
    run(other, engine=engine, is_fresh=True, say=said.append)
    assert any("replacing the run" in line for line in said)
    assert verify(tmp_path).failures == ()
    assert len(engine.asked) < stored(clean) / 4
    back = scripts.engine()
    run(config, engine=back, is_fresh=True)
    assert back.asked == []
    assert exported(tmp_path) == exported(clean)


def test_a_shared_cache_serves_another_folder(clean, tmp_path):
    cache = str(tmp_path / "cache.sqlite")
    run(scripts.config(tmp_path / "a", cache=cache), engine=scripts.engine())
    engine = scripts.engine()
    run(scripts.config(tmp_path / "b", cache=cache), engine=engine)
    assert engine.asked == []
    assert exported(tmp_path / "b") == exported(clean)


def test_the_splits_follow_the_lineage(clean):
    examples = records.read_examples(clean)
    fractions = SplitFractions()
    assert {example.split for example in examples} == {"train", "validation", "test"}
    for example in examples:
        assert example.split == split_of(example.root_id, fractions)
    for prompt in records.read_prompts(clean):
        assert prompt["split"] == split_of(prompt["root_id"], fractions)


def test_so_many_training_tasks_are_used(tmp_path):
    """5 of the training tasks, which are among the first 8; 0 takes all. Held-out ones
    are counted apart: 2 of validation and 2 of test."""

    def planned(prompts):
        ecd = ECD(types=scripts.TYPES, prompts=prompts, held_out=2)
        config = scripts.config(tmp_path, ecd=ecd, self_contrast=None)
        tasks, _ = split_tasks(config)
        engine = scripts.engine()
        context = Context(config.seed, engine.fingerprint, engine.facts)
        names = [lineage.name for lineage in plan(tasks, Plan(), config, context)]
        train = {f"ecd/{task.id}" for task in tasks["train"]}
        return train, train & set(names), len(names)

    train, five, count = planned(5)
    assert (len(five), count) == (5, 5 + 2 + 2)
    assert five < planned(8)[1]
    assert planned(0)[1:] == (train, len(train) + 4)


def test_the_witness_share_holds_after_export(tmp_path):
    ecd = ECD(types=scripts.TYPES, samples=1, max_witness_share=0.3)
    config = scripts.config(tmp_path, ecd=ecd, self_contrast=None, evaluation=None)
    report = run(config, engine=scripts.engine())
    kinds = report["chosen_kinds"]
    assert 0 < kinds["witness"] <= 0.3 * report["pairs"]
    assert report["rejected"]["witness_share"] > 0
    assert kinds["sample"] + kinds["witness"] == report["pairs"]


def test_the_report_adds_up(clean):
    report = json.loads((clean / "report.json").read_text())
    counts = {
        (row["strategy"], row["round"], row["stage"]): row["count"]
        for row in report["waterfall"]
    }
    for number in (1, 2):
        assert counts["ecd", number, "pairs"] == (
            counts["ecd", number, "sampled"] + counts["ecd", number, "witness"]
        )
    exported_counts = [n for key, n in counts.items() if key[2] == "exported"]
    assert sum(exported_counts) == report["pairs"]
    assert sum(report["by_type"].values()) == report["by_strategy"]["ecd"]
    assert len(report["lengths"]["chosen_words"]) == report["pairs"]
    assert len(report["lengths"]["rejected_words"]) == report["negatives"]
    assert report["samples"] == stored(clean)
    rejected = records.read_rejected(clean)
    assert sum(report["rejected"].values()) == len(rejected)


def test_empty_seeds_are_an_error(tmp_path):
    path = tmp_path / "empty.txt"
    path.write_text("\n")
    with pytest.raises(ValueError, match="no seeds"):
        run(scripts.config(tmp_path / "data", seeds=str(path)))
    assert not (tmp_path / "data").exists()


def test_seeds_without_a_training_task_are_an_error(tmp_path):
    fractions = SplitFractions(0.0, 0.5, 0.5)
    with pytest.raises(ValueError, match="is a training task"):
        run(scripts.config(tmp_path, splits=fractions))


def test_training_tasks_like_held_out_ones_are_dropped(tmp_path):
    """Two wordings of one task, one of them held out: the one in train goes."""
    path = tmp_path / "seeds.jsonl"
    texts = ["Describe green tea and how farmers dry leaves.", "Explain magnets."]
    texts.append("Describe how farmers dry the leaves of green tea.")
    fractions = SplitFractions()
    ids = [f"s{i}" for i in range(50)]
    train = [name for name in ids if split_of(name, fractions) == "train"]
    test = [name for name in ids if split_of(name, fractions) == "test"]
    names = [train[0], train[1], test[0]]
    path.write_text(
        "".join(
            json.dumps({"id": name, "text": text}) + "\n"
            for name, text in zip(names, texts, strict=True)
        )
    )
    config = scripts.config(tmp_path / "data", seeds=str(path), limit=None)
    tasks, rejected = split_tasks(config)
    assert [task.id for task in tasks["train"]] == [train[1]]
    assert [(item.root_id, item.reason) for item in rejected] == [
        (train[0], "near_held_out")
    ]


def test_a_run_with_nothing_to_do_is_refused():
    with pytest.raises(ValueError, match="nothing to do"):
        RunConfig(model="m", out="o")
    with pytest.raises(ValueError, match="needs an embedder"):
        scripts.config(Path("o"), embedder="")


def test_the_folder_of_something_else_is_refused_and_left_as_it_is(tmp_path):
    config = scripts.config(tmp_path / "mine")
    out = Path(config.out)
    out.mkdir(parents=True)
    (out / "thesis.txt").write_text("mine")
    with pytest.raises(
        ValueError, match=r"not empty and holds no dataset \(thesis.txt"
    ):
        run(config, engine=scripts.engine())
    assert (out / "thesis.txt").read_text() == "mine"
    assert not (out / "run.json").exists()


def test_the_folder_of_another_command_is_refused(tmp_path):
    config = scripts.config(tmp_path / "train")
    out = Path(config.out)
    out.mkdir(parents=True)
    (out / "run.json").write_text('{"identity": "abc"}')
    with pytest.raises(ValueError, match="the folder of another command"):
        run(config, engine=scripts.engine())
