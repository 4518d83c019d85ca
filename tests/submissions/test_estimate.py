"""Estimated scores: bounds that always hold, exact cases, coverage in a small simulation, and what is refused."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from simulated_submissions import N_CLASSES, POPULATIONS, public_scores, vote_of

from ensemble_kit.errors import DataError, EnsembleKitError, UsageError
from ensemble_kit.submissions import estimate_accuracy
from ensemble_kit.submissions.max_entropy import truth_shares


def made(seed: int, n_known: int, population: str = "hard photos", n_samples: int = 600) -> tuple[Any, Any, Any]:
    labels, truth = POPULATIONS[population](np.random.default_rng(seed), n_samples, n_known + 1)
    return labels[-1], labels[:-1], (labels == truth).mean(axis=1)


@given(seed=st.integers(0, 10_000), n_known=st.integers(2, 5))
@settings(max_examples=15, deadline=None)
def test_it_stays_inside_what_is_possible(seed: int, n_known: int) -> None:
    target, known, right = made(seed, n_known)
    found = estimate_accuracy(target, known, right[:-1], N_CLASSES)
    differ = [sum(a != b for a, b in zip(target, own, strict=True)) / len(target) for own in known]
    lowest = max(score - d for score, d in zip(right[:-1], differ, strict=True))
    highest = min(score + d for score, d in zip(right[:-1], differ, strict=True))
    assert lowest - 1e-9 <= found.low <= found.value <= found.high <= highest + 1e-9
    assert found.possible[0] >= lowest - 1e-9
    assert found.possible[1] <= highest + 1e-9
    assert found.possible[0] - 1e-9 <= right[-1] <= found.possible[1] + 1e-9


@given(seed=st.integers(0, 10_000), shuffle=st.randoms(use_true_random=False))
@settings(max_examples=8, deadline=None)
def test_order_of_photos_known_ones_and_class_numbers_change_nothing(seed: int, shuffle: Any) -> None:
    target, known, right = made(seed, 4)
    order, photos, names = list(range(4)), list(range(len(target))), list(range(N_CLASSES))
    for values in (order, photos, names):
        shuffle.shuffle(values)
    first = estimate_accuracy(target, known, right[:-1], N_CLASSES)
    renamed = np.array(names)
    again = estimate_accuracy(renamed[target[photos]], renamed[known[order][:, photos]], right[:-1][order], N_CLASSES)
    assert [again.low, again.value, again.high] == pytest.approx([first.low, first.value, first.high], abs=1e-9)


def test_a_copy_of_a_known_one_has_its_score() -> None:
    _, known, right = made(3, 3)
    found = estimate_accuracy(known[1], known, right[:-1], N_CLASSES)
    assert [found.low, found.value, found.high] == pytest.approx([right[1]] * 3, abs=1e-6)
    assert found.own_answers == 0


def test_a_better_target_is_estimated_better() -> None:
    """Truth mixed into a target: the estimate follows."""
    labels, truth = POPULATIONS["scored attributes"](np.random.default_rng(1), 4000, 6)
    scores = (labels[:5] == truth).mean(axis=1)
    mend = np.random.default_rng(2).random(4000)
    values = [
        estimate_accuracy(np.where(mend < share, truth, labels[5]), labels[:5], scores, N_CLASSES).value
        for share in (0.0, 0.3, 0.6)
    ]
    assert values == sorted(values)
    assert values[2] > values[0] + 0.05


@pytest.mark.parametrize("case", ["new", "vote"])
def test_the_interval_covers_in_a_small_simulation(case: str) -> None:
    random = np.random.default_rng(5)
    inside, widths = [], []
    for number in range(20):
        population = list(POPULATIONS.values())[number % 2]
        labels, truth = population(random, 1000, int(random.integers(4, 9)))
        if case == "vote":
            labels[-1] = vote_of(labels[:-1])
        scored_on = None if number % 3 else 400
        scores = public_scores(random, labels[:-1] == truth, scored_on)
        found = estimate_accuracy(labels[-1], labels[:-1], scores, N_CLASSES, scored_on=scored_on)
        inside.append(found.low <= (labels[-1] == truth).mean() <= found.high)
        widths.append(found.high - found.low)
    assert np.mean(inside) >= 0.7  # 90 % nominal; fewer than 14 of 20 has a probability below 1 %
    assert np.mean(widths) < 0.25


def test_the_likeness_is_the_cosine_between_error_vectors() -> None:
    labels, truth = POPULATIONS["hard photos"](np.random.default_rng(3), 400, 4)
    one_hot = np.eye(N_CLASSES)
    errors = [(one_hot[own] - one_hot[truth]).ravel() for own in labels[:3]]
    cosines = [a @ b / np.sqrt((a @ a) * (b @ b)) for i, a in enumerate(errors) for b in errors[:i]]
    found = estimate_accuracy(labels[3], labels[:3], (labels[:3] == truth).mean(axis=1), N_CLASSES)
    assert found.likeness == pytest.approx(np.mean(cosines))


def test_it_is_nearer_than_the_mean_of_the_known_scores() -> None:
    """Targets of widely different scores: agreement tells which is which."""
    random = np.random.default_rng(6)
    gaps = []
    for _ in range(12):
        labels, truth = POPULATIONS["scored attributes"](random, 1500, 6)
        worse = np.where(random.random(1500) < random.uniform(0, 0.4), random.integers(N_CLASSES, size=1500), labels[5])
        scores, true = (labels[:5] == truth).mean(axis=1), (worse == truth).mean()
        found = estimate_accuracy(worse, labels[:5], scores, N_CLASSES)
        gaps.append((abs(found.value - true), abs(scores.mean() - true)))
    assert np.mean([own for own, _ in gaps]) < np.mean([mean for _, mean in gaps]) / 2


def test_scores_of_a_part_give_a_wider_interval() -> None:
    target, known, right = made(8, 4, n_samples=4000)
    exact = estimate_accuracy(target, known, right[:-1], N_CLASSES)
    part = estimate_accuracy(target, known, right[:-1], N_CLASSES, scored_on=400)
    assert part.high - part.low > exact.high - exact.low
    whole = estimate_accuracy(target, known, right[:-1], N_CLASSES, scored_on=4000)
    assert whole == exact


def test_the_most_even_truth_against_a_loop_over_weights() -> None:
    """Two submissions: on a grid of weights, the pair that meets the scores is the one found."""
    labels, scores = np.array([[0, 1, 2, 0, 1, 2], [0, 1, 2, 1, 0, 2]]), np.array([0.7, 0.6])
    probs, met = truth_shares(labels, scores, 3)
    assert met
    assert probs.sum(axis=1) == pytest.approx(np.ones(6))
    assert [probs[range(6), own].mean() for own in labels] == pytest.approx(scores.tolist())
    best, gap = None, np.inf
    for one, two in product(np.linspace(0, 2, 41), repeat=2):
        rows = []
        for a, b in labels.T:
            powers = [np.exp(one * (a == c) + two * (b == c)) for c in range(3)]
            rows.append([power / sum(powers) for power in powers])
        reached = np.array([[row[own[i]] for i, row in enumerate(rows)] for own in labels]).mean(axis=1)
        if np.abs(reached - scores).max() < gap:
            best, gap = rows, np.abs(reached - scores).max()
    assert probs == pytest.approx(np.array(best), abs=0.04)


LABELS = np.arange(300) % 18


@pytest.mark.parametrize(
    ("known", "scores", "options", "error", "message"),
    [
        ([LABELS], [0.7], {}, UsageError, "expected at least 2 submissions of known score, found 1"),
        ([LABELS, LABELS], [0.7], {}, UsageError, "found (300,), (2, 300) and (1,)"),
        ([LABELS, LABELS], [70.0, 70.0], {}, UsageError, "above 0 and below 1, found 70; write 78.4 % as 0.784"),
        ([LABELS, LABELS], [0.7, float("nan")], {}, UsageError, "above 0 and below 1, found nan"),
        ([LABELS, LABELS], [0.7, 0.0], {}, UsageError, "above 0 and below 1, found 0"),
        ([LABELS, LABELS], [0.7, 0.8], {}, DataError, "known submissions 1 and 2 score 0.7 and 0.8 but differ on 0.0000"),
        ([LABELS, (LABELS + 1) % 18], [0.7, 0.7], {}, DataError, "yet differ on 1.0000 of the photos, so one of them must"),
        ([LABELS, LABELS], [0.7, 0.7], {"scored_on": 301}, UsageError, "measured on 2 to 300 of these photos, found 301"),
        ([LABELS, LABELS + 1], [0.7, 0.7], {}, DataError, "labels of the known must be 0 to 17, found 0 to 18"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused(
    known: Any, scores: list[float], options: dict[str, int], error: type[EnsembleKitError], message: str
) -> None:
    with pytest.raises(error) as caught:
        estimate_accuracy(LABELS, known, scores, 18, **options)
    assert message in str(caught.value)


def test_too_few_photos_are_refused() -> None:
    with pytest.raises(DataError, match="expected at least 200 photos, found 150"):
        estimate_accuracy(LABELS[:150], [LABELS[:150]] * 2, [0.7, 0.7], 18)
