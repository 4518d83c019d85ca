"""What a batch is trained towards: target distributions, mixed photos, and the loss."""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from torch import Tensor

from ensemble_kit.arrays import FloatArray, IntArray
from ensemble_kit.card import Head
from ensemble_kit.models.heads import mix_seed
from ensemble_kit.training.columns import OpenColumns, class_numbers, heads_of
from ensemble_kit.training.job import ExpertJob
from ensemble_kit.training.losses import class_weights, find_loss, smooth
from ensemble_kit.training.mixing import mix_batch
from ensemble_kit.training.rows import FoldRows


class Objective:
    """The loss of one fold of one expert, over the classes that exist under its condition alone.

    Attributes:
        weights: of each head the weight of each possible column, None = all alike.

    Args:
        rows: the training photos, which class weights follow.
        device: of the logits.

    Raises:
        UsageError: class weights that do not fit the loss or the classes.
    """

    def __init__(self, job: ExpertJob, rows: FoldRows, device: torch.device):
        self.job = job
        self.possible = torch.from_numpy(rows.possible).to(device)
        heads = heads_of(job)
        self.columns = OpenColumns(heads, rows.possible)
        classes = rows.train_classes.reshape(len(rows.train), len(heads))
        found = [_weights(job, *parts) for parts in zip(heads, classes.T, rows.classes, strict=True)]
        self.weights = [None if w is None else torch.from_numpy(w).to(device, torch.float32) for w in found]
        self.losses = [find_loss(job.loss, weights) for weights in self.weights]

    def targets_of(self, numbers: Tensor) -> Tensor:
        """Column numbers of each head `(n,)` or `(n, n_heads)` -> smoothed distributions over the possible columns.

        Returns:
            `(n, n_possible)`; zero in the columns of a head that a photo is not labelled for.
        """
        soften = partial(smooth, share=self.job.label_smoothing, kind=self.job.smoothing)
        # on the CPU, where looking at the numbers makes no device wait
        return self.columns.distributions(numbers.cpu(), soften).to(self.possible.device, non_blocking=True)

    def mixed(self, photos: Tensor, targets: Tensor, epoch: int, batch: int) -> tuple[Tensor, Tensor]:
        """The batch with its photos mixed, or as it is; what is drawn depends on (seed, fold, epoch, batch) alone."""
        seed = (mix_seed(self.job.seed, self.job.fold), epoch, batch)
        return mix_batch(self.job.mix, self.job.mix_share, photos, targets, seed)

    def __call__(self, logits: Tensor, targets: Tensor) -> Tensor:
        """The mean loss of a batch; of several heads the mean over those that a photo of the batch is labelled for.

        Args:
            logits: `(n, n_columns)` of all heads, any float type.
            targets: `(n, n_possible)` from `targets_of`, mixed or not.
        """
        if len(self.possible) < logits.shape[1]:
            logits = logits[:, self.possible]
        return self.columns.loss(self.losses, logits.float(), targets)


def _weights(job: ExpertJob, head: Head, labels: IntArray, possible: IntArray) -> FloatArray | None:
    """The weight of each possible column of a head: that of its class."""
    weights = class_weights(job.class_weights, labels[labels >= 0], possible, job.schema.block(head.attributes).n_joint)
    if weights is None or head.collapse is None:
        return weights
    own = class_numbers(head)
    return np.asarray(weights[np.searchsorted(possible, own[np.isin(own, possible)])])
