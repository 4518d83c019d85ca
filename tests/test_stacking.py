from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from core_oracles import face_schema, random_probs, sample_ids
from numpy.typing import NDArray

from ensemble_kit.arrays import FloatArray, IntArray
from ensemble_kit.ensemble import ConditionalEnsemble
from ensemble_kit.errors import DataError, EnsembleKitError, UsageError
from ensemble_kit.files import read_json, write_json
from ensemble_kit.fitted import Fitted, as_combine_arguments, load_fitted, save_fitted
from ensemble_kit.graph import Graph
from ensemble_kit.predictions import Predictions
from ensemble_kit.schema import Attribute, Schema
from ensemble_kit.stacking import Stacking, fit_stacking
from ensemble_kit.voting import ask_vote, find_vote, vote_soft

MASK = Attribute("mask", ["worn", "incorrect", "not_worn"])
N_ROWS = 240
GROUPS = np.arange(N_ROWS) // 3


def truths(seed: int = 0, n_classes: int = 3) -> IntArray:
    return np.random.default_rng(seed).integers(0, n_classes, size=N_ROWS)


def good(truth: IntArray, seed: int, sure: float = 2.0, n_classes: int = 3) -> FloatArray:
    """A calibrated voter: noisy logits, the true class ahead."""
    logits = np.random.default_rng(seed).normal(size=(len(truth), n_classes))
    logits[np.arange(len(truth)), truth] += sure
    probs = np.exp(logits)
    return np.asarray(probs / probs.sum(axis=1, keepdims=True))


def turned(truth: IntArray) -> FloatArray:
    """Says of each class what belongs to the next one: useless to a soft vote, all there is to know to a fit."""
    return np.asarray(np.where(np.roll(np.eye(3), 1, axis=1)[truth] > 0, 0.8, 0.1))


def numbers() -> Stacking:
    """A stacking written by hand; class 1 was never seen."""
    random = np.random.default_rng(5)
    return Stacking(
        voters=("a", "b"), classes=None, n_classes=3, present=np.array([0, 2]), intercept=random.normal(size=2),
        coefficients=random.normal(size=(2, 3, 2)), c=1.0, where="x",
    )  # fmt: skip


def loop_row(stacking: Stacking, rows: NDArray[np.float64]) -> list[float]:
    """The definition for one row `(n_voters, n_classes)`."""
    logits = []
    for k in range(len(stacking.present)):
        total = float(stacking.intercept[k])
        for v, row in enumerate(rows.tolist()):
            row = row if any(row) else [1 / len(row)] * len(row)
            total += sum(math.log(max(p, 1e-6)) * stacking.coefficients[v, c, k] for c, p in enumerate(row))
        logits.append(total)
    odds = [math.exp(logit - max(logits)) for logit in logits]
    soft = vote_soft(rows[:, None], np.ones(len(rows)))[0].tolist()
    absent = [c for c in range(stacking.n_classes) if c not in stacking.present]
    result = [soft[c] for c in range(stacking.n_classes)]
    for k, c in enumerate(stacking.present.tolist()):
        result[c] = odds[k] / sum(odds) * (1 - sum(soft[a] for a in absent))
    return result


def test_the_vote_is_its_definition() -> None:
    probs = random_probs(np.random.default_rng(0), 2, 50, 3)
    probs[0, 3] = probs[1, 4] = 0
    probs[:, 5] = 0
    probs[1, 6] = np.nan
    stacking = numbers()
    result = ask_vote(stacking, probs, np.ones(2))
    assert result[5].tolist() == [0, 0, 0]
    assert np.isnan(result[6]).all()
    for row in (*range(5), *range(7, 50)):
        np.testing.assert_allclose(result[row], loop_row(stacking, probs[:, row]), rtol=0, atol=1e-12)


def test_a_row_alone_has_the_same_bits() -> None:
    truth = truths()
    probs = np.stack([good(truth, 1), good(truth, 2)]).astype(np.float32)
    stacking = fit_stacking(probs, truth, GROUPS, c=0.1, measure=False)
    result = stacking(probs, np.ones(2))
    order = np.random.default_rng(0).permutation(N_ROWS)
    assert np.array_equal(stacking(probs[:, order], np.ones(2)), result[order])
    for row in range(N_ROWS):
        assert np.array_equal(stacking(probs[:, row : row + 1], np.ones(2))[0], result[row])


@pytest.mark.parametrize("n_classes", [2, 3])
def test_as_scikit_learns_regression_on_the_same_numbers(n_classes: int) -> None:
    from sklearn.linear_model import LogisticRegression

    truth = truths(n_classes=n_classes)
    probs = np.stack([good(truth, seed, n_classes=n_classes) for seed in (1, 2, 3)])
    stacking = fit_stacking(probs, truth, None, c=0.5, measure=False)
    features = np.log(np.concatenate(list(probs), axis=1))
    expected = LogisticRegression(C=0.5, max_iter=300).fit(features, truth).predict_proba(features)
    np.testing.assert_allclose(stacking(probs, np.ones(3)), expected, rtol=0, atol=1e-9)


def test_it_finds_what_a_soft_vote_cannot_and_says_so() -> None:
    truth = truths()
    stacking = fit_stacking([turned(truth), good(truth, 1, 0.3)], truth, GROUPS, c=1.0, voters=["turned", "weak"])
    score = stacking.score
    assert score is not None
    assert score.stacking == 1.0
    assert score.soft < 0.5
    assert score.beats_soft
    assert score.beats_best_single
    assert score.best_voter == "weak"
    assert "Stacking beats the soft vote and the best single voter." in stacking.text()
    assert "240 photos of 80 people, fitted on 4 of 5 folds" in stacking.text()


def test_on_noise_it_does_not_claim_to_beat_anything() -> None:
    truth = truths()
    voters = [good(truths(9), 1), good(truths(8), 2)]
    score = fit_stacking(voters, truth, GROUPS, c=0.01).score
    assert score is not None
    assert not (score.beats_soft and score.beats_best_single)
    assert score.stacking < 0.5  # scored on the photos of the fit it would be far above a third
    assert "not beat" in score.advice()


@pytest.mark.parametrize(
    "metric", ["accuracy", "log_loss", "brier", lambda truth, labels, n: float((truth == labels).mean())]
)
def test_nested_scores_against_loops_over_folds(metric: Any) -> None:
    from ensemble_kit.data.folds import make_folds

    truth = truths()
    probs = np.stack([good(truth, 1), good(truth, 2, 0.5)])
    score = fit_stacking(probs, truth, GROUPS, c=0.3, metric=metric, n_folds=4, n_boot=20).score
    folds = make_folds(truth, GROUPS.astype(str), n_folds=4, seed=0)
    stacked = np.empty((N_ROWS, 3))
    for fold in range(4):
        outside, inside = folds != fold, folds == fold
        own = fit_stacking(probs[:, outside], truth[outside], GROUPS[outside], c=0.3, measure=False)
        stacked[inside] = own(probs[:, inside], np.ones(2))
    assert score is not None
    for found, answer in ((score.stacking, stacked), (score.soft, probs.mean(axis=0)), (score.best_single, probs[0])):
        own_probs = answer[np.arange(N_ROWS), truth]
        expected = {
            "log_loss": -np.log(own_probs).mean(),
            "brier": ((answer - np.eye(3)[truth]) ** 2).sum(axis=1).mean(),
        }.get(metric if isinstance(metric, str) else "", (answer.argmax(axis=1) == truth).mean())
        assert found == pytest.approx(expected)
    sign = -1 if metric in ("log_loss", "brier") else 1
    assert score.over_soft.value == pytest.approx(sign * (score.stacking - score.soft))
    assert score.over_soft.low <= score.over_soft.value <= score.over_soft.high


def test_the_penalty_is_chosen_by_log_loss_on_other_people() -> None:
    truth = truths()
    noise = np.stack([good(truths(9), 1), good(truths(8), 2)])
    sharp = np.stack([turned(truth), good(truth, 2)])
    assert fit_stacking(noise, truth, GROUPS, measure=False).c == 0.001
    assert fit_stacking(sharp, truth, GROUPS, measure=False).c == 1.0


def test_voters_are_put_in_order_of_their_names_and_unlabelled_photos_left_out() -> None:
    truth = truths()
    layers = {"b": good(truth, 1), "a": good(truth, 2), "c": good(truth, 3)}
    first = fit_stacking(
        Predictions(MASK, list(layers.values()), sample_ids(N_ROWS), voters=list(layers)),
        truth,
        GROUPS,
        c=0.1,
        measure=False,
    )
    assert first.voters == ("a", "b", "c")
    assert first.classes == (("worn",), ("incorrect",), ("not_worn",))
    assert first.where == "mask"
    second = fit_stacking(
        np.stack([layers[name] for name in "abc"]), truth, GROUPS, c=0.1, measure=False, voters=["a", "b", "c"]
    )
    assert np.array_equal(first.coefficients, second.coefficients)
    some = np.where(np.arange(N_ROWS) % 4 == 0, -1, truth)
    keep = some >= 0
    third = fit_stacking(np.stack([layers[name] for name in "abc"]), some, GROUPS, c=0.1, measure=False)
    fourth = fit_stacking(
        np.stack([layers[name][keep] for name in "abc"]), truth[keep], GROUPS[keep], c=0.1, measure=False
    )
    assert np.array_equal(third.coefficients, fourth.coefficients)
    order = np.random.default_rng(0).permutation(N_ROWS)
    ids = np.array(sample_ids(N_ROWS))
    expert = Predictions(MASK, list(layers.values()), ids, voters=list(layers))
    fifth = fit_stacking(expert, truth[order], GROUPS[order], c=0.1, measure=False, ids=ids[order])
    assert np.array_equal(fifth.coefficients, first.coefficients)


def test_a_class_that_no_photo_has_keeps_the_soft_votes_probability() -> None:
    truth = truths(n_classes=2)
    probs = random_probs(np.random.default_rng(3), 2, N_ROWS, 3)
    stacking = fit_stacking(probs, truth, GROUPS, c=0.1, measure=False)
    assert stacking.present.tolist() == [0, 1]
    result = stacking(probs, np.ones(2))
    np.testing.assert_allclose(result[:, 2], vote_soft(probs, np.ones(2))[:, 2], rtol=0, atol=1e-12)
    np.testing.assert_allclose(result.sum(axis=1), 1, rtol=0, atol=1e-12)
    assert "2 of 3 classes seen" in stacking.text()


def test_saved_and_read_again_it_gives_the_same_bits(tmp_path: Path) -> None:
    truth = truths()
    probs = np.stack([good(truth, 1), good(truth, 2)])
    stacking = fit_stacking(probs, truth, GROUPS, c=0.1, n_boot=10, where="mask")
    write_json(tmp_path / "stacking.json", stacking.to_json())
    again = Stacking.from_json(read_json(tmp_path / "stacking.json"))
    assert np.array_equal(again(probs, np.ones(2)), stacking(probs, np.ones(2)))
    assert again.score == stacking.score
    assert again.to_json() == stacking.to_json()
    save_fitted(tmp_path / "fitted.json", [Fitted.of(stacking)])
    (item,) = load_fitted(tmp_path / "fitted.json")
    assert (item.kind, item.where) == ("stacking", "mask")
    (vote,) = as_combine_arguments([item])["vote"].values()
    assert np.array_equal(vote(probs, np.ones(2)), stacking(probs, np.ones(2)))


def broken(change: dict[str, Any]) -> Any:
    return json.loads(json.dumps(numbers().to_json() | change))


BROKEN: list[tuple[Any, str]] = [
    ([], "not what was saved"),
    (None, "not what was saved"),
    ({"voters": ["a"]}, "not what was saved (KeyError"),
    (broken({"coefficients": [[1.0]]}), "expected coefficients of shape (2, 3, 2), found (1, 1)"),
    (broken({"coefficients": [[["x", 1.0]] * 3] * 2}), "not what was saved (ValueError"),
    (broken({"coefficients": [[[None, 1.0]] * 3] * 2}), "coefficients must be finite"),
    (broken({"present": [2, 0]}), "expected increasing classes from 0 to 2, found [2, 0]"),
    (broken({"present": [0, 3]}), "found [0, 3]"),
    (broken({"voters": []}), "expected coefficients of shape (0, 3, 2)"),
    (broken({"classes": [["a"], ["b"]]}), "expected 3 class names, found 2"),
    (broken({"score": {"soft": 1}}), "not what was saved (KeyError"),
]


@pytest.mark.parametrize(("value", "message"), BROKEN, ids=range(len(BROKEN)))
def test_a_file_that_is_no_stacking(value: Any, message: str) -> None:
    with pytest.raises(DataError) as caught:
        Stacking.from_json(value)
    assert message in str(caught.value)
    assert str(caught.value).endswith("fit it again")


def test_combine_takes_it_as_a_vote() -> None:
    schema = face_schema()
    ids = sample_ids(N_ROWS)
    truth = {
        a.name: np.random.default_rng(i).integers(0, len(a.classes), N_ROWS) for i, a in enumerate(schema.attributes)
    }
    experts = [
        Predictions(
            a,
            [good(truth[a.name], s, n_classes=len(a.classes)).astype(np.float32) for s in (1, 2)],
            ids,
            voters=["x", "w"],
        )
        for a in schema.attributes
    ]
    stacking = fit_stacking(experts[0], truth["mask"], GROUPS, c=0.1, measure=False)
    graph = Graph({"mask": [], "gender": [], "age": []})
    result = ConditionalEnsemble(schema, graph, experts).combine(vote={"mask": stacking})
    expected = stacking(experts[0].select_voters(["w", "x"]).probs, np.ones(2))
    np.testing.assert_allclose(result.joint.marginal("mask").probs[0], expected, rtol=0, atol=1e-6)
    assert find_vote(stacking) is stacking


def test_other_voters_classes_and_weights_are_refused() -> None:
    stacking = replace(numbers(), classes=(("worn",), ("incorrect",), ("not_worn",)))
    stacking.check(["a", "b"], [["worn"], ["incorrect"], ["not_worn"]])
    probs = np.full((2, 4, 3), 1 / 3)
    for shape in ((3, 4, 3), (2, 4, 2), (1, 4, 3)):
        with pytest.raises(UsageError, match="fitted for 2 voters and 3 classes, found probabilities of shape"):
            stacking(np.full(shape, 1 / 3), np.ones(shape[0]))
    for weights in ([1, 2], [1, 0], [0, 0], [1]):
        with pytest.raises(UsageError, match="it has weights of its own, found weights"):
            stacking(probs, np.array(weights))
    assert np.array_equal(stacking(probs, np.full(2, 3.0)), stacking(probs, np.ones(2)))
    with pytest.raises(UsageError, match="fitted for the voters a, b, found b, a; name the voters as in the fit"):
        stacking.check(["b", "a"])
    with pytest.raises(
        UsageError, match="fitted for the classes worn, incorrect, not_worn, found worn, not_worn, incor"
    ):
        stacking.check(["a", "b"], [["worn"], ["not_worn"], ["incorrect"]])


def fit(**change: Any) -> Stacking:
    truth = truths()
    arguments: dict[str, Any] = {
        "predictions": np.stack([good(truth, 1), good(truth, 2)]),
        "truth": truth,
        "groups": GROUPS,
    }
    return fit_stacking(**(arguments | {"n_boot": 10} | change))


def with_row(value: float) -> FloatArray:
    truth = truths()
    probs = np.stack([good(truth, 1), good(truth, 2)])
    probs[1, 7] = value
    return probs


BAD: list[tuple[dict[str, Any], type[EnsembleKitError], str]] = [
    ({"predictions": with_row(np.nan)}, DataError, "voter voter1 has not computed 1 of 240 photos"),
    ({"predictions": with_row(0.5)}, DataError, "probabilities, voter1: expected probabilities, each row >= 0 with sum 1; row 7"),
    ({"predictions": with_row(-0.5)}, DataError, "lowest -0.5"),
    ({"predictions": with_row(0)[:1]}, UsageError, "one voter only, so there is nothing to stack"),
    ({"predictions": with_row(0)[0]}, UsageError, "expected probs of shape (n_voters, n_samples, n_classes)"),
    ({"voters": ["a", "a"]}, UsageError, "expected 2 distinct voter names, found ['a', 'a']"),
    ({"truth": truths()[:-1]}, DataError, "expected a true class and a group for each of 240 photos"),
    ({"truth": truths() + 1}, DataError, "true classes must be 0 to 2, found 3"),
    ({"truth": np.full(N_ROWS, -1)}, DataError, "none of 240 photos has a label"),
    ({"truth": np.zeros(N_ROWS, dtype=int)}, DataError, "every labelled photo of a fit is of class 0"),
    ({"groups": np.zeros(N_ROWS)}, DataError, "folds need 5 people or more, found 1"),
    ({"c": 0}, UsageError, "c: expected a number above 0, found 0"),
    ({"c": np.nan}, UsageError, "c: expected a number above 0, found nan"),
    ({"metric": "macro_f"}, UsageError, 'unknown metric "macro_f"; did you mean "macro_f1"'),
    ({"ids": np.array(sample_ids(N_ROWS))}, UsageError, "ids join truth to Predictions"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "error", "message"), BAD, ids=[message for *_, message in BAD])
def test_bad_input_to_the_fit(change: dict[str, Any], error: type[EnsembleKitError], message: str) -> None:
    with pytest.raises(error) as caught:
        fit(**change)
    assert message in str(caught.value)


def test_taxonomies_stack_at_the_joint() -> None:
    tree = Schema(Attribute("kind", ["fruit", "dairy"]), Attribute("coarse", ["apple", "milk", "pear"]),
                  paths=[["fruit", "apple"], ["fruit", "pear"], ["dairy", "milk"]])  # fmt: skip
    truth = truths()
    classes = [["fruit", "apple"], ["fruit", "pear"], ["dairy", "milk"]]
    joint = Predictions(tree.attributes, [good(truth, 1), turned(truth)], sample_ids(N_ROWS), classes=classes)
    stacking = fit_stacking(joint, truth, GROUPS, c=1.0, measure=False, where="joint")
    assert stacking.classes == tuple(map(tuple, classes))
    assert (stacking(joint.probs, np.ones(2)).argmax(axis=1) == truth).all()
