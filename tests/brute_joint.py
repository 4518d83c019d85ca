"""The joint by brute force: every joint class a product of factors, then Jeffrey's rule on the whole table.

It has neither prefixes nor blocks nor any code of the package: a second opinion on `core_oracles.oracle_joint`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise

from core_oracles import Case, Gate, nodes_of, oracle_expert, paths_of

from ensemble_kit.graph import Node
from ensemble_kit.predictions import Predictions


def brute_joint(case: Case, gate: Gate) -> tuple[list[list[float]], list[bool]]:
    """The definition without prefixes: a row of factors for every joint class, then Jeffrey's rule on the whole table.

    joint[j] = prod over nodes of Q(j's classes of the node | j's classes before it); then, before each node in turn,
    the joint classes of each state are multiplied by gate / belief, the belief being the table's own sum over them.

    Returns:
        The joint, a row a photo; and whether a belief of the photo lies so near to another, or to the number of a
        route, that rounding decides what the gate keeps.
    """
    paths, nodes = paths_of(case.schema), nodes_of(case)
    factors = [_factors(case, paths, nodes, number) for number in range(len(nodes))]
    states_of = {node: _states(case, paths, node.parents) for node in nodes}
    tables, close = [], []
    for row in range(case.n_samples):
        table = [1.0] * len(paths)
        for by_path in factors:
            table = [value * factor(row) for value, factor in zip(table, by_path, strict=True)]
        is_close = False
        for node in nodes:
            if node.parents:
                state_of = states_of[node]
                belief = [0.0] * (max(state_of) + 1)
                for value, state in zip(table, state_of, strict=True):
                    belief[state] += value
                ratio = [g / w if w > 0 else 0.0 for g, w in zip(gate(belief), belief, strict=True)]
                table = [value * ratio[state] for value, state in zip(table, state_of, strict=True)]
                is_close |= _is_close_call(belief)
        tables.append(table)
        close.append(is_close)
    return tables, close


def _states(case: Case, paths: Sequence[Mapping[str, str]], parents: Sequence[str]) -> list[int]:
    """For every joint class, the number of its state: by the first parent's class, then the second's, ..."""
    numbers = {a.name: {c: i for i, c in enumerate(a.classes)} for a in case.schema.attributes}
    state_of = [tuple(numbers[parent][path[parent]] for parent in parents) for path in paths]
    place = {state: number for number, state in enumerate(sorted(set(state_of)))}
    return [place[state] for state in state_of]


def _factors(
    case: Case, paths: Sequence[Mapping[str, str]], nodes: Sequence[Node], number: int
) -> list[Callable[[int], float]]:
    """For every joint class, its factor at a node as a function of the photo."""
    node = nodes[number]
    before = [name for earlier in nodes[:number] for name in earlier.attributes]
    possible: dict[tuple[str, ...], set[tuple[str, ...]]] = {}
    in_state: dict[tuple[str, ...], set[tuple[str, ...]]] = {}
    for path in paths:
        classes = _pick(path, node.attributes)
        possible.setdefault(_pick(path, before), set()).add(classes)
        in_state.setdefault(_pick(path, node.parents), set()).add(classes)
    asked = {
        state: oracle_expert(case.experts, node, dict(zip(node.parents, state, strict=True))) for state in in_state
    }
    found: list[Callable[[int], float]] = []
    for path in paths:
        state = _pick(path, node.parents)
        if len(in_state[state]) == 1:
            found.append(_one)
        else:
            found.append(_factor(asked[state], node, _pick(path, node.attributes), possible[_pick(path, before)]))
    return found


def _one(row: int) -> float:
    return 1.0


def _factor(
    expert: Predictions | None, node: Node, own: tuple[str, ...], possible: set[tuple[str, ...]]
) -> Callable[[int], float]:
    assert expert is not None
    order = [expert.names.index(name) for name in node.attributes]
    names = [tuple(row[place] for place in order) for row in expert.classes]
    values = expert.layers[0].tolist()
    column = names.index(own)
    columns = [number for number, name in enumerate(names) if name in possible]
    if len(columns) == len(names):
        return lambda row: float(values[row][column])

    def share(row: int) -> float:
        total = sum(values[row][number] for number in columns)
        return float(values[row][column] / total) if total > 0 else 1 / len(columns)

    return share


def _pick(path: Mapping[str, str], names: Sequence[str]) -> tuple[str, ...]:
    return tuple(path[name] for name in names)


def _is_close_call(belief: Sequence[float]) -> bool:
    numbers = sorted([weight for weight in belief if weight > 0] + [0.01, 0.2, 0.6, 0.9])
    return any(b - a < 1e-12 for a, b in pairwise(numbers))
