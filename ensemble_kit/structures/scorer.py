"""From labels to scores with intervals over people."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ensemble_kit.arrays import FloatArray, IdArray, IntArray
from ensemble_kit.metrics import METRICS, accuracy, macro_f1
from ensemble_kit.structure_report import Score
from ensemble_kit.structures.people import People, interval

Draws = dict[str, FloatArray]


class Scorer:
    """Scores of answers to the same photos; several answers (checkpoints used alone) give their mean score.

    Args:
        groups: `(n_samples,)` whose photo it is; None = no intervals.
        n_boot: draws of people.
        seed: of the draws.
    """

    def __init__(self, groups: IdArray | None, n_boot: int, seed: int):
        self.people = None if groups is None else People(groups, n_boot, seed)

    def score(self, truth: IntArray, labels: Sequence[IntArray], n_classes: int) -> Score:
        """The mean over the answers of accuracy and macro F1.

        Args:
            truth: `(n_samples,)` class numbers.
            labels: answers, each `(n_samples,)` class numbers, -1 = abstained = wrong.
            n_classes: of the attribute or of the joint.
        """
        draws = self.draws(truth, labels, n_classes)
        return Score(
            float(np.mean([accuracy(truth, given, n_classes) for given in labels])),
            float(np.mean([macro_f1(truth, given, n_classes) for given in labels])),
            None if draws is None else interval(draws["accuracy"]),
            None if draws is None else interval(draws["macro_f1"]),
        )

    def draws(self, truth: IntArray, labels: Sequence[IntArray], n_classes: int) -> Draws | None:
        """Each metric in each draw of people `(n_boot,)`, the mean over the answers taken within the draw."""
        if self.people is None:
            return None
        each = [self.people.scores(truth, given, n_classes) for given in labels]
        return {name: np.mean([scores[name] for scores in each], axis=0) for name in METRICS}
