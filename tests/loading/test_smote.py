"""Made-up samples: between neighbours of one class, as many as are missing."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ensemble_kit.errors import UsageError
from ensemble_kit.loading.smote import smote, smote_between


def rng(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


@given(st.lists(st.integers(-1, 3), min_size=1, max_size=40), st.integers(1, 7), st.integers(0, 10**6))
@settings(max_examples=50, deadline=None)
def test_every_class_comes_up_to_the_largest_by_points_between_neighbours(labels: list[int], k: int, seed: int) -> None:
    keys = np.array(labels)
    features = rng(seed).normal(size=(len(keys), 3))
    made, made_keys = smote(features, keys, rng(seed), k)
    assert made[: len(keys)].tolist() == features.tolist()
    assert made_keys[: len(keys)].tolist() == labels
    known = keys[keys >= 0]
    if len(known):
        counts = np.unique(made_keys[made_keys >= 0], return_counts=True)[1]
        assert set(counts.tolist()) == {np.bincount(known).max()}
    assert (made_keys == -1).sum() == (keys == -1).sum()
    new = smote_between(features, keys, rng(seed), k)
    for row, (base, other, gap) in enumerate(zip(new.base, new.other, new.gap, strict=True)):
        assert 0 <= gap < 1
        assert keys[base] == keys[other] == made_keys[len(keys) + row]
        np.testing.assert_allclose(made[len(keys) + row], features[base] + gap * (features[other] - features[base]))
        own = np.flatnonzero((keys == keys[base]) & (np.arange(len(keys)) != base))
        distances = np.sort(np.linalg.norm(features[own] - features[base], axis=1))  # the nearest by a plain search
        if len(own):
            assert np.linalg.norm(features[other] - features[base]) <= distances[min(k, len(own)) - 1] + 1e-9
        else:
            assert other == base


def test_bases_take_turns_and_neighbours_and_gaps_are_drawn_evenly() -> None:
    keys = np.array([0] * 3000 + [1] * 6)
    features = rng(0).normal(size=(len(keys), 2))
    new = smote_between(features, keys, rng(1), k=5)
    times = np.bincount(new.base, minlength=len(keys))[3000:]
    assert times.tolist() == [499] * 6
    pairs = np.bincount((new.base - 3000) * 6 + (new.other - 3000), minlength=36).reshape(6, 6)
    assert np.diag(pairs).tolist() == [0] * 6
    others = pairs[~np.eye(6, dtype=bool)]
    assert (abs(others - 499 / 5) < 5 * math.sqrt(499 * 0.2 * 0.8)).all()
    assert new.gap.mean() == pytest.approx(0.5, abs=5 / math.sqrt(12 * 2994))


def test_targets_between_two_samples_are_between_theirs() -> None:
    keys = np.array([0, 0, 0, 0, 1, 1])
    features = rng(0).normal(size=(6, 2))
    targets = np.eye(2, dtype=np.float32)[[0, 1, 0, 1, 0, 1]]  # balanced over something else than the targets
    new = smote_between(features, keys, rng(0))
    mixed = new.of(targets)
    assert mixed.dtype == np.float32
    np.testing.assert_allclose(mixed.sum(axis=1), 1)
    np.testing.assert_allclose(mixed[:, 1], np.where(new.base % 2 == 1, 1 - new.gap, new.gap), rtol=1e-6)


def test_the_same_generator_makes_up_the_same_and_another_something_else() -> None:
    keys, features = np.array([0, 0, 0, 1, 1]), rng(0).normal(size=(5, 2))
    first, again, other = (smote(features, keys, rng(seed))[0] for seed in (1, 1, 2))
    assert first.tobytes() == again.tobytes()
    assert first.tobytes() != other.tobytes()


@pytest.mark.parametrize(("n", "k"), [(4, 5), (5, 0)])
def test_bad_calls(n: int, k: int) -> None:
    with pytest.raises(UsageError, match="smote: expected one key a sample and k from 1, found 5 samples"):
        smote(np.zeros((5, 2)), np.zeros(n, dtype=np.int64), rng(0), k)
