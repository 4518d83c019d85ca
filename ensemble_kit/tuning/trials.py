"""One trial of a search, and the file it is kept in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from ensemble_kit.errors import DataError
from ensemble_kit.files import read_json, write_json

NAME = "trial.json"
ASKED, COMPLETE, PRUNED, FAILED = "asked", "complete", "pruned", "failed"
STATES = (ASKED, COMPLETE, PRUNED, FAILED)


@dataclass(frozen=True)
class Trial:
    """Values for the parameters of a search, and what came of them.

    Attributes:
        number: from 0; 0 is the recipe as it stands.
        params: key -> value, in the space's order; {} = the recipe as it stands, whose values the space does not hold.
        state: a name of `STATES`; "asked" = not finished.
        after_fold: the score on the photos held out in folds 0 to k, for each fold k that was trained.
        reason: why it was pruned, or failed.
        seconds: that its trainings took, without those it took over from another trial.
    """

    number: int
    params: Mapping[str, Any]
    state: str = ASKED
    after_fold: tuple[float, ...] = ()
    reason: str | None = None
    seconds: float = 0.0

    @property
    def is_finished(self) -> bool:
        return self.state != ASKED

    @property
    def is_complete(self) -> bool:
        return self.state == COMPLETE

    @property
    def score(self) -> float | None:
        """On all the photos that its folds held out; None = it has none."""
        return self.after_fold[-1] if self.after_fold else None

    def done(self, after_fold: Sequence[float], seconds: float = 0.0) -> Trial:
        return replace(self, state=COMPLETE, after_fold=tuple(after_fold), seconds=seconds)

    def pruned(self, after_fold: Sequence[float], reason: str, seconds: float = 0.0) -> Trial:
        return replace(self, state=PRUNED, after_fold=tuple(after_fold), reason=reason, seconds=seconds)

    def failed(self, reason: str) -> Trial:
        return replace(self, state=FAILED, reason=reason)


def trial_folder(folder: Path, number: int) -> Path:
    """A trial's run folder under the search's."""
    return Path(folder) / "trials" / f"{number:04d}"


def write_trial(folder: Path, trial: Trial) -> None:
    """Writes a trial into its folder, at once or not at all."""
    write_json(trial_folder(folder, trial.number) / NAME, {**asdict(trial), "score": trial.score})


def read_trial(folder: Path, number: int) -> Trial | None:
    """The trial of this number; None when it was not asked for yet.

    Raises:
        DataError: its file is not what a search writes.
    """
    file = trial_folder(folder, number) / NAME
    if not file.is_file():
        return None
    found = read_json(file)
    try:
        values = {key: value for key, value in found.items() if key != "score"}
        trial = Trial(**{**values, "after_fold": tuple(values["after_fold"])})
    except (TypeError, KeyError, AttributeError):
        trial = None
    if trial is None or trial.number != number or trial.state not in STATES:
        raise DataError(f"{file}: not what a search writes; remove its folder and run the search again")
    return trial


def best_of(trials: Sequence[Trial]) -> Trial:
    """The whole trial with the highest score, of equal ones the first.

    Raises:
        DataError: none is whole.
    """
    complete = [trial for trial in trials if trial.is_complete]
    if not complete:
        raise DataError("no trial of the search is whole; run it again, with more trials")
    return max(complete, key=lambda trial: (trial.after_fold[-1], -trial.number))
