# SPDX-License-Identifier: Apache-2.0
"""Demonstrations: right by their own verifiers, in the request only, and repeatable."""

import random
from collections import Counter

import pytest

from alignjax import constraints
from alignjax.constraints import Constraint, Verdict
from data_gen import demonstrations
from data_gen.demonstrations import STOCK, turns
from data_gen.engines.scripted import ScriptedEngine
from data_gen.records import Message
from data_gen.seeds import Seed, load_seeds, near_duplicates
from data_gen.strategies import Context, drive, ecd
from data_gen.strategies.ecd import ECD

TASK = Seed("s1", "Describe the sea near the old harbour.")
BASE = "The sea by the harbour is grey, cold, and calm today."


def drawn(*types: str) -> list[Constraint]:
    rng = random.Random("/".join(types))
    return [constraints.sample(name, rng, topic=TASK.text) for name in types]


def check_turns(messages: tuple[Message, ...], types: tuple[str, ...]) -> None:
    """Users ask for constraints of these types; the answers after them meet them."""
    roles = [message.role for message in messages]
    assert roles == ["user", "assistant"] * (len(messages) // 2)
    for user, assistant in zip(messages[::2], messages[1::2], strict=True):
        asked = constraints.parse(user.content)
        assert tuple(constraint.type for constraint in asked) == types
        verdicts = constraints.check_all(asked, assistant.content)
        assert verdicts == [Verdict.PASS] * len(types)
        assert any(user.content.startswith(task) for task, _ in STOCK)


@pytest.mark.parametrize(
    "name", [name for name, kind in constraints.TYPES.items() if kind.keeps_content]
)
def test_every_type_can_be_demonstrated_on_every_task(name):
    """6 tasks: 12 turns, each task once."""
    messages = turns(drawn(name), count=6, name="x")
    assert len(messages) == 12
    check_turns(messages, (name,))
    for task, _ in STOCK:
        assert sum(user.content.startswith(task) for user in messages[::2]) == 1


def test_two_constraints_are_demonstrated_together():
    shown = 0
    for number in range(60):
        types = tuple(random.Random(number).sample(list(constraints.TYPES), 2))
        messages = turns(drawn(*types), count=1, name=str(number))
        check_turns(messages, types)
        shown += len(messages) // 2
    assert shown > 40  # some types exclude each other


def test_a_language_is_not_demonstrated_by_an_answer_to_nothing():
    """The stock is English, and its answers cannot be translated here."""
    french = Constraint("language", {"language": "French"})
    assert turns([french], count=6, name="x") == ()
    assert turns([*drawn("quoted"), french], count=6, name="x") == ()


def test_constraints_that_exclude_each_other_are_not_demonstrated():
    assert turns(drawn("lowercase", "uppercase"), count=6, name="x") == ()


def test_the_same_name_gives_the_same_turns():
    asked = drawn("hashtags", "start_phrase")
    assert turns(asked, count=3, name="x") == turns(asked, count=3, name="x")
    found = {turns(asked, count=1, name=str(number)) for number in range(12)}
    assert len(found) > 6


def test_fewer_turns_are_the_beginning_of_more():
    asked = drawn("quoted")
    for count in range(7):
        fewer = turns(asked, count=count, name="x")
        assert len(fewer) == 2 * count
        assert fewer == turns(asked, count=6, name="x")[: 2 * count]


def test_parameters_are_drawn_anew():
    """A start phrase is drawn from many: under a third of 30 show the one asked."""
    asked = drawn("start_phrase")
    same = 0
    for number in range(30):
        (user, _) = turns(asked, count=1, name=str(number))
        same += constraints.parse(user.content) == tuple(asked)
    assert same < 10


def test_the_tasks_are_not_those_of_the_builtin_seeds():
    """No pair above 0.3; 0.6 is where a run calls two tasks the same."""
    stock = [Seed(f"stock{i}", task) for i, (task, _) in enumerate(STOCK)]
    found = near_duplicates([*load_seeds("builtin"), *stock], 0.3)
    assert [o for o in found if {o.first.id, o.second.id} & {s.id for s in stock}] == []
    assert near_duplicates(stock, 0.3) == []


def obedient(messages: tuple[Message, ...], sample: int) -> str:
    """BASE, edited until it passes what the last message asks for."""
    asked = constraints.parse(messages[-1].content)
    return constraints.compose(asked, BASE) or BASE


def evolve(count: int, rule=obedient):
    """The outcome and every request, with `count` demonstrations."""
    seen: list[tuple[Message, ...]] = []

    def watched(messages, sample):
        seen.append(messages)
        return rule(messages, sample)

    engine = ScriptedEngine(watched)
    config = ECD(
        types=("lowercase", "no_commas", "exclamations_min"),
        samples=2,
        demonstrations=count,
        greedy_first=False,
    )
    context = Context(7, engine.fingerprint, engine.facts)
    (outcome,) = drive(ecd.plan([(TASK, "train")], config, context), engine).values()
    return outcome, seen


@pytest.mark.parametrize("count", [0, 1, 3])
def test_demonstrations_are_in_the_request_and_not_in_the_prompt(count):
    """Two rounds: the bare task, then 2 samples each of 2 * count + 1 messages."""
    outcome, seen = evolve(count)
    assert len(outcome.examples) == 2
    assert [len(messages) for messages in seen] == [1, *[2 * count + 1] * 4]
    stock = [text for pair in STOCK for text in pair]
    for number, example in enumerate(outcome.examples):
        assert example.prompt == seen[2 * number + 1][-1:]
        assert example.prompt[0].content.startswith(TASK.text)
        assert not any(text in example.prompt[0].content for text in stock)
        assert example.provenance["demonstrations"] == count
        types = tuple(constraint["type"] for constraint in example.constraints)
        check_turns(seen[2 * number + 1][:-1], types)


def test_the_prompts_are_the_same_with_and_without():
    prompts = [
        [example.prompt for example in evolve(count)[0].examples] for count in (0, 2)
    ]
    assert prompts[0] == prompts[1]


def test_an_answer_that_repeats_a_demonstration_is_an_echo():
    """The demonstration's own answer passes the constraint; it is dropped, and an edit
    of the parent's answer is preferred."""

    def copies(messages, sample):
        return messages[1].content if len(messages) > 1 else BASE

    outcome, _ = evolve(1, copies)
    reasons = Counter((item.round, item.reason) for item in outcome.rejected)
    assert reasons == {(1, "echo"): 2, (2, "echo"): 2}
    assert [example.chosen.kind for example in outcome.examples] == ["witness"] * 2


def test_what_was_shown_decides_what_is_an_echo():
    assert demonstrations.sentences(()) == ()
    found = demonstrations.sentences(turns(drawn("quoted"), count=1, name="x"))
    assert "Its light shows ships where the rocks are." in found
    assert "Keep it short." in found  # three words: too short for the echo gate
