"""A pooled expert against specialised ones, on the photos that the specialised ones are for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ensemble_kit.arrays import Condition, IdArray, IntArray
from ensemble_kit.graph import Graph, describe_condition
from ensemble_kit.predictions import Predictions
from ensemble_kit.schema import Attribute, Schema
from ensemble_kit.structure_report import Comparison, Interval
from ensemble_kit.structures.answers import common_voters, expert_answers, marginal_labels, votings_of
from ensemble_kit.structures.people import interval
from ensemble_kit.structures.scorer import Draws, Scorer


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
            rows = _rows_of(expert.condition, schema, true)
            if not len(rows):
                left_out[f"{expert.describe()}, against pooled"] = "no photo of this state"
                continue
            scorer = Scorer(None if groups is None else groups[rows], n_boot, seed)
            pair = (_select(pooled, rows), _select(expert, rows))
            for name in node.attributes:
                found += _compare(pair, schema[name], true[name][rows], votes, scorer)
    return found, left_out


def _rows_of(condition: Condition, schema: Schema, true: Mapping[str, IntArray]) -> IntArray:
    """The photos whose true classes fulfil the condition."""
    inside = [np.isin(true[name], [schema[name].index(c) for c in classes]) for name, classes in condition.items()]
    return np.flatnonzero(np.logical_and.reduce(inside))


def _select(expert: Predictions, rows: IntArray) -> Predictions:
    layers = [np.asarray(layer)[rows] for layer in expert.layers]
    return Predictions(expert.attributes, layers, expert.ids[rows], expert.condition, expert.classes, expert.voters)


def _compare(
    pair: tuple[Predictions, Predictions], attribute: Attribute, truth: IntArray, votes: Sequence[str], scorer: Scorer
) -> list[Comparison]:
    """One attribute by the pooled and the specialised expert, under each voting."""
    n_classes = len(attribute.classes)
    compared = []
    for voting, n_voters in votings_of(pair, votes):
        voters = common_voters(pair)
        labels = [marginal_labels(expert_answers(expert, voting, voters), attribute.name) for expert in pair]
        pooled, special = (scorer.score(truth, given, n_classes) for given in labels)
        before, after = (scorer.draws(truth, given, n_classes) for given in labels)
        compared.append(
            Comparison(
                attribute.name,
                describe_condition(pair[1].condition),
                voting,
                n_voters,
                len(truth),
                pooled,
                special,
                special.accuracy - pooled.accuracy,
                special.macro_f1 - pooled.macro_f1,
                _gain(before, after, "accuracy"),
                _gain(before, after, "macro_f1"),
            )
        )
    return compared


def _gain(before: Draws | None, after: Draws | None, metric: str) -> Interval | None:
    if before is None or after is None:
        return None
    return interval(after[metric] - before[metric])
