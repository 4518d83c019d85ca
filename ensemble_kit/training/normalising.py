"""Mean and deviation of the photos that a fold trains on."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ensemble_kit.arrays import IntArray
from ensemble_kit.data.decode import Preprocess
from ensemble_kit.loading.cache import PhotoCache

WINDOW = 512


def normalised_by(preprocess: Preprocess, photos: PhotoCache, rows: IntArray) -> Preprocess:
    """The preprocessing with the mean and deviation per channel of some photos of a cache.

    Sums are whole numbers, so that they depend on no order. Where a channel never changes its deviation is one level.

    Args:
        rows: `(n_samples,)` the photos, at least one.
    """
    total, squares, n_pixels = np.zeros(3, dtype=np.int64), np.zeros(3, dtype=np.int64), 0
    for start in range(0, len(rows), WINDOW):
        pixels = np.asarray(photos.photos[rows[start : start + WINDOW]]).reshape(-1, 3)
        n_pixels += len(pixels)
        for channel in range(3):
            values = pixels[:, channel].astype(np.int64)
            total[channel] += values.sum()
            squares[channel] += (values * values).sum()
    mean = total / n_pixels
    std = np.sqrt(np.maximum(squares / n_pixels - mean**2, 1.0))
    red, green, blue = (float(value) for value in mean / 255)
    deviations = [float(value) for value in std / 255]
    return replace(preprocess, mean=(red, green, blue), std=(deviations[0], deviations[1], deviations[2]))
