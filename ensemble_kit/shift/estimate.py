"""Estimating a shift from photos, and deciding whether its correction is applied, left out or refused."""

from __future__ import annotations

from dataclasses import replace
from statistics import NormalDist

import numpy as np

from ensemble_kit.arrays import FloatArray
from ensemble_kit.metrics import METRICS
from ensemble_kit.shift.em import TOLERANCE, em_prior, reweigh
from ensemble_kit.shift.moments import (
    Moments,
    Photos,
    count_moments,
    one_hot,
    smallest_singular,
    solve_prior,
    supposed_moments,
)
from ensemble_kit.shift.prior import PriorShift

MIN_PEOPLE = 30
"""Unlabelled people: below, the spread over people is not known."""

MIN_CLASS_PEOPLE = 10
"""Reference people of each class: what the class is labelled as is counted on them."""

MIN_SINGULAR = 0.05
"""Of the soft confusion matrix of equally frequent classes; experts of 65 to 80 % accuracy have .2 to .4."""

MAX_WIDTH = 0.5
"""An interval as wide says nothing."""

MISFIT_LEVEL, MISFIT_SIZE = 0.01, 0.02
"""The photos are no mixture of the reference's classes when a share falls below 0, or their confidence differs, at this
level and by this much."""

LIKE_WITH_LIKE = "compare one voter with its own out-of-fold predictions, and photos of the same kind"

ANCHOR_SHARE = 0.1
"""EM's prior is kept above this part of an equal share where it only says which moments are compared: at 0 they would
not tell the class."""

ANCHOR_TOLERANCE = 1e-6


class RefusedError(Exception):
    """Why the estimate is not to be trusted."""


class Estimate:
    """One estimate and the decision about it.

    Args:
        start: the shift that knows nothing yet.
    """

    def __init__(
        self, start: PriorShift, target: Photos, reference: Photos | None, metric: str, n_boot: int, seed: int
    ):
        self.start, self.target, self.reference = start, target, reference
        self.metric, self.n_boot, self.seed = metric, n_boot, seed
        self.n_classes, self.old = len(start.names), np.array(start.training_prior)
        self.ends = ((1 - start.level) / 2, (1 + start.level) / 2)

    def shift(self) -> PriorShift:
        self._refuse_few()
        tolerance = TOLERANCE if self.reference is None else ANCHOR_TOLERANCE
        em = em_prior(self.target.probs, self.old, tolerance=tolerance)
        if self.reference is None:
            anchor = self._floored(em)
            moments = supposed_moments(anchor, self.old, self.target, self.n_boot, self.seed)
            draws, prior = self._solve(moments), anchor
        else:
            anchor = np.maximum(em, ANCHOR_SHARE / self.n_classes)
            moments, draws, prior = self._counted(self.reference, anchor / anchor.sum() / self.old)
        low, high = self._interval(draws)
        low, high = np.minimum(low, prior), np.maximum(high, prior)
        widest = int(np.argmax(high - low))
        if high[widest] - low[widest] > MAX_WIDTH:
            raise RefusedError(
                f'the share of "{self.start.names[widest]}" is told no better than {low[widest]:.2f} to '
                f"{high[widest]:.2f}; more photos, or an expert that tells the classes apart better, would help"
            )
        if self.reference is not None:
            self._refuse_misfit(moments, draws)
        p_value = self._p_value(draws, moments.shares)
        gains = {} if self.reference is None else self._gains(moments, draws, prior)
        applied, reason = self._decide(p_value, gains)
        return replace(
            self.start,
            prior=tuple(prior.tolist()),
            low=tuple(low.tolist()),
            high=tuple(high.tolist()),
            applied=applied,
            reason=reason,
            p_value=p_value,
            gains=gains,
        )

    def _refuse_few(self) -> None:
        if self.target.n_people < MIN_PEOPLE:
            raise RefusedError(f"expected at least {MIN_PEOPLE} people without labels, found {self.target.n_people}")
        if self.reference is None:
            return
        for name, count in zip(self.start.names, self.reference.people_of(self.n_classes), strict=True):
            if count < MIN_CLASS_PEOPLE:
                raise RefusedError(
                    f'expected at least {MIN_CLASS_PEOPLE} reference people of each class, found {count} of "{name}"; '
                    f"leave this block alone, or fit its attributes one by one"
                )
        for number, name in enumerate(self.start.names):
            own = self.reference.truth == number
            column = self.reference.probs[:, number]
            if own.all() or column[own].mean() <= column[~own].mean():
                raise RefusedError(
                    f'reference photos of "{name}" are given no more of "{name}" than the others; are the classes in '
                    f"another order?"
                )
        singular = smallest_singular(self.reference, self.old)
        if singular < MIN_SINGULAR:
            raise RefusedError(
                f"the confusion matrix does not tell the classes apart (smallest singular value {singular:.3f}, at "
                f"least {MIN_SINGULAR} is needed)"
            )

    def _counted(self, reference: Photos, ratio: FloatArray) -> tuple[Moments, FloatArray, FloatArray]:
        """Features: probabilities under the anchor, their confidence, labels as they are, labels when corrected."""

        def under_anchor(probs: FloatArray) -> FloatArray:
            return reweigh(probs, ratio)

        alone = count_moments(under_anchor, self.target, reference, 0, self.seed)
        prior = self._floored(self._solve(alone)[0])

        def features(probs: FloatArray) -> FloatArray:
            values = under_anchor(probs)
            labels, corrected = probs.argmax(axis=1), reweigh(probs, prior / self.old).argmax(axis=1)
            return np.column_stack(
                [
                    values,
                    (values**2).sum(axis=1),
                    one_hot(labels, self.n_classes),
                    one_hot(corrected, self.n_classes),
                ]
            )

        moments = count_moments(features, self.target, reference, self.n_boot, self.seed)
        return moments, self._solve(moments), prior

    def _solve(self, moments: Moments) -> FloatArray:
        try:
            return solve_prior(moments, self.n_classes)
        except np.linalg.LinAlgError:
            raise RefusedError("the confusion matrix does not tell the classes apart (it is singular)") from None

    def _floored(self, prior: FloatArray) -> FloatArray:
        """Shares > 0: a class that did not appear counts as half a person, or as its training share if that is less."""
        shares = np.maximum(prior, 0)
        shares = np.maximum(shares / shares.sum(), np.minimum(self.old, 0.5 / self.target.n_people))
        floored: FloatArray = shares / shares.sum()
        return floored

    def _interval(self, draws: FloatArray) -> tuple[FloatArray, FloatArray]:
        """The wider on each side: percentiles are too narrow for rare classes below, the normal one above."""
        low, high = np.quantile(draws[1:], self.ends, axis=0)
        spread = NormalDist().inv_cdf(self.ends[1]) * draws[1:].std(axis=0)
        low, high = np.minimum(low, draws[0] - spread), np.maximum(high, draws[0] + spread)
        return np.clip(low, 0, 1), np.clip(high, 0, 1)

    def _refuse_misfit(self, moments: Moments, draws: FloatArray) -> None:
        """Shares below 0 mix nothing; and the confidence is an equation more than there are shares to find."""
        least = int(np.argmin(draws[0]))
        if max(draws[0, least] + MISFIT_SIZE, np.quantile(draws[1:, least], 1 - MISFIT_LEVEL / 2)) < 0:
            raise RefusedError(
                f"the photos are no mixture of the reference's classes: the share of "
                f'"{self.start.names[least]}" would be {draws[0, least]:.3f}; {LIKE_WITH_LIKE}'
            )
        place = self.n_classes
        found = moments.target[:, place]
        gap = found - (_possible(draws) * moments.known[:, :, place]).sum(axis=1)
        limit = NormalDist().inv_cdf(1 - MISFIT_LEVEL / 2) * gap[1:].std()
        if abs(gap[0]) > max(limit, MISFIT_SIZE):
            kind = "less" if gap[0] < 0 else "more"
            raise RefusedError(
                f"the photos are no mixture of the reference's classes: their predictions are {kind} confident than "
                f"any shares explain ({found[0]:.3f}, expected {found[0] - gap[0]:.3f}); {LIKE_WITH_LIKE}"
            )

    def _p_value(self, draws: FloatArray, shares: FloatArray) -> float:
        """How often chance moves the shares as far from the training prior; the last class follows from the others."""
        apart = (draws[1:] - draws[0] - (shares[1:] - shares[0]))[:, :-1]
        away = (draws[0] - self.old)[:-1]
        inverse = np.linalg.pinv(np.atleast_2d(np.cov(apart.T)), rcond=1e-10, hermitian=True)
        distance = ((apart @ inverse) * apart).sum(axis=1)
        return float((1 + (distance >= away @ inverse @ away).sum()) / (1 + self.n_boot))

    def _gains(self, moments: Moments, draws: FloatArray, prior: FloatArray) -> dict[str, tuple[float, float, float]]:
        shares = _possible(draws)
        shares[0] = prior
        found = {}
        for name, metric in METRICS.items():
            before, after = (
                metric(np.diagonal(table, axis1=1, axis2=2), shares, table.sum(axis=1))
                for table in (
                    shares[:, :, None] * moments.known[:, :, start : start + self.n_classes]
                    for start in (self.n_classes + 1, 2 * self.n_classes + 1)
                )
            )
            gain = after - before
            low, high = np.quantile(gain[1:], self.ends)
            found[name] = (float(gain[0]), float(low), float(high))
        return found

    def _decide(self, p_value: float, gains: dict[str, tuple[float, float, float]]) -> tuple[bool, str]:
        limit = 1 - self.start.level
        if not p_value < limit:
            return False, f"no shift is established (p = {p_value:.3f}, below {limit:.2g} is needed)"
        if not gains:
            return True, f"a shift is established (p = {p_value:.3f}), if the probabilities are calibrated"
        mean, low, high = gains[self.metric]
        told = f"a shift is established (p = {p_value:.3f})"
        gain = f"{self.metric}: {mean:+.4f} [{low:+.4f}, {high:+.4f}]"
        return (True, f"{told}, and a gain in {gain}") if low > 0 else (False, f"{told}, but no gain in {gain}")


def _possible(draws: FloatArray) -> FloatArray:
    """Draws of priors cut off at 0, rows of sum 1."""
    shares = np.maximum(draws, 0)
    return np.asarray(shares / shares.sum(axis=1, keepdims=True))
