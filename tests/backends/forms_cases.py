"""Trained checkpoints and a back end that is no extra: what the tests of back ends share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tiny_training import BACKBONES, draw_table, folds_of, make_job, make_photos
from torch import Tensor

from ensemble_kit.backends.form import Forward, Source
from ensemble_kit.backends.forms import Forms
from ensemble_kit.backends.photos import TrainingPhotos
from ensemble_kit.card import read_card
from ensemble_kit.files import sha256_file
from ensemble_kit.models.compute import Compute
from ensemble_kit.training import train_fold


class World:
    """Checkpoints of fold 0: mask, age where the mask is worn, and one with a head each for mask and gender."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.table = draw_table(root / "photos")
        self.trained_on = TrainingPhotos(self.table, folds_of(self.table))
        self.mask = self.train(attributes=("mask",), mean=(0.3, 0.4, 0.5))
        self.worn = self.train(attributes=("age",), condition={"mask": ("worn",)}, columns=tuple(range(20, 62, 2)))
        self.two = self.train(attributes=("mask", "gender"), heads="separate", window=(14, 12))
        self.pooled = self.train(attributes=("age",))

    def train(self, **changed: Any) -> Path:
        job = make_job(epochs=1, **changed)
        photos = make_photos(self.table, self.root / "cache", job)
        folder = self.root / job.name.replace(" ", "-")
        return train_fold(job, table=self.table, folds=self.trained_on.folds, photos=photos, folder=folder).checkpoint

    def forms(self, backend: Any, **changed: Any) -> Forms:
        settings: dict[str, Any] = {"trained_on": self.trained_on, "backbones": BACKBONES}
        return Forms(backend, "cpu", **(settings | changed))


def load(forms: Forms, path: Path) -> Forward:
    return forms.load(path, read_card(path), sha256_file(path))


@dataclass
class Shifted:
    """Adds to the logits of the first column what it kept in a file."""

    shift: float = 0.0
    version: str = "1"
    name: str = "shifted"
    least_equal: float | None = 0.99
    devices: tuple[str, ...] = ("cpu",)
    calibrated: list[Tensor] = field(default_factory=list)
    built: int = 0

    def versions(self) -> Mapping[str, str]:
        return {"shifted": self.version}

    def note(self, compute: Compute, /) -> str | None:
        return f"not fast on {compute.device.type}"

    def convert(self, source: Source, folder: Path, /) -> None:
        assert list(folder.iterdir()) == []
        self.built += 1
        self.calibrated = list(source.photos())
        np.save(folder / "shift.npy", np.float32(self.shift))

    def load(self, source: Source, folder: Path, /) -> Forward:
        network, shift = source.network(), float(np.load(folder / "shift.npy"))

        def forward(photos: Tensor) -> Tensor:
            logits: Tensor = network(photos)
            return logits + shift * torch.eye(logits.shape[1])[0]

        return forward
