"""Which samples an epoch visits, in which order, and how they are cut into batches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from ensemble_kit.arrays import IntArray
from ensemble_kit.errors import UsageError, nearest
from ensemble_kit.named import name_of

Sampler = Callable[[IntArray, np.random.Generator, float], IntArray]
"""(keys `(n_samples,)`, generator, progress) -> positions `(n_draws,)` of one epoch, in order.

keys: the class number of what is balanced over; every sample has one here.
progress: 0 in the first epoch of the training, 1 in the last.
"""


def natural(keys: IntArray, generator: np.random.Generator, progress: float = 0.0) -> IntArray:  # noqa: ARG001
    """Each sample once, in random order."""
    return generator.permutation(len(keys))


def balanced(keys: IntArray, generator: np.random.Generator, progress: float = 0.0) -> IntArray:  # noqa: ARG001
    """As many draws as samples, each class equally often (to within one draw); rare classes repeat their samples.

    A class's samples are all drawn before one is drawn again, so that no photo is left out by chance.
    """
    classes = np.unique(keys)
    shares = np.full(len(classes), len(keys) // len(classes))
    shares[generator.permutation(len(classes))[: len(keys) % len(classes)]] += 1
    return _draw_shares(keys, classes, shares, generator)


def weighted(keys: IntArray, generator: np.random.Generator, progress: float = 0.0) -> IntArray:  # noqa: ARG001
    """As many draws as samples, at random with replacement, each sample by the inverse of its class's frequency.

    Every class is as probable as any other in each draw (torch's `WeightedRandomSampler` with such weights).
    """
    _, inverse, counts = np.unique(keys, return_inverse=True, return_counts=True)
    chances = 1 / (len(counts) * counts[inverse.ravel()])
    return generator.choice(len(keys), size=len(keys), replace=True, p=chances / chances.sum())


def oversample(keys: IntArray, generator: np.random.Generator, progress: float = 0.0) -> IntArray:  # noqa: ARG001
    """Every class as often as the largest one: all samples at least once, those of rarer classes repeatedly."""
    classes, counts = np.unique(keys, return_counts=True)
    return _draw_shares(keys, classes, np.full(len(classes), counts.max()), generator)


def undersample(keys: IntArray, generator: np.random.Generator, progress: float = 0.0) -> IntArray:  # noqa: ARG001
    """Every class as often as the smallest one, no sample twice; another part of the larger classes each epoch."""
    classes, counts = np.unique(keys, return_counts=True)
    return _draw_shares(keys, classes, np.full(len(classes), counts.min()), generator)


def _draw_shares(keys: IntArray, classes: IntArray, shares: IntArray, generator: np.random.Generator) -> IntArray:
    """So many draws of each class, in random order; all of a class's samples before one of them again."""
    drawn = []
    for number, share in zip(classes, shares, strict=True):
        members = np.flatnonzero(keys == number)
        rounds = [generator.permutation(members) for _ in range(-(-int(share) // len(members)))]
        drawn.append(np.concatenate([*rounds, members[:0]])[:share])
    return generator.permutation(np.concatenate(drawn))


SAMPLERS: dict[str, Sampler] = {
    "natural": natural,
    "balanced": balanced,
    "weighted": weighted,
    "oversample": oversample,
    "undersample": undersample,
}
"""A further sampler is one function and one row here; two names with an arrow between them are a schedule."""

ARROW = "->"


def find_sampler(sampler: str | Sampler) -> Sampler:
    """The sampler of a name, of a schedule ("natural->balanced"), or the function itself.

    Raises:
        UsageError: an unknown name.
    """
    if callable(sampler):
        return sampler
    first, arrow, second = (part.strip() for part in sampler.partition(ARROW))
    names = (first, second) if arrow else (first,)
    for name in names:
        if name not in SAMPLERS:
            raise UsageError(f'no sampler "{name}"{nearest(name, SAMPLERS)}')
    return partial(_scheduled, SAMPLERS[first], SAMPLERS[second]) if arrow else SAMPLERS[first]


def _scheduled(
    first: Sampler, second: Sampler, keys: IntArray, generator: np.random.Generator, progress: float
) -> IntArray:
    """As many draws as the first sampler makes, a share `progress` of them taken from the second one's."""
    before, after = first(keys, generator, progress), second(keys, generator, progress)
    n_after = round(progress * len(before))
    rounds = [after] * -(-n_after // len(after))
    drawn = np.concatenate([before[: len(before) - n_after], *rounds])[: len(before)]
    return generator.permutation(drawn) if 0 < progress < 1 else drawn


def joint_keys(columns: Sequence[IntArray]) -> IntArray:
    """One key for each combination of several columns of class numbers `(n_samples,)`; -1 where one of them is -1.

    Examples:
        >>> joint_keys([np.array([0, 0, 1, -1]), np.array([2, 0, 2, 2])]).tolist()
        [1, 0, 2, -1]
    """
    rows = np.stack(columns, axis=1)
    is_labelled = np.asarray((rows >= 0).all(axis=1))
    keys = np.full(len(rows), -1, dtype=np.int64)
    keys[is_labelled] = np.unique(rows[is_labelled], axis=0, return_inverse=True)[1].ravel()
    return keys


def draw_epoch(sampler: str | Sampler, keys: IntArray, generator: np.random.Generator, progress: float) -> IntArray:
    """The positions of one epoch; samples without a key keep the share of the epoch that they have by nature.

    Each unlabelled sample (key -1) is drawn once, or, where the sampler draws fewer labelled samples than there are, in
    proportion fewer of them.

    Args:
        sampler: see `find_sampler`.
        keys: `(n_samples,)`, -1 = unlabelled.
        progress: 0 in the first epoch, 1 in the last.
    """
    labelled = np.flatnonzero(keys >= 0)
    if len(labelled) == len(keys):
        return _drawn(sampler, keys, generator, progress)
    unlabelled = generator.permutation(np.flatnonzero(keys < 0))
    if not len(labelled):
        return unlabelled
    drawn = labelled[_drawn(sampler, keys[labelled], generator, progress)]
    n_unlabelled = min(len(unlabelled), round(len(unlabelled) * len(drawn) / len(labelled)))
    return generator.permutation(np.concatenate([drawn, unlabelled[:n_unlabelled]]))


def _drawn(sampler: str | Sampler, keys: IntArray, generator: np.random.Generator, progress: float) -> IntArray:
    drawn = np.asarray(find_sampler(sampler)(keys, generator, progress), dtype=np.int64)
    if not len(drawn) or drawn.min() < 0 or drawn.max() >= len(keys):
        found = f"{drawn.min()} to {drawn.max()}" if len(drawn) else "none"
        raise UsageError(f"sampler {name_of(sampler)}: expected positions from 0 to {len(keys) - 1}, found {found}")
    return drawn


def epoch_batches(
    sampler: str | Sampler, keys: IntArray, batch_size: int, seed: int, epoch: int, progress: float = 0.0
) -> list[IntArray]:
    """The batches of one epoch, as positions into `keys`; the same for the same (seed, epoch, progress).

    A last batch of one sample joins the batch before it: batch norm cannot train on a single sample.

    Raises:
        UsageError: an unknown sampler, or a batch size of 1.
    """
    find_sampler(sampler)
    if batch_size < 2:
        raise UsageError(f"batch size: expected at least 2 (batch norm needs two photos), found {batch_size}")
    order = draw_epoch(sampler, keys, np.random.Generator(np.random.PCG64([seed, epoch, 1])), progress)
    starts = list(range(0, len(order), batch_size))
    if len(starts) > 1 and len(order) - starts[-1] == 1:
        starts.pop()
    ends = [*starts[1:], len(order)]
    return [order[start:end] for start, end in zip(starts, ends, strict=True)]
