from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from core_oracles import random_probs, route_two
from hypothesis import given, settings
from hypothesis import strategies as st

from ensemble_kit.arrays import FloatArray
from ensemble_kit.errors import UsageError
from ensemble_kit.routing import ROUTERS, Route, ask_route, find_route, route_hard, route_soft

RULES = [*ROUTERS.values(), route_two]


def beliefs(seed: int, max_rows: int = 20) -> FloatArray:
    random = np.random.default_rng(seed)
    return random_probs(random, int(random.integers(1, max_rows)), int(random.integers(1, 30)))


@pytest.mark.parametrize("route", RULES)
@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_every_route_keeps_the_contract(route: Route, seed: int) -> None:
    belief = beliefs(seed)
    before = belief.copy()
    gate = ask_route(route, belief)
    assert np.array_equal(belief, before)
    assert gate.shape == belief.shape
    assert (gate >= 0).all()
    assert not gate[belief == 0].any()
    np.testing.assert_allclose(gate.sum(axis=1), 1, atol=1e-9)
    for row in range(len(belief)):
        assert np.array_equal(route(belief[row : row + 1])[0], gate[row])
    order = np.random.default_rng(seed).permutation(len(belief))
    assert np.array_equal(route(belief[order]), gate[order])


def test_the_table_holds_the_named_functions() -> None:
    assert ROUTERS["hard"] is find_route("hard") is route_hard
    assert ROUTERS["soft"] is find_route("soft") is route_soft
    assert find_route(route_two) is route_two


def test_soft_is_the_belief_and_hard_its_first_highest() -> None:
    belief = np.array([[0.25, 0.5, 0.25], [0.4, 0.2, 0.4]])
    assert route_soft(belief).tolist() == belief.tolist()
    assert route_hard(belief).tolist() == [[0, 1, 0], [1, 0, 0]]


def test_rows_that_abstained_before_are_not_asked() -> None:
    belief = np.array([[0.0, 0.0], [0.3, 0.7]])

    def careless(rows: FloatArray) -> FloatArray:
        return np.asarray(rows / rows.sum(axis=1, keepdims=True))  # 0/0 would warn, and warnings are errors here

    assert ask_route(careless, belief).tolist() == [[0, 0], [0.3, 0.7]]
    assert ask_route(careless, belief[:1]).tolist() == [[0, 0]]


def test_no_rows_are_fine() -> None:
    assert ask_route(route_hard, np.zeros((0, 3))).shape == (0, 3)


def test_a_route_may_abstain_and_write_into_its_belief() -> None:
    def writes(rows: FloatArray) -> FloatArray:
        rows[rows.max(axis=1) < 0.6] = 0
        return rows

    belief = np.array([[0.5, 0.5], [0.3, 0.7]])
    assert ask_route(writes, belief).tolist() == [[0, 0], [0.3, 0.7]]
    assert belief.tolist() == [[0.5, 0.5], [0.3, 0.7]]


def depends_on_the_batch(rows: FloatArray) -> FloatArray:
    return rows if len(rows) > 1 else route_hard(rows)


def negative(rows: FloatArray) -> FloatArray:
    return np.stack([rows[:, 0] + 2 * rows[:, 1], -rows[:, 1]], axis=1)


BAD: list[tuple[Callable[[FloatArray], Any], str]] = [
    (lambda rows: rows[:, 0], "expected a gate of numbers, (n_samples, n_states) = (4, 2), found float64 (4,)"),
    (lambda rows: rows[:2], "found float64 (2, 2)"),
    (lambda rows: [["a", "b"]] * len(rows), "expected a gate of numbers"),
    (lambda rows: rows / 2, "a sum that is neither 1 nor 0"),
    (lambda rows: np.ones_like(rows) / 2, "weight on a state of belief zero, in 1 rows"),
    (lambda rows: rows * np.nan, "a number that is not finite, in 4 rows"),
    (negative, 'route "negative": a negative number'),
    (depends_on_the_batch, 'route "depends_on_the_batch": row 0 alone gives [[1.0, 0.0]], among others [0.75, 0.25]'),
]


@pytest.mark.parametrize(("route", "message"), BAD, ids=[message for _, message in BAD])
def test_a_gate_that_breaks_the_contract_is_refused(route: Route, message: str) -> None:
    belief = np.array([[0.75, 0.25], [0.5, 0.5], [0.0, 1.0], [0.25, 0.75]])
    with pytest.raises(UsageError) as caught:
        ask_route(route, belief)
    assert message in str(caught.value)


def test_an_unknown_name_is_refused_with_the_nearest() -> None:
    with pytest.raises(UsageError, match=r'unknown route "sofft"; did you mean "soft"\? \(known: hard, soft\)'):
        find_route("sofft")
