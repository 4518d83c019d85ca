"""What a batch is trained towards: target distributions, mixed photos, and the loss."""

from __future__ import annotations

import torch
from torch import Tensor

from ensemble_kit.models.heads import mix_seed
from ensemble_kit.training.job import ExpertJob
from ensemble_kit.training.losses import class_weights, find_loss, one_hot, smooth
from ensemble_kit.training.mixing import mix_batch
from ensemble_kit.training.rows import FoldRows


class Objective:
    """The loss of one fold of one expert, over the classes that exist under its condition alone.

    Args:
        rows: the training photos, which class weights follow.
        device: of the logits.

    Raises:
        UsageError: class weights that do not fit the loss or the classes.
    """

    def __init__(self, job: ExpertJob, rows: FoldRows, device: torch.device):
        self.job = job
        self.possible = torch.from_numpy(rows.possible).to(device)
        found = class_weights(job.class_weights, rows.train_targets, rows.possible)
        self.weights = None if found is None else torch.from_numpy(found).to(device, torch.float32)
        self.loss = find_loss(job.loss, self.weights)

    def targets_of(self, numbers: Tensor) -> Tensor:
        """Class numbers of the head `(n,)` -> smoothed distributions over the possible classes `(n, n_possible)`."""
        places = torch.searchsorted(self.possible, numbers.to(self.possible.device))
        return smooth(one_hot(places, len(self.possible)), self.job.label_smoothing, self.job.smoothing)

    def mixed(self, photos: Tensor, targets: Tensor, epoch: int, batch: int) -> tuple[Tensor, Tensor]:
        """The batch with its photos mixed, or as it is; what is drawn depends on (seed, fold, epoch, batch) alone."""
        seed = (mix_seed(self.job.seed, self.job.fold), epoch, batch)
        return mix_batch(self.job.mix, self.job.mix_share, photos, targets, seed)

    def __call__(self, logits: Tensor, targets: Tensor) -> Tensor:
        """The mean loss of a batch.

        Args:
            logits: `(n, n_classes)` of the head, any float type.
            targets: `(n, n_possible)` from `targets_of`, mixed or not.
        """
        if len(self.possible) < logits.shape[1]:
            logits = logits[:, self.possible]
        return self.loss(logits.float(), targets)
