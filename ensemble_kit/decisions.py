"""From joint probabilities to one joint class a row: the three decisions.

joint:     the most probable joint class.
attribute: each attribute's own most probable class, whatever the others are.
top_down:  along the graph, each node's most probable class given those already decided.

Each is the best for what it is scored by: the joint class as a whole, the attributes apart, the nodes one by one. On
the soft joint, top_down is what routing hard gives (the greedy pipeline), attribute what mixing the experts gives.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike

from ensemble_kit.arrays import FloatArray, IntArray
from ensemble_kit.coverage import rows_of
from ensemble_kit.errors import UsageError, nearest
from ensemble_kit.graph import Graph, Node
from ensemble_kit.predictions import Predictions
from ensemble_kit.schema import Schema

Decide = Literal["joint", "attribute", "top_down"]

DECISIONS: tuple[Decide, ...] = get_args(Decide)

BLOCK_NUMBERS = 2**18
"""Joint probabilities held at a time: 2 MB, which stays in the cache."""


def decide_labels(joint: Predictions, schema: Schema, graph: Graph, decide: Decide = "joint") -> IntArray:
    """One joint class a row `(n_samples,)`, by any of the decisions; -1 = abstained or not computed.

    Args:
        joint: one voter, columns = the schema's joint classes.

    Raises:
        UsageError: an unknown decision, or several voters.
    """
    if decide not in DECISIONS:
        raise UsageError(f'unknown decision "{decide}"{nearest(str(decide), DECISIONS)}')
    if decide != "top_down":
        return joint.labels(decide)
    if len(joint.layers) != 1:
        raise UsageError(f"{joint.describe()}: {len(joint.layers)} voters; select one, or combine them, then ask")
    return decide_top_down(joint.layers[0], schema, graph)


def decide_top_down(joint: ArrayLike, schema: Schema, graph: Graph) -> IntArray:
    """Walks the graph and picks each node's most probable class, given those already picked.

    Ties go to the lowest class (of a block, to the lowest combination, in the block's order of attributes). Sums run
    in float64, joint class by joint class, so that a row alone has the same label.

    For a graph of single attributes these are the labels of the hard route, taken on the soft joint, when every
    combination that a taxonomy forbids is one of a parent and its child. For a block they may differ: the hard route
    decides a parent inside a block by itself, here a block is picked as a whole.

    Args:
        joint: `(n_samples, n_joint)` probabilities, soft or routed; rows of zeros abstain, of NaN were not computed.

    Returns:
        Joint classes `(n_samples,)`, -1 where the row abstained or was not computed.

    Raises:
        UsageError: another number of joint classes, or a graph that is not the schema's.

    Examples:
        >>> from ensemble_kit.schema import Attribute
        >>> schema = Schema(Attribute("mask", ["worn", "not_worn"]), Attribute("age", ["young", "mid", "old"]))
        >>> joint = np.array([[0.2, 0.2, 0.2, 0.4, 0.0, 0.0]])  # worn 0.6, but the likeliest pair is not_worn
        >>> decide_top_down(joint, schema, Graph({"mask": [], "age": ["mask"]})).tolist()
        [0]
        >>> int(joint.argmax())
        3
    """
    graph.check(schema)
    probs = np.asarray(joint)
    if probs.ndim != 2 or probs.shape[1] != schema.n_joint:
        raise UsageError(f"joint: expected (n_samples, {schema.n_joint}) probabilities, found {probs.shape}")
    labels = np.empty(len(probs), dtype=np.int64)
    n_rows = max(1, BLOCK_NUMBERS // schema.n_joint)
    for start in range(0, len(probs), n_rows):
        labels[start : start + n_rows] = _walk(probs[start : start + n_rows], schema, graph.nodes)
    return labels


def _walk(probs: FloatArray, schema: Schema, nodes: Sequence[Node]) -> IntArray:
    left = np.array(probs.T, dtype=np.float64, order="C")  # (n_joint, n_rows); zero where already decided otherwise
    is_live = np.asarray((left > 0).any(axis=0))
    picked: dict[str, IntArray] = {}
    for node in nodes:
        classes, class_of = rows_of(schema, node.attributes)
        totals = np.zeros((len(classes), left.shape[1]), dtype=np.float64)
        for values, number in zip(left, class_of, strict=True):
            totals[number] += values
        best = totals.argmax(axis=0)
        left *= class_of[:, None] == best
        for name, column in zip(node.attributes, classes.T, strict=True):
            picked[name] = np.where(is_live, column[best], -1)
    return schema.encode(picked)
