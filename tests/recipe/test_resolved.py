"""The resolved recipe is a recipe: it reads back as the same one, wherever it lies."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ensemble_kit.recipe.files import recipe_names
from ensemble_kit.recipe.load import Recipe, load_recipe
from ensemble_kit.recipe.resolved import resolved_toml
from ensemble_kit.recipe.settings import TrainSettings
from ensemble_kit.recipe.toml_text import toml_line

VALUES = st.recursive(
    st.booleans() | st.integers(-(2**60), 2**60) | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(st.text(min_size=1), VALUES)
def test_toml_lines_read_back(name: str, value: Any) -> None:
    assert tomllib.loads(toml_line(name, value)) == {name: value}


def same(a: Recipe, b: Recipe) -> None:
    assert (a.schema, a.graph, a.experts) == (b.schema, b.graph, b.experts)
    assert (a.predict, a.combine) == (b.predict, b.combine)
    assert a.data.model_dump(exclude={"path", "fixes", "extra"}) == b.data.model_dump(
        exclude={"path", "fixes", "extra"}
    )
    assert a.fixes_file() == b.fixes_file()
    for spec in a.experts:
        ours, theirs = (r.settings_for(spec.attributes, condition=spec.condition) for r in (a, b))
        assert ours == theirs


@pytest.mark.parametrize("name", recipe_names())
def test_every_shipped_recipe_reads_back_from_elsewhere(name: str, tmp_path: Path) -> None:
    variants = load_recipe(name).variants
    for variant in (None, *variants):
        recipe = load_recipe(name, variant=variant)
        file = tmp_path / "copied.toml"
        file.write_text(resolved_toml(recipe), encoding="utf-8")
        same(recipe, load_recipe(file))
        assert resolved_toml(load_recipe(file)).splitlines()[1:] == resolved_toml(recipe).splitlines()[1:]


def test_every_key_stands_in_it() -> None:
    text = resolved_toml(load_recipe("face-mask"))
    section = text.split("[train]")[1].split("\n[")[0]
    for key in TrainSettings.model_fields:
        assert f"\n{key} = " in section or f"\n# {key}: not set" in section, key


def test_flags_and_edits_are_in_it(tmp_path: Path) -> None:
    edits = ["train.age.epochs=3", 'train."age given mask=worn".head_lr=0.5', "data.folds=2", "predict.tta=flip"]
    recipe = load_recipe("face-mask", edits).with_train({"seed": 7})
    file = tmp_path / "r.toml"
    file.write_text(resolved_toml(recipe))
    read = load_recipe(file)
    same(recipe, read)
    worn = read.settings_for(["age"], condition={"mask": ("worn",)})
    assert (worn.head_lr, worn.epochs, worn.seed, read.data.folds) == (0.5, 3, 7, 2)


def test_files_beside_the_recipe_are_named_absolutely(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    paths = "kind,fine\nFruit,Gala\nFruit,Smith\nVeg,Leek\n"
    (tmp_path / "mine" / "p.csv").write_text(paths)
    (tmp_path / "mine" / "t.toml").write_text(
        '[schema]\ntaxonomy = ["kind", "fine"]\npaths = "p.csv"\n[data]\npath = "photos"\n'
    )
    recipe = load_recipe(tmp_path / "mine" / "t.toml")
    other = tmp_path / "r.toml"
    other.write_text(resolved_toml(recipe))
    read = load_recipe(other)
    same(recipe, read)
    assert read.data.path == str(tmp_path / "mine" / "photos")
