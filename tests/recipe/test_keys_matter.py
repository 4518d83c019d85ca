"""Every key of `[train]` changes the first steps' loss, the weights or what is kept of a tiny training."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from other_values import OTHER_VALUES
from tiny_training import draw_table, folds_of, tiny_backbone
from torch import nn

from ensemble_kit.card import read_card
from ensemble_kit.data.samples import SampleTable
from ensemble_kit.files import sha256_file
from ensemble_kit.loading.cache import PhotoCache
from ensemble_kit.models.backbones import BACKBONES, Backbone
from ensemble_kit.recipe.experts import ExpertSpec
from ensemble_kit.recipe.load import load_recipe
from ensemble_kit.recipe.settings import TrainSettings
from ensemble_kit.recipe.train import job_of
from ensemble_kit.runs import Run
from ensemble_kit.training import train_fold

BASE: dict[str, Any] = {
    "backbone": "tiny",
    "weights": "none",
    "size": (16, 16),
    "crop": (1.0, 1.0),
    "augment": ("flip",),
    "epochs": 2,
    "batch_size": 6,
    "warmup_epochs": 0.25,
    "head_lr": 0.01,
    "backbone_lr": 0.01,
    "device": "cpu",
    "precision": "fp32",
    "threads": 1,
}
VALUES: dict[str, Any] = {
    **OTHER_VALUES,
    "backbone": "tiny_too",
    "weights": "FIRST",
    "size": (24, 16),
    "window": (12, 8),
    "crop": (0.5, 0.25),
    "augment": ("invert",),
    "min_steps": 9,
    "clip": 0.01,
    "patience": 1,
    "freeze": ("backbone",),
    "step_epochs": 1,
    "keep": "every 1",
    "soup": "uniform",
    "precision": "bf16",
    "people_share": 0.9,
    "phases": ({"epochs": 1}, {"head_lr": 0.5}),
}
FROZEN = {"freeze": ("backbone",)}
BESIDE: dict[str, dict[str, Any]] = {
    "crop_at": {"crop": (0.5, 0.5)},
    "augment_share": {"augment": ("flip=1",)},
    "patience": {"epochs": 4, "head_lr": 1e-12, "backbone_lr": 1e-12},
    "feature_views": FROZEN,
    "smote": {**FROZEN, "feature_views": 0, "leave_out": ((64.0, 70.0),)},
    "mix_share": {"mix": ("mixup=0.4",)},
    "step_epochs": {"schedule": "step=0.5"},
    "balance_by": {"sampler": "undersample"},
    "soup": {"keep": "every 1"},
}
"""What a key needs beside it."""
HOW = {"save_every", "device", "share_gpu", "workers", "threads", "jobs", "channels_last"}
"""How a training runs, not what comes of it."""
ELSEWHERE = {"tensorboard", "seeds"}
"""test_board and test_heads_run; a seed of its own is a further training, see test_keys."""


def tiny_too() -> tuple[nn.Module, int]:
    network, n_features = tiny_backbone()
    return nn.Sequential(network, nn.ReLU()), n_features


@dataclass
class World:
    table: SampleTable
    run: Run
    root: Path
    found: dict[str, dict[str, Any]]

    def outcome(self, names: tuple[str, ...], keys: dict[str, Any]) -> dict[str, Any]:
        """What a training of two epochs comes to; of the same keys it is computed once."""
        name = repr((names, sorted(keys.items())))
        if name not in self.found:
            self.found[name] = self._train(names, keys, self.root / str(len(self.found)))
        return self.found[name]

    def _train(self, names: tuple[str, ...], keys: dict[str, Any], folder: Path) -> dict[str, Any]:
        settings = load_recipe("face-mask").settings_for(names, {**BASE, **keys})
        job = job_of(self.run, ExpertSpec(names, {}), settings, 0)
        photos = PhotoCache.build(self.table, job.preprocess, self.root / "cache")
        lines: list[Any] = []
        result = train_fold(
            job, table=self.table, folds=self.run.folds, photos=photos, folder=folder, on_epoch=lines.append
        )
        return {
            "losses": [(line.train_loss, line.val_loss) for line in lines],
            "weights": read_card(folder / "best.safetensors").tensors_sha256,
            "answers": sha256_file(folder / "oof.npy"),
            "kept": sorted(path.name for path in folder.glob("*.safetensors")),
            "told": list(result.notices),
        }


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """12 people with ages on both sides of every border, old and new, in both folds."""
    root = tmp_path_factory.mktemp("keys")
    drawn, recipe = draw_table(root / "photos"), load_recipe("face-mask")
    ages = np.array([22.0, 28.0, 45.0, 58.0, 60.0, 65.0])
    columns = {name: drawn.frame[name].tolist() for name in drawn.frame.columns}
    columns["age"] = np.repeat(np.tile(ages, 2), 3).tolist()
    table = SampleTable.from_columns(columns, drawn.root, recipe.schema)
    run = Run.create(
        root / "run", table, folds_of(table), data=root, layout="auto", schema=recipe.schema, graph=recipe.graph,
        division={"n_folds": 2, "fold_seed": 0, "val_ratio": None}, combine=recipe.combine.model_dump(), write=False,
    )  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(BACKBONES, "tiny", Backbone(tiny_backbone))
        patch.setitem(BACKBONES, "tiny_too", Backbone(tiny_too))
        torch.manual_seed(0)
        yield World(table, run, root, {})


def test_every_key_has_a_row() -> None:
    assert set(VALUES) == set(TrainSettings.model_fields)


@pytest.mark.parametrize("key", sorted(set(VALUES) - HOW - ELSEWHERE))
def test_every_key_changes_the_training(world: World, key: str) -> None:
    names, beside, value = ("gender", "age") if key == "heads" else ("age",), BESIDE.get(key, {}), VALUES[key]
    before = world.outcome(names, beside)
    if key == "weights":
        value = str(world.root / "0" / "best.safetensors")
    after = world.outcome(names, {**beside, key: value})
    assert {name for name in before if name != "told" or key == "soup" if before[name] != after[name]}, after


def test_how_often_it_is_saved_changes_nothing(world: World) -> None:
    assert world.outcome(("age",), {"save_every": 4}) == world.outcome(("age",), {})


def test_nothing_changes_by_itself(world: World) -> None:
    again = partial(world._train, ("age",), {}, world.root / "again")
    assert again() == world.outcome(("age",), {})
