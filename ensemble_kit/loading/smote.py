"""SMOTE: samples of rare classes made up between real ones, in the space of frozen features."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ensemble_kit.arrays import FloatArray, IntArray
from ensemble_kit.errors import UsageError


@dataclass(frozen=True)
class Between:
    """Made-up samples, each on the line from one real sample to another: `base + gap * (other - base)`.

    Attributes:
        base, other: `(n_new,)` row numbers.
        gap: `(n_new,)` how far from `base` to `other`, from 0, below 1.
    """

    base: IntArray
    other: IntArray
    gap: FloatArray

    def of(self, values: FloatArray) -> FloatArray:
        """What rows `(n_samples, n_columns)` (features, or target distributions) are at the made-up samples."""
        gap = self.gap[:, None].astype(values.dtype)
        return np.asarray(values[self.base] + gap * (values[self.other] - values[self.base]))


def smote(
    features: FloatArray, keys: IntArray, generator: np.random.Generator, k: int = 5
) -> tuple[FloatArray, IntArray]:
    """The samples, followed by made-up ones that bring every class up to the largest (Chawla et al. 2002).

    Args:
        features: `(n_samples, n_features)`.
        keys: `(n_samples,)` class numbers; -1 = unlabelled: left as they are.
        generator: what is made up depends on it alone.
        k: neighbours to choose among; of a smaller class all others.

    Returns:
        features `(n_samples + n_new, n_features)` and keys of the same length.

    Raises:
        UsageError: features and keys of different lengths, or k below 1.
    """
    new = smote_between(features, keys, generator, k)
    return np.concatenate([features, new.of(features)]), np.concatenate([keys, keys[new.base]])


def smote_between(features: FloatArray, keys: IntArray, generator: np.random.Generator, k: int = 5) -> Between:
    """Which made-up samples `smote` adds: class by class, a sample and one of its k nearest of the same class.

    All samples of a class are a base before one of them is again. The only sample of a class is repeated as it is:
    it has no neighbour.

    Args, Raises: as `smote`.
    """
    if len(features) != len(keys) or k < 1:
        raise UsageError(
            f"smote: expected one key a sample and k from 1, found {len(features)} samples, {len(keys)} keys, k={k}"
        )
    classes, counts = np.unique(keys[keys >= 0], return_counts=True)
    parts = [
        _within(features, np.flatnonzero(keys == number), int(counts.max()) - int(count), generator, k)
        for number, count in zip(classes, counts, strict=True)
    ]
    if not parts:
        return Between(np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64), np.zeros(0))
    return Between(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))


def _within(
    features: FloatArray, members: IntArray, n_new: int, generator: np.random.Generator, k: int
) -> tuple[IntArray, IntArray, FloatArray]:
    rounds = [generator.permutation(members.size) for _ in range(-(-n_new // members.size))]
    base = np.concatenate([*rounds, np.zeros(0, dtype=np.int64)])[:n_new].astype(np.int64)
    gap = generator.random(n_new)
    if members.size == 1 or not n_new:
        return members[base], members[base], gap
    near = _nearest(features[members], min(k, members.size - 1))
    other = near[base, generator.integers(near.shape[1], size=n_new)]
    return members[base], members[other], gap


def _nearest(features: FloatArray, k: int) -> IntArray:
    """`(n_samples, k)` the nearest other rows of each row, by Euclidean distance."""
    from sklearn.neighbors import NearestNeighbors

    search = NearestNeighbors(n_neighbors=k).fit(features)
    return np.asarray(search.kneighbors(return_distance=False), dtype=np.int64)  # without X: a row is not its own
