"""Mixed photos and targets: shares by area, by hand and within statistical bounds."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ensemble_kit.errors import UsageError
from ensemble_kit.training.mixing import MIXERS, Mixer, cutmix, find_mixer, half_cutmix, mix_batch, mixup


def batch(n: int = 5, height: int = 6, width: int = 8) -> tuple[Tensor, Tensor]:
    """Photo i is i everywhere and its target class i: what is mixed in can be read off."""
    photos = torch.arange(n, dtype=torch.float32).view(n, 1, 1, 1).expand(n, 3, height, width).contiguous()
    return photos, torch.eye(n)


def rng(*seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


sizes = st.tuples(st.integers(2, 6), st.integers(2, 9), st.integers(2, 9))


@given(st.sampled_from([*MIXERS, "mixup=1", "cutmix=0.3"]), sizes, st.integers(0, 10**6))
@settings(max_examples=60, deadline=None)
def test_targets_are_the_shares_of_the_photos_that_are_seen(name: str, size: tuple[int, int, int], seed: int) -> None:
    photos, targets = batch(*size)
    kept = photos.clone()
    mixed, shares = find_mixer(name)(photos, targets, rng(seed))
    assert torch.equal(photos, kept)
    assert torch.equal(targets, torch.eye(size[0]))
    assert mixed.shape == photos.shape
    torch.testing.assert_close(shares.sum(dim=1), torch.ones(size[0]))
    assert (shares >= 0).all()
    # photo i has the value i, so that a photo's mean is the mean class number of its target
    torch.testing.assert_close(mixed.mean(dim=(1, 2, 3)), shares @ torch.arange(size[0], dtype=torch.float32))
    if not name.startswith("mixup"):  # pixels come from one photo or the other
        for photo, share in zip(mixed, shares, strict=True):
            counts = torch.bincount(photo[0].flatten().long(), minlength=size[0]) / photo[0].numel()
            torch.testing.assert_close(counts, share)


@pytest.mark.parametrize("alpha", [0.2, 1.0, 3.0])
def test_mixup_draws_its_share_from_beta(alpha: float) -> None:
    photos, targets = batch(2, 1, 1)
    shares = []
    for seed in range(1500):
        _, mixed = mixup(alpha, photos, targets, rng(seed))
        if mixed[0, 1] > 0 or mixed[0, 0] < 1:  # the partner was the other one
            shares.append(float(mixed[0, 0]))
    n = len(shares)
    assert 600 < n < 900
    variance = 1 / (4 * (2 * alpha + 1))
    assert np.mean(shares) == pytest.approx(0.5, abs=5 * math.sqrt(variance / n))
    assert np.var(shares) == pytest.approx(variance, rel=0.25)


def test_the_box_of_cutmix_is_one_rectangle_and_its_actual_area_decides() -> None:
    photos, targets = batch(2, 20, 30)
    areas = []
    for seed in range(150):
        mixed, shares = cutmix(1.0, photos, targets, rng(seed))
        inside = mixed[0, 0] != 0
        if not inside.any():
            assert shares[0].tolist() == [1, 0]
            continue
        rows, columns = (inside.any(dim=d).nonzero().flatten() for d in (1, 0))
        assert inside.sum() == len(rows) * len(columns)
        assert int(rows[-1] - rows[0]) == len(rows) - 1
        assert int(columns[-1] - columns[0]) == len(columns) - 1
        assert float(shares[0, 1]) == pytest.approx(float(inside.float().mean()))
        areas.append(float(shares[0, 1]))
    # drawn uniformly (Beta(1, 1)) and then cut off at the edges: less than a half on average
    assert 0.15 < np.mean(areas) < 0.5


def test_half_cutmix_puts_left_beside_right() -> None:
    photos, targets = batch(3, 4, 6)
    mixed, shares = half_cutmix(photos, targets, rng(1))
    other = mixed[:, 0, 0, 5].long()
    assert sorted(other.tolist()) == [0, 1, 2]
    assert torch.equal(mixed[..., :3], photos[..., :3])
    assert torch.equal(mixed[..., 3:], photos[other][..., 3:])
    torch.testing.assert_close(shares, 0.5 * torch.eye(3) + 0.5 * torch.eye(3)[other])
    _, odd = half_cutmix(*batch(3, 4, 5), rng(1))
    torch.testing.assert_close(odd, 0.4 * torch.eye(3) + 0.6 * torch.eye(3)[other])


def test_the_share_of_batches_that_are_mixed() -> None:
    photos, targets = batch(4, 2, 4)
    for share in (0.0, 0.3, 1.0):
        n_mixed = sum(
            mix_batch(["half_cutmix"], share, photos, targets, (0, 0, 1, step))[0] is not photos for step in range(1000)
        )
        assert abs(n_mixed - 1000 * share) <= 5 * math.sqrt(1000 * share * (1 - share))
    assert mix_batch([], 1.0, photos, targets, (0, 0, 1, 1)) == (photos, targets)


def test_several_mixers_take_turns_at_random() -> None:
    photos, targets = batch(4, 4, 4)
    used: Counter[str] = Counter()

    def noting(name: str) -> Mixer:
        def mix(photos: Tensor, targets: Tensor, generator: np.random.Generator) -> tuple[Tensor, Tensor]:
            used[name] += 1
            return find_mixer(name)(photos, targets, generator)

        return mix

    for step in range(600):
        mix_batch([noting("mixup"), noting("cutmix")], 1.0, photos, targets, (0, 0, 1, step))
    assert abs(used["mixup"] - 300) <= 5 * math.sqrt(150)
    assert sum(used.values()) == 600


def test_what_is_drawn_depends_on_seed_fold_epoch_and_step_alone() -> None:
    photos, targets = batch(6, 4, 4)

    def drawn(*seed: int) -> bytes:
        return mix_batch(["mixup"], 1.0, photos, targets, seed)[0].numpy().tobytes()

    seeds = [(0, 0, 1, 0), (1, 0, 1, 0), (0, 1, 1, 0), (0, 0, 2, 0), (0, 0, 1, 1)]
    first = [drawn(*seed) for seed in seeds]
    torch.rand(3)
    assert [drawn(*seed) for seed in reversed(seeds)] == first[::-1]
    assert len(set(first)) == len(seeds)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("cutmx", 'no mixing "cutmx"; did you mean "cutmix"'),
        ("mixup=0", 'mixing "mixup": expected a number above 0, found 0; write "mixup=1"'),
        ("mixup=x", 'expected a number, found "x"; write "mixup=0.2"'),
        ("half_cutmix=1", 'mixing "half_cutmix" takes no number'),
    ],
)
def test_mixings_that_make_no_sense(name: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        find_mixer(name)


def test_a_function_of_ones_own() -> None:
    assert find_mixer(half_cutmix) is half_cutmix
