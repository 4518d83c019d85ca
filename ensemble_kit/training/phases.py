"""A training is a list of phases: each with its optimiser, rates, schedule, frozen layers and batches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

from ensemble_kit.errors import UsageError
from ensemble_kit.training.named import name_of
from ensemble_kit.training.optimizers import OptimizerBuilder, find_optimizer
from ensemble_kit.training.schedules import Schedule, find_schedule


@dataclass(frozen=True)
class Phase:
    """The resolved settings of one phase. No defaults: they live in `recipe`.

    Attributes:
        epochs: of this phase, at least 1.
        batch_size: photos a forward pass.
        accumulate: batches whose gradients make one step: a step is over `accumulate * batch_size` photos.
        optimizer: a name of `OPTIMIZERS` (or of timm), or a function groups -> optimiser.
        backbone_lr, head_lr: peak rates.
        weight_decay: of weights; biases and norms have none.
        clip: largest norm of a step's gradient; 0 = unlimited.
        schedule: a name of `SCHEDULES`, or a function of the moment.
        warmup_epochs: linear rise at the phase's beginning (not for one_cycle).
        step_epochs: epochs between the steps of "step"; scored epochs without a better one that "plateau" waits for.
        freeze: layers that do not train in this phase, see `freeze_layers`.

    Raises:
        UsageError: a number out of range, or a name that is not known.
    """

    epochs: int
    batch_size: int
    accumulate: int
    optimizer: str | OptimizerBuilder
    backbone_lr: float
    head_lr: float
    weight_decay: float
    clip: float
    schedule: str | Schedule
    warmup_epochs: float
    step_epochs: int
    freeze: tuple[str, ...]

    def __post_init__(self) -> None:
        for name in ("epochs", "accumulate", "step_epochs"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name}: expected at least 1, found {getattr(self, name)}")
        if not self.clip >= 0:
            raise UsageError(f"clip: expected a largest norm above 0, or 0 for none, found {self.clip}")
        find_optimizer(self.optimizer)
        find_schedule(self.schedule)

    def to_json(self) -> dict[str, Any]:
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        named = {"optimizer": name_of(self.optimizer), "schedule": name_of(self.schedule)}
        return {**values, **named, "freeze": list(self.freeze)}


@dataclass(frozen=True)
class Span:
    """A phase and its epochs, first and last, counted from 1 over the whole training; `number` from 1 as well."""

    phase: Phase
    number: int
    first: int
    last: int

    @property
    def epochs(self) -> range:
        return range(self.first, self.last + 1)


def spans_of(phases: Sequence[Phase]) -> tuple[Span, ...]:
    """Which epochs belong to which phase."""
    spans, before = [], 0
    for number, phase in enumerate(phases, 1):
        spans.append(Span(phase, number, before + 1, before + phase.epochs))
        before += phase.epochs
    return tuple(spans)
