"""The train part of the competition's tree: train.csv and one folder of seven photos a person."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ensemble_kit.data.listing import is_photo_name, refuse_links_out, visible
from ensemble_kit.data.rows import Rows, number_or_none, read_rows
from ensemble_kit.data.table import SampleTable, TableBuilder, parse_labels
from ensemble_kit.errors import DataError
from ensemble_kit.schema import Schema

STATES = {f"mask{i}": "worn" for i in range(1, 6)} | {"incorrect_mask": "incorrect", "normal": "not_worn"}
"""File stem -> mask class: the only place in this layout where a label is read from a file's name."""


@dataclass(frozen=True)
class FolderName:
    """`000001_female_Asian_45`, taken apart."""

    id: str
    gender: str
    age: str


def taken_apart(folder: str) -> FolderName | None:
    parts = folder.rsplit("_", 3)
    return FolderName(parts[0], parts[1], parts[3]) if len(parts) == 4 else None


def read_train(folder: Path, schema: Schema) -> SampleTable:
    wanted: list[str] = [name for name in ("gender", "age") if name in schema.names]
    rows = read_rows(folder / "train.csv", ["id", *wanted, "path"])
    _check_folder_names(rows)
    rows.refuse_repeated("path")
    labels: dict[str, list[Any]] = {name: parse_labels(rows, schema[name]) for name in wanted}
    _check_ages(rows, labels.get("age", []))
    columns = TableBuilder(folder.name)
    entries = visible(folder / "images")
    refuse_links_out(entries, folder / "images")
    folders = {entry.name for entry in entries if entry.is_dir()}
    renamed = _renamed(rows, folders)
    _compare_ids(rows, columns)
    for row, (line, listed) in enumerate(rows.pairs("path")):
        person = renamed.get(listed, listed)
        values = {name: labels[name][row] for name in wanted}
        if person not in folders:
            columns.say("train.csv", f"line {line}: no folder images/{listed}; this person is left out")
            continue
        if person != listed:
            columns.say("train.csv", f"line {line}: {listed} is now called {person}; labels read from the new name")
            values |= _labels_of_name(person, wanted, schema)
        else:
            _compare_labels(person, values, line, columns)
        _add_person(folder, person, values, columns)
    for name in sorted(folders - {renamed.get(listed, listed) for listed in rows["path"]}):
        columns.say(f"images/{name}", "this folder is not in train.csv; it is left out")
    return columns.table(folder, schema)


def _check_folder_names(rows: Rows) -> None:
    for line, name in rows.pairs("path"):
        if not name or name in (".", "..") or set(name) & set("/\\\0"):
            raise DataError(
                f"{rows.source} line {line}: path must be the name of a folder inside images/, found {name!r}; "
                "write the name alone"
            )


def _check_ages(rows: Rows, ages: Sequence[float]) -> None:
    for line, age in zip(rows.lines, ages, strict=False):
        if age < 0 or age > 150:
            raise DataError(f"{rows.source} line {line}: age must be 0 to 150, found {age:g}; mend that line")


def _renamed(rows: Rows, folders: set[str]) -> dict[str, str]:
    """Listed name -> the folder's name now: the one unlisted folder that has the id of the one lost row.

    Users mend labels by renaming folders and leave train.csv as it was.
    """
    lost = [name for name in rows["path"] if name not in folders]
    spare = sorted(folders - set(rows["path"])) if lost else []
    ids_lost = Counter(name.id for name in map(taken_apart, lost) if name)
    by_id: dict[str, list[str]] = {}
    for folder in spare:
        name = taken_apart(folder)
        by_id.setdefault(name.id if name else folder, []).append(folder)
    pairs = {}
    for listed in lost:
        name = taken_apart(listed)
        if name and ids_lost[name.id] == 1 and len(by_id.get(name.id, [])) == 1:
            pairs[listed] = by_id[name.id][0]
    return pairs


def _labels_of_name(folder: str, wanted: Sequence[str], schema: Schema) -> dict[str, Any]:
    name = taken_apart(folder)
    labels: dict[str, Any] = {}
    if name and "gender" in wanted and name.gender in schema["gender"].classes:
        labels["gender"] = name.gender
    age = number_or_none(name.age) if name else None
    if "age" in wanted and age is not None:
        labels["age"] = age
    return labels


def _compare_ids(rows: Rows, columns: TableBuilder) -> None:
    """Ids only name people in lists of fixes, so the folder's id is used and a difference is said, not refused."""
    stripped = []
    for line, written, listed in zip(rows.lines, rows["id"], rows["path"], strict=True):
        name = taken_apart(listed)
        if name is None or name.id == written:
            continue
        if name.id.lstrip("0") == written.lstrip("0"):
            stripped.append((line, written, name.id))
        else:
            columns.say("train.csv", f"line {line}: id {written}, but the folder says {name.id}; the folder's is used")
    if stripped:
        line, written, expected = stripped[0]
        columns.say(
            "train.csv",
            f'line {line}: id "{written}" where the folder says {expected}, and so on {len(stripped)} line(s): a '
            "spreadsheet took the zeros away; read from the folders, import the csv with id as text",
        )


def _compare_labels(folder: str, values: dict[str, Any], line: int, columns: TableBuilder) -> None:
    name = taken_apart(folder)
    gender, age = values.get("gender"), values.get("age")
    missing = [label for label, value in values.items() if value == "" or value != value]
    if missing:
        columns.say("train.csv", f"line {line}: no {' and no '.join(missing)}; unlabelled for that")
    if name is None:
        return
    if gender and name.gender != gender:
        columns.say(
            f"images/{folder}", f"train.csv line {line} says {gender}, the folder {name.gender}; the csv is used"
        )
    if age is not None and age == age and number_or_none(name.age) != age:
        columns.say(
            f"images/{folder}", f"train.csv line {line} says age {age:g}, the folder {name.age}; the csv is used"
        )


def _add_person(folder: Path, person: str, values: dict[str, Any], columns: TableBuilder) -> None:
    stems: list[str] = []
    entries = visible(folder / "images" / person)
    refuse_links_out(entries, folder / "images")
    for entry in entries:
        stem, path = Path(entry.name).stem, f"images/{person}/{entry.name}"
        if stem not in STATES or not is_photo_name(entry.name) or entry.is_dir():
            columns.say(path, "expected mask1..mask5, incorrect_mask or normal, as a photo; left out")
            continue
        if stem in stems:
            columns.say(path, f"a second photo called {stem}; both are used")
        stems.append(stem)
        sample = f"{person}/{entry.name}"
        columns.add(sample_id=sample, path=path, group_id=person, mask=STATES[stem], **values)
    missing = [stem for stem in STATES if stem not in stems]
    if missing:
        columns.say(f"images/{person}", f"expected 7 photos, missing {', '.join(missing)}")
