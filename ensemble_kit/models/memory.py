"""Memory that runs out while photos go through a network: fewer of them at a time from then on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import torch

from ensemble_kit.errors import UsageError

Found = TypeVar("Found")

TOLD = ("not enough memory", "can't allocate memory", "STATUS_ALLOC_FAILED")
"""What torch says on a CPU, and cuDNN and cuBLAS on a GPU, where they raise another error than torch's own."""

WAYS_OUT = "choose a smaller size or backbone, precision bf16, or see what else uses the device"


def ran_out(error: BaseException) -> bool:
    """Whether an error says that the memory of the device ran out.

    Examples:
        >>> ran_out(torch.OutOfMemoryError("CUDA out of memory")), ran_out(RuntimeError("shapes do not fit"))
        (True, False)
        >>> ran_out(RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"))
        True
    """
    is_told = isinstance(error, RuntimeError) and any(text in str(error) for text in TOLD)
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or is_told


@contextmanager
def told_of(doing: str) -> Iterator[None]:
    """Memory that runs out in the block becomes one line: nothing smaller could be done in its place.

    Args:
        doing: what the block does, in the passive: "mask, fold 0 was loaded".

    Raises:
        UsageError: in place of what torch raises.
    """
    try:
        yield
    except Exception as error:
        if not ran_out(error):
            raise
        raise UsageError(f"out of memory while {doing}; {WAYS_OUT}") from None


def tried(work: Callable[[], Found]) -> Found | None:
    """What the work returns; None where memory ran out.

    A function of its own, since the failed pass holds its memory for as long as its error is being handled.
    """
    try:
        return work()
    except Exception as error:
        if not ran_out(error):
            raise
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return None


@dataclass
class Fitting:
    """How many photos pass at a time where no gradient is wanted; each photo's answer is the same with any number.

    Args:
        say: told in words when memory ran out, once for each halving.
        most: photos that fit, as far as is known.
    """

    say: Callable[[str], None] | None = None
    most: int | None = None

    def each(self, n_photos: int, at_once: int, work: Callable[[slice], Found]) -> Iterator[Found]:
        """What `work` returns for each slice of the photos, in order; of half as many photos once memory ran out.

        Raises:
            UsageError: memory runs out with a single photo.
        """
        start = 0
        while start < n_photos:
            piece = slice(start, min(start + min(at_once, self.most or at_once), n_photos))
            found = tried(partial(work, piece))
            if found is None:
                self._halve(piece.stop - piece.start)
            else:
                yield found
                start = piece.stop

    def _halve(self, n_photos: int) -> None:
        if n_photos < 2:
            raise UsageError(f"out of memory with 1 photo at a time; {WAYS_OUT}")
        self.most = n_photos // 2
        if self.say is not None:
            self.say(
                f"out of memory with {n_photos} photos at a time: from here on {self.most} at a time are answered, "
                "with the same answers"
            )
