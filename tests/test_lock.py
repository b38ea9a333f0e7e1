# SPDX-License-Identifier: Apache-2.0
"""Locks: one process at a time, the holder is named, and nothing is left behind."""

import errno
import fcntl
import os
import re
import socket
from pathlib import Path

import pytest

from alignjax import lock


def me() -> str:
    return f"pid {os.getpid()} on host {socket.gethostname()}"


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_lock_names_its_holder_and_goes_with_it(tmp_path):
    with lock.held(tmp_path, what="run"):
        assert (tmp_path / ".lock").read_text() == f"{me()}\n"
    assert names(tmp_path) == []


def test_a_lock_is_free_after_an_error(tmp_path):
    with pytest.raises(KeyError), lock.held(tmp_path, what="run"):
        raise KeyError
    assert names(tmp_path) == []
    with lock.held(tmp_path, what="run"):
        pass


def test_a_second_process_is_told_pid_host_and_remedy(hold_lock, tmp_path):
    holder = hold_lock(tmp_path)
    message = (
        f"{tmp_path}: another pipeline is at work in this folder (pid {holder.pid} on "
        f"host {socket.gethostname()}); wait for it, stop it, or choose another --out"
    )
    for _ in range(2):  # being refused takes nothing from the holder
        with (
            pytest.raises(ValueError, match=f"^{re.escape(message)}$"),
            lock.held(tmp_path, what="pipeline"),
        ):
            pass
    assert f"pid {holder.pid} " in (tmp_path / ".lock").read_text()


def test_the_lock_of_a_killed_process_is_taken_over(hold_lock, tmp_path):
    holder = hold_lock(tmp_path)
    holder.kill()
    holder.wait()
    assert f"pid {holder.pid} " in (tmp_path / ".lock").read_text()
    with lock.held(tmp_path, what="run"):
        assert (tmp_path / ".lock").read_text() == f"{me()}\n"
    assert names(tmp_path) == []


def test_a_file_that_its_holder_removed_in_between_is_made_anew(tmp_path, monkeypatch):
    """Between our open and our flock the last holder ends: what we then lock has no
    name any more, and a third process would not see it."""
    flock, locked = fcntl.flock, []

    def late(file, how):
        if not locked:
            (tmp_path / ".lock").unlink()
        locked.append(os.fstat(file.fileno()).st_ino)
        flock(file, how)

    monkeypatch.setattr(lock.fcntl, "flock", late)
    with lock.held(tmp_path, what="run"):
        assert len(locked) == 2
        assert (tmp_path / ".lock").stat().st_ino == locked[1]
        with (
            pytest.raises(ValueError, match=re.escape(me())),
            lock.held(tmp_path, what="run"),
        ):
            pass


def test_what_another_process_locks_meanwhile_stays(hold_lock, tmp_path):
    """Someone removes our file by hand, and another process makes its own."""
    with lock.held(tmp_path, what="run"):
        (tmp_path / ".lock").unlink()
        other = hold_lock(tmp_path)
    assert f"pid {other.pid} " in (tmp_path / ".lock").read_text()
    with (
        pytest.raises(ValueError, match=f"pid {other.pid} "),
        lock.held(tmp_path, what="run"),
    ):
        pass


def test_a_removed_file_or_folder_is_no_error_at_the_end(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    with lock.held(folder, what="run"):
        (folder / ".lock").unlink()
        folder.rmdir()


def test_a_file_is_locked_beside_itself(tmp_path):
    cache = tmp_path / "cache.sqlite"
    message = rf"cache\.sqlite: another run is at work on this file \({me()}\); wait "
    with lock.held_beside(cache, what="run", instead="cache"):
        assert names(tmp_path) == ["cache.sqlite.lock"]
        with (
            pytest.raises(ValueError, match=f"{message}.* choose another cache$"),
            lock.held_beside(cache, what="run", instead="cache"),
        ):
            pass
        with lock.held(tmp_path, what="run"):  # its folder is another thing
            pass
    assert names(tmp_path) == []


def test_other_errors_pass_and_name_the_file(tmp_path, monkeypatch):
    def unable(file, how):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    with (
        pytest.raises(FileNotFoundError, match=r"none/\.lock"),
        lock.held(tmp_path / "none", what="run"),
    ):
        pass
    monkeypatch.setattr(lock.fcntl, "flock", unable)
    with pytest.raises(OSError) as caught, lock.held(tmp_path, what="run"):
        pass
    assert caught.value.errno == errno.ENOLCK
    assert caught.value.filename == str(tmp_path / ".lock")
