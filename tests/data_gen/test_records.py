# SPDX-License-Identifier: Apache-2.0
"""Records: what is written is what is read, and the same inputs give the same bytes."""

import dataclasses
import hashlib
import itertools
import json

import pyarrow.parquet as pq
import pytest

from alignjax.data import records as reader
from data_gen import records
from data_gen.records import Example, Message, Negative, Rejected, Response

EXAMPLE = Example(
    strategy="ecd",
    root_id="s001",
    parent_id="s001",
    round=1,
    split="train",
    prompt=(Message("user", "Name a fruit.\nUse lowercase."),),
    chosen=Response("an apple", "sample", (5, 6), "stop", "abc/0", -1.5),
    negatives=(
        Negative("An Apple", "parent", 0, (7, 6), sum_logprob=-2.0),
        Negative("A Pear é", "sample", 1, cosine=0.5),
    ),
    constraints=({"type": "lowercase", "params": {}},),
    proof={"newest": 0},
    provenance={"task": "Name a fruit."},
)
DROPPED = Rejected("ecd", "s002", 0, "train", "answer", "truncated", text="an")
PROMPT = {"id": "p", "split": "test", "prompt": "Name a nut."}


def write(folder, examples=(EXAMPLE,), rejected=(DROPPED,)):
    facts = {"template_fingerprint": "t"}
    return records.write_dataset(
        folder, examples, rejected, [PROMPT], config="c", facts=facts
    )


def test_what_is_written_is_what_is_read(tmp_path):
    write(tmp_path)
    assert records.read_examples(tmp_path) == (EXAMPLE,)
    assert records.read_rejected(tmp_path) == (DROPPED,)
    assert records.read_prompts(tmp_path) == (PROMPT,)


def test_alignjax_reads_the_folder(tmp_path):
    write(tmp_path)
    dataset = reader.read(tmp_path)
    assert dataset.template_fingerprint == "t"
    (record,) = dataset.records
    assert record.id == EXAMPLE.id
    assert record.chosen == reader.Answer("an apple", (5, 6), "stop")
    assert [n.text for n in record.negatives] == ["An Apple", "A Pear é"]


def test_order_of_arrival_does_not_change_a_byte(tmp_path):
    other = dataclasses.replace(EXAMPLE, root_id="s003")
    dropped = dataclasses.replace(DROPPED, root_id="s004")
    write(tmp_path / "a", [EXAMPLE, other], [DROPPED, dropped])
    write(tmp_path / "b", [other, EXAMPLE], [dropped, DROPPED])
    for name in (
        "examples.parquet",
        "rejected.parquet",
        "prompts.jsonl",
        "manifest.json",
    ):
        assert (tmp_path / "a" / name).read_bytes() == (
            tmp_path / "b" / name
        ).read_bytes()


def test_the_manifest_holds_hashes_and_counts(tmp_path):
    """One train example with two negatives, one rejected, one prompt."""
    manifest = write(tmp_path)
    content = (tmp_path / "examples.parquet").read_bytes()
    entry = manifest["files"]["examples.parquet"]
    assert entry["sha256"] == hashlib.sha256(content).hexdigest()
    assert (entry["rows"], entry["bytes"]) == (1, len(content))
    counts = manifest["counts"]
    assert (counts["examples"], counts["negatives"], counts["train"]) == (1, 2, 1)
    assert (counts["rejected"], counts["prompts"], counts["test"]) == (1, 1, 0)
    assert json.loads((tmp_path / "manifest.json").read_text()) == manifest


def test_a_write_that_fails_leaves_no_manifest(tmp_path):
    """A folder is finished only once everything is written: here rejected is not."""
    write(tmp_path)
    (tmp_path / "rejected.parquet").unlink()
    (tmp_path / "rejected.parquet").mkdir()
    with pytest.raises(OSError, match=r"rejected\.parquet"):
        write(tmp_path)
    with pytest.raises(ValueError, match="no manifest"):
        records.read_manifest(tmp_path)
    assert not list(tmp_path.glob(".*.partial"))


def test_an_id_depends_on_the_content_only():
    same = dataclasses.replace(EXAMPLE, weight=0.5, provenance={})
    assert same.id == EXAMPLE.id
    other = dataclasses.replace(EXAMPLE, negatives=EXAMPLE.negatives[:1])
    assert other.id != EXAMPLE.id


def couple(name: str) -> list[Example]:
    return [
        dataclasses.replace(
            EXAMPLE,
            strategy="coin",
            prompt=(Message("user", f"{role[:-2]}: {role[-1]}"),),
            chosen=Response(f"answer {role[-1]}", "given"),
            negatives=(),
            couple=name,
            role=role,
        )
        for role in reader.ROLES
    ]


def test_couples_are_written_and_read(tmp_path):
    written = [*couple("c1"), *couple("c2"), EXAMPLE]
    write(tmp_path, written)
    found = records.read_examples(tmp_path)
    assert sorted(found, key=lambda e: e.id) == sorted(written, key=lambda e: e.id)
    places = {(r.couple, r.role) for r in reader.read(tmp_path).records}
    assert places == {("", ""), *itertools.product(("c1", "c2"), reader.ROLES)}


def test_an_id_tells_couples_apart():
    """The same example may stand in two couples."""
    one, other = couple("c1")[0], couple("c2")[0]
    assert one.prompt == other.prompt
    assert one.id != other.id


def test_without_couples_the_file_has_no_columns_for_them(tmp_path):
    """So it is, to the byte, what it was before there were couples."""
    write(tmp_path)
    assert pq.read_schema(tmp_path / "examples.parquet") == records.EXAMPLES
    write(tmp_path, couple("c"))
    names = pq.read_schema(tmp_path / "examples.parquet").names
    assert names == [*records.EXAMPLES.names, "couple", "role"]


def test_an_unknown_format_is_refused(tmp_path):
    (tmp_path / "manifest.json").write_text('{"format": "other/2"}')
    with pytest.raises(ValueError, match="expected format 'alignjax-dataset/1'"):
        records.read_manifest(tmp_path)
