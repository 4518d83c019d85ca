"""How well a form of a checkpoint agrees with torch in float32. Without torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ensemble_kit.arrays import FloatArray
from ensemble_kit.errors import DataError


@dataclass(frozen=True)
class Agreement:
    """What a comparison on some photos found.

    Attributes:
        n_photos: how many were compared.
        equal: share of equal labels, 0 to 1; of several heads the lowest.
        largest: the largest difference of two probabilities; 1 where one is no number.
    """

    n_photos: int
    equal: float
    largest: float

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Agreement:
        """Raises ValueError or KeyError for what `to_json` does not write."""
        found = cls(int(value["n_photos"]), float(value["equal"]), float(value["largest"]))
        if found.n_photos < 0 or not (0 <= found.equal <= 1 and 0 <= found.largest <= 1):
            raise ValueError(f"an agreement of {value}")
        return found

    def text(self) -> str:
        """`99.61 % equal labels with torch in float32 (510 of 512 training photos), largest difference 0.031`."""
        return (
            f"{_percent(self.equal)} % equal labels with torch in float32 ({round(self.equal * self.n_photos)} of "
            f"{self.n_photos} training photos), largest difference {self.largest:.2g}"
        )

    def is_enough(self, least: float) -> bool:
        """Whether something could be compared, and at least so many labels are equal."""
        return self.n_photos > 0 and self.equal >= least

    def refuse_below(self, least: float, name: str, checkpoint: str) -> None:
        """Raises DataError unless it `is_enough`."""
        if self.is_enough(least):
            return
        found = self.text() if self.n_photos else "no training photo to compare it on"
        raise DataError(
            f"back end {name}: {checkpoint}: expected at least {_percent(least)} % equal labels, found {found}; "
            "answer with --backend torch, or take it as it is with --accept-disagreement"
        )


def _percent(share: float) -> str:
    """Rounded down, so that what is below a limit never reads as reaching it."""
    return f"{np.floor(share * 1e4 + 1e-9) / 100:.2f}".rstrip("0").rstrip(".")


def compare_probs(expected: Sequence[FloatArray], found: Sequence[FloatArray]) -> Agreement:
    """Compares probabilities, one array `(n_photos, n_classes)` a head.

    Labels are the classes of the highest probability, of equal ones the first. A row that is not all numbers agrees
    with nothing.

    Examples:
        >>> compare_probs([np.array([[0.9, 0.1], [0.4, 0.6]])], [np.array([[0.8, 0.2], [0.5, 0.5]])])
        Agreement(n_photos=2, equal=0.5, largest=0.1)
    """
    n_photos = len(expected[0])
    if not n_photos:
        return Agreement(0, 0.0, 0.0)
    shares, differences = [], []
    for one, other in zip(expected, found, strict=True):
        is_whole = np.isfinite(one).all(axis=1) & np.isfinite(other).all(axis=1)
        is_equal = is_whole & (np.nan_to_num(one).argmax(axis=1) == np.nan_to_num(other).argmax(axis=1))
        shares.append(float(is_equal.mean()))
        apart = np.abs(one[is_whole].astype(np.float64) - other[is_whole].astype(np.float64))
        differences.append(float(apart.max(initial=0.0)) if is_whole.all() else 1.0)
    return Agreement(n_photos, min(shares), round(min(1.0, max(differences)), 9))
