"""The rule: the simplest structure that no other one is shown to beat."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ensemble_kit.arrays import FloatArray
from ensemble_kit.diagnosis.simultaneous import student

LEVEL = 0.95
"""That a structure which is as good as every other one is not passed over."""


@dataclass(frozen=True)
class Chosen:
    """What the rule found.

    Attributes:
        number: the structure's, in the order of simplicity.
        beaten_by: for each simpler one, in that order, the structure that beat it most clearly.
    """

    number: int
    beaten_by: tuple[int, ...]


def choose_simplest(scores: FloatArray, draws: FloatArray, n_people: int, level: float = LEVEL) -> Chosen:
    """The first structure that none of the others beats, beyond what the best of so many would show by chance.

    Of each structure in turn it is asked whether the highest of the others' studentised gains over it is more than the
    `level` quantile of what that highest one would be were all as good as it is: the test of superior predictive
    ability (White 2000; Hansen 2005), with draws of people in place of a block bootstrap. As in Hansen's, structures
    far below the one in question take no part in the quantile. The quantile is widened for few people from the normal
    to the t distribution.

    Args:
        scores: `(n_structures,)`, the simplest first.
        draws: `(n_structures, n_boot)` their scores in the same draws of people.
        n_people: that were drawn from, at least 2.

    Examples:
        >>> noise = np.random.default_rng(0).normal(scale=0.01, size=(3, 500))
        >>> choose_simplest(np.array([0.50, 0.52, 0.70]), np.array([[0.50], [0.52], [0.70]]) + noise, 100)
        Chosen(number=2, beaten_by=(2, 2))
        >>> choose_simplest(np.array([0.50, 0.52, 0.51]), np.array([[0.50], [0.52], [0.51]]) + noise, 100)
        Chosen(number=0, beaten_by=())
    """
    beaten_by: list[int] = []
    hopeless = -math.sqrt(2 * math.log(math.log(max(n_people, 16))))
    for number in range(len(scores)):
        gains = draws - draws[number]
        spread = gains.std(axis=1, ddof=1) * math.sqrt(n_people / (n_people - 1))
        differs = spread > 0
        away = np.divide(gains - gains.mean(axis=1, keepdims=True), spread[:, None], where=differs[:, None], out=gains)
        clear = np.divide(scores - scores[number], spread, where=differs, out=np.zeros(len(scores)))
        rivals = differs & (clear > hopeless)
        if not rivals.any():
            return Chosen(number, tuple(beaten_by))
        quantile = float(np.quantile(away[rivals].max(axis=0), level))
        best = int(clear.argmax())
        if clear[best] <= student(max(quantile, 0.0), n_people - 1):
            return Chosen(number, tuple(beaten_by))
        beaten_by.append(best)
    raise AssertionError("the structure with the highest score is beaten by none")
