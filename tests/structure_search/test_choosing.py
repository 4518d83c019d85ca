"""The rule: the simplest structure that no other is shown to beat."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from ensemble_kit.structure_search.choosing import choose_simplest

Floats = NDArray[np.float64]
N_PEOPLE, N_BOOT = 80, 300


def study(means: Floats, random: np.random.Generator, spread: float = 1.0) -> tuple[Floats, Floats]:
    """Mean scores over people with a part that all structures share, and those of resampled people."""
    own = random.normal(size=(len(means), N_PEOPLE)) * spread
    people = means[:, None] + own + random.normal(size=N_PEOPLE) * 3
    times = random.multinomial(N_PEOPLE, np.full(N_PEOPLE, 1 / N_PEOPLE), size=N_BOOT)
    return people.mean(axis=1), people @ times.T / N_PEOPLE


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 30), st.integers(0, 10**6))
def test_one_far_above_the_rest_is_chosen(n: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    means = np.zeros(n)
    best = int(random.integers(n))
    means[best] = 3
    found = choose_simplest(*study(means, random), N_PEOPLE)
    assert found.number == best
    assert found.beaten_by == (best,) * best


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 30), st.integers(0, 10**6))
def test_of_the_same_answers_the_first_is_chosen(n: int, seed: int) -> None:
    scores, draws = study(np.zeros(1), np.random.default_rng(seed))
    assert choose_simplest(np.repeat(scores, n), np.repeat(draws, n, axis=0), N_PEOPLE).number == 0


def test_equals_of_the_simplest_pass_it_over_in_one_case_of_twenty() -> None:
    """40 structures that are as good: the highest of them looks better than the first, and seldom is believed to be."""
    random = np.random.default_rng(0)
    passed_over = sum(choose_simplest(*study(np.zeros(40), random), N_PEOPLE).number > 0 for _ in range(120))
    assert passed_over <= 12  # 6 expected


def test_structures_far_below_cost_nothing() -> None:
    """A hundred hopeless ones leave the quantile that the second of two has to pass where it was."""
    random = np.random.default_rng(1)
    means = np.concatenate([[0.0, 0.45], np.full(100, -5.0)])
    scores, draws = study(means, random)
    whole, pair = choose_simplest(scores, draws, N_PEOPLE), choose_simplest(scores[:2], draws[:2], N_PEOPLE)
    assert whole.number == pair.number == 1


def test_a_lower_level_believes_more_readily() -> None:
    random = np.random.default_rng(2)
    studies = [study(np.concatenate([[0.0], np.full(5, 0.25)]), random) for _ in range(60)]
    at = {level: sum(choose_simplest(*s, N_PEOPLE, level).number > 0 for s in studies) for level in (0.6, 0.95)}
    assert at[0.6] > at[0.95]
