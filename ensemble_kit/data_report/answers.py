"""What a run's experts answer out of fold, attribute by attribute."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ensemble_kit.arrays import FloatArray, IdArray
from ensemble_kit.ensemble import ConditionalEnsemble
from ensemble_kit.errors import UsageError
from ensemble_kit.graph import Graph
from ensemble_kit.predictions import Predictions
from ensemble_kit.schema import Schema


@dataclass(frozen=True)
class Answers:
    """Probabilities out of fold.

    Attributes:
        ids: `(n_samples,)`.
        attributes: name -> `(n_samples, n_classes)`; a row of NaN = not predicted. Only what a run can answer.
        joint: `(n_samples, n_joint)`, None where the experts do not give it.
    """

    ids: IdArray
    attributes: dict[str, FloatArray]
    joint: FloatArray | None

    @cached_property
    def row_of(self) -> dict[str, int]:
        """Photo -> its row."""
        return {name: row for row, name in enumerate(self.ids.tolist())}


def answers_of(experts: Sequence[Predictions], schema: Schema, graph: Graph) -> Answers:
    """The mean of what the structures answer that the experts allow: flat, independent and conditional (soft routes).

    Where no structure is whole, an attribute is answered by its pooled experts.
    """
    in_classes = [expert.in_classes_of(schema) for expert in experts]
    joints = [joint for asked in _graphs(schema, graph) if (joint := _joint(in_classes, schema, asked)) is not None]
    if joints:
        joint = _rows(_mean(joints))
        return Answers(in_classes[0].ids, {a.name: _marginal(joint, schema, a.name) for a in schema.attributes}, joint)
    found = {}
    for attribute in schema.attributes:
        pooled = [e for e in in_classes if not e.condition and attribute.name in e.names]
        if pooled:
            found[attribute.name] = _rows(_mean([_columns(one.marginal(attribute.name), schema) for one in pooled]))
    return Answers(in_classes[0].ids, found, None)


def _graphs(schema: Schema, graph: Graph) -> list[Graph]:
    found: list[Graph] = []
    for one in (Graph.flat(schema), Graph.independent(schema), graph):
        if one not in found:
            found.append(one)
    return found


def _joint(experts: Sequence[Predictions], schema: Schema, graph: Graph) -> FloatArray | None:
    try:
        combined = ConditionalEnsemble(schema, graph, experts).combine(route="soft", missing="abstain")
    except UsageError:
        return None
    return np.asarray(combined.joint.layers[0], dtype=np.float64)


def _mean(probs: Sequence[FloatArray]) -> FloatArray:
    total = np.zeros_like(probs[0])
    for one in probs:
        total += one
    return total / len(probs)


def _rows(probs: FloatArray) -> FloatArray:
    """Rows that sum to 1, or NaN where nothing was predicted."""
    total = probs.sum(axis=1, keepdims=True)
    found: FloatArray = np.divide(probs, total, out=np.full_like(probs, np.nan), where=total > 0)
    return found


def _marginal(joint: FloatArray, schema: Schema, name: str) -> FloatArray:
    place, n_classes = schema.names.index(name), len(schema[name].classes)
    total = np.zeros((len(joint), n_classes))
    for column, number in zip(joint.T, schema.paths[:, place].tolist(), strict=True):
        total[:, number] += column
    return total


def _columns(alone: Predictions, schema: Schema) -> FloatArray:
    attribute = schema[alone.names[0]]
    total = np.zeros((alone.n_samples, len(attribute.classes)))
    for column, (name,) in zip(np.asarray(alone.layers[0]).T, alone.classes, strict=True):
        total[:, attribute.index(name)] = column
    return total
