"""What is searched: a graph, and for each of its nodes a grouping of its parents' classes. Plain data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import TypeAlias

import numpy as np

from ensemble_kit.arrays import Condition
from ensemble_kit.conditions import under_condition
from ensemble_kit.coverage import rows_of
from ensemble_kit.graph import Graph, Node, describe_expert
from ensemble_kit.schema import Attribute, Schema

Grouping: TypeAlias = tuple[tuple[str, ...], ...]
"""A parent's classes in groups: `(("worn",), ("incorrect", "not_worn"))`."""


@dataclass(frozen=True)
class Role:
    """An expert that a structure asks for: what it predicts, and for whom.

    Attributes:
        attributes: of its node, in the node's order.
        states: parent, and its classes; parents in the schema's order.
    """

    attributes: tuple[str, ...]
    states: tuple[tuple[str, tuple[str, ...]], ...] = ()

    @classmethod
    def of(cls, attributes: Sequence[str], condition: Condition) -> Role:
        return cls(tuple(attributes), tuple((name, tuple(classes)) for name, classes in condition.items()))

    @property
    def condition(self) -> Condition:
        return dict(self.states)

    def describe(self) -> str:
        """`age given mask=worn`."""
        return describe_expert(self.attributes, self.condition)


@dataclass(frozen=True)
class Asked:
    """A role as planning takes an expert; it has no answers."""

    role: Role
    attributes: tuple[Attribute, ...]
    classes: tuple[tuple[str, ...], ...]

    @property
    def names(self) -> tuple[str, ...]:
        return self.role.attributes

    @property
    def condition(self) -> Condition:
        return self.role.condition


@dataclass(frozen=True)
class NodeChoice:
    """One way to answer a node: its parents, and how their classes are grouped."""

    node: Node
    groupings: tuple[Grouping, ...] = ()

    @cached_property
    def text(self) -> str:
        """`age by mask (worn | incorrect,not_worn)`; classes that stand each by itself are not listed."""
        if not self.node.parents:
            return self.node.name
        pairs = zip(self.node.parents, self.groupings, strict=True)
        return f"{self.node.name} by {', '.join(_grouped_text(*pair) for pair in pairs)}"

    def roles(self, schema: Schema) -> list[Role]:
        """The experts it needs: one for every combination of groups that exists and leaves more than one class open."""
        states = [
            [(parent, group) for group in grouping]
            for parent, grouping in zip(self.node.parents, self.groupings, strict=True)
        ]
        conditions = [dict(combination) for combination in product(*states)]
        return [Role.of(self.node.attributes, c) for c in conditions if is_asked(schema, self.node, c)]


@dataclass(frozen=True)
class Candidate:
    """A structure: every node with its parents and groupings.

    Attributes:
        choices: one a node.
        roles: the experts it needs.
        size: probabilities that its experts have to learn, the sum over experts of (classes - 1). What is meant by
            simple: 5 for the independent face-mask task, 9 with an age expert for each mask state, 17 for the flat one.
    """

    choices: tuple[NodeChoice, ...]
    roles: tuple[Role, ...]
    size: int

    @cached_property
    def graph(self) -> Graph:
        return Graph({choice.node.attributes: choice.node.parents for choice in self.choices})

    @property
    def is_independent(self) -> bool:
        return all(len(c.node.attributes) == 1 and not c.node.parents for c in self.choices)

    @property
    def is_flat(self) -> bool:
        return len(self.choices) == 1 and len(self.choices[0].node.attributes) > 1

    @cached_property
    def name(self) -> str:
        """What is particular to it: `independent`, `flat`, `age by mask (worn | incorrect,not_worn)`."""
        if self.is_independent:
            return "independent"
        if self.is_flat:
            return "flat"
        return "; ".join(c.text for c in self.choices if c.node.parents or len(c.node.attributes) > 1)

    @property
    def conditions(self) -> dict[str, list[Condition]]:
        """Node -> the conditions of its experts, as `ConditionalClassifier` and a recipe's [experts] take them."""
        found: dict[str, list[Condition]] = {choice.node.name: [] for choice in self.choices}
        for role in self.roles:
            found[",".join(role.attributes)].append(role.condition)
        return found

    def experts(self, schema: Schema) -> list[Asked]:
        """Its roles in their order, for planning."""
        blocks = {role.attributes: schema.block(role.attributes) for role in self.roles}
        return [
            Asked(role, blocks[role.attributes].attributes, blocks[role.attributes].class_rows()) for role in self.roles
        ]


def _grouped_text(parent: str, grouping: Grouping) -> str:
    if all(len(group) == 1 for group in grouping):
        return parent
    return f"{parent} ({' | '.join(','.join(group) for group in grouping)})"


def is_asked(schema: Schema, node: Node, condition: Condition) -> bool:
    """Whether some state under the condition exists and leaves several of the node's classes possible."""
    numbers = schema.decode(np.arange(schema.n_joint))
    inside = under_condition(condition, schema, numbers)
    pairs = np.stack([rows_of(schema, node.parents)[1], rows_of(schema, node.attributes)[1]])[:, inside]
    states, counts = np.unique(np.unique(pairs, axis=1)[0], return_counts=True)
    return bool(len(states)) and bool((counts > 1).any())


def n_open(schema: Schema, role: Role) -> int:
    """The classes that an expert has to tell apart: those that exist under its condition."""
    inside = under_condition(role.condition, schema, schema.decode(np.arange(schema.n_joint)))
    return len(np.unique(rows_of(schema, role.attributes)[1][inside]))
