"""Comparisons against loops and scikit-learn, and their file of rows."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import cohen_kappa_score, f1_score

from ensemble_kit.errors import DataError
from ensemble_kit.schema import Attribute, Schema
from ensemble_kit.submissions import compare_labels, write_rows
from ensemble_kit.submissions.compare import mcnemar

SCHEMA = Schema(Attribute("mask", ["worn", "incorrect", "not_worn"]), Attribute("gender", ["male", "female"]))


def ids(n: int) -> Any:
    return np.array([f"{number:03}.jpg" for number in range(n)])


@given(rows=st.lists(st.tuples(*[st.integers(0, 5)] * 3), min_size=1, max_size=30))
@settings(max_examples=60, deadline=None)
def test_agreement_changes_and_verdicts_against_loops(rows: list[tuple[int, int, int]]) -> None:
    a, b, truth = (list(column) for column in zip(*rows, strict=True))
    report = compare_labels(ids(len(rows)), a, b, SCHEMA, truth=truth)
    views: dict[str, Callable[[int], int]] = {"joint": lambda x: x, "mask": lambda x: x // 2, "gender": lambda x: x % 2}
    assert list(report.agreements) == list(report.verdicts) == list(views)
    for name, view in views.items():
        found, verdict = report.agreements[name], report.verdicts[name]
        one, other, true = ([view(x) for x in column] for column in (a, b, truth))
        pairs = list(zip(one, other, true, strict=True))
        assert found.share == pytest.approx(sum(x == y for x, y, _ in pairs) / len(pairs))
        n = len(found.classes)
        assert found.changes == [[sum((x, y) == (i, j) for x, y, _ in pairs) for j in range(n)] for i in range(n)]
        if len(set(one) | set(other)) > 1:
            assert found.kappa == pytest.approx(cohen_kappa_score(one, other))
        else:
            assert found.kappa is None
        for number, row in enumerate(found.per_class()):
            either = [x == y == number for x, y, _ in pairs if number in (x, y)]
            assert row["agree"] == (pytest.approx(sum(either) / len(either)) if either else None)
        assert verdict.only_a == sum(x == t != y for x, y, t in pairs)
        assert verdict.only_b == sum(y == t != x for x, y, t in pairs)
        assert verdict.neither == sum(x != y and t not in (x, y) for x, y, t in pairs)
        gain = np.mean([y == t for _, y, t in pairs]) - np.mean([x == t for x, _, t in pairs])
        assert verdict.gains["accuracy"][0] == pytest.approx(gain)
        assert verdict.gains["accuracy"][1:] == (None, None)
        scores = [f1_score(true, own, labels=range(n), average="macro", zero_division=0) for own in (one, other)]
        assert verdict.gains["macro_f1"][0] == pytest.approx(scores[1] - scores[0])
    assert report.differing.tolist() == [row for row, (x, y, _) in enumerate(rows) if x != y]
    assert "rows that differ" in report.text() or not len(report.differing)


@given(only_a=st.integers(0, 40), only_b=st.integers(0, 40))
def test_mcnemar_is_the_exact_binomial(only_a: int, only_b: int) -> None:
    n = only_a + only_b
    tail = sum(Fraction(math.comb(n, i), 2**n) for i in range(min(only_a, only_b) + 1))
    assert mcnemar(only_a, only_b) == pytest.approx(float(min(Fraction(1), 2 * tail)))
    assert mcnemar(only_a, only_b) == mcnemar(only_b, only_a)


def test_mcnemar_of_many_photos_does_not_overflow() -> None:
    assert mcnemar(6000, 6600) == pytest.approx(9.5e-8, rel=0.1)  # the normal approximation gives 9.0e-8
    assert mcnemar(6300, 6300) == 1


def test_intervals_are_paired_over_people() -> None:
    """b mends just the photos of one person in ten, so photos are alike within people and the interval is wide."""
    groups = np.repeat(np.arange(50), 7)
    truth = np.zeros(350, dtype=np.int64)
    a = np.where(groups % 10 == 0, 1, 0)
    report = compare_labels(ids(350), a, truth, SCHEMA, truth=truth, groups=groups)
    gain, low, high = report.verdicts["joint"].gains["accuracy"]
    assert gain == pytest.approx(0.1)
    assert low is not None
    assert high is not None
    assert 0 <= low < 0.05
    assert 0.15 < high < 0.3
    assert "95 % over people" in report.text()
    alone = compare_labels(ids(350), a, truth, SCHEMA, truth=truth, groups=np.zeros(350, dtype=np.int64))
    assert alone.verdicts["joint"].gains["accuracy"] == pytest.approx((0.1, None, None))
    assert "over people" not in alone.text()


def test_the_rows_that_differ_are_written(tmp_path: Path) -> None:
    report = compare_labels(ids(3), [0, 1, 2], [0, 5, 3], SCHEMA, truth=[0, 1, 3])
    write_rows(tmp_path / "rows.csv", report)
    with open(tmp_path / "rows.csv", newline="", encoding="utf-8") as handle:
        assert list(csv.reader(handle)) == [
            ["ImageID", "a", "b", "a_class", "b_class", "ans", "ans_class"],
            ["001.jpg", "1", "5", "worn / female", "not_worn / female", "1", "worn / female"],
            ["002.jpg", "2", "3", "incorrect / male", "incorrect / female", "3", "incorrect / female"],
        ]


@pytest.mark.parametrize("long", [1, 30, 100])
def test_rows_that_differ_fit_a_terminal(long: int) -> None:
    """A photo and its two answers in one line where all fit, else below each other; nothing is lost."""
    schema = Schema(Attribute("kind", ["sold", " ".join(["very"] * (long // 5)) + " new", "lost"]))
    report = compare_labels(ids(3), [0, 1, 2], [1, 0, 2], schema, truth=[1, 1, 2])
    text = report.text().partition("rows that differ:\n")[2]
    old, new = "sold", schema["kind"].classes[1]
    assert max(map(len, text.splitlines())) <= 80
    flat = [" ".join(line.split()) for line in text.split("  0")[1:]]
    told = [f"00.jpg {old} -> {new} truth: {new}", f"01.jpg {new} -> {old} truth: {new}"]
    assert flat == [" ".join(line.split()) for line in told]
    assert (len(text.splitlines()) == 2) == (long == 1)


def test_what_is_no_comparison() -> None:
    with pytest.raises(DataError, match="expected a class for each of at least one photo"):
        compare_labels(ids(2), [0, 1], [0], SCHEMA)
    with pytest.raises(DataError, match="expected a class for each of at least one photo"):
        compare_labels(ids(0), [], [], SCHEMA)
    with pytest.raises(DataError, match="joint classes are 0 to 5, found"):
        compare_labels(ids(2), [0, 6], [0, 1], SCHEMA)
    with pytest.raises(DataError, match="joint classes are 0 to 5, found -1"):
        compare_labels(ids(2), [0, -1], [0, 1], SCHEMA)
