"""An epoch that is under way: what a training needs to go on in its middle, bit for bit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass
class Underway:
    """How far an epoch is. Photos, augmentation and mixing follow from (seed, epoch, batch) and need no state.

    Attributes:
        epoch: from 1.
        loss_sum: of the photos so far, on the training's device.
        batches, photos: that have trained in it; always whole steps.
        seconds: they took, over all the calls that the epoch was worked on in.
        rng, cuda_rng: of an epoch that was broken off, the generators that dropout draws from.
    """

    epoch: int
    loss_sum: Tensor
    batches: int = 0
    photos: int = 0
    seconds: float = 0.0
    rng: Tensor | None = None
    cuda_rng: Tensor | None = None

    def state(self) -> dict[str, Any]:
        """For the file, with the generators as they are now."""
        device = self.loss_sum.device
        cuda = torch.cuda.get_rng_state(device) if device.type == "cuda" else None
        return {**vars(self), "rng": torch.get_rng_state(), "cuda_rng": cuda}

    @classmethod
    def load(cls, state: Mapping[str, Any], device: torch.device) -> Underway:
        return cls(**{**state, "loss_sum": state["loss_sum"].to(device)})

    def go_on(self) -> None:
        """Puts the generators back to where they were."""
        device = self.loss_sum.device
        if self.rng is not None:
            torch.set_rng_state(self.rng)
        if device.type == "cuda" and self.cuda_rng is not None:
            torch.cuda.set_rng_state(self.cuda_rng, device)
