"""An expert of a taxonomy learns among the classes that exist under its condition, and says no other."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_training import BACKBONES, SCHEMA, draw_table, folds_of, make_job, make_photos, tiny_backbone
from torch.nn import functional as F

from ensemble_kit.data.samples import SampleTable
from ensemble_kit.files import read_array
from ensemble_kit.loading.cache import PhotoCache
from ensemble_kit.models.checkpoint import load_expert
from ensemble_kit.models.heads import build_network, close_outputs
from ensemble_kit.schema import Schema
from ensemble_kit.training import EpochLine, train_fold

NAMES = ("mask", "age")
PATHS = [("worn", "<30"), ("worn", ">=60"), *((m, a) for m in ("incorrect", "not_worn") for a in SCHEMA["age"].classes)]


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> SampleTable:
    """The drawn people without worn masks from 30 to 59: the taxonomy does not have them."""
    drawn = draw_table(tmp_path_factory.mktemp("photos"), people=24)
    schema = Schema(*(SCHEMA[name] for name in NAMES), paths=PATHS)
    frame = drawn.frame[~((drawn.frame["mask"] == "worn") & (drawn.frame["age"] == 45.0))]
    columns = {name: frame[name].tolist() for name in frame.columns if name != "gender"}
    return SampleTable.from_columns(columns, drawn.root, schema)


@pytest.fixture(scope="module")
def photos(table: SampleTable, tmp_path_factory: pytest.TempPathFactory) -> PhotoCache:
    return make_photos(table, tmp_path_factory.mktemp("cache"))


def train(table: SampleTable, photos: PhotoCache, folder: Path, **changed: object) -> None:
    job = make_job(schema=table.schema, attributes=("age",), epochs=2, **changed)
    train_fold(job, table=table, folds=folds_of(table), photos=photos, folder=folder)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_classes_that_a_condition_rules_out_have_no_probability(
    table: SampleTable, photos: PhotoCache, tmp_path: Path, precision: str
) -> None:
    train(table, photos, tmp_path, condition={"mask": ("worn",)}, precision=precision)
    probs = read_array(tmp_path / "oof.npy")
    assert (probs[:, 1] == 0).all()
    assert (probs[:, [0, 2]] > 0).all()
    assert np.allclose(probs.sum(axis=1), 1, atol=1e-5)
    network, _ = load_expert(tmp_path / "best.safetensors", backbones=BACKBONES)
    assert network.head.bias[1] == -1e4
    assert not network.head.weight[1].any()


def test_without_a_condition_every_class_stays(table: SampleTable, photos: PhotoCache, tmp_path: Path) -> None:
    train(table, photos, tmp_path, condition={})
    assert (read_array(tmp_path / "oof.npy") > 0).all()


def test_the_loss_of_the_first_step_is_over_the_possible_classes(
    table: SampleTable, photos: PhotoCache, tmp_path: Path
) -> None:
    """One step of all photos: the loss reported is the smoothed cross entropy of the open columns alone."""
    lines: list[EpochLine] = []
    options = {"augment": (), "batch_size": 64, "epochs": 1, "condition": {"mask": ("worn",)}, "label_smoothing": 0.3}
    job = make_job(schema=table.schema, attributes=("age",), **options)
    folds = folds_of(table)
    train_fold(job, table=table, folds=folds, photos=photos, folder=tmp_path, on_epoch=lines.append)
    rows = np.flatnonzero((folds != 0) & (table.numbers("mask") == 0))
    network = build_network(tiny_backbone, "none", 3, (job.seed, job.fold)).train()
    mean, std = (torch.tensor(values).view(3, 1, 1) * 255 for values in (job.mean, job.std))
    inputs = (torch.from_numpy(photos.photos[rows]).permute(0, 3, 1, 2).float() - mean) / std
    logits = network(inputs)[:, [0, 2]].detach()
    targets = torch.from_numpy(table.numbers("age")[rows] // 2)
    expected = float(F.cross_entropy(logits, targets, label_smoothing=0.3))
    assert lines[0].train_loss == pytest.approx(expected, rel=1e-4)


def test_closing_nothing_changes_nothing() -> None:
    network, same = (build_network(tiny_backbone, "none", 3, (0, 0)) for _ in range(2))
    close_outputs(network, np.arange(3))
    for one, two in zip(network.parameters(), same.parameters(), strict=True):
        assert torch.equal(one, two)
