"""`--set`: which keys it reaches, what it beats, what it refuses; and a recipe's variants."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from task_text import SCHEMA_TEXT

from ensemble_kit.errors import UsageError
from ensemble_kit.recipe.edits import combining, parse_edit
from ensemble_kit.recipe.load import load_recipe
from ensemble_kit.recipe.settings import CombineSettings, DataSettings, PredictSettings, TrainSettings

TASK = (
    SCHEMA_TEXT
    + """
[graph]
mask = []
"gender,age" = ["mask"]
[train]
epochs = 4
[train."gender,age"]
epochs = 5
[experts]
"gender,age" = ["each", "pooled"]
age = ["pooled"]
"""
)
VARIANTS = """
[variants.plain]
[variants.small]
train.size = 32
train."gender,age".epochs = 7
experts.age = []
"""


@pytest.fixture
def task(tmp_path: Path) -> Path:
    path = tmp_path / "task.toml"
    path.write_text(TASK)
    return path


@pytest.fixture
def varied(tmp_path: Path) -> Path:
    path = tmp_path / "varied.toml"
    path.write_text(TASK + VARIANTS)
    return path


@pytest.mark.parametrize("model", [TrainSettings, DataSettings, PredictSettings, CombineSettings])
def test_every_key_of_every_section_is_reached(task: Path, model: Any) -> None:
    section = model.__name__.removesuffix("Settings").lower()
    for key in model.model_fields:
        with pytest.raises(UsageError) as caught:
            load_recipe(task, [f"{section}.{key}={{wrong = {{}}}}"])
        assert "unknown key" not in str(caught.value).split("wrong")[0]
        assert key in str(caught.value)


def test_values_are_toml_and_bare_words_are_text(task: Path) -> None:
    recipe = load_recipe(
        task, ["train.sampler=balanced", "train.head_lr=2e-3", "train.size=[48, 32]", "train.leave_out=57-59"]
    )
    settings = recipe.settings_for(["age"])
    assert (settings.sampler, settings.head_lr, settings.size) == ("balanced", 2e-3, (48, 32))
    assert settings.leave_out == ((57.0, 59.0),)


def test_an_edit_is_what_editing_the_file_would_be(task: Path) -> None:
    recipe = load_recipe(task, ["train.epochs=9", "schema.age.borders=[25, 40]", 'experts.mask=["pooled"]'])
    assert recipe.settings_for(["mask"]).epochs == 9
    assert recipe.settings_for(["gender", "age"]).epochs == 5
    assert recipe.schema["age"].borders == (25, 40)


@pytest.mark.parametrize("key", ["gender,age", "age,gender", '"gender,age"', '"age, gender"'])
def test_a_block_is_found_however_it_is_written(task: Path, key: str) -> None:
    recipe = load_recipe(task, [f"train.{key}.epochs=9"])
    assert recipe.settings_for(["age", "gender"]).epochs == 9
    assert recipe.with_train({"epochs": 2}).settings_for(["age", "gender"]).epochs == 9
    assert recipe.with_train({"epochs": 2}).settings_for(["mask"]).epochs == 2


def test_one_expert_among_its_conditions(task: Path) -> None:
    recipe = load_recipe(task, ['train."gender,age given mask=worn".epochs=11'])
    epochs = [recipe.settings_for(spec.attributes, condition=spec.condition).epochs for spec in recipe.experts]
    assert epochs == [4, 11, 5, 5, 5, 4]
    flagged = recipe.with_train({"epochs": 2})
    found = [flagged.settings_for(spec.attributes, condition=spec.condition).epochs for spec in recipe.experts]
    assert found == [2, 11, 2, 2, 2, 2]


def test_an_edit_beats_the_flags_laid_over_the_recipe(task: Path) -> None:
    recipe = load_recipe(task, ["train.epochs=9", "data.folds=3", "combine.route=soft"])
    assert recipe.with_train({"epochs": 2}).settings_for(["mask"]).epochs == 9
    assert recipe.with_data({"val_ratio": 0.2}).data == recipe.data
    assert recipe.with_combine({"route": "hard", "vote": "hard"}).combine.route == "soft"


def test_folds_and_a_share_rule_each_other_out(tmp_path: Path) -> None:
    path = tmp_path / "task.toml"
    path.write_text(TASK + "[data]\nval_ratio = 0.2\n")
    assert load_recipe(path, ["data.folds=4"]).data.val_ratio is None
    assert load_recipe(path, ["data.folds=4", "data.val_ratio=0.3"]).data.val_ratio == 0.3


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        ("train.age.epoch=1", '--set train.age.epoch: unknown key; did you mean "train.age.epochs"?'),
        ("train.epohcs=1", '--set train.epohcs: unknown key; did you mean "train.epochs"?'),
        ("train.aeg.epochs=1", 'did you mean "train.age.epochs"?'),
        ("trian.epochs=1", 'did you mean "train.epochs"?'),
        ("data.fold=1", 'did you mean "data.folds"?'),
        ('train."gender,age".sampelr=x', 'did you mean "train.gender,age.sampler"?'),
        ("train.age=1", "is a table; set a key of it, as in train.age.epochs=5"),
        ("train.epochs", "expected SECTION.KEY=VALUE"),
        ("epochs=3", "expected SECTION.KEY=VALUE"),
        ("train.epochs.more=3", "train.epochs is one value, 4"),
        ("train.phases.0.epochs=3", "the recipe has no train.phases; set it whole, as in train.phases=[{}]"),
        ("train.epochs=0", "train.epochs: Input should be greater than or equal to 1"),
        ('train."age given mask=wron".epochs=3', "no such expert is trained"),
        ("zzz.a=3", "known: data, train, predict, combine, vote, tune, schema, graph, experts"),
    ],
)
def test_what_is_refused_says_what_to_write(task: Path, edit: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        load_recipe(task, [edit])
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_combining_of_a_run_is_edited_alone() -> None:
    stored = load_recipe("face-mask").combine.model_dump()
    assert combining(stored, ["combine.route=soft"]) == {**stored, "route": "soft"}
    with pytest.raises(UsageError, match="reads \\[combine\\] only"):
        combining(stored, ["train.epochs=3"])
    with pytest.raises(UsageError, match=r'did you mean "combine\.route"'):
        combining(stored, ["combine.rout=soft"])


def test_a_path_is_told_as_it_is_typed() -> None:
    assert parse_edit('train."age given mask=worn".epochs=3').dotted == 'train."age given mask=worn".epochs'


def test_variants_are_laid_over_the_recipe(varied: Path) -> None:
    base, small = load_recipe(varied), load_recipe(varied, variant="small")
    assert base.variants == small.variants == ("plain", "small")
    assert (base.name, small.name, load_recipe(varied, variant="plain").name) == (
        "varied",
        "varied-small",
        "varied-plain",
    )
    assert load_recipe(varied, variant="plain").settings_for(["mask"]) == base.settings_for(["mask"])
    assert small.settings_for(["mask"]).size == (32, 32)
    assert (small.settings_for(["mask"]).epochs, small.settings_for(["gender", "age"]).epochs) == (4, 7)
    assert len(small.experts) == len(base.experts) - 1
    assert load_recipe(varied, ["train.size=24"], "small").settings_for(["mask"]).size == (24, 24)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[variants.a]\ntrain.epoch = 1\n", 'variants.a: train: unknown key "epoch"; did you mean "epochs"?'),
        ("[variants.a]\ntrian.epochs = 1\n", 'unknown section "trian"; did you mean "train"?'),
        ("[variants.a]\nvariants.b.train.epochs = 1\n", "variants of its own"),
        ('[variants."A b"]\n', "plain names"),
        ("[variants]\na = 1\n", "plain names"),
    ],
)
def test_faulty_variants_are_found_when_the_recipe_is_read(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "task.toml"
    path.write_text(TASK + text)
    with pytest.raises(UsageError) as caught:
        load_recipe(path)
    assert message in str(caught.value)


def test_an_edit_need_not_fit_the_variants_that_are_not_chosen() -> None:
    recipe = load_recipe("adam-then-sgd", ["train.phases.1.epochs=2"])
    assert [phase.epochs for phase in recipe.settings_for(recipe.schema.names).phases] == [15, 2]
    alone = load_recipe("adam-then-sgd", ["train.phases.0.epochs=3"], "adam_alone")
    assert [phase.epochs for phase in alone.settings_for(alone.schema.names).phases] == [3]
    with pytest.raises(UsageError, match=r"train\.phases has the entries 0 to 1, found 2"):
        load_recipe("adam-then-sgd", ["train.phases.2.epochs=2"])


def test_an_unknown_variant_names_the_nearest(varied: Path) -> None:
    with pytest.raises(UsageError, match='no variant "smal"; did you mean "small"'):
        load_recipe(varied, variant="smal")
