"""Columns finer than the attribute's classes (61 ages, 11 bins), and how they add up to them when combining."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from ensemble_kit.arrays import FloatArray, IntArray
from ensemble_kit.errors import DataError, UsageError
from ensemble_kit.schema import Attribute


@dataclass(frozen=True)
class Fine:
    """How fine columns belong to classes: by the borders between the columns, or by a stored map.

    Attributes:
        edges: `(n_columns - 1,)` increasing; column i holds the values from `edges[i - 1]` up to, without, `edges[i]`.
            Any of them can be a border between classes, so borders move when combining.
        to: `(n_columns,)` the class number of each column (of a block: the joint class of the block).
    """

    edges: tuple[float, ...] | None = None
    to: tuple[int, ...] | None = None

    @classmethod
    def of(cls, edges: Sequence[float] | None, to: Sequence[int] | None, n_columns: int, who: str) -> Fine | None:
        """None when neither is given.

        Raises:
            UsageError: both were given, or one that does not fit the columns.
        """
        if edges is None and to is None:
            return None
        if edges is not None and to is not None:
            raise UsageError(f"{who}: give edges (columns of numbers) or to (a map onto the classes), not both")
        if to is not None:
            if len(to) != n_columns:
                raise UsageError(f"{who}: expected a class for each of {n_columns} columns, found {len(to)}")
            return cls(to=tuple(int(number) for number in to))
        numbers = tuple(float(edge) for edge in edges or ())
        if len(numbers) != n_columns - 1 or not np.isfinite(numbers).all() or any(a >= b for a, b in pairwise(numbers)):
            raise UsageError(
                f"{who}: {n_columns} columns have {n_columns - 1} increasing edges between them, found {len(numbers)}: "
                f"{', '.join(f'{edge:g}' for edge in numbers[:8])}{', ...' if len(numbers) > 8 else ''}"
            )
        return cls(edges=numbers)

    def classes_of(self, attribute: Attribute, who: str) -> IntArray:
        """The class number of each column `(n_columns,)` under the attribute's borders.

        Raises:
            DataError: the attribute has no borders, or one that lies inside a column.
        """
        if self.to is not None:
            return np.array(self.to, dtype=np.int64)
        if attribute.borders is None:
            raise DataError(f'{who}: its columns are ranges of numbers; give the attribute "{attribute.name}" borders')
        edges = self.edges or ()
        inside = [border for border in attribute.borders if border not in edges]
        if inside:
            near = sorted(edges, key=lambda edge: abs(edge - inside[0]))[:3]
            raise DataError(
                f"{who}: the border {inside[0]:g} lies inside a column; "
                f"the nearest possible are {', '.join(f'{edge:g}' for edge in sorted(near))}"
            )
        lowest = np.array([-np.inf, *edges])
        return np.searchsorted(np.array(attribute.borders), lowest, side="right").astype(np.int64)


def edge_names(edges: Sequence[float]) -> list[str]:
    """Names of the columns between the edges: `<30`, `30-45`, `>=45`; a single year is called by itself."""
    inner = [f"{a:g}" if b - a == 1 else f"{a:g}-{b:g}" for a, b in pairwise(edges)]
    return [f"<{edges[0]:g}", *inner, f">={edges[-1]:g}"] if len(edges) else ["all"]


def add_columns(layer: FloatArray, to: IntArray, n_classes: int) -> FloatArray:
    """`(n_samples, n_columns)` -> `(n_samples, n_classes)`, column by column, so that a row alone gives the same bits
    as in a batch (a matrix product does not)."""
    total = np.zeros((len(layer), n_classes), dtype=np.float64)
    for column, target in enumerate(to):
        total[:, target] += layer[:, column]
    return total.astype(layer.dtype)
