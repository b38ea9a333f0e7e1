# SPDX-License-Identifier: Apache-2.0
"""Answers files: what a stopped run left is kept, and nothing else is touched."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest

from alignjax import whole_file
from alignjax.sampling.commands import answers

KEYS = ["a", "b", "c"]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "answers.jsonl"


def line(key: str, text: str = "") -> str:
    return json.dumps({"key": key, "text": text or f"text of {key}"}) + "\n"


def fill(path: Path, *keys: str, is_fresh: bool = False) -> list[str]:
    """Appends rows; returns the keys that were there."""
    with answers.opened(path, KEYS, is_fresh=is_fresh) as file:
        found = list(file.reasons)
        for key in keys:
            file.append(key, {"text": f"text of {key}"})
    return found


def test_a_complete_file_is_in_order_and_an_incomplete_one_as_it_came(path: Path):
    assert fill(path, "c", "a") == []
    assert path.read_text() == line("c") + line("a")
    assert fill(path, "b") == ["c", "a"]
    assert path.read_text() == "".join(map(line, KEYS))
    assert [each.name for each in path.parent.iterdir()] == ["answers.jsonl"]


def test_a_file_in_order_is_not_written_again(path: Path):
    fill(path, *KEYS)
    before = path.stat().st_ino
    assert fill(path) == KEYS
    assert path.stat().st_ino == before


def test_what_is_appended_is_there_before_the_end(path: Path):
    with answers.opened(path, KEYS) as file:
        file.append("b", {"text": "text of b"})
        assert path.read_text() == line("b")


def test_an_interrupt_keeps_what_is_there(path: Path):
    with pytest.raises(KeyboardInterrupt), answers.opened(path, KEYS) as file:
        file.append("b", {"text": "text of b"})
        raise KeyboardInterrupt
    assert path.read_text() == line("b")


@pytest.mark.parametrize("size", range(len(line("b"))))
def test_half_a_line_at_the_end_is_cut_off(path: Path, size: int):
    """Wherever a kill may have cut it, also in the very first line."""
    for before in ("", line("a")):
        path.write_text(before + line("b")[:size])
        assert fill(path, "c") == (["a"] if before else [])
        assert path.read_text() == before + line("c")


def test_the_reasons_are_kept(path: Path):
    with answers.opened(path, KEYS) as file:
        file.append("a", {"text": "", "reason": "too long"})
        file.append("b", {"text": "x"})
    with answers.opened(path, KEYS) as file:
        assert file.reasons == {"a": "too long", "b": ""}


def test_a_run_without_answers_leaves_no_file(path: Path):
    with pytest.raises(ValueError, match="no model"), answers.opened(path, KEYS):
        raise ValueError("no model")
    assert list(path.parent.iterdir()) == []


def test_rows_of_another_run_are_refused_and_left_alone(path: Path):
    text = line("a") + line("x") + line("y") + line("b")[:9]
    path.write_text(text)
    with pytest.raises(ValueError) as caught:
        fill(path)
    assert str(caught.value) == (
        f"{path}: 2 of its 3 answers are not of this command, the first on line 2: the "
        "model, the settings or the prompts were others; choose another --out, remove "
        "the file, or add --fresh to drop those answers and keep the rest"
    )
    assert path.read_text() == text


def test_fresh_drops_the_rows_of_another_run_and_repeated_ones(path: Path):
    path.write_text(line("x") + line("a") + line("a", "again") + line("b")[:9])
    assert fill(path, is_fresh=True) == ["a"]
    assert path.read_text() == line("a")


@pytest.mark.parametrize("is_fresh", [False, True])
@pytest.mark.parametrize("text", ['{"prompt": "a"}\n', '{"prompt": "a"}', "a\nb", "{}"])
def test_another_kind_of_file_is_refused_and_left_alone(
    path: Path, text: str, is_fresh: bool
):
    path.write_text(text)
    with pytest.raises(ValueError) as caught:
        fill(path, is_fresh=is_fresh)
    assert str(caught.value) == (
        f"{path}:1: is no answer of `alignjax sample`; choose another --out"
    )
    assert path.read_text() == text


def test_a_damaged_line_is_named(path: Path):
    path.write_text(line("a") + '{"key": "b", \n' + line("c"))
    with pytest.raises(ValueError) as caught:
        fill(path)
    assert str(caught.value).startswith(f"{path}:2:")
    assert "; remove that line and its answer is sampled again" in str(caught.value)


def test_a_place_where_no_file_can_be_is_refused(tmp_path: Path):
    for name, message in (
        (".", "is a folder; give --out the name of a file"),
        ("none/a.jsonl", "none does not exist; make it, or choose another --out"),
    ):
        with pytest.raises(ValueError, match=message):
            fill(tmp_path / name)
    with pytest.raises(
        ValueError, match="not a regular file; --out - writes to a pipe"
    ):
        fill(Path("/dev/null"))


def test_one_process_at_a_time_works_on_a_file(path: Path):
    with (
        answers.opened(path, KEYS),
        pytest.raises(ValueError, match="another sampling is at work on this file"),
    ):
        fill(path)


def test_a_link_stays_a_link(path: Path, tmp_path: Path):
    path.symlink_to(tmp_path / "elsewhere.jsonl")
    fill(path, "b", "c", "a")
    assert path.is_symlink()
    assert path.read_text() == "".join(map(line, KEYS))


def test_a_full_disk_keeps_what_is_there(path: Path, monkeypatch: pytest.MonkeyPatch):
    """While the rows are put in order: they stay as they came, and the next run does
    it."""
    fill(path, "c", "a")

    def full(source: Path, target: Path) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(whole_file.os, "replace", full)
        with pytest.raises(OSError, match="No space left"):
            fill(path, "b")
    assert path.read_text() == line("c") + line("a") + line("b")
    fill(path)
    assert path.read_text() == "".join(map(line, KEYS))


def test_a_stream_gets_the_rows_as_they_come():
    """Also where it cannot be synced, as a pipe."""
    reader, writer = os.pipe()
    with (
        open(reader, "rb") as end,
        open(writer, "wb") as file,
        answers.stream(file) as rows,
    ):
        assert rows.reasons == {}
        rows.append("b", {"text": "é"})
        assert os.read(end.fileno(), 99) == '{"key": "b", "text": "é"}\n'.encode()
        rows.sync()
