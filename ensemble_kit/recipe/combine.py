"""From runs or saved predictions to a submission. Nothing here imports torch unless predictions are missing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ensemble_kit.ensemble import Combined, ConditionalEnsemble
from ensemble_kit.errors import DataError, UsageError
from ensemble_kit.files import write_json
from ensemble_kit.fitted import as_combine_arguments, load_fitted
from ensemble_kit.graph import Graph, describe_expert
from ensemble_kit.ids import match_ids
from ensemble_kit.predictions import Predictions, load_predictions, read_prediction_schema, save_predictions
from ensemble_kit.recipe.known import read_known
from ensemble_kit.recipe.load import validated
from ensemble_kit.recipe.settings import CombineSettings
from ensemble_kit.runs import Run
from ensemble_kit.schema import Schema
from ensemble_kit.submission import read_template, write_submission

GRAPHS: dict[str, Callable[[Schema], Graph] | None] = {
    "conditional": None,
    "independent": Graph.independent,
    "flat": Graph.flat,
}
"""How the same experts may be read: by the recipe's graph, every attribute by itself, or one joint expert.

None = the graph as it is."""


@dataclass(frozen=True)
class CombineReport:
    """What a combination did.

    Attributes:
        combined: joint predictions, gates, photos per expert.
        plan: the table of states and their experts.
        submission: the file written.
        joint: the folder of joint probabilities, a prediction set of its own.
        n_filled: photos without a prediction, answered as `missing` says.
    """

    combined: Combined
    plan: str
    submission: Path
    joint: Path
    n_filled: int

    def to_json(self) -> dict[str, object]:
        n_samples = len(self.combined.joint.ids)
        files = {"submission": str(self.submission), "joint": str(self.joint)}
        return {
            "n_samples": n_samples,
            "n_filled": self.n_filled,
            "photos_per_expert": dict(self.combined.counts),
            **files,
        }

    def text(self) -> str:
        width = max((len(name) for name in self.combined.counts), default=0)
        lines = [f"  {name:<{width}}  {count:>7}" for name, count in self.combined.counts.items()]
        filled = [f"{self.n_filled} photos without a prediction got the answer named"] if self.n_filled else []
        return "\n".join(
            [
                "photos per expert:",
                *lines,
                *filled,
                f"submission: {self.submission}",
                f"joint probabilities: {self.joint}",
            ]
        )


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
    if other.classes != expert.classes:
        raise DataError(f"{other.describe()}: one set has the classes {expert.classes}, another {other.classes}")
    rows = match_ids(other.ids, expert.ids, other.describe())
    added = [np.asarray(layer if rows is None else layer[rows]) for layer in other.layers]
    names = [*expert.voters, *(f"{prefix}{voter}" for voter in other.voters)]
    return Predictions(expert.attributes, [*expert.layers, *added], expert.ids, expert.condition, expert.classes, names)


def combine_sets(
    folders: Sequence[Path],
    graph: Graph,
    settings: Mapping[str, Any],
    out: Path,
    *,
    structure: str = "conditional",
    template: Path | None = None,
    missing: int | None = None,
    known: Sequence[str] = (),
    fitted: Sequence[Path] = (),
    announce: Callable[[str], None] | None = None,
) -> CombineReport:
    """Combines saved predictions and writes `submission.csv`, `joint/` and `combine.json` under `out`.

    Args:
        missing: the answer of photos that could not be predicted, or are in the template only; None = refuse them.
        settings: see `CombineSettings`.
        known: facts, see `read_known`; they need the soft joint.
        fitted: files of `ens fit`: weights, temperatures, shifted priors.
        announce: told the plan (which expert answers which state) before anything is computed.

    Raises:
        UsageError: an unknown structure, route or vote.
        DataError: a state without an expert, sets that do not fit, a template with other ids.
    """
    if structure not in GRAPHS:
        raise UsageError(f'--structure "{structure}": expected {", ".join(GRAPHS)}')
    chosen = validated(CombineSettings, settings, "combine")
    experts, stored = load_experts(folders)
    ids = experts[0].ids
    if missing is not None:
        stored.decode([missing])  # refuses what is no joint class
        experts = predicted_only(experts)
    schema, experts = move_borders(stored, experts, chosen.borders)
    other_graph = GRAPHS[structure]
    ensemble = ConditionalEnsemble(
        schema, other_graph(schema) if other_graph else graph, experts, fallback=chosen.fallback
    )
    if announce:
        announce(ensemble.describe())
    combined = _combine(ensemble, chosen, known, fitted)
    submission = out / "submission.csv"
    answers = combined.labels(chosen.decide)
    n_filled = 0
    if missing is None:
        write_submission(submission, (combined.joint.ids, answers), template=template, schema=schema)
    else:
        wanted = read_template(template) if template else ids
        by_id = dict(zip(combined.joint.ids.tolist(), answers.tolist(), strict=True))
        n_filled = sum(name not in by_id for name in wanted.tolist())
        write_submission(submission, (wanted, [by_id.get(name, missing) for name in wanted.tolist()]))
    save_predictions(out / "joint", [combined.joint], schema, command="ens combine")
    report = CombineReport(combined, ensemble.describe(), submission, out / "joint", n_filled)
    write_json(out / "combine.json", {**report.to_json(), "structure": structure, **chosen.model_dump()})
    return report


def _combine(
    ensemble: ConditionalEnsemble, chosen: CombineSettings, known: Sequence[str], fitted: Sequence[Path]
) -> Combined:
    if known and chosen.route != "soft":
        raise UsageError(f"--known needs the soft joint, found --route {chosen.route}; add --route soft")
    vote: str | Mapping[str, Any] = chosen.vote
    arguments = as_combine_arguments(item for path in fitted for item in load_fitted(path))
    if "vote" in arguments:  # votes that were fitted, the rule asked for everywhere else
        others = vote if isinstance(vote, Mapping) else {node.name: vote for node in ensemble.graph.nodes}
        vote = {**others, **arguments.pop("vote")}
    combined = ensemble.combine(route=chosen.route, vote=vote, vote_at=chosen.vote_at, **arguments)
    if not known:
        return combined
    facts = read_known(known, ensemble.schema, combined.joint.ids)
    return combined.given(facts)


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
