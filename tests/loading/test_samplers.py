"""Epochs: who is drawn, how often, and how batches are cut."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ensemble_kit.errors import UsageError
from ensemble_kit.loading.samplers import (
    SAMPLERS,
    draw_epoch,
    epoch_batches,
    find_sampler,
    joint_keys,
    weighted,
)
from ensemble_kit.named import name_of

targets_lists = st.lists(st.integers(0, 4), min_size=2, max_size=60)
SAME_LENGTH = ["natural", "balanced", "weighted", "natural->balanced"]


def rng(*seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


def within(count: float, n: int, p: float, sigmas: float = 5) -> bool:
    """Whether a count of n draws lies within so many standard deviations of n p (1 in 2 million by chance)."""
    return abs(count - n * p) <= sigmas * math.sqrt(n * p * (1 - p))


@given(targets_lists, st.sampled_from(SAME_LENGTH), st.integers(2, 9), st.integers(0, 5), st.integers(1, 4))
def test_every_sampler_draws_as_many_as_there_are_in_batches_of_two_or_more(
    targets: list[int], sampler: str, size: int, seed: int, epoch: int
) -> None:
    batches = epoch_batches(sampler, np.array(targets), size, seed, epoch)
    drawn = np.concatenate(batches)
    assert len(drawn) == len(targets)
    assert drawn.min() >= 0
    assert drawn.max() < len(targets)
    assert all(2 <= len(batch) <= size + 1 for batch in batches)
    again = epoch_batches(sampler, np.array(targets), size, seed, epoch)
    assert [b.tolist() for b in batches] == [b.tolist() for b in again]


@given(targets_lists, st.integers(0, 5))
def test_natural_draws_each_sample_once(targets: list[int], seed: int) -> None:
    drawn = np.concatenate(epoch_batches("natural", np.array(targets), 7, seed, 1))
    assert sorted(drawn.tolist()) == list(range(len(targets)))


@given(targets_lists, st.integers(0, 5))
def test_balanced_draws_each_class_equally_and_no_sample_twice_before_its_class_is_through(
    targets: list[int], seed: int
) -> None:
    array = np.array(targets)
    drawn = np.concatenate(epoch_batches("balanced", array, 7, seed, 1))
    counts = np.bincount(array[drawn], minlength=5)[np.unique(array)]
    assert counts.max() - counts.min() <= 1
    for number in np.unique(array):
        times = np.bincount(drawn[array[drawn] == number], minlength=len(array))[array == number]
        assert times.max() - times.min() <= 1


@given(targets_lists, st.integers(0, 5))
def test_oversampling_brings_every_class_up_to_the_largest_and_leaves_nobody_out(targets: list[int], seed: int) -> None:
    array = np.array(targets)
    drawn = np.concatenate(epoch_batches("oversample", array, 7, seed, 1))
    largest = np.bincount(array).max()
    assert set(np.bincount(array[drawn], minlength=5)[np.unique(array)].tolist()) == {largest}
    times = np.bincount(drawn, minlength=len(array))
    assert times.min() >= 1
    for number in np.unique(array):
        assert np.ptp(times[array == number]) <= 1


@given(targets_lists, st.integers(0, 5))
def test_undersampling_brings_every_class_down_to_the_smallest_and_takes_nobody_twice(
    targets: list[int], seed: int
) -> None:
    array = np.array(targets)
    drawn = np.concatenate(epoch_batches("undersample", array, 7, seed, 1))
    smallest = np.unique(array, return_counts=True)[1].min()
    assert set(np.bincount(array[drawn], minlength=5)[np.unique(array)].tolist()) == {smallest}
    assert len(np.unique(drawn)) == len(drawn)


def test_undersampling_takes_another_part_each_epoch_and_everyone_in_the_long_run() -> None:
    keys = np.array([0] * 40 + [1] * 10)
    n_epochs = 400
    times = np.zeros(50, dtype=np.int64)
    parts = set()
    for epoch in range(n_epochs):
        drawn = np.concatenate(epoch_batches("undersample", keys, 8, 0, epoch))
        times[drawn] += 1
        parts.add(tuple(sorted(drawn[drawn < 40].tolist())))
    assert len(parts) > 390
    assert (times[40:] == n_epochs).all()
    assert all(within(count, n_epochs, 10 / 40) for count in times[:40])


def test_weighted_draws_are_independent_with_equal_chances_for_classes_and_for_photos_of_a_class() -> None:
    sizes = [500, 60, 6]
    keys = np.repeat(np.arange(3), sizes)
    n_epochs = 60
    draws = np.concatenate([weighted(keys, rng(epoch)) for epoch in range(n_epochs)])
    n = n_epochs * len(keys)
    assert len(draws) == n
    for number, size in enumerate(sizes):
        assert within((keys[draws] == number).sum(), n, 1 / 3)
        times = np.bincount(draws, minlength=len(keys))[keys == number]
        assert all(within(count, n, 1 / (3 * size)) for count in times)
    pairs = keys[draws][:-1] * 3 + keys[draws][1:]  # one draw says nothing about the next
    assert all(within(count, n - 1, 1 / 9, sigmas=6) for count in np.bincount(pairs, minlength=9))
    repeated = [len(keys) - len(np.unique(weighted(keys, rng(1, epoch)))) for epoch in range(20)]
    assert min(repeated) > 100  # with replacement: balanced draws would repeat none of the large class before its turn


@pytest.mark.parametrize("progress", [0.0, 0.25, 0.5, 0.9, 1.0])
def test_a_schedule_takes_the_share_of_the_second_that_the_progress_says(progress: float) -> None:
    keys = np.repeat(np.arange(2), [900, 100])
    n_epochs = 30
    counts = np.zeros(2)
    for epoch in range(n_epochs):
        drawn = np.concatenate(epoch_batches("natural->balanced", keys, 64, 0, epoch, progress))
        assert len(drawn) == 1000
        counts += np.bincount(keys[drawn], minlength=2)
    n_rare = n_epochs * 1000 * ((1 - progress) * 0.1 + progress * 0.5)
    # the natural part is drawn without replacement, the balanced one is exact: below binomial spread
    assert within(counts[1], n_epochs * 1000, n_rare / (n_epochs * 1000))


def test_the_ends_of_a_schedule_are_its_two_samplers_and_it_is_mixed_between() -> None:
    keys = np.repeat(np.arange(3), [30, 8, 2])
    start = draw_epoch("natural->oversample", keys, rng(0), 0.0)
    assert sorted(start.tolist()) == list(range(40))
    end = draw_epoch("natural->undersample", keys, rng(0), 1.0)
    assert len(end) == 40
    assert set(np.bincount(keys[end]).tolist()) <= {13, 14, 12}
    half = np.concatenate([draw_epoch("natural->undersample", keys, rng(i), 0.5) for i in range(200)])
    first, second = half.reshape(200, 2, 20)[:, 0].ravel(), half.reshape(200, 2, 20)[:, 1].ravel()
    assert abs((keys[first] == 2).mean() - (keys[second] == 2).mean()) < 0.05  # shuffled, not one after the other


@given(st.lists(st.integers(-1, 3), min_size=2, max_size=60), st.sampled_from(sorted(SAMPLERS)), st.integers(0, 5))
def test_unlabelled_samples_are_drawn_once_or_fewer_and_change_nothing_for_the_others(
    targets: list[int], sampler: str, seed: int
) -> None:
    keys = np.array(targets)
    labelled = keys[keys >= 0]
    drawn = draw_epoch(sampler, keys, rng(seed), 0.0)
    unlabelled = drawn[keys[drawn] < 0]
    assert len(np.unique(unlabelled)) == len(unlabelled)
    if len(labelled):
        alone = draw_epoch(sampler, labelled, rng(seed + 100), 0.0)
        assert len(drawn) - len(unlabelled) == len(alone)
        share = min(1.0, len(alone) / len(labelled))
        assert len(unlabelled) == round(share * (len(keys) - len(labelled)))
        counts, expected = (np.bincount(k, minlength=4) for k in (keys[drawn][keys[drawn] >= 0], labelled[alone]))
        if sampler != "weighted":
            assert sorted(counts.tolist()) == sorted(expected.tolist())
    else:
        assert len(drawn) == len(keys)


def test_joint_keys_number_the_combinations_that_are_there() -> None:
    mask, age = np.array([0, 0, 2, 2, -1, 1]), np.array([1, 0, 1, 1, 1, -1])
    assert joint_keys([mask, age]).tolist() == [1, 0, 2, 2, -1, -1]
    assert joint_keys([mask]).tolist() == [0, 0, 2, 2, -1, 1]


def test_a_sampler_of_ones_own() -> None:
    def first_half(keys: np.ndarray, generator: np.random.Generator, progress: float) -> np.ndarray:
        return np.arange(len(keys) // 2)

    assert find_sampler(first_half) is first_half
    assert name_of(first_half).endswith("first_half")
    assert name_of("weighted") == "weighted"
    batches = epoch_batches(first_half, np.zeros(20, dtype=np.int64), 5, 0, 1)
    assert np.concatenate(batches).tolist() == list(range(10))

    def outside(keys: np.ndarray, generator: np.random.Generator, progress: float) -> np.ndarray:
        return np.array([0, len(keys)])

    with pytest.raises(UsageError, match="outside: expected positions from 0 to 3, found 0 to 4"):
        epoch_batches(outside, np.zeros(4, dtype=np.int64), 2, 0, 1)


def test_epochs_and_seeds_draw_in_different_orders() -> None:
    targets = np.zeros(50, dtype=np.int64)
    orders = {
        tuple(np.concatenate(epoch_batches("natural", targets, 8, seed, epoch)).tolist())
        for seed in range(3)
        for epoch in range(3)
    }
    assert len(orders) == 9


@pytest.mark.parametrize(
    ("sampler", "size", "message"),
    [
        ("balancd", 8, 'no sampler "balancd"; did you mean "balanced"'),
        ("natural->balancd", 8, 'no sampler "balancd"; did you mean "balanced"'),
        ("->balanced", 8, 'no sampler ""'),
        ("natural", 1, "batch size: expected at least 2"),
    ],
)
def test_bad_calls(sampler: str, size: int, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        epoch_batches(sampler, np.zeros(4, dtype=np.int64), size, 0, 1)
