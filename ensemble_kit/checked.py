"""What is known about blocks of saved probabilities: a file that cannot be written to is looked through once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ensemble_kit.arrays import FloatArray, IntArray
from ensemble_kit.predictions import SUM_TOLERANCE, Predictions, are_all_one

Stamp = tuple[int, int, int]


class Checked:
    """Remembers, voter by voter and block by block, that the numbers are probabilities.

    Only of files mapped for reading, and as long as their time stamp stays: any other array may have changed since.
    """

    def __init__(self) -> None:
        self._all_speak: dict[tuple[int, str, int, int], tuple[Stamp, bool]] = {}

    def look(self, expert: Predictions, number: int, voter: int, photos: slice | IntArray) -> bool:
        """Checks some rows of a voter unless that was done before; whether it is known that none is all zeros.

        Args:
            number: of the expert.
            photos: a block, or row numbers, which are not remembered.

        Raises:
            DataError: they are no probabilities.
        """
        layer = expert.layers[voter]
        if not isinstance(layer, np.memmap):  # checked when the predictions were made
            return False
        stamp = _stamp(layer) if isinstance(photos, slice) else None
        key = (number, expert.voters[voter], photos.start, photos.stop) if isinstance(photos, slice) else None
        if key is not None and stamp is not None:
            before, all_speak = self._all_speak.get(key, (None, False))
            if before == stamp:
                return all_speak
        values = layer.view(np.ndarray)[photos]
        lowest = values.min(initial=1)
        if not (lowest >= 0 and are_all_one(_sums(values), SUM_TOLERANCE * len(expert.attributes))):
            expert.check(values, voter)  # which says what is wrong, and lets rows of zeros and of NaN pass
        if key is not None and stamp is not None:
            self._all_speak[key] = stamp, bool(lowest > 0)
        return bool(lowest > 0)


def _stamp(layer: np.memmap[Any, Any]) -> Stamp | None:
    """What changes when somebody writes to the file; None where that cannot be told."""
    if layer.flags.writeable or layer.mode != "r" or layer.filename is None:
        return None
    try:
        found = Path(layer.filename).stat()
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns


def _sums(values: FloatArray) -> FloatArray:
    """`(n_rows,)`, for a check only, so the product may round as it likes."""
    return np.asarray(values @ np.ones(values.shape[1], dtype=values.dtype))
