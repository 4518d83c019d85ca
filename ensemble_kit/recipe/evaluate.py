"""Scoring: a submission or joint probabilities against answers, or a whole run, structure by structure."""

from __future__ import annotations

import csv
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ensemble_kit.arrays import IdArray, IntArray
from ensemble_kit.errors import DataError
from ensemble_kit.ids import match_ids
from ensemble_kit.metrics import accuracy, macro_f1, person_bootstrap
from ensemble_kit.predictions import load_predictions, read_prediction_schema
from ensemble_kit.recipe.run import answers_of
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
        width = max(len(name) for name in self.scores)
        lines = [f"{self.source}: {self.n_samples} photos", f"{'':<{width}}  {'macro F1':<26}  accuracy"]
        for name, row in self.scores.items():
            lines.append(f"{name:<{width}}  {row['macro_f1']!s:<26}  {row['accuracy']}")
        return "\n".join(lines)


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
    if groups is None:
        return Measure(value)
    low, high = person_bootstrap(truth, said, groups, n_classes, metric, n_boot=1000, seed=0)
    return Measure(value, low, high)


def evaluate_target(
    target: Path, schema: Schema, *, answers: Path | None, people: Path | None, data: Path | None
) -> SubmissionScore | StructureReport:
    """Scores a submission file, a folder of joint probabilities, or a run.

    Args:
        schema: what a submission's numbers mean; folders know their own.
        answers: defaults to the data set's `eval/answers.csv`.

    Raises:
        DataError: no answers, other ids, files that are not what they should be.
    """
    if (target / "run.json").is_file():
        return evaluate_run(Run.open(target), answers=answers, people=people, data=data)
    answers = answers or (answers_of(data) if data is not None else None)
    if answers is None:
        raise DataError(
            "no answers to score against; pass --answers FILE (ImageID,ans), or --data with eval/answers.csv"
        )
    if (target / "predictions.json").is_file():
        schema = read_prediction_schema(target)
        experts = load_predictions(target)
        if len(experts) != 1 or experts[0].names != schema.names:
            raise DataError(f'{target}: holds single experts, not joint probabilities; combine them with "ens combine"')
        ids, labels = experts[0].ids, experts[0].labels()
    elif target.is_file():
        ids, labels = read_submission(target, schema)
    else:
        raise DataError(f"{target}: expected a submission (.csv), a joint/ folder or a run, found none of them")
    truth = read_truth(answers, schema, ids)
    return score_labels(str(target), schema, truth, labels, read_people(people, answers, ids))


def read_truth(answers: Path, schema: Schema, ids: IdArray) -> IntArray:
    """The true joint class of each id, joined by id."""
    answer_ids, truth = read_submission(answers, schema)
    rows = match_ids(answer_ids, ids, str(answers))
    return truth if rows is None else truth[rows]


def read_people(people: Path | None, answers: Path, ids: IdArray) -> IdArray | None:
    """The person of each id from `people.csv` (ImageID, person); None when there is no such file.

    Raises:
        DataError: the file was named but is not there, lacks a column, or knows other ids.
    """
    file = people or answers.with_name("people.csv")
    if not file.is_file():
        if people is not None:
            raise DataError(f"{file}: expected a table with ImageID and person, found no file")
        return None
    with open(file, newline="", encoding="utf-8-sig") as handle:
        rows = list(csv.DictReader(handle))
    if not rows or not {"ImageID", "person"} <= set(rows[0]):
        raise DataError(
            f"{file}: expected the columns ImageID and person, found {list(rows[0]) if rows else 'no rows'}"
        )
    order = match_ids(np.array([row["ImageID"] for row in rows]), ids, str(file))
    person = np.array([row["person"] for row in rows])
    return person if order is None else person[order]


def evaluate_run(
    run: Run, *, answers: Path | None = None, people: Path | None = None, data: Path | None = None, name: str = "eval"
) -> StructureReport:
    """Every structure that the run's experts allow, on the evaluation photos when their answers are known, else
    out of fold."""
    answers = answers or answers_of(data or run.data)
    folder = run.predictions_folder(name)
    if answers is None or not (folder / "predictions.json").is_file():
        return out_of_fold_report(run)
    experts = load_predictions(folder)
    truth = read_truth(answers, run.schema, experts[0].ids)
    groups = read_people(people, answers, experts[0].ids)
    return score_structures(experts, run.schema, run.graph, truth, experts[0].ids, groups=groups)


def out_of_fold_report(run: Run) -> StructureReport:
    """The structures on the held-out training photos: each is predicted by the models that never saw its person."""
    experts = run.out_of_fold()
    if not experts:
        raise DataError(f'{run.folder}: no finished expert to score; train one with "ens train ATTRIBUTE"')
    covered = np.isfinite(np.stack([expert.layers[0][:, 0] for expert in experts])).all(axis=0)
    keep = np.flatnonzero(covered & (run.table.joint() >= 0))
    ids, truth, groups = run.table.ids[keep], run.table.joint()[keep], run.table.groups[keep]
    kept = [replace_rows(expert, keep, ids) for expert in experts]
    return score_structures(kept, run.schema, run.graph, truth, ids, groups=groups)


def replace_rows(expert: Any, keep: IntArray, ids: IdArray) -> Any:
    from ensemble_kit.predictions import Predictions

    layers = [np.asarray(layer)[keep] for layer in expert.layers]
    return Predictions(expert.attributes, layers, ids, expert.condition, expert.classes, expert.voters)
