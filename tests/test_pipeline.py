# SPDX-License-Identifier: Apache-2.0
"""Pipelines: what is run, what is not, and what happens when a stage stops.

Most tests replace the commands by a script that writes its config's text and the texts
it reads; the last one runs the real commands on tiny models.
"""

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from alignjax import cli, config, pipeline, stages, strict_yaml
from alignjax.stages import PipelineConfig

SCRIPT = """
import os, signal, sys, time
from pathlib import Path
import yaml
config = yaml.safe_load(Path(sys.argv[1]).read_text())
if "--check" in sys.argv:
    sys.exit(f"stage.py: {sys.argv[1]}: no field 'wrong'" if "wrong" in config else 0)
out = Path(config["out"])
print("stage", out, *sys.argv[2:])
with open("log", "a") as log:
    log.write(" ".join([str(out), *sys.argv[2:]]) + "\\n")
out.mkdir(exist_ok=True)
(out / "times.txt").write_text(str(time.time()))
if "sleep" in config:
    (out / "sleeping").write_text("")
    time.sleep(60)
if config.get("fail"):
    sys.exit(config["fail"])
if config.get("die"):
    os.kill(os.getpid(), signal.SIGKILL)
read = Path(config.get("dataset", "none")) / "out.txt"
text = read.read_text() if read.exists() else ""
(out / "out.txt").write_text(text + config.get("text", "")[:1])
"""
REPORT = {"numbers": 1}


@pytest.fixture
def work(tmp_path, monkeypatch) -> Path:
    """The folder of the run; all three commands are the script."""
    script = tmp_path / "stage.py"
    script.write_text(SCRIPT)
    for name, takes_over in (
        ("data-gen run", ("--fresh",)),
        ("alignjax train", ()),
        ("alignjax eval", ()),
    ):
        command = stages.Command(
            (sys.executable, str(script)),
            outputs=("out.txt",),
            beside=("times.txt",),
            shared=("model", "seed") if name == "alignjax train" else ("seed",),
            takes_over=takes_over,
        )
        monkeypatch.setitem(stages.COMMANDS, name, command)
    return tmp_path / "run"


def stage(name: str, *needs: str, run: str = "alignjax eval", **settings: Any) -> Any:
    if needs:
        settings["dataset"] = needs[0]
    return {"name": name, "run": run, "needs": list(needs), "config": settings}


def diamond(**changes: Any) -> list[Any]:
    """data -> train, other; train -> after. `changes` replaces texts by stage."""
    texts = {"data": "d", "train": "t", "other": "o", "after": "a", **changes}
    return [
        stage("data", run="data-gen run", text=texts["data"]),
        stage("train", "data", run="alignjax train", text=texts["train"]),
        stage("other", "data", text=texts["other"]),
        stage("after", "train", text=texts["after"]),
    ]


@pytest.fixture
def run(work) -> Callable[..., list[str]]:
    """Runs these stages; returns the lines that the script logged this time."""

    def call(listed: list[Any], *, fingerprint: str = "f", **settings: Any):
        log = work / "log"
        before = log.read_text().splitlines() if log.exists() else []
        loaded = config.parse(
            PipelineConfig,
            {"out": str(work), "model": "m", "stages": listed, **settings},
        )
        try:
            pipeline.run(
                loaded,
                fetch=lambda name: (Path("/models") / name, fingerprint + name),
                write_report=lambda out: REPORT,
                environment=os.environ,
                say=lambda line: None,
            )
        finally:
            after = log.read_text().splitlines() if log.exists() else []
            call.lines = after[len(before) :]
        return call.lines

    call.lines = []
    return call


def texts(work: Path) -> dict[str, str]:
    return {path.parent.name: path.read_text() for path in work.glob("*/out.txt")}


def record(work: Path) -> dict[str, Any]:
    return json.loads((work / "pipeline.json").read_text())


def test_stages_run_in_order_and_read_each_other(run, work):
    assert run(diamond()) == ["data", "train", "other", "after"]
    assert texts(work) == {"data": "d", "train": "dt", "other": "do", "after": "dta"}
    found = record(work)
    names = [row["name"] for row in found["stages"]]
    assert names == ["fetch", "data", "train", "other", "after", "report"]
    assert {row["status"] for row in found["stages"]} == {"run"}
    total = sum(row["wall_s"] for row in found["stages"])
    assert found["wall_s"] == pytest.approx(total, abs=0.01)
    assert (found["model"], found["seed"]) == ("m", 0)


def test_a_stages_config_can_be_run_by_hand(run, work):
    run(diamond(), seed=7)
    path = work / "configs" / "train.yaml"
    assert yaml.safe_load(path.read_text()) == {
        "model": "m",
        "seed": 7,
        "text": "t",
        "dataset": "data",
        "out": "train",
    }


def test_the_second_run_runs_nothing(run, work):
    run(diamond())
    assert run(diamond()) == []
    found = record(work)
    status = {row["name"]: row["status"] for row in found["stages"]}
    assert status["train"] == "unchanged"
    names = [row["name"] for row in found["stages"]]
    assert names == ["fetch", "data", "train", "other", "after", "report"]


def test_a_changed_stage_runs_again_with_those_that_read_it(run, work):
    run(diamond())
    assert run(diamond(train="T")) == ["train", "after"]
    assert texts(work) == {"data": "d", "train": "dT", "other": "do", "after": "dTa"}


def test_what_a_changed_stage_made_before_is_kept(run, work):
    run(diamond())
    run(diamond(train="T"))
    run(diamond(train="U"))
    kept = work / "previous"
    assert (kept / "train-1" / "out.txt").read_text() == "dt"
    assert (kept / "train-2" / "out.txt").read_text() == "dT"
    assert sorted(p.name for p in kept.iterdir()) == [
        "after-1",
        "after-2",
        "train-1",
        "train-2",
    ]


def test_data_gen_is_told_to_take_its_folder_over(run):
    assert run(diamond()) == ["data", "train", "other", "after"]
    assert run(diamond(data="D"))[0] == "data --fresh"


def test_a_change_without_effect_on_the_output_ends_there(run):
    """The script writes the first letter only."""
    run(diamond())
    assert run(diamond(train="truth")) == ["train"]


def test_a_changed_or_missing_file_is_made_again(run, work):
    run(diamond())
    (work / "other" / "out.txt").write_text("by hand")
    (work / "after" / "times.txt").unlink()
    assert run(diamond()) == ["other", "after"]
    assert texts(work)["other"] == "do"
    assert not (work / "previous").exists()


def test_seed_weights_and_version_are_inputs(run, monkeypatch):
    """Only train takes the model over."""
    run(diamond())
    everything = ["data --fresh", "train", "other", "after"]
    assert run(diamond(), seed=1) == everything
    assert run(diamond(), seed=1, fingerprint="g") == ["train"]
    monkeypatch.setattr(pipeline.alignjax, "__version__", "9")
    assert run(diamond(), seed=1, fingerprint="g") == everything


def test_files_that_no_stage_makes_are_inputs(run, work, tmp_path):
    seeds = tmp_path / "seeds.txt"
    seeds.write_text("one")
    listed = [stage("data", run="data-gen run", seeds=str(seeds))]
    assert run(listed) == ["data"]
    assert run(listed) == []
    seeds.write_text("two")
    assert run(listed) == ["data --fresh"]


def test_a_wrong_config_of_a_late_stage_is_found_before_anything_is_made(run, work):
    listed = diamond()
    listed[-1]["config"]["wrong"] = 1
    with pytest.raises(ValueError) as caught:
        run(listed)
    assert str(caught.value) == "stage 'after': no field 'wrong'"
    assert run.lines == []
    assert not work.exists()


def test_a_stage_that_fails_is_named_and_the_rest_is_kept(run, work):
    with pytest.raises(ValueError, match="'train' stopped with exit code 3") as caught:
        run([*diamond()[:1], stage("train", "data", run="alignjax train", fail=3)])
    assert "run the same command again" in str(caught.value)
    assert run.lines == ["data", "train"]
    assert run(diamond()) == ["train", "other", "after"]


def test_a_stage_that_was_cut_off_goes_on_in_its_folder(run, work):
    """Twice the same inputs: the folder stays, and the times add up."""
    listed = [stage("train", run="alignjax train", die=True)]
    for _ in range(2):
        with pytest.raises(ValueError, match="'train' was killed by SIGKILL"):
            run(listed)
    assert not (work / "previous").exists()
    (row,) = [row for row in record(work)["stages"] if row["name"] == "train"]
    assert row["status"] == "unfinished"
    assert row["wall_s"] > 0


def test_sigterm_reaches_the_stage(run, work):
    def ask():
        while not (work / "slow" / "sleeping").exists():
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=ask).start()
    began = time.monotonic()
    with pytest.raises(SystemExit) as caught:
        run([stage("slow", sleep=True)])
    assert caught.value.code == 143
    assert time.monotonic() - began < 30
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_one_pipeline_at_a_time(run, work, hold_lock):
    run(diamond())
    holder = hold_lock(work)
    with pytest.raises(ValueError, match="another pipeline is at work in this"):
        run(diamond())
    holder.kill()
    holder.wait()
    assert run(diamond()) == []


def test_a_folder_that_is_no_pipelines_is_refused(run, work):
    work.mkdir()
    (work / "thesis.txt").write_text("mine")
    with pytest.raises(ValueError, match="is not empty and holds no pipeline"):
        run(diamond())
    assert [path.name for path in work.iterdir()] == ["thesis.txt"]


def test_a_damaged_record_is_named(run, work):
    run(diamond())
    path = work / "pipeline.json"
    path.write_text(path.read_text()[:-20])
    with pytest.raises(ValueError, match=r"pipeline\.json is not valid JSON"):
        run(diamond())
    path.write_text('{"stages": [{"name": "a"}]}')
    with pytest.raises(ValueError, match=r"pipeline\.json: damaged"):
        run(diamond())


@pytest.mark.parametrize(
    ("listed", "message"),
    [
        ([], "stages is empty"),
        ([stage("a", run="rm -rf")], "run is 'rm -rf'; a stage runs one of: data-gen"),
        ([stage("../a")], "name '../a' must be letters, digits, - and _"),
        ([stage("report")], "name 'report' is the pipeline's own"),
        ([stage("a", out="b")], "config.out is not read"),
        ([stage("a"), stage("a")], "two stages are named 'a'"),
        ([stage("a", "b"), stage("b")], "stage 'a' needs 'b', which is not an earlier"),
        (
            [stage("a"), stage("b", adapter="a/adapter")],
            "stage 'b' reads 'a'; list it in needs",
        ),
    ],
)
def test_wrong_stages_are_named(listed, message):
    with pytest.raises(ValueError) as caught:
        config.parse(PipelineConfig, {"out": "o", "model": "m", "stages": listed})
    assert message in str(caught.value)


TYPES = ["lowercase", "no_commas", "exclamations_min"]


@pytest.fixture
def whole(tiny_llama, tiny_encoder, tmp_path) -> Path:
    """The config of the whole way: data, evaluation, training, evaluation."""
    short = {"max_new_tokens": 32, "slots": 8, "context": 224, "pairs": 4}
    gates = {"min_words": 2, "max_repetition": 1.0, "min_similarity": -1.0}
    evaluation = {**short, "gates": gates}
    content = {
        "out": str(tmp_path / "run"),
        "model": str(tiny_llama),
        "embedder": str(tiny_encoder),
        "stages": [
            {
                "name": "data",
                "run": "data-gen run",
                "config": {
                    "limit": 24,
                    "engine": {"slots": 8, "context": 224},
                    "gates": gates,
                    "ecd": {
                        "types": TYPES,
                        "rounds": 1,
                        "samples": 2,
                        "base_samples": 4,
                        "base_temperature": 1.0,
                        "max_new_tokens": 32,
                        "max_witness_share": 1.0,
                        "held_out": 2,
                    },
                    "evaluation": {"types": TYPES, "prompts_per_type": 2},
                },
            },
            {
                "name": "eval-before",
                "run": "alignjax eval",
                "needs": ["data"],
                "config": {"dataset": "data", **evaluation},
            },
            {
                "name": "train",
                "run": "alignjax train",
                "needs": ["data"],
                "config": {
                    "dataset": "data",
                    "adapter": {"rank": 4, "alpha": 8.0},
                    "batch": {"rows": 2, "time": 512, "block": 256, "scored": 192},
                    "epochs": 2,
                },
            },
            {
                "name": "eval-after",
                "run": "alignjax eval",
                "needs": ["data", "eval-before", "train"],
                "config": {
                    "dataset": "data",
                    "adapter": "train/adapter",
                    "references": "eval-before",
                    **evaluation,
                },
            },
        ],
    }
    path = tmp_path / "pipeline.yaml"
    path.write_text(strict_yaml.write(content))
    return path


def test_the_whole_way(whole, tmp_path, home, monkeypatch, capfd):
    """Real commands, each a process. Then again: nothing is run."""
    monkeypatch.setenv("ALIGNJAX_HOME", str(home))
    out = tmp_path / "run"
    assert cli.main(["pipeline", str(whole)]) == 0, capfd.readouterr().err
    shown = capfd.readouterr()
    assert "[4/4] eval-after: alignjax eval" in shown.err
    assert f"report: {out / 'report.html'}" in shown.out
    for name in ("before", "after"):
        results = json.loads((out / f"eval-{name}" / "results.json").read_text())
        assert results["constraint"]["n"] == 6
    report = json.loads((out / "report.json").read_text())
    assert report["pairs"] > 0
    summary = json.loads((out / "train" / "summary.json").read_text())
    assert summary["pairs"] > 0
    before = {path: path.read_bytes() for path in out.glob("*/*.json*")}

    assert cli.main(["pipeline", str(whole)]) == 0
    assert capfd.readouterr().err.count("unchanged, not run again") == 4
    assert {path: path.read_bytes() for path in out.glob("*/*.json*")} == before


def test_a_stage_that_fails_gives_a_line_and_exit_status_2(
    whole, home, monkeypatch, capfd
):
    """The stage's own line comes first, the pipeline's after it."""
    monkeypatch.setenv("ALIGNJAX_HOME", str(home))
    status = cli.main(["pipeline", str(whole), "stages.0.config.seeds=none.txt"])
    assert status == 2
    lines = capfd.readouterr().err.strip().splitlines()
    assert lines[-2].startswith("data-gen: none.txt: no such seed file")
    assert lines[-1].startswith("alignjax pipeline: stage 'data' stopped with exit")
