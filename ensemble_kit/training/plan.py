"""How much a training is, before anything of it is built."""

from __future__ import annotations

from math import ceil

import torch
from torch import nn

from ensemble_kit.models.heads import Network, build_network
from ensemble_kit.training.columns import parts_of_job
from ensemble_kit.training.features import with_made_up
from ensemble_kit.training.job import ExpertJob
from ensemble_kit.training.objective import Objective
from ensemble_kit.training.optimizers import freeze_layers
from ensemble_kit.training.phases import spans_of
from ensemble_kit.training.rows import FoldRows, batches_of


def steps_of(job: ExpertJob, rows: FoldRows) -> int:
    """Optimiser steps of the whole training."""
    rows = with_made_up(rows) if job.smote else rows
    return sum(
        span.phase.epochs * ceil(len(batches_of(job, rows, span.first)) / span.phase.accumulate)
        for span in spans_of(job.phases)
    )


def check_network(job: ExpertJob, rows: FoldRows) -> None:
    """Raises UsageError where layers to freeze or class weights do not fit the network and its classes."""
    network = _described(job)
    trainable = {name for name, _ in network.named_parameters()}
    for phase in job.phases:
        freeze_layers(network, phase.freeze, trainable)
    Objective(job, rows, torch.device("cpu"))


def weights_bytes(job: ExpertJob) -> int:
    """Bytes of the network's weights: those of a checkpoint."""
    network = _described(job)
    return sum(int(tensor.numel() * tensor.element_size()) for tensor in network.state_dict().values())


def training_bytes(job: ExpertJob) -> int:
    """About what a training takes in memory: weights, gradients, two moments, a copy to keep, and a step's activations.

    The activations are the outputs of all layers, which the backward pass needs.
    """
    network, found = _described(job), 0
    rows, columns = job.preprocess.seen
    outputs: list[int] = []

    def note(_: nn.Module, __: object, output: object) -> None:
        if isinstance(output, torch.Tensor):
            outputs.append(output.numel() * output.element_size())

    for module in network.modules():
        if not list(module.children()):
            module.register_forward_hook(note)
    batch = max(phase.batch_size for phase in job.phases)
    try:
        network(torch.empty(batch, 3, rows, columns, device="meta"))
        found = sum(outputs)
    except (RuntimeError, NotImplementedError):  # a layer of one's own that cannot be described
        found = 0
    return 5 * weights_bytes(job) + found


def _described(job: ExpertJob) -> Network:
    """The network without numbers in it: only described, never allocated."""
    with torch.device("meta"):
        return build_network(job.backbone, "none", parts_of_job(job), (0,), head=job.head, size=job.preprocess.seen)
