"""What an expert's columns are: one head over a block's joint classes, or a head an attribute; classes or finer."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from ensemble_kit.arrays import FloatArray, IntArray
from ensemble_kit.card import Head
from ensemble_kit.errors import UsageError
from ensemble_kit.models.heads import block_head, parts_of
from ensemble_kit.models.outputs import Part
from ensemble_kit.predictions.fine import Fine, add_columns, edge_names
from ensemble_kit.schema import Schema
from ensemble_kit.training.job import ExpertJob


def heads_of(job: ExpertJob) -> tuple[Head, ...]:
    """The heads of the job's network, their columns side by side.

    Raises:
        UsageError: finer columns or a regression for anything but one measured attribute a head.
    """
    blocks = [(name,) for name in job.attributes] if job.heads == "separate" else [job.attributes]
    heads, first = [], 0
    for block in blocks:
        head = _head(job, block)
        last = first + len(head.classes)
        heads.append(replace(head, outputs=(first, last)))
        first = last
    return tuple(heads)


def _head(job: ExpertJob, block: tuple[str, ...]) -> Head:
    head = block_head(job.schema, block)
    measured = len(block) == 1 and job.schema[block[0]].borders is not None
    if not measured:
        if job.heads == "separate":  # columns and output are about the measured one beside it
            return head
        if job.columns is not None or job.output == "regression" or (job.output != "classes" and len(block) > 1):
            raise UsageError(
                f"{job.name}: columns and output are for one measured attribute; train it alone, "
                'or with heads = "separate"'
            )
        return replace(head, output=job.output)
    if job.columns is None:
        return replace(head, output=job.output)
    who = f"columns of {block[0]}"
    Fine.of(job.columns, None, len(job.columns) + 1, who)
    to = Fine(edges=job.columns).classes_of(job.schema[block[0]], who)
    names = tuple((name,) for name in edge_names(job.columns))
    return Head(block, names, (0, len(names)), job.columns, tuple(int(number) for number in to), job.output)


def parts_of_job(job: ExpertJob) -> list[Part]:
    """What `build_network` needs to know of the heads; columns that are classes lie between the training's borders."""
    heads = heads_of(job)
    return parts_of(heads, [_borders(job, head) for head in heads])


def _borders(job: ExpertJob, head: Head) -> tuple[float, ...] | None:
    if len(head.attributes) > 1:
        return None
    name = head.attributes[0]
    return job.borders if job.borders and name == job.bordered else job.schema[name].borders


def n_columns(job: ExpertJob) -> int:
    """Columns of all heads together."""
    return heads_of(job)[-1].outputs[1]


def class_numbers(head: Head) -> IntArray:
    """`(n_columns,)` the class (of a block: the joint class) of each of the head's columns."""
    return np.arange(len(head.classes)) if head.collapse is None else np.array(head.collapse, dtype=np.int64)


def in_classes(probs: FloatArray, head: Head, schema: Schema) -> FloatArray:
    """Probabilities `(n_samples, all columns)` -> one head's, `(n_samples, n_classes)`, by the schema's borders."""
    part = probs[:, slice(*head.outputs)]
    if head.collapse is None:
        return part
    return add_columns(part, class_numbers(head), schema.block(head.attributes).n_joint)


class OpenColumns:
    """The columns that exist under the condition, head by head: what targets and losses are over.

    Args:
        heads: their columns side by side.
        possible: `(n_open,)` the open ones, increasing, counted over all heads.
    """

    def __init__(self, heads: Sequence[Head], possible: IntArray):
        self.n_heads, self.n_open = len(heads), len(possible)
        starts = [int(np.searchsorted(possible, head.outputs[0])) for head in heads]
        self.spans = [slice(a, b) for a, b in pairwise([*starts, len(possible)])]
        width = max(head.outputs[1] - head.outputs[0] for head in heads)
        places = np.full((len(heads), width), -1, dtype=np.int64)
        for row, head in enumerate(heads):
            for place, column in enumerate(possible):
                if head.outputs[0] <= column < head.outputs[1]:
                    places[row, column - head.outputs[0]] = place
        self.places = torch.from_numpy(places)

    def distributions(self, targets: Tensor, soften: Callable[[Tensor], Tensor] | None = None) -> Tensor:
        """Column numbers -> distributions over the open columns.

        Args:
            targets: `(n,)`, or `(n, n_heads)` with -1 where a head has no label: its columns are zero then.
            soften: (one-hot rows of one head) -> distributions, such as label smoothing.

        Returns:
            `(n, n_open)` float32.
        """
        columns = targets.reshape(len(targets), self.n_heads)
        full = torch.zeros(len(columns), self.n_open, dtype=torch.float32, device=columns.device)
        places = self.places.to(columns.device)
        for number, span in enumerate(self.spans):
            rows = torch.nonzero(columns[:, number] >= 0)[:, 0]
            full[rows, places[number][columns[rows, number]]] = 1
            if soften is not None:
                full[rows, span] = soften(full[rows, span])
        return full

    def by_head(self, logits: Tensor, targets: Tensor) -> Iterator[tuple[int, Tensor, Tensor]]:
        """Number, logits and distributions of each head, on the rows that have a label for it."""
        if self.n_heads == 1:
            yield 0, logits, targets
            return
        for number, span in enumerate(self.spans):
            mass = targets[:, span].sum(dim=1, keepdim=True)
            rows = torch.nonzero(mass[:, 0] > 1e-6)[:, 0]
            if len(rows):  # mixed with an unlabelled photo, a row has less mass
                yield number, logits[rows, span], targets[rows, span] / mass[rows]

    def loss(self, losses: Sequence[Callable[[Tensor, Tensor], Tensor]], logits: Tensor, targets: Tensor) -> Tensor:
        """The mean over the heads that have a labelled row here.

        Args:
            losses: of each head, see `training.losses`.
            logits, targets: `(n, n_open)`.
        """
        each = [losses[number](*pair) for number, *pair in self.by_head(logits, targets)]
        return torch.stack(each).mean() if len(each) > 1 else each[0]
