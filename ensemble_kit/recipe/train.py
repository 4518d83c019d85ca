"""Training the experts of a run: which folds, in which order, how many at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ensemble_kit.errors import DataError, UsageError
from ensemble_kit.files import write_csv
from ensemble_kit.graph import describe_expert
from ensemble_kit.recipe.at_once import AtOnce, at_once
from ensemble_kit.recipe.experts import has_borders
from ensemble_kit.recipe.load import ExpertSpec, Recipe
from ensemble_kit.recipe.phases import epochs_of, phases_of
from ensemble_kit.recipe.preparing import column_keys, preprocess_keys
from ensemble_kit.recipe.run import Watcher
from ensemble_kit.recipe.settings import PHASE_KEYS, TrainSettings
from ensemble_kit.recipe.starts import check_own, in_order, is_reference, start_notices, start_of, starts_from
from ensemble_kit.recipe.trainings import Training, run_trainings
from ensemble_kit.runs import Run, fold_name

if TYPE_CHECKING:
    from ensemble_kit.arrays import BoolArray
    from ensemble_kit.data.decode import Preprocess
    from ensemble_kit.loading.cache import PhotoCache
    from ensemble_kit.training import ExpertJob, FoldResult


def job_of(run: Run, spec: ExpertSpec, settings: TrainSettings, fold: int) -> ExpertJob:
    """The plain, resolved settings of one fold of one expert.

    Raises:
        DataError: it starts from an expert whose fold is not trained.
    """
    from ensemble_kit.training import ExpertJob

    plain = settings.model_dump(exclude={"jobs", "min_steps", "seeds", "phases", *PHASE_KEYS})
    plain |= {"phases": phases_of(settings, draws_of(run, spec, settings, fold))}
    plain |= preprocess_keys(run.table, settings, run.folds != fold) | column_keys(run.table, spec.attributes, settings)
    if is_reference(settings.weights):
        plain |= {"weights": str(start_of(run, settings.weights, fold, settings.seed).file)}
    if not has_borders(run.schema, spec.attributes):  # shared settings: they are about the attribute that is measured
        plain |= {"borders": None, "leave_out": ()}
    return ExpertJob(
        schema=run.schema,
        attributes=spec.attributes,
        condition=spec.condition,
        fold=fold,
        n_folds=run.n_folds,
        **plain,
    )


def draws_of(run: Run, spec: ExpertSpec, settings: TrainSettings, fold: int) -> int:
    """About how many photos an epoch of a fold has: what the sampler draws of the labelled ones under the condition.

    Before any are left out, and by the schema's borders.
    """
    from ensemble_kit.loading.samplers import draw_epoch, joint_keys

    rows = np.flatnonzero(_covered(run, spec) & (run.folds != fold))
    if not len(rows):
        return 1
    by = settings.balance_by or spec.attributes
    names = run.schema.names if by == ("joint",) and by[0] not in run.schema.names else by
    keys = joint_keys([run.table.numbers(name) for name in names])[rows]
    if settings.smote:  # every class up to the largest
        keys = np.repeat(np.unique(keys), np.unique(keys, return_counts=True)[1].max())
    return len(draw_epoch(settings.sampler, keys, np.random.Generator(np.random.PCG64(0)), 0.0))


def train_experts(
    run: Run,
    recipe: Recipe,
    specs: Sequence[ExpertSpec],
    watcher: Watcher,
    *,
    folds: Iterable[int] | None = None,
    restart: bool = False,
) -> list[FoldResult]:
    """Trains every fold of every expert named; finished folds are skipped, broken-off ones go on.

    Args:
        folds: only these; all when left out.
        restart: train anew what is there already.

    Raises:
        DataError: an expert has nothing to train on, or its folder holds other settings.
        DivergedError: a loss stopped being finite.
    """
    chosen = chosen_folds(run, folds)
    settings_of = [recipe.settings_for(spec.attributes, condition=spec.condition) for spec in specs]
    starts = [settings.weights for settings in settings_of]
    check_own(specs, starts, run)
    refuse_twice(run, list(zip(specs, settings_of, strict=True)))
    photos: dict[Preprocess, PhotoCache] = {}
    parts: list[_Part] = []
    trainings: list[Training] = []
    for number in in_order(specs, starts):
        spec, settings = specs[number], settings_of[number]
        place = run.expert_folder(spec.attributes, spec.condition)
        refuse_other_seeds(place, settings)
        amount = _work(run, spec, settings)
        after = tuple(i for i, part in enumerate(parts) if starts_from(settings.weights, part.spec))
        for fold, (seed, seeded) in product(chosen, settings.by_seed().items()):
            folder, preprocess = place / fold_name(fold, seed), preprocess_of(run, settings, fold)
            if preprocess not in photos:
                photos[preprocess] = photos_for(run, preprocess, watcher, recipe.data.cache_gb, settings.threads)
            trainings.append(Training(run.table, run.folds, photos[preprocess], folder, restart, amount, after))
            parts.append(_Part(spec, settings, seeded, fold, _title(run, spec, fold, seed)))
    side_by_side = number_at_once(run, specs, settings_of, len(trainings))
    if side_by_side.why:
        watcher.say(f"note: {side_by_side.why}")
    watcher.begin("training", sum(training.amount for training in trainings))
    listener = _Listener(watcher, parts, trainings)
    results: dict[int, FoldResult] = {}
    told: set[str] = set()
    with _alone(settings_of, run, watcher):
        for number, result in run_trainings(
            trainings, lambda i: parts[i].job(run), listener, at_once=side_by_side.number
        ):
            part = parts[number]
            run.write_expert(part.spec.attributes, part.spec.condition, part.settings.model_dump(mode="json"))
            if result.skipped:
                watcher.say(f"{part.title}: done before, skipped")
            for notice in [*start_notices(run, part.seeded, part.fold), *result.notices]:
                if notice not in told:  # an unreadable photo is the same news in every fold
                    watcher.say(f"note: {notice}")
                told.add(notice)
            results[number] = result
    watcher.end()
    return [results[number] for number in range(len(parts))]


@dataclass(frozen=True)
class _Part:
    """What one training is of: an expert, a fold, and the settings with its own seed."""

    spec: ExpertSpec
    settings: TrainSettings
    seeded: TrainSettings
    fold: int
    title: str

    def job(self, run: Run) -> ExpertJob:
        return job_of(run, self.spec, self.seeded, self.fold)


class _Listener:
    """Moves the bar over each training's share of all the work."""

    def __init__(self, watcher: Watcher, parts: Sequence[_Part], trainings: Sequence[Training]):
        self.watcher, self.parts = watcher, parts
        self.amounts = [training.amount for training in trainings]
        self.shares = [0.0] * len(trainings)

    def line(self, text: str) -> None:
        self.watcher.say(text)

    def step(self, number: int, share: float) -> None:
        self.shares[number] = share
        done = sum(share * amount for share, amount in zip(self.shares, self.amounts, strict=True))
        self.watcher.advance(done, self.parts[number].title)


def _title(run: Run, spec: ExpertSpec, fold: int, seed: int | None) -> str:
    title = f"{describe_expert(spec.attributes, spec.condition)}, fold {fold + 1}/{run.n_folds}"
    return title if seed is None else f"{title}, seed {seed}"


def number_at_once(
    run: Run, specs: Sequence[ExpertSpec], settings_of: Sequence[TrainSettings], n_trainings: int
) -> AtOnce:
    """How many trainings of a run go on at a time, see `at_once`."""
    asked = [pair for pair in zip(specs, settings_of, strict=True) if not pair[1].jobs]
    jobs = [job_of(run, spec, settings.model_copy(update={"weights": "none"}), 0) for spec, settings in asked]
    return at_once(settings_of, jobs, n_trainings)


@contextmanager
def _alone(settings_of: Sequence[TrainSettings], run: Run, watcher: Watcher) -> Iterator[None]:
    """Holds the GPU, where the trainings are on one, until all are done: another run's would else come in between."""
    from ensemble_kit.models.compute import choose_compute
    from ensemble_kit.training.gpus import alone_on

    def say(text: str) -> None:
        watcher.say(f"note: {text}")

    with ExitStack() as stack:
        for settings in settings_of:
            device = choose_compute(settings.device).device
            stack.enter_context(alone_on(device, run.folder.resolve(), shares=settings.share_gpu, say=say))
        yield


def chosen_folds(run: Run, folds: Iterable[int] | None) -> list[int]:
    """Raises UsageError when a fold is named that the run does not have."""
    chosen = sorted(set(range(run.n_folds) if folds is None else folds))
    if not set(chosen) <= set(range(run.n_folds)):
        raise UsageError(f"--fold: this run has the folds 0 to {run.n_folds - 1}, found {chosen}")
    return chosen


def refuse_other_seeds(place: Path, settings: TrainSettings) -> None:
    """Raises DataError where an expert's folds were trained with `seeds` and now are not, or the other way round.

    Otherwise one training would vote twice, under two names.
    """
    seeded = {bool(settings.seeds)}
    there = {"-seed" in path.parent.name for path in place.glob("fold*/DONE")}
    if there - seeded:
        how = "without seeds" if settings.seeds else "with seeds"
        raise DataError(f"{place}: its folds were trained {how}; train into another run with --run, or as they were")


def refuse_twice(run: Run, planned: Sequence[tuple[ExpertSpec, TrainSettings]]) -> None:
    """Raises UsageError where two experts of one run would answer the same attribute, alone and as a separate head."""
    experts = [(spec.attributes, spec.condition, settings.heads) for spec, settings in planned]
    anew = {describe_expert(names, condition) for names, condition, _ in experts}
    there = [expert for expert in run.described() if describe_expert(*expert[:2]) not in anew]
    taken: dict[str, str] = {}
    for names, condition, heads in [*there, *experts]:
        whole = describe_expert(names, condition)
        for head in [(name,) for name in names] if heads == "separate" else [tuple(names)]:
            answer = describe_expert(head, condition)
            other = taken.setdefault(answer, whole)
            if other != whole:
                raise UsageError(
                    f"{answer}: {other} and {whole} would both answer it in {run.folder}; "
                    "train one of them into another run, named with --run"
                )


def _work(run: Run, spec: ExpertSpec, settings: TrainSettings) -> float:
    """Photos a fold runs through, up to a factor that all experts share: what the time left is reckoned by."""
    return float(_covered(run, spec).sum() * sum(epochs_of(settings, draws_of(run, spec, settings, 0))))


def _covered(run: Run, spec: ExpertSpec) -> BoolArray:
    """The samples `(n_samples,)` under the expert's condition that are labelled with what it predicts."""
    return np.asarray(run.table.joint(spec.attributes) >= 0) & run.table.under(spec.condition)


def preprocess_of(run: Run, settings: TrainSettings, fold: int) -> Preprocess:
    """How the photos of a fold are prepared, but for the statistics of its training photos."""
    from ensemble_kit.data.decode import Preprocess

    keys = preprocess_keys(run.table, settings, run.folds != fold)
    del keys["normalise"]
    return Preprocess(**keys)


def photos_for(
    run: Run,
    preprocess: Preprocess,
    watcher: Watcher,
    cache_gb: float | None = None,
    threads: int | None = None,
) -> PhotoCache:
    """The decoded photos of the run; one cache serves every expert and fold with the same preprocessing.

    Args:
        cache_gb: what the run's caches may take together.
        threads: that decode; as many as there are cores when left out.
    """
    from ensemble_kit.loading.cache import PhotoCache

    watcher.begin("decoding photos", len(run.table))
    photos = PhotoCache.build(
        run.table,
        preprocess,
        run.folder / "cache",
        progress=lambda done, total: watcher.advance(done),  # noqa: ARG005
        limit_gb=cache_gb,
        say=watcher.say,
        threads=threads,
    )
    _list_unreadable(run, photos, watcher)
    return photos


def _list_unreadable(run: Run, photos: PhotoCache, watcher: Watcher) -> None:
    """Names the photos that training leaves out in `errors.csv`, which is not there when there are none."""
    file = run.folder / "errors.csv"
    rows = np.flatnonzero(~photos.readable)
    if not len(rows):
        file.unlink(missing_ok=True)
        return
    ids = run.table.ids[rows].tolist()
    named = [(name, problem.path, problem.problem) for name, problem in zip(ids, photos.problems, strict=True)]
    write_csv(file, [("sample_id", "path", "problem"), *named])
    watcher.say(f"note: {len(rows)} photos could not be read and are left out, see {file}")
