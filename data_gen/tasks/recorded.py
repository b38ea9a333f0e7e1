# SPDX-License-Identifier: Apache-2.0
"""Recorded wordings: instructions whose paraphrases somebody else has written.

A `.jsonl` file has one {"task", "original", "paraphrase", "level"} a line. The lists of
adversarial prompts that PromptBench publishes (`.md`) are read as they are: attacked
prompts at the level of their attack, and the prompts of a data set, which all say the
same, as paraphrases of each other. Its translations name no original and are not read.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from alignjax.perturb import LEVELS
from data_gen.tasks import TASKS
from data_gen.tasks.read import content, rows_of_jsonl

_ATTACKS = {
    "deepwordbug": "character",
    "textbugger": "character",
    "textfooler": "word",
    "bertattack": "word",
    "checklist": "sentence",
    "stresstest": "sentence",
}
_DATA_SETS = {
    "sst2": "sentiment",
    "cola": "grammar",
    "mnli": "entailment",
    "rte": "entailment",
    "qnli": "entailment",
    "wnli": "entailment",
    "qqp": "paraphrase",
    "mrpc": "paraphrase",
}
_PROMPT = re.compile(r"Acc: [\d.]+%, prompt: (.*)")


class Recorded(NamedTuple):
    """An instruction of a task and a paraphrase of it at a level."""

    task: str
    level: str
    original: str
    paraphrase: str


def recorded(path: str) -> tuple[Recorded, ...]:
    """What a file has recorded, without repetitions, in file order.

    Raises:
      ValueError: names file and line, what is wrong there and what to do.
    """
    source, raw = content(path)
    kind = Path(source.removesuffix(".gz")).suffix
    readers = {".jsonl": _jsonl, ".md": _promptbench}
    if kind not in readers:
        raise ValueError(f"{source}: recorded wordings are a .jsonl or .md file")
    found = tuple(dict.fromkeys(readers[kind](source, raw)))
    if not found:
        raise ValueError(f"{source}: no recorded wording in it")
    return found


def _jsonl(source: str, raw: bytes) -> Iterator[Recorded]:
    for number, row in rows_of_jsonl(source, raw):
        where = f"{source}:{number}"
        values = {"level": "semantic", **row}
        for field in Recorded._fields:
            value = values.get(field)
            if not isinstance(value, str) or not value.strip():
                raise ValueError(f"{where}: {field!r} must be a text, got {value!r}")
        if set(values) - set(Recorded._fields):
            raise ValueError(f"{where}: has fields other than {Recorded._fields}")
        for field, known in {"task": TASKS, "level": LEVELS}.items():
            if values[field] not in known:
                raise ValueError(
                    f"{where}: no {field} {values[field]!r} (known: {', '.join(known)})"
                )
        yield Recorded(**values)


def _promptbench(source: str, raw: bytes) -> Iterator[Recorded]:
    task = level = original = ""
    prompts: list[str] = []
    for number, line in enumerate(raw.decode("utf-8").split("\n"), start=1):
        if line.startswith("# "):
            task, level, prompts = _DATA_SETS.get(line[2:].strip(), ""), "", []
        elif line.startswith("## "):
            level = _ATTACKS.get(line[3:].strip(), "")
        elif task and (match := _PROMPT.fullmatch(line.strip())):
            prompts.append(match[1])
            if len(prompts) > 1:
                yield Recorded(task, "semantic", *prompts[-2:])
        elif line.startswith("Original prompt: "):
            original = line.removeprefix("Original prompt: ").strip()
        elif line.startswith("Attacked prompt: ") and task and level:
            attacked = line.removeprefix("Attacked prompt: ").strip()
            try:
                text = ast.literal_eval(attacked).decode("utf-8")
            except (ValueError, SyntaxError, AttributeError) as error:
                raise ValueError(
                    f"{source}:{number}: expected bytes as Python writes them, got "
                    f"{attacked[:60]!r}"
                ) from error
            if text.strip() != original:
                yield Recorded(task, level, original, text.strip())
