"""The structures that are tried: all of them, each once, and no more than can be."""

from __future__ import annotations

import re
from itertools import combinations, product
from math import prod

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ensemble_kit.errors import UsageError
from ensemble_kit.joint import make_plan
from ensemble_kit.schema import Attribute, Schema
from ensemble_kit.structure_search import Candidate, Role, Space, enumerate_candidates

BELL = {1: 1, 2: 2, 3: 5, 4: 15}


def schema_of(*sizes: int) -> Schema:
    return Schema(*(Attribute(f"a{i}", [f"{i}{c}" for c in range(size)]) for i, size in enumerate(sizes)))


FACES = schema_of(3, 2, 3)


def count_by_matrices(sizes: tuple[int, ...]) -> int:
    """Over all graphs without a cycle, groupings of each edge's parent; and the flat structure."""
    pairs = [(p, c) for p in range(len(sizes)) for c in range(len(sizes)) if p != c]
    total = 0
    for number in range(len(pairs) + 1):
        for edges in combinations(pairs, number):
            matrix = np.zeros((len(sizes), len(sizes)), dtype=int)
            for parent, child in edges:
                matrix[parent, child] = 1
            if not np.linalg.matrix_power(matrix, len(sizes)).any():  # no way of that many steps: no cycle
                total += prod(BELL[sizes[parent]] - 1 for parent, _ in edges)
    return total + 1


@pytest.mark.parametrize("sizes", [(2, 2), (3, 2), (4, 3), (3, 2, 3), (2, 2, 4)])
def test_every_structure_is_there_once(sizes: tuple[int, ...]) -> None:
    found = enumerate_candidates(schema_of(*sizes))
    assert len(found) == len(set(found)) == len({one.name for one in found}) == count_by_matrices(sizes)


def test_the_face_mask_task_has_293_structures() -> None:
    found = {one.name: one for one in enumerate_candidates(FACES)}
    assert len(found) == 293
    assert {name: (found[name].size, len(found[name].roles)) for name in ("independent", "a2 by a0", "flat")} == {
        "independent": (5, 3),
        "a2 by a0": (9, 5),
        "flat": (17, 1),
    }
    assert next(iter(found)) == "independent"
    assert found["a2 by a0 (00 | 01,02)"].conditions == {
        "a0": [{}],
        "a1": [{}],
        "a2": [{"a0": ("00",)}, {"a0": ("01", "02")}],
    }


@settings(max_examples=8, deadline=None)
@given(st.lists(st.integers(1, 3), min_size=2, max_size=3), st.booleans(), st.booleans())
def test_every_structure_can_be_combined(sizes: list[int], group: bool, blocks: bool) -> None:
    schema = schema_of(*sizes)
    for one in enumerate_candidates(schema, Space(group=group, blocks=blocks)):
        experts = one.experts(schema)
        plan = make_plan(schema, one.graph, experts)
        assert plan.used == tuple(range(len(experts)))


def taxonomy() -> Schema:
    rows = [("f", "apple", "gala"), ("f", "apple", "smith"), ("f", "pear", "pear"), ("v", "leek", "leek")]
    return Schema.from_rows(["kind", "coarse", "fine"], rows)


def test_states_with_one_class_need_no_expert() -> None:
    found = {one.name: one for one in enumerate_candidates(taxonomy(), Space(group=False))}
    assert [role.describe() for role in found["coarse by kind; fine by coarse"].roles] == [
        "kind",
        "coarse given kind=f",
        "fine given coarse=apple",
    ]
    assert found["flat"].size == found["coarse by kind; fine by coarse"].size == 3
    # the coarse class says the kind: nothing to learn
    assert Role(("kind",)) not in found["kind by coarse"].roles
    assert all(role.attributes != ("kind",) for role in found["kind by coarse"].roles)


def test_taxonomies_can_be_combined() -> None:
    schema = taxonomy()
    for one in enumerate_candidates(schema, Space(max_parents=1)):
        plan = make_plan(schema, one.graph, one.experts(schema))
        assert not plan.unused


def edges_of(one: Candidate) -> set[tuple[str, str]]:
    return {(parent, name) for c in one.choices for parent in c.node.parents for name in c.node.attributes}


def test_only_what_is_allowed_conditions() -> None:
    found = enumerate_candidates(FACES, Space(edges={"a2": ["a0"], "a1": ["a0"]}))
    assert set().union(*map(edges_of, found)) == {("a0", "a1"), ("a0", "a2")}
    assert len(found) == 5 * 5 + 1  # no edge or one of four groupings for each child, and flat
    assert max(len(c.node.parents) for one in found for c in one.choices) == 1


def test_parents_and_groups_can_be_bounded() -> None:
    found = enumerate_candidates(FACES, Space(max_parents=1, group=False))
    assert max(len(c.node.parents) for one in found for c in one.choices) == 1
    assert len(found) == 16 + 1  # forests of rooted trees over three attributes (Cayley: 4^2), and flat


def test_blocks_add_what_lies_between_independent_and_flat() -> None:
    schema = schema_of(2, 2, 2)
    alone, with_blocks = ({c.name for c in enumerate_candidates(schema, Space(blocks=b))} for b in (False, True))
    assert alone < with_blocks
    assert {"a0,a1", "a0,a1 by a2", "a0,a1; a2 by a0"} <= with_blocks - alone


def test_a_parent_of_many_classes_is_not_grouped() -> None:
    found = [one for one in enumerate_candidates(schema_of(5, 2)) if edges_of(one) == {("a0", "a1")}]
    assert [one.name for one in found] == ["a1 by a0"]


@pytest.mark.parametrize(
    ("sizes", "space", "message"),
    [
        (
            (3, 3, 3, 3),
            Space(),
            r"structures are too many, at most 2,000; there are [\d,]+ with --max-parents 1, 544 with --no-group, 126 with",
        ),
        ((2,) * 6, Space(), "structures of 6 attributes are too many to try, at most 5"),
        ((2, 2), Space(edges={"a1": ["b0"]}), 'no attribute "b0"'),
        ((2, 2), Space(edges={"a1": "a0"}), r'parents of "a1" must be a list, found "a0"; write \["a0"\]'),
        ((2, 2), Space(max_parents=-1), "max_parents: expected 0 or more, found -1"),
    ],
)
def test_bad_spaces(sizes: tuple[int, ...], space: Space, message: str) -> None:
    with pytest.raises(UsageError) as error:
        enumerate_candidates(schema_of(*sizes), space)
    assert re.search(message, str(error.value))


def test_groups_of_two_parents_are_products() -> None:
    (one,) = [c for c in enumerate_candidates(FACES) if c.name == "a2 by a0 (00 | 01,02), a1"]
    conditions = [dict(condition) for condition in one.conditions["a2"]]
    assert conditions == [{"a0": a0, "a1": a1} for a0, a1 in product([("00",), ("01", "02")], [("10",), ("11",)])]
