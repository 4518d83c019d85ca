from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Callable
from itertools import permutations
from typing import Any

import numpy as np
import pytest
from core_oracles import random_probs
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.ensemble import VotingClassifier

from ensemble_kit.arrays import FloatArray
from ensemble_kit.errors import DataError, EnsembleKitError, UsageError
from ensemble_kit.voting import (
    FIXED_VOTES,
    VOTES,
    Vote,
    ask_vote,
    find_vote,
    hard_vote,
    rules,
    vote_geometric,
    vote_hard,
    vote_labels,
    vote_median,
    vote_rank,
    vote_soft,
    vote_weighted,
)

SEEDS = st.integers(0, 2**32 - 1)
EVERY = pytest.mark.parametrize("vote", [VOTES[name] for name in FIXED_VOTES], ids=FIXED_VOTES)


def panel(seed: int) -> tuple[FloatArray, FloatArray]:
    """Some voters' float32 probabilities and their weights; a row of zeros (abstained) here and there."""
    random = np.random.default_rng(seed)
    shape = random.integers(1, [8, 12, 9])
    probs = random_probs(random, *shape).astype(np.float32)
    probs[1:][random.random(shape[:2])[1:] < 0.1] = 0
    return probs, random.integers(1, 5, size=shape[0]) / 2


@EVERY
@settings(max_examples=40, deadline=None)
@given(seed=SEEDS)
def test_every_vote_keeps_the_contract(vote: Vote, seed: int) -> None:
    probs, weights = panel(seed)
    before = probs.copy()
    result = ask_vote(vote, probs, weights)
    assert np.array_equal(probs, before)
    assert result.dtype == np.float64
    assert result.shape == probs.shape[1:]
    assert (result >= 0).all()
    np.testing.assert_allclose(result.sum(axis=1), 1, atol=1e-6)
    for row in range(probs.shape[1]):
        assert np.array_equal(vote(probs[:, row : row + 1], weights)[0], result[row])


@EVERY
@settings(max_examples=40, deadline=None)
@given(seed=SEEDS)
def test_order_and_duplicates_of_voters_change_nothing(vote: Vote, seed: int) -> None:
    probs, weights = panel(seed)
    result = vote(probs, weights)
    order = np.random.default_rng(seed).permutation(len(probs))
    for again in (
        vote(probs[order], weights[order]),
        vote(np.repeat(probs, 3, axis=0), np.repeat(weights, 3)),
        vote(probs, weights * 0.3),
    ):
        np.testing.assert_allclose(again, result, rtol=0, atol=1e-12)
        assert np.array_equal(again.argmax(axis=1), result.argmax(axis=1))


@EVERY
@settings(max_examples=40, deadline=None)
@given(seed=SEEDS)
def test_nor_do_they_decide_ties_of_decimal_numbers(vote: Vote, seed: int) -> None:
    """0.1 + 0.2 + 0.3 is not 0.3 + 0.2 + 0.1 in floating point: with tenths a third of the rows tie."""
    random = np.random.default_rng(seed)
    n_voters, n_classes = int(random.integers(2, 8)), int(random.integers(2, 5))
    probs = random.multinomial(10, np.full(n_classes, 1 / n_classes), size=(n_voters, 40)) / 10
    weights = random.integers(1, 4, size=n_voters) / 10
    result = vote(probs, weights)
    np.testing.assert_allclose(result.sum(axis=1), 1, rtol=0, atol=1e-12)
    order = random.permutation(n_voters)
    for again in (
        vote(probs[order], weights[order]),
        vote(np.repeat(probs, 7, axis=0), np.repeat(weights, 7)),
        vote(np.tile(probs[order], (3, 1, 1)), np.tile(weights[order], 3)),
    ):
        np.testing.assert_allclose(again, result, rtol=0, atol=1e-12)
        assert np.array_equal(again.argmax(axis=1), result.argmax(axis=1))


@EVERY
@settings(max_examples=40, deadline=None)
@given(seed=SEEDS)
def test_weight_zero_is_absent_and_a_whole_weight_is_that_many_voters(vote: Vote, seed: int) -> None:
    probs, weights = panel(seed)
    result = vote(probs, weights)
    stranger = np.full((1, *probs.shape[1:]), np.nan, dtype=np.float32)
    assert np.array_equal(vote(np.concatenate([stranger, probs]), np.concatenate([[0.0], weights])), result)
    whole = (weights * 2).astype(np.int64)
    repeated = np.repeat(probs, whole, axis=0)
    np.testing.assert_allclose(vote(repeated, np.ones(len(repeated))), result, rtol=0, atol=1e-12)


@settings(max_examples=40, deadline=None)
@given(SEEDS)
def test_soft_is_the_weighted_mean_of_those_who_speak(seed: int) -> None:
    probs, weights = panel(seed)
    result = vote_soft(probs, weights)
    for row in range(probs.shape[1]):
        speaking = [v for v in range(len(probs)) if probs[v, row].any()]
        total = sum(weights[v] for v in speaking)
        expected = [sum(weights[v] * float(probs[v, row, c]) for v in speaking) / total for c in range(probs.shape[2])]
        np.testing.assert_allclose(result[row], expected, rtol=0, atol=1e-15)


@settings(max_examples=200, deadline=None)
@given(SEEDS)
def test_hard_orders_by_count_then_mean_then_index(seed: int) -> None:
    random = np.random.default_rng(seed)
    n_voters, n_classes = int(random.integers(1, 7)), int(random.integers(2, 6))
    steps = random.multinomial(8, np.full(n_classes, 1 / n_classes), size=(n_voters, 10))
    probs = (steps / 8).astype(np.float32)  # eighths: ties in plenty, sums exact
    result = vote_hard(probs, np.ones(n_voters))
    for row in range(10):
        votes = [max(range(n_classes), key=lambda c, v=v: (probs[v, row, c], -c)) for v in range(n_voters)]  # type: ignore[misc]
        mean = [sum(float(probs[v, row, c]) for v in range(n_voters)) for c in range(n_classes)]
        expected = max(range(n_classes), key=lambda c: (votes.count(c), mean[c], -c))
        assert result[row].argmax() == expected


def rows_that_speak(probs: FloatArray, weights: FloatArray, row: int) -> list[tuple[list[float], float]]:
    """One row of each voter that has not abstained, with its weight."""
    return [(probs[v, row].tolist(), weights[v]) for v in range(len(probs)) if probs[v, row].any()]


@settings(max_examples=60, deadline=None)
@given(SEEDS)
def test_geometric_is_the_product_of_powers_and_zero_a_veto(seed: int) -> None:
    probs, weights = panel(seed)
    result = vote_geometric(probs, weights)
    for row in range(probs.shape[1]):
        speaking = rows_that_speak(probs, weights, row)
        total = sum(weight for _, weight in speaking)
        product = [math.prod(own[c] ** (weight / total) for own, weight in speaking) for c in range(probs.shape[2])]
        if sum(product) == 0:
            expected = vote_soft(probs[:, row : row + 1], weights)[0].tolist()
        else:
            expected = [value / sum(product) for value in product]
            assert all((e == 0) == any(own[c] == 0 for own, _ in speaking) for c, e in enumerate(result[row]))
        np.testing.assert_allclose(result[row], expected, rtol=0, atol=1e-12)


def test_many_small_probabilities_do_not_underflow() -> None:
    one = np.array([[1e-3, 2e-3, 1 - 3e-3]])
    probs = np.concatenate([np.repeat(one[None], 2000, axis=0), np.repeat(one[:, [1, 2, 0]][None], 2000, axis=0)])
    # the third class has product 1e-6 * 0.997 of powers 2000; the first 2e-6, the second 0.997 * 2e-3: highest
    result = vote_geometric(probs, np.ones(4000))
    expected = np.sqrt(one * one[:, [1, 2, 0]])
    np.testing.assert_allclose(result, expected / expected.sum(), rtol=1e-9)
    assert ask_vote(vote_geometric, np.full((60, 1, 1000), 1e-3), np.ones(60)).tolist() == [[1e-3] * 1000]


@settings(max_examples=60, deadline=None)
@given(SEEDS)
def test_median_is_the_middle_of_the_voters_written_out(seed: int) -> None:
    probs, weights = panel(seed)
    result = vote_median(probs, weights)
    for row in range(probs.shape[1]):
        speaking = rows_that_speak(probs, weights, row)
        copies = [own for own, weight in speaking for _ in range(int(weight * 2))]  # weights are halves
        middle = [statistics.median(own[c] for own in copies) for c in range(probs.shape[2])]
        total = sum(middle)
        expected = [m / total for m in middle] if total else vote_soft(probs[:, row : row + 1], weights)[0].tolist()
        np.testing.assert_allclose(result[row], expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("vote", [vote_geometric, vote_median])
def test_where_nothing_is_left_the_soft_vote_answers(vote: Vote) -> None:
    sure = np.eye(3)[:, None]  # three voters, sure of three classes: each is vetoed twice, and each median is 0
    silent, open_row = np.zeros((3, 1, 3)), np.full((3, 1, 3), 1 / 3)
    result = vote(np.concatenate([open_row, sure, silent], axis=1), np.array([2.0, 2.0, 1.0]))
    expected = np.array([[1 / 3, 1 / 3, 1 / 3], [0.4, 0.4, 0.2], [0, 0, 0]])
    np.testing.assert_allclose(result, expected, rtol=0, atol=1e-15)


def test_half_of_the_weight_is_half_however_it_rounds() -> None:
    probs = np.array([[[1.0, 0.0]], [[1.0, 0.0]], [[0.0, 1.0]]])
    assert vote_median(probs, np.array([0.1, 0.2, 0.3])).tolist() == [[0.5, 0.5]]
    assert vote_median(probs, np.array([0.1, 0.2, 0.4])).tolist() == [[0.0, 1.0]]


@settings(max_examples=60, deadline=None)
@given(SEEDS)
def test_rank_counts_the_classes_below(seed: int) -> None:
    probs, weights = panel(seed)
    probs = np.round(probs, 1)  # ties
    probs[..., 0] += 0.05 * (probs.sum(axis=2) == 0)
    result = vote_rank(probs, weights)
    n_classes = probs.shape[2]
    for row in range(probs.shape[1]):
        points = [0.0] * n_classes
        for own, weight in rows_that_speak(probs, weights, row):
            for one, other in itertools.permutations(range(n_classes), 2):
                points[one] += weight * ((own[one] > own[other]) + (own[one] == own[other]) / 2)
        total = sum(points) if n_classes > 1 else 1
        expected = [p / total for p in points] if n_classes > 1 else [1.0]
        np.testing.assert_allclose(result[row], expected, rtol=0, atol=1e-12)


def test_weighted_is_soft_and_asks_for_weights() -> None:
    probs, weights = panel(5)
    assert np.array_equal(vote_weighted(probs, weights), vote_soft(probs, weights))
    assert find_vote("weighted") is vote_weighted
    with pytest.raises(UsageError, match=r'vote "weighted" needs a weight for each voter, found none; give weights'):
        find_vote("weighted", weights_given=False)
    assert find_vote("soft", weights_given=False) is vote_soft


def test_stacking_by_name_says_what_to_do() -> None:
    assert set(FIXED_VOTES) | {"stacking"} == set(VOTES)
    for ask in (lambda: find_vote("stacking"), lambda: VOTES["stacking"](np.ones((1, 1, 1)), np.ones(1))):
        with pytest.raises(UsageError, match=r"has to be fitted first: stacking = fit_stacking\("):
            ask()


@settings(max_examples=200, deadline=None)
@given(SEEDS)
def test_ties_fall_to_the_mean_then_to_training_counts_then_to_the_lowest(seed: int) -> None:
    random = np.random.default_rng(seed)
    n_voters, n_classes = int(random.integers(1, 7)), int(random.integers(2, 12))
    probs = (random.multinomial(4, np.full(n_classes, 1 / n_classes), size=(n_voters, 10)) / 4).astype(np.float32)
    counts = random.integers(0, 3, size=n_classes)
    weights = random.integers(1, 4, size=n_voters) / 10
    result = ask_vote(hard_vote(counts=counts), probs, weights)
    tenths = [round(w * 10) for w in weights]
    for row in range(10):
        votes = [max(range(n_classes), key=lambda c, v=v: (probs[v, row, c], -c)) for v in range(n_voters)]  # type: ignore[misc]
        number = [sum(t for t, vote in zip(tenths, votes, strict=True) if vote == c) for c in range(n_classes)]
        mean = [sum(t * round(4 * float(probs[v, row, c])) for v, t in enumerate(tenths)) for c in range(n_classes)]
        expected = max(range(n_classes), key=lambda c: (number[c], mean[c], counts[c], -c))
        assert result[row].argmax() == expected
        assert result[row].astype(np.float32).argmax() == expected  # what a user holds


def test_a_small_difference_of_the_means_survives_float32() -> None:
    probs = np.array([[[0.5001, 0.4999]], [[0.4999 - 2e-5, 0.5001 + 2e-5]]])
    assert vote_hard(probs, np.ones(2)).astype(np.float32).argmax(axis=1).tolist() == [1]


@pytest.mark.parametrize("counts", [[1, -1], [1, np.nan], [[1, 2]], ["a", "b"], 3])
def test_bad_training_counts(counts: Any) -> None:
    with pytest.raises(UsageError, match="training counts: expected a number >= 0 for each class"):
        hard_vote(counts=counts)


def test_training_counts_of_other_classes() -> None:
    with pytest.raises(UsageError, match="expected a training count for each of 3, found 2"):
        hard_vote(counts=[1, 2])(np.full((1, 1, 3), 1 / 3), np.ones(1))


class Prefit(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Answers with what it was given, whatever it is asked."""

    def __init__(self, probs: Any = None):
        self.probs = probs

    def fit(self, x: Any, y: Any) -> Prefit:
        self.classes_ = np.unique(y)
        return self

    def predict_proba(self, x: Any) -> Any:
        return self.probs

    def predict(self, x: Any) -> Any:
        return self.probs.argmax(axis=1)


@pytest.mark.parametrize("weights", [None, [2, 1, 1, 3, 0.5]])
def test_scikit_learns_voting_classifier_agrees(weights: list[float] | None) -> None:
    probs = random_probs(np.random.default_rng(1), 5, 2000, 4)
    own = np.ones(5) if weights is None else np.array(weights)
    features, truth = np.zeros((2000, 1)), np.arange(2000) % 4
    voters = [(str(v), Prefit(probs[v])) for v in range(5)]
    soft = VotingClassifier(voters, voting="soft", weights=weights).fit(features, truth)
    np.testing.assert_allclose(vote_soft(probs, own), soft.predict_proba(features), rtol=0, atol=1e-12)
    assert np.array_equal(vote_soft(probs, own).argmax(axis=1), soft.predict(features))
    hard = VotingClassifier(voters, voting="hard", weights=weights).fit(features, truth)
    labels = probs.argmax(axis=2)
    number = np.stack([(own[:, None] * (labels == c)).sum(axis=0) for c in range(4)], axis=1)
    clear = (number == number.max(axis=1, keepdims=True)).sum(axis=1) == 1
    assert 0 < clear.sum() < 2000
    assert np.array_equal(vote_hard(probs, own).argmax(axis=1)[clear], hard.predict(features)[clear])
    # its ties go to the lowest class, as here where nothing but labels is known
    assert np.array_equal(vote_labels(labels, 4, own).labels, hard.predict(features))


@EVERY
def test_blocks_of_rows_are_not_seen(vote: Vote, monkeypatch: pytest.MonkeyPatch) -> None:
    probs, weights = panel(4)
    expected = vote(probs, weights)
    monkeypatch.setattr(rules, "BLOCK_NUMBERS", 2 * probs.shape[2])
    assert probs.shape[1] > 2
    assert np.array_equal(vote(probs, weights), expected)


def test_one_voter_is_itself() -> None:
    probs, _ = panel(3)
    assert np.array_equal(vote_soft(probs[:1], np.ones(1)), probs[0].astype(np.float64))
    assert np.array_equal(vote_hard(probs[:1], np.ones(1)).argmax(axis=1), probs[0].argmax(axis=1))


@EVERY
def test_not_computed_stays_so_and_all_abstained_is_zero(vote: Vote) -> None:
    probs = np.array([[[0.5, 0.5], [np.nan, np.nan], [0.0, 0.0]], [[1.0, 0.0], [0.5, 0.5], [0.0, 0.0]]])
    result = ask_vote(vote, probs, np.ones(2))
    assert np.isnan(result[1]).all()
    assert result[2].tolist() == [0, 0]
    assert result[0].argmax() == 0


@EVERY
def test_no_rows_are_fine(vote: Vote) -> None:
    assert ask_vote(vote, np.zeros((3, 0, 2)), np.ones(3)).shape == (0, 2)


def test_the_table_holds_the_named_functions() -> None:
    assert VOTES["hard"] is find_vote("hard") is vote_hard
    assert VOTES["soft"] is find_vote("soft") is vote_soft
    with pytest.raises(UsageError, match=r'unknown vote "soff"; did you mean "soft"\? \(known: hard, soft, weighted, '):
        find_vote("soff")


def depends_on_the_batch(probs: FloatArray, weights: FloatArray) -> FloatArray:
    return np.asarray(probs[0] if probs.shape[1] > 1 else probs[0][:, ::-1])


BAD: list[tuple[Callable[[FloatArray, FloatArray], Any], list[float], type[EnsembleKitError], str]] = [
    (
        lambda probs, weights: probs,
        [1, 1],
        UsageError,
        "expected (n_samples, n_classes) = (2, 2), found float64 (2, 2, 2)",
    ),
    (lambda probs, weights: probs[0] > 0, [1, 1], UsageError, "found bool (2, 2)"),
    (lambda probs, weights: probs[0] + probs[1], [1, 1], DataError, "expected probabilities"),
    (depends_on_the_batch, [1, 1], UsageError, 'vote "depends_on_the_batch": row 0 alone differs'),
    (vote_soft, [0, 0], UsageError, "not all 0, found [0.0, 0.0]"),
    (vote_soft, [1, -1], UsageError, "expected weights >= 0"),
    (vote_soft, [1, np.inf], UsageError, "expected weights >= 0, finite"),
]


@pytest.mark.parametrize(("vote", "weights", "error", "message"), BAD, ids=[message for *_, message in BAD])
def test_bad_votes_and_weights_are_refused(
    vote: Vote, weights: list[float], error: type[EnsembleKitError], message: str
) -> None:
    probs = np.array([[[0.75, 0.25], [0.5, 0.5]], [[0.25, 0.75], [0.5, 0.5]]])
    with pytest.raises(error) as caught:
        ask_vote(vote, probs, np.array(weights, dtype=np.float64))
    assert message in str(caught.value)


def test_tiny_numbers_in_single_precision_do_not_let_the_order_decide() -> None:
    a, b, c = 0.62056082, 1.9e-12, 0.27053156
    rest = [(1 - x - y) / 4 for x, y in ((a, b), (b, c), (c, a))]
    probs = np.array([[[x, y, *[r] * 4]] for (x, y), r in zip(((a, b), (b, c), (c, a)), rest, strict=True)], np.float32)
    labels = {int(vote_soft(probs[list(order)], np.ones(3)).argmax(axis=1)[0]) for order in permutations(range(3))}
    assert len(labels) == 1


def test_weights_whose_sum_would_overflow_are_refused() -> None:
    with pytest.raises(UsageError, match=r"at most 1e\+09, found"):
        ask_vote(vote_soft, np.full((2, 1, 2), 0.5), np.array([1e308, 1e308]))


def test_a_vote_of_ones_own_may_write_into_what_it_is_given() -> None:
    def spoil(probs: FloatArray, weights: FloatArray) -> FloatArray:
        weights /= weights.sum()
        probs *= weights[:, None, None]
        return np.asarray(probs.cumsum(axis=0)[-1])

    probs, weights = random_probs(np.random.default_rng(0), 3, 5, 4), np.array([1.0, 2, 3])
    kept = probs.copy()
    np.testing.assert_allclose(ask_vote(spoil, probs, weights), vote_soft(kept, weights))
    assert np.array_equal(probs, kept)
    assert weights.tolist() == [1, 2, 3]


def test_a_vote_of_ones_own_may_answer_in_the_same_array_every_time() -> None:
    held = np.zeros((9, 4))

    def reuse(probs: FloatArray, weights: FloatArray) -> FloatArray:
        answer = held[: probs.shape[1]]
        answer[:] = vote_soft(probs, weights)
        return answer

    probs = random_probs(np.random.default_rng(0), 3, 9, 4)
    assert np.array_equal(ask_vote(reuse, probs, np.ones(3)), vote_soft(probs, np.ones(3)))


@EVERY
def test_no_voter(vote: Vote) -> None:
    with pytest.raises(UsageError, match="at least one voter"):
        vote(np.zeros((0, 5, 3)), np.zeros(0))
