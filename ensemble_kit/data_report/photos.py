"""The photos of a report, all parts in one numbering: who is on them, what they are labelled, what they are called."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ensemble_kit.arrays import BoolArray, IntArray
from ensemble_kit.data.table import SampleTable
from ensemble_kit.data_report.looks import Looks
from ensemble_kit.schema import Attribute

TRAIN = 0


@dataclass(frozen=True)
class Photo:
    """One photo as a page names it.

    Attributes:
        at: its number among the photos of all parts.
        part: training, evaluation or extra.
        path: inside its part's folder.
        labels: attribute -> label as text; unlabelled ones are left out.
        fold: the fold that holds it out; None = none does, or nobody knows.
    """

    at: int
    part: str
    path: str
    person: str
    labels: dict[str, str]
    fold: int | None = None

    def to_json(self) -> dict[str, Any]:
        return {
            "part": self.part,
            "path": self.path,
            "person": self.person,
            "labels": self.labels,
            "fold": self.fold,
        }


@dataclass(frozen=True)
class Photos:
    """The parts of a data set with what was seen of their photos.

    Attributes:
        looks: what was measured; says which tables there are.
        names: what the parts are called.
        folds: `(n_train,)` of the training part; -1 = never held out.
    """

    looks: Looks
    names: tuple[str, ...]
    folds: IntArray

    @property
    def train(self) -> SampleTable:
        return self.looks.tables[TRAIN]

    @cached_property
    def has_people(self) -> tuple[bool, ...]:
        """Of each part, whether anybody has more than one photo: else nobody knows who is on them."""
        return tuple(len(np.unique(table.groups)) < len(table) for table in self.looks.tables)

    @cached_property
    def code(self) -> IntArray:
        """`(n_samples,)` photos of one code are not compared: one person's; an evaluation part of unknown people.

        Of the extra photos a group is the training part's person of that name, as in training.
        """
        names: list[tuple[str, str]] = []
        for name, table, has_people in zip(self.names, self.looks.tables, self.has_people, strict=True):
            if name == "evaluation" and not has_people:
                names += [(name, "")] * len(table)
            else:
                names += [("" if name == "extra" else name.replace("training", ""), g) for g in table.groups.tolist()]
        numbers: dict[tuple[str, str], int] = {}
        return np.array([numbers.setdefault(name, len(numbers)) for name in names], dtype=np.int64)

    @cached_property
    def _columns(self) -> list[dict[str, list[Any]]]:
        return [{name: table.frame[name].tolist() for name in table.frame.columns} for table in self.looks.tables]

    def column(self, name: str) -> list[Any]:
        """A column of the training part."""
        return self._columns[TRAIN][name]

    @cached_property
    def is_personal(self) -> dict[str, bool]:
        """Attribute -> whether its labels belong to the people of the training part, see `is_personal`."""
        schema, groups = self.train.schema, self.column("group_id")
        return {
            a.name: is_personal([label_text(a, value) or None for value in self.column(a.name)], groups)
            for a in schema.attributes
            if self.train.has(a.name)
        }

    @cached_property
    def rows_of(self) -> dict[str, list[int]]:
        """Person -> rows of the training part."""
        found: dict[str, list[int]] = {}
        for row, group in enumerate(self.column("group_id")):
            found.setdefault(group, []).append(row)
        return found

    @cached_property
    def group_sizes(self) -> dict[str, int]:
        """Person -> photos of the training part."""
        return {group: len(rows) for group, rows in self.rows_of.items()}

    @cached_property
    def full_paths(self) -> list[Path]:
        return [path for table in self.looks.tables for path in table.paths]

    def photo(self, at: int) -> Photo:
        part, row = self.looks.place(at)
        columns, table = self._columns[part], self.looks.tables[part]
        labels = {a.name: label_text(a, columns[a.name][row]) for a in table.schema.attributes if a.name in columns}
        fold = int(self.folds[row]) if part == TRAIN and len(self.folds) else -1
        return Photo(
            at,
            self.names[part],
            str(columns["path"][row]),
            str(columns["group_id"][row]),
            {name: text for name, text in labels.items() if text},
            fold if fold >= 0 else None,
        )

    def photos(self, rows: Sequence[int] | IntArray) -> tuple[Photo, ...]:
        return tuple(self.photo(int(at)) for at in rows)


def label_text(attribute: Attribute, value: Any) -> str:
    """A label as the fix list writes it: a class, or a number without needless digits; "" = unlabelled.

    Examples:
        >>> age = Attribute("age", ["young", "old"], borders=[40])
        >>> label_text(age, 41.0), label_text(age, 1.5), label_text(age, float("nan"))
        ('41', '1.5', '')
    """
    if attribute.borders is None:
        return str(value)
    return "" if value != value else str(int(value)) if value == int(value) else repr(float(value))


def is_personal(values: Sequence[Any], groups: Sequence[str] | np.ndarray[Any, Any], share: float = 0.9) -> bool:
    """Whether a label belongs to the person: of the people with several labelled photos nearly all have one value.

    Args:
        values: a label a photo, None = unlabelled.
        share: of these people.

    Examples:
        >>> is_personal(["m", "m", "f", "f"], ["a", "a", "b", "b"])
        True
        >>> is_personal(["m", "f", "m", "f"], ["a", "a", "b", "b"]), is_personal(["m", "f"], ["a", "b"])
        (False, False)
    """
    found: dict[str, list[Any]] = {}
    for value, group in zip(values, groups, strict=True):
        if value is not None:
            found.setdefault(str(group), []).append(value)
    several = [labels for labels in found.values() if len(labels) > 1]
    return bool(several) and sum(len(set(labels)) == 1 for labels in several) >= share * len(several)


def decoded_rows(looks: Looks, is_wanted: BoolArray) -> IntArray:
    """The numbers of the decoded photos among some."""
    return np.flatnonzero(looks.is_decoded & is_wanted).astype(np.int64)
