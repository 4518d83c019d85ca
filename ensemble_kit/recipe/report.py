"""`ens report`: everything a run knows about itself, gathered; each part that is not there with the reason why."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from ensemble_kit.arrays import IntArray
from ensemble_kit.decisions import decide_labels
from ensemble_kit.diagnosis import Diagnosis
from ensemble_kit.ensemble import ConditionalEnsemble
from ensemble_kit.errors import DataError, EnsembleKitError, UsageError
from ensemble_kit.predictions import Predictions
from ensemble_kit.recipe.diagnose import diagnose_target
from ensemble_kit.recipe.evaluate import Answered, answered_photos
from ensemble_kit.recipe.fitters import FitOptions
from ensemble_kit.recipe.labelled import read_compared
from ensemble_kit.recipe.load import Recipe, combine_of, load_recipe
from ensemble_kit.recipe.predict import read_part_of
from ensemble_kit.recipe.report_trainings import curves_of, setup_of, untrained
from ensemble_kit.recipe.shifts import fit_shifts
from ensemble_kit.run_report import RunReport, write_report
from ensemble_kit.run_report.facts import (
    JOINT,
    AnswerFacts,
    DataFacts,
    Missing,
    ShiftFacts,
    ShownPhoto,
    VoteFacts,
)
from ensemble_kit.run_report.measuring import (
    answer_facts,
    known_people,
    label_facts,
    number_facts,
    vote_facts,
)
from ensemble_kit.runs import Run
from ensemble_kit.selection import existing_columns, true_columns
from ensemble_kit.structures.answers import find_structures
from ensemble_kit.structures.scorer import Scorer
from ensemble_kit.voting import find_vote

METRIC = "macro_f1"
ANY_RECIPE = "face-mask"
"""What is asked of a recipe, a run says by itself; functions that also read other folders want one."""

N_SHOWN = 24

Found = TypeVar("Found")


def report_run(
    folder: str | Path,
    out: str | Path,
    *,
    answers: Path | None = None,
    people: Path | None = None,
    data: Path | None = None,
    subgroups: Sequence[str] = (),
    photos: bool = False,
    n_boot: int = 1000,
) -> RunReport:
    """Writes the report of a run as one self-contained page.

    Args:
        folder: the run.
        out: the page; what is there and is no page is not replaced.
        answers, people, data, subgroups: as `diagnose_target` takes them.
        photos: show wrongly answered photos, as small pictures inside the page.
        n_boot: draws of people.

    Raises:
        UsageError: a path that would overwrite something, options that make no sense.
        DataError: no run, or files that are not what they should be.
    """
    from ensemble_kit.pages import refuse_path

    refuse_path(out, [folder, answers, people, data])
    found = gather_report(
        folder, answers=answers, people=people, data=data, subgroups=subgroups, photos=photos, n_boot=n_boot
    )
    write_report(found, out, inputs=[folder, answers, people, data])
    return found


def gather_report(
    folder: str | Path,
    *,
    answers: Path | None = None,
    people: Path | None = None,
    data: Path | None = None,
    subgroups: Sequence[str] = (),
    photos: bool = False,
    n_boot: int = 1000,
) -> RunReport:
    """The facts of a report.

    Answers are scored on the evaluation photos where they are predicted and their answers known, else out of fold.

    Raises:
        DataError: no run, files that are not what they should be, answers of other photos.
    """
    run, recipe = Run.open(Path(folder)), load_recipe(ANY_RECIPE)
    parts = _Parts(run)
    where: dict[str, Any] = {"answers": answers, "people": people, "data": data}
    named = answers is not None or data is not None
    scored = parts.get("answers", lambda: answered_photos(run, **where), named)
    reading = None if scored is None else parts.get("answers", lambda: _read(run, scored))
    found: list[AnswerFacts] = []
    votes: list[VoteFacts] = []
    diagnosis: Diagnosis | None = None
    if scored is not None:
        votes = parts.get("votes", lambda: _votes(run, scored, n_boot)) or []
        asked: dict[str, Any] = {"subgroups": subgroups, "n_boot": n_boot, "vote": combine_of(run)["vote"]}
        asked["said"] = None if reading is None else reading.labels
        diagnosis = parts.get(
            "diagnosis", lambda: diagnose_target(run.folder, recipe, **where, **asked), bool(subgroups)
        )
    if scored is not None and reading is not None:
        scorer = Scorer(scored.groups, n_boot, 0)
        found = answer_facts(
            reading.joint, reading.soft, reading.labels, scored.joint, run.schema, scored.groups, scorer
        )
    shown: list[ShownPhoto] = []
    if photos and scored is not None and reading is not None:
        shown = parts.get("photos", lambda: _shown(run, scored, reading, data)) or []
        if not shown:
            parts.say("photos", "no answer is wrong, so there is no photo to show")
    curves = curves_of(run)
    if not curves:
        parts.say("curves", "no expert has a history of its training", "ens train")
    return RunReport(
        name=run.folder.resolve().name,
        task=_task(run),
        graph=_graph(run),
        read_as="" if reading is None else reading.words,
        scored_on="" if scored is None or reading is None else scored.scored_on,
        n_scored=0 if scored is None else len(scored.joint),
        n_scored_people=None if scored is None else known_people(scored.groups),
        n_boot=n_boot,
        data=_data(run),
        curves=tuple(curves),
        answers=tuple(found),
        diagnosis=diagnosis,
        votes=tuple(votes),
        shifts=tuple(parts.get("shifts", lambda: _shifts(run, recipe, people, data)) or ()),
        setup=setup_of(run),
        missing=(*parts.missing, *untrained(run), *_out_of_fold_notes(run, scored)),
        shown=tuple(shown),
        gallery=_gallery_command(folder, answers, people, data) if found else "",
    )


def _gallery_command(folder: str | Path, answers: Path | None, people: Path | None, data: Path | None) -> str:
    """What shows the same answers photo by photo."""
    words = ["ens", "gallery", str(folder), "--photos"]
    for flag, value in (("--answers", answers), ("--people", people), ("--data", data)):
        words += [] if value is None else [flag, str(value)]
    return shlex.join(words)


@dataclass
class _Parts:
    """Parts that may fail: what failed is said in the report, the rest is there."""

    run: Run
    missing: list[Missing] = field(default_factory=list)

    def get(self, what: str, make: Callable[[], Found], raises: bool = False) -> Found | None:
        """What `make` gives; None where it cannot, unless it was asked for by name (`raises`)."""
        try:
            return make()
        except EnsembleKitError as error:
            if raises:
                raise
            self.say(what, str(error))
            return None

    def say(self, what: str, reason: str, command: str = "") -> None:
        if all(one.what != what for one in self.missing):
            self.missing.append(Missing(what, reason, command))


@dataclass(frozen=True, eq=False)
class _Reading:
    """The joint answers `(n_samples,)` and how they came about; `soft` is the joint without a route."""

    joint: Predictions
    soft: Predictions
    labels: IntArray
    words: str


def _read(run: Run, photos: Answered) -> _Reading:
    """The answers as the run combines; where experts for that are missing, as a structure that is there.

    Raises:
        UsageError: no structure can be answered.
    """
    how = combine_of(run)
    experts = [expert.in_classes_of(run.schema) for expert in photos.experts]
    route, vote = how["route"], how["vote"]
    words = f"{_route_words(run, route)}, {vote} vote of the checkpoints, {how['decide'].replace('_', ' ')} decision"
    if photos.is_held_out:
        words = f"{_route_words(run, route)}, each photo by the fold that never saw its person"
    try:
        ensemble = ConditionalEnsemble(run.schema, run.graph, experts, fallback=how["fallback"])
    except UsageError as error:
        structures, _ = find_structures(experts, run.schema, run.graph, how["fallback"])
        if not structures:
            raise error from None
        ensemble, route = structures[0].ensemble, structures[0].route
        words = f"read as {structures[0].name.replace('_', ' ')}, since experts of its graph are missing"
    joint, soft = (ensemble.combine(route=r, vote=vote, vote_at=how["vote_at"]).joint for r in (route, "soft"))
    labels = decide_labels(joint, run.schema, run.graph, how["decide"])
    return _Reading(joint, soft, labels, words)


def _route_words(run: Run, route: Any) -> str:
    return f"{route} route" if any(node.parents for node in run.graph.nodes) else "nothing is routed"


def _task(run: Run) -> str:
    parts = [f"{a.name} ({len(a.classes)})" for a in run.schema.attributes]
    return f"{', '.join(parts)}: {run.schema.n_joint} joint classes"


def _graph(run: Run) -> str:
    parts = [
        f"{node.name} by {' and '.join(node.parents)}" if node.parents else f"{node.name} for every photo"
        for node in run.graph.nodes
    ]
    return "; ".join(parts)


def _data(run: Run) -> DataFacts:
    table, folds = run.table, run.folds
    people = table.groups
    labels = [label_facts(a.name, a.classes, table.numbers(a.name), people, folds) for a in run.schema.attributes]
    if len(run.schema.names) > 1:
        labels.append(label_facts(JOINT, run.schema.joint_names(), table.joint(), people, folds))
    numbers = [
        number_facts(a.name, a.borders, table.frame[a.name].to_numpy())
        for a in run.schema.attributes
        if a.borders is not None and table.has(a.name)
    ]
    held = [folds == fold for fold in range(int(folds.max(initial=-1)) + 1)]
    return DataFacts(
        data=run.data.name,
        layout=str(run.info["layout"]),
        n_photos=len(table),
        n_people=len(np.unique(people)),
        n_held_out=tuple(int(rows.sum()) for rows in held),
        n_held_out_people=tuple(len(np.unique(people[rows])) for rows in held),
        n_training_only=int((folds < 0).sum()),
        labels=tuple(labels),
        numbers=tuple(one for one in numbers if one is not None),
    )


def _votes(run: Run, photos: Answered, n_boot: int) -> list[VoteFacts]:
    """Raises DataError where every expert has one voter."""
    if photos.is_held_out:
        raise DataError(
            "out of fold each photo is answered by one checkpoint, so there is no vote to look at; predict photos "
            f'whose answers are known with "ens predict {run.folder}"'
        )
    rule = find_vote(combine_of(run)["vote"])
    found = []
    for expert in (one.in_classes_of(run.schema) for one in photos.experts):
        columns = true_columns(expert, run.schema, photos.joint)
        existing = existing_columns(expert, run.schema)
        found.append(vote_facts(expert, columns, existing, photos.groups, rule, METRIC, n_boot, 0))
    votes = [one for one in found if one is not None]
    if not votes:
        raise DataError("every expert has one checkpoint, so nothing is voted on; train with more folds or seeds")
    return votes


def _shifts(run: Run, recipe: Recipe, people: Path | None, data: Path | None) -> list[ShiftFacts]:
    """As `ens fit shift`; experts that share one correction stand together."""
    compared = read_compared([run.folder], recipe=recipe, people=people, data=data)
    items, _ = fit_shifts(compared, FitOptions())
    found: dict[int, tuple[Any, list[str]]] = {}
    for item in items:
        found.setdefault(id(item.value), (item.value, []))[1].append(item.where)
    return [
        ShiftFacts(
            where[0] if len(where) == 1 else f"{where[0].split(' given ')[0]}, its {len(where)} experts together",
            shift.names,
            shift.training_prior,
            shift.prior,
            shift.low,
            shift.high,
            shift.level,
            shift.applied,
            shift.refused,
            shift.reason,
        )
        for shift, where in found.values()
    ]


def _shown(run: Run, photos: Answered, reading: _Reading, data: Path | None) -> list[ShownPhoto]:
    """The surest wrong answers."""
    sure = np.nan_to_num(np.asarray(reading.joint.layers[0], dtype=np.float64)).max(axis=1)
    wrong = np.flatnonzero((reading.labels != photos.joint) & (reading.labels >= 0))
    rows = wrong[np.argsort(-sure[wrong], kind="stable")][:N_SHOWN]
    table = run.table if photos.is_held_out else read_part_of(run, data, "eval")
    path_of = dict(zip(table.ids.tolist(), table.paths, strict=True))
    names = run.schema.joint_names()
    return [
        ShownPhoto(
            str(photos.ids[row]),
            str(path_of.get(str(photos.ids[row]), "")),
            names[reading.labels[row]],
            names[photos.joint[row]],
            float(sure[row]),
        )
        for row in rows.tolist()
    ]


def _out_of_fold_notes(run: Run, photos: Answered | None) -> list[Missing]:
    if photos is None or not photos.is_held_out:
        return []
    if not (run.predictions_folder("eval") / "predictions.json").is_file():
        reason = "the evaluation photos are not predicted, so everything is scored on held-out training photos"
        return [Missing("evaluation", reason, f"ens predict {run.folder}")]
    reason = "the answers of the evaluation photos are not known, so everything is scored on held-out training photos"
    return [Missing("evaluation", reason, f"ens report {run.folder} --answers answers.csv")]
