"""Augmentations by name. The one place that knows albumentations."""

from __future__ import annotations

import os
import random
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ensemble_kit.arrays import ByteArray
from ensemble_kit.errors import UsageError, nearest

Size = tuple[int, int]

Augmentation = Callable[[ByteArray, np.random.Generator], ByteArray]
"""One's own: (photo `(height, width, 3)` uint8, generator) -> a photo of the same shape; applied to every photo."""

MIRRORED = 4
"""cv2.BORDER_REFLECT_101: the photo is mirrored at its edge, so that no black corner can be learnt."""


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


@dataclass(frozen=True)
class Transform:
    """One row of the table.

    Args:
        make: (albumentations, photo size, probability, arguments) -> transform, on uint8 photos.
        p: the probability, unless another is given.
        arguments: name -> default, in the order in which `name=p:1x2` gives them.
    """

    make: Callable[[Any, Size, float, Mapping[str, float]], Any]
    p: float
    arguments: Mapping[str, float]


def _row(make: Callable[[Any, Size, float, Mapping[str, float]], Any], p: float, **arguments: float) -> Transform:
    return Transform(make, p, arguments)


def _affine(library: Any, size: Size, p: float, a: Mapping[str, float]) -> Any:  # noqa: ARG001
    """Small moves, turns and zooms."""
    zoom, turn = a["zoom"], a["degrees"]
    moves = (-a["move"], a["move"])
    return library.Affine(
        scale=(1 - zoom, 1 + zoom), translate_percent=moves, rotate=(-turn, turn), border_mode=MIRRORED, p=p
    )


def _crop(library: Any, size: Size, p: float, a: Mapping[str, float]) -> Any:
    return library.RandomResizedCrop(size=size, scale=(a["share"], 1.0), ratio=(0.9, 1.1), p=p)


def _random_crop(library: Any, size: Size, p: float, a: Mapping[str, float]) -> Any:
    """Mirrored at the edges by a share of each side, then a window of the training size at random."""
    rows, columns = (side + 2 * round(side * a["share"]) for side in size)
    wider = library.PadIfNeeded(rows, columns, border_mode=MIRRORED, p=1.0)
    return library.Sequential([wider, library.RandomCrop(*size, p=1.0)], p=p)


def _center_crop(library: Any, size: Size, p: float, a: Mapping[str, float]) -> Any:
    """The middle of the photo, so much of height and width, at the full size again."""
    rows, columns = (max(1, round(side * a[name])) for side, name in zip(size, ("height", "width"), strict=True))
    return library.Sequential([library.CenterCrop(rows, columns, p=1.0), library.Resize(*size, p=1.0)], p=p)


def _dropout(library: Any, size: Size, p: float, a: Mapping[str, float]) -> Any:  # noqa: ARG001
    sides = (a["low"], a["high"])
    return library.CoarseDropout(num_holes_range=(1, 2), hole_height_range=sides, hole_width_range=sides, p=p)


def _coarse_dropout(library: Any, size: Size, p: float, a: Mapping[str, float]) -> Any:
    holes = int(a["holes"])
    height, width = (min(int(pixels), side) for pixels, side in zip((a["height"], a["width"]), size, strict=True))
    return library.CoarseDropout(
        num_holes_range=(holes, holes), hole_height_range=(height, height), hole_width_range=(width, width), p=p
    )


def _jitter(library: Any, size: Size, p: float, a: Mapping[str, float]) -> Any:  # noqa: ARG001
    around = (1 - a["share"], 1 + a["share"])
    hue = (-a["hue"], a["hue"])
    return library.ColorJitter(brightness=around, contrast=around, saturation=around, hue=hue, p=p)


TRANSFORMS: dict[str, Transform] = {
    "flip": _row(lambda lib, _, p, __: lib.HorizontalFlip(p=p), 0.5),
    "brightness_contrast": _row(
        lambda lib, _, p, a: lib.RandomBrightnessContrast(a["brightness"], a["contrast"], p=p),
        0.5,
        brightness=0.2,
        contrast=0.2,
    ),
    "affine": _row(_affine, 0.7, degrees=10, move=0.05, zoom=0.1),
    "crop": _row(_crop, 0.7, share=0.75),
    "random_crop": _row(_random_crop, 1.0, share=0.1),
    "center_crop": _row(_center_crop, 0.5, height=0.8, width=0.8),
    "rotate": _row(
        lambda lib, _, p, a: lib.Rotate((-a["degrees"], a["degrees"]), border_mode=MIRRORED, p=p), 0.5, degrees=15
    ),
    "dropout": _row(_dropout, 0.3, low=0.1, high=0.25),
    "coarse_dropout": _row(_coarse_dropout, 0.5, holes=4, height=50, width=50),
    "erase": _row(lambda lib, _, p, a: lib.Erasing(scale=(a["low"], a["high"]), p=p), 0.5, low=0.02, high=0.33),
    "invert": _row(lambda lib, _, p, __: lib.InvertImg(p=p), 0.5),
    "grayscale": _row(lambda lib, _, p, __: lib.ToGray(p=p), 0.2),
    "jitter": _row(_jitter, 0.5, share=0.2, hue=0.05),
    "blur": _row(lambda lib, _, p, a: lib.GaussianBlur(sigma_limit=(0.3, a["sigma"]), p=p), 0.3, sigma=1.5),
    "sharpen": _row(lambda lib, _, p, a: lib.Sharpen(alpha=(0.1, a["alpha"]), p=p), 0.3, alpha=0.5),
    "clahe": _row(lambda lib, _, p, a: lib.CLAHE(clip_limit=(1.0, a["limit"]), p=p), 0.3, limit=4),
    "optical": _row(
        lambda lib, _, p, a: lib.OpticalDistortion((-a["limit"], a["limit"]), p=p, border_mode=MIRRORED), 0.3, limit=0.2
    ),
    "grid": _row(
        lambda lib, _, p, a: lib.GridDistortion(
            distort_limit=(-a["limit"], a["limit"]), p=p, border_mode=MIRRORED, num_steps=5
        ),
        0.3,
        limit=0.3,
    ),
    "elastic": _row(
        lambda lib, _, p, a: lib.ElasticTransform(a["alpha"], a["sigma"], p=p, border_mode=MIRRORED),
        0.3,
        alpha=40,
        sigma=6,
    ),
}
"""Name -> transform. `flip=0.3` sets the probability; `rotate=0.5:15` 15 degrees as well, `coarse_dropout=0.5:4x50x50`
four holes of 50 x 50 pixels: the row's arguments in order, those left out at their default."""

WRITTEN = re.compile(r"(?P<name>[a-z_]+)(=(?P<p>[0-9.]+))?(:(?P<arguments>[0-9.]+(x[0-9.]+)*))?")


def parse_augmentation(text: str) -> tuple[str, float | None, dict[str, float]]:
    """`rotate=0.5:15` -> its name, its own probability (None = not said), and its arguments with their defaults.

    Raises:
        UsageError: an unknown name, a probability outside 0 to 1, or arguments that the row does not have.

    Examples:
        >>> parse_augmentation("coarse_dropout=0.5:4x50x50")
        ('coarse_dropout', 0.5, {'holes': 4.0, 'height': 50.0, 'width': 50.0})
        >>> parse_augmentation("rotate:30")
        ('rotate', None, {'degrees': 30.0})
    """
    name = re.split("[=:]", text)[0]
    if name not in TRANSFORMS:
        raise UsageError(f'no augmentation "{name}"{nearest(name, TRANSFORMS)}')
    found = WRITTEN.fullmatch(text)
    names = list(TRANSFORMS[name].arguments)
    try:
        values = [float(part) for part in (found["arguments"] or "").split("x") if part] if found else []
        p = float(found["p"]) if found and found["p"] else None
    except ValueError:
        found, values, p = None, [], None
    if found is None or len(values) > len(names) or (p is not None and not 0 <= p <= 1):
        form = f"{name}=PROBABILITY" + (f":{'x'.join(n.upper() for n in names)}" if names else "")
        raise UsageError(f'augment: expected {form}, the probability from 0 to 1, found "{text}"')
    return name, p, dict(TRANSFORMS[name].arguments) | dict(zip(names, values, strict=False))


def check_transforms(names: Sequence[str | Augmentation]) -> None:
    """Raises UsageError when one of the names is not in `TRANSFORMS`, or not written as its row needs it."""
    for name in names:
        if isinstance(name, str):
            parse_augmentation(name)


class Augment:
    """A pipeline whose draws depend on (seed, epoch, sample) alone: not on workers, order, or what ran before.

    Args:
        names: rows of `TRANSFORMS`, with probabilities and arguments, or functions of one's own; in this order.
        size: (height, width) of the photos.
        seed: of the training.
        share: one probability for the whole list: one draw a photo decides whether all of it is applied or nothing,
            and rows without a probability of their own then apply. None = each by its own.
        window: (height, width) of what is kept of the photos, a window of them at random, before the list; the list
            then sees photos of that size. None = the photos whole.

    Raises:
        UsageError: an unknown name, or a share outside 0 to 1.
    """

    def __init__(
        self,
        names: Sequence[str | Augmentation],
        size: Size,
        seed: int,
        share: float | None = None,
        window: Size | None = None,
    ):
        check_transforms(names)
        if share is not None and not 0 <= share <= 1:
            raise UsageError(f"augment_share: expected a probability from 0 to 1, found {share}")
        self.seed = seed
        self._pipeline: Any = None
        if names or window:
            library = albumentations()
            steps = [_step(library, name, window or size, share is not None) for name in names]
            if window:  # whatever the share: every photo of a batch has one size
                rest = [library.Sequential(steps, p=1.0 if share is None else share)] if steps else []
                steps, share = [library.RandomCrop(*window, p=1.0), *rest], None
            self._pipeline = library.Compose(steps, p=1.0 if share is None else share)

    def __call__(self, photo: ByteArray, epoch: int, index: int) -> ByteArray:
        """`(height, width, 3)` uint8 -> the same shape, or the window's; the photo given is not changed."""
        if self._pipeline is None:
            return photo
        generator = np.random.Generator(np.random.PCG64([self.seed, epoch, index]))
        # not set_random_seed: it gives every transform the same stream, and then all of them apply or none
        self._pipeline.set_random_state(generator, random.Random(int(generator.integers(2**63))))  # noqa: S311
        augmented: ByteArray = self._pipeline(image=photo)["image"]
        return augmented


def _step(library: Any, written: str | Augmentation, size: Size, shared: bool) -> Any:
    if not isinstance(written, str):
        return _own(library, written)
    name, p, arguments = parse_augmentation(written)
    row = TRANSFORMS[name]
    return row.make(library, size, (1.0 if shared else row.p) if p is None else p, arguments)


def _own(library: Any, function: Augmentation) -> Any:
    """A function of one's own as a transform of the library, so that it draws from the photo's own stream."""

    class Own(library.ImageOnlyTransform):  # type: ignore[misc]
        def apply(self, img: ByteArray, **_: Any) -> ByteArray:
            return function(img, self.random_generator)

    return Own(p=1.0)
