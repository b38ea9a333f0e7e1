# SPDX-License-Identifier: Apache-2.0
"""Triplets: CoIN's couples as anchor, positive and hard negative, for JSONL."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from alignjax import whole_file
from alignjax.data.records import ROLES
from data_gen.records import Example, canonical


def triplets(examples: Iterable[Example]) -> Iterator[dict[str, Any]]:
    """Two triplets of each couple, sorted by the couple's name.

    As in the released code, an anchor is an instance in the original wording, its
    positive is the same instance in the paraphrase, and its hard negative is the other
    instance in the paraphrase.

    Yields:
      anchor, positive, hard_negative: {"prompt": messages, "answer": text, "id"};
      group: the couple; split, task, level, and weight.

    Raises:
      ValueError: a couple is not whole.
    """
    couples: dict[str, dict[str, Example]] = defaultdict(dict)
    for example in examples:
        if example.couple:
            couples[example.couple][example.role] = example
    for name, own in sorted(couples.items()):
        missing = [role for role in ROLES if role not in own]
        if missing:
            raise ValueError(f"couple {name} has no {', no '.join(missing)}")
        i, i_too, j, j_too = (own[role] for role in ROLES)
        for anchor, positive, negative in ((i, i_too, j_too), (j, j_too, i_too)):
            yield {
                "anchor": _turn(anchor),
                "positive": _turn(positive),
                "hard_negative": _turn(negative),
                "group": name,
                "split": anchor.split,
                "task": anchor.proof.get("task", ""),
                "level": anchor.proof.get("level", ""),
                "weight": anchor.weight,
            }


def write_triplets(
    examples: Iterable[Example], path: Path, *, split: str = "train"
) -> int:
    """Write the triplets of one split, a line each, and return how many there are.

    The same examples give the same bytes, in whatever order they come.
    """
    rows = [row for row in triplets(examples) if row["split"] == split]
    whole_file.write(path, "".join(canonical(row) + "\n" for row in rows))
    return len(rows)


def _turn(example: Example) -> dict[str, Any]:
    return {
        "prompt": [asdict(message) for message in example.prompt],
        "answer": example.chosen.text,
        "id": example.id,
    }
