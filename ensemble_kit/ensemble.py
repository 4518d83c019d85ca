"""The ensemble: holds experts' predictions, joins them by id, votes, routes and combines them block by block."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import copy
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ensemble_kit.arrays import FloatArray, FloatType, IntArray
from ensemble_kit.checked import Checked
from ensemble_kit.columns import WIDTH, fitted, wrap
from ensemble_kit.combined import Combined
from ensemble_kit.errors import UsageError, nearest
from ensemble_kit.graph import Graph, Node, describe_condition
from ensemble_kit.hooks import Adjust, Weights
from ensemble_kit.ids import check_unique, match_ids
from ensemble_kit.joint import Passed, Plan, Step, best_columns, make_plan
from ensemble_kit.panel import Asked, Fill, Panel
from ensemble_kit.predictions import Predictions, save_predictions
from ensemble_kit.routing import Route, find_route, route_name
from ensemble_kit.schema import Schema
from ensemble_kit.threads import side_by_side
from ensemble_kit.trace import Trace
from ensemble_kit.voting import Vote

__all__ = ["Combined", "ConditionalEnsemble", "Fallback", "VoteAt"]

Fallback = Literal["refuse", "pooled"]
VoteAt = Literal["expert", "joint"]
DType = Literal["float32", "float64"]
Photos = slice | IntArray
Keep = Callable[[Photos, Passed], None]
Missing = Literal["refuse", "abstain"]

VOTE_AT: tuple[VoteAt, ...] = ("expert", "joint")
MISSING: tuple[Missing, ...] = ("refuse", "abstain")
DTYPES: tuple[DType, ...] = ("float32", "float64")

SHOWN_CLOSED = 3
"""Where more states than this need no expert, they stand in one line."""

BLOCK_ROWS = 100_000
"""Large: threads wait for each other between two calls of numpy. No power of two: columns 2^k bytes apart share their
places in the cache, which takes three times as long."""
BLOCK_BYTES = 16 * 2**20
"""A block's joint probabilities stay below this, in float64."""


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

        Every row tells how it came about:

        >>> rows = ensemble.combine(route="threshold=0.75").rows()
        >>> rows["age_route"].tolist(), rows["age_state"].tolist()
        (['2 of 3 states', 'one state'], ['mask=worn', 'mask=incorrect'])
        >>> rows["experts"].tolist()
        ['mask; age given mask=worn; age given mask=incorrect,not_worn', 'mask; age given mask=incorrect,not_worn']

        How far a route is from the exact chain rule is known for every row:

        >>> ensemble.combine(route="hard").distance.round(3).tolist()
        [0.5, 0.2]

        A function on one expert's probabilities, here one that halves its confidence:

        >>> adjusted = ensemble.combine(adjust={"mask": lambda probs: 0.5 * probs + 0.5 / 3}, dtype="float64")
        >>> adjusted.joint.marginal("mask").probs[0].round(3).tolist()
        [[0.417, 0.167, 0.417], [0.217, 0.567, 0.217]]
    """

    def __init__(self, schema: Schema, graph: Graph, experts: Sequence[Predictions], *, fallback: Fallback = "refuse"):
        self.schema = schema
        self.graph = graph
        self.experts = tuple(expert.in_classes_of(schema) for expert in experts)
        self.fallback = fallback
        self.plan: Plan = make_plan(schema, graph, self.experts, fallback)
        if not self.plan.used:
            raise UsageError("no expert is needed: every attribute has one class only")
        first = self.experts[self.plan.used[0]]
        check_unique(first.ids, f"ids of {first.describe()}")
        self.ids = first.ids
        self._checked = Checked()
        self._rows = {number: self._join(self.experts[number]) for number in self.plan.used}

    def on(self, experts: Sequence[Predictions]) -> ConditionalEnsemble:
        """The same plan with the same experts, in this order, on other photos; all on the same, in one order.

        Args:
            experts: each `self.experts[number].on(ids, layers)`.

        Raises:
            DataError: ids that come twice.
        """
        found = copy(self)
        found.experts = tuple(experts)
        found.ids = found.experts[self.plan.used[0]].ids
        check_unique(found.ids, f"ids of {found.experts[self.plan.used[0]].describe()}")
        found._checked = Checked()
        found._rows = dict.fromkeys(self.plan.used)
        return found

    def _join(self, expert: Predictions) -> IntArray | None:
        return match_ids(expert.ids, self.ids, expert.describe(), "predict all experts on the same photos")

    def describe(self) -> str:
        """The table state -> expert, and the experts that are not used."""
        lines: list[tuple[str, str, str]] = []
        for step in self.plan.steps:
            for row, number in zip(step.states, step.expert_of_state, strict=True):
                if number >= 0:
                    lines.append((step.node.name, self._state_text(step, row), self._answer_text(step, int(number))))
            closed = [row for row, number in zip(step.states, step.expert_of_state, strict=True) if number < 0]
            if len(closed) > SHOWN_CLOSED:
                lines.append((step.node.name, f"{len(closed)} further states", "(one possible class)"))
            else:
                lines += [(step.node.name, self._state_text(step, row), "(one possible class)") for row in closed]
        unused = [wrap(f"not used: {self.experts[number].describe()}") for number in self.plan.unused]
        return "\n".join([fitted(("node", "state", "answered by"), lines, WIDTH, 3), *unused])

    def _state_text(self, step: Step, row: IntArray) -> str:
        names = {p: (self.schema[p].classes[i],) for p, i in zip(step.node.parents, row, strict=True)}
        return describe_condition(names) if names else "-"

    def _answer_text(self, step: Step, number: int) -> str:
        expert = self.experts[number]
        n_voters = f"{len(expert.voters)} voter" + ("s" if len(expert.voters) > 1 else "")
        note = ", fallback" if len(expert.condition) < len(step.node.parents) else ""
        return f"{expert.describe()} ({n_voters}{note})"

    def combine(
        self,
        *,
        route: str | Route | Mapping[str, str | Route] = "soft",
        vote: str | Vote | Mapping[str, str | Vote] = "soft",
        vote_at: VoteAt = "expert",
        voters: Sequence[str] | None = None,
        weights: Weights | None = None,
        adjust: Mapping[str, Adjust] | None = None,
        dtype: DType = "float32",
        missing: Missing = "refuse",
        out: Path | None = None,
        fill: Fill | None = None,
    ) -> Combined:
        """Joint probabilities of every photo.

        Votes, weights and adjustments may be given by place: an expert as `describe()` says it ("age given
        mask=worn"), a node's name ("age": all its experts; an expert's own entry goes before its node's), or "joint".

        Args:
            route: a name in ROUTERS, with a number where it takes one ("threshold=0.9"), or a function belief -> gate;
                or one for each node with parents, by the node's name (soft where none is given).
            vote: a name in VOTES or a function (probs, weights) -> distribution; or one for each place (soft where
                none is given).
            vote_at: "expert" = the voters of each expert vote, then the route follows; "joint" = each voter's chain is
                routed by itself, then the joint probabilities vote (all experts need the same voters' names).
            voters: names of the voters that take part; all when left out.
            weights: by voter's name; or for each place a mapping by voter's name. 1 where none is given.
            adjust: for each place a function on probabilities `(n_samples, n_classes)`, the expert's own columns in
                the expert's order, applied row by row after the expert's vote (with vote_at="joint" to each voter's
                answer), and "joint" to the finished joint probabilities. A temperature or a shifted prior goes here.
            missing: "refuse" = a photo without a prediction that its route needs is an error; "abstain" = it has no
                answer. What no route asks for may be missing in any case.
            dtype: of the joint probabilities that are kept. What float32 could decide otherwise than float64 is worked
                out in float64 either way; float32 holds probabilities to seven digits.
            out: a folder for the joint probabilities, as a prediction set (float32).
            fill: called before rows of an expert are read, with the expert, the names of its voters that count and the
                row numbers; it may write them into `expert.layers`. So an expert whose rows are NaN at first can be a
                network that runs only where the route asks for it (`answering.answer_table` is that).

        Raises:
            UsageError: unknown names; a route, vote or adjustment that breaks its contract.
            DataError: a photo without a prediction that is needed; numbers that are no probabilities.
        """
        routes = self._routes(route)
        choices = (("vote_at", vote_at, VOTE_AT), ("dtype", dtype, DTYPES), ("missing", missing, MISSING))
        for name, given, known in choices:
            if given not in known:
                raise UsageError(f'unknown {name} "{given}"{nearest(str(given), known)}')
        if out is not None and dtype != "float32":
            raise UsageError("a prediction set holds float32: leave dtype out, or combine without out")
        panel = Panel(
            self.plan, self.experts, self.ids, self._rows, self._checked,
            voters=voters, vote=vote, vote_at=vote_at, weights=weights, adjust=adjust, fill=fill,
        )  # fmt: skip
        n_samples = len(self.ids)
        joint = np.zeros((n_samples, self.schema.n_joint), dtype=np.dtype(dtype))
        described = {number: self.experts[number].describe() for number in self.plan.used}
        trace = Trace.empty(self.plan, described, {n: route_name(r) for n, r in routes.items()}, n_samples)

        def keep(photos: Photos, passed: Passed) -> None:
            joint[photos] = passed.joint
            trace.fill(photos, passed)

        self._pass_all(panel, routes, keep, dtype)
        if missing == "refuse":
            panel.refuse_missing()
        classes = [
            [a.classes[i] for a, i in zip(self.schema.attributes, row, strict=True)] for row in self.schema.paths
        ]
        result = Predictions(
            self.schema.attributes, joint, self.ids, classes=classes, voters=["combined"], checked=True
        )
        if out is not None:
            save_predictions(out, [result], self.schema)
        counts = {described[number]: count for number, count in panel.counts.items()}
        return Combined(result, trace.gates, counts, self.graph, trace)

    def labels(
        self,
        *,
        route: str | Route | Mapping[str, str | Route] = "soft",
        vote: str | Vote | Mapping[str, str | Vote] = "soft",
        vote_at: VoteAt = "expert",
        voters: Sequence[str] | None = None,
        weights: Weights | None = None,
        adjust: Mapping[str, Adjust] | None = None,
    ) -> IntArray:
        """The most probable joint class of every photo `(n_samples,)`, -1 = abstained.

        What `combine` with the same arguments has as labels, in memory for a few blocks and the labels alone, however
        many photos there are.

        Raises:
            UsageError, DataError: as `combine`.
        """
        if vote_at not in VOTE_AT:
            raise UsageError(f'unknown vote_at "{vote_at}"{nearest(str(vote_at), VOTE_AT)}')
        routes = self._routes(route)
        panel = Panel(
            self.plan, self.experts, self.ids, self._rows, self._checked,
            voters=voters, vote=vote, vote_at=vote_at, weights=weights, adjust=adjust,
        )  # fmt: skip
        labels = np.empty(len(self.ids), dtype=np.int64)

        def keep(photos: Photos, passed: Passed) -> None:
            labels[photos] = best_columns(passed.joint)

        def descend(photos: slice) -> IntArray:
            labels[photos], again = panel.descend(photos)
            return again

        if panel.descends(routes):
            again = np.concatenate([*side_by_side(descend, self._blocks()), np.zeros(0, dtype=np.int64)])
            self._pass(panel, routes, keep, self._blocks(again), np.dtype(np.float64))
        else:
            self._pass_all(panel, routes, keep, "float32")
        panel.refuse_missing()
        return labels

    def voted(
        self,
        *,
        vote: str | Vote | Mapping[str, str | Vote] = "soft",
        voters: Sequence[str] | None = None,
        weights: Weights | None = None,
        adjust: Mapping[str, Adjust] | None = None,
    ) -> dict[int, FloatArray]:
        """What each expert that is used answers once its voters have voted and it is adjusted, asked for or not.

        Args:
            vote, voters, weights, adjust: as `combine` takes them, with vote_at="expert".

        Returns:
            The expert's number -> `(n_samples, n_classes)` float64 in its own columns, rows as `ids`; a row of zeros
            where its voters abstained or were not computed.

        Raises:
            UsageError, DataError: as `combine`.
        """
        panel = Panel(
            self.plan, self.experts, self.ids, self._rows, self._checked,
            voters=voters, vote=vote, vote_at="expert", weights=weights, adjust=adjust,
        )  # fmt: skip
        return panel.voted(len(self.ids))

    def _pass_all(self, panel: Panel, routes: Mapping[Node, Route], keep: Keep, dtype: str) -> None:
        """Every photo; what float32 leaves in doubt is passed again in float64."""
        again = self._pass(panel, routes, keep, self._blocks(), panel.precision(routes, dtype))
        self._pass(panel, routes, keep, self._blocks(again), np.dtype(np.float64))

    def _pass(
        self,
        panel: Panel,
        routes: Mapping[Node, Route],
        keep: Keep,
        blocks: Sequence[Photos],
        precision: FloatType,
    ) -> IntArray:
        """Blocks of photos, side by side where nothing but our own rules is called; the photos left in doubt."""

        def work(photos: Photos) -> Asked:
            passed, asked = panel.answer(photos, routes, precision)
            keep(photos, passed)
            return asked

        again = [np.zeros(0, dtype=np.int64)]
        for asked in side_by_side(work, blocks, 0 if panel.looks_by_rows(routes) else 1):
            panel.note(asked)
            again.append(asked.again)
        return np.concatenate(again)

    def _blocks(self, photos: IntArray | None = None) -> list[Any]:
        """All photos, as slices, or some by their numbers."""
        n_rows = min(BLOCK_ROWS, max(1, BLOCK_BYTES // (8 * self.schema.n_joint + 1)))
        starts = range(0, len(self.ids) if photos is None else len(photos), n_rows)
        if photos is not None:
            return [photos[start : start + n_rows] for start in starts]
        return [slice(start, min(start + n_rows, len(self.ids))) for start in starts]

    def _routes(self, route: str | Route | Mapping[str, str | Route]) -> dict[Node, Route]:
        nodes = {step.node.name: step.node for step in self.plan.steps if step.node.parents}
        if not isinstance(route, Mapping):
            found = find_route(route)
            return dict.fromkeys(nodes.values(), found)
        for name in route:
            if name not in nodes:
                raise UsageError(f'route: "{name}" is no node with parents{nearest(name, nodes)}')
        return {node: find_route(route.get(name, "soft")) for name, node in nodes.items()}
