"""The data report: its counts against a loop, its text within 80 columns, and no traceback for bad photos."""

from __future__ import annotations

import json
import math
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from fake_tree import face_schema, folder_of, write, write_eval, write_photo, write_train

from ensemble_kit.data.check import DataReport, check_data
from ensemble_kit.data.samples import read_samples
from ensemble_kit.errors import DataError
from ensemble_kit.schema import Attribute, Schema

CROWD = tuple(
    (f"{number:06}", ("female", "male")[number % 2], "Asian", (18, 29, 30, 31, 59, 60)[number // 2 % 6])
    for number in range(24)
)


def check(root: Path, folds: int = 2, *, decode: bool = False, **options: object) -> DataReport:
    return check_data(root, face_schema(), folds=folds, seed=0, decode=decode, **options)  # type: ignore[arg-type]


def fits(report: DataReport) -> list[str]:
    lines = report.text().splitlines()
    assert max(map(len, lines)) <= 80
    assert all(line == line.rstrip() for line in lines)
    json.dumps(report.to_json(), allow_nan=False)
    return lines


def test_counts_agree_with_a_loop(tmp_path: Path) -> None:
    root = write_train(tmp_path, CROWD)
    report = check(root, folds=3)
    table = read_samples(root, face_schema())
    assert (report.train.photos, report.train.people) == (168, 24)
    assert report.train.attributes["mask"] == {"worn": (120, 24), "incorrect": (24, 24), "not_worn": (24, 24)}
    assert report.train.attributes["gender"] == {"male": (84, 12), "female": (84, 12)}
    assert report.train.attributes["age"] == {"<30": (56, 8), "30-59": (84, 12), ">=60": (28, 4)}
    counted = Counter(table.joint().tolist())
    assert report.train.joint == [counted[number] for number in range(18)]
    assert report.folds is not None
    assert sum(report.folds.photos) == 168
    for name, number in (("<30", 0), ("30-59", 1), (">=60", 2)):
        total, held_out = report.folds.classes["age"][name]
        assert total == sum(held_out) == int((table.numbers("age") == number).sum())
    assert report.problems == ()


def test_text_shows_shares_side_by_side_and_ages_around_the_borders(tmp_path: Path) -> None:
    lines = fits(check(write_eval(write_train(tmp_path, CROWD), {"a.jpg": 0, "b.jpg": 17}), folds=2))
    assert lines[1:3] == [
        "  training         168 photos of 24 people",
        "  evaluation         2 photos, each a group of its own",
    ]
    assert "  worn                             120  71.4%      24 |     1  50.0%       1" in lines
    assert "age around 30                27     28     29 |     30     31     32" in lines
    assert "  photos                      0      0     28 |     28     28      0     █|██" in lines
    assert "age around 60                57     58     59 |     60     61     62" in lines
    assert any(line.split() == ["worn", "71.4|71.4", "71.4|71.4"] for line in lines)
    assert " 0 worn / male / <30" in "\n".join(lines)
    assert lines[-1] == "no problems found"


def test_one_validation_share(tmp_path: Path) -> None:
    root = write_train(tmp_path, CROWD)
    report = check(root, val_ratio=0.25)
    assert report.folds is not None
    (held_out,) = report.folds.photos
    assert 0.15 <= held_out / 168 <= 0.35
    assert any(line.split() == ["photos", f"{168 - held_out}|{held_out}"] for line in fits(report))


def test_many_folds_go_into_blocks(tmp_path: Path) -> None:
    lines = fits(check(write_train(tmp_path, CROWD), folds=12))
    assert [line.split()[-1] for line in lines if line.split()[-2:-1] == ["fold"]] == ["4", "9", "11"]


def test_every_bad_photo_of_both_parts_is_a_problem(tmp_path: Path) -> None:
    root = write_eval(write_train(tmp_path, CROWD), {"a.jpg": 0, "b.jpg": 1})
    (root / "eval" / "images" / "b.jpg").write_bytes(b"")
    (root / "train" / "images" / folder_of(CROWD[0]) / "mask1.jpg").write_bytes(b"no photo")
    report = check(root, decode=True)
    assert [(p.path, p.problem) for p in report.problems] == [
        (
            f"train/images/{folder_of(CROWD[0])}/mask1.jpg",
            "expected a photo (JPEG, PNG, WEBP, BMP), found something else",
        ),
        ("eval/images/b.jpg", "expected a photo, found an empty file; replace it"),
    ]
    assert report.train.sizes == {"6 x 8": 167}
    assert check(root, decode=False).problems == ()
    assert "width x height: 6 x 8 (167)" in "\n".join(fits(report))


def test_progress_counts_both_parts(tmp_path: Path) -> None:
    root = write_eval(write_train(tmp_path, CROWD), {"a.jpg": 0})
    seen: list[tuple[int, int]] = []
    check(root, decode=True, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(number, 169) for number in range(1, 170)]


def test_the_first_twenty_problems_are_shown_and_all_are_listed(tmp_path: Path) -> None:
    root = write_train(tmp_path, CROWD)
    for person in CROWD:
        write_photo(root / "train" / "images" / folder_of(person) / "mask9.jpg")
    report = check(root)
    lines = fits(report)
    assert "problems (24)" in lines
    assert lines[-1] == "  ... and 4 more (--json lists all)"
    assert len(report.to_json()["problems"]) == 24
    assert report.to_json()["problems"][0] == {
        "path": f"train/images/{folder_of(CROWD[0])}/mask9.jpg",
        "problem": "expected mask1..mask5, incorrect_mask or normal, as a photo; left out",
    }


def test_problems_of_one_file_stand_together(tmp_path: Path) -> None:
    root = write_train(tmp_path, CROWD)
    folder = root / "train" / "images" / folder_of(CROWD[0])
    (folder / "mask1.jpg").write_bytes(b"")
    (folder / "mask1.png").write_bytes(b"")
    write_photo(folder / "mask9.jpg")
    paths = [Path(problem.path).name for problem in check(root, decode=True).problems]
    assert paths == ["mask1.png", "mask1.png", "mask9.jpg", "mask1.jpg"]


def test_folds_that_cannot_be_cut_are_a_problem_not_a_stop(tmp_path: Path) -> None:
    root = write_train(tmp_path, CROWD[:3])
    report = check(root, folds=5)
    assert [str(p) for p in report.problems] == [
        "folds: 5 folds need 5 people or more, found 3; use fewer folds or more data"
    ]
    assert report.folds is None
    fits(report)
    missing = check(root, folds=2)
    assert missing.folds is not None
    assert {p.path for p in missing.problems} == {"folds"}
    assert [p.problem.split(";")[0] for p in missing.problems if ">=60" in p.problem] == [
        f'fold {fold} has no {part} photo of age ">=60" (0 photo(s) of 0 group(s) in all)'
        for fold in (0, 1)
        for part in ("validation", "training")
    ]
    assert len(missing.problems) > 4
    fits(missing)


def test_fixes_are_counted_and_a_list_about_other_data_is_said(tmp_path: Path) -> None:
    root = write_train(tmp_path / "data", CROWD)
    header = "group,file,attribute,from,to\n"
    mine = write(tmp_path / "mine.csv", header + "000000,,gender,female,male\n")
    report = check(root, fixes=mine)
    assert report.train.attributes["gender"] == {"male": (91, 13), "female": (77, 11)}
    assert "  fixes: 7 photos relabelled, 0 labels were right already" in fits(report)
    other = check(root, fixes=write(tmp_path / "other.csv", header + "999,,gender,female,male\n"))
    assert "  fixes: the list is about other data, not applied" in fits(other)
    assert other.to_json()["fixes"] == {"applied": False, "changed": 0, "done": 0}
    assert other.problems == ()
    assert [n for n in other.notices if "other.csv" in n] == [
        f"{tmp_path / 'other.csv'}: not applied: 1 of the 1 groups it names are not here (999): it is about other data"
    ]
    assert "no problems found" in fits(other)


def test_a_fix_that_fits_no_label_stays_a_problem(tmp_path: Path) -> None:
    root = write_train(tmp_path / "data", CROWD)
    fixes = write(tmp_path / "mine.csv", "group,file,attribute,from,to\n000000,mask9,gender,female,male\n")
    assert [p.problem for p in check(root, fixes=fixes).problems] == ["no photo mask9 in group 000000; left out"]


@pytest.mark.parametrize("layout", ["table", "folders"])
def test_bad_photos_of_other_layouts_are_named_from_the_data_folder(tmp_path: Path, layout: str) -> None:
    schema = Schema(Attribute("kind", ["a", "b"]))
    paths = [f"{kind}/{number}.jpg" for kind in "ab" for number in range(4)]
    for path in paths:
        write_photo(tmp_path / path)
    if layout == "table":
        write(tmp_path / "samples.csv", "path,kind\n" + "".join(f"{path},{path[0]}\n" for path in paths))
    (tmp_path / "a" / "1.jpg").write_bytes(b"")
    report = check_data(tmp_path, schema, folds=2, seed=0)
    assert (report.layout, [p.path for p in report.problems]) == (layout, ["a/1.jpg"])


def test_bad_photos_are_named_alike_when_one_part_is_given(tmp_path: Path) -> None:
    root = write_train(tmp_path, CROWD)
    (root / "train" / "images" / folder_of(CROWD[0]) / "mask1.jpg").write_bytes(b"")
    for data in (root, root / "train", root / "train" / "train.csv"):
        assert [p.path for p in check(data, decode=True).problems] == [f"train/images/{folder_of(CROWD[0])}/mask1.jpg"]


def test_what_cannot_be_read_at_all_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="set ENS_DATA or pass --data FOLDER"):
        check(tmp_path)


def test_many_long_classes_and_missing_labels(tmp_path: Path) -> None:
    classes = [f"{'very-long-name-' * 3}{number:02}" for number in range(40)]
    schema = Schema(Attribute("kind", ["a", "b"]), Attribute("fine", classes))
    rows = ["path,kind,fine"]
    for number, name in enumerate(np.repeat(classes, 4).tolist()):
        write_photo(tmp_path / f"{number}.jpg")
        rows.append(f"{number}.jpg,{'' if number == 0 else 'ab'[number % 2]},{name}")
    source = write(tmp_path / "samples.csv", "\n".join(rows) + "\n")
    report = check_data(source, schema, folds=2, seed=0, decode=False)
    lines = fits(report)
    assert "  ... the 12 rarest of 40 classes (--json lists all)" in lines
    assert "  (unlabelled)                       1   0.6%       1" in lines
    assert report.to_json()["train"]["attributes"]["kind"]["unlabelled"] == {"photos": 1, "people": 1}
    assert len(report.to_json()["train"]["joint"]) == 80


def test_an_unlabelled_table_is_reported(tmp_path: Path) -> None:
    root = write_eval(write_train(tmp_path, CROWD), {"a.jpg": 0})
    (root / "eval" / "answers.csv").unlink()
    lines = fits(check(root))
    assert lines[2] == "  evaluation         1 photos, each a group of its own, unlabelled"
    assert "  worn                             120  71.4%      24" in lines


def test_json_has_the_fold_counts_of_both_sides(tmp_path: Path) -> None:
    stored = check(write_train(tmp_path, CROWD), folds=3).to_json()
    assert stored["folds"]["n_folds"] == 3
    for fold in stored["folds"]["folds"]:
        assert fold["photos"]["training"] + fold["photos"]["validation"] == 168
        for classes in (*fold["attributes"].values(), fold["joint"]):
            assert sum(sum(sides.values()) for sides in classes.values()) == 168
    around = {entry["border"]: entry["photos"] for entry in stored["train"]["around_borders"]}
    assert around[30.0] == {"27": 0, "28": 0, "29": 28, "30": 28, "31": 28, "32": 0}
    assert math.isclose(sum(around[60.0].values()), 56)
