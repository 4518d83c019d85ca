"""Labels of the hard route without the joint: down the graph, each node's most probable class given those picked.

Where each node is one attribute and every combination of classes exists, that is the argmax of the joint which the hard
route leads to: it leaves one state of each node's parents, so the joint is a product in which each node has its own
factor. In float32; what could be otherwise in float64 is told.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ensemble_kit.arrays import BoolArray, FloatArray, IntArray
from ensemble_kit.joint import Read
from ensemble_kit.plan import Plan, Step

Small = NDArray[np.int16]


def can_descend(plan: Plan) -> bool:
    """Whether the labels of the hard route are those of the descent."""
    n_joint = int(np.prod([len(attribute.classes) for attribute in plan.schema.attributes]))
    return plan.schema.n_joint == n_joint <= np.iinfo(np.int16).max and all(
        len(step.node.attributes) == 1 and all(part.expert >= 0 and not part.restricted for part in step.parts)
        for step in plan.steps
    )


def descend(plan: Plan, n_rows: int, read: Read, nearly: float) -> tuple[IntArray, IntArray]:
    """Joint classes `(n_rows,)`, and the rows in which a node was nearly tied or said nothing, to be looked at again.

    Args:
        plan: one that `can_descend`.
        read: as of `joint.forward`; probabilities in float32.
        nearly: as `joint.nearness` says.
    """
    picked: dict[str, Small] = {}
    in_doubt = np.zeros(n_rows, dtype=np.bool_)
    for step in plan.steps:
        expert_of_row = _expert_of_row(plan, step, picked)
        picked[step.node.attributes[0]] = _pick(step, expert_of_row, in_doubt, n_rows, read, nearly)
    labels = np.zeros(n_rows, dtype=np.int64)
    for attribute in plan.schema.attributes:
        labels *= len(attribute.classes)
        labels += picked[attribute.name]
    return labels, np.flatnonzero(in_doubt)


def _expert_of_row(plan: Plan, step: Step, picked: dict[str, Small]) -> IntArray | None:
    """`(n_rows,)`, the states numbered with the last parent running fastest; None where one expert answers all."""
    if len(set(step.expert_of_state.tolist())) == 1:
        return None
    state: Small = np.zeros(1, dtype=np.int16)
    for parent in step.node.parents:
        state = state * np.int16(len(plan.schema[parent].classes)) + picked[parent]
    return np.asarray(step.expert_of_state.take(state))


def _pick(
    step: Step, expert_of_row: IntArray | None, in_doubt: BoolArray, n_rows: int, read: Read, nearly: float
) -> Small:
    """The most probable class of each row; nearly tied ones are marked."""
    best: Small = np.zeros(n_rows, dtype=np.int16)
    for number in sorted(set(step.expert_of_state.tolist())):
        needed = None if expert_of_row is None else expert_of_row == number
        rows = np.arange(n_rows) if needed is None else np.flatnonzero(needed)
        if not len(rows):
            continue
        order = next(part.columns for part in step.parts if part.expert == number)
        values = read(number, rows)
        place, doubtful = _highest_place([values[:, column] for column in order.tolist()], nearly)
        if len(values) < n_rows:
            best[rows], in_doubt[rows] = place, in_doubt[rows] | doubtful
        elif needed is None:
            best, in_doubt[:] = place, in_doubt | doubtful
        else:
            np.copyto(best, place, where=needed)
            in_doubt |= doubtful & needed
    return best


def _highest_place(classes: list[FloatArray], nearly: float) -> tuple[Small, BoolArray]:
    """Which class is highest `(n_rows,)`, and where the next is nearly as high, or all are 0."""
    highest, second = classes[0].copy(), np.zeros_like(classes[0])
    place: Small = np.zeros(len(highest), dtype=np.int16)
    lower = np.empty_like(highest)
    for number, own in enumerate(classes[1:], start=1):
        is_higher = (own > highest).view(np.int8)
        np.maximum(place, np.multiply(is_higher, number, dtype=np.int16), out=place)
        np.maximum(second, np.minimum(highest, own, out=lower), out=second)
        np.maximum(highest, own, out=highest)
    np.multiply(highest, 1 - nearly, out=lower)
    return place, second >= lower
