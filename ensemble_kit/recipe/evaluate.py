"""Scoring: a submission or joint probabilities against answers, or a whole run, structure by structure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ensemble_kit.arrays import IdArray, IntArray
from ensemble_kit.columns import WIDTH, fitted
from ensemble_kit.conditions import under_condition
from ensemble_kit.current import disagreement
from ensemble_kit.errors import DataError
from ensemble_kit.metrics import accuracy, macro_f1, person_bootstrap
from ensemble_kit.predictions import Predictions, load_predictions, read_prediction_schema
from ensemble_kit.recipe.load import Recipe
from ensemble_kit.recipe.predict import read_part_of
from ensemble_kit.recipe.run import read_part
from ensemble_kit.recipe.sets import move_borders
from ensemble_kit.recipe.truth import Truth, truth_of_answers, truth_of_table
from ensemble_kit.runs import Run
from ensemble_kit.schema import Schema
from ensemble_kit.structures import StructureReport, score_structures
from ensemble_kit.submission import read_submission

METRICS = {"accuracy": accuracy, "macro_f1": macro_f1}


@dataclass(frozen=True)
class Measure:
    """One score with its 95 % interval over people (None where nobody is known)."""

    value: float
    low: float | None = None
    high: float | None = None

    def __str__(self) -> str:
        return f"{self.value:.4f}" + ("" if self.low is None else f"  [{self.low:.4f}, {self.high:.4f}]")


@dataclass(frozen=True)
class SubmissionScore:
    """Macro F1 over all classes and accuracy, of the joint class and of each attribute."""

    source: str
    n_samples: int
    scores: dict[str, dict[str, Measure]]

    def to_json(self) -> dict[str, Any]:
        return {"source": self.source, "n_samples": self.n_samples} | {
            name: {metric: asdict(measure) for metric, measure in row.items()} for name, row in self.scores.items()
        }

    def text(self) -> str:
        rows = [[name, str(row["macro_f1"]), str(row["accuracy"])] for name, row in self.scores.items()]
        return f"{self.source}: {self.n_samples} photos\n" + fitted(["", "macro F1", "accuracy"], rows, WIDTH)


def score_labels(
    source: str, schema: Schema, truth: IntArray, labels: IntArray, groups: IdArray | None
) -> SubmissionScore:
    """Scores joint labels `(n_samples,)`; -1 in `labels` (abstained) counts as wrong."""
    true_classes, said_classes = schema.decode(truth), schema.decode(labels)
    pairs = {"joint": (truth, labels, schema.n_joint)}
    for attribute in schema.attributes:
        pairs[attribute.name] = (true_classes[attribute.name], said_classes[attribute.name], len(attribute.classes))
    scores = {
        name: {metric: _measure(metric, *pair, groups=groups) for metric in ("macro_f1", "accuracy")}
        for name, pair in pairs.items()
    }
    return SubmissionScore(source, len(truth), scores)


def _measure(metric: str, truth: IntArray, said: IntArray, n_classes: int, groups: IdArray | None) -> Measure:
    value = METRICS[metric](truth, said, n_classes)
    if groups is None or len(set(groups)) == 1:  # one person drawn again is the same one
        return Measure(value)
    low, high = person_bootstrap(truth, said, groups, n_classes, metric, n_boot=1000, seed=0)
    return Measure(value, low, high)


def evaluate_target(
    target: Path, recipe: Recipe, *, answers: Path | None, people: Path | None, data: Path | None
) -> SubmissionScore | StructureReport:
    """Scores a submission file, a folder of joint probabilities, or a run.

    Args:
        recipe: says what a submission's numbers mean; folders know their own schema.
        answers: a file of answers; default the labels of the data set's evaluation photos.
        people: `ImageID,person`; default `people.csv` beside the answers.
        data: the data set; a run knows its own.

    Raises:
        DataError: no answers, other ids, files that are not what they should be.
    """
    if (target / "run.json").is_file():
        return evaluate_run(Run.open(target), answers=answers, people=people, data=data)
    if (target / "predictions.json").is_file():
        schema = read_prediction_schema(target)
        experts = load_predictions(target)
        if len(experts) != 1 or experts[0].names != schema.names:
            raise DataError(f'{target}: holds single experts, not joint probabilities; combine them with "ens combine"')
        ids, labels = experts[0].ids, experts[0].labels()
    elif target.is_file():
        schema = recipe.schema
        ids, labels = read_submission(target, schema)
    else:
        raise DataError(f"{target}: expected a submission (.csv), a joint/ folder or a run, found none of them")
    if answers is not None:
        truth: Truth | None = truth_of_answers(answers, people, schema)
    else:
        truth = truth_of_table(read_part(recipe, data, "eval")) if data is not None else None
    if truth is None:
        raise DataError("no answers to score against; pass --answers FILE (ImageID,ans), or --data with labelled ones")
    joint, groups = truth.of(ids, str(target))
    return score_labels(str(target), schema, joint, labels, groups)


@dataclass(frozen=True, eq=False)
class Answered:
    """A run's experts on photos whose answers are known, in one row order.

    Attributes:
        experts: their predictions.
        joint: `(n_samples,)` joint index.
        groups: `(n_samples,)` the person of each photo; None = nobody knows.
        is_held_out: training photos, each predicted by the models that never saw its person.
        disagreement: of the back end that predicted them, where it was taken all the same.
    """

    experts: list[Predictions]
    joint: IntArray
    groups: IdArray | None
    is_held_out: bool
    disagreement: str = ""

    @property
    def ids(self) -> IdArray:
        return self.experts[0].ids

    @property
    def scored_on(self) -> str:
        which = "training photos, out of fold" if self.is_held_out else "the evaluation photos"
        return f"{which} ({self.disagreement})" if self.disagreement else which


def answered_photos(
    run: Run, *, answers: Path | None = None, people: Path | None = None, data: Path | None = None
) -> Answered:
    """What a run is scored on: the evaluation photos when they are predicted and their answers known, else out of fold.

    Raises:
        DataError: answers or other data were named, but the evaluation photos are not predicted.
    """
    folder = run.predictions_folder("eval")
    if not (folder / "predictions.json").is_file():
        if answers is not None or data is not None:
            raise DataError(
                f'{run.folder}: the evaluation photos are not predicted yet; run "ens predict {run.folder}"'
            )
        return held_out_photos(run)
    if not run.predictions_made_by("eval", {fold.checkpoint_sha256 for fold in run.finished()}):
        raise DataError(f'{folder}: older than the checkpoints of the run; run "ens predict {run.folder}" first')
    truth = (
        truth_of_answers(answers, people, run.schema) if answers else truth_of_table(read_part_of(run, data, "eval"))
    )
    if truth is None:
        return held_out_photos(run)
    experts = load_predictions(folder)
    joint, groups = truth.of(experts[0].ids, str(folder))
    return Answered(experts, joint, groups, is_held_out=False, disagreement=disagreement(folder))


class PartlyLabelledError(DataError):
    """No photo has every label: experts can be scored, joint answers cannot."""


def held_out_photos(run: Run, borders: Mapping[str, Sequence[float]] | None = None) -> Answered:
    """The held-out training photos that every finished expert has predicted.

    Args:
        borders: attribute -> others than the schema's, for the true classes and for the experts' finer columns.

    Raises:
        PartlyLabelledError: they are there, but none has every label.
        DataError: no finished expert, or no such photo.
    """
    experts = run.out_of_fold()
    if not experts:
        raise DataError(f'{run.folder}: no finished expert to score; train one with "ens train ATTRIBUTE"')
    schema = run.schema
    if borders:
        schema, experts = move_borders(schema, experts, borders)
    joint = schema.encode({name: run.table.numbers(name, schema[name].borders) for name in schema.names})
    covered = np.isfinite(np.stack([expert.layers[0][:, 0] for expert in experts])).all(axis=0)
    keep = np.flatnonzero(covered & (joint >= 0))
    if covered.any() and not len(keep):
        raise PartlyLabelledError(
            f"{run.folder}: no held-out photo is labelled with all of {', '.join(run.schema.names)}, so joint answers "
            'cannot be scored; "ens evaluate" scores each expert by its own labels'
        )
    if not len(keep):
        raise DataError(
            f"{run.folder}: no photo is predicted out of fold by every expert; train the same folds of each"
        )
    return Answered([expert.select(keep) for expert in experts], joint[keep], run.table.groups[keep], is_held_out=True)


def evaluate_run(
    run: Run, *, answers: Path | None = None, people: Path | None = None, data: Path | None = None
) -> StructureReport | SubmissionScore:
    """Every structure that the run's experts allow, on `answered_photos`; without joint labels `expert_scores`.

    Raises:
        DataError: answers or other data were named, but the evaluation photos are not predicted.
    """
    try:
        photos = answered_photos(run, answers=answers, people=people, data=data)
    except PartlyLabelledError:
        return expert_scores(run)
    return structures_on(run, photos)


def out_of_fold_report(run: Run) -> StructureReport | SubmissionScore:
    """The structures on the held-out training photos; where no photo has every label, `expert_scores`.

    Raises:
        DataError: no finished expert.
    """
    try:
        photos = held_out_photos(run)
    except PartlyLabelledError:
        return expert_scores(run)
    return structures_on(run, photos)


def expert_scores(run: Run) -> SubmissionScore:
    """Each expert on the held-out photos that are under its condition and labelled with what it predicts.

    For photos of which only some attributes are labelled: no joint answer can be scored on them, but every expert can.

    Raises:
        DataError: no finished expert.
    """
    numbers = {name: run.table.numbers(name) for name in run.schema.names}
    scores: dict[str, dict[str, Measure]] = {}
    scored = np.zeros(len(run.table), dtype=bool)
    for expert in (found.in_classes_of(run.schema) for found in run.out_of_fold()):
        inside = under_condition(expert.condition, run.schema, numbers) & np.isfinite(expert.layers[0][:, 0])
        truth = run.table.joint(expert.names)
        rows = np.flatnonzero(inside & (truth >= 0))
        if not len(rows):
            continue
        scored[rows] = True
        said, n_classes = expert.select(rows).labels(), run.schema.block(expert.names).n_joint
        scores[f"{expert.describe()} ({len(rows)} photos)"] = {
            metric: _measure(metric, truth[rows], said, n_classes, groups=run.table.groups[rows]) for metric in METRICS
        }
    if not scores:
        raise DataError(f'{run.folder}: no expert has predicted a labelled photo; train one with "ens train ATTRIBUTE"')
    source = f"{run.folder}: training photos, out of fold, each expert by its own labels (none has every label)"
    return SubmissionScore(source, int(scored.sum()), scores)


def structures_on(run: Run, photos: Answered) -> StructureReport:
    """Every structure that the run's experts allow, on photos with joint labels."""
    return score_structures(
        photos.experts,
        run.schema,
        run.graph,
        photos.joint,
        photos.ids,
        groups=photos.groups,
        fallback=run.combine["fallback"],
        scored_on=photos.scored_on,
    )
