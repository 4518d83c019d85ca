"""Decoded photos on disk: every photo is decoded and resized once, whatever is trained on it.

One file serves all experts and folds with the same preparation, also of trainings that run side by side: the first one
that needs it builds it, the others wait. A build that was broken off goes on from what is written, and photos that
another cache of the folder has in the same preparation are taken from there.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ensemble_kit.arrays import BoolArray, ByteArray
from ensemble_kit.current import photos_sha256
from ensemble_kit.data.decode import Preprocess
from ensemble_kit.data.samples import Problem, SampleTable
from ensemble_kit.errors import MALFORMED, DataError
from ensemble_kit.files import read_array, read_json, sha256_json, write_json
from ensemble_kit.loading.blocks import Blocks, Problems, record_of, rows_written, waiting_for
from ensemble_kit.loading.decoding import WINDOW, Decoded, decode_windows
from ensemble_kit.loading.known import KnownPhotos, looks_of
from ensemble_kit.loading.leftovers import remove_leftovers
from ensemble_kit.loading.room import GB, check_disk, make_room, mark_used, size_text
from ensemble_kit.loading.unstored import UnstoredPhotos
from ensemble_kit.own_code import coded

TEMPORARY = r"\.[0-9a-f]{16}\.(?:npy|json)\.(\d+)\.tmp"
"""What `files.replacing` calls a file of the cache that is being written by process N."""

Progress = Callable[[int, int], None]
"""Told (photos done, photos in all) while photos are decoded."""

Say = Callable[[str], None]
"""Told in words what the user should know."""


@dataclass(frozen=True)
class PhotoCache:
    """The photos of a table, prepared, in the table's row order.

    Attributes:
        photos: `(n_samples, height, width, 3)` uint8, a memory map; the rows of unreadable photos are zero.
        readable: `(n_samples,)`.
        problems: what is wrong with each unreadable photo.
        preprocess: how they were prepared; its mean and std are applied later, on the device.
        ids_sha256: of the table's ids, so that a cache is never used with other rows.
    """

    photos: ByteArray
    readable: BoolArray
    problems: tuple[Problem, ...]
    preprocess: Preprocess
    ids_sha256: str

    @property
    def file(self) -> Path | None:
        """The file that is mapped; None when the photos are only in memory, or decoded each time."""
        name = getattr(self.photos, "filename", None)
        return None if name is None else Path(name)

    @property
    def place(self) -> Path | None:
        """The file, or where it would be if there were room for it; its name says which pixels these are."""
        return self.photos.place if isinstance(self.photos, UnstoredPhotos) else self.file

    @classmethod
    def build(
        cls,
        table: SampleTable,
        preprocess: Preprocess,
        folder: Path,
        *,
        progress: Progress | None = None,
        limit_gb: float | None = None,
        say: Say | None = None,
    ) -> PhotoCache:
        """Opens the cache of these photos under `folder`, decoding them first when it is not there.

        Where another process builds it, this one waits for it.

        Args:
            progress: called with (photos done, photos in all) while decoding.
            limit_gb: what the folder's arrays may take; those unused for longest go first. A cache that has no room is
                not kept: its photos are decoded each time.
            say: told so, and when the disk is nearly full.

        Raises:
            DataError: the disk is too small, or photos change meanwhile.
        """
        folder, tell = Path(folder), say or _nobody
        remove_leftovers(folder, TEMPORARY)
        found = cls.open(table, preprocess, folder)
        name = cache_key(table, preprocess)
        if found is None:
            with waiting_for(folder / f".{name}.lock", _watching(folder, name, len(table), progress, tell)):
                found = cls.open(table, preprocess, folder)  # another process may have built it meanwhile
                if found is None and not _has_room(table, preprocess, folder, limit_gb, tell):
                    return _unstored(table, preprocess, folder, progress)
                if found is None:
                    _write(table, preprocess, folder, progress)
                    found = cls.open(table, preprocess, folder)
        if found is None:
            raise DataError(f"{folder}: photos changed while they were decoded; run the command again")
        mark_used(found.photos, folder / f"{name}.npy")
        return found

    @classmethod
    def open(cls, table: SampleTable, preprocess: Preprocess, folder: Path) -> PhotoCache | None:
        """The cache of these photos, or None when `folder` has none (or one of photos that have changed since)."""
        name = cache_key(table, preprocess)
        described, array = Path(folder) / f"{name}.json", Path(folder) / f"{name}.npy"
        if not (described.is_file() and array.is_file()):
            return None
        try:
            problems = read_json(described)["problems"]
            photos = read_array(array, memory_map=True)
        except (DataError, KeyError, TypeError):
            return None  # cut short by a full disk: built again
        if photos.shape != (len(table), *preprocess.size, 3) or photos.dtype != np.uint8:
            return None
        return _described(table, preprocess, photos, problems)

    def __reduce__(self) -> tuple[Any, ...]:
        """Another process opens the same file; the photos themselves are not sent."""
        others = self.readable, self.problems, self.preprocess, self.ids_sha256
        if isinstance(self.photos, UnstoredPhotos):
            return PhotoCache, (self.photos, *others)
        if not isinstance(self.photos, np.memmap) or isinstance(self.photos.base, np.ndarray):  # a part of a file
            return PhotoCache, (np.asarray(self.photos), *others)
        return _reopened, (str(self.photos.filename), *others)

    def check(self, table: SampleTable, preprocess: Preprocess) -> None:
        """Raises DataError unless this is the cache of `table` prepared in this way."""
        if self.ids_sha256 != sha256_json(table.ids.tolist()):
            raise DataError("the photo cache belongs to other samples; build it from the table that is trained on")
        if geometry(self.preprocess) != geometry(preprocess):
            expected, found = geometry(preprocess), geometry(self.preprocess)
            raise DataError(f"the photo cache was prepared with {found}, expected {expected}; build it again")


Geometry = tuple[Any, ...]


def _reopened(path: str, *others: Any) -> PhotoCache:
    photos = read_array(Path(path), memory_map=True)
    mark_used(photos, Path(path))
    return PhotoCache(photos, *others)


def _described(table: SampleTable, preprocess: Preprocess, photos: Any, problems: Problems) -> PhotoCache:
    readable = np.ones(len(table), dtype=bool)
    readable[[row for row, _ in problems]] = False
    paths = table.frame["path"].tolist()
    named = tuple(Problem(paths[row], problem) for row, problem in problems)
    return PhotoCache(photos, readable, named, preprocess, sha256_json(table.ids.tolist()))


def geometry(preprocess: Preprocess) -> Geometry:
    """What decides the cached pixels: size, crop, interpolation and steps (mean and std come later)."""
    whole = preprocess.size, preprocess.crop, preprocess.interpolation
    steps = tuple(tuple(coded(step)) if callable(step) else step for step in preprocess.prepare)
    return whole if not steps and preprocess.crop_at == (0.5, 0.5) else (*whole, preprocess.crop_at, steps)


def cache_key(table: SampleTable, preprocess: Preprocess) -> str:
    """A name for the prepared pixels: which photos, and the geometry."""
    return sha256_json([photos_sha256(table), geometry(preprocess)])[:16]


def _nobody(text: str) -> None:
    """Who is told when nobody asked to be."""


def _watching(folder: Path, name: str, n: int, progress: Progress | None, say: Say) -> Callable[[str], None]:
    """What to do while another process decodes: say so once, and show how far it is."""
    told: set[str] = set()

    def look(holder: str) -> None:
        if not told:
            say(f"note: waiting for decoded photos: {holder.partition(';')[0]}")
            told.add(holder)
        if progress is not None:
            progress(min(n, rows_written(folder / f".{name}.part", WINDOW)), n)

    return look


def _has_room(table: SampleTable, preprocess: Preprocess, folder: Path, limit_gb: float | None, say: Say) -> bool:
    """Whether the cache may be kept; makes room for it, and says where it may not or where the disk gets full.

    Raises:
        DataError: it may, and the disk cannot take it.
    """
    height, width = preprocess.size
    part = folder / f".{cache_key(table, preprocess)}.part"
    n_bytes, what = len(table) * height * width * 3, f"{len(table)} decoded photos"
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


def _write(table: SampleTable, preprocess: Preprocess, folder: Path, progress: Progress | None) -> None:
    """Decodes what is not written yet, block by block; then the cache takes its name."""
    name = cache_key(table, preprocess)
    part = folder / f".{name}.part"
    looks, same = looks_of(table), sha256_json(geometry(preprocess))
    blocks = Blocks(part, (len(table), *preprocess.size, 3), WINDOW)
    known = KnownPhotos(folder, same)
    todo = [row for first, end in blocks if first not in blocks.done for row in range(first, end)]
    wanted = [row for row in todo if known.find(looks[row]) is None]
    paths = table.paths
    decoded = _InTurn(wanted, decode_windows([paths[row] for row in wanted], [preprocess], WINDOW))
    for first, end in blocks:
        if first not in blocks.done:
            pixels = np.zeros((end - first, *preprocess.size, 3), dtype=np.uint8)
            found = decoded.fill(pixels, first)
            for row in range(first, end):
                photo = known.find(looks[row])
                if photo is not None:
                    pixels[row - first] = photo
            blocks.write(first, pixels, found)
        if progress is not None:
            progress(end, len(table))
    problems, _in_use = blocks.problems(), blocks.photos  # until it has its name
    blocks.close()
    how = {"geometry": same, "looks": "".join(looks)}
    write_json(folder / f"{name}.json", {"key": name, "problems": [list(problem) for problem in problems], **how})
    os.replace(part, folder / f"{name}.npy")
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


def _unstored(table: SampleTable, preprocess: Preprocess, folder: Path, progress: Progress | None) -> PhotoCache:
    """Photos that are decoded each time; which of them cannot be read is found out once, and kept."""
    name = cache_key(table, preprocess)
    described = folder / f"{name}.json"
    try:
        problems: Problems = [(int(row), str(text)) for row, text in read_json(described)["problems"]]
    except (DataError, *MALFORMED):
        problems = []
        for start, (window,), found in decode_windows(table.paths, [preprocess]):
            problems += found
            if progress is not None:
                progress(start + len(window), len(table))
        write_json(described, {"key": name, "problems": [list(problem) for problem in problems]})
    whole = _described(table, preprocess, None, problems)
    photos: Any = UnstoredPhotos(table.paths, preprocess, whole.readable, folder / f"{name}.npy", _decoded)
    return replace(whole, photos=photos)


def _decoded(paths: Sequence[Path], preprocess: Preprocess) -> ByteArray:
    _, (photos,), problems = next(decode_windows(paths, [preprocess], len(paths)))
    for row, problem in problems:
        raise DataError(f"{paths[row]}: {problem}; it could be read before")
    return photos
