"""What a search may claim: the trial with the highest score was chosen by that very score, so it is too high."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ensemble_kit.arrays import FloatArray, IdArray, IntArray
from ensemble_kit.diagnosis.simultaneous import simultaneous
from ensemble_kit.metrics import METRICS, Drawn, Tally, View
from ensemble_kit.structure_report import Gain, Interval
from ensemble_kit.structures.scorer import Scorer

METRIC = "macro_f1"
N_BOOT = 1000
SPLITS = 200
BLOCK = 20
"""Divisions in two halves that are counted at once: bounds memory."""


@dataclass(frozen=True)
class Halves:
    """Means over divisions of the people in two halves: the trial that scores highest on one, scored on the other.

    Attributes:
        chosen: that trial's score on the other half.
        first: trial 0's score there.
    """

    chosen: float
    first: float
    n_splits: int

    @property
    def gain(self) -> float:
        return self.chosen - self.first


def gains(
    truth: IntArray, labels: Sequence[IntArray], people: IdArray, n_classes: int, *, seed: int = 0
) -> tuple[list[Interval | None], list[Gain]]:
    """The 95 % interval of each trial's score over people, and each later trial's gain over the first.

    The gains' intervals hold for all whole trials minus trial 0 at once, with probability 0.95, so for the best too.

    Args:
        truth, people: `(n_samples,)`.
        labels: of each trial `(n_samples,)`, the first one's first.
    """
    tallies = {number: [Tally(truth, found, [View.all(n_classes)])] for number, found in enumerate(labels)}
    measured = [found[0] for found in Scorer(people, N_BOOT, seed).measure(tallies).values()]
    first, others = measured[0], measured[1:]
    values = [found.values[METRIC] - first.values[METRIC] for found in others]
    draws = [found.gain_over(first, METRIC) for found in others]
    known = [draw for draw in draws if draw is not None]
    between = simultaneous(values, known, [max(2, len(np.unique(people)))] * len(values))
    gained = [Gain(value, interval) for value, interval in zip(values, between, strict=True)]
    return [found.score().macro_f1_interval for found in measured], gained


def on_halves(
    truth: IntArray,
    labels: Sequence[IntArray],
    people: IdArray,
    n_classes: int,
    *,
    n_splits: int = SPLITS,
    seed: int = 0,
) -> Halves:
    """Chooses on half of the people and scores on the other half, each half in both parts.

    Honest about choosing, though not about what is chosen: half of the people choose worse than all, and which epoch
    was kept may have been chosen on all of them.
    """
    names, person = np.unique(np.asarray(people).astype(np.str_), return_inverse=True)
    tallies = [Tally(truth, found, [View.all(n_classes)]) for found in labels]
    random = np.random.default_rng(seed)
    chosen: list[FloatArray] = []
    first: list[FloatArray] = []
    for start in range(0, n_splits, BLOCK):
        n = min(BLOCK, n_splits - start)
        in_one = np.stack([random.permutation(len(names)) < len(names) // 2 for _ in range(n)])[:, person]
        one, other = (_scores(tallies, half) for half in (in_one, ~in_one))
        for by, on in ((one, other), (other, one)):
            chosen.append(on[by.argmax(axis=0), np.arange(n)])
            first.append(on[0])
    return Halves(float(np.mean(np.concatenate(chosen))), float(np.mean(np.concatenate(first))), n_splits)


def _scores(tallies: Sequence[Tally], inside: np.ndarray[Any, Any]) -> FloatArray:
    """Macro F1 `(n_trials, n_halves)` on the photos inside each half `(n_halves, n_samples)`."""
    drawn, metric = Drawn(inside.astype(np.int64)), list(METRICS).index(METRIC)
    return np.stack([tally.scores(drawn)[0, metric] for tally in tallies])
