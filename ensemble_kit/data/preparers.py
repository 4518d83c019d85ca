"""Deterministic steps on a decoded photo, before it is cropped and resized: the same in training and prediction."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from ensemble_kit.arrays import ByteArray, FloatArray
from ensemble_kit.errors import DataError, UsageError, nearest
from ensemble_kit.named import name_of

Preparer = Callable[[ByteArray], ByteArray]
"""`(h, w, 3)` uint8 -> `(h2, w2, 3)` uint8, the same for the same photo: a face detector, a background remover, ...

The cache of decoded photos and the card know it by its name, so one that is changed needs another name.
"""


def grayscale(photo: ByteArray) -> ByteArray:
    """Grey in all three channels."""
    import cv2

    return np.repeat(np.asarray(cv2.cvtColor(photo, cv2.COLOR_RGB2GRAY))[..., None], 3, axis=2)


def clahe(photo: ByteArray, limit: float = 2.0) -> ByteArray:
    """Contrast-limited histogram equalisation of the lightness, in 8 x 8 tiles."""
    import cv2

    lab = cv2.cvtColor(photo, cv2.COLOR_RGB2LAB)
    lab[..., 0] = cv2.createCLAHE(clipLimit=limit, tileGridSize=(8, 8)).apply(np.ascontiguousarray(lab[..., 0]))
    return np.asarray(cv2.cvtColor(lab, cv2.COLOR_LAB2RGB), dtype=np.uint8)


def equalize(photo: ByteArray) -> ByteArray:
    """Histogram equalisation of the lightness."""
    import cv2

    lab = cv2.cvtColor(photo, cv2.COLOR_RGB2LAB)
    lab[..., 0] = cv2.equalizeHist(np.ascontiguousarray(lab[..., 0]))
    return np.asarray(cv2.cvtColor(lab, cv2.COLOR_LAB2RGB), dtype=np.uint8)


def sharpen(photo: ByteArray, amount: float = 0.5) -> ByteArray:
    """Unsharp masking: the photo plus so much of what a blur of 1 pixel takes away."""
    import cv2

    soft = cv2.GaussianBlur(photo, (0, 0), 1.0)
    return np.asarray(cv2.addWeighted(photo, 1 + amount, soft, -amount, 0), dtype=np.uint8)


def contrast(photo: ByteArray, factor: float = 1.5) -> ByteArray:
    """Every pixel's distance from the photo's mean lightness, times so much."""
    import cv2

    middle = float(cv2.cvtColor(photo, cv2.COLOR_RGB2GRAY).mean())
    return _bytes(middle + factor * (photo.astype(np.float32) - middle))


def brightness(photo: ByteArray, factor: float = 1.2) -> ByteArray:
    """Every pixel so many times as bright."""
    return _bytes(factor * photo.astype(np.float32))


def _bytes(pixels: FloatArray) -> ByteArray:
    return np.asarray(np.clip(np.rint(pixels), 0, 255), dtype=np.uint8)


def blur(photo: ByteArray, sigma: float = 1.0) -> ByteArray:
    """A Gaussian blur of so many pixels."""
    import cv2

    return np.asarray(cv2.GaussianBlur(photo, (0, 0), sigma), dtype=np.uint8)


def invert(photo: ByteArray) -> ByteArray:
    """The negative."""
    return np.asarray(255 - photo, dtype=np.uint8)


def remove_background(photo: ByteArray) -> ByteArray:
    """Black behind the person, by rembg's U2-Net.

    Raises:
        UsageError: rembg is not installed, or its model is not there and cannot be downloaded.
    """
    session = _rembg_session()
    import rembg

    cut = np.asarray(rembg.remove(photo, session=session))
    return np.asarray(cut[..., :3] * (cut[..., 3:] >= 128), dtype=np.uint8)


_SESSIONS: dict[str, Any] = {}
"""The model of this process: opening it takes seconds."""


def _rembg_session() -> Any:
    how = (
        'pip install "rembg[cpu]"; its model u2net.onnx (176 MB) is downloaded at the first use, or put into ~/.u2net '
        "(U2NET_HOME) from github.com/danielgatis/rembg/releases"
    )
    if "u2net" not in _SESSIONS:
        try:
            import rembg

            _SESSIONS["u2net"] = rembg.new_session("u2net")
        except (ImportError, SystemExit):  # it ends the process where onnxruntime is missing
            raise UsageError(f"prepare: rembg is not installed; {how}") from None
        except Exception as error:  # its download raises whatever the network meets
            reason = " ".join(str(error).split())[:120]
            raise UsageError(f"prepare: rembg has no model ({reason}); {how}") from None
    return _SESSIONS["u2net"]


PREPARERS: dict[str, Callable[..., ByteArray]] = {
    "grayscale": grayscale,
    "clahe": clahe,
    "equalize": equalize,
    "sharpen": sharpen,
    "contrast": contrast,
    "brightness": brightness,
    "blur": blur,
    "invert": invert,
    "rembg": remove_background,
}
"""Name -> step; `clahe=3`, `sharpen=0.8`, `contrast=1.5` and `blur=2` say how much."""

WITH_AMOUNT = ("clahe", "sharpen", "contrast", "brightness", "blur")


def find_preparer(step: str | Preparer, own: Mapping[str, Preparer] | None = None) -> Preparer:
    """The step of a name, or one's own.

    Args:
        own: functions for further names.

    Raises:
        UsageError: a name in neither table, or an amount that is no positive number.
    """
    if not isinstance(step, str):
        return step
    if own and step in own:
        return own[step]
    name, equals, amount = step.partition("=")
    if name not in PREPARERS:
        raise UsageError(f'prepare: no step "{name}"{nearest(name, [*PREPARERS, *(own or {})])}')
    if not equals:
        return PREPARERS[name]
    try:
        value = float(amount)
    except ValueError:
        value = 0.0
    if name not in WITH_AMOUNT or not 0 < value < 1000:
        raise UsageError(f'prepare: expected a step such as {", ".join(f"{n}=2" for n in WITH_AMOUNT)}, found "{step}"')
    return partial(PREPARERS[name], **{_AMOUNT[name]: value})


_AMOUNT = {"clahe": "limit", "sharpen": "amount", "contrast": "factor", "brightness": "factor", "blur": "sigma"}


def run_steps(photo: ByteArray, steps: Sequence[str | Preparer]) -> ByteArray:
    """The photo after all steps.

    Raises:
        DataError: a step of one's own gave something that is no photo.
    """
    for step in steps:
        photo = find_preparer(step)(photo)
        if not isinstance(photo, np.ndarray) or photo.dtype != np.uint8 or photo.ndim != 3 or photo.shape[2] != 3:
            found = f"{photo.dtype} {photo.shape}" if isinstance(photo, np.ndarray) else type(photo).__name__
            raise DataError(f"prepare: expected (h, w, 3) uint8 from {name_of(step)}, found {found}")
        if not photo.size:
            raise DataError(f"prepare: expected a photo from {name_of(step)}, found one without pixels")
    return photo
