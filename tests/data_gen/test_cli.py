# SPDX-License-Identifier: Apache-2.0
"""The command: help at once, mistakes in one line, exit statuses."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from data_gen import cli
from data_gen import run as runs

sys.path.insert(0, str(Path(__file__).parent))
import scripts

CONFIG = """
model: models/none
out: {out}
limit: 14
ecd:
  types: [lowercase, no_commas]
  rounds: 1
  samples: 2
evaluation:
  types: [lowercase]
  prompts_per_type: 2
"""


@pytest.fixture
def path(tmp_path, monkeypatch) -> Path:
    """A config whose local engine is a scripted one."""
    monkeypatch.setattr(runs, "_local_engine", lambda config, locate: scripts.engine())
    path = tmp_path / "run.yaml"
    path.write_text(CONFIG.format(out=tmp_path / "data"))
    return path


def test_help_is_quick_and_imports_nothing_heavy(root):
    code = (
        "import sys\n"
        "from data_gen import cli\n"
        "try: cli.main(['--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'jax', 'numpy', 'pyarrow', 'transformers', 'rich', 'yaml'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
    )
    start = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "data-gen run my.yaml" in done.stdout
    assert time.monotonic() - start < 1


def test_run_verify_and_report(path, tmp_path, capsys):
    assert cli.main(["run", str(path), "--limit", "16", "ecd.samples=3"]) == 0
    assert cli.main(["verify", str(tmp_path / "data")]) == 0
    assert "all good" in capsys.readouterr().out
    assert cli.main(["report", str(tmp_path / "data")]) == 0
    shown = capsys.readouterr().out
    assert "How far it got" in shown
    assert "evaluation prompts" in shown


def test_verify_exits_1_with_a_line_per_failure(path, tmp_path, capsys):
    cli.main(["run", str(path)])
    (tmp_path / "data" / "prompts.jsonl").write_text("")
    capsys.readouterr()
    assert cli.main(["verify", str(tmp_path / "data")]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("FAIL: prompts.jsonl: sha256")
    assert lines[-1].endswith("1 failures")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "none.yaml"], "none.yaml: no such config file"),
        (["run", "{path}", "ecd.sampels=3"], "did you mean 'samples'?"),
        (["run", "{path}", "--seeds", "none.txt"], "none.txt: no such seed file"),
        (["run", "{path}", "--out", "{path}/data"], "run.yaml"),
        (["run", "{path}", "--embedder", "none"], "'none' is not a model"),
        (["verify", "nowhere"], "nowhere has no manifest.json"),
        (["report", "nowhere"], "report.json: no such file"),
    ],
)
def test_a_mistake_is_one_line(path, arguments, message, capsys):
    status = cli.main([word.format(path=path) for word in arguments])
    error = capsys.readouterr().err
    assert status == 2
    assert error.startswith("data-gen: ") and message in error
    assert error.count("\n") == 1


def test_an_interrupt_is_130_and_says_how_to_go_on(path, monkeypatch, capsys):
    def stop(messages, sample):
        raise KeyboardInterrupt

    interrupted = scripts.engine()
    interrupted.rule = stop
    monkeypatch.setattr(runs, "_local_engine", lambda config, locate: interrupted)
    assert cli.main(["run", str(path)]) == 130
    assert "same command again" in capsys.readouterr().err
    monkeypatch.setattr(runs, "_local_engine", lambda config, locate: scripts.engine())
    assert cli.main(["run", str(path)]) == 0


def test_words_that_are_no_override_are_refused(path, capsys):
    with pytest.raises(SystemExit):
        cli.main(["run", str(path), "--nope"])
    assert "unrecognized arguments: --nope" in capsys.readouterr().err
    assert cli.main(["run", str(path), "--limit", "20", "nonsense"]) == 2
    assert "expected field=value" in capsys.readouterr().err
