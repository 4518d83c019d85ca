"""What testing beliefs found: plain data, as JSON, CSV, Markdown and a table for 80 columns."""

from __future__ import annotations

import csv
import io
import textwrap
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ensemble_kit.columns import WIDTH, fitted, wrap
from ensemble_kit.diagnosis.claims import CLAIMS
from ensemble_kit.files import write_json, write_text
from ensemble_kit.recipe.run_comparison import METRIC_TEXT
from ensemble_kit.structure_report import Interval

SAYS = 37
COLUMNS = (
    "name", "says", "a", "b", "claim", "margin", "attribute", "metric", "a_score", "b_score", "difference", "low",
    "high", "people_error", "seed_error", "verdict",
)  # fmt: skip
RULE = (
    'A belief holds when the whole interval lies on the side it claims (above the margin; for "worse" below its '
    'negative; for "no better" below it), is contradicted when all of it lies on the other side, else not resolved.'
)


@dataclass(frozen=True)
class BeliefRow:
    """One belief.

    Attributes:
        difference, interval: of `a - b`; the intervals of all rows hold together.
        people_error, seed_error: standard errors of the two sources in it; None = one seed, not measured.
        by_seed: the difference with each seed.
    """

    name: str
    says: str
    a: str
    b: str
    claim: str
    margin: float
    attribute: str
    metric: str
    a_score: float
    b_score: float
    difference: float
    interval: Interval
    people_error: float
    seed_error: float | None
    by_seed: tuple[float, ...]
    verdict: str

    @property
    def told(self) -> str:
        low, high = self.interval
        return f"{self.difference:+.3f} [{low:+.3f}, {high:+.3f}]"


@dataclass(frozen=True)
class ArmRow:
    """One side: its score, the mean over its seeds, with the interval over people that it has alone."""

    side: str
    attribute: str
    metric: str
    score: float
    interval: Interval | None
    by_seed: tuple[float, ...]
    seconds: float


@dataclass(frozen=True)
class BeliefReport:
    """Every belief that was tested, and those that were not."""

    file: str
    data: str
    n_samples: int
    n_people: int
    n_folds: int
    seeds: tuple[int, ...]
    n_boot: int
    beliefs: tuple[BeliefRow, ...]
    not_run: tuple[tuple[str, str], ...]
    arms: tuple[ArmRow, ...]

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "rule": RULE, "claims": dict(CLAIMS)}

    def text(self) -> str:
        """The table in plain text, at most 80 columns wide."""
        lines = [wrap(self._head()), "", f"{'belief':<{SAYS}}  {'difference a - b':<25}  verdict"]
        for row in self.beliefs:
            first, *more = textwrap.wrap(row.says, SAYS) or [""]
            lines.append(f"{first:<{SAYS}}  {row.told:<25}  {row.verdict}")
            lines += [f"  {part}" for part in more]
        for _, says in self.not_run:
            first, *more = textwrap.wrap(says, SAYS) or [""]
            lines += [f"{first:<{SAYS}}  {'':<25}  not run", *(f"  {part}" for part in more)]
        lines += ["", *self._arms(), "", *(wrap(note) for note in self.notes())]
        return "\n".join(lines)

    def notes(self) -> list[str]:
        """How the numbers were made."""
        seeds = (
            "seeds (their spread pooled over the beliefs)" if len(self.seeds) > 1 else "not over seeds: there is one"
        )
        return [
            f"[ ]: 95 % intervals of differences, holding for all {len(self.beliefs)} beliefs at once; over people "
            f"(drawn {self.n_boot} times) and {seeds}. Other people to train on are not in it.",
            RULE,
        ]

    def csv(self) -> str:
        """One line a belief, full precision; what was not run has a name, a sentence and a verdict alone."""
        out = io.StringIO()
        writer = csv.DictWriter(out, COLUMNS, lineterminator="\n", extrasaction="ignore")
        writer.writeheader()
        for row in self.beliefs:
            low, high = row.interval
            writer.writerow({**asdict(row), "low": low, "high": high})
        for name, says in self.not_run:
            writer.writerow({"name": name, "says": says, "verdict": "not run"})
        return out.getvalue()

    def markdown(self) -> str:
        """The table for a README."""
        lines = [self._head(), "", "| belief | a | b | difference | verdict |", "|---|---|---|---|---|"]
        lines += [f"| {row.says} | {row.a} | {row.b} | {row.told} | {row.verdict} |" for row in self.beliefs]
        lines += [f"| {says} | | | | not run |" for _, says in self.not_run]
        return "\n".join([*lines, "", *self.notes()]) + "\n"

    def _head(self) -> str:
        whats = {(row.attribute, row.metric) for row in self.beliefs}
        what = " and ".join(f"{attribute} {METRIC_TEXT[metric]}" for attribute, metric in sorted(whats))
        return (
            f"{what} out of fold: {self.n_samples} photos of {self.n_people} people, "
            f"{self.n_folds} folds x {len(self.seeds)} seeds"
        )

    def _arms(self) -> list[str]:
        rows = []
        for row in self.arms:
            between = "" if row.interval is None else f" [{row.interval[0]:.3f}, {row.interval[1]:.3f}]"
            rows.append([row.side, f"{row.score:.3f}{between}", " ".join(f"{one:.3f}" for one in row.by_seed)])
        return [fitted(["arm", "score", "by seed"], rows, WIDTH)]


def save_report(root: Path, report: BeliefReport) -> list[Path]:
    """Writes `beliefs.json`, `.csv`, `.md` and `.txt`."""
    files = [Path(root) / f"beliefs.{kind}" for kind in ("json", "csv", "md", "txt")]
    write_json(files[0], report.to_json())
    for file, text in zip(files[1:], (report.csv(), report.markdown(), report.text() + "\n"), strict=True):
        write_text(file, text)
    return files


def plan_text(rows: Sequence[tuple[str, int, int, int]]) -> str:
    """What would be trained: arm, trainings to do and in all, photos that pass."""
    cells = [[name, f"{left} of {total}", str(photos)] for name, left, total, photos in rows]
    lines = [fitted(["arm", "to train", "photos pass"], cells, WIDTH)]
    photos = sum(row[3] for row in rows)
    lines.append(f"{sum(row[1] for row in rows)} trainings, about {photos} photos pass (a plan: nothing is written)")
    return "\n".join(lines)
