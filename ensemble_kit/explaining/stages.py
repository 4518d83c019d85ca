"""The stages of a backbone whose feature maps can be looked at, found by running it once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ensemble_kit.errors import UsageError
from ensemble_kit.models.families import Size
from ensemble_kit.models.heads import Network

RESNET = ("layer1", "layer2", "layer3", "layer4")

POOLS = (nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d)
"""What they give are no features of their own."""

SLIDING = (nn.Conv2d, nn.MaxPool2d, nn.AvgPool2d)
"""Layers whose kernel, stride and padding say where their cells lie."""


@dataclass(frozen=True)
class Grid:
    """Where the cells of a feature map lie, down and across: cell i is centred on pixel `first + step * i`.

    A padded layer of stride 2 centres its first cell on the photo's edge, not half a cell within: a ResNet's layer2,
    spread evenly over a photo, would lie 3.5 pixels too low and too far right.

    Attributes:
        first: the centre of the first cell, in pixels from the first pixel's centre.
        step: pixels from one cell to the next.
    """

    first: tuple[float, float]
    step: tuple[float, float]

    @classmethod
    def even(cls, seen: Size, cells: Size) -> Grid:
        """Cells spread evenly over a photo.

        Examples:
            >>> Grid.even((64, 48), (16, 12))
            Grid(first=(1.5, 1.5), step=(4.0, 4.0))
        """
        down, across = (side / count for side, count in zip(seen, cells, strict=True))
        return cls(((down - 1) / 2, (across - 1) / 2), (down, across))

    def then(self, kernel: Size, stride: Size, padding: Size) -> Grid:
        """The cells of a layer that slides over these: each is centred where its kernel is.

        Examples:
            >>> Grid((0.0, 0.0), (1.0, 1.0)).then((7, 7), (2, 2), (3, 3)).then((3, 3), (2, 2), (1, 1))
            Grid(first=(0.0, 0.0), step=(4.0, 4.0))
        """
        moved = [
            first + step * ((k - 1) / 2 - pad)
            for first, step, k, pad in zip(self.first, self.step, kernel, padding, strict=True)
        ]
        wider = [step * by for step, by in zip(self.step, stride, strict=True)]
        return Grid((moved[0], moved[1]), (wider[0], wider[1]))


@dataclass(frozen=True)
class Stage:
    """One place of a network that gives a feature map.

    Attributes:
        name: of the module within the backbone, as in "layer3".
        module: whose output is the map `(n, channels, *size)`.
        size: (height, width) of the map, in cells.
        grid: where the cells lie on what the network sees; see `Grid`.
    """

    name: str
    module: nn.Module
    size: Size
    grid: Grid


def find_stages(network: Network, size: Size, most: int = 4) -> list[Stage]:
    """The last stages of a network's backbone, one a resolution, the finest map first.

    Of a ResNet layer1 to layer4; of other convolutional networks the last module of each resolution that is no pooling;
    of vision transformers as many blocks, spread evenly, the last one included (their tokens as a map: the network is
    changed in place so that they pass as one, and answers as before).

    Args:
        network: in eval mode.
        size: (height, width) of what it sees.

    Raises:
        UsageError: a backbone without feature maps.
    """
    if hasattr(network.backbone, "blocks") and hasattr(network.backbone, "patch_embed"):
        show_tokens(network.backbone, most)
    found = _maps_of(network, size)
    if all(name in found for name in RESNET):
        return [found[name] for name in RESNET][-most:]
    tokens = [stage for stage in found.values() if isinstance(stage.module, TokenMap)]
    if tokens:
        return tokens
    by_size = {stage.size: stage for stage in found.values()}  # the last of each resolution stays
    stages = [stage for stage in by_size.values() if stage.size != (1, 1)]
    if not stages:
        raise UsageError("this backbone gives no feature map (n, channels, height, width) that Grad-CAM could read")
    return sorted(stages, key=lambda stage: -stage.size[0] * stage.size[1])[-most:]


@torch.no_grad()
def _maps_of(network: Network, size: Size) -> dict[str, Stage]:
    """Every module within the backbone that gives a map, by name, in the order in which they are done."""
    found: dict[str, Stage] = {}
    pooled: list[Tensor] = []  # held, so that no other tensor takes their place
    grids = {size: Grid.even(size, size)}

    def note(name: str, module: nn.Module, inputs: Any, output: Any) -> None:
        if not isinstance(output, Tensor) or output.ndim != 4:
            return
        cells = _size(output)
        if isinstance(module, SLIDING) and cells not in grids and (before := grids.get(_size(inputs[0]))):
            grids[cells] = _after(module, before, _size(inputs[0]), cells)
        if isinstance(module, POOLS) or any(output is tensor for tensor in pooled):
            pooled.append(output)
            return
        found.pop(name, None)
        found[name] = Stage(name, module, cells, grids.get(cells) or Grid.even(size, cells))

    backbone = network.backbone
    hooks = [
        module.register_forward_hook(lambda one, inputs, output, name=name: note(name, one, inputs, output))
        for name, module in backbone.named_modules()
        if name
    ]
    try:
        parameter = next(network.parameters())
        backbone(torch.zeros(1, 3, *size, device=parameter.device))
    finally:
        for hook in hooks:
            hook.remove()
    if getattr(backbone, "output_fmt", "NCHW") == "NHWC":
        raise UsageError("this backbone keeps its channels last, which Grad-CAM here does not read")
    slid = {name: stage for name, stage in found.items() if stage.size in grids}
    return slid or found  # other sizes are of maps with their channels elsewhere, unless there is no sliding layer


def _size(maps: Tensor) -> Size:
    return int(maps.shape[2]), int(maps.shape[3])


def _after(layer: nn.Module, before: Grid, size: Size, cells: Size) -> Grid:
    """The grid after a layer that made `cells` of `size`: all ways to one resolution lead to the same grid."""
    kernel, stride, padding = (_both(getattr(layer, name)) for name in ("kernel_size", "stride", "padding"))
    if padding == (0, 0):  # also of layers that pad as they need, before they look
        lacking = [(n - 1) * by + k - side for n, by, k, side in zip(cells, stride, kernel, size, strict=True)]
        padding = max(lacking[0], 0) // 2, max(lacking[1], 0) // 2
    return before.then(kernel, stride, padding)


def _both(value: Any) -> Size:
    return (int(value[0]), int(value[1])) if isinstance(value, tuple) else (int(value), int(value))


class TokenMap(nn.Identity):
    """Where the tokens of a vision transformer pass as a map `(n, channels, height, width)`."""


class ShownTokens(nn.Module):
    """A norm of a transformer's block, its tokens led through a `TokenMap` on the way out.

    Args:
        grid: (height, width) of the patches.
        n_prefix: tokens before them (class token, registers).
    """

    def __init__(self, norm: nn.Module, grid: Size, n_prefix: int):
        super().__init__()
        self.norm, self.grid, self.n_prefix = norm, grid, n_prefix
        self.map = TokenMap()

    def forward(self, tokens: Tensor) -> Tensor:
        normed: Tensor = self.norm(tokens)
        first, patches = normed[:, : self.n_prefix], normed[:, self.n_prefix :]
        shown = self.map(patches.transpose(1, 2).reshape(len(tokens), -1, *self.grid))
        return torch.cat([first, shown.flatten(2).transpose(1, 2)], dim=1)


def show_tokens(backbone: Any, most: int) -> None:
    """Puts a `ShownTokens` around the first norm of some blocks, once."""
    blocks, grid = backbone.blocks, tuple(backbone.patch_embed.grid_size)
    n_prefix = int(getattr(backbone, "num_prefix_tokens", 1))
    for number in sorted({round((part + 1) * len(blocks) / most) - 1 for part in range(most)}):
        if number >= 0 and not isinstance(blocks[number].norm1, ShownTokens):
            blocks[number].norm1 = ShownTokens(blocks[number].norm1, grid, n_prefix)


@contextmanager
def not_in_place(network: nn.Module) -> Iterator[None]:
    """Layers that would overwrite a map before it is looked at give a new one."""
    changed = [module for module in network.modules() if getattr(module, "inplace", False)]
    for module in changed:
        module.inplace = False  # type: ignore[assignment]
    try:
        yield
    finally:
        for module in changed:
            module.inplace = True  # type: ignore[assignment]
