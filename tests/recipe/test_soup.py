"""`ens soup` on a small run: two folds of one expert, every epoch kept."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from tiny_training import draw_table, tiny_backbone

from ensemble_kit.card import read_card
from ensemble_kit.errors import DataError, UsageError
from ensemble_kit.files import sha256_file
from ensemble_kit.inference import predict_table
from ensemble_kit.models.backbones import BACKBONES, Backbone
from ensemble_kit.predictions import load_predictions
from ensemble_kit.recipe.load import load_recipe
from ensemble_kit.recipe.predict import predict_run
from ensemble_kit.recipe.run import Silent, open_run
from ensemble_kit.recipe.soup import soup_files, soup_run
from ensemble_kit.recipe.starts import start_of
from ensemble_kit.recipe.train import train_experts
from ensemble_kit.runs import Run

RECIPE = """
[schema]
mask = ["worn", "incorrect", "not_worn"]

[data]
folds = 2

[train]
backbone = "tiny"
weights = "none"
size = 16
augment = []
normalise = "photos"
epochs = 3
batch_size = 9
warmup_epochs = 0
keep = "every 1"
seeds = [0, 1]
threads = 1
precision = "fp32"
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("soup")
    drawn = draw_table(root / "photos")
    drawn.frame[["sample_id", "path", "group_id", "mask"]].to_csv(root / "photos" / "photos.csv", index=False)
    (root / "task.toml").write_text(RECIPE, encoding="utf-8")
    recipe = load_recipe(root / "task.toml")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(BACKBONES, "tiny", Backbone(tiny_backbone))
        run = open_run(recipe, root / "photos" / "photos.csv", root / "run", Silent())
        train_experts(run, recipe, recipe.experts, Silent())
    return root / "run"


@pytest.fixture
def run(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setitem(BACKBONES, "tiny", Backbone(tiny_backbone))
    return Run.open(Path(shutil.copytree(trained, tmp_path / "run")))


def test_a_run_is_averaged_fold_by_fold_and_stays_whole(run: Run) -> None:
    before = {fold.folder: fold.checkpoint_sha256 for fold in run.finished()}
    soups = soup_run(run, Silent(), attributes=("mask",), kind="greedy")
    assert [soup.title for soup in soups] == ["mask, fold 0"] * 2 + ["mask, fold 1"] * 2
    run.verify()
    for fold, soup in zip(run.finished(), soups, strict=True):
        assert (fold.checkpoint_sha256 != before[fold.folder]) == (soup.path is not None)
        assert ("soup" in read_card(fold.checkpoint).train) == (soup.path is not None)
        assert sha256_file(fold.trained) == before[fold.folder]  # what others start from stays
        assert start_of(run, "run:mask", fold.fold, fold.seed).file == fold.trained
    assert all(soup.macro_f1 >= soup.best[1] for soup in soups)
    assert run.out_of_fold()[0].probs.shape[1:] == (36, 3)


def test_the_kept_checkpoints_vote_beside_the_soup(run: Run) -> None:
    soup_run(run, Silent(), attributes=("mask",), kind="uniform")
    folder = predict_run(run, run.table, "kept", Silent(), {}, kept=True)
    (expert,) = load_predictions(folder)
    assert len(expert.voters) == len(set(expert.voters)) == 2 * 2 * 3  # folds, seeds, epochs: a soup is no voter
    alone = predict_table(run.table, [run.finished()[0].epochs[0]], run.folder / "one", device="cpu", precision="fp32")
    first = load_predictions(alone)[0].probs[0]
    assert any(np.array_equal(first, layer) for layer in expert.probs)
    with pytest.raises(UsageError, match="add --name kept"):
        predict_run(run, run.table, "eval", Silent(), {}, kept=True)
    for path in run.finished()[1].epochs:
        path.unlink()
    with pytest.raises(DataError, match='kept no epochs; train with keep = "every 1"'):
        run.kept_checkpoints()


def test_checkpoints_know_the_run_they_lie_in(run: Run, tmp_path: Path) -> None:
    folder = run.finished()[0].folder
    paths = sorted(folder.glob("epoch*.safetensors"))
    soup = soup_files(paths[:2], tmp_path / "soup.safetensors", Silent(), kind="greedy")
    assert soup.n_found == 2
    assert (tmp_path / "soup.safetensors").exists() == (soup.path is not None)
    seeds = [fold.checkpoint for fold in run.finished() if fold.fold == 0]
    both = soup_files(seeds, tmp_path / "seeds.safetensors", Silent(), kind="uniform")
    assert (len(seeds), both.n_found) == (2, 2)
    elsewhere = [Path(shutil.copy(path, tmp_path / path.name)) for path in paths]
    named = soup_files(elsewhere, tmp_path / "other.safetensors", Silent(), run=run, kind="greedy")
    assert named.n_found == 3


def test_what_is_not_there_is_said(run: Run, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no such expert is finished \(finished: mask\)"):
        soup_run(run, Silent(), attributes=("age",))
    with pytest.raises(DataError, match=r"no such expert and fold 7 is finished"):
        soup_run(run, Silent(), folds=[7])
    lonely = Path(shutil.copy(run.finished()[0].checkpoint, tmp_path.parent / "lonely.safetensors"))
    with pytest.raises(UsageError, match=r"lies in no run, .*; name one with --run"):
        soup_files([lonely], tmp_path / "soup.safetensors", Silent())
