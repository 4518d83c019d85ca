"""Augmentations by name. The one place that knows albumentations."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ensemble_kit.arrays import ByteArray
from ensemble_kit.errors import UsageError, nearest

Size = tuple[int, int]


def albumentations() -> Any:
    """The library, imported without its call home (a request at import unless this variable is set)."""
    before = os.environ.get("NO_ALBUMENTATIONS_UPDATE")
    os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"
    try:
        import albumentations as library
    finally:
        if before is None:
            del os.environ["NO_ALBUMENTATIONS_UPDATE"]
    return library


def _flip(library: Any, size: Size) -> Any:  # noqa: ARG001
    return library.HorizontalFlip(p=0.5)


def _brightness_contrast(library: Any, size: Size) -> Any:  # noqa: ARG001
    return library.RandomBrightnessContrast(brightness_limit=0.2, contrast_limit=0.2, p=0.5)


def _affine(library: Any, size: Size) -> Any:  # noqa: ARG001
    """Small moves, turns and zooms; the photo is mirrored at its edge, so that no black corner can be learnt."""
    mirrored = 4  # cv2.BORDER_REFLECT_101
    return library.Affine(
        scale=(0.9, 1.1), translate_percent=(-0.05, 0.05), rotate=(-10, 10), border_mode=mirrored, p=0.7
    )


def _crop(library: Any, size: Size) -> Any:
    return library.RandomResizedCrop(size=size, scale=(0.75, 1.0), ratio=(0.9, 1.1), p=0.7)


def _dropout(library: Any, size: Size) -> Any:  # noqa: ARG001
    holes = (0.1, 0.25)  # of the photo's side
    return library.CoarseDropout(num_holes_range=(1, 2), hole_height_range=holes, hole_width_range=holes, p=0.3)


TRANSFORMS: dict[str, Callable[[Any, Size], Any]] = {
    "flip": _flip,
    "brightness_contrast": _brightness_contrast,
    "affine": _affine,
    "crop": _crop,
    "dropout": _dropout,
}
"""Name -> (albumentations, photo size) -> transform, on uint8 photos."""


def check_transforms(names: Sequence[str]) -> None:
    """Raises UsageError when one of the names is not in `TRANSFORMS`."""
    for name in names:
        if name not in TRANSFORMS:
            raise UsageError(f'no augmentation "{name}"{nearest(name, TRANSFORMS)}')


class Augment:
    """A pipeline whose draws depend on (seed, epoch, sample) alone: not on workers, order, or what ran before.

    Args:
        names: rows of `TRANSFORMS`, applied in this order.
        size: (height, width) of the photos.
        seed: of the training.

    Raises:
        UsageError: an unknown name.
    """

    def __init__(self, names: Sequence[str], size: Size, seed: int):
        check_transforms(names)
        self.seed = seed
        self._pipeline: Any = None
        if names:
            library = albumentations()
            self._pipeline = library.Compose([TRANSFORMS[name](library, size) for name in names])

    def __call__(self, photo: ByteArray, epoch: int, index: int) -> ByteArray:
        """`(height, width, 3)` uint8 -> the same shape; the photo given is not changed."""
        if self._pipeline is None:
            return photo
        generator = np.random.Generator(np.random.PCG64([self.seed, epoch, index]))
        # not set_random_seed: it gives every transform the same stream, and then all of them apply or none
        self._pipeline.set_random_state(generator, random.Random(int(generator.integers(2**63))))  # noqa: S311
        augmented: ByteArray = self._pipeline(image=photo)["image"]
        return augmented
