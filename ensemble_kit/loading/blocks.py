"""An array on disk that is filled block by block, and goes on from what is written when it was broken off."""

from __future__ import annotations

import errno
import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from ensemble_kit.arrays import ByteArray
from ensemble_kit.errors import MALFORMED, BusyError, DataError
from ensemble_kit.files import new_array, read_array, sha256_bytes
from ensemble_kit.loading.room import mark_used
from ensemble_kit.locks import hold, let_go

LOOK_EVERY = 0.2
"""Seconds between two looks at whether another process is done."""

Problems = list[tuple[int, str]]
"""(row, what is wrong with it)."""


class Blocks:
    """Rows of photos, written a block at a time, each with its hash in a record beside it.

    A block counts as written when the record has a whole line of it and its pixels are what the line says: whatever a
    kill or a crash left half done is written again.

    Args:
        array: the file that grows; the record lies beside it.
        shape: `(n_rows, height, width, 3)` uint8.
        size: rows in a block.
    """

    def __init__(self, array: Path, shape: tuple[int, ...], size: int):
        self.array, self.record, self.size, self.shape = array, record_of(array), size, shape
        self.done: dict[int, Problems] = {}
        self.photos = self._reopened()
        if self.photos is None:
            self.record.unlink(missing_ok=True)
            self.photos = _new(array, shape)
        mark_used(self.photos, array)  # no other process removes it to make room

    def __iter__(self) -> Iterator[tuple[int, int]]:
        """(first row, row after the last) of each block, written or not."""
        for first in range(0, self.shape[0], self.size):
            yield first, min(first + self.size, self.shape[0])

    def write(self, first: int, pixels: ByteArray, problems: Problems) -> None:
        """A block's photos, then its line in the record."""
        assert self.photos is not None
        self.photos[first : first + len(pixels)] = pixels
        line = json.dumps({"first": first, "sha256": sha256_bytes(pixels.tobytes()), "problems": problems})
        with open(self.record, "a", encoding="utf-8") as handle:
            handle.write(line + "\n")
        self.done[first] = problems

    def problems(self) -> Problems:
        """Of all blocks, by row."""
        return [problem for first in sorted(self.done) for problem in self.done[first]]

    def close(self) -> None:
        """What is written reaches the disk."""
        assert self.photos is not None
        self.photos.flush()
        with open(self.array, "rb+") as handle:
            os.fsync(handle.fileno())
        self.photos = None

    def _reopened(self) -> np.memmap[Any, Any] | None:
        """The array as it was left, of its blocks those that are what the record says; None = there is none."""
        try:
            found = read_array(self.array, memory_map=True)
            lines = self.record.read_text("utf-8").splitlines()
        except (DataError, OSError, ValueError):
            return None
        if found.shape != self.shape or found.dtype != np.uint8:
            return None
        ends, good = dict(self), []
        for line in lines:
            try:
                entry = json.loads(line)
                first, problems = int(entry["first"]), [(int(row), str(text)) for row, text in entry["problems"]]
                is_whole = first in ends and sha256_bytes(found[first : ends[first]].tobytes()) == entry["sha256"]
            except MALFORMED:  # a line that a kill cut short, and what came after it
                break
            if is_whole:
                self.done[first] = problems
                good.append(line + "\n")
        self.record.write_text("".join(good), encoding="utf-8")  # so that no line is written behind half of one
        mapped: np.memmap[Any, Any] = np.load(self.array, mmap_mode="r+", allow_pickle=False)
        return mapped


def _new(path: Path, shape: tuple[int, ...]) -> np.memmap[Any, Any]:
    """Raises OSError, naming the file, where there is no room for it; it is removed then."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        return new_array(path, np.uint8, shape)
    except OSError as error:
        path.unlink(missing_ok=True)
        raise OSError(error.errno or errno.EIO, error.strerror or str(error), str(path)) from error


def record_of(array: Path) -> Path:
    """The file that says which blocks of an array are written."""
    return array.with_name(f"{array.name}.blocks")


def rows_written(array: Path, size: int) -> int:
    """About how many rows the record says are written, unchecked: what another process has done so far."""
    try:
        return size * record_of(array).read_bytes().count(b"\n")
    except OSError:
        return 0


@contextmanager
def waiting_for(lock: Path, look: Callable[[str], None]) -> Iterator[None]:
    """Holds a lock; where another process holds it, waits until that is done or dead.

    Args:
        look: called while it waits, with who holds it in words.
    """
    lock.parent.mkdir(parents=True, exist_ok=True)
    while True:
        try:
            handle = hold(lock, "decoded")
            break
        except BusyError as error:
            look(str(error))
            time.sleep(LOOK_EVERY)
    try:
        yield
    finally:
        let_go(lock, handle)
