"""Columns finer than the classes: 61 ages, 11 bins, varieties; borders move when combining."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from core_oracles import random_probs, sample_ids
from hypothesis import given
from hypothesis import strategies as st

from ensemble_kit.errors import DataError, EnsembleKitError, UsageError
from ensemble_kit.predictions import Predictions, load_predictions, save_predictions
from ensemble_kit.schema import Attribute, Schema

AGE = Attribute("age", ["<30", "30-59", ">=60"], borders=[30, 60])


def schema_with(*borders: float) -> Schema:
    names = [f"from {border}" for border in (0, *borders)]
    return Schema(Attribute("age", names, borders=borders))


def ages(seed: int = 0, n_samples: int = 7, n_voters: int = 2) -> Predictions:
    """Single ages 0 to 60, the last one open."""
    probs = random_probs(np.random.default_rng(seed), n_voters, n_samples, 61)
    return Predictions(AGE, probs, sample_ids(n_samples), {"mask": "worn"}, edges=range(1, 61))


@given(st.integers(0, 999), st.sets(st.integers(1, 60), min_size=1, max_size=4))
def test_borders_may_lie_at_any_edge(seed: int, chosen: set[int]) -> None:
    borders = sorted(chosen)
    expert, schema = ages(seed), schema_with(*borders)
    coarse = expert.in_classes_of(schema)
    wanted = np.zeros((2, 7, len(borders) + 1))
    for voter in range(2):
        for row in range(7):
            for years in range(61):
                wanted[voter, row, sum(years >= border for border in borders)] += expert.probs[voter, row, years]
    np.testing.assert_allclose(coarse.probs, wanted, atol=1e-12)
    assert coarse.attributes == schema.attributes
    assert (coarse.condition, coarse.voters, coarse.fine) == (expert.condition, expert.voters, None)
    alone = expert.select([3]).in_classes_of(schema)
    assert np.array_equal(alone.probs[:, 0], coarse.probs[:, 3])


def test_a_stored_map_adds_varieties_up() -> None:
    fruit = Attribute("fruit", ["apple", "pear"])
    probs = [[0.1, 0.2, 0.3, 0.4]]
    expert = Predictions(fruit, probs, ["a"], classes=["gala", "comice", "fuji", "rocha"], to=[0, 1, 0, 1])
    np.testing.assert_allclose(expert.in_classes_of(Schema(fruit)).probs[0], [[0.4, 0.6]])


def test_a_block_has_a_map_onto_its_joint_classes() -> None:
    mask, gender = Attribute("mask", ["on", "off"]), Attribute("gender", ["m", "f"])
    rows = [("on, surgical", "m"), ("on, cloth", "m"), ("on", "f"), ("off", "m"), ("off", "f")]
    expert = Predictions([mask, gender], [[0.1, 0.2, 0.3, 0.15, 0.25]], ["a"], classes=rows, to=[0, 0, 1, 2, 3])
    coarse = expert.in_classes_of(Schema(mask, gender))
    np.testing.assert_allclose(coarse.probs[0], [[0.3, 0.3, 0.15, 0.25]])
    assert coarse.classes == (("on", "m"), ("on", "f"), ("off", "m"), ("off", "f"))


def test_columns_are_named_by_their_edges() -> None:
    expert = Predictions(AGE, np.full((1, 5), 0.2), ["a"], edges=[30, 31, 45, 60.5])
    assert [name for (name,) in expert.classes] == ["<30", "30", "31-45", "45-60.5", ">=60.5"]


def test_edges_and_maps_are_kept_when_saved_and_selected(tmp_path: Path) -> None:
    fruit = Attribute("fruit", ["apple", "pear"])
    varieties = Predictions(
        fruit, np.full((1, 7, 3), 1 / 3), sample_ids(7), classes=["gala", "rocha", "fuji"], to=[0, 1, 0]
    )
    schema = Schema(Attribute("mask", ["worn", "not_worn"]), AGE, fruit)
    save_predictions(tmp_path, [ages(), varieties], schema)
    loaded = load_predictions(tmp_path)
    assert [expert.fine for expert in loaded] == [ages().fine, varieties.fine]
    assert loaded[0].select([2, 1]).select_voters(["voter1"]).fine == ages().fine
    moved = loaded[0].in_classes_of(Schema(Attribute("age", ["<20", "20-57", ">=58"], borders=[20, 58])))
    np.testing.assert_allclose(moved.probs[:, :, 2], ages().probs[:, :, 58:].sum(axis=2), rtol=1e-6)


def test_classes_as_they_are_stay_the_same_object() -> None:
    expert = Predictions(AGE, [[0.2, 0.3, 0.5]], ["a"])
    assert expert.in_classes_of(Schema(AGE)) is expert


BAD: list[tuple[Any, type[EnsembleKitError], str]] = [
    (lambda: ages().in_classes_of(schema_with(30.5)), DataError, "border 30.5 lies inside a column; the nearest"),
    (
        lambda: ages().in_classes_of(Schema(Attribute("age", ["<30", "30-59", ">=60"]))),
        DataError,
        'give the attribute "age" borders',
    ),
    (
        lambda: Predictions(AGE, [[1.0, 0, 0, 0]], ["a"], edges=[30, 60]),
        UsageError,
        "4 columns have 3 increasing edges between them, found 2: 30, 60",
    ),
    (lambda: Predictions(AGE, [[1.0, 0, 0]], ["a"], edges=[60, 30]), UsageError, "increasing edges"),
    (lambda: Predictions(AGE, [[1.0, 0]], ["a"], edges=[1], to=[0, 1]), UsageError, "not both"),
    (
        lambda: Predictions(AGE, [[1.0, 0]], ["a"], classes=["a", "b"], to=[0]),
        UsageError,
        "expected a class for each of 2 columns, found 1",
    ),
    (
        lambda: Predictions(AGE, [[1.0, 0]], ["a"], classes=["a", "b"], to=[0, 5]).in_classes_of(Schema(AGE)),
        DataError,
        "mapped onto classes 0 to 2",
    ),
    (
        lambda: Predictions(AGE, [[1.0, 0]], ["a"], classes=["a", "b"], to=[0, 1]).in_classes_of(schema_with(30)),
        DataError,
        "its columns are mapped onto <30, 30-59, >=60, the schema has from 0, from 30",
    ),
    (
        lambda: Predictions([AGE, Attribute("mask", ["on"])], [[1.0, 0]], ["a"], edges=[30]),
        UsageError,
        "edges are for one attribute",
    ),
    (lambda: ages().marginal("age"), UsageError, "finer columns than classes"),
]


@pytest.mark.parametrize(("call", "error", "message"), BAD, ids=range(len(BAD)))
def test_what_cannot_be_is_refused(call: Any, error: type[EnsembleKitError], message: str) -> None:
    with pytest.raises(error) as found:
        call()
    assert message in str(found.value)
