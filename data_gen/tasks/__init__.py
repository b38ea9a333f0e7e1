# SPDX-License-Identifier: Apache-2.0
"""Tasks: one instruction in several wordings, many instances, each with one answer."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from data_gen.tasks import wordings

_SLOT = re.compile(r"\{(\w+)\}")
_NUMBER = re.compile(r"[+-]?\d+(?:,\d{3})*(?:\.\d+)?")


@dataclass(frozen=True)
class Task:
    """A kind of task.

    Attributes:
      fields: names of the parts of an instance, in the order in which they are shown
        under an instruction that has no slots for them.
      wordings: the instruction, put in several ways.
      labels: what files call an answer (in lower case) -> the word that is asked for;
        empty where answers are free texts.
    """

    fields: tuple[str, ...]
    wordings: tuple[str, ...]
    labels: Mapping[str, str]


@dataclass(frozen=True)
class Instance:
    """One input of a task with its answer.

    `id` depends on task and fields only. `root_id` is shared by all instances that
    have a text in common, such as three hypotheses of one premise.
    """

    id: str
    fields: Mapping[str, str]
    answer: str
    root_id: str = ""

    @property
    def text(self) -> str:
        """All fields, a line each."""
        return "\n".join(self.fields.values())


def _same(*names: str) -> dict[str, str]:
    return {name: name for name in names}


OPEN = "open"  # any instruction: it has no wording but its own
_YES_NO = {**_same("yes", "no"), "true": "yes", "false": "no"}
TASKS: dict[str, Task] = {
    "sentiment": Task(
        ("text",),
        wordings.SENTIMENT,
        {**_same("positive", "negative"), "good": "positive", "bad": "negative"},
    ),
    "topic": Task(
        ("text",),
        wordings.TOPIC,
        _same("sports", "business", "science", "health", "travel", "world"),
    ),
    "grammar": Task(
        ("text",),
        wordings.GRAMMAR,
        {**_same("acceptable", "unacceptable"), "1": "acceptable", "0": "unacceptable"},
    ),
    "entailment": Task(
        ("premise", "hypothesis"),
        wordings.ENTAILMENT,
        _same("entailment", "neutral", "contradiction"),
    ),
    "paraphrase": Task(
        ("first", "second"),
        wordings.PARAPHRASE,
        {**_YES_NO, "duplicate": "yes", "different": "no"},
    ),
    "word_sense": Task(("word", "first", "second"), wordings.WORD_SENSE, _YES_NO),
    "choice": Task(("question", "choices"), wordings.CHOICE, {}),
    "yes_no": Task(("question",), wordings.YES_NO, _YES_NO),
    "claim": Task(
        ("claim",),
        wordings.CLAIM,
        {**_same("true", "false"), "yes": "true", "no": "false"},
    ),
    "word_problem": Task(("question",), wordings.WORD_PROBLEM, {}),
    OPEN: Task(("request",), ("{request}",), {}),
}


def fill(
    wording: str, task: Task, fields: Mapping[str, str], labels: Sequence[str]
) -> str:
    """The prompt: a wording with its slots filled.

    What stands in a slot is not read again, so an instance may hold braces. Under a
    wording without slots for them, the fields follow with their names, a line each.

    Raises:
      ValueError: the wording has a slot that the task does not fill.
    """
    values = {**fields, "options": listed(labels)}

    def value(slot: re.Match[str]) -> str:
        if slot[1] not in values:
            raise ValueError(
                f"the wording {wording!r} has a slot {slot[0]}; this task fills "
                f"{', '.join(values)}"
            )
        return values[slot[1]]

    prompt = _SLOT.sub(value, wording)
    if not set(_SLOT.findall(wording)) & set(fields):
        lines = [f"{name.capitalize()}: {fields[name]}" for name in task.fields]
        prompt = "\n".join([prompt, *lines])
    return prompt


def listed(labels: Sequence[str]) -> str:
    """ "a", "a or b", "a, b or c"."""
    *first, last = labels or ("",)
    return f"{', '.join(first)} or {last}" if first else last


def same_answer(answer: str) -> str:
    """What an answer is compared by: no case, no punctuation, no article; a number by
    its value. Two that agree in it may be the same answer."""
    text = " ".join(answer.casefold().split()).strip("\"'“”‘’.,;:!?()[] ")
    text = re.sub(r"^(?:a|an|the) ", "", text)
    bare = text.strip("$€£% ")
    if _NUMBER.fullmatch(bare):
        return f"{float(bare.replace(',', '')):.12g}"
    return re.sub(r"\W+", " ", text).strip() or text


def families(instances: Iterable[Instance], least: int = 20) -> dict[str, str]:
    """The family of each instance, by id: the smallest id among those that it is
    connected with by a field of the same text, of `least` characters or more."""
    parent: dict[str, str] = {}

    def top(name: str) -> str:
        while parent[name] != name:
            parent[name] = parent[parent[name]]
            name = parent[name]
        return name

    holder: dict[str, str] = {}
    for instance in instances:
        parent.setdefault(instance.id, instance.id)
        for value in instance.fields.values():
            text = " ".join(value.casefold().split())
            if len(text) < least:
                continue
            one, other = sorted((top(instance.id), top(holder.get(text, instance.id))))
            parent[other] = one
            holder[text] = one
    return {name: top(name) for name in parent}
