"""The structures that a set of experts allows, and what they answer under each voting."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ensemble_kit.arrays import IntArray
from ensemble_kit.ensemble import ConditionalEnsemble
from ensemble_kit.errors import UsageError
from ensemble_kit.graph import Graph
from ensemble_kit.joint import with_known
from ensemble_kit.predictions import Predictions
from ensemble_kit.schema import Schema
from ensemble_kit.voting import find_vote

Answers = list[Predictions]
"""What one voting answers: one joint, or with "one" a joint for each checkpoint used alone."""


@dataclass(frozen=True)
class Structure:
    """Experts along a graph, and the route between them."""

    name: str
    ensemble: ConditionalEnsemble
    route: str

    @property
    def experts(self) -> list[Predictions]:
        return [self.ensemble.experts[number] for number in self.ensemble.plan.used]

    def answers(self, voting: str) -> Answers:
        """The joints of each voter's whole chain alone ("one"), or the joint where each expert's voters vote first."""
        if voting != "one":
            return [self.ensemble.combine(route=self.route, vote=voting).joint]
        return [self.ensemble.combine(route=self.route, voters=[name]).joint for name in common_voters(self.experts)]


def find_structures(
    experts: Sequence[Predictions], schema: Schema, graph: Graph
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
            found.append(Structure(name, ConditionalEnsemble(schema, asked, experts), route))
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


def told(answers: Answers, schema: Schema, known: Mapping[str, IntArray]) -> Answers:
    """The same joints given facts: class numbers `(n_samples,)` of some attributes."""
    return [
        Predictions(joint.attributes, with_known(joint.layers[0], schema, known), joint.ids, classes=joint.classes)
        for joint in answers
    ]


def marginal_labels(answers: Sequence[Predictions], attribute: str) -> list[IntArray]:
    """The attribute's most probable class by each of the answers, class numbers `(n_samples,)`, -1 = abstained."""
    found = []
    for answer in answers:
        alone = answer.marginal(attribute)
        number = np.array([alone.attributes[0].index(name) for (name,) in alone.classes], dtype=np.int64)
        column = alone.labels()
        found.append(np.where(column < 0, -1, number[column]))
    return found


def expert_answers(expert: Predictions, voting: str, voters: Sequence[str]) -> Answers:
    """One expert by itself: each of `voters` alone ("one"), or the vote of all it has."""
    if voting == "one":
        return [expert.select_voters([name]) for name in voters]
    in_order = expert.select_voters(sorted(expert.voters))
    voted = find_vote(voting)(in_order.probs, np.ones(len(expert.voters)))
    return [Predictions(expert.attributes, voted.astype(np.float32), expert.ids, classes=expert.classes)]
