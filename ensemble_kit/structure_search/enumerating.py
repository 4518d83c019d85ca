"""Every structure there is, within bounds that are said."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, product

from ensemble_kit.errors import UsageError
from ensemble_kit.graph import Node
from ensemble_kit.schema import Attribute, Schema
from ensemble_kit.structure_search.candidates import Candidate, Grouping, NodeChoice, n_open

MAX_GROUPED = 4
"""Of a parent with at most so many classes every grouping is a candidate (15 of 4 classes; 5 classes have 52)."""

MAX_CANDIDATES = 2000
MAX_ATTRIBUTES = 5
"""Six attributes have 3.8 million graphs."""


@dataclass(frozen=True)
class Space:
    """What may condition what.

    Attributes:
        edges: attribute -> the attributes that may condition it; None = any may condition any other.
        max_parents: of one node; None = as many as there are.
        group: whether a parent's classes may share an expert; False = an expert for each.
        blocks: whether several attributes may be predicted jointly by one expert, short of all of them.
        max_candidates: more are refused.
    """

    edges: Mapping[str, Sequence[str]] | None = None
    max_parents: int | None = None
    group: bool = True
    blocks: bool = False
    max_candidates: int = MAX_CANDIDATES

    def check(self, schema: Schema) -> None:
        """Raises UsageError on unknown attributes and numbers out of range."""
        for child, parents in (self.edges or {}).items():
            if isinstance(parents, str):
                raise UsageError(f'edges: parents of "{child}" must be a list, found "{parents}"; write ["{parents}"]')
            schema.in_order([child, *parents])
        if self.max_parents is not None and self.max_parents < 0:
            raise UsageError(f"max_parents: expected 0 or more, found {self.max_parents}")
        if len(schema.names) > MAX_ATTRIBUTES:
            raise UsageError(
                f"structures of {len(schema.names)} attributes are too many to try, at most {MAX_ATTRIBUTES}; search "
                "among those you doubt, the others being independent"
            )

    def may_condition(self, parent: str, node: Sequence[str]) -> bool:
        return parent not in node and (self.edges is None or any(parent in self.edges.get(child, ()) for child in node))


def groupings(attribute: Attribute, space: Space) -> list[Grouping]:
    """Every way to put an attribute's classes in two groups or more; each by itself where there are many.

    Examples:
        >>> mask = Attribute("mask", ["worn", "incorrect", "not_worn"])
        >>> [len(grouping) for grouping in groupings(mask, Space())]
        [2, 2, 2, 3]
    """
    names = attribute.classes
    each: Grouping = tuple((name,) for name in names)
    if len(names) < 2:
        return []
    if not space.group or len(names) > MAX_GROUPED:
        return [each]
    found = [grouping for grouping in _partitions(names) if len(grouping) > 1]
    return sorted(found, key=lambda grouping: (len(grouping), [names.index(group[0]) for group in grouping]))


def _partitions(names: Sequence[str]) -> Iterator[tuple[tuple[str, ...], ...]]:
    if not names:
        yield ()
        return
    first, rest = names[0], names[1:]
    for partition in _partitions(rest):
        yield ((first,), *partition)
        for number, group in enumerate(partition):
            yield ((first, *group), *partition[:number], *partition[number + 1 :])


def enumerate_candidates(schema: Schema, space: Space | None = None) -> list[Candidate]:
    """Every structure in the space: independent, flat, and each choice of parents and groupings without a cycle.

    Several parents are grouped each by itself: the experts of a node answer the product of the groups.

    Raises:
        UsageError: more than `space.max_candidates`.

    Examples:
        >>> mask, gender = Attribute("mask", ["worn", "bare"]), Attribute("gender", ["male", "female"])
        >>> sorted(candidate.name for candidate in enumerate_candidates(Schema(mask, gender)))
        ['flat', 'gender by mask', 'independent', 'mask by gender']
    """
    space = space or Space()
    space.check(schema)
    number = count_candidates(schema, space)
    if number > space.max_candidates:
        fewer = {
            "--max-parents 1": count_candidates(schema, replace(space, max_parents=1)),
            "--no-group": count_candidates(schema, replace(space, group=False)),
            "both": count_candidates(schema, replace(space, max_parents=1, group=False)),
        }
        shown = ", ".join(f"{count:,} with {name}" for name, count in fewer.items())
        raise UsageError(
            f"{number:,} structures are too many, at most {space.max_candidates:,}; there are {shown}; or name the "
            'edges that may be: --edge "mask->age"'
        )
    grouped = {attribute.name: groupings(attribute, space) for attribute in schema.attributes}
    graphs = list(_graphs(schema, space))
    choices = {choice for graph in graphs for choice in _choices(graph, grouped)}
    roles = {choice: choice.roles(schema) for choice in choices}
    size = {role: n_open(schema, role) - 1 for own in roles.values() for role in own}
    found = []
    for graph in graphs:
        for chosen in product(*(_choices([node], grouped) for node in graph)):
            own = [role for choice in chosen for role in roles[choice]]
            found.append(Candidate(chosen, tuple(own), sum(size[role] for role in own)))
    return sorted(found, key=lambda candidate: (candidate.size, not candidate.is_independent, len(candidate.roles)))


def count_candidates(schema: Schema, space: Space) -> int:
    """How many structures `enumerate_candidates` would give."""
    number = {attribute.name: len(groupings(attribute, space)) for attribute in schema.attributes}
    return sum(math.prod(number[p] for node in graph for p in node.parents) for graph in _graphs(schema, space))


def _choices(graph: Sequence[Node], grouped: Mapping[str, list[Grouping]]) -> list[NodeChoice]:
    """Every choice of groupings of each of the nodes."""
    return [
        NodeChoice(node, chosen) for node in graph for chosen in product(*(grouped[parent] for parent in node.parents))
    ]


def _graphs(schema: Schema, space: Space) -> Iterator[tuple[Node, ...]]:
    """Every graph of the space, its nodes in the schema's order; the flat one last."""
    for blocks in _blocks(schema, space):
        options = [_parents(block, schema, space) for block in blocks]
        if math.prod(map(len, options)) > 2**20:
            raise UsageError('the graphs are too many to list; pass --max-parents 1, or --edge "mask->age" and so on')
        for parents in product(*options):
            graph = tuple(Node(block, chosen) for block, chosen in zip(blocks, parents, strict=True))
            if _is_acyclic(graph):
                yield graph
    if len(schema.names) > 1:
        yield (Node(schema.names),)


def _blocks(schema: Schema, space: Space) -> Iterator[tuple[tuple[str, ...], ...]]:
    """Attributes each by itself, and with `blocks` every other division short of the flat one."""
    single = tuple((name,) for name in schema.names)
    yield single
    if space.blocks:
        for division in _partitions(schema.names):
            if 1 < len(division) < len(schema.names):
                yield tuple(sorted(division, key=lambda block: schema.names.index(block[0])))


def _parents(block: Sequence[str], schema: Schema, space: Space) -> list[tuple[str, ...]]:
    allowed = [a.name for a in schema.attributes if space.may_condition(a.name, block) and len(a.classes) > 1]
    most = len(allowed) if space.max_parents is None else min(space.max_parents, len(allowed))
    return [chosen for number in range(most + 1) for chosen in combinations(allowed, number)]


def _is_acyclic(graph: Sequence[Node]) -> bool:
    waiting, done = list(graph), set[str]()
    while waiting:
        ready = [node for node in waiting if done.issuperset(node.parents)]
        if not ready:
            return False
        done.update(name for node in ready for name in node.attributes)
        waiting = [node for node in waiting if node not in ready]
    return True
