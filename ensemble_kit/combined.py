"""What combining gives: the joint probabilities, and for every row how it came about."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ensemble_kit.arrays import FloatArray, IntArray
from ensemble_kit.decisions import Decide, decide_labels
from ensemble_kit.errors import UsageError
from ensemble_kit.graph import Graph, Node
from ensemble_kit.joint import with_known
from ensemble_kit.predictions import Predictions
from ensemble_kit.schema import Schema
from ensemble_kit.trace import Trace

if TYPE_CHECKING:
    import pandas as pd


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

        Examples:
            >>> from ensemble_kit.ensemble import ConditionalEnsemble
            >>> from ensemble_kit.schema import Attribute
            >>> schema = Schema(Attribute("mask", ["on", "off"]), Attribute("age", ["young", "old"]))
            >>> ages = [[[0.5, 0.5]], [[0.0, 1.0]]]  # one photo, one expert a mask state
            >>> experts = [Predictions(schema["mask"], [[0.6, 0.4]], ["a"])]
            >>> experts += [
            ...     Predictions(schema["age"], probs, ["a"], condition={"mask": state})
            ...     for state, probs in zip(["on", "off"], ages, strict=True)
            ... ]
            >>> result = ConditionalEnsemble(schema, Graph({"mask": [], "age": ["mask"]}), experts).combine()
            >>> names = schema.joint_names()
            >>> result.joint.probs[0].astype(float).round(2).tolist()
            [[0.3, 0.3, 0.0, 0.4]]
            >>> {decide: names[result.labels(decide)[0]] for decide in ("joint", "attribute", "top_down")}
            {'joint': 'off / old', 'attribute': 'on / old', 'top_down': 'on / young'}
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
        is_soft = (self.distance == 0) | (self.joint.labels() < 0)
        if not is_soft.all():
            n_other = int((~is_soft).sum())
            raise UsageError(
                f"known facts need the soft joint, found {n_other} rows of another; combine with route=soft"
            )
        told = with_known(np.asarray(self.joint.layers[0]), self.schema, known)
        joint = Predictions(
            self.joint.attributes, told, self.joint.ids, classes=self.joint.classes, voters=["combined"]
        )
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
