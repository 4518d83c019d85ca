"""Batches of augmented photos, in this process or by workers, with the same bits either way."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from ensemble_kit.arrays import ByteArray, IntArray
from ensemble_kit.loading.transforms import Augment

Key = tuple[int, int, int]
"""(epoch, draw, position): a sample drawn twice in an epoch is augmented in two ways."""


class TrainingPhotos(Dataset[tuple[ByteArray, IntArray]]):
    """Training photos by key: the epoch is part of it, so that workers may live through all epochs.

    Args:
        photos: `(n_photos, height, width, 3)` uint8, the whole cache.
        rows: `(n_samples,)` which of them are trained on.
        targets: `(n_samples,)` column numbers, or `(n_samples, n_heads)`.
    """

    def __init__(self, photos: ByteArray, rows: IntArray, targets: IntArray, augment: Augment):
        self.photos, self.rows, self.targets, self.augment = photos, rows, targets, augment

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, key: Key) -> tuple[ByteArray, IntArray]:
        epoch, draw, position = key
        photo = np.asarray(self.photos[int(self.rows[position])])
        return self.augment(photo, epoch, draw), np.asarray(self.targets[position])


def collate(samples: Sequence[tuple[Any, IntArray]]) -> tuple[Tensor, Tensor]:
    """-> photos `(n, height, width, 3)` uint8 (or features), targets `(n,)` or `(n, n_heads)` int64."""
    photos = torch.from_numpy(np.stack([photo for photo, _ in samples]))
    return photos, torch.from_numpy(np.stack([target for _, target in samples]))


class EpochLoader:
    """Yields the batches of one epoch after the other; with workers, they start once and read ahead across epochs.

    Args:
        data: the training photos, by key.
        batches: epoch -> its batches of positions.
        epochs: the epochs that will be asked for, in order.
        workers: processes that augment; 0 = this one.
        begin: batches of the first of these epochs that are left out.
    """

    def __init__(
        self,
        data: Dataset[tuple[Any, IntArray]],
        batches: Callable[[int], list[IntArray]],
        epochs: Sequence[int],
        workers: int,
        begin: int = 0,
    ):
        self._data = data
        self._keys = _Keys(batches, epochs, begin)
        self._stream: Iterator[Any] | None = None
        if workers > 0:
            loader = DataLoader(
                data,
                batch_sampler=self._keys,
                num_workers=workers,
                collate_fn=collate,
                worker_init_fn=_start_worker,
            )
            self._stream = iter(loader)

    def epoch(self, number: int) -> Iterator[tuple[Tensor, Tensor]]:
        """The batches of epoch `number`."""
        for keys in self._keys.of(number):
            yield next(self._stream) if self._stream is not None else collate([self._data[key] for key in keys])

    def close(self) -> None:
        """Ends the workers."""
        self._stream = None


class _Keys:
    """The batches of all epochs as one sequence of lists of keys."""

    def __init__(self, batches: Callable[[int], list[IntArray]], epochs: Sequence[int], begin: int = 0):
        self._batches, self._epochs, self._begin = batches, epochs, begin

    def __iter__(self) -> Iterator[list[Key]]:
        for epoch in self._epochs:
            yield from self.of(epoch)

    def of(self, epoch: int) -> Iterator[list[Key]]:
        """Those of one epoch; of the first one without the batches that are left out."""
        begin = self._begin if epoch == self._epochs[0] else 0
        draw = 0
        for number, positions in enumerate(self._batches(epoch)):
            if number >= begin:
                yield [(epoch, draw + i, int(position)) for i, position in enumerate(positions)]
            draw += len(positions)


def _start_worker(number: int) -> None:  # noqa: ARG001
    """One thread a worker: OpenCV's pool does not survive a fork."""
    import cv2

    cv2.setNumThreads(0)
    torch.set_num_threads(1)
