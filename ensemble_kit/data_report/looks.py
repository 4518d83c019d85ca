"""What one look at every photo shows: size, brightness, contrast, sharpness, hashes. One decoding a photo."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ensemble_kit.arrays import BoolArray, ByteArray, FloatArray, IntArray
from ensemble_kit.data_report.hashing import SIDE, Words, photo_hash
from ensemble_kit.files import sha256_file

if TYPE_CHECKING:
    from ensemble_kit.data.table import SampleTable

MEASURES = ("brightness", "contrast", "sharpness")
"""Of grey levels 0 to 255: their mean, their standard deviation, and the mean step between neighbours (of the photo
shrunk to at most `SHARP_SIDE` a side, so that large photos are not called blurred)."""

SHARP_SIDE = 128
FLAT = 4.0
"""A photo of less contrast shows nothing that could be compared: every blank photo is alike."""


class Looks:
    """Fills itself while `ens data check` decodes; then one row a photo of every part, part by part.

    Attributes:
        tables: the parts.
        part: `(n_samples,)` the number of the photo's part.
        size: `(n_samples, 2)` width and height; 0 = not decoded.
        measures: `(n_samples, 3)` in the order of `MEASURES`; NaN = not decoded.
        words: `(n_samples, 4)` the hash.
        sha256: of the file, "" = not decoded.
    """

    tables: Sequence[SampleTable]
    part: IntArray
    size: IntArray
    measures: FloatArray
    words: Words
    sha256: list[str]

    def begin(self, tables: Sequence[SampleTable]) -> None:
        self.tables = list(tables)
        lengths = [len(table) for table in tables]
        n = sum(lengths)
        self._first = np.concatenate([[0], np.cumsum(lengths)]).tolist()
        self.part = np.repeat(np.arange(len(lengths)), lengths)
        self.size = np.zeros((n, 2), dtype=np.int64)
        self.measures = np.full((n, len(MEASURES)), np.nan)
        self.words = np.zeros((n, 4), dtype=np.uint64)
        self.sha256 = [""] * n

    def photo(self, part: int, row: int, path: Path, photo: ByteArray) -> None:
        at = self._first[part] + row
        grey = to_grey(photo)
        self.size[at] = photo.shape[1], photo.shape[0]
        self.measures[at] = measured(grey)
        self.words[at] = photo_hash(_shrunk(grey, SIDE, SIDE))
        self.sha256[at] = sha256_file(path)

    def __len__(self) -> int:
        return len(self.part)

    @property
    def is_decoded(self) -> BoolArray:
        return np.asarray(self.size[:, 0] > 0)

    @property
    def is_flat(self) -> BoolArray:
        """Too little contrast to be compared with others; broken photos are too."""
        return np.asarray(~(self.measures[:, 1] >= FLAT))

    def place(self, at: int) -> tuple[int, int]:
        """The part of a photo and its row there."""
        part = int(self.part[at])
        return part, at - self._first[part]


def to_grey(photo: ByteArray) -> ByteArray:
    """`(h, w, 3)` RGB -> `(h, w)` grey levels."""
    import cv2

    return np.asarray(cv2.cvtColor(photo, cv2.COLOR_RGB2GRAY), dtype=np.uint8)


def measured(grey: ByteArray) -> tuple[float, ...]:
    """Brightness, contrast and sharpness of grey levels, see `MEASURES`.

    Examples:
        >>> measured(np.full((4, 4), 200, dtype=np.uint8))
        (200.0, 0.0, 0.0)
    """
    import cv2

    mean, deviation = cv2.meanStdDev(grey)
    longest = max(grey.shape)
    share = min(1.0, SHARP_SIDE / longest)
    small = _shrunk(grey, max(1, round(grey.shape[0] * share)), max(1, round(grey.shape[1] * share))).astype(np.int16)
    steps: Any = [np.abs(np.diff(small, axis=axis)) for axis in (0, 1)]
    count = sum(step.size for step in steps)
    sharpness = sum(float(step.sum()) for step in steps) / count if count else 0.0
    return float(mean[0, 0]), float(deviation[0, 0]), sharpness


def _shrunk(grey: ByteArray, rows: int, columns: int) -> ByteArray:
    import cv2

    if grey.shape == (rows, columns):
        return grey
    is_smaller = rows <= grey.shape[0] and columns <= grey.shape[1]
    method = cv2.INTER_AREA if is_smaller else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(grey, (columns, rows), interpolation=method), dtype=np.uint8)
