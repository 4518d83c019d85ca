"""Batches of augmented photos, in this process or by workers, with the same bits either way."""

from __future__ import annotations

import re
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.sharedctypes import RawArray
from types import TracebackType
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, get_worker_info

from ensemble_kit.arrays import ByteArray, IntArray
from ensemble_kit.errors import DataError
from ensemble_kit.loading.sending import Getting, getting
from ensemble_kit.loading.transforms import Augment
from ensemble_kit.threads import available_cores

Key = tuple[int, int, int]
"""(epoch, draw, position): a sample drawn twice in an epoch is augmented in two ways."""


DIES = 2.0
"""Seconds in which a worker whose connection has broken off is found dead."""

HANGS = 300
"""Seconds for a batch after which a worker is taken to hang."""

LOST = re.compile(r"DataLoader (timed out|worker \(pid)")
"""What torch says of workers."""


MOST_WORKERS = 8
"""More than this many do not help one training: its own process is the limit then."""


def workers_for(asked: int | None, device: torch.device) -> int:
    """Processes that augment: as asked, else none on a CPU, which the steps fill, and on an accelerator the cores.

    Examples:
        >>> workers_for(3, torch.device("cpu")), workers_for(None, torch.device("cpu"))
        (3, 0)
    """
    if asked is not None:
        return asked
    return 0 if device.type == "cpu" else min(MOST_WORKERS, max(1, available_cores() - 1))


class TrainingPhotos(Dataset[tuple[ByteArray, IntArray]]):
    """Training photos by key: the epoch is part of it, so that workers may live through all epochs.

    Args:
        photos: `(n_photos, height, width, 3)` uint8, the whole cache.
        rows: `(n_samples,)` which of them are trained on.
        targets: `(n_samples,)` column numbers, or `(n_samples, n_heads)`.
    """

    def __init__(self, photos: ByteArray, rows: IntArray, targets: IntArray, augment: Augment):
        self.photos, self.rows, self.targets, self.augment = photos, rows, targets, augment

    def __reduce__(self) -> tuple[Any, ...]:
        """Workers that are no forks open the cache's file; its photos are not sent."""
        return _training_photos, (getting(self.photos), self.rows, self.targets, self.augment)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, key: Key) -> tuple[ByteArray, IntArray]:
        epoch, draw, position = key
        photo = np.asarray(self.photos[int(self.rows[position])])
        return self.augment(photo, epoch, draw), np.asarray(self.targets[position])


def _training_photos(how: Getting, *others: Any) -> TrainingPhotos:
    get, arguments = how
    return TrainingPhotos(get(*arguments), *others)


def collate(samples: Sequence[tuple[Any, IntArray]]) -> tuple[Tensor, Tensor]:
    """-> photos `(n, height, width, 3)` uint8 (or features), targets `(n,)` or `(n, n_heads)` int64."""
    photos = torch.from_numpy(np.stack([photo for photo, _ in samples]))
    return photos, torch.from_numpy(np.stack([target for _, target in samples]))


class EpochLoader:
    """Yields the batches of one epoch after the other; with workers, they start once and read ahead across epochs.

    Used as a context manager, whose end ends the workers, also those that hang.

    Args:
        data: the training photos, by key.
        batches: epoch -> its batches of positions.
        epochs: the epochs that will be asked for, in order.
        workers: processes that augment; 0 = this one.
        begin: batches of the first of these epochs that are left out.
        name: position -> the photo's file, for the message when a worker dies at it or hangs.
        pinned: batches lie in memory from which an accelerator copies while it computes.

    Raises:
        DataError: at the end of the block, in place of what torch raises when a worker died or hangs.
    """

    def __init__(
        self,
        data: Dataset[tuple[Any, IntArray]],
        batches: Callable[[int], list[IntArray]],
        epochs: Sequence[int],
        workers: int,
        begin: int = 0,
        name: Callable[[int], str] = str,
        pinned: bool = False,
    ):
        self._data, self._name, self._pinned = data, name, pinned
        self._keys = _Keys(batches, epochs, begin)
        self._stream: Iterator[Any] | None = None
        self._workers: list[Any] = []
        if workers > 0:
            self._at = RawArray("q", 2 * workers)
            loader = DataLoader(
                _Watched(data, self._at),
                batch_sampler=self._keys,
                num_workers=workers,
                collate_fn=collate,
                worker_init_fn=_start_worker,
                timeout=HANGS,
                pin_memory=pinned,
            )
            self._stream = iter(loader)
            self._workers = list(getattr(self._stream, "_workers", []))

    def __enter__(self) -> EpochLoader:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        told = self._of_worker() if self._is_lost(error) else None
        self.close()
        if told is not None:
            raise DataError(told) from error

    def epoch(self, number: int) -> Iterator[tuple[Tensor, Tensor]]:
        """The batches of epoch `number`."""
        for keys in self._keys.of(number):
            if self._stream is not None:
                yield self._from_worker(self._stream)
                continue
            photos, targets = collate([self._data[key] for key in keys])
            yield (photos.pin_memory(), targets.pin_memory()) if self._pinned else (photos, targets)

    def _from_worker(self, stream: Iterator[Any]) -> tuple[Tensor, Tensor]:
        """The next batch; what a worker says of a photo, without the traceback that torch puts before it."""
        try:
            photos, targets = next(stream)
        except DataError as error:
            last = str(error).strip().rpartition("\n")[2]
            raise DataError(last.partition("Error: ")[2] or last) from error
        return photos, targets

    def close(self) -> None:
        """Ends the workers."""
        self._stream = None
        for worker in self._workers:
            if worker.is_alive():
                worker.kill()
            worker.join()
        self._workers = []

    def _is_lost(self, error: BaseException | None) -> bool:
        """Whether the error is of a worker that died or hangs."""
        if isinstance(error, RuntimeError):
            return bool(self._workers) and LOST.match(str(error)) is not None
        if not isinstance(error, OSError | EOFError):
            return False
        # a batch that a dead worker sent before cannot be fetched from it any more; it may be just about to end
        end = time.monotonic() + DIES
        try:
            while time.monotonic() < end and self._workers:
                if any(not worker.is_alive() for worker in self._workers):
                    return True
                time.sleep(0.01)
        except RuntimeError as later:  # torch raises in a signal's handler when it hears that a worker died
            return LOST.match(str(later)) is not None
        return False

    def _of_worker(self) -> str:
        """Which photo the worker was at that died, or that has been at one for longest."""
        dead = [i for i, worker in enumerate(self._workers) if not worker.is_alive()]
        busy = [i for i in dead or range(len(self._workers)) if self._at[2 * i + 1]]
        first = min(busy, key=lambda i: self._at[2 * i + 1], default=None)
        photo = "between two photos" if first is None else f"at the photo {self._name(self._at[2 * first])}"
        how = f"died ({_ending(self._workers[dead[0]].exitcode)})" if dead else f"has hung for {HANGS} s"
        return (
            f"a loader worker {how} {photo}; look at it and at what augments it, or leave it out; "
            "the same command goes on from the last state that was saved, with --workers 0 in one process"
        )


def _ending(code: int) -> str:
    return signal.Signals(-code).name if code < 0 else f"exit code {code}"


class _Watched(Dataset[tuple[Any, IntArray]]):
    """The data, with a note for the parent of which photo each worker is at, and since when."""

    def __init__(self, data: Dataset[tuple[Any, IntArray]], at: Any):
        self.data, self.at = data, at

    def __getitem__(self, key: Key) -> tuple[Any, IntArray]:
        info = get_worker_info()
        place = 2 * (info.id if info is not None else 0)
        self.at[place], self.at[place + 1] = key[2], time.monotonic_ns()
        sample = self.data[key]
        self.at[place + 1] = 0
        return sample


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
    """One thread a worker: OpenCV's pool does not survive a fork.

    Signals sent to the whole group are the parent's to heed: it still needs the worker for the step it is in.
    """
    import cv2

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
