"""Votes on labels alone, for voters that left no probabilities, such as submissions.

labels: `(n_voters, n_samples)` class numbers, -1 = abstained.

Voters are compared in pairs, as the smallest integers that hold the classes: of five voters ten comparisons tell how
many agree with each, with no table of samples by classes.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ensemble_kit.arrays import FloatArray, IntArray
from ensemble_kit.errors import DataError, UsageError
from ensemble_kit.schema import Schema
from ensemble_kit.voting.rules import LEVEL, class_order, vote_soft
from ensemble_kit.voting.table import check_weights

Ints = NDArray[np.signedinteger]

BLOCK_ROWS = 2**14

MAX_CLASSES = 2**20
"""A weighted vote and a class share one 64-bit number."""

UNITS = 2.0**42
"""The weights' sum, in the whole numbers that weighted votes are compared as: 0.1 + 0.2 equals 0.3 then."""


class Voted(NamedTuple):
    """What a vote on labels gives.

    Attributes:
        labels: `(n_samples,)` class numbers, -1 where every voter abstained.
        share: `(n_samples,)` of the weight of those who spoke, how much named that label; 0 where nobody spoke.
    """

    labels: IntArray
    share: FloatArray


def vote_labels(
    labels: ArrayLike,
    n_classes: int,
    weights: ArrayLike | None = None,
    *,
    counts: ArrayLike | None = None,
    probs: FloatArray | None = None,
) -> Voted:
    """The class with the most votes; ties fall to the highest mean probability, the training counts, the lowest class.

    Args:
        labels: `(n_voters, n_samples)` class numbers, -1 = abstained.
        n_classes: how many classes there are.
        weights: `(n_voters,)` >= 0; all 1 when left out. A voter of weight 0 is as good as absent.
        counts: `(n_classes,)` training samples of each class, for ties.
        probs: `(n_voters, n_samples, n_classes)`, for ties; looked at only where there is one.

    Raises:
        UsageError: shapes that do not fit together, weights or counts that cannot be.
        DataError: labels that are no class numbers.

    Examples:
        >>> vote_labels([[0, 2, 1], [1, 2, -1], [1, 0, -1]], 3).labels.tolist()
        [1, 2, 1]
        >>> vote_labels([[0], [1]], 2, counts=[10, 90]).labels.tolist()
        [1]
    """
    given = _check_labels(labels)
    if not 1 <= n_classes <= MAX_CLASSES:
        raise UsageError(f"vote: expected 1 to {MAX_CLASSES} classes, found {n_classes}")
    own = np.ones(len(given)) if weights is None else np.asarray(weights, dtype=np.float64)
    if own.shape != (len(given),):
        raise UsageError(f"vote: expected a weight for each of {len(given)} voters, found shape {own.shape}")
    check_weights(own)
    if probs is not None and probs.shape != (*given.shape, n_classes):
        raise UsageError(f"vote: expected probs of shape {(*given.shape, n_classes)}, found {probs.shape}")
    place = None if counts is None else class_order(counts)
    if place is not None and len(place) != n_classes:
        raise UsageError(f"vote: expected a training count for each of {n_classes} classes, found {len(place)}")
    present = np.flatnonzero(own)
    n_samples = given.shape[1]
    voted = Voted(np.empty(n_samples, dtype=np.int64), np.empty(n_samples, dtype=np.float64))
    for start in range(0, n_samples, BLOCK_ROWS):
        rows = slice(start, min(start + BLOCK_ROWS, n_samples))
        places = _places(given[present, rows], n_classes, place)
        known = None if probs is None else (probs[present, rows], own[present], place)
        voted.labels[rows], voted.share[rows] = _vote_block(places, n_classes, own[present], known)
    if place is not None:  # from places in the order of training counts back to classes
        class_at = np.append(np.argsort(place), -1)
        np.take(class_at, voted.labels, out=voted.labels)
    return voted


def vote_labels_by_attribute(
    labels: ArrayLike,
    schema: Schema,
    weights: ArrayLike | None = None,
    *,
    counts: ArrayLike | None = None,
    probs: FloatArray | None = None,
) -> Voted:
    """Each attribute's class voted on apart, then put together to a joint class.

    Where a taxonomy has no such combination, the joint vote's class is taken. Ties as in `vote_labels`, by the
    attribute's own mean probability and training counts.

    Args:
        labels: `(n_voters, n_samples)` joint classes, -1 = abstained.
        schema: the joint classes.
        weights: `(n_voters,)`.
        counts: `(n_joint,)` training samples of each joint class.
        probs: `(n_voters, n_samples, n_joint)`.

    Returns:
        Joint classes, and the share of the weight that named just that joint class: 0 where no voter did.

    Raises:
        UsageError, DataError: as `vote_labels`.

    Examples:
        >>> from ensemble_kit.schema import Attribute
        >>> schema = Schema(Attribute("mask", ["worn", "not_worn"]), Attribute("gender", ["male", "female"]))
        >>> votes = [[0], [1], [2]]  # worn male, worn female, not worn male
        >>> vote_labels_by_attribute(votes, schema, counts=[1, 9, 9, 9]).labels.tolist()
        [0]
        >>> vote_labels(votes, 4, counts=[1, 9, 9, 9]).labels.tolist()
        [1]
    """
    joint = vote_labels(labels, schema.n_joint, weights, counts=counts, probs=probs)
    given = _check_labels(labels)
    parts = schema.decode(given)
    merged = np.zeros(given.shape[1], dtype=np.int64)
    keys = np.zeros(schema.n_joint, dtype=np.int64)
    for column, attribute in enumerate(schema.attributes):
        number, n_own = schema.paths[:, column], len(attribute.classes)
        own_counts = None if counts is None else np.bincount(number, np.asarray(counts), minlength=n_own)
        own_probs = None if probs is None else _add_classes(probs, number, n_own)
        voted = vote_labels(parts[attribute.name], n_own, weights, counts=own_counts, probs=own_probs)
        merged = merged * n_own + np.maximum(voted.labels, 0)
        keys = keys * n_own + number
    found = np.minimum(np.searchsorted(keys, merged), schema.n_joint - 1)  # paths are in the order of their keys
    result = np.where((keys[found] == merged) & (joint.labels >= 0), found, joint.labels)
    return Voted(result, _share_of(given, result, weights))


def _check_labels(labels: ArrayLike) -> Ints:
    given = np.asarray(labels)
    if given.ndim != 2 or not len(given):
        raise UsageError(f"vote: expected labels of shape (n_voters, n_samples), found {given.shape}")
    if given.dtype.kind == "u" and given.size:
        given = given.astype(np.int64)
    if given.dtype.kind != "i" and given.size:
        raise DataError(f"vote: expected labels as whole numbers, found {given.dtype}")
    return given.astype(np.int64, copy=False) if not given.size else given


def _places(labels: Ints, n_classes: int, place: IntArray | None) -> Ints:
    """The labels in the smallest type that holds them; with training counts each class's place in their order."""
    low, high = labels.min(initial=0), labels.max(initial=-1)
    if low < -1 or high >= n_classes:
        raise DataError(f"vote: labels must be 0 to {n_classes - 1}, or -1 = abstained, found {low} to {high}")
    small = np.min_scalar_type(-n_classes)
    if place is None:
        return labels.astype(small)
    return np.append(place, -1).astype(small)[labels]


def _vote_block(
    places: Ints,
    n_classes: int,
    weights: FloatArray,
    known: tuple[FloatArray, FloatArray, IntArray | None] | None,
) -> tuple[Ints, FloatArray]:
    """The winning place and its share; a key is a voter's support first, then the lower place."""
    bits = max(1, n_classes - 1).bit_length()
    support, most = _support(places, weights)
    key_type = np.min_scalar_type(-(((most + 1) << bits) + 1))
    lowest = (1 << bits) - 1
    keys = support.astype(key_type) << key_type.type(bits)
    keys += lowest - places.astype(key_type)
    silent = places < 0
    some_silent = bool(silent.any())
    if some_silent:
        keys[silent] = -1
    best = keys.max(axis=0)
    winner = lowest - (best & lowest)
    if some_silent:
        winner[best < 0] = -1
    if known is not None:
        _break_ties(winner, places, (keys >> bits) == (best >> bits), known)
    spoken = _spoken(silent, weights, most) if some_silent else most
    share = np.maximum(best >> bits, 0) / np.maximum(spoken, 1)
    return winner, share


def _support(places: Ints, weights: FloatArray) -> tuple[Ints, int]:
    """Each voter's votes for its own label `(n_voters, n_rows)`, itself included, and what all together have."""
    n_voters = len(places)
    if (weights == weights[0]).all():
        count: Ints = np.ones(places.shape, dtype=np.int8 if n_voters < 127 else np.int32)
        for one in range(n_voters):
            for other in range(one + 1, n_voters):
                same = (places[one] == places[other]).view(np.int8)
                count[one] += same
                count[other] += same
        return count, n_voters
    total = np.zeros(places.shape, dtype=np.float64)
    for own, place in zip(total, places, strict=True):
        for other, weight in zip(places, weights, strict=True):
            own += weight * (place == other)
    return np.rint(total * (UNITS / weights.sum())).astype(np.int64), int(UNITS)


def _spoken(silent: NDArray[np.bool_], weights: FloatArray, most: int) -> FloatArray:
    total = np.zeros(silent.shape[1], dtype=np.float64)
    for own, weight in zip(silent, weights, strict=True):
        total += weight * ~own
    return np.asarray(np.rint(total * (most / weights.sum())))


def _break_ties(
    winner: Ints,
    places: Ints,
    leads: NDArray[np.bool_],
    known: tuple[FloatArray, FloatArray, IntArray | None],
) -> None:
    """In place: where several classes lead, that of the highest mean probability."""
    probs, weights, place = known
    rows = np.flatnonzero((leads & (places != winner)).any(axis=0) & (winner >= 0))
    mean = vote_soft(probs[:, rows], weights)
    if place is not None:
        mean = mean[:, np.argsort(place)]
    leading = np.zeros(mean.shape, dtype=np.bool_)
    for own, lead in zip(places[:, rows], leads[:, rows], strict=True):
        leading[np.flatnonzero(lead), own[lead]] = True
    mean = np.where(leading, np.nan_to_num(mean, nan=0.0), -1)
    winner[rows] = (mean > mean.max(axis=1, keepdims=True) - LEVEL).argmax(axis=1)


def _share_of(labels: Ints, result: IntArray, weights: ArrayLike | None) -> FloatArray:
    own = np.ones(len(labels)) if weights is None else np.asarray(weights, dtype=np.float64)
    named, spoken = np.zeros(len(result)), np.zeros(len(result))
    for label, weight in zip(labels, own, strict=True):
        named += weight * ((label == result) & (label >= 0))
        spoken += weight * (label >= 0)
    return np.asarray(np.divide(named, spoken, out=np.zeros_like(named), where=spoken > 0))


def _add_classes(probs: FloatArray, number: IntArray, n_classes: int) -> FloatArray:
    """Joint probabilities as one attribute's, added column by column."""
    total = np.zeros((*probs.shape[:2], n_classes), dtype=np.float64)
    for column, target in enumerate(number):
        total[:, :, target] += probs[:, :, column]
    return total
