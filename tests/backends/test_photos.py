"""Which photos forms are calibrated with and compared on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from forms_cases import World

from ensemble_kit.backends import photos as photos_module
from ensemble_kit.backends.photos import TrainingPhotos
from ensemble_kit.card import read_card
from ensemble_kit.data.decode import Preprocess
from ensemble_kit.errors import DataError, UsageError
from ensemble_kit.loading.cache import PhotoCache


def test_calibrated_with_what_its_fold_trained_on_and_compared_on_what_it_held_out_first(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(photos_module, "N_CALIBRATING", 4)
    monkeypatch.setattr(photos_module, "N_COMPARED", 9)
    card, folds = read_card(world.worn), world.trained_on.folds
    calibrating, compared = world.trained_on.rows_of(card, world.worn)
    is_worn = world.table.numbers("mask") == 0
    assert len(calibrating) == 4
    assert (folds[calibrating] != 0).all()
    assert is_worn[calibrating].all()
    assert is_worn[compared].all()
    assert len(compared) == 9  # 6 held out, then the 2 that did not calibrate, and of those 4 last of all
    assert (folds[compared] == 0).sum() == 6
    assert len(np.intersect1d(compared, calibrating)) == 1
    ages = world.table.numbers("age")
    assert np.bincount(ages[calibrating], minlength=3).tolist() == [2, 1, 1]  # spread over the classes


def test_few_photos_serve_twice(world: World) -> None:
    calibrating, compared = world.trained_on.rows_of(read_card(world.mask), world.mask)
    assert calibrating.tolist() == np.flatnonzero(world.trained_on.folds != 0).tolist()
    assert compared.tolist() == list(range(len(world.table)))


def test_the_same_photos_whatever_their_order(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(photos_module, "N_CALIBRATING", 5)
    card, rows = read_card(world.mask), np.random.default_rng(0).permutation(len(world.table))
    other = TrainingPhotos(world.table.select(rows), world.trained_on.folds[rows])
    monkeypatch.setattr(TrainingPhotos, "sha256", card.train["samples_sha256"])
    one = [world.table.ids[some].tolist() for some in world.trained_on.rows_of(card, world.mask)]
    two = [other.table.ids[some].tolist() for some in other.rows_of(card, world.mask)]
    assert [sorted(ids) for ids in one] == [sorted(ids) for ids in two]


def test_other_samples_are_refused(world: World) -> None:
    half = np.arange(18)
    other = TrainingPhotos(world.table.select(half), world.trained_on.folds[half])
    with pytest.raises(DataError, match="to try back ends on; give those of its own run"):
        other.rows_of(read_card(world.mask), world.mask)
    with pytest.raises(UsageError, match="expected 18 folds, found 36"):
        TrainingPhotos(other.table, world.trained_on.folds)


@pytest.mark.parametrize("is_cached", [True, False])
def test_unreadable_photos_are_left_out(world: World, is_cached: bool, tmp_path: Path) -> None:
    table = world.table.select(np.arange(3))
    preprocess = Preprocess.from_json(read_card(world.mask).preprocess)
    table.frame.loc[1, "path"] = "gone.png"
    cache = tmp_path / "cache"
    if is_cached:
        PhotoCache.build(table, preprocess, cache)
    found = TrainingPhotos(table, np.zeros(3, dtype=np.int64)).prepared(np.array([0, 1, 2]), preprocess, cache)
    expected = world.trained_on.prepared(np.array([0, 2]), preprocess, world.root / "cache")
    np.testing.assert_array_equal(found, expected)
