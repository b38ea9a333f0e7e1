# SPDX-License-Identifier: Apache-2.0
"""Records: reading preference data from disk.

A dataset is a folder that data-gen wrote (parquet, with a manifest of hashes), or a
JSONL or parquet file with the columns `prompt`, `chosen` and `rejected` as TRL has them:
plain text or messages, the prompt explicit or the common beginning of both answers,
`rejected` one answer or a list of them.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from alignjax.metrics import read_jsonl

FORMAT = "alignjax-dataset/1"


@dataclasses.dataclass(frozen=True)
class Message:
    """One turn of a conversation."""

    role: str
    content: str


@dataclasses.dataclass(frozen=True)
class Answer:
    """A response: its text, and the ids it was sampled as, where they are known.
    `finish_reason` is "length" where the answer was cut and has no end-of-turn."""

    text: str
    token_ids: tuple[int, ...] = ()
    finish_reason: str = "stop"


@dataclasses.dataclass(frozen=True)
class Record:
    """One example: a prompt, the preferred answer, and worse ones by rank."""

    id: str
    prompt: tuple[Message, ...]
    chosen: Answer
    negatives: tuple[Answer, ...] = ()
    split: str = "train"
    strategy: str = ""
    weight: float = 1.0


@dataclasses.dataclass(frozen=True)
class Dataset:
    """Records with the digest of the bytes that they came from, and the fingerprint of
    the tokenizer that sampled their ids, where the manifest gives one."""

    records: tuple[Record, ...]
    digest: str
    template_fingerprint: str | None = None

    def select(self, split: str, strategies: Sequence[str] = ()) -> list[Record]:
        """Records of one split, and of the given strategies (all where empty)."""
        return [
            record
            for record in self.records
            if record.split == split
            and (not strategies or record.strategy in strategies)
        ]


def read(path: str | Path) -> Dataset:
    """Reads a dataset folder or file.

    Raises:
      ValueError: names the file, the row and the field that is wrong, and the remedy.
    """
    path = Path(path)
    if path.is_dir():
        return _read_folder(path)
    if not path.is_file():
        raise ValueError(f"{path}: no such dataset folder or file")
    if path.suffix == ".jsonl":
        rows: list[dict[str, Any]] = read_jsonl(path)
    elif path.suffix == ".parquet":
        rows = _parquet(path)
    else:
        raise ValueError(f"{path}: expected a dataset folder, .jsonl or .parquet")
    if not rows:
        raise ValueError(f"{path}: holds no rows")
    records = [_record(row, f"{path}:{i}", i) for i, row in enumerate(rows, start=1)]
    return Dataset(tuple(records), hashlib.sha256(path.read_bytes()).hexdigest())


def _read_folder(folder: Path) -> Dataset:
    manifest_path = folder / "manifest.json"
    if not manifest_path.is_file():
        raise ValueError(
            f"{folder}: no manifest.json; the dataset is unfinished (run data-gen "
            "again to finish it) or this is not a dataset folder"
        )
    manifest = json.loads(manifest_path.read_bytes())
    if manifest.get("format") != FORMAT:
        raise ValueError(
            f"{manifest_path}: format is {manifest.get('format')!r}, "
            f"expected {FORMAT!r}"
        )
    path = folder / "examples.parquet"
    if not path.is_file():
        raise ValueError(f"{path}: no such file; the manifest says there is one")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    expected = manifest["files"]["examples.parquet"]["sha256"]
    if digest != expected:
        raise ValueError(
            f"{path}: sha256 is {digest[:12]}, the manifest says {expected[:12]}: the "
            "file was changed or damaged; make the dataset again"
        )
    records = tuple(
        _record(row, f"{path} row {i}", i)
        for i, row in enumerate(_parquet(path), start=1)
    )
    return Dataset(records, digest, manifest.get("template_fingerprint"))


def _parquet(path: Path) -> list[dict[str, Any]]:
    import pyarrow.parquet as pq

    try:
        return pq.read_table(path).to_pylist()
    except OSError as error:
        raise ValueError(f"{path}: not a readable parquet file ({error})") from None


def _record(row: Mapping[str, Any], where: str, number: int) -> Record:
    """A record from a row of either layout."""
    if "messages" in row and "chosen" not in row:
        messages = _messages(row["messages"], f"{where}: messages")
        if not messages or messages[-1].role != "assistant":
            raise ValueError(f"{where}: messages must end with the assistant's turn")
        prompt, chosen = messages[:-1], Answer(messages[-1].content)
        return Record(str(row.get("id", number)), prompt, chosen)
    if not row.get("chosen"):
        raise ValueError(
            f"{where}: field 'chosen' is missing or empty (fields: "
            f"{', '.join(row)}); every row needs the preferred answer"
        )
    if "negatives" in row:
        prompt = _messages(row["prompt"], f"{where}: prompt")
        chosen = _answer(row["chosen"], f"{where}: chosen")
        negatives = [
            _answer(negative, f"{where}: negatives[{i}]")
            for i, negative in enumerate(row["negatives"] or ())
        ]
    else:
        prompt, chosen, negatives = _trl(row, where)
    return Record(
        id=str(row.get("id", number)),
        prompt=prompt,
        chosen=chosen,
        negatives=tuple(negatives),
        split=row.get("split") or "train",
        strategy=row.get("strategy") or "",
        weight=float(1.0 if row.get("weight") is None else row["weight"]),
    )


def _trl(
    row: Mapping[str, Any], where: str
) -> tuple[tuple[Message, ...], Answer, list[Answer]]:
    """prompt / chosen / rejected as TRL has them; the prompt may be implicit."""
    rejected = row.get("rejected")
    is_list = isinstance(rejected, list) and bool(rejected)
    several = is_list and not isinstance(rejected[0], Mapping)
    all_rejected = rejected if several else ([] if rejected is None else [rejected])
    answers = [row["chosen"], *all_rejected]
    if "prompt" in row:
        prompt = _messages(row["prompt"], f"{where}: prompt")
    elif isinstance(row["chosen"], str):
        raise ValueError(
            f"{where}: field 'prompt' is missing; plain-text answers need one"
        )
    else:
        turns = [_messages(answer, f"{where}: chosen") for answer in answers]
        shared = 0
        shortest = min(map(len, turns))
        while shared < shortest - 1 and all(
            turn[shared] == turns[0][shared] for turn in turns
        ):
            shared += 1
        prompt = turns[0][:shared]
        answers = [[dataclasses.asdict(m) for m in turn[shared:]] for turn in turns]
    chosen, *negatives = (_answer(a, f"{where}: answer") for a in answers)
    return prompt, chosen, negatives


def _messages(value: Any, where: str) -> tuple[Message, ...]:
    if isinstance(value, str):
        return (Message("user", value),)
    if not isinstance(value, list) or not value:
        raise ValueError(f"{where}: expected a text or a list of messages")
    messages = []
    for turn in value:
        is_turn = isinstance(turn, Mapping)
        if not is_turn or not isinstance(turn.get("content"), str):
            raise ValueError(f"{where}: each message needs 'role' and 'content'")
        messages.append(Message(str(turn.get("role", "user")), turn["content"]))
    return tuple(messages)


def _answer(value: Any, where: str) -> Answer:
    if isinstance(value, str):
        return Answer(value)
    if isinstance(value, list):
        turns = _messages(value, where)
        if len(turns) != 1 or turns[0].role != "assistant":
            raise ValueError(f"{where}: expected one assistant turn after the prompt")
        return Answer(turns[0].content)
    if not isinstance(value, Mapping) or not isinstance(value.get("text"), str):
        raise ValueError(f"{where}: expected a text, a message list or a response")
    return Answer(
        text=value["text"],
        token_ids=tuple(value.get("token_ids") or ()),
        finish_reason=value.get("finish_reason") or "stop",
    )
