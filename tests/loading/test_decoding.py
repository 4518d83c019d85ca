"""Photos decoded in threads, a window ahead: the same pixels whatever the windows and threads."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_training import draw_table

from ensemble_kit.arrays import ByteArray
from ensemble_kit.data.decode import Preprocess, decode_photo, prepare
from ensemble_kit.data.samples import SampleTable
from ensemble_kit.errors import DataError
from ensemble_kit.loading import decoding
from ensemble_kit.loading.decoding import decode_windows, window_spans

WAYS = [Preprocess(size=(8, 8)), Preprocess(size=(5, 7), crop=(0.5, 0.9), interpolation="linear")]


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> SampleTable:
    return draw_table(tmp_path_factory.mktemp("photos"), people=9, broken=["p001_worn.png", "p008_not_worn.png"])


@settings(max_examples=12, deadline=None)
@given(
    window=st.integers(1, 40),
    first=st.none() | st.integers(1, 40),
    threads=st.none() | st.integers(1, 5),
    n_ways=st.integers(1, 2),
)
def test_any_windows_and_threads_give_the_same(
    table: SampleTable, window: int, first: int | None, threads: int | None, n_ways: int
) -> None:
    ways = WAYS[:n_ways]
    found = list(decode_windows(table.paths, ways, window, first=first, threads=threads))
    starts = [start for start, _, _ in found]
    assert [(start, start + len(arrays[0])) for start, arrays, _ in found] == list(
        window_spans(len(table), window, first)
    )
    assert starts == sorted(set(starts))
    assert [row for _, _, problems in found for row, _ in problems] == [3, 26]
    for way, expected in enumerate(whole(table, ways)):
        np.testing.assert_array_equal(np.concatenate([arrays[way] for _, arrays, _ in found]), expected)


def whole(table: SampleTable, ways: list[Preprocess]) -> list[ByteArray]:
    photos = [np.zeros((len(table), *way.size, 3), np.uint8) for way in ways]
    for row, path in enumerate(table.paths):
        if row not in (3, 26):
            for array, way in zip(photos, ways, strict=True):
                array[row] = prepare(decode_photo(path), way)
    return photos


@settings(deadline=None)
@given(n=st.integers(0, 500), window=st.integers(1, 60), first=st.none() | st.integers(1, 90))
def test_spans_follow_each_other_and_never_shrink_but_at_the_end(n: int, window: int, first: int | None) -> None:
    spans = list(window_spans(n, window, first))
    assert [row for start, stop in spans for row in range(start, stop)] == list(range(n))
    sizes = [stop - start for start, stop in spans]
    assert max(sizes, default=0) <= window
    assert sizes[:-1] == sorted(sizes[:-1])


def test_one_window_is_decoded_ahead_and_no_more(table: SampleTable, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: Counter[str] = Counter()

    def counted(path: Path) -> ByteArray:
        opened[path.name] += 1
        return decode_photo(path)

    monkeypatch.setattr(decoding, "decode_photo", counted)
    windows = decode_windows(table.paths, WAYS, 4)
    next(windows)
    wait_until(lambda: opened.total() >= 8)
    time.sleep(0.05)
    assert opened.total() == 8
    windows.close()
    assert set(opened) == {path.name for path in table.paths[:8]}


def test_who_stops_does_not_wait_for_the_rest(table: SampleTable, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[Path] = []

    def slow(path: Path) -> ByteArray:
        opened.append(path)
        time.sleep(0.005)
        return decode_photo(path)

    monkeypatch.setattr(decoding, "decode_photo", slow)
    windows = decode_windows(table.paths, WAYS, 12, threads=1)
    next(windows)
    windows.close()
    assert len(opened) <= 12 + decoding.TASK


def wait_until(holds: Any) -> None:
    for _ in range(1000):
        if holds():
            return
        time.sleep(0.01)
    raise AssertionError("waited for nothing")


def test_what_a_window_is_made_of_is_chosen_by_the_caller(table: SampleTable) -> None:
    made: list[ByteArray] = []

    def new(shape: tuple[int, ...]) -> ByteArray:
        made.append(np.full(shape, 7, dtype=np.uint8))  # not zero, as memory that was used before
        return made[-1]

    found = [array for _, arrays, _ in decode_windows(table.paths, WAYS, 10, new=new) for array in arrays]
    assert all(one is other for one, other in zip(found, made, strict=True))
    np.testing.assert_array_equal(np.concatenate(made[::2]), whole(table, WAYS)[0])  # unreadable rows are zero


def test_a_photo_smaller_than_its_crop_stops_with_its_name(table: SampleTable) -> None:
    with pytest.raises(DataError, match=r"p000_worn\.png: the crop is"):
        list(decode_windows(table.paths, [Preprocess(size=(8, 8), crop=(500, 500))]))


def test_opencvs_own_threads_are_put_back(table: SampleTable) -> None:
    before = cv2.getNumThreads()
    try:
        cv2.setNumThreads(3)
        windows = decode_windows(table.paths, WAYS, 4)
        next(windows)
        assert cv2.getNumThreads() == 1
        windows.close()
        assert cv2.getNumThreads() == 3
    finally:
        cv2.setNumThreads(before)


@pytest.mark.parametrize("orientation", [1, 6])
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_a_jpeg_comes_out_as_pillow_decodes_it(tmp_path: Path, mode: str, orientation: int) -> None:
    from PIL import Image, ImageOps

    rng = np.random.default_rng(0)
    photo = Image.fromarray(cv2.resize(rng.integers(0, 256, (9, 6, 3), dtype=np.uint8), (35, 50))).convert(mode)
    exif = Image.Exif()
    exif[0x0112] = orientation
    photo.save(tmp_path / "photo.jpg", exif=exif, quality=80)
    with Image.open(tmp_path / "photo.jpg") as opened:
        expected = np.asarray(ImageOps.exif_transpose(opened).convert("RGB"))
    found = decode_photo(tmp_path / "photo.jpg")
    if mode == "CMYK":  # Pillow converts ink without a profile by another formula
        assert found.shape == expected.shape
        assert np.abs(found.astype(int) - expected).max() <= 2
    else:
        np.testing.assert_array_equal(found, expected)


def test_a_photo_is_prepared_into_an_array_of_the_callers(table: SampleTable) -> None:
    photo = decode_photo(table.paths[0])
    for way in [*WAYS, Preprocess(size=(photo.shape[0], photo.shape[1]))]:
        window = np.full((3, *way.size, 3), 7, dtype=np.uint8)
        prepare(photo, way, window[1])
        np.testing.assert_array_equal(window[1], prepare(photo, way))
        assert (window[[0, 2]] == 7).all()
