"""From labels to scores with intervals over people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from ensemble_kit.arrays import FloatArray, IdArray
from ensemble_kit.metrics import METRICS, Drawn, People, Tally, interval
from ensemble_kit.structure_report import Interval, Score

Key = TypeVar("Key")


@dataclass(frozen=True, eq=False)
class Measured:
    """The metrics of one view: their values, and in each draw of people (None = no people were given)."""

    values: dict[str, float]
    draws: dict[str, FloatArray] | None

    def score(self) -> Score:
        between: dict[str, Interval | None] = dict.fromkeys(METRICS)
        if self.draws is not None:
            between |= {name: interval(draws) for name, draws in self.draws.items()}
        return Score(self.values["accuracy"], self.values["macro_f1"], between["accuracy"], between["macro_f1"])

    def gain_over(self, other: Measured, metric: str) -> FloatArray | None:
        """This one's metric minus the other's in each draw, `(n_boot,)`: paired, as both are of the same people."""
        return None if self.draws is None or other.draws is None else self.draws[metric] - other.draws[metric]


class Scorer:
    """Scores of answers to the same photos; several answers (checkpoints used alone) give their mean score.

    Args:
        groups: `(n_samples,)` whose photo it is; None, or one person alone = no intervals.
        n_boot: draws of people.
        seed: of the draws.
    """

    def __init__(self, groups: IdArray | None, n_boot: int, seed: int):
        self.people = People.several(groups, n_boot, seed)

    def measure(self, asked: Mapping[Key, Sequence[Tally]]) -> dict[Key, list[Measured]]:
        """For each key one Measured a view: the mean over its answers, in a draw taken within the draw.

        All in one call, because the draws are made anew at each.
        """
        tallies = [tally for answers in asked.values() for tally in answers]
        plain = [tally.scores(Drawn.once(tally.n_samples)) for tally in tallies]
        drawn = None if self.people is None else self.people.scores(tallies)
        found: dict[Key, list[Measured]] = {}
        start = 0
        for key, answers in asked.items():
            own = slice(start, start + len(answers))
            start += len(answers)
            values = np.mean(plain[own], axis=0)[:, :, 0]
            draws = None if drawn is None else np.mean(drawn[own], axis=0)
            found[key] = [
                _measured(values[view], None if draws is None else draws[view]) for view in range(len(values))
            ]
        return found


def _measured(values: FloatArray, draws: FloatArray | None) -> Measured:
    by_name = {name: float(value) for name, value in zip(METRICS, values, strict=True)}
    return Measured(by_name, None if draws is None else dict(zip(METRICS, draws, strict=True)))
