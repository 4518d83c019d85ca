"""Diagnosing a run or a prediction set: its photos, answers and people brought together, then `diagnose`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ensemble_kit.arrays import IdArray, IntArray
from ensemble_kit.data.rows import Rows, read_rows
from ensemble_kit.diagnosis import Diagnosis, diagnose
from ensemble_kit.errors import DataError, UsageError, nearest
from ensemble_kit.predictions import load_predictions, read_prediction_schema
from ensemble_kit.recipe.evaluate import Answered, answered_photos
from ensemble_kit.recipe.load import Recipe, combine_of
from ensemble_kit.recipe.run import read_part
from ensemble_kit.recipe.truth import truth_of_answers, truth_of_table
from ensemble_kit.runs import Run

PHOTO_KEYS = ("ImageID", "sample_id")
PERSON_KEYS = ("person", "group_id", "id")


def diagnose_target(
    target: Path,
    recipe: Recipe,
    *,
    answers: Path | None = None,
    people: Path | None = None,
    data: Path | None = None,
    subgroups: Sequence[str] = (),
    fallback: str | None = None,
    said: IntArray | None = None,
    **options: Any,
) -> Diagnosis:
    """Diagnoses a run on its evaluation photos (out of fold where their answers are not known), or a prediction set.

    Args:
        target: a run, or a folder of predictions of experts.
        recipe: gives the graph of a prediction set; a run knows its own.
        answers: a file of answers; default the labels of the data set's evaluation photos.
        people: a table with the person of each photo and columns for `subgroups`; default beside the answers.
        data: the data set; a run knows its own.
        subgroups: names of columns, of `people`, of `answers`, or, out of fold, of the run's samples.csv.
        fallback: refuse or pooled; default the run's or the recipe's.
        said: `(n_samples,)` joint index answered, as `diagnose` takes `answers`.
        options: vote, metric, n_boot, seed, as `diagnose` takes them.

    Raises:
        UsageError: states without an expert, unknown names.
        DataError: no answers, other ids, files that are not what they should be.
    """
    if (target / "run.json").is_file():
        run = Run.open(target)
        photos = answered_photos(run, answers=answers, people=people, data=data)
        schema, graph, missing = run.schema, run.graph, combine_of(run)["fallback"]
        samples = run.folder / "samples.csv" if photos.is_held_out else None
        tables = [file for file in (people, answers, samples) if file is not None]
    elif (target / "predictions.json").is_file():
        photos = _answered_set(target, recipe, answers, people, data)
        schema, graph, missing = read_prediction_schema(target), recipe.graph, recipe.combine.fallback
        tables = [file for file in (people, answers) if file is not None]
    else:
        raise DataError(f"{target}: expected a run or a folder of predictions, found neither of them")
    return diagnose(
        photos.experts,
        schema,
        graph,
        photos.joint,
        photos.ids,
        groups=photos.groups,
        subgroups={name: read_column(name, tables, photos.ids, photos.groups) for name in subgroups},
        answers=said,
        fallback=fallback or missing,  # type: ignore[arg-type]
        scored_on=photos.scored_on,
        **options,
    )


def _answered_set(
    target: Path, recipe: Recipe, answers: Path | None, people: Path | None, data: Path | None
) -> Answered:
    schema, experts = read_prediction_schema(target), load_predictions(target)
    if len(experts) == 1 and experts[0].names == schema.names and len(schema.names) > 1:
        raise DataError(f"{target}: holds joint probabilities, no experts; name the run or its predictions/ folder")
    if answers is not None:
        truth = truth_of_answers(answers, people, schema)
    elif data is not None:
        known = truth_of_table(read_part(recipe, data, "eval"))
        if known is None:
            raise DataError(f"{data}: its evaluation photos are not all labelled; pass --answers FILE (ImageID,ans)")
        truth = known
    else:
        raise DataError(f"{target}: no answers to hold it against; pass --answers FILE (ImageID,ans), or --data")
    joint, groups = truth.of(experts[0].ids, str(target))
    return Answered(experts, joint, groups, is_held_out=False)


def read_column(name: str, tables: Sequence[Path], ids: IdArray, groups: IdArray | None) -> list[str]:
    """A column as text, one value a photo ("" where the table does not have it), of the first table that has it.

    The table is joined by its photos (ImageID or sample_id), else by its people (person, group_id or id).

    Raises:
        UsageError: no table has the column.
        DataError: a table that is not readable or has nothing to join by.
    """
    found: list[str] = []
    for file in tables:
        rows = read_rows(file, [])
        if name in rows.columns:
            return _joined(name, rows, ids, groups)
        found += [column for column in rows.columns if column not in (*PHOTO_KEYS, *PERSON_KEYS, *found)]
    where = f" in {', '.join(map(str, tables))}" if tables else "; name a table with --people FILE (ImageID,person,...)"
    raise UsageError(f'--subgroup "{name}": no such column{where}{nearest(name, found)}')


def _joined(name: str, rows: Rows, ids: IdArray, groups: IdArray | None) -> list[str]:
    photo = next((key for key in PHOTO_KEYS if key in rows.columns), None)
    person = next((key for key in PERSON_KEYS if key in rows.columns and key != name), None)
    if photo is None and (person is None or groups is None):
        raise DataError(
            f"{rows.source}: expected a column ImageID to join {name} by, found {', '.join(rows.columns)}; add it"
        )
    key, wanted = (photo, ids) if photo is not None else (str(person), np.asarray(groups))
    rows.refuse_repeated(key)
    value_of = dict(zip(rows[key], rows[name], strict=True))
    values = [value_of.get(one, "") for one in wanted.tolist()]
    if not any(values):
        raise DataError(f"{rows.source}: no {key} of it is among the photos, the first of which is {wanted[0]}")
    return values
