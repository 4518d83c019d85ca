"""The fitted vote itself: its numbers, how it votes, its file form."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ensemble_kit.arrays import FloatArray, IntArray
from ensemble_kit.columns import WIDTH, fitted, wrap
from ensemble_kit.errors import DataError, UsageError
from ensemble_kit.selection import Gap
from ensemble_kit.voting.rules import Block, in_blocks, mean

FLOOR = 1e-6
"""A lower probability counts as this: beyond it a logarithm tells how a network was trained, not what is on a photo."""

WORDS = {"macro_f1": "macro F1", "log_loss": "log loss (lower is better)", "brier": "Brier score (lower is better)"}


@dataclass(frozen=True)
class StackingScore:
    """Stacking against what needs no fit, every photo scored by a fit on other people.

    Attributes:
        metric: what was measured.
        stacking, soft, best_single: scores on held-out people; the best voter was chosen without them, too.
        best_voter: the best single voter on all photos.
        over_soft, over_best_single: by how much stacking is better, with the 95 % interval over people.
        n_samples, n_groups, n_folds: what it was measured on.
        people_known: False = each photo counted as a person: the intervals are too narrow.
    """

    metric: str
    stacking: float
    soft: float
    best_single: float
    best_voter: str
    over_soft: Gap
    over_best_single: Gap
    n_samples: int
    n_groups: int
    n_folds: int
    people_known: bool = True

    @property
    def beats_soft(self) -> bool:
        """The interval of the difference lies above 0."""
        return self.over_soft.low > 0

    @property
    def beats_best_single(self) -> bool:
        """The same against the best single voter."""
        return self.over_best_single.low > 0

    def text(self) -> str:
        """The three scores and, in plain words, whether to use the stacked vote."""
        who = f"of {self.n_groups} people" if self.people_known else "(people not known: each photo counts as one)"
        metric = WORDS.get(self.metric, self.metric)
        head = f"{metric} on {self.n_samples} photos {who}, fitted on {self.n_folds - 1} of {self.n_folds} folds and "
        rows = [
            ["stacking", f"{self.stacking:.4f}", ""],
            ["soft vote", f"{self.soft:.4f}", str(self.over_soft)],
            [f"best single ({self.best_voter})", f"{self.best_single:.4f}", str(self.over_best_single)],
        ]
        table = fitted(["", metric, "stacking - this"], rows, WIDTH)
        return "\n".join([wrap(f"{head}scored on the other"), table, wrap(self.advice())])

    def advice(self) -> str:
        """One sentence."""
        if self.beats_soft and self.beats_best_single:
            return "Stacking beats the soft vote and the best single voter."
        if self.beats_best_single:
            return "Stacking does not beat the soft vote, which needs no fit: prefer that."
        if self.beats_soft:
            return "Stacking does not beat the best single voter, which is cheaper: prefer that one."
        return "Stacking does not beat the soft vote, nor the best single voter: leave it out."


@dataclass(frozen=True, eq=False)
class Stacking:
    """Multinomial logistic regression on the logarithms of the voters' probabilities (Wolpert 1992), to be used as a
    vote.

    A voter that abstains says nothing of any class (equal probabilities); a row on which all do stays zeros, a row of
    NaN stays NaN. A class without a photo in the fit keeps the soft vote's probability, and the others share the rest.

    Attributes:
        voters: names in the order of the first axis of what it votes on; sorted by name, as `combine` passes them.
        classes: a row of class names for each column; None when fitted on plain arrays.
        n_classes: columns.
        present: `(n_present,)` classes that the fit has seen.
        intercept: `(n_present,)`.
        coefficients: `(n_voters, n_classes, n_present)`.
        c: inverse strength of the ridge penalty, scikit-learn's C.
        where: the expert it was fitted for, or "joint"; where `combine` is to use it.
        score: against the soft vote and the best single voter; None when it was not measured.
    """

    voters: tuple[str, ...]
    classes: tuple[tuple[str, ...], ...] | None
    n_classes: int
    present: IntArray
    intercept: FloatArray
    coefficients: FloatArray
    c: float
    where: str
    score: StackingScore | None = None

    def __call__(self, probs: FloatArray, weights: FloatArray) -> FloatArray:
        """`(n_voters, n_samples, n_classes)`, weights all the same -> `(n_samples, n_classes)`; row by row.

        Raises:
            UsageError: other voters or classes than fitted, by number; weights that differ, which it has itself.
        """
        if probs.ndim != 3 or (probs.shape[0], probs.shape[2]) != (len(self.voters), self.n_classes):
            raise UsageError(
                f"stacking of {self.where}: fitted for {len(self.voters)} voters and {self.n_classes} classes, found "
                f"probabilities of shape {probs.shape}; pass all of {', '.join(self.voters)}, or fit again"
            )
        own = np.asarray(weights, dtype=np.float64)
        if own.shape != (len(self.voters),) or not (own == own[0]).all() or not own[0] > 0:
            raise UsageError(
                f"stacking of {self.where}: it has weights of its own, found weights {own.tolist()}; leave them out, "
                "or fit again with the voters that count"
            )
        return in_blocks(probs, np.ones(len(self.voters)), self._vote)

    def check(self, voters: Sequence[str], classes: Sequence[Sequence[str]] | None = None) -> None:
        """Raises UsageError unless the voters, and the classes where they are known, are those of the fit, in order."""
        if tuple(voters) != self.voters:
            raise UsageError(
                f"stacking of {self.where}: fitted for the voters {', '.join(self.voters)}, found {', '.join(voters)}; "
                "name the voters as in the fit, or fit again"
            )
        if classes is not None and self.classes is not None and tuple(map(tuple, classes)) != self.classes:
            raise UsageError(
                f"stacking of {self.where}: fitted for the classes {_names(self.classes)}, found {_names(classes)}; "
                "bring the columns into that order, or fit again"
            )

    def _vote(self, block: Block) -> FloatArray:
        logits = np.repeat(self.intercept[:, None], block.n_rows, axis=1)
        spoken = np.zeros(block.n_rows, dtype=np.bool_)
        for (values, _), own in zip(block.by_class(), self.coefficients, strict=True):
            speaks = values.max(axis=0) != 0
            spoken |= speaks
            values[:, ~speaks] = 1 / self.n_classes
            for log_probs, column in zip(log_floored(values), own, strict=True):
                logits += column[:, None] * log_probs
        shares = np.exp(logits - logits.max(axis=0))
        total = np.zeros(block.n_rows, dtype=np.float64)
        for share in shares:
            total += share
        result = mean(block)
        left = np.ones(block.n_rows, dtype=np.float64)
        for number in np.setdiff1d(np.arange(self.n_classes), self.present):
            left -= result[number]
        result[self.present] = shares / total * np.maximum(left, 0)
        result[:, ~spoken] = 0
        return result

    def text(self) -> str:
        """What was fitted and whether it pays."""
        seen = (
            f"{len(self.present)} of {self.n_classes} classes" if self.n_classes > len(self.present) else "all classes"
        )
        head = f"stacking of {self.where}: {len(self.voters)} voters, {seen} seen, C = {self.c:g}"
        return head if self.score is None else f"{head}; {self.score.text()}"

    def to_json(self) -> dict[str, Any]:
        return {
            "voters": list(self.voters),
            "classes": None if self.classes is None else [list(row) for row in self.classes],
            "n_classes": self.n_classes,
            "present": self.present.tolist(),
            "intercept": self.intercept.tolist(),
            "coefficients": self.coefficients.tolist(),
            "c": self.c,
            "where": self.where,
            "score": None if self.score is None else asdict(self.score),
        }

    @classmethod
    def from_json(cls, value: Any) -> Stacking:
        """Raises DataError when `value` is not what `to_json` writes."""
        try:
            classes = None if value["classes"] is None else tuple(tuple(map(str, row)) for row in value["classes"])
            found = cls(
                voters=tuple(map(str, value["voters"])),
                classes=classes,
                n_classes=int(value["n_classes"]),
                present=np.array(value["present"], dtype=np.int64),
                intercept=np.array(value["intercept"], dtype=np.float64),
                coefficients=np.array(value["coefficients"], dtype=np.float64),
                c=float(value["c"]),
                where=str(value["where"]),
                score=None if value["score"] is None else _score(value["score"]),
            )
            found._refuse_misfit()
        except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
            raise DataError(f"stacking: not what was saved ({type(error).__name__}: {error}); fit it again") from None
        return found

    def _refuse_misfit(self) -> None:
        """Raises ValueError where the numbers read cannot vote."""
        shape = (len(self.voters), self.n_classes, len(self.present))
        if not len(self.voters) or self.coefficients.shape != shape or self.intercept.shape != shape[2:]:
            raise ValueError(f"expected coefficients of shape {shape}, found {self.coefficients.shape}")
        if not (np.isfinite(self.coefficients).all() and np.isfinite(self.intercept).all()):
            raise ValueError("coefficients must be finite")
        inside = len(self.present) and self.present[0] >= 0 and self.present[-1] < self.n_classes
        if not inside or (np.diff(self.present) <= 0).any():
            raise ValueError(
                f"expected increasing classes from 0 to {self.n_classes - 1}, found {self.present.tolist()}"
            )
        if self.classes is not None and len(self.classes) != self.n_classes:
            raise ValueError(f"expected {self.n_classes} class names, found {len(self.classes)}")


def log_floored(values: FloatArray) -> FloatArray:
    """Logarithms of probabilities, of at least FLOOR; NaN stays NaN."""
    return np.asarray(np.log(np.maximum(values, FLOOR)))


def _names(classes: Sequence[Sequence[str]]) -> str:
    names = [" / ".join(row) for row in classes]
    return ", ".join(names[:4]) + f", ... ({len(names)})" * (len(names) > 4)


def _score(value: Mapping[str, Any]) -> StackingScore:
    gaps = {
        name: Gap(**{part: float(n) for part, n in value[name].items()}) for name in ("over_soft", "over_best_single")
    }
    numbers = {name: float(value[name]) for name in ("stacking", "soft", "best_single")}
    counts = {name: int(value[name]) for name in ("n_samples", "n_groups", "n_folds")}
    names = {name: str(value[name]) for name in ("metric", "best_voter")}
    rest: dict[str, Any] = {**gaps, **numbers, **counts, **names}
    return StackingScore(**rest, people_known=bool(value["people_known"]))
