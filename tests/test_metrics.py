from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ensemble_kit.errors import DataError, EnsembleKitError, UsageError
from ensemble_kit.metrics import METRICS, accuracy, confusion, macro_f1, person_bootstrap

N_CLASSES = 5
PAIRS = st.lists(st.tuples(st.integers(0, N_CLASSES - 1), st.integers(-1, N_CLASSES - 1)), max_size=40)


@settings(max_examples=100, deadline=None)
@given(PAIRS)
def test_confusion_counts_pairs(pairs: list[tuple[int, int]]) -> None:
    truth, labels = [t for t, _ in pairs], [given for _, given in pairs]
    table = confusion(truth, labels, N_CLASSES)
    assert table.shape == (N_CLASSES, N_CLASSES + 1)
    for t in range(N_CLASSES):
        for given_ in range(N_CLASSES):
            assert table[t, given_] == pairs.count((t, given_))
        assert table[t, N_CLASSES] == pairs.count((t, -1))


@settings(max_examples=60, deadline=None)
@given(PAIRS.filter(len))
def test_scores_are_scikit_learns(pairs: list[tuple[int, int]]) -> None:
    from sklearn.metrics import accuracy_score, f1_score

    truth, labels = [t for t, _ in pairs], [given for _, given in pairs]
    expected = f1_score(truth, labels, labels=range(N_CLASSES), average="macro", zero_division=0)
    assert macro_f1(truth, labels, N_CLASSES) == pytest.approx(expected, abs=1e-12)
    assert accuracy(truth, labels, N_CLASSES) == pytest.approx(accuracy_score(truth, labels), abs=1e-12)


def test_classes_that_never_occur_count_zero() -> None:
    assert macro_f1([0, 1], [0, 1], 4) == 0.5
    assert accuracy([0, 1], [0, 1], 4) == 1
    assert macro_f1([], [], 3) == accuracy([], [], 3) == 0


def test_abstaining_is_wrong() -> None:
    assert accuracy([0, 1], [0, -1], 2) == 0.5
    assert macro_f1([0, 1], [0, -1], 2) == 0.5


@pytest.mark.parametrize("metric", list(METRICS))
def test_bootstrap_draws_people_again(metric: str) -> None:
    """Against a loop that draws whole people and scores their photos."""
    random = np.random.default_rng(4)
    groups = np.repeat([f"p{i}" for i in range(30)], random.integers(1, 9, size=30))
    truth = random.integers(0, 4, size=len(groups))
    labels = np.where(random.random(len(groups)) < 0.7, truth, random.integers(-1, 4, size=len(groups)))
    score = {"accuracy": accuracy, "macro_f1": macro_f1}[metric]
    drawn = []
    for _ in range(1500):
        people = random.integers(0, 30, size=30)
        rows = np.concatenate([np.flatnonzero(groups == f"p{p}") for p in people])
        drawn.append(score(truth[rows], labels[rows], 4))
    low, high = person_bootstrap(truth, labels, groups, 4, metric, n_boot=4000, seed=1)
    assert (low, high) == pytest.approx(np.percentile(drawn, [2.5, 97.5]), abs=0.02)
    assert low < score(truth, labels, 4) < high


def test_abstaining_is_wrong_in_the_bootstrap_too() -> None:
    """Every person has one right photo and one abstained: F1 = 2 * 1 / (2 + 1), whoever is drawn."""
    people = np.repeat(np.arange(20), 2)
    interval = person_bootstrap(np.zeros(40, dtype=int), np.tile([0, -1], 20), people, 1)
    assert interval == pytest.approx((2 / 3, 2 / 3))


def test_bootstrap_over_photos_of_one_person_is_wider_than_over_photos() -> None:
    people = np.repeat(np.arange(40), 7)
    truth = people % 3
    labels = np.where(np.random.default_rng(0).random(40) < 0.6, np.arange(40) % 3, 0)[people]
    by_person = np.ptp(person_bootstrap(truth, labels, people, 3))
    by_photo = np.ptp(person_bootstrap(truth, labels, np.arange(len(people)), 3))
    assert by_person > 1.8 * by_photo


def test_bootstrap_is_seeded_and_does_not_depend_on_names_or_on_row_order() -> None:
    random = np.random.default_rng(0)
    truth, labels = random.integers(0, 3, size=60), random.integers(0, 3, size=60)
    people = np.array([f"{i:02}" for i in np.repeat(np.arange(20), 3)])
    first = person_bootstrap(truth, labels, people, 3, seed=5)
    assert first == person_bootstrap(truth, labels, people, 3, seed=5)
    assert first != person_bootstrap(truth, labels, people, 3, seed=6)
    order = random.permutation(60)
    assert first == person_bootstrap(truth[order], labels[order], people[order], 3, seed=5)
    assert first == person_bootstrap(truth, labels, np.char.add("x", people), 3, seed=5)


BAD: list[tuple[Any, type[EnsembleKitError], str]] = [
    (
        lambda: macro_f1([0, 1], [0], 2),
        DataError,
        "expected one label a photo, found (2,) true classes and (1,) labels",
    ),
    (lambda: macro_f1([0, 2], [0, 1], 2), DataError, "true classes must be 0 to 1, found 0 to 2"),
    (lambda: macro_f1([0, -1], [0, 1], 2), DataError, "found -1 to 0; leave unlabelled photos out"),
    (lambda: accuracy([0, 1], [0, 2], 2), DataError, "labels must be -1 to 1, found 0 to 2"),
    (lambda: confusion([0], [-2], 2), DataError, "labels must be -1 to 1"),
    (lambda: person_bootstrap([0], [0], ["a"], 2, "f1"), UsageError, 'unknown metric "f1" (known: accuracy, macro_f1)'),
    (lambda: person_bootstrap([0, 1], [0, 1], ["a"], 2), DataError, "expected a group for each of at least one photo"),
    (lambda: person_bootstrap([], [], [], 2), DataError, "expected a group for each of at least one photo, found 0"),
]


@pytest.mark.parametrize(("call", "error", "message"), BAD, ids=[message for *_, message in BAD])
def test_bad_input_is_refused_in_words(call: Any, error: type[EnsembleKitError], message: str) -> None:
    with pytest.raises(error, match=re.escape(message)):
        call()
