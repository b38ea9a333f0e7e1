# SPDX-License-Identifier: Apache-2.0
"""The local engine on a tiny model."""

import dataclasses
import json
from pathlib import Path

import pytest

from data_gen.engines import Generate, Settings, ensemble
from data_gen.engines.flax import FlaxEngine
from data_gen.engines.scripted import ScriptedEngine
from data_gen.records import Message
from data_gen.store import Store, StoredEngine


def engine(folder: Path, slots: int = 4) -> FlaxEngine:
    return FlaxEngine(folder, slots=slots, context=64)


def ask(key: str, text: str, n: int = 3, tokens: int = 8) -> Generate:
    settings = Settings(temperature=1.0, max_new_tokens=tokens)
    return Generate(key, (Message("user", text),), n, 5, settings)


def test_every_sample_comes_back_with_ids_and_logprob(tiny_llama):
    found = list(engine(tiny_llama).generate([ask("a", "hello"), ask("b", "sea", n=2)]))
    assert sorted((g.key, g.sample) for g in found) == [
        *(("a", i) for i in range(3)),
        *(("b", i) for i in range(2)),
    ]
    for generation in found:
        assert 0 < len(generation.token_ids) <= 8
        assert generation.sum_logprob is not None and generation.sum_logprob < 0
        assert generation.finish_reason in ("stop", "length")


def test_samples_do_not_depend_on_order_or_neighbours(tiny_llama):
    first, second = ask("a", "hello"), ask("b", "the sea")

    def texts(requests):
        generated = engine(tiny_llama).generate(requests)
        return {(g.key, g.sample): g.token_ids for g in generated}

    together = texts([first, second])
    assert texts([second, first]) == together
    assert texts([first]) == {k: v for k, v in together.items() if k[0] == "a"}


def test_known_samples_do_not_come_back_and_change_nothing(tiny_llama):
    request = ask("a", "hello")
    both = [request, dataclasses.replace(request, key="b", known=frozenset([0, 2]))]
    found = {(g.key, g.sample): g for g in engine(tiny_llama).generate(both)}
    assert sorted(found) == [("a", 0), ("a", 1), ("a", 2), ("b", 1)]
    assert found["b", 1].token_ids == found["a", 1].token_ids


def test_beside_another_engine_the_answers_are_the_same(tiny_llama):
    """Each of the model's requests follows from an answer of the other engine, and the
    other way round: six rounds of two lineages."""
    other = ScriptedEngine(lambda messages, sample: messages[0].content[-20:])
    asked = [ask(f"{name}{i}", f"{name} {i}", n=1) for name in "xy" for i in range(6)]

    def run(engines, name):
        received = []

        def requests():
            for request in asked:
                is_local = int(request.key[1]) % 2 == 0
                count = len(received)
                yield dataclasses.replace(request, engine="" if is_local else name)
                while len(received) == count:
                    yield None

        for generation in ensemble.generate(engines, requests()):
            received.append(generation)
        return {g.key: g.text for g in received}

    together = run({"": engine(tiny_llama), "other": other}, "other")
    local = [request for request in asked if int(request.key[1]) % 2 == 0]
    alone = {g.key: g.text for g in engine(tiny_llama).generate(local)}
    assert len(together) == 12
    assert {key: together[key] for key in alone} == alone


def test_a_prompt_without_room_is_not_sampled(tiny_llama):
    """60 letters and 8 new tokens do not fit 64; the other request is unharmed."""
    found = list(
        engine(tiny_llama).generate(
            [ask("long", "x" * 60, n=2), ask("a", "hello", n=1)]
        )
    )
    reasons = {(g.key, g.sample): g.finish_reason for g in found}
    assert reasons["long", 0] == reasons["long", 1] == "context"
    assert reasons["a", 0] in ("stop", "length")


def test_a_refused_prompt_can_lead_to_another_request(tiny_llama):
    """Behind the store and on its own: the second request waits for the first."""
    received = []

    def requests():
        yield ask("long", "x" * 60, n=1)
        while not received:
            yield None
        yield ask("short", "hello", n=1)

    received.clear()
    for generation in engine(tiny_llama).generate(requests()):
        received.append(generation.finish_reason)
    assert received[0] == "context"
    assert len(received) == 2


def test_requests_that_give_nothing_while_nothing_is_missing_are_an_error(tiny_llama):
    with pytest.raises(RuntimeError, match="nothing while no sample was missing"):
        list(engine(tiny_llama).generate(iter([None, None])))


def test_known_samples_need_no_weights(tiny_llama, tmp_path):
    request = ask("a", "hello")
    with Store(tmp_path / "cache.sqlite") as store:
        first = list(StoredEngine(engine(tiny_llama), store).generate([request]))
    again = engine(tiny_llama)
    with Store(tmp_path / "cache.sqlite") as store:
        second = list(StoredEngine(again, store).generate([request]))
    assert sorted(second, key=lambda g: g.sample) == sorted(
        first, key=lambda g: g.sample
    )
    assert again._sampler is None


def test_the_fingerprint_covers_weights_slots_and_template(tiny_llama, tmp_path):
    prints = {engine(tiny_llama).fingerprint, engine(tiny_llama, slots=2).fingerprint}
    other = tmp_path / "other"
    other.mkdir()
    for path in tiny_llama.iterdir():
        if not path.name.startswith("."):
            (other / path.name).write_bytes(path.read_bytes())
    assert engine(other).fingerprint in prints
    path = other / "tokenizer_config.json"
    config = json.loads(path.read_text())
    config["chat_template"] += "!"
    path.write_text(json.dumps(config))
    prints.add(engine(other).fingerprint)
    weights = bytearray((other / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (other / "model.safetensors").write_bytes(weights)
    prints.add(engine(other).fingerprint)
    assert len(prints) == 4
