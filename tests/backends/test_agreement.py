"""What a comparison finds, and when it refuses."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ensemble_kit.backends.agreement import Agreement, compare_probs
from ensemble_kit.errors import DataError

SURE, UNSURE = [0.9, 0.1], [0.4, 0.6]
NAN = [float("nan"), float("nan")]

TABLE: list[tuple[list[list[float]], list[list[float]], tuple[float, float]]] = [
    ([SURE, UNSURE], [SURE, UNSURE], (1.0, 0.0)),
    ([SURE, UNSURE], [SURE, [0.45, 0.55]], (1.0, 0.05)),
    ([SURE, UNSURE], [SURE, [0.55, 0.45]], (0.5, 0.15)),
    ([SURE, UNSURE], [SURE, [0.5, 0.5]], (0.5, 0.1)),  # of equal ones the first class
    ([SURE, UNSURE], [SURE, NAN], (0.5, 1.0)),
    ([NAN, UNSURE], [NAN, UNSURE], (0.5, 1.0)),  # what is no number agrees with nothing
    ([SURE], [[float("inf"), 0.0]], (0.0, 1.0)),
]


@pytest.mark.parametrize(("expected", "found", "result"), TABLE)
def test_one_head(expected: list[list[float]], found: list[list[float]], result: tuple[float, float]) -> None:
    agreement = compare_probs([np.array(expected)], [np.array(found)])
    assert agreement.n_photos == len(expected)
    assert (agreement.equal, agreement.largest) == pytest.approx(result)


def test_of_several_heads_the_worst_counts() -> None:
    one, other = np.array([SURE, SURE]), np.array([SURE, UNSURE])
    found = compare_probs([one, other, one], [one, other[::-1], one])
    assert found == Agreement(2, 0.0, 0.5)


def test_no_photo_agrees_with_nothing() -> None:
    empty = np.zeros((0, 2))
    assert compare_probs([empty], [empty]) == Agreement(0, 0.0, 0.0)


@given(st.integers(0, 2**32 - 1), st.integers(1, 40), st.integers(2, 5))
@settings(max_examples=40, deadline=None)
def test_it_is_what_a_loop_counts(seed: int, n: int, k: int) -> None:
    rng = np.random.default_rng(seed)
    one, other = rng.dirichlet(np.ones(k), (2, n)).astype(np.float32)
    same = sum(int(np.argmax(one[row])) == int(np.argmax(other[row])) for row in range(n))
    apart = max(abs(float(a) - float(b)) for a, b in zip(one.ravel(), other.ravel(), strict=True))
    found = compare_probs([one], [other])
    assert (found.n_photos, found.equal) == (n, same / n)
    assert found.largest == pytest.approx(apart, abs=1e-8)
    assert Agreement.from_json(json.loads(json.dumps(found.to_json()))) == found


@pytest.mark.parametrize(
    ("n", "n_equal", "least", "refused"),
    [
        (512, 512, 0.995, ""),
        (200, 199, 0.995, ""),  # exactly at the limit
        (199, 198, 0.995, "found 99.49 % equal labels with torch in float32 (198 of 199 training photos)"),
        (512, 506, 0.99, "found 98.82 % equal labels"),
        (512, 507, 0.99, ""),
        (100_000, 99_499, 0.995, "found 99.49 % equal"),  # never rounded up to the limit
        (0, 0, 0.5, "found no training photo to compare it on"),
        (1, 0, 0.0, ""),
    ],
)
def test_refusing(n: int, n_equal: int, least: float, refused: str) -> None:
    agreement = Agreement(n, n_equal / n if n else 0.0, 0.25)
    if not refused:
        agreement.refuse_below(least, "torch-bf16", "mask, fold 0")
        return
    with pytest.raises(DataError) as caught:
        agreement.refuse_below(least, "torch-bf16", "mask, fold 0")
    said = str(caught.value)
    assert refused in said
    assert said.startswith("back end torch-bf16: mask, fold 0: expected at least")
    assert said.endswith("--backend torch, or take it as it is with --accept-disagreement")
    assert "\n" not in said


@pytest.mark.parametrize(
    "changed", [{"equal": 1.5}, {"largest": -1}, {"n_photos": -2}, {"equal": float("nan")}, {"equal": "much"}]
)
def test_what_no_comparison_finds_is_not_read(changed: dict[str, Any]) -> None:
    with pytest.raises((ValueError, KeyError)):
        Agreement.from_json({"n_photos": 3, "equal": 1.0, "largest": 0.0} | changed)
