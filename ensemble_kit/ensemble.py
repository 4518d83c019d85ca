"""The ensemble: holds experts' predictions, joins them by id, votes, routes and combines them block by block."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from ensemble_kit.arrays import BoolArray, FloatArray, IntArray
from ensemble_kit.errors import DataError, UsageError, nearest
from ensemble_kit.graph import Graph, Node, describe_condition
from ensemble_kit.ids import check_unique, match_ids
from ensemble_kit.joint import Plan, Step, forward, make_plan
from ensemble_kit.predictions import SUM_TOLERANCE, Predictions, save_predictions
from ensemble_kit.routing import Route, find_route
from ensemble_kit.schema import Schema
from ensemble_kit.voting import Vote, ask_vote, check_weights, find_vote

Fallback = Literal["refuse", "pooled"]
VoteAt = Literal["expert", "joint"]

BLOCK_ROWS = 8192
BLOCK_BYTES = 16 * 2**20
"""A block's joint probabilities stay below this, in float64."""


@dataclass(frozen=True, eq=False)
class Combined:
    """What combining gives.

    Attributes:
        joint: predictions of all attributes as one block, one voter, columns = the schema's joint classes.
        gates: for each node with parents `(n_samples, n_states)`; with vote_at="joint" the voters' weighted mean.
        counts: photos that each expert was asked for.
    """

    joint: Predictions
    gates: dict[Node, FloatArray]
    counts: dict[str, int]


class ConditionalEnsemble:
    """Experts combined along a graph.

    Args:
        schema: the attributes and their joint classes.
        graph: which attribute conditions which.
        experts: predictions on the same photos, in any order of rows. Those that no node of the graph can use are left
            aside: one set of predictions serves several graphs.
        fallback: "pooled" = where no expert names every parent, one that names fewer may answer.

    Raises:
        UsageError: states without an expert (all in one message, with what to do), two experts of one condition.
        DataError: experts on different photos, or with classes that are not the schema's.

    Examples:
        >>> from ensemble_kit.schema import Attribute
        >>> mask = Attribute("mask", ["worn", "incorrect", "not_worn"])
        >>> age = Attribute("age", ["<30", "30-59", ">=60"], borders=[30, 60])
        >>> schema = Schema(mask, age)
        >>> graph = Graph({"mask": [], "age": ["mask"]})  # the mask decides which age expert answers
        >>> ids = ["a.jpg", "b.jpg"]
        >>> experts = [
        ...     Predictions(mask, [[0.5, 0.0, 0.5], [0.1, 0.8, 0.1]], ids),
        ...     Predictions(age, [[0.4, 0.3, 0.3], [1.0, 0.0, 0.0]], ids, condition={"mask": "worn"}),
        ...     Predictions(age, [[0.0, 0.2, 0.8], [0.0, 0.5, 0.5]], ids, {"mask": ["incorrect", "not_worn"]}),
        ... ]
        >>> ensemble = ConditionalEnsemble(schema, graph, experts)
        >>> result = ensemble.combine(route="hard")
        >>> [schema.joint_names()[label] for label in result.joint.labels()]
        ['worn / <30', 'incorrect / 30-59']
        >>> result.counts
        {'mask': 2, 'age given mask=worn': 1, 'age given mask=incorrect,not_worn': 1}
        >>> soft = ensemble.combine(route="soft")
        >>> [schema.joint_names()[label] for label in soft.joint.labels()]
        ['not_worn / >=60', 'incorrect / 30-59']

        A route is any function of the belief `(n_samples, n_states)`:

        >>> def my_route(belief):  # sure: one expert; else: all, weighted
        ...     sure = belief.max(axis=1, keepdims=True) >= 0.75
        ...     return np.where(sure, belief == belief.max(axis=1, keepdims=True), belief)
        >>> ensemble.combine(route=my_route).counts
        {'mask': 2, 'age given mask=worn': 1, 'age given mask=incorrect,not_worn': 2}
    """

    def __init__(self, schema: Schema, graph: Graph, experts: Sequence[Predictions], *, fallback: Fallback = "refuse"):
        self.schema = schema
        self.graph = graph
        self.experts = tuple(experts)
        self.fallback = fallback
        self.plan: Plan = make_plan(schema, graph, self.experts, fallback)
        if not self.plan.used:
            raise UsageError("no expert is needed: every attribute has one class only")
        first = self.experts[self.plan.used[0]]
        check_unique(first.ids, f"ids of {first.describe()}")
        self.ids = first.ids
        self._rows = {number: self._join(self.experts[number]) for number in self.plan.used}

    def _join(self, expert: Predictions) -> IntArray | None:
        return match_ids(expert.ids, self.ids, expert.describe(), "predict all experts on the same photos")

    def describe(self) -> str:
        """The table state -> expert, and the experts that are not used."""
        lines = [("node", "state", "answered by")]
        for step in self.plan.steps:
            for row, number in zip(step.states, step.expert_of_state, strict=True):
                lines.append((step.node.name, self._state_text(step, row), self._answer_text(step, int(number))))
        widths = [max(len(line[column]) for line in lines) for column in (0, 1)]
        table = [f"{a:<{widths[0]}}  {b:<{widths[1]}}  {c}" for a, b, c in lines]
        unused = [f"not used: {self.experts[number].describe()}" for number in self.plan.unused]
        return "\n".join([*table, *unused])

    def _state_text(self, step: Step, row: IntArray) -> str:
        names = {p: (self.schema[p].classes[i],) for p, i in zip(step.node.parents, row, strict=True)}
        return describe_condition(names) if names else "-"

    def _answer_text(self, step: Step, number: int) -> str:
        if number < 0:
            return "(one possible class)"
        expert = self.experts[number]
        n_voters = f"{len(expert.voters)} voter" + ("s" if len(expert.voters) > 1 else "")
        note = ", fallback" if len(expert.condition) < len(step.node.parents) else ""
        return f"{expert.describe()} ({n_voters}{note})"

    def combine(
        self,
        *,
        route: str | Route | Mapping[str, str | Route] = "soft",
        vote: str | Vote = "soft",
        vote_at: VoteAt = "expert",
        voters: Sequence[str] | None = None,
        weights: Mapping[str, float] | None = None,
        out: Path | None = None,
    ) -> Combined:
        """Joint probabilities of every photo.

        Args:
            route: a name in ROUTERS or a function belief -> gate; or one for each node with parents, by the node's
                name (soft where none is given).
            vote: a name in VOTES or a function (probs, weights) -> distribution.
            vote_at: "expert" = the voters of each expert vote, then the route follows; "joint" = each voter's chain is
                routed by itself, then the joint probabilities vote (all experts need the same voters' names).
            voters: names of the voters that take part; all when left out.
            weights: by voter's name; 1 where none is given.
            out: a folder for the joint probabilities, as a prediction set.

        Raises:
            UsageError: unknown names; a route or vote that breaks its contract.
            DataError: a photo without a prediction that is needed; numbers that are no probabilities.
        """
        routes, rule = self._routes(route), find_vote(vote)
        panel = _Panel(self, voters, weights, rule)
        if vote_at not in ("expert", "joint"):
            raise UsageError(f'unknown vote_at "{vote_at}"{nearest(vote_at, ("expert", "joint"))}')
        if vote_at == "joint":
            panel.check_same_voters()
        n_samples = len(self.ids)
        joint = np.zeros((n_samples, self.schema.n_joint), dtype=np.float32)
        steps = [step for step in self.plan.steps if step.node.parents]
        gates = {step.node: np.zeros((n_samples, len(step.states)), dtype=np.float32) for step in steps}
        n_rows = min(BLOCK_ROWS, max(1, BLOCK_BYTES // (8 * self.schema.n_joint)))
        for start in range(0, n_samples, n_rows):
            stop = min(start + n_rows, n_samples)
            panel.move_to(start, stop)
            block, block_gates = panel.by_expert(routes) if vote_at == "expert" else panel.by_joint(routes)
            joint[start:stop] = block
            for node, gate in block_gates.items():
                gates[node][start:stop] = gate
        panel.move_to(n_samples, n_samples)
        panel.refuse_missing()
        classes = [
            [a.classes[i] for a, i in zip(self.schema.attributes, row, strict=True)] for row in self.schema.paths
        ]
        result = Predictions(self.schema.attributes, joint, self.ids, classes=classes, voters=["combined"])
        if out is not None:
            save_predictions(out, [result], self.schema)
        return Combined(result, gates, {self.experts[n].describe(): count for n, count in panel.counts.items()})

    def _routes(self, route: str | Route | Mapping[str, str | Route]) -> dict[Node, Route]:
        nodes = {step.node.name: step.node for step in self.plan.steps if step.node.parents}
        if not isinstance(route, Mapping):
            found = find_route(route)
            return dict.fromkeys(nodes.values(), found)
        for name in route:
            if name not in nodes:
                raise UsageError(f'route: "{name}" is no node with parents{nearest(name, nodes)}')
        return {nodes[name]: find_route(value) for name, value in route.items()}


class _Panel:
    """The voters of all experts on one block of photos at a time: what a forward pass reads from."""

    def __init__(
        self,
        ensemble: ConditionalEnsemble,
        voters: Sequence[str] | None,
        weights: Mapping[str, float] | None,
        vote: Vote,
    ):
        self.plan, self.ids, self.vote = ensemble.plan, ensemble.ids, vote
        self.rows = ensemble._rows
        self.experts: dict[int, Predictions] = {}
        for number in self.plan.used:
            expert = ensemble.experts[number]
            self.experts[number] = expert.select_voters(sorted(expert.voters if voters is None else voters))
        known = {name for expert in self.experts.values() for name in expert.voters}
        for name in weights or {}:
            if name not in known:
                raise UsageError(f'weights: no voter "{name}"{nearest(name, sorted(known))}')
        self.weights = {
            number: np.array([float((weights or {}).get(name, 1.0)) for name in expert.voters])
            for number, expert in self.experts.items()
        }
        for own in self.weights.values():
            check_weights(own)
        self.counts = dict.fromkeys(self.plan.used, 0)
        self.missing: dict[int, list[int]] = {number: [] for number in self.plan.used}
        self.start = self.stop = 0
        self.asked: dict[int, BoolArray] = {}

    def check_same_voters(self) -> None:
        first = self.experts[self.plan.used[0]]
        for expert in self.experts.values():
            if expert.voters != first.voters:
                raise UsageError(
                    f"vote_at=joint needs the same voters in all experts: {first.describe()} has "
                    f"{', '.join(first.voters)}, {expert.describe()} has {', '.join(expert.voters)}; "
                    f"name those that all have, or vote at the experts"
                )

    def move_to(self, start: int, stop: int) -> None:
        for number, rows in self.asked.items():
            self.counts[number] += int(rows.sum())
        self.start, self.stop = start, stop
        self.asked = {number: np.zeros(stop - start, dtype=np.bool_) for number in self.plan.used}

    def by_expert(self, routes: Mapping[Node, Route]) -> tuple[FloatArray, dict[Node, FloatArray]]:
        def read(number: int, rows: IntArray) -> FloatArray:
            probs = np.stack([self._layer(number, voter, rows) for voter in range(len(self.weights[number]))])
            tolerance = SUM_TOLERANCE * len(self.experts[number].attributes)
            return self._present(number, rows, ask_vote(self.vote, probs, self.weights[number], tolerance))

        return forward(self.plan, self.stop - self.start, read, routes)

    def by_joint(self, routes: Mapping[Node, Route]) -> tuple[FloatArray, dict[Node, FloatArray]]:
        weights = self.weights[self.plan.used[0]]
        chains: list[FloatArray] = []
        gates: dict[Node, FloatArray] = {}
        for voter in range(len(weights)):
            if weights[voter] == 0:
                chains.append(np.zeros((self.stop - self.start, self.plan.schema.n_joint)))
                continue

            def read(number: int, rows: IntArray, voter: int = voter) -> FloatArray:
                return self._present(number, rows, self._layer(number, voter, rows).astype(np.float64))

            chain, own = forward(self.plan, self.stop - self.start, read, routes)
            chains.append(chain)
            for node, gate in own.items():
                gates[node] = gates.get(node, np.zeros_like(gate)) + gate * (weights[voter] / weights.sum())
        return ask_vote(self.vote, np.stack(chains), weights, SUM_TOLERANCE * len(self.plan.schema.names)), gates

    def _layer(self, number: int, voter: int, rows: IntArray) -> FloatArray:
        """`(len(rows), n_classes)` of one voter; rows count within the block."""
        layer, join = self.experts[number].layers[voter], self.rows[number]
        if len(rows) == self.stop - self.start and join is None:
            values = np.asarray(layer[self.start : self.stop])
        else:
            values = np.asarray(layer[rows + self.start if join is None else join[rows + self.start]])
        if isinstance(layer, np.memmap):
            self.experts[number].check(values, voter)
        return values

    def _present(self, number: int, rows: IntArray, values: FloatArray) -> FloatArray:
        """Counts what was asked; a row not computed is noted and read as abstained, to be refused at the end."""
        self.asked[number][rows] = True
        absent = np.isnan(values[:, 0])  # a row is NaN as a whole or not at all
        if absent.any():
            self.missing[number] += (rows[absent] + self.start).tolist()
            values = np.where(absent[:, None], 0, values)
        return values

    def refuse_missing(self) -> None:
        gaps = []
        for number, found in self.missing.items():
            rows = sorted(set(found))
            if rows:
                gaps.append(f'{len(rows)} by "{self.experts[number].describe()}" (the first is "{self.ids[rows[0]]}")')
        if gaps:
            raise DataError(
                f"of {len(self.ids)} photos these have no prediction that the route needs: {'; '.join(gaps)}; see "
                f'errors.csv of the predictions, mend the photos and run "ens predict" again, or answer them with '
                "--missing JOINT_CLASS"
            )
