"""`ens beliefs` on tiny trainings: trained once, gone on with, scored as scikit-learn does, told in four forms."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from sklearn.metrics import f1_score
from task_text import NO_EDGES_TEXT, SCHEMA_TEXT
from tiny_training import draw_table
from torch import nn
from typer.testing import CliRunner

from ensemble_kit.arrays import IntArray
from ensemble_kit.cli import app
from ensemble_kit.errors import DataError
from ensemble_kit.files import read_json, write_json
from ensemble_kit.models.backbones import BACKBONES, Backbone
from ensemble_kit.models.checkpoint import load_expert
from ensemble_kit.recipe.belief_answers import answers_of
from ensemble_kit.recipe.belief_file import Side, load_beliefs
from ensemble_kit.recipe.beliefs import train_arms, weigh_beliefs
from ensemble_kit.recipe.run import Silent
from ensemble_kit.recipe.settings import IMAGENET_MEAN, IMAGENET_STD
from ensemble_kit.recipe.train import photos_for, preprocess_of
from ensemble_kit.runs import Run

SAID = (
    SCHEMA_TEXT
    + NO_EDGES_TEXT
    + """
[experts]
mask = []
gender = []

[data]
folds = 2

[train]
backbone = "plain"
weights = "none"
size = 16
augment = []
epochs = 2
batch_size = 9
head_lr = 1e-2
warmup_epochs = 0
keep = "last"
score_every = 0
seeds = [0, 1]
threads = 1
precision = "fp32"

[variants.base]
train.keep = "every 1"

[variants.still]                         # learns next to nothing
train.head_lr = 1e-9

[variants.by_mask]
graph.age = ["mask"]
experts.mask = ["pooled"]
experts.age = [{ mask = "worn" }, { mask = ["incorrect", "not_worn"] }]

[variants.never]
train.epochs = 3

[beliefs.still]
says = "Not to train is no better, in more words than go into the one line that a table of eighty columns has"
a = "still"
b = "base"
claim = "no_better"
margin = 0.5

[beliefs.voting]
says = "Voting helps"
a = "base: vote"
b = "base"

[beliefs.soup]
says = "Soups help"
a = "base: soup"
b = "base"
metric = "accuracy"

[beliefs.by_mask]
says = "Conditioning helps"
a = "by_mask"
b = "base"

[beliefs.never]
says = "Longer helps"
a = "never"
b = "base"
"""
)


def plain_backbone() -> tuple[nn.Module, int]:
    """A convolution and no batch norm, so that a soup's answers can be worked out by hand."""
    return nn.Sequential(nn.Conv2d(3, 8, 4, stride=4), nn.ReLU(), nn.Flatten()), 128


TRAINED = ["still", "voting", "soup", "by_mask"]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    root = tmp_path_factory.mktemp("beliefs")
    drawn = draw_table(root / "photos")
    drawn.frame[["sample_id", "path", "group_id", "mask", "gender", "age"]].to_csv(
        root / "photos" / "photos.csv", index=False
    )
    (root / "said.toml").write_text(SAID, encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(BACKBONES, "plain", Backbone(plain_backbone))
        file = load_beliefs(root / "said.toml")
        train_arms(
            file,
            [one for one in file.beliefs if one.name in TRAINED],
            root / "photos/photos.csv",
            root / "run",
            Silent(),
        )
        yield root


class Heard(Silent):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, line: str) -> None:
        self.lines.append(line)


def test_each_arm_is_trained_once_and_then_skipped(place: Path) -> None:
    assert sorted(path.name for path in (place / "run" / "arms").iterdir()) == ["base", "by_mask", "still"]
    file, heard = load_beliefs(place / "said.toml"), Heard()
    train_arms(
        file, [one for one in file.beliefs if one.name in TRAINED], place / "photos/photos.csv", place / "run", heard
    )
    done = [line for line in heard.lines if line.endswith("done before, skipped")]
    assert len(done) == 4 + 4 + 4 * 3
    assert not [line for line in heard.lines if "epoch" in line]


def test_scores_are_those_of_scikit_learn(place: Path) -> None:
    file = load_beliefs(place / "said.toml")
    found = weigh_beliefs(file, file.beliefs, place / "run", Silent(), n_boot=500)
    run = Run.open(place / "run" / "arms" / "base")
    truth = run.table.numbers("age")
    alone = [run.out_of_fold(seed)[0].labels() for seed in (0, 1)]
    scores = [f1_score(truth, labels, average="macro", zero_division=0) for labels in alone]
    vote = f1_score(truth, run.out_of_fold()[0].labels(), average="macro", zero_division=0)
    rows = {row.name: row for row in found.beliefs}
    assert rows["voting"].difference == pytest.approx(vote - np.mean(scores))
    assert rows["voting"].by_seed == pytest.approx([vote - one for one in scores])
    assert {row.side: row.by_seed for row in found.arms}["base"] == pytest.approx(scores)
    assert found.not_run == (("never", "Longer helps"),)
    assert (found.n_samples, found.n_people, found.n_folds, found.seeds) == (36, 12, 2, (0, 1))
    assert rows["still"].verdict == "holds" or rows["still"].interval[1] >= 0.5

    people, rng = np.unique(run.table.groups, return_inverse=True)[1], np.random.default_rng(5)
    voted = run.out_of_fold()[0].labels()
    draws = []
    for _ in range(1000):  # the same, drawn by hand
        photos = np.concatenate([np.flatnonzero(people == one) for one in rng.integers(12, size=12)])
        own = [by_hand(truth[photos], labels[photos]) for labels in alone]
        draws.append(by_hand(truth[photos], voted[photos]) - np.mean(own))
    assert rows["voting"].people_error == pytest.approx(np.std(draws) * (12 / 11) ** 0.5, rel=0.15, abs=1e-9)


def by_hand(truth: IntArray, labels: IntArray) -> float:
    """Macro F1 over the three ages."""
    right = [((truth == one) & (labels == one)).sum() for one in range(3)]
    both = [(truth == one).sum() + (labels == one).sum() for one in range(3)]
    return sum(float(2 * r / max(1, b)) for r, b in zip(right, both, strict=True)) / 3


def test_a_conditioned_arm_answers_by_the_predicted_state(place: Path) -> None:
    file = load_beliefs(place / "said.toml")
    run = Run.open(place / "run" / "arms" / "by_mask")
    (answer,) = answers_of(file.arms["by_mask"], run, Side("by_mask"), "age", [1], Silent())
    experts = {expert.describe(): expert for expert in run.out_of_fold(1)}
    state = "worn" if experts["mask"].labels()[0] == 0 else "incorrect,not_worn"
    assert answer.marginal("age").probs[0, 0] == pytest.approx(experts[f"age given mask={state}"].probs[0, 0], abs=1e-6)
    assert answer.names == ("mask", "age")


def test_a_soup_answers_with_the_mean_weights(place: Path) -> None:
    file = load_beliefs(place / "said.toml")
    recipe, run = file.arms["base"], Run.open(place / "run" / "arms" / "base")
    soups = answers_of(recipe, run, Side("base", "soup"), "age", [0, 1], Silent())
    photos = photos_for(run, preprocess_of(run, recipe.settings_for(["age"]), 0), Silent()).photos
    inputs = (np.asarray(photos) / 255 - IMAGENET_MEAN) / IMAGENET_STD
    for fold in run.finished():
        paths = sorted(fold.folder.glob("epoch*.safetensors"))
        network = load_expert(paths[0])[0].eval()
        first, second = (load_file(path) for path in paths)
        network.load_state_dict({name: (first[name] + second[name]) / 2 for name in first})
        rows = np.flatnonzero(run.folds == fold.fold)
        with torch.no_grad():
            logits = network(torch.from_numpy(inputs[rows]).permute(0, 3, 1, 2).float())
        wanted = torch.softmax(logits, dim=1).numpy()
        assert soups[fold.seed].probs[0, rows] == pytest.approx(wanted, abs=1e-4)
        assert np.abs(soups[fold.seed].probs[0, rows] - run.out_of_fold(fold.seed)[0].probs[0, rows]).max() > 1e-3
    kept = sorted((run.folder / "soups").iterdir())
    before = [one.stat().st_mtime_ns for one in kept]
    answers_of(recipe, run, Side("base", "soup"), "age", [0, 1], Silent())
    assert [one.stat().st_mtime_ns for one in kept] == before  # worked out once
    with pytest.raises(DataError, match=r"expected 3 or more epochs to average, found 2"):
        answers_of(recipe, run, Side("base", "soup", 3), "age", [0], Silent())


def test_the_command_tells_it_in_four_forms(place: Path) -> None:
    words = [
        "beliefs",
        str(place / "said.toml"),
        "--data",
        str(place / "photos/photos.csv"),
        "--run",
        str(place / "run"),
    ]
    told = CliRunner().invoke(app, [*words, "--report", "--draws", "200"])
    assert told.exit_code == 0, told.output
    assert max(map(len, told.output.partition("\nwritten")[0].splitlines())) <= 80
    assert "age accuracy and age macro F1 out of fold: 36 photos of 12 people, 2 folds x 2 seeds" in " ".join(
        told.output.split()
    )
    assert "Longer helps" in told.output
    assert told.output.count("not run") == 1
    rows = list(csv.DictReader((place / "run" / "beliefs.csv").read_text().splitlines()))
    content = read_json(place / "run" / "beliefs.json")
    assert [row["name"] for row in rows] == [*TRAINED, "never"]
    assert float(rows[1]["low"]) == content["beliefs"][1]["interval"][0]
    assert rows[1]["verdict"] == content["beliefs"][1]["verdict"]
    assert "| Voting helps | base: vote | base |" in (place / "run" / "beliefs.md").read_text()
    assert (place / "run" / "beliefs.txt").read_text() in told.output
    parsed = CliRunner().invoke(app, [*words, "--only", "voting", "--json"])
    assert [row["name"] for row in json.loads(parsed.stdout)["beliefs"]] == ["voting"]
    planned = CliRunner().invoke(app, [*words, "--dry-run"])
    assert "never      4 of 4          216\n4 trainings, about 216 photos pass" in planned.output
    assert not (place / "run" / "arms" / "never").exists()


def test_what_cannot_be_reported_is_refused(place: Path, tmp_path: Path) -> None:
    file = load_beliefs(place / "said.toml")
    with pytest.raises(DataError, match="no belief has both its arms trained; train them with ens beliefs"):
        weigh_beliefs(file, file.beliefs, tmp_path, Silent())
    other = load_beliefs(place / "said.toml", ["train.batch_size=8"])
    with pytest.raises(DataError, match=r"trained with other settings \(batch_size: 9 there, 8 now\)"):
        weigh_beliefs(other, other.beliefs, place / "run", Silent())
    copy = Path(shutil.copytree(place / "run", tmp_path / "run"))
    info = copy / "arms" / "still" / "run.json"
    write_json(info, read_json(info) | {"samples_sha256": "0"})
    with pytest.raises(DataError, match=r"trained on other samples or folds than .*; name another --run"):
        weigh_beliefs(file, file.beliefs, copy, Silent(), n_boot=100)
