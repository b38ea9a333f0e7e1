# SPDX-License-Identifier: Apache-2.0
"""What an evaluation asks (held-out prompts), and what an answer about the task looks
like (references)."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from pathlib import Path

from alignjax.constraints import TYPES, Constraint
from alignjax.metrics import read_jsonl


@dataclasses.dataclass(frozen=True)
class Prompt:
    """A held-out (task, constraint) prompt."""

    id: str
    root_id: str
    task: str
    prompt: str
    constraint: Constraint


@dataclasses.dataclass(frozen=True)
class Reference:
    """The base model's answers to a bare task: the greedy one, then sampled ones."""

    root_id: str
    task: str
    answers: tuple[str, ...]


def read_prompts(path: Path, split: str) -> list[Prompt]:
    """Held-out prompts of one split.

    Raises:
      ValueError: no file, no prompt of that split, a missing field or a constraint of
        an unknown kind (file:line), or an id that is there twice.
    """
    if not path.is_file():
        raise ValueError(
            f"{path}: no such file; the dataset must be a data-gen folder that was "
            "made with a section 'evaluation'"
        )
    prompts: dict[str, Prompt] = {}
    splits = set()
    for number, row in enumerate(read_jsonl(path), start=1):
        try:
            constraint = Constraint.from_json(row["constraint"])
            fields = (row["id"], row["root_id"], row["task"], row["prompt"])
            own = row["split"]
        except KeyError as missing:
            raise ValueError(f"{path}:{number}: field {missing} is missing") from None
        except (TypeError, ValueError) as error:
            raise ValueError(f"{path}:{number}: constraint: {error}") from error
        if constraint.type not in TYPES:
            raise ValueError(
                f"{path}:{number}: unknown constraint type {constraint.type!r}; the "
                "dataset was made by another version: make it again"
            )
        wrong = [field for field in fields if not isinstance(field, str)]
        if wrong:
            raise ValueError(f"{path}:{number}: expected a text, got {wrong[0]!r:.60}")
        splits.add(str(own))
        if own == split:
            prompt = Prompt(*fields, constraint)
            if prompt.id in prompts:
                raise ValueError(f"{path}:{number}: id {prompt.id!r} is there twice")
            prompts[prompt.id] = prompt
    if not prompts:
        raise ValueError(
            f"{path}: holds no prompt of the split {split!r} (splits there: "
            f"{', '.join(sorted(splits)) or 'none'})"
        )
    return list(prompts.values())


def read_references(path: Path, prompts: Iterable[Prompt]) -> list[Reference]:
    """References that an earlier evaluation wrote, for the tasks of `prompts`.

    Raises:
      ValueError: no file, a damaged line, or a task without a reference.
    """
    if not path.is_file():
        raise ValueError(
            f"{path}: no such file; references must be the folder of a finished "
            "evaluation of the base model (or empty, to make them again)"
        )
    found = []
    for number, row in enumerate(read_jsonl(path), start=1):
        root, task, answers = (row.get(name) for name in ("root_id", "task", "answers"))
        texts = answers if isinstance(answers, list) else []
        if not texts or not all(isinstance(v, str) for v in (root, task, *texts)):
            raise ValueError(
                f"{path}:{number}: expected the texts root_id and task and the list "
                "of texts answers; made by another version? evaluate the base again"
            )
        found.append(Reference(str(root), str(task), tuple(texts)))
        if len(texts) != len(found[0].answers):
            raise ValueError(
                f"{path}:{number}: {len(texts)} answers, line 1 has "
                f"{len(found[0].answers)}; damaged? evaluate the base again"
            )
    missing = {p.root_id for p in prompts} - {r.root_id for r in found}
    if missing:
        raise ValueError(
            f"{path}: no reference for task {min(missing)!r}; the evaluation that made "
            "it used another dataset or split"
        )
    return found
