"""Drawn faces in exactly the face-mask task's tree, for trials, tests and pictures that may be shown to anybody."""

from __future__ import annotations

import csv
import hashlib
import io
import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import cv2

from ensemble_kit.arrays import ByteArray
from ensemble_kit.data.drawing.population import GENDERS, STATES, EvalLike, Person, draw_people
from ensemble_kit.data.drawing.portrait import draw_photo
from ensemble_kit.errors import DataError, UsageError, nearest
from ensemble_kit.files import write_text
from ensemble_kit.leftovers import OWNER, owner, remove_leftovers
from ensemble_kit.schema import Attribute, Schema

__all__ = ["EvalLike", "generate_faces"]

RACE = "Drawn"
"""Stands where the task's tables have a race: a drawing has none."""
MIN_SIDE = 16
"""Pixels; smaller photos show nothing."""
_AGE = Attribute("age", ["<30", "30-59", ">=60"], borders=[30, 60])
_SCHEMA = Schema(Attribute("mask", STATES), Attribute("gender", GENDERS), _AGE)
_PHOTOS = [(f"mask{n}", "worn") for n in range(1, 6)] + [("incorrect_mask", "incorrect"), ("normal", "not_worn")]
"""File stem and mask state of a person's photos."""
_JPEG = [
    *(cv2.IMWRITE_JPEG_QUALITY, 93),
    *(cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444),  # halved colour would blur 64 px photos
]


@dataclass(frozen=True)
class _Resident:
    """A person with the id they have in the tables."""

    number: int
    person: Person

    @property
    def id(self) -> str:
        return f"{self.number:06d}"

    @property
    def row(self) -> list[str]:
        """The row of train.csv; its last value is the folder's name."""
        cells = [self.id, GENDERS[self.person.gender], RACE, str(self.person.age)]
        return [*cells, "_".join(cells)]


def generate_faces(
    out: Path,
    *,
    people: int,
    eval_people: int | None = None,
    size: tuple[int, int] = (512, 384),
    seed: int = 0,
    eval_like: EvalLike = "training",
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, int]:
    """Draws people, seven photos each, and writes them as the face-mask task has them.

    Writes `train/train.csv`, `train/images/<id>_<gender>_<race>_<age>/{mask1..mask5,incorrect_mask,normal}.jpg`,
    `eval/info.csv` (every answer 0), `eval/images/<40 hex digits>.jpg`, and beside them what the task keeps to itself:
    `eval/answers.csv` and `eval/people.csv`. Age is shown by forehead, brows, hair and the corners of the eyes above a
    worn mask, by nose and cheeks above one worn under the nose, by mouth, jaw, beard and neck without one; what the
    other parts of a face show has nothing to do with the age. The same arguments give the same bytes.

    Args:
        out: a folder that does not exist yet or is empty; it appears complete or not at all.
        people: persons to train on.
        eval_people: persons to be scored on; a third of `people`, at least 12, when left out.
        size: (height, width) of the photos in pixels.
        seed: of everything drawn.
        eval_like: "training" draws the eval people like the training people (39 % men, 7 % of 60 and over), "shifted"
            as the real ones seem to be (60 % men, 26 % of 60 and over).
        progress: called with the photos done and the photos in all, after each person.

    Returns:
        What was written: train_people, train_photos, eval_people, eval_photos.

    Raises:
        UsageError: people or sizes too small, an unknown `eval_like`.
        DataError: `out` is a file or has something in it.
    """
    eval_people = max(people // 3, 12) if eval_people is None else eval_people
    _check_arguments(people, eval_people, size, seed, eval_like)
    train = [_Resident(n + 1, p) for n, p in enumerate(draw_people(people, "training", (seed, 0)))]
    held = [_Resident(people + n + 1, p) for n, p in enumerate(draw_people(eval_people, eval_like, (seed, 1)))]
    counted = _Counter(progress, (people + eval_people) * len(_PHOTOS))
    with _appearing(Path(out)) as folder:
        _write_train(folder / "train", train, size, counted)
        _write_eval(folder / "eval", held, size, seed, counted)
    return {
        "train_people": people,
        "train_photos": people * len(_PHOTOS),
        "eval_people": eval_people,
        "eval_photos": eval_people * len(_PHOTOS),
    }


def _check_arguments(people: int, eval_people: int, size: Sequence[int], seed: int, eval_like: str) -> None:
    if people < 1 or eval_people < 1:
        raise UsageError(
            f"generate: expected at least 1 person to train and 1 to score, found {people} and {eval_people}; "
            "ask for 30 and 12 or more to have every class"
        )
    if len(size) != 2 or min(size) < MIN_SIDE:
        raise UsageError(f"generate: expected a size of height, width, each at least {MIN_SIDE}, found {tuple(size)}")
    if seed < 0:
        raise UsageError(f"generate: expected a seed of 0 or more, found {seed}")
    if eval_like not in get_args(EvalLike):
        raise UsageError(f'generate: unknown eval_like "{eval_like}"{nearest(eval_like, get_args(EvalLike))}')


@contextmanager
def _appearing(out: Path) -> Iterator[Path]:
    """Yields a temporary folder beside `out` that takes its name when the block ends well, and is removed otherwise."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        kind = "a folder that is not empty" if out.is_dir() else "a file"
        raise DataError(f"{out}: expected a new or empty folder, found {kind}; name another, or remove this one first")
    remove_leftovers(out.parent, rf"\.{re.escape(out.name)}\.{OWNER}\.tmp")
    temporary = out.parent / f".{out.name}.{owner()}.tmp"
    try:
        temporary.mkdir(parents=True)
        yield temporary
        if out.exists():
            out.rmdir()
        os.replace(temporary, out)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


class _Counter:
    """Tells the caller how many photos are done."""

    def __init__(self, progress: Callable[[int, int], None] | None, total: int):
        self.progress, self.done, self.total = progress, 0, total

    def add(self, photos: int) -> None:
        self.done += photos
        if self.progress is not None:
            self.progress(self.done, self.total)


def _write_train(folder: Path, residents: Sequence[_Resident], size: tuple[int, int], counted: _Counter) -> None:
    for resident in residents:
        images = folder / "images" / resident.row[-1]
        images.mkdir(parents=True)
        for number, (stem, state) in enumerate(_PHOTOS):
            _write_photo(images / f"{stem}.jpg", draw_photo(resident.person, state, number, size))
        counted.add(len(_PHOTOS))
    write_text(folder / "train.csv", _table("id,gender,race,age,path", [resident.row for resident in residents]))


def _write_eval(
    folder: Path, residents: Sequence[_Resident], size: tuple[int, int], seed: int, counted: _Counter
) -> None:
    (folder / "images").mkdir(parents=True)
    answers = {}
    for resident in residents:
        for number, (stem, state) in enumerate(_PHOTOS):
            # A hash, so that neither the name nor the order of the list tells who is in a photo.
            name = hashlib.sha256(f"{seed}/{resident.id}/{stem}".encode()).hexdigest()[:40] + ".jpg"
            _write_photo(folder / "images" / name, draw_photo(resident.person, state, number, size))
            answers[name] = (str(_answer(resident.person, state)), resident.id)
        counted.add(len(_PHOTOS))
    names = sorted(answers)
    write_text(folder / "info.csv", _table("ImageID,ans", [[name, "0"] for name in names]))
    write_text(folder / "answers.csv", _table("ImageID,ans", [[name, answers[name][0]] for name in names]))
    write_text(folder / "people.csv", _table("ImageID,person", [[name, answers[name][1]] for name in names]))


def _answer(person: Person, state: str) -> int:
    return int(
        _SCHEMA.encode({"mask": [STATES.index(state)], "gender": [person.gender], "age": _AGE.numbers([person.age])})[0]
    )


def _write_photo(path: Path, photo: ByteArray) -> None:
    """Writes an RGB photo; without a sync each, since the whole folder takes its name at the end."""
    done, encoded = cv2.imencode(".jpg", cv2.cvtColor(photo, cv2.COLOR_RGB2BGR), _JPEG)
    if not done:
        raise DataError(f"{path}: the photo could not be encoded as JPEG")
    try:
        path.write_bytes(encoded.tobytes())
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from None  # a full disk does not name the file


def _table(header: str, rows: Iterable[Sequence[str]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([header.split(","), *rows])
    return text.getvalue()
