"""Opening a run: what a recipe reads, how its samples are divided, and what is refused before anything is done."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from ensemble_kit.errors import DataError, UsageError
from ensemble_kit.graph import describe_expert
from ensemble_kit.recipe.load import ExpertSpec, Recipe
from ensemble_kit.recipe.phases import phases_of
from ensemble_kit.recipe.settings import DataSettings, TrainSettings
from ensemble_kit.recipe.starts import check_start
from ensemble_kit.runs import Run

if TYPE_CHECKING:
    from ensemble_kit.arrays import IntArray
    from ensemble_kit.data.samples import SampleTable
    from ensemble_kit.schema import Schema


class Watcher(Protocol):
    """Who is told how the work goes: the terminal, a notebook, a test."""

    def say(self, line: str) -> None: ...
    def begin(self, title: str, total: float) -> None: ...
    def advance(self, done: float, title: str | None = None) -> None: ...
    def end(self) -> None: ...


@dataclass
class Silent:
    """A watcher that tells nobody."""

    def say(self, line: str) -> None: ...
    def begin(self, title: str, total: float) -> None: ...
    def advance(self, done: float, title: str | None = None) -> None: ...
    def end(self) -> None: ...


def data_root(recipe: Recipe, data: Path | None) -> Path:
    """The data set: `--data` or `ENS_DATA`, else the recipe's.

    Raises:
        UsageError: neither names one.
    """
    if data is None and recipe.data.path is None:
        raise UsageError("no data set named; set ENS_DATA, pass --data DIR, or write path = ... under [data]")
    return data if data is not None else (recipe.path.parent / str(recipe.data.path)).resolve()


def read_part(recipe: Recipe, data: Path | None, part: str) -> SampleTable:
    """The training samples, with the recipe's label fixes and extra photos, or a data set's evaluation samples."""
    from ensemble_kit.data.extra import with_extra
    from ensemble_kit.data.samples import read_samples

    fixes = recipe.fixes_file() if part == "train" else None
    root = data_root(recipe, data)
    table = read_samples(root, recipe.schema, part=part, layout=recipe.data.layout, fixes=fixes)  # type: ignore[arg-type]
    extra = read_extra_part(recipe) if part == "train" else None
    return table if extra is None else with_extra(table, extra)


def read_extra_part(recipe: Recipe) -> SampleTable | None:
    """The photos of the recipe's second data set; None when it names none."""
    from ensemble_kit.data.extra import read_extra

    if recipe.data.extra is None:
        return None
    return read_extra(recipe.path.parent / recipe.data.extra, recipe.schema, recipe.data.extra_where)


def folds_of(table: SampleTable, settings: DataSettings) -> IntArray:
    """The fold of each sample, shared by all attributes so that their held-out photos line up; -1 = training only."""
    from ensemble_kit.data.folds import divide

    return divide(table, n_folds=settings.folds, seed=settings.fold_seed, val_ratio=settings.val_ratio)


def check_experts(recipe: Recipe, data: Path | None, specs: Sequence[ExpertSpec]) -> None:
    """Refuses what cannot be trained before any photo is read or any folder made.

    Raises:
        UsageError: an unknown backbone, loss, sampler, augmentation, optimiser, schedule, view or device.
        DataError: the data set or the weights to start from are not there.
    """
    from ensemble_kit.models.compute import choose_compute

    check_predict(recipe)
    root = data_root(recipe, data)
    if not root.exists():
        raise DataError(f"{root}: expected a data set, found nothing; set ENS_DATA or pass --data DIR")
    for spec in specs:
        settings = recipe.settings_for(spec.attributes, condition=spec.condition)
        check_settings(recipe.schema, spec, settings)
        choose_compute(settings.device, settings.precision, settings.channels_last)
        check_start(settings.weights)


def check_resume(resume: bool, restart: bool, places: Sequence[Path]) -> None:
    """Going on is what every command does; `--resume` says that there must be something to go on with.

    Args:
        places: run folders, or folders of experts.

    Raises:
        UsageError: together with `--restart`.
        DataError: none of the places holds a training, begun or done.
    """
    if resume and restart:
        raise UsageError("--resume goes on with what is there, --restart trains it anew; leave one of them out")
    names = ("state.pt", "state.prev.pt", "DONE")
    if resume and not any(next(place.rglob(f"fold*/{name}"), None) for place in places for name in names):
        raise DataError(
            f"--resume: expected a training to go on with in {places[0]}, found none; name its run with --run, or "
            "leave --resume out to begin"
        )


def check_predict(recipe: Recipe) -> None:
    """Raises UsageError where `[predict]` names no view, or a back end that is not there."""
    from ensemble_kit.backends.table import find_backend
    from ensemble_kit.models.views import find_views

    find_views(recipe.predict.tta)
    find_backend(recipe.predict.backend, compiling=recipe.predict.compile).versions()


def check_settings(schema: Schema, spec: ExpertSpec, settings: TrainSettings) -> None:
    """Raises UsageError where a table of the training does not know a name, or settings do not go together."""
    from ensemble_kit.training import check_balance, check_job_names, check_objective, check_together
    from ensemble_kit.training.board import check_board
    from ensemble_kit.training.job import check_soup

    own = settings.head, settings.output, settings.prepare
    check_job_names(settings.backbone, settings.sampler, settings.augment, *own)
    check_objective(settings.loss, settings.class_weights, settings.smoothing, settings.mix)
    check_soup(settings.soup, settings.keep, describe_expert(spec.attributes, spec.condition))
    check_balance(schema, settings.sampler, settings.balance_by)
    check_together(settings, phases_of(settings, 1), describe_expert(spec.attributes, spec.condition))
    if settings.tensorboard:
        check_board()


def open_run(
    recipe: Recipe, data: Path | None, folder: Path, watcher: Watcher, *, adopt: bool = False, write: bool = True
) -> Run:
    """Reads the training samples, divides them, and opens or begins the run.

    Args:
        adopt: an existing run says how the samples are divided, not the recipe.
        write: False = only look, see `Run.create`.

    Raises:
        DataError: the data cannot be trained on, or the folder holds a run on other data or folds.
    """
    from ensemble_kit.data.extra import extra_notices
    from ensemble_kit.data.folds import check_folds, people_of

    if adopt and (folder / "run.json").is_file():
        recipe = divided_as(Run.open(folder), recipe, watcher)
    table = read_part(recipe, data, "train")
    for problem in table.problems:
        watcher.say(f"note: {problem.path}: {problem.problem}")
    folds = folds_of(table, recipe.data)
    labelled = {name: table.numbers(name) for name in recipe.schema.names if table.has(name)}
    for notice in [*check_folds(folds, labelled, recipe.schema, people_of(table)), *extra_notices(table)]:
        watcher.say(f"note: {notice}")
    return Run.create(
        folder,
        table,
        folds,
        data=data_root(recipe, data),
        layout=recipe.data.layout,
        schema=recipe.schema,
        graph=recipe.graph,
        division={
            "n_folds": 1 if recipe.data.val_ratio is not None else recipe.data.folds,
            "fold_seed": recipe.data.fold_seed,
            "val_ratio": recipe.data.val_ratio,
        },
        combine=recipe.combine.model_dump(),
        predict=recipe.predict.model_dump(mode="json"),
        extra=extra_as_named(recipe),
        write=write,
    )


def extra_as_named(recipe: Recipe) -> dict[str, Any] | None:
    """The second data set, as a run keeps it."""
    if recipe.data.extra is None:
        return None
    where = {name: list(classes) for name, classes in recipe.data.extra_where.items()}
    return {"path": str((recipe.path.parent / recipe.data.extra).resolve()), "where": where}


def divided_as(run: Run, recipe: Recipe, watcher: Watcher) -> Recipe:
    """The recipe with the folds or the validation share that the run was begun with."""
    share, seed = run.info["val_ratio"], {"fold_seed": run.info["fold_seed"]}
    adopted = recipe.with_data({"val_ratio": share, **seed} if share else {"folds": run.n_folds, **seed})
    if adopted.data != recipe.data:
        how = f"one validation share, {share:g}" if share else f"{run.n_folds} folds"
        watcher.say(f"note: divided as {run.folder} was begun: {how}")
    if run.extra is not None and adopted.data.extra is None:
        watcher.say(f"note: with the extra photos that {run.folder} was begun with: {run.extra['path']}")
        adopted = adopted.with_data({"extra": run.extra["path"], "extra_where": run.extra["where"]})
    return adopted
