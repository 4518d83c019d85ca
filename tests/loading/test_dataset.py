"""Batches: the same tensors with any number of workers."""

from __future__ import annotations

import pickle
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_training import SIZE, draw_table, make_photos

from ensemble_kit.arrays import IntArray
from ensemble_kit.loading.dataset import EpochLoader, TrainingPhotos
from ensemble_kit.loading.samplers import epoch_batches
from ensemble_kit.loading.transforms import TRANSFORMS, Augment
from ensemble_kit.training.features import Features

FORK = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")  # Python 3.12+ about torch's own workers


def epochs_of(root: Path, workers: int, epochs: range) -> list[list[tuple[torch.Tensor, torch.Tensor]]]:
    table = draw_table(root / "photos", people=8)
    photos = make_photos(table, root / "cache")
    rows = np.arange(0, len(table), 2)
    targets = table.numbers("mask")[rows]
    data = TrainingPhotos(photos.photos, rows, targets, Augment(sorted(TRANSFORMS), (SIZE, SIZE), 7))

    def batches(epoch: int) -> list[IntArray]:
        return epoch_batches("balanced", targets, 4, 7, epoch)

    loader = EpochLoader(data, batches, epochs, workers)
    found = [list(loader.epoch(epoch)) for epoch in epochs]
    loader.close()
    return found


@FORK
@pytest.mark.parametrize("workers", [1, 2])
def test_workers_give_the_same_tensors(tmp_path: Path, workers: int) -> None:
    alone = epochs_of(tmp_path, 0, range(1, 4))
    helped = epochs_of(tmp_path, workers, range(1, 4))
    assert [len(epoch) for epoch in alone] == [len(epoch) for epoch in helped]
    for a, b in zip(chain(*alone), chain(*helped), strict=True):
        assert torch.equal(a[0], b[0])
        assert torch.equal(a[1], b[1])


def test_workers_that_are_no_forks_open_the_file_and_are_sent_no_photo(tmp_path: Path) -> None:
    table = draw_table(tmp_path / "photos", people=8)
    photos, rows = make_photos(table, tmp_path / "cache"), np.arange(0, len(table), 2)
    data = TrainingPhotos(photos.photos, rows, table.numbers("mask")[rows], Augment((), (SIZE, SIZE), 7))
    few = TrainingPhotos(photos.photos[4:], rows[:3], data.targets[:3], data.augment)
    sent = pickle.dumps(data)
    assert len(sent) < photos.photos.nbytes / 4
    again, part = pickle.loads(sent), pickle.loads(pickle.dumps(few))
    assert isinstance(again.photos, np.memmap)
    for one, other in ((data, again), (few, part)):
        assert np.array_equal(one[1, 0, 2][0], other[1, 0, 2][0])
        assert one[1, 0, 2][1] == other[1, 0, 2][1]
    assert photos.file is not None
    features = Features(np.load(photos.file, mmap_mode="r"))
    assert len(pickle.dumps(features)) < features.array.nbytes / 4
    assert np.array_equal(pickle.loads(pickle.dumps(features)).array, features.array)


def test_a_later_start_gives_the_same_later_epochs(tmp_path: Path) -> None:
    whole, late = epochs_of(tmp_path, 0, range(1, 4)), epochs_of(tmp_path, 0, range(3, 4))
    assert all(torch.equal(a[0], b[0]) for a, b in zip(whole[2], late[0], strict=True))


def test_epochs_differ_and_photos_are_uint8_with_their_targets(tmp_path: Path) -> None:
    first, second = epochs_of(tmp_path, 0, range(1, 3))
    assert not all(torch.equal(a[0], b[0]) for a, b in zip(first, second, strict=True))
    photos, targets = first[0]
    assert photos.dtype == torch.uint8
    assert photos.shape == (4, SIZE, SIZE, 3)
    assert targets.dtype == torch.int64


def test_a_sample_drawn_twice_in_an_epoch_is_augmented_in_two_ways() -> None:
    photo = np.random.default_rng(0).integers(0, 255, (1, SIZE, SIZE, 3), dtype=np.uint8)
    data = TrainingPhotos(
        photo, np.array([0]), np.array([1]), Augment(["flip", "affine", "brightness_contrast"], (SIZE, SIZE), 0)
    )
    assert len({data[1, draw, 0][0].tobytes() for draw in range(5)}) == 5
