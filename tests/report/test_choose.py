"""The choice of photos: spread over the states, and no better than the whole."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ensemble_kit.errors import UsageError
from ensemble_kit.report.choose import choose_rows

ANSWERS = st.lists(st.tuples(st.integers(-1, 3), st.booleans()), min_size=1, max_size=80)


@given(answers=ANSWERS, per_state=st.integers(1, 8), seed=st.integers(0, 99))
@settings(max_examples=200, deadline=None)
def test_an_honest_spread(answers: list[tuple[int, bool]], per_state: int, seed: int) -> None:
    states, is_right = np.array([s for s, _ in answers]), np.array([r for _, r in answers])
    rows = choose_rows(states, is_right, per_state=per_state, seed=seed)
    assert len(set(rows.tolist())) == len(rows)
    assert (np.diff(states[rows]) >= 0).all()
    for state in range(4):
        assert (states[rows] == state).sum() == min(per_state, int((states == state).sum()))
    assert not (states[rows] < 0).any()
    if len(rows):
        share = float((~is_right[states >= 0]).mean())
        wrong = int((~is_right[rows]).sum())
        fewest = sum(max(0, (states[rows] == s).sum() - (is_right & (states == s)).sum()) for s in range(4))
        most = sum(min((states[rows] == s).sum(), (~is_right & (states == s)).sum()) for s in range(4))
        assert wrong == int(np.clip(round(share * len(rows)), fewest, most))


def test_the_states_with_more_errors_show_more_of_them() -> None:
    states = np.repeat([0, 1, 2], 100)
    is_right = np.ones(300, dtype=np.bool_)
    is_right[:50] = False  # half of state 0
    is_right[100:110] = False  # a tenth of state 1
    rows = choose_rows(states, is_right, per_state=10, seed=0)
    assert [int((~is_right[rows][states[rows] == state]).sum()) for state in range(3)] == [5, 1, 0]


def test_the_seed_chooses() -> None:
    states, is_right = np.repeat([0, 1], 50), np.arange(100) % 4 > 0
    one, again, other = (choose_rows(states, is_right, per_state=5, seed=seed) for seed in (1, 1, 2))
    assert one.tolist() == again.tolist()
    assert one.tolist() != other.tolist()


def test_right_and_wrong_answers_are_mixed() -> None:
    """Not the wrong ones first: a reader would take the first column for the rule."""
    states, is_right = np.zeros(400, dtype=np.int64), np.arange(400) % 2 > 0
    starts = [bool(is_right[choose_rows(states, is_right, per_state=6, seed=seed)[0]]) for seed in range(20)]
    assert 0 < sum(starts) < 20


@given(seed=st.integers(0, 99))
def test_new_people_come_first(seed: int) -> None:
    states = np.tile([0, 1, 2], 7).repeat(1)
    groups = np.arange(21) // 3  # seven people, each once in every state
    rows = choose_rows(states, np.ones(21, dtype=np.bool_), per_state=2, seed=seed, groups=groups.astype(str))
    assert len({groups[row] for row in rows}) == 6
    everyone = choose_rows(states, np.ones(21, dtype=np.bool_), per_state=7, seed=seed, groups=groups.astype(str))
    assert len(everyone) == 21


@pytest.mark.parametrize(("states", "per_state"), [(np.zeros(3, dtype=np.int64), 2), (np.zeros(2, dtype=np.int64), 0)])
def test_bad_calls(states: np.ndarray[tuple[int], np.dtype[np.int64]], per_state: int) -> None:
    with pytest.raises(UsageError, match="choose_rows"):
        choose_rows(states, np.ones(2, dtype=np.bool_), per_state=per_state, seed=0)
