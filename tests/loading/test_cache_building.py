"""Building the cache: side by side, after a kill, from what other caches hold, and within a limit."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from decode_counter import count_decodes
from tiny_training import SIZE, draw_table, folds_of, make_job, make_photos

from ensemble_kit.data.decode import Preprocess
from ensemble_kit.data.samples import SampleTable
from ensemble_kit.errors import DataError
from ensemble_kit.loading import blocks, building, decoding, hashes
from ensemble_kit.loading.cache import PhotoCache
from ensemble_kit.training import train_fold

PLAIN = Preprocess(size=(SIZE, SIZE))
PHOTO_BYTES = SIZE * SIZE * 3


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often each photo is decoded, in blocks of four."""
    counted = count_decodes(monkeypatch)
    monkeypatch.setattr(building, "WINDOW", 4)
    return counted


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def stopped_after(n: int) -> Callable[[int, int], None]:
    def stop(done: int, total: int) -> None:
        if done >= n:
            raise KeyboardInterrupt

    return stop


def broken_off(table: SampleTable, folder: Path, after: int) -> None:
    with pytest.raises(KeyboardInterrupt):
        PhotoCache.build(table, PLAIN, folder, progress=stopped_after(after))


def test_a_build_that_is_stopped_goes_on_from_what_is_written(tmp_path: Path, decoded: Counter[str]) -> None:
    table = draw_table(tmp_path / "photos", people=5, broken=["p000_worn.png", "p004_worn.png"])
    expected = PhotoCache.build(table, PLAIN, tmp_path / "other")
    decoded.clear()
    broken_off(table, tmp_path / "cache", 8)
    assert PhotoCache.open(table, PLAIN, tmp_path / "cache") is None
    decoded.clear()
    photos = PhotoCache.build(table, PLAIN, tmp_path / "cache")
    assert decoded == Counter(path.name for path in table.paths[8:])
    assert np.array_equal(photos.photos, expected.photos)
    assert photos.problems == expected.problems
    assert [path for path in names(tmp_path / "cache") if path.startswith(".")] == []


@pytest.mark.parametrize("damage", ["pixels", "record cut short", "no record", "other size"])
def test_only_blocks_that_are_what_the_record_says_are_kept(tmp_path: Path, decoded: Counter[str], damage: str) -> None:
    table = draw_table(tmp_path / "photos", people=4)
    expected = np.array(PhotoCache.build(table, PLAIN, tmp_path / "other").photos)
    broken_off(table, tmp_path / "cache", 8)
    part = next((tmp_path / "cache").glob(".*.part"))
    record = blocks.record_of(part)
    again = 4
    if damage == "pixels":
        found = np.load(part, mmap_mode="r+")
        found[1, 3, 3, 0] ^= 1
        found.flush()
    elif damage == "record cut short":
        record.write_text(record.read_text()[:-30])
    elif damage == "no record":
        record.unlink()
        again = 8
    else:
        np.save(part.with_suffix(".npy"), np.zeros((2, 2), dtype=np.uint8))
        os.replace(part.with_suffix(".npy"), part)
        again = 8
    decoded.clear()
    photos = PhotoCache.build(table, PLAIN, tmp_path / "cache")
    assert decoded.total() == len(table) - 8 + again
    assert np.array_equal(photos.photos, expected)


def test_a_record_that_was_cut_short_twice_keeps_what_came_between(tmp_path: Path, decoded: Counter[str]) -> None:
    table = draw_table(tmp_path / "photos", people=6)
    for after in (4, 12):
        broken_off(table, tmp_path / "cache", after)
        with open(blocks.record_of(next((tmp_path / "cache").glob(".*.part"))), "a") as record:
            record.write('{"first": 4, "sha')
    decoded.clear()
    PhotoCache.build(table, PLAIN, tmp_path / "cache")
    assert decoded.total() == len(table) - 12


def test_a_photo_that_changed_is_decoded_and_no_other(tmp_path: Path, decoded: Counter[str]) -> None:
    table = draw_table(tmp_path / "photos", people=4, broken=["p002_worn.png"])
    PhotoCache.build(table, PLAIN, tmp_path / "cache")
    table.paths[5].write_bytes(table.paths[0].read_bytes() + b"0")
    decoded.clear()
    photos = PhotoCache.build(table, PLAIN, tmp_path / "cache")
    assert decoded == {table.paths[5].name: 1, "p002_worn.png": 1}
    assert np.array_equal(photos.photos[5], photos.photos[0])
    decoded.clear()
    some = PhotoCache.build(table.select([7, 5, 1]), PLAIN, tmp_path / "cache")
    assert not decoded
    assert np.array_equal(some.photos, photos.photos[[7, 5, 1]])


BUILDS = """
import json, os, signal, sys, time
from pathlib import Path
from ensemble_kit.data.decode import Preprocess
from ensemble_kit.data.samples import SampleTable
from ensemble_kit.loading import building, cache, decoding
from ensemble_kit.schema import Attribute, Schema
schema = Schema(Attribute("mask", ["worn", "incorrect", "not_worn"]))
table = SampleTable.from_columns(json.loads(sys.argv[3]), Path(sys.argv[1]), schema)
counted, plain = [], decoding.decode_photo
def decode(path):
    counted.append(path)
    time.sleep(0.03)
    return plain(path)
def progress(done, total):
    if done == int(sys.argv[4]):
        os.kill(os.getpid(), signal.SIGKILL)
decoding.decode_photo, building.WINDOW = decode, 2
photos = cache.PhotoCache.build(table, Preprocess(size=(16, 16)), Path(sys.argv[2]), progress=progress, say=print)
print(len(counted), int(photos.photos.astype(int).sum()))
"""


def test_after_a_kill_two_processes_at_once_decode_what_is_left_once(tmp_path: Path) -> None:
    table = draw_table(tmp_path / "photos", people=4)
    expected = PhotoCache.build(table, PLAIN, tmp_path / "other").photos.astype(int).sum()
    columns = table.frame[["sample_id", "path", "group_id", "mask"]].to_dict(orient="list")
    columns["mask"] = ["worn"] * len(table)

    def begin(killed_after: int) -> subprocess.Popen[str]:
        words = [str(tmp_path / "photos"), str(tmp_path / "cache"), json.dumps(columns), str(killed_after)]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
        return subprocess.Popen(
            [sys.executable, "-c", BUILDS, *words], env=environment, stdout=subprocess.PIPE, text=True
        )

    killed = begin(4)
    killed.communicate()
    assert killed.returncode == -9
    two = [begin(-1) for _ in range(2)]
    told = [process.communicate()[0].splitlines() for process in two]
    assert [process.returncode for process in two] == [0, 0]
    ends = [line[-1].split() for line in told]
    assert sum(int(n) for n, _ in ends) == len(table) - 4
    assert {int(total) for _, total in ends} == {expected}
    assert len(names(tmp_path / "cache") - {"hashes.tsv"}) == 2
    for lines, (n, _) in zip(told, ends, strict=True):
        if len(lines) > 1:
            assert n == "0"
            assert "waiting for decoded photos: " in lines[0]
            assert "being decoded by process" in lines[0]


def test_the_longest_unused_go_first_and_what_is_in_use_stays(tmp_path: Path) -> None:
    table = draw_table(tmp_path / "photos", people=4)
    folder, whole = tmp_path / "cache", PHOTO_BYTES * len(table)
    made = {}
    for age, side in ((3, 16), (9, 15), (6, 14)):
        photos = PhotoCache.build(table, Preprocess(size=(side, SIZE)), folder)
        assert photos.file is not None
        made[side] = photos.file
        keeps = photos if side == 15 else None  # in use, though the oldest
        if keeps is not None:
            used = keeps
        del photos, keeps
        os.utime(made[side], (1e9 - age, 1e9 - age))
    features = folder / "features-0.npy"
    np.save(features, np.zeros(8))
    assert used.readable.all()
    assert PhotoCache.build(table, PLAIN, folder, limit_gb=1).file == made[16], "what is there stays"
    os.utime(made[16], (1e9, 1e9))
    other = Preprocess(size=(12, SIZE))
    limit = (made[15].stat().st_size + made[16].stat().st_size + features.stat().st_size + whole * 12 / 16) / 1e9
    photos = PhotoCache.build(table, other, folder, limit_gb=limit)
    assert [made[side].is_file() for side in (16, 15, 14)] == [True, True, False]
    assert photos.file is not None
    assert made[14].with_suffix(".json").exists() is False


def test_what_another_build_is_writing_stays(tmp_path: Path, decoded: Counter[str]) -> None:
    table = draw_table(tmp_path / "photos", people=4)
    folder, limit = tmp_path / "cache", (PHOTO_BYTES * len(table) + 200) / 1e9
    assert decoded == Counter()
    others: list[PhotoCache] = []

    def meanwhile(done: int, _: int) -> None:
        if done == 4:
            others.append(PhotoCache.build(table, Preprocess(size=(SIZE - 1, SIZE)), folder, limit_gb=limit))

    photos = PhotoCache.build(table, PLAIN, folder, progress=meanwhile, limit_gb=limit)
    assert photos.file is not None
    assert [other.file for other in others] == [None], "no room beside it"
    assert np.array_equal(photos.photos, PhotoCache.build(table, PLAIN, tmp_path / "other").photos)


def test_nothing_is_removed_where_that_would_not_be_enough(tmp_path: Path) -> None:
    table = draw_table(tmp_path / "photos", people=4, broken=["p001_worn.png"])
    small = Preprocess(size=(8, 8))
    first = PhotoCache.build(table, small, tmp_path / "cache").file
    told: list[str] = []
    photos = PhotoCache.build(table, PLAIN, tmp_path / "cache", limit_gb=8e-6, say=told.append)
    assert first is not None
    assert first.is_file()
    assert photos.file is None
    assert told == [
        "note: 12 decoded photos take 0.0 MB, more than cache_gb = 8e-06 leaves them: they are not kept but decoded "
        "each time"
    ]
    kept = PhotoCache.build(table, PLAIN, tmp_path / "other")
    assert photos.problems == kept.problems
    for rows in (0, 4, np.array([3, 4, 1]), slice(2, 9), np.array([], dtype=int), np.int64(5)):
        assert np.array_equal(photos.photos[rows], kept.photos[rows])
    assert photos.photos.shape == kept.photos.shape


def test_photos_that_are_not_kept_train_to_the_same_bits(tmp_path: Path) -> None:
    table = draw_table(tmp_path / "photos", people=12)
    job = make_job(epochs=1, augment=("flip",))
    kept, not_kept = (
        PhotoCache.build(table, job.preprocess, tmp_path / name, limit_gb=limit)
        for name, limit in (("a", None), ("b", 0))
    )
    for name, photos in (("kept", kept), ("not", pickle.loads(pickle.dumps(not_kept)))):
        train_fold(job, table=table, folds=folds_of(table), photos=photos, folder=tmp_path / name)
    for name in ("best.safetensors", "oof.npy"):
        assert (tmp_path / "not" / name).read_bytes() == (tmp_path / "kept" / name).read_bytes()


def test_which_photos_cannot_be_read_is_found_out_once(tmp_path: Path, decoded: Counter[str]) -> None:
    table = draw_table(tmp_path / "photos", people=3, broken=["p000_worn.png"])
    for _ in range(2):
        photos = PhotoCache.build(table, PLAIN, tmp_path / "cache", limit_gb=0)
        assert [problem.path for problem in photos.problems] == ["p000_worn.png"]
    assert set(decoded.values()) == {1}


def test_a_disk_without_room_is_said_before_anything_is_decoded(
    tmp_path: Path, decoded: Counter[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    table = draw_table(tmp_path / "photos", people=4)
    whole = PHOTO_BYTES * len(table)
    told: list[str] = []
    for free, message in (
        (whole - 1, "12 decoded photos need 0.0 MB, 0.0 MB are free there; make room, choose"),
        (9 * whole, ""),
    ):
        monkeypatch.setattr("shutil.disk_usage", lambda _, free=free: SimpleNamespace(free=free))
        if message:
            with pytest.raises(DataError, match=message):
                PhotoCache.build(table, PLAIN, tmp_path / "cache", say=told.append)
            assert not decoded
            assert not told
            assert names(tmp_path / "cache") <= {hashes.NAME}
    PhotoCache.build(table, PLAIN, tmp_path / "cache", say=told.append)
    assert len(told) == 1
    assert "are then left on that disk" in told[0]


@pytest.mark.parametrize("limit", [None, 0.0])
def test_as_many_threads_decode_as_are_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: float | None
) -> None:
    seen: list[int] = []

    class Pool(ThreadPoolExecutor):
        def __init__(self, threads: int):
            seen.append(threads)
            super().__init__(threads)

    monkeypatch.setattr(decoding, "ThreadPoolExecutor", Pool)
    table = draw_table(tmp_path / "photos", people=2)
    PhotoCache.build(table, PLAIN, tmp_path / "cache", threads=3, limit_gb=limit)
    assert seen == [3]


def test_a_cache_says_what_its_photos_were(tmp_path: Path) -> None:
    table = draw_table(tmp_path / "photos", people=2)
    make_photos(table, tmp_path / "cache")
    entry = json.loads(next((tmp_path / "cache").glob("*.json")).read_text())
    assert entry["photos"] == [hashlib.sha256(path.read_bytes()).hexdigest() for path in table.paths]
