"""How much a training is, before anything of it is built."""

from __future__ import annotations

from math import ceil

import torch

from ensemble_kit.loading.samplers import epoch_batches
from ensemble_kit.models.heads import block_head, build_network, mix_seed
from ensemble_kit.training.job import ExpertJob
from ensemble_kit.training.rows import FoldRows


def steps_of(job: ExpertJob, rows: FoldRows) -> int:
    """Optimiser steps of the whole training."""
    seed = mix_seed(job.seed, job.fold)
    steps = 0
    for phase in job.phases:
        batches = epoch_batches(job.sampler, rows.train_targets, phase.batch_size, seed, 1)
        steps += phase.epochs * ceil(len(batches) / phase.accumulate)
    return steps


def weights_bytes(job: ExpertJob) -> int:
    """Bytes of the network's weights: those of a checkpoint. The network is only described, never allocated."""
    with torch.device("meta"):
        network = build_network(job.backbone, "none", len(block_head(job.schema, job.attributes).classes), (0,))
    return sum(int(tensor.numel() * tensor.element_size()) for tensor in network.state_dict().values())
