"""OpenCV's area resizing of photos: the same bytes, in about half the time.

OpenCV adds up each line pixel after pixel, every sum waiting for the one before it. Here whole lines are added up, first
those of the turned photo (its columns), then its own: in OpenCV's order, with its weights, in its float32.
"""

from __future__ import annotations

import sys
from functools import lru_cache
from itertools import count
from typing import Any

import numpy as np

from ensemble_kit.arrays import ByteArray

LEAST_PIXELS = 2**14
"""Photos of fewer pixels are OpenCV's: handing them over would take longer."""
STRIP_VALUES = 2**18
"""Values of a photo's strip, in float32 a megabyte: what is worked on stays near the core."""
MOST_VALUES = 2**24
"""Values of a narrowed photo, in float32 64 MB; above this it is OpenCV's, which needs no such memory."""
PATIENCE = 128
"""Photos that OpenCV resizes first: importing SciPy takes about as long as is saved on so many."""

_seen = count()


def shrink(photo: ByteArray, out: ByteArray) -> None:
    """Resizes a photo by `cv2.INTER_AREA`; neither side may grow.

    Args:
        photo: `(h, w, 3)` uint8; a part of a larger one is as good.
        out: `(height, width, 3)` uint8, contiguous, filled.
    """
    import cv2

    if _pays(photo, out) and _agrees():
        _by_lines(photo, out)
    else:
        cv2.resize(np.ascontiguousarray(photo), out.shape[1::-1], dst=out, interpolation=cv2.INTER_AREA)


def _pays(photo: ByteArray, out: ByteArray) -> bool:
    rows, columns = photo.shape[:2]
    is_whole = rows % out.shape[0] == 0 and columns % out.shape[1] == 0  # which OpenCV has a quick way for
    if is_whole or rows * columns < LEAST_PIXELS or 3 * rows * out.shape[1] > MOST_VALUES:
        return False
    return "scipy.sparse" in sys.modules or next(_seen) >= PATIENCE


def _by_lines(photo: ByteArray, out: ByteArray) -> None:
    import cv2

    rows, columns = photo.shape[:2]
    height, width = out.shape[:2]
    across, down = _weights(columns, width), _weights(rows, height)
    narrow = np.empty((rows, width, 3), dtype=np.float32)
    step = max(1, STRIP_VALUES // (3 * columns))
    for top in range(0, rows, step):
        turned = cv2.transpose(photo[top : top + step])
        summed = across @ turned.reshape(columns, -1).astype(np.float32)
        part = narrow[top : top + step]
        cv2.transpose(summed.reshape(width, len(part), 3), part)
    cv2.convertScaleAbs(down @ narrow.reshape(rows, -1), out.reshape(height, -1))


@lru_cache(maxsize=512)
def _weights(n: int, m: int) -> Any:
    """`(m, n)` sparse: what each of n pixels in a line gives to each of m, in OpenCV's words `computeResizeAreaTab`."""
    from scipy.sparse import csr_array  # type: ignore[import-untyped]

    scale = 1.0 / (m / n)
    start = np.arange(m) * scale
    stop = start + scale
    cell = np.minimum(scale, n - start)
    last = np.minimum(np.floor(stop), n - 1)
    first = np.minimum(np.ceil(start), last)
    pixel = first[:, None] - 1 + np.arange(int((last - first).max()) + 2)
    before, behind = (first - start)[:, None], (stop - last)[:, None]
    share = np.where(pixel < first[:, None], before, np.where(pixel < last[:, None], 1.0, np.minimum(behind, 1.0)))
    share = np.minimum(share, cell[:, None])
    keep = (pixel <= last[:, None]) & ((pixel >= first[:, None]) | (before > 1e-3))
    keep &= (pixel < last[:, None]) | (behind > 1e-3)
    given = (share / cell[:, None])[keep].astype(np.float32)
    ends = np.concatenate([[0], keep.sum(axis=1).cumsum()])
    return csr_array((given, pixel[keep].astype(np.int32), ends.astype(np.int32)), shape=(m, n))


@lru_cache(maxsize=1)
def _agrees() -> bool:
    """Whether this machine's SciPy and OpenCV round alike, tried once on noise of many ties."""
    import cv2

    random = np.random.default_rng(0)
    for shape, size in (((96, 128), (56, 56)), ((131, 90), (37, 64))):
        noise = random.integers(0, 256, (*shape, 3), dtype=np.uint8)
        found = np.empty((*size, 3), dtype=np.uint8)
        _by_lines(noise, found)
        if not np.array_equal(found, cv2.resize(noise, size[::-1], interpolation=cv2.INTER_AREA)):
            return False
    return True
