# SPDX-License-Identifier: Apache-2.0
"""Records: reading preference data from disk.

A dataset is a folder that data-gen wrote (parquet, with a manifest of hashes), or a
JSONL or parquet file with the columns `prompt`, `chosen` and `rejected` as in TRL:
plain text or messages, the prompt explicit or the common beginning of the answers,
`rejected` one answer or a list of them; or with `messages` alone, whose last turn is
the answer. A prompt that is plain text becomes a user's turn.

Where a row has a `couple`, it is one of the four that CoIN compares (see `ROLES`).
"""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from alignjax import json_file
from alignjax.metrics import read_jsonl

FORMAT = "alignjax-dataset/1"
SPLITS = ("train", "validation", "test")
# A couple is one instruction over two instances, i and j, each in the original wording
# and in a paraphrase; in the order in which a row of CoIN holds them.
ROLES = ("original_i", "paraphrase_i", "original_j", "paraphrase_j")


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
    """One example: a prompt, the preferred answer, and worse ones by rank. `couple`
    names the four records that belong together, `role` is one of `ROLES`; both are
    empty where there is no couple."""

    id: str
    prompt: tuple[Message, ...]
    chosen: Answer
    negatives: tuple[Answer, ...] = ()
    split: str = "train"
    strategy: str = ""
    weight: float = 1.0
    couple: str = ""
    role: str = ""


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
    records = tuple(
        _record(row, f"{path}:{i}", i) for i, row in enumerate(rows, start=1)
    )
    _check_couples(records, path)
    return Dataset(records, hashlib.sha256(path.read_bytes()).hexdigest())


def _read_folder(folder: Path) -> Dataset:
    manifest_path = folder / "manifest.json"
    if not manifest_path.is_file():
        raise ValueError(
            f"{folder}: no manifest.json; the dataset is unfinished (run data-gen "
            "again to finish it) or this is not a dataset folder"
        )
    manifest = json_file.read(manifest_path)
    if manifest.get("format") != FORMAT:
        raise ValueError(
            f"{manifest_path}: format is {manifest.get('format')!r}, "
            f"expected {FORMAT!r}"
        )
    path = folder / "examples.parquet"
    if not path.is_file():
        raise ValueError(f"{path}: no such file; the manifest says there is one")
    try:
        expected = str(manifest["files"]["examples.parquet"]["sha256"])
    except (KeyError, TypeError):
        raise ValueError(
            f"{manifest_path}: has no sha256 of examples.parquet; make the dataset "
            "again"
        ) from None
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    if digest != expected:
        raise ValueError(
            f"{path}: sha256 is {digest[:12]}, the manifest says {expected[:12]}: the "
            "file was changed or damaged; make the dataset again"
        )
    records = tuple(
        _record(row, f"{path} row {i}", i)
        for i, row in enumerate(_parquet(path), start=1)
    )
    _check_couples(records, path)
    return Dataset(records, digest, manifest.get("template_fingerprint"))


def _parquet(path: Path) -> list[dict[str, Any]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.read_table(path).to_pylist()
    except (OSError, pa.ArrowException) as error:
        raise ValueError(f"{path}: not a readable parquet file ({error})") from None


def _record(row: Mapping[str, Any], where: str, number: int) -> Record:
    """A record from a row of any layout."""
    negatives: Sequence[Answer] = ()
    if row.get("messages") is not None and row.get("chosen") is None:
        messages = parse_messages(row["messages"], f"{where}: messages")
        if len(messages) < 2 or messages[-1].role != "assistant":
            raise ValueError(
                f"{where}: messages must hold a prompt and end with the assistant's "
                "turn"
            )
        prompt, chosen = messages[:-1], _given(messages[-1].content, where, "messages")
    elif not row.get("chosen"):
        raise ValueError(
            f"{where}: field 'chosen' is missing or empty (fields: "
            f"{', '.join(row)}); every row needs the preferred answer"
        )
    elif "negatives" in row:
        prompt = _prompt(row, where)
        chosen = _answer(row["chosen"], where, "chosen")
        negatives = [
            _answer(negative, where, f"negatives[{i}]")
            for i, negative in enumerate(row["negatives"] or ())
        ]
    else:
        prompt, chosen, negatives = _trl(row, where)
    couple, role = _couple(row, where)
    return Record(
        id=str(number if row.get("id") is None else row["id"]),
        prompt=prompt,
        chosen=chosen,
        negatives=tuple(negatives),
        split=_split(row, where),
        strategy=row.get("strategy") or "",
        weight=_weight(row, where),
        couple=couple,
        role=role,
    )


def _trl(
    row: Mapping[str, Any], where: str
) -> tuple[tuple[Message, ...], Answer, Sequence[Answer]]:
    """prompt / chosen / rejected as TRL has them; the prompt may be implicit."""
    rejected = row.get("rejected")
    if not isinstance(rejected, list):
        all_rejected = [] if rejected is None else [rejected]
    elif rejected and isinstance(rejected[0], Mapping):  # one answer, as messages
        all_rejected = [rejected]
    else:
        all_rejected = rejected
    names = ["chosen", *("rejected" for _ in all_rejected)]
    answers = [row["chosen"], *all_rejected]
    if "prompt" in row:
        prompt = _prompt(row, where)
    elif all(isinstance(answer, str) for answer in answers):
        text, answers = _shared_text(answers, where)
        prompt = (Message("user", text),)
    else:
        turns = [
            parse_messages(answer, f"{where}: {name}")
            for name, answer in zip(names, answers, strict=True)
        ]
        shared = 0
        shortest = min(map(len, turns))
        while shared < shortest - 1 and all(
            turn[shared] == turns[0][shared] for turn in turns
        ):
            shared += 1
        prompt = turns[0][:shared]
        if not prompt:
            raise ValueError(
                f"{where}: field 'prompt' is missing, and the answers do not begin "
                "with the same messages"
            )
        answers = [[dataclasses.asdict(m) for m in turn[shared:]] for turn in turns]
    chosen, *negatives = (
        _answer(answer, where, name)
        for name, answer in zip(names, answers, strict=True)
    )
    return prompt, chosen, negatives


def _shared_text(answers: Sequence[str], where: str) -> tuple[str, list[str]]:
    """The words that all answers begin with, and what each goes on with."""
    start = answers[0]
    for answer in answers[1:]:
        same = zip(start, answer, strict=False)
        start = start[
            : sum(1 for _ in itertools.takewhile(lambda p: p[0] == p[1], same))
        ]
    cut = max(start.rfind(" "), start.rfind("\n")) + 1
    if len(answers) < 2 or not start[:cut].strip():
        raise ValueError(
            f"{where}: field 'prompt' is missing, and the answers have no common "
            "beginning that could be the prompt"
        )
    return start[:cut].strip(), [answer[cut:] for answer in answers]


def _prompt(row: Mapping[str, Any], where: str) -> tuple[Message, ...]:
    if row.get("prompt") is None:
        raise ValueError(f"{where}: field 'prompt' is missing")
    return parse_messages(row["prompt"], f"{where}: prompt")


def parse_messages(value: Any, where: str) -> tuple[Message, ...]:
    """A conversation from a text, which becomes a user's turn, or from messages.

    Raises:
      ValueError: it is neither; says which part of `where` is wrong.
    """
    if isinstance(value, str):
        return (Message("user", value),)
    if not isinstance(value, list) or not value:
        raise ValueError(f"{where}: expected a text or a list of messages")
    messages = []
    for turn in value:
        turn = turn if isinstance(turn, Mapping) else {}
        role, content = turn.get("role"), turn.get("content")
        if not isinstance(role, str) or not isinstance(content, str):
            raise ValueError(f"{where}: each message needs 'role' and 'content'")
        messages.append(Message(role, content))
    return tuple(messages)


def _answer(value: Any, where: str, name: str) -> Answer:
    if isinstance(value, str):
        return _given(value, where, name)
    if isinstance(value, list):
        turns = parse_messages(value, f"{where}: {name}")
        if len(turns) != 1 or turns[0].role != "assistant":
            raise ValueError(
                f"{where}: {name}: expected one assistant turn after the prompt"
            )
        return _given(turns[0].content, where, name)
    if not isinstance(value, Mapping) or not isinstance(value.get("text"), str):
        raise ValueError(
            f"{where}: {name}: expected a text, a message list or a response"
        )
    ids = tuple(value.get("token_ids") or ())
    answer = _given(value["text"], where, name) if not ids else Answer(value["text"])
    return dataclasses.replace(
        answer, token_ids=ids, finish_reason=value.get("finish_reason") or "stop"
    )


def _given(text: str, where: str, name: str) -> Answer:
    if not text:
        raise ValueError(f"{where}: {name}: the answer is empty; leave the row out")
    return Answer(text)


def _split(row: Mapping[str, Any], where: str) -> str:
    split = row.get("split") or "train"
    if split not in SPLITS:
        raise ValueError(
            f"{where}: split is {split!r}, expected one of {', '.join(SPLITS)}"
        )
    return split


def _weight(row: Mapping[str, Any], where: str) -> float:
    weight = 1.0 if row.get("weight") is None else row["weight"]
    is_number = isinstance(weight, (int, float)) and not isinstance(weight, bool)
    if not is_number or not 0 < weight < math.inf:
        raise ValueError(f"{where}: weight must be a number > 0, got {weight!r}")
    return float(weight)


def _couple(row: Mapping[str, Any], where: str) -> tuple[str, str]:
    """(couple, role); a role without a couple is some other column of that name."""
    couple = "" if row.get("couple") is None else row["couple"]
    if not isinstance(couple, str):
        raise ValueError(f"{where}: couple must be a text, got {couple!r}")
    if not couple:
        return "", ""
    if row.get("role") not in ROLES:
        raise ValueError(
            f"{where}: role is {row.get('role')!r}, expected one of "
            f"{', '.join(ROLES)}, since couple is {couple!r}"
        )
    return couple, row["role"]


def _check_couples(records: Sequence[Record], path: Path) -> None:
    """Each couple is whole, of one split and one strategy, and each of its instances
    has one answer."""
    couples: dict[str, dict[str, Record]] = {}
    for record in records:
        if record.couple:
            members = couples.setdefault(record.couple, {})
            first = members.setdefault(record.role, record)
            if first is not record:
                raise ValueError(
                    f"{path}: record {record.id}: couple {record.couple!r} has its "
                    f"{record.role} already, record {first.id}; give each couple a "
                    "name of its own"
                )
    for couple, members in couples.items():
        first = next(iter(members.values()))
        missing = [role for role in ROLES if role not in members]
        if missing:
            raise ValueError(
                f"{path}: record {first.id}: its couple {couple!r} has no "
                f"{', no '.join(missing)}; add them, or leave the couple out"
            )
        for other in members.values():
            if (other.split, other.strategy) != (first.split, first.strategy):
                raise ValueError(
                    f"{path}: record {other.id}: is of split {other.split!r} and "
                    f"strategy {other.strategy!r}, record {first.id} of the same "
                    f"couple {couple!r} of {first.split!r} and {first.strategy!r}; "
                    "keep a couple together"
                )
        i, i_too, j, j_too = (members[role] for role in ROLES)
        for one, other in ((i, i_too), (j, j_too)):
            if one.chosen.text != other.chosen.text:
                raise ValueError(
                    f"{path}: record {other.id}: its answer is not that of record "
                    f"{one.id}, which couple {couple!r} says it paraphrases; give both "
                    "the same answer, or set role right"
                )
