"""Two layouts that are tied to no task: a table of photos, and class folders."""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ensemble_kit.data.listing import (
    is_inside,
    is_photo_name,
    names_of,
    number_inside,
    refuse_links_out,
    visible,
)
from ensemble_kit.data.rows import Rows, number_or_none, read_parquet, read_rows
from ensemble_kit.data.table import Problem, SampleTable, check_inside, parse_boxes, parse_labels
from ensemble_kit.errors import DataError, nearest
from ensemble_kit.schema import Attribute, Schema

TABLES = ("samples.csv", "samples.parquet")
SPLITS = {
    **dict.fromkeys(("train", "training", "val", "valid", "validation"), "train"),
    **dict.fromkeys(("eval", "test"), "eval"),
}
"""What a `split` column or a top folder says -> the part it belongs to; folds are cut from the train part."""


# --- table ---------------------------------------------------------------------------------------------------------


def table_file(data: Path) -> Path | None:
    """The table itself, or `samples.csv` / `samples.parquet` in a folder."""
    if data.is_file():
        return data if data.suffix.lower() in (".csv", ".parquet") else None
    return next((data / name for name in TABLES if (data / name).is_file()), None)


def detect_table(data: Path) -> bool:
    return table_file(data) is not None


def table_has(data: Path, part: str) -> bool:
    """Whether the table sets rows apart for the part; without a `split` column there is only the train part."""
    source = table_file(data)
    rows = _rows(source) if source else None
    if rows is None or "split" not in rows.columns:
        return part == "train"
    return any(SPLITS.get(text.lower()) == part for text in rows["split"])


def table_notices(data: Path) -> list[str]:
    """What a `split` column says that is read otherwise than it may have been meant."""
    source = table_file(data)
    rows = _rows(source) if source else None
    if rows is None or "split" not in rows.columns:
        return []
    return _val_notice([text for text in rows["split"] if SPLITS.get(text.lower()) == "train"])


def _val_notice(splits: Sequence[str]) -> list[str]:
    """Photos set apart for validation are part of the training photos: each is held out in one fold."""
    counts = Counter(splits)
    if len(counts) < 2:
        return []
    shown = " and ".join(f"{count:,} of split {name}" for name, count in counts.items())
    return [f"{shown} are one training part: folds (or the validation share) are cut from all of them"]


def read_table(data: Path, schema: Schema, part: str) -> SampleTable:
    """Reads the rows of one part; paths start from the table's folder.

    Columns: `path`; optional `sample_id` (else the path), `group_id` (else each photo alone), `split` (train, val:
    the train part; test, eval: the eval part; no such column: every row is in both), and the schema's attributes.

    Raises:
        DataError: a missing column or photo, a repeated id or path, a path outside the folder, an unknown label.
    """
    source = table_file(data)
    if source is None:
        found = names_of(data) if data.is_dir() else data.name
        raise DataError(f"{data}: expected a .csv or .parquet table (in a folder: {', '.join(TABLES)}), found {found}")
    rows = _rows(source)
    named = [name for name in schema.names if name in rows.columns]
    if part == "train" and not named:
        raise DataError(
            f"{source}: expected at least one of the schema's columns {', '.join(schema.names)}, "
            f"found {', '.join(rows.columns)}; name the recipe of these photos with --recipe"
        )
    labels = {name: parse_labels(rows, schema[name]) for name in named}
    for name in ("path", "sample_id"):
        if name in rows.columns:
            rows.refuse_repeated(name)
    columns: dict[str, list[Any]] = {
        "sample_id": rows.columns.get("sample_id", rows["path"]),
        "path": rows["path"],
        "group_id": _groups(rows),
        **labels,
        **parse_boxes(rows),
    }
    keep = _rows_of_part(rows, part)
    if not keep:
        raise DataError(f"{source}: expected rows of the {part} part, found none; see its split column")
    _check_photos(rows, keep)
    chosen = {name: [values[row] for row in keep] for name, values in columns.items()}
    return SampleTable.from_columns(chosen, source.parent, schema)


def schema_from_table(path: Path, names: Sequence[str], *, part: str | None = None) -> Schema:
    """The taxonomy that a table's columns show: classes in sorted order, the combinations that occur.

    Rows with an empty label are left out. For attributes with borders write the schema by hand.

    Args:
        path: a table, or the folder of one.
        names: the columns, coarsest first.
        part: only the rows of this part ("train" or "eval"); all rows when left out.

    Raises:
        DataError: no such table or column, or no row with every label.
    """
    source = table_file(Path(path)) or Path(path)
    if source.is_dir():
        raise DataError(f"{source}: expected a table ({' or '.join(TABLES)}), found {names_of(source)}")
    rows = _rows(source, names)
    keep = range(len(rows)) if part is None else _rows_of_part(rows, part)
    columns = [[rows[name][row] for row in keep] for name in names]
    found = [labels for labels in zip(*columns, strict=True) if all(labels)]
    if not found:
        raise DataError(f"{source}: expected rows with {', '.join(names)}, found none with every label")
    return Schema.from_rows(names, found)


def _rows(source: Path, required: Sequence[str] = ("path",)) -> Rows:
    return read_parquet(source, required) if source.suffix.lower() == ".parquet" else read_rows(source, required)


def _groups(rows: Rows) -> list[str]:
    ids = rows.columns.get("sample_id", rows["path"])
    groups = rows.columns.get("group_id", ids)
    return [group or name for group, name in zip(groups, ids, strict=True)]


def _rows_of_part(rows: Rows, part: str) -> list[int]:
    if "split" not in rows.columns:
        return list(range(len(rows)))
    for line, text in rows.pairs("split"):
        if text.lower() not in SPLITS:
            raise DataError(f'{rows.source} line {line}: split "{text}"{nearest(text, SPLITS)}')
    return [row for row, text in enumerate(rows["split"]) if SPLITS[text.lower()] == part]


def _check_photos(rows: Rows, keep: Sequence[int]) -> None:
    """Every photo exists and lies inside the table's folder, links followed; one lstat a photo keeps it quick."""
    root = os.path.realpath(rows.source.parent)
    inside: dict[str, bool] = {}
    missing = []
    for row in keep:
        path, where = rows["path"][row], f"{rows.source} line {rows.lines[row]}"
        check_inside(path, where)
        full = f"{root}/{path}"
        folder = full.rpartition("/")[0]
        if folder not in inside:
            inside[folder] = is_inside(folder, root)
        try:
            is_link = stat.S_ISLNK(os.lstat(full).st_mode)
        except OSError:
            missing.append((where, path))
            continue
        if not inside[folder] or (is_link and not is_inside(full, root)):
            raise DataError(f"{where}: expected a photo inside {rows.source.parent}, found the link {path} out of it")
    if missing:
        where, path = missing[0]
        raise DataError(f"{where}: no photo {path} ({len(missing)} of {len(keep)} photos are missing); mend the table")


# --- class folders -------------------------------------------------------------------------------------------------


def detect_folders(data: Path) -> bool:
    return data.is_dir() and any(entry.is_dir() for entry in visible(data))


def folders_have(data: Path, part: str) -> bool:
    tops = [SPLITS[e.name.lower()] for e in visible(data) if e.is_dir() and e.name.lower() in SPLITS]
    return part in tops or (part == "train" and not tops)


def folders_notices(data: Path) -> list[str]:
    tops = [e.name for e in visible(data) if e.is_dir() and SPLITS.get(e.name.lower()) == "train"]
    listed = " and ".join(f"{name}/" for name in tops)
    return [f"{listed} are one training part: folds are cut from all of it"] if len(tops) > 1 else []


def read_folders(data: Path, schema: Schema, part: str) -> SampleTable:
    """Reads `worn/female/45/photo.jpg`: one level of folders an attribute, in the schema's order.

    On top there may be train/ (or val/) and eval/ (or test/); without them every photo is in both parts. A folder of
    an attribute with borders is named by the number or by the class. Folders below the last attribute are groups:
    `worn/female/45/anna/1.jpg` and `incorrect/female/45/anna/2.jpg` are one person.

    Raises:
        DataError: a folder that is no class, or no photo at all.
    """
    tops = [e.name for e in visible(data) if e.is_dir() and e.name.lower() in SPLITS]
    tops = [name for name in tops if name not in schema.attributes[0].classes]
    starts = [name for name in tops if SPLITS[name.lower()] == part] if tops else [""]
    problems: list[Problem] = []
    columns: dict[str, list[Any]] = {name: [] for name in ("sample_id", "path", "group_id", *schema.names)}
    for start in starts:
        for path, group, labels in _walk(data, start, schema.attributes, (), problems):
            for name, value in zip(columns, (path, path, group, *labels), strict=True):
                columns[name].append(value)
    if not columns["path"]:
        raise DataError(
            f"{data}: expected class folders with photos for the {part} part "
            f"({'/'.join(schema.names)}/photo.jpg), found {names_of(data)}"
        )
    return SampleTable.from_columns(columns, data, schema, problems)


def _walk(
    data: Path, at: str, attributes: Sequence[Attribute], labels: tuple[Any, ...], problems: list[Problem]
) -> Iterator[tuple[str, str, tuple[Any, ...]]]:
    """Yields (path, group, labels) of every photo under `at`, class level by class level."""
    if not attributes:
        yield from ((path, group, labels) for path, group in _photos(data, at, "", problems))
        return
    entries = visible(data / at)
    _refuse_links_out(entries, data, at)
    for entry in entries:
        path = f"{at}/{entry.name}" if at else entry.name
        if entry.is_dir():
            label = _class_of_folder(attributes[0], entry.name, data / path)
            yield from _walk(data, path, attributes[1:], (*labels, label), problems)
        elif is_photo_name(entry.name):
            problems.append(Problem(path, f"expected inside a folder of {attributes[0].name}; left out"))


def _photos(data: Path, at: str, group: str, problems: list[Problem]) -> Iterator[tuple[str, str]]:
    entries = visible(data / at)
    _refuse_links_out(entries, data, at)
    for entry in entries:
        path = f"{at}/{entry.name}"
        if entry.is_dir(follow_symlinks=False):  # a link to a folder above would never end
            yield from _photos(data, path, group or entry.name, problems)
        elif is_photo_name(entry.name):
            yield path, group or path
        else:
            problems.append(Problem(path, "expected a photo, by the ending of its name; left out"))


def _refuse_links_out(entries: Sequence[os.DirEntry[str]], data: Path, at: str) -> None:
    top = at.partition("/")[0]
    refuse_links_out(entries, data, *([data / top] if top.lower() in SPLITS else []))  # which may be on another disk


def _class_of_folder(attribute: Attribute, name: str, folder: Path) -> Any:
    if attribute.borders is None and name in attribute.classes:
        return name
    if attribute.borders is not None:
        if name in attribute.classes:
            return number_inside(attribute, attribute.index(name))
        number = number_or_none(name)
        if number is not None:
            return number
    raise DataError(f'{folder}: the folder is no class of "{attribute.name}"{nearest(name, attribute.classes)}')
