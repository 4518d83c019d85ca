"""Room for decoded photos: what is used, what may go, and what the disk has left."""

from __future__ import annotations

import contextlib
import os
import shutil
import weakref
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ensemble_kit.errors import DataError

GB = 1e9
NEARLY_FULL = 1e9
"""Bytes left on a disk below which it is said."""


@dataclass(frozen=True)
class Kept:
    """A file of the cache's folder that can be made again.

    Attributes:
        files: that belong together; the first one is the array.
        n_bytes: on the disk.
        used: when it was last used.
    """

    files: tuple[Path, ...]
    n_bytes: int
    used: float


def mark_used(photos: Any, file: Path) -> None:
    """While the array `photos` lives, its file is in use: no process removes it to make room; and it is used now."""
    import fcntl

    with contextlib.suppress(OSError):  # a disk that is only read, or that knows no locks
        os.utime(file)
    with contextlib.suppress(OSError):
        handle = os.open(file, os.O_RDONLY)
        weakref.finalize(photos, os.close, handle)
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)


def is_used(file: Path) -> bool:
    """Whether a living array of some process is marked to use the file."""
    import fcntl

    try:
        handle = os.open(file, os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(handle)
    return False


def kept_in(folder: Path) -> list[Kept]:
    """What the folder holds, the longest unused first: caches, features, and what was broken off."""
    found = []
    for array in [*folder.glob("*.npy"), *folder.glob(".*.part")]:
        beside = (array.with_suffix(".json"), array.with_name(f"{array.name}.blocks"))
        try:
            stat = array.stat()
        except OSError:
            continue  # gone since
        files = (array, *(file for file in beside if file.is_file()))
        found.append(Kept(files, stat.st_size, stat.st_mtime))
    return sorted(found, key=lambda kept: kept.used)


def make_room(folder: Path, n_bytes: int, limit: int | None, own: Path) -> bool:
    """Removes what was not used for longest, until `n_bytes` more are within the limit; nothing where that cannot be.

    Args:
        limit: bytes that the folder's arrays may take; None = as many as there are.
        own: what goes on growing, counted with the `n_bytes`.

    Returns:
        Whether there is room now.
    """
    if limit is None:
        return True
    others = [kept for kept in kept_in(folder) if kept.files[0] != own]
    free_to_go = [kept for kept in others if not is_used(kept.files[0])]
    total = n_bytes + sum(kept.n_bytes for kept in others)
    if total - sum(kept.n_bytes for kept in free_to_go) > limit:
        return False
    for kept in free_to_go:
        if total <= limit:
            break
        for file in kept.files:
            file.unlink(missing_ok=True)
        total -= kept.n_bytes
    return True


def check_disk(folder: Path, n_bytes: int, what: str, instead: str) -> str | None:
    """Looks whether the disk can take so many bytes more.

    Args:
        what: what they are, for messages.
        instead: how to do with fewer.

    Returns:
        A line where they leave the disk nearly full.

    Raises:
        DataError: they do not fit.
    """
    place = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
    free = shutil.disk_usage(place).free
    if n_bytes > free:
        raise DataError(f"{folder}: {what} need {size_text(n_bytes)}, {size_text(free)} are free there; {instead}")
    if free - n_bytes < NEARLY_FULL:
        return f"{folder}: {what} take {size_text(n_bytes)}; {size_text(free - n_bytes)} are then left on that disk"
    return None


def size_text(n_bytes: float) -> str:
    """Bytes in words.

    Examples:
        >>> size_text(2_840_000_000), size_text(12_300_000), size_text(400_000)
        ('2.8 GB', '12 MB', '0.4 MB')
    """
    value = n_bytes / 1e6
    return f"{value / 1000:.1f} GB" if value >= 1000 else f"{value:.1f} MB" if value < 10 else f"{value:.0f} MB"
