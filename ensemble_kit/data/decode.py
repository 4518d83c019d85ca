"""Photos: one decoder and one deterministic preparation, for the cache, training and prediction alike."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from ensemble_kit.arrays import ByteArray
from ensemble_kit.data.preparers import Preparer, find_preparer, run_steps
from ensemble_kit.errors import MALFORMED, DataError, UsageError, nearest
from ensemble_kit.files import kind_of
from ensemble_kit.named import name_of

FORMATS = ("JPEG", "PNG", "WEBP", "BMP")
"""What a photo may be, in Pillow's words."""

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp"})
"""Endings that a photo's name may have, in lower case."""

MAX_PIXELS = 80_000_000
"""Above this a photo is refused before anything is decoded: 240 MB of pixels from a file of a few KB is an attack."""

MAX_BYTES = 400_000_000
"""Above this a file is refused before it is read: `MAX_PIXELS` of four bytes each are less."""

MAX_SIDE = 8192
"""Pixels of a side that photos are resized to; a card that says more would fill the memory."""

JPEG_START = b"\xff\xd8"

ORIENTATION = 0x0112
"""The EXIF tag that says how the camera was held."""

INTERPOLATIONS = ("area", "linear")

ADDED = ("crop_at", "prepare", "window")
"""Keys that earlier cards do not have."""


class PhotoError(DataError):
    """A photo that cannot be used: missing, no photo, cut short, or too large."""


@dataclass(frozen=True)
class Preprocess:
    """What happens to every photo before the network sees it; stored in the checkpoint's card.

    Args:
        size: (height, width) after resizing, in pixels.
        crop: what is kept of (height, width): a share of the photo, above 0 and at most 1, or pixels, a whole number
            from 2.
        crop_at: (down, across) where the middle of the crop lies, as shares of the photo; at its edges the crop is
            moved inside.
        prepare: steps before the crop, names of `PREPARERS` or functions of one's own.
        mean, std: per channel (red, green, blue), for pixels scaled to 0-1: `(pixel / 255 - mean) / std`.
        window: (height, width) of what the network sees of `size`, in pixels: the middle of it, in training a window at
            random; None = all of it.
        interpolation: "area" (averages when shrinking; linear when an axis grows) or "linear".

    Raises:
        UsageError: a value out of its range.
    """

    size: tuple[int, int]
    crop: tuple[float, float] = (1.0, 1.0)
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    interpolation: str = "area"
    crop_at: tuple[float, float] = (0.5, 0.5)
    prepare: tuple[str | Preparer, ...] = ()
    window: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        _check("size", self.size, 2, _is_side, "whole numbers from 1")
        _check("crop", self.crop, 2, _is_crop, "shares above 0 and at most 1, or whole numbers of pixels")
        _check("crop_at", self.crop_at, 2, lambda value: 0 <= value <= 1, "shares from 0 to 1")
        if self.window is not None:
            _check("window", self.window, 2, _is_side, "whole numbers from 1")
            object.__setattr__(self, "window", tuple(int(value) for value in self.window))
            if any(inner > outer for inner, outer in zip(self.window, self.size, strict=True)):
                raise UsageError(f"preprocessing: the window {self.window} is larger than the size {self.size}")
        _check("mean", self.mean, 3, math.isfinite, "finite numbers")
        _check("std", self.std, 3, lambda value: math.isfinite(value) and value > 0, "positive numbers")
        if self.interpolation not in INTERPOLATIONS:
            raise UsageError(f'interpolation "{self.interpolation}"{nearest(self.interpolation, INTERPOLATIONS)}')
        object.__setattr__(self, "size", tuple(int(value) for value in self.size))
        object.__setattr__(self, "prepare", (self.prepare,) if isinstance(self.prepare, str) else tuple(self.prepare))
        for step in self.prepare:
            find_preparer(step)
        for name in ("crop", "mean", "std", "crop_at"):  # one spelling of a value gives one hash of a card
            object.__setattr__(self, name, tuple(float(value) for value in getattr(self, name)))

    @property
    def seen(self) -> tuple[int, int]:
        """(height, width) of what the network sees."""
        return self.window or self.size

    def to_json(self) -> dict[str, Any]:
        values: dict[str, Any] = {f.name: getattr(self, f.name) for f in fields(self)}
        values["prepare"] = tuple(name_of(step) for step in self.prepare)
        return {key: list(value) if isinstance(value, tuple) else value for key, value in values.items()}

    @classmethod
    def from_json(cls, value: Any, preparers: Mapping[str, Preparer] | None = None) -> Preprocess:
        """What `to_json` wrote.

        Args:
            preparers: functions for steps of one's own, by name.

        Raises:
            DataError: something else, or a step that is not known here.
        """
        names = set(cls.__dataclass_fields__)
        if not isinstance(value, dict) or not names - set(ADDED) <= set(value) <= names:
            raise DataError(f"preprocessing: expected the keys {', '.join(sorted(names))}, found {_keys(value)}")
        try:
            steps = [(preparers or {}).get(step, step) for step in value.get("prepare", ())]
            return cls(**{**value, "prepare": tuple(steps)})
        except (UsageError, *MALFORMED) as error:
            raise DataError(f"preprocessing: {error}") from None


def _is_side(value: float) -> bool:
    return 1 <= value <= MAX_SIDE and value == int(value)


def _is_crop(value: float) -> bool:
    return 0 < value <= 1 or (value > 1 and value == int(value))


def _keys(value: Any) -> str:
    return ", ".join(map(str, value)) or "none" if isinstance(value, dict) else repr(value)


def _check(name: str, values: Any, length: int, holds: Any, expected: str) -> None:
    try:
        fits = len(values) == length and not isinstance(values, str) and all(holds(value) for value in values)
    except (TypeError, ValueError, OverflowError):
        fits = False
    if not fits:
        raise UsageError(f"preprocessing: {name} must be {length} {expected}, found {values!r}")


def decode_photo(path: Path, max_pixels: int = MAX_PIXELS) -> ByteArray:
    """Decodes a photo to `(height, width, 3)` RGB uint8, upright (EXIF orientation applied).

    Grey, palette, alpha and 16 bit photos become RGB; alpha is dropped. Pillow reads the header first (torchvision's
    decoders crash the process on some broken files, and OpenCV alone would allocate whatever a header claims), then
    OpenCV decodes. The orientation is read from the header too: which formats OpenCV turns depends on its release.

    Raises:
        PhotoError: no such file, not a regular file, not a photo of a known format, cut short, or too many pixels.
    """
    import cv2

    data = _read(Path(path))
    width, height, orientation = _header(Path(path), data, max_pixels)
    is_direct = data[:2] == JPEG_START and hasattr(cv2, "IMREAD_COLOR_RGB")  # from OpenCV 4.10
    flags = cv2.IMREAD_COLOR_RGB if is_direct else cv2.IMREAD_COLOR
    flags |= cv2.IMREAD_IGNORE_ORIENTATION
    try:
        photo = cv2.imdecode(np.frombuffer(data, dtype=np.uint8), flags) if _has_end(data) else None
    except cv2.error as error:
        raise PhotoError(f"{path}: expected a photo, found a file that cannot be decoded ({error.err})") from None
    if photo is None or photo.shape[:2] != (height, width):
        raise PhotoError(f"{path}: expected a photo of {width}x{height}, found a file cut short or damaged; replace it")
    photo = photo if is_direct else cv2.cvtColor(photo, cv2.COLOR_BGR2RGB)
    return _upright(np.asarray(photo, dtype=np.uint8), orientation)


def _has_end(data: bytes) -> bool:
    """Whether a JPEG's end marker follows its pixels; the rest of one cut short comes out grey from OpenCV 4."""
    if data[:2] != JPEG_START:
        return True
    at = 2
    while data[at : at + 1] == b"\xff" and data[at + 1 : at + 2] != b"\xda":  # a preview may lie in a segment before
        is_filling = data[at + 1 : at + 2] == b"\xff"
        at += 1 if is_filling else 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return data.rfind(b"\xff\xd9", at) >= 0


def _upright(photo: ByteArray, orientation: int) -> ByteArray:
    """Turned and mirrored as the EXIF orientation 1 to 8 says; any other number leaves it as it is."""
    if orientation not in range(2, 9):
        return photo
    if orientation >= 5:
        photo = photo.transpose(1, 0, 2)
    down, across = orientation in (3, 4, 7, 8), orientation in (2, 3, 6, 7)
    return np.ascontiguousarray(photo[:: -1 if down else 1, :: -1 if across else 1])


def _read(path: Path) -> bytes:
    try:
        kind = kind_of(path)
        if kind != "file":  # opening a pipe would wait for ever
            found = "a folder" if kind == "folder" else f"no regular file ({kind})"
            raise PhotoError(f"{path}: expected a photo, found {found}")
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise PhotoError(f"{path}: a file of {size:,} bytes, at most {MAX_BYTES:,} are allowed; make it smaller")
        return path.read_bytes()
    except FileNotFoundError:
        what = "a link to nothing" if path.is_symlink() else "no such file"
        raise PhotoError(f"{path}: expected a photo, found {what}") from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise PhotoError(f"{path}: not readable ({getattr(error, 'strerror', None) or error})") from None


def _header(path: Path, data: bytes, max_pixels: int) -> tuple[int, int, int]:
    """Width, height and orientation, from the header alone."""
    from PIL import Image, UnidentifiedImageError

    if not data:
        raise PhotoError(f"{path}: expected a photo, found an empty file; replace it")
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as header:
            width, height = header.size
            if width * height <= max_pixels:
                return width, height, _orientation(header, data)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise PhotoError(f"{path}: more pixels than the {max_pixels:,} allowed; make it smaller") from None
    except Exception as error:  # Pillow's plugins raise whatever their parsing meets
        reason = "" if isinstance(error, UnidentifiedImageError) else f" ({type(error).__name__}: {error})"
        raise PhotoError(f"{path}: expected a photo ({', '.join(FORMATS)}), found something else{reason}") from None
    raise PhotoError(f"{path}: {width}x{height} pixels, at most {max_pixels:,} are allowed; make it smaller")


def _orientation(header: Any, data: bytes) -> int:
    """1 to 8; 1 where nothing is said, or nothing that can be read."""
    try:
        if header.format == "PNG" and "exif" not in header.info and b"eXIf" in data:
            header.load()  # a PNG may say it after its pixels
        found = header.getexif().get(ORIENTATION, 1)
    except Exception:  # damaged EXIF raises whatever its parsing meets; the pixels are not touched by it
        return 1
    return found if isinstance(found, int) and found in range(1, 9) else 1


def upright_size(path: Path) -> tuple[int, int]:
    """(height, width) of a photo as it is decoded, from its header alone.

    Raises:
        PhotoError: no photo of a known format, or no such file.
    """
    width, height, orientation = _header(Path(path), _read(Path(path)), MAX_PIXELS)
    return (width, height) if orientation >= 5 else (height, width)


def prepare(photo: ByteArray, preprocess: Preprocess, out: ByteArray | None = None) -> ByteArray:
    """Steps, crop and resize: `(h, w, 3)` uint8 -> `(height, width, 3)` uint8, a new contiguous array.

    The one deterministic path from a decoded photo to a network's input: the cache, training and prediction use it,
    so that no score can differ because the pixels did.

    Args:
        out: a contiguous array to put it into.

    Raises:
        DataError: the photo is smaller than a crop in pixels.
    """
    import cv2

    kept = _cropped(run_steps(photo, preprocess.prepare), preprocess)
    rows, columns = kept.shape[:2]
    out_rows, out_columns = preprocess.size
    out = np.empty((*preprocess.size, 3), dtype=np.uint8) if out is None else out
    if (rows, columns) == preprocess.size:
        out[:] = kept
        return out
    shrinks = rows >= out_rows and columns >= out_columns
    # OpenCV's "area" turns into nearest-like steps when an axis grows
    method = cv2.INTER_AREA if preprocess.interpolation == "area" and shrinks else cv2.INTER_LINEAR
    cv2.resize(np.ascontiguousarray(kept), (out_columns, out_rows), dst=out, interpolation=method)
    return out


def cropped_size(sides: tuple[int, int], crop: tuple[float, float]) -> tuple[int, int]:
    """(height, width) of what a crop keeps of a photo of (height, width).

    Raises:
        DataError: the photo is smaller than a crop in pixels.
    """
    rows, columns = (max(1, round(n * side)) if side <= 1 else int(side) for n, side in zip(sides, crop, strict=True))
    if rows > sides[0] or columns > sides[1]:
        raise DataError(
            f"the crop is {rows}x{columns} pixels (height x width), the photo only {sides[0]}x{sides[1]}; "
            "crop less, or by shares of the photo (numbers up to 1)"
        )
    return rows, columns


def crop_place(sides: tuple[int, int], preprocess: Preprocess) -> tuple[int, int, int, int]:
    """Top, left, height and width of what is kept of a photo of (height, width), in its pixels.

    Raises:
        DataError: the photo is smaller than a crop in pixels.

    Examples:
        >>> crop_place((100, 80), Preprocess((32, 32), crop=(0.5, 1.0)))
        (25, 0, 50, 80)
    """
    kept = cropped_size(sides, preprocess.crop)
    top, left = (
        (n - m) // 2 if at == 0.5 else min(max(round(n * at - m / 2), 0), n - m)
        for n, m, at in zip(sides, kept, preprocess.crop_at, strict=True)
    )
    return top, left, *kept


def _cropped(photo: ByteArray, preprocess: Preprocess) -> ByteArray:
    top, left, rows, columns = crop_place((photo.shape[0], photo.shape[1]), preprocess)
    return photo[top : top + rows, left : left + columns]
