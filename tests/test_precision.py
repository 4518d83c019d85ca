"""What runs in float32 (soft votes, hard and soft routes) decides as float64 does, and labels alone are the joint's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from core_oracles import FACE_GRAPH, Case, face_experts, face_schema, random_case, sample_ids
from exact_cases import crowd
from hypothesis import given, settings
from hypothesis import strategies as st

from ensemble_kit import ensemble as module
from ensemble_kit.arrays import FloatArray
from ensemble_kit.ensemble import ConditionalEnsemble
from ensemble_kit.errors import DataError
from ensemble_kit.predictions import Predictions, load_predictions, save_predictions

SEEDS = st.integers(0, 2**32 - 1)
ROUTES = st.sampled_from(["hard", "soft"])
MANY = settings(max_examples=300, deadline=None)


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


@MANY
@given(SEEDS, st.booleans(), ROUTES)
def test_float32_is_float64(seed: int, taxonomy: bool, route: str) -> None:
    case = random_case(seed, taxonomy=taxonomy, max_attributes=4, n_samples=6, rich=True)
    if case.schema.n_joint > 1 and not case.edges:
        check_same(singled(crowd(case, seed)), route=route)


@MANY
@given(SEEDS, ROUTES, st.integers(1, 6), st.floats(0, 0.3), st.floats(0, 0.3))
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
