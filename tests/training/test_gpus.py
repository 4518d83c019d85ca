"""Two trainings on one GPU, by a GPU that is not there: the second waits for the first, and is told for whom."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from shipped import run_without_photos
from tiny_training import draw_table, folds_of, make_job, make_photos

from ensemble_kit.data.samples import SampleTable
from ensemble_kit.errors import StoppedError
from ensemble_kit.loading.cache import PhotoCache
from ensemble_kit.locks import let_go, try_hold
from ensemble_kit.recipe import train as recipe_train
from ensemble_kit.recipe.experts import ExpertSpec
from ensemble_kit.recipe.load import load_recipe
from ensemble_kit.training import FoldResult, gpus, train_fold

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> SampleTable:
    return draw_table(tmp_path_factory.mktemp("photos"))


@pytest.fixture(scope="module")
def photos(table: SampleTable, tmp_path_factory: pytest.TempPathFactory) -> PhotoCache:
    return make_photos(table, tmp_path_factory.mktemp("cache"))


@pytest.fixture
def lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of a GPU that stands in for the CPU."""
    monkeypatch.setattr(gpus, "FOLDER", tmp_path)
    monkeypatch.setattr(gpus, "gpu_of", lambda _: ("GPU-0f/1", "Made up, GPU 0"))
    monkeypatch.setattr(gpus, "LOOK_EVERY", 0.01)
    return tmp_path / "ensemble_kit-gpu-0f-1.lock"


def train(table: SampleTable, photos: PhotoCache, folder: Path, say: Any, **settings: Any) -> FoldResult:
    job = make_job(epochs=1, **settings)
    return train_fold(job, table=table, folds=folds_of(table), photos=photos, folder=folder, on_notice=say)


def waiting(told: str) -> str:
    return (
        f"Made up, GPU 0 is trained on by {told}; waiting for it to end (Ctrl-C gives up, --share-gpu trains beside it, "
        "where the memory is enough for both)"
    )


def test_a_second_training_waits_until_the_first_has_ended(
    table: SampleTable, photos: PhotoCache, tmp_path: Path, lock: Path
) -> None:
    handle, told = try_hold(lock, "process 1, which trains elsewhere"), list[str]()
    assert isinstance(handle, int)

    def say(text: str) -> None:
        told.append(text)
        if len(told) == 1:
            let_go(lock, handle)

    train(table, photos, tmp_path / "fold", say)
    assert told == [waiting("process 1, which trains elsewhere"), "Made up, GPU 0 is free after 0 min"]
    assert not lock.exists()


def test_other_users_can_open_the_file_whatever_the_umask(lock: Path) -> None:
    before = os.umask(0o077)
    try:
        with gpus.alone_on(CPU, Path("here")):
            assert lock.stat().st_mode & 0o777 == 0o644
    finally:
        os.umask(before)


def test_who_shares_does_not_wait(table: SampleTable, photos: PhotoCache, tmp_path: Path, lock: Path) -> None:
    handle, told = try_hold(lock, "another"), list[str]()
    assert isinstance(handle, int)
    train(table, photos, tmp_path / "fold", told.append, share_gpu=True)
    assert told == []
    let_go(lock, handle)


def test_a_signal_ends_the_waiting(table: SampleTable, photos: PhotoCache, tmp_path: Path, lock: Path) -> None:
    handle = try_hold(lock, "another")
    assert isinstance(handle, int)
    with pytest.raises(StoppedError, match="mask, fold 0: stopped; the same command goes on"):
        train(table, photos, tmp_path / "fold", lambda _: os.kill(os.getpid(), signal.SIGTERM))
    let_go(lock, handle)


HOLDER = """
import sys, time
from pathlib import Path
from ensemble_kit.locks import try_hold
try_hold(Path(sys.argv[1]), "process of old")
print("held", flush=True)
time.sleep(600)
"""


def test_a_gpu_is_free_when_its_process_was_killed(lock: Path, tmp_path: Path) -> None:
    told: list[str] = []
    with subprocess.Popen([sys.executable, "-c", HOLDER, str(lock)], stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"

        def say(text: str) -> None:
            told.append(text)
            holder.kill()

        with gpus.alone_on(CPU, tmp_path, say=say):
            assert lock.read_text() == f"process {os.getpid()} on {os.uname().nodename}, which trains {tmp_path}"
            with gpus.alone_on(CPU, tmp_path / "fold", say=say):  # a fold of the same run
                assert lock.exists()
            assert lock.exists()
    assert told == [waiting("process of old"), "Made up, GPU 0 is free after 0 min"]
    assert not lock.exists()


def test_it_is_told_again_and_logged_where_nobody_listens(
    lock: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(gpus, "TELL_EVERY", 0.0)
    handle, looks = try_hold(lock, "another"), [0]
    assert isinstance(handle, int)

    def heed() -> None:
        looks[0] += 1
        if looks[0] == 3:
            let_go(lock, handle)

    with gpus.alone_on(CPU, tmp_path, heed=heed):
        assert caplog.messages == [*[waiting("another")] * 3, "Made up, GPU 0 is free after 0 min"]


def test_a_run_holds_the_gpu_between_its_folds(lock: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[bool] = []

    def run_trainings(trainings: Any, *_: Any, **__: Any) -> Any:
        for _ in trainings:
            seen.append(lock.exists())
            yield from ()

    class Watcher:
        def say(self, line: str) -> None: ...
        def begin(self, title: str, total: float) -> None: ...
        def advance(self, done: float, title: str | None = None) -> None: ...
        def end(self) -> None:
            seen.append(lock.exists())
            raise StoppedError("enough")

    monkeypatch.setattr(recipe_train, "run_trainings", run_trainings)
    monkeypatch.setattr(recipe_train, "photos_for", lambda *_: None)
    run, recipe = run_without_photos(tmp_path / "run"), load_recipe("face-mask", ["train.weights=none"])
    with pytest.raises(StoppedError, match="enough"):
        recipe_train.train_experts(run, recipe, [ExpertSpec(("mask",), {})], Watcher(), folds=[0, 1])
    assert seen == [True, True, False]


def test_a_cpu_is_nobodys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpus, "FOLDER", tmp_path)
    with gpus.alone_on(CPU, tmp_path):
        assert list(tmp_path.iterdir()) == []
