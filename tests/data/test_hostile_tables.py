"""Tables that people and spreadsheets make, and some made to do harm: the right labels, or one line."""

from __future__ import annotations

import csv
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from fake_tree import JPEG, face_schema, folder_of, write, write_eval, write_train

from ensemble_kit.data.check import check_data
from ensemble_kit.data.folds import divide
from ensemble_kit.data.samples import SampleTable, read_samples
from ensemble_kit.errors import DataError
from ensemble_kit.schema import Attribute, Schema
from ensemble_kit.submission import read_submission, write_submission

SCHEMA = Schema(Attribute("kind", ["NA", "null", "=1+1"]), Attribute("size", ["<1", "1-2"], borders=[1]))
ROWS = (("000001", "a.jpg", "NA", "0.5"), ("1e5", "b.jpg", "null", "1"), ("=2+3", "c.jpg", "=1+1", "1.5"))
TEXT = "sample_id,path,kind,size\n" + "".join(",".join(row) + "\n" for row in ROWS)


def folder_with(tmp_path: Path, table: bytes) -> Path:
    for _, path, *_ in ROWS:
        (tmp_path / path).write_bytes(JPEG)
    (tmp_path / "samples.csv").write_bytes(table)
    return tmp_path


FORMS = {
    "plain": TEXT.encode(),
    "byte order mark": b"\xef\xbb\xbf" + TEXT.encode(),
    "line ends of Windows": TEXT.replace("\n", "\r\n").encode(),
    "line ends of old": TEXT.replace("\n", "\r").encode(),
    "quoted": "".join(",".join(f'"{cell}"' for cell in line.split(",")) + "\n" for line in TEXT.splitlines()).encode(),
    "blanks": TEXT.replace(",", " , ").encode(),
    "empty lines": TEXT.replace("\n", "\n\n").encode(),
    "no end": TEXT.rstrip().encode(),
    "a further column": "".join(f"{line},=cmd|' /C calc'!A0\n" for line in TEXT.splitlines()).encode(),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_a_table_gives_the_same_labels(tmp_path: Path, form: str) -> None:
    table = read_samples(folder_with(tmp_path, FORMS[form]), SCHEMA)
    assert table.ids.tolist() == ["000001", "1e5", "=2+3"]
    assert table.numbers("kind").tolist() == [0, 1, 2]
    assert table.numbers("size").tolist() == [0, 1, 1]
    table.to_csv(tmp_path / "again.csv")
    assert SampleTable.from_csv(tmp_path / "again.csv", tmp_path, SCHEMA).sha256() == table.sha256()


BAD = {
    "semicolons": (TEXT.replace(",", ";").encode(), "it is separated by semicolons: save it with commas"),
    "utf-16": (TEXT.encode("utf-16"), "expected text in UTF-8"),
    "nul": (TEXT.replace("000001", "000001\0").encode(), "line 2: found a NUL character"),
    "climbing": (TEXT.replace("a.jpg", "../a.jpg").encode(), "line 2: expected a path inside the data folder"),
    "climbing back": (TEXT.replace("a.jpg", "x/../../a.jpg").encode(), "line 2: expected a path inside"),
    "backslashes": (TEXT.replace("a.jpg", "..\\a.jpg").encode(), "line 2: expected a path inside the data folder"),
    "absolute": (TEXT.replace("a.jpg", "/etc/passwd").encode(), "line 2: expected a path inside the data folder"),
    "a drive": (TEXT.replace("a.jpg", "C:\\a.jpg").encode(), "line 2: expected a path inside the data folder"),
    "twice": (TEXT.replace("b.jpg", "a.jpg").encode(), 'path "a.jpg" stands on line 2 already'),
    "cells shifted": (TEXT.replace("a.jpg,", "").encode(), "line 2: expected 4 values, found 3"),
    "a quote left open": (TEXT.replace("NA", '"NA').encode(), "not readable as csv"),
    "another class": (
        TEXT.replace(",NA,", ",nan,").encode(),
        'line 2: kind must be one of NA, null, =1+1, found "nan"',
    ),
    "a number with a comma": (TEXT.replace("0.5", '"0,5"').encode(), 'size must be a number, found "0,5"'),
    "not a number": (TEXT.replace("0.5", "nan").encode(), 'size must be a number, found "nan"'),
    "empty": (b"", "found an empty file"),
    "only a header": (TEXT.splitlines()[0].encode(), "expected rows of the train part"),
    "a very long cell": (TEXT.replace("000001", "9" * 200_000).encode(), "not readable as csv"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_tables_are_one_line(tmp_path: Path, name: str) -> None:
    content, message = BAD[name]
    with pytest.raises(DataError) as caught:
        read_samples(folder_with(tmp_path, content), SCHEMA)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_table_that_is_a_pipe_is_refused(tmp_path: Path) -> None:
    folder = folder_with(tmp_path, b"")
    (folder / "samples.csv").unlink()
    os.mkfifo(folder / "samples.csv")
    with pytest.raises(DataError):
        read_samples(folder, SCHEMA)
    with pytest.raises(DataError, match="expected a file, found a pipe"):
        SampleTable.from_csv(folder / "samples.csv", folder, SCHEMA)


def test_links_out_of_every_layout_are_refused_and_links_inside_are_not(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "mask1.jpg").write_bytes(JPEG)
    (tmp_path / "table").mkdir()
    table = folder_with(tmp_path / "table", TEXT.encode())
    (table / "a.jpg").unlink()
    (table / "a.jpg").symlink_to(outside / "mask1.jpg")
    with pytest.raises(DataError, match=r"found the link a\.jpg out of it"):
        read_samples(table, SCHEMA)
    kinds = Schema(Attribute("kind", ["a", "b"]))
    folders = tmp_path / "folders"
    for name in ("a", "b"):
        write(folders / name / "1.jpg", "x")
    (folders / "a" / "2.jpg").symlink_to("../b/1.jpg")  # inside
    assert len(read_samples(folders, kinds)) == 3
    (folders / "b" / "2.jpg").symlink_to(outside / "mask1.jpg")
    with pytest.raises(DataError, match=r"b/2\.jpg: expected inside .*, found a link out of it; copy the photos in"):
        read_samples(folders, kinds)
    (folders / "b" / "2.jpg").unlink()
    (folders / "b" / "anna").symlink_to(outside)
    with pytest.raises(DataError, match="b/anna: expected inside"):
        read_samples(folders, kinds)
    people = [("000001", "female", "Asian", 45), ("000002", "male", "Asian", 20)]
    tree = write_eval(write_train(tmp_path / "tree", people), {"a.jpg": 0})
    shutil.move(tree / "train", tmp_path / "other disk")
    (tree / "train").symlink_to(tmp_path / "other disk")  # a part may lie elsewhere as a whole
    assert len(read_samples(tree, face_schema())) == 14
    photo = tree / "train" / "images" / folder_of(people[0]) / "mask1.jpg"
    photo.unlink()
    photo.symlink_to(outside / "mask1.jpg")
    with pytest.raises(DataError, match=r"mask1\.jpg: expected inside"):
        read_samples(tree, face_schema())
    (tree / "eval" / "images" / "a.jpg").unlink()
    (tree / "eval" / "images" / "a.jpg").symlink_to(outside / "mask1.jpg")
    with pytest.raises(DataError, match=r"a\.jpg: expected inside"):
        read_samples(tree, face_schema(), part="eval")


def test_formula_cells_stay_what_they_are_and_data_check_says_so(tmp_path: Path) -> None:
    folder = folder_with(tmp_path, TEXT.encode())
    report = check_data(folder, SCHEMA, folds=2, seed=0, decode=False)
    assert any("2 names begin with =, +, - or @, first '=1+1'" in notice for notice in report.notices)
    ids = ["=cmd|' /C calc'!A0", "+1", "-1", "@x", "plain", 'a"b', "a,b"]
    out = tmp_path / "submission.csv"
    write_submission(out, (ids, np.arange(len(ids))))
    with open(out, newline="") as handle:
        assert [row["ImageID"] for row in csv.DictReader(handle)] == ids
    found, answers = read_submission(out, face_schema())
    assert dict(zip(found.tolist(), answers.tolist(), strict=True)) == {name: i for i, name in enumerate(ids)}


# --- folds ---------------------------------------------------------------------------------------------------------


def random_table(rng: np.random.Generator) -> SampleTable:
    """Persons of any number of photos under any names, labels missing here and there."""
    n_people = int(rng.integers(6, 30))
    odd = ["", " ", "0", "00", "NA", "nan", "=1", "é", "e\u0301"]
    names = [f"{odd[int(rng.integers(len(odd)))]}{person}" for person in range(n_people)]
    rows: dict[str, list[object]] = {key: [] for key in ("sample_id", "path", "group_id", "kind")}
    for person, name in enumerate(names):
        for photo in range(int(rng.integers(1, 6))):
            kind = ["a", "b", ""][int(rng.choice(3, p=[0.5, 0.4, 0.1]))]
            values = (f"{person}/{photo}", f"{person}_{photo}.jpg", name, kind)
            for column, value in zip(rows.values(), values, strict=True):
                column.append(value)
    order = rng.permutation(len(rows["path"]))
    shuffled = {key: [column[row] for row in order] for key, column in rows.items()}
    return SampleTable.from_columns(shuffled, Path("photos"), Schema(Attribute("kind", ["a", "b"])))


@pytest.mark.parametrize("times", [50, pytest.param(1000, marks=pytest.mark.slow)])
def test_no_person_is_in_two_folds(times: int) -> None:
    rng = np.random.default_rng(0)
    divided = 0
    for number in range(times):
        table = random_table(rng)
        share = float(rng.uniform(0.1, 0.5)) if number % 4 == 3 else None
        try:
            folds = divide(table, n_folds=int(rng.integers(2, 6)), seed=number, val_ratio=share)
        except DataError:
            continue
        divided += 1
        homes: dict[str, set[int]] = {}
        for name, fold in zip(table.frame["group_id"], folds.tolist(), strict=True):
            homes.setdefault(name, set()).add(fold)
        assert all(len(found) == 1 for found in homes.values())
    print(f"\n{divided} of {times} random tables divided, nobody in two folds")
    assert divided > 0.9 * times


@pytest.mark.slow
def test_a_million_rows(tmp_path: Path) -> None:
    n = 1_000_000
    lines = (f"{i:07},p/{i:07}.jpg,g{i // 7},{('NA', 'null')[i % 2]},{i % 3}\n" for i in range(n))
    write(tmp_path / "samples.csv", "sample_id,path,group_id,kind,size\n" + "".join(lines))
    table = SampleTable.from_csv(tmp_path / "samples.csv", tmp_path, SCHEMA)
    np.testing.assert_array_equal(table.numbers("kind"), np.arange(n) % 2)
    np.testing.assert_array_equal(table.numbers("size"), np.minimum(np.arange(n) % 3, 1))
    folds = divide(table, n_folds=5, seed=0)
    assert (folds.reshape(-1)[: n // 7 * 7].reshape(-1, 7) == folds[: n // 7 * 7 : 7, None]).all()
