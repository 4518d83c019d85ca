"""Votes on a million samples against the plain code, as ratios within one run; exit code 1 when a limit is missed.

python tests/benchmarks/votes.py [--rows 1000000]

The plain codes: scikit-learn's inner vote (VotingClassifier.predict of a hard vote), and for probabilities argmax and
a count by class in plain vectorised numpy, ties of the votes broken by the mean probability as here. The plain mean
knows no voter that abstains and sees all rows at once: that the soft vote does costs up to five times at 3 classes.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from shared import Report, options, over, seconds, turn_about

from ensemble_kit.voting import vote_hard, vote_labels, vote_soft

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


def main(argv: Sequence[str] | None = None) -> int:
    parser = options(__doc__, 5)
    parser.add_argument("--rows", type=int)
    given = parser.parse_args(argv)
    report = Report(__file__, given)
    n_rows = given.rows or (10_000 if given.quick else 1_000_000)
    random = np.random.default_rng(0)
    truth = random.integers(N_CLASSES, size=n_rows)
    wrong = random.integers(N_CLASSES, size=(N_VOTERS, n_rows))
    labels = np.where(random.random((N_VOTERS, n_rows)) < 0.7, truth, wrong)
    by_row = np.ascontiguousarray(labels.T)
    weights = np.array([1.0, 2.0, 1.5, 1.0, 0.5])
    if not np.array_equal(vote_labels(labels, N_CLASSES).labels, sklearn_hard(by_row)):
        raise SystemExit("hard vote of labels: other labels than scikit-learn's")
    probs, few = (random_probs(random, n_rows, n_classes) for n_classes in (N_CLASSES, 3))
    ones = np.ones(N_VOTERS)

    def compare(name: str, plain: Callable[[], object], own: Callable[[], object], limit: float, rounds: int) -> None:
        own()
        took = turn_about({"plain": partial(seconds, plain), "own": partial(seconds, own)}, rounds)
        note = f"{statistics.median(took['own']) * 1e3:.0f} ms"
        report.add(f"{name}, times as fast", over(took["plain"], took["own"]), least=limit, note=note)

    slow = min(3, report.rounds)
    compare(
        f"hard vote of labels, {N_VOTERS} voters, {N_CLASSES} classes / scikit-learn",
        lambda: sklearn_hard(by_row),
        lambda: vote_labels(labels, N_CLASSES),
        50,
        slow,
    )
    compare(
        "the same with weights / scikit-learn",
        lambda: sklearn_hard(by_row, weights),
        lambda: vote_labels(labels, N_CLASSES, weights),
        10,
        slow,
    )
    for name, found, hard_least, soft_least in (("3 classes", few, 1, 0.2), ("18 classes", probs, 1, 0.5)):
        hard = partial(plain_hard, found), partial(vote_hard, found, ones)
        compare(f"hard vote of probabilities, {name} / numpy", *hard, hard_least, report.rounds)
        soft = partial(plain_soft, found), partial(vote_soft, found, ones)
        compare(f"soft vote, {name} / numpy", *soft, soft_least, report.rounds)
    return report.end()


def random_probs(random: np.random.Generator, n_rows: int, n_classes: int) -> NDArray[np.float32]:
    probs = random.random((N_VOTERS, n_rows, n_classes), dtype=np.float32)
    return np.asarray(probs / probs.sum(axis=2, keepdims=True))


if __name__ == "__main__":
    sys.exit(main())
