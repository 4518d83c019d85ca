"""Decoded photos on disk: every photo is decoded and resized once, whatever is trained on it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ensemble_kit.arrays import BoolArray, ByteArray
from ensemble_kit.current import photos_sha256
from ensemble_kit.data.decode import Preprocess
from ensemble_kit.data.samples import Problem, SampleTable
from ensemble_kit.errors import DataError
from ensemble_kit.files import new_array, read_array, read_json, replacing, sha256_json, write_json
from ensemble_kit.loading.decoding import decode_windows
from ensemble_kit.loading.leftovers import remove_leftovers
from ensemble_kit.own_code import coded

TEMPORARY = r"\.[0-9a-f]{16}\.(?:npy|json)\.(\d+)\.tmp"
"""What `files.replacing` calls a cache that is being written by process N."""


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
        """The file that is mapped; None when the photos are only in memory."""
        name = getattr(self.photos, "filename", None)
        return None if name is None else Path(name)

    @classmethod
    def build(
        cls,
        table: SampleTable,
        preprocess: Preprocess,
        folder: Path,
        *,
        progress: Callable[[int, int], None] | None = None,
    ) -> PhotoCache:
        """Opens the cache of these photos under `folder`, decoding them first when it is not there.

        Args:
            progress: called with (photos done, photos in all) while decoding.
        """
        remove_leftovers(folder, TEMPORARY)
        found = cls.open(table, preprocess, folder)
        if found is not None:
            return found
        name = cache_key(table, preprocess)
        with replacing(Path(folder) / f"{name}.npy") as temporary:
            problems = _fill(temporary, table, preprocess, progress)
        entry = {"key": name, "problems": [[row, problem] for row, problem in problems]}
        write_json(Path(folder) / f"{name}.json", entry)
        built = cls.open(table, preprocess, folder)
        if built is None:
            raise DataError(f"{folder}: photos changed while they were decoded; run the command again")
        return built

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
        readable = np.ones(len(table), dtype=bool)
        readable[[row for row, _ in problems]] = False
        paths = table.frame["path"].tolist()
        named = tuple(Problem(paths[row], problem) for row, problem in problems)
        return cls(photos, readable, named, preprocess, sha256_json(table.ids.tolist()))

    def __reduce__(self) -> tuple[Any, ...]:
        """Another process opens the same file; the photos themselves are not sent."""
        others = self.readable, self.problems, self.preprocess, self.ids_sha256
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
    return PhotoCache(read_array(Path(path), memory_map=True), *others)


def geometry(preprocess: Preprocess) -> Geometry:
    """What decides the cached pixels: size, crop, interpolation and steps (mean and std come later)."""
    whole = preprocess.size, preprocess.crop, preprocess.interpolation
    steps = tuple(tuple(coded(step)) if callable(step) else step for step in preprocess.prepare)
    return whole if not steps and preprocess.crop_at == (0.5, 0.5) else (*whole, preprocess.crop_at, steps)


def cache_key(table: SampleTable, preprocess: Preprocess) -> str:
    """A name for the prepared pixels: which photos, and the geometry."""
    return sha256_json([photos_sha256(table), geometry(preprocess)])[:16]


def _fill(
    target: Path, table: SampleTable, preprocess: Preprocess, progress: Callable[[int, int], None] | None
) -> list[tuple[int, str]]:
    shape = (len(table), *preprocess.size, 3)
    photos = new_array(target, np.uint8, shape)
    problems = []
    for start, (window,), found in decode_windows(table.paths, [preprocess]):
        photos[start : start + len(window)] = window
        problems += found
        if progress is not None:
            progress(start + len(window), len(table))
    photos.flush()
    return problems
