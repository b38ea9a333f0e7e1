# SPDX-License-Identifier: Apache-2.0
"""Records: every layout that is read, and every error by its text."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from alignjax.data import records
from alignjax.data.records import Answer, Message, Record
from data_gen import records as made

USER = {"role": "user", "content": "Name a colour."}
BLUE = {"role": "assistant", "content": "Blue."}
RED = {"role": "assistant", "content": "Red."}
PROMPT = (Message("user", "Name a colour."),)


def write(path: Path, *rows: Any) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def one(path: Path, row: Any) -> Record:
    (record,) = records.read(write(path, row)).records
    return record


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "data.jsonl"


@pytest.fixture
def folder(tmp_path) -> Path:
    """A dataset folder as data_gen writes it: a training pair and a test pair."""
    examples = [
        made.Example(
            strategy=strategy,
            root_id=split,
            parent_id=split,
            round=1,
            split=split,
            prompt=(made.Message("user", "Name a colour."),),
            chosen=made.Response("Blue.", "sample", token_ids=(5, 6)),
            negatives=(
                made.Negative("Red.", "parent", 0, token_ids=(7,)),
                made.Negative("Gr", "sample", 1, finish_reason="length"),
            ),
            weight=0.5,
        )
        for split, strategy in (("train", "ecd"), ("test", "self_contrast"))
    ]
    facts = {"template_fingerprint": "t", "model_fingerprint": "m"}
    folder = tmp_path / "data"
    made.write_dataset(folder, examples, [], [], config="c", facts=facts)
    return folder


def test_a_folder_of_data_gen(folder):
    dataset = records.read(folder)
    (record,) = dataset.select("train")
    assert record == Record(
        id=record.id,
        prompt=PROMPT,
        chosen=Answer("Blue.", (5, 6)),
        negatives=(Answer("Red.", (7,)), Answer("Gr", (), "length")),
        split="train",
        strategy="ecd",
        weight=0.5,
    )
    assert len(record.id) == 32
    assert dataset.template_fingerprint == "t"
    content = (folder / "examples.parquet").read_bytes()
    assert dataset.digest == hashlib.sha256(content).hexdigest()


def test_selecting_by_split_and_strategy(folder):
    dataset = records.read(folder)
    assert [r.split for r in dataset.select("test")] == ["test"]
    assert dataset.select("test", ["ecd"]) == []
    assert len(dataset.select("test", ["ecd", "self_contrast"])) == 1
    assert dataset.select("validation") == []


def test_an_explicit_prompt_in_plain_text(path):
    row = {"prompt": "Name a colour.", "chosen": "Blue.", "rejected": "Red."}
    assert one(path, row) == Record("1", PROMPT, Answer("Blue."), (Answer("Red."),))


def test_an_explicit_prompt_in_messages(path):
    row = {"prompt": [USER], "chosen": [BLUE], "rejected": [RED]}
    assert one(path, row) == Record("1", PROMPT, Answer("Blue."), (Answer("Red."),))


def test_an_implicit_prompt_in_messages(path):
    row = {"chosen": [USER, BLUE], "rejected": [USER, RED]}
    assert one(path, row) == Record("1", PROMPT, Answer("Blue."), (Answer("Red."),))


def test_equal_answers_leave_the_last_turn_to_the_answers(path):
    row = {"chosen": [USER, BLUE], "rejected": [USER, BLUE]}
    assert one(path, row).chosen == one(path, row).negatives[0] == Answer("Blue.")


def test_an_implicit_prompt_in_plain_text_ends_between_words(path):
    """Common beginning: "The sky is bl"; cut after the last blank."""
    row = {"chosen": "The sky is blue.", "rejected": "The sky is black."}
    record = one(path, row)
    assert record.prompt == (Message("user", "The sky is"),)
    assert record.chosen == Answer("blue.")
    assert record.negatives == (Answer("black."),)


@pytest.mark.parametrize("rejected", [["Red.", "Green."], [[RED], [{**RED}]]])
def test_a_list_of_negatives(path, rejected):
    row = {"prompt": "Name a colour.", "chosen": "Blue.", "rejected": rejected}
    assert len(one(path, row).negatives) == 2
    assert one(path, row).negatives[0] == Answer("Red.")


def test_a_conversation_of_several_turns_is_a_prompt(path):
    row = {"prompt": [USER, RED, USER], "chosen": "Blue.", "rejected": "Red."}
    assert [m.role for m in one(path, row).prompt] == ["user", "assistant", "user"]


def test_messages_alone_are_for_supervised_training(path):
    row = {"messages": [USER, BLUE], "split": "validation", "weight": 2, "id": "x"}
    record = one(path, row)
    expected = Record("x", PROMPT, Answer("Blue."), split="validation", weight=2.0)
    assert record == expected


def test_parquet_files_are_read_as_jsonl_is(tmp_path, path):
    row = {"prompt": [USER], "chosen": [BLUE], "rejected": [RED], "id": None}
    pq.write_table(pa.Table.from_pylist([row]), tmp_path / "data.parquet")
    found = records.read(tmp_path / "data.parquet").records
    assert found == records.read(write(path, row)).records
    assert found[0].id == "1"


def test_a_file_says_nothing_about_the_tokenizer(path):
    row = {"prompt": "a", "chosen": "b"}
    assert records.read(write(path, row)).template_fingerprint is None


GOOD = {"prompt": "Name a colour.", "chosen": "Blue.", "rejected": "Red."}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"chosen": None}, ":2: field 'chosen' is missing or empty (fields: prompt"),
        ({"chosen": ""}, ":2: field 'chosen' is missing or empty"),
        ({"chosen": 3}, ":2: chosen: expected a text, a message list or a response"),
        ({"chosen": [USER]}, ":2: chosen: expected one assistant turn"),
        ({"chosen": [BLUE, BLUE]}, ":2: chosen: expected one assistant turn"),
        ({"rejected": ""}, ":2: rejected: the answer is empty"),
        ({"rejected": {"txt": "a"}}, ":2: rejected: expected a text, a message"),
        ({"prompt": None}, ":2: field 'prompt' is missing"),
        ({"prompt": []}, ":2: prompt: expected a text or a list of messages"),
        ({"prompt": [{"role": "user"}]}, ":2: prompt: each message needs 'role' and"),
        ({"prompt": ["a"]}, ":2: prompt: each message needs 'role' and 'content'"),
        ({"split": "valid"}, ":2: split is 'valid', expected one of train, valid"),
        ({"weight": "1"}, ":2: weight must be a number > 0, got '1'"),
        ({"weight": 0}, ":2: weight must be a number > 0, got 0"),
        ({"weight": -1.5}, ":2: weight must be a number > 0, got -1.5"),
        ({"negatives": [{"text": ""}]}, ":2: negatives[0]: the answer is empty"),
        ({"negatives": [{}]}, ":2: negatives[0]: expected a text"),
    ],
)
def test_a_bad_row_is_named(path, changes, message):
    write(path, GOOD, {**GOOD, **changes})
    with pytest.raises(ValueError) as caught:
        records.read(path)
    assert str(caught.value).startswith(f"{path}{message}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"prompt": "a", "rejected": "b"}, "field 'chosen' is missing or empty"),
        ({"chosen": "Blue."}, "field 'prompt' is missing, and the answers have no"),
        ({"chosen": "Blue.", "rejected": "Red."}, "the answers have no common"),
        ({"chosen": [BLUE], "rejected": [RED]}, "do not begin with the same messages"),
        ({"chosen": {"text": "a"}, "negatives": []}, "field 'prompt' is missing"),
        ({"messages": [BLUE]}, "messages must hold a prompt and end with the"),
        ({"messages": [BLUE, USER]}, "messages must hold a prompt and end with the"),
    ],
)
def test_a_row_that_lacks_something_is_named(path, row, message):
    with pytest.raises(ValueError) as caught:
        records.read(write(path, row))
    assert str(caught.value).startswith(f"{path}:1: ")
    assert message in str(caught.value)


def test_missing_and_empty_files_are_named(tmp_path, path):
    with pytest.raises(ValueError, match="nowhere: no such dataset folder or file"):
        records.read(tmp_path / "nowhere")
    path.write_text("\n")
    with pytest.raises(ValueError, match=r"data\.jsonl: holds no rows"):
        records.read(path)
    path.write_text('{"chosen"')
    with pytest.raises(ValueError, match=r"data\.jsonl:1:10: not JSON"):
        records.read(path)
    other = tmp_path / "data.csv"
    other.write_text("a,b")
    with pytest.raises(ValueError, match=r"expected a dataset folder, \.jsonl or"):
        records.read(other)
    damaged = tmp_path / "data.parquet"
    damaged.write_bytes(b"PAR1 but not really")
    with pytest.raises(ValueError, match=r"data\.parquet: not a readable parquet file"):
        records.read(damaged)


def test_an_unfinished_folder_is_named(folder):
    (folder / "manifest.json").unlink()
    with pytest.raises(
        ValueError, match=r"data: no manifest\.json; the dataset is unf"
    ):
        records.read(folder)


def test_a_changed_file_is_named(folder):
    path = folder / "examples.parquet"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(
        ValueError, match=r"examples\.parquet: sha256 is \w{12}, the ma"
    ):
        records.read(folder)
    path.unlink()
    with pytest.raises(ValueError, match=r"examples\.parquet: no such file"):
        records.read(folder)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is not valid JSON"),
        ("{}", "format is None, expected 'alignjax-dataset/1'"),
        ('{"format": "alignjax-dataset/9"}', "format is 'alignjax-dataset/9'"),
        ('{"format": "alignjax-dataset/1"}', "has no sha256 of examples.parquet"),
    ],
)
def test_a_damaged_manifest_is_named(folder, content, message):
    (folder / "manifest.json").write_text(content)
    with pytest.raises(ValueError) as caught:
        records.read(folder)
    assert str(caught.value).startswith(f"{folder / 'manifest.json'}")
    assert message in str(caught.value)


COUPLE = [
    {"prompt": prompt, "chosen": answer, "couple": "c", "role": role}
    for prompt, answer, role in (
        ("Good or bad? A fine day.", "Good.", "original_i"),
        ("Do they like it? A fine day.", "Good.", "paraphrase_i"),
        ("Good or bad? Rain again.", "Bad.", "original_j"),
        ("Do they like it? Rain again.", "Bad.", "paraphrase_j"),
    )
]


def test_couples_are_read_in_any_order_beside_other_rows(path):
    write(path, COUPLE[2], {**GOOD, "couple": None}, COUPLE[3], COUPLE[1], COUPLE[0])
    found = records.read(path).records
    assert [record.couple for record in found] == ["c", "", "c", "c", "c"]
    assert [record.role for record in found if record.couple] == [
        "original_j",
        "paraphrase_j",
        "paraphrase_i",
        "original_i",
    ]
    assert found[0].prompt == (Message("user", "Good or bad? Rain again."),)


def test_couples_are_read_from_parquet(tmp_path, path):
    rows = [*COUPLE, {**GOOD, "couple": ""}]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "data.parquet")
    found = records.read(tmp_path / "data.parquet").records
    assert found[:4] == records.read(write(path, *COUPLE)).records
    assert (found[4].couple, found[4].role) == ("", "")


def test_a_role_without_a_couple_is_another_column(path):
    assert one(path, {**GOOD, "role": "teacher"}) == one(path, GOOD)


def changed(number: int, **changes: Any) -> list[dict[str, Any]]:
    """The couple with one row changed; other fields stay."""
    rows = [dict(row) for row in COUPLE]
    rows[number] |= changes
    return rows


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (changed(1, couple=7), ":2: couple must be a text, got 7"),
        (changed(1, role=None), ":2: role is None, expected one of original_i, par"),
        (changed(1, role="positive"), ":2: role is 'positive', expected one of orig"),
        (
            changed(3, role="original_j"),
            ": record 4: couple 'c' has its original_j already, record 3; give each",
        ),
        (COUPLE[:1], ": record 1: its couple 'c' has no paraphrase_i, no original_j, "),
        (COUPLE[1:], ": record 1: its couple 'c' has no original_i; add them, or lea"),
        (
            changed(2, split="test"),
            ": record 3: is of split 'test' and strategy '', record 1 of the same "
            "couple 'c' of 'train' and ''; keep a couple together",
        ),
        (
            changed(3, strategy="coin"),
            ": record 4: is of split 'train' and strategy 'coin', record 1 of the same",
        ),
        (
            changed(1, chosen="Bad."),
            ": record 2: its answer is not that of record 1, which couple 'c' says it",
        ),
        (
            changed(2, chosen="Rather bad."),
            ": record 4: its answer is not that of record 3, which couple 'c' says it",
        ),
    ],
)
def test_a_bad_couple_is_named(path, rows, message):
    with pytest.raises(ValueError) as caught:
        records.read(write(path, *rows))
    assert str(caught.value).startswith(f"{path}{message}")
    assert "\n" not in str(caught.value)


def test_a_folder_with_a_torn_couple_is_named(tmp_path):
    example = made.Example(
        strategy="coin",
        root_id="s1",
        parent_id="s1",
        round=0,
        split="train",
        prompt=(made.Message("user", "Name a colour."),),
        chosen=made.Response("Blue.", "given"),
        negatives=(),
        couple="c",
        role="original_j",
    )
    made.write_dataset(tmp_path, [example], [], [], config="c", facts={})
    with pytest.raises(ValueError) as caught:
        records.read(tmp_path)
    assert str(caught.value).startswith(
        f"{tmp_path / 'examples.parquet'}: record {example.id}: its couple 'c' has no "
        "original_i, no paraphrase_i, no paraphrase_j; "
    )
