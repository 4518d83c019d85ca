"""Photos of different people that are one photo: the same bytes, or nearly the same picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ensemble_kit.arrays import IntArray
from ensemble_kit.data_report.hashing import FAR, NEAR, near_pairs, nearest_other
from ensemble_kit.data_report.looks import Looks
from ensemble_kit.data_report.photos import Photo, Photos

MOST_TOLD = 1000
"""Pairs of people that are told one by one."""

SAMPLE = 2000
"""Photos whose nearest other is looked for, for the picture of how near photos of different people are anyway."""


@dataclass(frozen=True)
class Pair:
    """Two people (or photos of nobody known) that share photos, by their closest two.

    Attributes:
        one, other: the closest two photos.
        distance: bits that differ, 0 to `NEAR`.
        is_same_file: the same bytes.
        is_mirrored: one is the other in a mirror.
        n_photos: photo pairs of the two people that are close.
        differing: attribute -> the two labels, where they differ.
    """

    one: Photo
    other: Photo
    distance: int
    is_same_file: bool
    is_mirrored: bool
    n_photos: int
    differing: dict[str, tuple[str, str]]

    @property
    def is_across_parts(self) -> bool:
        """One is trained on and the other scored."""
        return "evaluation" in (self.one.part, self.other.part) and self.one.part != self.other.part

    @property
    def is_across_folds(self) -> bool:
        """Both are trained on, in some fold one of them while the other is held out."""
        return "evaluation" not in (self.one.part, self.other.part) and self.one.fold != self.other.fold

    def to_json(self) -> dict[str, Any]:
        return {
            "one": self.one.to_json(),
            "other": self.other.to_json(),
            "bits_differing": self.distance,
            "same_file": self.is_same_file,
            "mirrored": self.is_mirrored,
            "photo_pairs": self.n_photos,
            "labels_differing": {name: list(pair) for name, pair in self.differing.items()},
            "across_parts": self.is_across_parts,
            "across_folds": self.is_across_folds,
        }


@dataclass(frozen=True)
class Duplicates:
    """What was found.

    Attributes:
        pairs: same files first, then by distance; the first `MOST_TOLD`.
        n_pairs: of people (or photos of nobody known) in all.
        n_compared: photos with enough contrast to be compared.
        n_flat: photos without.
        is_cut: there were too many to go on.
        same_person: files that occur several times among one person's photos.
        nearest: bits to the nearest photo of somebody else -> photos, of up to `SAMPLE` photos.
        n_sampled: these.
        eval_people_known: else photos of the evaluation part are compared with the others only.
    """

    pairs: tuple[Pair, ...]
    n_pairs: int
    n_compared: int
    n_flat: int
    is_cut: bool
    same_person: int
    nearest: dict[int, int]
    n_sampled: int
    eval_people_known: bool

    @property
    def typical_nearest(self) -> int | None:
        """The median of `nearest`."""
        if not self.n_sampled:
            return None
        bits = np.repeat(list(self.nearest), list(self.nearest.values()))
        return int(np.sort(bits)[(len(bits) - 1) // 2])

    def to_json(self) -> dict[str, Any]:
        return {
            "pairs": [pair.to_json() for pair in self.pairs],
            "n_pairs": self.n_pairs,
            "compared": self.n_compared,
            "too_flat": self.n_flat,
            "cut": self.is_cut,
            "same_file_of_one_person": self.same_person,
            "limit_bits": NEAR,
            "nearest_other_bits": {str(bits): n for bits, n in self.nearest.items()},
            "sampled": self.n_sampled,
            "eval_people_known": self.eval_people_known,
        }


def find_duplicates(photos: Photos) -> Duplicates:
    """Near-duplicates across people and across the parts; photos of one person are alike anyway."""
    looks, code = photos.looks, photos.code
    same, n_same_person, stands_for = _same_files(looks, code)
    compared = np.flatnonzero(stands_for & ~looks.is_flat)
    found = near_pairs(looks.words[compared], code[compared])
    rows = np.concatenate([same, compared[found.rows]])
    distance = np.concatenate([np.full(len(same), -1, dtype=np.int64), found.distance])
    mirrored = np.concatenate([np.zeros(len(same), dtype=np.bool_), found.is_mirrored])
    sample = np.unique(np.linspace(0, len(compared) - 1, min(SAMPLE, len(compared))).round().astype(np.int64))
    bits = nearest_other(looks.words[compared], code[compared], sample)
    levels, counts = np.unique(bits[bits < FAR], return_counts=True)
    known = [has for name, has in zip(photos.names, photos.has_people, strict=True) if name == "evaluation"]
    pairs, n_pairs = _by_people(photos, rows, distance, mirrored)
    return Duplicates(
        pairs=pairs,
        n_pairs=n_pairs,
        n_compared=int((looks.is_decoded & ~looks.is_flat).sum()),
        n_flat=int((looks.is_decoded & looks.is_flat).sum()),
        is_cut=found.is_cut,
        same_person=n_same_person,
        nearest=dict(zip(levels.tolist(), counts.tolist(), strict=True)),
        n_sampled=int(counts.sum()),
        eval_people_known=all(known),
    )


def _same_files(looks: Looks, code: IntArray) -> tuple[IntArray, int, np.ndarray[Any, Any]]:
    """Pairs of the same bytes across codes, each with the first of its kind; how many repeat inside one code; and
    which photos stand for their kind from here on."""
    first: dict[str, int] = {}
    pairs, n_same_person = [], 0
    stands_for = looks.is_decoded.copy()
    seen: set[tuple[str, int]] = set()
    for at in np.flatnonzero(looks.is_decoded).tolist():
        digest, own = looks.sha256[at], int(code[at])
        earlier = first.setdefault(digest, at)
        if (digest, own) in seen:
            n_same_person += 1
        elif earlier != at:
            pairs.append((earlier, at))
        seen.add((digest, own))
        stands_for[at] &= earlier == at
    return np.array(pairs, dtype=np.int64).reshape(-1, 2), n_same_person, stands_for


def _by_people(
    photos: Photos, rows: IntArray, distance: IntArray, mirrored: np.ndarray[Any, Any]
) -> tuple[tuple[Pair, ...], int]:
    """One pair for two people, by their closest photos; `distance` -1 = the same file."""
    count: dict[tuple[int, int], int] = {}
    closest: dict[tuple[int, int], int] = {}
    codes = photos.code[rows]
    unknown = _unknown_people(photos)
    for number, (pair, (a, b)) in enumerate(zip(codes.tolist(), rows.tolist(), strict=True)):
        key = (a if a in unknown else -1 - pair[0], b if b in unknown else -1 - pair[1])
        key = (min(key), max(key))
        count[key] = count.get(key, 0) + 1
        closest.setdefault(key, number)
    told = tuple(
        _pair(photos, rows[number].tolist(), int(distance[number]), bool(mirrored[number]), count[key])
        for key, number in list(closest.items())[:MOST_TOLD]
    )
    return told, len(closest)


def _unknown_people(photos: Photos) -> set[int]:
    """Photos of an evaluation part whose people nobody knows: each stands for itself."""
    part = [
        n
        for n, (name, has) in enumerate(zip(photos.names, photos.has_people, strict=True))
        if name == "evaluation" and not has
    ]
    return set(np.flatnonzero(np.isin(photos.looks.part, part)).tolist())


def _pair(photos: Photos, rows: Sequence[int], distance: int, is_mirrored: bool, n_photos: int) -> Pair:
    one, other = photos.photos(rows)
    both = one.labels.keys() & other.labels.keys()
    differing = {
        name: (one.labels[name], other.labels[name])
        for name in one.labels
        if name in both and one.labels[name] != other.labels[name]
    }
    return Pair(one, other, max(distance, 0), distance < 0, is_mirrored, n_photos, differing)
