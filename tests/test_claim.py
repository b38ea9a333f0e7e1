# SPDX-License-Identifier: Apache-2.0
"""Claims and whole files: a folder is one run's, one process works in it, and a file
is never half written."""

import errno
import os
from pathlib import Path

import pytest

from alignjax import claim, json_file, whole_file


def hold(out: Path, identity: str = "a", **options) -> None:
    with claim.held(out, identity, config="x: 1\n", what="training run", **options):
        pass


def test_a_claim_names_the_run_and_keeps_its_config(tmp_path):
    out = tmp_path / "new" / "run"
    hold(out)
    assert (out / "config.yaml").read_text() == "x: 1\n"
    hold(out)  # the same run goes on


def test_another_run_is_refused(tmp_path):
    hold(tmp_path)
    with pytest.raises(ValueError, match="belongs to another training run") as caught:
        hold(tmp_path, "b")
    assert str(tmp_path / "config.yaml") in str(caught.value)


def test_what_is_no_runs_folder_is_refused_and_stays(tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(ValueError, match="is not empty and holds no training run"):
        hold(tmp_path)
    with pytest.raises(ValueError, match="is a file, not a folder"):
        hold(tmp_path / "thesis.txt")
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_run_that_was_killed_while_it_claimed_goes_on(tmp_path):
    """At any moment: the lock alone, half a marker, or a marker without a config."""
    (tmp_path / ".lock").write_text("")
    (tmp_path / ".run.json.partial").write_text('{"ident')
    hold(tmp_path)
    (tmp_path / "config.yaml").unlink()
    hold(tmp_path)
    assert (tmp_path / "config.yaml").is_file()


def test_a_damaged_marker_is_named(tmp_path):
    (tmp_path / "run.json").write_text("{")
    with pytest.raises(ValueError, match=r"run\.json is not valid JSON"):
        hold(tmp_path)


def test_processes_that_do_not_write_still_check(tmp_path):
    hold(tmp_path / "none", writes=False)
    assert not (tmp_path / "none").exists()
    hold(tmp_path / "run")
    with pytest.raises(ValueError, match="belongs to another"):
        hold(tmp_path / "run", "b", writes=False)


def test_one_process_at_a_time(hold_lock, tmp_path):
    holder = hold_lock(tmp_path)
    with pytest.raises(ValueError, match="another training run is at work in this"):
        hold(tmp_path)
    assert not (tmp_path / "run.json").exists()
    holder.kill()
    holder.wait()
    hold(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "config.yaml",
        "run.json",
    ]


@pytest.mark.parametrize("name", ["fsync", "replace"])
def test_a_full_disk_leaves_the_old_file(tmp_path, monkeypatch, name):
    path = tmp_path / "file"
    whole_file.write(path, "old")

    def full(*arguments):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(whole_file.os, name, full)
    for write in (whole_file.write, json_file.write):
        with pytest.raises(OSError, match="No space left") as caught:
            write(path, "new")
        assert caught.value.filename == str(path)
    assert [file.name for file in tmp_path.iterdir()] == ["file"]
    assert path.read_text() == "old"
