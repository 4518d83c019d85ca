"""Data sets with planted faults, drawn by the tests themselves, and answers as a run would have given them."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from ensemble_kit.arrays import ByteArray, FloatArray, IntArray
from ensemble_kit.data.check import check_data
from ensemble_kit.data.fixes import Fix
from ensemble_kit.data.samples import read_samples
from ensemble_kit.data_report import DataFacts, Looks, gather_facts
from ensemble_kit.data_report.answers import Answers
from ensemble_kit.data_report.suspects import CUTS
from ensemble_kit.files import write_csv
from ensemble_kit.schema import Attribute, Schema

SCHEMA = Schema(
    Attribute("mask", ["worn", "not_worn"]),
    Attribute("gender", ["male", "female"]),
    Attribute("age", ["<30", "30-59", ">=60"], borders=[30, 60]),
)
SIZES, WEIGHTS = (3, 6, 12, 24), (40, 30, 20, 20)
HEADER = ("sample_id", "path", "group_id", "split", "mask", "gender", "age")


@functools.cache
def picture(seed: int, side: int = 48) -> ByteArray:
    """Blobs of many sizes, as unlike each other and as detailed as photos are; `(side, side, 3)`."""
    rng = np.random.default_rng(seed)
    layers = [cv2.resize(rng.normal(size=(n, n, 3)), (side, side), interpolation=cv2.INTER_CUBIC) for n in SIZES]
    total = sum(layer * weight for layer, weight in zip(layers, WEIGHTS, strict=True)) + 128
    return np.clip(total, 0, 255).astype(np.uint8)


def write(path: Path, photo: ByteArray, quality: int = 95) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    kind = [cv2.IMWRITE_JPEG_QUALITY, quality] if path.suffix == ".jpg" else []
    assert cv2.imwrite(str(path), np.ascontiguousarray(photo[..., ::-1]), kind)


def people_table(root: Path, people: int = 12, each: int = 2, eval_people: int = 3) -> Path:
    """A table with `each` photos a person; gender and age belong to people, mask to photos."""
    rows: list[Sequence[str]] = [HEADER]
    for person in range(people + eval_people):
        split = "train" if person < people else "eval"
        for number in range(each):
            name = f"p{person:02d}_{number}.jpg"
            write(root / name, picture(person * 10 + number))
            mask = SCHEMA["mask"].classes[number % 2]
            gender, age = SCHEMA["gender"].classes[person % 2], (20, 45, 61, 29, 31)[person % 5]
            rows.append((name.partition(".")[0], name, f"p{person:02d}", split, mask, gender, str(age)))
    write_csv(root / "samples.csv", rows)
    return root


def looked_at(
    root: Path,
    schema: Schema = SCHEMA,
    *,
    probs: dict[str, FloatArray] | None = None,
    cut: str = "confidence",
    listed: Sequence[Fix] = (),
    folds: IntArray | None = None,
    **options: Any,
) -> DataFacts:
    """The facts of a data set; with `probs` as if a run had answered every training photo so."""
    looks = Looks()
    check = check_data(root, schema, folds=2, seed=0, look=looks, **options)
    table = looks.tables[0]
    answers = None if probs is None else Answers(table.ids, probs, None)
    given = np.arange(len(table)) % 2 if folds is None else folds
    return gather_facts(
        check, looks, given, answers=answers, run="a run" if probs else None, cut=(cut, CUTS[cut]), listed=listed
    )


def sure(numbers: Sequence[int], n_classes: int, confidence: float = 0.9) -> FloatArray:
    """Answers that give these classes `confidence`."""
    probs = np.full((len(numbers), n_classes), (1 - confidence) / (n_classes - 1))
    probs[np.arange(len(numbers)), list(numbers)] = confidence
    return probs


def answered(root: Path, **wrong: int) -> dict[str, Any]:
    """Answers of a run that is right about every label but those of some people's gender."""
    table = read_samples(root, SCHEMA)
    numbers = {name: table.numbers(name).copy() for name in SCHEMA.names}
    for person, number in wrong.items():
        numbers["gender"][table.groups == person] = number
    return {name: sure(column.tolist(), len(SCHEMA[name].classes)) for name, column in numbers.items()}
