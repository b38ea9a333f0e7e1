# SPDX-License-Identifier: Apache-2.0
"""Prompts files: what a line may be, and how one that is wrong is told."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from alignjax.data.records import Message
from alignjax.sampling.commands import prompts
from alignjax.sampling.commands.prompts import Prompt


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "prompts.jsonl"


def write(path: Path, *rows: Any) -> str:
    """Rows as JSON, texts as they are."""
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    path.write_text("".join(f"{line}\n" for line in lines), "utf-8")
    return str(path)


def test_a_line_of_each_kind(path: Path):
    turns = [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}]
    found = prompts.read(
        write(
            path,
            {"prompt": "a"},
            {"prompt": turns, "id": "b", "n": 3, "seed": 0},
            "",
            {"messages": turns[1:], "id": 7, "settings": {"top_k": 1}},
            {"text": "Once", "id": None},
        )
    )
    user, system = Message("user", "u"), Message("system", "s")
    assert found == (
        Prompt("1", 1, (Message("user", "a"),)),
        Prompt("b", 2, (system, user), n=3, seed=0),
        Prompt("7", 4, (user,), settings={"top_k": 1}),
        Prompt("5", 5, text="Once"),
    )


def test_a_text_file_has_a_prompt_a_line(tmp_path: Path):
    """Blank lines do not count, but they have a number; U+2028 ends no line, nor does
    a brace begin JSON."""
    path = tmp_path / "prompts.txt"
    path.write_bytes("\ufeff{a}\r\n\r\n b \u2028c\n".encode())
    assert prompts.read(str(path)) == (
        Prompt("1", 1, (Message("user", "{a}"),)),
        Prompt("3", 3, (Message("user", " b \u2028c"),)),
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [('\n {"text": "a"}\n', Prompt("2", 2, text="a")),
     ("a\n", Prompt("1", 1, (Message("user", "a"),)))],
)  # fmt: skip
def test_standard_input_is_json_where_it_begins_with_a_brace(
    text: str, expected: Prompt, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
    assert prompts.read("-") == (expected,)


def test_a_limit_takes_the_first_prompts(path: Path):
    write(path, "", {"prompt": "a"}, {"prompt": "b"}, "broken")
    assert [prompt.line for prompt in prompts.read(str(path), limit=2)] == [2, 3]
    with pytest.raises(ValueError, match="limit must be > 0, got 0; leave it out"):
        prompts.read(str(path), limit=0)


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ('{"prompt": "a"', "line 2:15: not JSON: Expecting ',' delimiter"),
        ('["a"]', "line 2: expected a JSON object, got list"),
        ('{"prompt": "a", "prompt": "b"}', "line 2: the key 'prompt' is there twice"),
        ('{"prompt": "\\ud800"}', "line 2: invalid Unicode (a lone surrogate)"),
        ('{"prompt": "a", "n": NaN}', "line 2: NaN is not a finite number; use null"),
        (
            {"promt": "a"},
            "line 2: unknown key 'promt'; did you mean 'prompt'? (keys: prompt, "
            "messages, text, id, n, seed, settings)",
        ),
        ({}, "line 2: expected one of prompt, messages, text, got none"),
        (
            {"prompt": "a", "text": "b"},
            "line 2: expected one of prompt, messages, text, got prompt and text",
        ),
        ({"prompt": 1}, "line 2: prompt: expected a text or a list of messages"),
        ({"prompt": []}, "line 2: prompt: expected a text or a list of messages"),
        (
            {"messages": [{"content": "a"}]},
            "line 2: messages: each message needs 'role' and 'content'",
        ),
        (
            {"messages": "a"},
            "line 2: messages: expected a list; for a text say prompt",
        ),
        ({"text": []}, "line 2: text: expected a text; for messages say messages"),
        ({"prompt": "a", "id": ""}, "line 2: id must be a text or an integer, got ''"),
        ({"prompt": "a", "id": True}, "line 2: id must be a text or an integer, got T"),
        ({"prompt": "a", "n": 0}, "line 2: n must be an integer from 1 to 65536, got"),
        ({"prompt": "a", "n": "2"}, "line 2: n must be an integer from 1 to 65536, g"),
        (
            {"prompt": "a", "seed": 1 << 31},
            "line 2: seed must be an integer from 0 to 2147483647, got 2147483648",
        ),
        (
            {"prompt": "a", "settings": 1},
            'line 2: settings: expected an object such as {"temperature": 0.5}',
        ),
        (
            {"prompt": "b", "id": 1},
            "line 2: id '1' is that of line 1 already; give each line an id of its own",
        ),
    ],
)
def test_a_wrong_line_becomes_a_prompt_with_the_reason(
    path: Path, row: Any, reason: str
):
    """The lines around it are as they were."""
    first, wrong, last = prompts.read(write(path, {"prompt": "a"}, row, {"text": "c"}))
    assert wrong.reason.startswith(reason)
    assert wrong.line == 2
    assert (first.reason, last.reason) == ("", "")


def test_a_wrong_line_keeps_its_id(path: Path):
    (wrong,) = prompts.read(write(path, {"id": "x", "prompt": "a", "n": 0}))
    assert wrong.id == "x"


def test_a_line_that_cannot_be_read_takes_no_id_from_one_that_can(path: Path):
    """The second has no id, so its number; the third is called that."""
    path.write_text('{"id": 1, "prompt": "a"}\n{broken\n{"id": 2, "prompt": "b"}\n')
    first, broken, last = prompts.read(str(path))
    assert (first.id, broken.id, last.id) == ("1", "2", "2")
    assert (first.reason, last.reason) == ("", "") and broken.reason


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.json", b'[\n {"prompt": "a"}\n]', "a.json: a JSON array; write its"),
        ("none.jsonl", None, "none.jsonl: no such file; expected a .jsonl or .txt"),
        ("folder", None, "folder: is a folder; expected a .jsonl or .txt file"),
        ("a.txt", b"", "a.txt: holds no prompts; add one a line"),
        ("a.jsonl", b"\n \n", "a.jsonl: holds no prompts; add one a line"),
        ("a.parquet", b"PAR1\xff", "a.parquet: not UTF-8 at byte 4; expected JSONL or"),
    ],
)  # fmt: skip
def test_a_file_without_prompts_is_refused(
    tmp_path: Path, name: str, content: bytes | None, message: str
):
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    elif name == "folder":
        path.mkdir()
    with pytest.raises(ValueError) as caught:
        prompts.read(str(path))
    assert message in str(caught.value)


def test_real_prompts_come_back_as_they_were(shared_data: Path, path: Path):
    """IFEval's 541 prompts, of many scripts and line ends; its other columns would be
    refused."""
    source = shared_data / "ifeval" / "input_data.jsonl"
    rows = [json.loads(line) for line in source.read_bytes().splitlines()]
    write(path, *({"id": row["key"], "prompt": row["prompt"]} for row in rows))
    found = prompts.read(str(path))
    assert [prompt.id for prompt in found] == [str(row["key"]) for row in rows]
    assert [prompt.messages[0].content for prompt in found] == [
        row["prompt"] for row in rows
    ]
    refused = prompts.read(str(source))
    assert all("unknown key 'key'" in prompt.reason for prompt in refused)
