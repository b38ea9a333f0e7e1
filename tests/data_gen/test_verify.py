# SPDX-License-Identifier: Apache-2.0
"""Verify: every kind of damage to a dataset folder is found."""

import dataclasses
import hashlib
import json
import sys
from pathlib import Path

import pytest

from data_gen import records
from data_gen.run import run
from data_gen.verify import verify

sys.path.insert(0, str(Path(__file__).parent))
import scripts


@pytest.fixture
def folder(tmp_path) -> Path:
    run(scripts.config(tmp_path, limit=14), engine=scripts.engine())
    assert verify(tmp_path).failures == ()
    return tmp_path


def rewrite(folder: Path, change, prompts=None):
    """Write the dataset again, with honest hashes, after `change` of its examples."""
    examples = list(map(change, records.read_examples(folder)))
    rejected = records.read_rejected(folder)
    kept = records.read_prompts(folder)
    records.write_dataset(
        folder, examples, rejected, prompts or kept, config="c", facts={}
    )


def failures(folder: Path) -> str:
    return "\n".join(verify(folder).failures)


@pytest.mark.parametrize("name", ["examples.parquet", "rejected.parquet"])
def test_a_changed_byte_is_found(folder, name):
    content = bytearray((folder / name).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / name).write_bytes(content)
    assert f"{name}: sha256 is " in failures(folder)


def test_a_missing_file_is_found(folder):
    (folder / "prompts.jsonl").unlink()
    assert failures(folder) == "prompts.jsonl: missing"


def test_a_folder_without_a_manifest_is_no_dataset(folder):
    (folder / "manifest.json").unlink()
    with pytest.raises(ValueError, match="no manifest"):
        verify(folder)


def test_other_columns_are_found(folder):
    content = (folder / "rejected.parquet").read_bytes()
    (folder / "examples.parquet").write_bytes(content)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"]["examples.parquet"]["sha256"] = hashlib.sha256(
        content
    ).hexdigest()
    (folder / "manifest.json").write_text(json.dumps(manifest))
    assert "has other columns" in failures(folder)


def test_a_torn_couple_is_found(folder):
    """The columns of couples are known; a couple of one is none."""
    first = records.read_examples(folder)[0]

    def placed(example):
        is_first = example.id == first.id
        place = {"couple": "c", "role": "original_i"} if is_first else {}
        return dataclasses.replace(example, **place)

    rewrite(folder, placed)
    found = failures(folder)
    assert found.startswith(f"{folder / 'examples.parquet'}: record ")
    assert "its couple 'c' has no paraphrase_i, no original_j, no para" in found
    assert "\n" not in found


def swapped(example):
    """Chosen and first negative change places."""
    chosen, first = example.chosen, example.negatives[0]
    return dataclasses.replace(
        example,
        chosen=dataclasses.replace(chosen, text=first.text),
        negatives=(
            dataclasses.replace(first, text=chosen.text),
            *example.negatives[1:],
        ),
    )


def test_swapped_answers_fail_their_proof(folder):
    rewrite(folder, swapped)
    found = failures(folder)
    assert "chosen: constraint 0 is fail, not pass" in found
    assert "proof: chosen is not what the texts give" in found


def test_a_proof_that_was_made_up_is_found(folder):
    def forge(example):
        if example.strategy != "ecd":
            return example
        checks = json.loads(json.dumps(example.proof))
        checks["chosen"][0]["readings"] = {}
        return dataclasses.replace(example, proof=checks)

    rewrite(folder, forge)
    assert "proof: chosen is not what the texts give" in failures(folder)


def test_a_similar_sample_among_the_negatives_is_found(folder):
    def forge(example):
        if example.strategy != "self_contrast":
            return example
        proof = {**example.proof, "drop_most_similar": 0.9}
        return dataclasses.replace(example, proof=proof)

    rewrite(folder, forge)
    assert "the ranking is not what the cosines leave" in failures(folder)


def test_negatives_must_differ_and_be_ranked(folder):
    rewrite(
        folder,
        lambda e: dataclasses.replace(e, negatives=(e.negatives[0], e.negatives[0])),
    )
    found = failures(folder)
    assert "two negatives are the same" in found
    assert "ranks of the negatives are [0, 0]" in found


def test_a_lineage_in_two_splits_is_found(folder):
    def move(example):
        is_later = example.strategy == "ecd" and example.round == 2
        return dataclasses.replace(example, split="test") if is_later else example

    rewrite(folder, move)
    assert "is in train and in test" in failures(folder) or (
        "is in test and in train" in failures(folder)
    )


def test_a_held_out_task_in_training_is_found(folder):
    task = records.read_prompts(folder)[0]["task"]

    def leak(example):
        if example.split != "train":
            return example
        provenance = {**example.provenance, "task": f" {task.upper()}"}
        return dataclasses.replace(example, provenance=provenance)

    rewrite(folder, leak)
    assert "is also in train" in failures(folder)


def test_a_prompt_that_asks_for_something_else_is_found(folder):
    prompts = [dict(prompt) for prompt in records.read_prompts(folder)]
    prompts[0]["prompt"] = prompts[0]["task"]
    rewrite(folder, lambda example: example, prompts)
    assert f"prompt {prompts[0]['id']}: does not state" in failures(folder)


def test_a_changed_verifier_is_a_note(folder):
    def older(example):
        if example.strategy != "ecd":
            return example
        names = dict.fromkeys(example.proof["verifiers"], "x/0:old")
        return dataclasses.replace(example, proof={**example.proof, "verifiers": names})

    rewrite(folder, older)
    found = verify(folder)
    assert found.failures == ()
    assert all("was x/0:old, is now" in note for note in found.notes)
    assert found.notes
