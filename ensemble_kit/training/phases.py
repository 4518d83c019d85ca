"""A training is a list of phases: each with its optimiser, rates, schedule, frozen layers and batches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, Protocol

from ensemble_kit.errors import UsageError
from ensemble_kit.named import name_of
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


class Whole(Protocol):
    """What is said of a whole training, beside its phases; see `ExpertJob`."""

    @property
    def ema(self) -> float: ...
    @property
    def swa_epochs(self) -> int: ...
    @property
    def patience(self) -> int: ...
    @property
    def score_every(self) -> int: ...
    @property
    def feature_views(self) -> int | None: ...
    @property
    def smote(self) -> int: ...
    @property
    def mix(self) -> Sequence[Any]: ...


def check_together(whole: Whole, phases: Sequence[Phase], name: str) -> None:
    """Raises UsageError where the averages, early stopping and cached features asked for do not go together.

    Args:
        name: the expert's, for messages.
    """
    if not 0 <= whole.ema < 1 or whole.swa_epochs < 0 or whole.patience < 0:
        found = f"ema {whole.ema}, swa_epochs {whole.swa_epochs}, patience {whole.patience}"
        raise UsageError(f"{name}: expected ema from 0, below 1, and counts of epochs from 0, found {found}")
    if whole.smote < 0 or (whole.feature_views or 0) < 0:
        found = f"feature_views {whole.feature_views}, smote {whole.smote}"
        raise UsageError(f"{name}: expected counts from 0, found {found}")
    views = whole.feature_views is not None
    is_frozen = all("backbone" in phase.freeze for phase in phases)
    faults = {
        "ema and swa_epochs both say which mean of the weights is kept; give one of them": whole.ema
        and whole.swa_epochs,
        "swa_epochs counts from the last epoch, patience leaves it open; give one of them": whole.patience
        and whole.swa_epochs,
        "patience waits for scored epochs; give score_every = 1, or patience = 0": whole.patience
        and not whole.score_every,
        'smote makes up features; give feature_views = 0 and freeze = ["backbone"] with it': whole.smote and not views,
        'feature_views: expected a frozen backbone; give freeze = ["backbone"] in every phase': views and not is_frozen,
        "feature_views: mixing needs photos, and the head sees features; leave mix out": views and len(whole.mix) > 0,
    }
    for fault, is_there in faults.items():
        if is_there:
            raise UsageError(f"{name}: {fault}")
