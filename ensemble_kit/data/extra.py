"""A second table of photos, which enters the training folds only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ensemble_kit.arrays import BoolArray
from ensemble_kit.data.layouts import read_layout
from ensemble_kit.data.table import BOX, KEYS, Problem, SampleTable
from ensemble_kit.errors import DataError
from ensemble_kit.graph import check_condition
from ensemble_kit.schema import Schema

PREFIX = "extra:"


def read_extra(data: Path, schema: Schema, where: Mapping[str, Sequence[str]] | None = None) -> SampleTable:
    """The training part of another data set, in any layout, of some classes only.

    Args:
        data: as for `read_samples`.
        where: attribute -> the classes whose photos are taken, by the schema's borders; unlabelled photos are not.

    Raises:
        UsageError: an attribute or class that the schema does not have.
        DataError: what is wrong with the data, or no photo of these classes.
    """
    if not Path(data).exists():
        raise DataError(f"{data}: no such data set; extra names a second one (in a recipe: relative to it)")
    wanted = check_condition(where or {}, schema)
    table = read_layout(Path(data), schema, "train")
    keep = table.under(wanted)
    if not keep.any():
        asked = " and ".join(f"{name} {' or '.join(classes)}" for name, classes in wanted.items())
        raise DataError(f"{data}: no photo of {asked} among the {len(table)} extra ones; see extra_where")
    return table.select(keep)


def with_extra(table: SampleTable, extra: SampleTable) -> SampleTable:
    """One table of both, the extra photos last; their ids and paths get a prefix, so that none is met twice.

    Groups get none: a group of both is one person, see `is_shared`. Boxes of the extra photos are not looked at.

    Raises:
        DataError: the labels of the two do not go together.
    """
    prefix = _free_prefix(table)
    columns: dict[str, list[Any]] = {
        key: [*table.frame[key], *(prefix + text if key != "group_id" else text for text in extra.frame[key])]
        for key in KEYS
    }
    for attribute in table.schema.attributes:
        if table.has(attribute.name) or extra.has(attribute.name):
            missing = "" if attribute.borders is None else float("nan")
            columns[attribute.name] = [
                value
                for part in (table, extra)
                for value in (part.frame[attribute.name] if part.has(attribute.name) else [missing] * len(part))
            ]
    if set(BOX) <= set(table.frame.columns):  # where photos are cropped is decided by the data set itself
        columns |= {side: [*table.frame[side], *[float("nan")] * len(extra)] for side in BOX}
    problems = (*table.problems, *(Problem(prefix + p.path, p.problem) for p in extra.problems))
    joined = SampleTable.from_columns(columns, table.root, table.schema, problems)
    return replace(joined, other_roots={**table.other_roots, prefix: extra.root})


def _free_prefix(table: SampleTable) -> str:
    """One that no id and no path begins with."""
    texts = [*table.frame["sample_id"], *table.frame["path"]]
    prefix = PREFIX
    while any(text.startswith(prefix) for text in texts):
        prefix = f"extra-{prefix}"
    return prefix


def is_shared(table: SampleTable) -> BoolArray:
    """`(n_samples,)`: the extra photos of people who are in the data set itself too.

    They train in the folds that do not hold the person out: nobody is ever on both sides.
    """
    is_extra = table.is_extra
    return is_extra & np.isin(table.groups, np.unique(table.groups[~is_extra]))


def extra_notices(table: SampleTable) -> list[str]:
    """How many photos of a second data set are trained on, and how many not in every fold."""
    n_extra, n_shared = int(table.is_extra.sum()), int(is_shared(table).sum())
    if not n_extra:
        return []
    notices = [f"{n_extra} extra photos are trained on and never held out"]
    if n_shared:
        notices.append(
            f"{n_shared} of the extra photos are of people in the data set itself: "
            "they train where these are not held out"
        )
    return notices
