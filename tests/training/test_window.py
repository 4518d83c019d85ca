"""What the network sees of the photos (a window), and which people it trains on (a share)."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_training import BACKBONES, draw_table, folds_of, make_job, make_photos

from ensemble_kit.card import read_card
from ensemble_kit.data.decode import Preprocess
from ensemble_kit.errors import UsageError
from ensemble_kit.inference import predict_table
from ensemble_kit.loading.transforms import Augment
from ensemble_kit.models.compute import choose_compute
from ensemble_kit.predictions import load_predictions
from ensemble_kit.training import train_fold
from ensemble_kit.training.rows import choose_rows, chosen_people

PHOTO = np.arange(12 * 10 * 3, dtype=np.uint8).reshape(12, 10, 3)


def windows_of(photo: np.ndarray, rows: int, columns: int) -> set[bytes]:
    return {
        photo[top : top + rows, left : left + columns].tobytes()
        for top in range(photo.shape[0] - rows + 1)
        for left in range(photo.shape[1] - columns + 1)
    }


def test_in_training_the_window_lies_anywhere_whatever_the_share() -> None:
    for names, share in (((), None), (("flip=0",), None), (("invert",), 0.0)):
        augment = Augment(names, (12, 10), 3, share, window=(8, 6))
        found = {augment(PHOTO, 1, draw).tobytes() for draw in range(300)}
        assert found == windows_of(PHOTO, 8, 6)


def test_elsewhere_it_is_the_middle() -> None:
    preprocess = Preprocess((12, 10), mean=(0, 0, 0), std=(1 / 255,) * 3, window=(8, 6))
    compute = choose_compute("cpu", "fp32")
    whole, seen = torch.from_numpy(PHOTO[None]), torch.from_numpy(PHOTO[None, 2:10, 2:8].copy())
    expected = compute.inputs(seen, Preprocess((8, 6), mean=(0, 0, 0), std=(1 / 255,) * 3))
    torch.testing.assert_close(compute.inputs(whole, preprocess), expected)
    torch.testing.assert_close(compute.inputs(seen, preprocess), expected)  # as a window comes out of training
    assert (preprocess.seen, Preprocess((12, 10)).seen) == ((8, 6), (12, 10))


@pytest.mark.parametrize("window", [(13, 6), (0, 6), (8,)])
def test_no_window_outside_the_photo(window: tuple[int, ...]) -> None:
    with pytest.raises(UsageError, match="window"):
        Preprocess((12, 10), window=window)  # type: ignore[arg-type]


def test_a_checkpoint_predicts_what_its_training_held_out(tmp_path: Path) -> None:
    table = draw_table(tmp_path / "photos")
    job = make_job(window=(12, 8), epochs=1)
    photos = make_photos(table, tmp_path / "cache", job)
    result = train_fold(job, table=table, folds=folds_of(table), photos=photos, folder=tmp_path / "fold")
    assert read_card(result.checkpoint).preprocess["window"] == [12, 8]
    predict_table(table, [result.checkpoint], tmp_path / "set", device="cpu", precision="fp32", backbones=BACKBONES)
    (expert,) = load_predictions(tmp_path / "set")
    held_out = np.flatnonzero(folds_of(table) == 0)
    np.testing.assert_allclose(expert.probs[0][held_out], np.load(tmp_path / "fold" / "oof.npy"), atol=2e-6)


def test_the_share_is_of_people_and_a_smaller_one_lies_inside_a_larger_one() -> None:
    groups = np.repeat([f"p{i:03d}" for i in range(40)], 3)
    for held_out in (np.array([], dtype=np.str_), np.unique(groups)[:20]):
        free = 40 - len(held_out)
        found = [chosen_people(share, groups, held_out, 0) for share in (0.1, 0.25, 0.5, 1.0)]
        for smaller, larger in pairwise(found):
            assert not (smaller & ~larger).any()
        counts = [len(set(groups[own]) - set(held_out)) for own in found]
        assert counts == [round(share * free) for share in (0.1, 0.25, 0.5, 1.0)]
        assert all(own.reshape(-1, 3).all(axis=1).sum() * 3 == own.sum() for own in found)
    assert not np.array_equal(chosen_people(0.5, groups, held_out, 0), chosen_people(0.5, groups, held_out, 1))


def test_fewer_people_train_and_all_are_held_out_as_before(tmp_path: Path) -> None:
    table = draw_table(tmp_path / "photos")
    photos = make_photos(table, tmp_path / "cache")
    whole, half = (choose_rows(make_job(people_share=s), table, folds_of(table), photos) for s in (1.0, 0.5))
    assert np.array_equal(whole.score, half.score)
    assert np.array_equal(whole.held_out, half.held_out)
    assert len(set(table.groups[half.train])) == 3
    assert set(half.train.tolist()) < set(whole.train.tolist())
    with pytest.raises(UsageError, match="people_share: expected a share above 0"):
        make_job(people_share=0.0)


def test_a_training_without_the_later_keys_is_the_one_it_was(tmp_path: Path) -> None:
    assert {"window", "people_share"}.isdisjoint(make_job().settings_json())
    assert (
        make_job(people_share=0.5, window=(8, 8)).settings_json().items()
        >= {"people_share": 0.5, "window": [8, 8]}.items()
    )
