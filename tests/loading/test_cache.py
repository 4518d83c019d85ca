"""The cache of decoded photos."""

from __future__ import annotations

import os
import pickle
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tiny_training import SIZE, draw_table, make_job, make_photos

from ensemble_kit.arrays import ByteArray
from ensemble_kit.data.decode import Preprocess, decode_photo, prepare
from ensemble_kit.errors import DataError
from ensemble_kit.loading import decoding
from ensemble_kit.loading.cache import PhotoCache
from ensemble_kit.loading.decoding import decode_windows

PLAIN = Preprocess(size=(SIZE, SIZE))


def test_a_cached_photo_is_the_prepared_photo(tmp_path: Path) -> None:
    table = draw_table(tmp_path / "photos", people=4)
    preprocess = Preprocess(size=(10, 8), crop=(0.8, 0.5))
    photos = PhotoCache.build(table, preprocess, tmp_path / "cache")
    expected = [prepare(decode_photo(path), preprocess) for path in table.paths]
    assert np.array_equal(photos.photos, np.stack(expected))
    assert photos.readable.all()


def test_a_second_build_decodes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = draw_table(tmp_path / "photos", people=2)
    first = PhotoCache.build(table, PLAIN, tmp_path / "cache")
    monkeypatch.setattr(decoding, "decode_photo", None)
    second = PhotoCache.build(table, PLAIN, tmp_path / "cache")
    assert np.array_equal(first.photos, second.photos)


def test_progress_counts_up_to_all_photos(tmp_path: Path) -> None:
    table = draw_table(tmp_path / "photos", people=2)
    told: list[tuple[int, int]] = []
    PhotoCache.build(table, PLAIN, tmp_path / "cache", progress=lambda done, total: told.append((done, total)))
    assert told[-1] == (len(table), len(table))


def test_other_geometry_photos_or_rows_are_another_cache(tmp_path: Path) -> None:
    table = draw_table(tmp_path / "photos", people=3)
    folder = tmp_path / "cache"
    PhotoCache.build(table, PLAIN, folder)
    assert PhotoCache.open(table, PLAIN, folder) is not None
    assert PhotoCache.open(table, Preprocess(size=(SIZE, SIZE), mean=(0, 0, 0)), folder) is not None
    assert PhotoCache.open(table, Preprocess(size=(SIZE, SIZE), crop=(0.5, 1)), folder) is None
    assert PhotoCache.open(table.select([1, 0]), PLAIN, folder) is None
    os.utime(table.paths[0], ns=(1, 1))
    assert PhotoCache.open(table, PLAIN, folder) is not None, "touched, not changed"
    shutil.copyfile(table.paths[0], table.paths[1])
    assert PhotoCache.open(table, PLAIN, folder) is None


def test_another_process_gets_the_same_photos_of_a_file_or_of_a_part_of_one(tmp_path: Path) -> None:
    table = draw_table(tmp_path / "photos", people=2)
    whole = PhotoCache.build(table, PLAIN, tmp_path / "cache")
    assert len(pickle.dumps(whole)) < whole.photos.nbytes / 2
    for photos in (whole, replace(whole, photos=whole.photos[2:])):
        assert np.array_equal(pickle.loads(pickle.dumps(photos)).photos, photos.photos)


def test_an_unreadable_photo_is_named_and_zero(tmp_path: Path) -> None:
    table = draw_table(tmp_path / "photos", people=3, broken=["p001_worn.png"])
    photos = PhotoCache.build(table, PLAIN, tmp_path / "cache")
    row = table.ids.tolist().index("p001/worn")
    assert np.flatnonzero(~photos.readable).tolist() == [row]
    assert not photos.photos[row].any()
    assert [problem.path for problem in photos.problems] == ["p001_worn.png"]
    assert "expected a photo" in photos.problems[0].problem
    assert str(tmp_path) not in photos.problems[0].problem


@pytest.mark.parametrize("damage", ["array", "json", "[1]", '{"problems": [["a"]]}', '{"problems": [[99, "b"]]}'])
def test_a_cache_cut_short_or_damaged_is_built_again(tmp_path: Path, damage: str) -> None:
    table = draw_table(tmp_path / "photos", people=2)
    whole = np.array(PhotoCache.build(table, PLAIN, tmp_path / "cache").photos)
    victim = next((tmp_path / "cache").glob("*.npy" if damage == "array" else "*.json"))
    victim.write_bytes(victim.read_bytes()[:100] if damage in ("array", "json") else damage.encode())
    assert np.array_equal(PhotoCache.build(table, PLAIN, tmp_path / "cache").photos, whole)


def noting(opened: list[Path]) -> Callable[[Path], ByteArray]:
    """A decoder that keeps a list of what it opened."""

    def decode(path: Path) -> ByteArray:
        opened.append(path)
        return decode_photo(path)

    return decode


def test_windows_decode_each_photo_once_for_all_preparations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = draw_table(tmp_path / "photos", people=3, broken=["p002_worn.png"])
    opened: list[Path] = []
    monkeypatch.setattr(decoding, "decode_photo", noting(opened))
    other = Preprocess(size=(8, 8))
    windows = list(decode_windows(table.paths, [PLAIN, other], window=4))
    assert sorted(opened) == sorted(table.paths)
    assert [start for start, _, _ in windows] == [0, 4, 8]
    small = np.concatenate([arrays[1] for _, arrays, _ in windows])
    assert np.array_equal(small[0], prepare(decode_photo(table.paths[0]), other))
    assert [row for _, _, problems in windows for row, _ in problems] == [6]


def test_a_cache_of_other_rows_or_geometry_is_refused(tmp_path: Path) -> None:
    table = draw_table(tmp_path / "photos", people=2)
    photos = make_photos(table, tmp_path / "cache")
    with pytest.raises(DataError, match="belongs to other samples"):
        photos.check(table.select([0]), make_job().preprocess)
    with pytest.raises(DataError, match="was prepared with"):
        photos.check(table, Preprocess(size=(8, 8)))
