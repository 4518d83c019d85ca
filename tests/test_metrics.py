from __future__ import annotations

import re
import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import ensemble_kit.metrics
from ensemble_kit.errors import DataError, EnsembleKitError, UsageError
from ensemble_kit.metrics import METRICS, Drawn, People, Tally, View, accuracy, confusion, macro_f1, person_bootstrap
from ensemble_kit.schema import Attribute, Schema

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


def drawn_again(groups: list[int], *, n_boot: int, seed: int) -> list[list[int]]:
    """The photos of each draw, written down as often as their person is drawn; people in the order of their names."""
    people = sorted({str(group) for group in groups})
    counts = np.random.default_rng(seed).multinomial(len(people), [1 / len(people)] * len(people), size=n_boot)
    rows = {name: [i for i, group in enumerate(groups) if str(group) == name] for name in people}
    return [[i for name, n in zip(people, row, strict=True) for i in rows[name] * int(n)] for row in counts]


@settings(max_examples=25, deadline=None)
@given(
    photos=st.lists(st.tuples(st.integers(0, 11), st.integers(-1, 11), st.integers(0, 14)), min_size=1, max_size=40),
    block=st.sampled_from([1, 100, 2**21]),
    n_boot=st.integers(1, 9),
)
def test_every_draw_is_that_of_a_loop_in_every_view(
    photos: list[tuple[int, int, int]], block: int, n_boot: int
) -> None:
    """The same draws whatever the block, however many answers are scored on them; attributes are views of a joint."""
    truth, labels, groups = ([photo[i] for photo in photos] for i in range(3))
    schema = Schema(Attribute("a", list("xyz")), Attribute("b", list("pqrs")))
    views = [View.all(12), *(View(schema.paths[:, i], len(a.classes)) for i, a in enumerate(schema.attributes))]
    tallies = [Tally(truth, labels, views), Tally(truth, truth, views[:1])]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ensemble_kit.metrics, "BLOCK_NUMBERS", block)
        found, perfect = People(groups, n_boot, 8).scores(tallies)
    expected = np.empty((3, 2, n_boot))
    for draw, rows in enumerate(drawn_again(groups, n_boot=n_boot, seed=8)):
        true, given_ = np.array(truth)[rows], np.array(labels)[rows]
        parts = [(true, given_, 12)]
        parts += [(schema.decode(true)[name], schema.decode(given_)[name], n) for name, n in [("a", 3), ("b", 4)]]
        for view, part in enumerate(parts):
            expected[view, :, draw] = [accuracy(*part), macro_f1(*part)]
    assert found == pytest.approx(expected, abs=1e-12)
    assert perfect.shape == (1, 2, n_boot)
    assert (perfect[0, 0] == 1).all()


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 9), st.sampled_from([1, 7, 2**12, 2**30, 2**45]))
def test_packed_draws_add_up_to_the_last_photo(seed: int, n_draws: int, most: int) -> None:
    random = np.random.default_rng(seed)
    times = random.integers(0, most, size=(n_draws, 6), endpoint=True)
    cell = random.integers(0, 3, size=6)
    expected = [[sum(int(n) for n, c in zip(row, cell, strict=True) if c == k) for k in range(4)] for row in times]
    assert Drawn(times).add(cell, 4).tolist() == expected


def test_the_plain_score_is_a_draw_of_each_photo_once() -> None:
    truth, labels = [0, 1, 2, 2], [0, -1, 2, 1]
    found = Tally(truth, labels, [View.all(5)]).scores(Drawn.once(4))
    assert found.ravel().tolist() == [accuracy(truth, labels, 5), macro_f1(truth, labels, 5)]


def test_no_answer_at_all_is_scored_too() -> None:
    assert Tally([1, 1], [-1, -1], [View.all(3)]).scores(Drawn.once(2)).ravel().tolist() == [0, 0]


def test_memory_grows_with_photos_not_with_people_times_classes_or_draws() -> None:
    """A table of 30 000 people by 3 x 300 classes is 216 MB, one of 30 000 people by 100 draws 24 MB."""
    random = np.random.default_rng(0)
    truth, labels = random.integers(0, 300, size=(2, 30_000))
    groups = np.arange(30_000)
    tracemalloc.start()
    person_bootstrap(truth, labels, groups, 300, n_boot=100)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 90e6


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
    (
        lambda: person_bootstrap([0], [0], ["a"], 2, n_boot=0),
        DataError,
        "expected photos and at least one draw, found 1",
    ),
]


@pytest.mark.parametrize(("call", "error", "message"), BAD, ids=[message for *_, message in BAD])
def test_bad_input_is_refused_in_words(call: Any, error: type[EnsembleKitError], message: str) -> None:
    with pytest.raises(error, match=re.escape(message)):
        call()
