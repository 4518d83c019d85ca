"""Locks: one process at a time, and no file of anybody's is written to by way of a name in a shared folder."""

from __future__ import annotations

import errno
import fcntl
import os
import time
from pathlib import Path

import pytest

from ensemble_kit.errors import BusyError, DataError
from ensemble_kit.locks import hold, let_go, try_hold


def test_who_waits_is_told_the_process_and_its_machine(tmp_path: Path) -> None:
    handle = hold(tmp_path / "lock", "trained")
    told = f"process {os.getpid()} on {os.uname().nodename}"
    with pytest.raises(BusyError) as error:
        hold(tmp_path / "lock", "trained")
    assert str(error.value) == f"{tmp_path}: being trained by {told}; wait for it or stop it"
    let_go(tmp_path / "lock", handle)
    assert list(tmp_path.iterdir()) == []


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    precious, lock = tmp_path / "precious", tmp_path / "lock"
    for there in (True, False):
        if there:
            precious.write_text("mine")
        lock.symlink_to(precious)
        with pytest.raises(DataError, match="lock: expected a file to lock, found a link; remove it"):
            try_hold(lock, "process 1")
        assert not there or precious.read_text() == "mine"
        lock.unlink()
        precious.unlink(missing_ok=True)


def test_a_file_with_a_second_name_is_not_written_to(tmp_path: Path) -> None:
    precious, lock = tmp_path / "precious", tmp_path / "lock"
    precious.write_text("mine")
    precious.chmod(0o600)
    os.link(precious, lock)
    handle = try_hold(lock, "process 1")
    assert isinstance(handle, int)
    let_go(lock, handle)
    assert precious.read_text() == "mine"
    assert precious.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("kind", ["pipe", "folder"])
def test_what_is_no_file_is_refused(tmp_path: Path, kind: str) -> None:
    lock = tmp_path / "lock"
    os.mkfifo(lock) if kind == "pipe" else lock.mkdir()
    with pytest.raises(DataError, match="expected a file to lock, found no file; remove it"):
        try_hold(lock, "process 1")


def test_a_holder_that_is_about_to_write_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    handle = try_hold(tmp_path / "lock", "")
    assert isinstance(handle, int)
    assert try_hold(tmp_path / "lock", "another") == "another process"
    monkeypatch.setattr(time, "sleep", lambda _: os.pwrite(handle, b"process 7", 0))
    assert try_hold(tmp_path / "lock", "another") == "process 7"
    let_go(tmp_path / "lock", handle)


def test_what_the_holder_wrote_steers_no_terminal(tmp_path: Path) -> None:
    handle = try_hold(tmp_path / "lock", "\x1b[2Jprocess\n 7\r")
    assert isinstance(handle, int)
    assert try_hold(tmp_path / "lock", "another") == "[2Jprocess 7"
    let_go(tmp_path / "lock", handle)


def test_a_disk_that_knows_no_locks_is_said_and_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def flock(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.raises(
        DataError, match=r"lock: cannot be locked \(No locks available\); name a folder on another disk"
    ):
        hold(tmp_path / "lock", "trained")
