"""Single voters followed through the graph: each one's joint probabilities, and whom its route asks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from ensemble_kit.arrays import FloatArray, IdArray, IntArray
from ensemble_kit.ensemble import ConditionalEnsemble
from ensemble_kit.errors import DataError
from ensemble_kit.graph import Graph, Node
from ensemble_kit.hooks import JOINT, Adjust
from ensemble_kit.predictions import Predictions
from ensemble_kit.schema import Schema


@dataclass(frozen=True, eq=False)
class Chains:
    """The voters that all needed experts share, each one's predictions combined by itself; experts' rows in one order.

    Attributes:
        schema, graph: what is predicted, and along what.
        voters: names, sorted, as `combine` passes them.
        ensembles: one for each voter, of the same experts in the same order.
        adjust: for each place a function on probabilities; those of other experts are left aside.
    """

    schema: Schema
    graph: Graph
    voters: tuple[str, ...]
    ensembles: tuple[ConditionalEnsemble, ...]
    adjust: Mapping[str, Adjust]

    @classmethod
    def of(
        cls,
        experts: Sequence[Predictions],
        schema: Schema,
        graph: Graph,
        combine: Mapping[str, Any],
        adjust: Mapping[str, Adjust] | None = None,
    ) -> Chains:
        """Raises DataError when the experts have no voter in common; UsageError where a state has no expert."""
        whole = ConditionalEnsemble(schema, graph, experts, fallback=combine["fallback"])
        used = [whole.experts[number] for number in whole.plan.used]
        voters = sorted(set[str].intersection(*(set(expert.voters) for expert in used)))
        if not voters:
            told = "; ".join(f"{expert.describe()}: {', '.join(expert.voters)}" for expert in used[:2])
            raise DataError(f"no voter has predicted every expert ({told}, ...); predict the same folds of each")
        alone = [
            ConditionalEnsemble(
                schema, graph, [expert.select_voters([voter]) for expert in used], fallback=combine["fallback"]
            )
            for voter in voters
        ]
        known = {expert.describe() for expert in used} | {node.name for node in graph.nodes} | {JOINT}
        kept = {place: function for place, function in (adjust or {}).items() if place in known}
        return cls(schema, graph, tuple(voters), tuple(alone), kept)

    @property
    def experts(self) -> tuple[Predictions, ...]:
        """Of the first voter; the other voters' are alike."""
        return self.ensembles[0].experts

    @property
    def ids(self) -> IdArray:
        return self.ensembles[0].ids

    def experts_of(self, node: Node) -> list[Predictions]:
        """Those that some state of the node asks."""
        numbers = self._numbers(self.ensembles[0], node)[1]
        return [self.experts[number] for number in sorted(set(numbers.tolist())) if number >= 0]

    def joint(self, route: Any) -> Predictions:
        """Each voter's joint probabilities, adjusted."""
        found = [
            ensemble.combine(route=route, adjust=self.adjust, dtype="float64").joint for ensemble in self.ensembles
        ]
        first = found[0]
        layers = [each.layers[0] for each in found]
        return Predictions(first.attributes, layers, first.ids, classes=first.classes, voters=self.voters)

    def at(self, node: Node, only: str | None = None) -> Predictions:
        """The answers of the node's experts, adjusted: of each photo that of the expert whom the voter's own most
        probable classes of the parents ask. Rows of photos that ask another expert than `only` are NaN.
        """
        layers = []
        for ensemble, labels in zip(self.ensembles, self._hard_labels, strict=True):
            asked = self._asked(ensemble, node, labels)
            layer: FloatArray | None = None
            for number, expert in enumerate(ensemble.experts):
                rows = np.flatnonzero(asked == number)
                if set(expert.names) == set(node.attributes) and only in (None, expert.describe()):
                    layer = np.full((len(labels), len(expert.classes)), np.nan) if layer is None else layer
                    layer[rows] = self._adjusted(expert, node, rows)
            assert layer is not None, "a place without an expert"
            layers.append(layer)
        first = next(expert for expert in self.experts_of(node) if only in (None, expert.describe()))
        return Predictions(first.attributes, layers, self.ids, classes=first.classes, voters=self.voters)

    def _adjusted(self, expert: Predictions, node: Node, rows: IntArray) -> FloatArray:
        values = np.asarray(expert.layers[0][rows]).astype(np.float64)
        function = self.adjust.get(expert.describe(), self.adjust.get(node.name))
        return values if function is None or not len(rows) else np.asarray(function(values))

    @cached_property
    def _hard_labels(self) -> list[IntArray]:
        return [ensemble.combine(route="hard").joint.labels() for ensemble in self.ensembles]

    def _asked(self, ensemble: ConditionalEnsemble, node: Node, labels: IntArray) -> IntArray:
        """The number of the expert that each photo asks; -1 = none."""
        states, numbers = self._numbers(ensemble, node)
        asked = np.full(len(labels), -1, dtype=np.int64)
        classes = self.schema.decode(labels)
        for state, number in zip(states, numbers, strict=True):
            fits = labels >= 0
            for parent, wanted in zip(node.parents, state, strict=True):
                fits = fits & (classes[parent] == wanted)
            asked[fits] = number
        return asked

    def _numbers(self, ensemble: ConditionalEnsemble, node: Node) -> tuple[IntArray, IntArray]:
        """The node's states `(n_states, n_parents)` and the expert of each."""
        step = next(step for step in ensemble.plan.steps if step.node == node)
        return step.states, step.expert_of_state
