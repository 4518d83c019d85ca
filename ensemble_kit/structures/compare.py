"""A pooled expert against specialised ones, on the photos that the specialised ones are for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ensemble_kit.arrays import IdArray, IntArray
from ensemble_kit.conditions import under_condition
from ensemble_kit.graph import Graph, describe_condition
from ensemble_kit.metrics import Tally, View, interval
from ensemble_kit.predictions import Predictions
from ensemble_kit.schema import Attribute, Schema
from ensemble_kit.structure_report import Comparison, Interval
from ensemble_kit.structures.answers import common_voters, expert_answers, marginal_labels, votings_of
from ensemble_kit.structures.scorer import Measured, Scorer


def compare_experts(
    experts: Sequence[Predictions],
    schema: Schema,
    graph: Graph,
    true: Mapping[str, IntArray],
    groups: IdArray | None,
    votes: Sequence[str],
    *,
    n_boot: int,
    seed: int,
) -> tuple[list[Comparison], dict[str, str]]:
    """Every specialised expert of the graph against the pooled one of the same attributes.

    Args:
        experts: on the same photos in the same order.
        schema: the attributes.
        graph: its conditioned nodes are looked at.
        true: attribute -> class numbers `(n_samples,)`; choose the photos and are the truth.
        groups: `(n_samples,)` whose photo it is; None = no intervals, no verdict.
        votes: across voters, beside each checkpoint alone.
        n_boot: draws of people.
        seed: of the draws.

    Returns:
        The comparisons by node, condition, attribute and voting; and what could not be compared, with the reason.
    """
    found: list[Comparison] = []
    left_out: dict[str, str] = {}
    for node in graph.nodes:
        mine = [e for e in experts if set(e.names) == set(node.attributes) and set(e.condition) <= set(node.parents)]
        pooled = next((expert for expert in mine if not expert.condition), None)
        special = [expert for expert in mine if expert.condition]
        if pooled is None:
            if special:
                left_out[f"{node.name}, pooled against specialised"] = f"no pooled {node.name} expert"
            continue
        for expert in special:
            rows = np.flatnonzero(under_condition(expert.condition, schema, true))
            if not len(rows):
                left_out[f"{expert.describe()}, against pooled"] = "no photo of this state"
                continue
            scorer = Scorer(None if groups is None else groups[rows], n_boot, seed)
            pair = (pooled.select(rows), expert.select(rows))
            found += _compare(pair, {schema[name]: true[name][rows] for name in node.attributes}, votes, scorer)
    return found, left_out


def _compare(
    pair: tuple[Predictions, Predictions], truth: Mapping[Attribute, IntArray], votes: Sequence[str], scorer: Scorer
) -> list[Comparison]:
    """Each attribute by the pooled and the specialised expert, under each voting."""
    votings = votings_of(pair, votes)
    voters = common_voters(pair)
    measured = scorer.measure(
        {
            (attribute, voting, number): [
                _tally(answer, attribute, true) for answer in expert_answers(expert, voting, voters)
            ]
            for attribute, true in truth.items()
            for voting, _ in votings
            for number, expert in enumerate(pair)
        }
    )
    return [
        _comparison(
            (attribute.name, describe_condition(pair[1].condition), voting, n_voters, pair[1].n_samples),
            measured[attribute, voting, 0][0],
            measured[attribute, voting, 1][0],
        )
        for attribute in truth
        for voting, n_voters in votings
    ]


def _tally(answer: Predictions, attribute: Attribute, truth: IntArray) -> Tally:
    return Tally(truth, marginal_labels(answer, attribute.name), [View.all(len(attribute.classes))])


def _comparison(what: tuple[str, str, str, int, int], pooled: Measured, special: Measured) -> Comparison:
    return Comparison(
        *what,
        pooled.score(),
        special.score(),
        special.values["accuracy"] - pooled.values["accuracy"],
        special.values["macro_f1"] - pooled.values["macro_f1"],
        _gain(pooled, special, "accuracy"),
        _gain(pooled, special, "macro_f1"),
    )


def _gain(pooled: Measured, special: Measured, metric: str) -> Interval | None:
    draws = special.gain_over(pooled, metric)
    return None if draws is None else interval(draws)
