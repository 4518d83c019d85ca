"""Training that starts from another training's weights."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_training import BACKBONES, SCHEMA, draw_table, folds_of, make_job, make_photos

from ensemble_kit.card import read_card
from ensemble_kit.data.samples import SampleTable
from ensemble_kit.loading.cache import PhotoCache
from ensemble_kit.models.checkpoint import load_expert
from ensemble_kit.training import ExpertJob, FoldResult, train_fold


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> SampleTable:
    return draw_table(tmp_path_factory.mktemp("photos"))


@pytest.fixture(scope="module")
def photos(table: SampleTable, tmp_path_factory: pytest.TempPathFactory) -> PhotoCache:
    return make_photos(table, tmp_path_factory.mktemp("cache"))


def train(table: SampleTable, photos: PhotoCache, folder: Path, job: ExpertJob) -> FoldResult:
    return train_fold(job, table=table, folds=folds_of(table), photos=photos, folder=folder)


def test_a_pretrained_checkpoint_starts_the_backbone(table: SampleTable, photos: PhotoCache, tmp_path: Path) -> None:
    first = train(table, photos, tmp_path / "a", make_job())
    job = make_job(weights=str(first.checkpoint), attributes=("gender",), epochs=1, backbone_lr=0.0, weight_decay=0.0)
    second = train(table, photos, tmp_path / "b", job)
    one, two = (load_expert(r.checkpoint, backbones=BACKBONES)[0].state_dict() for r in (first, second))
    assert torch.equal(one["backbone.0.weight"], two["backbone.0.weight"])
    assert read_card(second.checkpoint).backbone["init"].startswith("sha256:")
    assert read_card(second.checkpoint).schema == SCHEMA


def test_weights_that_have_seen_the_held_out_people_are_told(
    table: SampleTable, photos: PhotoCache, tmp_path: Path
) -> None:
    first = train(table, photos, tmp_path / "a", make_job(epochs=1))
    job = make_job(weights=str(first.checkpoint), attributes=("gender",), epochs=1)
    assert train(table, photos, tmp_path / "same", job).notices == ()
    other = dataclasses.replace(job, fold=1)
    for _ in range(2):  # a fold that is skipped says it too
        (notice,) = train(table, photos, tmp_path / "other", other).notices
        assert notice == (
            f"gender, fold 1: the weights {first.checkpoint} were trained on people held out by this fold: "
            "its out-of-fold scores are too good"
        )
    state = {k: v for k, v in load_file(first.checkpoint).items() if k.startswith("backbone.")}
    save_file(state, tmp_path / "plain.safetensors")
    unknown = dataclasses.replace(other, weights=str(tmp_path / "plain.safetensors"))
    assert train(table, photos, tmp_path / "unknown", unknown).notices == ()


def test_weights_of_other_samples_are_not_told(table: SampleTable, photos: PhotoCache, tmp_path: Path) -> None:
    elsewhere = draw_table(tmp_path / "photos", people=14)
    first = train(elsewhere, make_photos(elsewhere, tmp_path / "cache"), tmp_path / "a", make_job(epochs=1))
    job = make_job(weights=str(first.checkpoint), epochs=1, fold=1)
    assert train(table, photos, tmp_path / "b", job).notices == ()
