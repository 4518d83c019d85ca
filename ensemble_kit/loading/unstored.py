"""Prepared photos without room to keep them: decoded each time they are asked for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ensemble_kit.arrays import BoolArray, ByteArray
from ensemble_kit.data.decode import Preprocess, decode_photo, prepare

Decode = Callable[[Sequence[Path], Preprocess], ByteArray]
"""Paths, and how they are prepared -> prepared photos `(n, height, width, 3)`."""


class UnstoredPhotos:
    """Reads like the array `(n_samples, height, width, 3)` uint8 of a cache: by row, rows, or a slice.

    Args:
        readable: `(n_samples,)`; the others are zero.
        place: where the cache would be.
        decode: decodes several at a time.
    """

    dtype = np.dtype(np.uint8)
    ndim = 4

    def __init__(self, paths: Sequence[Path], preprocess: Preprocess, readable: BoolArray, place: Path, decode: Decode):
        self.paths, self.preprocess, self.readable = list(paths), preprocess, readable
        self.place, self.decode = place, decode
        self.shape = (len(self.paths), *preprocess.size, 3)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, rows: Any) -> ByteArray:
        found = np.arange(len(self))[rows]
        if np.ndim(found) == 0:
            if not self.readable[found]:
                return np.zeros(self.shape[1:], dtype=np.uint8)
            return prepare(decode_photo(self.paths[int(found)]), self.preprocess)
        photos = np.zeros((len(found), *self.shape[1:]), dtype=np.uint8)
        wanted = np.flatnonzero(self.readable[found])
        if len(wanted):
            photos[wanted] = self.decode([self.paths[int(found[i])] for i in wanted], self.preprocess)
        return photos
