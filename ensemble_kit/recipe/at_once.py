"""How many trainings run at a time: as asked, or as many as cores and memory allow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ensemble_kit.loading.room import size_text
from ensemble_kit.recipe.settings import TrainSettings
from ensemble_kit.threads import available_cores

if TYPE_CHECKING:
    from ensemble_kit.training import ExpertJob

PROCESS_BYTES = 700_000_000
"""Of a process that trains, before it has a network: Python, torch and what it imports (measured: 0.6 GB)."""


@dataclass(frozen=True)
class AtOnce:
    """Trainings at a time.

    Attributes:
        why: in words, where nobody asked for just that many; else empty.
    """

    number: int
    why: str = ""


def at_once(settings_of: Sequence[TrainSettings], jobs: Sequence[ExpertJob], n_trainings: int) -> AtOnce:
    """On a CPU as asked, with `jobs = 0` what cores and memory allow; one on an accelerator, whose memory they share.

    Args:
        settings_of: of each expert.
        jobs: one of each expert, by which the memory of a training is estimated; only looked at for `jobs = 0`.
    """
    from ensemble_kit.models.compute import choose_compute
    from ensemble_kit.training.plan import training_bytes

    asked = min((settings.jobs for settings in settings_of), default=1)
    most = max((settings.jobs for settings in settings_of), default=1)
    if any(choose_compute(settings.device).device.type != "cpu" for settings in settings_of):
        told = "0" if not asked else f"{most}" if most == asked > 1 else ""
        why = f"jobs = {told}: one training at a time on an accelerator, whose memory they would share"
        return AtOnce(1, why if told else "")
    if asked:
        return AtOnce(asked)
    cores = available_cores()
    by_cores = cores // max(settings.threads or 1 for settings in settings_of)
    each = PROCESS_BYTES + max((training_bytes(job) for job in jobs), default=0)
    free = free_memory()
    by_memory = by_cores if free is None else int(free // each)
    number = max(1, min(by_cores, by_memory, n_trainings))
    memory = "" if free is None else f", {size_text(free)} of free memory, about {size_text(each)} a training"
    why = f"jobs = 0: {number} training{'s' * (number > 1)} at a time ({cores} cores{memory})"
    return AtOnce(number, why)


def free_memory() -> float | None:
    """Bytes that processes may still take, by what Linux says of itself; None where it does not say."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        free = next(1024.0 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration, ValueError, IndexError):
        return None
    try:  # a container's own limit
        folder = Path("/sys/fs/cgroup")
        limit, used = (float((folder / name).read_text()) for name in ("memory.max", "memory.current"))
    except (OSError, ValueError):  # none, or "max"
        return free
    return max(0.0, min(free, limit - used))
