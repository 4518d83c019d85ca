"""Flat, independent and conditional structures scored on the same saved predictions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ensemble_kit.arrays import BoolArray, IdArray, IntArray
from ensemble_kit.errors import DataError, UsageError, nearest
from ensemble_kit.graph import Graph
from ensemble_kit.ids import as_ids, match_ids
from ensemble_kit.predictions import Predictions
from ensemble_kit.schema import Schema
from ensemble_kit.structure_report import ChildRow, StructureReport, StructureRow
from ensemble_kit.structures.answers import (
    Answers,
    find_structures,
    marginal_labels,
    parents_of,
    told,
    votings_of,
)
from ensemble_kit.structures.compare import compare_experts
from ensemble_kit.structures.scorer import Scorer
from ensemble_kit.voting import VOTES

MAX_NAME = 12
"""Longer lists of parents are called "parents", so that the table keeps to 80 columns."""


def score_structures(
    experts: Sequence[Predictions],
    schema: Schema,
    graph: Graph,
    truth: IntArray,
    ids: IdArray,
    *,
    groups: IdArray | None = None,
    votes: Sequence[str] = ("soft", "hard"),
    n_boot: int = 1000,
    seed: int = 0,
) -> StructureReport:
    """Scores every structure the experts allow: flat, independent, conditional hard and soft, perfect parents.

    Args:
        experts: on the same photos, in any order of rows; pooled and flat ones among them add structures.
        schema: the attributes.
        graph: the conditional structure.
        truth: `(n_samples,)` joint index; -1 = not labelled, the photo is left out.
        ids: `(n_samples,)` the photos that `truth` and `groups` are of.
        groups: `(n_samples,)` whose photo it is; gives the intervals.
        votes: names in VOTES; across each expert's voters. Each checkpoint alone is always scored.
        n_boot: draws of people for the intervals; all scores share the draws, so that differences are paired.
        seed: of the draws.

    Returns:
        The report. Scores of an attribute are those of its class in the most probable joint class. What the experts do
        not allow is in `left_out`, with the reason.

    Raises:
        UsageError: no experts, an unknown vote, a graph that is not the schema's.
        DataError: photos that differ between the experts and `ids`, or none that can be scored.
    """
    for vote in votes:
        if vote not in VOTES:
            raise UsageError(f'unknown vote "{vote}"{nearest(vote, VOTES)}')
    same, keep = _same_photos(experts, ids, truth)
    true_joint = np.asarray(truth, dtype=np.int64)[keep]
    if groups is not None:
        _check_length(groups, ids, "a group")
    people = None if groups is None else np.asarray(groups).astype(np.str_)[keep]
    scorer = Scorer(people, n_boot, seed)
    structures, left_out = find_structures(same, schema, graph)
    answers = {
        (structure.name, voting, n_voters): structure.answers(voting)
        for structure in structures
        for voting, n_voters in votings_of(structure.experts, votes)
    }
    true = schema.decode(true_joint)
    known = {name: true[name] for name in parents_of(graph)}
    perfect = {
        (perfect_name(graph), voting, n_voters): told(given, schema, known)
        for (name, voting, n_voters), given in answers.items()
        if name == "conditional_soft"
    }
    comparisons, uncompared = compare_experts(same, schema, graph, true, people, votes, n_boot=n_boot, seed=seed)
    return StructureReport(
        n_samples=len(true_joint),
        n_left_out=int((~keep).sum()),
        n_groups=None if people is None else len(np.unique(people)),
        n_boot=n_boot,
        known=tuple(known) if perfect else (),
        rows=tuple(_row(key, given, true_joint, schema, scorer) for key, given in (answers | perfect).items()),
        children=tuple(_children(answers, schema, graph, true, scorer)),
        comparisons=tuple(comparisons),
        left_out=left_out | uncompared,
    )


def perfect_name(graph: Graph) -> str:
    """`perfect_mask`: the name of the row whose parents are known."""
    names = "_".join(parents_of(graph))
    return f"perfect_{names if len(names) <= MAX_NAME else 'parents'}"


def _check_length(values: IdArray | IntArray, ids: IdArray, what: str) -> None:
    if np.shape(values) != np.shape(ids):
        raise DataError(f"score_structures: expected {what} for each of {len(ids)} ids, found {np.shape(values)}")


def _same_photos(experts: Sequence[Predictions], ids: IdArray, truth: IntArray) -> tuple[list[Predictions], BoolArray]:
    """The experts on the photos that have a label and that all of them have computed, and which of `ids` those are."""
    if not len(experts):
        raise UsageError("score_structures: expected at least one expert's predictions, found none")
    names = as_ids(ids, "score_structures")
    _check_length(truth, names, "a true joint class")
    keep: BoolArray = np.asarray(truth) >= 0
    joined = []
    for expert in experts:
        order = match_ids(expert.ids, names, expert.describe())
        layers = [np.asarray(layer if order is None else layer[order]) for layer in expert.layers]
        for layer in layers:
            keep &= np.isfinite(layer).all(axis=1)
        joined.append(layers)
    if not keep.any():
        raise DataError(
            f"score_structures: none of {len(names)} photos has both a label and a prediction by every expert; predict "
            "the photos whose answers are known"
        )
    kept = [
        Predictions(e.attributes, [layer[keep] for layer in layers], names[keep], e.condition, e.classes, e.voters)
        for e, layers in zip(experts, joined, strict=True)
    ]
    return kept, keep


def _row(
    key: tuple[str, str, int], answers: Answers, true_joint: IntArray, schema: Schema, scorer: Scorer
) -> StructureRow:
    name, voting, n_voters = key
    labels = [joint.labels() for joint in answers]
    true, parts = schema.decode(true_joint), [schema.decode(given) for given in labels]
    attributes = {
        a.name: scorer.score(true[a.name], [part[a.name] for part in parts], len(a.classes)) for a in schema.attributes
    }
    return StructureRow(name, voting, n_voters, scorer.score(true_joint, labels, schema.n_joint), attributes)


def _children(
    answers: dict[tuple[str, str, int], Answers],
    schema: Schema,
    graph: Graph,
    true: dict[str, IntArray],
    scorer: Scorer,
) -> list[ChildRow]:
    """Each conditioned attribute by the expert of the predicted state (hard route) and by that of the true one."""
    children = []
    for node in graph.nodes:
        known = {name: true[name] for name in node.parents}
        for (name, voting, n_voters), soft in answers.items():
            if name != "conditional_soft" or not node.parents:
                continue
            routed = answers["conditional_hard", voting, n_voters]
            for attribute in node.attributes:
                scores = [
                    scorer.score(true[attribute], marginal_labels(given, attribute), len(schema[attribute].classes))
                    for given in (routed, told(soft, schema, known))
                ]
                children.append(ChildRow(attribute, node.parents, voting, n_voters, *scores))
    return children
