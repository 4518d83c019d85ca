"""Scores on resampled people, with draws that several answers share, so that their differences are paired."""

from __future__ import annotations

import numpy as np

from ensemble_kit.arrays import BoolArray, FloatArray, IdArray, IntArray
from ensemble_kit.errors import DataError
from ensemble_kit.metrics import METRICS

BLOCK = 100
"""Draws at a time: 10^5 people are 80 MB of counts."""


class People:
    """How often each person is drawn, `n_boot` times over; the same draws as `metrics.person_bootstrap`.

    Args:
        groups: `(n_samples,)` whose photo it is.
        n_boot: draws.
        seed: of the draws.
    """

    def __init__(self, groups: IdArray, n_boot: int, seed: int):
        if not len(groups) or n_boot < 1:
            raise DataError(f"bootstrap: expected photos and at least one draw, found {len(groups)} and {n_boot}")
        names, person = np.unique(groups, return_inverse=True)
        self.n_people, self.n_boot = len(names), n_boot
        self._person: IntArray = person.astype(np.int64)
        random = np.random.default_rng(seed)
        shares = np.full(self.n_people, 1 / self.n_people)
        sizes = [min(BLOCK, n_boot - start) for start in range(0, n_boot, BLOCK)]
        blocks = [random.multinomial(self.n_people, shares, size=size) for size in sizes]
        self._drawn = [block.astype(np.uint8 if block.max() < 256 else np.int64) for block in blocks]

    def scores(self, truth: IntArray, labels: IntArray, n_classes: int) -> dict[str, FloatArray]:
        """Each metric in each draw, `(n_boot,)`; a label of -1 counts as wrong.

        Args:
            truth: `(n_samples,)` class numbers.
            labels: `(n_samples,)` class numbers or -1.
            n_classes: of the attribute or of the joint.
        """
        pieces = [(truth, labels == truth), (truth, truth >= 0), (labels, labels >= 0)]
        tally = np.concatenate([self._tally(classes, count, n_classes) for classes, count in pieces], axis=1)
        total = np.concatenate([block.astype(np.float64) @ tally for block in self._drawn]).reshape(-1, 3, n_classes)
        return {name: metric(total[:, 0], total[:, 1], total[:, 2]) for name, metric in METRICS.items()}

    def _tally(self, classes: IntArray, count: BoolArray, n_classes: int) -> FloatArray:
        """Photos of each person by class, `(n_people, n_classes)`, those counted where `count` is true."""
        cells = np.bincount(self._person[count] * n_classes + classes[count], minlength=self.n_people * n_classes)
        return cells.reshape(self.n_people, n_classes).astype(np.float64)


def interval(scores: FloatArray) -> tuple[float, float]:
    """The 95 % percentile interval of the draws' scores."""
    low, high = np.percentile(scores, [2.5, 97.5])
    return float(low), float(high)
