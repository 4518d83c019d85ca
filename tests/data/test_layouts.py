"""Which layout a folder is taken for, and what is said when it is none."""

from __future__ import annotations

from pathlib import Path

import pytest
from fake_tree import face_schema, write, write_eval, write_photo, write_train

from ensemble_kit.data.layouts import LAYOUTS, find_layout, has_part
from ensemble_kit.data.samples import read_samples, template_of
from ensemble_kit.errors import DataError, UsageError
from ensemble_kit.schema import Attribute, Schema


def test_the_table_of_layouts() -> None:
    assert list(LAYOUTS) == ["competition", "table", "folders"]


def test_each_layout_is_recognised(tmp_path: Path) -> None:
    competition = write_train(tmp_path / "c")
    only_eval = write_eval(tmp_path / "e", {"a.jpg": 0})
    table = write(tmp_path / "t" / "list.csv", "path,mask\n")
    write(tmp_path / "u" / "samples.csv", "path,mask\n")
    write_photo(tmp_path / "f" / "worn" / "1.jpg")
    found = [find_layout(p) for p in (competition, only_eval, table, tmp_path / "u", tmp_path / "f")]
    assert found == ["competition", "competition", "table", "table", "folders"]
    assert [find_layout(competition / "train"), find_layout(only_eval / "eval")] == ["competition", "competition"]


def test_parts_of_the_competition(tmp_path: Path) -> None:
    write_train(tmp_path)
    assert (has_part(tmp_path, "train"), has_part(tmp_path, "eval")) == (True, False)
    write_eval(tmp_path, {"a.jpg": 0})
    assert (has_part(tmp_path, "train"), has_part(tmp_path, "eval")) == (True, True)
    assert (has_part(tmp_path / "train", "train"), has_part(tmp_path / "train", "eval")) == (True, False)


def test_a_tree_without_its_list_is_still_the_competition_s(tmp_path: Path) -> None:
    write_train(tmp_path)
    (tmp_path / "train" / "train.csv").unlink()
    with pytest.raises(DataError, match=r"train/train.csv: expected a csv file with id, gender, age, path, found none"):
        read_samples(tmp_path, face_schema())


def test_the_eval_part_of_a_train_folder(tmp_path: Path) -> None:
    write_train(tmp_path)
    with pytest.raises(DataError, match=r"expected eval/info.csv, found images, train.csv; pass the folder that holds"):
        read_samples(tmp_path / "train", face_schema(), part="eval")


def test_missing_empty_and_unknown_folders_name_the_next_step(tmp_path: Path) -> None:
    step = "set ENS_DATA or pass --data FOLDER"
    with pytest.raises(DataError, match=f"none: expected a data folder or table, found none; {step}"):
        read_samples(tmp_path / "none", face_schema())
    write(tmp_path / ".hidden", "")
    with pytest.raises(DataError, match=f"expected photos and labels, found an empty folder; {step}"):
        read_samples(tmp_path, face_schema())
    write(tmp_path / "readme.txt", "")
    with pytest.raises(DataError, match=rf"expected train/train.csv, .* found readme.txt; {step}"):
        read_samples(tmp_path, face_schema())
    with pytest.raises(DataError, match=r"found readme\.txt"):
        read_samples(tmp_path / "readme.txt", face_schema())


def test_a_layout_can_be_forced(tmp_path: Path) -> None:
    write_train(tmp_path)
    with pytest.raises(DataError, match=r"expected a .csv or .parquet table .*found train"):
        read_samples(tmp_path, face_schema(), layout="table")
    with pytest.raises(DataError, match='images: the folder is no class of "mask"'):
        read_samples(tmp_path, face_schema(), layout="folders")
    with pytest.raises(DataError, match=r"expected train/train.csv, found worn; pass the folder"):
        read_samples(write_photo(tmp_path / "f" / "worn" / "1.jpg").parents[1], face_schema(), layout="competition")


def test_unknown_names(tmp_path: Path) -> None:
    write_train(tmp_path)
    with pytest.raises(UsageError, match='layout "competiton"; did you mean "competition"'):
        read_samples(tmp_path, face_schema(), layout="competiton")
    with pytest.raises(UsageError, match='part "evla"; did you mean "eval"'):
        read_samples(tmp_path, face_schema(), part="evla")  # type: ignore[arg-type]


def test_names_that_are_no_text(tmp_path: Path) -> None:
    (write_train(tmp_path) / "train" / "images" / "a\nb").mkdir()
    with pytest.raises(DataError, match=r"the name 'a\\nb' holds characters that are no plain text; rename it"):
        read_samples(tmp_path, face_schema())


def test_the_template_wherever_data_points(tmp_path: Path) -> None:
    write_eval(write_train(tmp_path), {"b.jpg": 13, "a.jpg": 4})
    info = tmp_path / "eval" / "info.csv"
    for data in (tmp_path, tmp_path / "eval", info):
        for layout in ("auto", "competition"):
            found = template_of(data, face_schema(), layout)
            assert found is not None
            assert found.samefile(info)
    assert template_of(tmp_path / "train", face_schema()) is None
    assert template_of(tmp_path, face_schema(), "folders") is None
    info.unlink()
    assert template_of(tmp_path, face_schema()) is None


MASK, GENDER, AGE = face_schema().attributes
OTHER_NUMBERINGS = {
    "other order": Schema(GENDER, MASK, AGE),
    "other class order": Schema(Attribute("mask", ["not_worn", "incorrect", "worn"]), GENDER, AGE),
    "other names": Schema(MASK, Attribute("gender", ["man", "woman"]), AGE),
    "fewer attributes": Schema(MASK, GENDER),
    "more attributes": Schema(MASK, GENDER, AGE, Attribute("hat", ["yes", "no"])),
    "another last one": Schema(MASK, GENDER, Attribute("race", ["a", "b", "c"])),
    "other ages": Schema(MASK, GENDER, Attribute("age", ["young", "old"], borders=[30])),
    "ages by name": Schema(MASK, GENDER, Attribute("age", ["old", "young", "middle"])),
    "one attribute": Schema(MASK),
    "a taxonomy": Schema(MASK, GENDER, AGE, paths=[["worn", "male", "<30"], ["not_worn", "female", ">=60"]]),
}


@pytest.mark.parametrize("schema", OTHER_NUMBERINGS.values(), ids=OTHER_NUMBERINGS.keys())
def test_no_template_for_another_numbering(tmp_path: Path, schema: Schema) -> None:
    write_eval(tmp_path, {"a.jpg": 4})
    assert template_of(tmp_path, schema) is None


def test_parts_of_a_table_by_its_split_column(tmp_path: Path) -> None:
    """Forced or found, and with a competition's tree around it."""
    write_eval(write_train(tmp_path), {"a.jpg": 0})
    for text, expected in (
        ("path,split\na,train\nb,TEST\n", (True, True)),
        ("path,split\na,train\nb,val\n", (True, False)),
        ("path,split\na,eval\n", (False, True)),
        ("path\na\n", (True, False)),
    ):
        table = write(tmp_path / "samples.csv", text)
        for data, layout in ((tmp_path, "table"), (table, "table"), (table, "auto")):
            assert (has_part(data, "train", layout), has_part(data, "eval", layout)) == expected
        assert template_of(tmp_path, face_schema(), "table") is None
        assert template_of(table, face_schema()) is None
    with pytest.raises(UsageError, match='part "evla"; did you mean "eval"'):
        has_part(tmp_path, "evla")
    with pytest.raises(UsageError, match='layout "tabel"; did you mean "table"'):
        template_of(tmp_path, face_schema(), "tabel")
