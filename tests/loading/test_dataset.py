"""Batches: the same tensors with any number of workers."""

from __future__ import annotations

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
