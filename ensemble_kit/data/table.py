"""The sample table: one row a photo, whatever layout it came from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from ensemble_kit.arrays import BoolArray, Condition, IdArray, IntArray
from ensemble_kit.conditions import under_condition
from ensemble_kit.data.rows import Rows, number_or_none, read_rows
from ensemble_kit.errors import DataError, UsageError, nearest
from ensemble_kit.files import sha256_json, write_csv
from ensemble_kit.schema import Attribute, Schema

if TYPE_CHECKING:
    import pandas as pd

KEYS = ("sample_id", "path", "group_id")
BOX = ("box_left", "box_top", "box_right", "box_bottom")
"""The face's box in the photo, in pixels or as shares of it; a table has all four columns or none."""
RESERVED = (*KEYS, "fold", "split", *BOX)
"""Columns that tables have beside the labels, so no attribute may be called like one."""


def check_names(schema: Schema) -> None:
    """Raises UsageError when an attribute is called like a column of the sample table itself."""
    for name in schema.names:
        if name in RESERVED:
            raise UsageError(
                f'"{name}" is no name for an attribute: the sample table keeps {", ".join(RESERVED)} for itself; '
                "rename it in the schema"
            )


@dataclass(frozen=True)
class Problem:
    """One finding about one file: what is wrong and how it was read. It does not stop the work."""

    path: str
    problem: str

    def __str__(self) -> str:
        return f"{self.path}: {self.problem}"


@dataclass(frozen=True)
class SampleTable:
    """One row a photo.

    Attributes:
        frame: columns `sample_id` (unique text), `path` (relative to `root`, with "/"), `group_id` (what is never
            split across folds: the person), then one column per labelled attribute of the schema: class names as
            text ("" = unlabelled), or for an attribute with borders the number itself (NaN = unlabelled). Last the
            columns of `BOX` where there are any (NaN = no box).
        root: the folder that every path starts from.
        schema: what the attribute columns mean.
        problems: what the reader found and went on from.
        other_roots: prefix -> folder, for photos of a second data set: their ids and paths begin with the prefix.
    """

    frame: pd.DataFrame
    root: Path
    schema: Schema
    problems: tuple[Problem, ...] = ()
    other_roots: Mapping[str, Path] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_names(self.schema)

    @classmethod
    def from_columns(
        cls,
        columns: Mapping[str, Sequence[Any]],
        root: Path,
        schema: Schema,
        problems: Sequence[Problem] = (),
    ) -> SampleTable:
        """Builds a table from columns of equal length; columns that are no key and no attribute are dropped.

        Raises:
            UsageError: an attribute called like one of the table's own columns.
            DataError: a sample_id that occurs twice, a class name that the schema does not have, or in a taxonomy a
                combination of labels that is no path.
        """
        check_names(schema)
        import pandas as pd

        data: dict[str, Any] = {key: np.array([str(v) for v in columns[key]], dtype=object) for key in KEYS}
        for attribute in schema.attributes:
            if attribute.name in columns:
                data[attribute.name] = _labels(columns[attribute.name], attribute)
                attribute.numbers(data[attribute.name])
        if BOX[0] in columns:
            data |= {name: np.array(list(columns[name]), dtype=np.float64) for name in BOX}
        _refuse_repeated(data["sample_id"])
        _refuse_impossible(data, schema)
        return cls(pd.DataFrame(data), Path(root), schema, tuple(problems))

    def __len__(self) -> int:
        return len(self.frame)

    @property
    def ids(self) -> IdArray:
        """`(n_samples,)` text, unique."""
        return self._texts("sample_id")

    @property
    def groups(self) -> IdArray:
        """`(n_samples,)` text: the person of each photo."""
        return self._texts("group_id")

    @property
    def paths(self) -> list[Path]:
        """The photos' paths, with the root in front."""
        return [self._full(path) for path in self.frame["path"]]

    def _full(self, path: str) -> Path:
        for prefix, root in self.other_roots.items():
            if path.startswith(prefix):
                return root / path.removeprefix(prefix)
        return self.root / path

    @property
    def is_extra(self) -> BoolArray:
        """`(n_samples,)`: the photos of a second data set, which are trained on and never held out."""
        prefixes = tuple(self.other_roots)
        return np.array([name.startswith(prefixes) for name in self.frame["sample_id"]], dtype=bool)

    def _texts(self, column: str) -> IdArray:
        return np.array(self.frame[column].tolist(), dtype=np.str_)

    def has(self, attribute: str) -> bool:
        """Whether the table has labels of an attribute. UsageError when the schema has no such attribute."""
        return self.schema[attribute].name in self.frame.columns

    def numbers(self, attribute: str, borders: Sequence[float] | None = None) -> IntArray:
        """Class numbers `(n_samples,)` of an attribute; -1 where unlabelled, everywhere when there is no column.

        Args:
            attribute: a name of the schema.
            borders: others than the schema's, for training.
        """
        if not self.has(attribute):
            return np.full(len(self), -1, dtype=np.int64)
        return self.schema[attribute].numbers(self.frame[attribute].to_numpy(), borders)

    def joint(self, names: Sequence[str] | None = None) -> IntArray:
        """Joint index `(n_samples,)` over the schema, or over the block of `names`; -1 where a label is missing."""
        block = self.schema if names is None else self.schema.block(names)
        return block.encode({name: self.numbers(name) for name in block.names})

    def under(self, condition: Condition) -> BoolArray:
        """`(n_samples,)`: whether the true labels fulfil a condition; an unlabelled parent does not."""
        return under_condition(condition, self.schema, {name: self.numbers(name) for name in self.schema.names})

    def select(self, rows: ArrayLike) -> SampleTable:
        """The table of some rows: row numbers in the order wanted, or one boolean a row."""
        chosen = np.asarray(rows)
        index = np.flatnonzero(chosen) if chosen.dtype == np.bool_ else chosen.astype(np.int64)
        return replace(self, frame=self.frame.iloc[index].reset_index(drop=True))

    def sha256(self) -> str:
        """Hash over ids, paths, groups and labels in row order; the root does not enter."""
        return sha256_json({name: _plain(self.frame[name].tolist()) for name in self.frame.columns})

    def to_csv(self, path: Path, **extra: ArrayLike) -> None:
        """Writes `sample_id, path, group_id`, the extra columns (such as `fold`), then the attributes.

        Raises:
            DataError: an extra column whose length is not the table's.
        """
        columns: dict[str, list[str]] = {key: self.frame[key].tolist() for key in KEYS}
        for name, values in extra.items():
            column = np.asarray(values).tolist()
            if len(column) != len(self):
                raise DataError(f'column "{name}": expected {len(self)} values, found {len(column)}')
            columns[name] = [_text(value) for value in column]
        for name in self.frame.columns[len(KEYS) :]:
            columns[name] = [_text(value) for value in self.frame[name].tolist()]
        write_csv(Path(path), [list(columns), *zip(*columns.values(), strict=True)])

    @classmethod
    def from_csv(
        cls, path: Path, root: Path, schema: Schema, other_roots: Mapping[str, Path] | None = None
    ) -> SampleTable:
        """Reads what `to_csv` wrote. Whether the photos exist is not looked at.

        Raises:
            DataError: a column is missing, an id occurs twice, a label is no class, or a path leaves the root.
        """
        check_names(schema)
        rows = read_rows(path, KEYS, strip=False)
        rows.refuse_repeated("sample_id")
        for line, text in zip(rows.lines, rows["path"], strict=True):
            check_inside(text, f"{path} line {line}")
        labels = {a.name: parse_labels(rows, a) for a in schema.attributes if a.name in rows.columns}
        found = {key: rows[key] for key in KEYS} | labels | parse_boxes(rows)
        return replace(cls.from_columns(found, root, schema), other_roots=dict(other_roots or {}))


@dataclass
class TableBuilder:
    """The table while it grows, and what was found on the way."""

    label: str
    values: dict[str, list[Any]] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    def add(self, **row: Any) -> None:
        for name, value in row.items():
            self.values.setdefault(name, []).append(value)

    def say(self, path: str, problem: str) -> None:
        self.problems.append(Problem(f"{self.label}/{path}", problem))

    def table(self, folder: Path, schema: Schema) -> SampleTable:
        if not self.values:
            raise DataError(f"{folder}: expected photos in images/, found none that the list names")
        return SampleTable.from_columns(self.values, folder, schema, self.problems)


def _labels(values: Sequence[Any], attribute: Attribute) -> Any:
    if attribute.borders is None:
        return np.array(list(values), dtype=object)
    return np.array(list(values), dtype=np.float64) + 0.0  # -0.0 becomes 0.0: equal numbers give equal hashes


def _refuse_repeated(ids: Any) -> None:
    seen: dict[str, int] = {}
    for row, name in enumerate(ids):
        if name in seen:
            raise DataError(
                f'sample_id "{name}" occurs twice (rows {seen[name] + 1} and {row + 1}); ids must be unique'
            )
        seen[name] = row


def _refuse_impossible(data: Mapping[str, Any], schema: Schema) -> None:
    """Every fully labelled photo must stand on a path of the taxonomy; a product has every combination."""
    names = [name for name in schema.names if name in data and schema[name].borders is None]
    if schema.is_product or len(names) < 2:
        return
    block = schema.block(names)
    paths = [tuple(a.classes[i] for a, i in zip(block.attributes, row, strict=True)) for row in block.paths]
    known = set(paths)
    for row, labels in enumerate(zip(*(data[name].tolist() for name in names), strict=True)):
        if labels not in known and all(labels):
            near = max(paths, key=lambda path: sum(a == b for a, b in zip(path, labels, strict=True)))
            raise DataError(
                f"{data['path'][row]}: labelled {' / '.join(labels)}, which is no path of the taxonomy (the nearest: "
                f"{' / '.join(near)}); mend the label, or add the path to the schema"
            )


def _plain(values: list[Any]) -> list[Any]:
    return [None if isinstance(value, float) and value != value else value for value in values]


def _text(value: Any) -> str:
    """42.0 -> "42", NaN -> "": what a reader of any kind takes back as the same value."""
    if isinstance(value, float):
        return "" if value != value else str(int(value)) if value == int(value) else repr(value)
    return str(value)


def check_inside(path: str, where: str) -> None:
    """Refuses a path that is empty, absolute, or climbs out of the folder it is relative to.

    Raises:
        DataError: naming `where` the path was read.
    """
    parts = path.replace("\\", "/").split("/")
    if not path.strip() or "\0" in path or ".." in parts or path[0] in "/\\" or parts[0][1:2] == ":":
        raise DataError(
            f"{where}: expected a path inside the data folder, found {path!r}; write it relative to that folder"
        )


def parse_labels(rows: Rows, attribute: Attribute, column: str | None = None) -> list[Any]:
    """One column of a table as labels: class names ("" = unlabelled), or numbers when the attribute has borders.

    Raises:
        DataError: a name that is no class, or text where a number belongs, with the line it stands on.
    """
    name = column or attribute.name
    if attribute.borders is not None:
        return [float("nan") if text == "" else _number(rows, line, name, text) for line, text in rows.pairs(name)]
    for line, text in rows.pairs(name):
        if text and text not in attribute.classes:
            found = f'found "{text}"{nearest(text, attribute.classes)}'
            raise DataError(f"{rows.source} line {line}: {name} must be one of {', '.join(attribute.classes)}, {found}")
    return list(rows[name])


def parse_boxes(rows: Rows) -> dict[str, list[float]]:
    """The columns of `BOX` of a table, NaN where empty; nothing when it has none of them.

    Raises:
        DataError: some of them only, or text where a number belongs.
    """
    found = [name for name in BOX if name in rows.columns]
    if found and len(found) < len(BOX):
        missing = next(name for name in BOX if name not in found)
        raise DataError(f"{rows.source}: a box has the columns {', '.join(BOX)}; {missing} is missing")
    return {
        name: [float("nan") if text == "" else _number(rows, line, name, text) for line, text in rows.pairs(name)]
        for name in found
    }


def _number(rows: Rows, line: int, name: str, text: str) -> float:
    value = number_or_none(text)
    if value is None:
        raise DataError(f'{rows.source} line {line}: {name} must be a number, found "{text}"; mend that line')
    return value
