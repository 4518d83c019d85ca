"""Signs that a training goes wrong, from its scores, in plain words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ensemble_kit.arrays import FloatArray, IntArray

STILL = 1e-3
"""A loss that stays within this share of itself has not moved."""

STILL_EPOCHS = 3
"""Scored epochs, from the first on, after which that is told."""


def only_answer(probs: FloatArray, truth: IntArray) -> int | None:
    """The class that every row of probabilities `(n_samples, n_classes)` answers; None where several are, or should be.

    Args:
        truth: `(n_samples,)` class numbers, -1 = not known.

    Examples:
        >>> probs = np.array([[0.2, 0.8], [0.4, 0.6]])
        >>> only_answer(probs, np.array([0, 1])), only_answer(probs, np.array([1, 1]))
        (1, None)
    """
    answers, known = np.unique(probs[truth >= 0].argmax(axis=1)), np.unique(truth[truth >= 0])
    return int(answers[0]) if len(answers) == 1 and len(known) > 1 else None


def has_stood_still(history: Sequence[Mapping[str, float | None]]) -> bool:
    """Whether the validation loss is where it was after the first scored epoch, and has been ever since.

    Examples:
        >>> [has_stood_still([{"val_loss": x} for x in losses]) for losses in ([1.1, 1.1], [1.1] * 3, [1.1, 0.9, 0.9])]
        [False, True, False]
    """
    losses = [line["val_loss"] for line in history]
    found = [loss for loss in losses if loss is not None]
    return len(found) >= STILL_EPOCHS and max(found) - min(found) <= STILL * max(found)
