"""What killed processes leave behind goes at the next call; what a living one may still work on stays."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tiny_training import SIZE, draw_table

from ensemble_kit import leftovers
from ensemble_kit.data.decode import Preprocess
from ensemble_kit.data.generated import generate_faces
from ensemble_kit.files import replacing
from ensemble_kit.leftovers import OLD, OWNER, owner, place, remove_leftovers
from ensemble_kit.loading.cache import PhotoCache

KEY = "0123456789abcdef"
PATTERN = rf"\..*\.{OWNER}\.tmp"
ELSEWHERE = "0" * 10


def began(process: int) -> str:
    """As `ps` counts it, in ticks since the boot."""
    return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[19]


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


def test_a_name_says_who_is_at_work(tmp_path: Path) -> None:
    with replacing(tmp_path / "a.json") as temporary:
        temporary.write_text("{}")
        assert names(tmp_path) == {f".a.json.{os.getpid()}-{began(os.getpid())}-{place()}.tmp"}
        remove_leftovers(tmp_path, PATTERN)
    assert names(tmp_path) == {"a.json"}


def test_only_what_matches_and_belongs_to_a_dead_process_goes(tmp_path: Path, living: int, dead: int) -> None:
    gone_by = f"{dead}-123-{place()}"
    kept = {f".a.{living}-{began(living)}-{place()}.tmp", f".a.{owner()}.tmp", f"a.{gone_by}.tmp", ".a.tmp"}
    kept |= {f".a.{gone_by}.tmp.npy", f".a.{living}-0-{place()}.tmp"}
    gone = {f".a.{gone_by}.tmp", f".b.{gone_by}.tmp", f".c.{10**30}-1-{place()}.tmp"}
    for name in kept | gone:
        (tmp_path / name).touch()
    (tmp_path / f".d.{gone_by}.tmp" / "inside").mkdir(parents=True)
    (tmp_path / f".e.{gone_by}.tmp").symlink_to(tmp_path / ".a.tmp")
    remove_leftovers(tmp_path, PATTERN)
    assert names(tmp_path) == kept
    remove_leftovers(tmp_path / "nowhere", r"(\d+)")


def test_a_number_that_came_again_is_another_process(tmp_path: Path, living: int) -> None:
    (tmp_path / f".a.{living}-{int(began(living)) - 1}-{place()}.tmp").touch()
    remove_leftovers(tmp_path, PATTERN)
    assert names(tmp_path) == set()


def test_a_process_that_has_ended_and_was_not_asked_after_is_dead(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        name = f".a.{process.pid}-{began(process.pid)}-{place()}.tmp"
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # it stays a zombie
        (tmp_path / name).touch()
        remove_leftovers(tmp_path, PATTERN)
        assert names(tmp_path) == set()


@pytest.mark.parametrize("of", [f"1-1-{ELSEWHERE}", "{dead}-1-" + ELSEWHERE, "{dead}", "1"])
def test_what_another_machine_or_an_earlier_version_left_goes_when_it_is_old(
    tmp_path: Path, dead: int, of: str
) -> None:
    file, folder = (tmp_path / f".{name}.{of.format(dead=dead)}.tmp" for name in "fd")
    file.touch()
    (folder / "inside").mkdir(parents=True)
    (folder / "inside" / "layer.npy").touch()
    now = time.time()
    young, old = (now - OLD + 60,) * 2, (now - OLD - 60,) * 2
    for path in (file, folder, folder / "inside"):
        os.utime(path, old)
    os.utime(folder / "inside" / "layer.npy", young)
    remove_leftovers(tmp_path, PATTERN)
    assert names(tmp_path) == {folder.name}, "somebody wrote into it today"
    os.utime(folder / "inside" / "layer.npy", old)
    remove_leftovers(tmp_path, PATTERN)
    assert names(tmp_path) == set()


def test_where_the_system_tells_little_only_the_number_counts(
    tmp_path: Path, living: int, dead: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leftovers, "_began", lambda _: "0")
    kept = {f".a.{owner()}.tmp", f".a.{living}-7-{place()}.tmp"}
    for name in kept | {f".a.{dead}-0-{place()}.tmp"}:
        (tmp_path / name).touch()
    remove_leftovers(tmp_path, PATTERN)
    assert names(tmp_path) == kept


def test_building_a_cache_removes_those_that_were_never_finished(tmp_path: Path, living: int, dead: int) -> None:
    table = draw_table(tmp_path / "photos", people=1)
    folder = tmp_path / "cache"
    folder.mkdir()
    dead_one, living_one = f"{dead}-1-{place()}", f"{living}-{began(living)}-{place()}"
    gone = {f".{KEY}.npy.{dead_one}.tmp", f".{KEY}.json.{dead_one}.tmp"}
    kept = {f".{KEY}.npy.{living_one}.tmp", f".mine.{dead_one}.tmp", f".{KEY}.npy.{dead}-1-{ELSEWHERE}.tmp"}
    for name in gone | kept:
        (folder / name).touch()
    PhotoCache.build(table, Preprocess(size=(SIZE, SIZE)), folder)
    assert {name for name in names(folder) if name.startswith(".")} == kept
    (folder / f".{KEY}.npy.{dead_one}.tmp").touch()
    PhotoCache.build(table, Preprocess(size=(SIZE, SIZE)), folder)
    assert {name for name in names(folder) if name.startswith(".")} == kept


def test_photos_that_were_half_drawn_go(tmp_path: Path, dead: int) -> None:
    (tmp_path / f".drawn.{dead}-1-{place()}.tmp" / "train").mkdir(parents=True)
    generate_faces(tmp_path / "drawn", people=2, size=(16, 16))
    assert names(tmp_path) == {"drawn"}
