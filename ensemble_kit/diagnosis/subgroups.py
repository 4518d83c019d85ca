"""Joint accuracy by subgroup, and how far the lowest of many can be trusted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ensemble_kit.arrays import IdArray, IntArray
from ensemble_kit.diagnosis.findings import MIN_PEOPLE, MIN_PHOTOS, Subgroup
from ensemble_kit.diagnosis.simultaneous import simultaneous
from ensemble_kit.metrics import Tally, View
from ensemble_kit.structure_report import Gain
from ensemble_kit.structures.scorer import Measured, Scorer

Division = tuple[str, Sequence[str], IntArray]
"""What divides the photos, its values' names, and each photo's value `(n_samples,)` (-1 = none)."""


def score_subgroups(
    right: IntArray, divisions: Sequence[Division], groups: IdArray | None, scorer: Scorer
) -> tuple[list[Subgroup], int]:
    """The subgroups with at least `MIN_PEOPLE` people (`MIN_PHOTOS` photos where nobody is known), lowest first.

    Args:
        right: `(n_samples,)` 1 where the joint class was right, else 0.

    Returns:
        The subgroups, and how many had too few.
    """
    measured = scorer.measure(
        {("all", 0): [_tally(right, np.zeros(len(right), dtype=np.int64), 1)]}
        | {("part", i): [_tally(right, value, len(names))] for i, (_, names, value) in enumerate(divisions)}
    )
    whole = measured["all", 0][0]
    kept: list[tuple[str, str, int, int | None, Measured]] = []
    n_small = 0
    for i, (kind, names, value) in enumerate(divisions):
        for number, name in enumerate(names):
            inside = value == number
            n_people = None if groups is None else len(np.unique(groups[inside]))
            size = int(inside.sum())
            if not size or (size < MIN_PHOTOS if n_people is None else n_people < MIN_PEOPLE):
                n_small += bool(size)
                continue
            kept.append((kind, name, size, n_people, measured["part", i][number]))
    gaps = [part.values["accuracy"] - whole.values["accuracy"] for *_, part in kept]
    draws = [part.gain_over(whole, "accuracy") for *_, part in kept]
    family = [one for one in draws if one is not None]
    between = simultaneous(gaps, family, [n or 2 for *_, n, _ in kept]) if family else [None] * len(kept)
    found = [
        Subgroup(kind, name, size, n, part.values["accuracy"], part.score().accuracy_interval, Gain(gap, both))
        for (kind, name, size, n, part), gap, both in zip(kept, gaps, between, strict=True)
    ]
    return sorted(found, key=lambda one: one.accuracy), n_small


def _tally(right: IntArray, value: IntArray, n_values: int) -> Tally:
    """Every value's photos as a class pair (wrong, right) of their own, and a view of each that counts these only."""
    place = np.where(value < 0, n_values, value)
    views = []
    for number in range(n_values):
        classes = np.full(2 * n_values + 2, -1, dtype=np.int64)
        classes[2 * number : 2 * number + 2] = (0, 1)
        views.append(View(classes, 2))
    return Tally(2 * place + 1, 2 * place + right, views)


def divide_by(column: str, values: Sequence[object]) -> Division:
    """A column of the user's: every value that occurs is a subgroup; empty ones and NaN are in none."""
    texts = np.array(["" if value is None or value != value else str(value) for value in values], dtype=np.str_)
    names = sorted(set(texts.tolist()) - {""})
    number = {name: i for i, name in enumerate(names)}
    return column, names, np.array([number.get(text, -1) for text in texts.tolist()], dtype=np.int64)


def divide_by_columns(columns: Mapping[str, Sequence[object]]) -> list[Division]:
    return [divide_by(name, values) for name, values in columns.items()]
