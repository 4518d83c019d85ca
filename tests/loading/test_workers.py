"""Workers that die, crash or hang: said with the photo's file, and none is left behind. No two streams are equal."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ensemble_kit.arrays import ByteArray, IntArray
from ensemble_kit.data.decode import PhotoError
from ensemble_kit.errors import DataError
from ensemble_kit.loading import dataset as dataset_module
from ensemble_kit.loading.dataset import EpochLoader, TrainingPhotos
from ensemble_kit.loading.transforms import Augment

pytestmark = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")

N_PHOTOS = 12
SIDE = 16
FAULTY = 7


def die(photo: ByteArray) -> ByteArray:
    os.kill(os.getpid(), signal.SIGKILL)
    return photo


def crash(photo: ByteArray) -> ByteArray:
    ctypes.string_at(0)
    return photo


def hang(photo: ByteArray) -> ByteArray:
    time.sleep(3600)
    return photo


def batches(epoch: int) -> list[IntArray]:
    return [np.arange(start, start + 4) for start in range(0, N_PHOTOS, 4)]


def photos() -> ByteArray:
    return np.stack([np.full((SIDE, SIDE, 3), number, dtype=np.uint8) for number in range(N_PHOTOS)])


def gone(photo: ByteArray) -> ByteArray:
    raise PhotoError(f"p{photo[0, 0, 0]}.png: expected a photo, found no such file")


@pytest.mark.parametrize("workers", [0, 1])
def test_a_photo_that_has_gone_is_one_line_by_workers_too(workers: int) -> None:
    data = TrainingPhotos(photos(), np.arange(N_PHOTOS), np.zeros(N_PHOTOS, np.int64), lambda photo, *_: gone(photo))  # type: ignore[arg-type]
    with EpochLoader(data, batches, [1], workers) as loader, pytest.raises(DataError) as found:
        list(loader.epoch(1))
    assert str(found.value) == "p0.png: expected a photo, found no such file"


def children() -> set[str]:
    """Process numbers of this process's children, zombies too, where the system tells them."""
    found: set[str] = set()
    for file in Path("/proc/self/task").glob("*/children"):
        with suppress(FileNotFoundError):  # a thread that has ended meanwhile
            found.update(file.read_text().split())
    return found


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        (die, r"a loader worker died \(SIGKILL\) at the photo p7\.png"),
        (crash, r"a loader worker died \(SIGSEGV\) at the photo p7\.png"),
        (hang, r"a loader worker has hung for 1 s at the photo p7\.png"),
    ],
)
@pytest.mark.parametrize("workers", [1, 2])
def test_a_lost_worker_is_told_with_its_photo_and_none_is_left(
    monkeypatch: pytest.MonkeyPatch, fault: Callable[[ByteArray], ByteArray], told: str, workers: int
) -> None:
    monkeypatch.setattr(dataset_module, "HANGS", 1 if fault is hang else 60)

    def augment(photo: ByteArray, generator: Any) -> ByteArray:
        return fault(photo) if photo[0, 0, 0] == FAULTY else photo

    data = TrainingPhotos(photos(), np.arange(N_PHOTOS), np.zeros(N_PHOTOS, int), Augment([augment], (SIDE, SIDE), 0))
    before = children()

    def work() -> None:
        with EpochLoader(data, batches, range(1, 3), workers, name=lambda position: f"p{position}.png") as loader:
            for epoch in (1, 2):
                list(loader.epoch(epoch))

    with pytest.raises(DataError, match=told + ".*with --workers 0"):
        work()
    assert not multiprocessing.active_children()
    assert children() <= before  # not even a zombie


def test_workers_leave_the_signals_of_their_group_to_the_parent() -> None:
    data = TrainingPhotos(photos(), np.arange(N_PHOTOS), np.zeros(N_PHOTOS, int), Augment([], (SIDE, SIDE), 0))
    with EpochLoader(data, batches, range(1, 9), 2) as loader:
        for epoch in range(1, 9):
            for _ in loader.epoch(epoch):
                for worker in loader._workers if epoch == 2 else []:
                    os.kill(worker.pid, signal.SIGTERM)
                    os.kill(worker.pid, signal.SIGINT)
    assert not multiprocessing.active_children()


@pytest.mark.parametrize("workers", [0, 2])
def test_no_two_draws_of_workers_or_epochs_are_augmented_alike(workers: int) -> None:
    """One photo again and again: every augmented copy is another one."""
    photo = np.random.default_rng(0).integers(0, 255, (1, SIDE, SIDE, 3), dtype=np.uint8)
    augment = Augment(["affine=1", "jitter=1"], (SIDE, SIDE), 0)
    data = TrainingPhotos(photo, np.zeros(1, int), np.zeros(1, int), augment)
    with EpochLoader(data, lambda _: [np.zeros(6, int)] * 4, range(1, 6), workers) as loader:
        seen = [bytes(one.numpy()) for epoch in range(1, 6) for found, _ in loader.epoch(epoch) for one in found]
    assert (len(seen), len(set(seen))) == (120, 120)
