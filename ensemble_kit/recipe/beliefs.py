"""Beliefs tested: arms trained once on the same folds and seeds, differences read off what they answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ensemble_kit.arrays import FloatArray, IdArray, IntArray
from ensemble_kit.diagnosis.claims import claim_bounds, seed_errors, verdict
from ensemble_kit.ensemble import ConditionalEnsemble
from ensemble_kit.errors import DataError
from ensemble_kit.files import read_array, write_array
from ensemble_kit.graph import Graph
from ensemble_kit.metrics import Tally, View
from ensemble_kit.predictions import Predictions
from ensemble_kit.recipe.belief_file import JOINT, Belief, BeliefFile, Side
from ensemble_kit.recipe.belief_report import ArmRow, BeliefReport, BeliefRow, plan_text
from ensemble_kit.recipe.load import ExpertSpec, Recipe
from ensemble_kit.recipe.run import Watcher, check_experts, open_run
from ensemble_kit.runs import FinishedFold, Run, held_out_probs
from ensemble_kit.structures.answers import marginal_labels
from ensemble_kit.structures.scorer import Measured, Scorer

Answers = list[Predictions]
"""One answer a voter: the seeds alone, or the one of their vote; in the order of the run's samples."""

Key = tuple[Side, str]
"""A side, and what of it is scored."""


def arm_folder(root: Path, arm: str) -> Path:
    """Where an arm's run lies: an ordinary run, which `ens compare-runs` and the others read as well."""
    return Path(root) / "arms" / arm


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


def plan_beliefs(file: BeliefFile, beliefs: Sequence[Belief], data: Path | None, root: Path, watcher: Watcher) -> str:
    """What `train_arms` would do, arm by arm; nothing is written."""
    from ensemble_kit.recipe.planning import plan_run

    rows = []
    for arm in file.trainings(beliefs):
        plan = plan_run(file.arms[arm], data, arm_folder(root, arm), file.arms[arm].experts, watcher)
        left = [fold for fold in plan.folds if fold.is_to_train]
        rows.append((arm, len(left), len(plan.folds), sum(fold.n_train * fold.epochs for fold in left)))
    return plan_text(rows)


def weigh_beliefs(
    file: BeliefFile,
    beliefs: Sequence[Belief],
    root: Path,
    watcher: Watcher,
    *,
    n_boot: int = 2000,
    seed: int = 0,
) -> BeliefReport:
    """Reads every belief whose arms are trained off their out-of-fold answers.

    Intervals hold for all the beliefs tested at once, see `claim_bounds`; what is not trained yet is listed as not run.

    Args:
        n_boot, seed: draws of people.

    Raises:
        DataError: nothing is trained yet, or arms were trained on other samples or folds.
    """
    done = [belief for belief in beliefs if all(_is_done(file, root, side.arm) for side in belief.sides)]
    not_run = [belief for belief in beliefs if belief not in done]
    if not done:
        raise DataError(f"{root}: no belief has both its arms trained; train them with ens beliefs --run {root}")
    arms = {arm: _Arm(arm, file.arms[arm], Run.open(arm_folder(root, arm))) for arm in file.trainings(done)}
    _refuse_unlike(arms)
    answers = _all_answers(file, done, arms, watcher)
    measured, by_seed, rows = _scored(done, answers, next(iter(arms.values())).run, n_boot, seed)
    people = next(iter(arms.values())).run.table.groups[rows]
    n_people = len(np.unique(people))
    return BeliefReport(
        file=str(file.path.name),
        data=str(next(iter(arms.values())).run.data),
        n_samples=len(rows),
        n_people=n_people,
        n_folds=next(iter(arms.values())).run.n_folds,
        seeds=file.seeds,
        n_boot=n_boot,
        beliefs=tuple(_rows(done, measured, by_seed, n_people)),
        not_run=tuple((belief.name, belief.says) for belief in not_run),
        arms=tuple(_arm_row(side, what, metric, measured, by_seed, arms[file.trained_as[side.arm]].run)
                   for (side, what), metric in _looked_at(done).items()),
    )  # fmt: skip


@dataclass(frozen=True, eq=False)
class _Arm:
    name: str
    recipe: Recipe
    run: Run


def _is_done(file: BeliefFile, root: Path, arm: str) -> bool:
    """Whether every fold and seed of every expert of the arm is finished."""
    name = file.trained_as[arm]
    folder = arm_folder(root, name)
    if not (folder / "run.json").is_file():
        return False
    run = Run.open(folder)
    there = {(one.attributes, tuple(one.condition.items()), one.fold, one.seed) for one in run.finished()}
    return all(
        (spec.attributes, tuple(spec.condition.items()), fold, seed) in there
        for spec in file.arms[name].experts
        for fold in range(run.n_folds)
        for seed in file.seeds
    )


def _refuse_unlike(arms: Mapping[str, _Arm]) -> None:
    first, *others = arms.values()
    for other in others:
        same = other.run.info["samples_sha256"] == first.run.info["samples_sha256"]
        if not same or (other.run.folds != first.run.folds).any():
            raise DataError(
                f"{other.run.folder}: trained on other samples or folds than {first.run.folder}; name another --run"
            )


def _all_answers(
    file: BeliefFile, beliefs: Sequence[Belief], arms: Mapping[str, _Arm], watcher: Watcher
) -> dict[Key, Answers]:
    found: dict[Key, Answers] = {}
    for belief in beliefs:
        for side in belief.sides:
            if (side, belief.attribute) not in found:
                arm = arms[file.trained_as[side.arm]]
                found[side, belief.attribute] = answers_of(
                    arm.recipe, arm.run, side, belief.attribute, file.seeds, watcher
                )
    return found


def answers_of(recipe: Recipe, run: Run, side: Side, attribute: str, seeds: Sequence[int], watcher: Watcher) -> Answers:
    """What an arm answers for one attribute (or the joint class), read as the side says."""
    if side.reading == "vote":
        return [answer(run.out_of_fold(), recipe, attribute)]
    read = _souped(recipe, run, side.last, watcher) if side.reading == "soup" else held_out_probs
    return [answer(run.out_of_fold(seed, read), recipe, attribute) for seed in seeds]


def answer(experts: Sequence[Predictions], recipe: Recipe, attribute: str) -> Predictions:
    """The attribute's answer along the arm's graph: of the node that predicts it and those that it is conditioned on.

    Raises:
        UsageError: an expert that the graph asks for is missing.
    """
    schema = recipe.schema
    nodes = list(recipe.graph.nodes)
    if attribute != JOINT:
        wanted = {attribute}
        for node in reversed(nodes):  # parents come before children
            if wanted & set(node.attributes):
                wanted |= {*node.attributes, *node.parents}
        nodes = [node for node in nodes if wanted & set(node.attributes)]
    names = schema.in_order([name for node in nodes for name in node.attributes])
    own = [
        expert.in_classes_of(schema) for expert in experts if any(set(expert.names) == set(n.attributes) for n in nodes)
    ]
    if len(nodes) == 1 and len(own) == 1 and not own[0].condition and len(own[0].names) == 1:
        return own[0]
    graph = Graph({node.attributes: node.parents for node in nodes})
    ensemble = ConditionalEnsemble(schema.block(names), graph, own, fallback=recipe.combine.fallback)
    return ensemble.combine(route=recipe.combine.route).joint


def _souped(recipe: Recipe, run: Run, last: int, watcher: Watcher) -> Callable[[FinishedFold], FloatArray]:
    """Answers of soups: computed once, kept in the run by the checkpoint that the training ended with."""

    def read(fold: FinishedFold) -> FloatArray:
        kept = run.folder / "soups" / f"{fold.checkpoint_sha256[:16]}-last{last}.npy"
        if not kept.is_file():
            write_array(kept, _soup(recipe, run, fold, last, watcher))
        return read_array(kept)

    return read


def _soup(recipe: Recipe, run: Run, fold: FinishedFold, last: int, watcher: Watcher) -> FloatArray:
    from ensemble_kit.recipe.train import job_of, photos_for
    from ensemble_kit.training.soup_answers import soup_answers

    spec = ExpertSpec(fold.attributes, fold.condition)
    settings = recipe.settings_for(spec.attributes, condition=spec.condition)
    settings = settings.model_copy(update={"seed": fold.seed, "seeds": ()})
    photos = photos_for(run, settings, watcher)
    job = job_of(run, spec, settings, fold.fold)
    return soup_answers(job, table=run.table, folds=run.folds, photos=photos, folder=fold.folder, last=last)


def _looked_at(beliefs: Sequence[Belief]) -> dict[Key, str]:
    """Every side and attribute, with the metric of the belief that first names it."""
    found: dict[Key, str] = {}
    for belief in beliefs:
        for side in belief.sides:
            found.setdefault((side, belief.attribute), belief.metric)
    return found


def _scored(
    beliefs: Sequence[Belief], answers: Mapping[Key, Answers], run: Run, n_boot: int, seed: int
) -> tuple[dict[Key, Measured], dict[Key, list[dict[str, float]]], IntArray]:
    """Scores of every side on the photos that all answered: over people, and seed by seed."""
    table = run.table
    whats = dict.fromkeys(belief.attribute for belief in beliefs)
    truth = {what: table.joint() if what == JOINT else table.numbers(what) for what in whats}
    keep = run.folds >= 0
    for what in whats:
        keep &= truth[what] >= 0
    for found in answers.values():
        for one in found:
            keep &= np.isfinite(_aligned(one, table.ids).layers[0]).all(axis=1)
    rows = np.flatnonzero(keep)
    if not len(rows):
        raise DataError(f"{run.folder}: no labelled photo is answered by every arm")
    sizes = {what: run.schema.n_joint if what == JOINT else len(run.schema[what].classes) for what in whats}
    tallies = {
        (side, what): [
            Tally(truth[what][rows], _labels(_aligned(one, table.ids).select(rows), run, what), [View.all(sizes[what])])
            for one in found
        ]
        for (side, what), found in answers.items()
    }
    measured = Scorer(table.groups[rows], n_boot, seed).measure(tallies)
    alone = Scorer(None, 1, 0)
    by_seed = {key: [alone.measure({key: [tally]})[key][0].values for tally in own] for key, own in tallies.items()}
    return {key: found[0] for key, found in measured.items()}, by_seed, rows


def _aligned(answer: Predictions, ids: IdArray) -> Predictions:
    """In the order of the run's samples, which is the order of every answer that a run gives."""
    assert answer.ids.tolist() == ids.tolist()
    return answer


def _labels(answer: Predictions, run: Run, what: str) -> IntArray:
    if what != JOINT:
        return marginal_labels(answer, what)
    number = run.schema.encode(
        {
            name: np.array([run.schema[name].index(row[i]) for row in answer.classes])
            for i, name in enumerate(answer.names)
        }
    )
    column = answer.labels()
    return np.where(column < 0, -1, number[column])


def _rows(
    beliefs: Sequence[Belief],
    measured: Mapping[Key, Measured],
    by_seed: Mapping[Key, list[dict[str, float]]],
    n_people: int,
) -> list[BeliefRow]:
    values, draws, spreads, kinds = [], [], [], []
    for belief in beliefs:
        a, b = measured[belief.a, belief.attribute], measured[belief.b, belief.attribute]
        values.append(a.values[belief.metric] - b.values[belief.metric])
        gain = a.gain_over(b, belief.metric)
        assert gain is not None
        draws.append(gain)
        a_seeds, b_seeds = (
            np.array([one[belief.metric] for one in by_seed[side, belief.attribute]]) for side in belief.sides
        )
        spreads.append(a_seeds - b_seeds)  # a vote is one answer: it is set against each seed
        kinds.append(belief.a.arm == belief.b.arm)
    seeds = seed_errors(spreads, kinds)
    found = []
    for belief, value, bounds, spread, error in zip(
        beliefs, values, claim_bounds(values, draws, n_people, seeds), spreads, seeds, strict=True
    ):
        found.append(
            BeliefRow(
                name=belief.name,
                says=belief.says,
                a=str(belief.a),
                b=str(belief.b),
                claim=belief.claim,
                margin=belief.margin,
                attribute=belief.attribute,
                metric=belief.metric,
                a_score=measured[belief.a, belief.attribute].values[belief.metric],
                b_score=measured[belief.b, belief.attribute].values[belief.metric],
                difference=value,
                interval=bounds.interval,
                people_error=bounds.people_error,
                seed_error=None if error is None else bounds.seed_error,
                by_seed=tuple(float(one) for one in spread),
                verdict=verdict(belief.claim, bounds.interval, belief.margin),
            )
        )
    return found


def _arm_row(
    side: Side,
    what: str,
    metric: str,
    measured: Mapping[Key, Measured],
    by_seed: Mapping[Key, list[dict[str, float]]],
    run: Run,
) -> ArmRow:
    score = measured[side, what].score()
    value, interval = (
        (score.macro_f1, score.macro_f1_interval) if metric == "macro_f1" else (score.accuracy, score.accuracy_interval)
    )
    seconds = sum(_seconds(fold.folder) for fold in run.finished())
    return ArmRow(str(side), what, metric, value, interval, tuple(one[metric] for one in by_seed[side, what]), seconds)


def _seconds(folder: Path) -> float:
    import json

    file = folder / "metrics.jsonl"
    lines = file.read_text().splitlines() if file.is_file() else []
    return float(sum(json.loads(line)["seconds"] for line in lines))
