"""What every row of a result carries, against the oracle's own walk over names."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from core_oracles import (
    FACE_GRAPH,
    ROUTE_GATES,
    Case,
    Gate,
    face_experts,
    face_schema,
    oracle_expert,
    oracle_joint,
    random_case,
    soft_gate,
)
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from ensemble_kit.arrays import BoolArray, FloatArray
from ensemble_kit.ensemble import Combined, ConditionalEnsemble
from ensemble_kit.graph import Graph, Node, describe_condition
from ensemble_kit.predictions import Predictions
from ensemble_kit.routing import find_route
from ensemble_kit.schema import Attribute, Schema

FOLDS = ("fold0", "fold1", "fold2")


def combine(experts: list[Predictions], **options: Any) -> Combined:
    return ConditionalEnsemble(face_schema(), FACE_GRAPH, experts).combine(**options)


def of_case(case: Case, route: Any) -> Combined:
    return ConditionalEnsemble(case.schema, case.graph, case.experts, fallback="pooled").combine(
        route=route, dtype="float64"
    )


def words(n_open: int, n_states: int) -> str:
    if n_open in (0, 1):
        return ["abstained", "one state"][n_open]
    return "all states" if n_open == n_states else f"{n_open} of {n_states} states"


def watched(gate: Gate) -> tuple[Gate, list[tuple[list[float], list[float]]]]:
    """A gate that writes down what it was asked and what it said."""
    seen: list[tuple[list[float], list[float]]] = []

    def asked(belief: list[float]) -> list[float]:
        seen.append((list(belief), gate(belief)))
        return seen[-1][1]

    return asked, seen


def states_of(case: Case, parents: tuple[str, ...]) -> list[dict[str, str]]:
    paths = [dict(zip(case.schema.names, names.split(" / "), strict=True)) for names in case.schema.joint_names()]
    found = {tuple(path[p] for p in parents) for path in paths}
    number = {p: list(case.schema[p].classes) for p in parents}
    order = sorted(found, key=lambda s: [number[p].index(c) for p, c in zip(parents, s, strict=True)])
    return [dict(zip(parents, state, strict=True)) for state in order]


def has_choice(case: Case, attributes: tuple[str, ...], state: dict[str, str]) -> bool:
    paths = [dict(zip(case.schema.names, names.split(" / "), strict=True)) for names in case.schema.joint_names()]
    fits = [path for path in paths if all(path[p] == c for p, c in state.items())]
    return len({tuple(path[a] for a in attributes) for path in fits}) > 1


def asked_of(case: Case, node: Node, opened: list[dict[str, str]]) -> list[str]:
    """The experts of the open states, in the order in which all states come."""
    names: dict[str, bool] = {}
    for state in states_of(case, node.parents):
        if has_choice(case, node.attributes, state):
            expert = oracle_expert(case.experts, node, state)
            assert expert is not None
            names[expert.describe()] = names.get(expert.describe(), False) or state in opened
    return [name for name, is_asked in names.items() if is_asked]


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**32 - 1), st.booleans(), st.sampled_from(list(ROUTE_GATES)))
def test_every_row_tells_what_the_oracle_saw(seed: int, taxonomy: bool, text: str) -> None:
    case = random_case(seed, taxonomy=taxonomy)
    assume(case.schema.n_joint > 1)
    result = of_case(case, text)
    rows, names = result.rows(), case.schema.joint_names()
    routed = [node for node in case.graph.nodes if node.parents]
    for row in range(case.n_samples):
        gate, seen = watched(ROUTE_GATES[text])
        joint = oracle_joint(case, row, gate)
        assert rows["id"][row] == f"photo-{row}.jpg"
        assert rows["joint_class"][row] == names[rows["label"][row]]
        assert rows["probability"][row] == pytest.approx(max(joint), abs=1e-12)
        difference = np.abs(np.subtract(joint, oracle_joint(case, row, soft_gate))).sum() / 2
        assert rows["distance"][row] == pytest.approx(difference, abs=1e-12)
        opened = {}
        for node, (belief, said) in zip(routed, seen, strict=True):
            states = states_of(case, node.parents)
            opened[node] = [state for state, weight in zip(states, said, strict=True) if weight > 0]
            told = {key: rows[f"{node.name}_{key}"][row] for key in ("route", "state", "confidence", "kept")}
            assert told["route"] == words(len(opened[node]), len(states))
            best = states[said.index(max(said))]
            close = sorted(said)[-2:]
            if len(close) == 1 or close[1] - close[0] > 1e-6:
                assert told["state"] == describe_condition({name: (c,) for name, c in best.items()})
            assert told["confidence"] == result.confidence[node][row] == pytest.approx(max(belief), abs=1e-12)
            kept = sum(b for b, s in zip(belief, said, strict=True) if s > 0)
            assert told["kept"] == result.kept[node][row] == pytest.approx(kept, abs=1e-12)
        asked: list[str] = []
        for node in case.graph.nodes:
            asked += asked_of(case, node, opened.get(node, [{}]))
        assert rows["experts"][row] == "; ".join(asked)
        name = result.trace.routes.get(routed[0]) if routed else None
        expected = [f"{node.name}: {name} keeps {rows[f'{node.name}_route'][row]}" for node in routed]
        assert rows["reason"][row] == ("; ".join(expected) or "nothing to route")
    asked_by = {name: sum(name in text.split("; ") for text in rows["experts"]) for name in result.counts}
    assert asked_by == result.counts


def small() -> list[Predictions]:
    """Sure worn; worn or incorrect; no gender; nothing of the age expert that is needed."""
    schema, ids = face_schema(), ["a", "b", "c", "d"]
    mask = np.array([[0.96, 0.03, 0.01], [0.5, 0.45, 0.05], [0.9, 0.05, 0.05], [0.02, 0.02, 0.96]])
    gender = np.array([[0.5, 0.5], [0.5, 0.5], [0.0, 0.0], [0.25, 0.75]])
    ages = np.array([[0.5, 0.25, 0.25]] * 4)
    silent = ages * np.array([[1], [1], [1], [0]])
    experts = [Predictions(schema["mask"], mask, ids), Predictions(schema["gender"], gender, ids)]
    for state, probs in zip(schema["mask"].classes, (ages, ages, silent), strict=True):
        experts.append(Predictions(schema["age"], probs, ids, {"mask": state}))
    return experts


def test_the_rows_of_four_photos_in_words() -> None:
    rows = combine(small(), route="top_k=2").rows()
    assert rows["label"].tolist() == [0, 0, -1, -1]
    assert rows["joint_class"].tolist() == ["worn / male / <30", "worn / male / <30", "", ""]
    assert rows["age_route"].tolist() == ["2 of 3 states", "2 of 3 states", "abstained", "2 of 3 states"]
    assert rows["age_state"].tolist() == ["mask=worn", "mask=worn", "", "mask=not_worn"]
    np.testing.assert_allclose(rows["age_confidence"], [0.96, 0.5, 0.0, 0.96])
    np.testing.assert_allclose(rows["age_kept"], [0.99, 0.95, 0.0, 0.98])
    np.testing.assert_allclose(rows["distance"], [0.01, 0.05, np.nan, np.nan])
    both = "mask; gender; age given mask=worn; age given mask=incorrect"
    assert rows["experts"].tolist() == [
        both,
        both,
        "mask; gender",
        "mask; gender; age given mask=worn; age given mask=not_worn",
    ]
    assert rows["reason"].tolist() == [
        "age: top_k=2 keeps 2 of 3 states",
        "age: top_k=2 keeps 2 of 3 states",
        "abstained: an expert of gender gives no probabilities",
        "abstained: an expert of age gives no probabilities",
    ]


def only_sure(belief: FloatArray) -> FloatArray:
    return np.where(belief.max(axis=1, keepdims=True) >= 0.9, belief, 0)


def test_a_route_that_keeps_nothing_is_the_reason() -> None:
    result = combine(small(), route=only_sure)
    rows = result.rows()
    assert rows["age_route"].tolist() == ["all states", "abstained", "abstained", "all states"]
    assert rows["reason"].tolist()[1] == "abstained: route only_sure keeps no state of age"
    assert rows["experts"].tolist()[1] == "mask; gender"
    assert np.isnan(result.distance).tolist() == [False, True, True, True]
    assert (result.mean_distance, result.max_distance) == (0, 0)


def test_a_summary_for_printing() -> None:
    lines = combine(small(), route="top_k=2").summary().splitlines()
    assert lines[0] == "photos: 4, 2 abstained"
    assert lines[-2:] == [
        "route of age (top_k=2): abstained 25.0 %, 2 of 3 states 75.0 %",
        "distance to the soft joint: mean 0.03, highest 0.05; not known for 2 photos",
    ]
    assert repr(combine(small(), route="top_k=2")) == "Combined(4 samples, mean distance to soft 0.03)"
    flat = Predictions(face_schema().attributes, np.full((1, 18), 1 / 18), ["a"])
    alone = ConditionalEnsemble(face_schema(), Graph.flat(face_schema()), [flat]).combine()
    assert alone.summary() == "photos: 1\nasked mask,gender,age: 1"
    assert alone.rows()["reason"].tolist() == ["nothing to route"]


def test_rows_as_a_table() -> None:
    result = combine(small(), route="hard")
    frame = result.to_frame()
    assert list(frame.columns) == list(result.rows())
    assert frame["age_state"].tolist() == ["mask=worn", "mask=worn", "", "mask=not_worn"]
    assert len(frame) == 4


@pytest.mark.parametrize("route", list(ROUTE_GATES))
@pytest.mark.parametrize("vote_at", ["expert", "joint"])
def test_a_rows_trace_does_not_depend_on_the_others(route: str, vote_at: str) -> None:
    experts = face_experts(5, 12, FOLDS)
    whole = combine(experts, route=route, vote_at=vote_at).rows()
    for chosen in ([7], [11, 3, 3, 0]):
        again = [expert.select(list(dict.fromkeys(chosen))) for expert in experts]
        rows = combine(again, route=route, vote_at=vote_at).rows()
        for key, column in rows.items():
            expected = whole[key][list(dict.fromkeys(chosen))]
            assert column.tolist() == expected.tolist() or np.array_equal(column, expected, equal_nan=True), key


def test_no_photos_have_no_rows() -> None:
    empty = [expert.select([]) for expert in face_experts(5, 12)]
    result = combine(empty, route="hard")
    assert {key: len(column) for key, column in result.rows().items()} == dict.fromkeys(result.rows(), 0)
    assert result.summary().splitlines()[-2:] == ["route of age (hard): no photos", "distance to the soft joint: -"]
    assert np.isnan(result.mean_distance)


def test_with_votes_on_joints_a_row_tells_of_all_voters() -> None:
    experts, weights = face_experts(5, 30, FOLDS), {"fold0": 1.0, "fold1": 3.0, "fold2": 0.0}
    result = combine(experts, route="hard", vote_at="joint", weights=weights)
    chains = [combine(experts, route="hard", voters=[fold]) for fold in FOLDS[:2]]
    (node,) = result.gates
    for found, parts in (
        (result.confidence[node], [chain.confidence[node] for chain in chains]),
        (result.kept[node], [chain.kept[node] for chain in chains]),
    ):
        np.testing.assert_allclose(found, (parts[0] + 3 * parts[1]) / 4, atol=1e-12)
    states = [chain.rows()["age_state"] for chain in chains]
    agree = states[0] == states[1]
    assert 0 < agree.sum() < 30
    assert result.rows()["age_route"].tolist() == np.where(agree, "one state", "2 of 3 states").tolist()
    assert np.isnan(result.distance).all()
    assert result.rows()["age_state"].tolist() == states[1].tolist()


def stays_soft(mask_probs: FloatArray) -> BoolArray:
    """Under threshold=0.8: unsure, or there is one state only."""
    return np.asarray((mask_probs.max(axis=1) < 0.8) | ((mask_probs > 0).sum(axis=1) == 1))


def test_a_distance_after_votes_on_joints_is_known_where_all_are_soft() -> None:
    experts = face_experts(5, 30, FOLDS)
    soft = combine(experts, vote_at="joint")
    assert soft.distance.tolist() == [0] * 30
    found = combine(experts, route="threshold=0.8", vote_at="joint")
    unsure = np.logical_and.reduce([stays_soft(layer) for layer in experts[0].layers])
    assert 0 < unsure.sum() < 30
    assert np.array_equal(found.distance == 0, unsure)
    assert np.isnan(found.distance[~unsure]).all()
    assert np.array_equal(found.joint.probs[0][unsure], soft.joint.probs[0][unsure])


def test_a_function_on_the_joint_leaves_only_distances_of_zero() -> None:
    experts = face_experts(5, 30)

    def flatter(probs: FloatArray) -> FloatArray:
        return np.asarray(0.5 * probs + 0.5 / 18)

    plain = combine(experts, route="threshold=0.8")
    found = combine(experts, route="threshold=0.8", adjust={"joint": flatter})
    unsure = stays_soft(experts[0].layers[0])
    assert np.array_equal(found.distance == 0, unsure)
    assert np.isnan(found.distance[~unsure]).all()
    assert (plain.distance[~unsure] > 0).all()


def test_a_state_of_a_belief_below_float32_is_still_told() -> None:
    schema = Schema(Attribute("first", ["x", "y"]), Attribute("second", ["v", "w"]), Attribute("third", ["p", "q"]))
    tiny = np.array([[1e-30, 1 - 1e-30]])
    experts = [Predictions(attribute, tiny, ["a"]) for attribute in schema.attributes]
    graph = Graph({"first": [], "second": [], "third": ["first", "second"]})
    result = ConditionalEnsemble(schema, graph, experts, fallback="pooled").combine(route="soft")
    (gate,) = result.gates.values()
    assert (gate > 0).all()
    assert result.rows()["third_route"].tolist() == ["all states"]


def test_the_name_of_a_route_is_told() -> None:
    named: list[tuple[Any, str]] = [("hard", "hard"), (find_route("soft"), "soft"), ("sparse", "sparse=0.01")]
    named += [(only_sure, "only_sure"), ({}, "soft"), ({"age": "top-k=2"}, "top_k=2")]
    for route, name in named:
        assert list(combine(small(), route=route).trace.routes.values()) == [name]


def test_texts_are_made_only_when_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    from ensemble_kit import trace

    made: list[int] = []
    texts = trace._texts

    def counting(key: Any, text: Callable[[Any], str]) -> Any:
        def counted(row: Any) -> str:
            made.append(1)
            return text(row)

        return texts(key, counted)

    monkeypatch.setattr(trace, "_texts", counting)
    result = combine(face_experts(5, 500), route="hard")
    assert made == []
    result.rows()
    assert len(made) == 3 + 1  # three sets of experts, one reason


def test_a_photo_that_one_voters_chain_abstains_on_is_told_of_the_others() -> None:
    experts = face_experts(5, 12, FOLDS)
    experts[1].layers[2][4] = 0
    result = combine(experts, route="hard", vote_at="joint")
    rows = result.rows()
    assert rows["label"][4] >= 0
    assert rows["reason"][4].startswith("age: hard keeps ")
    assert rows["experts"][4].startswith("mask; gender; age given mask=")
    for number in (0, 1):
        experts[1].layers[number][4] = 0
    rows = combine(experts, route="hard", vote_at="joint").rows()
    assert rows["label"][4] == -1
    assert rows["reason"][4] == "abstained: an expert of gender gives no probabilities"
    assert rows["experts"][4] == "mask; gender"
