"""Building a cache: room is made, what is not written yet is decoded, and it takes its name."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from ensemble_kit.arrays import ByteArray
from ensemble_kit.errors import MALFORMED, DataError
from ensemble_kit.files import read_json, write_json
from ensemble_kit.loading.blocks import Blocks, Problems, record_of, rows_written
from ensemble_kit.loading.decoding import WINDOW, Decoded, decode_windows
from ensemble_kit.loading.known import KnownPhotos, remove_outdated
from ensemble_kit.loading.room import GB, check_disk, make_room, size_text
from ensemble_kit.loading.wanted import Wanted, geometry_sha256

Progress = Callable[[int, int], None]
"""Told (photos done, photos in all) while photos are decoded."""


def watching(wanted: Wanted, progress: Progress | None) -> Callable[[str], None]:
    """What to do while another process decodes: say so once, and show how far it is."""
    told, n = set[str](), len(wanted.table)

    def look(holder: str) -> None:
        if not told:
            wanted.say(f"note: waiting for decoded photos: {holder.partition(';')[0]}")
            told.add(holder)
        if progress is not None:
            progress(min(n, rows_written(wanted.file(".part"), WINDOW)), n)

    return look


def has_room(wanted: Wanted, limit_gb: float | None) -> bool:
    """Whether the cache may be kept; makes room for it, and says where it may not or where the disk gets full.

    Raises:
        DataError: it may, and the disk cannot take it.
    """
    folder, part, say = wanted.folder, wanted.file(".part"), wanted.say
    n_bytes, what = math.prod(wanted.shape), f"{len(wanted.table)} decoded photos"
    if not make_room(folder, n_bytes, None if limit_gb is None else int(limit_gb * GB), part):
        say(
            f"note: {what} take {size_text(n_bytes)}, more than cache_gb = {limit_gb:g} leaves them: they are not kept "
            "but decoded each time"
        )
        return False
    there = part.stat().st_size if part.is_file() else 0
    instead = f"make room, choose a smaller size, or pass --cache-gb {_below(n_bytes):g} to have them decoded each time"
    nearly_full = check_disk(folder, n_bytes - there, what, instead)
    if nearly_full is not None:
        say(f"note: {nearly_full}")
    return True


def _below(n_bytes: int) -> float:
    """A limit in GB that so many bytes are above."""
    return float(f"{n_bytes / GB / 2:.1g}")


def write(wanted: Wanted, progress: Progress | None, threads: int | None = None) -> None:
    """Decodes what is not written yet, block by block; then the cache takes its name."""
    part, sha256s, paths = wanted.file(".part"), wanted.sha256s, wanted.paths
    same, how = geometry_sha256(wanted.preprocess), [wanted.preprocess]
    remove_outdated(wanted.folder)
    blocks = Blocks(part, wanted.shape, WINDOW)
    known = KnownPhotos(wanted.folder, same)
    todo = [row for first, end in blocks if first not in blocks.done for row in range(first, end)]
    rows = [row for row in todo if known.find(sha256s[row]) is None]
    decoded = _InTurn(rows, decode_windows([paths[row] for row in rows], how, WINDOW, threads=threads))
    for first, end in blocks:
        if first not in blocks.done:
            pixels = np.zeros((end - first, *wanted.shape[1:]), dtype=np.uint8)
            found = decoded.fill(pixels, first)
            for row in range(first, end):
                photo = known.find(sha256s[row])
                if photo is not None:
                    pixels[row - first] = photo
            wanted.refuse_changed(first, end)  # the pixels would be kept under another photo's name
            blocks.write(first, pixels, found)
        if progress is not None:
            progress(end, len(paths))
    problems, _in_use = blocks.problems(), blocks.photos  # until it has its name
    blocks.close()
    content = {"key": wanted.name, "problems": [list(problem) for problem in problems]}
    write_json(wanted.described, {**content, "geometry": same, "photos": sha256s})
    os.replace(part, wanted.array)
    record_of(part).unlink(missing_ok=True)


class _InTurn:
    """Photos decoded one after the other, a window ahead, handed out in other portions than they come in.

    Args:
        rows: of the table, in rising order; what is decoded is in the same order.
    """

    def __init__(self, rows: Sequence[int], windows: Iterator[Decoded]):
        self.rows, self.windows = rows, windows
        self.start, self.photos, self.problems = 0, np.zeros((0, 0, 0, 3), dtype=np.uint8), dict[int, str]()
        self.next = 0

    def fill(self, pixels: ByteArray, first: int) -> Problems:
        """Puts in the photos of the rows from `first` on, as far as `pixels` goes; the problems among them."""
        found = []
        while self.next < len(self.rows) and self.rows[self.next] < first + len(pixels):
            if self.next == self.start + len(self.photos):
                self.start, (self.photos,), problems = next(self.windows)
                self.problems = dict(problems)
            row = self.rows[self.next]
            pixels[row - first] = self.photos[self.next - self.start]
            if self.next in self.problems:
                found.append((row, self.problems[self.next]))
            self.next += 1
        return found


def problems_in(wanted: Wanted) -> Problems:
    """What is wrong with which photos, as it is written down; raises DataError, or one of MALFORMED."""
    problems = [(int(row), str(text)) for row, text in read_json(wanted.described)["problems"]]
    if not all(0 <= row < len(wanted.paths) for row, _ in problems):
        raise DataError(f"{wanted.described}: rows that the table does not have")
    return problems


def unreadable_of(wanted: Wanted, progress: Progress | None, threads: int | None = None) -> Problems:
    """What is wrong with which photos, where they are not kept: found out once by decoding all, then kept."""
    n = len(wanted.paths)
    try:
        problems = problems_in(wanted)
    except (DataError, *MALFORMED):
        problems = []
        for start, (window,), found in decode_windows(wanted.paths, [wanted.preprocess], threads=threads):
            problems += found
            if progress is not None:
                progress(start + len(window), n)
        wanted.refuse_changed(0, n)
        write_json(wanted.described, {"key": wanted.name, "problems": [list(problem) for problem in problems]})
    return problems
