"""A joint read for all that is scored of it, so that the joint itself need not be kept."""

from __future__ import annotations

import numpy as np

from ensemble_kit.arrays import IntArray
from ensemble_kit.graph import Graph
from ensemble_kit.metrics import Tally, View
from ensemble_kit.predictions import Predictions
from ensemble_kit.schema import Schema
from ensemble_kit.structures.answers import marginal_labels, parents_of, told

What = tuple[str, str]
"""JOINT, PERFECT, or ("child", attribute)."""

JOINT: What = ("joint", "")
PERFECT: What = ("perfect", "")

BLOCK_NUMBERS = 2**20
"""Probabilities told facts at a time, 8 MB: what is told is a further table of joint probabilities."""


def child(attribute: str) -> What:
    return ("child", attribute)


class Reader:
    """Takes a joint's labels and holds them against the truth.

    Args:
        schema: the attributes.
        graph: its parents are the facts that may be told.
        true_joint: `(n_samples,)` joint index.

    Raises:
        DataError: an index that is no joint class.
    """

    def __init__(self, schema: Schema, graph: Graph, true_joint: IntArray):
        self.schema, self.graph, self.true_joint = schema, graph, true_joint
        self.true = schema.decode(true_joint)
        attributes = [View(schema.paths[:, i], len(a.classes)) for i, a in enumerate(schema.attributes)]
        self.views = [View.all(schema.n_joint), *attributes]

    def read(self, joint: Predictions, structure: str) -> dict[What, Tally]:
        """The joint's labels, of conditional structures each conditioned attribute's too.

        With soft routes also those of the same joint told the true parents: of the joint class (PERFECT) and of each
        conditioned attribute (by the expert of the true state); with hard ones that of the predicted state's expert.
        """
        size = max(1, BLOCK_NUMBERS // self.schema.n_joint)
        starts = range(0, len(self.true_joint), size)
        blocks = [self._labels(joint, structure, start, start + size) for start in starts]
        return {what: self._tally(what, np.concatenate([block[what] for block in blocks])) for what in blocks[0]}

    def _tally(self, what: What, labels: IntArray) -> Tally:
        kind, name = what
        if kind != "child":
            return Tally(self.true_joint, labels, self.views)
        return Tally(self.true[name], labels, [View.all(len(self.schema[name].classes))])

    def _labels(self, joint: Predictions, structure: str, start: int, stop: int) -> dict[What, IntArray]:
        part = joint.select(np.arange(start, min(stop, joint.n_samples)))
        true = {name: numbers[start:stop] for name, numbers in self.true.items()}
        found = {JOINT: part.labels()}
        if structure == "conditional_soft":
            found[PERFECT] = told(part, self.schema, {name: true[name] for name in parents_of(self.graph)}).labels()
        if structure not in ("conditional_soft", "conditional_hard"):
            return found
        for node in self.graph.nodes:
            if node.parents:
                facts = {name: true[name] for name in node.parents} if structure == "conditional_soft" else {}
                given = told(part, self.schema, facts) if facts else part
                found |= {child(name): marginal_labels(given, name) for name in node.attributes}
        return found
