"""Soups of a run: the checkpoints that its trainings kept, averaged where that does not cost validation."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ensemble_kit.arrays import Condition
from ensemble_kit.card import read_card
from ensemble_kit.errors import DataError, UsageError
from ensemble_kit.files import read_json
from ensemble_kit.graph import describe_expert
from ensemble_kit.recipe.load import ExpertSpec, validated
from ensemble_kit.recipe.run import Watcher
from ensemble_kit.recipe.settings import TrainSettings, without_ruled_out
from ensemble_kit.recipe.train import job_of, photos_for, preprocess_of
from ensemble_kit.runs import FinishedFold, Run

if TYPE_CHECKING:
    from ensemble_kit.loading.cache import PhotoCache
    from ensemble_kit.training import ExpertJob
    from ensemble_kit.training.soups import Soup


def soup_run(
    run: Run,
    watcher: Watcher,
    *,
    attributes: Sequence[str] | None = None,
    condition: Condition | None = None,
    folds: Collection[int] | None = None,
    kind: str = "greedy",
    machine: Mapping[str, Any] | None = None,
) -> list[Soup]:
    """Averages the checkpoints of each finished fold, see `training.soups.soup_fold`.

    Args:
        attributes, condition, folds: which experts and folds; all when left out.
        kind: a name of `training.soups.SOUPS`.
        machine: device and threads, where other than in the training.

    Raises:
        DataError: no such expert is finished, or a fold kept fewer than two checkpoints.
    """
    from ensemble_kit.training.soups import soup_fold

    chosen = [
        fold
        for fold in run.finished()
        if (attributes is None or set(fold.attributes) == set(attributes))
        and (condition is None or fold.condition == condition)
        and (folds is None or fold.fold in folds)
    ]
    if not chosen:
        known = sorted({describe_expert(fold.attributes, fold.condition) for fold in run.finished()})
        which = "expert" if folds is None else f"expert and fold {', '.join(map(str, sorted(folds)))}"
        raise DataError(f"{run.folder}: no such {which} is finished (finished: {'; '.join(known) or 'none'})")
    soups = []
    for fold in chosen:
        job, photos = _trained(run, fold, watcher, machine or {})
        soup = soup_fold(job, table=run.table, folds=run.folds, photos=photos, folder=fold.folder, kind=kind)
        watcher.say(str(soup))
        soups.append(soup)
    watcher.end()
    return soups


def soup_files(
    paths: Sequence[Path],
    out: Path,
    watcher: Watcher,
    *,
    run: Run | None = None,
    kind: str = "greedy",
    machine: Mapping[str, Any] | None = None,
) -> Soup:
    """Averages some checkpoints into `out`, see `training.soups.soup_files`.

    Args:
        run: has the photos and folds to refresh and score on; default the run that the first checkpoint lies in.

    Raises:
        UsageError: the checkpoint lies in no run and none is named.
        DataError: checkpoints that cannot be averaged.
    """
    from ensemble_kit.training import soups

    card = read_card(paths[0])
    run = run or _run_around(paths[0])
    names = tuple(name for head in card.heads for name in head.attributes)
    found = [
        fold
        for fold in run.finished()
        if (fold.attributes, fold.condition, fold.fold) == (names, card.condition, card.train["fold"])
    ]
    if not found:
        raise DataError(f"{run.folder}: holds no finished {card.describe()}; name its run with --run")
    job, photos = _trained(run, found[0], watcher, machine or {})
    soup = soups.soup_files(paths, out, job, table=run.table, folds=run.folds, photos=photos, kind=kind)
    watcher.say(str(soup))
    watcher.end()
    return soup


def _run_around(path: Path) -> Run:
    for folder in path.resolve().parents:
        if (folder / "run.json").is_file():
            return Run.open(folder)
    raise UsageError(f"{path}: lies in no run, whose photos would score the average; name one with --run")


def _trained(
    run: Run, fold: FinishedFold, watcher: Watcher, machine: Mapping[str, Any]
) -> tuple[ExpertJob, PhotoCache]:
    """The settings that a fold was trained with, and its photos."""
    written = read_json(fold.folder.parent / "expert.json")["settings"]
    settings = validated(TrainSettings, without_ruled_out(written), str(fold.folder.parent / "expert.json"))
    settings = settings.model_copy(update={"seed": fold.seed, "seeds": ()})
    job = job_of(run, ExpertSpec(fold.attributes, fold.condition), settings, fold.fold)
    return replace(job, **machine), photos_for(run, preprocess_of(run, settings, fold.fold), watcher)
