"""What killed processes leave behind goes at the next call; what a living one works on stays."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tiny_training import SIZE, draw_table

from ensemble_kit.data.decode import Preprocess
from ensemble_kit.loading.cache import PhotoCache
from ensemble_kit.loading.leftovers import remove_leftovers

KEY = "0123456789abcdef"


@pytest.fixture
def living() -> Iterator[int]:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        yield process.pid
        process.kill()


@pytest.fixture
def dead() -> int:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    return process.pid


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_only_what_matches_and_belongs_to_a_dead_process_goes(tmp_path: Path, living: int, dead: int) -> None:
    kept = {f".a.{living}.tmp", f".a.{os.getpid()}.tmp", ".a.1.tmp", f"a.{dead}.tmp", ".a.tmp", f".a.{dead}.tmp.npy"}
    gone = {f".a.{dead}.tmp", f".b.{dead}.tmp", f".c.{10**30}.tmp"}
    for name in kept | gone:
        (tmp_path / name).touch()
    (tmp_path / f".d.{dead}.tmp" / "inside").mkdir(parents=True)
    (tmp_path / f".e.{dead}.tmp").symlink_to(tmp_path / ".a.tmp")
    remove_leftovers(tmp_path, r"\..*\.(\d+)\.tmp")
    assert names(tmp_path) == kept
    remove_leftovers(tmp_path / "nowhere", r"(\d+)")


def test_building_a_cache_removes_those_that_were_never_finished(tmp_path: Path, living: int, dead: int) -> None:
    table = draw_table(tmp_path / "photos", people=1)
    folder = tmp_path / "cache"
    folder.mkdir()
    gone = {f".{KEY}.npy.{dead}.tmp", f".{KEY}.json.{dead}.tmp"}
    kept = {f".{KEY}.npy.{living}.tmp", f".mine.{dead}.tmp"}
    for name in gone | kept:
        (folder / name).touch()
    PhotoCache.build(table, Preprocess(size=(SIZE, SIZE)), folder)
    assert {name for name in names(folder) if name.startswith(".")} == kept
    (folder / f".{KEY}.npy.{dead}.tmp").touch()
    PhotoCache.build(table, Preprocess(size=(SIZE, SIZE)), folder)
    assert {name for name in names(folder) if name.startswith(".")} == kept
