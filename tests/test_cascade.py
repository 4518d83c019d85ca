"""Cascades: the first stage that is sure enough answers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from core_oracles import FACE_GRAPH, face_experts, face_schema, random_probs, sample_ids
from hypothesis import given
from hypothesis import strategies as st

from ensemble_kit.cascading import Stage, cascade
from ensemble_kit.ensemble import Combined, ConditionalEnsemble
from ensemble_kit.errors import DataError, EnsembleKitError, UsageError
from ensemble_kit.graph import Graph
from ensemble_kit.predictions import Predictions

N = 40


def structures(seed: int) -> dict[str, Combined]:
    schema, experts = face_schema(), face_experts(seed, N, pooled=True)
    conditional = ConditionalEnsemble(schema, FACE_GRAPH, experts)
    pooled = ConditionalEnsemble(schema, Graph.independent(schema), experts)
    return {
        "hard": conditional.combine(route="hard"),
        "soft": conditional.combine(route="soft"),
        "pooled": pooled.combine(),
    }


@given(st.integers(0, 999), st.lists(st.floats(0, 1), min_size=3, max_size=3))
def test_each_photo_takes_the_first_sure_stage(seed: int, wanted: list[float]) -> None:
    answers = structures(seed)
    result = cascade([(name, answer, at) for (name, answer), at in zip(answers.items(), wanted, strict=True)])
    belief = face_experts(seed, N)[0].probs[0].max(axis=1)
    for row in range(N):
        sure = [
            answers["hard"].joint.probs[0, row].max() * belief[row],
            answers["soft"].joint.probs[0, row].max(),
            answers["pooled"].joint.probs[0, row].max(),
        ]
        if any(abs(own - at) < 1e-6 for own, at in zip(sure, wanted, strict=True)):
            continue
        stage = next((i for i, (own, at) in enumerate(zip(sure, wanted, strict=True)) if own >= at), -1)
        assert result.stage[row] == stage
        assert result.reasons()[row] == [*answers, "abstained"][stage]
        expected = list(answers.values())[stage].joint.probs[0, row] if stage >= 0 else 0
        assert (result.joint.probs[0, row] == expected).all()
        assert result.confidence[row] == pytest.approx(sure[stage], abs=1e-6)
    assert sum(result.counts.values()) == N


def test_the_gate_may_be_asked_instead() -> None:
    answers = structures(3)
    result = cascade([Stage("hard", answers["hard"], 0.8, "gate"), Stage("soft", answers["soft"])])
    belief = face_experts(3, N)[0].probs[0].max(axis=1)
    assert (result.stage == np.where(belief >= 0.8, 0, 1)).all()


def test_any_function_may_say_how_sure() -> None:
    hard = structures(3)["hard"]
    result = cascade([Stage("hard", hard, 0.5, lambda combined: combined.joint.probs[0, :, 0] * 0 + 0.4)])
    assert result.counts == {"hard": 0, "abstained": N}
    assert (result.joint.labels() == -1).all()


def test_rows_are_joined_by_id() -> None:
    soft = structures(5)["soft"].joint
    turned = soft.select(np.arange(N)[::-1])
    result = cascade([("a", soft, 0.3), ("b", turned, 0.0)])
    assert np.array_equal(result.joint.probs, soft.probs)


def test_a_photo_alone_gets_the_same_answer() -> None:
    answers = structures(8)
    whole = cascade([("hard", answers["hard"].joint, 0.4), ("soft", answers["soft"].joint, 0.2)])
    for row in range(0, N, 7):
        alone = cascade(
            [("hard", answers["hard"].joint.select([row]), 0.4), ("soft", answers["soft"].joint.select([row]), 0.2)]
        )
        assert alone.stage[0] == whole.stage[row]
        assert np.array_equal(alone.joint.probs[:, 0], whole.joint.probs[:, row])


def plain(names: list[str], columns: int = 2) -> Predictions:
    from ensemble_kit.schema import Attribute

    attribute = Attribute("a", [f"c{i}" for i in range(columns)])
    return Predictions(attribute, random_probs(np.random.default_rng(0), len(names), columns), names)


def renamed() -> Predictions:
    from ensemble_kit.schema import Attribute

    return Predictions(Attribute("b", ["c0", "c1"]), [[0.5, 0.5]], ["x"])


BAD: list[tuple[Any, type[EnsembleKitError], str]] = [
    (lambda: cascade([]), UsageError, "expected at least one stage"),
    (lambda: cascade([("a", plain(["x"]), 1.5)]), UsageError, 'stage "a" must ask for 0 to 1, found 1.5'),
    (lambda: cascade([("a", plain(["x"]), 0.5), ("a", plain(["x"]), 0)]), UsageError, 'two stages are called "a"'),
    (lambda: cascade([("a", plain(["x"]), 0.5), ("b", plain(["y"]), 0)]), DataError, "the same photos"),
    (lambda: cascade([("a", plain(["x"]), 0.5), ("b", plain(["x"], 3), 0)]), DataError, "the columns of a"),
    (lambda: cascade([("a", plain(["x"]), 0.5), ("b", renamed(), 0)]), DataError, "the columns of a"),
    (lambda: cascade([Stage("a", plain(["x"]), 0.5, "gate")]), UsageError, 'whose confidence is "answer"'),
    (
        lambda: cascade([Stage("a", structures(0)["hard"], 0.5, lambda combined: np.full(N, 7.0))]),
        UsageError,
        'the confidence of "a" must be 40 numbers from 0 to 1',
    ),
    (
        lambda: cascade([Stage("a", structures(0)["hard"], 0.5, "gates")]),
        UsageError,
        'unknown confidence "gates"; did you mean "gate"?',
    ),
    (
        lambda: cascade([Stage("a", structures(0)["hard"], 0.5, lambda combined: np.array([np.nan]))]),
        UsageError,
        'the confidence of "a" must be 40 numbers from 0 to 1',
    ),
]


@pytest.mark.parametrize(("call", "error", "message"), BAD, ids=range(len(BAD)))
def test_what_cannot_be_is_refused(call: Any, error: type[EnsembleKitError], message: str) -> None:
    with pytest.raises(error) as found:
        call()
    assert message in str(found.value)


def test_ids() -> None:
    assert cascade([("a", plain(sample_ids(3)), 0)]).rows()["id"].tolist() == sample_ids(3)
