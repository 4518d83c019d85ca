"""What every row of a result carries: the route taken, how sure its gate was, who answered, and why.

Kept as a few numbers a row; texts are made when somebody asks, one for each distinct case and not one for each row.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ensemble_kit.arrays import BoolArray, FloatArray, IntArray
from ensemble_kit.graph import Node, describe_condition
from ensemble_kit.joint import Passed, Plan, Step

Column = NDArray[Any]
"""`(n_samples,)` numbers, or text as objects."""

ABSTAINED = "abstained"


@dataclass(frozen=True, eq=False)
class Trace:
    """How the routes went, row by row. With vote_at="joint" the numbers are the voters' weighted means.

    Attributes:
        plan: which expert answers which state.
        experts: what each expert of the plan is called.
        routes: what each node's route is called.
        gates: `(n_samples, n_states)` for each node with parents.
        confidence: `(n_samples,)` for each node with parents, the belief's highest value.
        kept: `(n_samples,)` for each node with parents, the share of the belief on states of gate > 0.
        distance: `(n_samples,)` total variation to the soft joint; NaN where it is not known.
        n_answered: `(n_samples,)` nodes that answered, from the first on; fewer than all = abstained.
    """

    plan: Plan
    experts: Mapping[int, str]
    routes: Mapping[Node, str]
    gates: dict[Node, FloatArray]
    confidence: dict[Node, FloatArray]
    kept: dict[Node, FloatArray]
    distance: FloatArray
    n_answered: IntArray

    @classmethod
    def empty(cls, plan: Plan, experts: Mapping[int, str], routes: Mapping[Node, str], n_samples: int) -> Trace:
        """To be filled block by block."""
        steps = [step for step in plan.steps if step.node.parents]
        return cls(
            plan,
            experts,
            routes,
            {step.node: np.zeros((n_samples, len(step.states)), dtype=np.float32) for step in steps},
            {step.node: np.zeros(n_samples, dtype=np.float64) for step in steps},
            {step.node: np.zeros(n_samples, dtype=np.float64) for step in steps},
            np.zeros(n_samples, dtype=np.float64),
            np.zeros(n_samples, dtype=np.int64),
        )

    def fill(self, photos: slice | IntArray, passed: Passed) -> None:
        """Some photos, from one to another or by their numbers."""
        for node, routed in passed.routed.items():
            self.gates[node][photos] = _rounded(routed.gate)
            self.confidence[node][photos] = routed.confidence
            self.kept[node][photos] = routed.kept
        self.distance[photos] = passed.distance
        self.n_answered[photos] = passed.n_answered

    def columns(self) -> Iterator[tuple[str, Column]]:
        """For every node with parents its route, state, confidence and kept share, then the experts and the reason."""
        for step in self._routed_steps():
            node = step.node
            words = np.array([_route_text(number, step) for number in range(len(step.states) + 1)], dtype=object)
            yield f"{node.name}_route", words[self._n_open(step)]
            yield f"{node.name}_state", self._best_state(step)
            yield f"{node.name}_confidence", self.confidence[node]
            yield f"{node.name}_kept", self.kept[node]
        yield "experts", self.asked_text()
        yield "reason", self.reasons()

    def asked(self) -> BoolArray:
        """`(n_samples, n_experts)` whether the row needed the expert; columns as in `experts`."""
        numbers = list(self.experts)
        asked = np.zeros((len(self.distance), len(numbers)), dtype=np.bool_)
        for place, step in enumerate(self.plan.steps):
            for column, number in enumerate(numbers):
                states = step.expert_of_state == number
                if not states.any():
                    continue
                if step.node.parents:
                    asked[:, column] = (self.gates[step.node][:, states] > 0).any(axis=1)
                else:
                    asked[:, column] = self.n_answered >= place
        return asked

    def asked_text(self) -> Column:
        """`mask; gender; age given mask=worn`, `(n_samples,)`, in the order in which nodes and states come."""
        names = np.array([self.experts[number] for number in self.experts], dtype=object)
        order = [n for step in self.plan.steps for n in dict.fromkeys(step.expert_of_state.tolist()) if n >= 0]
        places = [list(self.experts).index(number) for number in dict.fromkeys(order)]
        return _texts(self.asked()[:, places], lambda row: "; ".join(names[places][row.astype(np.bool_)]))

    def reasons(self) -> Column:
        """Why a row has these experts, or no answer, `(n_samples,)`."""
        steps = list(self._routed_steps())
        key = np.stack([self.n_answered, *(self._n_open(step) for step in steps)], axis=1)

        def reason(row: IntArray) -> str:
            n_open = {step.node: int(number) for step, number in zip(steps, row[1:], strict=True)}
            if row[0] < len(self.plan.steps):
                node = self.plan.steps[int(row[0])].node
                if n_open.get(node, 1) == 0:
                    return f"{ABSTAINED}: route {self.routes[node]} keeps no state of {node.name}"
                return f"{ABSTAINED}: an expert of {node.name} gives no probabilities"
            told = [f"{s.node.name}: {self.routes[s.node]} keeps {_route_text(n_open[s.node], s)}" for s in steps]
            return "; ".join(told) or "nothing to route"

        return _texts(key, reason)

    def route_shares(self) -> Iterator[tuple[Node, dict[str, float]]]:
        """For every node with parents how often each route was taken."""
        for step in self._routed_steps():
            counts = np.bincount(self._n_open(step), minlength=len(step.states) + 1)
            total = max(1, int(counts.sum()))
            named: dict[str, float] = {}
            for number in np.flatnonzero(counts):
                named[_route_text(int(number), step)] = int(counts[number]) / total
            yield step.node, named

    def _routed_steps(self) -> Iterator[Step]:
        return (step for step in self.plan.steps if step.node.parents)

    def _n_open(self, step: Step) -> IntArray:
        return np.asarray(np.count_nonzero(self.gates[step.node], axis=1), dtype=np.int64)

    def _best_state(self, step: Step) -> Column:
        """The most probable of the kept states, as `mask=worn`; nothing where the row abstains there."""
        gate, schema = self.gates[step.node], self.plan.schema
        names = np.array(
            [
                describe_condition({p: (schema[p].classes[i],) for p, i in zip(step.node.parents, row, strict=True)})
                for row in step.states
            ]
            + [""],
            dtype=object,
        )
        return np.asarray(names[np.where(gate.any(axis=1), gate.argmax(axis=1), -1)])


def _route_text(n_open: int, step: Step) -> str:
    n_states = len(step.states)
    if n_open == 0:
        return ABSTAINED
    if n_open == 1:
        return "one state"
    return "all states" if n_open == n_states else f"{n_open} of {n_states} states"


def _rounded(gate: FloatArray) -> FloatArray:
    """In float32, where a state that is open stays so: who was asked is read from it."""
    if gate.dtype == np.float32:
        return gate
    small = gate.astype(np.float32)
    if np.count_nonzero(small) != np.count_nonzero(gate):
        small[(gate > 0) & (small == 0)] = np.finfo(np.float32).smallest_subnormal
    return small


def _texts(key: NDArray[Any], text: Callable[[NDArray[Any]], str]) -> Column:
    """`(n_samples,)` texts of the rows of a key `(n_samples, n_columns)`, each distinct row put into words once."""
    if not key.shape[1]:
        return np.full(len(key), text(key[0]) if len(key) else "", dtype=object)
    packed = np.ascontiguousarray(np.packbits(key, axis=1) if key.dtype == np.bool_ else key)
    bits = packed.view(np.dtype((np.void, packed.dtype.itemsize * packed.shape[1]))).ravel()
    _, first, place = np.unique(bits, return_index=True, return_inverse=True)
    return np.array([text(key[row]) for row in first], dtype=object)[place.ravel()]
