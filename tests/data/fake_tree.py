"""Tiny data sets in every layout, written by the tests themselves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np

from ensemble_kit.schema import Attribute, Schema

STEMS = ("mask1", "mask2", "mask3", "mask4", "mask5", "incorrect_mask", "normal")
STATE_OF_STEM = dict.fromkeys(STEMS[:5], 0) | {"incorrect_mask": 1, "normal": 2}


def face_schema(borders: Sequence[float] = (30, 60)) -> Schema:
    return Schema(
        Attribute("mask", ["worn", "incorrect", "not_worn"]),
        Attribute("gender", ["male", "female"]),
        Attribute("age", ["<30", "30-59", ">=60"], borders=borders),
    )


def encoded(suffix: str = ".jpg", value: int = 90, size: tuple[int, int] = (8, 6)) -> bytes:
    ok, data = cv2.imencode(suffix, np.full((*size, 3), value, dtype=np.uint8))
    assert ok
    return bytes(data)


JPEG = encoded(".jpg")
PNG = encoded(".png")


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode())
    return path


def write_photo(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(PNG if path.suffix == ".png" else JPEG)
    return path


def folder_of(person: Sequence[object]) -> str:
    return "_".join(str(part) for part in person)


PEOPLE = (
    ("000001", "female", "Asian", 45),
    ("001498-1", "male", "Asian", 29),
    ("003397", "male", "White", 60),
    ("003397", "female", "Asian", 18),
)
"""One id is two people, as in the real data."""


def write_train(root: Path, people: Sequence[tuple[str, str, str, object]] = PEOPLE) -> Path:
    """`root/train` with the seven photos of each person; returns root."""
    lines = ["id,gender,race,age,path"]
    for person in people:
        folder = folder_of(person)
        lines.append(",".join([*map(str, person), folder]))
        for stem in STEMS:
            write_photo(root / "train" / "images" / folder / f"{stem}{'.png' if stem == 'mask3' else '.jpg'}")
    write(root / "train" / "train.csv", "\n".join(lines) + "\n")
    return root


def write_eval(
    root: Path,
    answers: Mapping[str, object],
    people: Mapping[str, str] | None = None,
    info: Sequence[str] | None = None,
) -> Path:
    """`root/eval`: info.csv with ans 0, photos, and answers.csv; returns root."""
    listed = list(answers) if info is None else list(info)
    for image in answers:
        write_photo(root / "eval" / "images" / image)
    write(root / "eval" / "info.csv", "ImageID,ans\n" + "".join(f"{image},0\n" for image in listed))
    rows = "".join(f"{image},{answer}\n" for image, answer in answers.items())
    write(root / "eval" / "answers.csv", "ImageID,ans\n" + rows)
    if people is not None:
        rows = "".join(f"{image},{person}\n" for image, person in people.items())
        write(root / "eval" / "people.csv", "ImageID,person\n" + rows)
    return root


def edit(path: Path, old: str, new: str) -> None:
    """Replaces text of a file that must be in it."""
    text = path.read_bytes().decode()
    assert old in text, f"{old!r} is not in {path}"
    path.write_bytes(text.replace(old, new).encode())
