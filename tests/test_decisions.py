from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from core_oracles import FACE_GRAPH, face_experts, face_schema, random_case, random_probs, sample_ids
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from ensemble_kit.arrays import FloatArray, IntArray
from ensemble_kit.decisions import DECISIONS, decide_labels, decide_top_down
from ensemble_kit.ensemble import ConditionalEnsemble
from ensemble_kit.errors import EnsembleKitError, UsageError
from ensemble_kit.graph import Graph
from ensemble_kit.predictions import Predictions
from ensemble_kit.schema import Attribute, Schema

SEEDS = st.integers(0, 2**32 - 1)


def oracle_top_down(joint: list[float], schema: Schema, graph: Graph) -> int:
    """One row, by loops over names; -1 where it abstains."""
    left = {tuple(name.split(" / ")): weight for name, weight in zip(schema.joint_names(), joint, strict=True)}
    if not any(weight > 0 for weight in left.values()):
        return -1
    for node in graph.nodes:
        places = [schema.names.index(name) for name in node.attributes]
        shares: dict[tuple[str, ...], float] = {}
        for names, weight in left.items():
            key = tuple(names[place] for place in places)
            shares[key] = shares.get(key, 0.0) + weight
        numbered = sorted(
            shares, key=lambda key: [schema[a].index(c) for a, c in zip(node.attributes, key, strict=True)]
        )
        best = max(numbered, key=lambda key: shares[key])  # the first of equal ones
        left = {names: w for names, w in left.items() if tuple(names[place] for place in places) == best}
    ((names, _),) = left.items()
    return schema.joint_names().index(" / ".join(names))


@settings(max_examples=150, deadline=None)
@given(SEEDS, st.booleans(), st.booleans())
def test_top_down_is_its_definition_also_with_ties(seed: int, taxonomy: bool, coarse: bool) -> None:
    case, random = random_case(seed, taxonomy=taxonomy), np.random.default_rng(seed)
    joint = random_probs(random, 7, case.schema.n_joint)
    if coarse:  # powers of two, which add up without rounding and often tie
        joint = np.ceil(joint * 4) / 64
    joint[3] = 0
    expected = [oracle_top_down(row, case.schema, case.graph) for row in joint.tolist()]
    assert decide_top_down(joint, case.schema, case.graph).tolist() == expected
    order = random.permutation(7)
    assert decide_top_down(joint[order], case.schema, case.graph).tolist() == [expected[row] for row in order]
    for row in range(7):
        assert decide_top_down(joint[row : row + 1], case.schema, case.graph).tolist() == expected[row : row + 1]


def combined(case: Any, route: str) -> Any:
    ensemble = ConditionalEnsemble(case.schema, case.graph, case.experts, fallback="pooled")
    return ensemble.combine(route=route, dtype="float64")


@settings(max_examples=100, deadline=None)
@given(SEEDS)
def test_the_hard_route_is_top_down_on_the_soft_joint(seed: int) -> None:
    case = random_case(seed, taxonomy=False, blocks=False)
    assume(any(len(attribute.classes) > 1 for attribute in case.schema.attributes))
    hard, soft = combined(case, "hard"), combined(case, "soft")
    assert hard.labels().tolist() == soft.labels("top_down").tolist()
    assert hard.labels("top_down").tolist() == hard.labels().tolist()


def test_on_a_tree_of_classes_too() -> None:
    rows = [(f"k{f % 3}", f"c{f % 3}{f % 2}", f"f{f:02}") for f in range(24)]
    schema = Schema.from_rows(["kind", "coarse", "fine"], rows)
    random, ids = np.random.default_rng(0), sample_ids(200)
    probs = [random.dirichlet(np.ones(len(attribute.classes)), 200) for attribute in schema.attributes]  # no zeros
    experts = [Predictions(a, own, ids) for a, own in zip(schema.attributes, probs, strict=True)]
    graph = Graph({"kind": [], "coarse": ["kind"], "fine": ["coarse"]})
    ensemble = ConditionalEnsemble(schema, graph, experts, fallback="pooled")
    hard, soft = ensemble.combine(route="hard"), ensemble.combine(route="soft")
    assert hard.labels().tolist() == soft.labels("top_down").tolist()
    assert (hard.labels() != soft.labels()).mean() > 0.1


def test_the_three_decisions_on_one_joint() -> None:
    """worn has most, but the single best class is not_worn; apart, the best mask and the best age never meet."""
    schema = Schema(Attribute("mask", ["worn", "not_worn"]), Attribute("age", ["young", "mid", "old"]))
    graph = Graph({"mask": [], "age": ["mask"]})
    joint = Predictions(schema.attributes, np.array([[0.21, 0.19, 0.2, 0.0, 0.1, 0.3]]), ["a"])
    found = {decide: int(decide_labels(joint, schema, graph, decide)[0]) for decide in DECISIONS}
    assert found == {"joint": 5, "attribute": 2, "top_down": 0}


@settings(max_examples=60, deadline=None)
@given(SEEDS)
def test_attribute_is_each_attributes_own_best(seed: int) -> None:
    case, random = random_case(seed, taxonomy=False), np.random.default_rng(seed)
    probs = random_probs(random, 6, case.schema.n_joint)
    joint = Predictions(case.schema.attributes, probs, sample_ids(6))
    found = case.schema.decode(decide_labels(joint, case.schema, case.graph, "attribute"))
    for place, attribute in enumerate(case.schema.attributes):
        for row in range(6):
            shares = [probs[row, case.schema.paths[:, place] == c].sum() for c in range(len(attribute.classes))]
            assert shares[found[attribute.name][row]] >= max(shares) - 1e-12


def test_abstained_and_uncomputed_rows_have_no_label() -> None:
    joint = np.full((3, 18), 1 / 18)
    joint[0], joint[1] = 0, np.nan
    assert decide_top_down(joint, face_schema(), FACE_GRAPH).tolist() == [-1, -1, 0]
    assert decide_top_down(joint[:0], face_schema(), FACE_GRAPH).tolist() == []


def test_float32_is_added_up_in_float64(monkeypatch: pytest.MonkeyPatch) -> None:
    from ensemble_kit import decisions

    random = np.random.default_rng(3)
    joint: FloatArray = random_probs(random, 300, 18).astype(np.float32)
    whole = decide_top_down(joint, face_schema(), FACE_GRAPH)
    assert whole.tolist() == decide_top_down(joint.astype(np.float64), face_schema(), FACE_GRAPH).tolist()
    monkeypatch.setattr(decisions, "BLOCK_NUMBERS", 100)
    assert whole.tolist() == decide_top_down(joint, face_schema(), FACE_GRAPH).tolist()


SCHEMA = face_schema()
PANEL = Predictions(SCHEMA.attributes, np.full((2, 1, 18), 1 / 18), ["a"])


def named(decide: Any) -> IntArray:
    return decide_labels(PANEL, SCHEMA, FACE_GRAPH, decide)


BAD: list[tuple[Any, str]] = [
    (
        lambda: decide_top_down(np.ones((2, 17)), SCHEMA, FACE_GRAPH),
        "expected (n_samples, 18) probabilities, found (2, 17)",
    ),
    (lambda: decide_top_down(np.ones(18), SCHEMA, FACE_GRAPH), "found (18,)"),
    (lambda: decide_top_down(np.ones((2, 18)), SCHEMA, Graph({"mask": []})), "no node predicts gender, age"),
    (lambda: named("top_down"), "mask,gender,age: 2 voters; select one"),
    (lambda: named("topdown"), 'unknown decision "topdown"; did you mean "top_down"?'),
    (lambda: named("argmax"), "(known: joint, attribute, top_down)"),
]


@pytest.mark.parametrize(("call", "message"), BAD, ids=[message for _, message in BAD])
def test_bad_calls_are_refused_in_words(call: Any, message: str) -> None:
    with pytest.raises(EnsembleKitError) as caught:
        call()
    assert isinstance(caught.value, UsageError)
    assert message in str(caught.value)


def test_labels_of_a_result_are_those_of_its_joint() -> None:
    result = ConditionalEnsemble(SCHEMA, FACE_GRAPH, face_experts(3, 50)).combine(route="top_k=2")
    assert result.labels().tolist() == result.joint.labels().tolist()
    assert result.labels("attribute").tolist() == result.joint.labels("attribute").tolist()
    assert result.labels("top_down").tolist() == decide_top_down(result.joint.probs[0], SCHEMA, FACE_GRAPH).tolist()
