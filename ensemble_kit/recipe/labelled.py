"""Predictions beside their right answers: what weights, temperatures and priors are fitted on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ensemble_kit.arrays import IdArray, IntArray
from ensemble_kit.errors import DataError, UsageError
from ensemble_kit.graph import Graph
from ensemble_kit.ids import match_ids
from ensemble_kit.predictions import Predictions
from ensemble_kit.recipe.load import Recipe, validated
from ensemble_kit.recipe.predict import read_part_of
from ensemble_kit.recipe.run import read_part
from ensemble_kit.recipe.sets import load_experts, predicted_only, with_voters_of
from ensemble_kit.recipe.settings import CombineSettings
from ensemble_kit.recipe.truth import Truth, truth_of_answers, truth_of_table
from ensemble_kit.runs import Run
from ensemble_kit.schema import Schema


@dataclass(frozen=True, eq=False)
class Labelled:
    """Experts on labelled photos, all in one order.

    Attributes:
        experts: every photo predicted by every voter.
        true_joint: `(n_samples,)` joint index, no -1.
        groups: `(n_samples,)` people; None = nobody knows.
        combine: how they are combined: route, vote, vote_at, fallback.
        source: which photos these are, for reports.
        stands_for: expert -> voter -> the voters that `ens combine` will find in its place: a run's out-of-fold
            predictions are one voter here, its folds are several there. Voters that stand for themselves are not in it.
        n_out_of_fold: runs whose out-of-fold predictions these are; 0 = predictions of whole models.
    """

    experts: tuple[Predictions, ...]
    schema: Schema
    graph: Graph
    true_joint: IntArray
    groups: IdArray | None
    combine: Mapping[str, Any]
    source: str
    stands_for: Mapping[str, Mapping[str, tuple[str, ...]]] = field(default_factory=dict)
    n_out_of_fold: int = 0

    @property
    def ids(self) -> IdArray:
        return self.experts[0].ids


def read_labelled(
    sources: Sequence[Path],
    *,
    recipe: Recipe,
    answers: Path | None = None,
    people: Path | None = None,
    data: Path | None = None,
    name: str = "eval",
    settings: Mapping[str, Any] | None = None,
) -> Labelled:
    """Out-of-fold predictions of runs; or, where answers or data are named or a source is a prediction set, saved ones.

    Args:
        sources: runs or prediction sets; the first run says graph and combining, else the recipe does.
        answers: ImageID,ans of the photos that are predicted.
        people: ImageID,person; default `people.csv` beside the answers.
        data: a data set whose evaluation photos are labelled.
        name: which prediction set of a run.
        settings: of combining, over those of the first run, else of the recipe; see `CombineSettings`.

    Raises:
        UsageError: no source, unknown settings.
        DataError: neither runs nor sets, no answers, photos that differ, nothing predicted.
    """
    if not sources:
        raise UsageError("fit: expected a run or saved predictions, found none")
    for source in sources:
        if not (source / "run.json").is_file() and not (source / "predictions.json").is_file():
            raise DataError(
                f"{source}: expected a run (run.json) or saved predictions (predictions.json), found neither"
            )
    runs = [Run.open(source) for source in sources if (source / "run.json").is_file()]
    graph = runs[0].graph if runs else recipe.graph
    stored = dict(runs[0].combine) if runs else recipe.combine.model_dump()
    combine = validated(CombineSettings, stored | dict(settings or {}), "combine").model_dump()
    if len(runs) == len(sources) and answers is None and data is None:
        return _out_of_fold(runs, graph, combine)
    experts, schema = load_experts([_set_of(source, name) for source in sources])
    truth = _truth(runs, recipe, answers, people, data, schema)
    joint, groups = truth.of(experts[0].ids, str(sources[0]))
    return _on_common_rows(experts, schema, graph, joint, groups, combine, f"the photos of {truth.source}")


def _set_of(source: Path, name: str) -> Path:
    folder = source if (source / "predictions.json").is_file() else source / "predictions" / name
    if not (folder / "predictions.json").is_file():
        raise DataError(f'{source}: its photos "{name}" are not predicted yet; run "ens predict {source}" first')
    return folder


def _truth(
    runs: Sequence[Run], recipe: Recipe, answers: Path | None, people: Path | None, data: Path | None, schema: Schema
) -> Truth:
    truth = truth_of_answers(answers, people, schema) if answers else None
    if answers is None and (data is not None or runs):
        table = read_part_of(runs[0], data, "eval") if runs else read_part(recipe, data, "eval")
        truth = truth_of_table(table)
    if truth is None:
        raise DataError("fit: no answers to these photos; pass --answers FILE (ImageID,ans), or --data with labels")
    return truth


def _on_common_rows(
    experts: Sequence[Predictions],
    schema: Schema,
    graph: Graph,
    joint: IntArray,
    groups: IdArray | None,
    combine: Mapping[str, Any],
    source: str,
    **more: Any,
) -> Labelled:
    """On the photos that have a label and a prediction by every voter; `joint` is in the first expert's order."""
    ids = experts[0].ids
    labelled = np.flatnonzero(joint >= 0)
    aligned = []
    for expert in experts:
        rows = match_ids(expert.ids, ids, expert.describe())
        aligned.append(expert.select(labelled if rows is None else rows[labelled]))
    if not len(labelled):
        raise DataError(f"fit: none of the {len(ids)} photos is labelled with every attribute")
    kept = predicted_only(aligned)
    place = _places(kept[0].ids, ids)
    return Labelled(
        tuple(kept),
        schema,
        graph,
        joint[place],
        None if groups is None else groups[place],
        combine,
        source,
        **more,
    )


def _places(wanted: IdArray, ids: IdArray) -> IntArray:
    """The row of each wanted id, all of which are there."""
    row_of = {name: row for row, name in enumerate(ids.tolist())}
    return np.array([row_of[name] for name in wanted.tolist()], dtype=np.int64)


def _out_of_fold(runs: Sequence[Run], graph: Graph, combine: Mapping[str, Any]) -> Labelled:
    """Each run's out-of-fold predictions as one voter, named after the run."""
    found: dict[str, Predictions] = {}
    stands_for: dict[str, dict[str, tuple[str, ...]]] = {}
    for number, run in enumerate(runs):
        if run.schema != runs[0].schema:
            raise DataError(f"{run.folder}: made for another schema than {runs[0].folder}; fit runs of one task only")
        experts = run.out_of_fold()
        if not experts:
            raise DataError(f'{run.folder}: no finished expert; train one with "ens train ATTRIBUTE"')
        for expert in experts:
            name = expert.describe()
            folds = [fold.fold for fold in run.finished() if (fold.attributes, dict(fold.condition)) == _key(expert)]
            prefix = f"set{number}:" if name in found else ""
            own = Predictions(
                expert.attributes,
                list(expert.layers),
                expert.ids,
                expert.condition,
                expert.classes,
                [str(run.folder)],
            )
            stands_for.setdefault(name, {})[str(run.folder)] = tuple(f"{prefix}fold{fold}" for fold in folds)
            found[name] = with_voters_of(found[name], own, prefix="") if name in found else own
    first = runs[0].table
    return _on_common_rows(
        list(found.values()),
        runs[0].schema,
        graph,
        first.joint(),
        first.groups,
        combine,
        "training photos, out of fold",
        stands_for=stands_for,
        n_out_of_fold=len(runs),
    )


def _key(expert: Predictions) -> tuple[tuple[str, ...], dict[str, tuple[str, ...]]]:
    return expert.names, dict(expert.condition)
