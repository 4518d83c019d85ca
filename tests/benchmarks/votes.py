"""Votes on a million samples against the plain code, as ratios within one run; exit code 1 when a limit is missed.

python tests/benchmarks/votes.py [ROWS]

The plain codes: scikit-learn's inner vote (VotingClassifier.predict of a hard vote), and for probabilities argmax and
a count by class in plain vectorised numpy, ties of the votes broken by the mean probability as here. The plain mean
knows no voter that abstains and sees all rows at once: that the soft vote does costs up to five times at 3 classes.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ensemble_kit.voting import vote_hard, vote_labels, vote_soft

ROUNDS = 5
N_VOTERS, N_CLASSES = 5, 18

Floats = NDArray[np.floating[Any]]


def sklearn_hard(labels: NDArray[np.int64], weights: Floats | None = None) -> NDArray[np.int64]:
    """sklearn/ensemble/_voting.py, VotingClassifier.predict; labels `(n_samples, n_voters)`."""
    return np.asarray(np.apply_along_axis(lambda x: np.argmax(np.bincount(x, weights=weights)), axis=1, arr=labels))


def plain_hard(probs: Floats) -> Floats:
    votes = np.eye(probs.shape[2])[probs.argmax(axis=2)].sum(axis=0)
    share = votes + 1e-3 * probs.sum(axis=0, dtype=np.float64)
    return np.asarray(share / share.sum(axis=1, keepdims=True))


def plain_soft(probs: Floats) -> Floats:
    return np.asarray(probs.mean(axis=0, dtype=np.float64))


def seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def compare(name: str, plain: Callable[[], object], own: Callable[[], object], limit: float, rounds: int) -> bool:
    """A B A B, so that a slow minute hits both."""
    own()
    pairs = [(seconds(plain), seconds(own)) for _ in range(rounds)]
    ratios = sorted(a / b for a, b in pairs)
    ratio = statistics.median(ratios)
    took = statistics.median(b for _, b in pairs)
    print(
        f"{name}: {ratio:.1f} x plain [{ratios[0]:.1f}, {ratios[-1]:.1f}] ({took * 1e3:.0f} ms), "
        f"limit {limit:g}{'' if ratio >= limit else ': MISSED'}"
    )
    return ratio >= limit


def main() -> int:
    n_rows = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    random = np.random.default_rng(0)
    truth = random.integers(N_CLASSES, size=n_rows)
    wrong = random.integers(N_CLASSES, size=(N_VOTERS, n_rows))
    labels = np.where(random.random((N_VOTERS, n_rows)) < 0.7, truth, wrong)
    by_row = np.ascontiguousarray(labels.T)
    weights = np.array([1.0, 2.0, 1.5, 1.0, 0.5])
    if not np.array_equal(vote_labels(labels, N_CLASSES).labels, sklearn_hard(by_row)):
        print("hard vote of labels: other labels than scikit-learn's")
        return 1
    probs = random.random((N_VOTERS, n_rows, N_CLASSES), dtype=np.float32)
    probs /= probs.sum(axis=2, keepdims=True)
    few = random.random((N_VOTERS, n_rows, 3), dtype=np.float32)
    few /= few.sum(axis=2, keepdims=True)
    ones = np.ones(N_VOTERS)
    good = [
        compare(
            "hard vote of labels, 5 voters, 18 classes",
            lambda: sklearn_hard(by_row),
            lambda: vote_labels(labels, N_CLASSES),
            50,
            3,
        ),
        compare(
            "the same with weights",
            lambda: sklearn_hard(by_row, weights),
            lambda: vote_labels(labels, N_CLASSES, weights),
            10,
            3,
        ),
        compare(
            "hard vote of probabilities, 3 classes", lambda: plain_hard(few), lambda: vote_hard(few, ones), 1, ROUNDS
        ),
        compare("the same, 18 classes", lambda: plain_hard(probs), lambda: vote_hard(probs, ones), 1, ROUNDS),
        compare("soft vote, 3 classes", lambda: plain_soft(few), lambda: vote_soft(few, ones), 0.2, ROUNDS),
        compare("the same, 18 classes", lambda: plain_soft(probs), lambda: vote_soft(probs, ones), 0.5, ROUNDS),
    ]
    return 0 if all(good) else 1


if __name__ == "__main__":
    sys.exit(main())
