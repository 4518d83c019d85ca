"""Which trials are not worth their further folds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Protocol

from ensemble_kit.errors import UsageError, nearest


class Pruner(Protocol):
    """Says why a trial should end after a fold, or None.

    Args:
        score: on the photos held out so far.
        earlier: of each whole trial of the batches before, the score on those same photos.
    """

    def __call__(self, score: float, earlier: Sequence[float]) -> str | None: ...


def never(score: float, earlier: Sequence[float]) -> str | None:  # noqa: ARG001
    """Every trial trains all of its folds."""
    return None


def below_median(score: float, earlier: Sequence[float]) -> str | None:
    """Below the median of the trials before, on the same photos (Golovin et al. 2017, Google Vizier).

    Examples:
        >>> below_median(0.4, [0.3, 0.5, 0.6]), below_median(0.5, [0.3, 0.5, 0.6])
        ('0.400 is below the median, 0.500', None)
    """
    middle = median(earlier)
    return f"{score:.3f} is below the median, {middle:.3f}" if score < middle else None


PRUNERS: Mapping[str, Pruner] = {"median": below_median, "none": never}


def find_pruner(name: str) -> Pruner:
    """Raises UsageError when there is no such pruner."""
    if name not in PRUNERS:
        raise UsageError(f'no pruner "{name}"{nearest(name, PRUNERS)}')
    return PRUNERS[name]
