"""A second data set: its photos train and are never held out, whoever is on them."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ensemble_kit.data.check import check_data
from ensemble_kit.data.extra import extra_notices, is_shared, read_extra, with_extra
from ensemble_kit.data.folds import divide, people_of, strata_of
from ensemble_kit.data.samples import SampleTable, read_samples
from ensemble_kit.errors import DataError, UsageError
from ensemble_kit.graph import Graph
from ensemble_kit.runs import Run
from ensemble_kit.schema import Attribute, Schema

SCHEMA = Schema(
    Attribute("mask", ["worn", "not_worn"]),
    Attribute("age", ["<30", "30-59", ">=60"], borders=[30, 60]),
)


def write(
    folder: Path, rows: Sequence[Sequence[Any]], columns: Sequence[str] = ("path", "group_id", "mask", "age")
) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for row in rows:
        assert cv2.imwrite(str(folder / str(row[0])), np.full((8, 8, 3), len(rows), dtype=np.uint8))
    with open(folder / "samples.csv", "w", newline="") as handle:
        csv.writer(handle).writerows([columns, *rows])
    return folder


def main_rows(n_people: int = 12) -> list[list[Any]]:
    ages = [20, 40, 65]
    return [
        [f"{person}_{mask}.png", f"p{person}", mask, ages[person % 3]]
        for person in range(n_people)
        for mask in ("worn", "not_worn")
    ]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write(tmp_path / "data", main_rows())


@pytest.fixture
def more(tmp_path: Path) -> Path:
    """The same file names as the data; ages alone; p3 is in both."""
    rows: list[list[Any]] = [
        ["0_worn.png", "q0", 61],
        ["1_worn.png", "p3", 70],
        ["2_worn.png", "q1", 33],
        ["3_worn.png", "q2", ""],
    ]
    return write(tmp_path / "more", rows, ("path", "group_id", "age"))


def joined(data: Path, more: Path, where: Any = None) -> SampleTable:
    return with_extra(read_samples(data, SCHEMA), read_extra(more, SCHEMA, where))


def test_ids_and_paths_are_told_apart_groups_are_not(data: Path, more: Path) -> None:
    table = joined(data, more)
    assert len(table) == 28
    assert table.ids[24:].tolist() == [f"extra:{i}_worn.png" for i in range(4)]
    assert table.groups[24:].tolist() == ["q0", "p3", "q1", "q2"]
    assert table.is_extra.tolist() == [False] * 24 + [True] * 4
    assert table.paths[0] == data / "0_worn.png"
    assert table.paths[24] == more / "0_worn.png"
    assert all(path.is_file() for path in table.paths)
    assert table.numbers("age")[24:].tolist() == [2, 2, 1, -1]
    assert table.numbers("mask")[24:].tolist() == [-1] * 4
    assert is_shared(table).tolist() == [False] * 25 + [True, False, False]
    assert extra_notices(table) == [
        "4 extra photos are trained on and never held out",
        "1 of the extra photos are of people in the data set itself: they train where these are not held out",
    ]
    assert extra_notices(read_samples(data, SCHEMA)) == []


def test_names_that_look_like_the_prefix(tmp_path: Path, more: Path) -> None:
    rows = [["a.png", "extra:0_worn.png", "worn", 20], ["b.png", "x", "worn", 20]]
    data = write(tmp_path / "odd", rows, ("path", "sample_id", "mask", "age"))
    table = joined(data, more)
    assert table.ids[2:].tolist() == [f"extra-extra:{i}_worn.png" for i in range(4)]
    assert table.is_extra.tolist() == [False, False, True, True, True, True]


def test_boxes_are_those_of_the_data_itself(tmp_path: Path) -> None:
    columns = ("path", "mask", "age", "box_left", "box_top", "box_right", "box_bottom")
    data = write(
        tmp_path / "boxed", [["a.png", "worn", 20, 1, 2, 3, 4], ["b.png", "worn", 20, "", "", "", ""]], columns
    )
    more = write(tmp_path / "others", [["a.png", "worn", 70, 0.1, 0.2, 0.3, 0.4]], columns)  # as shares, not in pixels
    frame = joined(data, more).frame
    assert frame["box_top"].tolist()[0] == 2
    assert np.isnan(frame["box_top"].tolist()[1:]).all()
    plain = with_extra(read_samples(more, SCHEMA), read_extra(data, SCHEMA))
    assert plain.frame["box_left"].tolist()[0] == 0.1


def test_only_some_classes_are_taken(data: Path, more: Path) -> None:
    assert joined(data, more, {"age": [">=60"]}).ids[24:].tolist() == ["extra:0_worn.png", "extra:1_worn.png"]
    assert len(joined(data, more, {"age": ["30-59", ">=60"]})) == 27
    with pytest.raises(DataError, match="no photo of mask worn among the 4 extra ones; see extra_where"):
        read_extra(more, SCHEMA, {"mask": ["worn"]})
    with pytest.raises(UsageError, match='"age" has no class "old"'):
        read_extra(more, SCHEMA, {"age": ["old"]})
    with pytest.raises(DataError, match="no such data set; extra names a second one"):
        read_extra(more / "nowhere", SCHEMA)


def test_the_folds_of_the_data_itself_do_not_change(data: Path, more: Path) -> None:
    alone, both = read_samples(data, SCHEMA), joined(data, more)
    for options in ({"n_folds": 3}, {"n_folds": 3, "val_ratio": 0.3}):
        folds = divide(both, seed=1, **options)
        assert folds[:24].tolist() == divide(alone, seed=1, **options).tolist()
        assert folds[24:].tolist() == [-1] * 4
    assert people_of(both)[24:].tolist() == both.ids[24:].tolist()


def test_a_run_keeps_them_and_refuses_others(data: Path, more: Path, tmp_path: Path) -> None:
    table = joined(data, more)
    folds = divide(table, n_folds=2, seed=0)
    named = {"path": str(more), "where": {}}
    common: dict[str, Any] = {
        "data": data,
        "layout": "auto",
        "schema": SCHEMA,
        "graph": Graph.independent(SCHEMA),
        "division": {"n_folds": 2, "fold_seed": 0, "val_ratio": None},
        "combine": {},
    }
    Run.create(tmp_path / "run", table, folds, extra=named, **common)
    run = Run.open(tmp_path / "run")
    assert run.table.paths == table.paths
    assert run.table.sha256() == table.sha256()
    assert run.table.is_extra.tolist() == table.is_extra.tolist()
    assert run.folds.tolist() == folds.tolist()
    assert run.extra == {**named, "roots": {"extra:": str(more.resolve())}}
    alone = read_samples(data, SCHEMA)
    with pytest.raises(DataError, match="begun with another samples_sha256"):
        Run.create(tmp_path / "run", alone, divide(alone, n_folds=2, seed=0), extra=None, **common)


def test_the_data_report_counts_them_in_training_parts_and_decodes_them(data: Path, more: Path) -> None:
    (more / "2_worn.png").write_bytes(b"no photo")
    report = check_data(data, SCHEMA, folds=2, seed=0, extra=read_extra(more, SCHEMA))
    assert report.train.photos == 24
    assert report.folds is not None
    assert (report.folds.total, report.folds.photos) == (28, [12, 12])
    assert report.folds.classes["age"][">=60"][0] == 10
    assert [problem.path for problem in report.problems] == ["extra:2_worn.png"]
    assert "4 extra photos are trained on and never held out" in report.notices


def test_a_class_that_only_extra_photos_have_cannot_be_scored(tmp_path: Path, more: Path) -> None:
    data = write(tmp_path / "young", [row for row in main_rows() if row[3] < 60])
    report = check_data(data, SCHEMA, folds=2, seed=0, extra=read_extra(more, SCHEMA), decode=False)
    assert [p.problem for p in report.problems] == [
        f'fold {k} has no validation photo of age ">=60" (2 photo(s) of 2 group(s) in all); use fewer folds or another seed'
        for k in (0, 1)
    ]


@given(
    st.lists(st.tuples(st.sampled_from(["", "worn", "not_worn"]), st.sampled_from([np.nan, 20.0, 70.0])), min_size=1)
)
@settings(max_examples=40, deadline=None)
def test_strata_are_the_joint_classes_and_what_is_labelled(rows: list[tuple[str, float]]) -> None:
    columns = {key: [f"{i}" for i in range(len(rows))] for key in ("sample_id", "path", "group_id")}
    table = SampleTable.from_columns(
        {**columns, "mask": [mask for mask, _ in rows], "age": [age for _, age in rows]}, Path(), SCHEMA
    )
    strata = strata_of(table)
    pairs = list(zip(table.numbers("mask").tolist(), table.numbers("age").tolist(), strict=True))
    assert len(set(zip(strata.tolist(), pairs, strict=True))) == len(set(pairs)) == len(set(strata.tolist()))
    if all(mask and age == age for mask, age in rows):
        assert strata.tolist() == table.joint().tolist()


def test_folds_share_out_partly_labelled_photos_evenly() -> None:
    n = 120
    columns: dict[str, list[Any]] = {key: [f"{i}" for i in range(n)] for key in ("sample_id", "path", "group_id")}
    kinds = [i % 3 for i in range(n)]  # mask alone, age alone, both
    columns["mask"] = ["" if kind == 1 else ("worn", "not_worn")[i // 3 % 2] for i, kind in enumerate(kinds)]
    columns["age"] = [np.nan if kind == 0 else (20.0, 40.0)[i // 3 % 2] for i, kind in enumerate(kinds)]
    table = SampleTable.from_columns(columns, Path(), SCHEMA)
    folds = divide(table, n_folds=4, seed=0)
    for kind in range(3):
        assert np.bincount(folds[np.array(kinds) == kind]).tolist() == [10] * 4
