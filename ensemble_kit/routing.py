"""Routes: from the belief over a node's states to a gate, which says how far each state's expert answers.

belief: `(n_samples, n_states)` probability of each combination of the parents' classes, rows sum to 1.
gate:   `(n_samples, n_states)` finite, >= 0, zero where the belief is zero; rows sum to 1, or to 0 = abstain.

A row of the gate may depend on that row of the belief only. The routes here keep some of the states and divide them by
their sum, added state by state: numpy's own sum along a row may run in another order when the row is alone.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from weakref import WeakSet

import numpy as np

from ensemble_kit.arrays import BoolArray, FloatArray, IntArray, by_class, one_hot_rows
from ensemble_kit.errors import UsageError, nearest
from ensemble_kit.named import Numbered, find_named

Route = Callable[[FloatArray], FloatArray]

SUM_TOLERANCE = 1e-6

SAME = 2.0**-43
"""Beliefs this near to each other are the same: equal sums may differ in their last bit, by the order of the voters."""

SHARE_TOLERANCE = 1e-9
"""How far a gate may be from the belief of its states divided by their sum, and still be called that."""


def route_soft(belief: FloatArray) -> FloatArray:
    """Every expert answers, weighted by the belief: the exact chain rule."""
    return belief


def route_hard(belief: FloatArray) -> FloatArray:
    """The expert of the most probable state answers alone; ties go to the lowest state."""
    return one_hot_rows(belief)


def route_threshold(at: float) -> Route:
    """Sure: one expert; else all, weighted by the belief.

    Args:
        at: from 0 to 1; a row whose highest belief is at least this is routed hard, any other soft.

    Raises:
        UsageError: `at` out of range.

    Examples:
        >>> route_threshold(0.75)(np.array([[0.75, 0.25], [0.5, 0.5]])).tolist()
        [[1.0, 0.0], [0.5, 0.5]]
    """
    if not _is_number(at) or not 0 <= at <= 1:
        raise UsageError(f'route "threshold": expected a probability from 0 to 1, found {at!r}; write "threshold=0.9"')

    def route(belief: FloatArray) -> FloatArray:
        is_sure = highest_belief(belief.T)[:, None] >= at - SAME
        return np.where(is_sure, route_hard(belief), belief)

    return _named(route, f"threshold={at}")


def route_top_k(k: int) -> Route:
    """The k most probable states, divided by their sum; ties go to the lowest state.

    k=1 is the hard route; from as many as there are states on it is the soft one.

    Raises:
        UsageError: `k` is no whole number from 1.

    Examples:
        >>> route_top_k(2)(np.array([[0.375, 0.25, 0.375], [0.25, 0.5, 0.25]])).round(4).tolist()
        [[0.5, 0.0, 0.5], [0.3333, 0.6667, 0.0]]
    """
    if not _is_number(k) or k < 1 or not float(k).is_integer():
        raise UsageError(f'route "top_k": expected a whole number of states from 1, found {k!r}; write "top_k=2"')

    def route(belief: FloatArray) -> FloatArray:
        if k == 1:
            return route_hard(belief)
        highest = np.argsort(-np.rint(belief / SAME), axis=1, kind="stable")[:, : int(k)]
        kept = np.zeros(belief.shape, dtype=np.bool_)
        np.put_along_axis(kept, highest, values=True, axis=1)
        return keep_states(belief, kept)

    return _named(route, f"top_k={int(k)}")


def route_sparse(epsilon: float) -> Route:
    """States below epsilon are dropped and the rest divided by their sum; the most probable state always stays.

    Args:
        epsilon: at least 0 and below 1. 0 is the soft route.

    Raises:
        UsageError: `epsilon` out of range.

    Examples:
        >>> route_sparse(0.125)(np.array([[0.625, 0.3125, 0.0625], [0.5, 0.25, 0.25]])).round(4).tolist()
        [[0.6667, 0.3333, 0.0], [0.5, 0.25, 0.25]]
    """
    if not _is_number(epsilon) or not 0 <= epsilon < 1:
        raise UsageError(
            f'route "sparse": expected a probability from 0, below 1, found {epsilon!r}; write "sparse=0.01"'
        )

    def route(belief: FloatArray) -> FloatArray:
        return keep_states(belief, (belief >= epsilon - SAME) | (route_hard(belief) > 0))

    return _named(route, f"sparse={epsilon}")


def keep_states(belief: FloatArray, kept: BoolArray) -> FloatArray:
    """The gate that keeps a set of states and divides them by their sum: the belief, given that the state is kept.

    A row of which nothing is dropped comes back as it is, bit for bit. For routes of your own.

    Args:
        belief: `(n_samples, n_states)`.
        kept: `(n_samples, n_states)`; a row that keeps no belief at all abstains.

    Returns:
        The gate `(n_samples, n_states)`.

    Examples:
        >>> keep_states(np.array([[0.5, 0.25, 0.25]]), np.array([[True, True, False]])).round(4).tolist()
        [[0.6667, 0.3333, 0.0]]
    """
    gate = np.where(kept, belief, 0.0)
    total = np.zeros((len(belief), 1), dtype=np.float64)
    for state in gate.T:
        total[:, 0] += state
    share = np.divide(gate, total, out=np.zeros(gate.shape, dtype=np.float64), where=total > 0)
    is_whole = (gate == belief).all(axis=1, keepdims=True)
    return np.where(is_whole, belief, share)


ROUTERS: Mapping[str, Route | Numbered] = {
    "hard": route_hard,
    "soft": route_soft,
    "threshold": Numbered(route_threshold, 0.9, "a probability from 0 to 1"),
    "top_k": Numbered(route_top_k, 2, "a whole number of states from 1"),
    "sparse": Numbered(route_sparse, 0.01, "a probability from 0, below 1"),
}
"""A further route is one function and one row here; `combine` takes a function as well as a name."""


OWN: WeakSet[Route] = WeakSet([route_hard, route_soft])
"""Known to keep the contract, in any layout (tests show it): not checked again and again."""


def is_own(route: Route) -> bool:
    """Whether a route is one of ours; a function of somebody else's need not be hashable."""
    return isinstance(route, Hashable) and route in OWN


def find_route(route: str | Route) -> Route:
    """The route of a name, or the function itself.

    Args:
        route: a name in ROUTERS, with a number where the route takes one: "threshold=0.9", "top_k=2" (or "top-k=2"),
            "sparse=0.01". Without it, these are the numbers.

    Raises:
        UsageError: an unknown name, or a number that the route cannot take.

    Examples:
        >>> find_route("top-k=3").__name__
        'top_k=3'
        >>> find_route("threshold").__name__
        'threshold=0.9'
    """
    if callable(route):
        return route
    if not isinstance(route, str):
        raise UsageError(f"route: expected a name or a function belief -> gate, found {route!r}{nearest('', ROUTERS)}")
    found: Route = find_named("route", route, ROUTERS)
    return found


def route_name(route: Route) -> str:
    """What a route is called in messages and traces: its name in ROUTERS, its own name, or its class's."""
    for name, known in ROUTERS.items():
        if known is route:
            return name
    return str(getattr(route, "__name__", type(route).__name__))


def _is_number(value: object) -> bool:
    return isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)


def _named(route: Route, name: str) -> Route:
    route.__name__ = name
    route.__qualname__ = name
    OWN.add(route)
    return route


def watch_gate(
    belief: FloatArray, gate: FloatArray, *, is_share: bool = False
) -> tuple[FloatArray, FloatArray, BoolArray]:
    """What a gate did to a belief, both class first here: `(n_states, n_samples)`.

    Args:
        is_share: it is known that the gate is the belief of its states divided by their sum.

    Returns:
        confidence `(n_samples,)`, the belief's highest value; kept `(n_samples,)`, the share of the belief that lies
        on states of gate > 0 (exactly 1 where nothing is dropped, 0 where the gate abstains); whether the gate is the
        belief of its states divided by their sum `(n_samples,)`.

    Examples:
        >>> belief = np.array([[0.5, 0.5], [0.25, 0.25], [0.25, 0.25]])
        >>> confidence, kept, is_share = watch_gate(belief, np.array([[1.0, 0.5], [0.0, 0.5], [0.0, 0.0]]))
        >>> confidence.tolist(), kept.tolist(), is_share.tolist()
        ([0.5, 0.5], [0.5, 0.75], [True, False])
    """
    highest = highest_belief(belief)
    if gate is belief or np.array_equal(belief, gate):  # the soft route, and nearly free
        return highest, (highest > 0).astype(belief.dtype), np.ones(len(highest), dtype=np.bool_)
    if is_share:
        total, inside = (np.zeros(belief.shape[1], dtype=belief.dtype) for _ in range(2))
        for weight, opened in zip(belief, gate, strict=True):
            total += weight
            inside += weight * (opened > 0)
        kept = np.divide(inside, total, out=np.zeros_like(total), where=total > 0)
        return highest, kept, np.ones(len(highest), dtype=np.bool_)
    total, inside, spoken, apart = (np.zeros(belief.shape[1], dtype=belief.dtype) for _ in range(4))
    kept_weights = [np.multiply(weight, opened > 0) for weight, opened in zip(belief, gate, strict=True)]
    for weight, opened, kept_weight in zip(belief, gate, kept_weights, strict=True):
        total += weight
        inside += kept_weight
        spoken += opened
    for opened, kept_weight in zip(gate, kept_weights, strict=True):
        difference = opened * inside
        difference -= kept_weight * spoken
        np.maximum(apart, np.abs(difference, out=difference), out=apart)
    kept = np.divide(inside, total, out=np.zeros_like(total), where=total > 0)
    tolerance = max(SHARE_TOLERANCE, float(np.finfo(belief.dtype).eps))
    return highest, kept, np.asarray(apart <= tolerance * inside * spoken)


def ask_route(route: Route, belief: FloatArray) -> FloatArray:
    """The gate of a route, the contract checked; rows without any belief (abstained before) are not asked.

    Args:
        belief: `(n_samples, n_states)`, laid out state by state.

    Raises:
        UsageError: a gate that breaks the contract, or that changes when a row is asked alone.
    """
    is_live = highest_belief(belief.T) > 0
    if is_own(route):
        gate = route(belief)
        if not is_live.all():
            gate = np.where(is_live[:, None], gate, belief.dtype.type(0))
        return gate
    if is_live.all():
        return _checked(route, np.ascontiguousarray(belief))
    live, gate = np.flatnonzero(is_live), by_class(*belief.shape)
    if len(live):
        gate[live] = _checked(route, np.ascontiguousarray(belief[live]))
    return gate


def highest_belief(belief: FloatArray) -> FloatArray:
    """`(n_samples,)` of a belief with the states first."""
    highest: FloatArray = np.zeros(belief.shape[1], dtype=belief.dtype)
    for weight in belief:
        np.maximum(highest, weight, out=highest)
    return highest


def _checked(route: Route, belief: FloatArray) -> FloatArray:
    if not len(belief):
        return belief
    name = route_name(route)
    gate = np.asarray(route(belief.copy()))  # a copy: the route may write into it
    if gate.shape != belief.shape or gate.dtype.kind not in "fiub":
        raise UsageError(
            f'route "{name}": expected a gate of numbers, (n_samples, n_states) = {belief.shape}, '
            f"found {gate.dtype} {gate.shape}"
        )
    gate = gate.astype(np.float64)
    _check_values(gate, belief, name)
    for row in _three_rows(len(belief)):
        alone = np.asarray(route(belief[row : row + 1].copy()), dtype=np.float64)
        if not np.array_equal(alone, gate[row : row + 1]):
            raise UsageError(
                f'route "{name}": row {row} alone gives {alone.tolist()}, among others {gate[row].tolist()}; '
                f"a row's gate may depend on that row only"
            )
    return gate


def _check_values(gate: FloatArray, belief: FloatArray, name: str) -> None:
    """The sum may be as far from 1 as the belief's own, which stands on float32 probabilities."""
    total, slack = gate.sum(axis=1), np.abs(belief.sum(axis=1) - 1) + SUM_TOLERANCE
    faults = {
        "a number that is not finite": ~np.isfinite(gate).all(axis=1),
        "a negative number": (gate < 0).any(axis=1),
        "weight on a state of belief zero": ((gate > 0) & (belief <= 0)).any(axis=1),
        "a sum that is neither 1 nor 0 (divide the kept states by their sum)": (total != 0)
        & (np.abs(total - 1) > slack),
    }
    for fault, rows in faults.items():
        if rows.any():
            row = int(np.flatnonzero(rows)[0])
            raise UsageError(
                f'route "{name}": {fault}, in {int(rows.sum())} rows; '
                f"row {row}: belief {belief[row].tolist()}, gate {gate[row].tolist()}"
            )


def _three_rows(n_rows: int) -> IntArray:
    return np.unique([0, n_rows // 2, n_rows - 1]).astype(np.int64)
