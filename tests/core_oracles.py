"""Random cases for the combining core, and oracles that work them out by loops over names.

Nothing here shares code with the package beyond the types it takes: the oracles hold dictionaries of class names, read
fields that were given (classes, paths, conditions, numbers) and work out orders and numberings themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ensemble_kit.arrays import FloatArray
from ensemble_kit.graph import Graph, Node
from ensemble_kit.predictions import Predictions
from ensemble_kit.schema import Attribute, Schema

Floats = NDArray[np.float64]
Gate = Callable[[list[float]], list[float]]


@dataclass(frozen=True)
class Case:
    schema: Schema
    graph: Graph
    experts: list[Predictions]
    fallback: Any
    n_samples: int
    edges: Mapping[str | tuple[str, ...], Sequence[str]] | None = None
    """What the graph was written as; where left out, the graph's own nodes in their order."""


def face_schema() -> Schema:
    mask = Attribute("mask", ["worn", "incorrect", "not_worn"])
    gender = Attribute("gender", ["male", "female"])
    return Schema(mask, gender, Attribute("age", ["<30", "30-59", ">=60"], borders=[30, 60]))


FACE_GRAPH = Graph({"mask": [], "gender": [], "age": ["mask"]})


def sample_ids(n_samples: int) -> list[str]:
    return [f"photo-{number}.jpg" for number in range(n_samples)]


def random_probs(random: np.random.Generator, *shape: int) -> Floats:
    """Distributions along the last axis, some of them with zeros."""
    raw = random.random(shape) ** 3
    raw[random.random(shape) < 0.1] = 0
    raw[..., 0] += 1e-3
    return np.asarray(raw / raw.sum(axis=-1, keepdims=True))


def face_experts(
    seed: int, n_samples: int, voters: Sequence[str] = ("fold0",), pooled: bool = False
) -> list[Predictions]:
    """Mask, gender and one age expert per mask state (and a pooled one)."""
    random, schema, ids = np.random.default_rng(seed), face_schema(), sample_ids(n_samples)
    conditions: list[tuple[str, dict[str, str]]] = [("mask", {}), ("gender", {})]
    conditions += [("age", {"mask": state}) for state in schema["mask"].classes]
    conditions += [("age", {})] if pooled else []
    return [
        Predictions(
            schema[name], random_probs(random, len(voters), n_samples, len(schema[name].classes)), ids, condition,
            voters=voters,
        )
        for name, condition in conditions
    ]  # fmt: skip


def random_schema(random: np.random.Generator, max_attributes: int, taxonomy: bool) -> Schema:
    attributes = [
        Attribute(f"attr{a}", [f"{a}{c}" for c in "xyz"[: random.integers(1 if a else 2, 4)]])
        for a in range(random.integers(1, max_attributes + 1))
    ]
    if not taxonomy:
        return Schema(*attributes)
    rows = list(product(*(attribute.classes for attribute in attributes)))
    keep = random.random(len(rows)) < random.uniform(0.2, 0.9)
    keep[random.integers(len(rows))] = True
    kept = [row for row, chosen in zip(rows, keep, strict=True) if chosen]
    return Schema(*attributes, paths=kept)


def random_graph(random: np.random.Generator, schema: Schema, blocks: bool = True) -> Graph:
    return Graph(random_edges(random, schema, blocks))


def random_edges(
    random: np.random.Generator, schema: Schema, blocks: bool = True
) -> dict[str | tuple[str, ...], list[str]]:
    """Node -> parents, without a cycle, written in any order."""
    names = [schema.names[i] for i in random.permutation(len(schema.names))]
    nodes: list[tuple[str, ...]] = []
    while names:
        size = int(random.integers(1, min(len(names), 2) + 1)) if blocks else 1
        nodes.append(tuple(names[:size]))
        names = names[size:]
    edges: dict[str | tuple[str, ...], list[str]] = {}
    for place, node in enumerate(nodes):
        earlier = [name for other in nodes[:place] for name in other]
        edges[node] = [earlier[i] for i in random.permutation(len(earlier)) if random.random() < 0.6]
    order = random.permutation(len(nodes))
    written = list(edges.items())
    return {written[i][0]: written[i][1] for i in order}


def random_case(
    seed: int,
    *,
    taxonomy: bool,
    blocks: bool = True,
    max_attributes: int = 4,
    n_samples: int = 5,
    rich: bool = False,
) -> Case:
    """A schema, a graph and experts that cover it: by whole conditions, or with gaps that pooled ones fill.

    Args:
        rich: further experts whose condition lies inside another's on the same parents, and experts without the
            columns that a taxonomy forbids under their condition.
    """
    random = np.random.default_rng(seed)
    schema = random_schema(random, max_attributes, taxonomy)
    edges = random_edges(random, schema, blocks)
    graph = Graph(edges)
    experts: list[Predictions] = []
    for node in graph.nodes:
        conditions: list[dict[str, tuple[str, ...]]] = [{}]
        for size in range(1, len(node.parents) + 1):
            for parents in combinations(node.parents, size):
                found = _random_conditions(random, schema, parents)
                conditions += found + (_narrower_conditions(random, found) if rich else [])
        experts += [_random_expert(random, schema, node, condition, n_samples, rich) for condition in conditions]
    shuffled = [experts[i] for i in random.permutation(len(experts))]
    return Case(schema, graph, shuffled, "pooled", n_samples, edges)


def _random_conditions(
    random: np.random.Generator, schema: Schema, parents: Sequence[str]
) -> list[dict[str, tuple[str, ...]]]:
    """Disjoint conditions on all these parents: a random split of each parent's classes, some cells left out."""
    splits = []
    for parent in parents:
        classes = schema[parent].classes
        part = random.integers(0, 2, size=len(classes))
        cells = [tuple(c for c, p in zip(classes, part, strict=True) if p == which) for which in (0, 1)]
        splits.append([cell for cell in cells if cell])
    return [dict(zip(parents, cells, strict=True)) for cells in product(*splits) if random.random() < 0.7]


def _narrower_conditions(
    random: np.random.Generator, wide: Sequence[dict[str, tuple[str, ...]]]
) -> list[dict[str, tuple[str, ...]]]:
    """For some disjoint conditions the same without one class of one parent: narrower by the number of classes."""
    narrower = []
    for condition in wide:
        several = [parent for parent, classes in condition.items() if len(classes) > 1]
        if several and random.random() < 0.5:
            parent = several[random.integers(len(several))]
            left_out = condition[parent][random.integers(len(condition[parent]))]
            kept = tuple(c for c in condition[parent] if c != left_out)
            narrower.append({**condition, parent: kept})
    return narrower


def _random_expert(
    random: np.random.Generator,
    schema: Schema,
    node: Node,
    condition: dict[str, tuple[str, ...]],
    n_samples: int,
    rich: bool = False,
) -> Predictions:
    """Columns in a random order; a block's attributes too."""
    names = [node.attributes[i] for i in random.permutation(len(node.attributes))]
    classes = list(product(*(schema[name].classes for name in names)))
    if rich and random.random() < 0.5:
        fitting = [path for path in paths_of(schema) if all(path[p] in c for p, c in condition.items())]
        found = {tuple(path[name] for name in names) for path in fitting}
        classes = [row for row in classes if row in found] or classes
    if len(names) > 1 or random.random() < 0.5:
        classes = [classes[i] for i in random.permutation(len(classes))]
    probs = random_probs(random, 1, n_samples, len(classes))
    return Predictions([schema[name] for name in names], probs, sample_ids(n_samples), condition, classes)


def soft_gate(belief: list[float]) -> list[float]:
    return list(belief)


def hard_gate(belief: list[float]) -> list[float]:
    best = belief.index(max(belief))
    return [1.0 if state == best else 0.0 for state in range(len(belief))]


def threshold_gate(at: float) -> Gate:
    return lambda belief: hard_gate(belief) if max(belief) >= at else list(belief)


def top_k_gate(k: int) -> Gate:
    def gate(belief: list[float]) -> list[float]:
        kept = set(sorted(range(len(belief)), key=lambda state: (-belief[state], state))[:k])
        total = sum(belief[state] for state in kept)
        return [belief[state] / total if state in kept else 0.0 for state in range(len(belief))]

    return gate


def sparse_gate(epsilon: float) -> Gate:
    def gate(belief: list[float]) -> list[float]:
        best = belief.index(max(belief))
        kept = [state for state in range(len(belief)) if belief[state] >= epsilon or state == best]
        total = sum(belief[state] for state in kept)
        return [belief[state] / total if state in kept else 0.0 for state in range(len(belief))]

    return gate


ROUTE_GATES: Mapping[str, Gate] = {
    "hard": hard_gate,
    "soft": soft_gate,
    "threshold": threshold_gate(0.9),
    "threshold=0.6": threshold_gate(0.6),
    "top_k": top_k_gate(2),
    "top_k=1": top_k_gate(1),
    "top_k=3": top_k_gate(3),
    "sparse": sparse_gate(0.01),
    "sparse=0.2": sparse_gate(0.2),
}
"""Each route's text and its rule for one row; with every name of the package's table, which a test checks."""


def two_gate(belief: list[float]) -> list[float]:
    """The two most probable states (ties to the lower), divided by their sum."""
    order = sorted(range(len(belief)), key=lambda state: (-belief[state], state))[:2]
    total = sum(belief[state] for state in order)
    return [belief[state] / total if state in order else 0.0 for state in range(len(belief))]


def route_two(belief: FloatArray) -> FloatArray:
    """The same for the package."""
    order = np.argsort(-belief, axis=1, kind="stable")[:, :2]
    gate = np.zeros_like(belief)
    np.put_along_axis(gate, order, np.take_along_axis(belief, order, axis=1), axis=1)
    total = np.zeros((len(belief), 1))
    for state in range(belief.shape[1]):
        total[:, 0] += gate[:, state]
    return np.asarray(gate / total)


def paths_of(schema: Schema) -> list[dict[str, str]]:
    """The joint classes in the order of their numbers: by the first attribute's class, then the second's, ..."""
    numbers = sorted(tuple(int(number) for number in row) for row in schema.paths)
    return [{a.name: a.classes[i] for a, i in zip(schema.attributes, row, strict=True)} for row in numbers]


def nodes_of(case: Case) -> list[Node]:
    """The nodes, each after its parents; of those that are free, the one that was written first."""
    if case.edges is None:
        return list(case.graph.nodes)
    written = [Node((key,) if isinstance(key, str) else key, tuple(up)) for key, up in case.edges.items()]
    ordered: list[Node] = []
    while len(ordered) < len(written):
        done = {name for node in ordered for name in node.attributes}
        ordered.append(next(n for n in written if n not in ordered and all(parent in done for parent in n.parents)))
    return ordered


def oracle_joint(case: Case, row: int, gate: Gate) -> list[float]:
    """The definition, one photo, by loops over names: beliefs over prefixes, a gate before each node."""
    schema = case.schema
    paths = paths_of(schema)
    belief: dict[tuple[tuple[str, str], ...], float] = {(): 1.0}
    for node in nodes_of(case):
        if node.parents:
            belief = _gated(belief, node, paths, schema, gate)
        longer: dict[tuple[tuple[str, str], ...], float] = {}
        for prefix, weight in belief.items():
            fitting = [path for path in paths if all(path[a] == c for a, c in prefix)]
            possible = sorted({tuple(path[a] for a in node.attributes) for path in fitting})
            state = {parent: dict(prefix)[parent] for parent in node.parents}
            shares = _shares(case, node, state, paths, possible, row)
            for combination in possible:
                key = tuple(sorted({**dict(prefix), **dict(zip(node.attributes, combination, strict=True))}.items()))
                longer[key] = weight * shares[combination]
        belief = longer
    return [belief[tuple(sorted(path.items()))] for path in paths]


def _gated(
    belief: dict[tuple[tuple[str, str], ...], float],
    node: Node,
    paths: Sequence[Mapping[str, str]],
    schema: Schema,
    gate: Gate,
) -> dict[tuple[tuple[str, str], ...], float]:
    number = {p: {c: i for i, c in enumerate(schema[p].classes)} for p in node.parents}
    states = sorted(
        {tuple(path[p] for p in node.parents) for path in paths},
        key=lambda state: [number[p][c] for p, c in zip(node.parents, state, strict=True)],
    )
    state_of = {prefix: states.index(tuple(dict(prefix)[p] for p in node.parents)) for prefix in belief}
    weights = [sum(w for prefix, w in belief.items() if state_of[prefix] == s) for s in range(len(states))]
    opened = gate(weights)
    factor = [g / w if w > 0 else 0.0 for g, w in zip(opened, weights, strict=True)]
    return {prefix: weight * factor[state_of[prefix]] for prefix, weight in belief.items()}


def _shares(
    case: Case,
    node: Node,
    state: Mapping[str, str],
    paths: Sequence[Mapping[str, str]],
    possible: Sequence[tuple[str, ...]],
    row: int,
) -> dict[tuple[str, ...], float]:
    in_state = [path for path in paths if all(path[p] == c for p, c in state.items())]
    if len({tuple(path[a] for a in node.attributes) for path in in_state}) == 1:
        return {possible[0]: 1.0}
    expert = oracle_expert(case.experts, node, state)
    assert expert is not None
    given = {
        tuple(dict(zip(expert.names, names, strict=True))[a] for a in node.attributes): float(expert.layers[0][row][i])
        for i, names in enumerate(expert.classes)
    }
    if len(given) == len(possible):
        return given
    total = sum(given[combination] for combination in possible)
    return {c: given[c] / total if total > 0 else 1 / len(possible) for c in possible}


def oracle_expert(experts: Sequence[Predictions], node: Node, state: Mapping[str, str]) -> Predictions | None:
    """The narrowest, level by level."""
    left = [
        expert
        for expert in experts
        if sorted(expert.names) == sorted(node.attributes)
        and all(name in node.parents and state[name] in classes for name, classes in expert.condition.items())
    ]
    if not left:
        return None
    most = max(len(expert.condition) for expert in left)
    left = [expert for expert in left if len(expert.condition) == most]
    for parent in node.parents:
        naming = [expert for expert in left if parent in expert.condition]
        left = naming or left
    fewest = min(sum(map(len, expert.condition.values())) for expert in left)
    (best,) = [expert for expert in left if sum(map(len, expert.condition.values())) == fewest]
    return best
