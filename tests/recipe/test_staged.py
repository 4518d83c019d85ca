"""Staged training and seeds: which checkpoint a fold starts from, in which order experts train, and who votes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from task_text import NO_EDGES_TEXT, SCHEMA_TEXT
from tiny_training import draw_table, tiny_backbone

from ensemble_kit.card import read_card
from ensemble_kit.errors import DataError, UsageError
from ensemble_kit.files import read_array, read_json
from ensemble_kit.models.backbones import BACKBONES, Backbone
from ensemble_kit.models.checkpoint import load_expert
from ensemble_kit.recipe.experts import ExpertSpec
from ensemble_kit.recipe.load import Recipe, load_recipe
from ensemble_kit.recipe.planning import plan_run
from ensemble_kit.recipe.run import Silent, open_run
from ensemble_kit.recipe.starts import check_start, in_order, start_of
from ensemble_kit.recipe.train import train_experts
from ensemble_kit.runs import Run

RECIPE = (
    SCHEMA_TEXT
    + NO_EDGES_TEXT
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
augment = []
[train.mask]
weights = "run:gender"
backbone_lr = 1e-12
weight_decay = 0.0
seeds = [0, 1]
[experts]
age = []
"""
)


class Listening(Silent):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, line: str) -> None:
        self.lines.append(line)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("photos")
    table = draw_table(root, people=24)
    table.to_csv(root / "samples.csv")
    return root


def recipe_of(folder: Path, *edits: str) -> Recipe:
    folder.mkdir(exist_ok=True)
    (folder / "staged.toml").write_text(RECIPE)
    return load_recipe(folder / "staged.toml", edits)


@pytest.fixture(scope="module")
def staged(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("staged")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(BACKBONES, "tiny_backbone", Backbone(tiny_backbone))
        recipe = recipe_of(folder)
        run = open_run(recipe, photos, folder / "run", Silent())
        planned = plan_run(recipe, photos, folder / "new", recipe.experts, Silent())
        assert [(fold.expert, fold.voter) for fold in planned.folds] == [
            ("gender", "fold0"), ("gender", "fold1"), ("mask", "fold0-seed0"), ("mask", "fold0-seed1"),
            ("mask", "fold1-seed0"), ("mask", "fold1-seed1"),
        ]  # fmt: skip
        train_experts(run, recipe, recipe.experts, Silent())
    return run


@pytest.fixture(autouse=True)
def known_backbone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(BACKBONES, "tiny_backbone", Backbone(tiny_backbone))


def test_each_fold_starts_from_the_same_fold_s_backbone(staged: Run) -> None:
    for fold in (0, 1):
        first, _ = load_expert(staged.folder / "experts" / "gender" / f"fold{fold}" / "best.safetensors")
        for seed in (0, 1):
            file = staged.folder / "experts" / "mask" / f"fold{fold}-seed{seed}" / "best.safetensors"
            network, card = load_expert(file)
            assert (card.train["fold"], card.train["seed"]) == (fold, seed)
            assert card.backbone["init"].startswith("sha256:")
            ours, theirs = network.state_dict(), first.state_dict()
            assert torch.allclose(ours["backbone.0.weight"], theirs["backbone.0.weight"], atol=1e-7)
    folders = [staged.folder / "experts" / "gender" / f"fold{fold}" / "best.safetensors" for fold in (0, 1)]
    one, other = (load_expert(file)[0].state_dict()["backbone.0.weight"] for file in folders)
    assert not torch.allclose(one, other, atol=1e-4)


def test_out_of_fold_is_the_mean_over_seeds(staged: Run) -> None:
    mask, gender = staged.out_of_fold()
    for fold in (0, 1):
        place = staged.folder / "experts" / "mask"
        each = [read_array(place / f"fold{fold}-seed{seed}" / "oof.npy") for seed in (0, 1)]
        assert not np.array_equal(each[0], each[1])
        rows = staged.folds == fold
        np.testing.assert_allclose(mask.layers[0][rows], (each[0] + each[1]) / 2, atol=1e-7)
        alone = read_array(staged.folder / "experts" / "gender" / f"fold{fold}" / "oof.npy")
        np.testing.assert_array_equal(gender.layers[0][rows], alone)
    assert [(one.fold, one.seed) for one in staged.finished()[:4]] == [(0, 0), (0, 1), (1, 0), (1, 1)]


def test_what_is_done_is_skipped_and_more_seeds_are_trained(staged: Run, photos: Path, tmp_path: Path) -> None:
    recipe = recipe_of(tmp_path, "train.mask.seeds=[0, 1, 2]")
    planned = plan_run(recipe, photos, staged.folder, recipe.experts, Silent())
    told = {fold.voter: fold.is_to_train for fold in planned.folds if fold.expert == "mask"}
    assert told == {f"fold{f}-seed{s}": s == 2 for f in (0, 1) for s in (0, 1, 2)}
    listening = Listening()
    train_experts(staged, recipe_of(tmp_path), recipe_of(tmp_path).experts, listening)
    assert sum("done before, skipped" in line for line in listening.lines) == 6


def test_with_and_without_seeds_do_not_mix(staged: Run, tmp_path: Path) -> None:
    recipe = recipe_of(tmp_path, "train.mask.seeds=[]")
    with pytest.raises(DataError, match="were trained with seeds"):
        train_experts(staged, recipe, recipe.experts, Silent())
    seeded = recipe_of(tmp_path, "train.gender.seeds=[0, 1]")
    with pytest.raises(DataError, match="were trained without seeds"):
        train_experts(staged, seeded, seeded.experts, Silent())


def test_another_run_s_expert_of_the_same_fold(staged: Run, photos: Path, tmp_path: Path) -> None:
    recipe = recipe_of(tmp_path, f'train.mask.weights="{staged.folder}/gender"', "train.mask.seeds=[]")
    check_start(f"{staged.folder}/gender")
    run = open_run(recipe, photos, tmp_path / "run", Silent())
    for fold in (0, 1):
        start = start_of(run, f"{staged.folder}/experts/gender", fold, 0)
        assert start.file == staged.folder / "experts" / "gender" / f"fold{fold}" / "best.safetensors"
        assert start.notice is None
        assert start_of(run, f"{staged.folder}/mask", fold, 1).file.parent.name == f"fold{fold}-seed1"
    otherwise = recipe_of(tmp_path, "data.folds=3", "data.fold_seed=4")
    third = open_run(otherwise, photos, tmp_path / "third", Silent())
    notices = [start_of(third, f"{staged.folder}/gender", fold, 0).notice for fold in range(3)]
    assert all("out-of-fold scores are too good" in str(notice) for notice in notices)
    for missing in ("genders", "experts/nobody"):
        with pytest.raises(DataError, match="no trained expert"):
            check_start(f"{staged.folder}/{missing}")
    with pytest.raises(DataError, match="no such weights"):
        check_start("nowhere/gender")


def test_the_first_weights_are_known_by_content_not_by_place(staged: Run) -> None:
    done = read_json(staged.folder / "experts" / "mask" / "fold0-seed0" / "DONE")["identity"]
    assert done["settings"]["weights"] == "file"
    card = read_card(staged.folder / "experts" / "mask" / "fold0-seed0" / "best.safetensors")
    assert done["init"] == card.backbone["init"]


def spec(text: str) -> ExpertSpec:
    name, _, state = text.partition(" given mask=")
    return ExpertSpec((name,), {"mask": (state,)} if state else {})


def test_experts_train_after_those_that_they_start_from() -> None:
    specs = [spec("age given mask=worn"), spec("age given mask=not_worn"), spec("gender"), spec("mask")]
    weights = ["run:age given mask=not_worn", "run:gender", "run:mask", "none"]
    assert in_order(specs, weights) == [3, 2, 1, 0]
    assert in_order(specs, ["none"] * 4) == [0, 1, 2, 3]
    assert in_order(specs, ["run:trained before", "imagenet", "none", "x.safetensors"]) == [0, 1, 2, 3]
    with pytest.raises(UsageError, match="age given mask=worn, gender start from each other"):
        in_order(specs, ["run:gender", "none", "run:age given mask=worn", "none"])
    with pytest.raises(UsageError, match="gender start from each other"):
        in_order(specs, ["none", "none", "run:gender", "none"])


def test_an_unknown_expert_is_told_before_anything_is_trained(photos: Path, tmp_path: Path) -> None:
    recipe = recipe_of(tmp_path, "train.mask.weights=run:gendr")
    run = open_run(recipe, photos, tmp_path / "run", Silent())
    with pytest.raises(UsageError, match='no such expert; did you mean "gender"'):
        train_experts(run, recipe, recipe.experts, Silent())
    alone = recipe_of(tmp_path)
    with pytest.raises(UsageError, match="no such expert"):
        train_experts(run, alone, [one for one in alone.experts if one.attributes == ("mask",)], Silent())


def test_seeds_are_checked() -> None:
    with pytest.raises(UsageError, match="expected each seed once"):
        load_recipe("face-mask", ["train.seeds=[1, 1]"])
    assert load_recipe("face-mask").settings_for(["mask"], {"seeds": "0,3"}).seeds == (0, 3)
