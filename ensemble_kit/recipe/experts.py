"""Which experts a recipe trains."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ensemble_kit.errors import UsageError
from ensemble_kit.graph import Graph, check_condition
from ensemble_kit.schema import Schema


@dataclass(frozen=True)
class ExpertSpec:
    """One expert to train: what it predicts, and for whom."""

    attributes: tuple[str, ...]
    condition: Mapping[str, tuple[str, ...]]


def has_borders(schema: Schema, attributes: Sequence[str]) -> bool:
    """Whether one of the attributes is measured as a number."""
    return any(schema[name].borders is not None for name in attributes)


def canonical(schema: Schema, graph: Graph, names: Sequence[str]) -> tuple[str, ...]:
    """The names of an attribute or block in the one order used everywhere."""
    ordered = schema.in_order([name.strip() for name in names])
    node = graph.node_of(ordered)
    return node.attributes if node else ordered


def plan_experts(schema: Schema, graph: Graph, section: Mapping[str, Any]) -> tuple[ExpertSpec, ...]:
    """The experts to train: `[experts]` where it says so, else one for every state of a node's parents.

    `[experts]` maps an attribute, or a block, to a list of conditions: a table (`{mask = "worn"}`), `"each"` (one
    for every state) or `"pooled"`. A block that is no node of the graph is trained beside it, for comparison.
    """
    wanted: dict[tuple[str, ...], list[dict[str, tuple[str, ...]]]] = {}
    for node in graph.nodes:
        wanted[node.attributes] = states_to_train(schema, node.attributes, node.parents)
    for key, conditions in section.items():
        names = canonical(schema, graph, key.split(","))
        node_or_none = graph.node_of(names)
        parents = node_or_none.parents if node_or_none else ()
        if not isinstance(conditions, list):
            raise UsageError(f'experts: "{key}" must be a list, as in ["each", "pooled", {{mask = "worn"}}]')
        wanted[names] = [c for item in conditions for c in _conditions(item, schema, names, parents)]
    return tuple(ExpertSpec(names, condition) for names, conditions in wanted.items() for condition in conditions)


def _conditions(
    item: Any, schema: Schema, names: tuple[str, ...], parents: tuple[str, ...]
) -> list[dict[str, tuple[str, ...]]]:
    if item == "each":
        return states_to_train(schema, names, parents)
    if item == "pooled":
        return [{}]
    if not isinstance(item, dict):
        raise UsageError(f'experts: expected "each", "pooled" or a condition such as {{mask = "worn"}}, found {item!r}')
    condition = check_condition(item, schema)
    if set(condition) & set(names):
        raise UsageError(f"experts: {','.join(names)} cannot be conditioned on itself, found {item!r}")
    return [condition]


def states_to_train(schema: Schema, names: Sequence[str], parents: Sequence[str]) -> list[dict[str, tuple[str, ...]]]:
    """The states of a node that need a model: those under which more than one class is possible."""
    if not parents:
        return [{}]
    own, above = schema.block(tuple(parents) + tuple(names)), schema.block(parents)
    states: list[dict[str, tuple[str, ...]]] = []
    for row in above.paths:
        below = own.paths[(own.paths[:, : len(parents)] == row).all(axis=1)]
        if len(below) > 1:
            states.append({name: (schema[name].classes[i],) for name, i in zip(parents, row, strict=True)})
    return states
