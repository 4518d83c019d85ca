"""Pooled against specialised experts where not every class exists in every state: scikit-learn on the possible ones."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import f1_score

from ensemble_kit.arrays import FloatArray
from ensemble_kit.graph import Graph
from ensemble_kit.predictions import Predictions
from ensemble_kit.schema import Schema
from ensemble_kit.structures import score_structures

PATHS = [("a", "1"), ("a", "2"), ("a", "3"), ("b", "3"), ("b", "4"), ("c", "5")]
SCHEMA = Schema.from_rows(["kind", "fine"], PATHS)
GRAPH = Graph({"kind": [], "fine": ["kind"]})
POSSIBLE = {"a": [0, 1, 2], "b": [2, 3]}


def experts_of(rng: np.random.Generator, n_samples: int) -> list[Predictions]:
    def probs(n_classes: int) -> FloatArray:
        return rng.dirichlet(np.full(n_classes, 0.5), n_samples).astype(np.float32)

    ids = [f"{number}" for number in range(n_samples)]
    pooled = [Predictions(SCHEMA["kind"], probs(3), ids), Predictions(SCHEMA["fine"], probs(5), ids)]
    return [*pooled, *(Predictions(SCHEMA["fine"], probs(5), ids, {"kind": state}) for state in POSSIBLE)]


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000))
def test_experts_are_compared_on_the_classes_of_their_state(seed: int) -> None:
    rng = np.random.default_rng(seed)
    truth = np.concatenate([np.arange(6), rng.integers(0, 6, 34)])
    experts = experts_of(rng, len(truth))
    report = score_structures(experts, SCHEMA, GRAPH, truth, experts[0].ids, votes=[])
    true = SCHEMA.decode(truth)
    assert [row.condition for row in report.comparisons] == ["kind=a", "kind=b"]
    for row, (state, possible), special in zip(report.comparisons, POSSIBLE.items(), experts[2:], strict=True):
        rows = np.flatnonzero(true["kind"] == SCHEMA["kind"].index(state))
        for score, expert in ((row.pooled, experts[1]), (row.specialised, special)):
            labels = [max(possible, key=lambda k: float(expert.layers[0][i, k])) for i in rows]
            wanted = f1_score(true["fine"][rows], labels, labels=possible, average="macro", zero_division=0)
            assert score.macro_f1 == pytest.approx(wanted)
            assert score.accuracy == pytest.approx(np.mean(true["fine"][rows] == labels))


def test_a_perfect_expert_of_two_classes_scores_one() -> None:
    truth = np.array([3, 4, 3, 4, 0])
    ids = [f"{number}" for number in range(5)]
    sure = np.eye(5, dtype=np.float32)[SCHEMA.decode(truth)["fine"]]
    kind = np.eye(3, dtype=np.float32)[SCHEMA.decode(truth)["kind"]]
    experts = [Predictions(SCHEMA["kind"], kind, ids), Predictions(SCHEMA["fine"], np.full((5, 5), 0.2), ids)]
    experts += [Predictions(SCHEMA["fine"], sure, ids, {"kind": state}) for state in POSSIBLE]
    report = score_structures(experts, SCHEMA, GRAPH, truth, experts[0].ids, votes=[])
    found = {row.condition: row.specialised.macro_f1 for row in report.comparisons}
    assert found["kind=b"] == 1
    assert found["kind=a"] == pytest.approx(1 / 3)  # its other two classes have no photo
