"""EM against loops, and the correction of a shift that is known: row by row, stored and read back."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from shift_cases import SHIFTS, TRAINING_AGES, World

from ensemble_kit.arrays import FloatArray
from ensemble_kit.errors import DataError, UsageError
from ensemble_kit.shift import PriorShift, class_prior, em_prior, log_likelihood

NAMES = ["<30", "30-59", ">=60"]


def shares(n_classes: int) -> st.SearchStrategy[FloatArray]:
    return st.lists(st.floats(0.01, 1), min_size=n_classes, max_size=n_classes).map(lambda v: np.array(v) / sum(v))


@st.composite
def tables(draw: st.DrawFn) -> tuple[FloatArray, FloatArray]:
    """Probabilities `(n_samples, n_classes)` and a prior `(n_classes,)`."""
    n_classes = draw(st.integers(2, 9))
    rows = draw(st.lists(shares(n_classes), min_size=1, max_size=12))
    return np.array(rows), draw(shares(n_classes))


def em_by_loops(probs: FloatArray, old: FloatArray, n_steps: int) -> list[float]:
    prior = [float(share) for share in old]
    for _ in range(n_steps):
        total = [0.0] * len(prior)
        for row in probs:
            raised = [float(p) * new / float(was) for p, new, was in zip(row, prior, old, strict=True)]
            for number, value in enumerate(raised):
                total[number] += value / sum(raised)
        prior = [value / len(probs) for value in total]
    return prior


@settings(max_examples=50, deadline=None)
@given(tables(), st.integers(0, 8))
def test_em_is_the_loops(table: tuple[FloatArray, FloatArray], n_steps: int) -> None:
    probs, old = table
    found = em_prior(probs, old, tolerance=-1, max_steps=n_steps)
    assert found == pytest.approx(em_by_loops(probs, old, n_steps), abs=1e-12)


@settings(max_examples=50, deadline=None)
@given(tables())
def test_em_climbs(table: tuple[FloatArray, FloatArray]) -> None:
    """The likelihood, by logs one photo at a time, never falls from one step to the next."""
    probs, old = table
    priors = [em_prior(probs, old, tolerance=-1, max_steps=steps) for steps in range(8)]
    likelihoods = [np.mean([math.log(sum(row / old * prior)) for row in probs]) for prior in priors]
    assert all(after >= before - 1e-12 for before, after in pairwise(likelihoods))
    assert log_likelihood(probs, old, priors[-1]) == pytest.approx(likelihoods[-1])


def test_em_finds_the_prior_of_exact_posteriors() -> None:
    """Every photo of a world of three values, as often as the new prior says: no chance is left."""
    likelihood = np.array([[0.7, 0.2, 0.1], [0.2, 0.6, 0.2], [0.1, 0.3, 0.6]])  # classes x values
    old, new = np.array([0.5, 0.3, 0.2]), np.array([0.2, 0.3, 0.5])
    posterior = (old[:, None] * likelihood / (old @ likelihood)).T
    times = np.rint(new @ likelihood * 10_000).astype(int)
    assert em_prior(np.repeat(posterior, times, axis=0), old, tolerance=1e-13) == pytest.approx(new, abs=1e-4)


def test_em_finds_the_prior_of_a_calibrated_classifier() -> None:
    random = np.random.default_rng(3)
    probs, _, _ = World(("age",), sharpness=1.0).photos(random, 20_000, (0.3, 0.3, 0.4))
    assert em_prior(probs, np.array(TRAINING_AGES)) == pytest.approx([0.3, 0.3, 0.4], abs=0.01)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(-1, 3), st.integers(0, 4)), min_size=1, max_size=30))
def test_class_prior_is_the_loops(photos: list[tuple[int, int]]) -> None:
    truth, groups = [t for t, _ in photos], [str(g) for _, g in photos]
    known = [(t, g) for t, g in photos if t >= 0]
    if not known:
        with pytest.raises(DataError, match="found none"):
            class_prior(truth, 4)
        return
    counts = [float(sum(t == number for t, _ in known)) or 0.5 for number in range(4)]
    assert class_prior(truth, 4) == pytest.approx([count / sum(counts) for count in counts])
    by_person = [0.0] * 4
    for person in {g for _, g in known}:
        own = [t for t, g in known if g == person]
        for t in own:
            by_person[t] += 1 / len(own)
    by_person = [count or 0.5 for count in by_person]
    assert class_prior(truth, 4, groups) == pytest.approx([count / sum(by_person) for count in by_person])


@settings(max_examples=80, deadline=None)
@given(tables(), st.data())
def test_a_row_alone_has_the_same_bits(table: tuple[FloatArray, FloatArray], data: st.DataObject) -> None:
    probs, old = table
    n_classes = len(old)
    new = data.draw(shares(n_classes))
    dtype = data.draw(st.sampled_from([np.float32, np.float64]))
    shift = PriorShift.known([str(number) for number in range(n_classes)], old, new)
    values = np.concatenate([probs, np.zeros((1, n_classes)), np.full((1, n_classes), np.nan)]).astype(dtype)
    whole = shift(values)
    order = data.draw(st.permutations(range(len(values))))
    assert np.array_equal(shift(values[order]), whole[order], equal_nan=True)
    assert np.array_equal(shift(np.asfortranarray(values)), whole, equal_nan=True)
    for number, row in enumerate(values):
        assert np.array_equal(shift(row[None])[0], whole[number], equal_nan=True)
        if number < len(probs):
            raised = [float(p) * b / a for p, a, b in zip(row, old, new, strict=True)]
            assert whole[number] == pytest.approx([value / sum(raised) for value in raised], abs=1e-6)
    assert whole.dtype == dtype
    assert not whole[-2].any()
    assert np.isnan(whole[-1]).all()


def test_bad_input_of_a_stored_shift() -> None:
    shift = PriorShift.known(NAMES, TRAINING_AGES, SHIFTS["large"])
    for probs, kind in ((np.full((2, 2), 0.5), UsageError), (np.ones(3), UsageError), (np.ones((1, 3)), DataError)):
        with pytest.raises(kind):
            shift(probs)
    with pytest.raises(DataError, match="sum to 1"):
        PriorShift.known(NAMES, TRAINING_AGES, [0.5, 0.5, 0.5])
    with pytest.raises(DataError, match="each of 3 classes"):
        PriorShift.known(NAMES, [0.5, 0.5], [0.5, 0.5])


@pytest.mark.parametrize(
    "change",
    [
        {"format": "other"},
        {"version": 2},
        {"prior": [0.5, 0.5]},
        {"prior": [0.5, 0.5, None]},
        {"prior": ["a", "b", "c"]},
        {"prior": [1.5, -0.4, -0.1]},
        {"applied": "yes"},
        {"gains": []},
        {"gains": {"accuracy": [1]}},
        {"p_value": "0.1"},
        {"names": 3},
    ],
)
def test_what_is_no_stored_shift(change: dict[str, Any]) -> None:
    good = PriorShift.known(NAMES, TRAINING_AGES, SHIFTS["large"]).to_json()
    assert PriorShift.from_json(good).to_json() == good
    with pytest.raises(DataError):
        PriorShift.from_json(good | change)
    for name in good:
        with pytest.raises(DataError):
            PriorShift.from_json({key: value for key, value in good.items() if key != name})
    with pytest.raises(DataError):
        PriorShift.from_json([1])
