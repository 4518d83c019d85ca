"""The scores of an epoch, from the probabilities of the held-out photos."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ensemble_kit.arrays import FloatArray, IntArray
from ensemble_kit.metrics import accuracy, macro_f1

SCORES = ("val_loss", "accuracy", "macro_f1")


def scores(probs: FloatArray, truth: IntArray, possible: IntArray) -> dict[str, float]:
    """Mean cross entropy, accuracy and macro F1 of probabilities `(n_samples, n_classes)`.

    Args:
        truth: `(n_samples,)` class numbers; rows of -1 are left out.
        possible: `(n_possible,)` the classes that the macro F1 is the mean of; a label outside them is wrong.
    """
    probs, truth = probs[truth >= 0], truth[truth >= 0]
    likelihood = probs[np.arange(len(truth)), truth].astype(np.float64)
    place = np.full(probs.shape[1], -1, dtype=np.int64)
    place[possible] = np.arange(len(possible))
    truth, labels, n_classes = place[truth], place[probs.argmax(axis=1)], len(possible)
    return {
        "val_loss": float(-np.log(np.maximum(likelihood, np.finfo(np.float32).tiny)).mean()),
        "accuracy": accuracy(truth, labels, n_classes),
        "macro_f1": macro_f1(truth, labels, n_classes),
    }


def mean_scores(each: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The mean over several heads."""
    return {name: sum(head[name] for head in each) / len(each) for name in SCORES}


def out_of_patience(scores: Sequence[float], patience: int) -> bool:
    """Whether the last `patience` scores in a row are no better than the best one before them; 0 waits forever.

    Examples:
        >>> [out_of_patience([0.5, 0.75, 0.75, 0.5], patience) for patience in (0, 1, 2, 3)]
        [False, True, True, False]
    """
    return 0 < patience < len(scores) and max(scores[-patience:]) <= max(scores[:-patience])
