# SPDX-License-Identifier: Apache-2.0
"""Records: what a dataset folder holds, and how it is written.

A folder is examples.parquet, rejected.parquet, prompts.jsonl and, written last,
manifest.json. All of it is a function of configuration, seeds and weights: no
times, no host names, no order of arrival. The same inputs give the same bytes.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from alignjax import whole_file
from alignjax.metrics import read_jsonl

FORMAT = "alignjax-dataset/1"
SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class Message:
    """One turn of a conversation."""

    role: str
    content: str


@dataclass(frozen=True)
class Response:
    """An answer that training prefers.

    `kind` is "sample" (the model's own), "witness" (an answer edited until it
    passes) or "given" (came with the seed). `token_ids` are the ids that were
    sampled; empty where nobody sampled them. `sum_logprob` is in nats under the
    sampling distribution's model, None where unknown. `generation` names the
    sample in the run's store.
    """

    text: str
    kind: str
    token_ids: tuple[int, ...] = ()
    finish_reason: str = "stop"
    generation: str = ""
    sum_logprob: float | None = None


@dataclass(frozen=True)
class Negative:
    """An answer that training rejects; `rank` 0 is the one to use when k = 1."""

    text: str
    kind: str  # "parent" | "sample" | "mutation"
    rank: int
    token_ids: tuple[int, ...] = ()
    finish_reason: str = "stop"
    generation: str = ""
    cosine: float | None = None
    sum_logprob: float | None = None


@dataclass(frozen=True)
class Example:
    """One prompt, the preferred answer and its ranked negatives.

    `couple` names the four examples that CoIN compares, `role` is one of
    `alignjax.data.records.ROLES`; both are empty where there is no couple.
    """

    strategy: str
    root_id: str
    parent_id: str
    round: int
    split: str
    prompt: tuple[Message, ...]
    chosen: Response
    negatives: tuple[Negative, ...]
    constraints: tuple[Mapping[str, Any], ...] = ()
    proof: Mapping[str, Any] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)
    weight: float = 1.0
    couple: str = ""
    role: str = ""

    @property
    def id(self) -> str:
        """Content hash: the same example has the same id on every machine."""
        answers = [self.chosen.text, *(n.text for n in self.negatives)]
        prompt = [asdict(message) for message in self.prompt]
        content = [self.strategy, self.root_id, self.round, prompt, answers]
        place = [self.couple, self.role] if self.couple else []
        return digest([*content, *place])[:32]


@dataclass(frozen=True)
class Rejected:
    """Something that was dropped: where, and why. Nothing disappears silently."""

    strategy: str
    root_id: str
    round: int
    split: str
    stage: str
    reason: str
    detail: str = ""
    text: str = ""
    generation: str = ""

    @property
    def id(self) -> str:
        """Content hash of all fields."""
        return digest(asdict(self))[:32]


_RESPONSE = [
    ("text", pa.string()),
    ("token_ids", pa.list_(pa.int32())),
    ("finish_reason", pa.string()),
    ("kind", pa.string()),
    ("generation", pa.string()),
]
EXAMPLES = pa.schema(
    [
        ("id", pa.string()),
        ("strategy", pa.string()),
        ("root_id", pa.string()),
        ("parent_id", pa.string()),
        ("round", pa.int32()),
        ("split", pa.string()),
        ("weight", pa.float32()),
        (
            "prompt",
            pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())])),
        ),
        ("chosen", pa.struct([*_RESPONSE, ("sum_logprob", pa.float32())])),
        (
            "negatives",
            pa.list_(
                pa.struct(
                    [
                        *_RESPONSE,
                        ("rank", pa.int32()),
                        ("cosine", pa.float32()),
                        ("sum_logprob", pa.float32()),
                    ]
                )
            ),
        ),
        ("constraints", pa.string()),
        ("proof", pa.string()),
        ("provenance", pa.string()),
    ]
)
# The columns of a dataset that has couples; any other is written without the last two.
COUPLED_EXAMPLES = pa.schema(
    [*EXAMPLES, pa.field("couple", pa.string()), pa.field("role", pa.string())]
)
REJECTED = pa.schema(
    [
        ("id", pa.string()),
        ("strategy", pa.string()),
        ("root_id", pa.string()),
        ("round", pa.int32()),
        ("split", pa.string()),
        ("stage", pa.string()),
        ("reason", pa.string()),
        ("detail", pa.string()),
        ("text", pa.string()),
        ("generation", pa.string()),
    ]
)


def canonical(value: object) -> str:
    """JSON with sorted keys and no spaces: equal values give equal strings."""
    return json.dumps(
        value,
        sort_keys=True,
        ensure_ascii=False,
        separators=(",", ":"),
        allow_nan=False,
    )


def digest(value: object) -> str:
    """sha256 (hex) of the canonical JSON of `value`."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()


def write_dataset(
    folder: Path,
    examples: Iterable[Example],
    rejected: Iterable[Rejected],
    prompts: Sequence[Mapping[str, Any]],
    *,
    config: str,
    facts: Mapping[str, str],
) -> dict[str, Any]:
    """Write a dataset folder; the manifest comes last, so a torn folder has none.

    Args:
      folder: created if missing; files of an earlier export are replaced.
      examples: any order; stored sorted by id.
      rejected: any order; stored sorted by id.
      prompts: held-out evaluation prompts, stored in the order given.
      config: digest of the configuration.
      facts: fingerprints of the model, the template, the engine, the embedder.

    Returns:
      The manifest.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "manifest.json").unlink(missing_ok=True)
    kept = sorted(examples, key=lambda example: example.id)
    dropped = sorted(rejected, key=lambda item: item.id)
    has_couples = any(example.couple for example in kept)
    examples_schema = COUPLED_EXAMPLES if has_couples else EXAMPLES
    tables = {
        "examples.parquet": [_example_row(example) for example in kept],
        "rejected.parquet": [{"id": item.id, **asdict(item)} for item in dropped],
    }
    files = {}
    for name, rows in tables.items():
        schema = examples_schema if name == "examples.parquet" else REJECTED
        sink = pa.BufferOutputStream()
        table = pa.Table.from_pylist(rows, schema=schema)
        pq.write_table(table, sink, compression="zstd")
        files[name] = _write(folder / name, sink.getvalue().to_pybytes(), len(rows))
    lines = "".join(canonical(prompt) + "\n" for prompt in prompts)
    files["prompts.jsonl"] = _write(
        folder / "prompts.jsonl", lines.encode(), len(prompts)
    )
    manifest = {
        "format": FORMAT,
        "config": config,
        **facts,
        "counts": {
            "examples": len(kept),
            "negatives": sum(len(example.negatives) for example in kept),
            "rejected": len(dropped),
            "prompts": len(prompts),
            **{s: sum(example.split == s for example in kept) for s in SPLITS},
        },
        "files": files,
    }
    text = json.dumps(manifest, indent=2, sort_keys=True) + "\n"
    whole_file.write(folder / "manifest.json", text.encode())
    return manifest


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a finished dataset folder; ValueError where there is none."""
    path = folder / "manifest.json"
    if not path.is_file():
        raise ValueError(
            f"{folder} has no manifest.json, so it is not a finished dataset folder; "
            "run `data-gen run CONFIG` to the end first"
        )
    manifest = json.loads(path.read_text())
    if manifest.get("format") != FORMAT:
        raise ValueError(
            f"{path}: expected format {FORMAT!r}, found {manifest.get('format')!r}"
        )
    return manifest


def read_examples(folder: Path) -> tuple[Example, ...]:
    """The examples of a dataset folder, in file order."""
    table = pq.read_table(folder / "examples.parquet", schema=COUPLED_EXAMPLES)
    return tuple(_example_from(row) for row in table.to_pylist())


def read_rejected(folder: Path) -> tuple[Rejected, ...]:
    """What was dropped, in file order."""
    rows = pq.read_table(folder / "rejected.parquet", schema=REJECTED).to_pylist()
    return tuple(
        Rejected(**{name: value for name, value in row.items() if name != "id"})
        for row in rows
    )


def read_prompts(folder: Path) -> tuple[dict[str, Any], ...]:
    """The held-out evaluation prompts."""
    return tuple(read_jsonl(folder / "prompts.jsonl"))


def _write(path: Path, content: bytes, rows: int) -> dict[str, Any]:
    whole_file.write(path, content)
    sha256 = hashlib.sha256(content).hexdigest()
    return {"sha256": sha256, "rows": rows, "bytes": len(content)}


def _example_row(example: Example) -> dict[str, Any]:
    row = {"id": example.id, **asdict(example)}
    for name in ("constraints", "proof", "provenance"):
        row[name] = canonical(row[name])
    return row


def _example_from(row: Mapping[str, Any]) -> Example:
    fields = {name: value for name, value in row.items() if name != "id"}
    fields["prompt"] = tuple(Message(**message) for message in row["prompt"])
    fields["chosen"] = Response(**_with_tuple(row["chosen"]))
    fields["negatives"] = tuple(Negative(**_with_tuple(n)) for n in row["negatives"])
    for name in ("proof", "provenance"):
        fields[name] = json.loads(row[name])
    for name in ("couple", "role"):  # no such columns where there are no couples
        fields[name] = row[name] or ""
    fields["constraints"] = tuple(json.loads(row["constraints"]))
    return Example(**fields)


def _with_tuple(row: Mapping[str, Any]) -> dict[str, Any]:
    return {**row, "token_ids": tuple(row["token_ids"])}
