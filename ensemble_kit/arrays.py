"""Names for the array types, so that signatures say what a number is. Shapes stand in the docstrings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

FloatArray: TypeAlias = NDArray[np.floating[Any]]
IntArray: TypeAlias = NDArray[np.int64]
BoolArray: TypeAlias = NDArray[np.bool_]
ByteArray: TypeAlias = NDArray[np.uint8]
IdArray: TypeAlias = NDArray[np.str_]

Condition: TypeAlias = Mapping[str, tuple[str, ...]]
"""The parents' classes an expert is for: `{"mask": ("incorrect", "not_worn")}`; empty = pooled."""


def by_class(n_rows: int, n_classes: int) -> FloatArray:
    """Zeros `(n_rows, n_classes)` in float64, laid out class by class: whole columns are then added at full speed."""
    return np.zeros((n_classes, n_rows), dtype=np.float64).T


def argmax_rows(values: FloatArray) -> IntArray:
    """`values.argmax(axis=1)`, ties to the lowest; for a few columns laid out class by class several times as fast.

    Without NaN only.
    """
    if values.shape[1] > 32 or not values.flags.f_contiguous:
        return np.asarray(values.argmax(axis=1), dtype=np.int64)
    highest = values[:, 0].copy()
    found = np.zeros(len(values), dtype=np.uint8)
    for number, column in enumerate(values.T[1:], start=1):
        np.copyto(found, number, where=column > highest)
        np.maximum(highest, column, out=highest)
    return found.astype(np.int64)
