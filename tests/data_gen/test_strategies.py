# SPDX-License-Identifier: Apache-2.0
"""Strategies: what a lineage asks for, keeps and drops, with a scripted model."""

import dataclasses
from collections import Counter

import pytest

from alignjax import constraints
from data_gen import strategies
from data_gen.embed import HashedNgrams
from data_gen.engines import request_id
from data_gen.engines.scripted import ScriptedEngine
from data_gen.filters import Gates
from data_gen.proof import flaws
from data_gen.records import Example, Message, Negative, Response
from data_gen.seeds import Seed
from data_gen.strategies import Context, drive, ecd, self_contrast
from data_gen.strategies.ecd import ECD
from data_gen.strategies.self_contrast import SelfContrast

TASK = Seed("s1", "Describe the sea near the old harbour.")
BASE = "The sea by the harbour is grey, cold, and calm today."


def context(rule, **changes) -> Context:
    engine = ScriptedEngine(rule)
    return Context(7, engine.fingerprint, engine.facts, **changes)


def evolve(rule, config, **changes):
    lineages = ecd.plan([(TASK, "train")], config, context(rule, **changes))
    (outcome,) = drive(lineages, ScriptedEngine(rule)).values()
    return outcome


def contrast(rule, config, task=TASK):
    own = context(rule, embed=HashedNgrams())
    lineages = self_contrast.plan([(task, "train")], config, own)
    (outcome,) = drive(lineages, ScriptedEngine(rule)).values()
    return outcome


def reasons(outcome):
    return Counter(item.reason for item in outcome.rejected)


def lowercase_second(messages, sample):
    """Fails "lowercase" except in its second sample."""
    if not constraints.parse(messages[0].content):
        return BASE
    return BASE.lower() if sample == 1 else f"{BASE} Number {sample} it is."


def in_turn(*answers):
    """BASE, then these answers to the evolved instruction, the last one for ever."""
    left = [BASE, *answers]
    return lambda messages, sample: left.pop(0) if len(left) > 1 else left[0]


WRONG = [f"{BASE} Number {number} it is." for number in range(6)]


def test_the_first_answer_to_an_evolved_instruction_is_greedy():
    """1 base answer, then 1 greedy and 2 sampled: sample numbers 0 / 0 / 0, 1."""
    engine = ScriptedEngine(lambda messages, sample: f"{BASE} {sample}")
    own = context(engine.rule)
    config = ECD(types=("lowercase",), rounds=1, samples=3)
    drive(ecd.plan([(TASK, "train")], config, own), engine)
    keys = [key for key, _ in engine.asked]
    assert [sample for _, sample in engine.asked] == [0, 0, 0, 1]
    assert keys[1] != keys[2] == keys[3]


def test_ecd_takes_the_first_sample_that_passes():
    outcome = evolve(
        lowercase_second,
        ECD(types=("lowercase",), rounds=1, samples=3, greedy_first=False),
    )
    (example,) = outcome.examples
    assert example.chosen.text == BASE.lower()
    assert example.chosen.kind == "sample"
    assert example.chosen.generation.endswith("/1")
    assert example.prompt[0].content.startswith(TASK.text)
    assert example.constraints == ({"type": "lowercase", "params": {}},)
    assert flaws(example.proof) == []
    assert reasons(outcome) == {"violates": 1}
    assert example.provenance["samples"] == 2
    assert example.provenance["passing_samples"] == 1


@pytest.mark.parametrize(
    ("passing", "asked"), [(0, 2), (1, 2), (2, 4), (3, 4), (4, 5), (5, 5)]
)
def test_a_wave_is_not_asked_once_a_sample_passes(passing, asked):
    """At most 5 samples come as 2 + 2 + 1; sample number `passing` is the first that
    passes, 5 is none. One more is asked before them, for the bare task."""
    engine = ScriptedEngine(in_turn(*WRONG[:passing], BASE.lower()))
    if passing == 5:
        engine.rule = in_turn(*WRONG)
    config = ECD(types=("lowercase",), rounds=1, samples=5, greedy_first=False)
    planned = ecd.plan([(TASK, "train")], config, context(engine.rule))
    (outcome,) = drive(planned, engine).values()
    (example,) = outcome.examples
    assert len(engine.asked) == 1 + asked
    assert len({key for key, _ in engine.asked}) == 1 + -(-asked // 2)
    assert example.provenance["samples"] == asked
    assert example.chosen.kind == ("witness" if passing == 5 else "sample")
    assert reasons(outcome)["violates"] == passing


def test_fewer_samples_are_the_beginning_of_more():
    """The requests of 3 samples (2 + 1) begin those of 6 (2 + 2 + 2)."""

    def asked(samples):
        engine = ScriptedEngine(in_turn(*WRONG))
        config = ECD(types=("lowercase",), rounds=1, samples=samples)
        planned = ecd.plan([(TASK, "train")], config, context(engine.rule))
        drive(planned, engine)
        return engine.asked

    assert asked(3) == asked(6)[:4]
    assert len(asked(6)) == 7


def test_the_provenance_is_that_of_the_request_that_gave_the_answer():
    """The 4th sample passes: the second wave's seed, whatever else was planned."""
    rule = in_turn(*WRONG[:3], BASE.lower())
    asked = []

    class Watched(ScriptedEngine):
        def generate(self, requests):
            def watched():
                for request in requests:
                    asked.append(request)
                    yield request

            return super().generate(watched())

    engine = Watched(rule)
    config = ECD(types=("lowercase",), rounds=1, samples=6, greedy_first=False)
    own = context(rule)
    (outcome,) = drive(ecd.plan([(TASK, "train")], config, own), engine).values()
    (example,) = outcome.examples
    last = asked[-1]
    assert example.chosen.generation == f"{request_id(last, own.engine)}/1"
    assert example.provenance["seed"] == last.seed
    assert example.provenance["settings"]["temperature"] == config.temperature


def test_ecd_negatives_are_the_parent_and_then_the_failing_samples():
    """Samples 0 to 2 fail the only constraint: hardness 0 of 1, in their order."""
    config = ECD(types=("lowercase",), rounds=1, samples=4, max_negatives=9)
    outcome = evolve(in_turn(*WRONG[:3], BASE.lower()), config)
    (example,) = outcome.examples
    assert [n.text for n in example.negatives] == [BASE, *WRONG[:3]]
    assert [n.kind for n in example.negatives] == ["parent", *["sample"] * 3]
    for count in (1, 2, 3):
        fewer = dataclasses.replace(config, max_negatives=count)
        outcome = evolve(in_turn(*WRONG[:3], BASE.lower()), fewer)
        assert outcome.examples[0].negatives == example.negatives[:count]


def test_ecd_edits_the_parents_answer_where_no_sample_passes():
    outcome = evolve(
        lambda messages, sample: BASE,
        ECD(types=("lowercase",), rounds=1, samples=2, greedy_first=False),
    )
    (example,) = outcome.examples
    assert example.chosen == Response(BASE.lower(), "witness")
    assert [n.text for n in example.negatives] == [BASE]
    assert outcome.stages["ecd", 1, "witness"] == 1
    assert flaws(example.proof) == []


def test_an_answer_is_not_replaced_by_a_text_that_is_about_nothing():
    """No sample is in another language, and an edit could only show that one can be."""
    outcome = evolve(lambda messages, sample: BASE, ECD(types=("language",), samples=2))
    assert not outcome.examples
    assert reasons(outcome)["not_composable"] == 3  # the parent's answer and 2 samples
    assert reasons(outcome)["nothing_passes"] == 1


def test_an_answer_in_the_language_that_is_asked_for_is_preferred():
    answers = {
        "French": "La mer près du port est grise et froide, et il y a peu de vent ce "
        "matin dans le vieux port de la ville.",
        "German": "Das Meer ist grau und kalt, und der Wind ist heute nicht stark.",
        "Spanish": "El mar es gris y frío, y hoy no hay mucho viento en el puerto.",
        "Italian": "Il mare è grigio e freddo, e oggi non c'è molto vento nel porto.",
        "Portuguese": "O mar é cinzento e frio, e hoje não há muito vento no porto.",
        "Russian": "Море серое и холодное, и сегодня в порту нет сильного ветра.",
        "Chinese": "港口的海是灰色的，很冷，今天没有什么风，海面很平静。",
    }

    def polyglot(messages, sample):
        asked = constraints.parse(messages[0].content)
        return answers[asked[0].params["language"]] if asked else BASE

    gates = Gates(min_words=1)
    outcome = evolve(polyglot, ECD(types=("language",), rounds=1), gates=gates)
    (example,) = outcome.examples
    assert example.chosen.kind == "sample"
    assert example.negatives[0].text == BASE
    assert flaws(example.proof) == []


def test_the_answer_of_a_round_is_the_negative_of_the_next():
    """Round 2 adds the other type; its negative passes the first, fails the newest."""
    config = ECD(types=("lowercase", "end_question"), rounds=2, samples=1)
    outcome = evolve(lambda messages, sample: BASE, config)
    first, second = outcome.examples
    assert second.negatives[0].text == first.chosen.text
    assert second.parent_id == first.id
    assert first.parent_id == TASK.id
    assert second.prompt[0].content.startswith(first.prompt[0].content)
    verdicts = [check["verdict"] for check in second.proof["negatives"][0]["checks"]]
    assert verdicts == ["pass", "fail"]
    assert [n["hardness"] for n in second.proof["negatives"]] == [0.5, 0.0]


def test_a_lineage_without_a_usable_first_answer_gives_nothing_but_a_reason():
    long = "A sea that goes on " + "and on " * 80
    outcome = evolve(lambda messages, sample: long, ECD(rounds=1))
    assert outcome.examples == ()
    assert reasons(outcome) == {"truncated": 1}
    assert outcome.stages == {("ecd", 0, "tasks"): 1}


def test_an_answer_about_something_else_is_off_topic():
    """Sample 0 passes the constraint with no word of the answer before."""

    def rule(messages, sample):
        if not constraints.parse(messages[0].content):
            return BASE
        return "my neighbour repairs bicycles in winter" if not sample else BASE

    config = ECD(types=("lowercase",), rounds=1, samples=2, greedy_first=False)
    outcome = evolve(rule, config, embed=HashedNgrams())
    assert reasons(outcome) == {"off_topic": 1, "violates": 1}
    assert outcome.examples[0].chosen.kind == "witness"


def test_every_type_comes_first_about_equally_often():
    """3000 lineages over 5 types: 600 each, give or take 4 sigma = 88."""
    types = ("a", "b", "c", "d", "e")
    first = Counter(ecd.type_order(f"s{i}", types, 0)[0] for i in range(3000))
    second = Counter(ecd.type_order(f"s{i}", types, 0)[1] for i in range(3000))
    for counts in (first, second):
        assert set(counts) == set(types)
        assert max(abs(count - 600) for count in counts.values()) < 88


def pair(number, kind, type_name, split="train"):
    return Example(
        "ecd",
        f"s{number}",
        f"s{number}",
        1,
        split,
        (Message("user", "x"),),
        Response("good", kind),
        (Negative("bad", "parent", 0),),
        ({"type": type_name, "params": {}},),
    )


def test_surplus_witnesses_go_from_the_largest_type():
    """3 sampled, 5 edited; at most 40 %: floor(3 * 0.4 / 0.6) = 2 edited may stay.
    Type sizes a = 3 + 2, b = 3: a gives (5 -> 4 -> 3), then b and a are level at 3
    and b, the later name, gives."""
    examples = [pair(i, "sample", "a") for i in range(3)]
    examples += [pair(i, "witness", "a") for i in range(3, 5)]
    examples += [pair(i, "witness", "b") for i in range(5, 8)]
    dropped = ecd.surplus_witnesses(examples, 0.4)
    by_id = {example.id: example for example in examples}
    gone = [ecd.newest_type(by_id[item.detail]) for item in dropped]
    assert gone == ["a", "a", "b"]
    assert dropped == ecd.surplus_witnesses(examples[::-1], 0.4)


@pytest.mark.parametrize(("share", "left"), [(0.0, 0), (0.5, 3), (0.6, 4), (1.0, 5)])
def test_the_witness_share_is_at_most_what_is_allowed(share, left):
    """With 3 sampled: floor(3 s / (1 - s)) = 0, 3, 4 and all 5 edited pairs stay."""
    examples = [pair(i, "sample", "a") for i in range(3)]
    examples += [pair(i, "witness", "b") for i in range(3, 8)]
    assert 5 - len(ecd.surplus_witnesses(examples, share)) == left


def test_each_split_has_its_own_witness_share():
    """Train: 1 and 1, half is allowed. Test: no sampled pair, so no edited one."""
    examples = [pair(0, "sample", "a"), pair(1, "witness", "a")]
    examples.append(pair(2, "witness", "a", "test"))
    (dropped,) = ecd.surplus_witnesses(examples, 0.5)
    assert dropped.split == "test"


ANSWERS = [
    "The sea near the old harbour is cold and grey.",  # the target itself
    "The sea near the old harbour is cold and green.",  # nearest to it
    "Boats and gulls fill the harbour every morning.",
    "Boats and gulls fill the harbour every morning.",  # a repetition
    "Nobody knows where all of the fishermen went.",
    "A lighthouse stands on rocks above wild water.",
]


def varied(messages, sample):
    return ANSWERS[sample]


def test_self_contrast_drops_the_most_similar_share():
    """Six samples: one is the target, one repeats. Of 4 distinct ones
    ceil(0.25 * 4) = 1 goes, the nearest; the other three are negatives."""
    task = dataclasses.replace(TASK, answer=ANSWERS[0])
    outcome = contrast(varied, SelfContrast(samples=6, negatives=9), task)
    (example,) = outcome.examples
    assert example.chosen == Response(ANSWERS[0], "given")
    assert {n.text for n in example.negatives} == {ANSWERS[2], ANSWERS[4], ANSWERS[5]}
    assert reasons(outcome) == {"duplicate": 2, "most_similar": 1}
    assert example.provenance["target"] == "given"
    assert len(example.proof["cosines"]) == 4
    assert example.proof["keep"] == 0.75


def test_fewer_negatives_are_the_beginning_of_more():
    task = dataclasses.replace(TASK, answer=ANSWERS[0])
    found = {
        k: contrast(varied, SelfContrast(samples=6, negatives=k), task).examples[0]
        for k in (1, 2, 3)
    }
    for k, example in found.items():
        assert example.negatives == found[3].negatives[:k]


def test_without_a_given_answer_the_greedy_one_is_the_target():
    outcome = contrast(varied, SelfContrast(samples=6))
    (example,) = outcome.examples
    assert (example.chosen.text, example.chosen.kind) == (ANSWERS[0], "sample")
    assert example.provenance["target"] == "greedy"


def test_too_few_survivors_give_no_example_but_a_reason():
    """3 survive, as above; 4 are asked for."""
    outcome = contrast(varied, SelfContrast(samples=6, min_survivors=4))
    assert outcome.examples == ()
    assert reasons(outcome)["too_few_survivors"] == 1


def test_most_similar_rounds_up():
    """0.25 of 1, 4 and 5 names: 1, 1 and 2; 0 of any: none."""
    names = {"a": 0.9, "b": 0.1, "c": 0.5, "d": 0.7, "e": 0.7}
    assert self_contrast.most_similar({"a": 0.9}, 0.25) == {"a"}
    assert self_contrast.most_similar(dict(list(names.items())[:4]), 0.25) == {"a"}
    assert self_contrast.most_similar(names, 0.25) == {"a", "d"}
    assert self_contrast.most_similar(names, 0.0) == set()


class Backwards:
    """Takes whatever it is offered before it answers, then answers last to first."""

    fingerprint, facts = ScriptedEngine(varied).fingerprint, {}

    def __init__(self, rule):
        self.rule = rule

    def generate(self, requests):
        taken = []
        for request in requests:
            if request is not None:
                taken.append(request)
                continue
            answers = list(ScriptedEngine(self.rule).generate(taken))[::-1]
            taken = []
            yield from answers
        yield from ScriptedEngine(self.rule).generate(taken)


def test_the_order_of_answers_and_the_other_lineages_change_nothing():
    seeds = [Seed(f"s{i}", f"Describe harbour number {i} to me.") for i in range(6)]
    own = context(lowercase_second)
    config = ECD(types=("lowercase", "end_question"), rounds=2, samples=3)

    def run(engine, some):
        planned = ecd.plan([(seed, "train") for seed in some], config, own)
        return {name: o.examples for name, o in drive(planned, engine).items()}

    forwards = run(ScriptedEngine(lowercase_second), seeds)
    assert run(Backwards(lowercase_second), seeds[::-1]) == forwards
    alone = run(ScriptedEngine(lowercase_second), seeds[:1])
    assert alone["ecd/s0"] == forwards["ecd/s0"]


def test_ticks_end_at_the_total():
    """Planned: 1 + 2 * 3 = 7 samples; a lineage that stops early counts as done."""
    ticks = []
    own = context(lowercase_second, gates=Gates())
    planned = ecd.plan(
        [(TASK, "train")], ECD(types=("lowercase",), rounds=2, samples=3), own
    )
    drive(planned, ScriptedEngine(lowercase_second), ticks.append)
    assert (ticks[-1].done, ticks[-1].total, ticks[-1].samples) == (7, 7, 4)


def test_draws_depend_on_all_parts():
    assert strategies.draw(1, "a") != strategies.draw("1a")
    assert strategies.draw(1, "a") == strategies.draw(1, "a") < 2**31


@pytest.mark.parametrize(
    ("make", "field"),
    [
        (lambda: ECD(rounds=0), "rounds"),
        (lambda: ECD(types=("lowercas",)), "lowercas"),
        (lambda: ECD(types=("lowercase", "lowercase")), "twice"),
        (lambda: ECD(base_samples=2), "base_temperature"),
        (lambda: ECD(max_witness_share=1.5), "max_witness_share"),
        (lambda: ECD(prompts=-1), "prompts"),
        (lambda: ECD(demonstrations=7), "demonstrations"),
        (lambda: SelfContrast(temperature=0.0), "temperature"),
        (lambda: SelfContrast(drop_most_similar=1.0), "drop_most_similar"),
    ],
)
def test_settings_out_of_range_are_refused(make, field):
    with pytest.raises(ValueError, match=field):
        make()
