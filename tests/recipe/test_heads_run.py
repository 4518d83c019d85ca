"""A whole run of one backbone with three heads: its out-of-fold rows, predictions, views and combining, from the cards."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from task_text import NO_EDGES_TEXT, SCHEMA_TEXT
from tiny_training import SCHEMA, draw_table, tiny_backbone

from ensemble_kit.card import read_card
from ensemble_kit.data.table import BOX
from ensemble_kit.errors import DataError, UsageError
from ensemble_kit.models.backbones import BACKBONES, Backbone
from ensemble_kit.predictions import load_predictions
from ensemble_kit.recipe.compare_runs import compare_runs
from ensemble_kit.recipe.fitters import FitOptions, fit_temperatures
from ensemble_kit.recipe.labelled import read_labelled
from ensemble_kit.recipe.load import ExpertSpec, load_recipe
from ensemble_kit.recipe.predict import current_predictions, predict_run, read_part_of
from ensemble_kit.recipe.run import Silent, open_run
from ensemble_kit.recipe.sets import with_voters_of
from ensemble_kit.recipe.show import check_recipe
from ensemble_kit.recipe.train import train_experts
from ensemble_kit.runs import Run

RECIPE = (
    SCHEMA_TEXT
    + NO_EDGES_TEXT
    + """
[data]
folds = 2
[experts]
mask = []
gender = []
age = []
"mask,gender,age" = ["pooled"]
[train]
backbone = "tiny"
weights = "none"
size = 16
crop = [16, 0.75]
crop_at = "boxes"
prepare = ["sharpen=0.3"]
normalise = "photos"
augment = ["flip=0.5", "coarse_dropout=0.5:2x3x3"]
augment_share = 0.9
heads = "separate"
head = "deep=8"
columns = "years"
output = "ordinal"
epochs = 1
threads = 1
"""
)


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The recipe beside its photos, with boxes left and below the middle."""
    folder = tmp_path_factory.mktemp("world")
    table = draw_table(folder / "photos")
    header = ["path", "group_id", "mask", "gender", "age", *BOX]
    rows = table.frame[header[:5]].astype(str).to_numpy().tolist()
    lines = [[*row, 2, 6, 10 + int(row[1][1:]) / 3, 16] for row in rows]  # more to the right from person to person
    with open(folder / "photos" / "samples.csv", "w", newline="", encoding="utf-8") as handle:
        csv.writer(handle).writerows([header, *lines])
    (folder / "heads.toml").write_text(RECIPE)
    return folder / "heads.toml"


@pytest.fixture(scope="module")
def run(recipe: Path) -> Iterator[Run]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(BACKBONES, "tiny", Backbone(tiny_backbone))
        chosen = load_recipe(recipe)
        opened = open_run(chosen, recipe.parent / "photos", recipe.parent / "run", Silent())
        train_experts(opened, chosen, chosen.experts, Silent())
        yield opened


def test_out_of_fold_rows_are_one_prediction_a_head_in_its_own_columns(run: Run) -> None:
    experts = run.out_of_fold()
    assert [(expert.names, expert.probs.shape[2]) for expert in experts] == [
        (("mask",), 3),
        (("gender",), 2),
        (("age",), 39),
    ]
    for expert in experts:
        np.testing.assert_allclose(expert.probs.sum(axis=2), 1, atol=1e-5)
    assert experts[2].fine is not None
    assert experts[2].fine.edges == tuple(float(year) for year in range(23, 61))  # the drawn people are 22 to 60


def test_the_card_says_what_was_left_to_the_data(run: Run) -> None:
    card = read_card(run.checkpoints()[0])
    across = (12 + np.array([int(person[1:]) for person in run.table.groups]) / 3) / 2 / 16
    expected = [round(float(across[run.folds != fold].mean()), 2) for fold in (0, 1)]
    assert len({*expected, round(float(across.mean()), 2)}) == 3  # held-out photos would be seen
    for fold in run.finished():  # boxes from 6 to 16 of 16 down
        assert read_card(fold.checkpoint).preprocess["crop_at"] == [0.69, expected[fold.fold]]
    assert card.preprocess["crop"] == [16, 0.75]
    assert card.preprocess["prepare"] == ["sharpen=0.3"]
    assert card.preprocess["mean"] != [0.485, 0.456, 0.406]
    assert card.backbone["head"] == "deep=8"
    assert [head.output for head in card.heads] == ["classes", "classes", "ordinal"]


def test_views_are_recorded_and_kept_until_others_are_asked_for(run: Run) -> None:
    table = read_part_of(run, None, "train")
    plain = load_predictions(predict_run(run, table, "train", Silent(), {"tta": []}))[0].probs.copy()
    folder = predict_run(run, table, "train", Silent(), {"tta": ["flip"]})
    assert json.loads((folder / "predictions.json").read_text())["created"]["tta"] == ["flip"]
    flipped = load_predictions(folder)[0].probs.copy()
    assert not np.allclose(plain, flipped)
    written = (folder / "predictions.json").stat().st_mtime_ns
    current_predictions(run, None, "train", Silent())  # what combining calls
    predict_run(run, table, "train", Silent(), {})
    assert (folder / "predictions.json").stat().st_mtime_ns == written
    again = load_predictions(predict_run(run, table, "train", Silent(), {"tta": []}))[0].probs
    np.testing.assert_array_equal(plain, again)


def test_the_recipes_views_are_taken_until_others_are_typed(run: Run, recipe: Path) -> None:
    def opened(*edits: str) -> Run:
        return open_run(load_recipe(recipe, edits), recipe.parent / "photos", recipe.parent / "run", Silent())

    def views(run: Run) -> list[str]:
        folder = current_predictions(run, None, "train", Silent())
        averaged: list[str] = json.loads((folder / "predictions.json").read_text())["created"]["tta"]
        return averaged

    flipped = opened('predict.tta=["flip"]')
    assert flipped.tta == Run.open(run.folder).tta == ("flip",)
    assert views(flipped) == ["flip"]
    probs = load_predictions(flipped.predictions_folder("train"))[0].probs.copy()
    assert views(opened("predict.tta=flip,dark")) == ["flip", "dark"]  # a changed key predicts anew
    assert not np.allclose(load_predictions(flipped.predictions_folder("train"))[0].probs, probs)
    both = Run.open(run.folder)
    folder = predict_run(both, read_part_of(both, None, "train"), "train", Silent(), {"tta": ["bright"]})
    written = (folder / "predictions.json").stat().st_mtime_ns
    assert views(both) == ["bright"]  # typed: it stays while the key does
    assert (folder / "predictions.json").stat().st_mtime_ns == written
    plain = opened()
    assert (plain.tta, views(plain)) == ((), [])
    with pytest.raises(UsageError, match=r'tta: no view "flap"; did you mean "flip"'):
        check_recipe(str(recipe), ["predict.tta=flap"])


def test_fine_columns_have_other_borders_without_running_a_model(run: Run) -> None:
    table = read_part_of(run, None, "train")
    folder = predict_run(run, table, "moved", Silent(), {})
    (age,) = [expert for expert in load_predictions(folder) if expert.names == ("age",)]
    moved = SCHEMA.with_borders({"age": [40, 50]})
    expected = [age.probs[..., :18].sum(axis=2), age.probs[..., 18:28].sum(axis=2), age.probs[..., 28:].sum(axis=2)]
    np.testing.assert_allclose(age.in_classes_of(moved).probs, np.stack(expected, axis=2), atol=1e-6)


def test_runs_are_compared_by_the_borders_that_they_combine_with(run: Run, tmp_path: Path) -> None:
    copies = [Path(shutil.copytree(run.folder, tmp_path / name)) for name in ("a", "b", "plain")]
    for copy in copies[:2]:
        info = json.loads((copy / "run.json").read_text())
        info["combine"]["borders"] = {"age": [25, 30]}
        (copy / "run.json").write_text(json.dumps(info))
    age = run.out_of_fold()[2].in_classes_of(SCHEMA.with_borders({"age": [25, 30]})).labels()
    true = np.digitize(run.table.frame["age"].to_numpy(dtype=float), [25, 30])
    scores = [row.scores["age"].accuracy for row in compare_runs(copies[:2], n_boot=20).rows]
    assert scores == [pytest.approx(np.mean(age == true))] * 2
    assert np.mean(age == true) != np.mean(
        run.out_of_fold()[2].in_classes_of(SCHEMA).labels() == run.table.numbers("age")
    )
    with pytest.raises(DataError, match="plain: made for another schema, or combined with other borders, than a"):
        compare_runs([copies[0], copies[2]], n_boot=20)


def test_temperatures_are_fitted_to_each_head_out_of_fold(run: Run, recipe: Path) -> None:
    labelled = read_labelled([run.folder], recipe=load_recipe(recipe))
    assert [expert.names for expert in labelled.experts] == [("mask",), ("gender",), ("age",)]
    assert labelled.experts[2].fine is not None
    items, _ = fit_temperatures(labelled, FitOptions(on=("experts",)))
    assert [item.where for item in items] == ["mask", "gender", "age"]


def test_runs_of_other_columns_vote_as_classes(run: Run) -> None:
    age = run.out_of_fold()[2]
    classes = age.in_classes_of(SCHEMA).with_voters(["other"])
    both = with_voters_of(age, classes, prefix="")
    assert both.voters == ("out-of-fold", "other")
    np.testing.assert_array_equal(both.probs[0], both.probs[1])
    same = with_voters_of(age, age.with_voters(["again"]), prefix="")
    assert same.fine == age.fine


def test_an_attribute_is_not_answered_twice_in_one_run(run: Run, recipe: Path) -> None:
    chosen = load_recipe(recipe)
    with pytest.raises(UsageError, match=r"mask: mask,gender,age and mask would both .*; train one of them"):
        train_experts(run, chosen, [ExpertSpec(("mask",), {})], Silent())
