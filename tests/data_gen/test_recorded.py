# SPDX-License-Identifier: Apache-2.0
"""The file engine: which line answers which request, and what it says of bad files."""

import gzip
import json
from pathlib import Path

import pytest

from data_gen.engines import Generate, Message, Settings
from data_gen.engines.recorded import Recorded, RecordedEngine

ROWS = [
    {"prompt": "Name a  fruit.", "output": " An apple.\n", "model": "big", "rank": 1},
    {"prompt": "Name a fruit.", "output": "Pear?", "model": "small", "rank": 2},
    {"prompt": "Name a fish.", "output": ["A carp.", "A cod."], "model": "big"},
]


def written(path: Path, rows) -> str:
    path.write_text("".join(json.dumps(row) + "\n\n" for row in rows))
    return str(path)


def ask(engine: RecordedEngine, *messages: Message, n: int = 1):
    request = Generate("k", messages, n, 0, Settings())
    return [
        (sample.sample, sample.text, sample.finish_reason)
        for sample in engine.generate(iter([None, request]))
    ]


FRUIT, FISH = Message("user", "Name a\nfruit. "), Message("user", "Name a fish.")


def test_lines_of_a_model_answer_whatever_the_white_space(tmp_path):
    path = written(tmp_path / "a.jsonl", ROWS)
    big = RecordedEngine(Recorded(path, model="big"))
    small = RecordedEngine(Recorded(path, model="small"))
    second = RecordedEngine(Recorded(path, rank=2))
    assert ask(big, FRUIT) == [(0, "An apple.", "stop")]
    assert ask(small, FRUIT) == ask(second, FRUIT) == [(0, "Pear?", "stop")]
    assert ask(small, FISH) == [(0, "", "missing")]
    assert big.facts["name"] == "big"
    assert len({big.fingerprint, small.fingerprint, second.fingerprint}) == 3


def test_lines_and_lists_are_samples_in_file_order(tmp_path):
    """Without a model or rank both lines of a prompt are its samples; the third of two
    is missing."""
    engine = RecordedEngine(Recorded(written(tmp_path / "a.jsonl", ROWS)))
    assert ask(engine, FRUIT, n=2) == [(0, "An apple.", "stop"), (1, "Pear?", "stop")]
    assert ask(engine, FISH, n=3) == [
        (0, "A carp.", "stop"),
        (1, "A cod.", "stop"),
        (2, "", "missing"),
    ]


def test_a_longer_conversation_is_another_prompt(tmp_path):
    turns = [FISH, Message("assistant", "A cod."), Message("user", "Another.")]
    rows = [{"prompt": [vars(turn) for turn in turns], "output": "A carp."}]
    engine = RecordedEngine(Recorded(written(tmp_path / "a.jsonl", rows)))
    assert ask(engine, *turns)[0][1] == "A carp."
    assert ask(engine, FISH)[0][2] == ask(engine, turns[-1])[0][2] == "missing"


def test_a_prompt_may_stand_in_several_fields(tmp_path):
    """Those that are empty or missing are left out."""
    rows = [
        {"instruction": "Add.", "input": "1, 2", "response": "3"},
        {"instruction": "Sing.", "input": "", "response": "La."},
    ]
    path = written(tmp_path / "a.jsonl", rows)
    engine = RecordedEngine(
        Recorded(path, prompt=("instruction", "input"), output="response")
    )
    assert ask(engine, Message("user", "Add.\n\n1, 2"))[0][1] == "3"
    assert ask(engine, Message("user", "Sing."))[0][1] == "La."


def test_the_fingerprint_is_that_of_the_content_not_of_the_place(tmp_path):
    first = RecordedEngine(Recorded(written(tmp_path / "a.jsonl", ROWS), model="big"))
    moved = RecordedEngine(Recorded(written(tmp_path / "b.jsonl", ROWS), model="big"))
    other = RecordedEngine(
        Recorded(written(tmp_path / "c.jsonl", ROWS[:1]), model="big")
    )
    assert first.fingerprint == moved.fingerprint != other.fingerprint


@pytest.mark.parametrize(
    ("rows", "fields", "message"),
    [
        (ROWS, {"model": "huge"}, r"no line has model 'huge'.*models there: big, smal"),
        (ROWS, {"rank": 9}, r"rank 9; .*ranks there: 1, 2, None"),
        ([{"prompt": "a"}], {}, r"a\.jsonl:1: field 'output' must be a text.*null"),
        ([{"prompt": "a", "output": [1]}], {}, r":1: field 'output' must be .*\[1\]"),
        ([{"output": "a"}], {}, r":1: nothing in the fields prompt \(fields: output"),
        ([{"prompt": 3, "output": "a"}], {}, r":1: field 'prompt' must be a text"),
        ([{"prompt": [3], "output": "a"}], {}, r":1: a message of 'prompt' must have"),
        ([3], {}, r":1: expected a JSON object"),
    ],
)
def test_a_bad_line_is_named(tmp_path, rows, fields, message):
    path = written(tmp_path / "a.jsonl", rows)
    with pytest.raises(ValueError, match=message):
        RecordedEngine(Recorded(path, **fields))


def test_a_file_that_is_torn_missing_or_of_another_kind_is_refused(tmp_path):
    packed = tmp_path / "a.jsonl.gz"
    packed.write_bytes(gzip.compress(json.dumps(ROWS[0]).encode()))
    assert ask(RecordedEngine(Recorded(str(packed))), FRUIT)[0][1] == "An apple."
    packed.write_bytes(packed.read_bytes()[:-9])
    with pytest.raises(ValueError, match="not a whole gzip file"):
        RecordedEngine(Recorded(str(packed)))
    with pytest.raises(ValueError, match="no such file"):
        RecordedEngine(Recorded(str(tmp_path / "b.jsonl")))
    with pytest.raises(ValueError, match="not JSON"):
        (tmp_path / "c.jsonl").write_text('{"prompt": ')
        RecordedEngine(Recorded(str(tmp_path / "c.jsonl")))
    with pytest.raises(ValueError, match=r"\.jsonl or \.jsonl\.gz"):
        Recorded("a.csv")
