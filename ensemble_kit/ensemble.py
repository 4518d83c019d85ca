"""The ensemble: holds experts' predictions, joins them by id, votes, routes and combines them block by block."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ensemble_kit.arrays import FloatArray, IntArray
from ensemble_kit.decisions import Decide, decide_labels
from ensemble_kit.errors import UsageError, nearest
from ensemble_kit.graph import Graph, Node, describe_condition
from ensemble_kit.hooks import Adjust, Weights
from ensemble_kit.ids import check_unique, match_ids
from ensemble_kit.joint import Plan, Step, make_plan, with_known
from ensemble_kit.panel import Panel
from ensemble_kit.predictions import Predictions, save_predictions
from ensemble_kit.routing import Route, find_route, route_name
from ensemble_kit.schema import Schema
from ensemble_kit.trace import Trace
from ensemble_kit.voting import Vote

if TYPE_CHECKING:
    import pandas as pd

Fallback = Literal["refuse", "pooled"]
VoteAt = Literal["expert", "joint"]
DType = Literal["float32", "float64"]

VOTE_AT: tuple[VoteAt, ...] = ("expert", "joint")
DTYPES: tuple[DType, ...] = ("float32", "float64")

BLOCK_ROWS = 8192
BLOCK_BYTES = 16 * 2**20
"""A block's joint probabilities stay below this, in float64."""


@dataclass(frozen=True, eq=False, repr=False)
class Combined:
    """What combining gives, and what every row of it carries.

    Attributes:
        joint: predictions of all attributes as one block, one voter, columns = the schema's joint classes.
        gates: for each node with parents `(n_samples, n_states)`.
        counts: photos that each expert was asked for.
        graph: along which it was combined.
        trace: how the routes went, row by row.

    With vote_at="joint" gates, confidence and kept are the voters' weighted means (weights as given, a voter that
    abstains counting as 0), a state is kept where any voter keeps it, and an expert counts as run where any voter's
    chain asked it.
    """

    joint: Predictions
    gates: dict[Node, FloatArray]
    counts: dict[str, int]
    graph: Graph
    trace: Trace

    @property
    def schema(self) -> Schema:
        return self.trace.plan.schema

    @property
    def confidence(self) -> dict[Node, FloatArray]:
        """For each node with parents `(n_samples,)`: the belief's highest value, so how sure the router is."""
        return self.trace.confidence

    @property
    def kept(self) -> dict[Node, FloatArray]:
        """For each node with parents `(n_samples,)`: the share of the belief on the states that the gate keeps."""
        return self.trace.kept

    @property
    def distance(self) -> FloatArray:
        """Total variation between each row's joint and the soft joint of the same votes, `(n_samples,)`, 0 to 1.

        `1 - prod over nodes of kept`, an equality (see `joint.Passed`), for every gate that is the belief of some
        states divided by their sum: all routes of the table, and any function that does so. NaN where it is not known:

        - the row abstained, or a function's gate is of another form;
        - vote_at="joint", unless every voter's own distance is 0 (the vote of the distances is no distance of votes);
        - `adjust` has a function on the joint, unless the distance was 0 before it.
        """
        return self.trace.distance

    @property
    def mean_distance(self) -> float:
        """Over the rows where it is known; NaN where none is."""
        known = self.distance[np.isfinite(self.distance)]
        return float(known.mean()) if len(known) else float("nan")

    @property
    def max_distance(self) -> float:
        """Over the rows where it is known; NaN where none is."""
        known = self.distance[np.isfinite(self.distance)]
        return float(known.max()) if len(known) else float("nan")

    def labels(self, decide: Decide = "joint") -> IntArray:
        """One joint class a row `(n_samples,)`; -1 = abstained.

        Args:
            decide: "joint" = the most probable joint class; "attribute" = each attribute's own most probable class;
                "top_down" = along the graph, each node's most probable class given those already picked.

        Raises:
            UsageError: an unknown decision.
        """
        return decide_labels(self.joint, self.schema, self.graph, decide)

    def given(self, known: Mapping[str, ArrayLike]) -> Combined:
        """The same result told facts, by Bayes on its joint; routes and counts stay those of before the facts.

        Args:
            known: attribute -> class numbers `(n_samples,)`, -1 where it is not known.

        Raises:
            UsageError: the joint is not the soft one, so that facts against its gates would be lost.
            DataError: numbers that are no classes, or facts that no joint class has together.
        """
        if not np.all(self.distance[np.isfinite(self.distance)] == 0):
            raise UsageError("known facts need the soft joint; combine with route=soft")
        told = with_known(np.asarray(self.joint.layers[0]), self.schema, known)
        joint = Predictions(self.joint.attributes, told, self.joint.ids, classes=self.joint.classes, voters=["combined"])
        return replace(self, joint=joint)

    def rows(self) -> dict[str, NDArray[Any]]:
        """Every row in words, as columns `(n_samples,)`.

        `id, label, joint_class, probability`; for each node with parents `<node>_route` ("one state", "2 of 3
        states", "all states", "abstained"), `<node>_state` (the most probable of the kept ones), `<node>_confidence`,
        `<node>_kept`; `distance`, `experts` (those run) and `reason`. Worked out when called.
        """
        labels = self.joint.labels()
        names = np.array([*self.schema.joint_names(), ""], dtype=object)
        probs = np.asarray(self.joint.layers[0])
        highest = probs.max(axis=1, initial=0)
        columns: dict[str, NDArray[Any]] = {
            "id": self.joint.ids, "label": labels, "joint_class": names[labels], "probability": highest
        }  # fmt: skip
        columns["distance"] = self.distance
        return columns | dict(self.trace.columns())

    def to_frame(self) -> pd.DataFrame:
        """`rows()` as a pandas table."""
        import pandas as pd

        return pd.DataFrame(self.rows())

    def summary(self) -> str:
        """A few lines for printing: who was asked, how the routes went, how far that is from the soft joint."""
        n_samples, n_silent = self.joint.n_samples, int((self.joint.labels() < 0).sum())
        lines = [f"photos: {n_samples}" + (f", {n_silent} abstained" if n_silent else "")]
        lines += [f"asked {name}: {count}" for name, count in self.counts.items()]
        for node, shares in self.trace.route_shares():
            told = ", ".join(f"{text} {100 * share:.1f} %" for text, share in shares.items()) or "no photos"
            lines.append(f"route of {node.name} ({self.trace.routes[node]}): {told}")
        if self.trace.routes:
            n_unknown = int(np.isnan(self.distance).sum())
            unknown = f"; not known for {n_unknown} photos" if n_unknown else ""
            known = f"mean {self.mean_distance:.4g}, highest {self.max_distance:.4g}" if n_unknown < n_samples else "-"
            lines.append(f"distance to the soft joint: {known}{unknown}")
        return "\n".join(lines)

    def __repr__(self) -> str:
        return f"Combined({self.joint.n_samples} samples, mean distance to soft {self.mean_distance:.4g})"


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
        self.experts = tuple(expert.in_classes_of(schema) for expert in experts)
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
        vote: str | Vote | Mapping[str, str | Vote] = "soft",
        vote_at: VoteAt = "expert",
        voters: Sequence[str] | None = None,
        weights: Weights | None = None,
        adjust: Mapping[str, Adjust] | None = None,
        dtype: DType = "float32",
        out: Path | None = None,
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
            dtype: of the joint probabilities that are kept. Sums run in float64 either way.
            out: a folder for the joint probabilities, as a prediction set (float32).

        Raises:
            UsageError: unknown names; a route, vote or adjustment that breaks its contract.
            DataError: a photo without a prediction that is needed; numbers that are no probabilities.
        """
        routes = self._routes(route)
        for name, given, known in (("vote_at", vote_at, VOTE_AT), ("dtype", dtype, DTYPES)):
            if given not in known:
                raise UsageError(f'unknown {name} "{given}"{nearest(str(given), known)}')
        if out is not None and dtype != "float32":
            raise UsageError("a prediction set holds float32: leave dtype out, or combine without out")
        panel = Panel(
            self.plan, self.experts, self.ids, self._rows,
            voters=voters, vote=vote, vote_at=vote_at, weights=weights, adjust=adjust,
        )  # fmt: skip
        n_samples = len(self.ids)
        joint = np.zeros((n_samples, self.schema.n_joint), dtype=np.dtype(dtype))
        described = {number: self.experts[number].describe() for number in self.plan.used}
        trace = Trace.empty(self.plan, described, {n: route_name(r) for n, r in routes.items()}, n_samples)
        n_rows = min(BLOCK_ROWS, max(1, BLOCK_BYTES // (8 * self.schema.n_joint)))
        for start in range(0, n_samples, n_rows):
            stop = min(start + n_rows, n_samples)
            passed = panel.answer(start, stop, routes)
            joint[start:stop] = passed.joint
            trace.fill(start, stop, passed)
        panel.refuse_missing()
        classes = [
            [a.classes[i] for a, i in zip(self.schema.attributes, row, strict=True)] for row in self.schema.paths
        ]
        result = Predictions(self.schema.attributes, joint, self.ids, classes=classes, voters=["combined"])
        if out is not None:
            save_predictions(out, [result], self.schema)
        counts = {described[number]: count for number, count in panel.counts.items()}
        return Combined(result, trace.gates, counts, self.graph, trace)

    def _routes(self, route: str | Route | Mapping[str, str | Route]) -> dict[Node, Route]:
        nodes = {step.node.name: step.node for step in self.plan.steps if step.node.parents}
        if not isinstance(route, Mapping):
            found = find_route(route)
            return dict.fromkeys(nodes.values(), found)
        for name in route:
            if name not in nodes:
                raise UsageError(f'route: "{name}" is no node with parents{nearest(name, nodes)}')
        return {node: find_route(route.get(name, "soft")) for name, node in nodes.items()}
