"""Attributes, their classes, and the numbering of joint classes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise, product
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ensemble_kit.arrays import BoolArray, IntArray
from ensemble_kit.errors import MALFORMED, DataError, UsageError, nearest

MAX_JOINT = 65_536
"""Above this a table of joint probabilities is the wrong tool: score the attributes apart."""

NEAR_BORDER = 2
"""Years, or whatever the numbers are, that a label is easily wrong by."""


def near_border(values: ArrayLike, borders: Sequence[float], reach: float = NEAR_BORDER) -> BoolArray:
    """Which measured values `(n_samples,)` would be in another class if they were off by `reach`; NaN is not.

    Examples:
        >>> near_border([57, 58, 59, 60, 61, 62], [30, 60]).tolist()
        [False, True, True, True, True, False]
    """
    measured, edges = np.asarray(values, dtype=np.float64)[:, None], np.asarray(borders, dtype=np.float64)
    return np.asarray(((measured >= edges - reach) & (measured < edges + reach)).any(axis=1))


@dataclass(frozen=True)
class Attribute:
    """One labelled property.

    Args:
        name: its name, also the sample table's column.
        classes: the ordered class names.
        borders: for an attribute measured as a number, the `len(classes) - 1` increasing borders: a value below
            `borders[0]` is class 0, a value equal to a border belongs to the class above it.

    Examples:
        >>> age = Attribute("age", ["<30", "30-59", ">=60"], borders=[30, 60])
        >>> age.numbers([29, 30, 60]).tolist()
        [0, 1, 2]
    """

    name: str
    classes: tuple[str, ...]
    borders: tuple[float, ...] | None = None

    def __init__(self, name: str, classes: Sequence[str], borders: Sequence[float] | None = None):
        if isinstance(classes, str) or not all(isinstance(c, str) and c for c in classes):
            raise UsageError(f'attribute "{name}": classes must be a list of non-empty names, found {classes!r}')
        if not name or "," in name:
            raise UsageError(f"attribute name {name!r}: expected text without a comma")
        if len(classes) < 1 or len(set(classes)) != len(classes):
            raise UsageError(f'attribute "{name}": expected distinct classes, found {list(classes)}')
        object.__setattr__(self, "name", name)
        object.__setattr__(self, "classes", tuple(classes))
        object.__setattr__(self, "borders", None if borders is None else self.check_borders(borders, name))

    def check_borders(self, borders: Sequence[float], name: str | None = None) -> tuple[float, ...]:
        """The borders as numbers; UsageError unless they are `len(classes) - 1` increasing ones."""
        label = name or self.name
        try:
            numbers = tuple(float(b) for b in borders)
        except (TypeError, ValueError):
            raise UsageError(f'attribute "{label}": borders must be numbers, found {borders!r}') from None
        wrong_order = any(a >= b for a, b in pairwise(numbers))
        if len(numbers) != len(self.classes) - 1 or wrong_order or not all(np.isfinite(numbers)):
            raise UsageError(
                f'attribute "{label}": {len(self.classes)} classes need {len(self.classes) - 1} increasing borders, '
                f"found {list(borders)}"
            )
        return numbers

    def index(self, name: str) -> int:
        """The class number of a class name."""
        if name not in self.classes:
            raise UsageError(f'attribute "{self.name}" has no class "{name}"{nearest(name, self.classes)}')
        return self.classes.index(name)

    def numbers(self, values: ArrayLike, borders: Sequence[float] | None = None) -> IntArray:
        """Class numbers `(n_samples,)` of a column of the sample table; -1 where the value is missing.

        Args:
            values: numbers when the attribute has borders (NaN = missing), else class names ("" = missing).
            borders: others than the attribute's own, for training.

        Raises:
            DataError: a name that is no class.
        """
        if self.borders is not None:
            measured = np.asarray(values, dtype=np.float64)
            cut = np.searchsorted(self.check_borders(borders or self.borders), measured, side="right")
            return np.where(np.isnan(measured), -1, cut).astype(np.int64)
        names = np.asarray(values, dtype=object)
        found, inverse = np.unique(names.astype(str), return_inverse=True)
        known = {"": -1} | {name: number for number, name in enumerate(self.classes)}
        for name in found:
            if name not in known:
                raise DataError(f'attribute "{self.name}": unknown class "{name}"{nearest(name, self.classes)}')
        return np.array([known[name] for name in found], dtype=np.int64)[inverse.ravel()]


class Schema:
    """The attributes in order, and the numbering of their joint classes.

    Args:
        attributes: in order; the first one varies slowest in the numbering.
        paths: for a taxonomy, the rows of class names that exist; the full product when left out.

    Attributes:
        paths: `(n_joint, n_attributes)` class numbers in lexicographic order; `joint_index` is the row number.

    Examples:
        >>> mask = Attribute("mask", ["worn", "incorrect", "not_worn"])
        >>> gender = Attribute("gender", ["male", "female"])
        >>> Schema(mask, gender).encode({"mask": [2], "gender": [1]}).tolist()
        [5]
    """

    def __init__(self, *attributes: Attribute, paths: Iterable[Sequence[str]] | None = None):
        if not attributes or len({a.name for a in attributes}) != len(attributes):
            raise UsageError(f"schema: expected distinct attributes, found {[a.name for a in attributes]}")
        self.attributes = attributes
        self.names = tuple(attribute.name for attribute in attributes)
        shape = tuple(len(attribute.classes) for attribute in attributes)
        n_dense = math.prod(shape)
        if n_dense >= 2**62:
            raise UsageError(f"schema: {n_dense:.1e} combinations of classes are too many to number; split it in two")
        if paths is None:
            if n_dense > MAX_JOINT:
                raise UsageError(f"schema: {n_dense} joint classes, at most {MAX_JOINT}; give paths or split it")
            rows = np.array(list(product(*map(range, shape))), dtype=np.int64)
        else:
            rows = self._rows(paths)
        self.paths: IntArray = rows
        self.is_product = len(rows) == n_dense
        self.n_joint = len(rows)
        self._key_of_row = self._keys(rows)

    def _rows(self, paths: Iterable[Sequence[str]]) -> IntArray:
        rows = set()
        for path in paths:
            if len(path) != len(self.attributes):
                raise UsageError(f"schema: path {list(path)} must name one class for each of {list(self.names)}")
            rows.add(tuple(a.index(name) for a, name in zip(self.attributes, path, strict=True)))
        if not rows or len(rows) > MAX_JOINT:
            raise UsageError(f"schema: expected 1 to {MAX_JOINT} paths, found {len(rows)}")
        return np.array(sorted(rows), dtype=np.int64)

    def _keys(self, rows: IntArray) -> IntArray:
        """One number a row, in the rows' lexicographic order."""
        key = np.zeros(len(rows), dtype=np.int64)
        for column, attribute in enumerate(self.attributes):
            key = key * len(attribute.classes) + rows[:, column]
        return key

    @classmethod
    def from_rows(cls, names: Sequence[str], rows: Iterable[Sequence[str]]) -> Schema:
        """A taxonomy from the combinations that occur; classes in sorted order."""
        found = sorted({tuple(str(value) for value in row) for row in rows})
        for row in found:
            if len(row) != len(names):
                raise UsageError(f"schema: path {list(row)} must name one class for each of {list(names)}")
        attributes = [Attribute(name, sorted({row[i] for row in found})) for i, name in enumerate(names)]
        return cls(*attributes, paths=found)

    def __getitem__(self, name: str) -> Attribute:
        for attribute in self.attributes:
            if attribute.name == name:
                return attribute
        raise UsageError(f'the schema has no attribute "{name}"{nearest(name, self.names)}')

    def with_borders(self, borders: Mapping[str, Sequence[float]]) -> Schema:
        """The same classes and joint numbering with some attributes' borders moved.

        Raises:
            UsageError: an attribute that is unknown or has no borders, or another number of borders.
        """
        for name in borders:
            if self[name].borders is None:
                raise UsageError(f'borders: the classes of "{name}" are names, not ranges of a number')
        attributes = [Attribute(a.name, a.classes, borders.get(a.name, a.borders)) for a in self.attributes]
        names = [[a.classes[i] for a, i in zip(self.attributes, row, strict=True)] for row in self.paths]
        return Schema(*attributes, paths=None if self.is_product else names)

    def in_order(self, names: Sequence[str]) -> tuple[str, ...]:
        """Some attributes' names in the schema's order, however they were typed.

        Raises:
            UsageError: a name that is no attribute, or one named twice.
        """
        if isinstance(names, str) or not isinstance(names, Sequence):
            hint = f"; write [{names!r}]" if isinstance(names, str) else ""
            raise UsageError(f"expected a list of attributes, found {names!r}{hint}")
        columns = [self.names.index(self[name].name) for name in names]
        for name in names:
            if names.count(name) > 1:
                raise UsageError(f'the list {", ".join(names)} names "{name}" twice; name it once')
        return tuple(self.names[column] for column in sorted(columns))

    def block(self, names: Sequence[str]) -> Schema:
        """The schema of some attributes alone, in the order given: what an expert of a block predicts."""
        chosen = [self[name] for name in names]
        columns = [self.names.index(name) for name in names]
        if self.is_product:
            return Schema(*chosen)
        rows = np.unique(self.paths[:, columns], axis=0)
        return Schema(*chosen, paths=[[a.classes[i] for a, i in zip(chosen, row, strict=True)] for row in rows])

    def encode(self, classes: Mapping[str, ArrayLike]) -> IntArray:
        """Class numbers per attribute, each `(n_samples,)` -> joint index; -1 where any of them is -1.

        Raises:
            DataError: a class number out of range, or a combination that the taxonomy does not have.
        """
        for name in self.names:
            if name not in classes:
                raise UsageError(f'encode: no classes given for "{name}" (found: {", ".join(classes) or "none"})')
        columns = [np.asarray(classes[name], dtype=np.int64) for name in self.names]
        if len({column.shape for column in columns}) > 1:
            shapes = ", ".join(f"{name} {c.shape}" for name, c in zip(self.names, columns, strict=True))
            raise DataError(f"encode: expected as many class numbers of each attribute, found {shapes}")
        rows = np.stack(columns, axis=-1).reshape(-1, len(self.names))
        for column, attribute in enumerate(self.attributes):
            if rows[:, column].max(initial=-1) >= len(attribute.classes) or rows[:, column].min(initial=0) < -1:
                raise DataError(
                    f'attribute "{attribute.name}": class numbers must be 0 to {len(attribute.classes) - 1}'
                )
        known = np.asarray((rows >= 0).all(axis=1))
        keys = self._keys(np.where(known[:, None], rows, self.paths[0]))
        found = np.minimum(np.searchsorted(self._key_of_row, keys), self.n_joint - 1)
        wrong = np.asarray(self._key_of_row[found] != keys)
        if wrong.any():
            row = rows[int(np.flatnonzero(wrong)[0])]
            names = [a.classes[i] for a, i in zip(self.attributes, row, strict=True)]
            raise DataError(f"the schema has no joint class {names}; add it to the taxonomy's paths or mend the label")
        return np.where(known, found, -1).astype(np.int64)

    def decode(self, joint: ArrayLike) -> dict[str, IntArray]:
        """Joint indices `(n_samples,)` -> class numbers per attribute; -1 stays -1.

        Raises:
            DataError: an index that is no joint class.
        """
        index = np.asarray(joint, dtype=np.int64)
        if index.size and (index.max() >= self.n_joint or index.min() < -1):
            raise DataError(
                f"joint classes are 0 to {self.n_joint - 1}, found {int(index.min())} to {int(index.max())}"
            )
        rows = np.where((index >= 0)[..., None], self.paths[np.maximum(index, 0)], -1)
        return {name: rows[..., column] for column, name in enumerate(self.names)}

    def joint_names(self) -> list[str]:
        """`worn / male / <30`, one name a joint class."""
        return [" / ".join(a.classes[i] for a, i in zip(self.attributes, row, strict=True)) for row in self.paths]

    def class_rows(self) -> tuple[tuple[str, ...], ...]:
        """One row of class names a joint class."""
        return tuple(tuple(a.classes[i] for a, i in zip(self.attributes, row, strict=True)) for row in self.paths)

    def to_json(self) -> dict[str, Any]:
        attributes = [
            {"name": a.name, "classes": list(a.classes), "borders": None if a.borders is None else list(a.borders)}
            for a in self.attributes
        ]
        paths = None
        if not self.is_product:
            paths = [[a.classes[i] for a, i in zip(self.attributes, row, strict=True)] for row in self.paths]
        return {"attributes": attributes, "paths": paths}

    @classmethod
    def from_json(cls, value: Any) -> Schema:
        """Raises DataError when `value` is not what `to_json` writes."""
        try:
            attributes = [Attribute(a["name"], a["classes"], a["borders"]) for a in value["attributes"]]
            return cls(*attributes, paths=value["paths"])
        except UsageError as error:
            raise DataError(str(error)) from None
        except MALFORMED as error:
            raise DataError(f"schema: not a stored schema ({type(error).__name__}: {error})") from None

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Schema)
            and self.attributes == other.attributes
            and np.array_equal(self.paths, other.paths)
        )

    def __hash__(self) -> int:
        return hash((self.attributes, self.n_joint))

    def __repr__(self) -> str:
        return f"Schema({', '.join(f'{a.name}[{len(a.classes)}]' for a in self.attributes)}; {self.n_joint} joint)"
