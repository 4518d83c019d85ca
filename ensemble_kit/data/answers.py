"""The eval part of the competition's tree: info.csv, a flat folder of photos, and what is known about them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ensemble_kit.data.listing import number_inside, visible
from ensemble_kit.data.rows import Rows, number_or_none, read_rows
from ensemble_kit.data.table import SampleTable, TableBuilder
from ensemble_kit.errors import DataError
from ensemble_kit.schema import Schema

MASK = ("worn", "incorrect", "not_worn")
GENDER = ("male", "female")
"""With three age classes: `ans = mask*6 + gender*3 + age`."""


def read_eval(folder: Path, schema: Schema) -> SampleTable:
    rows = read_rows(folder / "info.csv", ["ImageID"])
    _check_image_ids(rows)
    found = {entry.name for entry in visible(folder / "images") if entry.is_file()}
    columns = TableBuilder(folder.name)
    people = _people(folder, columns)
    answers = _answers(folder, schema, columns)
    for line, image in rows.pairs("ImageID"):
        if image not in found:
            columns.say("info.csv", f"line {line}: no photo images/{image}; left out, so its answer will be missing")
            continue
        labels = {name: known.get(image, unlabelled) for name, (known, unlabelled) in answers.items()}
        columns.add(sample_id=image, path=f"images/{image}", group_id=people.get(image, image), **labels)
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


def _people(folder: Path, columns: TableBuilder) -> dict[str, str]:
    if not (folder / "people.csv").is_file():
        return {}
    rows = read_rows(folder / "people.csv", ["ImageID", "person"])
    rows.refuse_repeated("ImageID")
    unnamed = [image for image, person in zip(rows["ImageID"], rows["person"], strict=True) if not person]
    if unnamed:
        columns.say("people.csv", f"{len(unnamed)} photo(s) without a person, first {unnamed[0]}; each stands alone")
    return {image: person for image, person in zip(rows["ImageID"], rows["person"], strict=True) if person}


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
