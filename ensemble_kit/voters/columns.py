"""Which column of a voter is which joint class: by name wherever there are names, never by place."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from ensemble_kit.arrays import IntArray
from ensemble_kit.errors import DataError
from ensemble_kit.predictions import Predictions
from ensemble_kit.schema import Schema


def class_rows(schema: Schema) -> list[tuple[str, ...]]:
    """The class names of each joint class, in the schema's numbering."""
    return [tuple(a.classes[i] for a, i in zip(schema.attributes, row, strict=True)) for row in schema.paths]


def joint_columns(predictions: Predictions, schema: Schema, who: str) -> IntArray | None:
    """`(n_joint,)` the column of each joint class; None where they are in that order already.

    Raises:
        DataError: predictions of one condition or of other attributes, classes or borders.
    """
    if set(predictions.names) != set(schema.names) or predictions.condition:
        raise DataError(
            f"{who}: expected joint predictions of {','.join(schema.names)}, found {predictions.describe()}; combine "
            "the experts first"
        )
    for own in predictions.attributes:
        wanted = schema[own.name]
        if set(own.classes) != set(wanted.classes) or own.borders != wanted.borders:
            raise DataError(
                f"{who}: expected the schema's {own.name}, {_described(wanted)}, found {_described(own)}; predict with "
                "this schema"
            )
    places = [predictions.names.index(name) for name in schema.names]
    given = [tuple(row[place] for place in places) for row in predictions.classes]
    return _in_order(given, class_rows(schema), who)


def frame_columns(columns: Iterable[Any], schema: Schema, who: str) -> IntArray:
    """`(n_joint,)` the column of each joint class, named `worn / male`, by its number, or by a tuple of class names.

    Raises:
        DataError: names that are not those, twice the same, or too few.
    """
    given = list(columns)
    wanted: list[Any] = schema.joint_names()
    if all(isinstance(name, int | np.integer) and not isinstance(name, bool) for name in given):
        given, wanted = [int(name) for name in given], list(range(schema.n_joint))
    elif all(isinstance(name, tuple) for name in given):
        wanted = class_rows(schema)
    order = _in_order(given, wanted, who)
    return np.arange(schema.n_joint, dtype=np.int64) if order is None else order


def _in_order(given: list[Any], wanted: list[Any], who: str) -> IntArray | None:
    if given == wanted:
        return None
    column_of = {name: column for column, name in enumerate(given)}
    missing = [name for name in wanted if name not in column_of]
    known = set(wanted)
    extra = [name for name in given if name not in known]
    found = [f'{len(missing)} are missing, the first is "{_text(missing[0])}"'] if missing else []
    found += [f'{len(extra)} are no joint class, the first is "{_text(extra[0])}"'] if extra else []
    found += [f"{len(given) - len(column_of)} are there twice"] if len(column_of) < len(given) else []
    if found:
        raise DataError(f"{who}: expected a column for each of {len(wanted)} joint classes; {'; '.join(found)}")
    return np.array([column_of[name] for name in wanted], dtype=np.int64)


def _text(name: Any) -> str:
    return " / ".join(map(str, name)) if isinstance(name, tuple) else str(name)


def _described(attribute: Any) -> str:
    borders = "" if attribute.borders is None else f" with borders {list(attribute.borders)}"
    return ", ".join(attribute.classes) + borders
