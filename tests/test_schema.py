from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Any

import numpy as np
import pytest
from core_oracles import face_schema, random_schema
from hypothesis import given, settings
from hypothesis import strategies as st

from ensemble_kit.errors import DataError, EnsembleKitError, UsageError
from ensemble_kit.schema import Attribute, Schema

SEEDS = st.integers(0, 2**32 - 1)


def test_the_mask_task_is_numbered_as_its_users_do() -> None:
    for mask, gender, age in product(range(3), range(2), range(3)):
        expected = mask * 6 + gender * 3 + age
        assert face_schema().encode({"mask": [mask], "gender": [gender], "age": [age]}).tolist() == [expected]


@settings(max_examples=60, deadline=None)
@given(SEEDS, st.booleans())
def test_numbering_goes_both_ways(seed: int, taxonomy: bool) -> None:
    schema = random_schema(np.random.default_rng(seed), 4, taxonomy)
    every = np.arange(schema.n_joint)
    classes = schema.decode(every)
    assert schema.encode(classes).tolist() == every.tolist()
    rows = [tuple(int(classes[name][i]) for name in schema.names) for i in every]
    assert rows == sorted(set(rows))
    possible = set(product(*(range(len(a.classes)) for a in schema.attributes)))
    for row in possible - set(rows):
        with pytest.raises(DataError, match="no joint class"):
            schema.encode({name: [number] for name, number in zip(schema.names, row, strict=True)})
    if not taxonomy:
        assert set(rows) == possible


@settings(max_examples=40, deadline=None)
@given(SEEDS, st.booleans())
def test_schema_survives_json(seed: int, taxonomy: bool) -> None:
    schema = random_schema(np.random.default_rng(seed), 4, taxonomy)
    back = Schema.from_json(schema.to_json())
    assert back == schema
    assert hash(back) == hash(schema)
    assert back.joint_names() == schema.joint_names()


def test_a_missing_label_makes_the_joint_class_missing() -> None:
    schema = face_schema()
    assert schema.encode({"mask": [-1, 1], "gender": [0, 1], "age": [0, -1]}).tolist() == [-1, -1]
    assert {name: numbers.tolist() for name, numbers in schema.decode([-1, 17]).items()} == {
        "mask": [-1, 2],
        "gender": [-1, 1],
        "age": [-1, 2],
    }


def test_no_rows_are_fine() -> None:
    schema = face_schema()
    assert schema.encode({"mask": [], "gender": [], "age": []}).shape == (0,)
    assert schema.decode(np.zeros(0, dtype=np.int64))["age"].shape == (0,)


def test_from_rows_makes_a_taxonomy_in_sorted_order() -> None:
    schema = Schema.from_rows(
        ["kind", "fine"], [("veg", "leek"), ("fruit", "plum"), ("fruit", "apple"), ("veg", "leek")]
    )
    assert schema["kind"].classes == ("fruit", "veg")
    assert schema.joint_names() == ["fruit / apple", "fruit / plum", "veg / leek"]
    assert not schema.is_product


@settings(max_examples=40, deadline=None)
@given(SEEDS, st.booleans())
def test_a_block_has_the_combinations_that_occur(seed: int, taxonomy: bool) -> None:
    random = np.random.default_rng(seed)
    schema = random_schema(random, 4, taxonomy)
    names = [schema.names[i] for i in random.permutation(len(schema.names))[: random.integers(1, 5)]]
    classes = schema.decode(np.arange(schema.n_joint))
    expected = sorted({tuple(int(classes[name][i]) for name in names) for i in range(schema.n_joint)})
    if schema.is_product:
        expected = list(product(*(range(len(schema[name].classes)) for name in names)))
    block = schema.block(names)
    assert block.names == tuple(names)
    assert [tuple(row) for row in block.paths.tolist()] == expected


@given(st.floats(-1e6, 1e6), st.lists(st.integers(-100, 100), min_size=1, max_size=4, unique=True))
def test_a_value_belongs_to_the_class_whose_borders_hold_it(value: float, borders: list[int]) -> None:
    borders = sorted(borders)
    attribute = Attribute("age", [str(i) for i in range(len(borders) + 1)], borders=borders)
    assert attribute.numbers([value]).tolist() == [sum(border <= value for border in borders)]


def test_numbers_of_names_and_missing_values() -> None:
    schema = face_schema()
    assert schema["mask"].numbers(["not_worn", "", "worn"]).tolist() == [2, -1, 0]
    assert schema["age"].numbers([np.nan, 60, 29.9]).tolist() == [-1, 2, 0]
    assert schema["age"].numbers([57, 58], borders=[30, 58]).tolist() == [1, 2]
    assert schema["mask"].numbers([]).shape == (0,)


def test_schemas_differ_by_order_classes_and_paths() -> None:
    a, b = Attribute("a", ["x", "y"]), Attribute("b", ["x", "y"])
    assert Schema(a, b) != Schema(b, a)
    assert Schema(a, b) != Schema(a, Attribute("b", ["y", "x"]))
    assert Schema(a, b) != Schema(a, b, paths=[["x", "x"]])
    full = Schema(a, b, paths=product("xy", "xy"))
    assert Schema(a, b) == full
    assert hash(Schema(a, b)) == hash(full)


@pytest.mark.parametrize("names", [(), ("age",), ("age", "mask"), ["gender", "age", "mask"]])
def test_names_in_any_order_come_back_in_the_schema_s(names: Sequence[str]) -> None:
    found = face_schema().in_order(names)
    assert found == tuple(name for name in ("mask", "gender", "age") if name in names)


BAD: list[tuple[Any, type[EnsembleKitError], str]] = [
    (lambda: Attribute("a", ["x", "x"]), UsageError, 'attribute "a": expected distinct classes'),
    (lambda: Attribute("a", []), UsageError, "expected distinct classes, found"),
    (lambda: Attribute("a", "xy"), UsageError, "classes must be a list of non-empty names"),
    (lambda: Attribute("a", ["x", ""]), UsageError, "classes must be a list of non-empty names"),
    (lambda: Attribute("a,b", ["x"]), UsageError, "expected text without a comma"),
    (lambda: Attribute("a", ["x", "y"], borders=[1, 2]), UsageError, "2 classes need 1 increasing borders"),
    (lambda: Attribute("a", ["x", "y", "z"], borders=[2, 1]), UsageError, "3 classes need 2 increasing borders"),
    (lambda: Attribute("a", ["x", "y"], borders=[float("nan")]), UsageError, "increasing borders"),
    (lambda: Attribute("a", ["x", "y"], borders=["old"]), UsageError, "borders must be numbers"),  # type: ignore[list-item]
    (lambda: face_schema()["age"].numbers([1], borders=[30]), UsageError, "3 classes need 2 increasing borders"),
    (lambda: face_schema()["mask"].numbers(["wron"]), DataError, 'unknown class "wron"; did you mean "worn"'),
    (lambda: face_schema()["mask"].index("off"), UsageError, 'has no class "off" (known: worn, incorrect, not_worn)'),
    (lambda: face_schema()["gendre"], UsageError, 'no attribute "gendre"; did you mean "gender"'),
    (lambda: face_schema().in_order(["age", "maks"]), UsageError, 'no attribute "maks"; did you mean "mask"'),
    (lambda: face_schema().in_order(["age", "mask", "age"]), UsageError, 'names "age" twice; name it once'),
    (lambda: face_schema().in_order("age"), UsageError, "expected a list of attributes, found 'age'; write ['age']"),
    (lambda: face_schema().in_order(3), UsageError, "expected a list of attributes, found 3"),  # type: ignore[arg-type]
    (lambda: face_schema().in_order([["age"]]), UsageError, "the schema has no attribute"),  # type: ignore[list-item]
    (lambda: Schema(), UsageError, "expected distinct attributes"),
    (lambda: Schema(face_schema()["age"], face_schema()["age"]), UsageError, "expected distinct attributes"),
    (lambda: Schema(Attribute("a", ["x"]), paths=[["x", "x"]]), UsageError, "must name one class for each"),
    (lambda: Schema(Attribute("a", ["x"]), paths=[["y"]]), UsageError, 'has no class "y"'),
    (lambda: Schema(Attribute("a", ["x"]), paths=[]), UsageError, "expected 1 to 65536 paths, found 0"),
    (lambda: _large(5), UsageError, "joint classes, at most 65536"),
    (lambda: _large(40, [["0"] * 40]), UsageError, "too many to number"),
    (lambda: Schema.from_rows(["a", "b"], [("x", "y"), ("x",)]), UsageError, "must name one class for each"),
    (lambda: face_schema().encode({"mask": [3], "gender": [0], "age": [0]}), DataError, "must be 0 to 2"),
    (lambda: face_schema().encode({"mask": [-2], "gender": [0], "age": [0]}), DataError, "must be 0 to 2"),
    (lambda: face_schema().encode({"mask": [0], "gender": [0]}), UsageError, 'no classes given for "age"'),
    (lambda: face_schema().encode({"mask": [0, 1], "gender": [0], "age": [0]}), DataError, "as many class numbers"),
    (lambda: face_schema().decode([18]), DataError, "joint classes are 0 to 17, found 18 to 18"),
    (lambda: Schema.from_json({"attributes": [{"name": "a"}]}), DataError, "not a stored schema"),
    (lambda: Schema.from_json([1]), DataError, "not a stored schema"),
]


def _large(n_attributes: int, paths: list[list[str]] | None = None) -> Schema:
    return Schema(*(Attribute(f"a{i}", list("0123456789")) for i in range(n_attributes)), paths=paths)


@pytest.mark.parametrize(("call", "error", "message"), BAD, ids=[message for *_, message in BAD])
def test_bad_input_is_refused_in_words(call: Any, error: type[EnsembleKitError], message: str) -> None:
    with pytest.raises(error) as caught:
        call()
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
