"""The faces' mean position, and the tables that tell it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ensemble_kit.data.boxes import box_middles, mean_position
from ensemble_kit.data.samples import SampleTable, read_samples
from ensemble_kit.errors import DataError
from ensemble_kit.schema import Attribute, Schema

SCHEMA = Schema(Attribute("mask", ["worn", "not_worn"]))
HEADER = "path,mask,box_left,box_top,box_right,box_bottom"


def table_of(folder: Path, lines: list[str], header: str = HEADER) -> SampleTable:
    folder.mkdir(exist_ok=True)
    for name, size in (("a.png", (100, 200)), ("b.png", (50, 100)), ("c.png", (50, 50))):
        Image.fromarray(np.zeros((size[1], size[0], 3), dtype=np.uint8)).save(folder / name)
    (folder / "samples.csv").write_text("\n".join([header, *lines]) + "\n")
    return read_samples(folder / "samples.csv", SCHEMA)


def position(table: SampleTable) -> tuple[float, float]:
    return mean_position(box_middles(table), np.ones(len(table), dtype=bool))


def test_the_position_is_the_mean_middle_as_a_share_of_each_photo(tmp_path: Path) -> None:
    table = table_of(tmp_path, ["a.png,worn,20,40,60,80", "b.png,worn,10,10,40,30", "c.png,worn,,,,"])
    # a: across 40/100, down 60/200; b: across 25/50, down 20/100; c has no box
    assert position(table) == (0.25, 0.45)
    assert mean_position(box_middles(table), np.array([True, False, True])) == (0.3, 0.4)


def test_shares_need_no_photo(tmp_path: Path) -> None:
    table = table_of(tmp_path, ["a.png,worn,0.2,0.2,0.6,0.4", "b.png,worn,0.2,0.2,0.6,0.4"])
    for path in table.paths:
        path.unlink()
    assert position(table) == (0.3, 0.4)


def test_boxes_survive_the_runs_sample_table_and_enter_its_hash(tmp_path: Path) -> None:
    table = table_of(tmp_path, ["a.png,worn,20,40,60,80", "b.png,worn,,,,"])
    table.to_csv(tmp_path / "run.csv", fold=[0, 1])
    again = SampleTable.from_csv(tmp_path / "run.csv", table.root, SCHEMA)
    assert again.sha256() == table.sha256()
    assert position(again.select([0])) == position(table)
    plain = table_of(tmp_path, ["a.png,worn", "b.png,worn"], "path,mask")
    assert plain.sha256() != table.sha256()
    with pytest.raises(DataError, match=r"expected the columns box_left, .* in the table, found none of them"):
        position(plain)


@pytest.mark.parametrize(
    ("lines", "header", "message"),
    [
        (["a.png,worn,1,2"], "path,mask,box_left,box_top", "box_right is missing"),
        (["a.png,worn,x,1,2,3"], HEADER, 'line 2: box_left must be a number, found "x"'),
    ],
)
def test_bad_boxes(tmp_path: Path, lines: list[str], header: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        table_of(tmp_path, lines, header)


def test_boxes_outside_or_nowhere(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"a\.png: the middle of its box lies outside the photo"):
        position(table_of(tmp_path, ["a.png,worn,200,10,220,30"]))
    with pytest.raises(DataError, match="no training photo has a box"):
        position(table_of(tmp_path, ["a.png,worn,,,,"]))
