"""`[vote]`: runs and answer files of which each photo's class is the one that most of them say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import indent
from typing import Any

import numpy as np

from ensemble_kit.arrays import IntArray
from ensemble_kit.columns import WIDTH, fitted
from ensemble_kit.diagnosis.simultaneous import simultaneous
from ensemble_kit.errors import DataError, UsageError, nearest
from ensemble_kit.files import slug, write_json
from ensemble_kit.metrics import Tally, View
from ensemble_kit.recipe.compare_runs import HeldOutAnswers, held_out_answers
from ensemble_kit.recipe.edits import parse_edit
from ensemble_kit.recipe.evaluate import SubmissionScore, score_labels
from ensemble_kit.recipe.files import find_recipe, recipe_names
from ensemble_kit.recipe.load import Recipe, load_recipe
from ensemble_kit.recipe.predict import read_part_of
from ensemble_kit.recipe.run import Watcher, read_part
from ensemble_kit.recipe.run_comparison import JOINT, Difference
from ensemble_kit.recipe.truth import truth_of_table
from ensemble_kit.runs import Run
from ensemble_kit.structure_report import Score
from ensemble_kit.structures.scorer import Measured, Scorer
from ensemble_kit.submission import read_submission
from ensemble_kit.submissions.vote import VoteReport, vote_files, vote_submissions

VOTE = "vote"


@dataclass(frozen=True)
class Member:
    """One that votes.

    Attributes:
        name: as it stands in `[vote]`.
        recipe: what is trained for it first; None = it is there.
        place: its answer file or run folder; None = the recipe's own run folder.
    """

    name: str
    recipe: Recipe | None = None
    place: Path | None = None

    @property
    def told(self) -> str:
        """The recipe's name."""
        return self.name if self.recipe is None else self.recipe.name

    @property
    def short(self) -> str:
        """The name as part of a folder's."""
        return slug(self.name.replace(":", "-"))


@dataclass(frozen=True, eq=False)
class Voted:
    """What a vote gave.

    Attributes:
        scores: member, and at last "vote" -> joint scores out of fold, with intervals over people; {} = not scored.
        gains: the vote minus each member, intervals that hold for all of them at once.
        report: the vote of the answer files; None = there are no evaluation photos.
        evaluated: the vote on the evaluation photos, where their answers are known.
    """

    members: tuple[str, ...]
    scores: dict[str, Score]
    n_samples: int
    n_people: int
    gains: tuple[Difference, ...]
    notes: tuple[str, ...]
    submission: Path | None
    report: VoteReport | None
    evaluated: SubmissionScore | None

    def text(self) -> str:
        lines = [f"hard vote of {len(self.members)}: {', '.join(self.members)}"]
        if self.scores:
            lines.append(f"out of fold, {self.n_samples} photos of {self.n_people} people:")
            rows = [
                [name, _told(one.macro_f1, one.macro_f1_interval), _told(one.accuracy, one.accuracy_interval)]
                for name, one in self.scores.items()
            ]
            lines.append(indent(fitted(["", "macro F1", "accuracy"], rows, WIDTH - 2), "  "))
        lines += [f"  vote minus {gain.against}: {gain.sentence}" for gain in self.gains]
        lines += [f"note: {note}" for note in self.notes]
        if self.report is not None:
            lines += [f"answers: {self.submission}", self.report.text()]
        if self.evaluated is not None:
            lines.append(self.evaluated.text())
        return "\n".join(lines)

    def to_json(self) -> dict[str, Any]:
        return {
            "members": list(self.members),
            "out_of_fold": {name: vars(score) for name, score in self.scores.items()},
            "gains": [vars(gain) for gain in self.gains],
            "notes": list(self.notes),
            "submission": None if self.submission is None else str(self.submission),
            "vote": None if self.report is None else self.report.to_json(),
            "evaluation": None if self.evaluated is None else self.evaluated.to_json(),
        }


def _told(value: float, interval: tuple[float, float] | None) -> str:
    return f"{value:.3f}" + ("" if interval is None else f" [{interval[0]:.3f}, {interval[1]:.3f}]")


def members_of(recipe: Recipe, edits: Sequence[str] = ()) -> list[Member]:
    """Who votes: variants of the recipe, shipped recipes (`losses:focal`), runs, and answer files.

    Args:
        edits: of training, for the recipes that are loaded.

    Raises:
        UsageError: a name that is none of these, or one that stands twice.
    """
    names = recipe.vote.of
    edits = [edit for edit in edits if parse_edit(edit).path[0] != VOTE]
    for name in names:
        if names.count(name) > 1:
            raise UsageError(f'vote.of: "{name}" stands twice and would count twice; give it a weight')
    if recipe.vote.weights and len(recipe.vote.weights) != len(names):
        raise UsageError(f"vote.weights: expected one for each of {len(names)}, found {len(recipe.vote.weights)}")
    if len(names) < 2:
        raise UsageError(f"vote.of: expected at least two that vote, found {len(names)}")
    return [_member(recipe, name, edits) for name in names]


def _member(recipe: Recipe, name: str, edits: Sequence[str]) -> Member:
    if name in recipe.variants:
        return Member(name, load_recipe(recipe.path, edits, name))
    if name.endswith(".csv") or (Path(name) / "run.json").is_file():
        return Member(name, place=Path(name))
    other, colon, variant = name.partition(":")
    try:
        path = find_recipe(other)
    except UsageError:
        known = [*recipe.variants, *recipe_names()]
        raise UsageError(
            f'vote.of: "{name}" is no variant, recipe, run folder or .csv file{nearest(name, known)}'
        ) from None
    if load_recipe(path).vote.of and not colon:
        raise UsageError(f'vote.of: "{name}" is a vote itself; name one of its variants, as in "{other}:NAME"')
    return Member(name, load_recipe(path, edits, variant or None))


def vote_members(
    recipe: Recipe, places: Mapping[str, Path], data: Path | None, folder: Path, watcher: Watcher
) -> Voted:
    """Votes, scores the vote where it can be, and writes `results/submission.csv` and `results/vote.json`.

    Out of fold it is scored where all members are runs on the same samples and folds; on the evaluation photos where
    every member has answers to them. Ties fall to the class with more training photos where a member is a run.

    Args:
        places: member -> its run folder or answer file.
        data: whose evaluation answers the vote is scored by.

    Raises:
        DataError: an answer file that is not there or is of other photos.
    """
    runs = [Run.open(place) for place in places.values() if (place / "run.json").is_file()]
    counts = _counts(runs[0]) if runs else None
    scores, gains, n_samples, n_people, notes = _out_of_fold(recipe, places, counts)
    files = [place if place.suffix == ".csv" else place / "results" / "submission.csv" for place in places.values()]
    missing = [file for place, file in zip(places.values(), files, strict=True) if not file.is_file() and place != file]
    out, report, evaluated = None, None, None
    if missing:
        notes.append(f"no answers to evaluation photos in {missing[0].parent.parent}, so there is no answer file")
    else:
        out = folder / "results" / "submission.csv"
        weights = recipe.vote.weights or None
        report = vote_files(files, out, recipe.schema, weights, by=recipe.vote.by, counts=counts)
        evaluated = _evaluated(recipe, data, runs, out)
    voted = Voted(tuple(places), scores, n_samples, n_people, gains, tuple(notes), out, report, evaluated)
    write_json(folder / "results" / "vote.json", voted.to_json())
    watcher.say(f"\n{voted.text()}")
    return voted


def _counts(run: Run) -> IntArray:
    joint = run.table.joint()
    return np.bincount(joint[joint >= 0], minlength=run.schema.n_joint).astype(np.int64)


def _out_of_fold(
    recipe: Recipe, places: Mapping[str, Path], counts: IntArray | None
) -> tuple[dict[str, Score], tuple[Difference, ...], int, int, list[str]]:
    files = [name for name, place in places.items() if place.suffix == ".csv"]
    if files:
        return {}, (), 0, 0, [f"not scored out of fold: {files[0]} has answers to the evaluation photos alone"]
    try:
        answers = held_out_answers(list(places.values()))
    except DataError as error:
        return {}, (), 0, 0, [f"not scored out of fold: {error}"]
    vote = vote_submissions(
        answers.labels, recipe.schema, recipe.vote.weights or None, by=recipe.vote.by, counts=counts
    ).labels
    measured = _measured(dict(zip([*places, VOTE], [*answers.labels, vote], strict=True)), answers)
    n_people = len(np.unique(answers.people))
    gains = [gain for metric in ("macro_f1", "accuracy") for gain in _gains(measured, metric, n_people)]
    return {name: own.score() for name, own in measured.items()}, tuple(gains), len(vote), n_people, []


def _measured(labels: Mapping[str, IntArray], answers: HeldOutAnswers, n_boot: int = 1000) -> dict[str, Measured]:
    view = [View.all(answers.schema.n_joint)]
    scored = Scorer(answers.people, n_boot, 0).measure(
        {name: [Tally(answers.joint, own, view)] for name, own in labels.items()}
    )
    return {name: found[0] for name, found in scored.items()}


def _gains(measured: Mapping[str, Measured], metric: str, n_people: int) -> list[Difference]:
    vote, others = measured[VOTE], {name: own for name, own in measured.items() if name != VOTE}
    values = [vote.values[metric] - own.values[metric] for own in others.values()]
    draws = [draw for own in others.values() if (draw := vote.gain_over(own, metric)) is not None]
    between = simultaneous(values, draws, [max(2, n_people)] * len(values))
    return [
        Difference(VOTE, name, JOINT, metric, value, interval)
        for name, value, interval in zip(others, values, between, strict=True)
    ]


def _evaluated(recipe: Recipe, data: Path | None, runs: Sequence[Run], file: Path) -> SubmissionScore | None:
    try:
        table = read_part(recipe, data, "eval") if data is not None else read_part_of(runs[0], None, "eval")
    except (DataError, IndexError):
        if data is not None:
            raise
        return None  # nobody named a data set, and the runs' has gone
    truth = truth_of_table(table)
    if truth is None:
        return None
    ids, labels = read_submission(file, recipe.schema)
    joint, groups = truth.of(ids, str(file))
    return score_labels(str(file), recipe.schema, joint, labels, groups)
