"""The share of the peak rate at each step of a phase, by name. A pure function of where the training stands."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from ensemble_kit.errors import UsageError
from ensemble_kit.named import Numbered, find_named


@dataclass(frozen=True)
class Moment:
    """Where a phase stands: all that a schedule may look at, so that a training taken up again has the same rates.

    Attributes:
        step: from 0, counted within the phase; a step is one update of the weights.
        n_steps: of the whole phase.
        n_warmup: steps of the linear rise, not always a whole number.
        epoch: from 0, counted within the phase.
        step_epochs: see `Phase`.
        scores: macro F1 of the phase's scored epochs so far, in order.
    """

    step: int
    n_steps: int
    n_warmup: float
    epoch: int = 0
    step_epochs: int = 1
    scores: tuple[float, ...] = ()


Schedule = Callable[[Moment], float]
"""Where the phase stands -> the factor by which each group's peak rate is multiplied."""


def cosine(moment: Moment) -> float:
    """A linear rise over the warm-up, then half a cosine to 0 (Loshchilov and Hutter 2017, without restarts).

    Examples:
        >>> [round(cosine(Moment(step, 6, 2)), 2) for step in range(6)]
        [0.5, 1.0, 1.0, 0.85, 0.5, 0.15]
    """
    step, n_steps = moment.step, moment.n_steps
    n_warmup = min(moment.n_warmup, n_steps - 1)
    if step < n_warmup:
        return min(1.0, (step + 1) / n_warmup)
    return 0.5 * (1 + math.cos(math.pi * (step - n_warmup) / (n_steps - n_warmup)))


def constant(moment: Moment) -> float:
    """The warm-up, then 1."""
    return min(1.0, (moment.step + 1) / moment.n_warmup) if moment.n_warmup > 0 else 1.0


def step_by(factor: float) -> Schedule:
    """The rate times `factor` after every `step_epochs` epochs, after the warm-up.

    Examples:
        >>> halved = step_by(0.5)
        >>> [halved(Moment(epoch, 6, 0, epoch=epoch, step_epochs=2)) for epoch in range(6)]
        [1.0, 1.0, 0.5, 0.5, 0.25, 0.25]
    """
    _share("step", factor)
    return lambda moment: constant(moment) * factor ** (moment.epoch // moment.step_epochs)


def plateau_by(factor: float) -> Schedule:
    """The rate times `factor` each time that `step_epochs` scored epochs in a row bring no better macro F1.

    Examples:
        >>> tenth = plateau_by(0.1)
        >>> [round(tenth(Moment(9, 90, 0, step_epochs=2, scores=s)), 3) for s in [(0.5, 0.5), (0.5, 0.5, 0.4)]]
        [1.0, 0.1]
    """
    _share("plateau", factor)

    def schedule(moment: Moment) -> float:
        best, waited, falls = -math.inf, 0, 0
        for score in moment.scores:
            waited = 0 if score > best else waited + 1
            best = max(best, score)
            if waited == moment.step_epochs:
                waited, falls = 0, falls + 1
        return constant(moment) * factor**falls

    return schedule


def one_cycle_rising(share: float) -> Schedule:
    """From a 25th of the peak up to it over `share` of the steps and down to 1e-4 of the start, both half cosines.

    The form of `torch.optim.lr_scheduler.OneCycleLR` (Smith and Topin 2019) for the rate; the momentum stays. It
    rises by itself: `warmup_epochs` is not used.
    """
    _share("one_cycle", share)

    def schedule(moment: Moment) -> float:
        first, last = 1 / 25, 1 / 25 * 1e-4
        top = share * moment.n_steps - 1
        if moment.step <= top:
            return _between(first, 1.0, moment.step / top if top > 0 else 1.0)
        return _between(1.0, last, (moment.step - top) / max(moment.n_steps - 1 - top, 1e-12))

    return schedule


def _between(start: float, end: float, done: float) -> float:
    return end + (start - end) / 2 * (1 + math.cos(math.pi * done))


def _share(name: str, value: float) -> None:
    if not 0 < value < 1:
        raise UsageError(f'schedule "{name}": expected a number between 0 and 1, found {value:g}; write "{name}=0.1"')


SCHEDULES: Mapping[str, Schedule | Numbered] = {
    "cosine": cosine,
    "constant": constant,
    "step": Numbered(step_by, 0.1),
    "plateau": Numbered(plateau_by, 0.1),
    "one_cycle": Numbered(one_cycle_rising, 0.3),
}
"""A further schedule is one function and one row here; a function is accepted wherever a name is."""


def find_schedule(schedule: str | Schedule) -> Schedule:
    """The schedule of a name ("cosine", "step=0.5"), or the function itself; UsageError for an unknown one."""
    if callable(schedule):
        return schedule
    found: Schedule = find_named("schedule", schedule, SCHEDULES)
    return found
