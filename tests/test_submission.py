"""The answer file: what is written comes back, and what is wrong is refused with its file and line."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ensemble_kit.arrays import IntArray
from ensemble_kit.errors import DataError, UsageError
from ensemble_kit.predictions import Predictions
from ensemble_kit.schema import Attribute, Schema
from ensemble_kit.submission import read_submission, read_template, write_submission

SCHEMA = Schema(Attribute("mask", ["worn", "incorrect", "not_worn"]), Attribute("gender", ["male", "female"]))
IDS = st.lists(st.text("abc,\"';09é.- 가", min_size=1, max_size=8).filter(str.strip), min_size=1, unique=True)


def csv_file(folder: Path, text: str | bytes, name: str = "given.csv") -> Path:
    path = folder / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def joint(labels: list[int], ids: list[str]) -> Predictions:
    """Joint predictions with these labels; -1 = a row of zeros."""
    rows = np.zeros((len(labels), SCHEMA.n_joint))
    for row, label in enumerate(labels):
        rows[row] = 0.0 if label < 0 else 0.06
        if label >= 0:
            rows[row, label] = 0.7
    return Predictions(SCHEMA.attributes, rows, np.array(ids))


@given(data=st.data(), ids=IDS)
@settings(max_examples=60, deadline=None)
def test_what_is_written_comes_back(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, ids: list[str]
) -> None:
    labels = data.draw(st.lists(st.integers(0, 5), min_size=len(ids), max_size=len(ids)))
    path = tmp_path_factory.mktemp("submission") / "out.csv"
    write_submission(path, (ids, labels))
    found_ids, found = read_submission(path, SCHEMA)
    assert (found_ids.tolist(), found.tolist()) == (ids, labels)
    assert found.dtype == np.int64


@given(data=st.data(), ids=IDS)
@settings(max_examples=40, deadline=None)
def test_the_template_gives_the_order(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, ids: list[str]
) -> None:
    folder = tmp_path_factory.mktemp("template")
    wanted = data.draw(st.permutations(ids))
    with open(folder / "info.csv", "w", newline="", encoding="utf-8") as handle:
        writer = csv.writer(handle)
        writer.writerow(["ans", "ImageID"])
        writer.writerows([0, name] for name in wanted)
    labels = {name: number % 6 for number, name in enumerate(ids)}
    write_submission(folder / "out.csv", joint(list(labels.values()), ids), template=folder / "info.csv")
    with open(folder / "out.csv", newline="", encoding="utf-8") as handle:
        rows = list(csv.reader(handle))
    assert rows == [["ImageID", "ans"], *([name, str(labels[name])] for name in wanted)]


def test_the_file_is_plain(tmp_path: Path) -> None:
    write_submission(tmp_path / "new" / "out.csv", joint([3, 0], ["b.jpg", "a.jpg"]))
    assert (tmp_path / "new" / "out.csv").read_bytes() == b"ImageID,ans\nb.jpg,3\na.jpg,0\n"


@pytest.mark.parametrize(
    "text",
    [
        "ImageID,ans\na,5\nb,0\n",
        "ImageID,ans\r\na,5\r\nb,0\r\n",
        b"\xef\xbb\xbfImageID,ans\na,5\nb,0\n",
        "ImageID,ans\na,5.0\nb,0.\n",
        "ans,note,ImageID\n5,hello,a\n0,,b",
        'ImageID , ans\n"a",5\n\nb, 0 \n\n',
        ",ImageID,ans\n0,a,05\n1,b,+0\n",
    ],
)
def test_files_in_the_wild_are_read(tmp_path: Path, text: str | bytes) -> None:
    ids, labels = read_submission(csv_file(tmp_path, text), SCHEMA)
    assert (ids.tolist(), labels.tolist()) == (["a", "b"], [5, 0])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "{} line 1: expected a header with ImageID, ans, found an empty file"),
        ("ImageID,ans\n", "{} line 2: expected a row for each photo, found none"),
        ("id,ans\na,1\n", "{} line 1: expected the columns ImageID, ans, found id, ans; ImageID is missing"),
        (
            "ImageID;ans\na;1\n",
            "{} line 1: expected the columns ImageID, ans, found ImageID;ans; ImageID, ans is missing",
        ),
        ("ImageID,ans\na,1\nb,6\n", '{} line 3: ans must be a whole number from 0 to 5, found "6" (photo b); correct'),
        ("ImageID,ans\na,-1\n", '{} line 2: ans must be a whole number from 0 to 5, found "-1" (photo a)'),
        ("ImageID,ans\na,1.5\n", 'found "1.5"'),
        ("ImageID,ans\na,worn\n", 'found "worn"'),
        ("ImageID,ans\na,\n", 'found ""'),
        ("ImageID,ans\na,nan\n", 'found "nan"'),
        ("ImageID,ans\na,inf\n", 'found "inf"'),
        ("ImageID,ans\na,1_0\n", 'found "1_0"'),
        ("ImageID,ans\na,1e0\n", 'found "1e0"'),
        ("ImageID,ans\na,99999999999999999999\n", "99999999999999999999"),
        ("ImageID,ans\na,1\nb,2\na,1\n", '{} line 4: ImageID "a" is there already on line 2; expected each id once'),
        ("ImageID,ans\n,1\n", "{} line 2: expected an id in column ImageID, found an empty one"),
        ("ImageID,ans\na,1\nb\n", "{} line 3: expected 2 fields as in the header, found 1"),
        ("ImageID,ans\na,1,2\n", "{} line 2: expected 2 fields as in the header, found 3"),
        (b"ImageID,ans\n\xff\xfe,1\n", "{}: not readable as a CSV file in UTF-8"),
        ('ImageID,ans\n"a\nb",1\n"c\nd",9\n', '{} line 5: ans must be a whole number from 0 to 5, found "9"'),
    ],
)
def test_a_bad_file_is_refused(tmp_path: Path, text: str | bytes, message: str) -> None:
    path = csv_file(tmp_path, text)
    with pytest.raises(DataError) as caught:
        read_submission(path, SCHEMA)
    assert message.format(path) in str(caught.value)
    assert caught.value.exit_code == 3


def test_no_file_and_a_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.csv: expected a CSV file with ImageID, ans, found none"):
        read_submission(tmp_path / "none.csv", SCHEMA)
    with pytest.raises(DataError, match="not readable as a CSV file"):
        read_submission(tmp_path, SCHEMA)


def test_a_template_needs_no_answers(tmp_path: Path) -> None:
    assert read_template(csv_file(tmp_path, "ImageID\nb\na\n")).tolist() == ["b", "a"]
    assert read_template(csv_file(tmp_path, "ImageID,ans\nb,\na,x\n")).tolist() == ["b", "a"]


@pytest.mark.parametrize(
    ("given_answers", "template", "message"),
    [
        ((["a", "b"], [1, 2]), "ImageID\na\nb\nc\nd\n", '{}: 2 of its 4 ids have no prediction (the first is "c"); pass the'),
        ((["a", "b"], [1, 2]), "ImageID\nb\n", '{}: 1 predicted ids are not in it (the first is "a"); pass the'),
        ((["a"], [1]), "ImageID\nb\n", 'no prediction (the first is "b") and 1 predicted ids are not in it (the first is "a")'),
        ((["a"], [1]), "ImageID\na\na\n", '{} line 3: ImageID "a" is there already on line 2'),
        ((["a"], [1]), "image\na\n", "{} line 1: expected the columns ImageID, found image; ImageID is missing"),
        ((["a", "b", "c"], [1, -1, -1]), None, '2 of 3 photos have no answer (abstained; the first is "b")'),
        ((["a", "a"], [1, 1]), None, 'id "a" has more than one answer'),
        ((["a", "b"], [1]), None, "expected one label for each id, found (2,) ids and (1,) labels"),
        ((["a"], [1.5]), None, "labels must be whole numbers (joint classes), found float64 [1.5]"),
        ((["a"], [float("nan")]), None, "labels must be whole numbers"),
        ((["a"], ["worn"]), None, "labels must be whole numbers"),
    ],
)  # fmt: skip
def test_what_is_no_submission_is_refused_and_nothing_written(
    tmp_path: Path, given_answers: tuple[list[str], IntArray], template: str | None, message: str
) -> None:
    path = csv_file(tmp_path, template) if template else None
    out = tmp_path / "out.csv"
    out.write_text("the old one")
    with pytest.raises(DataError) as caught:
        write_submission(out, given_answers, template=path)
    assert message.format(path) in str(caught.value)
    assert out.read_text() == "the old one"
    assert {entry.name for entry in tmp_path.iterdir()} <= {"given.csv", "out.csv"}


def test_abstained_joint_predictions_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="1 of 2 photos have no answer"):
        write_submission(tmp_path / "out.csv", joint([0, -1], ["a", "b"]))


def test_decide_by_attribute(tmp_path: Path) -> None:
    """worn is the likeliest mask (.5) and female the likeliest gender (.6), though worn male is the likeliest pair."""
    pairs = np.array([[0.4, 0.1, 0.0, 0.3, 0.0, 0.2]])
    probs = Predictions(SCHEMA.attributes, pairs, np.array(["a"]))
    write_submission(tmp_path / "joint.csv", probs)
    write_submission(tmp_path / "attribute.csv", probs, decide="attribute")
    assert (tmp_path / "joint.csv").read_text() == "ImageID,ans\na,0\n"
    assert (tmp_path / "attribute.csv").read_text() == "ImageID,ans\na,1\n"
    with pytest.raises(UsageError, match='unknown decision "atribute"; did you mean "attribute"'):
        write_submission(tmp_path / "no.csv", probs, decide="atribute")  # type: ignore[arg-type]


MASK, GENDER = SCHEMA.attributes
OTHER = Attribute("gender", ["female", "male"])


@pytest.mark.parametrize(
    ("predictions", "message"),
    [
        (Predictions(MASK, [[1, 0, 0]], ["a"]), "joint predictions of mask,gender, found mask; combine the experts first"),
        (Predictions([GENDER, MASK], np.eye(6)[:1], ["a"]), "joint predictions of mask,gender, found gender,mask; combine"),
        (Predictions([MASK, OTHER], np.eye(6)[:1], ["a"]), "mask,gender: classes, borders or columns are not the schema's"),
        (joint([0], ["a"]).marginal("gender"), "joint predictions of mask,gender, found gender"),
        (
            Predictions(SCHEMA.attributes, np.eye(6)[:1], ["a"], classes=[*joint([0], ["a"]).classes[::-1]]),
            "mask,gender: classes, borders or columns are not the schema's",
        ),
        ((["a", "b"], [5, 6]), "labels must be joint classes, 0 to 5, found 6"),
    ],
)  # fmt: skip
def test_what_is_not_of_the_schema_is_refused_where_it_is_known(
    tmp_path: Path, predictions: Predictions | tuple[list[str], IntArray], message: str
) -> None:
    with pytest.raises(DataError, match=re.escape(message)):
        write_submission(tmp_path / "out.csv", predictions, schema=SCHEMA)
    assert not (tmp_path / "out.csv").exists()
    write_submission(tmp_path / "out.csv", predictions)


def test_a_joint_of_the_schema_is_written(tmp_path: Path) -> None:
    write_submission(tmp_path / "out.csv", joint([3, 5], ["b", "a"]), schema=SCHEMA)
    assert (tmp_path / "out.csv").read_text() == "ImageID,ans\nb,3\na,5\n"
    write_submission(tmp_path / "out.csv", (["a"], [5]), schema=SCHEMA)
    assert (tmp_path / "out.csv").read_text() == "ImageID,ans\na,5\n"
