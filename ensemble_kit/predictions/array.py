"""One expert's probabilities on one set of photos."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from itertools import product
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from ensemble_kit.arrays import Condition, FloatArray, IdArray, IntArray
from ensemble_kit.errors import DataError, UsageError, nearest
from ensemble_kit.graph import describe_expert
from ensemble_kit.ids import as_ids
from ensemble_kit.predictions.checks import SUM_TOLERANCE, check_probs
from ensemble_kit.predictions.fine import Fine, add_columns, edge_names
from ensemble_kit.schema import Attribute, Schema

Decision = Literal["joint", "attribute"]


@dataclass(frozen=True, eq=False, init=False)
class Predictions:
    """One expert on one set of photos; also what combining returns.

    Args:
        attributes: what is predicted, several for a block. A single attribute is accepted.
        probs: `(n_voters, n_samples, n_classes)` probabilities, never logits. `(n_samples, n_classes)` is one voter; a
            list of such arrays, memory-mapped ones too, is several. A row of NaN = not computed, of zeros = abstained.
        ids: `(n_samples,)` text.
        condition: the parents' classes the expert is for, `{"mask": ("worn",)}` or `{"mask": "worn"}`; {} = pooled.
        classes: one row of class names per column, in the attributes' order; the attributes' own when left out.
        voters: a name per voter; `voter0`, `voter1`, ... when left out.
        edges: for columns finer than the classes, the `n_columns - 1` numbers between them: 61 single ages have the
            edges 1, 2, ..., 60. They are added up to the schema's classes when combining, so that borders can move.
        to: for other finer columns, the class number of each.
        checked: it is known that the numbers are probabilities and the ids an array of texts: not looked at again.

    Attributes:
        layers: one `(n_samples, n_classes)` array per voter.
        fine: the edges or the map, None where the columns are the classes.

    Raises:
        UsageError: names and shapes that do not fit together.
        DataError: numbers that are no probabilities, ids that are no text.

    Examples:
        >>> mask = Attribute("mask", ["worn", "incorrect", "not_worn"])
        >>> Predictions(mask, np.array([[0.7, 0.2, 0.1]]), ["a"]).labels().tolist()
        [0]
    """

    attributes: tuple[Attribute, ...]
    layers: tuple[FloatArray, ...]
    ids: IdArray
    condition: Condition
    classes: tuple[tuple[str, ...], ...]
    voters: tuple[str, ...]
    fine: Fine | None

    def __init__(
        self,
        attributes: Attribute | Sequence[Attribute],
        probs: ArrayLike | Sequence[FloatArray],
        ids: ArrayLike,
        condition: Mapping[str, Sequence[str] | str] | None = None,
        classes: Sequence[Sequence[str] | str] | None = None,
        voters: Sequence[str] | None = None,
        *,
        edges: Sequence[float] | None = None,
        to: Sequence[int] | None = None,
        checked: bool = False,
    ):
        block = (attributes,) if isinstance(attributes, Attribute) else tuple(attributes)
        given = {n: (c,) if isinstance(c, str) else tuple(c) for n, c in (condition or {}).items()}
        who = describe_expert([attribute.name for attribute in block], given)
        layers = _layers(_by_name(probs, block, classes, who), who)
        names = tuple(f"voter{number}" for number in range(len(layers))) if voters is None else tuple(voters)
        if len(names) != len(layers) or len(set(names)) != len(names):
            raise UsageError(f"{who}: expected {len(layers)} distinct voter names, found {list(names)}")
        object.__setattr__(self, "attributes", block)
        object.__setattr__(self, "layers", layers)
        object.__setattr__(self, "ids", ids if checked else as_ids(ids, f"ids of {who}"))
        object.__setattr__(self, "condition", given)
        fine = Fine.of(edges, to, layers[0].shape[1], who)
        if fine is not None and fine.edges is not None:
            if len(block) != 1:
                raise UsageError(f"{who}: edges are for one attribute; give a block's fine columns with to=")
            classes = edge_names(fine.edges) if classes is None else classes
        object.__setattr__(self, "fine", fine)
        object.__setattr__(self, "classes", _columns(block, classes, layers[0].shape[1], who))
        object.__setattr__(self, "voters", names)
        if len(self.ids) != len(layers[0]):
            raise UsageError(f"{who}: expected one id a row, found {len(self.ids)} ids and {len(layers[0])} rows")
        for number, layer in enumerate(layers):
            if not checked and not isinstance(layer, np.memmap):  # a mapped file is checked as it is read
                self.check(layer, number)

    @property
    def probs(self) -> FloatArray:
        """`(n_voters, n_samples, n_classes)`; memory-mapped voters are read in full here, `layers` leaves them."""
        return self.layers[0][None] if len(self.layers) == 1 else np.stack(self.layers)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(attribute.name for attribute in self.attributes)

    @property
    def n_samples(self) -> int:
        return len(self.ids)

    def __repr__(self) -> str:
        return f"Predictions({self.describe()}; {len(self.voters)} voters, {self.n_samples} samples)"

    def describe(self) -> str:
        """`age given mask=worn`."""
        return describe_expert(self.names, self.condition)

    def check(self, values: FloatArray, voter: int) -> None:
        """Raises DataError unless rows `(n_rows, n_classes)` of a voter are probabilities, all zero, or all NaN."""
        check_probs(values, f"{self.describe()}, {self.voters[voter]}", SUM_TOLERANCE * len(self.attributes))

    def select_voters(self, names: Sequence[str]) -> Predictions:
        """The same expert with some of its voters only, so that one checkpoint and five voting are the same code."""
        chosen = [names] if isinstance(names, str) else list(names)
        for name in chosen:
            if name not in self.voters:
                raise UsageError(f'{self.describe()}: no voter "{name}"{nearest(name, self.voters)}')
        if len(set(chosen)) != len(chosen) or not chosen:
            raise UsageError(f"{self.describe()}: expected distinct voter names, found {chosen}")
        found = copy(self)
        object.__setattr__(found, "layers", tuple(self.layers[self.voters.index(name)] for name in chosen))
        object.__setattr__(found, "voters", tuple(chosen))
        return found

    def on(self, ids: IdArray, layers: Sequence[FloatArray]) -> Predictions:
        """The same expert on other photos, nothing looked at: an array of texts, and an array a voter of one shape."""
        found = copy(self)
        object.__setattr__(found, "layers", tuple(layers))
        object.__setattr__(found, "ids", ids)
        return found

    def with_voters(self, names: Sequence[str]) -> Predictions:
        """The same expert with its voters called otherwise."""
        return self._with(layers=self.layers, voters=names)

    def select(self, rows: ArrayLike) -> Predictions:
        """The same expert on some of the photos, in the order asked for; layers come into memory.

        Args:
            rows: row numbers from 0, or `(n_samples,)` True for the rows to keep.

        Raises:
            UsageError: a row that is not there, or no row numbers.

        Examples:
            >>> mask = Attribute("mask", ["worn", "incorrect", "not_worn"])
            >>> three = Predictions(mask, [[1, 0, 0], [0, 1, 0], [0, 0, 1]], ["a", "b", "c"])
            >>> three.select([2, 0]).ids.tolist()
            ['c', 'a']
            >>> three.select([True, False, True]).labels().tolist()
            [0, 2]
        """
        chosen = np.asarray(rows)
        if chosen.dtype == np.bool_ and chosen.shape == self.ids.shape:
            chosen = np.flatnonzero(chosen)
        elif chosen.size == 0 and chosen.ndim == 1:
            chosen = chosen.astype(np.int64)
        if chosen.ndim != 1 or chosen.dtype.kind not in "iu":
            raise UsageError(
                f"{self.describe()}: expected row numbers or {self.n_samples} times True or False, found "
                f"{chosen.dtype} of shape {chosen.shape}"
            )
        if chosen.size and (chosen.min() < 0 or chosen.max() >= self.n_samples):
            raise UsageError(
                f"{self.describe()}: rows are 0 to {self.n_samples - 1}, found {chosen.min()} to {chosen.max()}"
            )
        return self._with(layers=[np.asarray(layer[chosen]) for layer in self.layers], ids=self.ids[chosen])

    def collapse(self, to: Sequence[int]) -> Predictions:
        """Finer columns added up to the attribute's classes: 61 ages -> 3.

        Args:
            to: for each column the number of the class it belongs to (of a block: the joint class of the block).
        """
        block = Schema(*self.attributes)
        if len(to) != len(self.classes) or not all(0 <= number < block.n_joint for number in to):
            raise UsageError(
                f"{self.describe()}: expected one class number from 0 to {block.n_joint - 1} for each of "
                f"{len(self.classes)} columns, found {list(to)}"
            )
        layers = [add_columns(layer, np.asarray(to, dtype=np.int64), block.n_joint) for layer in self.layers]
        return self._with(layers=layers, classes=_class_rows(self.attributes))

    def in_classes_of(self, schema: Schema) -> Predictions:
        """The same expert in the schema's classes: fine columns added up by its borders or by the stored map.

        Args:
            schema: its attributes may have other borders than the expert was trained with.

        Raises:
            DataError: a border inside a column, or a map onto other classes than the schema's.

        Examples:
            >>> age = Attribute("age", ["young", "old"], borders=[40])
            >>> ages = Predictions(age, [[0.5, 0.3, 0.2]], ["a"], edges=[30, 40])
            >>> ages.classes
            (('<30',), ('30-40',), ('>=40',))
            >>> ages.in_classes_of(Schema(age)).probs.tolist()
            [[[0.8, 0.2]]]
            >>> ages.in_classes_of(Schema(Attribute("age", ["young", "old"], borders=[30]))).probs.tolist()
            [[[0.5, 0.5]]]
        """
        if self.fine is None:
            return self
        block = tuple(schema[name] for name in self.names)
        for own, wanted in zip(self.attributes, block, strict=True):
            if self.fine.edges is None and own.classes != wanted.classes:
                raise DataError(
                    f"{self.describe()}: its columns are mapped onto {', '.join(own.classes)}, the schema has "
                    f"{', '.join(wanted.classes)}; map them onto these"
                )
        to = self.fine.classes_of(block[0], self.describe())
        names = _class_rows(block)
        if to.min() < 0 or to.max() >= len(names):
            raise DataError(f"{self.describe()}: columns are mapped onto classes 0 to {len(names) - 1}, found {to}")
        layers = [add_columns(layer, to, len(names)) for layer in self.layers]
        return Predictions(block, layers, self.ids, self.condition, names, self.voters)

    def marginal(self, *names: str) -> Predictions:
        """The probabilities of some of the attributes, the others added up; the condition and voters stay."""
        for name in names:
            if name not in self.names:
                raise UsageError(f'{self.describe()}: no attribute "{name}"{nearest(name, self.names)}')
        if self.fine is not None:
            raise UsageError(f"{self.describe()}: has finer columns than classes; call in_classes_of(schema) first")
        places = [self.names.index(name) for name in names]
        chosen = tuple(self.attributes[place] for place in places)
        parts = [tuple(row[place] for place in places) for row in self.classes]
        kept = sorted(dict.fromkeys(parts), key=lambda row: [a.index(c) for a, c in zip(chosen, row, strict=True)])
        to = np.array([kept.index(row) for row in parts], dtype=np.int64)
        layers = [add_columns(layer, to, len(kept)) for layer in self.layers]
        return self._with(attributes=chosen, layers=layers, classes=kept)

    def labels(self, decide: Decision = "joint") -> IntArray:
        """One column a sample `(n_samples,)`, of joint predictions the joint index; -1 = abstained or not computed.

        Taken from the array as it is held, so that a result saved and read back has the same labels.

        Args:
            decide: "joint" = the column of the highest probability; "attribute" = each attribute's own most probable
                class (-1 where a taxonomy has no such combination). Ties go to the lowest.

        Raises:
            UsageError: several voters, which have to be combined first.
        """
        if len(self.layers) != 1:
            raise UsageError(f"{self.describe()}: {len(self.layers)} voters; select one, or combine them, then ask")
        if decide not in ("joint", "attribute"):
            raise UsageError(f'unknown decision "{decide}"{nearest(decide, ("joint", "attribute"))}')
        if decide == "joint" or len(self.attributes) == 1:
            probs = np.asarray(self.layers[0])
            return np.where((probs > 0).any(axis=1), probs.argmax(axis=1), -1).astype(np.int64)
        parts = [self.marginal(name) for name in self.names]
        rows, place = np.unique(np.stack([part.labels() for part in parts], axis=1), axis=0, return_inverse=True)
        column_of = {row: column for column, row in enumerate(self.classes)}
        chosen = [tuple(part.classes[i][0] for part, i in zip(parts, row, strict=True)) for row in rows]
        columns = [-1 if (row < 0).any() else column_of.get(c, -1) for row, c in zip(rows, chosen, strict=True)]
        return np.array(columns, dtype=np.int64)[place.ravel()]

    def _with(
        self,
        *,
        layers: Sequence[FloatArray],
        attributes: tuple[Attribute, ...] | None = None,
        classes: Sequence[Sequence[str]] | None = None,
        voters: Sequence[str] | None = None,
        ids: IdArray | None = None,
        checked: bool = False,
    ) -> Predictions:
        attributes, classes, voters = attributes or self.attributes, classes or self.classes, voters or self.voters
        ids = self.ids if ids is None else ids
        same = self.fine if self.fine is not None and tuple(classes) == self.classes else None
        edges, to = (same.edges, same.to) if same else (None, None)
        return Predictions(
            attributes, list(layers), ids, self.condition, classes, voters, edges=edges, to=to, checked=checked
        )


def _by_name(probs: Any, block: Sequence[Attribute], classes: Sequence[Sequence[str] | str] | None, who: str) -> Any:
    """Data frames, one or a list of them, with their columns brought into the classes' order."""
    if isinstance(probs, list | tuple) and any(hasattr(one, "columns") for one in probs):
        return [_by_name(one, block, classes, who) for one in probs]
    if not hasattr(probs, "columns") or not hasattr(probs, "to_numpy"):
        return probs
    columns = list(probs.columns)
    if columns == list(range(len(columns))):  # never named
        return probs.to_numpy()
    rows = _class_rows(block) if classes is None else classes
    wanted = [row if isinstance(row, str) else " / ".join(row) for row in rows]
    found = [" / ".join(column) if isinstance(column, tuple) else str(column) for column in columns]
    if sorted(found) != sorted(wanted):
        raise UsageError(f"{who}: expected the columns {', '.join(wanted)}, found {', '.join(found)}")
    return probs.to_numpy()[:, [found.index(name) for name in wanted]]


def _layers(probs: Any, who: str) -> tuple[FloatArray, ...]:
    listed = isinstance(probs, list | tuple) and all(isinstance(p, np.ndarray) and p.ndim == 2 for p in probs)
    if listed and len(probs):
        layers = tuple(probs)
    else:
        array = np.asanyarray(probs)
        layers = (array,) if array.ndim == 2 else tuple(array)
    shapes = {layer.shape for layer in layers}
    if len(shapes) != 1 or layers[0].ndim != 2 or layers[0].shape[1] == 0:
        raise UsageError(f"{who}: expected probs of shape (n_voters, n_samples, n_classes), found {sorted(shapes)}")
    return tuple(layer if layer.dtype.kind == "f" else layer.astype(np.float64) for layer in layers)


def _class_rows(block: Sequence[Attribute]) -> list[tuple[str, ...]]:
    return list(product(*(attribute.classes for attribute in block)))


def _columns(
    block: Sequence[Attribute], classes: Sequence[Sequence[str] | str] | None, n_classes: int, who: str
) -> tuple[tuple[str, ...], ...]:
    given = _class_rows(block) if classes is None else classes
    rows = tuple((row,) if isinstance(row, str) else tuple(row) for row in given)
    if len(rows) != n_classes or len(set(rows)) != len(rows) or any(len(row) != len(block) for row in rows):
        hint = "; name the columns with classes=" if classes is None else ""
        raise UsageError(f"{who}: expected {n_classes} distinct columns, found {len(rows)} class names{hint}")
    return rows
