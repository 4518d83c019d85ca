"""Epochs: who is drawn, how often, and how batches are cut."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ensemble_kit.errors import UsageError
from ensemble_kit.loading.samplers import SAMPLERS, epoch_batches

targets_lists = st.lists(st.integers(0, 4), min_size=2, max_size=60)


@given(targets_lists, st.sampled_from(sorted(SAMPLERS)), st.integers(2, 9), st.integers(0, 5), st.integers(1, 4))
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
        ("natural", 1, "batch size: expected at least 2"),
    ],
)
def test_bad_calls(sampler: str, size: int, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        epoch_batches(sampler, np.zeros(4, dtype=np.int64), size, 0, 1)
