"""Which expert answers which state of a node, and what to say when none does."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from ensemble_kit.arrays import BoolArray, Condition, IntArray
from ensemble_kit.errors import DataError, UsageError, nearest
from ensemble_kit.graph import Graph, Node, check_condition, describe_condition, describe_expert
from ensemble_kit.schema import Attribute, Schema

FALLBACKS = ("refuse", "pooled")

SHORT_FORMS: Mapping[tuple[tuple[str, ...], tuple[str, ...]], str] = {
    (("age",), ("mask",)): "ens train-age --mask-state",
}
"""(attributes, parents) -> the command that takes the parent's class alone, for hints."""


class Expert(Protocol):
    """What planning needs to know of an expert; `Predictions` has it, and so has a live model."""

    @property
    def attributes(self) -> tuple[Attribute, ...]: ...
    @property
    def names(self) -> tuple[str, ...]: ...
    @property
    def condition(self) -> Condition: ...
    @property
    def classes(self) -> tuple[tuple[str, ...], ...]: ...


@dataclass(frozen=True)
class _Candidate:
    number: int
    condition: Condition
    rank: tuple[int, tuple[int, ...], int]
    """Lower = narrower: most parents named, then the earlier parent, then fewest classes."""

    def covers(self, state: Mapping[str, str]) -> bool:
        return all(state[name] in classes for name, classes in self.condition.items())


def rows_of(schema: Schema, names: Sequence[str]) -> tuple[IntArray, IntArray]:
    """The combinations of some attributes' classes that exist, lexicographic, and the one of each joint class."""
    if not names:
        return np.zeros((1, 0), dtype=np.int64), np.zeros(schema.n_joint, dtype=np.int64)
    columns = [schema.names.index(name) for name in names]
    rows, of_joint = np.unique(schema.paths[:, columns], axis=0, return_inverse=True)
    return rows, of_joint.ravel().astype(np.int64)


def choose_experts(
    schema: Schema, graph: Graph, experts: Sequence[Expert], fallback: str = "refuse"
) -> dict[Node, IntArray]:
    """For every node the number of the expert of each state, `(n_states,)`; -1 = one possible class, none needed.

    Experts that no state asks for are no error: one set of predictions serves several graphs.

    Raises:
        UsageError: states without an expert, all of them in one message; two experts that are equally narrow.
        DataError: an expert whose classes are not the schema's.
    """
    if fallback not in FALLBACKS:
        raise UsageError(f'unknown fallback "{fallback}"{nearest(fallback, FALLBACKS)}')
    chosen: dict[Node, IntArray] = {}
    gaps = []
    for node in graph.nodes:
        states, state_of_joint = rows_of(schema, node.parents)
        named = [_named(schema, node.parents, row) for row in states]
        candidates = _candidates(schema, node, experts)
        open_states = _has_choice(schema, node, state_of_joint, len(states))
        numbers = np.full(len(states), -1, dtype=np.int64)
        uncovered = []
        for number in np.flatnonzero(open_states):
            best = _narrowest(candidates, named[number], node, experts)
            if best is None or (fallback == "refuse" and len(best.condition) < len(node.parents)):
                uncovered.append(named[number])
            else:
                numbers[number] = best.number
        if uncovered:
            served = all(_narrowest(candidates, state, node, experts) is not None for state in uncovered)
            gaps.append(_gap(node, uncovered, _found(node, experts), fallback, served))
        chosen[node] = numbers
    if gaps:
        raise UsageError("; ".join(gaps))
    return chosen


def _named(schema: Schema, names: Sequence[str], row: IntArray) -> dict[str, str]:
    return {name: schema[name].classes[number] for name, number in zip(names, row, strict=True)}


def _has_choice(schema: Schema, node: Node, state_of_joint: IntArray, n_states: int) -> BoolArray:
    """Which states leave more than one of the node's classes possible."""
    classes = rows_of(schema, node.attributes)[1]
    pairs = np.unique(np.stack([state_of_joint, classes], axis=1), axis=0)
    return np.bincount(pairs[:, 0], minlength=n_states) > 1


def _candidates(schema: Schema, node: Node, experts: Sequence[Expert]) -> list[_Candidate]:
    """The experts of exactly the node's attributes whose condition names its parents only."""
    found = []
    for number, expert in enumerate(experts):
        if set(expert.names) != set(node.attributes) or not set(expert.condition) <= set(node.parents):
            continue
        condition = check_condition(expert.condition, schema)
        for attribute in expert.attributes:
            if attribute.classes != schema[attribute.name].classes:
                raise DataError(
                    f"{describe_expert(expert.names, condition)}: expected the schema's classes of {attribute.name}, "
                    f"{', '.join(schema[attribute.name].classes)}; found {', '.join(attribute.classes)}"
                )
        places = tuple(sorted(node.parents.index(name) for name in condition))
        rank = (-len(condition), places, sum(len(classes) for classes in condition.values()))
        found.append(_Candidate(number, condition, rank))
    return sorted(found, key=lambda candidate: candidate.rank)


def _narrowest(
    candidates: Sequence[_Candidate], state: Mapping[str, str], node: Node, experts: Sequence[Expert]
) -> _Candidate | None:
    covering = [candidate for candidate in candidates if candidate.covers(state)]
    if len(covering) > 1 and covering[0].rank == covering[1].rank:
        one, two = (describe_expert(experts[c.number].names, c.condition) for c in covering[:2])
        raise UsageError(
            f'two experts answer {node.name} for {_state_text(state)} and neither is narrower: "{one}" and "{two}"; '
            f"leave one out, or make them voters of one expert"
        )
    return covering[0] if covering else None


def _found(node: Node, experts: Sequence[Expert]) -> str:
    """The conditions there are for the node: `worn, not_worn` for a single parent, `mask=worn, pooled` in general."""
    texts = []
    for expert in experts:
        if set(expert.names) == set(node.attributes):
            alone = len(node.parents) == 1 and tuple(expert.condition) == node.parents
            texts.append(",".join(expert.condition[node.parents[0]]) if alone else describe_condition(expert.condition))
    return ", ".join(texts) or "none"


def _gap(node: Node, uncovered: Sequence[Mapping[str, str]], found: str, fallback: str, served: bool) -> str:
    pooled = f'"ens train {shlex.quote(node.name)}"'
    if not node.parents:
        return f"no {node.name} expert (found: {found}); train it with {pooled}"
    states = ", ".join(_state_text(state) for state in uncovered)
    named = [{name: (value,) for name, value in state.items()} for state in uncovered[:3]]
    commands = [f'"{train_command(node.attributes, one)}"' for one in named] + ["..."] * (len(uncovered) > 3)
    text = f"no {node.name} expert for {states} (found: {found}); train it with {', '.join(commands)} or"
    if fallback == "pooled":
        return f"{text} a pooled one with {pooled}"
    return f"{text} combine with --fallback pooled" + ("" if served else f" after {pooled}")


def _state_text(state: Mapping[str, str]) -> str:
    return " ".join(f"{name}={value}" for name, value in state.items()) or "every photo"


def train_command(attributes: Sequence[str], condition: Condition) -> str:
    """The command that trains an expert.

    Examples:
        >>> train_command(["age"], {"gender": ("male",)}), train_command(["age"], {"mask": ("incorrect", "not_worn")})
        ('ens train age --given gender=male', 'ens train-age --mask-state incorrect,not_worn')
    """
    short = SHORT_FORMS.get((tuple(attributes), tuple(condition)))
    if short is not None:
        return " ".join([short, *(shlex.quote(",".join(classes)) for classes in condition.values())])
    given = ["--given " + shlex.quote(f"{name}={','.join(classes)}") for name, classes in condition.items()]
    return " ".join([f"ens train {shlex.quote(','.join(attributes))}", *given])
