"""Predictions of a run: what is there and still right is left alone, the rest is made."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ensemble_kit.current import disagreement, wanted_backend, wanted_tta
from ensemble_kit.errors import DataError, UsageError, nearest
from ensemble_kit.files import read_json
from ensemble_kit.predictions import read_problems
from ensemble_kit.recipe.rules import check_predict_of
from ensemble_kit.recipe.run import Watcher
from ensemble_kit.runs import Run

if TYPE_CHECKING:
    from ensemble_kit.data.samples import SampleTable

PARTS = ("eval", "train")
MACHINE = ("device", "threads")
"""Settings of the training that predicting takes over, unless others are given. Precision is the back end's to say."""


def read_part_of(run: Run, data: Path | None, part: str) -> SampleTable:
    """The training or evaluation samples of a run's data set, or of another one.

    Raises:
        UsageError: no such part.
    """
    from ensemble_kit.data.samples import read_samples

    if part not in PARTS:
        raise UsageError(f'--part "{part}"{nearest(part, PARTS)}')
    return read_samples(data or run.data, run.schema, part=part, layout=run.layout)  # type: ignore[arg-type]


def predict_run(
    run: Run, table: SampleTable, name: str, watcher: Watcher, options: Mapping[str, Any], *, kept: bool = False
) -> Path:
    """Makes the prediction set `name` current: every finished checkpoint of the run on the samples of `table`.

    Args:
        kept: the epochs that `keep = "every N"` left are voters too, and a soup of them is none.
        options: device, threads, batch_size; those left out are as in the training. backend or precision, and tta; left
            out see `current.wanted_backend` and `current.wanted_tta`. accept_disagreement, compiling.

    Raises:
        UsageError: `kept` for a set of a part, which is of the checkpoints that the run answers with.
        DataError: no finished checkpoint, or one that was changed since its training.
    """
    from ensemble_kit.inference import predict_table

    if kept and name in PARTS:
        raise UsageError(f'--kept: the set "{name}" is of the checkpoints that the run answers with; add --name kept')
    checkpoints = run.kept_checkpoints() if kept else run.checkpoints()
    run.verify()
    check_predict_of(run)
    watcher.say(f"predicting {len(table)} photos with {len(checkpoints)} checkpoints")
    folder = run.predictions_folder(name)
    settings = settings_of(run, wanted_backend(folder, run.backend), options)
    settings.setdefault("tta", wanted_tta(folder, run.tta))
    settings |= {"recipe_tta": run.tta, "recipe_backend": run.backend}
    predict_table(table, checkpoints, folder, cache=run.folder / "cache", watcher=watcher, **settings)
    accepted = disagreement(folder)
    if accepted:
        watcher.say(f"note: {folder}: {accepted}")
    unread = {sample_id for sample_id, _, _ in read_problems(folder)}
    if unread:
        watcher.say(f"note: {len(unread)} photos could not be read and have no prediction, see {folder / 'errors.csv'}")
    return folder


def settings_of(run: Run, backend: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Options laid over what the run's training and recipe say of running its checkpoints.

    Args:
        backend: where neither a back end nor a precision is given.
    """
    from ensemble_kit.backends.photos import TrainingPhotos
    from ensemble_kit.backends.table import Torch, find_backend

    said = {} if {"backend", "precision"} & set(options) else {"backend": backend}
    settings = {**machine_of(run), **said, **options}
    chosen = find_backend(settings.get("backend"), settings.get("precision"))
    if isinstance(chosen, Torch):  # another back end than the recipe's may be asked for
        settings.setdefault("compiling", run.compiling)
    if "device" not in options and settings.get("device") not in ("auto", *chosen.devices):
        settings["device"] = "auto"  # as in the training, where the back end can
    if chosen.least_equal is not None:
        settings["trained_on"] = TrainingPhotos(run.table, run.folds)
    return settings


def machine_of(run: Run) -> dict[str, Any]:
    """On what the run's experts were trained, so that predicting does the same."""
    described = sorted((run.folder / "experts").glob("*/expert.json"))
    settings = read_json(described[0])["settings"] if described else {}
    return {key: settings[key] for key in MACHINE if key in settings}


def current_predictions(run: Run, data: Path | None, name: str, watcher: Watcher) -> Path:
    """The folder of the set `name`, made or completed when it is missing or no longer right.

    Nothing is run, and torch stays out, when the set was made by the checkpoints that are there now on the photos
    that are there now.

    Raises:
        DataError: the set is not there and neither are the photos to make it.
    """
    from ensemble_kit.current import predictions_current

    folder = run.predictions_folder(name)
    checkpoints = {fold.checkpoint_sha256 for fold in run.finished()}
    if name not in PARTS:  # a set somebody named: nobody but them knows of which photos it is
        if not run.predictions_made_by(name, checkpoints):
            raise DataError(f'{folder}: missing, or older than the checkpoints; run "ens predict --name {name}" again')
        return folder
    try:
        table = read_part_of(run, data, name)
    except DataError as error:
        if data is None and run.predictions_made_by(name, checkpoints):
            watcher.say(f"note: using the saved predictions; the photos could not be looked at again ({error})")
            return folder
        raise
    views, backend = wanted_tta(folder, run.tta), wanted_backend(folder, run.backend)
    if predictions_current(folder, table, checkpoints, views, backend):
        return folder
    return predict_run(run, table, name, watcher, {})
