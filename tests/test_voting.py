from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from core_oracles import random_probs
from hypothesis import given, settings
from hypothesis import strategies as st

from ensemble_kit.arrays import FloatArray
from ensemble_kit.errors import DataError, EnsembleKitError, UsageError
from ensemble_kit.voting import FIXED_VOTES, VOTES, Vote, ask_vote, find_vote, vote_hard, vote_soft

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
    np.testing.assert_allclose(vote(probs[order], weights[order]), result, rtol=0, atol=1e-15)
    np.testing.assert_allclose(vote(np.repeat(probs, 3, axis=0), np.repeat(weights, 3)), result, rtol=0, atol=1e-15)


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
    np.testing.assert_allclose(vote(repeated, np.ones(len(repeated))), result, rtol=0, atol=1e-15)


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
