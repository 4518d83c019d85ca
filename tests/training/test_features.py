"""Cached features of a frozen backbone: the same training, with the backbone run once."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from tiny_training import BACKBONES, SIZE, draw_table, folds_of, make_job, make_phase, make_photos, tiny_backbone
from torch import Tensor, nn

from ensemble_kit.data.samples import SampleTable
from ensemble_kit.errors import UsageError
from ensemble_kit.loading.cache import PhotoCache
from ensemble_kit.loading.transforms import Augment
from ensemble_kit.models.checkpoint import load_expert
from ensemble_kit.models.compute import choose_compute, predict_probs
from ensemble_kit.models.heads import build_network, mix_seed
from ensemble_kit.training import EpochLine, ExpertJob, FoldResult, train_fold
from ensemble_kit.training.features import Features, TrainingFeatures, features_of, make_up, with_made_up
from ensemble_kit.training.rows import choose_rows

FROZEN: dict[str, Any] = {"freeze": ("backbone",), "head_lr": 0.05, "augment": (), "keep": "last"}


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> SampleTable:
    return draw_table(tmp_path_factory.mktemp("photos"))


@pytest.fixture
def photos(table: SampleTable, tmp_path: Path) -> PhotoCache:
    return make_photos(table, tmp_path / "cache")


def train(table: SampleTable, photos: PhotoCache, folder: Path, job: ExpertJob, **options: Any) -> FoldResult:
    return train_fold(job, table=table, folds=folds_of(table), photos=photos, folder=folder, **options)


def test_a_head_on_features_learns_what_it_does_behind_its_backbone(
    table: SampleTable, photos: PhotoCache, tmp_path: Path
) -> None:
    slow: list[EpochLine] = []
    fast: list[EpochLine] = []
    train(table, photos, tmp_path / "slow", make_job(**FROZEN), on_epoch=slow.append)
    result = train(table, photos, tmp_path / "fast", make_job(feature_views=0, **FROZEN), on_epoch=fast.append)
    first, second = (load_file(tmp_path / name / "best.safetensors") for name in ("slow", "fast"))
    for name, weights in first.items():
        np.testing.assert_allclose(second[name], weights, rtol=1e-4, atol=1e-5)
    for a, b in zip(slow, fast, strict=True):
        assert (b.train_loss, b.val_loss) == pytest.approx((a.train_loss, a.val_loss), rel=1e-4)
    network, card = load_expert(result.checkpoint, backbones=BACKBONES)  # a normal checkpoint, for photos
    rows = np.flatnonzero(folds_of(table) == 0)
    probs = predict_probs(network, photos.photos, make_job().preprocess, choose_compute("cpu", "fp32"), 64, rows)
    np.testing.assert_allclose(np.load(tmp_path / "fast" / "oof.npy"), probs, atol=1e-6)
    assert card.train["settings"]["feature_views"] == 0


class Counting(nn.Module):
    """Counts the photos that pass."""

    passed = 0

    def __init__(self) -> None:
        super().__init__()
        self.layers = tiny_backbone()[0]

    def forward(self, photos: Tensor) -> Tensor:
        Counting.passed += len(photos)
        features: Tensor = self.layers(photos)
        return features


def counting() -> tuple[nn.Module, int]:
    return Counting(), 64


def test_the_backbone_runs_once_for_every_fold_and_expert_that_starts_alike(
    table: SampleTable, photos: PhotoCache, tmp_path: Path
) -> None:
    start = train(table, photos, tmp_path / "start", make_job(backbone=counting, epochs=1)).checkpoint
    same: dict[str, Any] = {**FROZEN, "backbone": counting, "weights": str(start), "feature_views": 2, "epochs": 4}
    same |= {"augment": ("flip",)}
    n_held_out = int((folds_of(table) == 0).sum())
    Counting.passed = 0
    train(table, photos, tmp_path / "first", make_job(**same))
    assert Counting.passed == 3 * len(table) + n_held_out  # plain and two views, then the out-of-fold photos
    Counting.passed = 0
    train(table, photos, tmp_path / "second", make_job(attributes=("gender",), fold=1, **same))
    assert Counting.passed == int((folds_of(table) == 1).sum())
    files = sorted(path.name for path in (tmp_path / "cache").iterdir() if path.name.startswith("features"))
    assert len(files) == 1
    Counting.passed = 0
    train(table, photos, tmp_path / "third", make_job(**{**same, "seed": 1}))  # other views
    assert Counting.passed == 3 * len(table) + n_held_out


def test_views_are_the_augmented_photos_features(table: SampleTable, photos: PhotoCache, tmp_path: Path) -> None:
    job = make_job(**{**FROZEN, "augment": ("flip", "affine"), "feature_views": 2})
    network, compute = build_network(tiny_backbone, "none", 3, (0, 0)), choose_compute("cpu", "fp32")
    features = features_of(job, network, photos, job.preprocess, compute, tmp_path)
    assert features.array.shape == (3, len(table), 64)
    assert features.array.dtype == np.float32
    augment = Augment(job.augment, (SIZE, SIZE), mix_seed(job.seed))
    views = np.stack([np.array(photos.photos[5]), *(augment(np.array(photos.photos[5]), v, 5) for v in (1, 2))])
    with torch.inference_mode():
        expected = network.eval().backbone(compute.inputs(torch.from_numpy(views), job.preprocess)).numpy()
    np.testing.assert_allclose(features.array[:, 5], expected, atol=1e-5)
    data = TrainingFeatures(features, np.array([5, 6]), np.array([0, 1]), 0, features.plain[:0])
    drawn = {int(np.flatnonzero((features.array[:, 5] == data[epoch, 0, 0][0]).all(axis=1))[0]) for epoch in range(20)}
    assert drawn == {1, 2}  # never the plain photo, where there are views


def test_a_stop_changes_no_bit(table: SampleTable, photos: PhotoCache, tmp_path: Path) -> None:
    job = make_job(**{**FROZEN, "feature_views": 1, "smote": 2, "attributes": ("age",), "augment": ("flip",)})
    train(table, photos, tmp_path / "whole", job)

    def stop(line: EpochLine) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(table, photos, tmp_path / "broken", job, on_epoch=stop)
    assert train(table, photos, tmp_path / "broken", job).resumed
    for name in ("best.safetensors", "oof.npy"):
        assert (tmp_path / "broken" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_made_up_samples_bring_every_class_up_and_lie_between_its_own(table: SampleTable, photos: PhotoCache) -> None:
    job = make_job(**{**FROZEN, "feature_views": 0, "smote": 2})
    plain = choose_rows(job, table, folds_of(table), photos)
    is_rare = np.flatnonzero(plain.train_targets.ravel() == 2)[2:]
    keep = np.setdiff1d(np.arange(len(plain.train)), is_rare)
    rows = replace(
        plain, train=plain.train[keep], train_targets=plain.train_targets[keep], train_keys=plain.train_keys[keep]
    )
    n = len(rows.train)
    more = with_made_up(rows)
    assert np.bincount(more.train_targets.ravel()).tolist() == [6, 6, 6]
    assert np.array_equal(more.train_targets[:n], rows.train_targets)
    assert (more.train_targets[n:] == 2).all()
    assert len(more.train) == n  # the photos are as many as before
    array = np.random.default_rng(0).normal(size=(1, len(table), 4)).astype(np.float32)
    made = make_up(Features(array), more, 0, job.smote)
    first, second = array[0][rows.train[rows.train_targets.ravel() == 2]]
    assert made.shape == (4, 4)
    for row in made:  # on the line between the class's two samples
        share = (row - first) / (second - first)
        np.testing.assert_allclose(share, share[0], atol=1e-4)
        assert -1e-5 <= share[0] <= 1 + 1e-5


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"feature_views": 0}, 'feature_views: expected a frozen backbone; give freeze = ["backbone"] in every phase'),
        (
            {"feature_views": 0, "phases": (make_phase(freeze=("backbone",)), make_phase())},
            'give freeze = ["backbone"] in every phase',
        ),
        ({"feature_views": -1, "freeze": ("backbone",)}, "expected counts from 0, found feature_views -1"),
        ({"smote": 5, "freeze": ("backbone",)}, "smote makes up features; give feature_views = 0"),
        ({"feature_views": 0, "freeze": ("backbone",), "mix": ("mixup",)}, "mixing needs photos"),
    ],
)
def test_settings_that_features_do_not_go_with(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        make_job(**changed)
    assert message in str(caught.value)
