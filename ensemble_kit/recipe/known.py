"""Facts known at hand, such as `mask=worn`: for every photo, or from a table with one row a photo."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ensemble_kit.arrays import IdArray, IntArray
from ensemble_kit.errors import DataError, UsageError
from ensemble_kit.schema import Schema

ID_COLUMNS = ("ImageID", "sample_id")


def read_known(facts: Sequence[str], schema: Schema, ids: IdArray) -> dict[str, IntArray]:
    """Class numbers `(n_samples,)` per attribute, -1 where nothing is known.

    Args:
        facts: `attribute=class`, or the path of a CSV with ImageID and attributes' columns (empty = not known).

    Raises:
        UsageError: an unknown attribute or class, an attribute named twice.
        DataError: a table that is missing or not what it should be.
    """
    known: dict[str, IntArray] = {}
    for fact in facts:
        name, equals, value = fact.partition("=")
        if equals and not Path(fact).is_file():
            added = {name: np.full(len(ids), schema[name].index(value), dtype=np.int64)}
        elif Path(fact).is_file():
            added = _read_table(Path(fact), schema, ids)
        else:
            raise UsageError(f'--known "{fact}": expected attribute=class or a CSV file, found neither')
        for twice in known.keys() & added.keys():
            raise UsageError(f'--known names "{twice}" twice')
        known |= added
    return known


def _read_table(path: Path, schema: Schema, ids: IdArray) -> dict[str, IntArray]:
    try:
        with open(path, encoding="utf-8-sig", newline="") as handle:
            rows = list(csv.DictReader(handle))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: not readable as a CSV file in UTF-8 ({error})") from None
    columns = [name for name in (rows[0] if rows else {}) if name]
    id_column = next((name for name in ID_COLUMNS if name in columns), None)
    names = [name for name in schema.names if name in columns]
    if id_column is None or not names:
        raise DataError(
            f"{path}: expected the columns ImageID and at least one of {', '.join(schema.names)}, "
            f"found {', '.join(columns) or 'no rows'}"
        )
    place = {sample_id: row for row, sample_id in enumerate(ids.tolist())}
    known = {name: np.full(len(ids), -1, dtype=np.int64) for name in names}
    seen: set[str] = set()
    for line, row in enumerate(rows, start=2):
        if row[id_column] not in place:
            raise DataError(f'{path} line {line}: no prediction of photo "{row[id_column]}"; leave it out')
        if row[id_column] in seen:
            raise DataError(f'{path} line {line}: photo "{row[id_column]}" comes twice; leave one line')
        seen.add(row[id_column])
        for name in names:
            if row[name]:
                known[name][place[row[id_column]]] = schema[name].index(row[name])
    return known
