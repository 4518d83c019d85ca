"""Names for the array types, so that signatures say what a number is. Shapes stand in the docstrings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import DTypeLike, NDArray

FloatArray: TypeAlias = NDArray[np.floating[Any]]
IntArray: TypeAlias = NDArray[np.int64]
BoolArray: TypeAlias = NDArray[np.bool_]
ByteArray: TypeAlias = NDArray[np.uint8]
FloatType: TypeAlias = np.dtype[np.floating[Any]]
IdArray: TypeAlias = NDArray[np.str_]

Condition: TypeAlias = Mapping[str, tuple[str, ...]]
"""The parents' classes an expert is for: `{"mask": ("incorrect", "not_worn")}`; empty = pooled."""


def by_class(n_rows: int, n_classes: int, dtype: DTypeLike = np.float64) -> FloatArray:
    """Zeros `(n_rows, n_classes)`, laid out class by class: whole columns are then added at full speed."""
    return np.zeros((n_classes, n_rows), dtype=dtype).T


def one_hot_rows(values: FloatArray) -> FloatArray:
    """1 at each row's highest value, of equal ones at the lowest class, 0 elsewhere; laid out class by class.

    Without NaN only. Class by class it is several times as fast as `argmax` over rows of a few classes.
    """
    highest = values[:, 0].copy()
    for column in values.T[1:]:
        np.maximum(highest, column, out=highest)
    result = by_class(len(values), values.shape[1], values.dtype)
    is_open = np.ones(len(values), dtype=np.bool_)
    for column, chosen in zip(values.T, result.T, strict=True):
        is_here = (column == highest) & is_open
        is_open &= ~is_here
        chosen[:] = is_here
    return result
