"""Temperature scaling of probabilities (Guo et al. 2017): fitted once, then applied row by row."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import exp, log
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ensemble_kit.arrays import FloatArray
from ensemble_kit.calibration.rows import add_columns, as_table, checked, speaks
from ensemble_kit.errors import DataError, UsageError

MIN_TEMPERATURE, MAX_TEMPERATURE = 0.05, 20.0
MAX_STEPS = 100
FLAT = 1e-13
"""A smaller gain of likelihood is rounding."""


def apply_temperature(probs: ArrayLike, temperature: float) -> FloatArray:
    """`p^(1/T)`, divided by its sum: flatter for T > 1, sharper for T < 1 (Guo et al. 2017).

    Worked out in logs, where it equals a division of the logits by T. Zeros stay zero, rows of zeros or NaN stay as
    they are, a row's label never changes, T = 1 returns every bit.

    Args:
        probs: `(n_samples, n_classes)`.
        temperature: above 0.

    Returns:
        `(n_samples, n_classes)` of probs' type.

    Raises:
        UsageError: a temperature that is not above 0 and finite, or probs of another shape.

    Examples:
        >>> apply_temperature(np.array([[0.8, 0.2], [0.0, 0.0]]), 2.0).round(3).tolist()
        [[0.667, 0.333], [0.0, 0.0]]
    """
    given = as_table(probs)
    if not (np.isfinite(temperature) and temperature > 0):
        raise UsageError(f"temperature: expected a finite number above 0, found {temperature}")
    if temperature == 1:
        return given.copy()
    values = np.ascontiguousarray(given, dtype=np.float64)
    possible = values > 0
    logs = np.full(values.shape, -np.inf, dtype=np.float64)
    np.log(values, out=logs, where=possible)
    highest = logs.max(axis=1, initial=-np.inf)[:, None]
    shares = np.zeros(values.shape, dtype=np.float64)
    np.exp((logs - np.where(np.isfinite(highest), highest, 0)) / temperature, out=shares, where=possible)
    total = add_columns(shares)[:, None]
    scaled = np.divide(shares, total, out=np.array(values), where=total > 0)
    return scaled.astype(given.dtype)


@dataclass(frozen=True)
class Temperature:
    """A fitted temperature: called on `(n_samples, n_classes)` it scales them, as `combine(adjust=...)` wants it.

    Attributes:
        value: above 1 = the probabilities were too sure.
        n_samples: photos that it was fitted on.
        n_impossible: of the labelled photos those whose true class had probability 0; no temperature changes that, so
            they took no part.
        nll_before, nll_after: mean negative log-likelihood of the photos it was fitted on, in nats.
        at_bound: the best value lies outside [0.05, 20].
    """

    value: float
    n_samples: int = 0
    n_impossible: int = 0
    nll_before: float = 0.0
    nll_after: float = 0.0
    at_bound: bool = False

    def __call__(self, probs: FloatArray) -> FloatArray:
        return apply_temperature(probs, self.value)

    def text(self) -> str:
        """One line: the temperature, and what it does to the likelihood."""
        meaning = "too sure" if self.value > 1 else "too unsure" if self.value < 1 else "as sure as they should be"
        notes = f"; {self.n_impossible} photos with probability 0 left out" if self.n_impossible else ""
        if self.at_bound:
            notes += f"; at the bound of [{MIN_TEMPERATURE:g}, {MAX_TEMPERATURE:g}]: look at the predictions before use"
        return (
            f"temperature {self.value:.3f} (they were {meaning}), NLL {self.nll_before:.4f} -> {self.nll_after:.4f} "
            f"on {self.n_samples} photos{notes}"
        )

    def to_json(self) -> dict[str, Any]:
        return {
            "temperature": self.value,
            "n_samples": self.n_samples,
            "n_impossible": self.n_impossible,
            "nll_before": self.nll_before,
            "nll_after": self.nll_after,
            "at_bound": self.at_bound,
        }

    @classmethod
    def from_json(cls, value: Any) -> Temperature:
        """Raises DataError when `value` holds no temperature above 0; what it was fitted on may be left out."""
        number = value.get("temperature") if isinstance(value, Mapping) else None
        if not isinstance(number, int | float) or isinstance(number, bool) or not 0 < number < np.inf:
            raise DataError(f'temperature: expected {{"temperature": a number above 0, ...}}, found {value!r}')
        try:
            return cls(
                float(number),
                int(value.get("n_samples", 0)),
                int(value.get("n_impossible", 0)),
                float(value.get("nll_before", 0)),
                float(value.get("nll_after", 0)),
                bool(value.get("at_bound", False)),
            )
        except (TypeError, ValueError) as error:
            raise DataError(f"temperature: not what was saved ({error}); fit it again") from None


def fit_temperature(probs: ArrayLike, truth: ArrayLike, *, who: str = "probabilities") -> Temperature:
    """The temperature of the highest likelihood (Guo et al. 2017), within [0.05, 20].

    The negative log-likelihood is convex in 1/T, so a safeguarded Newton search of its slope ends at the minimum.

    Args:
        probs: `(n_samples, n_classes)`. Abstained rows take no part.
        truth: `(n_samples,)` column numbers; every photo needs one.
        who: whose probabilities they are, for messages.

    Raises:
        DataError: a photo without a label or prediction, no probabilities, fewer than 2 photos to fit on.

    Examples:
        >>> sure = np.array([[0.99, 0.01]] * 4)  # right three times of four
        >>> fitted = fit_temperature(sure, [0, 0, 0, 1])
        >>> fitted(sure)[0].round(3).tolist()
        [0.75, 0.25]
    """
    values, true = checked(probs, truth, who)
    spoken = speaks(values)
    possible = values[np.arange(len(true)), true] > 0
    keep = np.flatnonzero(spoken & possible)
    if len(keep) < 2:
        raise DataError(f"{who}: a temperature needs 2 photos or more with a label and a prediction, found {len(keep)}")
    logs = np.full((len(keep), values.shape[1]), -np.inf)
    np.log(values[keep], out=logs, where=values[keep] > 0)
    own = logs[np.arange(len(keep)), true[keep]]
    beta, at_bound = _best_beta(logs, own)
    before, after = _mean_nll(logs, own, 1.0), _mean_nll(logs, own, beta)
    if after >= before - FLAT:  # equal rows: every temperature is as good
        beta, after, at_bound = 1.0, before, False
    return Temperature(1 / beta, len(keep), int((spoken & ~possible).sum()), before, after, at_bound)


def _best_beta(logs: FloatArray, own: FloatArray) -> tuple[float, bool]:
    """The 1/T where the slope of the NLL is 0, and whether the range ends before it."""
    low, high = 1 / MAX_TEMPERATURE, 1 / MIN_TEMPERATURE
    if _slope(logs, own, low)[0] >= 0:
        return low, True
    if _slope(logs, own, high)[0] <= 0:
        return high, True
    beta = 1.0
    for _ in range(MAX_STEPS):
        slope, curve = _slope(logs, own, beta)
        low, high = (low, beta) if slope > 0 else (beta, high)
        newton = beta - slope / curve if curve > 0 else low
        following = newton if low < newton < high else exp((log(low) + log(high)) / 2)
        if abs(following - beta) <= 1e-12 * beta:
            break
        beta = following
    return beta, False


def _slope(logs: FloatArray, own: FloatArray, beta: float) -> tuple[float, float]:
    """First and second derivative of the mean NLL by 1/T: the mean log-probability less the true one's, and its
    variance."""
    shares, _ = _shares(logs, beta)
    known = np.where(np.isfinite(logs), logs, 0)
    mean = add_columns(shares * known)
    spread = add_columns(shares * (known - mean[:, None]) ** 2)
    return float((mean - own).mean()), float(spread.mean())


def _mean_nll(logs: FloatArray, own: FloatArray, beta: float) -> float:
    return float((_shares(logs, beta)[1] - own * beta).mean())


def _shares(logs: FloatArray, beta: float) -> tuple[FloatArray, FloatArray]:
    """The scaled distribution, and the log of the sum it was divided by."""
    highest = logs.max(axis=1)[:, None]
    shares = np.exp((logs - highest) * beta)
    total = add_columns(shares)
    return shares / total[:, None], np.log(total) + highest[:, 0] * beta
