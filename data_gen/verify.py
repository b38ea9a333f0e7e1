# SPDX-License-Identifier: Apache-2.0
"""Verify: check a dataset folder against its manifest and its own proofs.

No model is needed: every verdict is computed again from the stored texts.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from alignjax import constraints
from alignjax.constraints import Constraint
from alignjax.data import records as reader
from data_gen import couple_proof, records
from data_gen.prompts import stated
from data_gen.proof import flaws, prove
from data_gen.records import Example
from data_gen.seeds import normalise
from data_gen.strategies import coin, ecd, popalign, self_contrast
from data_gen.strategies.popalign import audit


@dataclass(frozen=True)
class Verification:
    """What was looked at, and one line for everything that is wrong.

    `notes` are about what may differ without making the data wrong, such as a
    verifier whose source has changed since.
    """

    examples: int
    proofs: int
    prompts: int
    failures: tuple[str, ...]
    notes: tuple[str, ...]


def verify(folder: Path) -> Verification:
    """Check files, schema, proofs, splits and negatives of a dataset folder.

    Raises:
      ValueError: `folder` is not a finished dataset folder.
    """
    manifest = records.read_manifest(folder)
    damaged = list(_files(folder, manifest["files"]))
    if damaged:  # what the files say is worth nothing then
        return Verification(0, 0, 0, tuple(damaged), ())
    examples = records.read_examples(folder)
    prompts = records.read_prompts(folder)
    ids = pq.read_table(folder / "examples.parquet", columns=["id"])["id"].to_pylist()
    failures = [
        f"example {stored}: its content has the id {example.id}"
        for stored, example in zip(ids, examples, strict=True)
        if stored != example.id
    ]
    if len(set(ids)) < len(ids):
        failures.append("examples.parquet: an id occurs twice")
    notes: set[str] = set()
    for example in examples:
        for check in _CHECKS[example.strategy]:
            failures += [f"example {example.id}: {line}" for line in check(example)]
        notes |= set(_changed_verifiers(example))
    for prompt in prompts:
        asked = Constraint.from_json(prompt["constraint"])
        if stated(prompt["prompt"], 1) != (asked,):
            failures.append(f"prompt {prompt['id']}: does not state {asked}")
    held_out = [(p["split"], p["root_id"], p["task"]) for p in prompts]
    failures += _splits(examples, held_out)
    failures += couple_proof.torn([e for e in examples if e.strategy == coin.NAME])
    failures += _refusals(folder)
    return Verification(
        len(examples),
        len(examples),
        len(prompts),
        tuple(failures),
        tuple(sorted(notes)),
    )


def _files(folder: Path, files: dict) -> Iterator[str]:
    schemas = {
        "examples.parquet": (records.EXAMPLES, records.COUPLED_EXAMPLES),
        "rejected.parquet": (records.REJECTED,),
    }
    for name in (*schemas, "prompts.jsonl"):
        path = folder / name
        if name not in files:
            yield f"manifest.json: says nothing about {name}"
            continue
        if not path.is_file():
            yield f"{name}: missing"
            continue
        content = path.read_bytes()
        sha256 = hashlib.sha256(content).hexdigest()
        if sha256 != files[name]["sha256"]:
            yield (
                f"{name}: sha256 is {sha256[:12]}, the manifest says "
                f"{files[name]['sha256'][:12]}; the file was changed or damaged"
            )
            continue
        if name in schemas:
            parquet = pq.ParquetFile(pa.BufferReader(content))
            rows = parquet.metadata.num_rows
            if not any(map(parquet.schema_arrow.equals, schemas[name])):
                yield f"{name}: has other columns than {records.FORMAT}"
        else:
            rows = content.count(b"\n")
        if rows != files[name]["rows"]:
            yield f"{name}: has {rows} rows, the manifest says {files[name]['rows']}"


def _negatives(example: Example) -> Iterator[str]:
    is_for_sft = example.strategy == popalign.STRATEGIES["context_distillation"]
    if not example.negatives and not is_for_sft:
        yield "has no negative"
    ranks = [negative.rank for negative in example.negatives]
    if ranks != list(range(len(ranks))):
        yield f"ranks of the negatives are {ranks}, expected 0, 1, ..."
    texts = [negative.text.strip() for negative in example.negatives]
    if len(set(texts)) < len(texts):
        yield "two negatives are the same"
    if example.chosen.text.strip() in texts:
        yield "the preferred answer is also a negative"
    for answer in (example.chosen, *example.negatives):
        if answer.finish_reason != "stop":
            yield f"an answer is unfinished ({answer.finish_reason})"


def _ecd(example: Example) -> Iterator[str]:
    """The proof, computed again, is the stored one and shows what it should."""
    asked = [Constraint.from_json(dict(value)) for value in example.constraints]
    texts = [negative.text for negative in example.negatives]
    proof = prove(asked, example.chosen.text, texts)
    yield from flaws(proof)
    stored = example.proof
    for part in ("newest", "chosen", "negatives"):
        if stored.get(part) != proof[part]:
            yield f"proof: {part} is not what the texts give"
    hardness = [negative["hardness"] for negative in proof["negatives"][1:]]
    if hardness != sorted(hardness, reverse=True):
        yield f"negatives are not ordered by hardness: {hardness}"
    prompt = example.prompt[-1].content
    if stated(prompt, len(asked)) != tuple(asked):
        yield "the prompt does not state its constraints"
    if not prompt.startswith(_task(example).strip()):
        yield "the prompt does not begin with its task"


def _self_contrast(example: Example) -> Iterator[str]:
    """The most similar share is not among the negatives; ranks follow the ranking."""
    proof = example.proof
    cosines = proof["cosines"]
    similar = self_contrast.most_similar(cosines, proof["drop_most_similar"])
    if set(proof["order"]) != set(cosines) - similar:
        yield "proof: the ranking is not what the cosines leave"
    names = [negative.generation for negative in example.negatives]
    if names != proof["order"][: len(names)]:
        yield "negatives are not the beginning of the ranking"
    for negative in example.negatives:
        known = cosines.get(negative.generation)
        if known is None or abs(known - (negative.cosine or 0.0)) > 1e-6:
            yield f"negative {negative.rank}: cosine {negative.cosine}, proof {known}"


def _changed_verifiers(example: Example) -> Iterator[str]:
    proof = example.proof
    used = {**proof.get("verifiers", {})}
    for part in ("oracle", "label"):
        used |= proof.get(part, {}).get("verifiers", {})
    for name, fingerprint in used.items():
        now = constraints.fingerprint(name) if name in constraints.TYPES else "gone"
        if now != fingerprint:
            yield f"verifier {name} was {fingerprint}, is now {now}"


def _splits(
    examples: Sequence[Example], held_out: Sequence[tuple[str, str, str]]
) -> Iterator[str]:
    """No lineage in two splits; no held-out task among the training prompts."""
    owners = [(e.split, e.root_id, _task(e)) for e in examples]
    split_of: dict[str, str] = {}
    tasks: dict[str, set[str]] = {split: set() for split in records.SPLITS}
    for split, root_id, task in (*owners, *held_out):
        if split_of.setdefault(root_id, split) != split:
            yield f"lineage {root_id} is in {split_of[root_id]} and in {split}"
        tasks[split].add(normalise(task))
    for split in ("validation", "test"):
        for task in sorted(tasks["train"] & tasks[split]):
            yield f"the {split} task {task!r} is also in train"


def _refusals(folder: Path) -> Iterator[str]:
    """What training would refuse, such as a couple that is not whole."""
    try:
        reader.read(folder)
    except ValueError as error:
        yield str(error)


def _task(example: Example) -> str:
    return example.provenance["task"]


_CHECKS = {
    ecd.NAME: (_negatives, _ecd),
    self_contrast.NAME: (_negatives, _self_contrast),
    **dict.fromkeys(popalign.STRATEGIES.values(), (_negatives, audit.flaws)),
    coin.NAME: (couple_proof.flaws,),  # its negatives are other examples
}
