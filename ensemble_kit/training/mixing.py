"""Mixing the photos of a batch with each other, and their targets in the same shares."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor

from ensemble_kit.errors import UsageError
from ensemble_kit.named import Numbered, find_named

Mixer = Callable[[Tensor, Tensor, np.random.Generator], tuple[Tensor, Tensor]]
"""(photos `(n, 3, height, width)`, target distributions `(n, n_classes)`, generator) -> both, mixed; the ones given
are not changed. Targets keep summing to 1."""


def mixup(alpha: float, photos: Tensor, targets: Tensor, generator: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Every photo is blended with another one, `share * a + (1 - share) * b`, the targets alike (Zhang et al. 2018).

    Args:
        alpha: above 0; the share is drawn from Beta(alpha, alpha), once a batch.
    """
    share = float(generator.beta(alpha, alpha))
    other = _partners(photos, generator)
    return share * photos + (1 - share) * photos[other], share * targets + (1 - share) * targets[other]


def cutmix(alpha: float, photos: Tensor, targets: Tensor, generator: np.random.Generator) -> tuple[Tensor, Tensor]:
    """A box of every photo shows another one; targets follow the area (Yun et al. 2019).

    The box has the photo's shape and `1 - share` of its area, share drawn from Beta(alpha, alpha); its centre may lie
    anywhere, and what sticks out is cut off. The area that is left decides the targets' shares, not the one drawn.

    Args:
        alpha: above 0; 1 is the paper's choice.
    """
    height, width = photos.shape[2:]
    side = math.sqrt(1 - generator.beta(alpha, alpha))
    rows, columns = (_interval(size, side, generator) for size in (height, width))
    other = _partners(photos, generator)
    mixed = photos.clone()
    mixed[:, :, rows, columns] = photos[other][:, :, rows, columns]
    share = (rows.stop - rows.start) * (columns.stop - columns.start) / (height * width)
    return mixed, (1 - share) * targets + share * targets[other]


def half_cutmix(photos: Tensor, targets: Tensor, generator: np.random.Generator) -> tuple[Tensor, Tensor]:
    """The left half of one face beside the right half of another; half of the target is each one's.

    With an odd width the middle column is the second one's, and the targets say so.
    """
    width = photos.shape[3]
    left = width // 2
    other = _partners(photos, generator)
    mixed = torch.cat([photos[..., :left], photos[other][..., left:]], dim=3)
    share = left / width
    return mixed, share * targets + (1 - share) * targets[other]


def _interval(size: int, share: float, generator: np.random.Generator) -> slice:
    length, centre = int(size * share), int(generator.integers(size))
    start = centre - length // 2
    return slice(max(start, 0), min(start + length, size))


def _partners(photos: Tensor, generator: np.random.Generator) -> Tensor:
    return torch.from_numpy(generator.permutation(len(photos))).to(photos.device)


def _with_alpha(mix: Callable[..., tuple[Tensor, Tensor]], name: str, alpha: float) -> Mixer:
    if not (math.isfinite(alpha) and alpha > 0):
        raise UsageError(f'mixing "{name}": expected a number above 0, found {alpha:g}; write "{name}=1"')
    return partial(mix, alpha)


MIXERS: Mapping[str, Mixer | Numbered] = {
    "mixup": Numbered(partial(_with_alpha, mixup, "mixup"), 0.2),
    "cutmix": Numbered(partial(_with_alpha, cutmix, "cutmix"), 1.0),
    "half_cutmix": half_cutmix,
}
"""A further way to mix is one function and one row here; a function is taken as well as a name."""


def find_mixer(mixer: str | Mixer) -> Mixer:
    """The mixer of a name ("mixup", "cutmix=0.5"), or the function itself.

    Raises:
        UsageError: an unknown name, or a number that it cannot take.
    """
    if not isinstance(mixer, str):
        return mixer
    found: Mixer = find_named("mixing", mixer, MIXERS)
    return found


def mix_batch(
    mixers: Sequence[str | Mixer], share: float, photos: Tensor, targets: Tensor, seed: Sequence[int]
) -> tuple[Tensor, Tensor]:
    """Mixes a batch, or leaves it as it is.

    Args:
        mixers: names of `MIXERS` or functions; of several, each batch that is mixed takes one, all as probable.
        share: of the batches that are mixed, 0 to 1.
        photos: `(n, 3, height, width)`.
        targets: `(n, n_classes)` distributions.
        seed: such as (seed, fold, epoch, batch): what is drawn depends on these alone.
    """
    if not mixers:
        return photos, targets
    generator = np.random.Generator(np.random.PCG64([*seed, 2]))  # 1 is the samplers'
    if generator.random() >= share:
        return photos, targets
    chosen = mixers[int(generator.integers(len(mixers)))]
    return find_mixer(chosen)(photos, targets, generator)
