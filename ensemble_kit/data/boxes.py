"""Where the faces lie, from the boxes that a table gives."""

from __future__ import annotations

import numpy as np

from ensemble_kit.arrays import BoolArray, FloatArray
from ensemble_kit.data.decode import upright_size
from ensemble_kit.data.table import BOX, SampleTable
from ensemble_kit.errors import DataError


def box_middles(table: SampleTable) -> FloatArray:
    """(down, across) the middle of each face's box `(n_samples, 2)`, as shares of its photo; NaN without a box.

    Boxes are pixels of the photo as it is stored, or shares of it (no number above 1).

    Raises:
        DataError: the table has no boxes, or one that lies outside its photo.
    """
    if BOX[0] not in table.frame.columns:
        raise DataError(f'crop_at = "boxes": expected the columns {", ".join(BOX)} in the table, found none of them')
    boxes = table.frame[list(BOX)].to_numpy(dtype=np.float64)
    rows = np.flatnonzero(np.isfinite(boxes).all(axis=1))
    middles = np.full((len(table), 2), np.nan)
    middles[rows] = np.stack([(boxes[:, 1] + boxes[:, 3]) / 2, (boxes[:, 0] + boxes[:, 2]) / 2], axis=1)[rows]
    paths = table.paths
    if len(rows) and boxes[rows].max() > 1:
        middles[rows] /= np.array([upright_size(paths[int(row)]) for row in rows])
    outside = np.flatnonzero((middles < 0).any(axis=1) | (middles > 1).any(axis=1))
    if len(outside):
        path = table.frame["path"].iloc[int(outside[0])]
        raise DataError(f"{path}: the middle of its box lies outside the photo; boxes are left, top, right, bottom")
    return middles


def mean_position(middles: FloatArray, among: BoolArray) -> tuple[float, float]:
    """(down, across) the mean of some boxes' middles, rounded to 0.01: folds that hardly differ share decoded photos.

    Args:
        middles: `(n_samples, 2)`, see `box_middles`.
        among: `(n_samples,)` the photos that count; those without a box do not.

    Raises:
        DataError: none of them has a box.

    Examples:
        >>> mean_position(np.array([[0.5, 0.25], [0.75, 0.25], [0.0, 0.0]]), np.array([True, True, False]))
        (0.62, 0.25)
    """
    found = middles[among & np.isfinite(middles).all(axis=1)]
    if not len(found):
        raise DataError('crop_at = "boxes": no training photo has a box; fill the columns, or crop at the center')
    down, across = found.mean(axis=0)
    return round(float(down), 2), round(float(across), 2)
