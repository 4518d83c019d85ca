"""Recipes: what is read, what is refused, and which of default, recipe, environment and flag wins."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from other_values import OTHER_VALUES
from task_text import GRAPH_TEXT as GRAPH
from task_text import SCHEMA_TEXT as SCHEMA

from ensemble_kit.cli.training_options import TRAIN_OPTIONS
from ensemble_kit.errors import DataError, EnsembleKitError, UsageError
from ensemble_kit.recipe.files import recipe_folder, recipe_names
from ensemble_kit.recipe.load import ExpertSpec, load_recipe
from ensemble_kit.recipe.settings import CombineSettings, DataSettings, TrainSettings

TABLES = {"phases"}
"""Keys that are written as tables and so have no flag; tested beside what they do."""


def write(folder: Path, text: str) -> Path:
    path = folder / "task.toml"
    path.write_text(text, encoding="utf-8")
    return path


def toml(value: Any) -> str:
    if isinstance(value, tuple):
        return "[" + ", ".join(toml(item) for item in value) + "]"
    return {True: "true", False: "false"}.get(value, repr(value)) if isinstance(value, bool) else repr(value)


def test_the_table_of_other_values_is_complete() -> None:
    assert set(OTHER_VALUES) == set(TrainSettings.model_fields) - TABLES
    defaults = TrainSettings()  # type: ignore[call-arg]
    assert all(getattr(defaults, name) != value for name, value in OTHER_VALUES.items())


@pytest.mark.parametrize("name", sorted(OTHER_VALUES))
def test_every_setting_obeys_default_then_shared_then_own_then_flag(tmp_path: Path, name: str) -> None:
    value = OTHER_VALUES[name]
    written = '["57-59"]' if name == "leave_out" else toml(value)
    default = getattr(TrainSettings(), name)  # type: ignore[call-arg]
    shared = load_recipe(write(tmp_path, f"{SCHEMA}[train]\n{name} = {written}\n"))
    assert getattr(shared.settings_for(["age"]), name) == value
    own = load_recipe(write(tmp_path, f"{SCHEMA}[train.age]\n{name} = {written}\n"))
    assert getattr(own.settings_for(["age"]), name) == value
    assert getattr(own.settings_for(["mask"]), name) == default
    if default is not None:
        assert getattr(own.with_train({name: default}).settings_for(["age"]), name) == default


def test_every_setting_has_a_flag() -> None:
    assert set(TRAIN_OPTIONS) == set(TrainSettings.model_fields) - TABLES


@pytest.mark.parametrize(
    ("name", "typed", "value"),
    [
        ("size", "64", (64, 64)),
        ("size", "64,48", (64, 48)),
        ("crop", "0.5,0.25", (0.5, 0.25)),
        ("mean", "0.5,0.5,0.25", (0.5, 0.5, 0.25)),
        ("augment", "flip, affine", ("flip", "affine")),
        ("augment", "", ()),
        ("borders", "30,58", (30.0, 58.0)),
        ("leave_out", "27-29,57", ((27.0, 29.0), (57.0, 57.0))),
        ("loss", {"cross_entropy": 1.0, "macro_f1": 0.5}, "cross_entropy+0.5*macro_f1"),
        ("class_weights", "1,2,4", (1.0, 2.0, 4.0)),
        ("class_weights", "balanced", "balanced"),
        ("mix", "mixup=0.2, cutmix", ("mixup=0.2", "cutmix")),
        ("mix", "none", ()),
        ("balance_by", "mask,age", ("mask", "age")),
        ("balance_by", "", ()),
    ],
)
def test_settings_typed_as_text(name: str, typed: Any, value: Any) -> None:
    assert getattr(load_recipe("face-mask").settings_for(["age"], {name: typed}), name) == value


def test_a_sum_of_losses_may_be_written_as_a_table(tmp_path: Path) -> None:
    text = f"{SCHEMA}[train]\nloss = {{ cross_entropy = 1.0, macro_f1 = 0.5 }}\n[train.age]\nloss = {{ focal = 2 }}\n"
    recipe = load_recipe(write(tmp_path, text))
    assert recipe.settings_for(["mask"]).loss == "cross_entropy+0.5*macro_f1"
    assert recipe.settings_for(["age"]).loss == "2*focal"


def test_shipped_recipes_load_and_plan_the_mask_task() -> None:
    assert {"compare_structures", "face_mask", "grocery", "quickstart"} < set(recipe_names())
    states = [{"mask": ("worn",)}, {"mask": ("incorrect",)}, {"mask": ("not_worn",)}]
    expected = (ExpertSpec(("mask",), {}), ExpertSpec(("gender",), {}), *(ExpertSpec(("age",), s) for s in states))
    assert load_recipe("face-mask").experts == expected
    assert load_recipe("quickstart").experts == (*expected, ExpertSpec(("age",), {}))
    assert load_recipe("face_mask").schema.n_joint == 18


def test_a_recipe_is_found_by_name_or_path(tmp_path: Path) -> None:
    by_path = load_recipe(recipe_folder() / "face_mask.toml")
    assert by_path.schema == load_recipe("face-mask").schema == load_recipe("face_mask.toml").schema


def test_experts_may_be_sets_pooled_and_blocks(tmp_path: Path) -> None:
    text = (
        SCHEMA
        + GRAPH
        + '[experts]\nage = [{mask = "worn"}, {mask = ["not_worn", "incorrect"]}, "pooled"]\n"mask,gender,age" = ["pooled"]\n'
    )
    planned = load_recipe(write(tmp_path, text)).experts
    age = [spec.condition for spec in planned if spec.attributes == ("age",)]
    assert age == [{"mask": ("worn",)}, {"mask": ("incorrect", "not_worn")}, {}]
    assert planned[-1] == ExpertSpec(("mask", "gender", "age"), {})


def test_the_backbone_gets_a_smaller_rate_only_when_it_is_pretrained() -> None:
    recipe = load_recipe("face-mask")
    pretrained, fresh = recipe.settings_for(["mask"]), recipe.settings_for(["mask"], {"weights": "none"})
    assert pretrained.resolved_backbone_lr == pytest.approx(pretrained.head_lr / 10)
    assert fresh.resolved_backbone_lr == fresh.head_lr
    assert recipe.settings_for(["mask"], {"backbone_lr": 0.5}).resolved_backbone_lr == 0.5


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("", UsageError, "no [schema]"),
        ("[schema", DataError, "not readable as TOML"),
        (SCHEMA + "[tran]\nepochs = 1\n", UsageError, 'unknown section "tran"; did you mean "train"?'),
        (SCHEMA + "[train]\nepoch = 1\n", UsageError, 'unknown key "epoch"; did you mean "epochs"?'),
        (SCHEMA + "[train.age]\nlr = 1\n", UsageError, 'train age: unknown key "lr"'),
        (SCHEMA + "[train.aeg]\nepochs = 1\n", UsageError, 'no attribute "aeg"; did you mean "age"?'),
        (SCHEMA + "[train]\nepochs = 0\n", UsageError, "train.epochs: Input should be greater than or equal to 1"),
        (SCHEMA + '[train]\nkeep = "every"\n', UsageError, 'expected best, last or "every N"'),
        (SCHEMA + '[train]\nleave_out = ["old"]\n', UsageError, 'expected a range such as "57-59"'),
        (SCHEMA + "[train]\nsize = 8\n", UsageError, "expected at least 16 x 16 pixels"),
        (SCHEMA + "[data]\nfolds = 1\n", UsageError, "folds = 1 leaves nothing to train on"),
        (SCHEMA + "[data]\nval_ratio = 1.5\n", UsageError, "data.val_ratio"),
        (SCHEMA + "[combine]\nrouting = 1\n", UsageError, 'unknown key "routing"; did you mean "route"?'),
        (SCHEMA + '[combine]\nroute = "hrad"\n', UsageError, 'no route "hrad"; did you mean "hard"?'),
        (SCHEMA + '[combine]\nroute = { age = "hard" }\n', UsageError, '"age" is no node with parents'),
        (SCHEMA + '[combine]\nvote = "sotf"\n', UsageError, 'unknown vote "sotf"; did you mean "soft"?'),
        (SCHEMA + "[combine]\nborders = { mask = [1] }\n", UsageError, 'the classes of "mask" are names'),
        (SCHEMA + '[graph]\nmask = ["age"]\ngender = []\nage = ["mask"]\n', UsageError, "a cycle among mask -> age"),
        (SCHEMA + "[graph]\nmask = []\n", UsageError, "no node predicts gender, age"),
        (SCHEMA + GRAPH + '[experts]\nage = [{mask = "wron"}]\n', UsageError, 'no class "wron"; did you mean "worn"?'),
        (SCHEMA + GRAPH + '[experts]\nage = "each"\n', UsageError, '"age" must be a list'),
        (SCHEMA.replace("[30, 60]", "[60, 30]"), UsageError, "3 classes need 2 increasing borders"),
        (
            SCHEMA + '[train.gender]\ncolumns = "years"\n',
            UsageError,
            "gender: columns: about a measured attribute; gender is n",
        ),
        (
            SCHEMA + '[train.mask]\noutput = "ordinal"\nborders = [1]\n',
            UsageError,
            "mask: borders and output: about a m",
        ),
        (
            SCHEMA + '[train."mask,gender"]\noutput = "ordinal"\n[experts]\n"mask,gender" = ["pooled"]\n',
            UsageError,
            "train mask,gender: output: about a measured attribute; mask,gender is none",
        ),
        ('[schema]\nmask = "worn"\n', UsageError, '"mask" must be a list of classes'),
    ],
)
def test_faults_are_one_line_that_names_the_file(
    tmp_path: Path, text: str, error: type[EnsembleKitError], message: str
) -> None:
    path = write(tmp_path, text)
    with pytest.raises(error) as caught:
        load_recipe(path)
    assert message in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_every_fault_of_a_section_is_reported_at_once(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"epochs.*batch_size"):
        load_recipe(write(tmp_path, SCHEMA + "[train]\nepochs = 0\nbatch_size = 1\n"))


def test_an_unknown_recipe_names_the_nearest() -> None:
    with pytest.raises(UsageError, match='did you mean "quickstart"'):
        load_recipe("quikstart")


def test_sections_hold_what_their_models_say() -> None:
    assert DataSettings().folds == 5  # type: ignore[call-arg]
    assert CombineSettings().route == "hard"  # type: ignore[call-arg]


@pytest.mark.parametrize("written", ["mask=not_worn,incorrect", "mask=incorrect, not_worn", "mask=incorrect,not_worn"])
def test_an_experts_own_table_may_name_its_classes_in_any_order(tmp_path: Path, written: str) -> None:
    text = SCHEMA + GRAPH + '[experts]\nage = [{mask = "worn"}, {mask = ["not_worn", "incorrect"]}]\n'
    text += f'[train."age given {written}"]\nepochs = 3\nhead_lr = 0.5\n'
    edit = 'train."age given mask=not_worn,incorrect".epochs=4'
    recipe = load_recipe(write(tmp_path, text), [edit]).with_train({"epochs": 7, "head_lr": 0.25})
    found = recipe.settings_for(["age"], condition={"mask": ("incorrect", "not_worn")})
    assert (found.epochs, found.head_lr) == (4, 0.25)  # the edit beats the flag, the flag the table
    assert recipe.settings_for(["age"], condition={"mask": ("worn",)}).epochs == 7
