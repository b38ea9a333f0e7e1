# SPDX-License-Identifier: Apache-2.0
"""Accuracy: how often one file of answers is better than another, prompt by prompt.

For answers that exist and have been judged, such as recorded answers to IFEval's
prompts: what the contrast accuracy of two models would be, without making pairs.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from data_gen.strategies.popalign.oracle import Accuracy, accuracy, order

FOLLOWED = "follow_instruction_list"


class Accuracies(NamedTuple):
    """By the number of instructions that each answer follows, and by whether it
    follows all of them."""

    number: Accuracy
    all: Accuracy


def compare(better: Path, worse: Path) -> Accuracies:
    """The contrast accuracy of two files of verdicts on answers to the same prompts.

    Args:
      better, worse: .jsonl or .jsonl.gz files as `alignjax eval ifeval` and IFEval's
        own program write them: a line has `follow_instruction_list`, one boolean for
        each instruction. Lines are matched by `prompt` where all lines of both files
        have one, else by their place.

    Raises:
      ValueError: names the file and the line that does not fit.
    """
    first, second = _read(better), _read(worse)
    if all(isinstance(row.get("prompt"), str) for row in (*first, *second)):
        known = _by_prompt(second, worse)
        own = _by_prompt(first, better)
        for prompt in own:
            if prompt not in known:
                raise ValueError(f"{worse}: no verdicts for the prompt {prompt[:80]!r}")
        pairs = [(own[prompt], known[prompt]) for prompt in own]
        if len(known) > len(own):
            raise ValueError(
                f"{better}: {len(known) - len(own)} prompts of {worse} are missing"
            )
    elif len(first) != len(second):
        raise ValueError(
            f"{better} has {len(first)} lines, {worse} has {len(second)}: without "
            "prompts, lines are matched by their place"
        )
    else:
        pairs = list(zip(first, second, strict=True))
    lists = [(row[FOLLOWED], other[FOLLOWED]) for row, other in pairs]
    for number, (row, other) in enumerate(lists, start=1):
        if len(row) != len(other):
            raise ValueError(
                f"prompt {number} has {len(row)} instructions in {better}, "
                f"{len(other)} in {worse}"
            )
    return Accuracies(
        accuracy(order(sum(row), sum(other)) for row, other in lists),
        accuracy(order(all(row), all(other)) for row, other in lists),
    )


def _read(path: Path) -> list[dict[str, Any]]:
    if not path.is_file():
        raise ValueError(f"{path}: no such file of verdicts")
    raw = path.read_bytes()
    if path.suffix == ".gz":
        try:
            raw = gzip.decompress(raw)
        except (OSError, EOFError, zlib.error) as error:
            raise ValueError(f"{path}: not a whole gzip file ({error})") from error
    rows = []
    for number, line in enumerate(raw.split(b"\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{path}:{number}: not JSON: {error}") from error
        followed = row.get(FOLLOWED) if isinstance(row, dict) else None
        if not (isinstance(followed, list) and followed) or not all(
            isinstance(value, bool) for value in followed
        ):
            raise ValueError(
                f"{path}:{number}: expected {FOLLOWED!r}, a list of true and false"
            )
        rows.append(row)
    if not rows:
        raise ValueError(f"{path}: holds no verdicts")
    return rows


def _by_prompt(rows: list[dict[str, Any]], path: Path) -> Mapping[str, dict[str, Any]]:
    found = {row["prompt"]: row for row in rows}
    if len(found) < len(rows):
        raise ValueError(
            f"{path}: {len(rows) - len(found)} prompts are there twice; leave out the "
            "field `prompt` to match lines by their place"
        )
    return found
