"""Which cache is asked for: the photos' content and how they are prepared, and the name that follows from both."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ensemble_kit.data.decode import Preprocess
from ensemble_kit.data.samples import SampleTable
from ensemble_kit.errors import DataError
from ensemble_kit.files import sha256_json
from ensemble_kit.loading.hashes import PhotoHashes, Say
from ensemble_kit.own_code import coded

Geometry = tuple[Any, ...]


def geometry(preprocess: Preprocess) -> Geometry:
    """What decides the cached pixels: size, crop, interpolation and steps (mean and std come later)."""
    whole = preprocess.size, preprocess.crop, preprocess.interpolation
    steps = tuple(tuple(coded(step)) if callable(step) else step for step in preprocess.prepare)
    return whole if not steps and preprocess.crop_at == (0.5, 0.5) else (*whole, preprocess.crop_at, steps)


def geometry_sha256(preprocess: Preprocess) -> str:
    """A name for the preparation alone, whatever the photos."""
    return sha256_json(geometry(preprocess))


@dataclass(frozen=True)
class Wanted:
    """A cache that is asked for, there or not.

    Attributes:
        paths, sha256s: of the photos, see `PhotoHashes.of`.
        name: of its files.
        hashes: to look at the photos again.
        say: told in words what the user should know.
    """

    table: SampleTable
    preprocess: Preprocess
    folder: Path
    paths: list[Path]
    sha256s: list[str]
    name: str
    hashes: PhotoHashes
    say: Say

    @classmethod
    def of(cls, table: SampleTable, preprocess: Preprocess, folder: Path, say: Say | None = None) -> Wanted:
        """Args: say: None = it is only asked for, and nothing is written."""
        hashes, paths = PhotoHashes(folder, keeps=say is not None), table.paths
        sha256s = hashes.of(paths, say)
        name = sha256_json([sha256s, geometry(preprocess)])[:16]
        return cls(table, preprocess, folder, paths, sha256s, name, hashes, say or nobody)

    @property
    def shape(self) -> tuple[int, ...]:
        return len(self.table), *self.preprocess.size, 3

    @property
    def described(self) -> Path:
        return self.folder / f"{self.name}.json"

    @property
    def array(self) -> Path:
        return self.folder / f"{self.name}.npy"

    def file(self, ending: str) -> Path:
        """A file that is there while the cache is built."""
        return self.folder / f".{self.name}{ending}"

    def refuse_changed(self, first: int, end: int) -> None:
        """Raises DataError where one of these rows' photos is no longer what it was before it was decoded."""
        paths = self.paths[first:end]
        for path, before, now in zip(paths, self.sha256s[first:end], self.hashes.of(paths), strict=True):
            if before != now:
                raise DataError(f"{path}: changed while it was decoded; run the command again")


def nobody(text: str) -> None:
    """Who is told when nobody asked to be."""
