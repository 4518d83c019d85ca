"""Area resizing by lines: OpenCV's own bytes, whatever the photo and the size."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import scipy.sparse  # type: ignore[import-untyped]  # noqa: F401  (as after many photos)
from hypothesis import given, settings
from hypothesis import strategies as st

from ensemble_kit.arrays import ByteArray
from ensemble_kit.data import shrinking
from ensemble_kit.data.shrinking import shrink

sides = st.integers(1, 260)


def noise(rows: int, columns: int, seed: int = 0) -> ByteArray:
    return np.random.default_rng(seed).integers(0, 256, (rows, columns, 3), dtype=np.uint8)


def by_opencv(photo: ByteArray, size: tuple[int, int]) -> ByteArray:
    photo = np.ascontiguousarray(photo)
    return np.asarray(cv2.resize(photo, size[::-1], interpolation=cv2.INTER_AREA), dtype=np.uint8)


@settings(max_examples=40, deadline=None)
@given(st.tuples(sides, sides), st.tuples(sides, sides), st.integers(0, 3), st.integers(1, 2**16))
def test_bytes_are_opencvs(sides: tuple[int, int], others: tuple[int, int], seed: int, strip: int) -> None:
    (rows, height), (columns, width) = (sorted(pair, reverse=True) for pair in zip(sides, others, strict=True))
    photo, out = noise(rows, columns, seed), np.empty((height, width, 3), dtype=np.uint8)
    shrink(photo, out)
    assert np.array_equal(out, by_opencv(photo, (height, width)))
    if rows % height or columns % width:  # else OpenCV adds up whole pixels, in an order of its own
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(shrinking, "STRIP_VALUES", strip)
            shrinking._by_lines(photo, out)
        assert np.array_equal(out, by_opencv(photo, (height, width)))


def test_a_part_of_a_photo_is_resized_as_a_photo_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    photo, out = noise(300, 400)[20:280, 31:399], np.empty((90, 110, 3), dtype=np.uint8)
    used = []
    by_lines = shrinking._by_lines
    monkeypatch.setattr(shrinking, "_by_lines", lambda *args: (used.append(1), by_lines(*args)))
    shrink(photo, out)
    assert used
    assert np.array_equal(out, by_opencv(photo, (90, 110)))


def test_where_rounding_differs_opencv_resizes(monkeypatch: pytest.MonkeyPatch) -> None:
    def other(photo: ByteArray, out: ByteArray) -> None:
        out[:] = 7

    monkeypatch.setattr(shrinking, "_by_lines", other)
    shrinking._agrees.cache_clear()
    photo, out = noise(300, 400), np.empty((90, 110, 3), dtype=np.uint8)
    shrink(photo, out)
    monkeypatch.undo()
    shrinking._agrees.cache_clear()
    assert np.array_equal(out, by_opencv(photo, (90, 110)))
    assert shrinking._agrees()
