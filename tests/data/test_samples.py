"""The sample table: labels as numbers, hashes, the CSV round trip."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_tree import face_schema, write
from hypothesis import given, settings
from hypothesis import strategies as st

from ensemble_kit.data.samples import SampleTable, check_names, read_samples
from ensemble_kit.errors import DataError, UsageError
from ensemble_kit.schema import Attribute, Schema

NAN = float("nan")
KIND = Schema(Attribute("kind", ["NA", "null", "a,b"]), Attribute("size", ["small", "large"], borders=[2.5]))

texts = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=8)
names = st.text(st.characters(codec="utf-8", exclude_characters="\0/\\:"), min_size=1, max_size=8)


@st.composite
def tables(draw: st.DrawFn) -> SampleTable:
    ids = draw(st.lists(texts, min_size=1, max_size=6, unique=True))
    n = len(ids)
    paths = [f"x{name}.jpg" for name in draw(st.lists(names, min_size=n, max_size=n))]
    number = st.one_of(st.just(NAN), st.integers(0, 120).map(float), st.floats(-1e6, 1e6))
    columns: dict[str, list[Any]] = {
        "sample_id": ids,
        "path": paths,
        "group_id": draw(st.lists(texts, min_size=n, max_size=n)),
        "kind": draw(st.lists(st.sampled_from(["NA", "null", "a,b", ""]), min_size=n, max_size=n)),
        "size": draw(st.lists(number, min_size=n, max_size=n)),
    }
    return SampleTable.from_columns(columns, Path("root"), KIND)


def faces(**changes: list[object]) -> SampleTable:
    columns: dict[str, list[object]] = {
        "sample_id": ["000001", "b", "c"],
        "path": ["p/1.jpg", "p/2.jpg", "q/3.jpg"],
        "group_id": ["p", "p", "q"],
        "mask": ["worn", "not_worn", "incorrect"],
        "gender": ["female", "", "male"],
        "age": [60.0, 30.0, 29.5],
    }
    return SampleTable.from_columns(columns | changes, Path("root"), face_schema())


@given(tables())
@settings(max_examples=60, deadline=None)
def test_csv_round_trip_keeps_every_cell(table: SampleTable) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "samples.csv"
        table.to_csv(path, fold=np.arange(len(table)) - 1)
        back = SampleTable.from_csv(path, Path("elsewhere"), KIND)
    assert back.ids.tolist() == table.ids.tolist()
    assert back.frame["path"].tolist() == table.frame["path"].tolist()
    assert back.groups.tolist() == table.groups.tolist()
    assert back.frame["kind"].tolist() == table.frame["kind"].tolist()
    np.testing.assert_array_equal(back.frame["size"].to_numpy(), table.frame["size"].to_numpy())
    assert back.sha256() == table.sha256()


@given(tables(), st.data())
@settings(max_examples=40, deadline=None)
def test_joint_agrees_with_a_loop(table: SampleTable, data: st.DataObject) -> None:
    expected = []
    for kind, size in zip(table.frame["kind"], table.frame["size"], strict=True):
        known = kind != "" and size == size
        expected.append(["NA", "null", "a,b"].index(kind) * 2 + int(size >= 2.5) if known else -1)
    assert table.joint().tolist() == expected
    rows = data.draw(st.permutations(range(len(table))))
    assert table.select(rows).joint().tolist() == [expected[row] for row in rows]
    assert table.select(rows).ids.tolist() == [table.ids.tolist()[row] for row in rows]


def test_extra_columns_stand_between_keys_and_attributes(tmp_path: Path) -> None:
    faces().to_csv(tmp_path / "samples.csv", fold=np.array([0, 1, -1]))
    assert (tmp_path / "samples.csv").read_text("utf-8") == (
        "sample_id,path,group_id,fold,mask,gender,age\n"
        "000001,p/1.jpg,p,0,worn,female,60\n"
        "b,p/2.jpg,p,1,not_worn,,30\n"
        "c,q/3.jpg,q,-1,incorrect,male,29.5\n"
    )


def test_an_extra_column_of_another_length_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match='column "fold": expected 3 values, found 2'):
        faces().to_csv(tmp_path / "samples.csv", fold=[0, 1])
    assert list(tmp_path.iterdir()) == []


def test_numbers_follow_the_borders_asked_for() -> None:
    table = faces()
    assert table.numbers("age").tolist() == [2, 1, 0]
    assert table.numbers("age", (25, 61)).tolist() == [1, 1, 1]
    assert table.numbers("gender").tolist() == [1, -1, 0]
    assert table.joint().tolist() == [0 * 6 + 1 * 3 + 2, -1, 1 * 6 + 0 * 3 + 0]
    assert table.joint(["age", "mask"]).tolist() == [2 * 3 + 0, 1 * 3 + 2, 0 * 3 + 1]


def test_a_table_without_a_column_is_unlabelled_for_it() -> None:
    columns = {"sample_id": ["a"], "path": ["a.jpg"], "group_id": ["a"], "mask": ["worn"]}
    table = SampleTable.from_columns(columns, Path("root"), face_schema())
    assert table.has("mask")
    assert not table.has("age")
    assert table.numbers("age").tolist() == [-1]
    assert table.joint().tolist() == [-1]
    assert table.joint(["mask"]).tolist() == [0]


def test_an_unknown_attribute_names_the_nearest() -> None:
    with pytest.raises(UsageError, match='no attribute "gendre"; did you mean "gender"'):
        faces().numbers("gendre")


def test_select_takes_booleans_and_row_numbers() -> None:
    table = faces()
    assert table.select(np.array([True, False, True])).ids.tolist() == ["000001", "c"]
    assert table.select([2, 0]).paths == [Path("root/q/3.jpg"), Path("root/p/1.jpg")]
    assert len(table.select(np.array([], dtype=np.int64))) == 0


@pytest.mark.parametrize(
    "changes",
    [
        {"sample_id": ["1", "b", "c"]},
        {"path": ["p/1.jpg", "p/2.jpg", "q/4.jpg"]},
        {"group_id": ["p", "p", "p"]},
        {"gender": ["female", "male", "male"]},
        {"age": [60.0, 30.0, NAN]},
    ],
)
def test_sha256_sees_every_column(changes: dict[str, list[object]]) -> None:
    assert faces(**changes).sha256() != faces().sha256()


def test_sha256_sees_the_row_order_but_not_the_root() -> None:
    table = faces()
    moved = SampleTable(table.frame, Path("elsewhere"), table.schema)
    assert moved.sha256() == table.sha256()
    assert table.select([1, 0, 2]).sha256() != table.sha256()


def test_a_repeated_sample_id_is_refused() -> None:
    with pytest.raises(DataError, match='sample_id "b" occurs twice \\(rows 1 and 2\\)'):
        faces(sample_id=["b", "b", "c"])


def test_a_class_name_that_is_none_is_refused() -> None:
    with pytest.raises(DataError, match='attribute "mask": unknown class "wron"; did you mean "worn"'):
        faces(mask=["wron", "worn", "worn"])


@pytest.mark.parametrize("name", ["sample_id", "path", "group_id", "fold", "split"])
def test_attributes_may_not_be_called_as_the_table_s_own_columns(tmp_path: Path, name: str) -> None:
    schema = Schema(Attribute("kind", ["a", "b"]), Attribute(name, ["x", "y"]))
    message = f'"{name}" is no name for an attribute.* sample_id, path, group_id, fold, split'
    columns = {"sample_id": ["a"], "path": ["a.jpg"], "group_id": ["a"], "kind": ["a"]}
    source = write(tmp_path / "samples.csv", "sample_id,path,group_id,fold,split,kind\na,a.jpg,g,0,train,a\n")
    calls: list[Callable[[], object]] = [
        lambda: check_names(schema),
        lambda: SampleTable.from_columns(columns, tmp_path, schema),
        lambda: SampleTable.from_csv(source, tmp_path, schema),
        lambda: SampleTable(faces().frame, tmp_path, schema),
        lambda: read_samples(source, schema),
        lambda: read_samples(tmp_path, schema, layout="folders"),
    ]
    for call in calls:
        with pytest.raises(UsageError, match=message) as caught:
            call()
        assert "\n" not in str(caught.value)
    check_names(face_schema())


BAD_CSV = {
    "no file": (None, "expected a csv file with sample_id, path, group_id, found none"),
    "no group": ("sample_id,path\na,a.jpg\n", "missing column group_id .*found sample_id, path"),
    "twice": ("sample_id,path,group_id\na,a.jpg,g\na,b.jpg,g\n", 'line 3: sample_id "a" stands on line 2 already'),
    "label": ("sample_id,path,group_id,mask\na,a.jpg,g,on\n", 'line 2: mask must be one of worn, .*found "on"'),
    "age": ("sample_id,path,group_id,age\na,a.jpg,g,abc\n", 'line 2: age must be a number, found "abc"'),
    "climbs": ("sample_id,path,group_id\na,../a.jpg,g\n", "line 2: expected a path inside the data folder"),
    "absolute": ("sample_id,path,group_id\na,/etc/a.jpg,g\n", "line 2: expected a path inside the data folder"),
}


@pytest.mark.parametrize(("content", "message"), BAD_CSV.values(), ids=BAD_CSV.keys())
def test_bad_stored_tables(tmp_path: Path, content: str | None, message: str) -> None:
    path = tmp_path / "samples.csv"
    if content is not None:
        write(path, content)
    with pytest.raises(DataError, match=message) as caught:
        SampleTable.from_csv(path, tmp_path, face_schema())
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
