"""Why an answer is wrong, or may be: tags of every photo, from its votes, its route and the truth where it is known."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ensemble_kit.arrays import BoolArray, FloatArray, IntArray
from ensemble_kit.coverage import rows_of
from ensemble_kit.graph import Node, describe_condition
from ensemble_kit.joint import Step
from ensemble_kit.predictions import Predictions
from ensemble_kit.schema import Schema

CLOSE = 0.1
"""Two joint classes closer than this are a close call."""


@dataclass(frozen=True, eq=False)
class Asked:
    """One node: who answers each photo, and who would if the route were right.

    Attributes:
        node: the question.
        states: a name a state of its parents; one without a name where it has none.
        state: `(n_photos,)` that the answer is in, -1 = no answer.
        true_state: `(n_photos,)`, -1 = not known; None where no truth is.
        expert: `(n_photos,)` number of the expert that decided, -1 = none was needed or asked.
        said: `(n_photos,)` class of the node in the answer.
        true: `(n_photos,)` class of the node in truth, -1 = not known; None where no truth is.
        classes: a name a class of the node.
        possible: `(n_states, n_classes)` which classes exist in which state.
        expert_of_state: `(n_states,)`, -1 = one possible class.
    """

    node: Node
    states: tuple[str, ...]
    state: IntArray
    true_state: IntArray | None
    expert: IntArray
    said: IntArray
    true: IntArray | None
    classes: tuple[tuple[str, ...], ...]
    possible: BoolArray
    expert_of_state: IntArray


def questions(schema: Schema, steps: Sequence[Step], said: IntArray, truth: IntArray | None) -> list[Asked]:
    """Every node of the graph, for answers and truth `(n_photos,)` as joint classes (-1 = none)."""
    found = []
    for step in steps:
        rows, state_of_joint = rows_of(schema, step.node.parents)
        states = tuple(
            describe_condition({p: (schema[p].classes[i],) for p, i in zip(step.node.parents, row, strict=True)})
            for row in rows
        )
        classes, class_of_joint = rows_of(schema, step.node.attributes)
        names = tuple(
            tuple(schema[a].classes[i] for a, i in zip(step.node.attributes, row, strict=True)) for row in classes
        )
        possible = np.zeros((len(rows), len(classes)), dtype=np.bool_)
        possible[state_of_joint, class_of_joint] = True
        state = _of(state_of_joint, said)
        true_state = None if truth is None else _of(state_of_joint, truth)
        expert = np.where(state < 0, -1, step.expert_of_state[state])
        true = None if truth is None else _of(class_of_joint, truth)
        found.append(
            Asked(
                step.node, states, state, true_state, expert, _of(class_of_joint, said), true, names, possible,
                step.expert_of_state,
            )
        )  # fmt: skip
    return found


def _of(number_of_joint: IntArray, joint: IntArray) -> IntArray:
    return np.where(joint < 0, -1, number_of_joint[joint]).astype(np.int64)


def columns_of(asked: Asked, expert: Predictions) -> IntArray:
    """`(n_classes,)` the expert's column of each class of the node, -1 where it has none."""
    order = [expert.names.index(name) for name in asked.node.attributes]
    column_of = {tuple(row[place] for place in order): column for column, row in enumerate(expert.classes)}
    return np.array([column_of.get(name, -1) for name in asked.classes], dtype=np.int64)


def best_class(asked: Asked, state: int, expert: Predictions, probs: FloatArray) -> IntArray:
    """The most probable of the classes that exist in a state, by an expert's rows `(n_rows, n_columns)`; -1 = none."""
    columns = columns_of(asked, expert)
    classes = np.flatnonzero(asked.possible[state] & (columns >= 0))
    known = np.nan_to_num(np.asarray(probs, dtype=np.float64))
    speaks = np.asarray((known > 0).any(axis=1))
    return np.where(speaks, classes[known[:, columns[classes]].argmax(axis=1)], -1).astype(np.int64)


def answers_in(
    asked: Asked, state: IntArray, experts: Mapping[int, Predictions], voted: Mapping[int, FloatArray]
) -> IntArray:
    """What the experts that the states ask say after their vote: class of the node `(n_photos,)`, -1 = nothing."""
    labels = np.full(len(state), -1, dtype=np.int64)
    for number, who in enumerate(asked.expert_of_state.tolist()):
        rows = np.flatnonzero(state == number)
        if who < 0:
            labels[rows] = int(asked.possible[number].argmax())
        elif len(rows):
            labels[rows] = best_class(asked, number, experts[who], voted[who][rows])
    return labels


def voter_labels(asked: Asked, experts: Mapping[int, Predictions]) -> Iterator[tuple[IntArray, IntArray]]:
    """For each state: the photos in it, and what each voter of its expert says of them `(n_voters, n_rows)`."""
    for number, who in enumerate(asked.expert_of_state.tolist()):
        rows = np.flatnonzero(asked.state == number)
        if who >= 0 and len(rows):
            layers = experts[who].layers
            yield rows, np.stack([best_class(asked, number, experts[who], layer[rows]) for layer in layers])


def why_wrong(
    asked: Asked, experts: Mapping[int, Predictions], voted: Mapping[int, FloatArray]
) -> Iterator[tuple[str, BoolArray]]:
    """What went wrong at a node whose truth is known, `(n_photos,)` each; no photo is in two of them."""
    assert asked.true is not None
    assert asked.true_state is not None
    name, known = asked.node.name, (asked.true >= 0) & (asked.said >= 0)
    wrong, routed_wrong = known & (asked.said != asked.true), known & (asked.state != asked.true_state)
    same_expert = asked.expert_of_state[asked.state] == asked.expert_of_state[asked.true_state]
    misled = routed_wrong & ~same_expert
    own_right = answers_in(asked, asked.true_state, experts, voted) == asked.true
    if not asked.node.parents:
        yield f"{name}: expert wrong", wrong & ~own_right
    else:
        yield f"{name}: router wrong, the right expert knew", wrong & misled & own_right
        yield f"{name}: router and expert wrong", wrong & misled & ~own_right
        yield f"{name}: expert wrong", wrong & ~misled & ~own_right
        yield f"{name}: router wrong, right all the same", known & ~wrong & misled
    yield f"{name}: expert right, the joint decided otherwise", wrong & ~misled & own_right


def voting_signs(asked: Asked, experts: Mapping[int, Predictions]) -> Iterator[tuple[str, BoolArray]]:
    """Where checkpoints disagree, tie, or one of them had the truth that the vote missed."""
    n_photos = len(asked.said)
    differ, tied, knew = (np.zeros(n_photos, dtype=np.bool_) for _ in range(3))
    for rows, labels in voter_labels(asked, experts):
        counts = np.stack([(labels == number).sum(axis=0) for number in range(len(asked.classes))])
        ordered = np.sort(counts, axis=0)
        differ[rows] = (counts > 0).sum(axis=0) > 1
        tied[rows] = differ[rows] & (ordered[-1] == ordered[-2]) if len(asked.classes) > 1 else False
        if asked.true is not None:
            true = asked.true[rows]
            knew[rows] = (true >= 0) & (asked.said[rows] != true) & (labels == true).any(axis=0)
    name = asked.node.name
    yield f"{name}: checkpoints tie", tied
    yield f"{name}: checkpoints disagree", differ & ~tied
    yield f"{name}: a checkpoint had it right", knew


def disagreement(asked: Asked, experts: Mapping[int, Predictions]) -> FloatArray:
    """`(n_photos,)`: mean total variation between the deciding expert's voters and their mean, 0 to 1."""
    found = np.zeros(len(asked.said))
    for who in np.unique(asked.expert[asked.expert >= 0]).tolist():
        rows = np.flatnonzero(asked.expert == who)
        layers = [np.asarray(layer[rows], dtype=np.float64) for layer in experts[who].layers]
        mean = sum(layers[1:], layers[0]) / len(layers)
        apart = [np.abs(layer - mean).sum(axis=1) / 2 for layer in layers]
        found[rows] = np.nan_to_num(sum(apart[1:], apart[0]) / len(layers))
    return found


def close_calls(joint: FloatArray) -> BoolArray:
    """`(n_photos,)`: whether the two most probable joint classes lie closer than `CLOSE`."""
    if joint.shape[1] < 2:
        return np.zeros(len(joint), dtype=np.bool_)
    two = np.partition(joint.astype(np.float64), joint.shape[1] - 2, axis=1)[:, -2:]
    return np.asarray((two[:, 1] - two[:, 0] < CLOSE) & (two[:, 1] > 0))
