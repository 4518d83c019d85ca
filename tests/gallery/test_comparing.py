"""Two answers side by side, against loops over photos and names."""

from __future__ import annotations

import json
import re
from collections import Counter
from html import unescape
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import pytest
from core_oracles import face_schema, random_probs, sample_ids
from gallery_cases import draw_places

from ensemble_kit.errors import UsageError
from ensemble_kit.gallery import ComparisonFacts, comparison_board, write_comparison
from ensemble_kit.gallery.comparing import agreement_rows, change_rows, matrices
from ensemble_kit.gallery.comparing_text import comparison_sentences, short_names
from ensemble_kit.schema import Attribute, Schema
from ensemble_kit.submissions import compare_labels

SCHEMA = face_schema()


def compared(seed: int = 0, n_photos: int = 80, with_truth: bool = True, joints: bool = False, **options: Any) -> Any:
    random = np.random.default_rng(seed)
    a = random.integers(0, 18, n_photos)
    b = np.where(random.random(n_photos) < 0.6, a, random.integers(0, 18, n_photos))
    truth = np.where(random.random(n_photos) < 0.5, b, random.integers(0, 18, n_photos)) if with_truth else None
    ids = np.array(sample_ids(n_photos))
    report = compare_labels(ids, a, b, SCHEMA, truth=truth, names=("a.csv", "runs/b"), **options)
    both = tuple(random_probs(random, n_photos, 18) if joints else None for _ in "ab")
    return ComparisonFacts(report, both)  # type: ignore[arg-type]


def test_the_filters_are_those_of_a_loop_over_the_photos_that_differ() -> None:
    facts = compared()
    report, board = facts.report, comparison_board(facts)
    rows = [row for row in range(80) if report.a[row] != report.b[row]]
    assert board.ids.tolist() == [f"photo-{row}.jpg" for row in rows]
    classes = SCHEMA.class_rows()
    for place, row in enumerate(rows):
        a, b, true = classes[report.a[row]], classes[report.b[row]], classes[report.truth[row]]
        for column, name in enumerate(SCHEMA.names):
            for key, value in (("a", a), ("b", b), ("true", true)):
                facet = board.facet(f"{key}_{name}")
                assert facet.names[facet.values[place]] == value[column]

        def tags(key: str, place: int = place) -> set[str]:
            facet = board.facet(key)
            return {name for number, name in enumerate(facet.names) if facet.has(number)[place]}

        differ = [name for name, x, y in zip(SCHEMA.names, a, b, strict=True) if x != y]
        assert tags("changed") == set(differ) | ({f"only {differ[0]}"} if len(differ) == 1 else set())
        assert tags("change") == {f"{n}: {x} → {y}" for n, x, y in zip(SCHEMA.names, a, b, strict=True) if x != y}
        assert tags("right") == {"a" if a == true else "b" if b == true else "neither"}


def test_the_tables_count_photos_and_lead_to_them() -> None:
    facts = compared(seed=1)
    report, classes = facts.report, SCHEMA.class_rows()
    pairs = [(classes[x], classes[y]) for x, y in zip(report.a, report.b, strict=True)]
    for matrix in matrices(report):
        column = SCHEMA.names.index(matrix.title)
        counted = Counter((x[column], y[column]) for x, y in pairs)
        for old, cells in matrix.rows:
            for new, (cell, _) in zip(matrix.columns, cells, strict=True):
                text = str(cell)
                assert int(re.sub("<[^>]*>", "", text)) == counted[old, new]
                if "<a" in text:
                    link = unescape(re.findall('href="#([^"]*)"', text)[0])
                    chosen = dict(part.split("=") for part in link.split("&"))
                    assert {unquote(k): unquote(v) for k, v in chosen.items()} == {
                        f"a_{matrix.title}": old,
                        f"b_{matrix.title}": new,
                    }
                assert ("<a" in text) == (old != new and counted[old, new] > 0)
    whole = Counter((" / ".join(x), " / ".join(y)) for x, y in pairs if x != y)
    shown = [(int(re.sub("<[^>]*>", "", str(n))), x, y) for n, x, y in change_rows(report)]
    assert [n for n, _, _ in shown] == sorted(whole.values(), reverse=True)[: len(shown)]
    assert all(whole[x, y] == n for n, x, y in shown)
    _, rows = agreement_rows(report)
    assert [re.sub("<[^>]*>", "", str(row[1])) for row in rows] == [
        str(len(report.differing)),
        *(str(sum(x[c] != y[c] for x, y in pairs)) for c in range(3)),
    ]


def test_the_most_confident_differences_come_first_where_that_is_known() -> None:
    facts = compared(seed=2, joints=True)
    report = facts.report
    rows = report.differing.tolist()
    sure = [min(float(facts.joints[0][r, report.a[r]]), float(facts.joints[1][r, report.b[r]])) for r in rows]
    board = comparison_board(facts)
    assert board.orders[0].rows.tolist() == sorted(range(len(rows)), key=lambda i: -sure[i])
    assert [order.key for order in comparison_board(compared(seed=2)).orders] == ["row", "id"]
    assert board.spans[0].values == pytest.approx([float(facts.joints[0][r, report.a[r]]) for r in rows])
    column = SCHEMA.names.index("age")
    total = [
        sum(
            float(facts.joints[1][r, j])
            for j in range(18)
            if SCHEMA.paths[j, column] == SCHEMA.paths[report.b[r], column]
        )
        for r in rows
    ]
    found = board.lines[2].probs[2]
    assert found is not None
    assert found == pytest.approx(total, abs=1e-6)


def test_sentences_follow_the_numbers() -> None:
    ids = np.array(sample_ids(40))
    a = np.zeros(40, dtype=np.int64)
    same = compare_labels(ids, a, a, SCHEMA)
    assert comparison_sentences(same) == ["a and b give the same answer to all 40 photos."]
    b = np.where(np.arange(40) < 10, 1, 0)  # age alone, from <30 to 30-59
    better = compare_labels(ids, a, b, SCHEMA, truth=b)
    first, second, third = comparison_sentences(better)
    assert first == "a and b differ on 10 of 40 photos (25.0 %): in age on 10; they never differ in mask or gender."
    assert "a is right on 0, b on 10 and neither on 0: b is better on these photos (McNemar's test" in second
    assert third.startswith("b minus a, of all photos: accuracy +0.250")
    one_person = compare_labels(ids, a, b, SCHEMA, truth=b, groups=np.repeat(["p", "q"], [10, 30]))
    assert "neither is shown to be better (the interval over people" in comparison_sentences(one_person)[1]
    worse = compare_labels(ids, a, b, SCHEMA, truth=a)
    assert "a is better" in comparison_sentences(worse)[1]
    assert len(comparison_sentences(compare_labels(ids, a, b, SCHEMA))) == 1


def page_of(tmp_path: Path, facts: Any, places: Any, **options: Any) -> tuple[Any, str]:
    path = tmp_path / "page.html"
    return write_comparison(path, facts, places, **options), path.read_text("utf-8")


def test_the_page_holds_the_photos_that_differ_and_no_other(tmp_path: Path) -> None:
    facts = compared(n_photos=12)
    places = draw_places(tmp_path / "photos", 12, missing=int(compared(n_photos=12).report.differing[0]))
    report, text = page_of(tmp_path, facts, places)
    n = len(facts.report.differing)
    assert text.count("data:image/webp") == n - 1
    assert [problem for _, problem in report.problems] == ["expected a photo, found no such file"]
    assert json.dumps(report.to_json())
    report, text = page_of(tmp_path, facts, None, limit=2)
    assert "data:image" not in text
    assert report.n_shown == 2
    assert f"2 of {n} differing photos are in this page" in text
    with pytest.raises(UsageError, match="at least 1"):
        page_of(tmp_path, facts, None, limit=0)


def test_two_files_of_one_name_are_told_apart_in_the_title(tmp_path: Path) -> None:
    ids = np.array(sample_ids(3))
    names = ("runs/one/results/submission.csv", "runs/<two>/results/submission.csv")
    report = compare_labels(ids, [0, 1, 2], [0, 1, 3], SCHEMA, names=names)
    written, text = page_of(tmp_path, ComparisonFacts(report), None)
    assert "one and &lt;two&gt;" in text
    assert "submission.csv and" not in text
    assert short_names("/x/a.csv", "/x/b/a.csv") == ("/x/a.csv", "/x/b/a.csv")
    first, second, *rest = written.text().splitlines()
    assert first == f"page: {tmp_path / 'page.html'}" or len(first) <= 80
    assert all(len(line) <= 80 for line in (second, *rest))


def test_answers_that_are_alike_make_a_page_too(tmp_path: Path) -> None:
    ids, a = np.array(sample_ids(3)), np.zeros(3, dtype=np.int64)
    _, text = page_of(tmp_path, ComparisonFacts(compare_labels(ids, a, a, SCHEMA)), None)
    assert "the same answer to all 3 photos" in text


def test_names_cannot_leave_their_place(tmp_path: Path) -> None:
    evil = "</script><script>alert(1)</script>&\"'"
    schema = Schema(Attribute("kind", [evil, f"b{evil}"]), Attribute(f"x{evil}", ["c", "d"]))
    ids = np.array([f"{evil}{number}" for number in range(4)])
    report = compare_labels(ids, [0, 1, 2, 3], [3, 2, 1, 0], schema, truth=[0, 0, 0, 0], names=(evil, evil))
    _, text = page_of(tmp_path, ComparisonFacts(report), None)
    assert "<script>alert" not in text
    assert text.count("<script") == 2 + text.count('<script type="application/json"')
