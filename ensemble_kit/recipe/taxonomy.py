"""A taxonomy in a recipe: joint classes are the paths that exist, not every combination of classes.

    [schema]
    taxonomy = ["kind", "coarse", "fine"]      the attributes, coarsest first
    paths = "grocery_paths.csv"                one path a line, beside the recipe; or a list of them, written here

`ens data taxonomy TABLE --columns kind,coarse,fine` writes such a file from the labels of a data set.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

from ensemble_kit.data.rows import read_rows
from ensemble_kit.errors import DataError, UsageError
from ensemble_kit.files import write_text
from ensemble_kit.schema import MAX_JOINT, Schema

Located = tuple[str, tuple[str, ...]]
"""Where a path stands, for messages, and its class names."""


def taxonomy_of(names: Any, paths: Any, places: Sequence[Path]) -> Schema:
    """The taxonomy that `taxonomy` and `paths` of a `[schema]` describe; classes in sorted order.

    Args:
        names: the attributes, coarsest first.
        paths: the name of a paths file, or the paths themselves, each one class name an attribute.
        places: the folders a paths file is looked for in, in this order.

    Raises:
        UsageError: not what the recipe may say, a path of another length, or one that stands there twice.
        DataError: no such file, or a file that is no table of paths.
    """
    if not isinstance(names, list) or not names or not all(isinstance(name, str) and name for name in names):
        raise UsageError(f'schema.taxonomy: expected attributes as in ["kind", "coarse", "fine"], found {names!r}')
    if len(set(names)) < len(names):
        raise UsageError(f"schema.taxonomy: expected distinct attributes, found {', '.join(names)}")
    if isinstance(paths, str):
        return read_paths(_found(paths, places, names), names)
    if not isinstance(paths, list) or not paths:
        example = '"paths.csv" or [["Fruit", "Apple", "Gala"], ...]'
        found = "nothing" if paths is None else repr(paths)
        raise UsageError(f"schema.paths: a taxonomy needs the paths that exist, {example}; found {found}")
    return _schema(names, [(f"schema.paths, path {number}", _written(path)) for number, path in enumerate(paths, 1)])


def read_paths(file: Path, names: Sequence[str]) -> Schema:
    """The taxonomy in a paths file: a CSV with one column an attribute, one path a line.

    Raises:
        DataError: no such file, a column missing, a cell left empty, or a path that stands there twice.
    """
    rows = read_rows(file, names)
    columns = [rows[name] for name in names]
    located = [(f"{file} line {line}", path) for line, path in zip(rows.lines, zip(*columns, strict=True), strict=True)]
    try:
        return _schema(names, located)
    except UsageError as error:
        text = str(error)
        raise DataError(text if str(file) in text else f"{file}: {text}") from None


def write_paths(file: Path, schema: Schema) -> None:
    """Writes the paths of a taxonomy as `read_paths` takes them: line k + 2 is joint class k."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(schema.names)
    writer.writerows(_paths_of(schema))
    write_text(Path(file), text.getvalue())


def side_by_side(parts: Sequence[Schema]) -> Schema:
    """One schema of several: every path of one goes with every path of the others.

    Examples:
        >>> from ensemble_kit.schema import Attribute
        >>> kinds = Schema.from_rows(["kind", "fine"], [("Fruit", "Gala"), ("Vegetable", "Leek")])
        >>> side_by_side([kinds, Schema(Attribute("ripe", ["no", "yes"]))]).joint_names()
        ['Fruit / Gala / no', 'Fruit / Gala / yes', 'Vegetable / Leek / no', 'Vegetable / Leek / yes']

    Raises:
        UsageError: an attribute in two of them, or more joint classes than a schema may have.
    """
    attributes = tuple(attribute for part in parts for attribute in part.attributes)
    if all(part.is_product for part in parts):
        return Schema(*attributes)
    n_joint = math.prod(part.n_joint for part in parts)
    if n_joint > MAX_JOINT:
        raise UsageError(f"schema: {n_joint} joint classes, at most {MAX_JOINT}; leave an attribute out")
    combined = product(*(_paths_of(part) for part in parts))
    return Schema(*attributes, paths=[[name for path in chosen for name in path] for chosen in combined])


def _paths_of(schema: Schema) -> list[tuple[str, ...]]:
    return [tuple(a.classes[i] for a, i in zip(schema.attributes, row, strict=True)) for row in schema.paths]


def _found(name: str, places: Sequence[Path], names: Sequence[str]) -> Path:
    for place in places:
        if (place / name).is_file():
            return place / name
    columns = ",".join(names)
    raise DataError(
        f"{places[0] / name}: no such paths file; write paths under [schema] relative to the recipe, or make the file "
        f'with "ens data taxonomy DATA --columns {columns} --out {places[0] / name}"'
    )


def _written(path: Any) -> tuple[str, ...]:
    if not isinstance(path, list) or not all(isinstance(name, str) for name in path):
        raise UsageError(f"schema.paths: expected lists of class names, found {path!r}")
    return tuple(path)


def _schema(names: Sequence[str], located: Sequence[Located]) -> Schema:
    """Raises UsageError naming the place of a path that is too short, too long, partly empty, or there already."""
    first: dict[tuple[str, ...], str] = {}
    for where, path in located:
        if len(path) != len(names) or not all(path):
            raise UsageError(f"{where}: expected one class for each of {', '.join(names)}, found {list(path)}")
        if path in first:
            raise UsageError(f"{where}: {' / '.join(path)} is there already ({first[path]}); write each path once")
        first[path] = where
    if not first:
        raise UsageError(f"expected at least one path of {', '.join(names)}, found none")
    return Schema.from_rows(names, list(first))
