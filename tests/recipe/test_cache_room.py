"""One cache for all experts and folds of a run: what is decoded how often, and what a limit on its room does."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from decode_counter import count_decodes
from task_text import GRAPH_TEXT, SCHEMA_TEXT
from tiny_training import draw_table, tiny_backbone
from torch import Tensor, nn

from ensemble_kit.models.backbones import BACKBONES, Backbone
from ensemble_kit.recipe.load import Recipe, load_recipe
from ensemble_kit.recipe.planning import plan_run
from ensemble_kit.recipe.run import Silent, open_run
from ensemble_kit.recipe.train import train_experts
from ensemble_kit.runs import Run

RECIPE = (
    SCHEMA_TEXT
    + GRAPH_TEXT
    + """
[data]
folds = 2
[train]
backbone = "tiny_backbone"
weights = "none"
size = 16
epochs = 1
batch_size = 16
precision = "fp32"
augment = ["flip"]
threads = 1
[experts]
age = ["each"]
"""
)
N_PHOTOS, PHOTO_BYTES = 72, 16 * 16 * 3


class Listening(Silent):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, line: str) -> None:
        self.lines.append(line)


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = tmp_path / "photos"
    draw_table(root, people=24).to_csv(root / "samples.csv")
    monkeypatch.setitem(BACKBONES, "tiny_backbone", Backbone(tiny_backbone))
    return root


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    return count_decodes(monkeypatch)


def recipe_of(folder: Path, *edits: str) -> Recipe:
    (folder / "five.toml").write_text(RECIPE)
    return load_recipe(folder / "five.toml", edits)


def trained(recipe: Recipe, photos: Path, folder: Path) -> tuple[Run, list[str]]:
    heard = Listening()
    run = open_run(recipe, photos, folder, heard)
    train_experts(run, recipe, recipe.experts, heard)
    return run, heard.lines


def test_no_photo_is_decoded_twice_over_five_experts_and_all_folds(
    photos: Path, decoded: Counter[str], tmp_path: Path
) -> None:
    recipe = recipe_of(tmp_path)
    run, _ = trained(recipe, photos, tmp_path / "run")
    assert len(list(run.folder.glob("**/DONE"))) == 10
    assert len(decoded) == N_PHOTOS
    assert set(decoded.values()) == {1}


def test_a_limit_is_planned_said_and_kept(photos: Path, tmp_path: Path) -> None:
    gb = N_PHOTOS * PHOTO_BYTES / 1e9
    for share, kept in ((1.1, True), (0.9, False)):
        recipe = recipe_of(tmp_path, f"data.cache_gb={share * gb:.9f}")
        plan = plan_run(recipe, photos, tmp_path / "new", recipe.experts, Silent())
        assert (plan.cache_bytes > 0) == kept
        assert plan.cache_bytes + plan.not_kept_bytes == N_PHOTOS * PHOTO_BYTES
        assert ("decoded each time" in plan.text()) != kept
    mask = [spec for spec in recipe.experts if spec.attributes == ("mask",)]
    heard = Listening()
    run = open_run(recipe, photos, tmp_path / "run", heard)
    train_experts(run, recipe, mask, heard, folds=[0])
    assert any("they are not kept but decoded each time" in line for line in heard.lines)
    assert list((run.folder / "cache").glob("*.npy")) == []


def test_a_frozen_backbone_sees_each_photo_once_for_all_experts_that_start_alike(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []

    class Counting(nn.Module):
        def __init__(self, network: nn.Module):
            super().__init__()
            self.network = network

        def forward(self, inputs: Tensor) -> Tensor:
            seen.append(len(inputs))
            found: Tensor = self.network(inputs)
            return found

    def counting() -> tuple[nn.Module, int]:
        network, n_features = tiny_backbone()
        return Counting(network), n_features

    monkeypatch.setitem(BACKBONES, "tiny_backbone", Backbone(counting))
    frozen = ("train.freeze=['backbone']", "train.feature_views=1", "train.epochs=3", "train.score_every=0")
    trained(recipe_of(tmp_path, *frozen), photos, tmp_path / "run")
    folds_that_start_alike = 2 * N_PHOTOS  # a fold's first weights are the same for all five experts
    views = 1 + 1
    held_out = 5 * N_PHOTOS  # in the end every expert answers what it held out, as the whole network that is kept
    assert sum(seen) == views * folds_that_start_alike + held_out
