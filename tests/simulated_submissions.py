"""Simulated submissions of 18 classes whose errors are shared, as those of real teams are: some photos are hard for all."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Population = Callable[[np.random.Generator, int, int], tuple[Ints, Ints]]

SIZES = (3, 2, 3)
N_CLASSES = 18


def scored_attributes(random: np.random.Generator, n_samples: int, n_submissions: int) -> tuple[Ints, Ints]:
    """Each attribute by the highest score, which has a part all models share, a part of the model's family and its own.

    Three in ten are means of two or three models.

    Returns:
        labels `(n_submissions, n_samples)` and truth `(n_samples,)`.
    """
    shared, of_family, spread = random.uniform(0.35, 0.8), random.uniform(0, 0.6), random.uniform(0.03, 0.2)
    n_families = int(random.integers(1, 4))
    margins = [random.uniform(2.6, 4.0), random.uniform(1.8, 3.0), random.uniform(1.2, 2.4)]
    hardness = np.exp(random.normal(0, random.uniform(0.2, 0.6), (3, n_samples)))
    truth = [random.choice(n, n_samples, p=random.dirichlet(np.full(n, 3.0))) for n in SIZES]
    common = [random.normal(size=(n, n_samples)) for n in SIZES]
    families = [random.normal(size=(n_families, n, n_samples)) for n in SIZES]

    def model() -> list[Floats]:
        family, skill = random.integers(n_families), np.exp(random.normal(0, spread))
        loading = np.clip(shared + random.normal(0, 0.05), 0.1, 0.95)
        scores = []
        for a, n in enumerate(SIZES):
            own = np.sqrt((1 - loading) * (1 - of_family)) * random.normal(size=(n, n_samples))
            own += np.sqrt(loading) * common[a] + np.sqrt((1 - loading) * of_family) * families[a][family]
            own = own * hardness[a] + random.normal(0, 0.15, (n, 1))
            own[truth[a], np.arange(n_samples)] += margins[a] * skill
            scores.append(own)
        return scores

    def submission() -> Ints:
        models = [model() for _ in range(int(random.integers(2, 4)) if random.random() < 0.3 else 1)]
        return joined([sum(scores[a] for scores in models).argmax(axis=0) for a in range(3)])  # type: ignore[union-attr]

    return np.array([submission() for _ in range(n_submissions)]), joined(truth)


def hard_photos(random: np.random.Generator, n_samples: int, n_submissions: int) -> tuple[Ints, Ints]:
    """Each photo has a difficulty (beta) and a favourite wrong class; families of models find other photos hard."""
    sharpness, favourite, mean = random.uniform(0.3, 2.5), random.uniform(0.4, 0.9), random.uniform(0.6, 0.85)
    truth = random.choice(N_CLASSES, n_samples, p=random.dirichlet(np.full(N_CLASSES, 1.5)))
    wrong = (truth + random.integers(1, N_CLASSES, n_samples)) % N_CLASSES
    ease = np.clip(random.beta(mean * sharpness, (1 - mean) * sharpness, n_samples), 1e-4, 1 - 1e-4)
    families = random.normal(size=(3, n_samples)) * random.uniform(0, 1.5)
    labels = []
    for _ in range(n_submissions):
        odds = np.log(ease / (1 - ease)) + random.normal(0, 0.4) + families[random.integers(3)]
        right = random.random(n_samples) < 1 / (1 + np.exp(-odds))
        other = (truth + random.integers(1, N_CLASSES, n_samples)) % N_CLASSES
        labels.append(np.where(right, truth, np.where(random.random(n_samples) < favourite, wrong, other)))
    return np.array(labels), truth


POPULATIONS: dict[str, Population] = {"scored attributes": scored_attributes, "hard photos": hard_photos}


def joined(parts: Sequence[Ints]) -> Ints:
    joint = np.zeros_like(parts[0])
    for n, part in zip(SIZES, parts, strict=True):
        joint = joint * n + part
    return joint


def vote_of(labels: Ints) -> Ints:
    """The plain majority, ties to the lowest class."""
    votes = np.zeros((labels.shape[1], N_CLASSES))
    for own in labels:
        votes[np.arange(labels.shape[1]), own] += 1
    winner: Ints = votes.argmax(axis=1)
    return winner


def public_scores(random: np.random.Generator, right: NDArray[np.bool_], n_scored: int | None) -> Floats:
    """Accuracies rounded to four digits, on all photos or on a part drawn by chance."""
    rows = np.arange(right.shape[1]) if n_scored is None else random.permutation(right.shape[1])[:n_scored]
    scores: Floats = np.round(right[:, rows].mean(axis=1), 4)
    return scores
