"""A search whose trials are scored by a formula, broken off where a test says: what the tests of searches share."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ensemble_kit.recipe.run import Silent, Watcher
from ensemble_kit.recipe.space import Choices, Parameter, Range
from ensemble_kit.tuning.search import Earlier, Listener, Plan, search
from ensemble_kit.tuning.trials import Trial

SPACE: tuple[Parameter, ...] = (
    Range("train.head_lr", 1e-5, 1e-1, is_whole=False, log=True),
    Range("train.epochs", 1, 9, is_whole=True),
    Choices("train.loss", ("cross_entropy", "focal=2", "macro_f1")),
)
FIRST = {"train.head_lr": 1e-3, "train.epochs": 3, "train.loss": "cross_entropy"}
N_FOLDS = 3


class KilledError(BaseException):
    """Nothing handles it: as sudden as a kill, as far as the search can tell."""


@dataclass
class Formula:
    """Scores a trial by its values, a little otherwise in each fold.

    Attributes:
        deaths: how many folds may still be trained before it is killed, one number a life.
        pause: seconds a fold takes; later trials of a batch are quicker, so that they end first.
        fails: numbers of trials that cannot be trained.
    """

    deaths: Sequence[int] = ()
    pause: float = 0.0
    fails: Sequence[int] = ()
    seen: list[int] = field(default_factory=list)

    def __call__(self, trial: Trial, earlier: Earlier, watcher: Watcher) -> Trial:
        from ensemble_kit.errors import DivergedError

        after_fold: list[float] = []
        if trial.number in self.fails:
            raise DivergedError("the loss is no longer a finite number")
        for fold in range(N_FOLDS):
            if self.deaths and len(self.seen) >= self.deaths[0]:
                raise KilledError
            time.sleep(self.pause / (1 + trial.number % 4))
            self.seen.append(trial.number)
            after_fold.append(score_of(trial, fold))
            reason = earlier.prunes(after_fold) if fold + 1 < N_FOLDS and trial.number else None
            if reason:
                return trial.pruned(after_fold, reason)
        return trial.done(after_fold)


def score_of(trial: Trial, fold: int) -> float:
    """Best at a rate of 10 ** -2.5, 6 epochs and focal loss."""
    import math

    lr, epochs, loss = (trial.params[parameter.key] for parameter in SPACE)
    value: float = 0.9 - 0.1 * abs(math.log10(lr) + 2.5) - 0.02 * abs(epochs - 6) + 0.05 * (loss == "focal=2")
    return value + 0.01 * math.sin(trial.number * 7 + fold)


def make_plan(n_trials: int = 8, batch: int = 1, prune: str = "median", sampler: str = "tpe", seed: int = 0) -> Plan:
    return Plan(SPACE, FIRST, n_trials, batch, prune, 2, sampler, 3, seed)


def run(folder: Path, plan: Plan, formula: Formula | None = None, at_once: int = 1) -> list[Trial]:
    listener = Listener(lambda trial: None, lambda trials: None)
    return search(folder, plan, formula or Formula(), Silent(), listener, at_once=at_once)


if __name__ == "__main__":  # a search to be killed: folder, seconds a fold, trials at a time
    run(Path(sys.argv[1]), make_plan(8, batch=2), Formula(pause=float(sys.argv[2])), at_once=int(sys.argv[3]))
