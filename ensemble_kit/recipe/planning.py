"""What a command would do, told without doing it: experts, folds, photos, steps, and room on the disk."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ensemble_kit.columns import WIDTH, fitted
from ensemble_kit.errors import DataError
from ensemble_kit.graph import describe_expert
from ensemble_kit.loading.room import GB, size_text
from ensemble_kit.recipe.load import ExpertSpec, Recipe
from ensemble_kit.recipe.run import Watcher, check_experts, open_run
from ensemble_kit.recipe.settings import TrainSettings
from ensemble_kit.recipe.starts import check_own, in_order, own_reference
from ensemble_kit.recipe.train import chosen_folds, job_of, number_at_once, refuse_other_seeds
from ensemble_kit.runs import Run, fold_name

if TYPE_CHECKING:
    from ensemble_kit.data.decode import Preprocess
    from ensemble_kit.data.samples import SampleTable
    from ensemble_kit.loading.cache import PhotoCache
    from ensemble_kit.training import ExpertJob

STANDINGS = {
    "new": "to train",
    "begun": "goes on after epoch {}",
    "done": "done before, skipped",
    "other": "holds another training: refused without --restart",
}
STATES = 2
"""Files of a training's state that lie beside its checkpoint at the worst moment: the new one and the one before."""


@dataclass(frozen=True)
class FoldPlan:
    """One fold of one expert.

    Attributes:
        voter: its folder's name: by fold, and by seed where there are several.
        n_train, n_score: photos trained on an epoch, and held out to score with.
        epochs, steps: in all, from the start.
        standing: what would happen, in words.
        is_to_train: whether any epoch would run.
        checkpoint_bytes: of the weights kept.
    """

    expert: str
    fold: int
    voter: str
    n_train: int
    n_score: int
    epochs: int
    steps: int
    standing: str
    is_to_train: bool
    checkpoint_bytes: int


@dataclass(frozen=True)
class Plan:
    """A run as it would be.

    Attributes:
        cache_bytes: of decoded photos that are not there yet.
        lasting_bytes: what the trainings to come add for good: caches, checkpoints, out-of-fold predictions.
        passing_bytes: more than that while one trains: its state, twice.
        not_kept_bytes: of decoded photos that `cache_gb` leaves no room for.
        at_once: how many trainings would go on at a time and why, where nobody asked for just that many.
    """

    recipe: str
    folder: Path
    n_photos: int
    n_people: int
    fold_sizes: tuple[int, ...]
    folds: tuple[FoldPlan, ...]
    cache_bytes: int
    lasting_bytes: int
    passing_bytes: int
    not_kept_bytes: int = 0
    at_once: str = ""

    def text(self) -> str:
        experts = list(dict.fromkeys(fold.expert for fold in self.folds))
        sizes = ", ".join(map(str, self.fold_sizes))
        to_train = [fold for fold in self.folds if fold.is_to_train]
        lines = [
            f"{self.recipe} -> {self.folder} (a plan: nothing is written)",
            f"{self.n_photos} photos of {self.n_people} people, held out by fold: {sizes}",
            "",
            fitted(HEAD, [_row(fold) for fold in self.folds], WIDTH, 2),
            "",
        ]
        photos = sum(fold.n_train * fold.epochs for fold in to_train)
        lines.append(
            f"{len(experts)} experts, {len(to_train)} of {len(self.folds)} folds to train, about {photos} photos pass"
        )
        lines.append(
            f"disk: about {size_text(self.lasting_bytes)} more, of which {size_text(self.cache_bytes)} decoded photos; "
            f"up to {size_text(self.passing_bytes)} besides while it trains"
        )
        if self.not_kept_bytes:
            lines.append(f"cache_gb has no room for {size_text(self.not_kept_bytes)} of photos: decoded each time")
        lines += [self.at_once] if self.at_once else []
        return "\n".join(lines)


HEAD = ["expert", "", "train", "score", "epochs", "steps", ""]


def _row(fold: FoldPlan) -> list[str]:
    numbers = (fold.n_train, fold.n_score, fold.epochs, fold.steps)
    return [fold.expert, fold.voter, *map(str, numbers), fold.standing]


def plan_run(
    recipe: Recipe,
    data: Path | None,
    folder: Path,
    specs: Sequence[ExpertSpec],
    watcher: Watcher,
    *,
    folds: Iterable[int] | None = None,
    restart: bool = False,
    adopt: bool = False,
) -> Plan:
    """Reads the sample table and looks at what the run folder holds; decodes no photo and writes nothing.

    Args:
        folds, restart: as `train_experts`.
        adopt: as `open_run`.

    Raises:
        EnsembleKitError: what the command itself would refuse.
    """
    from ensemble_kit.training.columns import n_columns

    check_experts(recipe, data, specs)
    run = open_run(recipe, data, folder, watcher, adopt=adopt, write=False)
    chosen = chosen_folds(run, folds)
    settings_of = [recipe.settings_for(spec.attributes, condition=spec.condition) for spec in specs]
    starts = [settings.weights for settings in settings_of]
    check_own(specs, starts, run)
    planned: list[FoldPlan] = []
    caches: dict[str, int] = {}
    state_bytes, oof_bytes = 0, 0
    for number in in_order(specs, starts):
        spec, settings = specs[number], settings_of[number]
        refuse_other_seeds(run.expert_folder(spec.attributes, spec.condition), settings)
        for fold, (seed, seeded) in product(chosen, settings.by_seed().items()):
            job, waits = _job(run, spec, seeded, fold, [describe_expert(s.attributes, s.condition) for s in specs])
            found = _fold(run, job, fold_name(fold, seed), restart or waits)
            planned.append(found)
            if found.is_to_train:
                caches |= _cache_of(run, job)
                state_bytes = max(state_bytes, STATES * 3 * found.checkpoint_bytes)
                oof_bytes += int((run.folds == fold).sum()) * n_columns(job) * 4
    weights = sum(fold.checkpoint_bytes for fold in planned if fold.is_to_train)
    cache_bytes = _within(caches.values(), recipe.data.cache_gb)
    return Plan(
        recipe=recipe.name,
        folder=folder,
        n_photos=len(run.table),
        n_people=len(np.unique(run.table.groups)),
        fold_sizes=tuple(int((run.folds == fold).sum()) for fold in range(run.n_folds)),
        folds=tuple(planned),
        cache_bytes=cache_bytes,
        lasting_bytes=cache_bytes + weights + oof_bytes,
        passing_bytes=state_bytes,
        not_kept_bytes=sum(caches.values()) - cache_bytes,
        at_once=number_at_once(run, specs, settings_of, sum(fold.is_to_train for fold in planned)).why,
    )


def _within(sizes: Iterable[int], limit_gb: float | None) -> int:
    """Bytes of the caches that are kept, one after the other, within the limit."""
    kept = 0
    for size in sizes:
        kept += size if limit_gb is None or kept + size <= limit_gb * GB else 0
    return kept


def _job(
    run: Run, spec: ExpertSpec, settings: TrainSettings, fold: int, planned: Sequence[str]
) -> tuple[ExpertJob, bool]:
    """The job, and whether it waits for an expert that is trained before it by the same command."""
    try:
        return job_of(run, spec, settings, fold), False
    except DataError:
        if own_reference(settings.weights) not in planned:
            raise
        return job_of(run, spec, settings.model_copy(update={"weights": "none"}), fold), True


def _fold(run: Run, job: ExpertJob, name: str, is_new: bool) -> FoldPlan:
    from ensemble_kit.training.folder import FoldFolder
    from ensemble_kit.training.plan import check_network, steps_of, weights_bytes
    from ensemble_kit.training.rows import choose_rows

    rows = choose_rows(job, run.table, run.folds, _photos_of(run, job))
    check_network(job, rows)
    place = run.expert_folder(job.attributes, job.condition) / name
    standing, epoch = ("new", 0) if is_new else FoldFolder(place, job.identity(run.table, run.folds)).standing()
    return FoldPlan(
        expert=job.name,
        fold=job.fold,
        voter=name,
        n_train=len(rows.train),
        n_score=len(rows.score),
        epochs=job.epochs,
        steps=steps_of(job, rows),
        standing=STANDINGS[standing].format(epoch),
        is_to_train=standing in ("new", "begun"),
        checkpoint_bytes=weights_bytes(job),
    )


def _photos_of(run: Run, job: ExpertJob) -> PhotoCache:
    """The run's photos if they are decoded, else a stand-in in which every photo is readable."""
    from ensemble_kit.files import sha256_json
    from ensemble_kit.loading.cache import PhotoCache

    found = PhotoCache.open(run.table, job.preprocess, run.folder / "cache")
    if found is not None:
        return found
    _check_crop(run.table, job.preprocess)
    n = len(run.table)
    blank = np.broadcast_to(np.zeros((), dtype=np.uint8), (n, *job.size, 3))
    return PhotoCache(blank, np.ones(n, dtype=bool), (), job.preprocess, sha256_json(run.table.ids.tolist()))


def _check_crop(table: SampleTable, preprocess: Preprocess) -> None:
    """Raises DataError where the first photo that can be measured is smaller than the crop."""
    from ensemble_kit.data.decode import PhotoError, cropped_size, upright_size

    for path in table.paths:
        try:
            size = upright_size(path)
        except PhotoError:
            continue  # told when it is decoded
        try:
            cropped_size(size, preprocess.crop)
        except DataError as error:
            raise DataError(f"{path}: {error}") from None
        return


def _cache_of(run: Run, job: ExpertJob) -> dict[str, int]:
    """The cache that the job needs and that is not there: what names its preparation, and its bytes."""
    from ensemble_kit.loading.cache import PhotoCache
    from ensemble_kit.loading.wanted import geometry_sha256

    if PhotoCache.open(run.table, job.preprocess, run.folder / "cache") is not None:
        return {}
    height, width = job.size
    return {geometry_sha256(job.preprocess): len(run.table) * height * width * 3}
