"""Claims: the rule as an interval lies, errors of seeds, and intervals that cover as often as they say."""

from __future__ import annotations

from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ensemble_kit.diagnosis.claims import CLAIMS, Claim, SeedError, claim_bounds, seed_errors, verdict
from ensemble_kit.diagnosis.simultaneous import simultaneous

value = st.floats(-1, 1, allow_nan=False)
interval = st.tuples(value, value).map(lambda pair: (min(pair), max(pair)))
margin = st.floats(0, 0.5)
OPPOSITE = {"holds": "contradicted", "contradicted": "holds", "not resolved": "not resolved"}


def test_every_claim_is_described() -> None:
    assert set(CLAIMS) == set(get_args(Claim))


@given(interval, margin, st.floats(0, 1))
def test_a_verdict_is_never_against_a_value_inside(between: tuple[float, float], least: float, share: float) -> None:
    """Whatever the interval holds may be true: a claim that is decided is decided alike for all of it."""
    low, high = between
    truth = min(high, max(low, low + share * (high - low)))
    is_true = {"better": truth > least, "worse": truth < -least, "no_better": truth < least}
    for claim in get_args(Claim):
        found = verdict(claim, between, least)
        assert found == "not resolved" or (found == "holds") == is_true[claim]


@given(interval, margin)
def test_claims_mirror_each_other(between: tuple[float, float], least: float) -> None:
    low, high = between
    assert verdict("worse", between, least) == verdict("better", (-high, -low), least)
    assert verdict("no_better", between, least) == OPPOSITE[verdict("better", between, least)]


@given(interval, margin, st.floats(0, 0.5))
def test_more_certainty_never_turns_a_verdict_round(between: tuple[float, float], least: float, cut: float) -> None:
    low, high = between
    shrunk = (low + cut * (high - low) / 2, high - cut * (high - low) / 2)
    for claim in get_args(Claim):
        wide, narrow = verdict(claim, between, least), verdict(claim, shrunk, least)
        assert wide in (narrow, "not resolved")


@pytest.mark.parametrize(
    ("claim", "between", "least", "wanted"),
    [
        ("better", (0.001, 0.2), 0.0, "holds"),
        ("better", (0.001, 0.2), 0.01, "not resolved"),
        ("better", (-0.2, -0.001), 0.0, "contradicted"),
        ("better", (0.0, 0.2), 0.0, "not resolved"),
        ("worse", (-0.2, -0.001), 0.0, "holds"),
        ("worse", (-0.001, 0.2), 0.0, "not resolved"),
        ("no_better", (-0.3, 0.019), 0.02, "holds"),  # worse is not better
        ("no_better", (0.001, 0.019), 0.02, "holds"),  # better, by less than what would matter
        ("no_better", (-0.02, 0.03), 0.02, "not resolved"),  # wide is not equal
        ("no_better", (0.021, 0.3), 0.02, "contradicted"),
    ],
)
def test_the_rule(claim: Claim, between: tuple[float, float], least: float, wanted: str) -> None:
    assert verdict(claim, between, least) == wanted


@given(
    st.lists(st.tuples(st.lists(value, min_size=3, max_size=3), st.booleans()), min_size=1, max_size=5),
)
def test_seeds_are_pooled_and_never_below_their_own(rows: list[tuple[list[float], bool]]) -> None:
    variances = [sum((x - sum(row) / 3) ** 2 for x in row) / 2 / 3 for row, _ in rows]
    apart = [own for own, (_, shared) in zip(variances, rows, strict=True) if not shared]
    pooled = sum(apart or variances) / len(apart or variances)
    for found, own, (_, shared) in zip(
        seed_errors([row for row, _ in rows], [shared for _, shared in rows]), variances, rows, strict=True
    ):
        assert found is not None
        assert found.degrees == 2 * len(apart or variances)
        assert found.error**2 == pytest.approx(max(own, pooled / 2 if shared and apart else pooled), abs=1e-12)


def drawn(rng: Any, n_family: int, n_people: int, n_boot: int) -> tuple[Any, Any]:
    """Mean effects of people, correlated over the family, and their bootstrap draws."""
    people = rng.normal(size=(n_family, n_people)) + rng.normal(size=n_people)
    times = rng.multinomial(n_people, np.full(n_people, 1 / n_people), size=n_boot)
    return people.mean(axis=1), people @ times.T / n_people


def test_without_seeds_it_is_the_max_t_bootstrap() -> None:
    values, draws = drawn(np.random.default_rng(0), 4, 30, 3000)
    found = claim_bounds(values.tolist(), list(draws), 30, [None] * 4)
    wanted = simultaneous(values.tolist(), list(draws), [30] * 4)
    for bounds, between in zip(found, wanted, strict=True):
        assert bounds.interval == pytest.approx(between, rel=0.02)
        assert bounds.seed_error == 0


def test_few_seeds_make_it_wide() -> None:
    values, draws = drawn(np.random.default_rng(0), 1, 50, 2000)
    width = []
    for error in (None, SeedError(0.1, 20), SeedError(0.5, 20), SeedError(0.5, 2), SeedError(0.5, 1)):
        ((low, high),) = [one.interval for one in claim_bounds(values.tolist(), list(draws), 50, [error])]
        width.append(high - low)
    assert width == sorted(width)
    assert width[-1] > 2.5 * width[2]


def test_each_belief_is_as_wide_as_its_own_errors_make_it() -> None:
    values, draws = drawn(np.random.default_rng(0), 2, 50, 2000)
    seeds = [SeedError(0.0, 60), SeedError(1.0, 60)]
    calm, shaken = claim_bounds(values.tolist(), list(draws), 50, seeds)
    assert shaken.people_error == pytest.approx(calm.people_error, rel=0.4)
    widths = [one.interval[1] - one.interval[0] for one in (calm, shaken)]
    errors = [(one.people_error**2 + one.seed_error**2) ** 0.5 for one in (calm, shaken)]
    assert widths[1] / widths[0] == pytest.approx(errors[1] / errors[0], rel=0.05)


def test_what_does_not_differ_has_no_width() -> None:
    bounds = claim_bounds([0.0, 0.1], [np.zeros(200), np.random.default_rng(0).normal(0.1, 1, 200)], 20, [None, None])
    assert bounds[0].interval == (0, 0)
    assert claim_bounds([], [], 20, []) == []


def test_intervals_cover_the_family_as_often_as_they_say() -> None:
    """Worlds with people and seeds both drawn anew, no difference anywhere: all intervals hold 0 in 95 % of them."""
    rng = np.random.default_rng(1)
    n_worlds, n_family, n_people, n_seeds, n_boot = 400, 5, 25, 2, 200
    held = 0
    for _ in range(n_worlds):
        values, draws = drawn(rng, n_family, n_people, n_boot)
        by_seed = values[:, None] + rng.normal(0, 0.4, size=(n_family, n_seeds))
        values, draws = by_seed.mean(axis=1), draws + (by_seed.mean(axis=1) - values)[:, None]
        found = claim_bounds(values.tolist(), list(draws), n_people, seed_errors(list(by_seed), [False] * n_family))
        held += all(low <= 0 <= high for low, high in (one.interval for one in found))
    assert 0.93 <= held / n_worlds <= 0.995
