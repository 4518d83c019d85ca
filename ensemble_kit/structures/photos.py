"""Which photos can be scored: those with a label that every expert has computed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ensemble_kit.arrays import BoolArray, IdArray, IntArray
from ensemble_kit.errors import DataError, UsageError
from ensemble_kit.ids import as_ids, match_ids
from ensemble_kit.predictions import Predictions


def check_length(values: IdArray | IntArray, ids: IdArray, what: str, who: str) -> None:
    """Raises DataError unless there is one value an id."""
    if np.shape(values) != np.shape(ids):
        raise DataError(f"{who}: expected {what} for each of {len(ids)} ids, found {np.shape(values)}")


def same_photos(
    experts: Sequence[Predictions], ids: IdArray, truth: IntArray, who: str
) -> tuple[list[Predictions], BoolArray]:
    """The experts on the photos that have a label and that all of them have computed, and which of `ids` those are.

    Args:
        experts: on the photos of `ids`, in any order of rows.
        ids: `(n_samples,)`.
        truth: `(n_samples,)` joint index, -1 = not labelled.
        who: asks, for messages.

    Raises:
        UsageError: no experts.
        DataError: photos that differ, or none that can be scored.
    """
    if not len(experts):
        raise UsageError(f"{who}: expected at least one expert's predictions, found none")
    names = as_ids(ids, who)
    check_length(truth, names, "a true joint class", who)
    keep: BoolArray = np.asarray(truth) >= 0
    orders = [match_ids(expert.ids, names, expert.describe()) for expert in experts]
    for expert, order in zip(experts, orders, strict=True):
        computed = computed_rows(expert)
        keep &= computed if order is None else computed[order]
    if not keep.any():
        raise DataError(
            f"{who}: none of {len(names)} photos has both a label and a prediction by every expert; predict "
            "the photos whose answers are known"
        )
    rows = np.flatnonzero(keep)
    kept = [
        expert if order is None and keep.all() else expert.select(rows if order is None else order[rows])
        for expert, order in zip(experts, orders, strict=True)
    ]
    return kept, keep


def computed_rows(expert: Predictions) -> BoolArray:
    """`(n_samples,)`: whether every voter of the expert has computed the photo."""
    computed = np.ones(expert.n_samples, dtype=np.bool_)
    for layer in expert.layers:
        computed &= np.isfinite(layer).all(axis=1)
    return computed
