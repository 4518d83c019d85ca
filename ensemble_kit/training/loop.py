"""The one entry to training: begins, resumes or skips one fold of one expert."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import torch

from ensemble_kit.arrays import IntArray
from ensemble_kit.data.samples import SampleTable
from ensemble_kit.errors import DataError
from ensemble_kit.loading.cache import PhotoCache
from ensemble_kit.models.compute import choose_compute, num_threads
from ensemble_kit.models.memory import told_of
from ensemble_kit.stopping import stoppable
from ensemble_kit.training.folder import FoldFolder
from ensemble_kit.training.gpus import alone_on
from ensemble_kit.training.job import EpochLine, ExpertJob, FoldResult
from ensemble_kit.training.rows import choose_rows
from ensemble_kit.training.session import Session
from ensemble_kit.training.soups import end_with_soup


def train_fold(
    job: ExpertJob,
    *,
    table: SampleTable,
    folds: IntArray,
    photos: PhotoCache,
    folder: Path,
    restart: bool = False,
    on_epoch: Callable[[EpochLine], None] | None = None,
    on_step: Callable[[int, int], None] | None = None,
    on_notice: Callable[[str], None] | None = None,
) -> FoldResult:
    """Trains one fold of one expert, or goes on with it, or skips it when it is done.

    Args:
        job: the settings.
        table: all samples of the run.
        folds: `(n_samples,)` the fold that holds each sample out; -1 = none.
        photos: the cache of `table`, prepared as `job.preprocess` says.
        folder: gets `best.safetensors`, `oof.npy` (`(n_held_out, n_classes)` float32, the fold's rows in table order,
            NaN where a photo is unreadable), `metrics.jsonl`, `DONE`; while it runs also `state.pt`, `state.prev.pt`
            and `lock`.
        restart: train anew, whatever the folder holds; it is forgotten once nothing is left that could stop the new
            training from beginning.
        on_epoch: told each epoch's line after its files are written.
        on_step: told (steps done, steps in all).
        on_notice: told in words, while it trains, what goes wrong: memory that ran out, one class for every photo, a
            loss that does not move, a class without a held-out photo; without it the result's notices end with these.
            Also told that another training is waited for that is on the same GPU, see `alone_on`.

    Raises:
        UsageError: a name or a device that is not there, or memory that does not even take two photos at a time.
        DataError: nothing to train on, first weights that cannot be had, or the folder holds another training (it
            says what differs).
        DivergedError: the loss stopped being finite; the files are those of the epoch before.
        StoppedError: SIGTERM; a state is saved after the step it came in, and the same call goes on from there. So
            it does after Ctrl-C, which is KeyboardInterrupt. A second signal does not wait for the step's end.
    """
    if len(folds) != len(table):
        raise DataError(f"{job.name}: expected one fold a sample, found {len(folds)} for {len(table)} samples")
    photos.check(table, job.preprocess)
    files = FoldFolder(folder, job.identity(table, folds))
    told = f"{job.name}, fold {job.fold}: stopped; the same command goes on"
    with files.locked(), stoppable(told) as stop:
        rows = choose_rows(job, table, folds, photos)
        if not restart and files.is_done():
            return files.result(skipped=True, notices=rows.notices)
        with ExitStack() as stack:
            stack.enter_context(num_threads(job.threads))
            compute = choose_compute(job.device, job.precision, job.channels_last)
            alone = alone_on(
                compute.device, Path(folder), shares=job.share_gpu, say=on_notice, heed=lambda: stop.heed(told)
            )
            stack.enter_context(alone)
            devices = [torch.cuda.current_device()] if compute.device.type == "cuda" else []
            stack.enter_context(torch.random.fork_rng(devices=devices))
            with told_of(f"{job.name}, fold {job.fold} was begun"):
                session = Session(job, table, photos, files, rows, compute, stop, on_notice)
                resumed = not restart and session.resume()
                if not resumed:
                    session.begin()
            session.run(on_epoch, on_step)
            if job.soup != "none":
                end_with_soup(session)
            session.finish()
            return files.result(resumed=resumed, notices=session.notices)
