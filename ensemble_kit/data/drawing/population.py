"""Who is drawn: genders, ages, looks, and how strongly each part of a face shows an age."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ensemble_kit.arrays import IntArray

AGE_CAP = 60
"""As in the users' data, everybody of 60 and over is recorded as 60."""
GENDERS = ("male", "female")
STATES = ("worn", "incorrect", "not_worn")
_DECOY, _MIDDLE = 0.4, 0.4
"""What does not tell the age is drawn less far from `_MIDDLE`, so that few photos suffice to learn what does."""
EvalLike = Literal["training", "shifted"]

_TRAINING: NDArray[np.float64] = np.array([[2745, 2050, 415], [3660, 4085, 545]]) / 13500
"""Shares of gender x age class (<30, 30-59, >=60) among the task's training people."""
_SPANS = ((18, 30), (30, 60), (60, 78))
_PERSON_NOISE = 1.0
_PHOTO_NOISE = 0.8
"""Years between an age and what shows of it, once a person and mask state, once a photo: these blur the borders."""


def shares(like: EvalLike) -> NDArray[np.float64]:
    """Shares `(2, 3)` of gender x age class; "shifted" has 60 % men and 26 % aged 60 and over."""
    if like == "training":
        return _TRAINING
    under_60 = _TRAINING[:, :2] / _TRAINING[:, :2].sum(axis=1, keepdims=True)
    by_gender = np.concatenate([under_60 * 0.74, [[0.26], [0.26]]], axis=1)
    by_both: NDArray[np.float64] = by_gender * np.array([[0.60], [0.40]])
    return by_both


def head_counts(people: int, like: EvalLike) -> IntArray:
    """People `(2, 3)` per gender x age class: the shares up to rounding, at least two each from 30 people on."""
    wanted = shares(like) * people
    counts = np.floor(wanted).astype(np.int64)
    largest = np.argsort(-(wanted - counts), axis=None, kind="stable")
    counts.flat[largest[: people - counts.sum()]] += 1
    if people >= 30:
        while counts.min() < 2:
            counts.flat[counts.argmax()] -= 1
            counts.flat[counts.argmin()] += 1
    return counts


@dataclass(frozen=True)
class Person:
    """One drawn person. `gender` 0 male, 1 female; `age` as recorded; `look_age` what the face shows, to 78."""

    seed: tuple[int, ...]
    gender: int
    age: int
    look_age: float


def draw_people(people: int, like: EvalLike, seed: tuple[int, ...]) -> list[Person]:
    """`people` persons in random order with the head counts of `like`."""
    rng = np.random.default_rng(seed)
    cells = np.repeat(np.arange(6), head_counts(people, like).ravel())
    drawn = []
    for number, cell in enumerate(rng.permutation(cells)):
        look_age = rng.uniform(*_SPANS[cell % 3])
        drawn.append(Person((*seed, number), int(cell) // 3, min(int(look_age), AGE_CAP), look_age))
    return drawn


def typical_age(rng: np.random.Generator) -> float:
    """A look age with the training people's distribution, whoever is asked about."""
    return float(rng.uniform(*_SPANS[rng.choice(3, p=_TRAINING.sum(axis=0))]))


@dataclass(frozen=True)
class Cues:
    """How old three parts of a face look, each 0 (18 years) to 1 (78 years).

    `upper`: brows, forehead, corners of the eyes, temples. `middle`: nose and cheeks. `lower`: mouth, jaw, beard, neck.
    """

    upper: float
    middle: float
    lower: float


TELLING = {"worn": "upper", "incorrect": "middle", "not_worn": "lower"}
"""The one part of the face that tells the age in each mask state; what the others show is independent of it."""


def cue_ages(person: Person, state: str, rng: np.random.Generator) -> Cues:
    """What the three parts of the face show in one photo of a person.

    Args:
        person: who is drawn.
        state: a name of `STATES`.
        rng: for this photo's own noise.

    Returns:
        The part `TELLING[state]` follows the person's age with noise; the two others follow ages drawn once a person
        from the training people's distribution, independent of the true age.
    """
    own = np.random.default_rng((*person.seed, 1))
    decoys = {part: typical_age(own) for part in TELLING.values()}
    offsets = dict(zip(STATES, own.normal(0, _PERSON_NOISE, len(STATES)), strict=True))
    photo = dict(zip(decoys, rng.normal(0, _PHOTO_NOISE, len(decoys)), strict=True))
    shown = {part: _MIDDLE + _DECOY * (_shown(age + photo[part]) - _MIDDLE) for part, age in decoys.items()}
    own_part = TELLING[state]
    return Cues(**{**shown, own_part: _shown(person.look_age + offsets[state] + photo[own_part])})


def _shown(age: float) -> float:
    """What an age looks like, 0 to 1: it shows quickest around 30 and around 60, slowly in between."""
    steady = (age - _SPANS[0][0]) / (_SPANS[-1][1] - _SPANS[0][0])
    shown = 0.10 * steady + 0.55 * _rise((age - 30.0) / 1.2) + 0.35 * _rise((age - 60.0) / 1.2)
    return float(np.clip(shown, 0, 1))


def _rise(value: float) -> float:
    return float(1 / (1 + np.exp(-value)))
