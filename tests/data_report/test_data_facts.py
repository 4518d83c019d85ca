"""What is found in data sets with planted faults: duplicates, outliers, doubts, and fixes that do what they say."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from looked_at_data import HEADER, SCHEMA, answered, looked_at, people_table, picture, sure, write

import ensemble_kit.data.check as check_module
from ensemble_kit.data.decode import decode_photo
from ensemble_kit.data.fixes import Fix, apply_fixes, read_fixes, write_fixes
from ensemble_kit.data.samples import read_samples
from ensemble_kit.data_report import DataFacts
from ensemble_kit.data_report.looks import measured
from ensemble_kit.data_report.page import Thumbs, page_facts
from ensemble_kit.errors import UsageError
from ensemble_kit.files import sha256_file, write_csv
from ensemble_kit.schema import Attribute, Schema


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return people_table(tmp_path / "data")


def edit(root: Path, **labels: dict[str, str]) -> None:
    """Changes cells of the table: sample_id -> column -> text."""
    lines = [line.split(",") for line in (root / "samples.csv").read_text().splitlines()]
    for line in lines[1:]:
        for column, text in labels.get(line[0], {}).items():
            line[HEADER.index(column)] = text
    write_csv(root / "samples.csv", lines)


def said_pairs(facts: DataFacts) -> set[tuple[str, str]]:
    return {(pair.one.path, pair.other.path) for pair in facts.duplicates.pairs}


def test_every_photo_is_decoded_once(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: Counter[Path] = Counter()

    def counted(path: Path, *rest: Any) -> Any:
        seen[path] += 1
        return decode_photo(path, *rest)

    monkeypatch.setattr(check_module, "decode_photo", counted)
    facts = looked_at(root)
    assert set(seen.values()) == {1}
    assert len(seen) == len(facts.photos.looks) == 30


def test_photos_of_one_person_are_alike_anyway(root: Path) -> None:
    shutil.copy(root / "p00_0.jpg", root / "p00_1.jpg")
    write(root / "p01_1.jpg", picture(10), quality=60)
    facts = looked_at(root)
    assert facts.duplicates.pairs == ()
    assert facts.duplicates.same_person == 1


def test_a_photo_of_two_people_is_found_however_it_was_saved(root: Path) -> None:
    shutil.copy(root / "p00_0.jpg", root / "p05_1.jpg")  # the same bytes
    write(root / "p06_0.jpg", picture(10), quality=50)  # p01_0 again
    write(root / "p07_1.jpg", np.ascontiguousarray(picture(21)[:, ::-1]))  # p02_1 in a mirror
    write(root / "p13_0.jpg", np.clip(picture(30).astype(int) + 25, 0, 255).astype(np.uint8))  # p03_0 in evaluation
    facts = looked_at(root)
    assert said_pairs(facts) == {
        ("p00_0.jpg", "p05_1.jpg"),
        ("p01_0.jpg", "p06_0.jpg"),
        ("p02_1.jpg", "p07_1.jpg"),
        ("p03_0.jpg", "p13_0.jpg"),
    }
    by_path = {pair.one.path: pair for pair in facts.duplicates.pairs}
    assert by_path["p00_0.jpg"].is_same_file
    assert facts.duplicates.pairs[0].is_same_file
    assert by_path["p02_1.jpg"].is_mirrored
    assert [pair.is_across_parts for pair in facts.duplicates.pairs].count(True) == 1
    assert by_path["p03_0.jpg"].is_across_parts
    assert by_path["p01_0.jpg"].differing == {"gender": ("female", "male")}


def test_two_people_that_share_all_their_photos_are_one_pair(root: Path) -> None:
    for number in (0, 1):
        write(root / f"p08_{number}.jpg", picture(40 + number), quality=70)
    facts = looked_at(root)
    assert [(pair.one.person, pair.other.person, pair.n_photos) for pair in facts.duplicates.pairs] == [
        ("p04", "p08", 2)
    ]


def test_evaluation_photos_of_unknown_people_are_compared_with_training_only(root: Path) -> None:
    write(root / "p13_0.jpg", picture(121), quality=60)  # of p12_1, both in evaluation
    write(root / "p14_0.jpg", picture(30), quality=60)  # of p03_0 in training
    lines = [line.split(",") for line in (root / "samples.csv").read_text().splitlines()]
    alone = [[*line[:2], line[0] if line[3] == "eval" else line[2], *line[3:]] for line in lines]
    write_csv(root / "samples.csv", alone)
    facts = looked_at(root)
    assert said_pairs(facts) == {("p03_0.jpg", "p14_0.jpg")}
    assert not facts.duplicates.eval_people_known


def test_blank_photos_are_no_duplicates(root: Path) -> None:
    for person in range(4):
        write(root / f"p{person:02d}_0.jpg", np.full((48, 48, 3), 200 + person, dtype=np.uint8))
    facts = looked_at(root)
    assert facts.duplicates.pairs == ()
    assert facts.duplicates.n_flat == 4


def test_what_lies_far_outside_is_named(tmp_path: Path) -> None:
    root = people_table(tmp_path, people=20)
    write(root / "p05_1.jpg", (picture(51) * 0.05).astype(np.uint8))
    spreads = {one.name: one for one in looked_at(root).spreads}
    assert [photo.path for photo, _ in spreads["brightness"].low] == ["p05_1.jpg"]
    assert [photo.path for photo, _ in spreads["contrast"].low] == ["p05_1.jpg"]
    assert sum(spreads["brightness"].counts.values()) == 46


def test_measures_agree_with_loops() -> None:
    grey = picture(7, 20)[..., 0]
    cells = [float(v) for v in grey.ravel()]
    mean = sum(cells) / len(cells)
    deviation = (sum((v - mean) ** 2 for v in cells) / len(cells)) ** 0.5
    steps = [abs(int(grey[i, j + 1]) - int(grey[i, j])) for i in range(20) for j in range(19)]
    steps += [abs(int(grey[i + 1, j]) - int(grey[i, j])) for i in range(19) for j in range(20)]
    assert measured(grey) == pytest.approx((mean, deviation, sum(steps) / len(steps)))


# --- labels in doubt -----------------------------------------------------------------------------------------------


def test_a_person_in_doubt_is_one_row_and_its_fix_mends_all_photos(root: Path, tmp_path: Path) -> None:
    facts = looked_at(root, probs=answered(root, p03=0, p08=1))
    gender = next(one for one in facts.doubts if one.name == "gender")
    assert gender.is_personal
    assert (gender.n_units, gender.n_right) == (12, 10)
    told = [(doubt.photos[0].person, doubt.label, doubt.offers[0].text, doubt.n_agree) for doubt in gender.doubts]
    assert told == [("p03", "female", "male", 2), ("p08", "male", "female", 2)]
    assert [fix.cells for fix in facts.suggested] == [
        ("p03", "", "gender", "female", "male", ""),
        ("p08", "", "gender", "male", "female", ""),
    ]
    write_fixes(tmp_path / "fixes.csv", facts.suggested)
    fixes = read_fixes(tmp_path / "fixes.csv")
    before = read_samples(root, SCHEMA)
    after, report = apply_fixes(before, fixes)
    assert (report.changed, report.problems) == (4, ())
    changed = before.frame["gender"] != after.frame["gender"]
    assert set(before.frame["group_id"][changed]) == {"p03", "p08"}
    assert apply_fixes(after, fixes)[1].changed == 0


def test_a_photo_in_doubt_is_found_by_its_bytes(root: Path, tmp_path: Path) -> None:
    probs = answered(root, p03=0)
    row = read_samples(root, SCHEMA).ids.tolist().index("p05_1")
    probs["mask"][row] = [0.99, 0.01]
    facts = looked_at(root, probs=probs)
    (of_photo,) = (fix for fix in facts.suggested if fix.attribute == "mask")
    assert (of_photo.file, of_photo.sha256) == ("p05_1.jpg", sha256_file(root / "p05_1.jpg"))
    assert len(facts.suggested) == 2
    write_fixes(tmp_path / "fixes.csv", facts.suggested)
    (root / "p05_1.jpg").rename(root / "other.jpg")  # found all the same, together with a row about a whole person
    edit(root, p05_1={"path": "other.jpg"})
    after, report = apply_fixes(read_samples(root, SCHEMA), read_fixes(tmp_path / "fixes.csv"))
    assert report.problems == ()
    assert after.frame["mask"].tolist()[row] == "worn"
    assert report.changed == 3


def test_a_measured_label_goes_to_the_nearest_number_of_the_class(root: Path) -> None:
    probs = answered(root)
    table = read_samples(root, SCHEMA)
    probs["age"][table.groups == "p03"] = [0.1, 0.8, 0.1]  # labelled 29
    probs["age"][table.groups == "p02"] = [0.1, 0.8, 0.1]  # labelled 61
    (age,) = (one for one in looked_at(root, probs=probs).doubts if one.name == "age")
    told = {doubt.photos[0].person: (doubt.label, doubt.offers[0].text, doubt.beside) for doubt in age.doubts}
    assert told == {"p03": ("29", "30", 1.0), "p02": ("61", "59", 2.0)}


def test_a_person_of_two_labels_is_mended_photo_by_photo(root: Path, tmp_path: Path) -> None:
    probs = answered(root)
    edit(root, p03_1={"gender": "male"})
    facts = looked_at(root, probs=probs)
    (gender,) = (one for one in facts.doubts if one.name == "gender")
    assert [(doubt.n_photos, doubt.label) for doubt in gender.doubts] == [(1, "male")]
    write_fixes(tmp_path / "fixes.csv", facts.suggested)
    after, _ = apply_fixes(read_samples(root, SCHEMA), read_fixes(tmp_path / "fixes.csv"))
    assert after.frame["gender"][after.frame["group_id"] == "p03"].tolist() == ["female", "female"]


def test_what_a_list_in_force_has_set_is_not_doubted_again(root: Path) -> None:
    listed = [Fix("p03", "", "gender", "male", "female", "", "old.csv line 2")]
    facts = looked_at(root, probs=answered(root, p03=0, p08=1), listed=listed)
    (gender,) = (one for one in facts.doubts if one.name == "gender")
    assert [doubt.photos[0].person for doubt in gender.doubts] == ["p08"]
    assert [fix.cells for fix in facts.suggested] == [listed[0].cells, ("p08", "", "gender", "male", "female", "")]


def test_a_path_of_a_taxonomy_is_mended_on_all_levels(tmp_path: Path) -> None:
    schema = Schema(
        Attribute("kind", ["fruit", "box"]),
        Attribute("fine", ["apple", "kiwi", "milk"]),
        paths=[("fruit", "apple"), ("fruit", "kiwi"), ("box", "milk")],
    )
    rows: list[Sequence[str]] = [("path", "kind", "fine")]
    for number in range(12):
        write(tmp_path / "data" / f"{number:02d}.png", picture(number))
        rows.append((f"{number:02d}.png", *schema.class_rows()[number % 3]))
    write_csv(tmp_path / "data" / "samples.csv", rows)
    facts = looked_at(tmp_path / "data", schema)
    assert facts.doubts == ()
    from ensemble_kit.data_report.answers import Answers
    from ensemble_kit.data_report.doubts import find_doubts
    from ensemble_kit.data_report.suspects import by_confidence

    joint = sure([number % 3 if number != 4 else 2 for number in range(12)], 3)
    (doubts,) = find_doubts(facts.photos, Answers(facts.photos.train.ids, {}, joint), by_confidence, ())
    assert (doubts.name, len(doubts.doubts)) == ("kind / fine", 1)
    fixes = doubts.doubts[0].offers[0].fixes
    assert [(fix.group, fix.attribute, fix.old, fix.new) for fix in fixes] == [
        ("04.png", "kind", "fruit", "box"),
        ("04.png", "fine", "kiwi", "milk"),
    ]
    after, report = apply_fixes(facts.photos.train, list(fixes))
    assert (report.changed, report.problems) == (1, ())
    assert after.joint().tolist()[4] == 2


def test_duplicates_of_different_labels_offer_both_ways(root: Path) -> None:
    shutil.copy(root / "p00_0.jpg", root / "p01_0.jpg")
    facts = looked_at(root, probs=answered(root, p01=0))
    ways = {one.attribute: one for one in facts.contradictions}
    assert set(ways) == {"gender", "age"}
    assert [fix.cells for fix in ways["gender"].one_as_other] == [("p00", "", "gender", "male", "female", "")]
    assert [fix.cells for fix in ways["gender"].other_as_one] == [("p01", "", "gender", "female", "male", "")]
    assert ways["gender"].likelier == "male"
    assert [fix.cells for fix in facts.suggested if fix.attribute == "gender"] == [
        ("p01", "", "gender", "female", "male", "")
    ]


# --- any data --------------------------------------------------------------------------------------------------------


def test_damaged_photos_no_people_no_ages_and_one_photo(tmp_path: Path) -> None:
    schema = Schema(Attribute("kind", ["a", "b"]))
    write(tmp_path / "a" / "one.png", picture(0))
    whole = looked_at(tmp_path, schema, decode=True)
    assert len(whole.photos.looks) == 1
    for number in range(3):
        write(tmp_path / "b" / f"{number}.png", picture(number + 1))
    (tmp_path / "b" / "1.png").write_bytes(b"no photo")
    facts = looked_at(tmp_path, schema)
    assert facts.photos.looks.is_decoded.tolist().count(False) == 1
    assert facts.measured == {}
    assert facts.sizes is not None
    json.dumps(facts.to_json(), allow_nan=False)
    for one in (whole, facts):
        told = page_facts(one, Thumbs(one.photos.full_paths, False, one.photos.looks.is_decoded.tolist()))
        assert told["n_thumbs"] == 0


def test_nothing_readable_at_all(tmp_path: Path) -> None:
    schema = Schema(Attribute("kind", ["a", "b"]))
    for name in ("a/1.png", "b/2.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"no photo")
    facts = looked_at(tmp_path, schema)
    assert (facts.sizes, facts.spreads, facts.duplicates.n_compared) == (None, (), 0)
    page_facts(facts, Thumbs(facts.photos.full_paths, True, [False, False]))


def test_cleanlab_is_asked_for_by_name_where_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    from ensemble_kit.data_report.suspects import by_cleanlab, find_cut

    monkeypatch.setitem(sys.modules, "cleanlab.filter", None)
    with pytest.raises(UsageError, match=r'pip install "ensemble_kit\[clean\]", or pass --suspects confidence'):
        by_cleanlab(np.array([0, 1]), np.full((2, 2), 0.5))
    with pytest.raises(UsageError, match="cleanlab"):
        find_cut("cleanlap")
