"""Where the faces lie, from the boxes that a table gives."""

from __future__ import annotations

import numpy as np

from ensemble_kit.data.decode import upright_size
from ensemble_kit.data.table import BOX, SampleTable
from ensemble_kit.errors import DataError


def mean_position(table: SampleTable) -> tuple[float, float]:
    """(down, across) the mean middle of the faces' boxes, as shares of the photos, rounded to 0.001.

    Boxes are pixels of the photo as it is stored, or shares of it (no number above 1); rows without one are left out.

    Raises:
        DataError: the table has no boxes, or one that lies outside its photo.
    """
    if BOX[0] not in table.frame.columns:
        raise DataError(f'crop_at = "boxes": expected the columns {", ".join(BOX)} in the table, found none of them')
    boxes = table.frame[list(BOX)].to_numpy(dtype=np.float64)
    rows = np.flatnonzero(np.isfinite(boxes).all(axis=1))
    if not len(rows):
        raise DataError('crop_at = "boxes": no photo has a box; fill the columns, or crop at the center')
    middles = np.stack([(boxes[:, 1] + boxes[:, 3]) / 2, (boxes[:, 0] + boxes[:, 2]) / 2], axis=1)[rows]
    if boxes[rows].max() > 1:
        middles /= np.array([upright_size(table.root / table.frame["path"].iloc[int(row)]) for row in rows])
    outside = np.flatnonzero((middles < 0).any(axis=1) | (middles > 1).any(axis=1))
    if len(outside):
        path = table.frame["path"].iloc[int(rows[outside[0]])]
        raise DataError(f"{path}: the middle of its box lies outside the photo; boxes are left, top, right, bottom")
    down, across = middles.mean(axis=0)
    return round(float(down), 3), round(float(across), 3)
