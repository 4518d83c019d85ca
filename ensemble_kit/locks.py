"""Locks that the system lets go of when their process dies, however it dies."""

from __future__ import annotations

import errno
import os
import stat
import time
from contextlib import suppress
from pathlib import Path

from ensemble_kit.errors import BusyError, DataError
from ensemble_kit.leftovers import spoken

WRITES = 0.2
"""Seconds in which a process that has just got a lock has written who it is."""


def hold(path: Path, doing: str) -> int:
    """Locks a file for this process; the system lets go of it when the process dies, however it dies.

    Args:
        doing: what is done to the file's folder, in the passive: "trained".

    Returns:
        A handle for `let_go`.

    Raises:
        BusyError: another process holds it.
    """
    found = try_hold(path, spoken())
    if isinstance(found, str):
        raise BusyError(f"{path.parent}: being {doing} by {found}; wait for it or stop it")
    return found


def try_hold(path: Path, told: str) -> int | str:
    """Locks a file, which may be another user's, for this process.

    Folders that all users write to are no danger: nothing is written where the name is a link, or the file another
    user's or one with a second name elsewhere.

    Args:
        told: is written into it, for others to read.

    Returns:
        A handle for `let_go`; what the holder wrote, where another process holds it.

    Raises:
        DataError: the name is a link or no file, or the disk knows no locks.
    """
    import fcntl

    while True:
        handle = _lock_file(path)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            is_held = error.errno in (errno.EAGAIN, errno.EACCES)
            holder = _written(handle) if is_held else ""
            os.close(handle)
            if not is_held:  # it would be waited for without end
                raise DataError(f"{path}: cannot be locked ({error.strerror}); name a folder on another disk") from None
            return holder or "another process"
        ours = os.fstat(handle)
        if path.exists() and os.path.samestat(path.lstat(), ours):
            if ours.st_uid == os.geteuid() and ours.st_nlink == 1:
                os.fchmod(handle, 0o644)  # others have to open it too, whatever this user's umask
                os.truncate(handle, 0)
                os.write(handle, told.encode())
            _held.add(handle)
            return handle
        os.close(handle)  # the holder before removed the file between our two calls


def _lock_file(path: Path) -> int:
    """Opens a file to lock, made where there is none; never one that a link leads to, and no pipe, which would wait."""
    safely = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        try:
            handle = os.open(path, os.O_RDWR | os.O_CREAT | safely, 0o644)
        except PermissionError:  # left behind by another user
            handle = os.open(path, os.O_RDONLY | safely)
    except OSError as error:
        if error.errno not in (errno.ELOOP, errno.EISDIR, errno.ENXIO):
            raise
        found = "a link" if error.errno == errno.ELOOP else "no file"
        raise DataError(f"{path}: expected a file to lock, found {found}; remove it") from None
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise DataError(f"{path}: expected a file to lock, found no file; remove it")
    return handle


def _written(handle: int) -> str:
    """What the holder wrote, in one line, without what would steer a terminal: anybody may have written it."""
    end = time.monotonic() + WRITES
    while not (found := os.pread(handle, 400, 0)) and time.monotonic() < end:
        time.sleep(0.01)
    return "".join(letter for letter in " ".join(found.decode(errors="replace").split()) if letter.isprintable())


def let_go(path: Path, handle: int) -> None:
    """Ends what `hold` began."""
    with suppress(PermissionError):  # another user's
        path.unlink(missing_ok=True)
    _held.discard(handle)
    os.close(handle)


_held: set[int] = set()


def _forget_held() -> None:
    """Forked workers hold nothing: they may outlive, by seconds, a process that was killed."""
    while _held:
        os.close(_held.pop())


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_held)
