"""What a search found: plain data, as JSON and as text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ensemble_kit.columns import WIDTH, wrap
from ensemble_kit.recipe.space import Parameter
from ensemble_kit.structure_report import Gain, Interval
from ensemble_kit.tuning.claims import Halves
from ensemble_kit.tuning.trials import COMPLETE, PRUNED, Trial

LONGEST = 18
"""Signs of a value in the table; longer ones are cut short, and whole in the JSON."""


@dataclass(frozen=True)
class SearchReport:
    """A search's trials, the best of them, and what may be said of it.

    Attributes:
        objective: joint, or an attribute.
        best: number of the trial.
        intervals: number of a whole trial -> 95 % interval of its score over people.
        gain: of the best over trial 0; None when trial 0 is the best.
        halves: None when trial 0 alone is whole.
        importance: key -> share of the variance of the scores; {} = too few trials.
        outside: what of the recipe as it stands the space does not hold.
        batch: trials that were asked for together.
        files: what -> path.
        commands: what to run next.
    """

    recipe: str
    folder: str
    objective: str
    space: tuple[Parameter, ...]
    trials: tuple[Trial, ...]
    best: int
    n_samples: int
    n_people: int
    intervals: Mapping[int, Interval | None]
    gain: Gain | None
    halves: Halves | None
    importance: Mapping[str, float]
    outside: tuple[str, ...]
    batch: int
    files: Mapping[str, str]
    commands: tuple[str, ...]

    @property
    def best_trial(self) -> Trial:
        return self.trials[self.best]

    def to_json(self) -> dict[str, Any]:
        return {
            "recipe": self.recipe,
            "folder": self.folder,
            "objective": self.objective,
            "metric": "macro_f1",
            "n_samples": self.n_samples,
            "n_people": self.n_people,
            "batch": self.batch,
            "space": {parameter.key: parameter.described() for parameter in self.space},
            "best": self.best,
            "trials": [self._trial_json(trial) for trial in self.trials],
            "gain_over_first": None if self.gain is None else {**asdict(self.gain), "verdict": self.gain.verdict},
            "chosen_on_halves": None if self.halves is None else {**asdict(self.halves), "gain": self.halves.gain},
            "importance": dict(self.importance),
            "outside_the_space": list(self.outside),
            "files": dict(self.files),
            "commands": list(self.commands),
        }

    def _trial_json(self, trial: Trial) -> dict[str, Any]:
        interval = self.intervals.get(trial.number)
        return {**asdict(trial), "score": trial.score, "interval": None if interval is None else list(interval)}

    def text(self) -> str:
        parts = [self._head(), self._table(), self._best(), self._claims(), self._importance(), self._next()]
        return "\n\n".join(part for part in parts if part)

    def _head(self) -> str:
        states = [trial.state for trial in self.trials]
        counts = [f"{states.count(state)} {state}" for state in dict.fromkeys(states)]
        told = f"{self.recipe}: {len(states)} trials ({', '.join(counts)}), {_what(self.objective)} out of fold"
        return wrap(f"{told} on {self.n_samples} photos of {self.n_people} people")

    def _table(self) -> str:
        names = short_names([parameter.key for parameter in self.space])
        head = ["trial", "macro F1", *names]
        rows = [
            [_number(trial, self.best), _score(trial), *(_shown(trial.params.get(p.key)) for p in self.space)]
            for trial in self.trials
        ]
        widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
        n = _fitting(widths)
        lines = ["  ".join(f"{row[i]:<{widths[i]}}" for i in range(n)).rstrip() for row in [head, *rows]]
        if n < len(head):
            left = ", ".join(names[n - 2 :])
            lines.append(wrap(f"not shown, see results.json: {left}"))
        if any(trial.state == PRUNED for trial in self.trials):
            lines.append("p: pruned, so scored on the folds up to there; x: failed; *: the best")
        reasons = [f"trial {trial.number} failed: {trial.reason}" for trial in self.trials if trial.state == "failed"]
        return "\n".join([*lines, *map(wrap, reasons)])

    def _best(self) -> str:
        best = self.best_trial
        score, interval = best.after_fold[-1], self.intervals.get(best.number)
        between = "" if interval is None else f" [{interval[0]:.3f}, {interval[1]:.3f}]"
        lines = [f"best: trial {best.number}, {_what(self.objective)} {score:.3f}{between}"]
        lines += [wrap(f"  {key} = {_shown(value, 1000)}") for key, value in best.params.items()]
        return "\n".join(lines)

    def _claims(self) -> str:
        lines: list[str] = []
        if self.gain is not None:
            told = f"{self.gain}  {self.gain.verdict}"
            lines.append(f"trial {self.best} minus trial 0, the recipe as it stands: {told}")
        n_whole = sum(trial.state == COMPLETE for trial in self.trials)
        if self.gain is None:
            lines.append("trial 0, the recipe as it stands, is the best: nothing was gained")
        if n_whole > 1:
            lines.append(
                f"[ ]: 95 % intervals, people resampled; that of the difference holds for all {n_whole} whole trials "
                "at once, so for the best of them too."
            )
        if self.halves is not None:
            lines.append(
                "The score of the best is too high, since it was chosen by that score. Chosen on half of the people "
                f"and scored on the other half ({self.halves.n_splits} divisions): {self.halves.chosen:.3f}, the "
                f"recipe as it stands there {self.halves.first:.3f}, so {self.halves.gain:+.3f}."
            )
        return "\n".join(map(wrap, lines))

    def _importance(self) -> str:
        if not self.importance:
            return "importance of the parameters: too few whole trials, or all score alike"
        width = max(map(len, self.importance))
        lines = [
            f"  {key:<{width}}  {share:5.2f}  {'#' * round(20 * share)}".rstrip()
            for key, share in self.importance.items()
        ]
        n = sum(trial.is_complete and bool(trial.params) for trial in self.trials)
        return "\n".join([f"importance (share of the scores' variance, fANOVA on {n} trials: rough below 30)", *lines])

    def _next(self) -> str:
        lines = (
            [wrap(f"the space does not hold the recipe as it stands: {'; '.join(self.outside)}")]
            if self.outside
            else []
        )
        lines += [f"{what}: {path}" for what, path in self.files.items()]
        return "\n".join([*lines, *self.commands])


def short_names(keys: Sequence[str]) -> list[str]:
    """The last part of each key, more of it where two are alike.

    Examples:
        >>> short_names(["train.head_lr", "train.age.epochs", "train.epochs"])
        ['head_lr', 'age.epochs', 'train.epochs']
    """
    names = []
    for key in keys:
        parts = key.split(".")
        alike = [other.split(".") for other in keys if other != key]
        n = next((n for n in range(1, len(parts)) if parts[-n:] not in [other[-n:] for other in alike]), len(parts))
        names.append(".".join(parts[-n:]))
    return names


def _what(objective: str) -> str:
    return f"{objective} macro F1"


def _number(trial: Trial, best: int) -> str:
    sign = {PRUNED: "p", COMPLETE: ""}.get(trial.state, "x")
    return f"{trial.number}{'*' if trial.number == best else sign}"


def _score(trial: Trial) -> str:
    return "" if trial.score is None else f"{trial.score:.3f}"


def _shown(value: Any, longest: int = LONGEST) -> str:
    if value is None:
        return ""
    text = f"{value:.3g}" if isinstance(value, float) else _plain(value)
    return text if len(text) <= longest else f"{text[: longest - 3]}..."


def _plain(value: Any) -> str:
    from ensemble_kit.recipe.toml_text import toml_value

    return value if isinstance(value, str) else toml_value(value)


def _fitting(widths: Sequence[int]) -> int:
    """How many columns fit, two spaces apart."""
    used = [sum(widths[: n + 1]) + 2 * n for n in range(len(widths))]
    return max(2, sum(total <= WIDTH for total in used))
