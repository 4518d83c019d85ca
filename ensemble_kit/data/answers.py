"""The eval part of the competition's tree: info.csv, a flat folder of photos, and what is known about them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ensemble_kit.arrays import IdArray
from ensemble_kit.data.listing import number_inside, refuse_links_out, visible
from ensemble_kit.data.rows import Rows, number_or_none, read_rows
from ensemble_kit.data.table import SampleTable, TableBuilder
from ensemble_kit.errors import DataError
from ensemble_kit.ids import match_ids
from ensemble_kit.schema import Schema

MASK = ("worn", "incorrect", "not_worn")
GENDER = ("male", "female")
"""With three age classes: `ans = mask*6 + gender*3 + age`."""


def read_eval(folder: Path, schema: Schema) -> SampleTable:
    rows = read_rows(folder / "info.csv", ["ImageID"])
    _check_image_ids(rows)
    entries = visible(folder / "images")
    refuse_links_out(entries, folder / "images")
    found = {entry.name for entry in entries if entry.is_file()}
    columns = TableBuilder(folder.name)
    people = _people(folder, rows["ImageID"], columns)
    answers = _answers(folder, schema, columns)
    for line, image in rows.pairs("ImageID"):
        if image not in found:
            columns.say("info.csv", f"line {line}: no photo images/{image}; left out, so its answer will be missing")
            continue
        labels = {name: known.get(image, unlabelled) for name, (known, unlabelled) in answers.items()}
        columns.add(sample_id=image, path=f"images/{image}", group_id=people[image], **labels)
    listed = set(rows["ImageID"])
    for image in sorted(found - listed):
        columns.say(f"images/{image}", "this photo is not in info.csv; it is left out")
    _say_unmatched(answers, listed, columns)
    return columns.table(folder, schema)


def _check_image_ids(rows: Rows) -> None:
    for line, image in rows.pairs("ImageID"):
        if not image or image in (".", "..") or set(image) & set("/\\\0"):
            raise DataError(
                f"{rows.source} line {line}: ImageID must be the name of a photo inside images/, found {image!r}; "
                "write the name alone"
            )
    rows.refuse_repeated("ImageID")


def read_people(path: Path, ids: IdArray) -> IdArray:
    """Who is on each photo, from a table with ImageID and person.

    Args:
        path: the table; its rows may stand in any order.
        ids: the photos, `(n_samples,)`.

    Returns:
        `(n_samples,)` the person of each photo; a photo whose person is left blank is a group of its own.

    Raises:
        DataError: no such file, not UTF-8, a column missing, a photo twice, or ids that only one of the two has.
    """
    rows = _people_rows(Path(path))
    listed = np.array(rows["ImageID"], dtype=np.str_)
    wanted = np.asarray(ids, dtype=np.str_)
    order = match_ids(listed, wanted, str(path), "name each photo once, a blank person where nobody is known")
    people = rows["person"] if order is None else [rows["person"][row] for row in order]
    return np.array(_alone_where_blank(wanted.tolist(), people), dtype=np.str_)


def _people_rows(path: Path) -> Rows:
    rows = read_rows(path, ["ImageID", "person"])
    rows.refuse_repeated("ImageID")
    return rows


def _alone_where_blank(images: Sequence[str], people: Sequence[str]) -> list[str]:
    """The photo's own id where nobody is named, marked when a person is called so."""
    named = {person for person in people if person}
    groups = []
    for image, person in zip(images, people, strict=True):
        alone = image
        while not person and alone in named:
            alone += " (alone)"
        groups.append(person or alone)
    return groups


def _people(folder: Path, images: Sequence[str], columns: TableBuilder) -> dict[str, str]:
    """Photo -> group, for the listed photos; people.csv may be there, and may leave photos out."""
    if not (folder / "people.csv").is_file():
        return dict(zip(images, images, strict=True))
    rows = _people_rows(folder / "people.csv")
    known = dict(zip(rows["ImageID"], rows["person"], strict=True))
    people = [known.get(image, "") for image in images]
    unnamed = [image for image, person in zip(images, people, strict=True) if not person]
    if unnamed:
        columns.say("people.csv", f"{len(unnamed)} photo(s) without a person, first {unnamed[0]}; each stands alone")
    return dict(zip(images, _alone_where_blank(images, people), strict=True))


def _answers(folder: Path, schema: Schema, columns: TableBuilder) -> dict[str, tuple[dict[str, Any], Any]]:
    """Attribute -> (photo -> label, what stands for no label); empty when there is no answers.csv.

    `ans` is `mask*6 + gender*3 + age`, the schema's joint index when the schema is the task's own. An age class is
    stored as a number inside it.
    """
    path = folder / "answers.csv"
    if not path.is_file():
        return {}
    rows = read_rows(path, ["ImageID", "ans"])
    rows.refuse_repeated("ImageID")
    numbers = dict(zip(rows["ImageID"], parse_answers(rows), strict=True))
    known: dict[str, tuple[dict[str, Any], Any]] = {}
    for name, classes, step in (("mask", MASK, 6), ("gender", GENDER, 3)):
        if name in schema.names:
            named = {i: classes[n // step % len(classes)] for i, n in numbers.items() if n is not None}
            known[name] = (named, "")
    if "age" in schema.names:
        age = schema["age"]
        if len(age.classes) == 3:
            known["age"] = ({i: number_inside(age, n % 3) for i, n in numbers.items() if n is not None}, float("nan"))
        else:
            columns.say("answers.csv", f"tells 3 age classes, the schema has {len(age.classes)}; age stays unlabelled")
    return known


def parse_answers(rows: Rows, n_joint: int = 18) -> list[int | None]:
    """The `ans` column as joint indices; `13.0` is 13, an empty cell is None.

    Raises:
        DataError: no whole number of 0 to n_joint - 1, with its line.
    """
    parsed: list[int | None] = []
    for line, text in rows.pairs("ans"):
        value = number_or_none(text)
        if text and (value is None or value != int(value) or not 0 <= value < n_joint):
            raise DataError(
                f'{rows.source} line {line}: ans must be a whole number of 0 to {n_joint - 1}, found "{text}"'
            )
        parsed.append(None if value is None else int(value))
    return parsed


def _say_unmatched(answers: dict[str, Any], listed: set[str], columns: TableBuilder) -> None:
    if not answers:
        return
    answered = set().union(*(known for known, _ in answers.values()))
    for count, first, what in (
        (
            len(listed - answered),
            min(listed - answered, default=""),
            "listed in info.csv without an answer: unlabelled",
        ),
        (len(answered - listed), min(answered - listed, default=""), "answered but not in info.csv: left out"),
    ):
        if count:
            columns.say("answers.csv", f"{count} photo(s) {what} (first {first})")
