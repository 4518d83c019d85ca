"""The accuracy of a submission nobody has scored, from others whose scores are known."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ensemble_kit.arrays import FloatArray, IntArray
from ensemble_kit.columns import WIDTH, fitted
from ensemble_kit.errors import DataError, UsageError
from ensemble_kit.submissions.max_entropy import truth_shares
from ensemble_kit.submissions.shared_errors import likeness, noise_of_scores, posterior, quantiles

LEVEL = 0.9
MIN_KNOWN, MIN_SAMPLES = 2, 200

ROUNDING = 1e-3
"""How far scores may contradict the labels before they are refused: public scores are rounded."""

OF_THE_KNOWN, NEW = 0.05, 0.3
"""How much of what sets the target apart is said by no known one, against the same of the known ones: up to the first
the target is taken for a vote of theirs, from the second on for a submission of its own."""

GAIN = (0.42, 0.75, 1.0)
"""How much of the gain that independent evidence would give a vote it has: the 5th, 50th and 95th percentile over
simulated submissions whose errors are shared."""


@dataclass(frozen=True)
class Estimate:
    """A score with its 90 % interval.

    Attributes:
        value, low, high: of the target's accuracy on all the photos.
        possible: what the agreement with the known submissions allows at all.
        own_answers: share of photos on which the target says what no known submission says.
        likeness: mean cosine between the errors of the known submissions; 1 = they make the same errors.
    """

    value: float
    low: float
    high: float
    possible: tuple[float, float]
    own_answers: float
    likeness: float

    def to_json(self) -> dict[str, Any]:
        return {"metric": "accuracy", "level": LEVEL, **asdict(self)}


def estimate_accuracy(
    target: ArrayLike,
    known: ArrayLike,
    scores: ArrayLike,
    n_classes: int,
    *,
    scored_on: int | None = None,
) -> Estimate:
    """How often a submission is right, from its agreement with others whose accuracy is known.

    How alike errors are between submissions is seen in the known pairs and carried over to the target
    (`shared_errors`). A target that says nothing new, a vote of the known ones, is not like them in that: there the
    maximum-entropy truth (`max_entropy`) says what a vote could gain, and a share of it is taken. In between the two
    are mixed.

    Assumed: the target was made as the known ones were, neither from the answers nor with other labels in mind; its
    errors are as like theirs as theirs are like each other's, up to the spread seen. Coverage of the 90 % interval in
    simulations: `tests/benchmarks/estimate.py`.

    Args:
        target: `(n_samples,)` joint classes.
        known: `(n_known, n_samples)` joint classes of the same photos.
        scores: `(n_known,)` their accuracies, inside 0 to 1.
        n_classes: of the joint.
        scored_on: how many of the photos, drawn by chance, the scores were measured on; None = all.

    Raises:
        UsageError: fewer than 2 known submissions, shapes or scores that cannot be.
        DataError: too few photos, or scores that the labels contradict.

    Examples:
        >>> random = np.random.default_rng(0)
        >>> truth = random.integers(18, size=3000)
        >>> hard = random.random(3000) < 0.3  # photos that all find hard
        >>> wrong = (truth + random.integers(1, 18, size=(4, 3000))) % 18
        >>> labels = np.where(random.random((4, 3000)) < np.where(hard, 0.6, 0.05), wrong, truth)
        >>> scores = (labels == truth).mean(axis=1)
        >>> found = estimate_accuracy(labels[3], labels[:3], scores[:3], 18)
        >>> bool(found.low <= scores[3] <= found.high)
        True
    """
    own, others, right = _check(target, known, scores, n_classes, scored_on)
    errors = 1 - right
    n_samples = len(own)
    between, to_target = _differences(others), (others != own).mean(axis=1)
    part = scored_on is not None and scored_on < n_samples
    noise = noise_of_scores(between, errors, int(scored_on or n_samples), n_samples) if part else None
    _check_scores(right, between, noise)
    shares, density = posterior(between, to_target, errors, n_samples, noise)
    new = float((others != own).all(axis=0).mean())
    usual = np.mean([_newness(others[row], np.delete(others, row, axis=0)) for row in range(len(others))])
    newness = _newness(own, others) / float(usual)
    trust = float(np.clip((newness - OF_THE_KNOWN) / (NEW - OF_THE_KNOWN), 0, 1))
    if trust < 1:
        vote = _density_of_vote(shares, own, others, right, (between, to_target), noise, n_classes)
        density = trust * _normal(density) + (1 - trust) * _normal(vote)
    high, value, low = (1 - q for q in quantiles(shares, density, ((1 - LEVEL) / 2, 0.5, (1 + LEVEL) / 2)))
    i, j = np.triu_indices(len(right), 1)
    alike = float(likeness(errors[i], errors[j], between[i, j]).mean())
    return Estimate(value, low, high, (1 - float(shares[-1]), 1 - float(shares[0])), new, alike)


def _differences(labels: IntArray) -> FloatArray:
    """Share of photos on which each two differ, `(n, n)`."""
    return np.array([[float((a != b).mean()) for b in labels] for a in labels])


def _newness(own: IntArray, others: IntArray) -> float:
    """How much of what sets a submission apart from the nearest other is said by no other, `(n_samples,)`."""
    differ = others != own
    return float(differ.all(axis=0).mean()) / max(float(differ.mean(axis=1).min()), 1e-9)


def _normal(density: FloatArray) -> FloatArray:
    total = float(density.sum())
    return density / total if total > 0 else density


def _density_of_vote(
    shares: FloatArray,
    own: IntArray,
    others: IntArray,
    right: FloatArray,
    differ: tuple[FloatArray, FloatArray],
    noise: FloatArray | None,
    n_classes: int,
) -> FloatArray:
    """The density of the error share of a target made from the known ones, on the grid `shares`."""
    probs, _ = truth_shares(others, right, n_classes)
    possible = float(probs[np.arange(len(own)), own].mean())
    parts = _parts(*differ)
    base = float((parts * right).sum())
    gain = max(possible - base, 0.0)
    low, middle, high = (base + share * gain for share in GAIN)
    extra = 0.0 if noise is None else float(np.sqrt(parts @ noise @ parts))
    gap = (1 - shares) - middle
    spread = np.where(gap < 0, middle - low, high - middle) / 1.645
    squares = (gap / np.hypot(spread, max(extra, ROUNDING / 10))) ** 2
    return np.asarray(np.exp((squares.min() - squares) / 2))  # the largest is 1, also where the middle is not possible


def _parts(between: FloatArray, to_target: FloatArray) -> FloatArray:
    """The weights >= 0, of sum 1, of the mixture of the known ones nearest to the target."""
    parts = np.full(len(to_target), 1 / len(to_target))
    for _ in range(2000):  # exponentiated gradient: stays in the simplex
        powers = parts * np.exp(-2 * (to_target - between @ parts))
        parts = powers / powers.sum()
    return parts


def _check(
    target: ArrayLike, known: ArrayLike, scores: ArrayLike, n_classes: int, scored_on: int | None
) -> tuple[IntArray, IntArray, FloatArray]:
    own, others = np.asarray(target, dtype=np.int64), np.asarray(known, dtype=np.int64)
    right = np.asarray(scores, dtype=np.float64)
    if others.ndim != 2 or own.shape != others.shape[1:] or right.shape != others.shape[:1]:
        raise UsageError(
            f"estimate: expected labels (n_samples,), known (n_known, n_samples) and scores (n_known,), found "
            f"{own.shape}, {others.shape} and {right.shape}"
        )
    if len(others) < MIN_KNOWN:
        raise UsageError(
            f"estimate: expected at least {MIN_KNOWN} submissions of known score, found {len(others)}; how alike "
            "errors are is seen in pairs of known ones"
        )
    wrong = right[~((right > 0) & (right < 1))]
    if len(wrong):
        hint = "; write 78.4 % as 0.784" if wrong[0] > 1 else ""
        raise UsageError(f"estimate: a known accuracy must be above 0 and below 1, found {wrong[0]:g}{hint}")
    if scored_on is not None and not 2 <= scored_on <= len(own):
        raise UsageError(f"estimate: scores were measured on 2 to {len(own)} of these photos, found {scored_on}")
    if len(own) < MIN_SAMPLES:
        raise DataError(f"estimate: expected at least {MIN_SAMPLES} photos, found {len(own)}; fewer tell too little")
    for name, values in (("target", own), ("known", others)):
        if values.min() < 0 or values.max() >= n_classes:
            raise DataError(
                f"estimate: labels of the {name} must be 0 to {n_classes - 1}, found {values.min()} to {values.max()}"
            )
    return own, others, right


def _check_scores(right: FloatArray, between: FloatArray, noise: FloatArray | None) -> None:
    """Raises DataError when two scores and the agreement of their submissions cannot all be true."""
    for i in range(len(right)):
        for j in range(i):
            slack = ROUNDING if noise is None else ROUNDING + 4 * float(np.sqrt(noise[i, i] + noise[j, j]))
            apart, differ = abs(right[i] - right[j]), between[i, j]
            if apart > differ + slack:
                raise DataError(
                    f"estimate: known submissions {j + 1} and {i + 1} score {right[j]:g} and {right[i]:g} but differ "
                    f"on {differ:.4f} of the photos only; a score belongs to another file or other photos"
                )
            if 2 - right[i] - right[j] < differ - slack:
                raise DataError(
                    f"estimate: known submissions {j + 1} and {i + 1} score {right[j]:g} and {right[i]:g}, yet differ "
                    f"on {differ:.4f} of the photos, so one of them must be worse; a score belongs to another file"
                )


def estimate_text(names: Mapping[str, float], target: str, found: Estimate) -> str:
    """What the command prints."""
    rows = [[name, f"{score:.4f}", ""] for name, score in names.items()]
    rows.append([target, f"{found.value:.4f}", f"{found.low:.4f} to {found.high:.4f}"])
    lines = [fitted(["", "accuracy", "90 % interval"], rows, WIDTH)]
    low, high = found.possible
    lines.append(f"possible at all, by its agreement with the known ones: {low:.4f} to {high:.4f}")
    lines.append(
        f"says what no known one says on {found.own_answers:.1%} of the photos; likeness of the known ones' errors "
        f"{found.likeness:.2f}"
    )
    return "\n".join(lines)
