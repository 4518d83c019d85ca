"""Votes, weights and adjustments by expert, by node and on the joint: against the same done by hand beforehand."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
from core_oracles import FACE_GRAPH, face_experts, face_schema, random_case, sample_ids
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from ensemble_kit.arrays import FloatArray
from ensemble_kit.ensemble import Combined, ConditionalEnsemble
from ensemble_kit.errors import DataError, EnsembleKitError, UsageError
from ensemble_kit.hooks import ask_adjust
from ensemble_kit.predictions import Predictions
from ensemble_kit.schema import Attribute, Schema
from ensemble_kit.voting import VOTES

SCHEMA = face_schema()
FOLDS = ("fold0", "fold1", "fold2")
WORN = "age given mask=worn"
VOTE_AT = ["expert", "joint"]


def faces(n_samples: int = 30, pooled: bool = False) -> list[Predictions]:
    return face_experts(4, n_samples, FOLDS, pooled)


def combine(experts: list[Predictions], **options: Any) -> Combined:
    ensemble = ConditionalEnsemble(SCHEMA, FACE_GRAPH, experts, fallback="pooled")
    return ensemble.combine(**{"dtype": "float64", **options})


def probs(result: Combined) -> FloatArray:
    return np.asarray(result.joint.layers[0])


def by_hand(experts: list[Predictions], change: Callable[[Predictions], FloatArray]) -> list[Predictions]:
    return [Predictions(e.attributes, change(e), e.ids, e.condition, e.classes) for e in experts]


def sharper(values: FloatArray) -> FloatArray:
    """A temperature of one half; summed column by column."""
    squares = values.astype(np.float64) ** 2
    total = np.zeros((len(values), 1))
    for column in squares.T:
        total[:, 0] += column
    return np.asarray(squares / total)


def flatter(values: FloatArray) -> FloatArray:
    return np.asarray(0.5 * values + 0.5 / values.shape[1])


def test_a_vote_of_ones_own_for_an_expert_and_for_a_node() -> None:
    experts = faces()
    vote = {"age": "median", WORN: "hard", "mask": VOTES["geometric"]}
    rule_of = {"mask": "geometric", "gender": "soft", WORN: "hard"}
    voted = by_hand(experts, lambda e: VOTES[rule_of.get(e.describe(), "median")](np.stack(e.layers), np.ones(3)))
    found = combine(experts, vote=vote, route="top_k")
    assert np.array_equal(probs(found), probs(combine(voted, route="top_k")))
    assert np.array_equal(probs(combine(experts, vote={})), probs(combine(experts)))


def test_a_vote_of_the_joint_by_its_name() -> None:
    for name in ("hard", "median"):
        found = combine(faces(), vote={"joint": name}, vote_at="joint")
        assert np.array_equal(probs(found), probs(combine(faces(), vote=name, vote_at="joint")))


def test_weights_of_ones_own_for_an_expert_and_for_a_node() -> None:
    experts = faces()
    weights: Mapping[str, Any] = {"age": {"fold0": 0, "fold2": 2}, WORN: {"fold1": 5}, "gender": {"fold0": 0.5}}
    of = {"gender": [0.5, 1, 1], "mask": [1, 1, 1], WORN: [1, 5, 1]}
    voted = by_hand(experts, lambda e: VOTES["soft"](np.stack(e.layers), np.array(of.get(e.describe(), [0, 1, 2.0]))))
    assert np.array_equal(probs(combine(experts, weights=weights)), probs(combine(voted)))
    flat = {"fold0": 3.0, "fold2": 0.0}
    nested = {node.name: flat for node in FACE_GRAPH.nodes}
    assert np.array_equal(probs(combine(experts, weights=nested)), probs(combine(experts, weights=flat)))
    joint = combine(experts, weights={"joint": flat}, vote_at="joint")
    assert np.array_equal(probs(joint), probs(combine(experts, weights=flat, vote_at="joint")))


@pytest.mark.parametrize("route", ["soft", "hard", "sparse=0.1"])
def test_an_adjustment_follows_the_vote_of_its_expert(route: str) -> None:
    experts = faces()
    adjust = {"age": sharper, WORN: flatter, "mask": sharper}

    def change(expert: Predictions) -> FloatArray:
        voted = VOTES["soft"](np.stack(expert.layers), np.ones(3))
        if expert.describe() == "gender":
            return voted
        return flatter(voted) if expert.describe() == WORN else sharper(voted)

    expected = combine(by_hand(experts, change), route=route)
    found = combine(experts, adjust=adjust, route=route)
    assert np.array_equal(probs(found), probs(expected))
    assert found.counts == expected.counts
    for node in found.gates:
        assert np.array_equal(found.confidence[node], expected.confidence[node])
        assert np.array_equal(found.distance, expected.distance)
    both = combine(experts, adjust={**adjust, "joint": flatter}, route=route)
    assert np.array_equal(probs(both), flatter(probs(expected)))


def test_an_adjustment_with_votes_on_joints_is_of_each_voters_answer() -> None:
    experts = faces()
    each = [
        Predictions(e.attributes, [sharper(x) if "age" in e.names else x for x in e.layers], e.ids, e.condition, e.classes, FOLDS)
        for e in experts
    ]  # fmt: skip
    expected = probs(combine(each, vote_at="joint", route="hard"))
    assert np.array_equal(probs(combine(experts, adjust={"age": sharper}, vote_at="joint", route="hard")), expected)
    found = combine(experts, adjust={"age": sharper, "joint": flatter}, vote_at="joint", route="hard")
    assert np.array_equal(probs(found), flatter(expected))


def test_an_entry_for_an_expert_that_is_not_asked_is_no_error() -> None:
    """The pooled age expert is called like its node: "age" means all of them."""
    experts = faces(pooled=True)
    flat = Predictions(SCHEMA.attributes, np.full((30, 18), 1 / 18), sample_ids(30))
    found = combine([*experts, flat], adjust={"mask,gender,age": sharper}, vote={"mask,gender,age": "hard"})
    assert np.array_equal(probs(found), probs(combine(experts)))
    named = combine(experts, adjust={"age": sharper})
    assert np.array_equal(probs(named), probs(combine(experts[:-1], adjust={"age": sharper})))
    assert not np.array_equal(probs(named), probs(combine(experts)))


def test_joint_means_the_joint_whatever_an_attribute_is_called() -> None:
    schema = Schema(Attribute("joint", ["a", "b"]), Attribute("other", ["c", "d"]))
    experts = [Predictions(attribute, [[0.75, 0.25]], ["x"]) for attribute in schema.attributes]
    from ensemble_kit.graph import Graph

    ensemble = ConditionalEnsemble(schema, Graph.independent(schema), experts)
    found = ensemble.combine(adjust={"joint": flatter}, dtype="float64")
    assert np.array_equal(probs(found), flatter(probs(ensemble.combine(dtype="float64"))))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.booleans(), st.sampled_from(["soft", "hard", "top_k", "sparse=0.1"]))
def test_hooked_rows_have_the_same_bits_alone_in_any_order_and_twice(seed: int, taxonomy: bool, route: str) -> None:
    case = random_case(seed, taxonomy=taxonomy, n_samples=8)
    assume(case.schema.n_joint > 1)
    assume(len({e.describe() for e in case.experts}) == len(case.experts))
    adjust = {node.name: sharper for node in case.graph.nodes} | {"joint": flatter}

    def answers(rows: list[int]) -> FloatArray:
        ids = [f"row{place}" for place in range(len(rows))]
        experts = [Predictions(e.attributes, e.layers[0][rows], ids, e.condition, e.classes) for e in case.experts]
        ensemble = ConditionalEnsemble(case.schema, case.graph, experts, fallback="pooled")
        return probs(ensemble.combine(route=route, adjust=adjust, vote="hard", dtype="float64"))

    whole = answers(list(range(8)))
    for rows in ([5], [7, 0, 3], [2, 2, 6, 2], list(range(7, -1, -1))):
        assert np.array_equal(answers(rows), whole[rows])


def test_rows_that_abstained_or_were_not_computed_are_not_asked() -> None:
    values = np.array([[0.25, 0.75], [0.0, 0.0], [np.nan, np.nan], [0.5, 0.5]])
    seen: list[int] = []

    def function(given_: FloatArray) -> FloatArray:
        seen.append(len(given_))
        return sharper(given_)

    found = ask_adjust(function, values, "x")
    np.testing.assert_allclose(found, [[0.1, 0.9], [0.0, 0.0], [np.nan, np.nan], [0.5, 0.5]])
    assert seen == [2, 1, 1]
    assert ask_adjust(function, values[1:3], "x").shape == (2, 2)
    assert ask_adjust(function, values[:0], "x").shape == (0, 2)
    assert len(seen) == 3


def test_an_abstained_photo_stays_abstained_and_a_missing_one_missing() -> None:
    experts = faces()
    for layer in experts[1].layers:
        layer[3] = 0
    result = combine(experts, adjust={"gender": sharper, "joint": flatter})
    assert np.flatnonzero(result.joint.labels() < 0).tolist() == [3]
    experts[1].layers[0][5] = np.nan
    with pytest.raises(DataError, match='1 by "gender"'):
        combine(experts, adjust={"gender": sharper})


def test_an_adjustment_may_abstain_and_may_write_into_what_it_is_given() -> None:
    def sure_only(values: FloatArray) -> FloatArray:
        values[values.max(axis=1) < 0.7] = 0
        return values

    def in_place(values: FloatArray) -> FloatArray:
        values[:] = sharper(values)
        return values

    experts = face_experts(4, 30)
    before = experts[1].layers[0].copy()
    result = combine(experts, adjust={"gender": sure_only})
    assert np.array_equal(result.joint.labels() < 0, before.max(axis=1) < 0.7)
    assert np.array_equal(experts[1].layers[0], before)
    for key in ("gender", "joint"):
        expected = combine(experts, adjust={key: sharper})
        assert np.array_equal(probs(combine(experts, adjust={key: in_place})), probs(expected))


def test_an_adjustment_may_answer_in_the_same_array_every_time() -> None:
    held = np.zeros((30, 2))

    def reuse(values: FloatArray) -> FloatArray:
        answer = held[: len(values)]
        answer[:] = sharper(values)
        return answer

    experts = face_experts(4, 30)
    expected = probs(combine(experts, adjust={"gender": sharper}))
    assert np.array_equal(probs(combine(experts, adjust={"gender": reuse})), expected)


def by_batch(values: FloatArray) -> FloatArray:
    return values if len(values) == 1 else flatter(values)


def logits(values: FloatArray) -> FloatArray:
    return np.log(values + 1)


def adjusted(value: Any) -> Any:
    return lambda: combine(faces(), adjust={"age": value})


BAD: list[tuple[Any, type[EnsembleKitError], str]] = [
    (lambda: combine(faces(), adjust={"ages": sharper}), UsageError, 'adjust: "ages" is no expert and no node; did you mean "age"?'),
    (lambda: combine(faces(), adjust={"age given mask=wron": sharper}), UsageError, 'did you mean "age given mask=worn"?'),
    (lambda: combine(faces(), adjust=sharper), UsageError, 'adjust: expected expert, node or "joint" -> function, found <function'),
    (adjusted(0.5), UsageError, 'adjust: expected a function on probabilities for "age", found 0.5'),
    (adjusted(lambda values: values[:, :2]), UsageError, "expected probabilities, (n_samples, n_classes) = (30, 3), found float64 (30, 2)"),
    (adjusted(lambda values: values > 0.5), UsageError, "found bool (30, 3)"),
    (adjusted(logits), DataError, 'adjust "logits" of age given mask=worn: expected probabilities'),
    (adjusted(lambda values: values * np.nan), DataError, "of age given mask=worn: row 0 is NaN, made of ["),
    (adjusted(by_batch), UsageError, 'adjust "by_batch" of age given mask=worn: row 0 alone differs'),
    (lambda: combine(faces(), adjust={"joint": by_batch}), UsageError, 'adjust "by_batch" of joint: row 0 alone differs'),
    (lambda: combine(faces(), vote={"agee": "hard"}), UsageError, 'vote: "agee" is no expert and no node; did you mean "age"?'),
    (lambda: combine(faces(), vote={"age": "harf"}), UsageError, 'unknown vote "harf"'),
    (lambda: combine(faces(), vote={"joint": "hard"}), UsageError, 'vote: "joint" votes with vote_at=joint only; name experts or nodes'),
    (lambda: combine(faces(), vote={"age": "hard"}, vote_at="joint"), UsageError, 'vote: with vote_at=joint only the joint probabilities vote, found "age"; give "joint"'),
    (lambda: combine(faces(), weights={"age": {"fold9": 1}}), UsageError, 'weights of "age": no voter "fold9"; did you mean "fold'),
    (lambda: combine(faces(), weights={"agee": {"fold0": 1}}), UsageError, 'weights: "agee" is no expert and no node'),
    (lambda: combine(faces(), weights={"age": {"fold0": 1}, "fold0": 1}), UsageError, "weights: expected voter -> weight, or expert -> voter -> weight, found both"),
    (lambda: combine(faces(), weights={"joint": {"fold0": 1}}), UsageError, 'weights: "joint" votes with vote_at=joint only'),
    (lambda: combine(faces(), weights={"age": {"fold0": 1}}, vote_at="joint"), UsageError, 'weights: with vote_at=joint only the joint'),
    (lambda: combine(faces(), weights={"age": dict.fromkeys(FOLDS, 0)}), UsageError, "not all 0"),
    (lambda: combine(faces(), weights={"fold0": "2"}), UsageError, "weights: expected a number for \"fold0\", found '2'"),
    (lambda: combine(faces(), weights={"fold0": True}), UsageError, 'weights: expected a number for "fold0", found True'),
    (lambda: combine(faces(), vote="weighted"), UsageError, 'vote "weighted" needs a weight for each voter'),
    (lambda: combine(faces(), vote={"age": "weighted"}), UsageError, 'vote "weighted" needs a weight for each voter'),
    (lambda: combine(faces(), dtype="float16"), UsageError, 'unknown dtype "float16"; did you mean "float'),
    (lambda: combine(faces(), out="x"), UsageError, "a prediction set holds float32"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "error", "message"), BAD, ids=[message for *_, message in BAD])
def test_bad_calls_are_refused_in_words(call: Any, error: type[EnsembleKitError], message: str) -> None:
    with pytest.raises(error) as caught:
        call()
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
