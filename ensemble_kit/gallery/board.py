"""A board of photos: what can be filtered and in which orders they come. What a page's script works on.

Facts as plain arrays, `(n_photos,)` each; `to_json` writes them short. Nothing here knows what the photos are of.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ensemble_kit.arrays import BoolArray, FloatArray, IdArray, IntArray

SCALE = 60_000
"""Probabilities are written as whole numbers of 16 bits, 1 being this one."""
NO_NUMBER = 65_535
"""What stands for a probability that was not computed."""


@dataclass(frozen=True, eq=False)
class Facet:
    """One property with few values: a group of check boxes.

    Attributes:
        key: its name in a page's address.
        names: the values, in order.
        values: `(n_photos,)` numbers of names, -1 = none; or `(n_photos, n_names)` booleans where a photo may have
            several.
        about: a sentence on what it is.
    """

    key: str
    title: str
    names: tuple[str, ...]
    values: IntArray | BoolArray
    about: str = ""

    def has(self, number: int) -> BoolArray:
        """`(n_photos,)`: which photos have the value."""
        if self.values.ndim == 2:
            return np.asarray(self.values[:, number], dtype=np.bool_)
        return np.asarray(self.values == number)

    def select(self, rows: IntArray) -> Facet:
        return replace(self, values=self.values[rows])

    @property
    def n_used(self) -> int:
        """Values that some photo has."""
        return sum(bool(self.has(number).any()) for number in range(len(self.names)))

    def to_json(self) -> dict[str, Any]:
        several = self.values.ndim == 2
        written: Any = [np.flatnonzero(row).tolist() for row in self.values] if several else self.values.tolist()
        found = {"key": self.key, "title": self.title, "kind": "many" if several else "one", "names": list(self.names)}
        return {**found, "about": self.about, "values": written}


@dataclass(frozen=True, eq=False)
class Span:
    """One measured property: a lowest and a highest value to choose.

    Attributes:
        values: `(n_photos,)`, NaN = not known; such photos are shown as long as nothing is chosen.
        step: what the values are counted in.
    """

    key: str
    title: str
    values: FloatArray
    step: float = 1.0
    about: str = ""

    def select(self, rows: IntArray) -> Span:
        return replace(self, values=self.values[rows])

    def to_json(self) -> dict[str, Any]:
        digits = 0 if self.step >= 1 else 4
        found = [None if value != value else round(value, digits) for value in self.values.astype(np.float64).tolist()]
        return {
            "key": self.key, "title": self.title, "kind": "span", "step": self.step, "about": self.about,
            "values": [int(value) if value is not None and value == int(value) else value for value in found],
        }  # fmt: skip


@dataclass(frozen=True, eq=False)
class Order:
    """An order of the photos; `rows` has every row once."""

    key: str
    title: str
    rows: IntArray

    @classmethod
    def by(cls, key: str, title: str, values: FloatArray, *, falling: bool = False) -> Order:
        """By a number, ties in the order of the rows; what is not known (NaN) comes last."""
        known = np.where(np.isnan(values), np.inf, -values if falling else values)
        return cls(key, title, np.argsort(known, kind="stable").astype(np.int64))

    def among(self, rows: IntArray) -> Order:
        """The same order of some of the rows, numbered anew."""
        place = np.full(len(self.rows), -1, dtype=np.int64)
        place[rows] = np.arange(len(rows))
        kept = place[self.rows]
        return replace(self, rows=kept[kept >= 0])


@dataclass(frozen=True)
class Line:
    """One line of a photo's answers: an attribute, and for each column of the board the facet that tells its class.

    Attributes:
        probs: for each column the probability of the class that it names `(n_photos,)`; None = not known.
    """

    title: str
    facets: tuple[str, ...]
    probs: tuple[FloatArray | None, ...]

    def select(self, rows: IntArray) -> Line:
        return replace(self, probs=tuple(None if values is None else values[rows] for values in self.probs))


@dataclass(frozen=True, eq=False)
class Board:
    """The photos of one page.

    Attributes:
        ids: `(n_photos,)`.
        people: `(n_photos,)` who is on each; None = nobody knows.
        facets, spans: what can be filtered, in the order shown.
        orders: the first is the one to begin with.
        columns: what the answers are called, as truth and answer; the last two are held against each other.
        lines: one an attribute.
        start: facet -> the values chosen to begin with.
        sure: `(n_photos,)` the answer's probability, shown under each photo; None = not known.
        probs_are: what the numbers beside the classes are.
        legend: how to read what stands under a photo.
        contrast: what the last two columns are: "truth" and an answer, or a "change" from one answer to another.
    """

    ids: IdArray
    facets: tuple[Facet, ...]
    spans: tuple[Span, ...]
    orders: tuple[Order, ...]
    columns: tuple[str, ...]
    lines: tuple[Line, ...]
    start: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    people: IdArray | None = None
    sure: FloatArray | None = None
    contrast: str = "truth"
    probs_are: str = ""
    legend: str = ""

    def __len__(self) -> int:
        return len(self.ids)

    def facet(self, key: str) -> Facet:
        return next(facet for facet in self.facets if facet.key == key)

    def select(self, rows: IntArray) -> Board:
        """Some of the photos, in the order given."""
        return replace(
            self,
            ids=self.ids[rows],
            facets=tuple(facet.select(rows) for facet in self.facets),
            spans=tuple(span.select(rows) for span in self.spans),
            orders=tuple(order.among(rows) for order in self.orders),
            lines=tuple(line.select(rows) for line in self.lines),
            people=None if self.people is None else self.people[rows],
            sure=None if self.sure is None else self.sure[rows],
        )

    def shown(self) -> IntArray:
        """The rows that a page shows when it is opened, in their order."""
        keep = np.ones(len(self), dtype=np.bool_)
        for key, names in self.start.items():
            facet = self.facet(key)
            keep &= np.logical_or.reduce([facet.has(facet.names.index(name)) for name in names])
        first = self.orders[0].rows
        return first[keep[first]]

    def to_json(self) -> dict[str, Any]:
        """Facets of which no photo has more than one value are not filters; they still tell a photo's classes."""
        return {
            "ids": self.ids.tolist(),
            "people": None if self.people is None else _numbered(self.people),
            "facets": [{**facet.to_json(), "filters": facet.n_used > 1} for facet in self.facets],
            "spans": [span.to_json() for span in self.spans if np.isfinite(span.values).any()],
            "orders": [{"key": o.key, "title": o.title, "rows": packed(o.rows, np.uint32)} for o in self.orders],
            "columns": list(self.columns),
            "contrast": self.contrast,
            "probs_are": self.probs_are,
            "legend": self.legend,
            "lines": [
                {
                    "title": line.title,
                    "facets": list(line.facets),
                    "probs": [None if values is None else packed_probs(values) for values in line.probs],
                }
                for line in self.lines
            ],
            "start": {key: list(names) for key, names in self.start.items()},
            "sure": None if self.sure is None else packed_probs(self.sure),
        }


def _numbered(texts: Sequence[str] | IdArray) -> dict[str, Any]:
    """Texts that repeat: each once, and their numbers."""
    number = {name: place for place, name in enumerate(dict.fromkeys(map(str, texts)))}
    return {"names": list(number), "values": [number[str(text)] for text in texts]}


def packed(values: np.ndarray[Any, Any], kind: Any) -> str:
    """Whole numbers as base64 of little-endian bytes."""
    return b64encode(np.ascontiguousarray(values).astype(np.dtype(kind).newbyteorder("<")).tobytes()).decode()


def packed_probs(values: FloatArray) -> str:
    """Probabilities of any shape, row by row, 16 bits each.

    Examples:
        >>> import numpy as np
        >>> packed_probs(np.array([0.0, 1.0, np.nan]))
        'AABg6v//'
    """
    known = np.isfinite(values)
    numbers = np.rint(np.clip(np.where(known, values, 0), 0, 1) * SCALE)
    return packed(np.where(known, numbers, NO_NUMBER), np.uint16)
