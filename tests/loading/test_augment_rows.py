"""Each augmentation's probability and arguments, and one probability for all of them."""

from __future__ import annotations

import numpy as np
import pytest

from ensemble_kit.arrays import ByteArray
from ensemble_kit.errors import UsageError
from ensemble_kit.loading.transforms import TRANSFORMS, Augment, albumentations, parse_augmentation

SIZE = (60, 80)
PHOTO = np.random.default_rng(0).integers(1, 256, (*SIZE, 3), dtype=np.uint8)
N = 200


def applied(names: list[str], share: float | None = None) -> float:
    augment = Augment(names, SIZE, 1, share)
    return float(np.mean([not np.array_equal(augment(PHOTO, 1, draw), PHOTO) for draw in range(N)]))


@pytest.mark.parametrize("name", sorted(TRANSFORMS))
def test_a_probability_of_one_or_zero_always_or_never_applies(name: str) -> None:
    always, never = Augment([f"{name}=1"], SIZE, 1), Augment([f"{name}=0"], SIZE, 1)
    changed = [not np.array_equal(always(PHOTO, 1, draw), PHOTO) for draw in range(5)]
    assert sum(changed) >= 3  # a draw may be nearly nothing
    assert np.array_equal(never(PHOTO, 1, 1), PHOTO)


def test_own_probabilities_are_kept_within_chance() -> None:
    for p in (0.2, 0.7):
        assert abs(applied([f"flip={p}"]) - p) < 4 * np.sqrt(p * (1 - p) / N)


def test_a_shared_probability_decides_for_the_whole_list_at_once() -> None:
    augment = Augment(["flip", "invert"], SIZE, 1, share=0.5)
    both, cases = 255 - PHOTO[:, ::-1], set()
    for draw in range(60):
        result = augment(PHOTO, 1, draw)
        cases.add("all" if np.array_equal(result, both) else "none" if np.array_equal(result, PHOTO) else "some")
    assert cases == {"all", "none"}
    assert abs(applied(["flip", "invert"], 0.3) - 0.3) < 4 * np.sqrt(0.3 * 0.7 / N)
    assert applied(["invert=0"], 1.0) == 0


def test_four_holes_of_so_many_pixels() -> None:
    """Holes may overlap and touch, so the black area is at most theirs, and at least one's."""
    augment = Augment(["coarse_dropout=1:4x10x20"], SIZE, 1)
    areas = [int((augment(PHOTO, 1, draw) == 0).all(axis=2).sum()) for draw in range(30)]
    assert max(areas) == 4 * 10 * 20
    assert min(areas) >= 10 * 20
    hole = Augment(["coarse_dropout=1:1x50x50"], SIZE, 1)(PHOTO, 1, 1)
    rows, columns = np.nonzero((hole == 0).all(axis=2))
    assert [int(np.ptp(rows)) + 1, int(np.ptp(columns)) + 1] == [50, 50]


def test_rotation_turns_by_at_most_the_degrees_and_leaves_no_black_corner() -> None:
    flat = np.full((*SIZE, 3), 200, dtype=np.uint8)
    assert (Augment(["rotate=1:30"], SIZE, 1)(flat, 1, 1) == 200).all()
    row = TRANSFORMS["rotate"].make(albumentations(), SIZE, 1.0, {"degrees": 30.0})
    assert row.limit == (-30, 30)


@pytest.mark.parametrize("row", ["affine=1", "rotate=1:45", "optical=1", "grid=1", "elastic=1", "random_crop"])
def test_what_moves_pixels_leaves_no_border(row: str) -> None:
    flat = np.full((*SIZE, 3), 200, dtype=np.uint8)
    augment = Augment([row], SIZE, 1)
    for draw in range(5):
        assert np.ptp(augment(flat, 1, draw)) == 0


def test_brightness_and_contrast_take_their_limits() -> None:
    row = TRANSFORMS["brightness_contrast"].make(albumentations(), SIZE, 0.3, {"brightness": 0.1, "contrast": 0.4})
    assert (row.brightness_limit, row.contrast_limit, row.p) == ((-0.1, 0.1), (-0.4, 0.4), 0.3)


def test_a_random_crop_is_a_window_of_the_mirrored_photo() -> None:
    augment = Augment(["random_crop:0.25"], SIZE, 1)
    wider = np.pad(PHOTO, ((15, 15), (20, 20), (0, 0)), mode="reflect")
    windows = {wider[r : r + 60, c : c + 80].tobytes() for r in range(31) for c in range(41)}
    results = {augment(PHOTO, 1, draw).tobytes() for draw in range(20)}
    assert results <= windows
    assert len(results) > 10


def test_a_function_of_ones_own_draws_from_the_photos_stream() -> None:
    def brighter(photo: ByteArray, generator: np.random.Generator) -> ByteArray:
        return np.minimum(photo, 200) + np.uint8(generator.integers(50))

    results = [Augment(["flip", brighter], SIZE, 1)(PHOTO, 1, draw) for draw in (1, 1, 2)]
    assert np.array_equal(results[0], results[1])
    assert not np.array_equal(results[0], results[2])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rotat=0.5", 'no augmentation "rotat"; did you mean "rotate"'),
        ("flip=1.5", 'expected flip=PROBABILITY, the probability from 0 to 1, found "flip=1.5"'),
        ("rotate=0.5:1x2", 'expected rotate=PROBABILITY:DEGREES, .* found "rotate=0.5:1x2"'),
        ("coarse_dropout=0.5:4xx", "expected coarse_dropout=PROBABILITY:HOLESxHEIGHTxWIDTH"),
        ("flip=0.5.5", "expected flip=PROBABILITY"),
        ("flip=-1", "expected flip=PROBABILITY"),
    ],
)
def test_what_cannot_be_read_is_said_with_its_form(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        parse_augmentation(text)


def test_a_share_is_a_probability() -> None:
    with pytest.raises(UsageError, match="augment_share: expected a probability from 0 to 1, found 2"):
        Augment(["flip"], SIZE, 0, 2)
