# SPDX-License-Identifier: Apache-2.0
"""Prompts: a task and constraints in words, and the held-out prompts of evaluation."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from alignjax import constraints
from alignjax.constraints import Constraint
from data_gen.records import digest
from data_gen.seeds import Seed
from data_gen.strategies import draw

_WORDINGS = 16
_DRAWS = 20
HELD_OUT = ("validation", "test")


@dataclass(frozen=True)
class Evaluation:
    """Held-out prompts: every type, on tasks that no training example comes from.

    Args:
      types: constraint types; () takes all.
      tasks: at most so many tasks of each split; 0 takes all.
      prompts_per_type: prompts of each type in validation, and again in test; at most
        one per task and type.
    """

    types: tuple[str, ...] = ()
    tasks: int = 0
    prompts_per_type: int = 8

    def __post_init__(self) -> None:
        known_types(self.types)
        if self.prompts_per_type < 1:
            raise ValueError(
                f"prompts_per_type must be at least 1, got {self.prompts_per_type}"
            )
        if self.tasks < 0:
            raise ValueError(f"tasks must be 0 (all) or above, got {self.tasks}")


def known_types(types: Sequence[str]) -> tuple[str, ...]:
    """The types named, or all of them for (); ValueError names an unknown one."""
    for name in types:
        if name not in constraints.TYPES:
            raise ValueError(
                f"unknown constraint type {name!r}; expected some of "
                f"{', '.join(constraints.TYPES)}"
            )
    if len(set(types)) < len(types):
        raise ValueError(f"constraint types are given twice in {', '.join(types)}")
    return tuple(types) or tuple(constraints.TYPES)


class Instruction(NamedTuple):
    """What is asked, whole and in parts: the task and each constraint's sentence, but
    for what a constraint asks to repeat."""

    text: str
    parts: tuple[str, ...]


def instruct(task: str, asked: Sequence[Constraint], name: str) -> Instruction | None:
    """The task followed by its constraints in words.

    Wordings, and whether a constraint starts a new line, follow from `name`, so an
    instruction with one constraint more begins with the shorter one. A wording counts
    only if `constraints.parse` reads the same constraints back.

    Returns:
      The instruction, or None if no wording can be read back.
    """
    separator = " " if draw(name, "separator") % 2 else "\n"
    prompt = task.strip()
    parts = [prompt]
    for index, constraint in enumerate(asked):
        if separator == " " and prompt[-1].isalnum():
            prompt += "."
        first = draw(name, "wording", index)
        for variant in range(first, first + _WORDINGS):
            sentence = constraints.render(constraint, variant)
            longer = prompt + separator + sentence
            if stated(longer, index + 1) == tuple(asked[: index + 1]):
                prompt = longer
                parts.append(sentence)
                break
        else:
            return None
    own = tuple(part for part in parts if not _is_quoted(part, asked))
    return Instruction(prompt, own)


def _is_quoted(part: str, asked: Sequence[Constraint]) -> bool:
    """Whether a constraint asks for text that holds this part, as repeat_request does
    with the task: an answer that has it is then no echo."""
    values = [value for constraint in asked for value in constraint.params.values()]
    return any(part in value for value in values if isinstance(value, str))


def stated(prompt: str, count: int) -> tuple[Constraint, ...]:
    """The last `count` constraints that can be read in a prompt."""
    return constraints.parse(prompt)[-count:] if count else ()


def held_out_prompts(
    tasks: Mapping[str, Sequence[Seed]], config: Evaluation, *, seed: int
) -> list[dict[str, Any]]:
    """Evaluation prompts of both held-out splits, in order of split and type.

    Tasks are taken in turn from one seeded order, so each serves about equally often.
    Those that are a turn of a conversation are left out.
    Parameters are drawn without looking at any answer.

    Args:
      tasks: the tasks of "validation" and of "test"; either may be empty.
      config: types and numbers.
      seed: decides order, parameters and wordings.
    """
    prompts = []
    for split in HELD_OUT:
        alone = [task for task in tasks.get(split, ()) if not task.history]
        own = sorted(alone, key=lambda t: draw(seed, "order", t.id))
        own = own[: config.tasks or None]
        turn = 0
        for name in known_types(config.types):
            for _ in range(min(config.prompts_per_type, len(own))):
                task = own[turn % len(own)]
                turn += 1
                prompts.append(_prompt(task, name, split, seed))
    return prompts


def _prompt(task: Seed, name: str, split: str, seed: int) -> dict[str, Any]:
    label = f"evaluation/{seed}/{task.id}/{name}"
    rng = random.Random(draw(label))
    for _ in range(_DRAWS):
        constraint = constraints.sample(name, rng, topic=task.text)
        instruction = instruct(task.text, [constraint], label)
        if instruction is not None:
            return {
                "id": digest([split, task.id, instruction.text])[:32],
                "split": split,
                "root_id": task.id,
                "task": task.text,
                "constraint": constraint.to_json(),
                "prompt": instruction.text,
            }
    raise ValueError(
        f"task {task.id!r}: no wording of constraint type {name!r} can be read back "
        f"from its prompt; rephrase the task: {task.text!r}"
    )
