"""Means of weights, and the batch-norm statistics that belong to them."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ensemble_kit.arrays import ByteArray, IntArray
from ensemble_kit.data.decode import Preprocess
from ensemble_kit.models.compute import Compute

AnyModule = TypeVar("AnyModule", bound=nn.Module)
Share = Callable[[int], float]
"""How many weights the mean holds already -> the share of the next ones in it."""


def ema_share(decay: float) -> Share:
    """Exponential moving average: `1 - decay`, and more in the first steps, so that the first weights are forgotten.

    The decay of update n (from 0) is `min(decay, (1 + n) / (10 + n))`, the rule of TensorFlow's moving averages.

    Examples:
        >>> [round(ema_share(0.9)(n), 3) for n in (0, 10, 80, 1000)]
        [0.9, 0.45, 0.1, 0.1]
    """
    return lambda n: 1 - min(decay, (1 + n) / (10 + n))


def even_share(n: int) -> float:
    """The plain mean: `1 / (n + 1)`."""
    return 1 / (n + 1)


class Average:
    """The running mean of a network's weights.

    Args:
        network: its weights are the mean as long as none has been added.
        share: see `Share`.
    """

    def __init__(self, network: nn.Module, share: Share):
        self.share, self.n = share, 0
        self.weights = {name: p.detach().clone() for name, p in network.named_parameters()}

    @torch.no_grad()
    def add(self, network: nn.Module) -> None:
        """Takes the network's present weights into the mean."""
        share = self.share(self.n)
        self.n += 1
        weights = dict(network.named_parameters())
        torch._foreach_lerp_([self.weights[name] for name in weights], list(weights.values()), share)

    @torch.no_grad()
    def answering(self, network: AnyModule, frozen: Iterable[nn.Module], inputs: Iterable[Tensor]) -> AnyModule:
        """A copy of the network with the mean weights, its batch norms refreshed, in eval mode.

        Args:
            frozen: layers of `network` whose batch norms keep their statistics.
            inputs: see `refresh_batch_norm`.
        """
        averaged = copy.deepcopy(network)
        for name, parameter in averaged.named_parameters():
            parameter.copy_(self.weights[name])
        still = {id(module) for layer in frozen for module in layer.modules()}
        moving = [name for name, norm in norms_of(network).items() if id(norm) not in still]
        refresh_batch_norm(averaged, [norms_of(averaged)[name] for name in moving], inputs)
        return averaged

    def state(self) -> dict[str, Any]:
        return {"n": self.n, "weights": self.weights}

    @torch.no_grad()
    def load(self, state: Mapping[str, Any]) -> None:
        self.n = int(state["n"])
        for name, weight in self.weights.items():
            weight.copy_(state["weights"][name])


def norms_of(network: nn.Module) -> dict[str, _BatchNorm]:
    """The batch norms that keep running statistics, by name."""
    found = {name: module for name, module in network.named_modules() if isinstance(module, _BatchNorm)}
    return {name: norm for name, norm in found.items() if norm.running_mean is not None}


@torch.no_grad()
def mean_network(networks: Sequence[AnyModule]) -> AnyModule:
    """A new network whose weights and buffers are the means of several alike; whole numbers are the first one's."""
    averaged = copy.deepcopy(networks[0])
    states = [network.state_dict() for network in networks]
    for name, tensor in averaged.state_dict().items():
        if tensor.is_floating_point():
            total = sum((state[name].double() for state in states[1:]), start=states[0][name].double())
            tensor.copy_(total / len(states))
    return averaged


def moving_norms(network: nn.Module, members: Sequence[nn.Module]) -> list[_BatchNorm]:
    """The batch norms of `network` whose statistics differ among the members: the others were frozen throughout."""
    each = [norms_of(member) for member in members]
    return [
        norm
        for name, norm in norms_of(network).items()
        if not all(_same(norms[name].running_mean, each[0][name].running_mean) for norms in each)
        or not all(_same(norms[name].running_var, each[0][name].running_var) for norms in each)
    ]


def _same(a: Tensor | None, b: Tensor | None) -> bool:
    return a is not None and b is not None and torch.equal(a, b)


@torch.no_grad()
def refresh_batch_norm(network: nn.Module, norms: Iterable[_BatchNorm], inputs: Iterable[Tensor]) -> None:
    """Computes the statistics of some batch norms anew, as the plain mean over batches.

    Everything else is in eval mode meanwhile, and the whole network afterwards.
    Averaged weights give other activations than the weights that were averaged, so old statistics do not fit them
    (Izmailov et al. 2018, section 3.2).

    Args:
        inputs: batches `(n, 3, height, width)` on the network's device, of about the same size, each of two or more.
    """
    network.eval()
    chosen = list(norms)
    if not chosen:
        return
    momenta = [norm.momentum for norm in chosen]
    for norm in chosen:
        norm.reset_running_stats()
        norm.momentum = None  # the cumulative mean
        norm.train()
    try:
        for batch in inputs:
            network(batch)
    finally:
        for norm, momentum in zip(chosen, momenta, strict=True):
            norm.momentum = momentum
        network.eval()


def plain_batches(
    photos: ByteArray, rows: IntArray, preprocess: Preprocess, compute: Compute, batch_size: int, seed: int
) -> Iterable[Tensor]:
    """Photos as validation sees them (not augmented), in batches of about the same size and in a random order.

    A random order, since a batch of one person's photos has too small a variance.
    """
    order = np.random.Generator(np.random.PCG64([seed, 2])).permutation(rows)
    for part in np.array_split(order, max(1, len(order) // max(2, batch_size))):
        yield compute.inputs(torch.from_numpy(np.asarray(photos[part])), preprocess)


def average_for(ema: float, swa_epochs: int, network: nn.Module) -> Average | None:
    """The mean of weights that the settings ask for: over steps (EMA), or over the last epochs (SWA)."""
    if ema:
        return Average(network, ema_share(ema))
    return Average(network, even_share) if swa_epochs else None
