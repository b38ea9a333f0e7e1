# SPDX-License-Identifier: Apache-2.0
"""Whole runs on a tiny model: what they write, what they refuse, and that a run which
was killed ends as one which was not."""

import dataclasses
import errno
import hashlib
import json
import math
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from alignjax import config as configs
from alignjax import fetch
from alignjax.data import records, reference
from alignjax.data.tokenizer import load_tokenizer
from alignjax.models import load
from alignjax.train import find, loop
from alignjax.train.config import (
    AdapterConfig,
    BatchConfig,
    MeshConfig,
    ObjectiveConfig,
    OptimizerConfig,
    ReferenceConfig,
    TrainConfig,
)
from alignjax.train.setup import prepare

BATCH = BatchConfig(rows=2, time=112, blocks=6, block=56, scored=64, microbatches=2)
COUPLES = BatchConfig(rows=3, time=160, blocks=4, block=48, scored=24)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory) -> Path:
    """40 prompts; a short answer is better than a long one, and every third prompt
    has a second negative."""
    path = tmp_path_factory.mktemp("data") / "pairs.jsonl"
    rng = random.Random(0)
    lines = []
    for number in range(40):
        animal = rng.choice(["cat", "tree", "house"])
        row: dict[str, Any] = {
            "prompt": f"Say {number}.",
            "chosen": f" The {animal}.",
            "rejected": [f" The old {animal}, and a red {animal}."],
        }
        if number % 3 == 0:
            row["rejected"].append(f" My {animal}, but the small {animal} sees a tree.")
        lines.append(json.dumps(row) + "\n")
    path.write_text("".join(lines))
    return path


@pytest.fixture
def make(tiny_llama, dataset, tmp_path) -> Callable[..., TrainConfig]:
    """A config for the tiny model and the dataset."""

    def config(**changes: Any) -> TrainConfig:
        settings: dict[str, Any] = {
            "model": str(tiny_llama),
            "dataset": str(dataset),
            "out": str(tmp_path / "run"),
            "adapter": AdapterConfig(rank=4, alpha=8.0),
            "optimizer": OptimizerConfig(learning_rate=1e-3),
            "batch": BATCH,
            "epochs": 3,
            "save_every": 4,
        }
        return TrainConfig(**{**settings, **changes})

    return config


@pytest.fixture(scope="module")
def couples(tmp_path_factory) -> Path:
    """12 couples for CoIN, and a record that belongs to none. An instance is a number,
    with the answer " The cat." where it is even and " My house." where it is odd."""
    path = tmp_path_factory.mktemp("couples") / "couples.jsonl"
    wordings = {"original": "Say {}.", "paraphrase": "Tell {}."}
    rows: list[dict[str, str]] = [{"prompt": "Sing.", "chosen": " The tree."}]
    rows += [
        {
            "id": f"{wording} {instance}",
            "prompt": text.format(instance),
            "chosen": (" The cat.", " My house.")[instance % 2],
            "couple": f"c{instance // 2}",
            "role": f"{wording}_{'ij'[instance % 2]}",
        }
        for instance in range(24)
        for wording, text in wordings.items()
    ]
    random.Random(0).shuffle(rows)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def on_couples(config: TrainConfig, couples: Path, **changes: Any) -> TrainConfig:
    """The same with CoIN: 12 couples, 3 a batch, 4 batches a pass."""
    settings = {"objective": ObjectiveConfig("coin"), "batch": COUPLES, **changes}
    return dataclasses.replace(config, dataset=str(couples), **settings)


def train(config: TrainConfig, **options: Any) -> dict[str, Any]:
    folder = Path(config.model)
    return loop.train(
        config,
        model_folder=folder,
        tokenizer=load_tokenizer(folder),
        model_fingerprint=fetch.fingerprint(folder),
        **options,
    )


def train_with_a_stop(config: TrainConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    """The row of step 6 finds no room; then the same command again."""
    write = loop.JsonlWriter.write

    def full(self: Any, row: Any) -> None:
        if row["step"] == 6:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "metrics.jsonl")
        write(self, row)

    monkeypatch.setattr(loop.JsonlWriter, "write", full)
    with pytest.raises(OSError, match="No space left on device"):
        train(config)
    monkeypatch.undo()
    train(config)


def metrics(out: str | Path) -> list[dict[str, Any]]:
    """The rows without the times."""
    lines = (Path(out) / "metrics.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    return [{k: v for k, v in row.items() if k != "step_s"} for row in rows]


def contents(folder: str | Path) -> dict[str, str]:
    return {
        str(path): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(Path(folder).rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def clean(tiny_llama, dataset, tmp_path_factory) -> TrainConfig:
    """The config of an undisturbed run that has ended."""
    config = TrainConfig(
        model=str(tiny_llama),
        dataset=str(dataset),
        out=str(tmp_path_factory.mktemp("clean") / "run"),
        adapter=AdapterConfig(rank=4, alpha=8.0),
        optimizer=OptimizerConfig(learning_rate=1e-3),
        batch=BATCH,
        epochs=3,
        save_every=4,
    )
    train(config)
    return config


def test_a_run_writes_metrics_summary_and_adapter(clean):
    out = Path(clean.out)
    rows = metrics(out)
    summary = json.loads((out / "summary.json").read_text())
    assert [row["step"] for row in rows] == list(range(1, summary["steps"] + 1))
    names = "loss dpo nll margin accuracy chosen_logprob rejected_logprob"
    assert rows[0].keys() == {
        *names.split(),
        *("step", "learning_rate", "grad_norm", "tokens"),
    }
    assert summary["objective"] == "dpo"
    assert summary["examples"] == 40
    assert summary["pairs"] == 40 + 14  # 0, 3, ..., 39 have two
    assert summary["too_long"] == summary["without_negatives"] == 0
    assert summary["tokens"] == sum(row["tokens"] for row in rows)
    assert summary["wall_s"] > 0
    assert configs.load(TrainConfig, out / "config.yaml") == clean
    about = json.loads((out / "adapter" / "adapter_config.json").read_text())
    assert (about["r"], about["lora_alpha"]) == (4, 8.0)
    tensors = load_file(out / "adapter" / "adapter_model.safetensors")
    assert len(tensors) == 2 * 7 * 2  # layers, linear maps, factors


def test_the_first_step_starts_at_log_2_and_training_helps(clean):
    first, *_, last = metrics(clean.out)
    assert first["dpo"] == pytest.approx(math.log(2), abs=1e-5)
    assert first["margin"] == pytest.approx(0, abs=1e-5)
    assert last["margin"] > 0.05
    assert last["loss"] < first["loss"]


def test_the_learning_rate_warms_up_and_decays(clean):
    """10 % of the steps up to the peak, then down towards 0 after the last."""
    rates = [row["learning_rate"] for row in metrics(clean.out)]
    total = len(rates)
    warmup = max(1, round(0.1 * total))
    peak = 1e-3
    for index, rate in enumerate(rates):
        if index < warmup:
            expected = peak * (index + 1) / warmup
        else:
            expected = peak * (total - index) / (total - warmup + 1)
        assert rate == pytest.approx(expected, rel=1e-5), index


def test_a_finished_run_changes_nothing(clean, make):
    before = contents(clean.out)
    del before[f"{clean.out}/metrics.jsonl"]
    train(clean)
    after = contents(clean.out)
    del after[f"{clean.out}/metrics.jsonl"]
    assert after == before


def test_another_place_is_the_same_run(clean, make, tmp_path):
    """Moved as a whole: where files lie is no part of what a run is."""
    shutil.copytree(clean.out, tmp_path / "run")
    train(make())
    adapter = "adapter/adapter_model.safetensors"
    assert (tmp_path / "run" / adapter).read_bytes() == (
        Path(clean.out) / adapter
    ).read_bytes()


def command(config: TrainConfig, root: Path, home: Path) -> dict[str, Any]:
    """Arguments of subprocess for `alignjax train` on this config."""
    path = Path(config.out).with_suffix(".yaml")
    path.write_text(configs.dump(config))
    return {
        "args": [sys.executable, "-m", "alignjax.cli", "train", str(path)],
        "cwd": root,
        "env": {**os.environ, "ALIGNJAX_HOME": str(home)},
    }


def steps_done(config: TrainConfig) -> int:
    path = Path(config.out) / "metrics.jsonl"
    return path.read_bytes().count(b"\n") if path.exists() else 0


def signalled(arguments: dict[str, Any], config: TrainConfig, step: int, number: int):
    """Starts a run, sends it a signal once this step is done, and waits."""
    with subprocess.Popen(**arguments, stderr=subprocess.PIPE, text=True) as process:
        while process.poll() is None and steps_done(config) < step:
            time.sleep(0.002)
        process.send_signal(number)
        _, error = process.communicate(timeout=60)
    return process.returncode, error


def test_a_killed_run_ends_as_one_that_was_not(clean, make, root, home, tmp_path):
    """SIGKILL at a random step; then SIGTERM; then to the end: the same adapter to the
    bit, and the same metrics rows."""
    total = len(metrics(clean.out))
    config = make()
    arguments = command(config, root, home)
    step = random.SystemRandom().randrange(1, total // 2)
    status, error = signalled(arguments, config, step, signal.SIGKILL)
    assert status == -signal.SIGKILL, f"step {step}: {error}"
    assert not (tmp_path / "run" / "summary.json").exists()

    # Now it is asked to stop: the step at work ends, and is kept.
    done = steps_done(config)
    status, error = signalled(arguments, config, done + 2, signal.SIGTERM)
    assert status == 143, f"step {step}: {error}"
    rows = steps_done(config)
    assert done + 2 <= rows < total
    assert (tmp_path / "run" / "checkpoints" / str(rows)).is_dir()

    last = subprocess.run(**arguments, capture_output=True, text=True, check=False)
    assert last.returncode == 0, last.stderr
    assert metrics(config.out) == metrics(clean.out)
    adapter = "adapter/adapter_model.safetensors"
    mine, theirs = (Path(c.out) / adapter for c in (config, clean))
    assert mine.read_bytes() == theirs.read_bytes()


def test_a_full_disk_loses_nothing(clean, make, monkeypatch):
    """The row of step 6 finds no room; then there is some: the same rows as ever."""
    config = make()
    write = loop.JsonlWriter.write

    def full(self: Any, row: Any) -> None:
        if row["step"] == 6:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "metrics.jsonl")
        write(self, row)

    monkeypatch.setattr(loop.JsonlWriter, "write", full)
    with pytest.raises(OSError, match="No space left on device"):
        train(config)
    assert steps_done(config) == 5
    monkeypatch.undo()
    train(config)
    assert metrics(config.out) == metrics(clean.out)


def test_a_wrong_reference_is_noticed_at_step_0(clean, make, tmp_path):
    """Every cached value raised by 0.1: sums over answers of other lengths differ."""
    shutil.copytree(clean.out, tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "checkpoints")
    (cache,) = (tmp_path / "run" / "reference").iterdir()
    with np.load(cache) as file:
        values = file["logprobs"]
    reference.save(cache.parent, cache.stem, [(values + 0.1,)])
    with pytest.raises(ValueError, match="step 0: margin is") as caught:
        train(make())
    assert "remove the folder 'reference'" in str(caught.value)
    assert metrics(tmp_path / "run") == []

    shutil.rmtree(cache.parent)  # as the message says
    train(make())
    assert metrics(tmp_path / "run") == metrics(clean.out)


def test_another_runs_folder_is_refused_and_left_as_it_is(clean, make, dataset):
    before = contents(clean.out)
    for changes in ({"seed": 1}, {"objective": ObjectiveConfig("dpo", {"beta": 0.2})}):
        with pytest.raises(ValueError, match="belongs to another training run"):
            train(dataclasses.replace(clean, **changes))
    other = dataset.with_name("other.jsonl")
    other.write_text("".join(dataset.read_text().splitlines(keepends=True)[:-1]))
    with pytest.raises(ValueError, match="config, dataset or model differ"):
        train(dataclasses.replace(clean, dataset=str(other)))
    assert contents(clean.out) == before


def test_a_folder_that_is_no_runs_is_refused(make, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "thesis.txt").write_text("mine")
    with pytest.raises(ValueError, match="is not empty and holds no training run"):
        train(make())
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["thesis.txt"]
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ValueError, match="is a file, not a folder"):
        train(make(out=str(tmp_path / "file")))


def test_every_parameter_can_be_trained(make, tmp_path):
    """Rank 0: the exported folder is a model whose weights differ from the base's."""
    objective = ObjectiveConfig("sft")
    config = make(
        adapter=AdapterConfig(rank=0),
        objective=objective,
        max_steps=2,
    )
    summary = train(config)
    assert summary["steps"] == 2
    assert summary["pairs"] == 0
    _, trained = load(tmp_path / "run" / "model")
    _, base = load(Path(config.model))
    assert not np.array_equal(trained["embedding"], base["embedding"])
    load_tokenizer(tmp_path / "run" / "model")


def test_what_was_left_out_is_said(make, dataset, tiny_llama, tmp_path):
    lines = dataset.read_text()
    lines += json.dumps({"prompt": "a", "chosen": "b"}) + "\n"
    long = {"prompt": "a" * 80, "chosen": "b", "rejected": "c"}
    path = tmp_path / "data.jsonl"
    path.write_text(lines + json.dumps(long) + "\n")
    said: list[str] = []
    setup = prepare(
        make(),
        find("dpo"),
        records.read(path),
        load_tokenizer(tiny_llama),
        load(tiny_llama)[0],
        said.append,
    )
    assert (setup.without_negatives, setup.too_long) == (1, 1)
    assert len(setup.examples) == 40
    assert said[0].startswith("left out 1 examples without a rejected answer and 1 th")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        *(
            (
                {"objective": ObjectiveConfig(name)},
                f"objective {name!r} compares the examples of a batch with each other, "
                "so microbatches would change it; set batch.microbatches to 1",
            )
            for name in ("coin", "aot", "aot_unpaired", "kto")
        ),
        (
            {
                "objective": ObjectiveConfig("coin"),
                "batch": dataclasses.replace(BATCH, microbatches=1),
            },
            "40 of these lack a couple (columns 'couple' and 'role', see docs/data_fo",
        ),
        (
            {"strategies": ("ecd",)},
            "0 are of the split 'train' and of the strategies e",
        ),
        ({"dataset": "nowhere"}, "nowhere: no such dataset folder or file"),
        (
            {"batch": dataclasses.replace(BATCH, block=20)},
            "none of the 40 training examples fits a row",
        ),
        ({"mesh": MeshConfig(data=3)}, "mesh data=3 fsdp=1 tensor=1 does not cover"),
    ],
)
def test_what_cannot_be_trained_is_refused_before_anything_is_written(
    make, tmp_path, changes, message
):
    with pytest.raises(ValueError) as caught:
        train(make(**changes))
    assert message in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_an_example_beyond_the_models_context_is_refused(make, tmp_path):
    """256 positions; the example has more tokens than that and would fit its row."""
    path = tmp_path / "data.jsonl"
    row = {"prompt": "z" * 250, "chosen": "b", "rejected": "c"}
    path.write_text(json.dumps(row) + "\n")
    batch = dataclasses.replace(BATCH, time=600, block=500)
    with pytest.raises(ValueError, match="the model's context is 256; set"):
        train(make(dataset=str(path), batch=batch))


@pytest.mark.parametrize(
    ("objective", "names"),
    [
        (
            ObjectiveConfig("kto", {"desirable_weight": 1.5}),
            {"kto", "baseline", "chosen_reward", "rejected_reward", "nll"},
        ),
        (
            ObjectiveConfig(
                "dpo", {"length_alpha": 0.5}, {"ipo": {"weight": 0.1}}, "forward_kl"
            ),
            {"dpo", "ipo", "margin"},
        ),
        (ObjectiveConfig("simpo"), {"simpo", "margin", "nll"}),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_an_objective_trains_and_logs_its_terms(make, tmp_path, objective, names):
    batch = dataclasses.replace(BATCH, microbatches=1)
    train(make(objective=objective, batch=batch))
    rows = metrics(tmp_path / "run")
    first, last = rows[0], rows[-1]
    assert names <= first.keys()
    losses = [row["loss"] for row in rows]
    third = len(losses) // 3  # one pass over the data
    assert sum(losses[-third:]) < sum(losses[:third])
    if objective.name == "kto":
        # log-ratios are 0: desirable 1.5 * sigmoid(0), undesirable sigmoid(0)
        assert 0.5 < first["kto"] < 0.75
        assert first["baseline"] == pytest.approx(0, abs=1e-5)
        assert last["chosen_reward"] > last["rejected_reward"]


def test_a_moving_reference_is_part_of_the_checkpoints(make, monkeypatch, tmp_path):
    """Stopped after the move of step 4 and started again, against a run in one go."""
    follow = ReferenceConfig(every=2, alpha=0.5)
    batch = dataclasses.replace(BATCH, microbatches=1)
    config = make(reference=follow, batch=batch, max_steps=6)
    whole = dataclasses.replace(config, out=str(tmp_path / "whole"))
    train(whole)
    train_with_a_stop(config, monkeypatch)
    assert metrics(config.out) == metrics(whole.out)
    assert not (tmp_path / "run" / "reference").exists()
    margins = [row["margin"] for row in metrics(whole.out)]
    assert margins[0] == 0


def test_weights_that_a_loss_does_not_read_are_refused(make, dataset, tmp_path):
    rows = [json.loads(line) for line in dataset.read_text().splitlines()]
    rows[3]["weight"] = 2.0
    path = tmp_path / "data.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    config = make(
        dataset=str(path),
        objective=ObjectiveConfig("aot"),
        batch=dataclasses.replace(BATCH, microbatches=1),
    )
    with pytest.raises(
        ValueError, match="weigh 1 and 2, which objective 'aot' does no"
    ):
        train(config)


def test_only_what_reads_a_reference_can_move_one(make):
    with pytest.raises(ValueError, match=r"reference\.every: objective 'simpo' has no"):
        make(objective=ObjectiveConfig("simpo"), reference=ReferenceConfig(every=2))
    with pytest.raises(ValueError, match="alpha is read only where every is above 0"):
        ReferenceConfig(alpha=0.3)


def test_a_dataset_without_rejected_answers_is_refused(make, tmp_path):
    path = tmp_path / "data.jsonl"
    path.write_text('{"prompt": "a", "chosen": "b"}\n')
    with pytest.raises(ValueError, match="1 of these lack a rejected answer"):
        train(make(dataset=str(path)))


@pytest.fixture(scope="module")
def clean_coin(clean, couples, tmp_path_factory) -> TrainConfig:
    """The config of an undisturbed run with CoIN that has ended."""
    config = on_couples(
        clean,
        couples,
        out=str(tmp_path_factory.mktemp("coin") / "run"),
        optimizer=OptimizerConfig(learning_rate=1e-2),
        epochs=6,
    )
    train(config)
    return config


def test_coin_trains_on_the_couples_of_a_dataset(clean_coin):
    """At first all states are alike: contrast log 2, and its weight L_gen / L_ctr makes
    the loss 2 L_gen. In the end i and j are apart, and the weight is its bound."""
    summary = json.loads((Path(clean_coin.out) / "summary.json").read_text())
    assert (summary["examples"], summary["without_couple"]) == (48, 1)
    assert summary["steps"] == 24  # 6 passes over 12 couples, 3 a batch
    first, *_, last = metrics(clean_coin.out)
    names = "loss nll nll_paraphrase contrastive contrastive_weight"
    assert first.keys() == {
        *names.split(),
        *("step", "learning_rate", "grad_norm", "tokens"),
    }
    generation = first["nll"] + first["nll_paraphrase"]
    assert first["contrastive"] == pytest.approx(math.log(2), abs=0.05)
    assert first["loss"] == pytest.approx(2 * generation, rel=1e-5)
    assert last["nll"] + last["nll_paraphrase"] < 0.5 * generation
    assert last["contrastive"] < 0.01
    assert last["contrastive_weight"] == 1000
    assert last["loss"] < 0.25 * first["loss"]


def test_coin_ends_the_same_after_a_stop(clean_coin, monkeypatch, tmp_path):
    """Checkpoint 4 is there; the rest is the same."""
    config = dataclasses.replace(clean_coin, out=str(tmp_path / "run"))
    train_with_a_stop(config, monkeypatch)
    assert metrics(config.out) == metrics(clean_coin.out)
    adapter = "adapter/adapter_model.safetensors"
    mine, theirs = (Path(c.out) / adapter for c in (config, clean_coin))
    assert mine.read_bytes() == theirs.read_bytes()


@pytest.fixture
def plan_of(make, tiny_llama, tmp_path):
    """(rows of a dataset, **changes of the config) -> (ids of the examples, batch by
    batch and row by row, and what was said), for CoIN."""

    def call(rows: list[str], **changes: Any) -> tuple[list[Any], list[str]]:
        path = tmp_path / "couples.jsonl"
        path.write_text("".join(rows))
        said: list[str] = []
        setup = prepare(
            on_couples(make(), path, **changes),
            find("coin"),
            records.read(path),
            load_tokenizer(tiny_llama),
            load(tiny_llama)[0],
            said.append,
        )
        ids = [
            [[setup.examples[index].id for index in row] for row in batch]
            for batch in setup.batches
        ]
        return ids, said

    return call


def test_the_order_of_records_does_not_change_the_batches_of_coin(plan_of, couples):
    rows = couples.read_text().splitlines(keepends=True)
    expected, said = plan_of(rows)
    assert said == [
        "left out 1 examples without a couple and 0 that fit no row (batch.block 48, "
        "batch.time 160, batch.blocks 4, batch.scored 24)"
    ]
    assert len(expected) == 12
    for row in (row for batch in expected for row in batch):
        number = int(row[0].split()[1])
        assert row == [
            f"original {number}",
            f"paraphrase {number}",
            f"original {number + 1}",
            f"paraphrase {number + 1}",
        ]
    random.Random(1).shuffle(rows)
    assert plan_of(rows) == (expected, said)


def test_a_couple_is_left_out_as_a_whole(plan_of, couples):
    """One of its four answers is too long, so all four are left out."""
    rows = [json.loads(line) for line in couples.read_text().splitlines()]
    for row in rows:
        if row.get("couple") == "c3" and row["role"].endswith("j"):
            row["chosen"] = " The cat" * 15
    batches, said = plan_of([json.dumps(row) + "\n" for row in rows], epochs=1)
    assert said[0].startswith("left out 1 examples without a couple and 4 that fit no ")
    members = [member for batch in batches for row in batch for member in row]
    assert len(members) == 44
    assert "original 6" not in members
    assert [len(row) for row in batches[-1]] == [4, 4, 0]


def test_a_couple_that_fits_no_row_says_what_it_needs(make, couples, tmp_path):
    for batch in (
        dataclasses.replace(COUPLES, blocks=3),
        dataclasses.replace(COUPLES, time=100),
    ):
        with pytest.raises(ValueError) as caught:
            train(on_couples(make(), couples, batch=batch))
        message = str(caught.value)
        assert "none of the 12 training couples fits a row; couple c0 needs" in message
        assert "batch.blocks 4 and" in message
        assert not (tmp_path / "run").exists()


@pytest.mark.slow
@pytest.mark.parametrize("objective", ["dpo", "coin"])
def test_several_devices_give_the_same_run_and_go_on(
    make, couples, root, home, tmp_path, objective
):
    """Two CPU devices, rows split over one axis and parameters over it too. Stopped
    after two steps by SIGTERM, then to the end."""
    batch = dataclasses.replace(BATCH, microbatches=1)
    alone = make(batch=batch, max_steps=5, out=str(tmp_path / "alone"))
    if objective == "coin":
        alone = on_couples(alone, couples, batch=dataclasses.replace(COUPLES, rows=4))
    train(alone)
    config = dataclasses.replace(
        alone, mesh=MeshConfig(data=1, fsdp=2), out=str(tmp_path / "run")
    )
    arguments = command(config, root, home)
    flags = "--xla_force_host_platform_device_count=2"
    arguments["env"]["XLA_FLAGS"] = flags
    status, error = signalled(arguments, config, 2, signal.SIGTERM)
    assert status == 143, error
    last = subprocess.run(**arguments, capture_output=True, text=True, check=False)
    assert last.returncode == 0, last.stderr
    found = metrics(config.out)
    assert len(found) == 5
    for mine, theirs in zip(found, metrics(alone.out), strict=True):
        assert mine["loss"] == pytest.approx(theirs["loss"], abs=1e-4)
