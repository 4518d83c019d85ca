"""Fix lists: the same table however often they are applied, and none on data they are not about."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from fake_tree import STEMS, encoded, face_schema, folder_of, write, write_train
from hypothesis import given, settings
from hypothesis import strategies as st

from ensemble_kit.data.fixes import apply_fixes, read_fixes
from ensemble_kit.data.samples import SampleTable, read_samples
from ensemble_kit.errors import DataError
from ensemble_kit.files import sha256_bytes
from ensemble_kit.schema import Attribute, Schema

HEADER = "group,file,attribute,from,to,sha256\n"
SHIPPED = Path(__file__).parents[2] / "recipes" / "face_mask_fixes.csv"
TWELVE = (
    *((group, "female", "Asian", 40) for group in ("006359", "006360", "006361", "006362", "006363", "006364")),
    *((group, "male", "Asian", 30) for group in ("001498-1", "004432", "005223")),
    *((group, "female", "White", 60) for group in ("000020", "004418", "005227")),
)
OTHERS = (("000001", "male", "Asian", 20), ("006365", "female", "Asian", 20))
LIST = (
    HEADER
    + "000001,,gender,female,male,\n000002,incorrect_mask,mask,incorrect,not_worn,\n000002,normal,mask,not_worn,incorrect,\n"
)
PAIR = (("000001", "female", "Asian", 45), ("000002", "male", "Asian", 30))


def labels(table: SampleTable) -> dict[str, tuple[str, str]]:
    return {
        f"{sample.split('_')[0]}/{Path(sample).stem}": (mask, gender)
        for sample, mask, gender in zip(table.ids.tolist(), table.frame["mask"], table.frame["gender"], strict=True)
    }


def fixed(root: Path, text: str = LIST) -> SampleTable:
    return read_samples(root, face_schema(), fixes=write(root.parent / "fixes.csv", text))


def mend_on_disk(root: Path) -> None:
    """What users do by hand: rename the person's folder, swap the two files' names."""
    images = root / "train" / "images"
    (images / folder_of(PAIR[0])).rename(images / "000001_male_Asian_45")
    swapped = images / folder_of(PAIR[1])
    (swapped / "normal.jpg").rename(swapped / "x")
    (swapped / "incorrect_mask.jpg").rename(swapped / "normal.jpg")
    (swapped / "x").rename(swapped / "incorrect_mask.jpg")


# --- the shipped list ----------------------------------------------------------------------------------------------


def test_the_shipped_list_mends_the_twelve_people_and_nobody_else(tmp_path: Path) -> None:
    root = write_train(tmp_path / "data", TWELVE + OTHERS)
    before = labels(read_samples(root, face_schema()))
    table = read_samples(root, face_schema(), fixes=SHIPPED)
    assert table.problems == ()
    after = labels(table)
    other = {"male": "female", "female": "male"}
    swap = {"incorrect": "not_worn", "not_worn": "incorrect", "worn": "worn"}
    for name, (mask, gender) in before.items():
        group = name.split("/")[0]
        expected = (
            (mask, other[gender]) if group in {p[0] for p in TWELVE[:9]}
            else (swap[mask], gender) if group in {p[0] for p in TWELVE[9:]}
            else (mask, gender)
        )  # fmt: skip
        assert after[name] == expected, name


def test_the_shipped_list_applied_twice_is_applied_once(tmp_path: Path) -> None:
    table = read_samples(write_train(tmp_path, TWELVE), face_schema())
    once, first = apply_fixes(table, read_fixes(SHIPPED))
    twice, second = apply_fixes(once, read_fixes(SHIPPED))
    assert first.changed == 9 * 7 + 3 * 2
    assert (second.changed, second.done) == (0, 9 * 7)
    assert twice.sha256() == once.sha256() != table.sha256()


def test_other_data_with_some_of_the_ids_is_left_alone(tmp_path: Path) -> None:
    root = write_train(tmp_path, (*TWELVE[:-1], *OTHERS))
    table = read_samples(root, face_schema(), fixes=SHIPPED)
    assert table.sha256() == read_samples(root, face_schema()).sha256()
    assert [problem.problem for problem in table.problems] == [
        "not applied: 1 of the 12 groups it names are not here (005227): it is about other data"
    ]


# --- the rules -----------------------------------------------------------------------------------------------------


def test_data_mended_on_disk_gives_the_same_labels_as_the_list(tmp_path: Path) -> None:
    as_handed_out = write_train(tmp_path / "a", PAIR)
    mended = write_train(tmp_path / "b", PAIR)
    mend_on_disk(mended)
    plain = labels(read_samples(mended, face_schema()))
    assert labels(fixed(mended)) == plain
    by_list = labels(fixed(as_handed_out))
    assert {name: gender for name, (_, gender) in by_list.items()} == {name: g for name, (_, g) in plain.items()}
    assert by_list["000002/incorrect_mask"] == ("not_worn", "male")
    assert plain["000002/incorrect_mask"] == ("incorrect", "male")  # the file of that name is another photo now


def test_a_hash_finds_the_photo_whatever_it_is_called(tmp_path: Path) -> None:
    bare = encoded(".jpg", 7)
    text = HEADER + f"000001,,gender,female,male,\n000002,,mask,incorrect,not_worn,{sha256_bytes(bare).upper()}\n"
    found = {}
    for name in ("as handed out", "mended"):
        root = write_train(tmp_path / name / "data", PAIR)
        (root / "train" / "images" / folder_of(PAIR[1]) / "incorrect_mask.jpg").write_bytes(bare)
        if name == "mended":
            mend_on_disk(root)
        table = fixed(root, text)
        assert table.problems == () or name == "mended"
        states = zip(table.paths, table.frame["mask"], strict=True)
        found[name] = [state for path, state in states if path.read_bytes() == bare]
    assert found == {"as handed out": ["not_worn"], "mended": ["not_worn"]}


def test_a_list_without_rows_about_whole_groups_goes_by_the_names(tmp_path: Path) -> None:
    root = write_train(tmp_path / "data", PAIR)
    table = fixed(root, HEADER + "000002,normal.jpg,mask,not_worn,incorrect,\n")
    assert labels(table)["000002/normal"] == ("incorrect", "male")


names = st.sampled_from(["000001", "000002", folder_of(PAIR[0]), folder_of(PAIR[1])])
rows = st.one_of(
    st.tuples(names, st.just(""), st.just("gender"), st.permutations(["male", "female"])),
    st.tuples(names, st.sampled_from(STEMS), st.just("mask"), st.permutations(["worn", "incorrect", "not_worn"])),
    st.tuples(names, st.just(""), st.just("age"), st.permutations(["45", "30", "60"])),
)


@given(st.lists(rows, max_size=5))
@settings(max_examples=30, deadline=None)
def test_any_list_applied_twice_is_applied_once(
    tmp_path_factory: pytest.TempPathFactory, chosen: list[tuple[str, str, str, list[str]]]
) -> None:
    folder = tmp_path_factory.getbasetemp() / "idempotent"
    root = write_train(folder / "data", PAIR)
    with open(folder / "fixes.csv", "w", newline="") as handle:
        handle.write(HEADER)
        csv.writer(handle).writerows((group, file, name, *values[:2], "") for group, file, name, values in chosen)
    table = read_samples(root, face_schema())
    try:
        once, _ = apply_fixes(table, read_fixes(folder / "fixes.csv"))
    except DataError as error:
        assert "contradicts" in str(error)  # noqa: PT017
        return
    twice, report = apply_fixes(once, read_fixes(folder / "fixes.csv"))
    assert report.changed == 0
    assert twice.sha256() == once.sha256()


def test_what_is_neither_from_nor_to_is_left_and_said(tmp_path: Path) -> None:
    root = write_train(tmp_path / "data", PAIR)
    table = fixed(root, HEADER + "000001,normal,mask,worn,incorrect,\n000001,mask9,mask,worn,incorrect,\n")
    assert table.sha256() == read_samples(root, face_schema()).sha256()
    assert [problem.problem for problem in table.problems] == [
        "no photo mask9 in group 000001; left out",
        f"{root.parent}/fixes.csv line 2 expects mask worn, found not_worn; left as it is",
    ]


def test_ages_are_compared_as_numbers(tmp_path: Path) -> None:
    table = fixed(write_train(tmp_path / "data", PAIR), HEADER + "000001,,age,45.0,61,\n")
    assert set(table.frame["age"]) == {61.0, 30.0}
    assert table.frame["age"].dtype == "float64"


def test_attributes_that_the_schema_does_not_have_are_passed_over(tmp_path: Path) -> None:
    root = write_train(tmp_path / "data", PAIR)
    only = Schema(Attribute("gender", ["male", "female"]))
    table = read_samples(root, only, fixes=write(tmp_path / "fixes.csv", LIST))
    assert set(table.frame["gender"]) == {"male"}


def test_the_eval_part_is_not_fixed(tmp_path: Path) -> None:
    source = write(tmp_path / "fixes.csv", "not,a,list\n")
    write(tmp_path / "eval" / "info.csv", "ImageID\na.jpg\n")
    write(tmp_path / "eval" / "images" / "a.jpg", "")
    assert len(read_samples(tmp_path, face_schema(), part="eval", fixes=source)) == 1


BAD = {
    "no column": ("group,attribute,from\n", "missing column to"),
    "no group": (
        HEADER + ",,gender,male,female,\n",
        "line 2: expected a group, an attribute and two different classes",
    ),
    "same": (
        HEADER + "000001,,gender,male,male,\n",
        "line 2: expected a group, an attribute and two different classes",
    ),
    "sha": (HEADER + "000001,,gender,male,female,12ab\n", 'line 2: sha256 must be 64 hexadecimal digits, found "12ab"'),
    "class": (HEADER + "000001,,gender,mael,female,\n", 'line 2: gender has no class "mael"; did you mean "male"'),
    "number": (HEADER + "000001,,age,old,30,\n", 'line 2: age must be a number, found "old"'),
    "contradiction": (
        HEADER + "000001,,age,45,46,\n000001,normal,age,45,47,\n",
        "line 3: contradicts .*fixes.csv line 2 about one photo",
    ),
}


@pytest.mark.parametrize(("text", "message"), BAD.values(), ids=BAD.keys())
def test_bad_lists(tmp_path: Path, text: str, message: str) -> None:
    root = write_train(tmp_path / "data", PAIR)
    with pytest.raises(DataError, match=message) as caught:
        fixed(root, text)
    assert str(caught.value).startswith(str(tmp_path / "fixes.csv"))
    assert "\n" not in str(caught.value)


def test_an_id_of_two_people_must_be_written_in_full(tmp_path: Path) -> None:
    twins = (("003397", "male", "White", 60), ("003397", "female", "Asian", 18))
    root = write_train(tmp_path / "data", twins)
    with pytest.raises(
        DataError, match=r"line 2: group 003397 is more than one person .003397_female_Asian_18, 003397_m"
    ):
        fixed(root, HEADER + "003397,,gender,male,female,\n")
    table = fixed(root, HEADER + "003397_male_White_60,,gender,male,female,\n")
    assert set(table.frame["gender"]) == {"female"}


def test_a_list_may_have_no_rows_and_a_report_has_its_line(tmp_path: Path) -> None:
    table = read_samples(write_train(tmp_path / "data", PAIR), face_schema())
    same, report = apply_fixes(table, read_fixes(write(tmp_path / "fixes.csv", HEADER)))
    assert same.sha256() == table.sha256()
    assert report.text() == "fixes: 0 photos relabelled, 0 labels were right already"
