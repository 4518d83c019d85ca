"""Photos of which only some attributes are labelled, and a second table: data check, training, scores."""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from task_text import GRAPH_TEXT, SCHEMA_TEXT
from tiny_training import draw_table, folds_of, make_job, make_photos, tiny_backbone

from ensemble_kit.data.extra import with_extra
from ensemble_kit.data.samples import SampleTable
from ensemble_kit.errors import DataError
from ensemble_kit.models.backbones import BACKBONES, Backbone
from ensemble_kit.recipe.evaluate import evaluate_target, held_out_photos
from ensemble_kit.recipe.load import ExpertSpec, Recipe, load_recipe
from ensemble_kit.recipe.resolved import save_resolved
from ensemble_kit.recipe.run import Silent, open_run
from ensemble_kit.recipe.train import draws_of, job_of, train_experts
from ensemble_kit.recipe.whole import run_recipe
from ensemble_kit.runs import Run
from ensemble_kit.training.rows import choose_rows

RECIPE = (
    SCHEMA_TEXT
    + GRAPH_TEXT
    + """
[data]
path = "data"
folds = 2

[train]
backbone = "tiny"
weights = "none"
size = 16
epochs = 1
batch_size = 8
augment = []
device = "cpu"
threads = 1

[experts]
age = ["pooled", { mask = "worn" }]
"""
)


@dataclass
class Heard(Silent):
    lines: list[str] = field(default_factory=list)

    def say(self, line: str) -> None:
        self.lines.append(line)


def write(table: SampleTable, folder: Path, labelled: dict[str, Any]) -> Path:
    """The table as `samples.csv`, with a label kept where `labelled[attribute](row)` says so."""
    frame = table.frame
    columns = ["sample_id", "path", "group_id", *table.schema.names]
    with open(folder / "samples.csv", "w", newline="") as handle:
        writer = csv.writer(handle)
        writer.writerow(columns)
        for row in range(len(frame)):
            cells = {name: frame[name][row] for name in columns}
            cells |= {name: "" for name, keep in labelled.items() if not keep(row)}
            writer.writerow([cells[name] for name in columns])
    return folder


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Recipe:
    monkeypatch.setitem(BACKBONES, "tiny", Backbone(tiny_backbone))
    (tmp_path / "task.toml").write_text(RECIPE)
    return load_recipe(tmp_path / "task.toml")


def test_each_expert_trains_and_is_scored_on_the_photos_that_are_labelled_for_it(
    recipe: Recipe, tmp_path: Path
) -> None:
    table = draw_table(tmp_path / "data", people=24)
    person = np.arange(len(table)) // 3
    half = person // 6 % 2 == 0  # mask and gender of one half of the people, mask and age of the other
    write(table, tmp_path / "data", {"gender": lambda r: half[r], "age": lambda r: not half[r]})
    heard = Heard()
    metrics = run_recipe(recipe, None, tmp_path / "run", heard)
    run = Run.open(tmp_path / "run")
    for fold in (0, 1):  # each fold holds out a part of both halves
        assert np.isclose(half[run.folds == fold].mean(), 0.5, atol=0.1)
    for spec in recipe.experts:
        for fold in (0, 1):
            job = job_of(run, spec, recipe.settings_for(spec.attributes), fold)
            rows = choose_rows(job, run.table, run.folds, make_photos(run.table, tmp_path / "cache", job))
            labelled = np.ones(len(table), dtype=bool) if spec.attributes == ("mask",) else half
            labelled = ~half if spec.attributes == ("age",) else labelled
            if spec.condition:
                labelled = labelled & (np.arange(len(table)) % 3 == 0)
            assert rows.train.tolist() == np.flatnonzero(labelled & (run.folds != fold)).tolist()
            assert rows.score.tolist() == np.flatnonzero(labelled & (run.folds == fold)).tolist()
            assert rows.held_out.tolist() == np.flatnonzero(run.folds == fold).tolist()
    scores = metrics["out_of_fold"]
    assert [name for name in scores if "(" in name] == [
        "mask (72 photos)",
        "gender (36 photos)",
        "age (36 photos)",
        "age given mask=worn (12 photos)",
    ]
    oof = {expert.describe(): expert for expert in run.out_of_fold()}
    scored = np.flatnonzero(~half & (np.arange(72) % 3 == 0))
    right = oof["age given mask=worn"].select(scored).labels() == run.table.numbers("age")[scored]
    assert scores["age given mask=worn (12 photos)"]["accuracy"]["value"] == pytest.approx(right.mean())
    assert any("each expert by its own labels (none has every label)" in line for line in heard.lines)
    again = evaluate_target(tmp_path / "run", recipe, answers=None, people=None, data=None)
    assert json.loads(json.dumps(again.to_json())) == scores
    with pytest.raises(DataError, match=r"no held-out photo is labelled with all of mask, gender, age, so joint"):
        held_out_photos(run)


def test_where_some_photos_have_every_label_the_structures_are_scored_on_them(recipe: Recipe, tmp_path: Path) -> None:
    table = draw_table(tmp_path / "data", people=24)
    write(table, tmp_path / "data", {"age": lambda r: r // 3 // 6 % 2 == 0})
    metrics = run_recipe(recipe, None, tmp_path / "run", Heard())
    assert (set(metrics["out_of_fold"]["joint"]), metrics["out_of_fold"]["n_samples"]) == ({"independent"}, 36)
    assert len(held_out_photos(Run.open(tmp_path / "run")).joint) == 36


def test_extra_photos_train_in_every_fold_but_that_of_their_person(tmp_path: Path) -> None:
    table = draw_table(tmp_path / "data", people=12)
    more = draw_table(tmp_path / "more", people=2, seed=5)
    frame = more.frame.assign(group_id=["p000"] * 3 + ["q"] * 3)
    both = with_extra(table, SampleTable(frame, more.root, more.schema))
    folds = np.concatenate([folds_of(table), np.full(6, -1)])
    photos = make_photos(both, tmp_path / "cache")
    assert photos.readable.all()
    assert (photos.photos[36] != photos.photos[0]).any()  # of the other folder, though both are called alike
    for fold, trained in ((0, [39, 40, 41]), (1, [36, 37, 38, 39, 40, 41])):  # p000 is held out by fold 0
        rows = choose_rows(make_job(fold=fold), both, folds, photos)
        assert rows.train.tolist() == [*np.flatnonzero(folds_of(table) != fold), *trained]
        assert not set(both.groups[rows.train]) & set(both.groups[rows.held_out])
        assert rows.held_out.max() < 36


def test_a_recipe_with_a_second_table(recipe: Recipe, tmp_path: Path) -> None:
    table = draw_table(tmp_path / "data", people=12)
    write(table, tmp_path / "data", {})
    more = draw_table(tmp_path / "more", people=24, seed=5)
    frame = more.frame.assign(group_id=[f"q{name}" for name in more.frame["group_id"]])
    write(SampleTable(frame, more.root, more.schema), tmp_path / "more", {"gender": lambda r: False})
    chosen = recipe.with_data({"extra": "more", "extra_where": {"age": ">=60"}})
    chosen = chosen.with_train(
        {"loss": {"focal": 1, "macro_f1": 0.5}, "mix": "mixup", "class_weights": "effective=0.9"}
    )
    heard = Heard()
    resolved = load_recipe(save_resolved(tmp_path / "elsewhere", chosen))
    assert resolved.data.model_dump(exclude={"path"}) == {
        **chosen.data.model_dump(exclude={"path"}),
        "extra": str(tmp_path / "more"),
    }
    assert resolved.settings_for(["age"]) == chosen.settings_for(["age"])
    run = open_run(chosen, None, tmp_path / "run", heard)
    assert (len(run.table), int(run.table.is_extra.sum())) == (60, 24)
    assert "note: 24 extra photos are trained on and never held out" in heard.lines
    assert run.extra is not None
    assert (run.extra["path"], run.extra["where"]) == (str(tmp_path / "more"), {"age": [">=60"]})
    results = train_experts(run, chosen, [recipe.experts[2]], heard)  # the pooled age expert
    assert [result.folder.name for result in results] == ["fold0", "fold1"]
    assert np.isfinite(run.out_of_fold()[0].layers[0][:, 0]).tolist() == [True] * 36 + [False] * 24
    again = train_experts(open_run(chosen, None, tmp_path / "run", Silent()), chosen, [recipe.experts[2]], Silent())
    assert all(result.skipped for result in again)
    with pytest.raises(DataError, match="begun with another samples_sha256"):
        open_run(recipe, None, tmp_path / "run", Silent())
    adopted = Heard()  # as `ens train` does: the run says what it is made of
    assert len(open_run(recipe, None, tmp_path / "run", adopted, adopt=True).table) == 60
    assert any("with the extra photos that" in line for line in adopted.lines)


def test_min_steps_counts_what_the_sampler_draws(recipe: Recipe, tmp_path: Path) -> None:
    table = draw_table(tmp_path / "data", people=24)
    write(table, tmp_path / "data", {"gender": lambda r: r // 3 % 2 == 0 or r % 3 == 0})  # a third of the women
    run = open_run(recipe, None, tmp_path / "run", Silent(), write=False)
    spec = ExpertSpec(("gender",), {})
    numbers, train = run.table.numbers("gender"), run.folds != 1
    men, women = (int((train & (numbers == number)).sum()) for number in (0, 1))
    assert men > women > 0
    expected = {"natural": men + women, "weighted": men + women, "oversample": 2 * men, "undersample": 2 * women}
    expected["undersample->natural"] = 2 * women
    for sampler, n in expected.items():
        chosen = recipe.settings_for(["gender"], {"sampler": sampler, "min_steps": 100, "epochs": 1, "batch_size": 2})
        assert draws_of(run, spec, chosen, 1) == n, sampler
        assert job_of(run, spec, chosen, 1).epochs == -(-100 // -(-n // 2)), sampler
    by_mask = recipe.settings_for(["gender"], {"sampler": "undersample", "balance_by": "mask"})
    counts = np.bincount(run.table.numbers("mask")[train & (numbers >= 0)], minlength=3)
    assert draws_of(run, spec, by_mask, 1) == 3 * counts.min()
