"""From runs or saved predictions to a submission. Nothing here imports torch unless predictions are missing."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ensemble_kit.arrays import IdArray, IntArray
from ensemble_kit.cascading import Cascaded
from ensemble_kit.cascading import cascade as run_cascade
from ensemble_kit.columns import WIDTH, fitted
from ensemble_kit.current import disagreement
from ensemble_kit.decisions import decide_labels
from ensemble_kit.ensemble import Combined, ConditionalEnsemble, Fallback, Missing
from ensemble_kit.errors import UsageError
from ensemble_kit.files import write_json, write_text
from ensemble_kit.fitted import as_combine_arguments, borders_of, load_fitted, votes_with
from ensemble_kit.graph import Graph
from ensemble_kit.predictions import Predictions, save_predictions
from ensemble_kit.recipe.known import read_known
from ensemble_kit.recipe.load import validated
from ensemble_kit.recipe.sets import load_experts, move_borders
from ensemble_kit.recipe.settings import CombineSettings
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
        result: what combining gave, or what the cascade over several structures gave.
        plan: the table of states and their experts.
        submission: the file written.
        joint: the folder of joint probabilities, a prediction set of its own.
        rows: the table of reasons, where it was asked for.
        n_filled: photos without a prediction or answer, answered as `missing` says.
        disagreements: of sets whose back end was taken although it disagrees, what was accepted.
    """

    result: Combined | Cascaded
    plan: str
    submission: Path
    joint: Path
    rows: Path | None
    n_filled: int
    disagreements: tuple[str, ...] = ()

    @property
    def counts(self) -> dict[str, int]:
        """Photos per expert, of a cascade per stage."""
        return dict(self.result.counts)

    def to_json(self) -> dict[str, object]:
        found: dict[str, object] = {"n_samples": self.result.joint.n_samples, "n_filled": self.n_filled}
        if isinstance(self.result, Combined):
            found["photos_per_expert"] = self.counts
            found["distance_to_soft"] = _distances(self.result)
        else:
            found["photos_per_stage"] = self.counts
        if self.disagreements:
            found["disagreements"] = list(self.disagreements)
        return found | {"submission": str(self.submission), "joint": str(self.joint)}

    def text(self) -> str:
        kind = "expert" if isinstance(self.result, Combined) else "stage"
        lines = [fitted([kind, "photos"], [[name, str(count)] for name, count in self.counts.items()], WIDTH)]
        if isinstance(self.result, Combined):
            lines += [line for line in self.result.summary().splitlines() if not line.startswith(("photos", "asked"))]
        if self.n_filled:
            lines.append(f"{self.n_filled} photos without an answer got the one named")
        lines += [f"note: {accepted}" for accepted in self.disagreements]
        if self.rows:
            lines.append(f"row by row: {self.rows}")
        return "\n".join([*lines, f"submission: {self.submission}", f"joint probabilities: {self.joint}"])


def _distances(combined: Combined) -> dict[str, float] | None:
    if np.isnan(combined.mean_distance):
        return None
    return {"mean": combined.mean_distance, "highest": combined.max_distance}


def combine_sets(
    folders: Sequence[Path],
    graph: Graph,
    settings: Mapping[str, Any],
    out: Path,
    *,
    structure: str = "conditional",
    cascade: str | None = None,
    template: Path | None = None,
    missing: int | None = None,
    known: Sequence[str] = (),
    fitted: Sequence[Path] = (),
    rows: bool = False,
    announce: Callable[[str], None] | None = None,
) -> CombineReport:
    """Combines saved predictions and writes `submission.csv`, `joint/` and `combine.json` under `out`.

    Args:
        settings: see `CombineSettings`.
        structure: a name in GRAPHS.
        cascade: stages such as "hard:0.9; soft:0.6; independent:0", see `stages_of`; in place of one route.
        missing: the answer of photos that could not be predicted or have none, or are in the template only; None =
            refuse them.
        known: facts, see `read_known`; they need the soft joint.
        fitted: files of `ens fit`: weights, temperatures, shifted priors.
        rows: writes `rows.csv` too: each photo's route, confidence, experts and reason.
        announce: told the plan (which expert answers which state) before anything is computed.

    Raises:
        UsageError: an unknown structure, route or vote.
        DataError: a state without an expert, sets that do not fit, a template with other ids.
    """
    chosen = validated(CombineSettings, settings, "combine")
    refuse_overwriting(out, [*folders, *([template] if template else []), *(Path(fact) for fact in known)])
    experts, stored = load_experts(folders)
    ids = experts[0].ids
    if missing is not None:
        stored.decode([missing])  # refuses what is no joint class
    schema, experts = move_borders(stored, experts, borders_of_settings(chosen, fitted))

    unanswered: Missing = "refuse" if missing is None else "abstain"

    def combine(structure: str, route: Any) -> Combined:
        ensemble = _ensemble(schema, graph, experts, structure, chosen.fallback)
        return _combine(ensemble, chosen, route, known, fitted, unanswered)

    def stage(name: str) -> Combined:
        try:
            return combine(*_stage(name, structure))
        except UsageError as error:
            raise UsageError(f'--cascade: stage "{name}": {error}') from None

    plan = _ensemble(schema, graph, experts, structure, chosen.fallback).describe()
    if announce:
        announce(plan)
    result: Combined | Cascaded
    if cascade is None:
        result = combine(structure, chosen.route)
        answers = result.labels(chosen.decide)
    else:
        result = run_cascade([(name, stage(name), at_least) for name, at_least in stages_of(cascade).items()])
        answers = decide_labels(result.joint, schema, graph, chosen.decide)
    n_filled = write_answers(out / "submission.csv", result.joint.ids, answers, ids, schema, template, missing)
    save_predictions(out / "joint", [result.joint], schema, command="ens combine")
    (out / "rows.csv").unlink(missing_ok=True)  # those of an earlier result would not fit this one
    table = _write_rows(out / "rows.csv", result, answers, schema) if rows else None
    accepted = tuple(f"{folder}: {found}" for folder in folders if (found := disagreement(folder)))
    report = CombineReport(result, plan, out / "submission.csv", out / "joint", table, n_filled, accepted)
    more = {"structure": structure, "cascade": cascade, "missing": missing, **chosen.model_dump()}
    more |= {"known": list(known), "fitted": [str(path) for path in fitted]}
    write_json(out / "combine.json", {**report.to_json(), **more})
    return report


def borders_of_settings(chosen: CombineSettings, fitted: Sequence[Path]) -> dict[str, tuple[float, ...]]:
    """Those of the settings and those that were fitted.

    Raises:
        UsageError: both, for one attribute.
    """
    found = borders_of(item for path in fitted for item in load_fitted(path))
    for name in found.keys() & chosen.borders.keys():
        raise UsageError(f"borders of {name} are set and fitted as well; leave --borders or the fitted file out")
    return {**chosen.borders, **found}


def refuse_overwriting(out: Path, inputs: Sequence[Path]) -> None:
    """Raises UsageError when a result would replace what is read."""
    written = {(out / name).resolve() for name in ("joint", "submission.csv", "rows.csv", "combine.json")}
    for path in inputs:
        if path.resolve() in written:
            raise UsageError(f"{path}: would be overwritten by the result; name another folder with --out")


def _ensemble(
    schema: Schema, graph: Graph, experts: Sequence[Predictions], structure: str, fallback: Fallback
) -> ConditionalEnsemble:
    return ConditionalEnsemble(schema, graph_as(structure, schema, graph), experts, fallback=fallback)


def graph_as(structure: str, schema: Schema, graph: Graph) -> Graph:
    """The graph by which a structure of `GRAPHS` reads the experts.

    Raises:
        UsageError: an unknown structure.
    """
    if structure not in GRAPHS:
        raise UsageError(f'--structure "{structure}": expected {", ".join(GRAPHS)}')
    other = GRAPHS[structure]
    return other(schema) if other else graph


def _combine(
    ensemble: ConditionalEnsemble,
    chosen: CombineSettings,
    route: Any,
    known: Sequence[str],
    fitted: Sequence[Path],
    missing: Missing,
) -> Combined:
    if known and route != "soft":
        raise UsageError(f"--known needs the soft joint, found --route {route}; add --route soft")
    arguments = combine_arguments(chosen, fitted, ensemble.graph)
    combined = ensemble.combine(route=route, missing=missing, **arguments)
    return combined.given(read_known(known, ensemble.schema, combined.joint.ids)) if known else combined


def combine_arguments(chosen: CombineSettings, fitted: Sequence[Path], graph: Graph) -> dict[str, Any]:
    """What `ConditionalEnsemble.combine` takes besides the route: votes as set, and what was fitted."""
    arguments = as_combine_arguments(item for path in fitted for item in load_fitted(path))
    nodes = [node.name for node in graph.nodes]
    vote = votes_with(arguments.pop("vote", {}), chosen.vote, chosen.vote_at, nodes)
    return {"vote": vote, "vote_at": chosen.vote_at, **arguments}


def stages_of(text: str) -> dict[str, float]:
    """`"hard:0.9; soft:0.6; independent:0"` -> how sure each stage has to be of an answer, in order.

    A stage is a route of the graph, or one of the other structures in GRAPHS (with the soft route).

    Raises:
        UsageError: anything else.
    """
    stages: dict[str, float] = {}
    for part in text.split(";"):
        name, _, number = (piece.strip() for piece in part.rpartition(":"))
        if name in stages:
            raise UsageError(f'--cascade "{text}": stage "{name}" comes twice; the first is the one that answers')
        try:
            stages[name] = float(number)
        except ValueError:
            name = ""
        if not name:
            raise UsageError(
                f'--cascade "{text}": expected stages and how sure they have to be, as in '
                '"hard:0.9; soft:0.6; independent:0"'
            )
    return stages


def _stage(name: str, structure: str) -> tuple[str, str]:
    """The structure and the route of a stage."""
    return (name, "soft") if name in GRAPHS else (structure, name)


def write_answers(
    path: Path,
    ids: IdArray,
    answers: IntArray,
    all_ids: IdArray,
    schema: Schema,
    template: Path | None,
    missing: int | None,
) -> int:
    """Writes the submission; returns how many photos got the answer `missing`."""
    if missing is None:
        write_submission(path, (ids, answers), template=template, schema=schema)
        return 0
    wanted = read_template(template) if template else all_ids
    by_id = {name: label for name, label in zip(ids.tolist(), answers.tolist(), strict=True) if label >= 0}
    write_submission(path, (wanted, [by_id.get(name, missing) for name in wanted.tolist()]), schema=schema)
    return sum(name not in by_id for name in wanted.tolist())


def _write_rows(path: Path, result: Combined | Cascaded, answers: IntArray, schema: Schema) -> Path:
    """Row by row, with the classes as they were decided; -1 = no answer."""
    text = io.StringIO()
    names = np.array([*schema.joint_names(), ""], dtype=object)
    columns = {**result.rows(), "label": answers, "joint_class": names[answers]}
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(zip(*(column.tolist() for column in columns.values()), strict=True))
    write_text(path, text.getvalue())
    return path
