"""Whether a claim about a difference holds, by an interval in which both people and seeds are uncertain."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from ensemble_kit.arrays import FloatArray
from ensemble_kit.structure_report import Interval

Claim = Literal["better", "worse", "no_better"]
Verdict = Literal["holds", "contradicted", "not resolved"]

CLAIMS: Mapping[str, str] = {
    "better": "a is better than b, by more than the margin",
    "worse": "a is worse than b, by more than the margin",
    "no_better": "a is not better than b by the margin or more",
}


def verdict(claim: Claim, interval: Interval, margin: float = 0.0) -> Verdict:
    """What an interval of the difference `a - b` says about a claim.

    Each claim says on which side of a border the difference lies: above `margin` (better), below `-margin` (worse),
    below `margin` (no_better). It holds when the whole interval lies on that side, is contradicted when the whole
    interval lies on the other one, and is not resolved when the border is inside. So "does not help" is never
    concluded from a wide interval around 0: that is the equivalence test's rule (Schuirmann 1987; here one-sided).

    Args:
        interval: of the difference.
        margin: the smallest difference that would matter, 0 or more.

    Examples:
        >>> verdict("better", (0.01, 0.05)), verdict("better", (-0.01, 0.05)), verdict("better", (-0.05, -0.01))
        ('holds', 'not resolved', 'contradicted')
        >>> verdict("no_better", (-0.01, 0.015), 0.02), verdict("no_better", (-0.05, 0.05), 0.02)
        ('holds', 'not resolved')
    """
    low, high = interval
    border = -margin if claim == "worse" else margin
    is_above, is_below = low > border, high < border
    wanted, other = (is_above, is_below) if claim == "better" else (is_below, is_above)
    return "holds" if wanted else "contradicted" if other else "not resolved"


@dataclass(frozen=True)
class SeedError:
    """How far a mean over seeds may be off, as a standard error, and on how many degrees of freedom that rests."""

    error: float
    degrees: int


def seed_errors(by_seed: Sequence[ArrayLike], is_shared: Sequence[bool]) -> list[SeedError | None]:
    """The standard error that seeds bring into each mean difference.

    The variance over a few seeds is hardly known by itself, so it is pooled over all differences of two trainings, as
    if seeds spread them alike; one that spreads more keeps its own variance. Two readings of one training (a vote, a
    soup, against its members) move together, so half of the pooled variance is theirs: as if one side alone were drawn.

    Args:
        by_seed: of each difference `(n_seeds,)`, its value with each seed.
        is_shared: of each difference, whether both sides are readings of one training. Where all are, they are pooled
            among themselves.

    Returns:
        None where there is one seed: then the spread is unknown.

    Examples:
        >>> found = seed_errors([[0.0, 0.2], [0.1, 0.1], [0.1, 0.1], [0.5]], [False, False, True, False])
        >>> [one and (round(one.error, 3), one.degrees) for one in found]
        [(0.1, 2), (0.071, 2), (0.05, 2), None]
    """
    spread = [_spread(np.asarray(one, dtype=np.float64)) for one in by_seed]
    apart = [one for one, shared in zip(spread, is_shared, strict=True) if one is not None and not shared]
    family = apart or [one for one in spread if one is not None]
    degrees = sum(one.degrees for one in family)
    pooled = sum(one.error**2 * one.degrees for one in family) / degrees if degrees else 0.0
    return [
        None
        if own is None
        else SeedError(max(own.error**2, pooled / 2 if shared and apart else pooled) ** 0.5, degrees)
        for own, shared in zip(spread, is_shared, strict=True)
    ]


def _spread(values: FloatArray) -> SeedError | None:
    """The standard error of a mean over seeds, by itself."""
    n = len(values)
    return SeedError(float(np.std(values, ddof=1)) / n**0.5, n - 1) if n > 1 else None


@dataclass(frozen=True)
class Bounds:
    """An interval, and the standard errors that people and seeds bring into it."""

    interval: Interval
    people_error: float
    seed_error: float


def claim_bounds(
    values: Sequence[float],
    draws: Sequence[FloatArray],
    n_people: int,
    seeds: Sequence[SeedError | None],
    level: float = 0.95,
) -> list[Bounds]:
    """Intervals of differences that hold all together with probability `level`, people and seeds both being drawn.

    The max-t bootstrap of `simultaneous`, with two sources of error. Their variances add up: the people's from the
    draws (times `n / (n - 1)`, since a resample's spread falls short by that), the seeds' from `seed_errors`. The
    common factor is the quantile of the family's largest `|error| / standard error`, the seeds' errors drawn as normal
    and independent (which makes it no smaller where beliefs share an arm); each is then widened from the normal to the
    t distribution with the degrees of freedom of Satterthwaite (1946).

    Args:
        values: `(n_family,)` the differences found.
        draws: `(n_family,)` of `(n_boot,)`: the differences in draws of people, the same people for all.
        n_people: at least 2.
        seeds: of each difference; None = not measured, then people alone are drawn.
    """
    if not len(values):
        return []
    from scipy.special import ndtr, stdtrit  # type: ignore[import-untyped]

    table = np.stack(draws)
    away = (table - table.mean(axis=1, keepdims=True)) * (n_people / (n_people - 1)) ** 0.5
    people = away.std(axis=1, ddof=1) if table.shape[1] > 1 else np.zeros(len(table))
    seed = np.array([0.0 if one is None else one.error for one in seeds])
    noise = np.random.default_rng(0).standard_normal(table.shape)
    error = np.sqrt(people**2 + seed**2)
    total = np.abs(away + seed[:, None] * noise)
    scaled = np.divide(total, error[:, None], out=np.zeros_like(total), where=error[:, None] > 0)
    factor = float(np.quantile(scaled.max(axis=0), level))
    found = []
    for number, value in enumerate(values):
        degrees = _degrees(float(people[number]), n_people - 1, seeds[number])
        half = float(error[number] * stdtrit(degrees, ndtr(factor))) if error[number] > 0 else 0.0
        found.append(Bounds((value - half, value + half), float(people[number]), float(seed[number])))
    return found


def _degrees(people: float, n: int, seed: SeedError | None) -> float:
    """Satterthwaite's degrees of freedom of a sum of two estimated variances."""
    if seed is None or seed.error == 0:
        return float(n)
    return float((people**2 + seed.error**2) ** 2 / (people**4 / n + seed.error**4 / seed.degrees))
