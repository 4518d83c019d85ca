from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from core_oracles import face_schema, random_graph, random_schema
from hypothesis import given, settings
from hypothesis import strategies as st

from ensemble_kit.errors import DataError, EnsembleKitError, UsageError
from ensemble_kit.graph import Graph, Node, check_condition, describe_condition, describe_expert

SEEDS = st.integers(0, 2**32 - 1)


@settings(max_examples=60, deadline=None)
@given(SEEDS)
def test_parents_come_before_children_and_ties_keep_the_written_order(seed: int) -> None:
    random = np.random.default_rng(seed)
    schema = random_schema(random, 4, taxonomy=False)
    graph = random_graph(random, schema)
    graph.check(schema)
    seen: set[str] = set()
    for node in graph.nodes:
        assert set(node.parents) <= seen
        seen |= set(node.attributes)
    assert seen == set(schema.names)
    again = Graph({node.attributes: node.parents for node in graph.nodes})
    assert again.nodes == graph.nodes
    assert Graph.from_json(graph.to_json()) == graph


def test_ties_keep_the_written_order() -> None:
    graph = Graph({"age": ["mask"], "gender": [], "mask": []})
    assert [node.name for node in graph.nodes] == ["gender", "mask", "age"]


def test_blocks_as_tuple_or_text_are_the_same() -> None:
    graph = Graph({"mask": [], ("gender", "age"): ["mask"]})
    assert graph == Graph({"mask": [], "gender, age": ["mask"]})
    assert hash(graph) == hash(Graph({"mask": [], "gender,age": ["mask"]}))
    assert graph.node_of(["age", "gender"]) == Node(("gender", "age"), ("mask",))
    assert graph.node_of(["age"]) is None


def test_ready_made_graphs() -> None:
    schema = face_schema()
    assert Graph.independent(schema) == Graph({"mask": [], "gender": [], "age": []})
    assert Graph.flat(schema).nodes == (Node(("mask", "gender", "age")),)


def test_conditions_are_put_in_the_schema_order() -> None:
    schema = face_schema()
    found = check_condition({"gender": "male", "mask": ["not_worn", "incorrect", "incorrect"]}, schema)
    assert list(found.items()) == [("mask", ("incorrect", "not_worn")), ("gender", ("male",))]
    assert describe_condition(found) == "mask=incorrect,not_worn gender=male"
    assert describe_expert(["age"], found) == "age given mask=incorrect,not_worn gender=male"
    assert describe_expert(["gender", "age"], {}) == "gender,age"
    assert describe_condition({}) == "pooled"


BAD: list[tuple[Any, type[EnsembleKitError], str]] = [
    (lambda: Graph({"a": ["b"], "b": ["a"]}), UsageError, "a cycle among a -> b"),
    (lambda: Graph({"a": ["a"]}), UsageError, "a node cannot condition itself"),
    (lambda: Graph({("a", "b"): ["b"]}), UsageError, "a node cannot condition itself"),
    (lambda: Graph({"a": [], ("a", "b"): []}), UsageError, 'attribute "a" is predicted by two nodes'),
    (lambda: Graph({("a", "a"): []}), UsageError, 'attribute "a" is predicted by two nodes'),
    (lambda: Graph({"mask": [], "age": ["maks"]}), UsageError, 'unknown parent "maks"; did you mean "mask"'),
    (lambda: Graph({"mask": [], "age": ["mask", "mask"]}), UsageError, 'names the parent "mask" twice'),
    (lambda: Graph({"": []}), UsageError, "is not a node"),
    (lambda: Graph({"mask,": []}), UsageError, "is not a node"),
    (lambda: Graph({"mask": [], "age": "mask"}), UsageError, "parents of"),
    (lambda: Graph({"age": 3}), UsageError, "parents of 'age' must be a list of attribute names, found 3; write []"),  # type: ignore[dict-item]
    (lambda: Graph({"age": None}), UsageError, "parents of 'age' must be a list of attribute names, found None"),  # type: ignore[dict-item]
    (lambda: Graph({"age": [3]}), UsageError, "must be a list of attribute names, found [3]"),  # type: ignore[list-item]
    (lambda: Graph({"age": [["mask"]]}), UsageError, "must be a list of attribute names, found [['mask']]"),  # type: ignore[list-item]
    (lambda: Graph({3: []}), UsageError, "3 is not a node"),  # type: ignore[dict-item]
    (lambda: Graph({("age", 3): []}), UsageError, "('age', 3) is not a node"),  # type: ignore[dict-item]
    (lambda: Graph(["age"]), UsageError, "graph: expected node -> parents, found ['age']"),  # type: ignore[arg-type]
    (lambda: Graph(None), UsageError, "graph: expected node -> parents, found None"),  # type: ignore[arg-type]
    (lambda: Graph({"mask": [], "gender": [], "ages": []}).check(face_schema()), UsageError, 'did you mean "age"'),
    (lambda: Graph({"mask": []}).check(face_schema()), UsageError, "no node predicts gender, age"),
    (lambda: Graph.from_json({"mask": None}), DataError, 'expected {"node": ["parent", ...]}'),
    (lambda: Graph.from_json({"mask": [3]}), DataError, 'expected {"node": ["parent", ...]}, as in'),
    (lambda: Graph.from_json([]), DataError, 'expected {"node": ["parent", ...]}'),
    (lambda: check_condition({"maks": "worn"}, face_schema()), UsageError, 'did you mean "mask"'),
    (lambda: check_condition({"mask": "wron"}, face_schema()), UsageError, 'did you mean "worn"'),
    (lambda: check_condition({"mask": []}, face_schema()), UsageError, "names no class; leave it out"),
    (lambda: check_condition({"mask": 3}, face_schema()), UsageError, 'condition: "mask" must be a class or a list of'),  # type: ignore[dict-item]
    (lambda: check_condition({"mask": None}, face_schema()), UsageError, "(worn, incorrect, not_worn), found None"),  # type: ignore[dict-item]
    (lambda: check_condition({"mask": [3]}, face_schema()), UsageError, 'attribute "mask" has no class "3"'),  # type: ignore[list-item]
    (lambda: check_condition({3: "worn"}, face_schema()), UsageError, 'no attribute "3"'),  # type: ignore[dict-item]
    (lambda: check_condition(3, face_schema()), UsageError, "condition: expected attribute -> classes, found 3"),  # type: ignore[arg-type]
    (lambda: check_condition("mask", face_schema()), UsageError, "expected attribute -> classes, found 'mask'"),  # type: ignore[arg-type]
]


@pytest.mark.parametrize(("call", "error", "message"), BAD, ids=[message for *_, message in BAD])
def test_bad_input_is_refused_in_words(call: Any, error: type[EnsembleKitError], message: str) -> None:
    with pytest.raises(error) as caught:
        call()
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
