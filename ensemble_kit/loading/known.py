"""Photos that are decoded already: what a cache of other samples holds is taken from there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ensemble_kit.arrays import ByteArray
from ensemble_kit.data.samples import SampleTable
from ensemble_kit.errors import MALFORMED, DataError
from ensemble_kit.files import read_array, read_json, sha256_bytes

LOOK = 16
"""Characters of what tells one photo from another."""


def looks_of(table: SampleTable) -> list[str]:
    """What tells photos apart without opening them: path below the root, size and time of the file."""
    found = []
    for name, path in zip(table.frame["path"].tolist(), table.paths, strict=True):
        try:
            stat = path.stat()
            found.append(sha256_bytes(f"{name}\0{stat.st_size}\0{stat.st_mtime_ns}".encode())[:LOOK])
        except OSError:
            found.append("-" * LOOK)
    return found


class KnownPhotos:
    """Photos in the same preparation that other caches of a folder hold, by their look.

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
            self.photos[entry["looks"][LOOK * row : LOOK * (row + 1)]] = photos, row

    def find(self, look: str) -> ByteArray | None:
        photos, row = self.photos.get(look, (None, 0))
        return None if photos is None else photos[row]
