"""People whose photos a classifier answers, before and after a shift of the ages' shares; and runs of `fit_shift` on them.

People have several photos, whose errors are alike; the classifier is a Bayes classifier of the training shares made
over-confident. A task is age alone (3 classes), gender x age (6), or mask x gender x age (18, of which the rarest has
0.4 % of the photos).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from ensemble_kit.arrays import FloatArray, IntArray
from ensemble_kit.metrics import accuracy, macro_f1
from ensemble_kit.shift import PriorShift, class_prior, em_prior, fit_shift, reweigh

TRAINING_AGES = (0.47, 0.46, 0.07)
SHIFTS: Mapping[str, tuple[float, float, float]] = {
    "none": TRAINING_AGES,
    "small": (0.45, 0.44, 0.11),
    "middle": (0.42, 0.42, 0.16),
    "large": (0.37, 0.37, 0.26),
    "rarer": (0.50, 0.48, 0.02),
    "across": (0.30, 0.60, 0.10),
}
GENDERS = (0.6, 0.4)
MASKS = (0, 0, 0, 0, 0, 1, 2)
"""The mask of each of a person's photos."""

CENTRES = {
    "mask": np.array([[3.0, 0.0], [0.0, 3.0], [-1.5, -1.5]]),
    "gender": np.array([[-1.4, 0.0], [1.4, 0.0]]),
    "age": np.array([[-0.95, 0.0], [0.95, 0.0], [1.71, 1.71]]),
}
TASKS = {"age": ("age",), "gender-age": ("gender", "age"), "joint": ("mask", "gender", "age")}


@dataclass(frozen=True)
class World:
    """Photos as points around their classes' centres, in two dimensions an attribute.

    Attributes:
        attributes: of the joint classes.
        ages: shares in training, which the classifier supposes.
        alike: share of the noise that is a person's own, the same on all photos.
        sharpness: what the logits are multiplied with; 1 = calibrated.
    """

    attributes: tuple[str, ...]
    ages: tuple[float, float, float] = TRAINING_AGES
    alike: float = 0.6
    sharpness: float = 1.3

    @property
    def n_classes(self) -> int:
        return int(np.prod([len(CENTRES[name]) for name in self.attributes]))

    def shares(self, ages: tuple[float, ...]) -> FloatArray:
        """Of the joint classes `(n_classes,)`."""
        found = np.ones(1)
        for name in self.attributes:
            found = np.outer(found, self._shares(name, ages)).ravel()
        return found

    def photos(
        self, random: np.random.Generator, n_people: int, ages: tuple[float, ...], blur: float = 1.0
    ) -> tuple[FloatArray, IntArray, IntArray]:
        """Probabilities, joint classes and people; `blur` widens the noise, which the classifier does not know."""
        n_photos = n_people * len(MASKS)
        probs, truth = np.ones((n_photos, 1)), np.zeros(n_photos, dtype=np.int64)
        for name in self.attributes:
            centres, alike = CENTRES[name], self.alike if name != "mask" else 0.2
            if name == "mask":
                own = np.tile(MASKS, n_people)
            else:
                own = np.repeat(random.choice(len(centres), size=n_people, p=self._shares(name, ages)), len(MASKS))
            person = np.repeat(random.normal(size=(n_people, 2)), len(MASKS), axis=0)
            noise = np.sqrt(alike) * person + np.sqrt(1 - alike) * random.normal(size=(n_photos, 2))
            points = centres[own] + blur * noise
            logits = np.log(self._shares(name, self.ages)) - ((points[:, None] - centres) ** 2).sum(axis=2) / 2
            logits = self.sharpness * (logits - logits.max(axis=1, keepdims=True))
            each = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
            probs = (probs[:, :, None] * each[:, None, :]).reshape(n_photos, -1)
            truth = truth * len(centres) + own
        return probs, truth, np.repeat(np.arange(n_people), len(MASKS))

    @staticmethod
    def _shares(name: str, ages: tuple[float, ...]) -> FloatArray:
        return np.array({"mask": (5 / 7, 1 / 7, 1 / 7), "gender": GENDERS, "age": ages}[name])


@dataclass
class Outcome:
    """Of all runs of a case.

    Attributes:
        covered, wide: `(n_answered, n_classes)` whether the interval held the true share, and its width; runs that
            were refused have none.
        errors: by estimator `(n_answered, n_classes)` estimated minus true share.
        gains: `(n_runs, 2)` in macro F1 and accuracy as decided, `always` the same if always applied.
        applied, refused: `(n_runs,)`.
    """

    covered: FloatArray
    wide: FloatArray
    errors: dict[str, FloatArray]
    gains: FloatArray
    always: FloatArray
    applied: FloatArray
    refused: FloatArray


def labels_counted(probs: FloatArray, known: FloatArray, truth: IntArray) -> FloatArray:
    """Black-box shift estimation (Lipton et al. 2018), the naive code: cut at 0 and made to sum to 1."""
    n_classes = probs.shape[1]
    table = np.array([class_shares(known[truth == number].argmax(axis=1), n_classes) for number in range(n_classes)])
    found = np.maximum(np.linalg.lstsq(table.T, class_shares(probs.argmax(axis=1), n_classes), rcond=None)[0], 0)
    return np.asarray(found / found.sum())


def class_shares(labels: IntArray, n_classes: int) -> FloatArray:
    return np.bincount(labels, minlength=n_classes) / len(labels)


def simulate(
    task: str,
    ages: tuple[float, ...],
    n_runs: int,
    *,
    n_people: int = 250,
    n_reference: int = 800,
    n_boot: int = 400,
    blur: float = 1.0,
    sharpness: float = 1.3,
    seed: int = 1,
) -> Outcome:
    """`n_runs` times: draw a reference and unlabelled photos, fit, and compare with what is true."""
    world = World(TASKS[task], sharpness=sharpness)
    true, random = world.shares(ages), np.random.default_rng(seed)
    rows: dict[str, list[FloatArray]] = {name: [] for name in ("covered", "wide", "gains", "always", "said")}
    errors: dict[str, list[FloatArray]] = {"EM": [], "BBSE": [], "ours": []}
    for run in range(n_runs):
        known, truth, people = world.photos(random, n_reference, world.ages)
        probs, hidden, own = world.photos(random, n_people, ages, blur)
        prior = class_prior(truth, world.n_classes)
        shift = fit_shift(
            probs,
            training_prior=prior,
            reference_probs=known,
            reference_truth=truth,
            groups=own,
            reference_groups=people,
            n_boot=n_boot,
            seed=run,
        )
        rows["gains"].append(gain(probs, hidden, shift))
        rows["always"].append(gain(probs, hidden, lambda values, s=shift: reweigh(values, _ratio(s))))  # type: ignore[misc]
        rows["said"].append(np.array([shift.applied, bool(shift.refused)], dtype=np.float64))
        if shift.refused:
            continue
        estimates = {"EM": em_prior(probs, prior), "BBSE": labels_counted(probs, known, truth), "ours": shift.prior}
        for name, found in estimates.items():
            errors[name].append(np.asarray(found) - true)
        low, high = np.array(shift.low), np.array(shift.high)
        rows["covered"].append(((low <= true) & (true <= high)).astype(np.float64))
        rows["wide"].append(high - low)
    found = {name: np.array(values, dtype=np.float64) for name, values in rows.items()}
    said = found.pop("said")
    return Outcome(
        errors={name: np.array(values) for name, values in errors.items()},
        applied=said[:, 0],
        refused=said[:, 1],
        **found,
    )


def gain(probs: FloatArray, truth: IntArray, correct: Callable[[FloatArray], FloatArray]) -> FloatArray:
    """In macro F1 and accuracy."""
    before, after = probs.argmax(axis=1), correct(probs).argmax(axis=1)
    n_classes = probs.shape[1]
    return np.array(
        [score(truth, after, n_classes) - score(truth, before, n_classes) for score in (macro_f1, accuracy)]
    )


def _ratio(shift: PriorShift) -> FloatArray:
    return np.asarray(np.array(shift.prior) / np.array(shift.training_prior))
