"""The card of a checkpoint, from the training that made it."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from ensemble_kit.card import Card, Head
from ensemble_kit.data.samples import SampleTable
from ensemble_kit.models.backbones import backbone_name
from ensemble_kit.training.job import ExpertJob
from ensemble_kit.training.rows import FoldRows, groups_sha256


def describe(
    job: ExpertJob,
    table: SampleTable,
    rows: FoldRows,
    identity: Mapping[str, Any],
    heads: tuple[Head, ...],
    epoch: int,
    metrics: Mapping[str, float],
    where: str,
) -> Card:
    """The card of the weights after `epoch`; the hash of the tensors is filled in when they are written.

    Args:
        identity: see `ExpertJob.identity`.
        where: device, precision, threads and version of torch.
    """
    train = {
        "settings": job.settings_json(),
        "borders": None if job.borders is None else list(job.borders),
        "left_out": [list(pair) for pair in job.leave_out],
        "seed": job.seed,
        "fold": job.fold,
        "n_folds": job.n_folds,
        "epoch": epoch,
        "kept": job.keep,
        "where": where,
        "samples_sha256": identity["samples_sha256"],
        "train_groups_sha256": groups_sha256(table, rows.train),
        "held_out_groups_sha256": groups_sha256(table, rows.held_out),
    }
    return Card(
        schema=job.schema,
        condition=job.condition,
        heads=heads,
        backbone={"name": backbone_name(job.backbone), "init": identity["init"]},
        preprocess=job.preprocess.to_json(),
        train=train,
        metrics=metrics,
        versions={"python": platform.python_version(), "torch": torch.__version__, "numpy": np.__version__},
    )
