"""Whether numbers are probabilities."""

from __future__ import annotations

import numpy as np

from ensemble_kit.arrays import FloatArray
from ensemble_kit.errors import DataError

SUM_TOLERANCE = 1e-3
"""How far a row of probabilities may be from 1, for each attribute of a block (a joint is a product of rows)."""


def check_probs(probs: FloatArray, who: str, tolerance: float = SUM_TOLERANCE) -> None:
    """Raises DataError unless each row `(n_classes,)` is probabilities that sum to 1, all zero, or all NaN."""
    values = np.asarray(probs)
    with np.errstate(invalid="ignore", over="ignore"):  # infinities are refused below, in words
        total = _row_sums(values)
    if are_all_one(total, tolerance) and values.min(initial=0) >= 0:  # nearly always, and many times as fast
        return
    good = (np.abs(total - 1) <= tolerance) | (total == 0)
    if good.all() and values.min(initial=0) >= 0:
        return
    lowest = values.min(axis=1, initial=np.inf)
    wrong = ~((good & (lowest >= 0)) | np.isnan(values).all(axis=1))
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        raise DataError(
            f"{who}: expected probabilities, each row >= 0 with sum 1; row {row} has sum {total[row]:.4g} and "
            f"lowest {lowest[row]:.4g} ({int(wrong.sum())} such rows); logits need a softmax first"
        )


def are_all_one(total: FloatArray, tolerance: float) -> bool:
    """Whether no sum is further from 1 than the tolerance; False with NaN among them."""
    return bool(total.min(initial=1) >= 1 - tolerance and total.max(initial=1) <= 1 + tolerance)


def _row_sums(values: FloatArray) -> FloatArray:
    """`(n_rows,)` in float64; column by column, which is six times faster for a few columns."""
    if values.shape[1] > 8:
        return np.asarray(values.sum(axis=1, dtype=np.float64))
    total = np.zeros(len(values), dtype=np.float64)
    for column in values.T:
        total += column
    return total
