"""Photos that are decoded already: what a cache of other samples holds is taken from there."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

from ensemble_kit.arrays import ByteArray
from ensemble_kit.errors import MALFORMED, DataError
from ensemble_kit.files import read_array, read_json
from ensemble_kit.loading.room import is_used


def remove_outdated(folder: Path) -> None:
    """Removes caches of versions that told photos by name, size and time: they are never opened again."""
    for described in folder.glob("*.json"):
        with suppress(DataError, OSError, *MALFORMED):
            array = described.with_suffix(".npy")
            if "looks" in read_json(described) and not is_used(array):
                array.unlink(missing_ok=True)
                described.unlink(missing_ok=True)


class KnownPhotos:
    """Photos in the same preparation that other caches of a folder hold, by their hash.

    Args:
        geometry: hash of the preparation.
    """

    def __init__(self, folder: Path, geometry: str):
        self.photos: dict[str, tuple[ByteArray, int]] = {}
        for described in folder.glob("*.json"):
            try:
                entry = read_json(described)
                if entry.get("geometry") == geometry:
                    self._add(entry, read_array(described.with_suffix(".npy"), memory_map=True))
            except (DataError, *MALFORMED):
                continue  # damaged, or gone since

    def _add(self, entry: dict[str, Any], photos: ByteArray) -> None:
        unreadable = {row for row, _ in entry["problems"]}
        for row in set(range(len(photos))) - unreadable:
            self.photos[entry["photos"][row]] = photos, row

    def find(self, sha256: str) -> ByteArray | None:
        """The prepared photo `(height, width, 3)`; None where no cache holds it."""
        photos, row = self.photos.get(sha256, (None, 0))
        return None if photos is None else photos[row]
