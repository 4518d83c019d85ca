"""Which samples an epoch visits, in which order, and how they are cut into batches."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ensemble_kit.arrays import IntArray
from ensemble_kit.errors import UsageError, nearest

Sampler = Callable[[IntArray, np.random.Generator], IntArray]
"""(targets `(n_samples,)`, generator) -> positions `(n_draws,)` of one epoch, in order."""


def natural(targets: IntArray, generator: np.random.Generator) -> IntArray:
    """Each sample once, in random order."""
    return generator.permutation(len(targets))


def balanced(targets: IntArray, generator: np.random.Generator) -> IntArray:
    """As many draws as samples, each class equally often (to within one draw); rare classes repeat their samples.

    A class's samples are all drawn before one is drawn again, so that no photo is left out by chance.
    """
    classes = np.unique(targets)
    shares = np.full(len(classes), len(targets) // len(classes))
    shares[generator.permutation(len(classes))[: len(targets) % len(classes)]] += 1
    drawn = []
    for number, share in zip(classes, shares, strict=True):
        members = np.flatnonzero(targets == number)
        rounds = [generator.permutation(members) for _ in range(-(-int(share) // len(members)))]
        drawn.append(np.concatenate([*rounds, members[:0]])[:share])
    return generator.permutation(np.concatenate(drawn))


SAMPLERS: dict[str, Sampler] = {"natural": natural, "balanced": balanced}


def find_sampler(name: str) -> Sampler:
    """The sampler of a name; UsageError when there is none."""
    if name not in SAMPLERS:
        raise UsageError(f'no sampler "{name}"{nearest(name, SAMPLERS)}')
    return SAMPLERS[name]


def epoch_batches(sampler: str, targets: IntArray, batch_size: int, seed: int, epoch: int) -> list[IntArray]:
    """The batches of one epoch, as positions into `targets`; the same for the same (seed, epoch).

    A last batch of one sample joins the batch before it: batch norm cannot train on a single sample.

    Raises:
        UsageError: an unknown sampler, or a batch size of 1.
    """
    draw = find_sampler(sampler)
    if batch_size < 2:
        raise UsageError(f"batch size: expected at least 2 (batch norm needs two photos), found {batch_size}")
    order = draw(targets, np.random.Generator(np.random.PCG64([seed, epoch, 1])))
    starts = list(range(0, len(order), batch_size))
    if len(starts) > 1 and len(order) - starts[-1] == 1:
        starts.pop()
    ends = [*starts[1:], len(order)]
    return [order[start:end] for start, end in zip(starts, ends, strict=True)]
