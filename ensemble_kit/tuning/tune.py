"""The whole search of a recipe: what `ens tune` does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ensemble_kit.errors import DataError, UsageError
from ensemble_kit.files import read_json, write_json, write_text
from ensemble_kit.graph import describe_expert
from ensemble_kit.recipe.compare_runs import read_answers
from ensemble_kit.recipe.load import Recipe, read_recipe, validated
from ensemble_kit.recipe.resolved import NAME as RECIPE
from ensemble_kit.recipe.run import Watcher, check_experts
from ensemble_kit.recipe.settings import TuneSettings
from ensemble_kit.recipe.show import check_names
from ensemble_kit.recipe.space import HOW_TO, check_values, edit_text
from ensemble_kit.tuning.asking import check_sampler, importance
from ensemble_kit.tuning.claims import gains, on_halves
from ensemble_kit.tuning.first import first_params
from ensemble_kit.tuning.pruning import find_pruner
from ensemble_kit.tuning.report import SearchReport, short_names
from ensemble_kit.tuning.search import Listener, Plan, search
from ensemble_kit.tuning.trainer import Trainer, asked, check_objective_name, drop_weights, training_of
from ensemble_kit.tuning.trials import Trial, best_of, trial_folder

FORMAT = "ensemble_kit.search"
VERSION = 1


@dataclass(frozen=True)
class Request:
    """What `ens tune` was asked for.

    Attributes:
        recipe: a shipped recipe's name, or a file.
        data: the data set, if it is not the recipe's.
        folder: of the search.
        edits, variant, division, flags: laid over the recipe, as `ens run` lays them; the search starts from there.
        tune: laid over the recipe's `[tune]`.
        at_once: trials at a time; None = one, whose trainings run as many at a time as the recipe says.
    """

    recipe: str
    data: Path | None
    folder: Path
    edits: tuple[str, ...] = ()
    variant: str | None = None
    division: Mapping[str, Any] | None = None
    flags: Mapping[str, Any] | None = None
    tune: Mapping[str, Any] | None = None
    at_once: int | None = None


def tune_recipe(request: Request, watcher: Watcher) -> SearchReport:
    """Searches the recipe's space; trials that are done are skipped, and a broken-off one goes on.

    Writes into the folder: each trial's run, `RECIPE_tuned.toml` (the best trial's recipe), `results.json`,
    `results.txt`, `history.png`.

    Raises:
        UsageError: no space, a key or a value in it that the recipe cannot have, Optuna missing.
        DataError: the folder holds another search, or trial 0 cannot be trained.
        StoppedError: SIGTERM; the same call goes on.
    """
    at_once = _at_once(request)
    trainer, settings = _trainer(request, at_once)
    base = trainer.recipe({})
    plan, outside = _plan(trainer, settings, at_once)
    check_experts(base, request.data, base.experts)
    run = trainer.open(base, 0, watcher, write=False)
    plan = _agreed(request.folder, plan, settings, _described(base, settings))
    watcher.say(
        f"{base.name} -> {request.folder}: {plan.n_trials} trials, {settings.objective} macro F1 out of fold, "
        f"{run.n_folds} folds on {len(run.table)} photos"
    )
    for parameter in plan.space:
        watcher.say(f"  {parameter.key}: {parameter.described()}")
    if run.n_folds == 1 and plan.prune != "none":
        watcher.say("note: one fold, so no trial is pruned: that is done between folds")
    names = dict(zip((p.key for p in plan.space), short_names([p.key for p in plan.space]), strict=True))

    listener = Listener(
        on_trial=lambda trial: watcher.say(_line(trial, names)),
        on_batch=lambda trials: _keep_best(request.folder, trials) if settings.keep == "best" else None,
    )
    trials = search(request.folder, plan, trainer, watcher, listener, at_once=at_once)
    watcher.end()
    return _finish(trainer, plan, tuple(trials), tuple(outside))


def _trainer(request: Request, at_once: int) -> tuple[Trainer, TuneSettings]:
    file = read_recipe(request.recipe)
    recipe = file.load(request.edits, request.variant)
    settings = validated(TuneSettings, {**recipe.tune.model_dump(), **(request.tune or {})}, "tune")
    if not recipe.space:
        raise UsageError(
            f"{file.path}: nothing to search; write [tune.space] with a line a setting, {HOW_TO}, or pass "
            """--set 'tune.space."train.head_lr"={low=1e-5, high=1e-2, log=true}'"""
        )
    check_objective_name(settings.objective, recipe.schema)
    find_pruner(settings.prune)
    check_sampler(settings.sampler)
    trainer = Trainer(
        file=file,
        edits=request.edits,
        variant=request.variant,
        division=dict(request.division or {}),
        flags=dict(request.flags or {}),
        data=request.data,
        folder=request.folder,
        objective=settings.objective,
        at_once=at_once,
    )
    return trainer, settings


def _plan(trainer: Trainer, settings: TuneSettings, at_once: int) -> tuple[Plan, list[str]]:
    def load(edits: Sequence[str]) -> Recipe:
        return trainer.edited(edits)

    space = trainer.file.load(trainer.edits, trainer.variant).space
    check_values(space, lambda edits: check_names(load(edits)))
    first, outside = first_params(space, load)
    plan = Plan(
        space=space,
        first=first,
        n_trials=settings.trials,
        batch=settings.batch or at_once,
        prune=settings.prune,
        prune_after=settings.prune_after,
        sampler=settings.sampler,
        startup=settings.startup,
        seed=settings.seed,
    )
    return plan, outside


def _at_once(request: Request) -> int:
    """Trials at a time: as asked on a CPU, one on an accelerator, whose memory they would share."""
    from ensemble_kit.models.compute import choose_compute

    asked_for = request.at_once or 1
    if asked_for > 1 and choose_compute(str((request.flags or {}).get("device", "auto"))).device.type != "cpu":
        return 1
    return asked_for


def _described(recipe: Recipe, settings: TuneSettings) -> dict[str, Any]:
    """What has to stay the same for a search to go on: what decides its trials."""
    experts = {describe_expert(spec.attributes, spec.condition): training_of(recipe, spec) for spec in recipe.experts}
    division = recipe.data.model_dump(mode="json", include={"folds", "val_ratio", "fold_seed"})
    how = settings.model_dump(mode="json", exclude={"trials", "batch", "keep", "space"})
    return {
        **how,
        "data": division,
        "schema": recipe.schema.to_json(),
        "graph": recipe.graph.to_json(),
        "experts": experts,
        "combine": recipe.combine.model_dump(mode="json"),
    }


def _agreed(folder: Path, plan: Plan, settings: TuneSettings, described: Mapping[str, Any]) -> Plan:
    """The plan, with the batch that the search was begun with; begins it where the folder is new.

    Raises:
        DataError: the folder holds something else.
    """
    from ensemble_kit.training.folder import difference

    file = folder / "search.json"
    space = {parameter.key: parameter.described() for parameter in plan.space}
    now = {"format": FORMAT, "version": VERSION, **described, "space": space, "batch": plan.batch}
    if not file.is_file():
        if (folder / "run.json").is_file():
            raise DataError(f"{folder}: holds a run, not a search; name another folder with --run")
        write_json(file, now)
        return plan
    there = read_json(file)
    if not isinstance(there, dict) or there.get("format") != FORMAT:
        raise DataError(f"{file}: expected a search, found another file; name another folder with --run")
    if settings.batch is None and isinstance(there.get("batch"), int):
        plan, now = replace(plan, batch=there["batch"]), {**now, "batch": there["batch"]}
    if there != now:
        raise DataError(
            f"{folder}: holds a search that was begun otherwise ({difference(there, now)}); "
            "name another folder with --run"
        )
    return plan


def _keep_best(folder: Path, trials: Sequence[Trial]) -> None:
    """The checkpoints of the first and the best trial stay; many trials of a large network would fill a disk."""
    kept = {0, best_of(trials).number}
    for trial in trials:
        if trial.number not in kept:
            drop_weights(trial_folder(folder, trial.number))


def _line(trial: Trial, names: Mapping[str, str]) -> str:
    values = ", ".join(
        edit_text(names[key], float(f"{value:.3g}") if isinstance(value, float) else value)
        for key, value in trial.params.items()
    )
    told = trial.state if trial.score is None else f"{trial.score:.3f}"
    reason = f", {trial.state} {trial.reason}" if trial.reason else ""
    values = "the recipe as it stands" if trial.number == 0 else values
    return f"trial {trial.number}: {told} ({trial.seconds:.0f} s{reason})  {values}"


def _finish(trainer: Trainer, plan: Plan, trials: tuple[Trial, ...], outside: tuple[str, ...]) -> SearchReport:
    """Reads every whole trial again, says what may be said, and writes it."""
    from ensemble_kit.report.search import Point, draw_search

    folder, best = trainer.folder, best_of(trials)
    whole = [trial for trial in trials if trial.is_complete]
    answers = [read_answers(trial_folder(folder, trial.number), f"trial {trial.number}") for trial in whole]
    truth, _, n_classes = asked(answers[0], trainer.objective)
    labels = [asked(one, trainer.objective)[1] for one in answers]
    people = answers[0].photos.groups
    assert people is not None, "training photos have groups"
    intervals, gained = gains(truth, labels, people, n_classes)
    by_number = {trial.number: gain for trial, gain in zip(whole[1:], gained, strict=True)}
    shares = importance(plan.space, trials, plan.seed)
    name = trainer.recipe({}).name
    tuned = folder / f"{name}_tuned.toml"
    files = {"recipe": str(tuned), "picture": str(folder / "history.png"), "all trials": str(folder / "results.json")}
    run_again = f"ens run {tuned}" + (f" --data {trainer.data}" if trainer.data else "")
    report = SearchReport(
        recipe=name,
        folder=str(folder),
        objective=trainer.objective,
        space=plan.space,
        trials=trials,
        best=best.number,
        n_samples=len(truth),
        n_people=len(set(people.tolist())),
        intervals={trial.number: found for trial, found in zip(whole, intervals, strict=True)},
        gain=by_number.get(best.number),
        halves=on_halves(truth, labels, people, n_classes, seed=plan.seed) if len(whole) > 1 else None,
        importance=shares,
        outside=outside,
        batch=plan.batch,
        files=files,
        commands=(
            f"train it anew: {run_again}",
            f"go on from its folds: {run_again} --run {trial_folder(folder, best.number)}",
        ),
    )
    told = f"# The best of {len(trials)} trials of {name} (trial {best.number}), found by ens tune.\n"
    write_text(tuned, told + (trial_folder(folder, best.number) / RECIPE).read_text("utf-8"))
    write_json(folder / "results.json", report.to_json())
    write_text(folder / "results.txt", report.text() + "\n")
    points = [Point(trial.number, trial.score, trial.state, trial.params) for trial in trials]
    draw_search(folder / "history.png", points, plan.space, f"{trainer.objective} macro F1")
    return report
