"""What the known scores say about each photo: the maximum-entropy guess at the truth."""

from __future__ import annotations

import numpy as np

from ensemble_kit.arrays import FloatArray, IntArray

MAX_STEPS, MAX_STEP, TOLERANCE = 200, 1.0, 1e-8


def truth_shares(labels: IntArray, accuracies: FloatArray, n_classes: int) -> tuple[FloatArray, bool]:
    """How probable each submission's label is on each photo.

    Of all distributions over the classes of each photo in which every submission is right as often as its score says,
    the one of the highest entropy (E. T. Jaynes, 1957): `P(class | photo) ~ exp(sum of weight_k over the submissions k
    that say so)`, one weight a submission, found by Newton's method. Two copies of one submission share one weight, so
    they count once.

    Args:
        labels: `(n_known, n_samples)` class numbers.
        accuracies: `(n_known,)` shares of right labels, inside 0 to 1.

    Returns:
        probs `(n_samples, n_classes)`, and whether the scores were met (they need not be possible together).

    Examples:
        >>> probs, met = truth_shares(np.array([[0, 1, 1, 0], [0, 1, 0, 1]]), np.array([0.75, 0.5]), 2)
        >>> met, probs[:, 0].round(2).tolist()
        (True, [0.75, 0.25, 0.25, 0.75])
    """
    patterns, inverse, counts = np.unique(labels.T, axis=0, return_inverse=True, return_counts=True)
    shares = counts / counts.sum()
    says = patterns[:, :, None] == np.arange(n_classes)
    same = patterns[:, :, None] == patterns[:, None, :]
    weights = np.ones(len(labels))
    met = False
    for _ in range(MAX_STEPS):
        probs = _softmax((weights[None, :, None] * says).sum(axis=1))
        right = np.take_along_axis(probs, patterns, axis=1)
        gap = (shares[:, None] * right).sum(axis=0) - accuracies
        met = bool(np.abs(gap).max() < TOLERANCE)
        if met:
            break
        covariance = right[:, :, None] * same - right[:, :, None] * right[:, None, :]
        slope = (shares[:, None, None] * covariance).sum(axis=0) + 1e-9 * np.eye(len(weights))
        weights = weights - np.clip(np.linalg.solve(slope, gap), -MAX_STEP, MAX_STEP)
    return probs[inverse.ravel()], met


def _softmax(scores: FloatArray) -> FloatArray:
    powers = np.exp(scores - scores.max(axis=1, keepdims=True))
    result: FloatArray = powers / powers.sum(axis=1, keepdims=True)
    return result
