"""The shift that was fitted: what it was found to be, and its correction, row by row."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ensemble_kit.arrays import FloatArray
from ensemble_kit.columns import WIDTH, fitted
from ensemble_kit.errors import DataError
from ensemble_kit.shift.em import check_rows, reweigh

FORMAT, VERSION = "prior_shift", 1


@dataclass(frozen=True)
class PriorShift:
    """A change of the classes' shares, and the correction of probabilities for it.

    Called with probabilities it returns them times `prior / training_prior`, rows made to sum to 1 again, or as they
    are where the correction is not applied. Rows of zeros and of NaN pass through; a row alone gives the same bits.

    Attributes:
        names: of the classes.
        training_prior: `(n_classes,)` that the probabilities suppose.
        prior: estimated, never 0; the training prior where nothing could be estimated.
        low, high: the estimate's interval.
        level: of the interval and of the test.
        applied: whether the correction changes anything.
        refused: why no estimate is to be trusted; "" otherwise.
        reason: why the correction is applied or not, one sentence.
        p_value: how often chance alone moves the shares as far; None where it was not reached.
        gains: what the correction is expected to gain by metric: mean, low, high; {} without a reference.
        n_photos, n_people, n_reference_photos, n_reference_people: what it was fitted on.

    Examples:
        >>> shift = PriorShift.known(["<30", "30-59", ">=60"], [0.47, 0.46, 0.07], [0.37, 0.37, 0.26])
        >>> shift(np.array([[0.1, 0.5, 0.4]])).round(2).tolist()
        [[0.04, 0.2, 0.76]]
        >>> print(shift.text())
        class  training  estimated   90 % interval
        <30       0.470      0.370  [0.370, 0.370]
        30-59     0.460      0.370  [0.370, 0.370]
        >=60      0.070      0.260  [0.260, 0.260]
        applied: the shares are known
    """

    names: tuple[str, ...]
    training_prior: tuple[float, ...]
    prior: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    level: float
    applied: bool
    reason: str
    refused: str = ""
    p_value: float | None = None
    gains: Mapping[str, tuple[float, float, float]] = field(default_factory=dict)
    n_photos: int = 0
    n_people: int = 0
    n_reference_photos: int = 0
    n_reference_people: int = 0

    def __post_init__(self) -> None:
        rows = [self.training_prior, self.prior, self.low, self.high]
        if len(self.names) < 2 or any(len(row) != len(self.names) for row in rows):
            raise DataError(f"prior shift: expected a share for each of {len(self.names)} classes (at least 2)")
        shares = np.array([self.training_prior, self.prior])
        if not np.isfinite(rows).all() or (shares <= 0).any() or (np.abs(shares.sum(axis=1) - 1) > 1e-6).any():
            raise DataError(f"prior shift: expected shares > 0 that sum to 1, found {shares.tolist()}")

    @classmethod
    def known(cls, names: list[str], training_prior: ArrayLike, prior: ArrayLike) -> PriorShift:
        """The correction for shares that are known otherwise, a census say, with nothing estimated."""
        old, new = (tuple(map(float, np.asarray(shares, dtype=np.float64))) for shares in (training_prior, prior))
        return cls(tuple(names), old, new, new, new, 0.9, True, "the shares are known")

    @property
    def ratio(self) -> FloatArray:
        """What each class is multiplied with, `(n_classes,)`; 1 where the correction is not applied."""
        if not self.applied:
            return np.ones(len(self.names))
        return np.asarray(np.array(self.prior) / np.array(self.training_prior))

    def __call__(self, probs: FloatArray) -> FloatArray:
        """`(n_samples, n_classes)` -> the same, corrected, of the same dtype.

        Raises:
            UsageError: another number of classes.
            DataError: rows that are no probabilities.
        """
        values = check_rows(probs, len(self.names), "prior shift")
        return reweigh(values, self.ratio).astype(values.dtype) if self.applied else values

    def text(self) -> str:
        """The table of shares, then why the correction is applied or not."""
        rows = []
        for name, old, new, low, high in zip(
            self.names, self.training_prior, self.prior, self.low, self.high, strict=True
        ):
            rows.append((name, f"{old:.3f}", f"{new:.3f}", f"[{low:.3f}, {high:.3f}]"))
        head = ("class", "training", "estimated", f"{100 * self.level:g} % interval")
        table = [fitted(head, rows, WIDTH)]
        if self.n_photos:
            known = f", beside {self.n_reference_photos} of known class of {self.n_reference_people} people"
            found = f"from {self.n_photos} photos of {self.n_people} people"
            table.append(found + (known if self.n_reference_photos else ", the probabilities taken as calibrated"))
        for metric, (mean, low, high) in self.gains.items():
            table.append(f"expected gain in {metric}: {mean:+.4f} [{low:+.4f}, {high:+.4f}]")
        outcome = "refused" if self.refused else "applied" if self.applied else "not applied"
        return "\n".join([*table, f"{outcome}: {self.refused or self.reason}"])

    def to_json(self) -> dict[str, Any]:
        """Plain values without NaN; `from_json` reads them."""
        return {
            "format": FORMAT,
            "version": VERSION,
            **{name: list(getattr(self, name)) for name in ("names", *_ROWS)},
            **{name: getattr(self, name) for name in _PLAIN},
            "gains": {metric: list(values) for metric, values in self.gains.items()},
        }

    @classmethod
    def from_json(cls, value: Any) -> PriorShift:
        """Raises DataError when `value` is not what `to_json` writes."""
        try:
            if value["format"] != FORMAT or value["version"] != VERSION:
                raise DataError(
                    f"expected {FORMAT} of version {VERSION}, found {value['format']!r} of {value['version']!r}"
                )
            values = {name: value[name] for name in _PLAIN}
            values |= {name: tuple(map(float, value[name])) for name in _ROWS}
            values["names"] = tuple(map(str, value["names"]))
            values["gains"] = {str(name): (float(a), float(b), float(c)) for name, (a, b, c) in value["gains"].items()}
            for name, kind in _PLAIN.items():
                if not isinstance(values[name], kind):
                    raise TypeError(f"{name} = {values[name]!r}")
            return cls(**values)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise DataError(f"prior shift: not a stored shift ({type(error).__name__}: {error})") from None


_ROWS = ("training_prior", "prior", "low", "high")

_PLAIN = {
    "level": float,
    "applied": bool,
    "reason": str,
    "refused": str,
    "p_value": float | None,
    "n_photos": int,
    "n_people": int,
    "n_reference_photos": int,
    "n_reference_people": int,
}
