"""Drawn photos, a backbone of a few hundred weights, and jobs: what the tests of training and prediction share."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from torch import nn

from ensemble_kit.arrays import ByteArray, IntArray
from ensemble_kit.data.decode import Preprocess
from ensemble_kit.data.samples import SampleTable
from ensemble_kit.loading.cache import PhotoCache
from ensemble_kit.schema import Attribute, Schema
from ensemble_kit.training import ExpertJob
from ensemble_kit.training.phases import Phase

SIZE = 16

SCHEMA = Schema(
    Attribute("mask", ["worn", "incorrect", "not_worn"]),
    Attribute("gender", ["male", "female"]),
    Attribute("age", ["<30", "30-59", ">=60"], borders=[30, 60]),
)


def tiny_backbone() -> tuple[nn.Module, int]:
    """Two convolutions with batch norm."""
    layers = nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 16, 3, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
    )
    return layers, 64


BACKBONES = {"tiny_backbone": tiny_backbone}


def draw_photo(mask: int, gender: int, age: float, rng: np.random.Generator, size: int = SIZE) -> ByteArray:
    """Mask = which third is bright, gender = red or blue, age = the green level; noise on top."""
    photo = np.full((size, size, 3), 60, dtype=np.float64)
    photo[mask * size // 3 : (mask + 1) * size // 3] += 90
    photo[..., 2 if gender else 0] += 60
    photo[..., 1] += 2 * (age - 45)
    photo += rng.normal(0, 6, photo.shape)
    return np.clip(photo, 0, 255).astype(np.uint8)


def draw_table(root: Path, people: int = 12, seed: int = 0, broken: Sequence[str] = ()) -> SampleTable:
    """Writes three photos a person, one per mask state; photos named in `broken` are no photos."""
    rng = np.random.default_rng(seed)
    root.mkdir(parents=True, exist_ok=True)
    columns: dict[str, list[Any]] = {k: [] for k in ("sample_id", "path", "group_id", "mask", "gender", "age")}
    ages = [22.0, 45.0, 60.0]
    for person in range(people):
        gender, age = person % 2, ages[person // 2 % 3]
        for mask, name in enumerate(SCHEMA["mask"].classes):
            path = f"p{person:03d}_{name}.png"
            photo = draw_photo(mask, gender, age, rng)
            cv2.imwrite(str(root / path), np.ascontiguousarray(photo[..., ::-1]))
            if path in broken:
                (root / path).write_bytes(b"no photo")
            values = (f"p{person:03d}/{name}", path, f"p{person:03d}", name, SCHEMA["gender"].classes[gender], age)
            for column, value in zip(columns, values, strict=True):
                columns[column].append(value)
    return SampleTable.from_columns(columns, root, SCHEMA)


def folds_of(table: SampleTable, n_folds: int = 2) -> IntArray:
    """Every `n_folds`-th block of six people, so that each fold sees every class."""
    person = np.unique(table.groups, return_inverse=True)[1]
    return (person // 6 % n_folds).astype(np.int64)


PHASE: dict[str, Any] = {
    "epochs": 3,
    "batch_size": 6,
    "accumulate": 1,
    "optimizer": "adamw",
    "backbone_lr": 1e-2,
    "head_lr": 1e-2,
    "weight_decay": 0.01,
    "clip": 0.0,
    "schedule": "cosine",
    "warmup_epochs": 0.5,
    "step_epochs": 1,
    "freeze": (),
}


def make_phase(**changed: Any) -> Phase:
    return Phase(**(PHASE | changed))


def make_job(**changed: Any) -> ExpertJob:
    """Settings of a phase make the one phase, unless `phases` is given."""
    own = {name: changed.pop(name) for name in list(changed) if name in PHASE}
    settings: dict[str, Any] = {
        "schema": SCHEMA,
        "attributes": ("mask",),
        "condition": {},
        "backbone": tiny_backbone,
        "weights": "none",
        "head": "linear",
        "heads": "joint",
        "output": "classes",
        "columns": None,
        "size": (SIZE, SIZE),
        "window": None,
        "crop": (1.0, 1.0),
        "crop_at": (0.5, 0.5),
        "prepare": (),
        "normalise": "given",
        "mean": (0.4, 0.4, 0.4),
        "std": (0.2, 0.2, 0.2),
        "augment": ("flip",),
        "augment_share": None,
        "phases": (make_phase(**own),),
        "ema": 0.0,
        "swa_epochs": 0,
        "patience": 0,
        "feature_views": None,
        "smote": 0,
        "loss": "cross_entropy",
        "class_weights": "none",
        "label_smoothing": 0.1,
        "smoothing": "all",
        "mix": (),
        "mix_share": 1.0,
        "sampler": "natural",
        "balance_by": (),
        "keep": "best",
        "soup": "none",
        "score_every": 1,
        "save_every": 1,
        "precision": "fp32",
        "channels_last": None,
        "device": "cpu",
        "share_gpu": False,
        "workers": 0,
        "threads": 1,
        "tensorboard": False,
        "seed": 0,
        "fold": 0,
        "n_folds": 2,
        "borders": None,
        "leave_out": (),
        "people_share": 1.0,
    }
    return ExpertJob(**(settings | changed))


def make_photos(table: SampleTable, folder: Path, job: ExpertJob | None = None) -> PhotoCache:
    preprocess: Preprocess = (job or make_job()).preprocess
    return PhotoCache.build(table, preprocess, folder)
