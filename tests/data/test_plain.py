"""Tables and class folders: nothing is tied to faces."""

from __future__ import annotations

import csv
import tempfile
from pathlib import Path

import pytest
from fake_tree import edit, face_schema, write, write_photo
from hypothesis import given, settings
from hypothesis import strategies as st

from ensemble_kit.data.samples import SampleTable, has_part, read_samples, schema_from_table
from ensemble_kit.errors import DataError
from ensemble_kit.schema import Attribute, Schema

TAXONOMY = Schema.from_rows(["kind", "fine"], [("Fruit", "Apple"), ("Fruit", "NA"), ("Veg", "Leek")])
HEADER = "path,sample_id,group_id,split,kind,fine\n"
ROWS = (
    "a/1.jpg,0001,g1,train,Fruit,Apple\n"
    "a/2.jpg,0002,g1,val,Fruit,NA\n"
    "b/3.png,0003,,train,Veg,\n"
    "b/4.png,0004,g2,test,Veg,Leek\n"
)


def write_table(root: Path, text: str = HEADER + ROWS, name: str = "samples.csv") -> Path:
    for path in ("a/1.jpg", "a/2.jpg", "b/3.png", "b/4.png"):
        write_photo(root / path)
    return write(root / name, text)


def test_a_table_with_every_column(tmp_path: Path) -> None:
    source = write_table(tmp_path)
    table = read_samples(source, TAXONOMY)
    assert table.ids.tolist() == ["0001", "0002", "0003"]
    assert table.groups.tolist() == ["g1", "g1", "0003"]
    assert table.frame["fine"].tolist() == ["Apple", "NA", ""]
    assert table.joint().tolist() == [0, 1, -1]
    assert table.root == tmp_path
    assert all(path.is_file() for path in table.paths)
    held = read_samples(source, TAXONOMY, part="eval")
    assert held.ids.tolist() == ["0004"]
    assert held.joint().tolist() == [2]
    assert (has_part(source, "train"), has_part(source, "eval")) == (True, True)


def test_a_folder_with_samples_csv_is_that_table(tmp_path: Path) -> None:
    write_table(tmp_path)
    assert read_samples(tmp_path, TAXONOMY).sha256() == read_samples(tmp_path / "samples.csv", TAXONOMY).sha256()


def test_mark_and_crlf_change_nothing(tmp_path: Path) -> None:
    plain = read_samples(write_table(tmp_path), TAXONOMY).sha256()
    source = write_table(tmp_path, "\ufeff" + (HEADER + ROWS).replace("\n", "\r\n"), "windows.csv")
    assert read_samples(source, TAXONOMY).sha256() == plain


def test_only_path_and_a_label_are_needed(tmp_path: Path) -> None:
    source = write_table(tmp_path, "kind,path\nFruit,a/1.jpg\nVeg,b/3.png\n")
    for part in ("train", "eval"):
        table = read_samples(source, TAXONOMY, part=part)
        assert table.ids.tolist() == table.groups.tolist() == ["a/1.jpg", "b/3.png"]
        assert table.numbers("kind").tolist() == [0, 1]
        assert not table.has("fine")
    assert (has_part(source, "train"), has_part(source, "eval")) == (True, False)


def test_numbers_stay_numbers(tmp_path: Path) -> None:
    source = write_table(tmp_path, "path,age\na/1.jpg,29.5\na/2.jpg,\nb/3.png,60\n")
    table = read_samples(source, face_schema())
    assert table.numbers("age").tolist() == [0, -1, 2]
    assert table.numbers("age", (20, 29)).tolist() == [2, -1, 2]


def test_parquet_gives_the_same_table(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    pq = pytest.importorskip("pyarrow.parquet")
    source = write_table(tmp_path)
    with open(source, newline="") as handle:
        rows = list(csv.DictReader(handle))
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "t.parquet")
    assert read_samples(tmp_path / "t.parquet", TAXONOMY).sha256() == read_samples(source, TAXONOMY).sha256()
    assert schema_from_table(tmp_path / "t.parquet", ["kind", "fine"]) == TAXONOMY


def test_the_taxonomy_of_a_table_is_what_occurs(tmp_path: Path) -> None:
    source = write_table(tmp_path)
    assert schema_from_table(source, ["kind", "fine"]) == TAXONOMY
    assert schema_from_table(tmp_path, ["kind"]).n_joint == 2
    with pytest.raises(DataError, match="missing column coarse"):
        schema_from_table(source, ["kind", "coarse"])


BAD_ROWS = {
    "no path column": ("path,sample_id", "file,sample_id", "missing column path"),
    "no attribute": ("kind,fine", "sort,finer", "expected at least one of the schema's columns kind, fine"),
    "repeated id": ("0002", "0001", 'line 3: sample_id "0001" stands on line 2 already'),
    "repeated path": ("a/2.jpg", "a/1.jpg", 'line 3: path "a/1.jpg" stands on line 2 already'),
    "unknown class": (
        "Fruit,Apple",
        "Fruit,Aple",
        'line 2: fine must be one of Apple, .*found "Aple"; did you mean "Apple"',
    ),
    "unknown split": ("val", "vale", 'line 3: split "vale"; did you mean "val"'),
    "climbs": ("a/2.jpg", "a/../../2.jpg", "line 3: expected a path inside the data folder"),
    "absolute": ("a/2.jpg", "/etc/2.jpg", "line 3: expected a path inside the data folder"),
    "drive": ("a/2.jpg", "C:/2.jpg", "line 3: expected a path inside the data folder"),
    "backslashes": ("a/2.jpg", "..\\2.jpg", "line 3: expected a path inside the data folder"),
    "empty path": ("a/2.jpg", "", "line 3: expected a path inside the data folder"),
    "missing photos": ("a/", "c/", "line 2: no photo c/1.jpg \\(2 of 3 photos are missing\\)"),
    "short": (",Fruit,Apple", ",Fruit", "line 2: expected 6 values, found 5"),
}


@pytest.mark.parametrize(("old", "new", "message"), BAD_ROWS.values(), ids=BAD_ROWS.keys())
def test_bad_tables(tmp_path: Path, old: str, new: str, message: str) -> None:
    source = write_table(tmp_path)
    edit(source, old, new)
    with pytest.raises(DataError, match=message) as caught:
        read_samples(source, TAXONOMY)
    assert str(caught.value).startswith(str(source))
    assert "\n" not in str(caught.value)


def test_a_photo_missing_from_the_other_part_does_not_matter(tmp_path: Path) -> None:
    source = write_table(tmp_path)
    (tmp_path / "b" / "4.png").unlink()
    assert len(read_samples(source, TAXONOMY)) == 3
    with pytest.raises(DataError, match=r"line 5: no photo b/4.png \(1 of 1 photos are missing\)"):
        read_samples(source, TAXONOMY, part="eval")


def test_a_part_without_rows(tmp_path: Path) -> None:
    source = write_table(tmp_path, HEADER + ROWS.replace("test", "train"))
    with pytest.raises(DataError, match="expected rows of the eval part, found none"):
        read_samples(source, TAXONOMY, part="eval")


def test_links_out_of_the_folder_are_refused(tmp_path: Path) -> None:
    outside = write_photo(tmp_path / "outside" / "x.jpg")
    inside = tmp_path / "data"
    source = write_table(inside)
    (inside / "a" / "2.jpg").unlink()
    (inside / "a" / "2.jpg").symlink_to(inside / "a" / "1.jpg")
    assert len(read_samples(source, TAXONOMY)) == 3
    (inside / "a" / "2.jpg").unlink()
    (inside / "a" / "2.jpg").symlink_to(outside)
    with pytest.raises(DataError, match=r"line 3: expected a photo inside .*, found the link a/2.jpg out of it"):
        read_samples(source, TAXONOMY)
    (inside / "a" / "2.jpg").unlink()
    (inside / "linked").symlink_to(outside.parent)
    edit(source, "a/2.jpg", "linked/x.jpg")
    with pytest.raises(DataError, match=r"line 3: .*found the link linked/x.jpg out of it"):
        read_samples(source, TAXONOMY)


def test_the_data_folder_itself_may_be_a_link(tmp_path: Path) -> None:
    write_table(tmp_path / "real")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert len(read_samples(tmp_path / "link", TAXONOMY)) == 3


# --- class folders -------------------------------------------------------------------------------------------------


def photos(root: Path, *names: str) -> Path:
    for name in names:
        write_photo(root / name)
    return root


def by_id(table: SampleTable) -> dict[str, int]:
    return dict(zip(table.ids.tolist(), table.joint().tolist(), strict=True))


def test_class_folders_in_the_schema_s_order(tmp_path: Path) -> None:
    root = photos(tmp_path, "worn/female/45/a.jpg", "worn/male/>=60/b.png", "not_worn/male/12.5/c.jpeg")
    write(root / "worn" / ".DS_Store", "")
    table = read_samples(root, face_schema())
    assert by_id(table) == {"not_worn/male/12.5/c.jpeg": 12, "worn/female/45/a.jpg": 4, "worn/male/>=60/b.png": 2}
    assert table.groups.tolist() == table.ids.tolist()
    assert table.problems == ()


@given(st.lists(st.sampled_from(["Fruit/Apple", "Fruit/NA", "Veg/Leek"]), min_size=1, max_size=6))
@settings(max_examples=15, deadline=None)
def test_folders_agree_with_the_table_of_the_same_photos(places: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        names = [f"{place}/{number}.jpg" for number, place in enumerate(places)]
        photos(root, *names)
        from_folders = by_id(read_samples(root, TAXONOMY, layout="folders"))
        rows = "".join(f"{name},{name.split('/')[0]},{name.split('/')[1]}\n" for name in names)
        source = write(root / "samples.csv", "path,kind,fine\n" + rows)
        assert from_folders == by_id(read_samples(source, TAXONOMY))


def test_folders_below_the_classes_are_groups(tmp_path: Path) -> None:
    root = photos(tmp_path, "Fruit/Apple/anna/1.jpg", "Veg/Leek/anna/2.jpg", "Veg/Leek/3.jpg", "Veg/Leek/bo/x/4.jpg")
    table = read_samples(root, TAXONOMY)
    assert dict(zip(table.ids.tolist(), table.groups.tolist(), strict=True)) == {
        "Fruit/Apple/anna/1.jpg": "anna",
        "Veg/Leek/3.jpg": "Veg/Leek/3.jpg",
        "Veg/Leek/anna/2.jpg": "anna",
        "Veg/Leek/bo/x/4.jpg": "bo",
    }


def test_train_val_and_test_folders_on_top(tmp_path: Path) -> None:
    root = photos(tmp_path, "train/Fruit/Apple/1.jpg", "val/Veg/Leek/2.jpg", "test/Fruit/NA/3.jpg")
    assert sorted(read_samples(root, TAXONOMY).joint().tolist()) == [0, 2]
    assert read_samples(root, TAXONOMY, part="eval").joint().tolist() == [1]
    assert (has_part(root, "train"), has_part(root, "eval")) == (True, True)


def test_a_class_may_be_called_test(tmp_path: Path) -> None:
    schema = Schema(Attribute("kind", ["test", "other"]))
    root = photos(tmp_path, "test/1.jpg", "other/2.jpg")
    assert sorted(read_samples(root, schema).joint().tolist()) == [0, 1]


def test_what_is_no_photo_is_said(tmp_path: Path) -> None:
    root = photos(tmp_path, "Fruit/Apple/1.jpg", "Fruit/lost.jpg")
    write(root / "Fruit" / "Apple" / "notes.txt", "")
    assert [str(problem) for problem in read_samples(root, TAXONOMY).problems] == [
        "Fruit/Apple/notes.txt: expected a photo, by the ending of its name; left out",
        "Fruit/lost.jpg: expected inside a folder of fine; left out",
    ]


def test_links_back_up_do_not_go_round_for_ever(tmp_path: Path) -> None:
    root = photos(tmp_path, "Fruit/Apple/1.jpg")
    (root / "Fruit" / "Apple" / "up").symlink_to(root)
    assert len(read_samples(root, TAXONOMY)) == 1


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("Fruits/Apple/1.jpg", 'Fruits: the folder is no class of "kind"; did you mean "Fruit"'),
        ("Fruit/Appel/1.jpg", 'Fruit/Appel: the folder is no class of "fine"; did you mean "Apple"'),
        ("Veg/Apple/1.jpg", "Veg/Apple/1.jpg: labelled Veg / Apple, which is no path of the taxonomy"),
        ("Fruit/1.jpg", "expected class folders with photos for the train part"),
    ],
)
def test_bad_folders(tmp_path: Path, name: str, message: str) -> None:
    root = photos(tmp_path, name)
    with pytest.raises(DataError, match=message):
        read_samples(root, TAXONOMY).joint()


def test_a_number_folder_is_only_for_an_attribute_with_borders(tmp_path: Path) -> None:
    root = photos(tmp_path, "worn/male/old/1.jpg")
    with pytest.raises(DataError, match=r'the folder is no class of "age" .known: <30, 30-59, >=60'):
        read_samples(root, face_schema())
