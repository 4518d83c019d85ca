"""One phase at work: its optimiser, the rate of each step, its frozen layers, and gradients summed over batches."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ensemble_kit.training.optimizers import freeze_layers, make_optimizer, set_rates
from ensemble_kit.training.phases import Span
from ensemble_kit.training.schedules import Moment, find_schedule


@dataclass(frozen=True)
class Portion:
    """One batch's part in a step.

    Attributes:
        step: from 0, counted within the epoch.
        share: of the step's photos that this batch holds; 1 when the step is this batch alone.
        opens, closes: whether it is the first and the last batch of its step.
    """

    step: int
    share: float
    opens: bool
    closes: bool


def portions(sizes: Sequence[int], accumulate: int) -> list[Portion]:
    """Which step each batch of an epoch belongs to; the last step may have fewer batches, and smaller ones.

    The mean loss of a batch times its share, summed over a step, is the mean loss over all of the step's photos.

    Examples:
        >>> [(p.step, p.share) for p in portions([4, 4, 4, 4, 2], 2)]
        [(0, 0.5), (0, 0.5), (1, 0.5), (1, 0.5), (2, 1.0)]
    """
    parts = []
    for start in range(0, len(sizes), accumulate):
        group = sizes[start : start + accumulate]
        for i, size in enumerate(group):
            parts.append(Portion(start // accumulate, size / sum(group), i == 0, i == len(group) - 1))
    return parts


class Stage:
    """A phase on a network, with a fresh optimiser.

    Args:
        sizes: the sizes of the batches of each of the phase's epochs.
        trainable: names of the parameters that may train at all.
    """

    def __init__(self, network: nn.Module, span: Span, sizes: Sequence[Sequence[int]], trainable: Collection[str]):
        self.network, self.span, self.phase = network, span, span.phase
        self.portions = [portions(epoch, self.phase.accumulate) for epoch in sizes]
        self.steps = [parts[-1].step + 1 for parts in self.portions]
        self.n_steps = sum(self.steps)
        self.schedule = find_schedule(self.phase.schedule)
        self.frozen = freeze_layers(network, self.phase.freeze, trainable)
        self.optimizer = make_optimizer(network, self.phase)
        self.at_first: list[Tensor] | None = None

    def before(self, epoch: int) -> int:
        """Steps of the phase before `epoch` (counted from 1 over the training)."""
        return sum(self.steps[: epoch - self.span.first])

    def portions_of(self, epoch: int) -> list[Portion]:
        return self.portions[epoch - self.span.first]

    def train_mode(self) -> None:
        """Train mode for what trains, eval mode for what is frozen."""
        self.network.train()
        for module in self.frozen:
            module.eval()

    def open_step(self, epoch: int, step: int, scores: tuple[float, ...]) -> None:
        """Sets the rates of a step (from 0, within the epoch) and forgets the gradient of the one before."""
        phase = self.phase
        moment = Moment(
            step=self.before(epoch) + step,
            n_steps=self.n_steps,
            n_warmup=phase.warmup_epochs * self.steps[0],
            epoch=epoch - self.span.first,
            step_epochs=phase.step_epochs,
            scores=scores,
        )
        set_rates(self.optimizer, self.schedule(moment))
        self.forget()

    def rates(self) -> dict[str, float]:
        """The rates of the last step, by part of the network."""
        return {group["part"]: float(group["lr"]) for group in self.optimizer.param_groups}

    def backward(self, loss: Tensor, share: float) -> None:
        """Adds a batch's gradient to the step's."""
        torch.autograd.backward(loss if share == 1 else loss * share)

    def forget(self) -> None:
        """Drops the gradient that a step has so far."""
        self.optimizer.zero_grad(set_to_none=True)

    def close_step(self) -> None:
        """Clips the summed gradient and moves the weights.

        The first step takes the memory for what the optimiser remembers: until it is done, `take_back` undoes it.
        """
        if not self.optimizer.state:
            self.at_first = [p.detach().to("cpu", copy=True) for p in self._params()]
        if self.phase.clip:
            nn.utils.clip_grad_norm_(self._params(), self.phase.clip)
        self.optimizer.step()
        self.at_first = None

    def take_back(self) -> bool:
        """Puts back the weights from before a first step that was broken off; False after any other."""
        if self.at_first is None:
            return False
        with torch.no_grad():
            for p, before in zip(self._params(), self.at_first, strict=True):
                p.copy_(before)
        self.optimizer.state.clear()
        return True

    def release(self) -> None:
        """Nothing is trained any more: the memory of gradients and optimiser is free for others."""
        self.forget()
        self.optimizer.state.clear()

    def _params(self) -> list[Tensor]:
        return [p for group in self.optimizer.param_groups for p in group["params"]]
