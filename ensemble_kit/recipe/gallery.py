"""A run's photos for a gallery: its predictions combined as it combines, the truth where it is known, the files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ensemble_kit.arrays import FloatArray, IdArray, IntArray
from ensemble_kit.ensemble import ConditionalEnsemble
from ensemble_kit.errors import DataError, UsageError, nearest
from ensemble_kit.gallery import GalleryFacts, Heat, HeatRequest, Place, gallery_facts
from ensemble_kit.predictions import Predictions, load_predictions
from ensemble_kit.recipe.combine import borders_of_settings, combine_arguments, graph_as
from ensemble_kit.recipe.evaluate import answered_photos, held_out_photos
from ensemble_kit.recipe.load import combine_of, validated
from ensemble_kit.recipe.predict import PARTS, machine_of, read_part_of
from ensemble_kit.recipe.sets import move_borders
from ensemble_kit.recipe.settings import CombineSettings
from ensemble_kit.recipe.truth import truth_of_answers, truth_of_table
from ensemble_kit.runs import Run
from ensemble_kit.schema import Schema

if TYPE_CHECKING:
    from ensemble_kit.data.samples import SampleTable


@dataclass(frozen=True, eq=False)
class RunGallery:
    """What a gallery of a run is made from.

    Attributes:
        scored_on: what the photos are, in words.
        places: where each photo of `facts` lies; None = photos were not asked for.
    """

    facts: GalleryFacts
    scored_on: str
    places: list[Place] | None


def gallery_heat(run: Run, schema: Schema, *, device: str | None = None, threads: int | None = None) -> Heat:
    """Grad-CAM for `write_gallery`: of the checkpoints that answered, of a held-out photo the one that held it out.

    Args:
        schema: that of the facts, whose borders may have been moved.
        device, threads: as in the training where left out.

    Raises:
        UsageError: captum is not installed.
        DataError: no finished checkpoint.
    """
    from ensemble_kit.explaining.looking import Looker, Wanted

    machine = machine_of(run)
    how: dict[str, Any] = {
        "device": device or machine.get("device", "auto"), "threads": threads or machine.get("threads")
    }  # fmt: skip
    checkpoints = run.checkpoints()
    Looker(checkpoints, schema, **how)  # what is missing is said before any photo is read

    def heat(requests: Sequence[HeatRequest]) -> list[FloatArray | None]:
        found: list[FloatArray | None] = [None] * len(requests)
        for fold in dict.fromkeys(one.fold for one in requests):
            looker = Looker(checkpoints, schema, folds=None if fold is None else [fold], **how)
            numbers = [number for number, one in enumerate(requests) if one.fold == fold]
            wanted = [
                Wanted(one.path, one.expert, one.attributes, one.classes) for one in (requests[n] for n in numbers)
            ]
            for number, one in zip(numbers, looker(wanted), strict=True):
                found[number] = one
        return found

    return heat


@dataclass(frozen=True, eq=False)
class _Photos:
    """A run's experts on some photos, and what is known of these, in one order of rows."""

    experts: list[Predictions]
    truth: IntArray | None
    people: IdArray | None
    scored_on: str
    is_held_out: bool


def gather_gallery(
    run: Run,
    *,
    part: str | None = None,
    answers: Path | None = None,
    people: Path | None = None,
    data: Path | None = None,
    photos: bool = False,
    structure: str = "conditional",
    fitted: Sequence[Path] = (),
    settings: Mapping[str, Any] | None = None,
) -> RunGallery:
    """Combines a run's saved predictions and says of each photo what is known of it. No model is run.

    Args:
        part: "eval" = the evaluation photos, also where their truth is not known; "train" = the training photos, each
            by the models that never saw its person; None = the first where the truth is known, else the second.
        answers: the truth of the evaluation photos; default the labels of the data set.
        people: `ImageID,person`; default beside the answers.
        data: the data set; a run knows its own.
        photos: the files are wanted.
        structure: a name in `recipe.combine.GRAPHS`.
        fitted: files of `ens fit`.
        settings: how to combine, over what the run says.

    Raises:
        UsageError: unknown names, a state without an expert.
        DataError: nothing predicted, other ids, photos that are not where the run says.
    """
    if part is not None and part not in PARTS:
        raise UsageError(f'--part "{part}"{nearest(part, PARTS)}')
    if part == "train" and (answers is not None or people is not None):
        raise UsageError("--part train has its own labels; leave --answers and --people out, or pass --part eval")
    chosen = validated(CombineSettings, {**combine_of(run), **(settings or {})}, "combine")
    borders = borders_of_settings(chosen, fitted)
    found = _held_out(run, borders) if part == "train" else _evaluation(run, part, answers, people, data, borders)
    schema = run.schema
    experts = found.experts
    if borders and not found.is_held_out:
        schema, experts = move_borders(run.schema, experts, borders)
    elif borders:
        schema = run.schema.with_borders(borders)
    graph = graph_as(structure, schema, run.graph)
    ensemble = ConditionalEnsemble(schema, graph, experts, fallback=chosen.fallback)
    ids = ensemble.ids
    table = _table(run, data, is_held_out=found.is_held_out, wanted=photos)
    rows = None if table is None else _rows_in(table, ids)
    facts = gallery_facts(
        ensemble,
        truth=found.truth,
        people=found.people,
        measured=_measured(table, rows) if table is not None and rows is not None else {},
        folds=_folds(run, ids) if found.is_held_out else None,
        decide=chosen.decide,
        route=chosen.route,
        **combine_arguments(chosen, fitted, graph),
    )
    places = None
    if photos:
        assert table is not None
        assert rows is not None
        places = places_of(table, rows)
        refuse_no_photos(places, table.root, ids)
    return RunGallery(facts, found.scored_on, places)


def _held_out(run: Run, borders: Mapping[str, Sequence[float]]) -> _Photos:
    found = held_out_photos(run, borders or None)
    return _Photos(found.experts, found.joint, found.groups, "the training photos, out of fold", is_held_out=True)


def _evaluation(
    run: Run,
    part: str | None,
    answers: Path | None,
    people: Path | None,
    data: Path | None,
    borders: Mapping[str, Sequence[float]],
) -> _Photos:
    """The evaluation photos; where nobody asked for them and their truth is not known, the held-out ones."""
    if part is None:
        found = answered_photos(run, answers=answers, people=people, data=data)
        if found.is_held_out:
            return _held_out(run, borders)
        return _Photos(found.experts, found.joint, found.groups, found.scored_on, is_held_out=False)
    folder = run.predictions_folder("eval")
    if not (folder / "predictions.json").is_file():
        raise DataError(f'{folder}: the evaluation photos are not predicted yet; run "ens predict {run.folder}"')
    experts = load_predictions(folder)
    try:
        truth = (
            truth_of_answers(answers, people, run.schema)
            if answers
            else truth_of_table(read_part_of(run, data, "eval"))
        )
    except DataError:
        if answers is not None or data is not None:
            raise
        truth = None  # the data set has moved; the predictions are here all the same
    if truth is None:
        return _Photos(experts, None, None, "the evaluation photos", is_held_out=False)
    joint, groups = truth.of(experts[0].ids, str(folder))
    return _Photos(experts, joint, groups, "the evaluation photos", is_held_out=False)


def _table(run: Run, data: Path | None, *, is_held_out: bool, wanted: bool) -> SampleTable | None:
    """The photos' table; where no photos are wanted, a data set that is not there is no error."""
    if is_held_out and data is None:
        return run.table
    try:
        return read_part_of(run, data, "train" if is_held_out else "eval")
    except DataError as error:
        if not wanted:
            return None
        raise DataError(f"{error}; --photos needs the data set: name where it lies with --data") from None


def _rows_in(table: SampleTable, ids: IdArray) -> IntArray:
    """`(n_photos,)` row of the table, -1 where it does not have the photo."""
    place = {name: row for row, name in enumerate(table.ids.tolist())}
    return np.array([place.get(name, -1) for name in ids.tolist()], dtype=np.int64)


def _measured(table: SampleTable, rows: IntArray) -> dict[str, FloatArray]:
    found: dict[str, FloatArray] = {}
    for attribute in table.schema.attributes:
        if attribute.borders is not None and table.has(attribute.name):
            values = table.frame[attribute.name].to_numpy(dtype=np.float64)
            found[attribute.name] = np.where(rows < 0, np.nan, values[np.maximum(rows, 0)])
    return found


def _folds(run: Run, ids: IdArray) -> IntArray:
    rows = _rows_in(run.table, ids)
    return np.where(rows < 0, -1, run.folds[np.maximum(rows, 0)]).astype(np.int64)


def places_of(table: SampleTable, rows: IntArray) -> list[Place]:
    """Where the photos of some rows of a table lie (-1 = it does not have the photo)."""
    paths = table.paths
    missing = Place(None, "not in the data set")
    return [missing if row < 0 else Place(paths[row]) for row in rows.tolist()]


def refuse_no_photos(places: Sequence[Place], root: Path, ids: IdArray) -> None:
    """Raises DataError when none of the photos is there: another folder was meant. Single ones may be missing."""
    if len(places) and not any(place.path is not None and place.path.exists() for place in places):
        raise DataError(
            f"{root}: none of the {len(places)} photos is there (the first would be {places[0].path or ids[0]}); name "
            "the folder where they lie"
        )
