from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from core_oracles import ROUTE_GATES, random_probs, route_two
from hypothesis import given, settings
from hypothesis import strategies as st

from ensemble_kit.arrays import FloatArray
from ensemble_kit.errors import UsageError
from ensemble_kit.routing import (
    ROUTERS,
    Route,
    ask_route,
    find_route,
    keep_states,
    route_hard,
    route_name,
    route_soft,
    route_sparse,
    route_threshold,
    route_top_k,
    watch_gate,
)

RULES = [*(find_route(text) for text in ROUTE_GATES), route_two]
SEEDS = st.integers(0, 2**32 - 1)


def beliefs(seed: int, max_rows: int = 20) -> FloatArray:
    random = np.random.default_rng(seed)
    belief = random_probs(random, int(random.integers(1, max_rows)), int(random.integers(1, 30)))
    if random.random() < 0.5:  # eighths, so that many tie
        belief = np.ceil(belief * 8)
        belief /= belief.sum(axis=1, keepdims=True)
    return belief


def test_every_route_has_its_oracle() -> None:
    assert {text.partition("=")[0] for text in ROUTE_GATES} == set(ROUTERS)


@pytest.mark.parametrize("text", list(ROUTE_GATES))
@settings(max_examples=40, deadline=None)
@given(seed=SEEDS)
def test_every_route_is_its_rule_row_by_row(text: str, seed: int) -> None:
    belief = beliefs(seed)
    expected = [ROUTE_GATES[text](row) for row in belief.tolist()]
    np.testing.assert_allclose(ask_route(find_route(text), belief), expected, rtol=0, atol=1e-15)


@pytest.mark.parametrize("route", RULES, ids=route_name)
@settings(max_examples=40, deadline=None)
@given(seed=SEEDS)
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
    twice = np.repeat(belief, 2, axis=0)
    assert np.array_equal(route(twice), np.repeat(gate, 2, axis=0))


def test_the_table_holds_the_named_functions() -> None:
    assert ROUTERS["hard"] is find_route("hard") is route_hard
    assert ROUTERS["soft"] is find_route("soft") is route_soft
    assert find_route(route_two) is route_two


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("threshold", "threshold=0.9"),
        ("threshold=0.75", "threshold=0.75"),
        (" threshold = 1 ", "threshold=1.0"),
        ("top_k", "top_k=2"),
        ("top-k=3", "top_k=3"),
        ("sparse", "sparse=0.01"),
        ("sparse=1e-3", "sparse=0.001"),
        ("hard", "hard"),
    ],
)
def test_a_route_with_a_number_says_it(text: str, name: str) -> None:
    assert route_name(find_route(text)) == name


@settings(max_examples=40, deadline=None)
@given(SEEDS)
def test_at_their_ends_the_routes_are_hard_and_soft_bit_for_bit(seed: int) -> None:
    belief = beliefs(seed).astype(np.float32).astype(np.float64)  # whose rows do not quite sum to 1
    hard, soft = route_hard(belief), route_soft(belief)
    for route in (route_threshold(0), route_top_k(1)):
        assert np.array_equal(route(belief), hard)
    for route in (route_threshold(1), route_top_k(belief.shape[1] + 1), route_sparse(0)):
        unsure = belief.max(axis=1) < 1
        assert np.array_equal(route(belief)[unsure], soft[unsure])


@settings(max_examples=60, deadline=None)
@given(SEEDS, st.sampled_from(list(ROUTE_GATES)))
def test_what_a_gate_did_is_told_by_a_loop(seed: int, text: str) -> None:
    belief = beliefs(seed)
    gate = ask_route(find_route(text), belief)
    confidence, kept, is_share = watch_gate(belief.T, gate.T)
    for row, (weights, opened) in enumerate(zip(belief.tolist(), gate.tolist(), strict=True)):
        assert confidence[row] == max(weights)
        inside = sum(w for w, g in zip(weights, opened, strict=True) if g > 0)
        assert kept[row] == pytest.approx(inside / sum(weights), abs=1e-15)
        assert kept[row] == 1 or any(w > 0 and g == 0 for w, g in zip(weights, opened, strict=True))
    assert is_share.all()


def test_a_gate_that_is_no_share_of_the_belief_is_told_row_by_row() -> None:
    belief = np.array([[0.5, 0.3, 0.2]] * 5)
    gate = np.array([[0.5, 0.3, 0.2], [0.625, 0.375, 0], [0.5, 0.5, 0], [0.2, 0.3, 0.5], [0, 0, 0]])
    confidence, kept, is_share = watch_gate(belief.T, gate.T)
    assert is_share.tolist() == [True, True, False, False, True]
    np.testing.assert_allclose(kept, [1, 0.8, 0.8, 1, 0])
    assert confidence.tolist() == [0.5] * 5


def test_states_are_kept_by_a_rule_of_ones_own() -> None:
    belief = np.array([[0.5, 0.3, 0.2], [0.1, 0.0, 0.9]])
    kept = np.array([[False, True, True], [True, True, False]])
    np.testing.assert_allclose(keep_states(belief, kept), [[0.0, 0.6, 0.4], [1.0, 0.0, 0.0]])
    assert not keep_states(belief, np.zeros((2, 3), dtype=np.bool_)).any()
    assert np.array_equal(keep_states(belief, np.ones((2, 3), dtype=np.bool_)), belief)


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


KNOWN = "(known: hard, soft, threshold, top_k, sparse)"

BAD_NAMES: list[tuple[Any, str]] = [
    ("sofft", f'no route "sofft"; did you mean "soft"? {KNOWN}'),
    ("topk=2", f'no route "topk"; did you mean "top_k"? {KNOWN}'),
    ("", f'no route "" {KNOWN}'),
    ("hard=1", 'route "hard" takes no number, found "hard=1"; write "hard"'),
    ("threshold=", 'route "threshold": expected a probability from 0 to 1, found ""; write "threshold=0.9"'),
    ("threshold=1.5", 'route "threshold": expected a probability from 0 to 1, found 1.5'),
    ("threshold=nan", 'route "threshold": expected a probability from 0 to 1, found nan'),
    ("top_k=0", 'route "top_k": expected a whole number of states from 1, found 0; write "top_k=2"'),
    ("top_k=2.5", 'route "top_k": expected a whole number of states from 1, found "2.5"'),
    ("sparse=1", 'route "sparse": expected a probability from 0, below 1, found 1.0'),
    ("sparse=-0.1", 'route "sparse": expected a probability from 0, below 1, found -0.1'),
    (3, f"route: expected a name or a function belief -> gate, found 3 {KNOWN}"),
    (None, "route: expected a name or a function belief -> gate, found None"),
]


@pytest.mark.parametrize(("route", "message"), BAD_NAMES, ids=[str(route) for route, _ in BAD_NAMES])
def test_a_name_or_number_that_cannot_be_is_refused(route: Any, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        find_route(route)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("value", [True, "2", None, float("inf"), float("nan"), -1])
def test_numbers_given_in_python_are_checked_too(value: Any) -> None:
    for make in (route_threshold, route_top_k, route_sparse):
        with pytest.raises(UsageError, match="expected a"):
            make(value)


@dataclass
class Kept:
    """A dataclass that compares by value has no hash."""

    at: float

    def __call__(self, belief: FloatArray) -> FloatArray:
        return keep_states(belief, belief >= self.at)


def test_a_route_need_not_be_hashable() -> None:
    assert ask_route(Kept(0.3), np.array([[0.5, 0.25, 0.25]])).tolist() == [[1.0, 0.0, 0.0]]
