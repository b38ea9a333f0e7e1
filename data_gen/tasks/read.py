# SPDX-License-Identifier: Apache-2.0
"""Reading instances: the project's own, and files as they are found.

Formats, told apart by their names; each may be gzipped (`.gz`):

* `.jsonl`: one object a line with the task's fields and "answer"; also GSM8K's, whose
  answer ends in "#### 18", and lines {"text": "Question: ...Answer: ... #### 18"}.
* `.json`: a list of {"sentence", "label"}, as O-LoRA stores GLUE and SuperGLUE tasks.
* `.tsv`: question, answer, explanation, as FLAN stores its chain-of-thought tasks. Line
  ends inside a question are the two characters \\n. The explanation is not read.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from data_gen.records import digest
from data_gen.tasks import TASKS, Instance, Task

BUILTIN = "builtin"
NO_LABEL = "-"  # how SNLI and MNLI mark an instance that annotators disagree about
MAX_BYTES = 1 << 30  # of a file once it is unpacked
_BUILTIN_NAME = "data_gen/data/instances.jsonl"

_SENTENCES = {
    "sentiment": r"Text: (?P<text>.*)",
    "entailment": r"sentence 1: (?P<premise>.*?)\nsentence 2: (?P<hypothesis>.*)",
    "paraphrase": r"first sentence: (?P<first>.*?)\nsecond sentence: (?P<second>.*)",
    "word_sense": r"word: (?P<word>[^\n]*)\n(?P<first>[^\n]*)\n(?P<second>.*)",
    "choice": r"Which sentence is the (?P<relation>cause|effect) of \"(?P<event>.*)\"\?"
    r" Choose one between A and B\.\nA: (?P<a>[^\n]*)\nB: (?P<b>.*)",
}
_QUESTIONS = {
    "choice": r"(?P<question>.*?)\nOptions:\n(?P<options>.*)",
    "yes_no": r"(?P<question>[^\n]*)",
    "claim": r"[^\"]*\"(?P<claim>.*)\"[^\"]*",
}
_OPTION = re.compile(r"^(?:- )?\(([A-Z])\)\s*(.*)$", re.M)
_TEXT = re.compile(r"Question: (?P<question>.*?)\s*Answer:\s*(?P<answer>.*)", re.S)


def instances(name: str, path: str, labels: Mapping[str, str]) -> list[Instance]:
    """The instances of a task in a file, in file order; roots are not set.

    An instance with an empty field, or without an answer, is among them as it is.

    Args:
      name: of a task in TASKS.
      path: a file, or "builtin".
      labels: what the file calls an answer -> the word asked for; {} takes the task's.

    Raises:
      ValueError: names file and line, what is wrong there and what to do.
    """
    task = TASKS[name]
    words = {key.casefold(): word for key, word in labels.items()} or task.labels
    source, raw = content(path)
    found = []
    for line, row in _rows(source, raw):
        where = f"{source}:{line}"
        if path == BUILTIN and row.pop("task", None) != name:
            continue
        fields, answer = _parsed(name, task, row, where)
        if answer == NO_LABEL and NO_LABEL not in words:
            answer = ""
        elif words and answer:
            key = answer.casefold()
            if key not in words:
                raise ValueError(
                    f"{where}: the answer {answer[:40]!r} is none of {', '.join(words)}"
                    "; give `labels`, from the file's words to those to ask for"
                )
            answer = words[key]
        found.append(Instance(f"{name}-{digest([name, fields])[:16]}", fields, answer))
    if not found:
        raise ValueError(f"{source}: no instance of {name} in it")
    return found


def fingerprint(path: str) -> str:
    """sha256 of the unpacked bytes of a file, or of the builtin instances."""
    return hashlib.sha256(content(path)[1]).hexdigest()


def content(path: str) -> tuple[str, bytes]:
    """Name for messages, and the unpacked bytes, of a file or "builtin"."""
    if path == BUILTIN:
        own = resources.files("data_gen").joinpath("data", "instances.jsonl")
        return _BUILTIN_NAME, own.read_bytes()
    file = Path(path)
    if not file.is_file():
        raise ValueError(f"{file}: no such file; check the path, or use {BUILTIN!r}")
    try:
        with gzip.open(file) if file.suffix == ".gz" else file.open("rb") as stream:
            raw = stream.read(MAX_BYTES + 1)
    except (gzip.BadGzipFile, EOFError) as error:
        raise ValueError(f"{file}: is damaged, or not gzip: {error}") from error
    if len(raw) > MAX_BYTES:
        raise ValueError(f"{file}: more than {MAX_BYTES} bytes; split it")
    return str(file), raw


def rows_of_jsonl(source: str, raw: bytes) -> Iterator[tuple[int, dict[str, Any]]]:
    """Line numbers and objects; blank lines are skipped."""
    for number, line in enumerate(_text(source, raw).split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{source}:{number}: not JSON: {error}") from error
        yield number, _object(f"{source}:{number}", row)


def _rows(source: str, raw: bytes) -> Iterator[tuple[int, dict[str, Any]]]:
    kind = Path(source.removesuffix(".gz")).suffix
    if kind == ".jsonl":
        yield from rows_of_jsonl(source, raw)
    elif kind == ".json":
        try:
            rows = json.loads(_text(source, raw))
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{source}: not JSON: {error}") from error
        if not isinstance(rows, list):
            raise ValueError(f"{source}: expected a list, got {type(rows).__name__}")
        for number, row in enumerate(rows, start=1):
            yield number, _object(f"{source}:{number}", row)
    elif kind == ".tsv":
        for number, line in enumerate(_text(source, raw).split("\n"), start=1):
            if not line.strip():
                continue
            cells = line.rstrip("\r").split("\t")
            if len(cells) < 2:
                raise ValueError(f"{source}:{number}: expected question, tab, answer")
            question = cells[0].replace("\\n", "\n")
            yield number, {"flan": question, "answer": cells[1]}
    else:
        raise ValueError(
            f"{source}: instances are a .jsonl, .json or .tsv file, gzipped or not, or "
            f"{BUILTIN!r}"
        )


def _parsed(
    name: str, task: Task, row: Mapping[str, Any], where: str
) -> tuple[dict[str, str], str]:
    """Fields and answer of a row of any format."""
    if "sentence" in row and "sentence" not in task.fields:
        found = _matched(_SENTENCES, name, row["sentence"], "sentence", where)
        label = _string(row, "label", where)
        return _copa(found, label, where) if name == "choice" else (found, label)
    if "flan" in row:
        found = _matched(_QUESTIONS, name, row["flan"], "question", where)
        answer = _string(row, "answer", where)
        return _options(found, answer, where) if name == "choice" else (found, answer)
    if set(row) == {"text"} and "question" in task.fields:
        match = _TEXT.fullmatch(_string(row, "text", where))
        if match is None:
            raise ValueError(f'{where}: "text" is not "Question: ... Answer: ..."')
        row = match.groupdict()
    fields = {field: _string(row, field, where) for field in task.fields}
    answer = _string(row, "answer" if "answer" in row else "label", where)
    return fields, answer.rpartition("####")[2].strip()


def _copa(
    found: Mapping[str, str], label: str, where: str
) -> tuple[dict[str, str], str]:
    """A choice between a and b becomes a question with two options."""
    answers = {"A": found["a"], "B": found["b"]}
    if label not in answers:
        raise ValueError(f"{where}: the label {label[:40]!r} is neither A nor B")
    question = f"What is the {found['relation']} of this? {found['event']}"
    choices = "\n".join(f"- {answer}" for answer in answers.values())
    return {"question": question, "choices": choices}, answers[label]


def _options(
    found: Mapping[str, str], answer: str, where: str
) -> tuple[dict[str, str], str]:
    """Lettered options; the answer is the text of one, not its letter, since the same
    letter means another thing elsewhere."""
    options = {
        letter: text.strip() for letter, text in _OPTION.findall(found["options"])
    }
    letter = answer.strip().strip("()")
    if not options.get(letter):
        raise ValueError(
            f"{where}: the answer {answer[:40]!r} is none of the options "
            f"{', '.join(options) or 'none'}"
        )
    choices = "\n".join(f"- {text}" for text in options.values())
    question = found["question"].strip()
    return {"question": question, "choices": choices}, options[letter]


def _matched(
    patterns: Mapping[str, str], name: str, value: Any, what: str, where: str
) -> dict[str, str]:
    if name not in patterns:
        raise ValueError(
            f"{where}: a {name} task is not read from this format (known: "
            f"{', '.join(patterns)}); write its fields as .jsonl"
        )
    text = _string({what: value}, what, where)
    match = re.fullmatch(patterns[name], text, re.DOTALL)
    if match is None:
        raise ValueError(
            f"{where}: the {what} is not that of a {name} task: {text[:60]!r}"
        )
    return {field: value.strip() for field, value in match.groupdict().items()}


def _string(row: Mapping[str, Any], key: str, where: str) -> str:
    if key not in row:
        raise ValueError(f"{where}: no {key!r} (has: {', '.join(row)})")
    value = row[key]
    if not isinstance(value, str):
        raise ValueError(f"{where}: {key!r} must be a text, got {value!r:.40}")
    if any("\ud800" <= character <= "\udfff" for character in value):
        raise ValueError(f"{where}: {key!r} has a lone surrogate; remove it")
    return value.strip()


def _object(where: str, row: Any) -> dict[str, Any]:
    if not isinstance(row, dict):
        raise ValueError(f"{where}: expected an object, got {type(row).__name__}")
    return row


def _text(source: str, raw: bytes) -> str:
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{source}: not UTF-8 at byte {error.start}") from error
