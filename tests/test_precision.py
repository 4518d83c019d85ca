"""What runs in float32 (soft votes, hard and soft routes) decides as float64 does, and labels alone are the joint's."""

from __future__ import annotations

from itertools import pairwise, product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from core_oracles import FACE_GRAPH, Case, face_experts, face_schema, random_case, sample_ids
from exact_cases import crowd
from hypothesis import strategies as st
from random_cases import SEEDS, tried_on

from ensemble_kit import ensemble as module
from ensemble_kit.arrays import FloatArray
from ensemble_kit.ensemble import ConditionalEnsemble
from ensemble_kit.errors import DataError
from ensemble_kit.graph import Graph
from ensemble_kit.predictions import Predictions, load_predictions, save_predictions
from ensemble_kit.schema import Attribute, Schema

ROUTES = st.sampled_from(["hard", "soft"])


def singled(case: Case) -> Case:
    """The same case with its probabilities in float32."""
    experts = [
        Predictions(e.attributes, [layer.astype(np.float32) for layer in e.layers], e.ids, e.condition, e.classes)
        for e in case.experts
        if e.fine is None
    ]
    return Case(case.schema, case.graph, experts, case.fallback, case.n_samples, case.edges)


def ensemble_of(case: Case) -> ConditionalEnsemble:
    return ConditionalEnsemble(case.schema, case.graph, case.experts, fallback=case.fallback)


def margin(joint: FloatArray) -> FloatArray:
    """How far the highest is ahead of the next, as a share of it."""
    ordered = np.sort(joint, axis=1)
    return (ordered[:, -1] - ordered[:, -2]) / np.maximum(ordered[:, -1], 1e-300)


def check_same(case: Case, **options: Any) -> None:
    ensemble = ensemble_of(case)
    quick, exact = ensemble.combine(**options), ensemble.combine(dtype="float64", **options)
    found, expected = np.asarray(quick.joint.layers[0]), np.asarray(exact.joint.layers[0])
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=2e-5, atol=1e-30)
    assert np.array_equal(quick.joint.labels(), ensemble.labels(**options))
    clear = margin(expected) > 1e-6
    assert np.array_equal(quick.joint.labels()[clear], exact.joint.labels()[clear])
    assert quick.counts == exact.counts
    np.testing.assert_allclose(quick.distance, exact.distance, rtol=0, atol=1e-5)
    for node, confidence in exact.confidence.items():
        np.testing.assert_allclose(quick.confidence[node], confidence, rtol=1e-5)


@tried_on(SEEDS, st.booleans(), ROUTES, few=100, many=300)
def test_float32_is_float64(seed: int, taxonomy: bool, route: str) -> None:
    case = random_case(seed, taxonomy=taxonomy, max_attributes=4, n_samples=6, rich=True)
    if case.schema.n_joint > 1 and not case.edges:
        check_same(singled(crowd(case, seed)), route=route)


@tried_on(SEEDS, ROUTES, st.integers(1, 6), st.floats(0, 0.3), st.floats(0, 0.3), few=100, many=300)
def test_ties_and_silent_voters_and_gaps_too(
    seed: int, route: str, n_voters: int, silent: float, decided: float
) -> None:
    """Tenths tie; some voters abstain, some are quite sure; an expert that is not asked may hold nothing."""
    random, schema, ids = np.random.default_rng(seed), face_schema(), sample_ids(20)
    experts = []
    for expert in face_experts(0, 20):
        shape = (n_voters, 20, len(expert.classes))
        probs = random.multinomial(10, np.full(shape[2], 1 / shape[2]), size=shape[:2]) / np.float32(10)
        probs[random.random(shape[:2]) < decided] = np.eye(shape[2])[0]
        probs[random.random(shape[:2]) < silent] = 0
        experts.append(Predictions([schema[n] for n in expert.names], probs.astype(np.float32), ids, expert.condition))
    check_same(Case(schema, FACE_GRAPH, experts, "refuse", 20), route=route)


def test_a_thousand_ties_fall_as_in_float64_whatever_the_order_of_the_voters() -> None:
    random, schema = np.random.default_rng(3), face_schema()
    probs = {
        e.condition.get("mask", e.names): random.dirichlet(np.ones(len(e.classes)), 1000) for e in face_experts(0, 9)
    }
    layers = {
        key: [values[:, np.roll(np.arange(values.shape[1]), k)] for k in range(3)] for key, values in probs.items()
    }
    found = []
    for order in ([0, 1, 2], [2, 0, 1], [1, 0, 2]):
        experts = [
            Predictions(
                [schema[n] for n in e.names],
                [layers[e.condition.get("mask", e.names)][k].astype(np.float32) for k in order],
                sample_ids(1000),
                e.condition,
            )
            for e in face_experts(0, 9)
        ]
        ensemble = ConditionalEnsemble(schema, FACE_GRAPH, experts)
        for route in ("hard", "soft"):
            found.append(ensemble.labels(route=route))
            exact = np.asarray(ensemble.combine(route=route, dtype="float64").joint.layers[0])
            assert np.array_equal(found[-1], exact.astype(np.float32).argmax(axis=1))
    for number in range(2):
        assert all(np.array_equal(found[number], labels) for labels in found[number::2])


@pytest.mark.parametrize("route", ["hard", "soft"])
def test_a_gap_counts_only_where_it_is_asked_for(route: str) -> None:
    case = singled(crowd(Case(face_schema(), FACE_GRAPH, face_experts(1, 30), "refuse", 30), 2))
    state = ensemble_of(case).combine(route="hard").joint.labels() // 6
    for expert in case.experts:
        if expert.condition:
            number = face_schema()["mask"].index(expert.condition["mask"][0])
            for layer in expert.layers:
                layer[state != number] = np.nan
    ensemble = ensemble_of(case)
    if route == "soft":
        with pytest.raises(DataError, match="no prediction that the route needs"):
            ensemble.labels(route=route)
    else:
        assert (ensemble.labels(route=route) // 6 == state).all()
        assert ensemble.combine(route=route).counts["mask"] == 30


@pytest.mark.parametrize("value", [np.nan, -0.5, 7.0])
def test_a_bad_number_in_a_mapped_file_is_refused_every_time(tmp_path: Path, value: float) -> None:
    case = singled(crowd(Case(face_schema(), FACE_GRAPH, face_experts(1, 30), "refuse", 30), 2))
    case.experts[1].layers[0][17, 0] = value
    save_mapped(tmp_path, case)
    ensemble = ConditionalEnsemble(case.schema, case.graph, load_predictions(tmp_path, verify=False))
    for _ in range(2):
        with pytest.raises(DataError, match=r"row 17|row 7"):
            ensemble.labels(route="hard")
        with pytest.raises(DataError, match=r"row 17|row 7"):
            ensemble.combine(route="soft")


def save_mapped(folder: Path, case: Case) -> None:
    """Past the check of what is saved."""
    good = Case(case.schema, case.graph, face_experts(1, 30), "refuse", 30)
    save_predictions(folder, singled(crowd(good, 2)).experts, case.schema)
    for path in sorted(folder.rglob("*.npy")):
        held = np.load(path)
        for expert in case.experts:
            for layer in expert.layers:
                if held.shape == layer.shape and np.isclose(held, layer).mean() > 0.9:
                    np.save(path, layer)


def test_blocks_are_read_again_as_they_were(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is remembered of a block of a file is that of this block."""
    case = singled(crowd(Case(face_schema(), FACE_GRAPH, face_experts(1, 30), "refuse", 30), 2))
    case.experts[2].layers[0][20:] = 0  # this voter abstains in the last rows
    case.experts[3].layers[1][:5] = 0
    save_predictions(tmp_path, case.experts, case.schema)
    expected = ensemble_of(case).combine(route="soft").joint.layers[0]
    ensemble = ConditionalEnsemble(case.schema, case.graph, load_predictions(tmp_path))
    for block in (7, 10, 30, 7):
        monkeypatch.setattr(module, "BLOCK_ROWS", block)
        for _ in range(2):
            assert np.array_equal(ensemble.combine(route="soft").joint.layers[0], expected)


def chain(first: FloatArray, stay: tuple[float, float], n_nodes: int, n_voters: int) -> Case:
    """Two classes a node, each node staying in the class of the one before with its probability; equal voters."""
    nodes = [Attribute(f"n{number}", ["x", "y"]) for number in range(n_nodes)]
    tables: list[tuple[Attribute, FloatArray, dict[str, str]]] = [(nodes[0], first, {})]
    for before, node in pairwise(nodes):
        for own, (state, share) in enumerate(zip(before.classes, stay, strict=True)):
            row = np.full(2, 1 - share)
            row[own] = share
            tables.append((node, np.tile(row, (len(first), 1)), {before.name: state}))
    experts = [
        Predictions(node, [values.astype(np.float32)] * n_voters, sample_ids(len(first)), condition)
        for node, values, condition in tables
    ]
    edges: Any = {nodes[0].name: list[str]()} | {node.name: [before.name] for before, node in pairwise(nodes)}
    return Case(Schema(*nodes), Graph(edges), experts, "refuse", len(first))


def rounded_mean(shares: FloatArray, n_voters: int) -> FloatArray:
    total = np.zeros_like(shares)
    for _ in range(n_voters):
        total += shares
    return np.asarray((total / np.float32(n_voters)).astype(np.float64) / shares)


@pytest.mark.parametrize(("n_voters", "n_nodes"), [(5, 10), (25, 10), (200, 6), (200, 10)])
def test_many_voters_down_a_long_chain_are_looked_at_again_from_further_away(n_voters: int, n_nodes: int) -> None:
    """Of two paths float32 takes one for higher, by as much as it can; in truth the other is, by a little."""
    shares = np.linspace(0.75, 0.99, 40_001, dtype=np.float32)
    errors = rounded_mean(shares, n_voters)
    stay = float(shares[errors.argmax()]), float(shares[errors.argmin()])
    ahead = np.linspace(2e-6, 2e-5, 20) - (n_nodes - 1) * (np.log(stay[1]) - np.log(stay[0]))
    first = 1 / (1 + np.exp(ahead))
    check_same(chain(np.stack([first, 1 - first], axis=1), stay, n_nodes, n_voters), route="soft")


@pytest.mark.parametrize("weights", [(1e-45, 2e-45), (1e9, 1e-3), (1e9, 1e-41), (1e-41, 2.3e-41)])
@pytest.mark.parametrize("route", ["hard", "soft"])
def test_weights_of_any_size(weights: tuple[float, float], route: str) -> None:
    case = singled(crowd(Case(face_schema(), FACE_GRAPH, face_experts(1, 60), "refuse", 60), 2))
    for expert in case.experts:
        expert.layers[0][::2] = 0  # then the lighter voter is alone, or all that counts
    names = case.experts[0].voters[:2]
    check_same(case, route=route, voters=names, weights=dict(zip(names, weights, strict=True)))


def test_a_state_that_float32_cannot_hold_is_asked_for_all_the_same() -> None:
    """1e-30 squared is no float32 and a float64."""
    parents, ids = [Attribute("a", ["x", "y"]), Attribute("b", ["x", "y"])], sample_ids(2)
    child = Attribute("c", ["x", "y"])
    sure = np.array([[1, 1e-30], [0.5, 0.5]], dtype=np.float32)
    experts = [Predictions(parent, sure.copy(), ids) for parent in parents]
    for a, b in product("xy", repeat=2):
        probs = np.array([[0.7, 0.3], [0.4, 0.6]], dtype=np.float32)
        experts.append(Predictions(child, probs, ids, {"a": a, "b": b}))
    case = Case(Schema(*parents, child), Graph({"a": [], "b": [], "c": ["a", "b"]}), experts, "refuse", 2)
    check_same(case)
    assert set(ensemble_of(case).combine().counts.values()) == {2}
    experts[-1].layers[0][0] = np.nan
    for dtype in ("float32", "float64"):
        with pytest.raises(DataError, match='1 by "c given a=y b=y"'):
            ensemble_of(case).combine(dtype=dtype)


def test_the_last_bits_of_what_is_possible_share_out_as_in_float64() -> None:
    kind, fine = Attribute("kind", ["a", "b"]), Attribute("fine", ["a1", "a2", "b1", "b2"])
    schema, ids = Schema(kind, fine, paths=[("a", "a1"), ("a", "a2"), ("b", "b1"), ("b", "b2")]), sample_ids(1)
    bit = np.finfo(np.float32).smallest_subnormal
    layers = [np.array([[n_first * bit, n_second * bit, 0.5, 0.5]]) for n_first, n_second in [(3, 1), (1, 0), (1, 0)]]
    experts = [
        Predictions(kind, np.array([[0.9, 0.1]], dtype=np.float32), ids),
        Predictions(fine, [layer.astype(np.float32) for layer in layers], ids),
    ]
    case = Case(schema, Graph({"kind": [], "fine": ["kind"]}), experts, "pooled", 1)
    check_same(case)
    np.testing.assert_allclose(ensemble_of(case).combine().joint.layers[0][0, :2], [0.75, 0.15], rtol=1e-6)


def test_soft_after_hard() -> None:
    case = chain(np.array([[0.7, 0.3], [0.5, 0.5]]), (0.6, 0.8), 4, 2)
    check_same(case, route={"n1": "hard", "n2": "soft", "n3": "soft"})


def test_a_mapped_file_that_is_written_over_is_looked_at_anew(tmp_path: Path) -> None:
    case = singled(crowd(Case(face_schema(), FACE_GRAPH, face_experts(1, 30), "refuse", 30), 2))
    save_predictions(tmp_path, case.experts, case.schema)
    experts = load_predictions(tmp_path)
    ensemble = ConditionalEnsemble(case.schema, case.graph, experts)
    ensemble.combine()
    layer = experts[0].layers[0]
    assert isinstance(layer, np.memmap)
    for row in (np.zeros(3), np.array([7, 0, 0])):
        with open(layer.filename, "r+b") as file:  # type: ignore[arg-type]
            file.seek(layer.offset)
            file.write(row.astype(np.float32).tobytes())
        if row.any():
            with pytest.raises(DataError, match="row 0"):
                ensemble.combine()
        else:
            found, expected = ensemble.combine(), ConditionalEnsemble(case.schema, case.graph, experts).combine()
            assert np.array_equal(found.joint.layers[0], expected.joint.layers[0])


def test_what_another_may_write_to_is_looked_at_every_time(tmp_path: Path) -> None:
    """Not to be written to through this array is not enough."""
    case = singled(Case(face_schema(), FACE_GRAPH, face_experts(1, 30), "refuse", 30))
    np.save(tmp_path / "mask.npy", case.experts[0].layers[0])
    owned = np.load(tmp_path / "mask.npy", mmap_mode="r+")
    shown = owned.view()
    shown.flags.writeable = False
    mask = Predictions(case.schema["mask"], [shown], case.experts[0].ids)
    ensemble = ConditionalEnsemble(case.schema, case.graph, [mask, *case.experts[1:]])
    ensemble.combine()
    owned[3] = 9
    with pytest.raises(DataError, match="row 3"):
        ensemble.combine()
