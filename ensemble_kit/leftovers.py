"""Whose a temporary file is, and what to do with those whose process was killed.

A name says the process, when that began, and the place where its number means something: one boot of one machine, or
one container. Folders may be shared by machines and by containers, and numbers come again.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import time
from contextlib import suppress
from functools import cache
from pathlib import Path

OWNER = r"(\d+(?:-\d+-[0-9a-f]{10})?)"
"""Matches what `owner` gives, and the bare number that earlier versions wrote: of which machine, nobody knows."""

OLD = 24 * 3600.0
"""Seconds since the last change after which a temporary file of another machine is nobody's any more."""


def owner() -> str:
    """This process, for the name of a temporary file: number, begin (0 = not known) and place.

    Examples:
        >>> re.fullmatch(OWNER, owner()) is not None
        True
    """
    process = os.getpid()  # asked each time: a forked process is another one
    return f"{process}-{_began(process)}-{place()}"


def spoken() -> str:
    """This process, for people: `process 4711 on hostname`."""
    return f"process {os.getpid()} on {os.uname().nodename}"


@cache
def place() -> str:
    """Where process numbers are those that are seen from here: host, boot, and container."""
    parts = [os.uname().nodename]
    with suppress(OSError):  # known on Linux alone
        parts += [
            Path("/proc/sys/kernel/random/boot_id").read_text().strip(),
            str(Path("/proc/self/ns/pid").readlink()),
        ]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:10]


def remove_leftovers(folder: Path, pattern: str) -> None:
    """Removes the entries of `folder` that belong to processes that no longer run.

    Of processes of this place that is certain. Of those of another machine, boot or container nothing can be seen: what
    is theirs goes when nobody has changed it for a day.

    Args:
        folder: may not exist.
        pattern: matches an entry's whole name; its first group is the `OWNER`.
    """
    for path in Path(folder).glob(".*"):
        found = re.fullmatch(pattern, path.name)
        if found is None or not _is_left(path, found[1]):
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            with suppress(OSError):  # another one removes it too, or it is not ours to remove
                path.unlink()


def _is_left(path: Path, name: str) -> bool:
    process, _, rest = name.partition("-")
    began, _, where = rest.partition("-")
    if where == place():
        return not _runs(int(process), began)
    try:
        return time.time() - _changed(path) > OLD
    except OSError:  # gone since
        return False


def _changed(path: Path) -> float:
    """When an entry, or anything below it, was last changed."""
    inside = path.rglob("*") if path.is_dir() and not path.is_symlink() else ()
    times: list[float] = [entry.lstat().st_mtime for entry in (path, *inside)]
    return max(times)


def _runs(process: int, began: str) -> bool:
    """Whether a process of this place runs that began then, and is not a later one of the same number."""
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass  # another user's
    now = _began(process)
    return began == now or "0" in (began, now)


def _began(process: int) -> str:
    """Clock ticks from boot to the begin of a process; 0 where the system does not say it."""
    try:
        said = Path(f"/proc/{process}/stat").read_text("utf-8", "replace")
    except OSError:
        return "0"
    state, *numbers = said.rpartition(")")[2].split()  # the name before it may hold anything
    return "ended" if state in "ZX" else numbers[18]  # one that nobody has asked after keeps its number
