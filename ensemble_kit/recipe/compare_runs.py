"""Runs side by side on their out-of-fold predictions: scores with intervals, differences, time, room, curves."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ensemble_kit.arrays import FloatArray, IdArray, IntArray
from ensemble_kit.decisions import decide_labels
from ensemble_kit.diagnosis.simultaneous import simultaneous
from ensemble_kit.ensemble import ConditionalEnsemble
from ensemble_kit.errors import DataError, UsageError, nearest
from ensemble_kit.files import write_json, write_text
from ensemble_kit.graph import describe_expert
from ensemble_kit.metrics import Tally, View, accuracy, macro_f1
from ensemble_kit.predictions import Predictions
from ensemble_kit.recipe.evaluate import Answered, held_out_photos
from ensemble_kit.recipe.load import validated
from ensemble_kit.recipe.run_comparison import Curve, Difference, FoldSpread, RunComparison, RunRow
from ensemble_kit.recipe.settings import CombineSettings
from ensemble_kit.runs import Run
from ensemble_kit.schema import Schema
from ensemble_kit.structures.answers import find_structures, marginal_labels
from ensemble_kit.structures.scorer import Measured, Scorer

JOINT = "joint"
SCORES = {"accuracy": accuracy, "macro_f1": macro_f1}

Labels = Mapping[str, IntArray]
"""What is answered (JOINT or an attribute) -> class numbers `(n_samples,)`."""


@dataclass(frozen=True, eq=False)
class RunAnswers:
    """A run on its held-out photos; `labels` is in the order of `photos`: JOINT and attributes -> class numbers.

    All by the borders that the run combines with.
    """

    name: str
    run: Run
    schema: Schema
    photos: Answered
    labels: Labels
    notes: tuple[str, ...]

    @property
    def folds(self) -> IntArray:
        """The fold `(n_samples,)` that held each photo out."""
        return self.run.folds[_places(self.photos.ids, self.run.table.ids)]


def compare_runs(
    folders: Sequence[Path], *, against: str = "first", n_boot: int = 1000, seed: int = 0
) -> RunComparison:
    """Scores every run on the held-out photos that all of them predicted, and its differences from one of them.

    Each run answers as its recipe combines: along its graph, by its route, decided as it decides. Where the experts for
    that are missing, an independent or flat reading of them is used, else each attribute by its pooled expert; said in
    `notes`. Intervals of differences are paired (the same people drawn for all) and hold for all runs together.

    Args:
        against: "first", "best" (by joint macro F1), or a run's name or folder.
        n_boot, seed: draws of people.

    Raises:
        UsageError: fewer than two runs, one named twice, an unknown `against`.
        DataError: no run, nothing predicted out of fold, another task, photos divided otherwise, none shared.
    """
    if len(folders) < 2 or len({Path(folder).resolve() for folder in folders}) < len(folders):
        raise UsageError(f"compare-runs: expected at least two runs, each once, found {len(folders)}")
    runs = [read_answers(folder, name) for folder, name in zip(folders, _names(folders), strict=True)]
    ids, notes = _shared(runs)
    first = runs[0]
    rows_of = [_places(ids, run.photos.ids) for run in runs]
    joint = first.photos.joint[rows_of[0]]
    groups = first.photos.groups
    assert groups is not None, "training photos have groups"
    people, folds = groups[rows_of[0]], first.folds[rows_of[0]]
    truth = {JOINT: joint, **first.run.schema.decode(joint)}
    labels = [
        {what: found[rows] for what, found in run.labels.items()} for run, rows in zip(runs, rows_of, strict=True)
    ]
    measured = _measured(runs, labels, truth, Scorer(people, n_boot, seed))
    base = _base(runs, measured, against)
    return RunComparison(
        n_samples=len(ids),
        n_people=len(np.unique(people)),
        n_boot=n_boot,
        against=runs[base].name,
        rows=tuple(
            _row(run, measured[i], _spread(labels[i], truth, folds, _sizes(first.run))) for i, run in enumerate(runs)
        ),
        differences=tuple(_differences(runs, measured, base, len(np.unique(people)))),
        curves=tuple(curve for run in runs for curve in _curves(run)),
        notes=(*notes, *(note for run in runs for note in run.notes)),
    )


@dataclass(frozen=True, eq=False)
class HeldOutAnswers:
    """What several runs answer to the photos that all of them hold out.

    Attributes:
        joint: `(n_samples,)` the true joint classes.
        people: `(n_samples,)`.
        labels: `(n_runs, n_samples)` each run's joint classes, as its recipe combines.
    """

    schema: Schema
    joint: IntArray
    people: IdArray
    labels: IntArray


def held_out_answers(folders: Sequence[Path]) -> HeldOutAnswers:
    """Joint answers of runs out of fold, photo by photo.

    Raises:
        DataError: as `compare_runs`, or a run whose experts give no joint classes.
    """
    runs = [read_answers(folder, name) for folder, name in zip(folders, _names(folders), strict=True)]
    for run in runs:
        if JOINT not in run.labels:
            raise DataError(f"{run.name}: the experts for joint classes are missing; train those of its graph")
    ids, _ = _shared(runs)
    first, groups = runs[0].photos, runs[0].photos.groups
    assert groups is not None, "training photos have groups"
    rows = _places(ids, first.ids)
    labels = [run.labels[JOINT][_places(ids, run.photos.ids)] for run in runs]
    return HeldOutAnswers(runs[0].run.schema, first.joint[rows], groups[rows], np.stack(labels))


def _names(folders: Sequence[Path]) -> list[str]:
    """The folders' own names, or their paths where two are alike."""
    names = [Path(folder).resolve().name for folder in folders]
    return [name if names.count(name) == 1 else str(folder) for name, folder in zip(names, folders, strict=True)]


def _sizes(run: Run) -> dict[str, int]:
    return {JOINT: run.schema.n_joint, **{a.name: len(a.classes) for a in run.schema.attributes}}


def read_answers(folder: Path, name: str) -> RunAnswers:
    """What a run answers on the photos that all of its finished experts held out, as its recipe combines.

    Raises:
        DataError: no run, nothing predicted out of fold, or experts that answer no attribute for all photos.
    """
    run = Run.open(folder)
    borders = _settings(run).borders
    schema, photos = run.schema.with_borders(borders), held_out_photos(run, borders)
    experts = [expert.in_classes_of(schema) for expert in photos.experts]
    joint, notes = _joint(run, schema, experts, name)
    if joint is not None:
        numbers = decide_labels(joint, schema, run.graph, _settings(run).decide)
        decoded = {attribute: np.where(numbers < 0, -1, own) for attribute, own in schema.decode(numbers).items()}
        return RunAnswers(name, run, schema, photos, {JOINT: numbers, **decoded}, notes)
    pooled = {e.names[0]: marginal_labels(e, e.names[0]) for e in experts if len(e.names) == 1 and not e.condition}
    if not pooled:
        raise DataError(f"{folder}: its experts answer no attribute for all photos; train those of its graph")
    alone = f"{name}: the experts for joint classes are missing, so each attribute is answered by its pooled expert"
    return RunAnswers(name, run, schema, photos, pooled, (alone,))


def _settings(run: Run) -> CombineSettings:
    return validated(CombineSettings, run.combine, f"{run.folder}: combine")


def _joint(
    run: Run, schema: Schema, experts: Sequence[Predictions], name: str
) -> tuple[Predictions | None, tuple[str, ...]]:
    settings = _settings(run)
    fallback = settings.fallback
    try:
        ensemble = ConditionalEnsemble(schema, run.graph, experts, fallback=fallback)
        return ensemble.combine(route=settings.route).joint, ()
    except UsageError:
        found, _ = find_structures(experts, schema, run.graph, fallback)
    if not found:
        return None, ()
    note = f"{name}: the experts of its graph are not all there; read as {found[0].name.replace('_', ', ')}"
    return found[0].ensemble.combine(route=found[0].route).joint, (note,)


def _shared(runs: Sequence[RunAnswers]) -> tuple[IdArray, list[str]]:
    """The photos that every run predicted out of fold, in the first one's order."""
    first = runs[0]
    common = set(first.photos.ids.tolist()).intersection(*(run.photos.ids.tolist() for run in runs[1:]))
    ids = first.photos.ids[[name in common for name in first.photos.ids.tolist()]]
    if not len(ids):
        raise DataError(f"{first.name}: no photo is held out in all of these runs; compare runs on the same samples")
    rows = _places(ids, first.photos.ids)
    for run in runs[1:]:
        own = _places(ids, run.photos.ids)
        if run.schema != first.schema:
            raise DataError(
                f"{run.name}: made for another schema, or combined with other borders, than {first.name}; compare runs "
                "of one task"
            )
        if (run.folds[own] != first.folds[rows]).any():
            raise DataError(
                f"{run.name}: divided otherwise than {first.name}; train both with the same folds and fold_seed"
            )
        if (run.photos.joint[own] != first.photos.joint[rows]).any():
            raise DataError(
                f"{run.name}: its photos are labelled otherwise than those of {first.name}; use one fix list"
            )
    left = [run.name for run in runs if len(run.photos.ids) != len(ids)]
    notes = [f"compared on the photos that all predicted; more were held out in {', '.join(left)}"] if left else []
    return ids, notes


def _places(wanted: IdArray, ids: IdArray) -> IntArray:
    row_of = {name: row for row, name in enumerate(ids.tolist())}
    return np.array([row_of[name] for name in wanted.tolist()], dtype=np.int64)


def _measured(
    runs: Sequence[RunAnswers], labels: Sequence[Labels], truth: Labels, scorer: Scorer
) -> list[dict[str, Measured]]:
    sizes = _sizes(runs[0].run)
    asked = {
        (i, what): [Tally(truth[what], found, [View.all(sizes[what])])]
        for i, answers in enumerate(labels)
        for what, found in answers.items()
    }
    scored = scorer.measure(asked)
    return [{what: scored[i, what][0] for what in answers} for i, answers in enumerate(labels)]


def _base(runs: Sequence[RunAnswers], measured: Sequence[Mapping[str, Measured]], against: str) -> int:
    if against == "first":
        return 0
    if against == "best":
        scores = [_main(found).values["macro_f1"] for found in measured]
        return int(np.argmax(scores))
    for i, run in enumerate(runs):
        if against == run.name or Path(against).resolve() == run.run.folder.resolve():
            return i
    raise UsageError(f'--against "{against}"{nearest(against, ["first", "best", *(run.name for run in runs)])}')


def _main(found: Mapping[str, Measured]) -> Measured:
    return found.get(JOINT) or next(iter(found.values()))


def _spread(labels: Labels, truth: Labels, folds: IntArray, sizes: Mapping[str, int]) -> dict[str, FoldSpread]:
    """Mean and standard deviation of each score over the folds."""
    spreads = {}
    what = JOINT if JOINT in labels else next(iter(labels))
    for metric, score in SCORES.items():
        found = [score(truth[what][folds == f], labels[what][folds == f], sizes[what]) for f in np.unique(folds)]
        deviation = float(np.std(found, ddof=1)) if len(found) > 1 else None
        spreads[metric] = FoldSpread(float(np.mean(found)), deviation, len(found))
    return spreads


def _row(run: RunAnswers, measured: Mapping[str, Measured], folds: Mapping[str, FoldSpread]) -> RunRow:
    finished = run.run.finished()
    lines = [line for fold in finished for line in history(fold.folder)]
    return RunRow(
        name=run.name,
        folder=str(run.run.folder),
        scores={what: found.score() for what, found in measured.items()},
        folds=dict(folds),
        n_checkpoints=len(finished),
        seconds=float(sum(line["seconds"] for line in lines)),
        checkpoint_bytes=sum(fold.checkpoint.stat().st_size for fold in finished if fold.checkpoint.is_file()),
        folder_bytes=sum(path.stat().st_size for path in run.run.folder.rglob("*") if path.is_file()),
    )


def _differences(
    runs: Sequence[RunAnswers], measured: Sequence[Mapping[str, Measured]], base: int, n_people: int
) -> list[Difference]:
    found = []
    others = [i for i in range(len(runs)) if i != base]
    for what in measured[base]:
        having = [i for i in others if what in measured[i]]
        for metric in ("macro_f1", "accuracy"):
            values = [measured[i][what].values[metric] - measured[base][what].values[metric] for i in having]
            draws = [_gain(measured[i][what], measured[base][what], metric) for i in having]
            between = simultaneous(values, draws, [max(2, n_people)] * len(values))
            found += [
                Difference(runs[i].name, runs[base].name, what, metric, value, interval)
                for i, value, interval in zip(having, values, between, strict=True)
            ]
    return found


def _gain(measured: Measured, base: Measured, metric: str) -> FloatArray:
    draws = measured.gain_over(base, metric)
    assert draws is not None, "people are always known here"
    return draws


def history(folder: Path) -> list[dict[str, Any]]:
    """The epochs of a training, one line each; none where its history is not there."""
    file = folder / "metrics.jsonl"
    return [json.loads(line) for line in file.read_text("utf-8").splitlines()] if file.is_file() else []


def _curves(run: RunAnswers) -> list[Curve]:
    """Each expert's epochs, the mean over its folds."""
    lines: dict[str, dict[int, list[dict[str, Any]]]] = {}
    for fold in run.run.finished():
        expert = describe_expert(fold.attributes, fold.condition)
        for line in history(fold.folder):
            lines.setdefault(expert, {}).setdefault(int(line["epoch"]), []).append(line)
    return [
        Curve(
            run=run.name,
            expert=expert,
            epochs=tuple(sorted(by_epoch)),
            train_loss=tuple(_mean(by_epoch[epoch], "train_loss") for epoch in sorted(by_epoch)),
            macro_f1=tuple(_mean(by_epoch[epoch], "macro_f1") for epoch in sorted(by_epoch)),
        )
        for expert, by_epoch in lines.items()
    ]


def _mean(lines: Sequence[Mapping[str, Any]], name: str) -> float | None:
    values = [line[name] for line in lines if line[name] is not None]
    return float(np.mean(values)) if values else None


def save_comparison(folder: Path, found: RunComparison) -> list[Path]:
    """Writes `curves.png` (where there are curves), `comparison.txt` and `comparison.json`."""
    from ensemble_kit.report.curves import Line, draw_curves

    panels: dict[str, list[Line]] = {}
    for expert in dict.fromkeys(curve.expert for curve in found.curves):
        own = [curve for curve in found.curves if curve.expert == expert]
        panels[f"{expert}: validation macro F1"] = [Line(c.run, c.epochs, c.macro_f1) for c in own]
        panels[f"{expert}: training loss"] = [Line(c.run, c.epochs, c.train_loss) for c in own]
    files = [draw_curves(folder / "curves.png", panels)] if panels else []
    write_text(folder / "comparison.txt", found.text() + "\n")
    write_json(folder / "comparison.json", found.to_json())
    return [*files, folder / "comparison.txt", folder / "comparison.json"]
