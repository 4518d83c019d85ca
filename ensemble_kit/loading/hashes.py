"""Which photos these are: by what is in the files, their SHA-256, computed once for each state of a file.

What a file's hash was is remembered beside the caches with its size, inode and times, as git's index does; a file that
still has all of these is not read again. One of the times is the system's own (ctime): every write, and every other
file put in its place, changes it, and no program can set it back. So a photo replaced by another of the same size with
its modification time put back is seen. A hash is only remembered of a file left alone for `SETTLED` seconds, so that a
second write within one tick of a coarse clock is seen too. Not seen is what changes no state of a file: bytes changed
below the file system (a decaying disk, an image edited while it was not mounted), or under a clock that was set back to
the same nanosecond. Remove `hashes.tsv` after such a thing, and every photo is read again.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import stat
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from ensemble_kit.data.decode import MAX_BYTES
from ensemble_kit.files import write_bytes
from ensemble_kit.loading.room import size_text
from ensemble_kit.threads import side_by_side

NAME = "hashes.tsv"
"""A line a file: hash, size, mtime, ctime, inode, path as JSON. Lines are added; of a path's the last one holds."""

SETTLED = 2.0
"""Seconds for which a file must have been left alone: no file system's clock is coarser."""

PORTION = 1024
"""Files that are hashed before what was found is written down."""

TOLD_FROM = 4e9
"""Bytes to read from which it is said."""

LENGTH = 64
"""Characters of a hash. What cannot be read has a shorter stand-in, which begins with a minus and says why."""

Say = Callable[[str], None]
"""Told in words what the user should know."""

Stamp = tuple[int, int, int, int]
"""Size, mtime and ctime in nanoseconds, inode."""


class PhotoHashes:
    """The hashes of photos, those of a folder's `hashes.tsv` taken from there.

    Args:
        folder: of the caches; may not exist.
        keeps: whether what is found out is written down there, as far as it can be.
    """

    def __init__(self, folder: Path, *, keeps: bool = True):
        self.file, self.keeps = Path(folder) / NAME, keeps
        self.known: dict[str, tuple[Stamp, str]] = {}
        self._read()

    def of(self, paths: Sequence[Path], say: Say | None = None) -> list[str]:
        """The SHA-256 of each file as hex digits; of what is no readable file a stand-in, see `LENGTH`.

        Args:
            say: told in words where there is so much to read that it takes its time.
        """
        found = [self._known(path) for path in paths]
        todo = [row for row, sha256 in enumerate(found) if not sha256]
        n_bytes = sum(_size(paths[row]) for row in todo) if say is not None else 0
        if say is not None and n_bytes > TOLD_FROM:
            say(f"note: reading {size_text(n_bytes)} of photos once, to tell them by their bytes from changed ones")
        for start in range(0, len(todo), PORTION):
            rows = todo[start : start + PORTION]
            fresh: dict[str, tuple[Stamp, str]] = {}
            for row, (sha256, stamp) in zip(rows, side_by_side(_hashed, [paths[row] for row in rows]), strict=True):
                found[row] = sha256
                if stamp is not None:
                    fresh[str(paths[row].absolute())] = stamp, sha256
            self.known |= fresh
            if self.keeps and fresh:
                self._write_down(fresh)
        return found

    def _known(self, path: Path) -> str:
        """Nothing where the file is not known in the state it has now."""
        stamp, sha256 = self.known.get(str(path.absolute()), (None, ""))
        try:
            return sha256 if stamp is not None and stamp == _stamp(path.stat()) else ""
        except (OSError, ValueError):
            return ""

    def _read(self) -> None:
        """Takes every line that is whole; those that a kill or a full disk cut short are none."""
        try:
            lines = self.file.read_bytes().decode("ascii", "replace").split("\n")
        except OSError:
            return
        for line in lines:
            with suppress(ValueError):  # too few fields, no number, no JSON
                sha256, *numbers, path = line.split("\t", 5)
                size, mtime, ctime, inode = map(int, numbers)
                if len(sha256) == LENGTH:
                    self.known[json.loads(path)] = (size, mtime, ctime, inode), sha256
        if self.keeps and len(lines) > 4 * len(self.known) + PORTION:  # two for each is what it has at first
            with suppress(OSError):
                write_bytes(self.file, _lines(self.known))

    def _write_down(self, fresh: dict[str, tuple[Stamp, str]]) -> None:
        """In one call, behind a line's end: what two processes write does not mix, nor with a line cut short."""
        with suppress(OSError):  # a disk that is full or only read: hashed again next time
            self.file.parent.mkdir(parents=True, exist_ok=True)
            handle = os.open(self.file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
            try:
                os.write(handle, _lines(fresh))
            finally:
                os.close(handle)


def _lines(known: dict[str, tuple[Stamp, str]]) -> bytes:
    rows = ((sha256, *map(str, stamp), json.dumps(path)) for path, (stamp, sha256) in known.items())
    return "".join("\n" + "\t".join(row) + "\n" for row in rows).encode("ascii")


def _stamp(state: os.stat_result) -> Stamp:
    return state.st_size, state.st_mtime_ns, state.st_ctime_ns, state.st_ino


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except (OSError, ValueError):
        return 0


def _hashed(path: Path) -> tuple[str, Stamp | None]:
    """The hash or a stand-in; and the state of the file, where it may be remembered."""
    began = time.time()
    try:
        state = path.stat()
        if not stat.S_ISREG(state.st_mode):  # a pipe would be waited for
            return f"-{stat.S_IFMT(state.st_mode):o}", None
        if state.st_size > MAX_BYTES:  # refused when it is decoded
            return f"-{state.st_size}", None
        with open(path, "rb") as handle:
            before = _stamp(os.fstat(handle.fileno()))
            sha256 = hashlib.file_digest(handle, "sha256").hexdigest()
            after = _stamp(os.fstat(handle.fileno()))
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        return f"-{errno.errorcode.get(getattr(error, 'errno', None) or 0, 'no name')}", None
    is_settled = before == after and before[2] / 1e9 + SETTLED < began
    return sha256, before if is_settled else None
