"""One conditioned node: its states and classes, the truth, and what an expert answers in a state."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ensemble_kit.arrays import BoolArray, FloatArray, IntArray
from ensemble_kit.coverage import rows_of
from ensemble_kit.graph import Node, describe_condition
from ensemble_kit.joint import Step
from ensemble_kit.metrics import View
from ensemble_kit.predictions import Predictions
from ensemble_kit.schema import Schema


class Question:
    """A node with parents. Its classes are combinations of its attributes' classes (of one attribute: the classes).

    Args:
        schema: the attributes.
        step: the plan's, which says whom each state asks.
        experts: the plan's, one voter each.

    Attributes:
        states: a name a state.
        possible: `(n_states, n_classes)` which classes exist in which state.
        expert_of_state: `(n_states,)`, -1 = one possible class, no expert needed.
    """

    def __init__(self, schema: Schema, step: Step, experts: Sequence[Predictions]):
        self.schema, self.node, self.expert_of_state = schema, step.node, step.expert_of_state
        self.experts = [expert for expert in experts if answers_node(expert, step.node)]
        self.all_experts = experts
        self.states = tuple(
            describe_condition({p: (schema[p].classes[i],) for p, i in zip(step.node.parents, row, strict=True)})
            for row in step.states
        )
        self.state_of_joint = rows_of(schema, step.node.parents)[1]
        self.classes, self.class_of_joint = rows_of(schema, step.node.attributes)
        self.possible: BoolArray = np.zeros((len(self.states), len(self.classes)), dtype=np.bool_)
        self.possible[self.state_of_joint, self.class_of_joint] = True

    @property
    def n_classes(self) -> int:
        return len(self.classes)

    @property
    def pooled(self) -> Predictions | None:
        return next((expert for expert in self.experts if not expert.condition), None)

    def expert_of(self, state: int) -> Predictions | None:
        number = int(self.expert_of_state[state])
        return None if number < 0 else self.all_experts[number]

    def is_specialised(self, state: int) -> bool:
        expert = self.expert_of(state)
        return expert is not None and bool(expert.condition)

    def columns(self, expert: Predictions) -> IntArray:
        """`(n_classes,)` the expert's column of each class, -1 where it has none."""
        order = [expert.names.index(name) for name in self.node.attributes]
        column_of = {tuple(row[place] for place in order): column for column, row in enumerate(expert.classes)}
        attributes = [self.schema[name] for name in self.node.attributes]
        names = [tuple(a.classes[i] for a, i in zip(attributes, row, strict=True)) for row in self.classes]
        return np.array([column_of.get(name, -1) for name in names], dtype=np.int64)

    def answers(self, expert: Predictions, state: IntArray) -> IntArray:
        """The most probable of the classes that exist in each photo's state, ties to the lowest.

        Args:
            expert: of one voter, on the same photos.
            state: `(n_samples,)`, -1 = in no state.

        Returns:
            Class numbers `(n_samples,)`; -1 = in no state, not computed, abstained, or no class of the state known.
        """
        column, layer = self.columns(expert), expert.layers[0]
        labels = np.full(len(state), -1, dtype=np.int64)
        for number in np.unique(state[state >= 0]):
            known = np.flatnonzero(self.possible[number] & (column >= 0))
            rows = np.flatnonzero(state == number)
            if len(known):
                labels[rows] = _highest(np.asarray(layer[rows]), column[known], known)
        return labels

    def chain(self, state: IntArray) -> IntArray:
        """The same where each state asks the expert that the graph has for it."""
        labels = np.full(len(state), -1, dtype=np.int64)
        for number in np.unique(self.expert_of_state):
            inside = (state >= 0) & (self.expert_of_state[state] == number)
            if number < 0:
                labels = np.where(inside, self.possible.argmax(axis=1)[state], labels)
            else:
                own = self.answers(self.all_experts[number], np.where(inside, state, -1))
                labels = np.where(inside, own, labels)
        return labels

    def pairs(self) -> tuple[IntArray, list[View]]:
        """Numbers of the (state, class) pairs that exist, `(n_states, n_classes)` with -1 for the others, and for each
        state the view that counts its photos only, as the classes that exist there."""
        number = np.full(self.possible.shape, -1, dtype=np.int64)
        number[self.possible] = np.arange(self.possible.sum())
        views = []
        for row in number:
            local = np.full(int(self.possible.sum()), -1, dtype=np.int64)
            own = row[row >= 0]
            local[own] = np.arange(len(own))
            views.append(View(local, len(own)))
        return number, views


def answers_node(expert: Predictions, node: Node) -> bool:
    """Whether an expert predicts the node's attributes, under a condition on its parents or none."""
    return set(expert.names) == set(node.attributes) and set(expert.condition) <= set(node.parents)


def _highest(values: FloatArray, columns: IntArray, classes: IntArray) -> IntArray:
    """Of some columns' classes the highest of each row; -1 where the whole row is zero or not computed."""
    speaks = np.asarray((values > 0).any(axis=1))
    return np.where(speaks, classes[np.nan_to_num(values[:, columns]).argmax(axis=1)], -1)
