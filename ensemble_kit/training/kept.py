"""The checkpoints that a training keeps: which epochs, and their cards."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ensemble_kit.card import Card, Head
from ensemble_kit.data.decode import Preprocess
from ensemble_kit.data.samples import SampleTable
from ensemble_kit.errors import DataError
from ensemble_kit.models.checkpoint import load_expert, save_checkpoint
from ensemble_kit.models.heads import Network
from ensemble_kit.named import name_of
from ensemble_kit.training.folder import FoldFolder
from ensemble_kit.training.job import ExpertJob, parse_keep
from ensemble_kit.training.rows import FoldRows, groups_sha256


@dataclass
class Best:
    """The epoch that is kept, its score, and the hash of its weights."""

    epoch: int
    macro_f1: float
    tensors_sha256: str


class Kept:
    """What a fold keeps while it trains.

    Args:
        heads: as the card describes them.
        preprocess: the job's, with the mean and std that are used.
        where: device, precision, threads and version of torch, for the card.
    """

    def __init__(
        self,
        job: ExpertJob,
        table: SampleTable,
        files: FoldFolder,
        rows: FoldRows,
        heads: tuple[Head, ...],
        preprocess: Preprocess,
        where: str,
    ):
        self.job, self.table, self.files, self.rows, self.heads, self.where = job, table, files, rows, heads, where
        self.preprocess = preprocess
        self.best: Best | None = None

    def check(self) -> None:
        """Raises DataError when the best epoch's file is not the one that was written.

        A later epoch's file is fine: it was written just before a kill, and that epoch is done again.
        """
        best = self.best
        if best is None:
            return
        card = self.files.best_card()
        is_later = card is not None and card.train["epoch"] > best.epoch
        is_same = card is not None and (card.train["epoch"], card.tensors_sha256) == (best.epoch, best.tensors_sha256)
        if not (is_later or is_same):
            raise DataError(f"{self.files.best}: missing or changed since epoch {best.epoch}; train with --restart")

    def load(self, path: Path) -> tuple[Network, Card]:
        """A checkpoint of this expert, with a backbone or head of one's own built as the job says."""
        backbone, head = self.job.backbone, self.job.head
        own = None if isinstance(backbone, str) else {name_of(backbone): backbone}
        own_head = None if isinstance(head, str) else {name_of(head): head}
        return load_expert(path, backbones=own, heads=own_head)

    def keep(self, network: Network, epoch: int, metrics: Mapping[str, float], *, is_last: bool) -> bool:
        """Writes the checkpoints that `job.keep` asks for after this epoch; returns whether it is the best so far."""
        kind, every = parse_keep(self.job.keep)
        is_best = bool(metrics) and (self.best is None or metrics["macro_f1"] > self.best.macro_f1)
        if kind == "every" and epoch % every == 0:
            extra = self.files.path / f"epoch{epoch:03d}.safetensors"
            save_checkpoint(extra, network, self.card(epoch, metrics))
        if is_best if kind == "best" else is_last:
            card = save_checkpoint(self.files.best, network, self.card(epoch, metrics))
            self.best = Best(epoch, metrics["macro_f1"], card.tensors_sha256)
        return is_best and kind == "best"

    def card(self, epoch: int, metrics: Mapping[str, float]) -> Card:
        identity = self.files.identity
        full = describe(self.job, self.table, self.rows, identity, self.heads, epoch, metrics, self.where)
        return replace(full, preprocess=self.preprocess.to_json())


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
        backbone={"name": name_of(job.backbone), "init": identity["init"], "head": name_of(job.head)},
        preprocess=job.preprocess.to_json(),
        train=train,
        metrics=metrics,
        versions={"python": platform.python_version(), "torch": torch.__version__, "numpy": np.__version__},
    )
