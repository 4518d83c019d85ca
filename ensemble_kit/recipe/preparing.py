"""What settings leave to the data: where the faces lie, which numbers the columns span."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ensemble_kit.data.boxes import box_middles, mean_position
from ensemble_kit.data.columns import column_edges
from ensemble_kit.recipe.settings import IMAGENET_MEAN, IMAGENET_STD, TrainSettings

if TYPE_CHECKING:
    from ensemble_kit.arrays import BoolArray, FloatArray
    from ensemble_kit.data.samples import SampleTable

_MIDDLES: dict[tuple[str, str], FloatArray] = {}
"""Where the faces lie, by root and samples: every fold of every expert asks, and headers are read for it."""


def preprocess_keys(table: SampleTable, settings: TrainSettings, trains: BoolArray) -> dict[str, Any]:
    """The keys of `Preprocess`, and `normalise`, with nothing left open but the statistics of a fold's photos.

    Args:
        trains: `(n_samples,)` the photos that the fold does not hold out: `crop_at` "boxes" is the mean place of
            their boxes, so that it may differ a little from fold to fold.

    Raises:
        DataError: `crop_at` is "boxes", and the table has none.
    """
    mean, std = (IMAGENET_MEAN, IMAGENET_STD) if settings.normalise == "imagenet" else (settings.mean, settings.std)
    return {
        "size": settings.size,
        "window": settings.window,
        "crop": settings.crop,
        "crop_at": _crop_at(table, settings.crop_at, trains),
        "prepare": settings.prepare,
        "mean": mean,
        "std": std,
        "normalise": "photos" if settings.normalise == "photos" else "given",
    }


def _crop_at(table: SampleTable, where: str | tuple[float, float], trains: BoolArray) -> tuple[float, float]:
    if where == "center":
        return 0.5, 0.5
    if not isinstance(where, str):
        return where
    key = (str(table.root), table.sha256())
    if key not in _MIDDLES:
        _MIDDLES[key] = box_middles(table)
    return mean_position(_MIDDLES[key], trains)


def column_keys(table: SampleTable, attributes: Sequence[str], settings: TrainSettings) -> dict[str, Any]:
    """`output` and the edges of `columns`, for an expert: they are about the attribute that is measured, if any."""
    measured = [name for name in attributes if table.schema[name].borders is not None]
    if not measured:
        return {"output": "classes", "columns": None}
    name = measured[0]
    values = np.full(len(table), np.nan)
    if table.has(name):
        values = table.frame[name].to_numpy(dtype=np.float64)
    edges = column_edges(settings.columns, values, table.schema[name].borders or (), name)
    return {"output": settings.output, "columns": edges}
