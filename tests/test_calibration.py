from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ensemble_kit.calibration import (
    PHOTO_LOSSES,
    Temperature,
    apply_temperature,
    brier,
    ece,
    fit_temperature,
    nll,
    reliability,
    risk_coverage,
)
from ensemble_kit.errors import DataError, EnsembleKitError, UsageError

SEEDS = st.integers(0, 2**32 - 1)
ABSENT = np.nan


def softmax(logits: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    raised = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(raised / raised.sum(axis=1, keepdims=True))


def generated(seed: int, n_samples: int = 400, n_classes: int = 4, sharp: float = 1.0) -> tuple[Any, Any, Any]:
    """Logits whose softmax is the truth's distribution, the truth, and the same logits times `sharp`, as probs."""
    random = np.random.default_rng(seed)
    logits = random.normal(scale=1.5, size=(n_samples, n_classes))
    fair = softmax(logits)
    truth = np.array([random.choice(n_classes, p=row) for row in fair])
    return logits, truth, softmax(logits * sharp)


def messy(seed: int, n_samples: int = 30, n_classes: int = 3) -> tuple[Any, Any]:
    """Coarse probabilities with many ties, zeros and abstained rows."""
    random = np.random.default_rng(seed)
    counts = random.multinomial(4, np.full(n_classes, 1 / n_classes), size=n_samples)
    counts[random.random(n_samples) < 0.15] = 0
    return counts / 4.0, random.integers(0, n_classes, size=n_samples)


@settings(max_examples=60, deadline=None)
@given(SEEDS, st.floats(0.05, 20))
def test_a_temperature_divides_the_logits(seed: int, temperature: float) -> None:
    logits = np.random.default_rng(seed).normal(scale=3, size=(8, 5))
    scaled = apply_temperature(softmax(logits), temperature)
    np.testing.assert_allclose(scaled, softmax(logits / temperature), atol=1e-7)


@settings(max_examples=60, deadline=None)
@given(SEEDS, st.floats(0.05, 20), st.sampled_from(["float32", "float64"]))
def test_scaling_keeps_zeros_labels_and_every_row_to_itself(seed: int, temperature: float, dtype: str) -> None:
    probs = messy(seed)[0].astype(dtype)
    probs[3] = ABSENT
    scaled = apply_temperature(probs, temperature)
    assert scaled.dtype == probs.dtype
    assert np.isnan(scaled[3]).all()
    whole = np.delete(scaled, 3, axis=0)
    before = np.delete(probs, 3, axis=0)
    assert ((before == 0) <= (whole == 0)).all()
    assert (whole.argmax(axis=1) == before.argmax(axis=1)).all()
    np.testing.assert_allclose(whole.sum(axis=1), before.any(axis=1), atol=1e-6)
    order = np.random.default_rng(seed).permutation(len(probs))
    np.testing.assert_array_equal(apply_temperature(probs[order], temperature), scaled[order])
    for row in range(len(probs)):
        np.testing.assert_array_equal(apply_temperature(probs[row : row + 1], temperature)[0], scaled[row])


def test_temperature_one_keeps_every_bit_and_many_tiny_numbers_do_not_underflow() -> None:
    probs = np.array([[0.3, 0.6, 0.1], [1e-300, 1e-305, 1 - 1e-300]])
    assert (apply_temperature(probs, 1.0) == probs).all()
    tiny = apply_temperature(np.array([[1e-308, 1.0]]), 20.0)
    assert tiny[0, 0] == pytest.approx((1e-308) ** 0.05 / (1 + (1e-308) ** 0.05))
    assert apply_temperature(np.array([[0.4, 0.6]]), 0.05).sum() == 1


@pytest.mark.parametrize("sharp", [0.3, 1.0, 2.5, 6.0])
def test_the_fit_is_scipys_minimum(sharp: float) -> None:
    from scipy.optimize import minimize_scalar  # type: ignore[import-untyped]

    _, truth, probs = generated(3, sharp=sharp)

    def loss(log_temperature: float) -> float:
        scaled = softmax(np.log(probs) / np.exp(log_temperature))
        return float(-np.log(scaled[np.arange(len(truth)), truth]).mean())

    best = minimize_scalar(loss, bounds=(np.log(0.05), np.log(20)), method="bounded", options={"xatol": 1e-10})
    fitted = fit_temperature(probs, truth)
    assert fitted.value == pytest.approx(np.exp(best.x), rel=1e-4)
    assert fitted.nll_after <= best.fun + 1e-12
    assert fitted.nll_before == pytest.approx(loss(0.0))
    assert not fitted.at_bound


@pytest.mark.parametrize("sharp", [0.5, 1.0, 3.0])
def test_the_fit_finds_what_was_done_to_the_probabilities(sharp: float) -> None:
    _, truth, probs = generated(0, n_samples=6000, sharp=sharp)
    fitted = fit_temperature(probs, truth)
    assert fitted.value == pytest.approx(sharp, rel=0.08)
    scaled = fitted(probs)
    assert nll(scaled, truth) == pytest.approx(fitted.nll_after)
    assert nll(scaled, truth) <= nll(probs, truth)
    assert ece(scaled, truth) < 0.03
    if sharp > 1:
        assert ece(scaled, truth) < ece(probs, truth) / 3


@settings(max_examples=50, deadline=None)
@given(SEEDS)
def test_a_fit_never_makes_the_likelihood_worse(seed: int) -> None:
    probs, truth = messy(seed)
    answered = probs[np.arange(len(truth)), truth] > 0
    if answered.sum() < 2:
        return
    fitted = fit_temperature(probs, truth)
    assert 0.05 <= fitted.value <= 20 + 1e-9
    assert fitted.nll_after <= fitted.nll_before
    assert fitted.n_samples == answered.sum()
    assert fitted.n_impossible == (probs.any(axis=1) & ~answered).sum()
    assert nll(fitted(probs[answered]), truth[answered]) == pytest.approx(fitted.nll_after, abs=1e-5)


def test_at_the_bounds_and_where_nothing_can_be_told() -> None:
    right = np.array([[0.6, 0.4]] * 5)
    sharpest = fit_temperature(right, [0] * 5)
    assert sharpest.value == pytest.approx(0.05)
    assert sharpest.at_bound
    assert "at the bound of [0.05, 20]" in sharpest.text()
    flattest = fit_temperature(right, [1] * 5)
    assert flattest.value == pytest.approx(20)
    assert flattest.at_bound
    uniform = fit_temperature(np.full((5, 2), 0.5), [0, 1, 0, 1, 1])
    assert uniform.value == 1
    assert not uniform.at_bound


def test_a_temperature_says_what_it_found_and_survives_the_file() -> None:
    _, truth, probs = generated(1, sharp=3)
    fitted = fit_temperature(probs, truth)
    assert "too sure" in fitted.text()
    assert f"on {len(truth)} photos" in fitted.text()
    again = Temperature.from_json(fitted.to_json())
    assert again == fitted
    assert (again(probs) == fitted(probs)).all()
    assert Temperature.from_json({"temperature": 2}).value == 2


def test_zeros_of_the_truth_take_no_part() -> None:
    _, truth, probs = generated(2, sharp=2)
    wrong = np.vstack([probs, [[1.0, 0, 0, 0]], [[0.0, 0, 0, 0]]])
    fitted = fit_temperature(wrong, [*truth, 2, 1])
    assert (fitted.value, fitted.n_impossible) == (fit_temperature(probs, truth).value, 1)
    assert "1 photos with probability 0 left out" in fitted.text()


def test_losses_are_scikit_learns() -> None:
    from sklearn.metrics import brier_score_loss, log_loss

    _, truth, probs = generated(5)
    assert nll(probs, truth) == pytest.approx(log_loss(truth, probs, labels=range(4)))
    one_hot = np.eye(4)[truth]
    each = [brier_score_loss(one_hot[:, k], probs[:, k]) for k in range(4)]
    assert brier(probs, truth) == pytest.approx(sum(each))
    for name, loss in PHOTO_LOSSES.items():
        assert loss(probs, truth).mean() == pytest.approx({"brier": brier, "log_loss": nll}[name](probs, truth))


@settings(max_examples=60, deadline=None)
@given(SEEDS)
def test_measures_are_those_of_a_loop_abstained_rows_included(seed: int) -> None:
    probs, truth = messy(seed)
    n_classes = probs.shape[1]
    likelihood, squares = [], []
    for row, true in zip(probs.tolist(), truth.tolist(), strict=True):
        said = row if any(row) else [1 / n_classes] * n_classes
        likelihood.append(-np.log(max(said[true], 1e-7)))
        squares.append(sum((p - (k == true)) ** 2 for k, p in enumerate(said)))
    assert nll(probs, truth) == pytest.approx(np.mean(likelihood))
    assert brier(probs, truth) == pytest.approx(np.mean(squares))
    order = np.random.default_rng(seed).permutation(len(truth))
    for measure in (nll, brier, ece, lambda p, t: ece(p, t, 4, "equal_mass"), lambda p, t: risk_coverage(p, t).aurc):
        assert measure(probs[order], truth[order]) == measure(probs, truth)


@settings(max_examples=60, deadline=None)
@given(SEEDS, st.integers(1, 20))
def test_ece_of_equal_widths_is_that_of_a_loop(seed: int, n_bins: int) -> None:
    probs, truth = messy(seed)
    spoken = [(max(row), row.index(max(row)) == t) for row, t in zip(probs.tolist(), truth, strict=True) if any(row)]
    total = 0.0
    for number in range(n_bins):
        inside = [(c, r) for c, r in spoken if number / n_bins < c <= (number + 1) / n_bins]
        if inside:
            total += abs(sum(r for _, r in inside) - sum(c for c, _ in inside))
    assert ece(probs, truth, n_bins) == pytest.approx(total / max(len(spoken), 1), abs=1e-12)


@settings(max_examples=60, deadline=None)
@given(SEEDS, st.integers(1, 8))
def test_bins_hold_every_answer_once_and_equal_confidences_together(seed: int, n_bins: int) -> None:
    probs, truth = messy(seed)
    confidence = probs.max(axis=1)
    for scheme in ("equal_width", "equal_mass"):
        table = reliability(probs, truth, n_bins, scheme)
        assert table.count.sum() == (confidence > 0).sum()
        assert (table.lower < table.upper).all()
        assert ((table.lower < table.confidence) & (table.confidence <= table.upper)).all()
        for low, high, count in zip(table.lower, table.upper, table.count, strict=True):
            assert ((confidence > low) & (confidence <= high)).sum() == count


def test_equal_mass_divides_distinct_confidences_evenly_and_the_curve_is_scikit_learns() -> None:
    from sklearn.calibration import calibration_curve

    random = np.random.default_rng(0)
    first = random.uniform(0.5, 1, size=300)
    probs, truth = np.stack([first, 1 - first], axis=1), (random.random(300) > first).astype(np.int64)
    assert reliability(probs, truth, 6, "equal_mass").count.tolist() == [50] * 6
    right, said = calibration_curve(truth == 0, first, n_bins=10)
    table = reliability(probs, truth, 10)
    np.testing.assert_allclose(table.accuracy, right)
    np.testing.assert_allclose(table.confidence, said)
    assert "ECE" in table.text()
    assert table.to_json()["count"] == table.count.tolist()


@settings(max_examples=60, deadline=None)
@given(SEEDS)
def test_the_area_under_the_risk_is_the_mean_over_orders_of_equal_confidences(seed: int) -> None:
    """Against the plain sum over coverages, with ties broken at random many times: their mean, and its range."""
    probs, truth = messy(seed, n_samples=7)
    confidence = probs.max(axis=1)
    wrong = (probs.argmax(axis=1) != truth) | (confidence == 0)
    random = np.random.default_rng(seed)
    found = []
    for _ in range(1500):
        order = np.lexsort((random.random(7), -confidence))
        found.append((np.cumsum(wrong[order]) / np.arange(1, 8)).mean())
    curve = risk_coverage(probs, truth)
    assert curve.aurc == pytest.approx(np.mean(found), abs=0.02)
    assert curve.coverage[-1] == 1
    assert curve.risk[-1] == pytest.approx(wrong.mean())
    for coverage, risk in zip(curve.coverage, curve.risk, strict=True):
        kept = np.sort(-confidence)[round(coverage * 7) - 1]
        assert risk == pytest.approx(wrong[-confidence <= kept].mean())


def test_without_ties_the_area_is_exact() -> None:
    probs = [[0.9, 0.1], [0.8, 0.2], [0.7, 0.3], [0.0, 0.0]]
    curve = risk_coverage(probs, [0, 1, 0, 0])
    assert curve.risk.tolist() == pytest.approx([0, 1 / 2, 1 / 3, 2 / 4])
    assert curve.aurc == pytest.approx((0 + 1 / 2 + 1 / 3 + 2 / 4) / 4)


def test_nothing_to_measure() -> None:
    none = np.zeros((0, 3))
    assert nll(none, []) == brier(none, []) == ece(none, []) == 0
    silent = np.zeros((2, 3))
    assert ece(silent, [0, 1], scheme="equal_mass") == 0
    assert nll(silent, [0, 1]) == pytest.approx(np.log(3))


HALF = [[0.5, 0.5], [0.5, 0.5]]


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (lambda: apply_temperature(HALF, 0.0), UsageError, "expected a finite number above 0, found 0.0"),
        (lambda: apply_temperature(HALF, float("nan")), UsageError, "expected a finite number above 0, found nan"),
        (lambda: apply_temperature([0.5, 0.5], 2.0), UsageError, "(n_samples, n_classes), found float64 of shape (2,)"),
        (lambda: fit_temperature(HALF, [0, -1], who="age"), DataError, "age: true classes must be 0 to 1, found -1"),
        (lambda: fit_temperature(HALF[:1], [0]), DataError, "needs 2 photos or more with a label"),
        (lambda: fit_temperature(np.zeros((3, 2)), [0, 1, 0]), DataError, "needs 2 photos or more"),
        (lambda: fit_temperature(HALF, [0]), DataError, "a class number for each of 2 photos"),
        (lambda: nll(HALF, [0.0, 1.0]), DataError, "found float64 of shape (2,)"),
        (lambda: brier([[0.5, 0.9]], [0]), DataError, "logits need a softmax first"),
        (lambda: nll([[ABSENT, ABSENT]], [0]), DataError, "1 of 1 photos were not computed (NaN); leave them out"),
        (lambda: nll(HALF, [0, 2]), DataError, "true classes must be 0 to 1, found 0 to 2"),
        (lambda: ece(HALF, [0, 1], n_bins=0), UsageError, "n_bins: expected 1 or more, found 0"),
        (lambda: ece(HALF, [0, 1], scheme="equal"), UsageError, 'unknown scheme "equal"; did you mean "equal_'),
        (lambda: risk_coverage(np.zeros((0, 2)), []), DataError, "at least one photo"),
        (lambda: Temperature.from_json({"temperature": -1}), DataError, "a number above 0"),
        (lambda: Temperature.from_json({"temperature": True}), DataError, "a number above 0"),
        (lambda: Temperature.from_json([]), DataError, "a number above 0"),
        (lambda: Temperature.from_json({"temperature": 1, "n_samples": "x"}), DataError, "fit it again"),
    ],
)
def test_bad_input_is_named(call: Any, kind: type[EnsembleKitError], message: str) -> None:
    with pytest.raises(kind, match=re.escape(message)):
        call()
