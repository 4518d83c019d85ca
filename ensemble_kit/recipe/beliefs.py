"""Beliefs tested: arms trained once on the same folds and seeds, differences read off what they answer."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ensemble_kit.arrays import FloatArray, IntArray
from ensemble_kit.diagnosis.claims import claim_bounds, seed_errors, verdict
from ensemble_kit.errors import DataError
from ensemble_kit.files import read_json
from ensemble_kit.metrics import Tally, View
from ensemble_kit.predictions import Predictions
from ensemble_kit.recipe.belief_answers import answers_of
from ensemble_kit.recipe.belief_file import JOINT, MACHINE, Belief, BeliefFile, Side
from ensemble_kit.recipe.belief_report import ArmRow, BeliefReport, BeliefRow, plan_text
from ensemble_kit.recipe.run import Watcher, check_experts, open_run
from ensemble_kit.runs import Run
from ensemble_kit.structures.answers import marginal_labels
from ensemble_kit.structures.scorer import Measured, Scorer

Key = tuple[Side, str]
"""A side, and what of it is scored: an attribute or JOINT."""


@dataclass(frozen=True, eq=False)
class Measure:
    """A side's score, the mean over its seeds, with draws of people; and each metric with each seed."""

    together: Measured
    by_seed: Mapping[str, FloatArray]


def arm_folder(root: Path, arm: str) -> Path:
    """Where an arm's run lies: an ordinary run, which `ens compare-runs` and the others read as well."""
    return Path(root) / "arms" / arm


def plan_beliefs(file: BeliefFile, beliefs: Sequence[Belief], data: Path | None, root: Path, watcher: Watcher) -> str:
    """What `train_arms` would do, arm by arm; nothing is written."""
    from ensemble_kit.recipe.planning import plan_run

    rows = []
    for arm in file.trainings(beliefs):
        plan = plan_run(file.arms[arm], data, arm_folder(root, arm), file.arms[arm].experts, watcher)
        left = [fold for fold in plan.folds if fold.is_to_train]
        rows.append((arm, len(left), len(plan.folds), sum(fold.n_train * fold.epochs for fold in left)))
    return plan_text(rows)


def train_arms(file: BeliefFile, beliefs: Sequence[Belief], data: Path | None, root: Path, watcher: Watcher) -> None:
    """Trains what the beliefs need and is not there yet, each training once.

    Raises:
        EnsembleKitError: as `run_recipe`; what is finished stays, and the same call goes on.
    """
    from ensemble_kit.recipe.resolved import save_resolved
    from ensemble_kit.recipe.train import train_experts

    arms = file.trainings(beliefs)
    for arm in arms:  # all before any: the last one must not fail by its settings after hours
        check_experts(file.arms[arm], data, file.arms[arm].experts)
    for number, arm in enumerate(arms, 1):
        recipe, folder = file.arms[arm], arm_folder(root, arm)
        watcher.say(f"arm {number}/{len(arms)}: {arm} -> {folder}")
        run = open_run(recipe, data, folder, watcher)
        save_resolved(folder, recipe)
        train_experts(run, recipe, recipe.experts, watcher)


def weigh_beliefs(
    file: BeliefFile, beliefs: Sequence[Belief], root: Path, watcher: Watcher, *, n_boot: int = 2000, seed: int = 0
) -> BeliefReport:
    """Reads every belief whose arms are trained off their out-of-fold answers.

    Intervals hold for all the beliefs tested at once, see `claim_bounds`; what is not trained yet is listed as not run.

    Args:
        n_boot, seed: draws of people.

    Raises:
        DataError: nothing is trained yet, or arms were trained on other samples or folds.
    """
    done = [belief for belief in beliefs if all(_is_done(file, root, side.arm) for side in belief.sides)]
    if not done:
        raise DataError(f"{root}: no belief has both its arms trained; train them with ens beliefs, without --report")
    runs = {arm: Run.open(arm_folder(root, arm)) for arm in file.trainings(done)}
    first = _alike(list(runs.values()))
    answers: dict[Key, list[Predictions]] = {}
    for side, what in [(side, belief.attribute) for belief in done for side in belief.sides]:
        if (side, what) not in answers:
            arm = file.trained_as[side.arm]
            answers[side, what] = answers_of(file.arms[arm], runs[arm], side, what, file.seeds, watcher)
    measured, rows = _measured(answers, first, n_boot, seed)
    n_people = len(np.unique(first.table.groups[rows]))
    return BeliefReport(
        file=file.path.name,
        data=str(first.data),
        n_samples=len(rows),
        n_people=n_people,
        n_folds=first.n_folds,
        seeds=file.seeds,
        n_boot=n_boot,
        beliefs=tuple(_rows(done, measured, n_people)),
        not_run=tuple((belief.name, belief.says) for belief in beliefs if belief not in done),
        arms=tuple(_arm_rows(done, measured, {side: runs[file.trained_as[side.arm]] for side, _ in answers})),
    )


def _is_done(file: BeliefFile, root: Path, arm: str) -> bool:
    """Whether every fold and seed of every expert of the arm is finished.

    Raises:
        DataError: they were trained with other settings than the file has now.
    """
    name = file.trained_as[arm]
    folder = arm_folder(root, name)
    if not (folder / "run.json").is_file():
        return False
    run = Run.open(folder)
    _refuse_other(file, name, run)
    there = {(one.attributes, tuple(one.condition.items()), one.fold, one.seed) for one in run.finished()}
    return all(
        (spec.attributes, tuple(spec.condition.items()), fold, seed) in there
        for spec in file.arms[name].experts
        for fold in range(run.n_folds)
        for seed in file.seeds
    )


def _refuse_other(file: BeliefFile, name: str, run: Run) -> None:
    for spec in file.arms[name].experts:
        written = run.expert_folder(spec.attributes, spec.condition) / "expert.json"
        if not written.is_file():
            continue
        wanted = file.arms[name].settings_for(spec.attributes, condition=spec.condition).model_dump(mode="json")
        there = read_json(written)["settings"]
        unlike = [key for key, value in wanted.items() if key not in MACHINE and there.get(key, value) != value]
        if unlike:
            raise DataError(
                f"{written.parent}: trained with other settings ({unlike[0]}: {there[unlike[0]]} there, "
                f"{wanted[unlike[0]]} now); name the --set it was trained with, or another --run"
            )


def _alike(runs: Sequence[Run]) -> Run:
    """The first of them; DataError where another one has other samples or folds."""
    first, *others = runs
    for other in others:
        is_same = other.info["samples_sha256"] == first.info["samples_sha256"]
        if not is_same or (other.folds != first.folds).any():
            raise DataError(
                f"{other.folder}: trained on other samples or folds than {first.folder}; name another --run"
            )
    return first


def _measured(
    answers: Mapping[Key, Sequence[Predictions]], run: Run, n_boot: int, seed: int
) -> tuple[dict[Key, Measure], IntArray]:
    """Scores of every side on the photos that all answered, and the rows of those."""
    truth = {what: run.table.joint() if what == JOINT else run.table.numbers(what) for _, what in answers}
    keep = np.all([run.folds >= 0, *(true >= 0 for true in truth.values())], axis=0)
    for one in (one for found in answers.values() for one in found):
        keep &= np.isfinite(one.layers[0]).all(axis=1)
    rows = np.flatnonzero(keep)
    if not len(rows):
        raise DataError(f"{run.folder}: no labelled photo is answered by every arm")
    tallies = {
        (side, what): [
            Tally(truth[what][rows], _labels(one.select(rows), run, what), [View.all(_n_classes(run, what))])
            for one in found
        ]
        for (side, what), found in answers.items()
    }
    together = Scorer(run.table.groups[rows], n_boot, seed).measure(tallies)
    single = {(key, n): [tally] for key, own in tallies.items() for n, tally in enumerate(own)}
    alone = {name: found[0].values for name, found in Scorer(None, 1, 0).measure(single).items()}
    return {
        key: Measure(
            found[0],
            {metric: np.array([alone[key, n][metric] for n in range(len(tallies[key]))]) for metric in found[0].values},
        )
        for key, found in together.items()
    }, rows


def _n_classes(run: Run, what: str) -> int:
    return run.schema.n_joint if what == JOINT else len(run.schema[what].classes)


def _labels(answer: Predictions, run: Run, what: str) -> IntArray:
    if what != JOINT:
        return marginal_labels(answer, what)
    joint = answer.in_classes_of(run.schema)
    assert joint.names == run.schema.names
    return joint.labels()


def _rows(beliefs: Sequence[Belief], measured: Mapping[Key, Measure], n_people: int) -> list[BeliefRow]:
    sides = [tuple(measured[side, belief.attribute] for side in belief.sides) for belief in beliefs]
    scores = [
        tuple(one.together.values[belief.metric] for one in own) for belief, own in zip(beliefs, sides, strict=True)
    ]
    spreads = [
        a.by_seed[belief.metric] - b.by_seed[belief.metric] for belief, (a, b) in zip(beliefs, sides, strict=True)
    ]
    draws = [a.together.gain_over(b.together, belief.metric) for belief, (a, b) in zip(beliefs, sides, strict=True)]
    seeds = seed_errors(spreads, [belief.a.arm == belief.b.arm for belief in beliefs])
    values = [a - b for a, b in scores]
    bounds = claim_bounds(values, [one for one in draws if one is not None], n_people, seeds)
    return [
        BeliefRow(
            name=belief.name,
            says=belief.says,
            a=str(belief.a),
            b=str(belief.b),
            claim=belief.claim,
            margin=belief.margin,
            attribute=belief.attribute,
            metric=belief.metric,
            a_score=a_score,
            b_score=b_score,
            difference=a_score - b_score,
            interval=bound.interval,
            people_error=bound.people_error,
            seed_error=None if error is None else error.error,
            by_seed=tuple(spread.tolist()),
            verdict=verdict(belief.claim, bound.interval, belief.margin),
        )
        for belief, (a_score, b_score), bound, error, spread in zip(
            beliefs, scores, bounds, seeds, spreads, strict=True
        )
    ]


def _arm_rows(beliefs: Sequence[Belief], measured: Mapping[Key, Measure], runs: Mapping[Side, Run]) -> list[ArmRow]:
    """Every side with what is scored of it, by the metric of the belief that first names it."""
    looks: dict[Key, str] = {}
    for belief in beliefs:
        for side in belief.sides:
            looks.setdefault((side, belief.attribute), belief.metric)
    found = []
    for (side, what), metric in looks.items():
        one = measured[side, what]
        score = one.together.score()
        interval = score.macro_f1_interval if metric == "macro_f1" else score.accuracy_interval
        seconds = sum(_seconds(fold.folder) for fold in runs[side].finished())
        by_seed = tuple(one.by_seed[metric].tolist())
        found.append(ArmRow(str(side), what, metric, one.together.values[metric], interval, by_seed, seconds))
    return found


def _seconds(folder: Path) -> float:
    """How long a fold trained; 0 where it left no history."""
    file = folder / "metrics.jsonl"
    return sum(float(json.loads(line)["seconds"]) for line in file.read_text().splitlines()) if file.is_file() else 0.0
