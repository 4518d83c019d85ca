"""What people write themselves, kept readable: a PIL + albumentations DataLoader, one pass over all photos a checkpoint.

And what it is timed with: ResNet18, 5 folds of mask, gender and three age experts. The 25 checkpoints have random
weights: what they answer does not change what they cost, and random masks route photos to all three age experts.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import albumentations as A
import numpy as np
import torch
from albumentations.pytorch import ToTensorV2
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

import ensemble_kit as ek
from ensemble_kit.card import Card
from ensemble_kit.data.decode import Preprocess
from ensemble_kit.models.checkpoint import save_checkpoint
from ensemble_kit.models.heads import block_head, build_network

FOLDS = 5
MASK = ek.Attribute("mask", ["worn", "incorrect", "not_worn"])
GENDER = ek.Attribute("gender", ["male", "female"])
AGE = ek.Attribute("age", ["<30", "30-59", ">=60"], borders=[30, 60])
SCHEMA = ek.Schema(MASK, GENDER, AGE)
GRAPH = ek.Graph({"mask": [], "gender": [], "age": ["mask"]})
EXPERTS: list[tuple[str, dict[str, tuple[str, ...]]]] = [
    ("mask", {}),
    ("gender", {}),
    ("age", {"mask": ("worn",)}),
    ("age", {"mask": ("incorrect",)}),
    ("age", {"mask": ("not_worn",)}),
]


class NaivePhotos(Dataset[Tensor]):
    def __init__(self, paths: Sequence[Path], size: int):
        self.paths = paths
        steps = [A.Resize(size, size, interpolation=3), A.Normalize(), ToTensorV2()]  # 3 = area
        self.transform = A.Compose(steps)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, number: int) -> Tensor:
        photo = np.array(Image.open(self.paths[number]).convert("RGB"))
        found: Tensor = self.transform(image=photo)["image"]
        return found


def naive(paths: Sequence[Path], networks: Sequence[nn.Module], size: int, batch: int = 32) -> NDArray[np.int64]:
    """One pass over all photos a checkpoint, then the folds' means and the predicted mask's age model.

    Args:
        networks: `FOLDS` of each of `EXPERTS`, in that order.

    Returns:
        `(n_photos,)` joint classes.
    """
    answers = []
    for network in networks:
        loader = DataLoader(NaivePhotos(paths, size), batch_size=batch)
        with torch.no_grad():
            answers.append(torch.cat([torch.softmax(network(photos), dim=1) for photos in loader]).numpy())
    means = [np.mean(answers[i * FOLDS : (i + 1) * FOLDS], axis=0) for i in range(len(EXPERTS))]
    mask, gender, ages = means[0].argmax(1), means[1].argmax(1), np.stack(means[2:], axis=1)
    age = ages[np.arange(len(mask)), mask].argmax(1)
    return np.asarray(mask * 6 + gender * 3 + age)


def write_checkpoints(folder: Path, size: int) -> list[Path]:
    """`FOLDS` of each of `EXPERTS`, in that order."""
    paths = []
    preprocess = Preprocess((size, size)).to_json()
    for number, (name, condition) in enumerate(EXPERTS):
        for fold in range(FOLDS):
            head = block_head(SCHEMA, [name])
            network = build_network("resnet18", "none", len(head.classes), (number, fold))
            train: dict[str, Any] = {"seed": 0, "fold": fold, "n_folds": FOLDS, "epoch": 1}
            train |= dict.fromkeys(("samples_sha256", "train_groups_sha256", "held_out_groups_sha256"), "")
            backbone = {"name": "resnet18", "init": "none", "head": "linear"}
            card = Card(SCHEMA, condition, (head,), backbone, preprocess, train)
            paths.append(folder / f"{number}-{name}-fold{fold}.safetensors")
            save_checkpoint(paths[-1], network, card)
    return paths
