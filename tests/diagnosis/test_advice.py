"""Does specialising pay: the advice on generated sets where it does, does not, and harms."""

from __future__ import annotations

import json
from collections import Counter

import numpy as np
import pytest
from worlds import World, face_world

from ensemble_kit.diagnosis import Diagnosis
from ensemble_kit.diagnosis.simultaneous import simultaneous, student

SEEDS = range(100, 120)
SKEWED = (5, 1, 1)


def found(seed: int, **world: object) -> Diagnosis:
    return face_world(seed, **world).diagnose(n_boot=200, seed=seed)  # type: ignore[arg-type]


def verdicts(diagnosis: Diagnosis) -> list[str]:
    return [row.verdict for row in diagnosis.specialising]


@pytest.mark.parametrize("photos", [(3, 2, 2), pytest.param(SKEWED, marks=pytest.mark.slow)])
def test_where_specialising_pays_the_advice_is_right_in_18_of_20_sets(photos: tuple[int, int, int]) -> None:
    sets = [found(seed, special=(2.2, 2.2, 2.2), photos=photos) for seed in SEEDS]
    assert sum(one.verdict("age") == "pays" for one in sets) >= 18
    assert sum("specialising pays" in one.advice[0] for one in sets) >= 18
    assert not any("costs" in verdicts(one) for one in sets)


@pytest.mark.parametrize("photos", [(3, 2, 2), pytest.param(SKEWED, marks=pytest.mark.slow)])
def test_where_it_makes_no_difference_nothing_is_said_to_pay_in_18_of_20_sets(photos: tuple[int, int, int]) -> None:
    """Neither on all photos nor for any state; and that it harms is not said more often than chance allows."""
    sets = [found(seed, special=(1.0, 1.0, 1.0), photos=photos) for seed in SEEDS]
    assert sum("pays" in verdicts(one) for one in sets) <= 2
    assert sum(any("pays" in line for line in one.advice) for one in sets) <= 2
    assert sum("costs" in verdicts(one) for one in sets) <= 2
    assert sum(one.verdict("age") == "no difference shown" for one in sets) >= 18


@pytest.mark.parametrize("photos", [(3, 2, 2), pytest.param(SKEWED, marks=pytest.mark.slow)])
def test_where_it_harms_the_pooled_expert_is_advised_in_18_of_20_sets(photos: tuple[int, int, int]) -> None:
    sets = [found(seed, special=(0.0, 0.0, 0.0), elsewhere=0.0, photos=photos) for seed in SEEDS]
    assert not any("pays" in verdicts(one) for one in sets)
    assert not any("pays" in line for one in sets for line in one.advice)
    assert sum(one.verdict("age") == "costs" for one in sets) >= 18


@pytest.mark.slow
def test_a_state_that_pays_and_one_that_costs_are_told_apart_in_18_of_20_sets() -> None:
    sets = [found(seed, special=(2.5, 1.0, -0.5), n_people=90) for seed in SEEDS]
    assert sum(one.verdict("age", "mask=worn") == "pays" for one in sets) >= 18
    assert sum(one.verdict("age", "mask=incorrect") == "no difference shown" for one in sets) >= 18
    assert sum(one.verdict("age", "mask=not_worn") == "costs" for one in sets) >= 18


def test_states_that_differ_are_named() -> None:
    one = found(100, special=(2.5, 1.0, -0.5), n_people=90)
    sentence = next(line for line in one.advice if line.startswith("age by state"))
    assert "specialising pays on photos of mask=worn" in sentence
    assert "pooled expert is better on photos of mask=not_worn" in sentence
    assert "--fallback pooled" in sentence


@pytest.mark.slow
def test_a_poor_router_is_named_when_right_routes_would_pay() -> None:
    """The experts are good in their own state only, and the route misses it half the time."""
    sets = [found(seed, special=(2.5, 2.5, 2.5), pooled=1.4, elsewhere=0.3, router=0.7) for seed in SEEDS]
    assert not any(one.verdict("age") == "pays" for one in sets)
    assert sum(any("better router" in line for line in one.advice) for one in sets) >= 18


@pytest.mark.slow
def test_false_alarms_over_many_sets() -> None:
    """Of 400 sets without a difference about 2.5 % say that anything pays, with few people too (two spreads more)."""
    for people, photos in ((20, (3, 2, 2)), (60, SKEWED)):
        said = Counter[str]()
        for seed in range(400):
            one = face_world(seed, special=(1.0, 1.0, 1.0), n_people=people, photos=photos).diagnose(
                n_boot=400, seed=seed
            )
            said["whole"] += one.verdict("age") == "pays"
            said["any"] += "pays" in verdicts(one)
        assert said["whole"] <= 400 * 0.02 + 2 * 2.8, said
        assert said["any"] <= 400 * 0.025 + 2 * 3.1, said


def test_simultaneous_intervals_hold_together() -> None:
    """400 families of 5 correlated means over 40 people: all 5 intervals hold 0 in about 95 % of them."""
    rng, kept, alone = np.random.default_rng(0), 0, 0
    for _ in range(400):
        people = rng.normal(size=(40, 5)) + rng.normal(size=(40, 1))
        times = rng.multinomial(40, np.full(40, 1 / 40), size=400)
        draws = (times @ people / 40).T
        both = simultaneous(people.mean(axis=0).tolist(), list(draws), [40] * 5)
        one = simultaneous([float(people[:, 0].mean())], [draws[0]], [40])
        kept += all(low <= 0 <= high for low, high in both)
        alone += one[0][0] <= 0 <= one[0][1]
    assert 0.92 <= kept / 400 <= 0.98
    assert 0.92 <= alone / 400 <= 0.98


@pytest.mark.parametrize(
    ("z", "degrees", "expected"),
    [
        (1.959964, 9, 2.2622),
        (1.959964, 20, 2.0860),
        (2.575829, 9, 3.2498),
        (2.575829, 30, 2.7500),
        (3.290527, 20, 3.8495),
    ],
)
def test_student_quantiles(z: float, degrees: int, expected: float) -> None:
    """Of the printed tables: two-sided 5 %, 1 % and 0.1 %."""
    assert student(z, degrees) == pytest.approx(expected, rel=0.005)


def test_without_spread_the_interval_is_the_value() -> None:
    assert simultaneous([0.25], [np.full(10, 0.25)], [12]) == [(0.25, 0.25)]
    assert simultaneous([], [], []) == []


# --------------------------------------------------------------------------------------- what cannot be told is said


def test_without_people_nothing_is_tested() -> None:
    world = face_world(1, special=(3.0, 3.0, 3.0))
    diagnosis = World(world.experts, world.truth, world.ids, None).diagnose()
    assert set(verdicts(diagnosis)) == {"not tested (no people to draw)"}
    assert all(row.gain.interval is None for row in diagnosis.specialising)
    assert "not tested: nobody said who is on the photos" in " ".join(diagnosis.text().split())
    assert "no intervals, and nothing is tested" in diagnosis.text()
    assert "[" not in diagnosis.text().replace("[ ]", "")
    json.dumps(diagnosis.to_json(), allow_nan=False)


def test_too_few_people() -> None:
    diagnosis = face_world(1, special=(3.0, 3.0, 3.0), n_people=9).diagnose()
    assert set(verdicts(diagnosis)) == {"too few people to tell"}
    assert "too few people to tell whether to specialise: 9, at least 10 are needed" in " ".join(
        diagnosis.text().split()
    )
    assert diagnosis.subgroups == ()


def test_one_state_with_too_few_people() -> None:
    world = face_world(1, special=(3.0, 3.0, 3.0))
    mask = world.schema.decode(world.truth)["mask"]
    keep = (mask != 1) | (np.arange(len(mask)) < 7 * 6)
    truth = np.where(keep, world.truth, -1)
    diagnosis = World(world.experts, truth, world.ids, world.groups).diagnose()
    assert diagnosis.verdict("age", "mask=incorrect") == "too few people to tell"
    assert diagnosis.verdict("age", "mask=worn") == "pays"
    assert "too few people to tell (under 10) on photos of mask=incorrect (6)" in " ".join(diagnosis.text().split())


def test_no_pooled_expert() -> None:
    world = face_world(1)
    diagnosis = World([world.experts[0], *world.experts[2:]], world.truth, world.ids, world.groups).diagnose()
    assert diagnosis.specialising == ()
    assert diagnosis.verdict("age") == "not compared"
    assert 'without a pooled age expert; train one with "ens train age"' in " ".join(diagnosis.text().split())
    assert "pays" not in diagnosis.text()


@pytest.mark.slow
def test_the_worst_subgroup_of_alike_ones_is_called_chance() -> None:
    """A column of noise: 15 values, no real difference, so that the lowest of them is chance."""
    said = 0
    for seed in SEEDS:
        world = face_world(seed, n_people=150, photos=(1, 1, 1))
        column = np.random.default_rng(seed).integers(0, 15, 150).repeat(3)
        worst = world.diagnose(n_boot=300, subgroups={"noise": [f"v{c}" for c in column]}).subgroups
        said += any(row.gap.sign < 0 for row in worst if row.kind == "noise")
    assert said <= 2


def test_a_really_worse_subgroup_is_shown() -> None:
    world = face_world(3, n_people=150, special=(4.0, 4.0, 4.0))
    person = np.repeat(np.arange(150), 7)
    hard = person % 6 == 0
    rng = np.random.default_rng(0)
    truth = np.where(hard & (rng.random(len(hard)) < 0.7), (world.truth + 1) % 9, world.truth)
    column = np.where(hard, "hard", "easy").tolist()
    diagnosis = World(world.experts, truth, world.ids, world.groups).diagnose(n_boot=300, subgroups={"kind": column})
    worst = diagnosis.subgroups[0]
    assert (worst.kind, worst.name, worst.gap.sign) == ("kind", "hard", -1)
    assert "worst subgroup: kind hard" in diagnosis.text()
    assert "shows by chance" in " ".join(diagnosis.text().split())
