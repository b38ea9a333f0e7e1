# SPDX-License-Identifier: Apache-2.0
"""Prompts: constraints in words that can be read back, and held-out prompts."""

from collections import Counter

import pytest

from alignjax import constraints
from alignjax.constraints import Constraint
from data_gen import filters, prompts
from data_gen.prompts import Evaluation, held_out_prompts, instruct
from data_gen.seeds import Seed

LOWER = Constraint("lowercase", {})
SHORT = Constraint("words_max", {"n": 12})


def test_an_instruction_can_be_read_back():
    for name in map(str, range(20)):
        instruction = instruct("Name a fruit", [LOWER, SHORT], name)
        assert instruction is not None
        assert constraints.parse(instruction.text) == (LOWER, SHORT)
        task, *sentences = instruction.parts
        assert task == "Name a fruit"
        assert [constraints.parse(s) for s in sentences] == [(LOWER,), (SHORT,)]
        assert all(sentence in instruction.text for sentence in sentences)


def test_one_constraint_more_continues_the_shorter_instruction():
    shorter = instruct("Name a fruit.", [LOWER], "x")
    longer = instruct("Name a fruit.", [LOWER, SHORT], "x")
    assert shorter is not None and longer is not None
    assert longer.text.startswith(shorter.text)


def test_wording_and_joining_vary_with_the_name():
    found = [instruct("Name a fruit.", [LOWER], str(i)) for i in range(40)]
    texts = {instruction.text for instruction in found if instruction}
    assert {text.split("fruit.")[1][0] for text in texts} == {" ", "\n"}
    assert len(texts) >= 6


def test_a_task_that_is_to_be_repeated_may_be_repeated():
    """The echo gate looks at the parts: the task is none of them then."""
    task = "Name a fruit that is easy to peel."
    repeat = Constraint("repeat_request", {"request": task})
    instruction = instruct(task, [LOWER, repeat], "x")
    assert instruction is not None and instruction.text.startswith(task)
    assert [constraints.parse(part) for part in instruction.parts] == [
        (LOWER,),
        (repeat,),
    ]
    answer = f"{task}\n\nA banana is easy to peel for everyone."
    assert filters.echo(answer, instruction.parts) is None
    assert filters.echo(answer, (task,)) == "echo"


def tasks(count, split="test"):
    return {split: [Seed(f"{split}{i}", f"Describe thing {i}.") for i in range(count)]}


def test_tasks_serve_about_equally_often():
    """3 types x 4 prompts on 5 tasks: 12 = 2 * 5 + 2, so two tasks serve thrice."""
    config = Evaluation(types=("lowercase", "words_max", "json"), prompts_per_type=4)
    found = held_out_prompts(tasks(5), config, seed=0)
    assert Counter(prompt["constraint"]["type"] for prompt in found) == {
        "lowercase": 4,
        "words_max": 4,
        "json": 4,
    }
    uses = Counter(prompt["root_id"] for prompt in found)
    assert sorted(uses.values()) == [2, 2, 2, 3, 3]
    for prompt in found:
        asked = Constraint.from_json(prompt["constraint"])
        assert constraints.parse(prompt["prompt"]) == (asked,)
        assert prompt["prompt"].startswith(prompt["task"])


def test_a_type_takes_a_task_once():
    """2 tasks and 8 prompts per type: 2 prompts of each type."""
    config = Evaluation(types=("lowercase", "json"), prompts_per_type=8)
    found = held_out_prompts(tasks(2), config, seed=0)
    assert len(found) == 4
    assert len({prompt["id"] for prompt in found}) == 4


def test_at_most_so_many_tasks_are_used():
    """12 tasks, 4 allowed, 3 types: 4 prompts of each type, on the same 4 tasks; 0
    allows all 12, and 5 are the 4 and one more."""

    def used(count, per_type=8):
        config = Evaluation(("lowercase", "json", "title"), count, per_type)
        found = held_out_prompts(tasks(12), config, seed=0)
        return Counter(prompt["root_id"] for prompt in found)

    assert sorted(used(4).values()) == [3, 3, 3, 3]
    assert len(used(0)) == 12
    assert set(used(4)) < set(used(5)) and len(used(5)) == 5


def test_every_type_can_be_asked_of_every_builtin_task():
    own = {"validation": prompts_seeds()[:3], "test": prompts_seeds()[3:5]}
    found = held_out_prompts(own, Evaluation(prompts_per_type=1), seed=3)
    assert len(found) == 2 * len(constraints.TYPES)
    assert [p["split"] for p in found] == sorted(
        (p["split"] for p in found), reverse=True
    )


def prompts_seeds():
    from data_gen.seeds import load_seeds

    return load_seeds("builtin", 5)


def test_a_seed_decides_the_prompts():
    config = Evaluation(types=("words_max",), prompts_per_type=5)
    first = held_out_prompts(tasks(5), config, seed=0)
    assert first == held_out_prompts(tasks(5), config, seed=0)
    assert first != held_out_prompts(tasks(5), config, seed=1)


def test_an_unknown_type_is_refused():
    with pytest.raises(ValueError, match="unknown constraint type 'lowercas'"):
        Evaluation(types=("lowercas",))
    with pytest.raises(ValueError, match="prompts_per_type"):
        Evaluation(prompts_per_type=0)
    with pytest.raises(ValueError, match="tasks"):
        Evaluation(tasks=-1)
    assert prompts.known_types(()) == tuple(constraints.TYPES)
