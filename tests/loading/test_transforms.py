"""Augmentations: what they draw depends on (seed, epoch, draw) alone."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest

from ensemble_kit.errors import UsageError
from ensemble_kit.loading.transforms import TRANSFORMS, Augment

RNG = np.random.default_rng(0)
PHOTO = RNG.integers(0, 255, (16, 24, 3), dtype=np.uint8)
PHOTO.flags.writeable = False  # as a row of the cache is
SIZE = (16, 24)


@pytest.mark.parametrize("name", sorted(TRANSFORMS))
def test_every_transform_keeps_shape_and_type_and_does_something(name: str) -> None:
    augment = Augment([name], SIZE, seed=3)
    results = [augment(PHOTO, 1, draw) for draw in range(40)]
    assert all(photo.shape == PHOTO.shape and photo.dtype == np.uint8 for photo in results)
    assert any(not np.array_equal(photo, PHOTO) for photo in results)


def test_a_draw_does_not_depend_on_what_was_drawn_before() -> None:
    names = sorted(TRANSFORMS)
    forward = [Augment(names, SIZE, 5)(PHOTO, 2, draw) for draw in range(6)]
    one = Augment(names, SIZE, 5)
    backward = [one(PHOTO, 2, draw) for draw in reversed(range(6))][::-1]
    assert all(np.array_equal(a, b) for a, b in zip(forward, backward, strict=True))


def test_seed_epoch_and_draw_each_change_the_result() -> None:
    names = ["flip", "affine", "brightness_contrast"]
    seen = {
        Augment(names, SIZE, seed)(PHOTO, epoch, draw).tobytes()
        for seed in range(3)
        for epoch in range(3)
        for draw in range(3)
    }
    assert len(seen) > 20


def test_two_transforms_of_a_pipeline_draw_independently() -> None:
    """With one seed a transform (`Compose.set_random_seed`) both happen or none: 2 of the 4 cases never occur."""
    photo = np.zeros((16, 24, 3), dtype=np.uint8)
    photo[:, :12] = 100
    augment = Augment(["flip", "brightness_contrast"], SIZE, 0)
    cases = set()
    for draw in range(60):
        result = augment(photo, 1, draw)
        flipped = bool(result[0, -1, 0] > result[0, 0, 0])
        cases.add((flipped, sorted(set(result.ravel().tolist())) != [0, 100]))
    assert len(cases) == 4


def test_no_names_leave_the_photo_alone() -> None:
    assert np.array_equal(Augment([], SIZE, 0)(PHOTO, 1, 1), PHOTO)


def test_an_unknown_name_is_refused_with_the_nearest() -> None:
    with pytest.raises(UsageError, match='no augmentation "flipp"; did you mean "flip"'):
        Augment(["flipp"], SIZE, 0)


def test_importing_neither_loads_albumentations_nor_leaves_a_variable_behind() -> None:
    code = (
        "import os, sys; from ensemble_kit.loading.transforms import Augment; "
        "assert 'albumentations' not in sys.modules; Augment(['flip'], (8, 8), 0); "
        "assert 'albumentations' in sys.modules; assert 'NO_ALBUMENTATIONS_UPDATE' not in os.environ"
    )
    env = {k: v for k, v in os.environ.items() if k != "NO_ALBUMENTATIONS_UPDATE"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env)
    assert (done.returncode, done.stderr) == (0, "")
