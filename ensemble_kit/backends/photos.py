"""The training photos that a form of a checkpoint is calibrated with, and those that it is compared on."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from ensemble_kit.arrays import ByteArray, IntArray
from ensemble_kit.card import Card
from ensemble_kit.data.decode import Preprocess
from ensemble_kit.data.samples import SampleTable
from ensemble_kit.errors import DataError, UsageError
from ensemble_kit.loading.cache import PhotoCache
from ensemble_kit.loading.decoding import decode_windows

N_CALIBRATING = 256
N_COMPARED = 512
"""Photos a checkpoint, at most."""


@dataclass(frozen=True)
class TrainingPhotos:
    """The samples that checkpoints were trained on.

    Attributes:
        table: as in the run, label fixes applied.
        folds: `(n_samples,)` the fold that holds each out, -1 = none does.
    """

    table: SampleTable
    folds: IntArray

    def __post_init__(self) -> None:
        if len(self.folds) != len(self.table):
            raise UsageError(f"training photos: expected {len(self.table)} folds, found {len(self.folds)}")

    @cached_property
    def sha256(self) -> str:
        return self.table.sha256()

    def rows_of(self, card: Card, path: Path) -> tuple[IntArray, IntArray]:
        """Rows to calibrate with, which this checkpoint's fold trained on, and rows to compare on.

        Both are of its expert's condition and spread over its classes. Compared is first on what its fold held out:
        on photos that it learnt by heart any form agrees.

        Raises:
            DataError: it was trained on other samples.
        """
        expected = card.train["samples_sha256"]
        if self.sha256 != expected:
            raise DataError(
                f"{path}: trained on the samples {str(expected)[:12]}, found {self.sha256[:12]} to try back ends on; "
                "give those of its own run"
            )
        names = dict.fromkeys(name for head in card.heads for name in head.attributes)
        keys = self.table.joint([name for name in self.table.schema.names if name in names])
        is_own, is_held_out = self.table.under(card.condition), self.folds == card.train["fold"]
        seen, unseen = np.flatnonzero(is_own & ~is_held_out), np.flatnonzero(is_own & is_held_out)
        calibrating, compared = self._spread(seen, keys, N_CALIBRATING), np.zeros(0, dtype=np.int64)
        for rows in (unseen, np.setdiff1d(seen, calibrating), calibrating):  # where photos are few, they serve twice
            compared = np.concatenate([compared, self._spread(rows, keys, N_COMPARED - len(compared))])
        return calibrating, np.sort(compared)

    def _spread(self, rows: IntArray, keys: IntArray, n: int) -> IntArray:
        """At most n of some rows, class after class in turn, whatever order the rows are in."""
        order = sorted(rows.tolist(), key=lambda row: (zlib.crc32(str(self._ids[row]).encode()), str(self._ids[row])))
        turns: dict[int, int] = {}
        ranked = []
        for row in order:
            key = int(keys[row])
            turns[key] = turns.get(key, -1) + 1
            ranked.append((turns[key], key, row))
        return np.sort(np.array([row for _, _, row in sorted(ranked)[: max(0, n)]], dtype=np.int64))

    @cached_property
    def _ids(self) -> list[str]:
        return [str(name) for name in self.table.ids]

    def prepared(self, rows: IntArray, preprocess: Preprocess, cache: Path | None) -> ByteArray:
        """Photos of some rows, `(n, height, width, 3)`; those that cannot be read are left out."""
        opened = PhotoCache.open(self.table, preprocess, cache) if cache is not None else None
        if opened is not None:
            return np.asarray(opened.photos[rows[opened.readable[rows]]])
        parts = [np.zeros((0, *preprocess.size, 3), dtype=np.uint8)]
        paths = self.table.select(rows).paths
        for start, (photos,), problems in decode_windows(paths, [preprocess]):
            is_read = np.ones(len(photos), dtype=np.bool_)
            is_read[[row - start for row, _ in problems]] = False
            parts.append(photos[is_read])
        return np.concatenate(parts)
