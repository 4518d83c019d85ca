"""Votes of submissions against a loop, their files, and what is refused."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ensemble_kit.errors import DataError, EnsembleKitError, UsageError
from ensemble_kit.schema import Attribute, Schema
from ensemble_kit.submission import read_submission
from ensemble_kit.submissions import training_counts, vote_files, vote_submissions

SCHEMA = Schema(Attribute("mask", ["worn", "incorrect", "not_worn"]), Attribute("gender", ["male", "female"]))


def written(path: Path, answers: dict[str, object]) -> Path:
    with open(path, "w", newline="", encoding="utf-8") as handle:
        csv.writer(handle).writerows([["ImageID", "ans"], *answers.items()])
    return path


def voted(labels: list[int], weights: list[int], counts: list[int], n_classes: int) -> tuple[int, str]:
    """The winner, and how it was found: "clear", "counts" or "index"."""
    total = [sum(w for label, w in zip(labels, weights, strict=True) if label == c) for c in range(n_classes)]
    leading = [c for c in range(n_classes) if total[c] == max(total)]
    if len(leading) == 1:
        return leading[0], "clear"
    most = [c for c in leading if counts[c] == max(counts[d] for d in leading)]
    return most[0], "counts" if len(most) == 1 else "index"


@given(
    data=st.data(), n_files=st.integers(1, 5), n_samples=st.integers(1, 6), by=st.sampled_from(["joint", "attribute"])
)
@settings(max_examples=60, deadline=None)
def test_labels_ties_and_agreement_against_a_loop(data: st.DataObject, n_files: int, n_samples: int, by: str) -> None:
    rows = st.lists(st.integers(0, 5), min_size=n_samples, max_size=n_samples)
    labels = data.draw(st.lists(rows, min_size=n_files, max_size=n_files))
    weights = data.draw(st.lists(st.integers(0, 3), min_size=n_files, max_size=n_files).filter(any))
    counts = data.draw(st.one_of(st.none(), st.lists(st.integers(0, 3), min_size=6, max_size=6)))
    report = vote_submissions(labels, SCHEMA, weights, by=by, counts=counts)  # type: ignore[arg-type]
    known = counts or [0] * 6
    expected, ties = [], {"joint": {"by_counts": 0, "by_index": 0}}
    if by == "attribute":
        ties = {name: {"by_counts": 0, "by_index": 0} for name in ("mask", "gender")}
    for column in range(n_samples):
        own = [row[column] for row in labels]
        if by == "joint":
            found = {"joint": voted(own, weights, known, 6)}
            expected.append(found["joint"][0])
        else:
            of_mask = [sum(known[2 * m : 2 * m + 2]) for m in range(3)]
            of_gender = [sum(known[g::2]) for g in range(2)]
            found = {
                "mask": voted([label // 2 for label in own], weights, of_mask, 3),
                "gender": voted([label % 2 for label in own], weights, of_gender, 2),
            }
            expected.append(found["mask"][0] * 2 + found["gender"][0])
        for name, (_, how) in found.items():
            if how != "clear":
                ties[name][f"by_{how}"] += 1
    assert report.labels.tolist() == expected
    assert report.ties == ties
    assert report.agreement == pytest.approx(
        [np.mean([a == b for a, b in zip(row, expected, strict=True)]) for row in labels]
    )
    speaking = [row for row, weight in zip(labels, weights, strict=True) if weight]
    assert report.unanimous == pytest.approx(np.mean([len(set(column)) == 1 for column in zip(*speaking, strict=True)]))


@given(data=st.data())
@settings(max_examples=15, deadline=None)
def test_files_are_joined_by_id_in_any_order(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    folder = tmp_path_factory.mktemp("vote")
    ids = data.draw(st.lists(st.text("ab0.", min_size=1, max_size=5), min_size=1, max_size=8, unique=True))
    labels = [data.draw(st.lists(st.integers(0, 5), min_size=len(ids), max_size=len(ids))) for _ in range(3)]
    files = []
    for number, own in enumerate(labels):
        answers = dict(zip(ids, own, strict=True))
        order = data.draw(st.permutations(ids))
        form = "{}.0" if number == 1 else "{}"
        files.append(written(folder / f"{number}.csv", {name: form.format(answers[name]) for name in order}))
    wanted = data.draw(st.permutations(ids))
    template = written(folder / "info.csv", dict.fromkeys(wanted, 0))
    vote_files(files, folder / "out.csv", SCHEMA, template=template)
    expected = [voted([own[ids.index(name)] for own in labels], [1] * 3, [0] * 6, 6)[0] for name in wanted]
    text = "ImageID,ans\n" + "".join(f"{name},{label}\n" for name, label in zip(wanted, expected, strict=True))
    assert (folder / "out.csv").read_text() == text


def test_one_file_is_written_again_in_order(tmp_path: Path) -> None:
    one = written(tmp_path / "one.csv", {"b": "3.0", "a": 1})
    vote_files([one], tmp_path / "out.csv", SCHEMA, template=written(tmp_path / "info.csv", {"a": 0, "b": 0}))
    assert (tmp_path / "out.csv").read_text() == "ImageID,ans\na,1\nb,3\n"


def test_counts_of_answers(tmp_path: Path) -> None:
    answers = written(tmp_path / "answers.csv", {"a": 3, "b": "3.0", "c": 0})
    assert training_counts(answers, SCHEMA).tolist() == [1, 0, 0, 2, 0, 0]


@pytest.mark.parametrize(
    ("files", "options", "error", "message"),
    [
        (["a", "a"], {}, UsageError, "a.csv is named twice, so it would count twice"),
        (["a", "link"], {}, UsageError, "link.csv is named twice"),
        (["a", "other"], {}, DataError, '1 are missing, the first is "y"; 1 are too many, the first is "z"'),
        (["a", "fewer"], {}, DataError, 'fewer.csv: expected the same 2 ids, found 1: 1 are missing, the first is "y"'),
        (["a", "none"], {}, DataError, "none.csv: expected a CSV file with ImageID, ans, found none"),
        (["a", "b"], {"weights": [1]}, UsageError, "--weights: expected one for each of 2 submissions, found 1"),
        (["a", "b"], {"weights": [1, -1]}, UsageError, "expected weights >= 0"),
        (["a", "b"], {"weights": [0, 0]}, UsageError, "expected weights >= 0, finite and not all 0"),
        (["a", "b"], {"by": "attribut"}, UsageError, '--by "attribut"; did you mean "attribute"?'),
        ([], {}, UsageError, "expected at least one submission"),
        (["a", "b"], {"template": "other"}, DataError, "1 of its 2 ids have no prediction"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_refused_and_nothing_written(
    tmp_path: Path, files: list[str], options: dict[str, object], error: type[EnsembleKitError], message: str
) -> None:
    written(tmp_path / "a.csv", {"x": 1, "y": 2})
    written(tmp_path / "b.csv", {"y": 2, "x": 1})
    written(tmp_path / "other.csv", {"x": 1, "z": 2})
    written(tmp_path / "fewer.csv", {"x": 1})
    (tmp_path / "link.csv").symlink_to(tmp_path / "a.csv")
    if "template" in options:
        options = {**options, "template": tmp_path / f"{options['template']}.csv"}
    with pytest.raises(error) as caught:
        vote_files([tmp_path / f"{name}.csv" for name in files], tmp_path / "out.csv", SCHEMA, **options)  # type: ignore[arg-type]
    assert message in str(caught.value)
    assert not (tmp_path / "out.csv").exists()


@pytest.mark.parametrize("out", ["a.csv", "link.csv", "info.csv", "../{}/b.csv"])
def test_an_input_is_never_overwritten(tmp_path: Path, out: str) -> None:
    for name in ("a", "b", "info"):
        written(tmp_path / f"{name}.csv", {"x": 1, "y": 2})
    (tmp_path / "link.csv").symlink_to(tmp_path / "a.csv")
    files = [tmp_path / "a.csv", tmp_path / "b.csv"]
    with pytest.raises(UsageError, match="is one of those read and would be lost"):
        vote_files(files, tmp_path / out.format(tmp_path.name), SCHEMA, template=tmp_path / "info.csv")
    assert read_submission(tmp_path / "a.csv", SCHEMA)[1].tolist() == [1, 2]
    with pytest.raises(DataError, match="found a folder"):
        vote_files(files, tmp_path, SCHEMA)
