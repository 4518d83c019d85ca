"""What a comparison of runs found: plain data, as JSON and as text."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from ensemble_kit.columns import WIDTH, fitted, wrap
from ensemble_kit.structure_report import Gain, Interval, Score

JOINT = "joint"
METRIC_TEXT = {"macro_f1": "macro F1", "accuracy": "accuracy"}


@dataclass(frozen=True)
class FoldSpread:
    """A score's mean and standard deviation over the folds (None = one fold)."""

    mean: float
    deviation: float | None
    n_folds: int

    def __str__(self) -> str:
        return f"{self.mean:.3f}" + ("" if self.deviation is None else f" ± {self.deviation:.3f}")


@dataclass(frozen=True)
class RunRow:
    """One run.

    Attributes:
        scores: "joint" and each attribute -> scores with intervals over people.
        folds: metric -> its spread over folds, of the joint class (or of the one attribute there is).
        seconds: of training, all folds together.
        checkpoint_bytes, folder_bytes: of the kept checkpoints, and of the whole run.
    """

    name: str
    folder: str
    scores: dict[str, Score]
    folds: dict[str, FoldSpread]
    n_checkpoints: int
    seconds: float
    checkpoint_bytes: int
    folder_bytes: int


@dataclass(frozen=True)
class Difference:
    """One run's score minus another's, on the same people; the intervals hold for all runs at once."""

    run: str
    against: str
    what: str
    metric: str
    value: float
    interval: Interval

    @property
    def verdict(self) -> str:
        return Gain(self.value, self.interval).verdict

    @property
    def sentence(self) -> str:
        low, high = self.interval
        return f"{self.what} {METRIC_TEXT[self.metric]} {self.value:+.3f} [{low:+.3f}, {high:+.3f}]  {self.verdict}"


@dataclass(frozen=True)
class Curve:
    """An expert's training in one run: means over its folds, None where an epoch was not scored."""

    run: str
    expert: str
    epochs: tuple[int, ...]
    train_loss: tuple[float | None, ...]
    macro_f1: tuple[float | None, ...]


@dataclass(frozen=True)
class RunComparison:
    """Runs on the same held-out photos; `against` is the run that the differences are from."""

    n_samples: int
    n_people: int
    n_boot: int
    against: str
    rows: tuple[RunRow, ...]
    differences: tuple[Difference, ...]
    curves: tuple[Curve, ...]
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        differences = [{**asdict(one), "verdict": one.verdict} for one in self.differences]
        return {**asdict(self), "differences": differences}

    def text(self) -> str:
        """The tables in plain text."""
        head = f"Runs compared out of fold on {self.n_samples} photos of {self.n_people} people"
        parts = [head, self._scores(), self._costs()]
        parts += [self._against(row.name) for row in self.rows if row.name != self.against]
        notes = [
            f"[ ]: 95 % interval, people resampled {self.n_boot} times; those of differences hold for all runs at once."
        ]
        return "\n\n".join([*parts, "\n".join(wrap(note) for note in [*notes, *self.notes])])

    def _scores(self) -> str:
        whats = list(dict.fromkeys(what for row in self.rows for what in row.scores))
        tables = []
        for what in whats:
            scored = [(row.name, row.scores[what]) for row in self.rows if what in row.scores]
            cells = [
                [name, _between(one.macro_f1, one.macro_f1_interval), _between(one.accuracy, one.accuracy_interval)]
                for name, one in scored
            ]
            tables.append(fitted([what, "macro F1", "accuracy"], cells, WIDTH))
        return "\n\n".join(tables)

    def _costs(self) -> str:
        head = ["", "macro F1\nby fold", "accuracy\nby fold", "training", "checkpoints", "their size", "the run"]
        cells = [
            [
                row.name,
                str(row.folds["macro_f1"]),
                str(row.folds["accuracy"]),
                _time(row.seconds),
                str(row.n_checkpoints),
                _megabytes(row.checkpoint_bytes),
                _megabytes(row.folder_bytes),
            ]
            for row in self.rows
        ]
        return fitted(head, cells, WIDTH)

    def _against(self, name: str) -> str:
        own = [one for one in self.differences if one.run == name]
        return "\n".join([f"{name} minus {self.against}", *(f"  {one.sentence}" for one in own)])


def _between(value: float, interval: Interval | None) -> str:
    return f"{value:.3f}" + ("" if interval is None else f" [{interval[0]:.3f}, {interval[1]:.3f}]")


def _megabytes(n_bytes: int) -> str:
    return f"{n_bytes / 1e6:.1f} MB" if n_bytes < 1e7 else f"{n_bytes / 1e6:.0f} MB"


def _time(seconds: float) -> str:
    minutes = round(seconds / 60)
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d}"
