"""Flat, independent and conditional structures scored on the same saved predictions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ensemble_kit.arrays import IdArray, IntArray
from ensemble_kit.ensemble import Fallback
from ensemble_kit.errors import UsageError, nearest
from ensemble_kit.graph import Graph
from ensemble_kit.metrics import Tally
from ensemble_kit.predictions import Predictions
from ensemble_kit.schema import Schema
from ensemble_kit.structure_report import ChildRow, StructureReport, StructureRow
from ensemble_kit.structures.answers import Structure, find_structures, parents_of, votings_of
from ensemble_kit.structures.compare import compare_experts
from ensemble_kit.structures.photos import check_length, same_photos
from ensemble_kit.structures.reader import JOINT, PERFECT, Reader, What, child
from ensemble_kit.structures.scorer import Measured, Scorer
from ensemble_kit.voting import VOTES

Key = tuple[str, str, int]
"""Structure, voting, number of voters."""

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
    fallback: Fallback = "refuse",
    scored_on: str = "",
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
        fallback: "pooled" = where no expert names every parent, one that names fewer may answer.
        scored_on: which photos these are, for the report's first line: "the evaluation photos".

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
    in_classes = [expert.in_classes_of(schema) for expert in experts]
    same, keep = same_photos(in_classes, ids, truth, "score_structures")
    true_joint = np.asarray(truth, dtype=np.int64)[keep]
    if groups is not None:
        check_length(groups, ids, "a group", "score_structures")
    people = None if groups is None else np.asarray(groups).astype(np.str_)[keep]
    scorer, reader = Scorer(people, n_boot, seed), Reader(schema, graph, true_joint)
    structures, left_out = find_structures(same, schema, graph, fallback)
    measured = measure_structures(structures, reader, scorer, votes)
    comparisons, uncompared = compare_experts(same, schema, graph, reader.true, people, votes, n_boot=n_boot, seed=seed)
    return StructureReport(
        n_samples=len(true_joint),
        n_left_out=int((~keep).sum()),
        n_groups=None if people is None else len(np.unique(people)),
        n_boot=n_boot,
        known=parents_of(graph) if any(what == PERFECT for _, what in measured) else (),
        rows=tuple(_rows(measured, schema, graph)),
        children=tuple(_children(measured, graph)),
        comparisons=tuple(comparisons),
        left_out=left_out | uncompared,
        scored_on=scored_on,
    )


def measure_structures(
    structures: Sequence[Structure], reader: Reader, scorer: Scorer, votes: Sequence[str]
) -> dict[tuple[Key, What], list[Measured]]:
    """What `reader` takes from every structure under every voting: the schema's joint class first, then its attributes.

    All in one call of the scorer, so that the draws of people are made once.
    """
    asked: dict[tuple[Key, What], list[Tally]] = {}
    for structure in structures:
        for voting, n_voters in votings_of(structure.experts, votes):
            for joint in structure.joints(voting):
                for what, tally in reader.read(joint, structure.name).items():
                    asked.setdefault(((structure.name, voting, n_voters), what), []).append(tally)
    return scorer.measure(asked)


def perfect_name(graph: Graph) -> str:
    """`perfect_mask`: the name of the row whose parents are known."""
    names = "_".join(parents_of(graph))
    return f"perfect_{names if len(names) <= MAX_NAME else 'parents'}"


def _rows(measured: Mapping[tuple[Key, What], list[Measured]], schema: Schema, graph: Graph) -> list[StructureRow]:
    """Every structure under every voting, then the same told the true parents."""
    rows = []
    for wanted in (JOINT, PERFECT):
        for ((name, voting, n_voters), what), views in measured.items():
            if what == wanted:
                joint, *attributes = [view.score() for view in views]
                each = dict(zip(schema.names, attributes, strict=True))
                rows.append(
                    StructureRow(perfect_name(graph) if what == PERFECT else name, voting, n_voters, joint, each)
                )
    return rows


def _children(measured: Mapping[tuple[Key, What], list[Measured]], graph: Graph) -> list[ChildRow]:
    """Each conditioned attribute by the expert of the predicted state (hard route) and by that of the true one."""
    votings = [key[1:] for key, what in measured if what == PERFECT]
    children = []
    for node in graph.nodes:
        for voting, n_voters in votings if node.parents else []:
            for name in node.attributes:
                hard, soft = (
                    measured[(f"conditional_{route}", voting, n_voters), child(name)][0].score()
                    for route in ("hard", "soft")
                )
                children.append(ChildRow(name, node.parents, voting, n_voters, hard, soft))
    return children
