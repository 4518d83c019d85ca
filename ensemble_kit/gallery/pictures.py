"""The photos of a page: small ones of all, larger ones of the first few, and a reason where there is none."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ensemble_kit.arrays import FloatArray
from ensemble_kit.data.decode import PhotoError, decode_photo
from ensemble_kit.gallery.heat import heat_layer
from ensemble_kit.pages.thumbs import thumbnail_of

SIDE, LARGE = 120, 320
QUALITY, LARGE_QUALITY = 60, 75
HEAT_SIDE = 160
AT_ONCE = 64


@dataclass(frozen=True)
class Picture:
    """A photo as it stands in a page, or why it does not.

    Attributes:
        small, large: `data:` addresses, "" = none.
        problem: why there is none.
    """

    small: str = ""
    large: str = ""
    problem: str = ""


@dataclass(frozen=True)
class Place:
    """Where a photo lies; no path where its name is none that can be looked for."""

    path: Path | None
    problem: str = ""


def take_pictures(
    places: Sequence[Place],
    *,
    large: Sequence[int] = (),
    threads: int = 2,
    advance: Callable[[int], None] | None = None,
) -> list[Picture]:
    """Reads photos, each once, by the one safe decoder. A missing or damaged one has its reason in its place.

    Args:
        large: numbers of the photos that are kept larger too.
        advance: told how many are done.
    """
    wanted = set(large)

    def take(number: int) -> Picture:
        return _take(places[number], number in wanted)

    found: list[Picture] = []
    with ThreadPoolExecutor(max(1, threads)) as pool:
        for start in range(0, len(places), AT_ONCE):
            found += pool.map(take, range(start, min(start + AT_ONCE, len(places))))
            if advance is not None:
                advance(len(found))
    return found


def _take(place: Place, is_large: bool) -> Picture:
    if place.path is None:
        return Picture(problem=place.problem)
    try:
        photo = decode_photo(place.path)
    except PhotoError as error:
        return Picture(problem=str(error).removeprefix(f"{place.path}: "))
    large = thumbnail_of(photo, LARGE, LARGE_QUALITY) if is_large and max(photo.shape[:2]) > SIDE else ""
    return Picture(thumbnail_of(photo, SIDE, QUALITY), large)


def heat_picture(heat: FloatArray) -> str:
    """A map as a see-through picture to be laid over its photo, a `data:` address."""
    import cv2

    layer: Any = heat_layer(heat)
    rows, columns = layer.shape[:2]
    scale = HEAT_SIDE / max(rows, columns)
    size = max(1, round(columns * scale)), max(1, round(rows * scale))
    smooth = cv2.resize(layer, size, interpolation=cv2.INTER_CUBIC if scale > 1 else cv2.INTER_AREA)
    done, data = cv2.imencode(".webp", cv2.cvtColor(smooth, cv2.COLOR_RGBA2BGRA), [cv2.IMWRITE_WEBP_QUALITY, 60])
    assert done, "webp is part of every OpenCV"
    return f"data:image/webp;base64,{b64encode(data.tobytes()).decode()}"
