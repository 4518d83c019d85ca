"""One trial: a run folder whose folds are trained one after the other, and scored after each."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ensemble_kit.errors import UsageError, nearest
from ensemble_kit.graph import describe_expert
from ensemble_kit.metrics import macro_f1
from ensemble_kit.recipe.compare_runs import JOINT, RunAnswers, read_answers
from ensemble_kit.recipe.load import ExpertSpec, Recipe, RecipeFile
from ensemble_kit.recipe.resolved import save_resolved
from ensemble_kit.recipe.run import Silent, Watcher, check_experts, open_run
from ensemble_kit.recipe.space import edit_text
from ensemble_kit.recipe.starts import starts_from
from ensemble_kit.recipe.train import train_experts
from ensemble_kit.recipe.trainings import n_cores
from ensemble_kit.runs import Run
from ensemble_kit.schema import Schema
from ensemble_kit.tuning.search import Earlier
from ensemble_kit.tuning.trials import Trial, trial_folder

NOT_OF_THE_TRAINING = ("save_every", "device", "share_gpu", "workers", "threads", "jobs", "tensorboard")
"""Settings of where and how fast: two trainings that differ in them alone are the same."""


@dataclass(frozen=True)
class Trainer:
    """Runs trials of a recipe, see `RunTrial`.

    Attributes:
        file: the recipe as it was written when the search began to run.
        edits, variant, division, flags: laid over it, in every trial; parameters go before all of them.
        data: the data set, if it is not the recipe's.
        folder: of the search.
        objective: joint, or an attribute.
        at_once: trials at a time, which share the cores.
    """

    file: RecipeFile
    edits: tuple[str, ...]
    variant: str | None
    division: Mapping[str, Any]
    flags: Mapping[str, Any]
    data: Path | None
    folder: Path
    objective: str
    at_once: int

    def recipe(self, params: Mapping[str, Any]) -> Recipe:
        """The recipe of a trial, without its search.

        Raises:
            UsageError: values that do not go together.
        """
        return self.edited([edit_text(key, value) for key, value in params.items()])

    def edited(self, edits: Sequence[str]) -> Recipe:
        """The recipe with further edits, without its search."""
        recipe = self.file.load([*self.edits, *edits], self.variant).with_data(self.division).with_train(self.flags)
        sections = {name: part for name, part in recipe.sections.items() if name not in ("tune", "vote", "beliefs")}
        return replace(recipe, sections=sections)

    def __call__(self, trial: Trial, earlier: Earlier, watcher: Watcher) -> Trial:
        recipe = self.recipe(trial.params)
        check_experts(recipe, self.data, recipe.experts)
        run = self.open(recipe, trial.number)
        save_resolved(run.folder, recipe)
        taken = self._take_over(run, recipe, earlier)
        bar = _Bar(watcher, f"trial {trial.number}: ")
        recipe = self._sharing(recipe, trial)
        if trial.number == 0:  # never pruned: all folds at once
            train_experts(run, recipe, recipe.experts, bar)
            return trial.done(self._after_fold(run, run.n_folds), self._seconds(run, taken))
        after_fold: tuple[float, ...] = ()
        for fold in range(run.n_folds):
            train_experts(run, recipe, recipe.experts, bar, folds=[fold])
            after_fold = self._after_fold(run, fold + 1)
            reason = earlier.prunes(after_fold) if fold + 1 < run.n_folds else None
            if reason is not None:
                told = f"after fold {fold + 1} of {run.n_folds}: {reason}"
                return trial.pruned(after_fold, told, self._seconds(run, taken))
        return trial.done(after_fold, self._seconds(run, taken))

    def _sharing(self, recipe: Recipe, trial: Trial) -> Recipe:
        """With so many threads as are this trial's share, whether others run or not: more would change last bits."""
        if self.at_once == 1:
            return recipe
        share: dict[str, Any] = {"jobs": self.at_once if trial.number == 0 else 1}
        if recipe.settings_for(recipe.experts[0].attributes).threads is None:
            share["threads"] = max(1, n_cores() // self.at_once)
        return recipe.with_train(share)

    def open(self, recipe: Recipe, number: int, watcher: Watcher | None = None, *, write: bool = True) -> Run:
        """The trial's run; decoded photos and features are shared by all trials."""
        folder = trial_folder(self.folder, number)
        run = open_run(recipe, self.data, folder, watcher or Silent(), write=write)
        shared = self.folder / "cache"
        if write and not (folder / "cache").is_symlink():
            shared.mkdir(parents=True, exist_ok=True)
            (folder / "cache").symlink_to(os.path.relpath(shared, folder), target_is_directory=True)
        return run

    def _after_fold(self, run: Run, n_folds: int) -> tuple[float, ...]:
        """The score on the photos held out by the folds up to each."""
        answers = read_answers(run.folder, run.folder.name)
        truth, labels, n_classes = asked(answers, self.objective)
        return tuple(
            macro_f1(truth[answers.folds <= fold], labels[answers.folds <= fold], n_classes) for fold in range(n_folds)
        )

    def _take_over(self, run: Run, recipe: Recipe, earlier: Earlier) -> set[Path]:
        """Links the folds that a trial before trained just so; returns their folders here."""
        taken: set[Path] = set()
        for other in earlier.kept:
            theirs = self.recipe(other.params)
            known = {describe_expert(spec.attributes, spec.condition): spec for spec in theirs.experts}
            for spec in recipe.experts:
                twin = known.get(describe_expert(spec.attributes, spec.condition))
                if twin is not None and training_of(recipe, spec) == training_of(theirs, twin):
                    place = run.expert_folder(spec.attributes, spec.condition)
                    source = trial_folder(self.folder, other.number) / place.relative_to(run.folder)
                    folds = [done.parent for done in sorted(source.glob("fold*/DONE"))]
                    taken |= {_link(fold, place) for fold in folds if (fold / "best.safetensors").is_file()}
        return taken

    def _seconds(self, run: Run, taken: set[Path]) -> float:
        """Of training, of the folds that were trained here."""
        own = [fold.folder for fold in run.finished() if fold.folder not in taken]
        lines = [line for folder in own for line in (folder / "metrics.jsonl").read_text("utf-8").splitlines()]
        return float(sum(json.loads(line)["seconds"] for line in lines))


def asked(answers: RunAnswers, objective: str) -> tuple[Any, Any, int]:
    """The true classes, the answered ones `(n_samples,)` each, and how many classes there are.

    Raises:
        UsageError: the experts answer this for no photo.
    """
    if objective not in answers.labels:
        raise UsageError(
            f'objective "{objective}": the experts that it needs are not trained by this recipe'
            f"{nearest(objective, answers.labels)}"
        )
    schema = answers.run.schema
    if objective == JOINT:
        return answers.photos.joint, answers.labels[JOINT], schema.n_joint
    truth = schema.decode(answers.photos.joint)[objective]
    return truth, answers.labels[objective], len(schema[objective].classes)


def check_objective_name(objective: str, schema: Schema) -> None:
    """Raises UsageError when the objective is neither joint nor an attribute."""
    if objective not in (JOINT, *schema.names):
        raise UsageError(f'no objective "{objective}"{nearest(objective, [JOINT, *schema.names])}')


def training_of(recipe: Recipe, spec: ExpertSpec) -> dict[str, Any]:
    """What decides the weights of an expert on given folds: its settings, and those of the expert it starts from."""
    settings = recipe.settings_for(spec.attributes, condition=spec.condition)
    # without defaults: a setting that a later version adds is not another search
    values = settings.model_dump(mode="json", exclude=set(NOT_OF_THE_TRAINING), exclude_defaults=True)
    before = [training_of(recipe, other) for other in recipe.experts if starts_from(settings.weights, other)]
    extra = {"extra": recipe.data.extra, "extra_where": recipe.data.model_dump(mode="json")["extra_where"]}
    return {**values, **extra, "before": before}


def drop_weights(folder: Path) -> None:
    """Removes the checkpoints of a trial's run; its out-of-fold predictions, histories and recipe stay."""
    for pattern in ("*.safetensors", "state*.pt"):
        for file in folder.glob(f"experts/*/fold*/{pattern}"):
            file.unlink()


def _link(source: Path, place: Path) -> Path:
    """Puts a finished fold's files under `place` too, DONE last, unless a training is there; returns its folder."""
    target = place / source.name
    if (target / "DONE").is_file() or (target / "state.pt").is_file():
        return target
    target.mkdir(parents=True, exist_ok=True)
    files = [file for file in sorted(source.iterdir()) if file.is_file() and file.name not in ("DONE", "lock")]
    for file in [*files, source / "DONE"]:
        (target / file.name).unlink(missing_ok=True)  # of a kill between two links
        _same_file(file, target / file.name)
    return target


def _same_file(source: Path, target: Path) -> None:
    import shutil

    try:
        os.link(source, target)
    except OSError:  # a file system without links
        shutil.copyfile(source, target)


@dataclass
class _Bar:
    """Passes the bar on and no lines: of a whole search's epochs there would be thousands."""

    watcher: Watcher
    title: str

    def say(self, line: str) -> None: ...

    def begin(self, title: str, total: float) -> None:
        self.watcher.begin(self.title + title, total)

    def advance(self, done: float, title: str | None = None) -> None:
        self.watcher.advance(done, None if title is None else self.title + title)

    def end(self) -> None:
        self.watcher.end()
