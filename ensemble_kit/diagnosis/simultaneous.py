"""Intervals that hold for a whole family of differences at once."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ensemble_kit.arrays import FloatArray
from ensemble_kit.structure_report import Interval


def simultaneous(
    values: Sequence[float],
    draws: Sequence[FloatArray],
    n_people: Sequence[int],
    stretch: Sequence[float] | None = None,
    level: float = 0.95,
) -> list[Interval]:
    """Intervals that hold all the values together with probability `level`: the max-t bootstrap.

    The half width is `c * se`, where `c` is the quantile of the family's largest `|draw - mean| / se` over the draws
    (Romano and Wolf 2005): as wide as so many looks at correlated differences demand, and no wider. Both parts are
    widened for few people: `se` by `sqrt(n / (n - 1))`, since a resample's spread falls short by that, and `c` from the
    normal to the t distribution with `n - 1` degrees of freedom (Hesterberg 2015).

    Args:
        values: `(n_family,)` the differences found.
        draws: `(n_family,)` of `(n_boot,)`: the differences in draws of people, the same people for all.
        n_people: `(n_family,)` on whose photos each difference rests, at least 2.
        stretch: `(n_family,)` how much wider each is than others of the same spread; where one question matters most,
            the others' stretch leaves it nearly the interval that it would have alone. 1 each when left out.
        level: of the whole family.

    Examples:
        >>> draws = np.random.default_rng(0).normal(size=(3, 4000))
        >>> alone = simultaneous([0.0], draws[:1], [1000])[0]
        >>> three = simultaneous([0.0] * 3, draws, [1000] * 3)[0]
        >>> f"{alone[1]:.1f} {three[1]:.1f}"
        '1.9 2.4'
    """
    if not len(values):
        return []
    table = np.stack(draws)
    spread = table.std(axis=1, ddof=1) if table.shape[1] > 1 else np.zeros(len(table))
    away = np.abs(table - table.mean(axis=1, keepdims=True))
    wide = np.ones(len(table)) if stretch is None else np.asarray(stretch, dtype=np.float64)
    scaled = np.divide(away, (spread * wide)[:, None], out=np.zeros_like(away), where=spread[:, None] > 0)
    factor = float(np.quantile(scaled.max(axis=0), level))
    found = []
    for value, error, own, n in zip(values, spread.tolist(), wide.tolist(), n_people, strict=True):
        half = error * math.sqrt(n / (n - 1)) * student(factor * own, n - 1)
        found.append((float(value - half), float(value + half)))
    return found


def student(z: float, degrees: int) -> float:
    """The t quantile of the normal quantile `z` (Abramowitz and Stegun 26.7.5; to 0.01 from 8 degrees, z < 3.3).

    Examples:
        >>> f"{student(1.959964, 9):.3f}"  # 2.262 in the tables
        '2.262'
    """
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
    )
    return z + sum(term / float(degrees) ** (power + 1) for power, term in enumerate(terms))
