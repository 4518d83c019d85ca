"""The competition's tree, with the traps that its users meet."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from fake_tree import (
    JPEG,
    PEOPLE,
    STATE_OF_STEM,
    STEMS,
    edit,
    encoded,
    face_schema,
    folder_of,
    write,
    write_eval,
    write_photo,
    write_train,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from ensemble_kit.data.answers import read_people
from ensemble_kit.data.samples import SampleTable, read_samples
from ensemble_kit.errors import DataError, UsageError
from ensemble_kit.schema import Attribute, Schema

FIRST = "000001_female_Asian_45"


def read(root: Path, part: str = "train") -> SampleTable:
    return read_samples(root, face_schema(), part=part)  # type: ignore[arg-type]


def said(table: SampleTable) -> list[str]:
    return [str(problem) for problem in table.problems]


# --- train ---------------------------------------------------------------------------------------------------------


def test_train_labels_agree_with_the_task_s_formula(tmp_path: Path) -> None:
    table = read(write_train(tmp_path))
    expected = {}
    for person in PEOPLE:
        gender = ("male", "female").index(person[1])
        age = 0 if person[3] < 30 else 2 if person[3] >= 60 else 1
        for stem in STEMS:
            name = f"{folder_of(person)}/{stem}{'.png' if stem == 'mask3' else '.jpg'}"
            expected[name] = STATE_OF_STEM[stem] * 6 + gender * 3 + age
    assert dict(zip(table.ids.tolist(), table.joint().tolist(), strict=True)) == expected
    assert len(table) == 28
    assert said(table) == []
    assert all(path.is_file() for path in table.paths)
    assert table.root == tmp_path / "train"


def test_two_people_with_one_id_are_two_groups(tmp_path: Path) -> None:
    table = read(write_train(tmp_path))
    assert len(set(table.groups.tolist())) == 4
    for sample, group in zip(table.ids.tolist(), table.groups.tolist(), strict=True):
        assert sample.split("/")[0] == group


def test_ages_keep_their_number(tmp_path: Path) -> None:
    table = read(write_train(tmp_path))
    assert sorted(set(table.frame["age"])) == [18.0, 29.0, 45.0, 60.0]
    assert set(table.numbers("age", (30, 45)).tolist()) == {0, 2}


@pytest.mark.parametrize("below", [".", "train", "train/train.csv"])
def test_any_folder_of_the_tree_gives_the_same_table(tmp_path: Path, below: str) -> None:
    write_eval(write_train(tmp_path), {"a.jpg": 1})
    assert read(tmp_path / below).sha256() == read(tmp_path).sha256()


def test_the_order_is_the_csv_s_then_the_names(tmp_path: Path) -> None:
    table = read(write_train(tmp_path, PEOPLE[::-1]))
    assert list(dict.fromkeys(table.groups.tolist())) == [folder_of(person) for person in PEOPLE[::-1]]
    assert [name.split("/")[1] for name in table.ids.tolist()[:3]] == ["incorrect_mask.jpg", "mask1.jpg", "mask2.jpg"]


def test_attributes_that_the_schema_does_not_have_are_dropped(tmp_path: Path) -> None:
    only = Schema(Attribute("gender", ["female", "male"]))
    table = read_samples(write_train(tmp_path), only)
    assert list(table.frame.columns) == ["sample_id", "path", "group_id", "gender"]
    assert table.numbers("gender").tolist() == [0] * 7 + [1] * 14 + [0] * 7


def harmless(change: Callable[[Path], None], root: Path) -> SampleTable:
    """A change that must neither be said nor alter the table."""
    before = read(write_train(root)).sha256()
    change(root / "train")
    table = read(root)
    assert said(table) == []
    assert table.sha256() == before
    return table


def with_mark_and_crlf(train: Path) -> None:
    text = (train / "train.csv").read_bytes()
    (train / "train.csv").write_bytes(b"\xef\xbb\xbf" + text.replace(b"\n", b"\r\n") + b"\r\n")


def with_droppings(train: Path) -> None:
    write(train / "images" / "._x", "")
    write(train / "images" / FIRST / "._mask1.jpg", "")
    write(train / "images" / FIRST / ".ipynb_checkpoints" / "mask1-checkpoint.jpg", "")
    write(train / "images" / ".ipynb_checkpoints" / "a.jpg", "")
    write(train / "images" / FIRST / "Thumbs.db", "")
    write(train / "images" / "__MACOSX" / "a.jpg", "")


def with_more_columns(train: Path) -> None:
    lines = (train / "train.csv").read_text().splitlines()
    write(train / "train.csv", "\n".join(f"{i},{line},NA" for i, line in enumerate(lines)).replace("0,id", "n,id", 1))


def with_ages_as_fractions(train: Path) -> None:
    edit(train / "train.csv", "Asian,45,", "Asian,45.0,")


def with_blanks(train: Path) -> None:
    edit(train / "train.csv", "000001,female,Asian,45,", "000001, female ,Asian, 45 ,")


@pytest.mark.parametrize(
    "change", [with_mark_and_crlf, with_droppings, with_more_columns, with_ages_as_fractions, with_blanks]
)
def test_harmless_changes(tmp_path: Path, change: Callable[[Path], None]) -> None:
    harmless(change, tmp_path)


def test_extensions_may_mix_in_any_case(tmp_path: Path) -> None:
    folder = write_train(tmp_path) / "train" / "images" / FIRST
    (folder / "mask1.jpg").rename(folder / "mask1.JPG")
    (folder / "normal.jpg").rename(folder / "normal.jpeg")
    table = read(tmp_path)
    assert len(table) == 28
    assert said(table) == []


def test_the_csv_wins_when_the_folder_s_name_says_otherwise(tmp_path: Path) -> None:
    edit(write_train(tmp_path) / "train" / "train.csv", "000001,female,Asian,45", "000001,male,Asian,46")
    table = read(tmp_path)
    assert set(table.frame["gender"][table.groups == FIRST]) == {"male"}
    assert set(table.frame["age"][table.groups == FIRST]) == {46.0}
    assert said(table) == [
        f"train/images/{FIRST}: train.csv line 2 says male, the folder female; the csv is used",
        f"train/images/{FIRST}: train.csv line 2 says age 46, the folder 45; the csv is used",
    ]


def test_a_renamed_folder_is_found_by_its_id_and_gives_the_labels(tmp_path: Path) -> None:
    images = write_train(tmp_path) / "train" / "images"
    (images / FIRST).rename(images / "000001_male_Asian_60")
    table = read(tmp_path)
    renamed = table.groups == "000001_male_Asian_60"
    assert renamed.sum() == 7
    assert set(table.frame["gender"][renamed]) == {"male"}
    assert set(table.frame["age"][renamed]) == {60.0}
    assert said(table) == [
        f"train/train.csv: line 2: {FIRST} is now called 000001_male_Asian_60; labels read from the new name"
    ]


MALE, FEMALE = "003397_male_White_60", "003397_female_Asian_18"


@pytest.mark.parametrize(
    ("renames", "n_left"),
    [
        ({MALE: "003397_male_White_61", FEMALE: "003397_female_Asian_19"}, 14),
        ({MALE: "003397_male_White_61", FEMALE: None}, 14),
        ({MALE: "003397_male_White_61", FEMALE: "else"}, 14),
        ({MALE: "003397_male_White_61", FIRST: "003397_female_Asian_45"}, 14),
    ],
)
def test_a_rename_that_could_mean_two_people_is_not_guessed(
    tmp_path: Path, renames: dict[str, str | None], n_left: int
) -> None:
    images = write_train(tmp_path) / "train" / "images"
    for old, new in renames.items():
        if new is None:
            shutil.rmtree(images / old)
        else:
            (images / old).rename(images / new)
    table = read(tmp_path)
    assert len(table) == n_left
    assert not any("is now called" in line for line in said(table))


def test_stripped_ids_are_said_once_and_read_from_the_folders(tmp_path: Path) -> None:
    write_train(tmp_path)
    before = read(tmp_path).sha256()
    edit(tmp_path / "train" / "train.csv", "\n000001,", "\n1,")
    edit(tmp_path / "train" / "train.csv", "\n003397,", "\n3397,")
    table = read(tmp_path)
    assert table.sha256() == before
    assert said(table) == [
        'train/train.csv: line 2: id "1" where the folder says 000001, and so on 3 line(s): a spreadsheet took the '
        "zeros away; read from the folders, import the csv with id as text"
    ]


def test_another_id_is_said(tmp_path: Path) -> None:
    edit(write_train(tmp_path) / "train" / "train.csv", "\n000001,", "\n000002,")
    assert said(read(tmp_path)) == [
        "train/train.csv: line 2: id 000002, but the folder says 000001; the folder's is used"
    ]


def test_every_oddity_of_the_photos_is_a_problem_by_file(tmp_path: Path) -> None:
    images = write_train(tmp_path) / "train" / "images"
    (images / FIRST / "normal.jpg").unlink()
    write_photo(images / FIRST / "mask6.jpg")
    write(images / FIRST / "notes.txt", "")
    write_photo(images / FIRST / "mask1.png")
    write_photo(images / "999999_male_Asian_30" / "normal.jpg")
    write(images / "readme.txt", "")
    shutil.rmtree(images / "001498-1_male_Asian_29")
    table = read(tmp_path)
    assert len(table) == 7 + 14
    assert said(table) == [
        f"train/images/{FIRST}/mask1.png: a second photo called mask1; both are used",
        f"train/images/{FIRST}/mask6.jpg: expected mask1..mask5, incorrect_mask or normal, as a photo; left out",
        f"train/images/{FIRST}/notes.txt: expected mask1..mask5, incorrect_mask or normal, as a photo; left out",
        f"train/images/{FIRST}: expected 7 photos, missing normal",
        "train/train.csv: line 3: no folder images/001498-1_male_Asian_29; this person is left out",
        "train/images/999999_male_Asian_30: this folder is not in train.csv; it is left out",
    ]


def test_empty_cells_are_unlabelled_and_said(tmp_path: Path) -> None:
    edit(write_train(tmp_path) / "train" / "train.csv", "000001,female,Asian,45", "000001,,Asian,")
    table = read(tmp_path)
    first = table.select(table.groups == FIRST)
    assert set(first.numbers("gender").tolist()) == {-1}
    assert set(first.numbers("age").tolist()) == {-1}
    assert set(first.joint().tolist()) == {-1}
    assert said(table) == ["train/train.csv: line 2: no gender and no age; unlabelled for that"]


BAD_CSV = {
    "unknown gender": (
        "000001,female",
        "000001,femle",
        'line 2: gender must be one of male, female, found "femle"; did',
    ),
    "age abc": ("Asian,45,", "Asian,abc,", 'line 2: age must be a number, found "abc"; mend that line'),
    "age nan": ("Asian,45,", "Asian,nan,", 'line 2: age must be a number, found "nan"'),
    "negative age": ("Asian,45,", "Asian,-4,", "line 2: age must be 0 to 150, found -4"),
    "missing column": (
        "id,gender,",
        "id,sex,",
        "missing column gender \\(expected id, gender, age, path; found id, sex",
    ),
    "repeated path": (
        "001498-1_male_Asian_29",
        FIRST,
        f'line 3: path "{FIRST}" stands on line 2 already',
    ),
    "traversal": ("001498-1_male_Asian_29", "../../x", "line 3: path must be the name of a folder inside images/"),
    "dots": ("001498-1_male_Asian_29", "..", "line 3: path must be the name of a folder inside images/"),
    "absolute": ("001498-1_male_Asian_29", "/etc", "line 3: path must be the name of a folder inside images/"),
    "empty path": ("001498-1_male_Asian_29", "", "line 3: path must be the name of a folder inside images/"),
    "short line": (",Asian,45,", ",Asian,", "line 2: expected 5 values, found 4"),
}


@pytest.mark.parametrize(("old", "new", "message"), BAD_CSV.values(), ids=BAD_CSV.keys())
def test_bad_train_csv(tmp_path: Path, old: str, new: str, message: str) -> None:
    path = write_train(tmp_path) / "train" / "train.csv"
    edit(path, old, new)
    with pytest.raises(DataError, match=message) as caught:
        read(tmp_path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def remove(*parts: str) -> Callable[[Path], None]:
    def change(root: Path) -> None:
        path = root.joinpath(*parts)
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()

    return change


def empty_images(root: Path) -> None:
    for folder in (root / "train" / "images").iterdir():
        shutil.rmtree(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (remove("train", "train.csv"), "train.csv: expected a csv file with id, gender, age, path, found none"),
        (remove("train", "images"), "train: expected train.csv and images/, found train.csv"),
        (remove("train"), "expected train/train.csv, found eval; pass the folder that holds train/ and eval/"),
        (empty_images, "found none that the list names"),
    ],
)
def test_missing_parts_of_the_tree(tmp_path: Path, change: Callable[[Path], None], message: str) -> None:
    change(write_eval(write_train(tmp_path), {"a.jpg": 0}))
    with pytest.raises(DataError, match=message):
        read(tmp_path)


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        (Schema(Attribute("kind", ["a", "b"])), "labels mask, gender and age, the schema has kind; .*--layout table"),
        (Schema(Attribute("mask", ["worn", "off"])), "needs the mask classes worn, incorrect, not_worn"),
        (Schema(Attribute("age", ["young", "old"])), "give the schema's age its borders"),
    ],
)
def test_schemas_that_do_not_fit(tmp_path: Path, schema: Schema, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        read_samples(write_train(tmp_path), schema)


# --- eval ----------------------------------------------------------------------------------------------------------


@given(st.lists(st.integers(0, 17), min_size=1, max_size=8), st.sampled_from([(30, 60), (25, 40), (30, 58)]))
@settings(max_examples=20, deadline=None)
def test_answers_are_the_schema_s_joint_index_whatever_the_borders(
    tmp_path_factory: pytest.TempPathFactory, answers: list[int], borders: tuple[int, int]
) -> None:
    root = write_eval(tmp_path_factory.mktemp("tree"), {f"{i}{a:02}.png": a for i, a in enumerate(answers)})
    table = read_samples(root, face_schema(borders), part="eval")
    assert table.joint().tolist() == answers
    shutil.rmtree(root)


def test_eval_ids_order_and_people(tmp_path: Path) -> None:
    answers = {"b" * 40 + ".jpg": 13, "a" * 40 + ".jpg": "4.0", "0123.png": ""}
    people = {"b" * 40 + ".jpg": "000007", "a" * 40 + ".jpg": "000007"}
    table = read(write_eval(tmp_path, answers, people), "eval")
    assert table.ids.tolist() == list(answers)
    assert table.groups.tolist() == ["000007", "000007", "0123.png"]
    assert table.joint().tolist() == [13, 4, -1]
    assert table.root == tmp_path / "eval"
    assert all(path.is_file() for path in table.paths)


def test_photos_without_a_person_stand_alone(tmp_path: Path) -> None:
    answers = {"1": 0, "2": 0, "3": 0, "4": 0}
    table = read(write_eval(tmp_path, answers, {"1": "2", "2": "", "3": "2"}), "eval")
    assert table.groups.tolist() == ["2", "2 (alone)", "2", "4"]
    assert said(table) == ["eval/people.csv: 2 photo(s) without a person, first 2; each stands alone"]


def test_people_are_joined_by_id(tmp_path: Path) -> None:
    path = write(tmp_path / "people.csv", "\ufeffperson,ImageID,note\nanna,b,x\n,a,\nanna,c,\nb,d,\n")
    assert read_people(path, np.array(["a", "b", "c", "d"])).tolist() == ["a", "anna", "anna", "b"]
    assert read_people(path, np.array(["d", "c", "b", "a"])).tolist() == ["b", "anna", "anna", "a"]
    assert read_people(write(path, "ImageID,person\na,b\nb,\n"), np.array(["a", "b"])).tolist() == ["b", "b (alone)"]


BAD_PEOPLE = {
    "unknown id": ("ImageID,person\na,x\nb,y\nc,z\n", r'1 are too many, the first is "c"; name each photo once'),
    "missing id": ("ImageID,person\na,x\n", r'expected the same 2 ids, found 1: 1 are missing, the first is "b"'),
    "no rows": ("ImageID,person\n", r"2 are missing"),
    "twice": ("ImageID,person\na,x\nb,y\na,x\n", r'line 4: ImageID "a" stands on line 2 already'),
    "column": ("ImageID,name\na,x\n", r"missing column person \(expected ImageID, person; found ImageID, name\)"),
    "short line": ("ImageID,person\na\n", r"line 2: expected 2 values, found 1"),
    "empty": ("", r"found an empty file"),
}


@pytest.mark.parametrize(("text", "message"), BAD_PEOPLE.values(), ids=BAD_PEOPLE.keys())
def test_bad_people_files(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        read_people(write(tmp_path / "people.csv", text), np.array(["a", "b"]))
    assert "\n" not in str(caught.value)


def test_people_files_that_are_no_text(tmp_path: Path) -> None:
    path = tmp_path / "people.csv"
    with pytest.raises(DataError, match="expected a csv file with ImageID, person, found none"):
        read_people(path, np.array(["a"]))
    path.write_bytes("ImageID,person\na,Zoë\n".encode("latin-1"))
    with pytest.raises(DataError, match="expected text in UTF-8"):
        read_people(path, np.array(["a"]))


def test_without_answers_eval_is_unlabelled_even_though_info_says_0(tmp_path: Path) -> None:
    root = write_eval(tmp_path, {"a.jpg": 5, "b.jpg": 6})
    (root / "eval" / "answers.csv").unlink()
    table = read(root, "eval")
    assert not table.has("mask")
    assert table.joint().tolist() == [-1, -1]
    assert table.groups.tolist() == ["a.jpg", "b.jpg"]


def test_listed_and_found_photos_that_differ_are_said(tmp_path: Path) -> None:
    root = write_eval(tmp_path, {"a.jpg": 1, "b.jpg": 2, "spare.jpg": 3}, info=["gone.jpg", "b.jpg", "a.jpg"])
    write(root / "eval" / "images" / "._a.jpg", "")
    table = read(root, "eval")
    assert table.ids.tolist() == ["b.jpg", "a.jpg"]
    assert said(table) == [
        "eval/info.csv: line 2: no photo images/gone.jpg; left out, so its answer will be missing",
        "eval/images/spare.jpg: this photo is not in info.csv; it is left out",
        "eval/answers.csv: 1 photo(s) listed in info.csv without an answer: unlabelled (first gone.jpg)",
        "eval/answers.csv: 1 photo(s) answered but not in info.csv: left out (first spare.jpg)",
    ]


def test_age_classes_of_another_number_stay_unlabelled(tmp_path: Path) -> None:
    schema = Schema(Attribute("gender", ["male", "female"]), Attribute("age", ["young", "old"], borders=[30]))
    table = read_samples(write_eval(tmp_path, {"a.jpg": 4}), schema, part="eval")
    assert table.numbers("gender").tolist() == [1]
    assert not table.has("age")
    assert said(table) == ["eval/answers.csv: tells 3 age classes, the schema has 2; age stays unlabelled"]


BAD_EVAL = {
    "ans 99": (
        "answers.csv",
        "a.jpg,1",
        "a.jpg,99",
        'answers.csv line 2: ans must be a whole number of 0 to 17, found "99"',
    ),
    "ans 1.5": ("answers.csv", "a.jpg,1", "a.jpg,1.5", 'found "1.5"'),
    "ans -1": ("answers.csv", "a.jpg,1", "a.jpg,-1", 'found "-1"'),
    "ans text": ("answers.csv", "a.jpg,1", "a.jpg,worn", 'found "worn"'),
    "no ans": ("answers.csv", "ImageID,ans", "ImageID,answer", "missing column ans"),
    "answer twice": ("answers.csv", "b.jpg", "a.jpg", 'line 3: ImageID "a.jpg" stands on line 2 already'),
    "no ImageID": (
        "info.csv",
        "ImageID",
        "image",
        "info.csv: missing column ImageID \\(expected ImageID; found image, ans",
    ),
    "id twice": ("info.csv", "b.jpg", "a.jpg", 'info.csv line 3: ImageID "a.jpg" stands on line 2 already'),
    "traversal": (
        "info.csv",
        "b.jpg",
        "../../a.jpg",
        "info.csv line 3: ImageID must be the name of a photo inside images/",
    ),
    "absolute": ("info.csv", "b.jpg", "/a.jpg", "info.csv line 3: ImageID must be the name of a photo"),
}


@pytest.mark.parametrize(("file", "old", "new", "message"), BAD_EVAL.values(), ids=BAD_EVAL.keys())
def test_bad_eval_lists(tmp_path: Path, file: str, old: str, new: str, message: str) -> None:
    root = write_eval(tmp_path, {"a.jpg": 1, "b.jpg": 2})
    edit(root / "eval" / file, old, new)
    with pytest.raises(DataError, match=message) as caught:
        read(root, "eval")
    assert str(caught.value).startswith(str(root / "eval" / file))
    assert "\n" not in str(caught.value)


def test_a_photo_cut_short_is_listed_all_the_same(tmp_path: Path) -> None:
    root = write_eval(tmp_path, {"a.jpg": 1})
    (root / "eval" / "images" / "a.jpg").write_bytes(encoded()[:30])
    assert len(read(root, "eval")) == 1
    assert len(JPEG) > 30
