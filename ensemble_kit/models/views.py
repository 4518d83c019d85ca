"""Test-time augmentation: other, fixed views of a photo, whose probabilities are averaged with the plain one's."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from ensemble_kit.errors import UsageError, nearest

View = Callable[[Tensor], Tensor]
"""Photos `(n, height, width, 3)` uint8 -> the same shape, without any draw."""


def flip(photos: Tensor) -> Tensor:
    """Left and right exchanged."""
    return torch.flip(photos, dims=(2,))


def zoom(photos: Tensor) -> Tensor:
    """The middle 0.9 of height and width, at the full size."""
    height, width = photos.shape[1:3]
    top, left = round(height * 0.05), round(width * 0.05)
    kept = photos[:, top : height - top, left : width - left].permute(0, 3, 1, 2).float()
    return _bytes(F.interpolate(kept, (height, width), mode="bilinear", align_corners=False))


def bright(photos: Tensor) -> Tensor:
    """Every pixel 1.15 times as bright."""
    return (photos.float() * 1.15).round().clamp(0, 255).to(torch.uint8)


def dark(photos: Tensor) -> Tensor:
    """Every pixel 0.85 times as bright."""
    return (photos.float() * 0.85).round().to(torch.uint8)


def _bytes(x: Tensor) -> Tensor:
    return x.round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1)


VIEWS: dict[str, View] = {"flip": flip, "zoom": zoom, "bright": bright, "dark": dark}


def find_views(names: Sequence[str]) -> list[View]:
    """The views of some names.

    Raises:
        UsageError: an unknown name, or one named twice.
    """
    for name in names:
        if name not in VIEWS:
            raise UsageError(f'tta: no view "{name}"{nearest(name, VIEWS)}')
        if list(names).count(name) > 1:
            raise UsageError(f'tta: the view "{name}" is named twice')
    return [VIEWS[name] for name in names]
