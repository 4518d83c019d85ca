"""Which prior mixes the classes' known moments into the unlabelled photos', and how far chance moves that prior.

For any function g of a photo's probabilities and under label shift

    mean of g over the unlabelled photos = sum_k prior_k * (mean of g over reference photos of class k),

whether the probabilities are calibrated or not, and the right side is counted, not supposed. With g = the label this is
black-box shift estimation (Lipton, Wang & Smola 2018). Here g = the probabilities under EM's prior: that is EM's own
fixed point with the counted means in place of those that calibrated probabilities would have, so it is as sharp as EM
and not biased by over-confidence. g need not be redrawn with the photos: whatever it is, the equation holds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ensemble_kit.arrays import FloatArray, IdArray, IntArray
from ensemble_kit.shift.em import reweigh

BLOCK_NUMBERS = 2**21
"""Weights of people in one block of draws: 16 MB, whatever the number of people."""


@dataclass(frozen=True, eq=False)
class Photos:
    """Photos in an order of their own, so that the order they came in changes nothing.

    Attributes:
        probs: `(n_samples, n_classes)` float64.
        truth: `(n_samples,)` class numbers; all 0 where unlabelled.
        person: `(n_samples,)` numbers of the people, or of the photos where no people are known.
        n_people: how many.
    """

    probs: FloatArray
    truth: IntArray
    person: IntArray
    n_people: int

    @classmethod
    def sorted(cls, probs: FloatArray, truth: IntArray | None, groups: IdArray | None) -> Photos:
        """Photos by person, class and probabilities; without groups every photo is a person."""
        values = np.asarray(probs).astype(np.float64)
        true = np.zeros(len(values), dtype=np.int64) if truth is None else truth
        person = np.zeros(len(values), dtype=np.int64)
        if groups is not None:
            person = np.unique(groups, return_inverse=True)[1].astype(np.int64)
        order = np.lexsort((*values.T, true, person))
        own = person[order] if groups is not None else np.arange(len(values), dtype=np.int64)
        return cls(values[order], true[order], own, int(own[-1]) + 1 if len(own) else 0)

    def people_of(self, n_classes: int) -> IntArray:
        """People with a photo of each class, `(n_classes,)`."""
        pairs = np.unique(self.person * n_classes + self.truth)
        return np.bincount(pairs % n_classes, minlength=n_classes).astype(np.int64)


def drawn_sums(features: FloatArray, photos: Photos, n_classes: int, n_boot: int, seed: tuple[int, ...]) -> FloatArray:
    """Sums of the features by true class, `(1 + n_boot, n_classes, n_features)`; row 0 counts everyone once.

    In the other rows each person counts as often as an exponential number says (the Bayesian bootstrap, Rubin 1981):
    the spread of the ordinary one, but no draw is without a rare class. Photos of a person stay together.
    """
    pairs, place = np.unique(photos.person * n_classes + photos.truth, return_inverse=True)
    sums = np.stack([np.bincount(place, weights=column, minlength=len(pairs)) for column in features.T], axis=1)
    person, of_class = pairs // n_classes, pairs % n_classes
    total = np.zeros((1 + n_boot, n_classes, features.shape[1]))
    random = np.random.default_rng(seed)
    size = max(1, BLOCK_NUMBERS // (1 + n_boot))
    for start in range(0, photos.n_people, size):
        stop = min(start + size, photos.n_people)
        times = np.ones((1 + n_boot, stop - start))
        times[1:] = random.standard_exponential((n_boot, stop - start))
        first, last = np.searchsorted(person, [start, stop])
        for number in range(n_classes):
            rows = first + np.flatnonzero(of_class[first:last] == number)
            total[:, number] += times[:, person[rows] - start] @ sums[rows]
    return total


@dataclass(frozen=True, eq=False)
class Moments:
    """Means of features, in the data (row 0) and in the draws.

    Attributes:
        target: `(1 + n_boot, n_features)` over the unlabelled photos.
        known: `(1 + n_boot, n_classes, n_features)` over the reference photos of each class.
        shares: `(1 + n_boot, n_classes)` of the classes among the reference photos.
    """

    target: FloatArray
    known: FloatArray
    shares: FloatArray


def count_moments(
    feature: Callable[[FloatArray], FloatArray], target: Photos, reference: Photos, n_boot: int, seed: int
) -> Moments:
    """Of `feature(probs (n_samples, n_classes)) -> (n_samples, n_features)`; needs a photo of every class."""
    n_classes = target.probs.shape[1]
    mean = _means(drawn_sums(_with_one(feature(target.probs)), target, 1, n_boot, (seed, 0)))
    sums = drawn_sums(_with_one(feature(reference.probs)), reference, n_classes, n_boot, (seed, 1))
    counts = sums[:, :, -1]
    return Moments(mean[:, 0], _means(sums), counts / counts.sum(axis=1, keepdims=True))


def supposed_moments(anchor: FloatArray, training_prior: FloatArray, target: Photos, n_boot: int, seed: int) -> Moments:
    """As `count_moments` of the probabilities under `anchor`, the classes' means as calibrated probabilities have them.

    What is left without labels. Solving for the prior is then EM to the first order: the derivative of EM's step at its
    fixed point is 1 - (means of the classes) transposed.
    """
    under = reweigh(target.probs, anchor / training_prior)
    mean = _means(drawn_sums(_with_one(under), target, 1, n_boot, (seed, 0)))[:, 0]
    known = (under.T @ under) / under.sum(axis=0)[:, None]
    every = np.broadcast_to(known, (1 + n_boot, *known.shape))
    return Moments(mean, every, np.broadcast_to(training_prior, mean.shape))


def solve_prior(moments: Moments, n_classes: int) -> FloatArray:
    """The priors `(1 + n_boot, n_classes)` that mix the first n_classes features; they sum to 1 but may be negative.

    Kept so: cut off at 0 the draws would no longer show the spread.

    Raises:
        numpy.linalg.LinAlgError: classes that the features do not tell apart.
    """
    known = moments.known[:, :, :n_classes]
    found: FloatArray = np.linalg.solve(known.transpose(0, 2, 1), moments.target[:, :n_classes, None])[:, :, 0]
    return found


def one_hot(labels: IntArray, n_classes: int) -> FloatArray:
    """`(n_samples, n_classes)`, 1 in the column of the label."""
    return np.asarray(labels[:, None] == np.arange(n_classes), dtype=np.float64)


def smallest_singular(reference: Photos, training_prior: FloatArray) -> float:
    """Of the soft confusion matrix when all classes are as frequent: 1 = told apart for sure, 0 = not at all."""
    n_classes = len(training_prior)
    even = reweigh(reference.probs, 1 / training_prior)
    table = one_hot(reference.truth, n_classes).T @ even
    return float(np.linalg.svd(table / table.sum(axis=1, keepdims=True), compute_uv=False)[-1])


def _with_one(features: FloatArray) -> FloatArray:
    return np.column_stack([features, np.ones(len(features))])


def _means(sums: FloatArray) -> FloatArray:
    mean: FloatArray = sums[:, :, :-1] / sums[:, :, -1:]
    return mean
