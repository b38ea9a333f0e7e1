# SPDX-License-Identifier: Apache-2.0
"""Store: nothing is sampled twice, and what was paid for is kept."""

import errno
import sqlite3

import numpy as np
import pytest

from data_gen.embed import HashedNgrams
from data_gen.engines import Generate, Generation, Settings, request_id
from data_gen.engines.scripted import ScriptedEngine
from data_gen.records import Message
from data_gen.store import Store, StoredEmbedder, StoredEngine


def scripted() -> ScriptedEngine:
    return ScriptedEngine(lambda messages, i: f"{messages[0].content} {i}")


def ask(key: str, text: str = "hello", n: int = 2, seed: int = 0) -> Generate:
    return Generate(key, (Message("user", text),), n, seed, Settings())


def answers(engine, requests):
    found = sorted(engine.generate(requests), key=lambda g: (g.key, g.sample))
    return [(g.key, g.sample, g.text) for g in found]


def test_known_samples_are_not_sampled_again(tmp_path):
    """2 samples the first time; of 3 then wanted, the one that is new; the third time
    nothing is asked."""
    for n, asked in ((2, 2), (3, 1), (3, 0)):
        inner = scripted()
        with Store(tmp_path / "cache.sqlite") as store:
            found = answers(StoredEngine(inner, store), [ask("a", n=n)])
        assert found == [("a", i, f"hello {i}") for i in range(n)]
        assert len(inner.asked) == asked


def test_a_sample_is_known_whatever_its_request_is_called():
    first, second = ask("a", n=2), ask("b", n=8)
    assert request_id(first, "engine") == request_id(second, "engine")
    assert request_id(first, "engine") != request_id(first, "other")
    assert request_id(first, "engine") != request_id(ask("a", seed=1), "engine")


def test_what_is_already_in_progress_is_asked_once(tmp_path):
    """Two lineages ask the same; the engine takes both before it answers."""

    class Eager:
        fingerprint, facts = "eager", {}

        def __init__(self):
            self.asked = []

        def generate(self, requests):
            self.asked = [request for request in requests if request is not None]
            return scripted().generate(self.asked)

    inner = Eager()
    with Store(tmp_path / "cache.sqlite") as store:
        found = answers(StoredEngine(inner, store), [ask("a"), ask("b", n=1)])
    assert found == [("a", 0, "hello 0"), ("a", 1, "hello 1"), ("b", 0, "hello 0")]
    assert [request.key for request in inner.asked] == ["a"]


def test_known_samples_can_lead_to_new_requests(tmp_path):
    """The second request is made from the first one's answer, which is known."""
    with Store(tmp_path / "cache.sqlite") as store:
        answers(StoredEngine(scripted(), store), [ask("a", n=1)])
    received: list[Generation] = []

    def requests():
        yield ask("a", n=1)
        while not received:
            yield None
        yield ask("b", text=received[0].text, n=1)

    inner = scripted()
    with Store(tmp_path / "cache.sqlite") as store:
        for generation in StoredEngine(inner, store).generate(requests()):
            received.append(generation)
    assert [g.text for g in received] == ["hello 0", "hello 0 0"]
    assert inner.asked == [("b", 0)]


def test_samples_survive_an_error_in_the_engine(tmp_path):
    def rule(messages, sample):
        if sample == 3:
            raise RuntimeError("out of memory")
        return "fine"

    with (
        pytest.raises(RuntimeError),
        Store(tmp_path / "cache.sqlite") as store,
    ):
        list(StoredEngine(ScriptedEngine(rule), store).generate([ask("a", n=5)]))
    with Store(tmp_path / "cache.sqlite") as store:
        name = request_id(ask("a"), ScriptedEngine(rule).fingerprint)
        assert sorted(store.samples(name)) == [0, 1, 2]


def test_effort_adds_up_over_sessions_that_sampled(tmp_path):
    """Two sessions of 2 samples with 2 words each; the third only reads."""
    for text in ("one", "two", "two"):
        with Store(tmp_path / "cache.sqlite") as store:
            answers(StoredEngine(scripted(), store), [ask("a", text=text)])
            effort = store.effort()
    assert (effort["samples"], effort["tokens"]) == (4, 8)
    assert effort["wall_s"] > 0


def test_a_full_disk_is_told_with_the_file(tmp_path):
    with (
        pytest.raises(OSError, match="samples so far are kept") as caught,
        Store(tmp_path / "cache.sqlite") as store,
    ):
        store._db.execute("PRAGMA max_page_count = 80")
        long = ScriptedEngine(lambda messages, sample: "word " * 400 + str(sample))
        request = Generate("a", (), 100, 0, Settings(max_new_tokens=500))
        list(StoredEngine(long, store).generate([request]))
    assert caught.value.errno == errno.ENOSPC
    assert caught.value.filename == str(tmp_path / "cache.sqlite")
    rows = sqlite3.connect(tmp_path / "cache.sqlite").execute(
        "SELECT count(*) FROM generations"
    )
    assert 0 < rows.fetchone()[0] < 100  # committed in sixteens


def test_an_embedding_call_is_made_once(tmp_path):
    calls = []

    class Counting:
        fingerprint = "counting"

        def __call__(self, texts):
            calls.append(list(texts))
            return HashedNgrams()(texts)

    with Store(tmp_path / "cache.sqlite") as store:
        first = StoredEmbedder(Counting(), store)(["a b", "c"])
    with Store(tmp_path / "cache.sqlite") as store:
        second = StoredEmbedder(Counting(), store)(["a b", "c"])
    np.testing.assert_array_equal(first, second)
    assert calls == [["a b", "c"]]
