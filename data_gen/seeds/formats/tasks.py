# SPDX-License-Identifier: Apache-2.0
"""Tasks: rows with an instruction, perhaps an instance of it, and its result."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from data_gen.seeds.formats.turns import (
    Found,
    Options,
    Unusable,
    asked,
    cleaned,
    list_of,
    messages_of,
    named,
    text_of,
)
from data_gen.seeds.plain import read_seed
from data_gen.seeds.seed import Seed

# What stands in Alpaca-style files where there is no input or output.
_NO_INPUT = re.compile(r"<?\s*(?:no ?input|n/?a|none)\s*>?\.?", re.IGNORECASE)
_NO_OUTPUT = re.compile(r"<?\s*no ?output\s*>?\.?", re.IGNORECASE)
_CALCULATOR = re.compile(r"<<[^<>]*>>")
_FINAL = re.compile(r"####\s*(\S.*)$", re.MULTILINE)

# Task of GLUE and SuperGLUE as O-LoRA's files have them: instruction, labels.
GLUE: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "SST-2": (
        "Is the opinion in this text about a film good or bad?",
        ("Good", "Bad"),
    ),
    "RTE": (
        "Does sentence 2 follow from sentence 1?",
        ("entailment", "contradiction"),
    ),
    "MNLI": (
        "Does sentence 2 follow from sentence 1, contradict it, or neither?",
        ("entailment", "neutral", "contradiction"),
    ),
    "CB": (
        "Does sentence 2 follow from sentence 1, contradict it, or neither?",
        ("entailment", "neutral", "contradiction"),
    ),
    "QQP": ("Do the two sentences ask the same question?", ("True", "False")),
    "WiC": (
        "Does the word have the same meaning in both sentences?",
        ("True", "False"),
    ),
    "COPA": ("Which of the two choices is more plausible?", ("A", "B")),
}


def seeds(row: Mapping[str, Any], options: Options) -> Iterator[Found]:
    """The objects of our own seed files."""
    yield read_seed(row)


def text(row: Any, options: Options) -> Iterator[Found]:
    """A line of a text file."""
    if not isinstance(row, str):
        raise ValueError(f"expected a line of text, got {type(row).__name__}")
    yield named(Seed("", cleaned(row)))


def alpaca(row: Mapping[str, Any], options: Options) -> Iterator[Found]:
    """{"instruction", "input"?, "output"}."""
    given = text_of(row, "input") if row.get("input") is not None else ""
    yield _instance(text_of(row, "instruction"), given, text_of(row, "output"))


def self_instruct(row: Mapping[str, Any], options: Options) -> Iterator[Found]:
    """{"id", "instruction", "instances": [{"input", "output"}, ...]}."""
    name, instruction = text_of(row, "id"), text_of(row, "instruction")
    instances = list_of(row, "instances")
    for number, instance in enumerate(instances):
        output = text_of(instance, "output")
        label = output if row.get("is_classification") is True else ""
        found = _instance(instruction, text_of(instance, "input"), output, label=label)
        if isinstance(found, Seed):
            place = f"/{number}" if len(instances) > 1 else ""
            found = replace(found, id=name + place)
        yield found
    if not instances:
        yield Unusable("no_answer", "the task has no instance", instruction)


def flan(row: Mapping[str, Any], options: Options) -> Iterator[Found]:
    """{"inputs", "targets", "_task_name"?, "_template_type"?}."""
    asks = text_of(row, "inputs")
    kind = row.get("_template_type")
    task = row.get("_task_name", row.get("task", ""))
    if isinstance(kind, str) and kind.startswith("fs"):
        yield Unusable("few_shot", f"template {kind}: holds solved examples", asks)
        return
    target = text_of(row, "targets")
    if not target:
        yield Unusable("empty_answer", "", asks)
        return
    domain = task if isinstance(task, str) else ""
    yield named(Seed("", asks, domain, answer=target))


def flan_cot(row: Any, options: Options) -> Iterator[Found]:
    """Three columns without a header: question, result, reasoning."""
    if not isinstance(row, list) or len(row) != 3:
        count = len(row) if isinstance(row, list) else 1
        raise ValueError(
            f"expected 3 columns (question, result, reasoning), got {count}"
        )
    question, result, reasoning = (
        cleaned(column.replace("\\n", "\n")) for column in row
    )
    if not result or not reasoning:
        yield Unusable("empty_answer", "", question)
        return
    stop = "" if reasoning[-1] in ".!?" else "."
    answer = f"{reasoning}{stop}\nThe answer is {result}."
    domain = options.task or re.split(r"[_.]", options.name)[0]
    yield named(Seed("", question, domain, answer=answer, label=result))


def glue(row: Mapping[str, Any], options: Options) -> Iterator[Found]:
    """{"sentence", "label"}; the file's name, or `task`, says which task it is."""
    given = options.task or re.split(r"[_.]", options.name)[0]
    task = {name.casefold(): name for name in GLUE}.get(given.casefold())
    if task is None:
        raise ValueError(
            f"the task of these rows is not known from {given!r}; set task to one of "
            f"{', '.join(GLUE)}"
        )
    instruction, labels = GLUE[task]
    sentence, label = text_of(row, "sentence"), text_of(row, "label")
    if label == "-":
        yield Unusable("no_label", "the annotators did not agree", sentence)
        return
    if label not in labels:
        raise ValueError(f"label {label!r} is none of {', '.join(labels)} ({task})")
    *most, last = labels
    instruction += f" Answer with {', '.join(most)} or {last} only."
    yield _instance(instruction, sentence, label, domain=task, label=label)


def gsm8k(row: Mapping[str, Any], options: Options) -> Iterator[Found]:
    """{"question", "answer"}; the answer ends with "#### RESULT"."""
    question, answer = text_of(row, "question"), text_of(row, "answer")
    final = _FINAL.search(answer)
    if final is None:
        raise ValueError('"answer" has no line "#### RESULT"')
    plain = _CALCULATOR.sub("", answer)
    yield named(Seed("", question, answer=plain, label=final[1].strip()))


def rephrase_gsm8k(row: Mapping[str, Any], options: Options) -> Iterator[Found]:
    """{"text": "Question: ...\\nAnswer: ...\\n#### RESULT"}."""
    whole = text_of(row, "text")
    found = re.fullmatch(
        r"Question:\s*(.*?)\s*\n\s*Answer:\s*(.*?)\s*####\s*(\S.*)", whole, re.DOTALL
    )
    if found is None:
        raise ValueError('"text" is not "Question: ... Answer: ... #### RESULT"')
    yield named(Seed("", found[1], label=found[3].strip()))


def prompts(row: Mapping[str, Any], options: Options) -> Iterator[Found]:
    """{"prompt"}: a text or messages."""
    if isinstance(row.get("prompt"), list):
        yield asked(messages_of(row, "prompt"))
    else:
        yield named(Seed("", text_of(row, "prompt")))


def ifeval(row: Mapping[str, Any], options: Options) -> Iterator[Found]:
    """{"prompt", "instruction_id_list"}."""
    names = list_of(row, "instruction_id_list")
    if not all(isinstance(name, str) for name in names):
        raise ValueError('"instruction_id_list" must be a list of texts')
    yield named(Seed("", text_of(row, "prompt"), constraints=tuple(names)))


def mt_bench(row: Mapping[str, Any], options: Options) -> Iterator[Found]:
    """{"question_id", "turns"}: each turn by itself."""
    for turn in list_of(row, "turns"):
        yield from text(turn, options)


def _instance(
    instruction: str, given: str, output: str, *, domain: str = "", label: str = ""
) -> Found:
    """A task applied to an instance of it, or a task that needs none."""
    if _NO_INPUT.fullmatch(given):
        given = ""
    whole = f"{instruction}\n\n{given}" if given else instruction
    if not output or _NO_OUTPUT.fullmatch(output):
        return Unusable("empty_answer", f"output {output!r}", whole)
    seed = Seed("", whole, domain, answer=output, label=label)
    if given:
        seed = replace(seed, instruction=instruction, input=given)
    return named(seed)
