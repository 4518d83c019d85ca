"""Saved predictions brought together: sets of several runs, photos that all have, borders that move."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from ensemble_kit.errors import DataError, UsageError
from ensemble_kit.graph import describe_expert
from ensemble_kit.ids import match_ids
from ensemble_kit.predictions import Predictions, load_predictions, read_prediction_schema
from ensemble_kit.runs import Run
from ensemble_kit.schema import Schema


def load_experts(folders: Sequence[Path]) -> tuple[list[Predictions], Schema]:
    """The experts of several prediction sets; the same expert in two sets becomes one with both sets' voters.

    Raises:
        DataError: sets of different schemas or different photos.
    """
    if len({folder.resolve() for folder in folders}) < len(folders):
        raise UsageError("the same prediction set is named twice; its voters would count twice")
    schema = read_prediction_schema(folders[0])
    found: dict[str, Predictions] = {}
    for number, folder in enumerate(folders):
        if read_prediction_schema(folder) != schema:
            raise DataError(f"{folder}: made for another schema than {folders[0]}; combine sets of one task only")
        for expert in load_predictions(folder):
            name = describe_expert([a.name for a in expert.attributes], expert.condition)
            found[name] = expert if name not in found else with_voters_of(found[name], expert, prefix=f"set{number}:")
    return list(found.values()), schema


def predicted_only(experts: Sequence[Predictions]) -> list[Predictions]:
    """The experts on the photos that every one of their voters has predicted.

    Raises:
        DataError: there is none.
    """
    is_computed = np.ones(experts[0].n_samples, dtype=bool)
    aligned = [experts[0]]
    for expert in experts[1:]:
        rows = match_ids(expert.ids, experts[0].ids, expert.describe())
        aligned.append(expert if rows is None else expert.select(rows))
    for expert in aligned:
        for layer in expert.layers:
            is_computed &= np.isfinite(np.asarray(layer)).all(axis=1)
    if not is_computed.any():
        raise DataError("no photo is predicted by every expert; see errors.csv in the prediction set")
    keep = np.flatnonzero(is_computed)
    return [expert.select(keep) for expert in aligned]


def with_voters_of(expert: Predictions, other: Predictions, prefix: str) -> Predictions:
    """`expert` with the voters of `other` (the same expert from another run) added, joined by id.

    Raises:
        DataError: other classes, or other photos.
    """
    if (other.classes, other.fine) != (expert.classes, expert.fine):  # 61 years beside 3 classes: as classes
        schema = Schema(*expert.attributes)
        expert, other = expert.in_classes_of(schema), other.in_classes_of(schema)
    if other.classes != expert.classes:
        raise DataError(f"{other.describe()}: one set has the classes {expert.classes}, another {other.classes}")
    rows = match_ids(other.ids, expert.ids, other.describe())
    added = [np.asarray(layer if rows is None else layer[rows]) for layer in other.layers]
    names = [*expert.voters, *(f"{prefix}{voter}" for voter in other.voters)]
    layers, fine = [*expert.layers, *added], expert.fine
    return Predictions(
        expert.attributes,
        layers,
        expert.ids,
        expert.condition,
        expert.classes,
        names,
        edges=fine.edges if fine else None,
        to=fine.to if fine else None,
    )


def move_borders(
    schema: Schema, experts: Sequence[Predictions], borders: Mapping[str, Sequence[float]]
) -> tuple[Schema, list[Predictions]]:
    """The schema with other borders, and the experts with finer columns added up to its classes.

    Raises:
        UsageError: an attribute without borders.
        DataError: an expert that predicts the classes themselves, so that their borders cannot move.
    """
    moved = schema.with_borders(borders)
    changed = {a.name for a in moved.attributes if a.borders != schema[a.name].borders}
    for expert in experts:
        if changed & set(expert.names) and (expert.fine is None or expert.fine.edges is None):
            raise DataError(
                f"{expert.describe()}: predicts classes with the borders {schema[expert.names[0]].borders}, which "
                f"cannot move afterwards; predict finer columns (Predictions(..., edges=...)) or keep the borders"
            )
    return moved, [expert.in_classes_of(moved) for expert in experts]


def prediction_sets(sources: Sequence[Path], current: Callable[[Run], Path]) -> list[Path]:
    """The prediction-set folder behind each source, which is one itself or a run.

    Args:
        current: gives the folder of a run's set, and makes it where it is missing or out of date.
    """
    folders = []
    for source in sources:
        if (source / "predictions.json").is_file():
            folders.append(source)
        elif (source / "run.json").is_file():
            folders.append(current(Run.open(source)))
        else:
            raise DataError(
                f"{source}: expected a run (run.json) or saved predictions (predictions.json), found neither"
            )
    return folders
