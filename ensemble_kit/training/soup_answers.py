"""What the average of a training's last checkpoints answers, with nothing chosen on the photos that are held out."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import numpy as np

from ensemble_kit.arrays import FloatArray, IntArray
from ensemble_kit.data.samples import SampleTable
from ensemble_kit.errors import DataError
from ensemble_kit.loading.cache import PhotoCache
from ensemble_kit.models.compute import choose_compute, num_threads
from ensemble_kit.training.averaging import mean_network, moving_norms
from ensemble_kit.training.folder import FoldFolder
from ensemble_kit.training.job import ExpertJob
from ensemble_kit.training.rows import choose_rows
from ensemble_kit.training.session import Session


def soup_answers(
    job: ExpertJob, *, table: SampleTable, folds: IntArray, photos: PhotoCache, folder: Path, last: int
) -> FloatArray:
    """Probabilities `(n_held_out, n_columns)`, as in `oof.npy`, of a uniform soup of the last `last` epochs kept.

    Unlike `soup_fold` it answers whether or not the average is better, so that its score is one of photos that had no
    say in it. The fold is left as it is.

    Raises:
        DataError: the fold is not finished, or kept fewer epochs.
    """
    files = FoldFolder(folder, job.identity(table, folds))
    if not files.is_done():
        raise DataError(f"{folder}: not trained to its end; train it first")
    paths = [files.trained if files.trained.is_file() else files.best, *sorted(folder.glob("epoch*.safetensors"))]
    photos.check(table, job.preprocess)
    with ExitStack() as stack:
        stack.enter_context(num_threads(job.threads))
        compute = choose_compute(job.device, job.precision, job.channels_last)
        session = Session(job, table, photos, files, choose_rows(job, table, folds, photos), compute)
        found = {int(card.train["epoch"]): network for network, card in map(session.kept.load, paths)}
        if len(found) < max(2, last):
            raise DataError(
                f"{folder}: expected {max(2, last)} or more epochs to average, found {len(found)}; "
                'train with keep = "every 1"'
            )
        members = [found[epoch] for epoch in sorted(found)[-last:]]
        for member in members:
            compute.place(member)
        with compute.autocast():
            average = mean_network(members)
            session.refresh(average, moving_norms(average, members), max(found))
        probs = session.probs(average, session.rows.held_out, session.source)
        probs[~photos.readable[session.rows.held_out]] = np.nan
        return probs
