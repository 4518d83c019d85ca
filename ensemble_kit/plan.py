"""The plan of a combination: which expert answers which state, and how prefixes grow to joint classes.

Worked out once from schema, graph and the experts' conditions; it holds no photo. A prefix is one combination of the
classes of all attributes predicted so far.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ensemble_kit.arrays import IntArray
from ensemble_kit.coverage import Expert, choose_experts, rows_of
from ensemble_kit.errors import DataError
from ensemble_kit.graph import Graph, Node, describe_expert
from ensemble_kit.schema import Schema


@dataclass(frozen=True)
class Part:
    """The prefixes that take their factor from one expert with the same classes possible."""

    expert: int
    """-1: one class is possible, the factor is 1."""
    columns: IntArray
    """The expert's columns of the possible classes."""
    restricted: bool
    """The expert knows classes that are impossible here, so what is left is divided by its sum."""
    after: IntArray
    """Prefixes after the node."""
    before: IntArray
    """For each of them the prefix it continues."""
    place: IntArray
    """For each of them its position in `columns`."""

    is_whole: bool
    """`columns` are all of the expert's, in its order."""

    @cached_property
    def triples(self) -> list[tuple[int, int, int]]:
        """(after, before, place) of each."""
        return list(zip(self.after.tolist(), self.before.tolist(), self.place.tolist(), strict=True))


@dataclass(frozen=True)
class Step:
    """What one node does to the prefixes."""

    node: Node
    states: IntArray
    """`(n_states, n_parents)` class numbers, lexicographic in the parents' order."""
    expert_of_state: IntArray
    """`(n_states,)`; -1 = one possible class, no expert needed."""
    state_of: IntArray
    """`(n_prefixes before,)` the state that each prefix is in."""
    rounds: tuple[tuple[IntArray, IntArray], ...]
    """(prefixes, their states), no state twice in one: the order in which prefixes add up to the belief."""
    n_after: int
    parts: tuple[Part, ...]

    @cached_property
    def parts_of(self) -> dict[int, list[Part]]:
        """The parts of each expert, by its number."""
        found: dict[int, list[Part]] = {}
        for part in sorted(self.parts, key=lambda part: part.expert):
            found.setdefault(part.expert, []).append(part)
        return found


@dataclass(frozen=True)
class Plan:
    """Which expert answers which state, and how prefixes grow to joint classes. Static; holds no photo."""

    schema: Schema
    steps: tuple[Step, ...]
    unused: tuple[int, ...]
    """Numbers of the experts that no state asks."""

    @property
    def used(self) -> tuple[int, ...]:
        return tuple(sorted({part.expert for step in self.steps for part in step.parts} - {-1}))


def make_plan(schema: Schema, graph: Graph, experts: Sequence[Expert], fallback: str = "refuse") -> Plan:
    """Works out, for every node and state, the expert and the columns.

    Args:
        fallback: "refuse" = an expert must name every parent of its node; "pooled" = one that names fewer may serve.

    Raises:
        UsageError: a graph that is not the schema's, states without an expert (all in one message), two experts of
            the same condition.
        DataError: an expert whose classes are not the schema's.
    """
    graph.check(schema)
    chosen = choose_experts(schema, graph, experts, fallback)
    done: list[str] = []
    steps = []
    for node in graph.nodes:
        steps.append(_step(schema, node, done, chosen[node], experts))
        done += node.attributes
    asked = {int(number) for numbers in chosen.values() for number in numbers}
    return Plan(schema, tuple(steps), tuple(number for number in range(len(experts)) if number not in asked))


def _step(
    schema: Schema, node: Node, done: Sequence[str], expert_of_state: IntArray, experts: Sequence[Expert]
) -> Step:
    in_order = [name for name in schema.names if name in done]
    prefix_of = rows_of(schema, in_order)[1]
    longer_of = rows_of(schema, [name for name in schema.names if name in (*done, *node.attributes)])[1]
    states, state_of_joint = rows_of(schema, node.parents)
    classes, class_of_joint = rows_of(schema, node.attributes)
    first = np.unique(prefix_of, return_index=True)[1]
    first_longer = np.unique(longer_of, return_index=True)[1]
    state_of = state_of_joint[first]
    before, class_of = prefix_of[first_longer], class_of_joint[first_longer]
    names = [tuple(schema[a].classes[i] for a, i in zip(node.attributes, row, strict=True)) for row in classes]
    parts: dict[tuple[int, tuple[int, ...]], list[tuple[int, int, int]]] = {}
    children: list[list[int]] = [[] for _ in first]
    for after, prefix in enumerate(before):
        children[prefix].append(after)
    for prefix, longer in enumerate(children):
        number = int(expert_of_state[state_of[prefix]])
        columns = (0,) if number < 0 else _find_columns(experts[number], node, [names[class_of[i]] for i in longer])
        rows = parts.setdefault((number, columns), [])
        rows += [(after, prefix, place) for place, after in enumerate(longer)]
    made = tuple(_part(key, rows, experts) for key, rows in parts.items())
    return Step(node, states, expert_of_state, state_of, _rounds(state_of), len(before), made)


def _part(key: tuple[int, tuple[int, ...]], rows: list[tuple[int, int, int]], experts: Sequence[Expert]) -> Part:
    number, columns = key
    table = np.array(rows, dtype=np.int64)
    n_columns = 1 if number < 0 else len(experts[number].classes)
    is_whole = columns == tuple(range(n_columns))
    restricted = len(columns) < n_columns
    after, before, place = table.T
    return Part(number, np.array(columns, dtype=np.int64), restricted, after, before, place, is_whole)


def _find_columns(expert: Expert, node: Node, names: Sequence[tuple[str, ...]]) -> tuple[int, ...]:
    """The expert's columns of some combinations of the node's classes, whatever the order it holds them in."""
    order = [expert.names.index(name) for name in node.attributes]
    column_of = {tuple(row[place] for place in order): column for column, row in enumerate(expert.classes)}
    missing = [" / ".join(name) for name in names if name not in column_of]
    if missing:
        who = describe_expert(expert.names, expert.condition)
        found = ", ".join(" / ".join(row) for row in expert.classes)
        raise DataError(f"{who}: no column for {', '.join(missing)} (found: {found}); train it with these, or collapse")
    return tuple(column_of[name] for name in names)


def _rounds(state_of: IntArray) -> tuple[tuple[IntArray, IntArray], ...]:
    seen: dict[int, int] = {}
    rounds: list[list[int]] = []
    for prefix, state in enumerate(state_of.tolist()):
        turn = seen.get(state, 0)
        seen[state] = turn + 1
        if turn == len(rounds):
            rounds.append([])
        rounds[turn].append(prefix)
    return tuple((np.array(turn, dtype=np.int64), state_of[turn]) for turn in rounds)
