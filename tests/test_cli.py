# SPDX-License-Identifier: Apache-2.0
"""The command: help at once, mistakes in one line and exit status 2."""

import errno
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import alignjax
from alignjax import cli, fetch, whole_file

HEAVY = (
    "jax numpy flax optax orbax pyarrow transformers tokenizers matplotlib rich yaml"
)
COMMANDS = ("fetch", "pipeline", "train", "eval", "report", "sample", "chat")


def test_help_is_quick_and_imports_nothing_heavy(root):
    code = (
        "import sys\n"
        "from alignjax import cli\n"
        "try: cli.main(['--help'])\n"
        "except SystemExit: pass\n"
        f"heavy = set('{HEAVY}'.split())\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
    )
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "alignjax pipeline configs/quickstart.yaml" in done.stdout
    assert all(command in done.stdout for command in COMMANDS)
    assert time.monotonic() - began < 1


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_has_help(command, capsys):
    with pytest.raises(SystemExit) as caught:
        cli.main([command, "--help"])
    assert caught.value.code == 0
    shown = capsys.readouterr().out
    assert f"usage: alignjax {command}" in shown
    if command in ("pipeline", "train", "eval"):
        assert f"  alignjax {command} CONFIG " in shown  # an example of a setting
    if command in ("sample", "chat"):
        assert f"examples:\n  alignjax {command} " in shown


def test_the_version_is_told(capsys):
    with pytest.raises(SystemExit) as caught:
        cli.main(["--version"])
    assert caught.value.code == 0
    assert capsys.readouterr().out == f"alignjax {alignjax.__version__}\n"


@pytest.fixture
def folder(tmp_path, tiny_llama, home, monkeypatch) -> Path:
    """A folder with a training config, a dataset and a copy of the tiny model; it is
    the working directory."""
    monkeypatch.setenv("ALIGNJAX_HOME", str(home))
    monkeypatch.chdir(tmp_path)
    shutil.copytree(tiny_llama, tmp_path / "model")
    row = {"prompt": "Say it.", "chosen": " The cat.", "rejected": " My tree."}
    write(tmp_path / "data.jsonl", row)
    (tmp_path / "train.yaml").write_text(
        "model: model\ndataset: data.jsonl\nout: run\nadapter: {rank: 2}\n"
        "batch: {rows: 1, time: 128, block: 64, scored: 64}\n"
    )
    return tmp_path


def write(path: Path, row: dict[str, Any]) -> None:
    path.write_text(json.dumps(row) + "\n")


def fails(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The one line that a command fails with."""
    status = cli.main(arguments)
    error = capsys.readouterr().err
    assert status == 2, error
    assert error.count("\n") == 1, error
    assert error.startswith(f"alignjax {arguments[0]}: ")
    return error.removeprefix(f"alignjax {arguments[0]}: ").strip()


def change(path: Path, **fields: Any) -> None:
    """Sets fields of a JSON file."""
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["none.yaml"], "none.yaml: no such config file"),
        (
            ["train.yaml", "epoch=2"],
            "TrainConfig has no field 'epoch'; did you mean 'ep",
        ),
        (["train.yaml", "batch.rows=0"], "batch: rows must be > 0, got 0"),
        (["train.yaml", "seed=-1"], "seed must be in [0, 2^32), got -1"),
        (
            ["train.yaml", "objective.name=ppo"],
            "no objective 'ppo'; did you mean 'sppo'? (known",
        ),
        (
            ["train.yaml", "objective.options.beta=-1"],
            "objective: options.beta: must be",
        ),
        (
            ["train.yaml", "objective.options.bta=1"],
            "'dpo' does not read 'bta' (it read",
        ),
        (["train.yaml", "--model", "none"], "'none' is not a model"),
        (["train.yaml", "dataset=none"], "none: no such dataset folder or file"),
        (["train.yaml", "--out", "model"], "model: is not empty and holds no training"),
        (["train.yaml", "--out", "train.yaml"], "train.yaml: is a file, not a folder"),
    ],
)
def test_a_mistake_is_one_line(folder, settings, message, capsys):
    assert message in fails(["train", *settings], capsys)
    assert not (folder / "run").exists()


def test_check_reads_the_config_and_makes_nothing(folder, capsys):
    assert cli.main(["train", "train.yaml", "--check"]) == 0
    assert not (folder / "run").exists()
    error = fails(["train", "train.yaml", "--check", "batch.rows=0"], capsys)
    assert "batch: rows must be > 0, got 0" in error


def test_a_row_without_chosen_is_one_line(folder, capsys):
    write(folder / "data.jsonl", {"prompt": "a", "rejected": "b"})
    error = fails(["train", "train.yaml"], capsys)
    assert error.startswith("data.jsonl:1: field 'chosen' is missing or empty")


def test_an_empty_dataset_is_one_line(folder, capsys):
    (folder / "data.jsonl").write_text("")
    assert fails(["train", "train.yaml"], capsys) == "data.jsonl: holds no rows"


def test_a_model_without_weights_is_one_line(folder, capsys):
    (folder / "model" / "model.safetensors").unlink()
    error = fails(["train", "train.yaml"], capsys)
    assert error.startswith("model is not a complete model: missing weights")


@pytest.mark.parametrize("command", ["pipeline", "eval"])
def test_the_embedder_can_be_another(folder, command, capsys):
    stage = "{name: a, run: alignjax eval, config: {dataset: d}}"
    rest = {"pipeline": f"stages: [{stage}]", "eval": "dataset: d"}
    (folder / "c.yaml").write_text(f"model: model\nout: run\n{rest[command]}\n")
    error = fails([command, "c.yaml", "--embedder", "none"], capsys)
    assert error.startswith("'none' is not a model")


@pytest.mark.parametrize("command", ["train", "eval"])
def test_a_wrong_tokenizer_is_one_line(folder, command, tiny_encoder, capsys):
    """One id more than the embedding has rows."""
    change(folder / "model" / "config.json", vocab_size=300)
    (folder / "eval.yaml").write_text(
        f"model: model\ndataset: .\nout: run\nembedder: {tiny_encoder}\n"
    )
    if command == "eval":
        from data_gen.records import write_dataset

        prompt = {"id": "1", "split": "test", "root_id": "r", "task": "t"}
        prompt |= {"prompt": "p", "constraint": {"type": "lowercase", "params": {}}}
        write_dataset(folder, [], [], [prompt], config="c", facts={})
    error = fails([command, f"{command}.yaml"], capsys)
    assert "wrong tokenizer: token" in error and "vocab_size 300" in error
    assert not (folder / "run").exists()


def test_settings_may_follow_options(folder, capsys):
    arguments = ["train", "train.yaml", "--out", "other", "dataset=none", "--seed", "3"]
    assert fails([*arguments, "epochs=2"], capsys).startswith("none: no such dataset")
    with pytest.raises(SystemExit) as caught:
        cli.main([*arguments, "--nope"])
    assert caught.value.code == 2
    assert "unrecognized arguments: --nope" in capsys.readouterr().err
    assert "expected field=value" in fails([*arguments, "nonsense"], capsys)


def test_a_folder_may_be_named_like_a_number(folder, capsys):
    assert fails(["train", "train.yaml", "--model", "1"], capsys).startswith("'1' is n")


def test_a_full_disk_is_one_line_with_the_remedy(folder, monkeypatch, capsys):
    fetch.fingerprint(folder / "model")  # kept beside the weights

    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(whole_file.os, "fsync", full)
    error = fails(["train", "train.yaml"], capsys)
    assert error.startswith("run/run.json: No space left on device; what is finished")
    assert "run the same command again" in error


def test_an_interrupt_is_130(folder, monkeypatch, capsys):
    def stop(arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "_overrides", stop)
    assert cli.main(["train", "train.yaml"]) == 130
    assert "same command again" in capsys.readouterr().err


def test_nothing_to_report_is_one_line(folder, capsys):
    assert "nothing to report" in fails(["report", "model"], capsys)
