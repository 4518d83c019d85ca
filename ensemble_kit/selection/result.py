"""What a selection found, and whether it is worth using."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import astuple, dataclass
from typing import Any, TypeAlias

import numpy as np

from ensemble_kit.columns import WIDTH, fitted, wrap
from ensemble_kit.errors import DataError

Weights: TypeAlias = dict[str, float] | dict[str, dict[str, float]]
"""By voter, or by expert and voter."""

WORDS = {"macro_f1": "macro F1", "log_loss": "log loss (lower is better)", "brier": "Brier score (lower is better)"}


@dataclass(frozen=True)
class Gap:
    """By how much the selection is better on held-out people, with the 95 % interval over people."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:+.4f} [{self.low:+.4f}, {self.high:+.4f}]"


@dataclass(frozen=True)
class Selection:
    """Weights of voters, selected greedily, and their score on people that took no part in the selection.

    Attributes:
        weights: how often each voter was taken (0 = left out); by voter, or by expert and voter. Ready to be passed to
            `combine(weights=...)`.
        where: the expert, or "joint".
        vote_at: where combining has to vote: "expert", or "joint" when whole chains were weighed.
        metric: what was optimised.
        score: of the selection on the photos it was made from; too good.
        nested_score: selected on the other people, scored on the held-out ones, every photo once.
        nested_best_single: the same for the best voter alone.
        nested_all: the plain soft vote of all, which selects nothing.
        best_single: the best voter on all photos.
        over_best_single, over_all: the nested score's distance, positive where the selection is better.
        n_samples, n_groups, n_folds: what it was made from.
        people_known: False = nobody knows who is on the photos, so each counts as a person: intervals too narrow.
    """

    weights: Weights
    where: str
    vote_at: str
    metric: str
    score: float
    nested_score: float
    nested_best_single: float
    nested_all: float
    best_single: str
    over_best_single: Gap
    over_all: Gap
    n_samples: int
    n_groups: int
    n_folds: int
    people_known: bool = True

    @property
    def beats_best_single(self) -> bool:
        """The interval of the difference lies above 0."""
        return self.over_best_single.low > 0

    @property
    def beats_all(self) -> bool:
        """The same against the plain vote of all."""
        return self.over_all.low > 0

    @property
    def n_voters(self) -> int:
        """Of the expert that has most."""
        return max(len(weights) for weights in self._by_expert().values())

    def text(self) -> str:
        """Scores, weights and, in plain words, whether the selection is worth using."""
        rows = [
            ["selected", f"{self.nested_score:.4f}", ""],
            [f"best single ({self.best_single})", f"{self.nested_best_single:.4f}", str(self.over_best_single)],
            ["plain vote of all", f"{self.nested_all:.4f}", str(self.over_all)],
        ]
        table = fitted(["", WORDS.get(self.metric, self.metric), "selected - this"], rows, WIDTH)
        who = f"of {self.n_groups} people" if self.people_known else "(people not known: each photo counts as one)"
        head = (
            f"{self.where}: {WORDS.get(self.metric, self.metric)} on {self.n_samples} photos {who}, "
            f"selected on {self.n_folds - 1} of {self.n_folds} folds and scored on the other"
        )
        return "\n".join([wrap(head), table, *map(wrap, self._weight_lines()), wrap(self.advice())])

    def advice(self) -> str:
        """One sentence."""
        if self.beats_best_single and self.beats_all:
            return "The selection beats the best single voter and the plain vote of all."
        if self.beats_best_single:
            return "The selection does not beat the plain vote of all, which needs no weights: prefer that."
        if self.beats_all:
            return "The selection does not beat the best single voter, which is cheaper: prefer that one."
        return "The selection does not beat the best single voter, nor the plain vote of all: leave the weights out."

    def _by_expert(self) -> dict[str, dict[str, float]]:
        nested = {name: dict(value) for name, value in self.weights.items() if isinstance(value, Mapping)}
        return nested or {self.where: {k: v for k, v in self.weights.items() if not isinstance(v, Mapping)}}

    def _weight_lines(self) -> list[str]:
        lines = []
        for name, weights in self._by_expert().items():
            taken = ", ".join(f"{voter} x{weight:g}" for voter, weight in weights.items() if weight)
            left_out = sum(weight == 0 for weight in weights.values())
            lines.append(f"  weights of {name}: {taken}" + f" ({left_out} left out)" * bool(left_out))
        return lines

    def to_json(self) -> dict[str, Any]:
        gaps = {name: list(astuple(getattr(self, name))) for name in ("over_best_single", "over_all")}
        nested = {k: dict(v) if isinstance(v, Mapping) else v for k, v in self.weights.items()}
        return {name: getattr(self, name) for name in _PLAIN} | {"weights": nested} | gaps

    @classmethod
    def from_json(cls, value: Any) -> Selection:
        """Raises DataError when `value` is not what `to_json` writes."""
        try:
            gaps = {name: Gap(*map(float, value[name])) for name in ("over_best_single", "over_all")}
            plain: dict[str, Any] = {name: kind(value[name]) for name, kind in _PLAIN.items()}
            found = cls(weights=check_weights(value["weights"]), **(plain | gaps))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise DataError(f"weights: not what was saved ({type(error).__name__}: {error}); fit them again") from None
        if found.vote_at not in ("expert", "joint"):
            raise DataError(f'weights: vote_at is expert or joint, found "{found.vote_at}"; fit them again')
        return found


_PLAIN: dict[str, type] = {
    "where": str,
    "vote_at": str,
    "metric": str,
    "score": float,
    "nested_score": float,
    "nested_best_single": float,
    "nested_all": float,
    "best_single": str,
    "n_samples": int,
    "n_groups": int,
    "n_folds": int,
    "people_known": bool,
}


def check_weights(value: Any) -> Weights:
    """Weights as read from a file.

    Raises:
        ValueError: not by voter, or by expert and voter; or not numbers of at least 0 of which one is above.
    """
    if not isinstance(value, Mapping) or not value:
        raise ValueError("weights by voter, or by expert and voter")
    nested = [isinstance(inner, Mapping) for inner in value.values()]
    if any(nested) and not all(nested):
        raise ValueError("weights of some voters and of some experts")
    if all(nested):
        return {str(name): _numbers(inner) for name, inner in value.items()}
    return _numbers(value)


def _numbers(value: Mapping[str, Any]) -> dict[str, float]:
    numbers = {str(name): float(weight) for name, weight in value.items()}
    if not all(np.isfinite(weight) and weight >= 0 for weight in numbers.values()) or not any(numbers.values()):
        raise ValueError(f"weights must be finite, at least 0 and not all 0, found {list(numbers.values())}")
    return numbers
