"""One step's batches through the network and back; where memory runs out, in smaller pieces."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

from torch import Tensor

from ensemble_kit.errors import UsageError
from ensemble_kit.models.memory import WAYS_OUT, Found, tried

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
        return self._through(step[-1:], step)[-1]

    def close(self, step: list[Batch], move: Callable[[], None], take_back: Callable[[], bool]) -> None:
        """Moves the weights by a step's gradient; where memory runs out in that, the step begins again in pieces.

        Args:
            step: its batches, whose gradient is there.
            move: takes the step.
            take_back: undoes what a step that was broken off has done to weights and optimiser; False = it cannot.

        Raises:
            UsageError: memory runs out even with two photos at a time, or it cannot be taken back.
        """
        while tried(partial(_done, move)) is None:
            if not take_back():
                raise UsageError(
                    f"out of memory in a step of the optimiser; {WAYS_OUT}; the same command goes on from the last "
                    "state that was saved"
                )
            self._begin_again(step)

    def _through(self, todo: list[Batch], step: list[Batch]) -> list[Tensor]:
        while True:
            losses = tried(partial(self._back, todo))
            if losses is not None:
                return losses
            self._halve(max(len(batch.photos) for batch in step))
            self.forget()
            todo = step

    def _begin_again(self, step: list[Batch]) -> None:
        self._halve(max(len(batch.photos) for batch in step))
        self.forget()
        self._through(step, step)

    def fitted(self, work: Callable[[], Found], n_photos: int) -> Found:
        """What the work returns, which takes batches of `n_photos` in these pieces; begun anew where memory runs out.

        Raises:
            UsageError: memory runs out even with two photos at a time.
        """
        while True:
            found = tried(work)
            if found is not None:
                return found
            self._halve(n_photos)

    def _back(self, batches: list[Batch]) -> list[Tensor]:
        return [self.back(batch, self.pieces) for batch in batches]

    def _halve(self, n_photos: int) -> None:
        pieces = 2 * self.pieces
        if n_photos // pieces < LEAST:
            raise UsageError(f"out of memory with {n_photos // self.pieces} photos at a time; {WAYS_OUT}")
        self.pieces = pieces
        self.say(
            f"out of memory: from here on a batch of {n_photos} photos goes through in {pieces} pieces, whose "
            "gradients are added up, so that a step is over as many photos as before"
        )


def _done(move: Callable[[], None]) -> bool:
    move()
    return True


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
