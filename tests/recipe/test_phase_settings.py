"""Phases in recipes: what is written, what is inherited, and what a flag is laid over."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ensemble_kit.errors import UsageError
from ensemble_kit.recipe.load import Recipe, load_recipe
from ensemble_kit.recipe.phases import epochs_of, phases_of
from ensemble_kit.recipe.run import check_experts

TASK = """
[schema]
mask = ["worn", "not_worn"]
age = { classes = ["<30", ">=30"], borders = [30] }

[train]
weights = "none"
optimizer = "adam"
epochs = 15
head_lr = 1e-3
batch_size = 32
"""
TWO = """
[[train.phases]]
freeze = ["backbone"]

[[train.phases]]
epochs = 50
optimizer = "sgd"
head_lr = 1e-2
batch_size = 16
"""


def recipe(folder: Path, text: str) -> Recipe:
    path = folder / "task.toml"
    path.write_text(TASK + text, encoding="utf-8")
    return load_recipe(path)


def test_phases_inherit_what_they_do_not_say(tmp_path: Path) -> None:
    first, second = phases_of(recipe(tmp_path, TWO).settings_for(["mask"]), 100)
    assert (first.epochs, first.optimizer, first.head_lr, first.freeze) == (15, "adam", 1e-3, ("backbone",))
    assert (second.epochs, second.optimizer, second.head_lr, second.freeze) == (50, "sgd", 1e-2, ())
    assert (first.batch_size, second.batch_size) == (32, 16)
    assert (first.backbone_lr, second.backbone_lr) == (1e-3, 1e-2)  # each from its own head_lr


def test_without_phases_the_flat_keys_are_the_one_phase(tmp_path: Path) -> None:
    (only,) = phases_of(recipe(tmp_path, "").settings_for(["mask"]), 100)
    assert (only.epochs, only.optimizer, only.schedule, only.accumulate) == (15, "adam", "cosine", 1)


def test_an_attributes_own_phases_and_keys_stand_above_the_shared_ones(tmp_path: Path) -> None:
    own = recipe(tmp_path, TWO + "[[train.age.phases]]\nepochs = 3\n").settings_for(["age"])
    assert [phase.epochs for phase in phases_of(own, 100)] == [3]
    keys = recipe(tmp_path, TWO + "[train.age]\nhead_lr = 0.5\n").settings_for(["age"])
    assert [phase.head_lr for phase in phases_of(keys, 100)] == [0.5, 0.5]


@pytest.mark.parametrize(("key", "value"), [("epochs", 1), ("optimizer", "adamw"), ("batch_size", 8)])
def test_a_flag_holds_in_every_phase(tmp_path: Path, key: str, value: Any) -> None:
    made = recipe(tmp_path, TWO)
    for settings in (made.settings_for(["mask"], {key: value}), made.with_train({key: value}).settings_for(["mask"])):
        assert [getattr(phase, key) for phase in phases_of(settings, 100)] == [value, value]


@pytest.mark.parametrize(
    ("edits", "lengths"),
    [
        (["train.epochs=1"], [1, 1]),
        (["train.epochs=1", "train.phases.1.epochs=3"], [1, 3]),
        (["train.phases.1.epochs=3", "train.epochs=1"], [1, 3]),
        (["train.epochs=1", "train.phases=[{epochs = 7}, {}]"], [7, 1]),
        (["train.head_lr=0.5"], [15, 50]),
    ],
)
def test_an_edit_holds_in_every_phase_but_those_that_it_names(
    tmp_path: Path, edits: list[str], lengths: list[int]
) -> None:
    path = recipe(tmp_path, TWO).path
    phases = phases_of(load_recipe(path, edits).settings_for(["mask"]), 100)
    assert [phase.epochs for phase in phases] == lengths
    if "train.head_lr=0.5" in edits:
        assert [phase.head_lr for phase in phases] == [0.5, 0.5]


@pytest.mark.parametrize(
    ("edit", "lengths"),
    [("train.phases.1.epochs=3", [1, 3]), ("train.phases=[{epochs = 7}, {}]", [7, 1]), ("train.epochs=2", [2, 2])],
)
def test_a_flag_leaves_what_edits_set_in_phases(tmp_path: Path, edit: str, lengths: list[int]) -> None:
    path = recipe(tmp_path, TWO).path
    flagged = load_recipe(path, [edit]).with_train({"epochs": 1}).settings_for(["mask"])
    assert [phase.epochs for phase in phases_of(flagged, 100)] == lengths
    age = load_recipe(path, [edit.replace("train.", "train.age.")] if "[" in edit else []).with_train({"epochs": 1})
    assert phases_of(age.settings_for(["age"]), 100)[0].epochs == (7 if "[" in edit else 1)


def test_an_edit_of_one_attribute_holds_in_its_own_phases(tmp_path: Path) -> None:
    path = recipe(tmp_path, TWO + "[[train.age.phases]]\nepochs = 3\n").path
    edited = load_recipe(path, ["train.age.epochs=2"])
    found = [[phase.epochs for phase in phases_of(edited.settings_for([name]), 100)] for name in ("age", "mask")]
    assert found == [[2], [15, 50]]


def test_min_steps_lengthens_the_phases_in_proportion(tmp_path: Path) -> None:
    settings = recipe(tmp_path, TWO).settings_for(["mask"])
    assert epochs_of(settings, 64) == [15, 50]  # 15 x 2 + 50 x 4 = 230 steps
    assert epochs_of(settings.model_copy(update={"min_steps": 230}), 64) == [15, 50]
    assert epochs_of(settings.model_copy(update={"min_steps": 460}), 64) == [30, 100]
    one = recipe(tmp_path, "").settings_for(["mask"], {"min_steps": 100})
    assert epochs_of(one, 64) == [50]
    assert epochs_of(one.model_copy(update={"accumulate": 2}), 64) == [100]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[[train.phases]]\nepoch = 1\n", 'train, phase 1: unknown key "epoch"; did you mean "epochs"?'),
        (TWO + "[[train.phases]]\nepochs = 0\n", "train, phase 3.epochs: Input should be greater than or equal to 1"),
        ("[[train.age.phases]]\nseed = 1\n", 'train age, phase 1: unknown key "seed"'),
        ("[train.age]\nphases = 3\n", "train age.phases: "),
        ("[train.age]\nphases = [3]\n", "train age.phases: "),
    ],
)
def test_faults_name_the_phase(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        recipe(tmp_path, text)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_does_not_go_together_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    made = recipe(tmp_path, "[train.age]\nfeature_views = 2\n")
    (tmp_path / "data").mkdir()
    with pytest.raises(UsageError, match="age: feature_views: expected a frozen backbone"):
        check_experts(made, tmp_path / "data", made.experts)
