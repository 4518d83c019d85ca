"""Predictions, labels and people brought onto the same photos."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike

from ensemble_kit.arrays import FloatArray, IdArray, IntArray
from ensemble_kit.calibration.rows import TOLERANCE
from ensemble_kit.conditions import under_condition
from ensemble_kit.ensemble import ConditionalEnsemble
from ensemble_kit.errors import DataError, UsageError, nearest
from ensemble_kit.graph import Node
from ensemble_kit.ids import match_ids
from ensemble_kit.predictions import Predictions, check_probs
from ensemble_kit.routing import Route, find_route
from ensemble_kit.schema import Schema

Routes = str | Route | Mapping[str, str | Route]


def true_columns(expert: Predictions, schema: Schema, truth: ArrayLike) -> IntArray:
    """The true column of an expert `(n_samples,)`; -1 outside its condition, or where it has no such column.

    Args:
        truth: `(n_samples,)` joint index, -1 = not labelled.

    Examples:
        >>> from ensemble_kit.schema import Attribute
        >>> schema = Schema(Attribute("mask", ["worn", "not_worn"]), Attribute("age", ["young", "old"]))
        >>> worn = Predictions(schema["age"], [[0.5, 0.5]] * 4, list("abcd"), {"mask": "worn"})
        >>> true_columns(worn, schema, [0, 1, 2, -1]).tolist()
        [0, 1, -1, -1]
    """
    numbers = schema.decode(truth)
    inside = under_condition(expert.condition, schema, numbers)
    columns = np.full(len(inside), -1, dtype=np.int64)
    for column, row in enumerate(expert.classes):
        found = inside.copy()
        for name, class_name in zip(expert.names, row, strict=True):
            found &= numbers[name] == schema[name].index(class_name)
        columns[found] = column
    return columns


def existing_columns(expert: Predictions, schema: Schema) -> IntArray:
    """The expert's columns that some joint class has under its condition, in order: in a taxonomy not all of them.

    Examples:
        >>> from ensemble_kit.schema import Attribute
        >>> schema = Schema(
        ...     Attribute("kind", ["fruit", "milk"]),
        ...     Attribute("fine", ["apple", "pear", "oat"]),
        ...     paths=[("fruit", "apple"), ("fruit", "pear"), ("milk", "oat")],
        ... )
        >>> fruit = Predictions(schema["fine"], [[0.5, 0.4, 0.1]], ["a"], {"kind": "fruit"})
        >>> existing_columns(fruit, schema).tolist()
        [0, 1]
    """
    columns = np.unique(true_columns(expert, schema, np.arange(schema.n_joint)))
    return columns[columns >= 0]


def voters_of(
    predictions: Predictions | ArrayLike, voters: Sequence[str] | None, who: str | None
) -> tuple[Sequence[FloatArray], Sequence[str], str]:
    """The voters' layers and names, and what to call the expert.

    Raises:
        UsageError: not probabilities of voters, or other names than voters.
    """
    if isinstance(predictions, Predictions):
        return predictions.layers, predictions.voters, who or predictions.describe()
    probs = np.asarray(predictions)
    if probs.ndim != 3 or probs.dtype.kind not in "fiu" or 0 in (probs.shape[0], probs.shape[2]):
        raise UsageError(f"expected probs of shape (n_voters, n_samples, n_classes), found {probs.dtype} {probs.shape}")
    names = [f"voter{number}" for number in range(len(probs))] if voters is None else list(voters)
    if len(names) != len(probs) or len(set(names)) != len(names):
        raise UsageError(f"expected {len(probs)} distinct voter names, found {names}")
    return [layer.astype(np.float64) for layer in probs], names, who or "probabilities"


def labelled(
    truth: ArrayLike, groups: ArrayLike | None, n_samples: int, who: str
) -> tuple[IntArray, IdArray | None, IntArray]:
    """True classes and people of the labelled photos, and which those are.

    Raises:
        DataError: other lengths, no numbers, or no labelled photo.
    """
    true = np.asarray(truth)
    people = None if groups is None else np.asarray(groups).astype(np.str_)
    if true.shape != (n_samples,) or true.dtype.kind not in "iu" or (people is not None and people.shape != true.shape):
        found = f"{true.dtype} {true.shape}" + ("" if people is None else f" and groups {people.shape}")
        raise DataError(f"{who}: expected a true class and a group for each of {n_samples} photos, found {found}")
    keep = np.flatnonzero(true >= 0)
    if not len(keep):
        raise DataError(f"{who}: none of {n_samples} photos has a label that it answers; weights need labelled photos")
    return true[keep].astype(np.int64), None if people is None else people[keep], keep


def computed(layers: Sequence[FloatArray], names: Sequence[str], keep: IntArray, who: str) -> list[FloatArray]:
    """The rows to keep of every voter.

    Raises:
        DataError: no probabilities, or a row that a voter has not computed: voters would be compared on different
            photos.
    """
    kept = [np.asarray(layer)[keep] for layer in layers]
    for layer, name in zip(kept, names, strict=True):
        check_probs(layer, f"{who}, {name}", TOLERANCE)
        absent = int((~np.isfinite(layer)).any(axis=1).sum())
        if absent:
            raise DataError(
                f"{who}: voter {name} has not computed {absent} of {len(keep)} photos; select on photos that every "
                f"voter has predicted (out-of-fold predictions of different folds cannot be weighed)"
            )
    return kept


def in_order(
    truth: ArrayLike, groups: ArrayLike | None, ids: IdArray | None, wanted: IdArray
) -> tuple[ArrayLike, ArrayLike | None]:
    """Truth and groups of `ids` in the order of `wanted`; as they are without ids."""
    rows = None if ids is None else match_ids(ids, wanted, "ids of the truth")
    if rows is None:
        return truth, groups
    return np.asarray(truth)[rows], None if groups is None else np.asarray(groups)[rows]


def routes_of(ensemble: ConditionalEnsemble, route: Routes) -> dict[Node, Route]:
    """The route of every node with parents, as `combine` reads them."""
    nodes = {step.node.name: step.node for step in ensemble.plan.steps if step.node.parents}
    if not isinstance(route, Mapping):
        return dict.fromkeys(nodes.values(), find_route(route))
    for name in route:
        if name not in nodes:
            raise UsageError(f'route: "{name}" is no node with parents{nearest(name, nodes)}')
    return {nodes[name]: find_route(value) for name, value in route.items()}
