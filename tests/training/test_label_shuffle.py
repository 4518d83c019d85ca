"""Labels shuffled over people: nothing can be learnt that holds for others, so validation must be at chance.

Every photo shows who is on it, so a network recalls the label of whoever it has seen: a leak anywhere on the way
(people, folds, rows of the cache, targets, weights carried over) lifts validation above chance, and each is planted here to show it.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from tiny_training import SIZE, make_job, make_photos
from torch import nn

from ensemble_kit.arrays import ByteArray, IntArray
from ensemble_kit.data.folds import divide
from ensemble_kit.data.samples import SampleTable
from ensemble_kit.loading.cache import PhotoCache
from ensemble_kit.metrics import person_bootstrap
from ensemble_kit.models.heads import build_network
from ensemble_kit.schema import Attribute, Schema
from ensemble_kit.training import loop, train_fold
from ensemble_kit.training import session as session_module
from ensemble_kit.training.rows import FoldRows, choose_rows

SCHEMA = Schema(Attribute("colour", ["red", "blue"]))
PEOPLE, SHUFFLES = 40, 3
JOB: dict[str, Any] = {
    "schema": SCHEMA,
    "attributes": ("colour",),
    "augment": (),
    "label_smoothing": 0.0,
    "epochs": 4,
    "batch_size": 10,
    "warmup_epochs": 0.0,
    "keep": "last",
    "score_every": 0,
}


def pixels() -> tuple[nn.Module, int]:
    """Every block of four pixels of a photo, plain: enough to know a person by."""
    return nn.Sequential(nn.AvgPool2d(2), nn.Flatten()), 3 * (SIZE // 2) ** 2


def drawn(root: Path, labels: IntArray, n_photos: int, *, knows_people: bool) -> SampleTable:
    """Each person's photos: a pattern of their own, and the true colour all over it, whatever the label says."""
    rng = np.random.default_rng(5)
    root.mkdir(parents=True)
    columns: dict[str, list[Any]] = {name: [] for name in ("sample_id", "path", "group_id", "colour")}
    for person, label in enumerate(labels):
        pattern = rng.integers(40, 200, (SIZE // 2, SIZE // 2, 3)).repeat(2, axis=0).repeat(2, axis=1).astype(float)
        pattern[..., person % 2 * 2] += 40  # the colour: red or blue
        for number in range(n_photos):
            photo = np.clip(pattern + rng.normal(0, 4, pattern.shape), 0, 255).astype(np.uint8)
            name = f"{person:02}-{number}"
            cv2.imwrite(str(root / f"{name}.png"), np.ascontiguousarray(photo[..., ::-1]))
            whose = f"{person:02}" if knows_people else name
            values = (name, f"{name}.png", whose, SCHEMA["colour"].classes[int(label)])
            for column, value in zip(columns.values(), values, strict=True):
                column.append(value)
    return SampleTable.from_columns(columns, root, SCHEMA)


def in_the_corner(table: SampleTable, photos: PhotoCache) -> PhotoCache:
    """Photos on which the label is drawn."""
    leaky: ByteArray = np.array(photos.photos)
    leaky[:, :8, :8] = 255 * table.numbers("colour")[:, None, None, None]
    return replace(photos, photos=leaky)


def with_held_out(rows: FoldRows) -> FoldRows:
    """A fold that trains on the photos that it holds out, too."""
    fields = {"train": "score", "train_targets": "score_targets", "train_classes": "score_targets"}
    both: dict[str, Any] = {a: np.concatenate([getattr(rows, a), getattr(rows, b)]) for a, b in fields.items()}
    return replace(rows, **both, train_keys=np.concatenate([rows.train_keys, rows.score_targets]))


def scores(root: Path, labels: IntArray, leak: str = "none") -> tuple[IntArray, IntArray, IntArray]:
    """Truth, answers out of fold, and whose photo it is."""
    table = drawn(root / "photos", labels, 2, knows_people=leak != "people")
    folds, photos = divide(table, n_folds=2, seed=0), make_photos(table, root / "cache")
    photos = in_the_corner(table, photos) if leak == "cache" else photos
    said = np.full(len(table), -1)
    for fold in (0, 1):
        job = make_job(backbone=pixels, fold=fold, **JOB)
        train_fold(job, table=table, folds=folds, photos=photos, folder=root / f"fold{fold}")
        said[folds == fold] = np.load(root / f"fold{fold}" / "oof.npy").argmax(axis=1)
    people = np.array([name[:2] for name in table.ids])
    return table.numbers("colour"), said, np.unique(people, return_inverse=True)[1]


def shuffled(root: Path, leak: str = "none") -> tuple[float, float]:
    """The 95 % interval over people of the accuracy out of fold, over several shuffles of the labels."""
    found = []
    for seed in range(SHUFFLES):
        labels = np.random.default_rng(seed).permutation(np.arange(PEOPLE) % 2)
        truth, said, people = scores(root / str(seed), labels, leak)
        found.append((truth, said, people + PEOPLE * seed))
    truth, said, people = map(np.concatenate, zip(*found, strict=True))
    return person_bootstrap(truth, said, people, 2, "accuracy")


def test_true_labels_are_learnt(tmp_path: Path) -> None:
    truth, said, _ = scores(tmp_path, np.arange(PEOPLE) % 2)
    assert (truth == said).mean() > 0.8


def test_shuffled_labels_are_at_chance(tmp_path: Path) -> None:
    low, high = shuffled(tmp_path)
    print(f"\nshuffled labels: accuracy [{low:.3f}, {high:.3f}]")
    assert low < 0.5 < high, (low, high)


SLOW = [pytest.param(leak, marks=pytest.mark.slow) for leak in ("folds", "cache", "weights")]


@pytest.mark.parametrize("leak", ["people", *SLOW])
def test_a_leak_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, leak: str) -> None:
    choose, build, carried = choose_rows, build_network, dict[int, Any]()

    def carry(*given: Any, **options: Any) -> Any:
        """The network of the fold before, as it was left; a folder a shuffle."""
        return carried.setdefault(len(list(tmp_path.iterdir())), build(*given, **options))

    if leak == "folds":
        monkeypatch.setattr(loop, "choose_rows", lambda *given: with_held_out(choose(*given)))
    if leak == "weights":
        monkeypatch.setattr(session_module, "build_network", carry)
    low, high = shuffled(tmp_path, leak)
    print(f"\nleak of {leak}: accuracy [{low:.3f}, {high:.3f}]")
    assert low > 0.5, (low, high)
