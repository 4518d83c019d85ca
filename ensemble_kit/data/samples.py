"""The sample table and the one function that reads it from any layout."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from ensemble_kit.data.fixes import apply_fixes, read_fixes
from ensemble_kit.data.layouts import LAYOUTS, has_part, read_layout, template_of
from ensemble_kit.data.plain import schema_from_table
from ensemble_kit.data.table import Problem, SampleTable, check_names
from ensemble_kit.schema import Schema

__all__ = [
    "LAYOUTS",
    "Problem",
    "SampleTable",
    "check_names",
    "has_part",
    "read_samples",
    "schema_from_table",
    "template_of",
]


def read_samples(
    data: Path,
    schema: Schema,
    *,
    part: Literal["train", "eval"] = "train",
    layout: str = "auto",
    fixes: Path | None = None,
) -> SampleTable:
    """Reads a data set into a sample table.

    Args:
        data: a folder or a table; see `LAYOUTS` for what is recognised.
        schema: the attributes to label; columns of the data that it does not name are dropped.
        part: "train", from which folds are cut, or "eval".
        layout: a name of `LAYOUTS`, or "auto".
        fixes: a list of label fixes (`fixes.py`), applied to the train part.

    Returns:
        The table; what was odd but could be read stands in its `problems`.

    Raises:
        UsageError: an unknown layout or part, or a schema that the layout cannot label.
        DataError: what is wrong with the data, in one line with file, line, expected and found.
    """
    table = read_layout(Path(data), schema, part, layout)
    if fixes is None or part != "train":
        return table
    return apply_fixes(table, read_fixes(Path(fixes)))[0]
