"""Two submissions or runs to be compared: their answers, their probabilities, the truth and the photos where known."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ensemble_kit.arrays import FloatArray, IdArray, IntArray
from ensemble_kit.data.table import check_inside
from ensemble_kit.errors import DataError, EnsembleKitError
from ensemble_kit.gallery import ComparisonFacts, Place
from ensemble_kit.ids import match_ids
from ensemble_kit.predictions import load_predictions
from ensemble_kit.recipe.predict import read_part_of
from ensemble_kit.recipe.truth import truth_of_answers, truth_of_table
from ensemble_kit.runs import Run
from ensemble_kit.schema import Schema
from ensemble_kit.submissions import compare_labels, read_submissions

PLACES = (".", "images", "eval/images", "train/images", "eval", "train")
"""Where photos lie in a folder that somebody names: in it, or where the layouts have them."""
LOOKED_AT = 200


@dataclass(frozen=True, eq=False)
class _Side:
    """One of the two: the file of its answers, and where it is a run the run."""

    name: str
    submission: Path
    run: Run | None


def compare_answers(
    a: Path,
    b: Path,
    schema: Callable[[], Schema],
    *,
    answers: Path | None = None,
    people: Path | None = None,
    announce: Callable[[str], None] | None = None,
) -> ComparisonFacts:
    """Compares two submissions or two runs, or one of each.

    Args:
        a, b: a submission (.csv), or a run, whose results/ is taken.
        schema: what submissions' numbers mean; not asked where one of the two is a run, which knows.
        answers: the truth; default for a run the labels of its evaluation photos, where it has them.
        people: `ImageID,person`.
        announce: told what could not be looked at.

    Raises:
        UsageError: one and the same twice.
        DataError: a run without results, runs of different schemas, other photos.
    """
    sides = [_side(a), _side(b)]
    own = _schema(sides) or schema()
    found = read_submissions([side.submission for side in sides], own)
    truth: IntArray | None = None
    groups: IdArray | None = None
    if answers is not None:
        truth, groups = truth_of_answers(answers, people, own).of(found.ids, str(a))
    else:
        truth, groups = _truth_of_runs(sides, found.ids, announce)
    report = compare_labels(
        found.ids, found.labels[0], found.labels[1], own, truth=truth, groups=groups, names=(str(a), str(b))
    )
    one, other = (_joint(side, found.ids, own) for side in sides)
    return ComparisonFacts(report, (one, other), groups)


def _side(path: Path) -> _Side:
    if not path.is_dir():
        return _Side(str(path), path, None)
    if not (path / "run.json").is_file():
        raise DataError(f"{path}: expected a submission (.csv) or a run (a folder with run.json), found neither")
    submission = path / "results" / "submission.csv"
    if not submission.is_file():
        raise DataError(f'{path}: this run has no answers yet; run "ens combine {path}"')
    return _Side(str(path), submission, Run.open(path))


def _schema(sides: Sequence[_Side]) -> Schema | None:
    runs = [side.run for side in sides if side.run is not None]
    for run in runs[1:]:
        if run.schema.to_json() != runs[0].schema.to_json():
            raise DataError(f"{run.folder}: answers other classes than {runs[0].folder}; compare runs of one task")
    return runs[0].schema if runs else None


def _truth_of_runs(
    sides: Sequence[_Side], ids: IdArray, announce: Callable[[str], None] | None
) -> tuple[IntArray | None, IdArray | None]:
    """The labels of the runs' evaluation photos, where these are the photos answered and they have labels."""
    for side in sides:
        if side.run is not None:
            try:
                truth = truth_of_table(read_part_of(side.run, None, "eval"))
                if truth is not None:
                    return truth.of(ids, side.name)
            except EnsembleKitError as error:
                if announce is not None:
                    announce(f"note: compared without the truth ({error})")
    return None, None


def _joint(side: _Side, ids: IdArray, schema: Schema) -> FloatArray | None:
    """The joint probabilities that a run's answers were taken from; None where there are none of these photos."""
    folder = side.submission.parent / "joint"
    if side.run is None or not (folder / "predictions.json").is_file():
        return None
    (joint,) = load_predictions(folder)[:1]
    if joint.names != schema.names or len(joint.classes) != schema.n_joint or len(joint.ids) != len(ids):
        return None
    rows = match_ids(joint.ids, ids, str(folder))
    layer = np.asarray(joint.layers[0])
    return layer if rows is None else layer[rows]


def find_photos(folder: Path, ids: IdArray) -> list[Place]:
    """Where the photos lie in a folder that somebody names.

    Args:
        folder: with the photos in it, or a data set in one of the layouts.

    Raises:
        DataError: no such folder, or none of the photos in it.
    """
    if not folder.is_dir():
        raise DataError(
            f"{folder}: expected the folder with the photos, found {'a file' if folder.exists() else 'nothing'}"
        )
    some = [name for name in ids[:LOOKED_AT].tolist() if _is_inside(name)]
    roots = [folder / place for place in PLACES]
    counts = [sum((root / name).is_file() for name in some) for root in roots]
    best = int(np.argmax(counts))
    if not counts[best]:
        first = some[0] if some else str(ids[0])
        raise DataError(
            f"{folder}: none of the photos is there (looked for {first} in it and in images/); name another"
        )
    root = roots[best]
    outside = Place(None, "its name is no place inside the folder")
    return [Place(root / name) if _is_inside(name) else outside for name in ids.tolist()]


def _is_inside(name: str) -> bool:
    try:
        check_inside(name, "photo")
    except DataError:
        return False
    return True
