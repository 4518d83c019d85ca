"""A taxonomy in a recipe: what it means, which experts it needs, and what is refused."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ensemble_kit.errors import DataError, UsageError
from ensemble_kit.recipe.files import recipe_folder
from ensemble_kit.recipe.load import ExpertSpec, load_recipe
from ensemble_kit.recipe.taxonomy import read_paths, side_by_side, taxonomy_of, write_paths
from ensemble_kit.schema import Attribute, Schema

NAMES = ["kind", "coarse", "fine"]
PATHS = [
    ("Fruit", "Apple", "Gala"),
    ("Fruit", "Apple", "Smith"),
    ("Fruit", "Pear", "Pear"),
    ("Veg", "Leek", "Leek"),
    ("Veg", "Potato", "Floury"),
    ("Veg", "Potato", "Solid"),
]
LINES = ["kind,coarse,fine", *map(",".join, PATHS)]
INLINE = str([list(path) for path in PATHS])
SCHEMA = f'[schema]\ntaxonomy = ["kind", "coarse", "fine"]\npaths = {INLINE}\n'
GRAPH = '[graph]\nkind = []\ncoarse = ["kind"]\nfine = ["coarse"]\n'


def recipe_file(folder: Path, text: str, lines: list[str] | None = None) -> Path:
    if lines is not None:
        (folder / "paths.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    path = folder / "shop.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_paths_in_the_recipe_and_beside_it_are_one_schema(tmp_path: Path) -> None:
    inline = load_recipe(recipe_file(tmp_path, SCHEMA)).schema
    named = SCHEMA.replace(INLINE, '"paths.csv"')
    beside = load_recipe(recipe_file(tmp_path, named, LINES)).schema
    assert inline == beside == Schema.from_rows(NAMES, PATHS)
    assert beside.joint_names() == [" / ".join(path) for path in PATHS]


@settings(deadline=None)  # files are written
@given(st.permutations(PATHS), st.permutations(range(4)))
def test_the_order_of_lines_and_columns_means_nothing(lines: list[tuple[str, ...]], order: list[int]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "paths.csv"
        table = [[*NAMES, "note"], *([*path, str(number)] for number, path in enumerate(lines))]
        file.write_text("".join(",".join(row[i] for i in order) + "\n" for row in table), encoding="utf-8")
        assert read_paths(file, NAMES) == Schema.from_rows(NAMES, PATHS)


def test_a_written_file_is_read_back_and_numbers_the_joint_classes(tmp_path: Path) -> None:
    names = [("A, b", 'say "c"'), ("A, b", "ä"), ("Z", "NA")]
    schema = Schema.from_rows(["kind", "fine"], names)
    write_paths(tmp_path / "deep" / "paths.csv", schema)
    assert read_paths(tmp_path / "deep" / "paths.csv", ["kind", "fine"]) == schema
    write_paths(tmp_path / "plain.csv", Schema.from_rows(NAMES, PATHS))
    assert (tmp_path / "plain.csv").read_text("utf-8").splitlines() == LINES


def test_one_possible_class_needs_no_expert(tmp_path: Path) -> None:
    recipe = load_recipe(recipe_file(tmp_path, SCHEMA + GRAPH))
    assert recipe.experts == (
        ExpertSpec(("kind",), {}),
        ExpertSpec(("coarse",), {"kind": ("Fruit",)}),
        ExpertSpec(("coarse",), {"kind": ("Veg",)}),
        ExpertSpec(("fine",), {"coarse": ("Apple",)}),
        ExpertSpec(("fine",), {"coarse": ("Potato",)}),
    )


def test_a_taxonomy_stands_beside_other_attributes(tmp_path: Path) -> None:
    other = 'age = { classes = ["new", "old"], borders = [3] }\n'
    schema = load_recipe(recipe_file(tmp_path, SCHEMA + other)).schema
    assert schema.names == ("kind", "coarse", "fine", "age")
    assert schema.joint_names() == [f"{' / '.join(path)} / {age}" for path in PATHS for age in ("new", "old")]
    assert schema["age"].borders == (3,)
    first = load_recipe(recipe_file(tmp_path, f"[schema]\n{other}{SCHEMA.removeprefix('[schema]')}")).schema
    assert first.joint_names() == [f"{age} / {' / '.join(path)}" for age in ("new", "old") for path in PATHS]


def test_products_side_by_side_are_a_product() -> None:
    parts = [Schema(Attribute("a", ["x", "y"])), Schema(Attribute("b", ["1", "2"]))]
    assert side_by_side(parts) == Schema(Attribute("a", ["x", "y"]), Attribute("b", ["1", "2"]))
    with pytest.raises(UsageError, match="distinct attributes"):
        side_by_side([parts[0], parts[0]])


def test_too_many_joint_classes_are_refused_before_they_are_made() -> None:
    large = Schema.from_rows(["a", "b"], [(str(i), str(i)) for i in range(1000)])
    other = Schema.from_rows(["c", "d"], [(str(i), str(i)) for i in range(1000)])
    with pytest.raises(UsageError, match="1000000 joint classes, at most 65536"):
        side_by_side([large, other])


def test_an_attribute_may_be_called_paths_where_there_is_no_taxonomy(tmp_path: Path) -> None:
    recipe = load_recipe(recipe_file(tmp_path, '[schema]\npaths = ["left", "right"]\n'))
    assert recipe.schema.names == ("paths",)


BAD_SECTIONS = {
    "no paths": (f"paths = {INLINE}", "", "schema.paths: a taxonomy needs the paths that exist.*found nothing"),
    "paths are a number": (INLINE, "3", r"schema.paths: a taxonomy needs the paths.*found 3"),
    "no path at all": (INLINE, "[]", r"schema.paths: a taxonomy needs the paths.*found \[\]"),
    "paths without taxonomy": ('taxonomy = ["kind", "coarse", "fine"]', "", "paths need their attributes beside them"),
    "taxonomy is text": ('["kind", "coarse", "fine"]', '"kind"', "schema.taxonomy: expected attributes as in"),
    "an empty taxonomy": ('["kind", "coarse", "fine"]', "[]", "schema.taxonomy: expected attributes as in"),
    "an attribute twice": ('"coarse", "fine"', '"kind", "fine"', "distinct attributes, found kind, kind, fine"),
    "a column's name": ('"coarse", "fine"', '"split", "fine"', '"split" is no name for an attribute'),
    "two classes for three": (
        "['Veg', 'Leek', 'Leek']",
        "['Veg', 'Leek']",
        r"path 4: expected one class for each of kind, coarse, fine, found \['Veg', 'Leek'\]",
    ),
    "no class name": ("'Gala'", "''", "path 1: expected one class for each of kind, coarse, fine"),
    "a number for a class": ("'Gala'", "5", r"schema.paths: expected lists of class names, found \['Fruit'"),
    "a path twice": ("'Smith'", "'Gala'", r"path 2: Fruit / Apple / Gala is there already \(schema.paths, path 1\)"),
    "a graph in a circle": ("kind = []", 'kind = ["fine"]', "cycle|circle|itself"),
    "a parent that is unknown": ('["coarse"]\n', '["course"]\n', 'course".*did you mean "coarse"'),
    "attribute also outside": ("[graph]", 'fine = ["x", "y"]\n[graph]', "distinct attributes"),
}


@pytest.mark.parametrize(("old", "new", "message"), BAD_SECTIONS.values(), ids=BAD_SECTIONS.keys())
def test_bad_sections(tmp_path: Path, old: str, new: str, message: str) -> None:
    text = SCHEMA + GRAPH
    assert old in text
    file = recipe_file(tmp_path, text.replace(old, new, 1))
    with pytest.raises(UsageError, match=message) as caught:
        load_recipe(file)
    assert str(caught.value).startswith(str(file))
    assert "\n" not in str(caught.value)


BAD_FILES = {
    "a column is missing": ("kind,coarse,fine", "kind,coarse,finer", "missing column fine .*found kind, coarse, finer"),
    "semicolons": ("kind,coarse,fine", "kind;coarse;fine", "separated by semicolons|missing columns"),
    "two classes for three": ("Veg,Leek,Leek", "Veg,Leek", "line 5: expected 3 values, found 2"),
    "an empty cell": ("Veg,Leek,Leek", "Veg,,Leek", r"line 5: expected one class for each.*\['Veg', '', 'Leek'\]"),
    "a path twice": (
        "Fruit,Apple,Smith",
        "Fruit,Apple,Gala",
        r"line 3: Fruit / Apple / Gala is there already .*line 2",
    ),
}


@pytest.mark.parametrize(("old", "new", "message"), BAD_FILES.values(), ids=BAD_FILES.keys())
def test_bad_files(tmp_path: Path, old: str, new: str, message: str) -> None:
    text = "\n".join(LINES)
    assert old in text
    file = recipe_file(tmp_path, SCHEMA.replace(INLINE, '"paths.csv"'), text.replace(old, new, 1).splitlines())
    with pytest.raises(DataError, match=message) as caught:
        load_recipe(file)
    assert str(caught.value).startswith(f"{file}: {tmp_path / 'paths.csv'}")


def test_a_file_without_paths_or_without_anything(tmp_path: Path) -> None:
    named = SCHEMA.replace(INLINE, '"paths.csv"')
    with pytest.raises(DataError, match=r"paths\.csv: expected at least one path of kind, coarse, fine, found none"):
        load_recipe(recipe_file(tmp_path, named, LINES[:1]))
    missing = recipe_file(tmp_path, SCHEMA.replace(INLINE, '"gone.csv"'))
    with pytest.raises(DataError, match=r"gone\.csv: no such paths file.*ens data taxonomy DATA --columns kind,coarse"):
        load_recipe(missing)


def test_a_recipe_copied_elsewhere_finds_the_shipped_paths(tmp_path: Path) -> None:
    shutil.copy(recipe_folder() / "grocery.toml", tmp_path / "mine.toml")
    assert load_recipe(tmp_path / "mine.toml").schema == load_recipe("grocery").schema


def test_the_grocery_recipe_needs_sixteen_experts_and_trains_three_for_comparison() -> None:
    recipe = load_recipe("grocery")
    assert [len(attribute.classes) for attribute in recipe.schema.attributes] == [3, 43, 81]
    assert recipe.schema.n_joint == 81
    specialised = [spec.attributes for spec in recipe.experts if spec.condition]
    pooled = [spec.attributes for spec in recipe.experts if not spec.condition]
    assert [specialised.count((name,)) for name in recipe.schema.names] == [0, 3, 12]
    assert pooled == [("kind",), ("coarse",), ("fine",), recipe.schema.names]


def test_names_and_paths_of_any_kind_are_answered_in_one_line() -> None:
    unfit: list[object] = [None, {}, [1], [""], "kind"]
    for names in unfit:
        with pytest.raises(UsageError, match=r"schema.taxonomy: expected attributes"):
            taxonomy_of(names, [["a"]], [])
