"""Photos go by their bytes: copied elsewhere they are the same, replaced ones never answered from stale pixels."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from decode_counter import count_decodes
from tiny_training import SIZE, draw_table

from ensemble_kit.arrays import ByteArray
from ensemble_kit.data.decode import Preprocess, decode_photo, prepare
from ensemble_kit.data.samples import SampleTable
from ensemble_kit.errors import DataError
from ensemble_kit.loading import building, decoding, hashes
from ensemble_kit.loading.cache import PhotoCache
from ensemble_kit.loading.hashes import NAME, PhotoHashes
from ensemble_kit.loading.room import mark_used
from ensemble_kit.loading.wanted import geometry_sha256

PLAIN = Preprocess(size=(SIZE, SIZE))


@pytest.fixture
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files that were written just now may be remembered."""
    monkeypatch.setattr(hashes, "SETTLED", -60.0)


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that are hashed, one after the other."""
    found: list[str] = []
    plain = hashes._hashed

    def noting(path: Path) -> tuple[str, hashes.Stamp | None]:
        found.append(path.name)
        return plain(path)

    monkeypatch.setattr(hashes, "_hashed", noting)
    return found


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    return count_decodes(monkeypatch)


def sha256_of(table: SampleTable) -> list[str]:
    return [hashlib.sha256(path.read_bytes()).hexdigest() for path in table.paths]


def swapped(one: Path, other: Path) -> None:
    """The bytes of one photo in place of the other's, of the same length, with the time that it had."""
    data, before = one.read_bytes(), other.stat()
    other.write_bytes(data.ljust(before.st_size, b"\0")[: before.st_size])
    os.utime(other, ns=(before.st_atime_ns, before.st_mtime_ns))
    while other.stat().st_ctime_ns == before.st_ctime_ns:  # a tick of the clock may take some milliseconds
        os.utime(other, ns=(before.st_atime_ns, before.st_mtime_ns))
    now = other.stat()
    assert (now.st_size, now.st_mtime_ns, now.st_ino) == (before.st_size, before.st_mtime_ns, before.st_ino)


@pytest.mark.usefixtures("settled")
def test_a_second_run_hashes_nothing(tmp_path: Path, hashed: list[str]) -> None:
    table = draw_table(tmp_path / "photos", people=3)
    assert PhotoHashes(tmp_path / "cache").of(table.paths) == sha256_of(table)
    assert sorted(hashed) == sorted(path.name for path in table.paths)
    hashed.clear()
    assert PhotoHashes(tmp_path / "cache").of(table.paths) == sha256_of(table)
    assert hashed == []
    os.utime(table.paths[2], ns=(5, 5))
    swapped(table.paths[0], table.paths[1])
    assert PhotoHashes(tmp_path / "cache").of(table.paths) == sha256_of(table)
    assert sorted(hashed) == sorted(path.name for path in table.paths[1:3])


@pytest.mark.usefixtures("settled")
@pytest.mark.parametrize("how", ["written over", "replaced"])
def test_a_photo_replaced_by_another_is_never_answered_from_stale_pixels(
    tmp_path: Path, decoded: Counter[str], how: str
) -> None:
    """Of the same size, at the same time: only what the system itself notes of a file tells them apart."""
    table = draw_table(tmp_path / "photos", people=3)
    PhotoCache.build(table, PLAIN, tmp_path / "cache")
    if how == "replaced":  # another file, under the name of the first
        shutil.copy2(table.paths[4], tmp_path / "other.png")
        swapped(table.paths[0], tmp_path / "other.png")
        os.replace(tmp_path / "other.png", table.paths[4])
    else:
        swapped(table.paths[0], table.paths[4])
    assert PhotoCache.open(table, PLAIN, tmp_path / "cache") is None
    decoded.clear()
    photos = PhotoCache.build(table, PLAIN, tmp_path / "cache")
    assert decoded == {table.paths[4].name: 1}
    assert np.array_equal(photos.photos, [prepare(decode_photo(path), PLAIN) for path in table.paths])


def test_a_write_within_one_tick_of_the_clock_is_seen(
    tmp_path: Path, hashed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A clock so coarse that a file's times stay the same: what was written just now is hashed again."""
    table = draw_table(tmp_path / "photos", people=1)
    now = int(time.time() * 1e9)
    monkeypatch.setattr(hashes, "_stamp", lambda state: (state.st_size, 1, now, state.st_ino))
    assert PhotoHashes(tmp_path).of(table.paths) == sha256_of(table)
    swapped(table.paths[0], table.paths[1])
    hashed.clear()
    assert PhotoHashes(tmp_path).of(table.paths) == sha256_of(table)
    assert len(hashed) == len(table)
    assert not (tmp_path / NAME).exists()


def test_photos_copied_elsewhere_share_the_cache_under_any_names(tmp_path: Path, decoded: Counter[str]) -> None:
    table = draw_table(tmp_path / "photos", people=2, broken=["p001_worn.png"])
    photos = PhotoCache.build(table, PLAIN, tmp_path / "cache")
    (tmp_path / "copy").mkdir()
    names = [f"{row}.png" for row in range(len(table))]
    for name, path in zip(names, table.paths, strict=True):
        shutil.copyfile(path, tmp_path / "copy" / name)
    columns = {name: table.frame[name].tolist() for name in table.frame.columns}
    columns |= {"path": names, "sample_id": names}
    copy = SampleTable.from_columns(columns, tmp_path / "copy", table.schema)
    decoded.clear()
    same = PhotoCache.build(copy, PLAIN, tmp_path / "cache")
    assert not decoded
    assert same.file == photos.file
    assert [problem.path for problem in same.problems] == [names[table.ids.tolist().index("p001/worn")]]
    same.check(copy, PLAIN)
    with pytest.raises(DataError, match="belongs to other samples"):
        same.check(table, PLAIN)


def test_photos_that_are_missing_are_no_photo_of_another_cache(tmp_path: Path, decoded: Counter[str]) -> None:
    table = draw_table(tmp_path / "photos", people=3)
    bytes_of = [path.read_bytes() for path in table.paths[:2]]
    for path in table.paths[:2]:
        path.unlink()
    first = PhotoCache.build(table, PLAIN, tmp_path / "cache")
    assert np.flatnonzero(~first.readable).tolist() == [0, 1]
    table.paths[0].write_bytes(bytes_of[0])
    decoded.clear()
    second = PhotoCache.build(table, PLAIN, tmp_path / "cache")
    assert decoded == {path.name: 1 for path in table.paths[:2]}
    assert np.flatnonzero(~second.readable).tolist() == [1]
    assert np.array_equal(second.photos[0], prepare(decode_photo(table.paths[0]), PLAIN))


def test_what_is_no_file_or_cannot_be_read_has_a_stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(tmp_path / "pipe")  # opening it would wait for ever
    (tmp_path / "folder").mkdir()
    (tmp_path / "large").write_bytes(b"12345")
    monkeypatch.setattr(hashes, "MAX_BYTES", 4)
    names = ["pipe", "folder", "nowhere", "large", "no\0name"]
    found = PhotoHashes(tmp_path).of([tmp_path / name for name in names])
    assert found == ["-10000", "-40000", "-ENOENT", "-5", "-no name"]
    assert not (tmp_path / NAME).exists()


def test_a_photo_that_changes_while_it_is_decoded_is_not_kept_under_its_old_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = draw_table(tmp_path / "photos", people=2)
    before = table.paths[3].read_bytes()

    def changing(path: Path) -> ByteArray:
        if path == table.paths[3]:
            shutil.copyfile(table.paths[0], path)
        return decode_photo(path)

    with monkeypatch.context() as patch:
        patch.setattr(decoding, "decode_photo", changing)
        patch.setattr(building, "WINDOW", 2)
        with pytest.raises(DataError, match=f"{table.paths[3].name}: changed while it was decoded; run the command"):
            PhotoCache.build(table, PLAIN, tmp_path / "cache")
        patch.undo()
        table.paths[3].write_bytes(before)
        patch.setattr(building, "WINDOW", 2)
        photos = PhotoCache.build(table, PLAIN, tmp_path / "cache")  # goes on from what was written
    assert np.array_equal(photos.photos, [prepare(decode_photo(path), PLAIN) for path in table.paths])


@pytest.mark.usefixtures("settled")
@pytest.mark.parametrize("damage", ["cut short", "torn", "noise", "a folder"])
def test_a_damaged_table_costs_only_time(tmp_path: Path, hashed: list[str], damage: str) -> None:
    table = draw_table(tmp_path / "photos", people=3)
    PhotoHashes(tmp_path).of(table.paths)
    file, lines = tmp_path / NAME, (tmp_path / NAME).read_bytes()
    hashed.clear()
    if damage == "cut short":
        file.write_bytes(lines[:-20])
    elif damage == "torn":  # by a kill within a line, to which another process added its own
        file.write_bytes(lines[:-20] + b"\n" + lines.split(b"\n")[1] + b"\n")
    elif damage == "noise":
        file.write_bytes(bytes(range(256)) * 20)
    else:
        file.unlink()
        file.mkdir()
    assert PhotoHashes(tmp_path).of(table.paths) == sha256_of(table)
    assert len(hashed) == (1 if damage in ("cut short", "torn") else len(table))
    if file.is_file():
        hashed.clear()
        assert PhotoHashes(tmp_path).of(table.paths) == sha256_of(table)
        assert hashed == []


@pytest.mark.usefixtures("settled")
def test_what_was_hashed_before_a_stop_is_kept_and_the_table_does_not_grow_without_end(
    tmp_path: Path, hashed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hashes, "PORTION", 2)
    table = draw_table(tmp_path / "photos", people=2)
    plain = hashes._hashed

    def stopping(path: Path) -> tuple[str, hashes.Stamp | None]:
        if len(hashed) == 4:
            raise KeyboardInterrupt
        return plain(path)

    with monkeypatch.context() as patch:
        patch.setattr(hashes, "_hashed", stopping)
        with pytest.raises(KeyboardInterrupt):
            PhotoHashes(tmp_path).of(table.paths)
    hashed.clear()
    PhotoHashes(tmp_path).of(table.paths)
    assert len(hashed) == 2
    for time_ns in range(1, 20):
        os.utime(table.paths[0], ns=(time_ns, time_ns))
        assert PhotoHashes(tmp_path).of(table.paths) == sha256_of(table)
    assert (tmp_path / NAME).read_text().count("\n") <= 4 * len(table) + 4


@pytest.mark.usefixtures("settled")
def test_opening_looks_at_no_photo_where_no_cache_has_as_many(tmp_path: Path, hashed: list[str]) -> None:
    table = draw_table(tmp_path / "photos", people=2)
    PhotoCache.build(table, PLAIN, tmp_path / "cache")
    hashed.clear()
    assert PhotoCache.open(table.select([0, 1]), PLAIN, tmp_path / "cache") is None
    assert PhotoCache.open(table, Preprocess(size=(8, 8)), tmp_path / "cache") is None
    assert PhotoCache.open(table, PLAIN, tmp_path / "nowhere") is None
    assert hashed == []
    os.utime(table.paths[0], ns=(5, 5))
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").iterdir()}
    assert PhotoCache.open(table, PLAIN, tmp_path / "cache") is not None
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").iterdir()} == before


def test_caches_of_earlier_versions_are_not_opened_and_go_when_one_is_built(tmp_path: Path) -> None:
    """They were named by path, size and time, and all missing photos looked alike in them."""
    table, folder = draw_table(tmp_path / "photos", people=2), tmp_path / "cache"
    folder.mkdir()
    old = np.full((len(table), SIZE, SIZE, 3), 7, dtype=np.uint8)
    geometry = geometry_sha256(PLAIN)
    for number in range(2):
        np.save(folder / f"{number:016x}.npy", old)
        content = {"key": f"{number:016x}", "problems": [], "geometry": geometry, "looks": "-" * 16 * len(table)}
        (folder / f"{number:016x}.json").write_text(json.dumps(content))
    used = np.load(folder / f"{1:016x}.npy", mmap_mode="r")
    mark_used(used, folder / f"{1:016x}.npy")
    assert PhotoCache.open(table, PLAIN, folder) is None
    photos = PhotoCache.build(table, PLAIN, folder)
    assert np.array_equal(photos.photos, [prepare(decode_photo(path), PLAIN) for path in table.paths])
    assert not (folder / f"{0:016x}.npy").exists()
    assert not (folder / f"{0:016x}.json").exists()
    assert (folder / f"{1:016x}.npy").exists(), "somebody still trains on it"


def test_much_to_read_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table, told = draw_table(tmp_path / "photos", people=1), list[str]()
    monkeypatch.setattr(hashes, "TOLD_FROM", 1)
    PhotoCache.build(table, PLAIN, tmp_path / "cache", say=told.append)
    assert told[0] == "note: reading 0.0 MB of photos once, to tell them by their bytes from changed ones"
