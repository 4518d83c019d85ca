"""Columns finer than an attribute's classes: one a year, so many bins, or edges of one's own."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from ensemble_kit.arrays import FloatArray
from ensemble_kit.errors import DataError, UsageError

FORMS = re.compile(r"classes|years(=\d+)?|bins=\d+")

MAX_COLUMNS = 1000


def check_columns(columns: str | Sequence[float]) -> None:
    """Raises UsageError unless it is "classes", "years", "years=61", "bins=11", or increasing edges."""
    if isinstance(columns, str):
        number = int(columns.partition("=")[2] or 2)
        if not FORMS.fullmatch(columns) or not 2 <= number <= MAX_COLUMNS:
            raise UsageError(
                f'columns: expected classes, years, years=61, bins=11 or edges such as 20,30,45,60, found "{columns}"'
            )
    elif not columns or any(a >= b for a, b in pairwise(columns)):
        raise UsageError(f"columns: edges must increase, found {', '.join(f'{edge:g}' for edge in columns)}")


def column_edges(
    columns: str | Sequence[float], values: FloatArray, borders: Sequence[float], name: str
) -> tuple[float, ...] | None:
    """The numbers between the columns of a measured attribute; None when the columns are its classes.

    Every border of the classes is an edge, so that the columns can be added up to them.

    Args:
        columns: "years": one column a whole number, over the range of the values. "years=61": 0, 1, ... 59, and 60 and
            above, whatever the data. "bins=11": eleven bins of about equal width over the range; the edge nearest to a
            border is moved onto it. Or the edges themselves.
        values: `(n_samples,)` the measured numbers, NaN where unlabelled.
        borders: of the attribute's classes.
        name: of the attribute, for messages.

    Raises:
        UsageError: none of these, edges without the borders, or fewer bins than classes.
        DataError: no measured number.

    Examples:
        >>> column_edges("bins=4", np.array([20.0, 60.0]), [30, 60], "age")
        (30.0, 40.0, 60.0)
        >>> column_edges("years", np.array([27.5, 30.0]), [29], "age")
        (28.0, 29.0, 30.0)
        >>> len(column_edges("years=61", np.array([20.0]), [30, 60], "age")) + 1
        61
    """
    check_columns(columns)
    if columns == "classes":
        return None
    if not isinstance(columns, str):
        missing = [border for border in borders if border not in columns]
        if missing:
            raise UsageError(f"columns of {name}: expected the border {missing[0]:g} among the edges; add it")
        return tuple(float(edge) for edge in columns)
    kind, _, number = columns.partition("=")
    if kind == "years" and number:
        return _with(np.arange(1.0, int(number)), borders)
    known = values[np.isfinite(values)]
    if not len(known):
        raise DataError(f'columns of {name}: expected measured numbers to lay "{columns}" over, found none')
    if kind == "years":
        return _with(np.arange(np.floor(known.min()) + 1, np.floor(known.max()) + 1), borders)
    return _bins(int(number), known, borders, name)


def _with(edges: FloatArray, borders: Sequence[float]) -> tuple[float, ...]:
    return tuple(sorted({float(edge) for edge in edges} | {float(border) for border in borders}))


def _bins(number: int, values: FloatArray, borders: Sequence[float], name: str) -> tuple[float, ...]:
    edges = np.linspace(values.min(), values.max(), number + 1)[1:-1]
    if (values == np.round(values)).all():
        edges = np.round(edges)
    free = list(range(len(edges)))
    if len(free) < len(borders):
        raise UsageError(f"columns of {name}: {number} bins are fewer than its {len(borders) + 1} classes")
    for border in borders:
        nearest = min(free, key=lambda i: abs(edges[i] - border))
        edges[nearest] = border
        free.remove(nearest)
    edges = np.sort(edges)
    if (np.diff(edges) <= 0).any():
        raise UsageError(
            f"columns of {name}: {number} bins are too many for numbers from {values.min():g} to {values.max():g}"
        )
    return tuple(float(edge) for edge in edges)
