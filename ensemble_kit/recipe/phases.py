"""From settings to the phases of a training."""

from __future__ import annotations

from math import ceil
from typing import TYPE_CHECKING

from ensemble_kit.recipe.settings import PHASE_KEYS, TrainSettings

if TYPE_CHECKING:
    from ensemble_kit.training import Phase


def phases_of(settings: TrainSettings, n_photos: int) -> tuple[Phase, ...]:
    """The resolved phases of a training on `n_photos`.

    Raises:
        UsageError: an unknown optimiser or schedule.
    """
    from ensemble_kit.training import Phase

    plain = [phase.model_dump(include=set(PHASE_KEYS)) for phase in settings.resolved_phases()]
    lengths = epochs_of(settings, n_photos)
    return tuple(Phase(**{**keys, "epochs": n}) for keys, n in zip(plain, lengths, strict=True))


def epochs_of(settings: TrainSettings, n_photos: int) -> list[int]:
    """The epochs of each phase: `epochs`, or in proportion as many more as `min_steps` needs.

    An expert of a rare state sees few photos in each epoch.
    """
    phases = settings.resolved_phases()
    n_photos = max(1, round(n_photos * settings.people_share))
    steps = [ceil(ceil(n_photos / phase.batch_size) / phase.accumulate) for phase in phases]
    total = sum(phase.epochs * n for phase, n in zip(phases, steps, strict=True))
    return [max(phase.epochs, -(-phase.epochs * settings.min_steps // total)) for phase in phases]
