"""Predictions beside their right answers: what weights, temperatures and priors are fitted on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from ensemble_kit.arrays import IdArray, IntArray
from ensemble_kit.errors import DataError, UsageError
from ensemble_kit.graph import Graph
from ensemble_kit.ids import match_ids
from ensemble_kit.predictions import Predictions
from ensemble_kit.recipe.load import Recipe, combine_of, validated
from ensemble_kit.recipe.predict import PARTS, read_part_of
from ensemble_kit.recipe.run import read_part
from ensemble_kit.recipe.sets import load_experts, predicted_only, with_voters_of
from ensemble_kit.recipe.settings import CombineSettings
from ensemble_kit.recipe.truth import Truth, truth_of_answers, truth_of_table
from ensemble_kit.runs import Run, voter_names
from ensemble_kit.schema import Schema


@dataclass(frozen=True, eq=False)
class Unlabelled:
    """The photos that are to be answered, beside labelled ones.

    Attributes:
        experts: every photo predicted by every voter, in one order.
        groups: `(n_samples,)` people; None = nobody knows.
        source: which photos these are, for reports.
    """

    experts: tuple[Predictions, ...]
    groups: IdArray | None
    source: str

    @property
    def n_samples(self) -> int:
        return self.experts[0].n_samples


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
        unlabelled: the photos that they are compared with, where that was asked for.
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
    unlabelled: Unlabelled | None = None

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
    runs = _runs(sources)
    graph, combine = _combining(runs, recipe, settings)
    if len(runs) == len(sources) and answers is None and data is None:
        return _out_of_fold(runs, graph, combine)
    experts, schema = load_experts([_set_of(source, name) for source in sources])
    truth = _truth(runs, recipe, answers, people, data, schema)
    joint, groups = truth.of(experts[0].ids, str(sources[0]))
    return _on_common_rows(experts, schema, graph, joint, groups, combine, f"the photos of {truth.source}")


def read_compared(
    sources: Sequence[Path],
    *,
    recipe: Recipe,
    reference: Path | None = None,
    answers: Path | None = None,
    people: Path | None = None,
    data: Path | None = None,
    name: str = "eval",
    settings: Mapping[str, Any] | None = None,
) -> Labelled:
    """Labelled predictions beside those of unlabelled photos, by the same experts.

    Args:
        sources: runs, whose predicted photos `name` are compared with their out-of-fold predictions; or, with a
            reference, saved predictions of unlabelled photos as well.
        reference: a run (out of fold), or labelled predictions with answers.
        answers: ImageID,ans of the reference's photos.
        people: ImageID,person of the unlabelled photos; default what the run's data set says.
        data: another data set than the run's own.
        name, settings: as `read_labelled`.

    Raises:
        UsageError: no source, answers without a reference.
        DataError: saved predictions without a reference, other schemas, files that are not what they should be.
    """
    runs = _runs(sources)
    if reference is None and len(runs) < len(sources):
        bare = next(source for source in sources if not (source / "run.json").is_file())
        raise DataError(
            f"{bare}: saved predictions have no out-of-fold ones to be compared with; add --reference SET --answers "
            "FILE (labelled photos), or --reference RUN"
        )
    if reference is None and answers is not None:
        raise UsageError(
            "--answers are of the photos of --reference; without one a run is compared with its own out-of-fold "
            "predictions"
        )
    known = [reference] if reference is not None else list(sources)
    labelled = read_labelled(known, recipe=recipe, answers=answers, name=name, settings=settings)
    folders = [_set_of(source, name) for source in sources]
    experts, schema = load_experts(folders)
    if schema != labelled.schema:
        raise DataError(f"{folders[0]}: made for another schema than {known[0]}; compare predictions of one task only")
    kept = predicted_only(experts)
    groups = _people_of(kept[0].ids, experts[0].ids, runs, people, data, name)
    unlabelled = Unlabelled(tuple(kept), groups, " and ".join(map(str, folders)))
    if runs:
        graph, combine = _combining(runs, recipe, settings)
        labelled = replace(labelled, graph=graph, combine=combine)
    return replace(labelled, unlabelled=unlabelled)


def _people_of(
    ids: IdArray, all_ids: IdArray, runs: Sequence[Run], people: Path | None, data: Path | None, name: str
) -> IdArray | None:
    """Who is on the photos `ids`; None = nobody knows, as where each photo of the data set is its own person."""
    if people is not None:
        from ensemble_kit.data.answers import read_people

        return read_people(people, all_ids)[_places(ids, all_ids)]
    if not runs or name not in PARTS:
        return None
    try:
        table = read_part_of(runs[0], data, name)
    except DataError:
        if data is not None:
            raise
        return None  # the photos have gone since they were predicted
    group_of = dict(zip(table.ids.tolist(), table.groups.tolist(), strict=True))
    groups = [group_of.get(photo, photo) for photo in ids.tolist()]
    return None if groups == ids.tolist() else np.array(groups, dtype=np.str_)


def _runs(sources: Sequence[Path]) -> list[Run]:
    if not sources:
        raise UsageError("fit: expected a run or saved predictions, found none")
    for source in sources:
        if not (source / "run.json").is_file() and not (source / "predictions.json").is_file():
            raise DataError(
                f"{source}: expected a run (run.json) or saved predictions (predictions.json), found neither"
            )
    return [Run.open(source) for source in sources if (source / "run.json").is_file()]


def _combining(
    runs: Sequence[Run], recipe: Recipe, settings: Mapping[str, Any] | None
) -> tuple[Graph, Mapping[str, Any]]:
    """The graph and how it is combined: the first run's, else the recipe's."""
    stored = combine_of(runs[0]) if runs else recipe.combine.model_dump()
    combine = validated(CombineSettings, stored | dict(settings or {}), "combine").model_dump()
    return runs[0].graph if runs else recipe.graph, combine


def _set_of(source: Path, name: str) -> Path:
    if (source / "predictions.json").is_file():
        return source
    run = Run.open(source)
    folder = run.predictions_folder(name)
    if not (folder / "predictions.json").is_file():
        raise DataError(f'{source}: its photos "{name}" are not predicted yet; run "ens predict {source}" first')
    if not run.predictions_made_by(name, {fold.checkpoint_sha256 for fold in run.finished()}):
        raise DataError(f'{folder}: older than the checkpoints of the run; run "ens predict {source}" first')
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
            folds = [fold for fold in run.finished() if fold.answers(*_key(expert))]
            prefix = f"set{number}:" if name in found else ""
            own = expert.with_voters([str(run.folder)])
            stands_for.setdefault(name, {})[str(run.folder)] = tuple(f"{prefix}{voter}" for voter in voter_names(folds))
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
