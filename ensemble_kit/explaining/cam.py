"""Grad-CAM (Selvaraju et al. 2017) of one network stage by stage, and one map of all stages that are fine enough.

Grad-CAM weighs each channel by its mean gradient, which says little where a channel does different things in different
places: in early stages. The one map therefore weighs place by place (LayerCAM, Jiang et al. 2021, section III: the same
at the last stage, fine in the early ones) and is the mean over the stages that are fine enough and over the photo moved
by half a cell and mirrored, so that the grid of cells does not show. Each cell lies where its receptive field has its
middle (`stages.Grid`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from ensemble_kit.arrays import ByteArray, FloatArray, IntArray
from ensemble_kit.data.decode import Preprocess, crop_place
from ensemble_kit.errors import UsageError
from ensemble_kit.explaining.stages import Grid, Stage, not_in_place
from ensemble_kit.models.compute import Compute
from ensemble_kit.models.families import Size

BATCH = 16
"""Photos at a time: their gradients are kept."""


LEAST_CELLS = 12
"""A map with fewer cells on its shorter side tells no part of a face from the one beside it."""

MOVES = [(0, 0, False), *((d, a, mirrored) for mirrored in (False, True) for d in (-1, 1) for a in (-1, 1))]
"""(down, across, mirrored) in half cells of the finest stage."""


def check_captum() -> Any:
    """The package's attribution methods.

    Raises:
        UsageError: the package is not there.
    """
    try:
        import captum.attr
    except ImportError:
        raise UsageError('captum is not installed; pip install "ensemble_kit[explain]"') from None
    return captum.attr


def fine_stages(stages: Sequence[Stage]) -> list[Stage]:
    """Those with enough cells to point at something; the finest where none has."""
    return [stage for stage in stages if min(stage.size) >= LEAST_CELLS] or list(stages[:1])


class LogOdds(nn.Module):
    """`(n, ...)` inputs -> `(n,)` the log-odds of a class against all others of its head.

    Its gradient has the direction of the gradient of the class's probability, the sum over all its columns, whatever
    the head's output; but it does not vanish where the network is sure.

    Args:
        network: inputs -> logits `(n, n_columns)`.
        columns: of the class, at least one.
        span: first column of the head and the one after the last.
    """

    def __init__(self, network: nn.Module, columns: IntArray, span: tuple[int, int]):
        super().__init__()
        self.network = network
        self.own = [int(column) for column in columns]
        self.others = [column for column in range(*span) if column not in set(self.own)]

    def forward(self, inputs: Tensor) -> Tensor:
        logits = self.network(inputs).float()
        own = torch.logsumexp(logits[:, self.own], dim=1)
        return own - torch.logsumexp(logits[:, self.others], dim=1) if self.others else own


def class_maps(
    network: nn.Module,
    stages: Sequence[Stage],
    photos: ByteArray,
    preprocess: Preprocess,
    columns: IntArray,
    span: tuple[int, int],
    compute: Compute,
) -> list[FloatArray]:
    """What speaks for a class, by Grad-CAM at each stage alone: `(n_photos, *stage.size)`, positive or 0, of any scale.

    Args:
        network: in eval mode, on the device.
        photos: `(n_photos, height, width, 3)` uint8, prepared.
        columns, span: see `LogOdds`.

    Raises:
        UsageError: captum is not installed.
    """
    cam = check_captum().LayerGradCam
    score = LogOdds(network, columns, span)
    found: list[list[FloatArray]] = [[] for _ in stages]
    with not_in_place(network), torch.enable_grad():
        for start in range(0, len(photos), BATCH):
            inputs = compute.inputs(torch.from_numpy(np.array(photos[start : start + BATCH])), preprocess)
            for place, stage in enumerate(stages):
                values = cam(score, stage.module).attribute(inputs, relu_attributions=True)
                found[place].append(values[:, 0].detach().float().cpu().numpy())
    return [np.concatenate(parts) for parts in found]


def whole_map(
    network: nn.Module,
    stages: Sequence[Stage],
    photos: ByteArray,
    preprocess: Preprocess,
    columns: IntArray,
    span: tuple[int, int],
    compute: Compute,
) -> FloatArray:
    """What speaks for a class, one map `(n_photos, *preprocess.seen)`, 0 to 1; zeros where nothing does.

    The mean over `fine_stages` and `MOVES` of maps that weigh place by place, each divided by its highest value.

    Args:
        network, photos, columns, span: as of `class_maps`.

    Raises:
        UsageError: captum is not installed.
    """
    fine, seen = fine_stages(stages), preprocess.seen
    by_place = check_captum().LayerGradientXActivation(LogOdds(network, columns, span), [s.module for s in fine])
    half = [max(1, round(step / 2)) for step in fine[0].grid.step]
    total = np.zeros((len(photos), *seen), dtype=np.float32)
    with not_in_place(network), torch.enable_grad():
        for start in range(0, len(photos), BATCH):
            inputs = compute.inputs(torch.from_numpy(np.array(photos[start : start + BATCH])), preprocess)
            for down, across, flipped in MOVES:
                moved = _moved(inputs, down * half[0], across * half[1], flipped)
                for stage, values in zip(fine, by_place.attribute(moved), strict=True):
                    maps = torch.relu(values).sum(1).detach().float().cpu().numpy()
                    for row, heat in enumerate(normalised(maps)):
                        back = _moved_back(placed(heat, stage.grid, seen), down * half[0], across * half[1], flipped)
                        total[start + row] += back
    return normalised(total)


def _moved(inputs: Tensor, down: int, across: int, flipped: bool) -> Tensor:
    """Photos `(n, c, h, w)` seen from a little further down and to the right, their edges repeated; then mirrored."""
    height, width = inputs.shape[2:]
    reach = max(abs(down), abs(across))
    wider = torch.nn.functional.pad(inputs, (reach, reach, reach, reach), mode="replicate") if reach else inputs
    moved = wider[:, :, reach + down : reach + down + height, reach + across : reach + across + width]
    return torch.flip(moved, dims=(3,)) if flipped else moved


def _moved_back(heat: FloatArray, down: int, across: int, flipped: bool) -> FloatArray:
    """A map `(h, w)` of a moved photo, on the photo as it was."""
    there = heat[:, ::-1] if flipped else heat
    rows = np.clip(np.arange(heat.shape[0]) - down, 0, heat.shape[0] - 1)
    columns = np.clip(np.arange(heat.shape[1]) - across, 0, heat.shape[1] - 1)
    return there[rows][:, columns]


def normalised(maps: FloatArray) -> FloatArray:
    """Each map `(n, h, w)` divided by its highest value; one of zeros stays.

    Examples:
        >>> normalised(np.array([[[1.0, 4.0]], [[0.0, 0.0]]])).tolist()
        [[[0.25, 1.0]], [[0.0, 0.0]]]
    """
    highest = maps.max(axis=(1, 2), keepdims=True)
    return np.asarray(np.divide(maps, highest, out=np.zeros_like(maps), where=highest > 0))


def placed(heat: FloatArray, grid: Grid, seen: Size) -> FloatArray:
    """A map of cells over what the network sees, `seen`: each cell where it lies, smooth in between.

    Examples:
        >>> placed(np.array([[0.0, 1.0]]), Grid((0.0, 0.0), (1.0, 2.0)), (1, 4)).tolist()
        [[0.0, 0.5, 1.0, 1.0]]
    """
    (down, across), (step_down, step_across) = grid.first, grid.step
    to_cells = np.array([[1 / step_across, 0, -across / step_across], [0, 1 / step_down, -down / step_down]])
    values = np.ascontiguousarray(heat, dtype=np.float32)
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    there = cv2.warpAffine(values, to_cells, (seen[1], seen[0]), flags=flags, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(there, dtype=np.float32)


def on_photo(heat: FloatArray, sides: Size, preprocess: Preprocess) -> FloatArray:
    """A map of what the network sees, on the photo it came from: NaN where the network sees nothing of it.

    Undoes the window, the resizing and the crop.

    Args:
        heat: `(h, w)` over `preprocess.seen`, in any resolution.
        sides: (height, width) of the photo.

    Returns:
        `(*sides)` float32.

    Examples:
        >>> half = Preprocess((8, 8), crop=(0.5, 1.0))  # the middle half of the rows
        >>> on_photo(np.ones((2, 2)), (8, 4), half)[:, 0].tolist()
        [nan, nan, 1.0, 1.0, 1.0, 1.0, nan, nan]
    """
    seen, (rows, columns) = preprocess.seen, preprocess.size
    whole = np.full((rows, columns), np.nan, dtype=np.float32)
    top, left = (rows - seen[0]) // 2, (columns - seen[1]) // 2
    whole[top : top + seen[0], left : left + seen[1]] = _resized(heat, seen)
    top, left, kept_rows, kept_columns = crop_place(sides, preprocess)
    photo = np.full(sides, np.nan, dtype=np.float32)
    photo[top : top + kept_rows, left : left + kept_columns] = _resized_with_gaps(whole, (kept_rows, kept_columns))
    return photo


def _resized(heat: FloatArray, size: Size) -> FloatArray:
    values = np.ascontiguousarray(heat, dtype=np.float32)
    return np.asarray(cv2.resize(values, (size[1], size[0]), interpolation=cv2.INTER_LINEAR), dtype=np.float32)


def _resized_with_gaps(heat: FloatArray, size: Size) -> FloatArray:
    """Where a pixel is more gap than map, it is gap."""
    is_seen = np.isfinite(heat)
    if is_seen.all():
        return _resized(heat, size)
    share = _resized(is_seen.astype(np.float32), size)
    total = _resized(np.where(is_seen, heat, 0), size)
    return np.where(share > 0.5, total / np.maximum(share, 1e-6), np.nan).astype(np.float32)
