"""Which attribute conditions which, and the conditions that experts are trained under."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ensemble_kit.arrays import Condition
from ensemble_kit.errors import DataError, UsageError, nearest
from ensemble_kit.schema import Schema


@dataclass(frozen=True)
class Node:
    """One question of the graph: the attribute (or block of attributes) predicted, and what conditions it."""

    attributes: tuple[str, ...]
    parents: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return ",".join(self.attributes)


class Graph:
    """A directed acyclic graph over attributes.

    Args:
        edges: node -> its parents. A node is an attribute's name or a tuple of names (a block, predicted jointly);
            the text form `"gender,age"` of a block is accepted too, since TOML has no tuple keys.

    Raises:
        UsageError: not names and lists of names, a cycle, an attribute in two nodes, a parent that no node predicts,
            a node that is its own parent.

    Examples:
        >>> Graph({"age": ["mask"], "mask": []}).nodes
        (Node(attributes=('mask',), parents=()), Node(attributes=('age',), parents=('mask',)))
    """

    def __init__(self, edges: Mapping[str | tuple[str, ...], Sequence[str]]):
        if not isinstance(edges, Mapping):
            raise UsageError(f'graph: expected node -> parents, found {edges!r}; write {{"mask": [], "age": ["mask"]}}')
        for key, parents in edges.items():
            _check_parents(key, parents)
        written = [Node(_names(key), tuple(parents)) for key, parents in edges.items()]
        owner: dict[str, Node] = {}
        for node in written:
            for name in node.attributes:
                if name in owner or node.attributes.count(name) > 1:
                    raise UsageError(f'graph: attribute "{name}" is predicted by two nodes; name it in one only')
                owner[name] = node
        for node in written:
            for parent in node.parents:
                if parent not in owner:
                    raise UsageError(f'graph: "{node.name}" has the unknown parent "{parent}"{nearest(parent, owner)}')
                if node.parents.count(parent) > 1:
                    raise UsageError(f'graph: "{node.name}" names the parent "{parent}" twice')
        self.nodes = _topological(written, owner)

    @classmethod
    def independent(cls, schema: Schema) -> Graph:
        """Every attribute by itself."""
        return cls({attribute.name: () for attribute in schema.attributes})

    @classmethod
    def flat(cls, schema: Schema) -> Graph:
        """One node that predicts the joint class directly."""
        return cls({schema.names: ()})

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(name for node in self.nodes for name in node.attributes)

    def node_of(self, attributes: Sequence[str]) -> Node | None:
        """The node that predicts exactly these attributes, in any order."""
        return next((node for node in self.nodes if set(node.attributes) == set(attributes)), None)

    def check(self, schema: Schema) -> None:
        """Raises UsageError unless the graph predicts exactly the schema's attributes."""
        for name in self.names:
            if name not in schema.names:
                raise UsageError(f'graph: "{name}" is not in the schema{nearest(name, schema.names)}')
        missing = [name for name in schema.names if name not in self.names]
        if missing:
            raise UsageError(
                f"graph: no node predicts {', '.join(missing)}; add it, with [] when nothing conditions it"
            )

    def to_json(self) -> dict[str, list[str]]:
        return {node.name: list(node.parents) for node in self.nodes}

    @classmethod
    def from_json(cls, value: Any) -> Graph:
        lists = value.values() if isinstance(value, Mapping) else [None]
        if not all(isinstance(parents, list) and all(isinstance(p, str) for p in parents) for parents in lists):
            raise DataError('graph: expected {"node": ["parent", ...]}, as in {"mask": [], "age": ["mask"]}')
        try:
            return cls(value)
        except UsageError as error:
            raise DataError(str(error)) from None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Graph) and self.nodes == other.nodes

    def __hash__(self) -> int:
        return hash(self.nodes)

    def __repr__(self) -> str:
        return f"Graph({ {node.name: list(node.parents) for node in self.nodes} })"


def _check_parents(key: object, parents: object) -> None:
    if isinstance(parents, str):
        raise UsageError(f'graph: parents of {key!r} must be a list, found "{parents}"; write ["{parents}"]')
    if not isinstance(parents, Sequence) or not all(isinstance(parent, str) for parent in parents):
        raise UsageError(
            f"graph: parents of {key!r} must be a list of attribute names, found {parents!r}; "
            "write [] when nothing conditions it"
        )


def _names(key: str | tuple[str, ...]) -> tuple[str, ...]:
    parts = key.split(",") if isinstance(key, str) else key
    is_text = isinstance(parts, Sequence) and all(isinstance(part, str) for part in parts)
    names = tuple(part.strip() for part in parts) if is_text else ()
    if not names or not all(names):
        raise UsageError(f"graph: {key!r} is not a node; write an attribute's name or several with commas")
    return names


def _topological(written: Sequence[Node], owner: Mapping[str, Node]) -> tuple[Node, ...]:
    """Parents before children; ties in the order they were written in."""
    ordered: list[Node] = []
    waiting = list(written)
    while waiting:
        ready = next((n for n in waiting if all(owner[p] in ordered for p in n.parents)), None)
        if ready is None:
            names = " -> ".join(node.name for node in waiting)
            raise UsageError(f"graph: a cycle among {names}; a node cannot condition itself")
        ordered.append(ready)
        waiting.remove(ready)
    return tuple(ordered)


def check_condition(condition: Mapping[str, Sequence[str] | str], schema: Schema) -> dict[str, tuple[str, ...]]:
    """A condition with its classes in the schema's order; a single class may be given as text.

    Raises:
        UsageError: an unknown attribute or class (with the nearest known one), no class at all, or not a mapping.
    """
    if not isinstance(condition, Mapping):
        raise UsageError(f'condition: expected attribute -> classes, found {condition!r}; write {{"mask": "worn"}}')
    checked = {}
    for name in sorted(condition, key=lambda n: schema.names.index(n) if n in schema.names else -1):
        attribute = schema[name]
        classes = condition[name]
        if not isinstance(classes, Iterable):
            known = ", ".join(attribute.classes)
            raise UsageError(f'condition: "{name}" must be a class or a list of classes ({known}), found {classes!r}')
        chosen = (classes,) if isinstance(classes, str) else tuple(classes)
        numbers = sorted({attribute.index(c) for c in chosen})
        if not numbers:
            raise UsageError(f'condition: "{name}" names no class; leave it out for a pooled expert')
        checked[name] = tuple(attribute.classes[number] for number in numbers)
    return checked


def describe_condition(condition: Condition) -> str:
    """`mask=worn`, `mask=incorrect,not_worn gender=male`, or `pooled`."""
    return " ".join(f"{name}={','.join(classes)}" for name, classes in condition.items()) or "pooled"


def state_classes(state: str, parents: Sequence[str]) -> str:
    """The classes of one state in a row, whatever signs and blanks stand in them.

    Args:
        state: of one class a parent, as `describe_condition` writes it.
        parents: in its order.

    Examples:
        >>> state_classes("mask=worn", ["mask"]), state_classes("mask=a >=b gender=male", ["mask", "gender"])
        ('worn', 'a >=b male')
    """
    names, rest = [], f" {state}"
    for parent in reversed(parents):
        rest, _, name = rest.rpartition(f" {parent}=")
        names.append(name)
    return " ".join(reversed(names))


def expert_key(name: str) -> str:
    """An expert's name as `describe_expert` writes it, whatever the order of attributes, parents and classes.

    Examples:
        >>> expert_key("age given mask=not_worn, incorrect") == expert_key("age given mask=incorrect,not_worn")
        True
    """
    head, given, condition = name.replace(", ", ",").partition(" given ")
    parents = sorted("=".join(_sorted(part) for part in parent.split("=")) for parent in condition.split())
    return " ".join([_sorted(head), *(["given"] if given else []), *parents])


def _sorted(listed: str) -> str:
    return ",".join(sorted(part.strip() for part in listed.split(",")))


def describe_expert(attributes: Sequence[str], condition: Condition) -> str:
    """`age given mask=worn`, `mask`."""
    name = ",".join(attributes)
    return f"{name} given {describe_condition(condition)}" if condition else name
