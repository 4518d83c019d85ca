"""Routes: from the belief over a node's states to a gate, which says how far each state's expert answers.

belief: `(n_samples, n_states)` probability of each combination of the parents' classes, rows sum to 1.
gate:   `(n_samples, n_states)` finite, >= 0, zero where the belief is zero; rows sum to 1, or to 0 = abstain.

A row of the gate may depend on that row of the belief only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from ensemble_kit.arrays import FloatArray, IntArray
from ensemble_kit.errors import UsageError, nearest

Route = Callable[[FloatArray], FloatArray]

SUM_TOLERANCE = 1e-6


def route_soft(belief: FloatArray) -> FloatArray:
    """Every expert answers, weighted by the belief: the exact chain rule."""
    return belief


def route_hard(belief: FloatArray) -> FloatArray:
    """The expert of the most probable state answers alone; ties go to the lowest state."""
    gate = np.zeros(belief.shape, dtype=np.float64)
    np.put_along_axis(gate, belief.argmax(axis=1)[:, None], 1.0, axis=1)
    return gate


ROUTERS: Mapping[str, Route] = {"hard": route_hard, "soft": route_soft}
"""A further route is one function and one row here; `combine` takes a function as well as a name."""


def find_route(route: str | Route) -> Route:
    """The route of a name, or the function itself."""
    if callable(route):
        return route
    if route not in ROUTERS:
        raise UsageError(f'unknown route "{route}"{nearest(route, ROUTERS)}')
    return ROUTERS[route]


def ask_route(route: Route, belief: FloatArray) -> FloatArray:
    """The gate of a route, the contract checked; rows without any belief (abstained before) are not asked.

    Raises:
        UsageError: a gate that breaks the contract, or that changes when a row is asked alone.
    """
    live = np.flatnonzero(belief.any(axis=1)).astype(np.int64)
    gate = np.zeros(belief.shape, dtype=np.float64)
    if len(live) == len(belief):
        gate[:] = _checked(route, belief)
    elif len(live):
        gate[live] = _checked(route, np.ascontiguousarray(belief[live]))
    return gate


def _checked(route: Route, belief: FloatArray) -> FloatArray:
    if not len(belief):
        return belief
    name = getattr(route, "__name__", type(route).__name__)
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
