"""The face-mask competition's tree.

    train/train.csv                                 id,gender,race,age,path
    train/images/<id>_<gender>_<race>_<age>/        mask1..mask5, incorrect_mask, normal
    eval/info.csv                                   ImageID,ans (0 as handed out)
    eval/images/<ImageID>
    eval/answers.csv, eval/people.csv               where they are known: ImageID,ans and ImageID,person

Paths in the table start from train/ or eval/, so a table is the same whichever of the folders it was read through.
"""

from __future__ import annotations

from pathlib import Path

from ensemble_kit.data.answers import GENDER, MASK, read_eval
from ensemble_kit.data.listing import names_of
from ensemble_kit.data.people import read_train
from ensemble_kit.data.table import SampleTable
from ensemble_kit.errors import DataError, UsageError
from ensemble_kit.schema import Schema

LISTS = {"train": "train.csv", "eval": "info.csv"}


def detect(data: Path) -> bool:
    folders = (data, data / "train", data / "eval")
    if data.is_file():
        return data.name in LISTS.values() and (data.parent / "images").is_dir()
    return any((f / name).is_file() for f in folders for name in LISTS.values()) or any(
        (data / part / "images").is_dir() for part in LISTS
    )


def part_folder(data: Path, part: str) -> Path | None:
    """The train/ or eval/ folder; `data` may be that folder itself, its list, or the folder above both."""
    data = data.parent if data.is_file() else data
    if (data / part).is_dir():
        return data / part
    return data if (data / LISTS[part]).is_file() else None


def has(data: Path, part: str) -> bool:
    return part_folder(data, part) is not None


def template(data: Path, schema: Schema) -> Path | None:
    """`eval/info.csv`, when `mask*6 + gender*3 + age` is the schema's own numbering."""
    classes = [(attribute.name, attribute.classes) for attribute in schema.attributes]
    is_the_task = (
        classes[:-1] == [("mask", MASK), ("gender", GENDER)]
        and classes[-1][0] == "age"
        and len(classes[-1][1]) == 3
        and schema["age"].borders is not None
        and schema.is_product
    )
    folder = part_folder(data, "eval") if is_the_task else None
    return folder / LISTS["eval"] if folder and (folder / LISTS["eval"]).is_file() else None


def read(data: Path, schema: Schema, part: str) -> SampleTable:
    """Reads one part.

    Raises:
        UsageError: a schema that this layout cannot label.
        DataError: a missing folder, file or column, or a value that is none; with its line.
    """
    check_schema(schema)
    folder = part_folder(data, part)
    if folder is None:
        raise DataError(
            f"{data}: expected {part}/{LISTS[part]}, found {names_of(data if data.is_dir() else data.parent)}; "
            "pass the folder that holds train/ and eval/"
        )
    if not (folder / "images").is_dir():
        raise DataError(f"{folder}: expected {LISTS[part]} and images/, found {names_of(folder)}")
    return read_train(folder, schema) if part == "train" else read_eval(folder, schema)


def check_schema(schema: Schema) -> None:
    """Raises UsageError unless the schema's mask, gender and age are the ones this layout labels."""
    if not {"mask", "gender", "age"} & set(schema.names):
        raise UsageError(
            f"the competition layout labels mask, gender and age, the schema has {', '.join(schema.names)}; "
            "describe your labels in a table and pass --layout table"
        )
    for name, classes in (("mask", MASK), ("gender", GENDER)):
        missing = [c for c in classes if name in schema.names and c not in schema[name].classes]
        if missing:
            raise UsageError(
                f"the competition layout needs the {name} classes {', '.join(classes)}, "
                f"the schema has {', '.join(schema[name].classes)}; rename them in the schema"
            )
    if "age" in schema.names and schema["age"].borders is None:
        raise UsageError("the competition layout reads age as a number; give the schema's age its borders, as [30, 60]")
