"""Checks: a good file is fine, each fault is named with its likely cause, and all of them at once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ensemble_kit.errors import DataError, UsageError
from ensemble_kit.schema import Attribute, Schema
from ensemble_kit.submission import write_submission
from ensemble_kit.submissions import check_submission

SCHEMA = Schema(Attribute("mask", ["worn", "incorrect", "not_worn"]), Attribute("gender", ["male", "female"]))
TEMPLATE = np.array(["000001.jpg", "000012.jpg", "abc.jpg"])
GOOD = "ImageID,ans\n000001.jpg,0\n000012.jpg,5\nabc.jpg,3\n"


def problems(folder: Path, text: str | bytes, template: np.ndarray | None = TEMPLATE) -> list[str]:
    path = folder / "given.csv"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return list(check_submission(path, SCHEMA, template=template).problems)


@given(ids=st.lists(st.text("abc019.", min_size=1, max_size=6), min_size=1, max_size=8, unique=True), data=st.data())
@settings(max_examples=40, deadline=None)
def test_what_is_written_is_fine(tmp_path_factory: pytest.TempPathFactory, ids: list[str], data: st.DataObject) -> None:
    path = tmp_path_factory.mktemp("check") / "out.csv"
    labels = data.draw(st.lists(st.integers(0, 5), min_size=len(ids), max_size=len(ids)))
    write_submission(path, (ids, labels))
    report = check_submission(path, SCHEMA, template=np.array(ids))
    assert report.problems == ()
    assert list(report.counts["joint"].values()) == [labels.count(number) for number in range(6)]
    assert list(report.counts["mask"].values()) == [
        sum(label // 2 == number for label in labels) for number in range(3)
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (GOOD, []),
        (GOOD.replace("\n", "\r\n"), []),
        (b"\xef\xbb\xbf" + GOOD.encode(), []),
        ("", ["line 1: expected the header ImageID,ans, found an empty file"]),
        ("ImageID,ans\n", ["line 2: expected a row for each photo, found none"]),
        (GOOD.replace("ImageID", "imageid"), ['line 1: expected the column ImageID, found "imageid"; rename it']),
        (GOOD.replace(",ans", ", ans"), ['line 1: expected the column ans, found " ans"; rename it']),
        (GOOD.replace("ImageID", "photo"), ["line 1: expected the column ImageID, found photo, ans"]),
        (GOOD.replace(",", ";"), ["it is separated by semicolons", "it is separated by semicolons"]),
        ("n,ImageID,ans\n0,000001.jpg,0\n1,000012.jpg,5\n2,abc.jpg,3\n", ["expected the header ImageID,ans, found n,ImageID"]),
        (GOOD + "extra\n", ["1 rows do not have 2 fields as the header has, first line 5"]),
        (GOOD.replace("abc.jpg", ""), ["1 rows have no id, first line 4", '1 of the template\'s 3 ids are missing, first "abc.jpg"']),
        (GOOD + "abc.jpg,3\n", ['1 ids occur more than once, 0 of them with different answers, first "abc.jpg"']),
        (GOOD + "abc.jpg,4\n", ["1 ids occur more than once, 1 of them with different answers"]),
        (GOOD.replace("000001.jpg,0\n", ""), ['1 of the template\'s 3 ids are missing, first "000001.jpg"']),
        (GOOD + "d.jpg,1\n", ['1 ids are not in the template, first "d.jpg"']),
        (GOOD.replace("0000", ""), ['2 ids are the template\'s with their leading zeros gone, as a spreadsheet does; keep']),
        (GOOD.replace("abc.jpg", " abc.jpg"), ["1 ids are the template's with blanks around them"]),
        (GOOD.replace("abc.jpg", "ABC.jpg"), ["1 ids are the template's with other capitals"]),
        (GOOD.replace(".jpg", ""), ["3 ids are the template's with another file extension, or none"]),
        (GOOD.replace(".jpg", ".png"), ["3 ids are the template's with another file extension"]),
        (GOOD.replace("abc", "images/abc"), ["1 ids are the template's with the folder in front of them"]),
        (GOOD.replace("abc.jpg", "images/ABC"), ["1 ids are the template's with several of these"]),
        ("ImageID,ans\nabc.jpg,3\n000001.jpg,0\n000012.jpg,5\n", ["not in the template's order: row 1 is \"abc.jpg\", expected"]),
        (GOOD.replace(",5", ",6"), ['1 answers are outside 0 to 5, first line 3: "6"']),
        (GOOD.replace(",5", ",-1"), ['1 answers are outside 0 to 5, first line 3: "-1"']),
        (GOOD.replace(",5", ","), ["1 answers are empty"]),
        (GOOD.replace(",5", ",nan"), ["1 answers are empty"]),
        (GOOD.replace(",5", ",worn"), ['1 answers are no numbers, first line 3: "worn"']),
        (GOOD.replace(",5", ",4.5"), ["1 answers are no whole numbers"]),
        (GOOD.replace(",5", ",5.0"), ["1 answers are not written as plain integers (13, not 13.0)"]),
        (GOOD.replace(",5", ", 5"), ["1 answers are not written as plain integers"]),
        (GOOD.replace("0000", "").replace(",5", ",7").replace("abc.jpg,3", "abc.jpg,3\nx,"), [
            "1 ids are not in the template", "with their leading zeros gone", "are outside 0 to 5", "are empty"]),
    ],
)  # fmt: skip
def test_each_fault_is_named(tmp_path: Path, text: str | bytes, expected: list[str]) -> None:
    found = problems(tmp_path, text)
    assert len(found) == len(expected), found
    for message in expected:
        assert any(message in problem for problem in found), found


def test_ids_of_a_table_of_numbers(tmp_path: Path) -> None:
    template = np.array(["000001", "000012"])
    assert problems(tmp_path, "ImageID,ans\n1,0\n12,1\n", template) == [
        "2 ids are the template's with their leading zeros gone, as a spreadsheet does; keep the column as text: "
        'found "1", expected "000001"'
    ]
    assert "a number's .0 behind them" in problems(tmp_path, "ImageID,ans\n1.0,0\n12.0,1\n", template)[0]


def test_two_template_ids_that_look_alike_are_not_guessed(tmp_path: Path) -> None:
    found = problems(tmp_path, "ImageID,ans\na,0\n", np.array(["a.jpg", "a.png"]))
    assert [problem.split(" ids")[0] for problem in found] == ["2 of the template's 2", "1"]


def test_shares_against_training(tmp_path: Path) -> None:
    path = tmp_path / "out.csv"
    write_submission(path, ([str(number) for number in range(1000)], [0] * 500 + [3] * 500))
    like = check_submission(path, SCHEMA, counts=[100, 0, 0, 100, 0, 0]).shares["joint"]
    assert (like.distance, like.chi_square) == (0, 0)
    assert like.sentence().startswith("as in training")
    unlike = check_submission(path, SCHEMA, counts=[100, 0, 0, 0, 0, 300])
    joint = unlike.shares["joint"]
    assert joint.distance == pytest.approx(0.75)
    assert joint.chi_square == pytest.approx((0.25**2 / 0.75 + 0.5 + 0.75) / 2)
    assert "unlike training" in joint.sentence()
    assert "not_worn / female, 0.0% against 75.0%" in joint.sentence()
    assert unlike.problems == ()
    assert unlike.shares["mask"].training == [0.25, 0, 0.75]
    with pytest.raises(UsageError, match="expected training photos of 6 joint classes"):
        check_submission(path, SCHEMA, counts=[0] * 6)


def test_chance_alone_is_about_what_is_said(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    p = np.array([0.4, 0.2, 0.2, 0.1, 0.05, 0.05])
    found, said = [], []
    for _ in range(30):
        write_submission(tmp_path / "out.csv", ([str(n) for n in range(300)], random.choice(6, 300, p=p)))
        shares = check_submission(tmp_path / "out.csv", SCHEMA, counts=random.multinomial(900, p)).shares["joint"]
        found.append(shares.distance)
        said.append(shares.by_chance)
    assert np.mean(found) == pytest.approx(np.mean(said), rel=0.15)


def test_no_file_and_no_text(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="expected a CSV file with ImageID, ans, found none"):
        check_submission(tmp_path / "none.csv", SCHEMA)
    (tmp_path / "bad.csv").write_bytes(b"ImageID,ans\n\xff,1\n")
    with pytest.raises(DataError, match="not readable as a CSV file in UTF-8"):
        check_submission(tmp_path / "bad.csv", SCHEMA)
