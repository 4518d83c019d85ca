"""Small pictures of photos as text that stands in a page: decoded by the one safe decoder, never copied as files."""

from __future__ import annotations

from base64 import b64encode
from pathlib import Path
from typing import Any

from ensemble_kit.arrays import ByteArray
from ensemble_kit.data.decode import decode_photo
from ensemble_kit.errors import UsageError

MAX_THUMB = 1024
"""Pixels of the longer side; pages hold many."""

TYPES = {"webp": "IMWRITE_WEBP_QUALITY", "jpeg": "IMWRITE_JPEG_QUALITY"}


def thumbnail(path: Path, side: int = 96, quality: int = 70, kind: str = "webp") -> str:
    """A photo file as a small `data:` address, for `<img src>`.

    A thumbnail of 96 pixels weighs about 2 kB. What else a file holds (EXIF, a place, a name) is left behind.

    Args:
        side: pixels of the longer side; a smaller photo stays as it is.
        quality: 1 to 100.
        kind: webp or jpeg.

    Raises:
        PhotoError: no photo, or one that cannot be read; see `decode_photo`.
        UsageError: a size, quality or kind that there is not.
    """
    return thumbnail_of(decode_photo(path), side, quality, kind)


def thumbnail_of(photo: ByteArray, side: int = 96, quality: int = 70, kind: str = "webp") -> str:
    """As `thumbnail`, of pixels `(h, w, 3)` uint8 RGB.

    Examples:
        >>> import numpy as np
        >>> thumbnail_of(np.zeros((4, 4, 3), np.uint8), kind="jpeg")[:23]
        'data:image/jpeg;base64,'
    """
    import cv2

    if not 1 <= side <= MAX_THUMB or not 1 <= quality <= 100 or kind not in TYPES:
        known = f"1 to {MAX_THUMB} pixels, quality 1 to 100, {' or '.join(TYPES)}"
        raise UsageError(f"thumbnail: expected {known}, found {side}, {quality}, {kind}")
    rows, columns = photo.shape[:2]
    scale = min(1.0, side / max(rows, columns))
    size = max(1, round(columns * scale)), max(1, round(rows * scale))
    small: Any = photo if scale == 1 else cv2.resize(photo, size, interpolation=cv2.INTER_AREA)
    flags = [getattr(cv2, TYPES[kind]), quality]
    done, data = cv2.imencode(f".{kind}", cv2.cvtColor(small, cv2.COLOR_RGB2BGR), flags)
    assert done, "both kinds are part of every OpenCV"
    return f"data:image/{kind};base64,{b64encode(data.tobytes()).decode()}"
