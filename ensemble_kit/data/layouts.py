"""The table of data layouts: how each is recognised and read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from ensemble_kit.data import competition, plain
from ensemble_kit.data.listing import names_of
from ensemble_kit.data.table import SampleTable, check_names
from ensemble_kit.errors import DataError, UsageError, nearest
from ensemble_kit.schema import Schema

PARTS = ("train", "eval")


def _no_template(*_: object) -> None:
    return None


def _no_notices(_: Path) -> list[str]:
    return []


@dataclass(frozen=True)
class Layout:
    """One way to lay out photos and labels.

    Attributes:
        detect: whether a file or folder looks like this layout.
        has: whether it sets photos apart for a part ("train" or "eval").
        read: (data, schema, part) -> sample table.
        template: (data, schema) -> the table whose ids a submission repeats; None when there is none.
        notices: data -> what is read otherwise than it may have been meant, one line each.
        says_part: whether findings put the part's folder before a path, since the table's paths start below it.
    """

    detect: Callable[[Path], bool]
    has: Callable[[Path, str], bool]
    read: Callable[[Path, Schema, str], SampleTable]
    template: Callable[[Path, Schema], Path | None] = _no_template
    notices: Callable[[Path], list[str]] = _no_notices
    says_part: bool = False


LAYOUTS: Mapping[str, Layout] = {
    "competition": Layout(competition.detect, competition.has, competition.read, competition.template, says_part=True),
    "table": Layout(plain.detect_table, plain.table_has, plain.read_table, notices=plain.table_notices),
    "folders": Layout(plain.detect_folders, plain.folders_have, plain.read_folders, notices=plain.folders_notices),
}
"""In the order in which `auto` tries them: the strictest first."""


def find_layout(data: Path, layout: str = "auto") -> str:
    """The name of the layout of `data`.

    Raises:
        UsageError: an unknown layout's name.
        DataError: no such file or folder, an empty folder, or nothing that any layout recognises.
    """
    if layout != "auto" and layout not in LAYOUTS:
        raise UsageError(f'layout "{layout}"{nearest(layout, ("auto", *LAYOUTS))}')
    if not data.exists():
        raise DataError(f"{data}: expected a data folder or table, found none; set ENS_DATA or pass --data FOLDER")
    if data.is_dir() and names_of(data) == "nothing":
        raise DataError(
            f"{data}: expected photos and labels, found an empty folder; set ENS_DATA or pass --data FOLDER"
        )
    if layout != "auto":
        return layout
    for name, row in LAYOUTS.items():
        if row.detect(data):
            return name
    raise DataError(
        f"{data}: expected train/train.csv, a samples.csv or class folders, "
        f"found {names_of(data) if data.is_dir() else data.name}; set ENS_DATA or pass --data FOLDER"
    )


def has_part(data: Path, part: str, layout: str = "auto") -> bool:
    """Whether `data` sets photos apart for the part: the competition's folder, a `split` column, a folder on top.

    Raises:
        UsageError: an unknown part or layout.
        DataError: no such data, or nothing that any layout recognises.
    """
    _check_part(part)
    data = Path(data)
    return LAYOUTS[find_layout(data, layout)].has(data, part)


def template_of(data: Path, schema: Schema, layout: str = "auto") -> Path | None:
    """The evaluation table whose ids, in its order, a submission has to repeat.

    Args:
        data: as for `read_samples`, or its evaluation part alone.
        schema: whose joint classes the submission's numbers are.
        layout: a name of `LAYOUTS`, or "auto".

    Returns:
        The competition's `eval/info.csv`. None where nothing was handed out, and when the schema numbers its joint
        classes otherwise than the task: an answer against that table would mean something else.

    Raises:
        UsageError: an unknown layout.
        DataError: no such data, or nothing that any layout recognises.
    """
    data = Path(data)
    return LAYOUTS[find_layout(data, layout)].template(data, schema)


def read_layout(data: Path, schema: Schema, part: str, layout: str = "auto") -> SampleTable:
    """Reads one part of `data` through its layout's reader.

    Raises:
        UsageError: an unknown part or layout, or a schema that the layout cannot label.
        DataError: what is wrong with the data, in one line.
    """
    _check_part(part)
    check_names(schema)
    data = Path(data)
    return LAYOUTS[find_layout(data, layout)].read(data, schema, part)


def _check_part(part: str) -> None:
    if part not in PARTS:
        raise UsageError(f'part "{part}"{nearest(part, PARTS)}')
