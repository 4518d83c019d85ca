"""The structures that a set of experts allows, and what they answer under each voting."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ensemble_kit.arrays import IntArray
from ensemble_kit.ensemble import ConditionalEnsemble, Fallback
from ensemble_kit.errors import UsageError
from ensemble_kit.graph import Graph
from ensemble_kit.joint import with_known
from ensemble_kit.predictions import Predictions
from ensemble_kit.schema import Schema
from ensemble_kit.voting import find_vote


@dataclass(frozen=True)
class Structure:
    """Experts along a graph, and the route between them."""

    name: str
    ensemble: ConditionalEnsemble
    route: str

    @property
    def experts(self) -> list[Predictions]:
        return [self.ensemble.experts[number] for number in self.ensemble.plan.used]

    def joints(self, voting: str) -> Iterator[Predictions]:
        """One at a time: what each voter's whole chain answers alone ("one"), or where each expert's voters vote."""
        if voting != "one":
            yield self.ensemble.combine(route=self.route, vote=voting).joint
            return
        for name in common_voters(self.experts):
            yield self.ensemble.combine(route=self.route, voters=[name]).joint


def find_structures(
    experts: Sequence[Predictions], schema: Schema, graph: Graph, fallback: Fallback = "refuse"
) -> tuple[list[Structure], dict[str, str]]:
    """The structures that these experts can answer, and for the others the reason why not."""
    graph.check(schema)
    flat, independent = Graph.flat(schema), Graph.independent(schema)
    wanted = [("flat", flat, "soft"), ("independent", independent, "soft")]
    if parents_of(graph):
        wanted += [("conditional_hard", graph, "hard"), ("conditional_soft", graph, "soft")]
    elif graph not in (flat, independent):
        wanted += [("graph", graph, "soft")]
    found: list[Structure] = []
    left_out: dict[str, str] = {}
    for name, asked, route in wanted:
        try:
            found.append(Structure(name, ConditionalEnsemble(schema, asked, experts, fallback=fallback), route))
        except UsageError as error:
            left_out[name] = str(error)
    return found, left_out


def parents_of(graph: Graph) -> tuple[str, ...]:
    """Every attribute that conditions another, in the graph's order."""
    return tuple(name for name in graph.names if any(name in node.parents for node in graph.nodes))


def common_voters(experts: Sequence[Predictions]) -> list[str]:
    """The voters that all the experts have, in the first one's order."""
    return [name for name in experts[0].voters if all(name in expert.voters for expert in experts)]


def votings_of(experts: Sequence[Predictions], votes: Sequence[str]) -> list[tuple[str, int]]:
    """The votings that these experts' voters allow, with the number of voters: "one", and the votes when several."""
    alone, most = len(common_voters(experts)), max(len(expert.voters) for expert in experts)
    return [("one", alone)] * bool(alone) + [(vote, most) for vote in votes if most > 1]


def told(joint: Predictions, schema: Schema, known: Mapping[str, IntArray]) -> Predictions:
    """The same joint given facts: class numbers `(n_samples,)` of some attributes."""
    given = with_known(np.asarray(joint.layers[0]), schema, known)
    return Predictions(joint.attributes, given, joint.ids, classes=joint.classes)


def marginal_labels(answer: Predictions, attribute: str) -> IntArray:
    """The attribute's most probable class by an answer, class numbers `(n_samples,)`, -1 = abstained."""
    alone = answer.marginal(attribute)
    number = np.array([alone.attributes[0].index(name) for (name,) in alone.classes], dtype=np.int64)
    column = alone.labels()
    return np.where(column < 0, -1, number[column])


def expert_answers(expert: Predictions, voting: str, voters: Sequence[str]) -> Iterator[Predictions]:
    """One expert by itself: each of `voters` alone ("one"), or the vote of all it has."""
    if voting == "one":
        for name in voters:
            yield expert.select_voters([name])
        return
    in_order = expert.select_voters(sorted(expert.voters))
    voted = find_vote(voting)(in_order.probs, np.ones(len(expert.voters)))
    yield Predictions(expert.attributes, voted.astype(np.float32), expert.ids, classes=expert.classes)
