"""Optimisers by name, the parameter groups they get, and which layers are frozen."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from ensemble_kit.errors import UsageError, nearest
from ensemble_kit.named import Numbered, find_named

if TYPE_CHECKING:
    from ensemble_kit.training.phases import Phase

Groups = list[dict[str, Any]]
"""Parameter groups, each with `params`, `lr`, `weight_decay` (and `peak_lr`, which schedules read)."""

OptimizerBuilder = Callable[[Groups], torch.optim.Optimizer]


def adamw(groups: Groups) -> torch.optim.Optimizer:
    """AdamW: decay apart from the gradient (Loshchilov and Hutter 2019)."""
    # fused: 1.2x on the whole step of ResNet18 at 64 px on a CPU (measured); the same call serves CUDA
    return torch.optim.AdamW(groups, fused=True)


def adam(groups: Groups) -> torch.optim.Optimizer:
    """Adam with coupled L2: the decay is added to the gradient and so is scaled by it."""
    return torch.optim.Adam(groups, fused=True)


def sgd_with(momentum: float) -> OptimizerBuilder:
    """SGD with coupled L2; momentum 0 is plain SGD."""
    _check_momentum("sgd", momentum)
    return lambda groups: torch.optim.SGD(groups, momentum=momentum, fused=True)


def nesterov_with(momentum: float) -> OptimizerBuilder:
    """SGD with Nesterov's momentum and coupled L2."""
    _check_momentum("nesterov", momentum)
    if momentum == 0:
        raise UsageError('optimizer "nesterov": expected a momentum above 0, found 0; write "sgd=0" for none')
    return lambda groups: torch.optim.SGD(groups, momentum=momentum, nesterov=True, fused=True)


def _check_momentum(name: str, momentum: float) -> None:
    if not 0 <= momentum < 1:
        raise UsageError(f'optimizer "{name}": expected a momentum from 0, below 1, found {momentum:g}')


OPTIMIZERS: Mapping[str, OptimizerBuilder | Numbered] = {
    "adamw": adamw,
    "adam": adam,
    "sgd": Numbered(sgd_with, 0.9),
    "nesterov": Numbered(nesterov_with, 0.9),
}
"""A further optimiser is one function and one row here; names that are not here are looked up in timm."""


def find_optimizer(optimizer: str | OptimizerBuilder) -> OptimizerBuilder:
    """The optimiser of a name ("adamw", "sgd=0.95", "adamp", "timm:lamb"), or the function itself.

    Raises:
        UsageError: a name that neither the table nor timm knows, or one of timm's without timm.
    """
    if callable(optimizer):
        return optimizer
    word = optimizer.partition("=")[0].strip().replace("-", "_")
    if word in OPTIMIZERS:
        found: OptimizerBuilder = find_named("optimizer", optimizer, OPTIMIZERS)
        return found
    return _timm_optimizer(optimizer.removeprefix("timm:"))


def _timm_optimizer(name: str) -> OptimizerBuilder:
    try:
        library: Any = importlib.import_module("timm.optim")
    except ImportError:
        raise UsageError(
            f'no optimizer "{name}"{nearest(name, OPTIMIZERS)}; more come with timm: pip install "ensemble_kit[timm]"'
        ) from None
    known: list[str] = library.list_optimizers()
    if name not in known:
        close = difflib.get_close_matches(name, [*OPTIMIZERS, *known], n=1)
        meant = f'; did you mean "{close[0]}"?' if close else ""
        raise UsageError(f'no optimizer "{name}"{meant} (known: {", ".join(OPTIMIZERS)}, and {len(known)} of timm)')

    def build(groups: Groups) -> torch.optim.Optimizer:
        made: torch.optim.Optimizer = library.create_optimizer_v2(
            groups, opt=name, lr=max(group["lr"] for group in groups)
        )
        return made

    return build


def make_optimizer(network: nn.Module, phase: Phase) -> torch.optim.Optimizer:
    """The phase's optimiser: one rate for the backbone and one for the head, no decay on biases and norms.

    Frozen parameters are in no group. Each group keeps its peak rate under `peak_lr` and what it is of under `part`.
    """
    groups = []
    backbone = list(network.backbone.parameters())  # type: ignore[union-attr]
    inside = {id(p) for p in backbone}
    rest = [p for p in network.parameters() if id(p) not in inside]
    for name, part, rate in (("backbone", backbone, phase.backbone_lr), ("head", rest, phase.head_lr)):
        for decays, weight_decay in ((True, phase.weight_decay), (False, 0.0)):
            params = [p for p in part if p.requires_grad and _decays(p) == decays]
            if params:
                own = {"params": params, "lr": rate, "peak_lr": rate, "weight_decay": weight_decay, "part": name}
                groups.append(own)
    return find_optimizer(phase.optimizer)(groups)


def _decays(parameter: nn.Parameter) -> bool:
    """Weights of layers have two axes or more; biases and the scales of norms have one."""
    return parameter.ndim > 1


def set_rates(optimizer: torch.optim.Optimizer, factor: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = group["peak_lr"] * factor


def frozen_names(network: nn.Module, freeze: Sequence[str]) -> set[str]:
    """The full names of the layers and parameters that `freeze` means; `backbone.` may be left out.

    Raises:
        UsageError: a name that is no layer and no parameter, with the nearest known one.
    """
    known = {name for name, _ in network.named_modules() if name} | {name for name, _ in network.named_parameters()}
    found = set()
    for name in freeze:
        full = next((full for full in (name, f"backbone.{name}") if full in known), None)
        if full is None:
            raise UsageError(f'freeze: no layer "{name}"{nearest(name, _layers_near(name, known))}')
        found.add(full)
    return found


def _layers_near(name: str, known: Collection[str]) -> list[str]:
    """What could be meant: the layers inside the deepest one that `name` gets right."""
    head = name.removeprefix("backbone.")
    while head:
        head = head.rpartition(".")[0]
        full = next((full for full in (f"backbone.{head}", head) if full in known), None)
        if full is not None:
            inside = [layer for layer in sorted(known) if layer.startswith(f"{full}.")]
            return [x.removeprefix("backbone.") for x in inside if x.count(".") == full.count(".") + 1]
    first = {layer.split(".")[1] for layer in known if layer.startswith("backbone.")}
    return ["backbone", "head", *sorted(first)]


def freeze_layers(network: nn.Module, freeze: Sequence[str], trainable: Collection[str]) -> list[nn.Module]:
    """Lets exactly the parameters that are not frozen have a gradient; returns the frozen layers.

    Frozen layers are to be kept in eval mode while the rest trains: their batch norms keep their statistics.

    Args:
        freeze: names of layers or parameters; a layer stands for all inside it.
        trainable: the full names of the parameters that may train at all.

    Raises:
        UsageError: an unknown name, or nothing is left to train.
    """
    names = frozen_names(network, freeze)
    left = 0
    for name, parameter in network.named_parameters():
        parts = name.split(".")
        is_frozen = any(".".join(parts[:n]) in names for n in range(1, len(parts) + 1))
        parameter.requires_grad_(name in trainable and not is_frozen)
        left += parameter.requires_grad
    if not left:
        raise UsageError(f"freeze: {', '.join(freeze)} leaves nothing to train; name fewer layers")
    return [module for name, module in network.named_modules() if name in names]
