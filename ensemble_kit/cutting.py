"""Where to cut columns finer than the classes (61 ages, 11 bins): chosen on some people, scored on the others."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import astuple, dataclass
from itertools import combinations, pairwise
from math import comb
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ensemble_kit.arrays import FloatArray
from ensemble_kit.data.folds import make_folds
from ensemble_kit.errors import DataError, UsageError
from ensemble_kit.metrics import interval
from ensemble_kit.selection.measure import LabelMetric, Measure, find_measure
from ensemble_kit.selection.result import WORDS, Gap

Borders = tuple[float, ...]

MOST = 5000
"""Sets of borders that are all tried; of more, one border is moved at a time until nothing is gained."""


@dataclass(frozen=True)
class Cut:
    """Borders chosen for an attribute's finer columns, and whether they are worth using.

    Attributes:
        where: the attribute.
        found: the borders that score best on all photos.
        before: those of its classes.
        metric: what was optimised, of the attribute's classes; the truth is by `before`.
        score: of `found` on the photos it was chosen on; too good.
        nested_score: chosen on the other people, scored on the held-out ones, every photo once.
        nested_before: of `before`, which chooses nothing.
        gain: the nested score's distance from it, positive where choosing is better.
        n_samples, n_groups, n_folds: what it was made from.
        people_known: False = nobody knows who is on the photos, so each counts as a person: intervals too narrow.
    """

    where: str
    found: Borders
    before: Borders
    metric: str
    score: float
    nested_score: float
    nested_before: float
    gain: Gap
    n_samples: int
    n_groups: int
    n_folds: int
    people_known: bool = True

    @property
    def is_better(self) -> bool:
        """The interval of the gain lies above 0."""
        return self.gain.low > 0

    @property
    def borders(self) -> Borders:
        """What to cut at: `found` where it is better, else `before`."""
        return self.found if self.is_better else self.before

    def text(self) -> str:
        who = f"of {self.n_groups} people" if self.people_known else "(people not known: each photo counts as one)"
        head = (
            f"{self.where}: {WORDS.get(self.metric, self.metric)} on {self.n_samples} photos {who}, borders chosen on "
            f"{self.n_folds - 1} of {self.n_folds} folds and scored on the other"
        )
        rows = [
            f"  chosen  {self.nested_score:.4f}  chosen - as they are: {self.gain}",
            f"  as they are ({_numbers(self.before)})  {self.nested_before:.4f}",
            f"  on all photos: {_numbers(self.found)}",
        ]
        return "\n".join([head, *rows, self.advice()])

    def advice(self) -> str:
        """One sentence."""
        if self.found == self.before:
            return f"The borders are best where they are, {_numbers(self.before)}."
        if self.is_better:
            return f"Cutting at {_numbers(self.found)} is better."
        return f"Refused: choosing borders is not shown to be better, so they stay at {_numbers(self.before)}."

    def to_json(self) -> dict[str, Any]:
        values = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return values | {"found": list(self.found), "before": list(self.before), "gain": list(astuple(self.gain))}

    @classmethod
    def from_json(cls, value: Any) -> Cut:
        """Raises DataError when `value` is not what `to_json` writes."""
        try:
            plain: dict[str, Any] = {name: kind(value[name]) for name, kind in _PLAIN.items()}
            found, before = (tuple(float(border) for border in value[name]) for name in ("found", "before"))
            cut = cls(found=found, before=before, gain=Gap(*map(float, value["gain"])), **plain)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise DataError(f"borders: not what was saved ({type(error).__name__}: {error}); fit them again") from None
        for own in (cut.found, cut.before):
            if len(own) != len(cut.before) or not np.isfinite(own).all() or any(a >= b for a, b in pairwise(own)):
                raise DataError(f"borders: expected increasing numbers, found {_numbers(own)}; fit them again")
        return cut


_PLAIN: dict[str, type] = {
    "where": str,
    "metric": str,
    "score": float,
    "nested_score": float,
    "nested_before": float,
    "n_samples": int,
    "n_groups": int,
    "n_folds": int,
    "people_known": bool,
}


def _numbers(borders: Sequence[float]) -> str:
    return ", ".join(f"{border:g}" for border in borders)


def _between(below: FloatArray, places: Sequence[int]) -> FloatArray:
    """From sums of the columns up to each: what lies between the columns at `places`."""
    sums = [np.zeros(len(below)), *(below[:, place] for place in places), below[:, -1]]
    return np.stack([upper - lower for lower, upper in pairwise(sums)])


def choose_borders(
    probs: ArrayLike,
    truth: ArrayLike,
    edges: Sequence[float],
    before: Sequence[float],
    *,
    groups: ArrayLike | None,
    metric: str | LabelMetric = "macro_f1",
    n_folds: int = 5,
    n_boot: int = 1000,
    seed: int = 0,
    where: str = "borders",
) -> Cut:
    """Borders among the edges under which the most probable class scores best.

    All sets of borders are tried (of more than 5,000 one border at a time is moved, from where they are); equal scores
    go to the borders that move least. The choice is made again without each part of the people and scored on that part.

    Args:
        probs: `(n_samples, n_columns)` of columns between the edges, such as out-of-fold predictions.
        truth: `(n_samples,)` the true class by `before`; -1 = not labelled: left out.
        edges: `(n_columns - 1,)` increasing.
        before: the classes' borders, among the edges.
        groups: `(n_samples,)` whose photo it is; None = nobody knows, each photo counts as a person.
        metric: as for weights: a name, or a function (truth, labels, n_classes) -> score.
        n_folds, n_boot, seed: parts of the people, draws of people, seed of both.
        where: the attribute's name in the result.

    Raises:
        DataError: lengths that differ, too few people.
        UsageError: borders that are no edges, an unknown metric.

    Examples:
        >>> random = np.random.default_rng(0)
        >>> years = random.integers(0, 8, size=400)
        >>> late = np.minimum(years + 2, 7)  # each photo looks two years older
        >>> found = choose_borders(np.eye(8)[late], years >= 4, range(1, 8), [4], groups=None)
        >>> found.borders, found.is_better
        ((6.0,), True)
    """
    layer, true = np.asarray(probs, dtype=np.float64), np.asarray(truth).astype(np.int64)
    between, old = tuple(map(float, edges)), tuple(map(float, before))
    if layer.ndim != 2 or layer.shape[1] != len(between) + 1 or len(layer) != len(true):
        raise DataError(f"{where}: expected a truth and {len(between) + 1} columns a photo, found {layer.shape}")
    if not set(old) <= set(between):
        raise UsageError(f"{where}: expected the borders {_numbers(old)} among the columns' edges")
    keep = (true >= 0) & np.isfinite(layer).all(axis=1)
    if not keep.any():
        raise DataError(f"{where}: expected labelled photos, found none")
    layer, true = layer[keep], true[keep]
    people = np.arange(len(true)).astype(np.str_) if groups is None else np.asarray(groups).astype(np.str_)[keep]
    folds = make_folds(true, people, n_folds=n_folds, seed=seed)
    measure = find_measure(metric, true, folds, len(old) + 1)
    search = _Search(np.cumsum(layer, axis=1), between, [between.index(border) for border in old], measure)
    chosen = [search.best(fold) for fold in range(n_folds)]
    reading = np.empty_like(search.read(chosen[0]))
    for fold, places in enumerate(chosen):
        reading[folds == fold] = search.read(places)[folds == fold]
    plain = search.read(search.start)
    draws = measure.draws([reading, plain], people, n_boot, seed)
    values = [measure.value(one) for one in (reading, plain)]
    gap = interval(measure.sign * (draws[0] - draws[1]))
    best = search.best(n_folds)
    return Cut(
        where=where,
        found=tuple(between[place] for place in best),
        before=old,
        metric=measure.name,
        score=measure.value(search.read(best)),
        nested_score=values[0],
        nested_before=values[1],
        gain=Gap(measure.sign * (values[0] - values[1]), *gap),
        n_samples=len(true),
        n_groups=len(np.unique(people)),
        n_folds=n_folds,
        people_known=groups is not None,
    )


Places = tuple[int, ...]


class _Search:
    """Scores of borders, given by their places among the edges; each is worked out once.

    Args:
        below: `(n_samples, n_columns)` sums of the columns up to each.
        start: places of the borders as they are.
    """

    def __init__(self, below: FloatArray, edges: Borders, start: Sequence[int], measure: Measure):
        self.below, self.edges, self.start, self.measure = below, np.array(edges), tuple(start), measure
        self._scores: dict[Places, FloatArray] = {}

    def read(self, places: Places) -> Any:
        return self.measure.read(_between(self.below, places))

    def scores(self, places: Places) -> FloatArray:
        """`(n_folds + 1,)` on the photos outside each fold, last on all; higher is better."""
        if places not in self._scores:
            self._scores[places] = self.measure.outside(self.read(places))
        return self._scores[places]

    def best(self, fold: int) -> Places:
        """The best borders on the photos outside a fold (its number), or on all (the number of folds)."""
        if comb(len(self.edges), len(self.start)) <= MOST:
            return self._choose(combinations(range(len(self.edges)), len(self.start)), fold)
        places = self.start
        while True:
            moved = places
            for number in range(len(places)):
                moved = self._choose(self._with_one_moved(moved, number), fold)
            if moved == places:
                return places
            places = moved

    def _with_one_moved(self, places: Places, number: int) -> Iterator[Places]:
        low = places[number - 1] + 1 if number else 0
        high = places[number + 1] if number + 1 < len(places) else len(self.edges)
        for place in range(low, high):
            yield (*places[:number], place, *places[number + 1 :])

    def _choose(self, candidates: Iterator[Places], fold: int) -> Places:
        return max(candidates, key=lambda places: (self.scores(places)[fold], -self._moved(places)))

    def _moved(self, places: Places) -> float:
        moves: FloatArray = np.abs(self.edges[list(places)] - self.edges[list(self.start)])
        return float(moves.sum())
