# SPDX-License-Identifier: Apache-2.0
"""`alignjax sample` and `alignjax chat`: with a tiny model, in processes that are
stopped, and with wrong inputs."""

from __future__ import annotations

import contextlib
import io
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy

from alignjax import cli
from alignjax.sampling import sampler

OPTIONS = ["--slots", "4", "--context", "96", "--max-new-tokens", "16"]
LINES = [
    {"prompt": "Say it.", "id": "x"},
    {"text": "The old", "n": 2, "settings": {"temperature": 0}},
    {"prompt": "Say it.", "settings": {"temperature": -1}},
]


@pytest.fixture
def folder(
    tmp_path: Path, tiny_llama: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """The working directory, with a model, a prompts file and an adapter that changes
    the answers."""
    monkeypatch.setenv("ALIGNJAX_HOME", str(home))
    monkeypatch.chdir(tmp_path)
    shutil.copytree(tiny_llama, tmp_path / "model")
    write(tmp_path / "prompts.jsonl", LINES)
    return tmp_path


def write(path: Path, lines: list[Any]) -> None:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def sample(*arguments: str, out: str = "answers.jsonl") -> int:
    words = ["sample", "prompts.jsonl", "--model", "model", "--out", out, *OPTIONS]
    return cli.main([*words, *arguments])


def fails(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The one line that a command fails with."""
    status = cli.main(arguments)
    error = capsys.readouterr().err
    assert status == 2, error
    assert error.count("\n") == 1, error
    assert error.startswith(f"alignjax {arguments[0]}: ")
    return error.removeprefix(f"alignjax {arguments[0]}: ").strip()


def test_prompts_become_answers(folder: Path, capsys: pytest.CaptureFixture[str]):
    assert sample("--samples", "3", "--logprobs") == 0
    told = capsys.readouterr().out.splitlines()
    found = rows(folder / "answers.jsonl")
    assert [(row["id"], row["sample"]) for row in found] == [
        ("x", 0), ("x", 1), ("x", 2), ("2", 0), ("2", 1), ("3", 0)
    ]  # fmt: skip
    *answered, refused = found
    assert len({row["text"] for row in answered[:3]}) > 1
    assert answered[3]["text"] == answered[4]["text"]  # greedy
    for row in answered:
        assert row["finish_reason"] in ("stop", "length")
        assert 0 < len(row["tokens"]) <= 16
        assert len(row["logprobs"]) == len(row["tokens"])
        assert row["logprob"] == pytest.approx(sum(row["logprobs"]))
    assert refused["reason"].startswith("line 3: settings: temperature must be")
    tokens = sum(len(row["tokens"]) for row in answered)
    assert told[0].startswith(f"5 answers, {tokens} tokens in ")
    assert told[0].endswith(" of the slots useful: answers.jsonl")
    assert told[1] == "1 refused, with the reason in the file:"
    assert told[2].startswith("  line 3: settings: temperature")


def test_a_line_repeats_an_answer_by_its_seed(folder: Path):
    """What a row tells is enough to sample it again."""
    assert sample() == 0
    first = rows(folder / "answers.jsonl")[0]
    write(folder / "prompts.jsonl", [{"prompt": "Say it.", "seed": first["seed"]}])
    assert sample("--seed", "99", out="again.jsonl") == 0
    (again,) = rows(folder / "again.jsonl")
    assert (again["text"], again["tokens"]) == (first["text"], first["tokens"])


def test_answers_go_to_standard_output(folder: Path, capfd: pytest.CaptureFixture[str]):
    """Only they; as they are in a file."""
    assert sample() == 0
    capfd.readouterr()
    assert sample(out="-") == 0
    shown, noted = capfd.readouterr()
    key = {json.loads(line)["key"]: line for line in shown.splitlines()}
    lines = (folder / "answers.jsonl").read_text().splitlines()
    assert sorted(key.values()) == sorted(lines)
    assert "3 answers, " in noted
    assert "1 refused, with the reason in the file" in noted


def test_a_reader_may_leave_early(folder: Path, root: Path, home: Path):
    """As `head -1` does: no traceback."""
    write(folder / "prompts.jsonl", [{"prompt": "Say it."}] * 64)
    with started(root, home, ["sample", *arguments(out="-")]) as process:
        assert process.stdout is not None and process.stderr is not None
        assert json.loads(process.stdout.readline())["sample"] == 0
        process.stdout.close()
        assert process.wait(60) == 0
        assert "Error" not in process.stderr.read()


def test_prompts_come_from_standard_input(
    folder: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"Say it.\nAgain.")))
    words = ["sample", "-", "--model", "model", "--out", "a.jsonl", *OPTIONS]
    assert cli.main(words) == 0
    assert [row["id"] for row in rows(folder / "a.jsonl")] == ["1", "2"]


def test_nothing_but_refused_lines_is_status_1(
    folder: Path, capsys: pytest.CaptureFixture[str]
):
    write(folder / "prompts.jsonl", [{"promt": "a"}])
    assert sample() == 1
    assert "1 refused" in capsys.readouterr().out


def test_an_adapter_changes_answers_and_keys(folder: Path):
    """Its factors are of ones, for every layer."""
    names = {"q_proj": (64, 64), "o_proj": (64, 64)}
    tensors = {}
    for layer in range(2):
        for name, (size_out, size_in) in names.items():
            place = f"base_model.model.model.layers.{layer}.self_attn.{name}"
            rng = np.random.default_rng(layer)
            for factor, shape in (("A", (2, size_in)), ("B", (size_out, 2))):
                value = rng.normal(size=shape).astype(np.float32)
                tensors[f"{place}.lora_{factor}.weight"] = value
    about = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, "target_modules": [*names]}
    (folder / "adapter").mkdir()
    safetensors.numpy.save_file(tensors, folder / "adapter/adapter_model.safetensors")
    (folder / "adapter/adapter_config.json").write_text(json.dumps(about))
    assert sample() == sample("--adapter", "adapter", out="adapted.jsonl") == 0
    base, adapted = rows(folder / "answers.jsonl"), rows(folder / "adapted.jsonl")
    assert base[0]["tokens"] != adapted[0]["tokens"]
    assert not {row["key"] for row in base} & {row["key"] for row in adapted}


# The processes that are stopped.

MANY = [{"prompt": f"Say it {i}.", "n": 3} for i in range(150)]


def arguments(out: str = "answers.jsonl") -> list[str]:
    return ["prompts.jsonl", "--model", "model", "--out", out, *OPTIONS]


@contextlib.contextmanager
def started(
    root: Path, home: Path, words: list[str], stdin: Any = subprocess.DEVNULL
) -> Iterator[subprocess.Popen[str]]:
    """A command as a process, in the working directory."""
    environment = {
        **os.environ,
        "ALIGNJAX_HOME": str(home),
        "PYTHONPATH": str(root),
        "PYTHONUNBUFFERED": "1",
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "alignjax.cli", *words],
        env=environment,
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


def stopped(root: Path, home: Path, out: Path, *, least: int, by: int) -> str:
    """Sends a signal to a run once its file has `least` lines; returns its stderr."""
    with started(root, home, ["sample", *arguments(out.name)]) as process:
        deadline = time.monotonic() + 120
        while not out.exists() or out.read_bytes().count(b"\n") < least:
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.002)
        process.send_signal(by)
        error = process.communicate(timeout=60)[1]
        assert process.returncode == (130 if by == signal.SIGINT else -by), error
    return error


def test_a_run_that_is_stopped_and_killed_ends_as_one_that_was_not(
    folder: Path, root: Path, home: Path, capsys: pytest.CaptureFixture[str]
):
    """Ctrl-C after 20 of 450 answers, SIGKILL after 150, and half a line as a kill may
    leave it: the same bytes, and no answer is lost."""
    write(folder / "prompts.jsonl", MANY)
    assert sample(out="clean.jsonl") == 0
    clean = (folder / "clean.jsonl").read_bytes()
    assert clean.count(b"\n") == 450

    out = folder / "answers.jsonl"
    error = stopped(root, home, out, least=20, by=signal.SIGINT)
    assert "interrupted; run the same command again to continue" in error
    first = out.read_bytes()
    assert first.endswith(b"\n")
    assert 20 <= first.count(b"\n") < 150

    stopped(root, home, out, least=150, by=signal.SIGKILL)
    second = out.read_bytes()
    assert second.startswith(first)
    kept = second.count(b"\n")
    assert 150 <= kept < 450

    out.write_bytes(second + clean.splitlines()[-1][:40])
    capsys.readouterr()
    assert sample() == 0
    assert out.read_bytes() == clean
    told = capsys.readouterr().out
    assert told.startswith(f"{450 - kept} answers, ")
    assert f"; {kept} lines were there already" in told
    assert sample() == 0
    assert "nothing was left to do" in capsys.readouterr().out
    assert sorted(path.name for path in folder.iterdir()) == [
        "answers.jsonl", "clean.jsonl", "model", "prompts.jsonl"
    ]  # fmt: skip


def test_what_is_missing_is_sampled_as_it_would_have_been(folder: Path):
    """Every other answer, and samples that are asked for later; seven samples of a
    prompt, three of which read one copy of it."""
    lines = [{"prompt": f"Say it {i}.", "n": 7} for i in range(8)]
    write(folder / "prompts.jsonl", lines)
    assert sample("--share", "3") == 0
    out = folder / "answers.jsonl"
    clean = out.read_bytes()
    out.write_bytes(b"".join(clean.splitlines(keepends=True)[::2]))
    assert sample("--share", "3") == 0
    assert out.read_bytes() == clean

    write(folder / "prompts.jsonl", [{**line, "n": 2} for line in lines[:5]])
    assert sample("--share", "3", out="grown.jsonl") == 0
    write(folder / "prompts.jsonl", lines)
    assert sample("--share", "3", out="grown.jsonl") == 0
    assert (folder / "grown.jsonl").read_bytes() == clean


def test_two_processes_do_not_write_one_file(
    folder: Path, root: Path, home: Path, capsys: pytest.CaptureFixture[str]
):
    write(folder / "prompts.jsonl", MANY)
    with started(root, home, ["sample", *arguments()]) as process:
        while not (folder / "answers.jsonl.lock").exists():
            assert process.poll() is None, process.communicate()
            time.sleep(0.01)
        error = fails(["sample", *arguments()], capsys)
    assert error.startswith("answers.jsonl: another sampling is at work on this file (")
    assert f"pid {process.pid} " in error
    assert error.endswith("wait for it, stop it, or choose another --out")


def test_the_reader_of_a_chat_may_leave_early(folder: Path, root: Path, home: Path):
    """The first answer goes to a closed pipe; the other turns are not answered."""
    with started(root, home, CHAT, stdin=subprocess.PIPE) as process:
        assert process.stdin and process.stdout and process.stderr
        process.stdout.close()
        process.stdin.write("Say it.\n" * 3)
        process.stdin.close()
        assert process.wait(60) == 0
        shown = process.stderr.read()
    assert "roken pipe" not in shown and "Traceback" not in shown


def test_a_full_device_is_one_line(folder: Path, root: Path, home: Path):
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    done = subprocess.run(
        [sys.executable, "-m", "alignjax.cli", "sample", *arguments(out="-")],
        stdout=open("/dev/full", "w"),  # noqa: SIM115  (closed with the process)
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(root), "ALIGNJAX_HOME": str(home)},
        check=False,
    )
    assert done.returncode == 2
    told = done.stderr.splitlines()[-1]
    assert told == "alignjax sample: standard output: No space left on device"


# Wrong inputs.


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["none.jsonl"], "none.jsonl: no such file; expected a .jsonl or .txt file"),
        (["model"], "model: is a folder; expected a .jsonl or .txt file"),
        (["empty.txt"], "empty.txt: holds no prompts; add one a line"),
        (["binary.bin"], "binary.bin: not UTF-8 at byte 0; expected JSONL or text"),
        (["--model", "none"], "'none' is not a model (expected smollm2, minilm, a f"),
        (["--model", "smolm2"], "'smolm2' is not a model; did you mean 'smollm2'?"),
        (["--model", "prompts.jsonl"], "prompts.jsonl: is a file; pass the folder of"),
        (["--adapter", "none"], "none/adapter_config.json: no such file; give --adapt"),
        (["--out", "none/a.jsonl"], "none/a.jsonl: the folder none does not exist; ma"),
        (["--out", "model"], "model: is a folder; give --out the name of a file"),
        (["--out", "prompts.jsonl"], "prompts.jsonl:1: is no answer of `alignjax sam"),
        (["--out", "/dev/null"], "/dev/null: is not a regular file; --out - writes t"),
        (["--temperature", "-1"], "temperature must be 0 (greedy) or at least 1e-30,"),
        (["--temperature", "nan"], "temperature: expected a float, got NaN"),
        (["--top-p", "0"], "top_p must be in (0, 1], got 0"),
        (["--top-k", "-1"], "top_k must be 0 (all) or above, got -1"),
        (["--min-p", "1"], "min_p must be in [0, 1), got 1"),
        (["--repetition-penalty", "0"], "repetition_penalty must be > 0"),
        (["--max-new-tokens", "0"], "max_new_tokens must be > 0, got 0"),
        (["--stop", ""], "stop: an empty text would end every answer at once"),
        (["--samples", "0"], "samples must be from 1 to 65536, got 0"),
        (["--seed", "-1"], "seed must be in [0, 2^31), got -1"),
        (["--limit", "0"], "limit must be > 0, got 0; leave it out to take all"),
        (["--slots", "0"], "slots must be > 0, got 0"),
        (["--share", "0"], "share must be > 0, got 0"),
        (["--context", "257"], "context 257 exceeds the model's 256"),
        (["--context", "0"], "--context must be > 0, got 0"),
        (["--context", "16"], "--max-new-tokens 16 leaves no room for a prompt in a"),
        (["--tensor", "3"], "tensor must divide the number of devices, 1, got 3"),
    ],
)  # fmt: skip
def test_a_wrong_input_is_one_line(
    folder: Path, words: list[str], message: str, capsys: pytest.CaptureFixture[str]
):
    (folder / "empty.txt").write_text("\n")
    (folder / "binary.bin").write_bytes(b"\xff\xfe")
    given = arguments()
    given = [*words, *given[1:]] if not words[0].startswith("-") else [*given, *words]
    before = {path: path.read_bytes() for path in folder.glob("*.*")}
    error = fails(["sample", *given], capsys)
    assert message in error
    assert {path: path.read_bytes() for path in folder.glob("*.*")} == before


def test_a_file_of_another_command_is_refused_until_it_is_fresh(
    folder: Path, capsys: pytest.CaptureFixture[str]
):
    assert sample() == 0
    capsys.readouterr()
    before = (folder / "answers.jsonl").read_bytes()
    for change in (["--seed", "1"], ["--slots", "12"], ["--dtype", "bfloat16"]):
        error = fails(["sample", *arguments(), *change], capsys)
        assert "answers are not of this command, the first on line 1" in error
        assert "choose another --out, remove the file, or add --fresh" in error
        assert (folder / "answers.jsonl").read_bytes() == before
    write(folder / "prompts.jsonl", [LINES[0], {"prompt": "New."}])
    assert sample("--fresh") == 0
    assert "1 answers, " in capsys.readouterr().out.splitlines()[-1]
    assert (folder / "answers.jsonl").read_bytes().splitlines()[0] in before


def test_too_little_memory_is_one_line(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    import jax

    def full(*arguments: object, **options: object) -> None:
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory")

    monkeypatch.setattr(sampler.Sampler, "generate", full)
    error = fails(["sample", *arguments()], capsys)
    assert error == (
        "the device has not enough memory; lower --slots or --context, or use --dtype "
        "bfloat16"
    )


# Chat.

CHAT = ["chat", "--model", "model", "--max-new-tokens", "16", "--context", "128"]


def talk(lines: str, monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(lines.encode())))
    return cli.main([*CHAT, *words])


def test_a_chat_from_a_pipe(
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
):
    """The answers alone are on standard output; the same seed says the same."""
    said = "Say it.\n/save one.jsonl\nAgain.\n/undo\n/save two.jsonl\n"
    assert talk(said, monkeypatch, "--seed", "3", "--system", "Be brief.") == 0
    shown, noted = capsys.readouterr()
    first, _ = (rows(folder / f"{name}.jsonl")[0] for name in ("one", "two"))
    assert (folder / "one.jsonl").read_text() == (folder / "two.jsonl").read_text()
    system, user, assistant = first["messages"]
    assert (system["content"], user["content"]) == ("Be brief.", "Say it.")
    assert shown.startswith(assistant["content"] + "\n")
    assert noted.startswith("model is ready (")
    assert "[taken back: Again.]" in noted
    assert talk(said[:8], monkeypatch, "--seed", "3", "--system", "Be brief.") == 0
    assert capsys.readouterr().out == assistant["content"] + "\n"


def test_a_long_chat_forgets_its_oldest_turns(
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
):
    assert talk("Say it.\n" * 9, monkeypatch) == 0
    shown, noted = capsys.readouterr()
    assert shown.count("\n") >= 9
    assert "exceeds the context of 128 tokens: the model no longer sees" in noted


def test_an_interrupt_stops_an_answer_and_the_chat_goes_on(
    folder: Path, root: Path, home: Path
):
    """A greedy answer of 200 tokens, stopped while it is written."""
    words = ["chat", "--model", "model", "--max-new-tokens", "200"]
    greedy = ["--temperature", "0", "--stop", "never said"]
    with started(root, home, [*words, *greedy], subprocess.PIPE) as process:
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write("Say it.\n")
        process.stdin.flush()
        assert process.stdout.read(4)
        process.send_signal(signal.SIGINT)
        process.stdin.write("/save talk.jsonl\nAgain.\n")
        process.stdin.close()
        process.stdin = None
        _, noted = process.communicate(timeout=120)
    assert process.returncode == 0, noted
    assert "[stopped]" in noted
    user, assistant = rows(folder / "talk.jsonl")[0]["messages"]
    assert user["content"] == "Say it."
    assert len(assistant["content"]) >= 4


_IN_TERMINAL = """
import fcntl, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)  # so that Ctrl-C reaches this process
from alignjax import cli
sys.exit(cli.main(sys.argv[1:]))
"""


@pytest.mark.parametrize("leave", [b"\x03", b"\x04"], ids=["ctrl-c", "ctrl-d"])
def test_a_chat_in_a_terminal(folder: Path, root: Path, home: Path, leave: bytes):
    """A prompt, the answer, the prompt again; then the keys that leave."""
    ours, theirs = os.openpty()
    environment = {**os.environ, "ALIGNJAX_HOME": str(home), "TERM": "dumb"}
    process = subprocess.Popen(
        [sys.executable, "-c", _IN_TERMINAL, *CHAT],
        env={**environment, "PYTHONPATH": str(root)},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    shown = b""

    def wait_for(text: bytes, times: int) -> None:
        nonlocal shown
        while shown.count(text) < times:
            assert select.select([ours], [], [], 120)[0], shown
            shown += os.read(ours, 4096)

    with process:
        try:
            wait_for(b"\n> ", 1)
            os.write(ours, b"Say it.\n")
            wait_for(b"\n> ", 2)
            # A signal between showing the prompt and waiting for a key is seen with
            # the next one only.
            for _ in range(60):
                os.write(ours, leave)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(1)
                    break
            assert process.returncode == 0
        finally:
            process.kill()
            os.close(ours)
    before, _, after = shown.partition(b"> Say it.\r\n")
    assert b"model is ready (" in before
    assert len(after) > len(b"\r\n> ")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--model", "none"], "'none' is not a model"),
        (["--temperature", "-1"], "temperature must be 0 (greedy) or at least"),
        (["--context", "257"], "context 257 exceeds the model's 256"),
        (["--context", "0"], "--context must be > 0, got 0"),
        (["--context", "16"], "max_new_tokens 16 leaves no room for the conversation"),
        (["--seed", "-1"], "seed must be in [0, 2^31), got -1"),
        (["--adapter", "none"], "none/adapter_config.json: no such file"),
    ],
)
def test_a_wrong_option_of_chat_is_one_line(
    folder: Path, words: list[str], message: str, capsys: pytest.CaptureFixture[str]
):
    assert message in fails([*CHAT, *words], capsys)


def test_a_model_without_a_template_cannot_chat(
    folder: Path, capsys: pytest.CaptureFixture[str]
):
    path = folder / "model" / "tokenizer_config.json"
    settings = json.loads(path.read_text())
    del settings["chat_template"]
    path.write_text(json.dumps(settings))
    error = fails(CHAT, capsys)
    assert error.startswith("model: tokenizer_config.json has no chat_template; use an")
