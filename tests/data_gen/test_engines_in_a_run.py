# SPDX-License-Identifier: Apache-2.0
"""Runs with servers and with several engines: claimed, exported, resumed, reported."""

import dataclasses
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from data_gen import cli, records
from data_gen.engines.choice import LocalModel, OpenAIServer
from data_gen.engines.openai import sample_seed
from data_gen.engines.scripted import ScriptedEngine
from data_gen.records import Message
from data_gen.run import run
from data_gen.store import Store
from data_gen.strategies.ecd import ECD
from data_gen.verify import verify

sys.path.insert(0, str(Path(__file__).parent))
import fault_server
import scripts
from fault_server import Server

EXPORTED = ("examples.parquet", "rejected.parquet", "prompts.jsonl", "manifest.json")
KEY = "sk-canary-0123456789abcdef"
CONFIG = """
model: tiny
out: {out}
limit: 16
embedder: hashed-ngrams
engine:
  kind: openai
  base_url: {url}
  key: TEST_API_KEY
  identity: tiny, scripted
  concurrency: 4
  prompt_price: 2.0
  completion_price: 10.0
ecd: {{types: [lowercase, no_commas, words_max], samples: 3, max_new_tokens: 60}}
self_contrast: {{prompts: 3, samples: 4, max_new_tokens: 60}}
"""


def exported(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in EXPORTED}


def as_scripted(handler, body):
    """The scripted model as a server; the seed is the sample."""
    messages = tuple(Message(**message) for message in body["messages"])
    content = scripts.answer(messages, body["seed"])
    choice = {"message": {"content": content}, "finish_reason": "stop"}
    handler.send(200, json.dumps(fault_server.reply(body, choices=[choice])))


@pytest.fixture(scope="module")
def server():
    with Server(lambda body, attempt: as_scripted, delay_s=0.04) as server:
        yield server


@pytest.fixture
def start(server, root, tmp_path):
    """Starts `data-gen run` on the server in a process of its own."""
    path = tmp_path / "run.yaml"
    path.write_text(CONFIG.format(out=tmp_path / "data", url=server.url))

    def start(out: Path, *words: str) -> subprocess.Popen:
        return subprocess.Popen(
            [sys.executable, "-m", "data_gen.cli", "run", path, "--out", out, *words],
            env={**os.environ, "PYTHONPATH": str(root), "TEST_API_KEY": KEY},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    return start


def stored(folder: Path) -> set[tuple[str, float, int]]:
    """(messages, temperature, seed as sent) of all samples in the store."""
    path = folder / "cache.sqlite"
    if not path.exists():
        return set()
    try:
        with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as db:
            rows = db.execute(
                "SELECT r.request, g.sample FROM generations g "
                "JOIN requests r ON r.id = g.request"
            ).fetchall()
    except sqlite3.OperationalError:
        return set()  # the tables are not there yet
    asked = [(json.loads(request), sample) for request, sample in rows]
    return {
        (
            json.dumps(request["messages"]),
            request["settings"]["temperature"],
            sample_seed(request["seed"], sample),
        )
        for request, sample in asked
    }


def sent(bodies) -> list[tuple[str, float, int]]:
    return [
        (
            json.dumps(
                [{"content": m["content"], "role": m["role"]} for m in messages]
            ),
            body["temperature"],
            body["seed"],
        )
        for body in bodies
        for messages in [body["messages"]]
    ]


def test_a_killed_run_pays_for_no_stored_sample_again(server, start, tmp_path):
    """SIGKILL with about 8 and 25 samples in the store; what is in it is never sent
    again, and the export is that of a run without kills. What is lost with a kill was
    in flight, or waited to be stored: at most twice four."""
    out = tmp_path / "data"
    first = len(server.bodies)
    paid: list[tuple[int, set]] = []
    for count in (8, 25):
        process = start(out)
        while process.poll() is None and len(stored(out)) < count:
            time.sleep(0.01)
        assert process.poll() is None, "the run ended before it could be killed"
        process.send_signal(signal.SIGKILL)
        process.wait()
        paid.append((len(server.bodies), stored(out)))
    process = start(out)
    shown, _ = process.communicate(timeout=60)
    assert process.returncode == 0, shown
    for at, known in paid:
        assert len(known) >= 8
        assert not known & set(sent(server.bodies[at:]))
    requests = len(server.bodies) - first
    assert len(stored(out)) <= requests <= len(stored(out)) + 2 * 8
    other = tmp_path / "clean"
    process = start(other)
    clean, _ = process.communicate(timeout=60)
    assert process.returncode == 0, clean
    assert exported(out) == exported(other)
    assert verify(out).failures == ()
    everything = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    assert KEY not in shown + clean
    assert not any(KEY.encode() in content for content in everything)

    report = json.loads((out / "report.json").read_text())
    usage = report["servers"]["default"]
    assert usage["samples"] == report["samples"] == len(stored(out))
    assert usage["prompt_tokens"] == 7 * usage["samples"]
    assert usage["completion_tokens"] == report["tokens"] == 11 * usage["samples"]
    assert usage["cost"] == pytest.approx((7 * 2 + 11 * 10) / 1e6 * usage["samples"])
    assert usage["models"] == ["tiny-2026-01-01"]
    assert usage["system_fingerprints"] == ["fp_1"]
    assert f"engine default: {usage['samples']} samples in" in shown
    manifest = records.read_manifest(out)
    assert manifest["model_fingerprint"] == "declared:tiny"
    example = records.read_examples(out)[0]
    assert example.provenance["engine"]["server"] == "tiny, scripted"
    assert "system_fingerprint" not in json.dumps(example.provenance)
    assert example.negatives[0].sum_logprob is None


def test_how_a_server_is_asked_is_no_part_of_the_run(server, start, tmp_path):
    """Its address has a name, and prices and patience decide nothing: the same folder,
    and no request. Another model there is another run."""
    out = tmp_path / "data"
    process = start(out)
    shown, _ = process.communicate(timeout=60)
    assert process.returncode == 0, shown
    before, requests = exported(out), len(server.bodies)
    moved = f"engine.base_url={server.url.replace('127.0.0.1', 'localhost')}"
    process = start(out, moved, "engine.concurrency=9", "engine.prompt_price=1")
    shown, _ = process.communicate(timeout=60)
    assert process.returncode == 0, shown
    assert exported(out) == before and len(server.bodies) == requests
    process = start(out, "--model", "other")
    shown, _ = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "(what differs: the model's weights; digest" in shown
    assert len(server.bodies) == requests


def test_a_server_that_fails_ends_a_run_that_can_go_on(tmp_path, capsys, monkeypatch):
    """Half of the way the server breaks: exit status 2, one line, and what came is
    kept. With the server back, the same command ends well."""
    monkeypatch.setenv("TEST_API_KEY", KEY)
    numbers = iter(range(10**6))
    is_broken = True

    def fault(body, attempt):
        if is_broken and next(numbers) > 30:
            return fault_server.error(401, f"key {KEY} has expired")
        return as_scripted

    path = tmp_path / "run.yaml"
    with Server(fault) as server:
        path.write_text(CONFIG.format(out=tmp_path / "data", url=server.url))
        assert cli.main(["run", str(path)]) == 2
        error = capsys.readouterr().err.splitlines()[-1]
        assert error.startswith("data-gen: engine default (http://127.0.0.1:")
        assert (
            "HTTP 401: key *** has expired (the API key is missing or wrong)" in error
        )
        assert "give the same command again" in error
        kept = len(stored(tmp_path / "data"))
        assert kept == 31
        is_broken, before = False, len(server.bodies)
        assert cli.main(["run", str(path)]) == 0
        assert len(server.bodies) - before == len(stored(tmp_path / "data")) - kept


# Several engines


def small(out: Path, **changes):
    ecd = ECD(types=("lowercase", "no_commas"), rounds=1, samples=2, held_out=1)
    only = {"limit": 8, "ecd": ecd, "self_contrast": None, "evaluation": None}
    return scripts.config(out, **{**only, **changes})


def strong():
    return ScriptedEngine(scripts.answer, "strong")


def test_a_run_without_named_engines_is_what_it_was(tmp_path):
    """Nothing in the manifest, in the folder's claim, or in the settings' digest."""
    config = small(tmp_path / "a")
    run(config, engine=scripts.engine())
    for name in ("manifest.json", "run.json"):
        content = json.loads((tmp_path / "a" / name).read_text())
        assert "engine_fingerprints" not in json.dumps(content)
    named = dataclasses.replace(
        config, out=str(tmp_path / "b"), engines={"strong": LocalModel("some/where")}
    )
    run(named, engine=scripts.engine(), engines={"strong": strong()})
    for name in EXPORTED[:3]:
        first, second = (tmp_path / side / name for side in "ab")
        assert first.read_bytes() == second.read_bytes()


def test_each_engine_is_in_the_manifest_and_part_of_the_run(tmp_path):
    config = small(tmp_path)
    run(config, engine=scripts.engine(), engines={"strong": strong()})
    manifest = records.read_manifest(tmp_path)
    assert manifest["engine_fingerprint"] == scripts.engine().fingerprint
    assert manifest["engine_fingerprints"] == {"strong": strong().fingerprint}
    other = ScriptedEngine(scripts.answer, "other")
    with pytest.raises(ValueError, match=r"\(what differs: engines\.strong; digest"):
        run(config, engine=scripts.engine(), engines={"strong": other})
    with pytest.raises(ValueError, match=r"\(what differs: engines\.strong; digest"):
        run(config, engine=scripts.engine())


def test_where_a_named_model_lies_is_no_part_of_the_run(tmp_path):
    for place in ("here", "there"):
        config = small(tmp_path, engines={"strong": LocalModel(place)})
        run(config, engine=scripts.engine(), engines={"strong": strong()})


# The config


def checked(tmp_path, monkeypatch, text, *words):
    monkeypatch.setenv("TEST_API_KEY", KEY)
    path = tmp_path / "run.yaml"
    path.write_text(f"model: m\nout: {tmp_path / 'data'}\necd: {{}}\n{text}")
    return cli.main(["run", str(path), "--check", *words])


SERVER = "engines: {strong: {kind: openai, model: m, base_url: 'https://x.example/v1'"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("engines: {strong: {model: m}}", "engines.strong: needs the field kind"),
        (
            "engines: {a: {kind: llama, model: m}}",
            "'flax' or 'openai' or 'recorded', got",
        ),
        ("engines: {a: {kind: flax}}", "LocalModel needs the field model"),
        (
            "engines: {a: {kind: flax, model: m, key: K}}",
            "LocalModel has no field 'key'",
        ),
        ("engines: {a b: {kind: flax, model: m}}", "cannot be an engine's name"),
        ("engines: {default: {kind: flax, model: m}}", "cannot be an engine's name"),
        ("engines: {a: {kind: openai, model: m}}", "needs the field base_url"),
        (f"{SERVER}, keey: K}}}}", "did you mean 'key'?"),
        (
            f"{SERVER}, key: sk-abc-123}}}}",
            "must be the name of an environment variable",
        ),
        (
            f"{SERVER}, key: NO_SUCH_KEY}}}}",
            "engine strong: the environment variable NO_",
        ),
        (f"{SERVER}, concurrency: 0}}}}", "concurrency must be in [1, 4096], got 0"),
        (f"{SERVER}, timeout_s: 0}}}}", "timeout_s must be above 0"),
        (f"{SERVER}, patience_s: .inf}}}}", "patience_s must be above 0, got inf"),
        (f"{SERVER}, attempts: 0}}}}", "attempts must be at least 1"),
        (f"{SERVER}, prompt_price: -1}}}}", "prompt_price must be at least 0"),
        (f"{SERVER}, extra: {{n: 4}}}}}}", "extra must not hold n: it is set here"),
        (f"{SERVER}, extra: {{seed: 4}}}}}}", "extra must not hold seed"),
        (f"{SERVER}, extra: {{a: .nan}}}}}}", "extra is no JSON"),
        (f"{SERVER}, seed_field: 'a b'}}}}", "seed_field is no name of a field"),
        (f"{SERVER}, allow: [10.0.0.1/8]}}}}", "allow: expected networks"),
        ("engine: {kind: openai, base_url: 'http://169.254.169.254/v1'}", "link-local"),
        (
            "engine: {kind: openai, base_url: 'https://x.example', model: n}",
            "engine.model is not read",
        ),
    ],
)
def test_a_wrong_engine_is_found_before_anything_is_done(
    text, message, tmp_path, monkeypatch, capsys
):
    assert checked(tmp_path, monkeypatch, text) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert "sk-abc" not in error
    assert not (tmp_path / "data").exists()


def test_check_connects_to_nothing(tmp_path, monkeypatch):
    """Every look-up and connection of this process is heard."""
    heard = []

    def hear(event, arguments):
        if event.startswith(("socket.connect", "socket.getaddrinfo")):
            heard.append(event)

    sys.addaudithook(hear)
    text = f"{SERVER}, key: TEST_API_KEY}}, weak: {{kind: flax, model: w}}}}"
    assert checked(tmp_path, monkeypatch, text) == 0
    assert checked(tmp_path, monkeypatch, text, "engines.strong.concurrency=2") == 0
    assert heard == []


def test_the_default_engine_is_local_unless_it_says_otherwise(tmp_path):
    config = scripts.config(tmp_path)
    assert config.choices == {}
    server = OpenAIServer(base_url="https://x.example/v1")
    served = dataclasses.replace(config, engine=server)
    assert served.choices == {"": dataclasses.replace(server, model="scripted")}


# Stores of before


def test_a_store_of_before_is_taken_over(tmp_path):
    """Its table had no column for servers, and wanted a log-probability of each."""
    path = tmp_path / "cache.sqlite"
    with sqlite3.connect(path) as db:
        db.executescript(
            "CREATE TABLE generations (request TEXT NOT NULL, sample INTEGER NOT NULL, "
            "text TEXT NOT NULL, token_ids TEXT NOT NULL, finish_reason TEXT NOT NULL, "
            "sum_logprob REAL NOT NULL, PRIMARY KEY (request, sample)) WITHOUT ROWID;"
            "INSERT INTO generations VALUES ('r', 3, 'hello', '[1, 2]', 'stop', -0.5);"
        )
    for _ in range(2):
        with Store(path) as store:
            (found,) = store.samples("r").values()
            assert (found.sample, found.text, found.token_ids) == (3, "hello", (1, 2))
            assert (found.sum_logprob, found.served) == (-0.5, None)
