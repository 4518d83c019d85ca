"""Decoded photos on disk: every photo is decoded and resized once, whatever is trained on it.

One file serves all experts and folds with the same preparation, also of trainings that run side by side: the first one
that needs it builds it, the others wait. A build that was broken off goes on from what is written, and photos that
another cache of the folder has in the same preparation are taken from there. Photos go by their content, see
`loading.hashes`: copied elsewhere they are the same, changed ones are others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ensemble_kit.arrays import BoolArray, ByteArray
from ensemble_kit.data.decode import Preprocess
from ensemble_kit.data.samples import Problem, SampleTable
from ensemble_kit.errors import MALFORMED, DataError
from ensemble_kit.files import read_array, sha256_json
from ensemble_kit.leftovers import OWNER, remove_leftovers
from ensemble_kit.loading.blocks import Problems, waiting_for
from ensemble_kit.loading.building import Progress, has_room, problems_in, unreadable_of, watching, write
from ensemble_kit.loading.decoding import decode_windows
from ensemble_kit.loading.hashes import Say
from ensemble_kit.loading.room import mark_used
from ensemble_kit.loading.sending import Getting, getting
from ensemble_kit.loading.unstored import UnstoredPhotos
from ensemble_kit.loading.wanted import Wanted, geometry, nobody

TEMPORARY = rf"\.[0-9a-f]{{16}}\.(?:npy|json)\.{OWNER}\.tmp"
"""What `files.replacing` calls a file of the cache that is being written."""


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
        threads: int | None = None,
    ) -> PhotoCache:
        """Opens the cache of these photos under `folder`, decoding them first when it is not there.

        Where another process builds it, this one waits for it.

        Args:
            progress: called with (photos done, photos in all) while decoding.
            limit_gb: what the folder's arrays may take; those unused for longest go first. A cache that has no room is
                not kept: its photos are decoded each time.
            say: told so, and when the disk is nearly full.
            threads: that decode; as many as there are cores when left out.

        Raises:
            DataError: the disk is too small, or photos change meanwhile.
        """
        remove_leftovers(folder, TEMPORARY)
        wanted = Wanted.of(table, preprocess, Path(folder), say or nobody)
        found = _opened(wanted)
        if found is None:
            with waiting_for(wanted.file(".lock"), watching(wanted, progress)):
                found = _opened(wanted)  # another process may have built it meanwhile
                if found is None and not has_room(wanted, limit_gb):
                    return _unstored(wanted, progress, threads)
                if found is None:
                    write(wanted, progress, threads)
                    found = _opened(wanted)
        if found is None:
            raise DataError(f"{folder}: what was decoded is gone again; run the command again")
        mark_used(found.photos, wanted.array)
        return found

    @classmethod
    def open(cls, table: SampleTable, preprocess: Preprocess, folder: Path) -> PhotoCache | None:
        """The cache of these photos, or None when `folder` has none (or one of photos that have changed since).

        Nothing is written. Where no cache has as many photos of this size, none of the photos is looked at.
        """
        shape = (len(table), *preprocess.size, 3)
        if not any(_shape_of(array) == shape for array in Path(folder).glob("?" * 16 + ".npy")):
            return None
        return _opened(Wanted.of(table, preprocess, Path(folder)))

    def __reduce__(self) -> tuple[Any, ...]:
        """Another process opens the same file; the photos themselves are not sent."""
        return _reopened, (getting(self.photos), self.readable, self.problems, self.preprocess, self.ids_sha256)

    def check(self, table: SampleTable, preprocess: Preprocess) -> None:
        """Raises DataError unless this is the cache of `table` prepared in this way."""
        if self.ids_sha256 != sha256_json(table.ids.tolist()):
            raise DataError("the photo cache belongs to other samples; build it from the table that is trained on")
        if geometry(self.preprocess) != geometry(preprocess):
            expected, found = geometry(preprocess), geometry(self.preprocess)
            raise DataError(f"the photo cache was prepared with {found}, expected {expected}; build it again")


def _opened(wanted: Wanted) -> PhotoCache | None:
    """The cache, where it is there and whole."""
    if not (wanted.described.is_file() and wanted.array.is_file()):
        return None
    try:
        problems = problems_in(wanted)
        photos = read_array(wanted.array, memory_map=True)
    except (DataError, *MALFORMED):
        return None  # cut short by a full disk: built again
    if photos.shape != wanted.shape or photos.dtype != np.uint8:
        return None
    return _described(wanted.table, wanted.preprocess, photos, problems)


def _shape_of(array: Path) -> tuple[int, ...]:
    try:
        shape: tuple[int, ...] = read_array(array, memory_map=True).shape
        return shape
    except DataError:
        return ()


def _reopened(how: Getting, *others: Any) -> PhotoCache:
    get, arguments = how
    return PhotoCache(get(*arguments), *others)


def _described(table: SampleTable, preprocess: Preprocess, photos: Any, problems: Problems) -> PhotoCache:
    readable = np.ones(len(table), dtype=bool)
    readable[[row for row, _ in problems]] = False
    paths = table.frame["path"].tolist()
    named = tuple(Problem(paths[row], problem) for row, problem in problems)
    return PhotoCache(photos, readable, named, preprocess, sha256_json(table.ids.tolist()))


def _unstored(wanted: Wanted, progress: Progress | None, threads: int | None) -> PhotoCache:
    """Photos that are decoded each time."""
    table, preprocess = wanted.table, wanted.preprocess
    whole = _described(table, preprocess, None, unreadable_of(wanted, progress, threads))
    photos: Any = UnstoredPhotos(table.paths, preprocess, whole.readable, wanted.array, _decoded)
    return replace(whole, photos=photos)


def _decoded(paths: Sequence[Path], preprocess: Preprocess) -> ByteArray:
    _, (photos,), problems = next(decode_windows(paths, [preprocess], len(paths)))
    for row, problem in problems:
        raise DataError(f"{paths[row]}: {problem}; it could be read before")
    return photos
