"""One step's batches through the network and back; where memory runs out, in smaller pieces."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from ensemble_kit.errors import UsageError

LEAST = 2
"""Photos in a piece: a batch norm cannot learn from one."""


@dataclass(frozen=True)
class Batch:
    """A batch of a step.

    Attributes:
        number: within the epoch, from 0.
        share: of the step's photos that it holds.
    """

    photos: Tensor
    targets: Tensor
    number: int
    share: float


@dataclass
class Passes:
    """Adds up a step's gradient, batch by batch.

    When memory runs out, every batch goes through in twice as many pieces from then on, and the step begins again:
    the mean over the pieces, each by its share, is the mean over the batch, so steps and rates stay what they were.
    Only batch norms then see smaller batches.

    Args:
        back: (a batch, how many pieces) -> after the backward pass the mean loss of the batch.
        forget: drops the gradient that the step has so far.
        say: told in words when memory ran out.
        pieces: of a batch, now.
    """

    back: Callable[[Batch, int], Tensor]
    forget: Callable[[], None]
    say: Callable[[str], None]
    pieces: int = 1

    def add(self, step: list[Batch]) -> Tensor:
        """The last batch's gradient, to that of those before it; returns its mean loss.

        Raises:
            UsageError: memory runs out even with two photos at a time.
        """
        todo = step[-1:]
        while True:
            losses = self._tried(todo)
            if losses is not None:
                return losses[-1]
            # here, where the failed pass holds no memory any more
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            self._halve(max(len(batch.photos) for batch in step))
            self.forget()
            todo = step

    def _tried(self, batches: list[Batch]) -> list[Tensor] | None:
        try:
            return [self.back(batch, self.pieces) for batch in batches]
        except torch.OutOfMemoryError:
            return None

    def _halve(self, n_photos: int) -> None:
        pieces = 2 * self.pieces
        if n_photos // pieces < LEAST:
            raise UsageError(
                f"out of memory with {n_photos // self.pieces} photos at a time; choose a smaller size or backbone, "
                "precision bf16, or see what else uses the device"
            )
        self.pieces = pieces
        self.say(
            f"out of memory: from here on a batch of {n_photos} photos goes through in {pieces} pieces, whose "
            "gradients are added up, so that a step is over as many photos as before"
        )


def cut(n_photos: int, pieces: int) -> Iterator[slice]:
    """A batch in pieces of about the same size, each of two photos or more.

    Examples:
        >>> [(piece.start, piece.stop) for piece in cut(10, 4)]
        [(0, 2), (2, 5), (5, 7), (7, 10)]
        >>> len(list(cut(3, 4)))
        1
    """
    pieces = max(1, min(pieces, n_photos // LEAST))
    for i in range(pieces):
        yield slice(i * n_photos // pieces, (i + 1) * n_photos // pieces)
