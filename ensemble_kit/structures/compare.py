"""A pooled expert against specialised ones, on the photos that the specialised ones are for."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

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
            truth = {schema[name]: true[name][rows] for name in node.attributes}
            found += _compare(pair, truth, votes, scorer, _possible(expert, schema))
    return found, left_out


def _compare(
    pair: tuple[Predictions, Predictions],
    truth: Mapping[Attribute, IntArray],
    votes: Sequence[str],
    scorer: Scorer,
    possible: Collection[tuple[str, ...]] | None,
) -> list[Comparison]:
    """Each attribute by the pooled and the specialised expert, under each voting."""
    votings = votings_of(pair, votes)
    voters = common_voters(pair)
    measured = scorer.measure(
        {
            (attribute, voting, number): [
                _tally(answer, attribute, true, possible) for answer in expert_answers(expert, voting, voters)
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


def _possible(expert: Predictions, schema: Schema) -> set[tuple[str, ...]] | None:
    """The classes of a taxonomy that exist under the expert's condition; None = every one the expert knows."""
    if schema.is_product:
        return None
    numbers = schema.decode(np.arange(schema.n_joint))
    under = under_condition(expert.condition, schema, numbers)
    columns = [[a.classes[i] for i in numbers[a.name][under]] for a in expert.attributes]
    return set(zip(*columns, strict=True))


def _tally(
    answer: Predictions, attribute: Attribute, truth: IntArray, possible: Collection[tuple[str, ...]] | None
) -> Tally:
    """The labels beside the truth; in a taxonomy among the possible classes alone, as when the experts are combined."""
    if possible is None:
        return Tally(truth, marginal_labels(answer, attribute.name), [View.all(len(attribute.classes))])
    labels = marginal_labels(_restricted(answer, possible), attribute.name)
    place = answer.names.index(attribute.name)
    known = np.array(sorted({attribute.index(names[place]) for names in possible}), dtype=np.int64)
    local = np.where(labels < 0, -1, np.searchsorted(known, labels))
    return Tally(np.searchsorted(known, truth), local, [View.all(len(known))])


def _restricted(answer: Predictions, possible: Collection[tuple[str, ...]]) -> Predictions:
    """The answer's possible classes, divided by their sum; equal shares where they had no probability."""
    kept = [column for column, names in enumerate(answer.classes) if names in possible]
    (layer,) = answer.layers
    probs = np.asarray(layer[:, kept], dtype=np.float64)
    total = np.zeros((len(probs), 1), dtype=np.float64)
    for column in probs.T:
        total[:, 0] += column
    equal = np.full_like(probs, 1 / len(kept))
    shares = np.divide(probs, total, out=equal, where=total > 0)
    classes = [answer.classes[column] for column in kept]
    return Predictions(answer.attributes, shares.astype(np.float32), answer.ids, classes=classes)


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
