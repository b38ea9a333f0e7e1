# SPDX-License-Identifier: Apache-2.0
"""Several engines in one run: all at work at once, with outcomes that do not depend on
which is faster."""

import dataclasses
import threading
import time

import pytest

from data_gen.engines import Generate, Generation, Message, Settings, ensemble
from data_gen.engines.scripted import ScriptedEngine
from data_gen.records import Example, Negative, Response
from data_gen.store import Store, StoredEngine
from data_gen.strategies import Context, Identity, Lineage, Outcome, drive


def ask(key: str, engine: str = "", n: int = 1) -> Generate:
    return Generate(key, (Message("user", key),), n, 0, Settings(), engine)


def echo(name: str, slow_s: float = 0.0) -> ScriptedEngine:
    def rule(messages, sample):
        time.sleep(slow_s)
        return f"{name} {messages[0].content} {sample}"

    return ScriptedEngine(rule, name)


def texts(found):
    return sorted((g.key, g.sample, g.text) for g in found)


def no_threads_left():
    return threading.active_count() == 1 or all(
        thread.daemon is False or "_work" not in thread.name
        for thread in threading.enumerate()
    )


def test_each_request_goes_to_the_engine_that_it_names():
    engines = {"": echo("own"), "strong": echo("strong")}
    found = ensemble.generate(engines, [ask("a", "strong", 2), ask("b")])
    assert texts(found) == [
        ("a", 0, "strong a 0"),
        ("a", 1, "strong a 1"),
        ("b", 0, "own b 0"),
    ]
    assert no_threads_left()


def test_all_engines_are_at_work_at_once():
    """Each of three engines answers only when the two others are answering too."""
    meeting = threading.Barrier(3, timeout=10)

    def together(name):
        def rule(messages, sample):
            meeting.wait()
            return name

        return ScriptedEngine(rule, name)

    engines = {name: together(name) for name in ("", "b", "c")}
    requests = [ask(f"{name}{i}", name) for i in range(3) for name in engines]
    found = list(ensemble.generate(engines, requests))
    assert len(found) == 9


def test_a_slow_engine_does_not_hold_up_a_fast_one():
    """The fast engine's chain of ten requests ends while the slow one is still at its
    only request."""
    gate, received = threading.Event(), []

    def slow(messages, sample):
        assert gate.wait(10)
        return "slow"

    def requests():
        yield ask("slow", "slow")
        for number in range(10):
            yield ask(f"f{number}")
            while not any(g.key == f"f{number}" for g in received):
                yield None
        gate.set()

    engines = {"": echo("fast"), "slow": ScriptedEngine(slow, "slow")}
    for generation in ensemble.generate(engines, requests()):
        received.append(generation)
    assert [g.key for g in received] == [*(f"f{i}" for i in range(10)), "slow"]


def test_one_engine_needs_no_thread():
    seen = []

    def rule(messages, sample):
        seen.append(threading.current_thread())
        return "x"

    list(ensemble.generate({"": ScriptedEngine(rule)}, [ask("a")]))
    assert seen == [threading.current_thread()]


def test_two_names_of_one_engine_are_one_engine(tmp_path):
    """The same request under both names is sampled once."""
    inner = echo("same")
    with Store(tmp_path / "cache.sqlite") as store:
        engines = {"": StoredEngine(inner, store), "alias": StoredEngine(inner, store)}
        request = dataclasses.replace(ask("a"), key="b", engine="alias")
        found = list(ensemble.generate(engines, [ask("a"), request]))
    assert texts(found) == [("a", 0, "same a 0"), ("b", 0, "same a 0")]
    assert len(inner.asked) == 1


def test_an_unknown_engine_is_named_with_the_known_ones():
    engines = {"": echo("own"), "strong": echo("strong")}
    with pytest.raises(
        ValueError, match=r"no engine 'weak' \(engines: the default, st"
    ):
        list(ensemble.generate(engines, [ask("a", "weak")]))


class Batching:
    """Looks for more requests before every sample, as one with free slots does."""

    fingerprint, facts = "batching", {}

    def __init__(self, begun, go_on):
        self.begun, self.go_on, self.taken = begun, go_on, []

    def generate(self, requests):
        for request in requests:
            while request is not None:
                self.taken.append(request)
                request = next(requests, None)
            self.begun.set()
            assert self.go_on.wait(10)
            time.sleep(0.05)
            while self.taken:
                for sample in range(self.taken[0].n):
                    assert next(requests, None) is None
                    key = self.taken[0].key
                    yield Generation(key, sample, "done", (), "stop", None)
                self.taken.pop(0)


def test_an_error_ends_the_run_and_what_others_began_is_stored(tmp_path):
    """The other engine has begun two requests with five samples when the first engine
    fails: all five are stored."""
    begun, failed = threading.Event(), threading.Event()

    def broken(messages, sample):
        assert begun.wait(10)
        failed.set()
        raise OSError("the server is gone")

    requests = [ask("a", "other", 3), ask("c", "other", 2), ask("b")]
    with Store(tmp_path / "cache.sqlite") as store:
        engines = {
            "": StoredEngine(ScriptedEngine(broken, "broken"), store),
            "other": StoredEngine(Batching(begun, failed), store),
        }
        with pytest.raises(OSError, match="the server is gone"):
            list(ensemble.generate(engines, requests))
        assert store.new_samples == 5


def test_an_error_begins_nothing_more():
    """A request waits for the engine when another one fails."""
    begun, failed = threading.Event(), threading.Event()

    def steady(messages, sample):
        begun.set()
        assert failed.wait(10)
        time.sleep(0.05)
        return "steady"

    def broken(messages, sample):
        assert begun.wait(10)
        failed.set()
        raise OSError("the server is gone")

    other = ScriptedEngine(steady, "steady")
    engines = {"": ScriptedEngine(broken, "broken"), "other": other}
    requests = [ask("a", "other", 3), ask("late", "other"), ask("b")]
    with pytest.raises(OSError, match="the server is gone"):
        list(ensemble.generate(engines, requests))
    assert other.asked == [("a", 0), ("a", 1), ("a", 2)]


def test_an_engine_that_ends_early_is_an_error():
    class Lazy:
        fingerprint, facts = "lazy", {}

        def generate(self, requests):
            next(iter(requests))
            return iter(())

    with pytest.raises(RuntimeError, match="ended before its requests did"):
        list(ensemble.generate({"": echo("own"), "lazy": Lazy()}, [ask("a", "lazy")]))


@pytest.mark.parametrize("count", [1, 2])
def test_whoever_stops_listening_ends_the_engines(count):
    engines = {"": echo("own", 0.01), "other": echo("other", 0.01)}
    engines = dict(list(engines.items())[:count])
    names = list(engines)
    stream = ensemble.generate(
        engines, [ask(f"{n}{i}", n) for i in range(99) for n in names]
    )
    next(stream)
    began = time.monotonic()
    stream.close()
    assert time.monotonic() - began < 1
    assert sum(len(engine.asked) for engine in engines.values()) < 20


# Strategies on several engines


def contrast(context: Context, name: str):
    """The strong engine's answer is preferred to the default's."""
    message = (Message("user", f"Describe {name}."),)
    strong = context.ask(name, "answer", message, 2, Settings(), engine="strong")
    weak = context.ask(name, "answer", message, 2, Settings())
    good, bad = yield (strong, weak)
    made = Example(
        strategy="contrast",
        root_id=name,
        parent_id=name,
        round=0,
        split="train",
        prompt=message,
        chosen=Response(
            good[0].text,
            "sample",
            good[0].token_ids,
            generation=context.generation(strong, 0),
        ),
        negatives=(Negative(bad[1].text, "sample", 0, bad[1].token_ids),),
        provenance={
            "chosen": context.provenance(strong, name),
            "negative": context.provenance(weak, name),
        },
    )
    return Outcome((made,))


class OtherTemplate(ScriptedEngine):
    @property
    def facts(self):
        return {**super().facts, "template": "another"}


def two(**slow):
    return {
        "": echo("own", **slow),
        "strong": OtherTemplate(echo("strong").rule, "strong"),
    }


def lineages(engines, count=20):
    strong = engines["strong"]
    context = Context(
        7,
        engines[""].fingerprint,
        engines[""].facts,
        engines={"strong": Identity(strong.fingerprint, strong.facts)},
    )
    return [Lineage(f"l{i}", 4, contrast(context, f"l{i}")) for i in range(count)]


def test_outcomes_do_not_depend_on_which_engine_is_faster():
    first = drive(lineages(two()), two())
    second = drive(lineages(two()), two(slow_s=0.002))
    assert first == second
    assert list(first) == [f"l{i}" for i in range(20)]
    (example,) = first["l3"].examples
    assert example.chosen.text == "strong Describe l3. 0"
    assert example.negatives[0].text == "own Describe l3. 1"


def test_provenance_and_names_of_samples_are_the_engines():
    engines = two()
    (example,) = drive(lineages(engines, 1), engines)["l0"].examples
    strong, own = (
        example.provenance[side]["engine"] for side in ("chosen", "negative")
    )
    assert strong["name"] == "strong" and "name" not in own
    assert strong["fingerprint"] == engines["strong"].fingerprint
    assert own["fingerprint"] == engines[""].fingerprint
    assert (
        example.provenance["chosen"]["seed"] == example.provenance["negative"]["seed"]
    )
    own_name = example.chosen.generation
    assert own_name.endswith("/0") and len(own_name) == 66


def test_ids_of_another_template_are_left_out():
    """The manifest knows one template, and training trusts it."""
    engines = two()
    (example,) = drive(lineages(engines, 1), engines)["l0"].examples
    assert example.chosen.token_ids == ()
    assert len(example.negatives[0].token_ids) == 4


def test_a_strategy_that_names_an_engine_that_is_not_there_is_told():
    own = echo("own")
    context = Context(7, own.fingerprint, own.facts)
    lineage = Lineage("l", 4, contrast(context, "l"))
    with pytest.raises(ValueError, match=r"no engine 'strong'; the section `engines`"):
        drive([lineage], own)
