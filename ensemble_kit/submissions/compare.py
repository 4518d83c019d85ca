"""Two submissions side by side: where they agree, what changes into what, and who is right."""

from __future__ import annotations

import csv
import io
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ensemble_kit.arrays import FloatArray, IdArray, IntArray
from ensemble_kit.columns import WIDTH, fitted, wrap
from ensemble_kit.errors import DataError
from ensemble_kit.files import write_text
from ensemble_kit.metrics import METRICS, Drawn, People, Tally, View, interval
from ensemble_kit.schema import Schema

FEW = 10
"""Changes and rows that are printed; JSON and --rows have all."""

N_BOOT = 1000


@dataclass(frozen=True)
class Agreement:
    """How often two answers agree on one thing (the joint class or an attribute).

    Attributes:
        kappa: Cohen's (1960): agreement beyond what the class shares alone would give, 1 = all; None when both give one
            and the same class throughout.
        changes: `(n_classes, n_classes)` photos by a's class (rows) and b's class (columns).
    """

    classes: tuple[str, ...]
    share: float
    kappa: float | None
    changes: list[list[int]]

    def per_class(self) -> list[dict[str, Any]]:
        """Of each class: photos of a, of b, of both, and both over either (Jaccard's index; None without a photo)."""
        rows = []
        for number, name in enumerate(self.classes):
            both = self.changes[number][number]
            of_a, of_b = sum(self.changes[number]), sum(row[number] for row in self.changes)
            either = of_a + of_b - both
            rows.append({"class": name, "a": of_a, "b": of_b, "both": both, "agree": both / either if either else None})
        return rows

    def largest_changes(self) -> list[tuple[int, str, str]]:
        """(photos, a's class, b's class), the most first."""
        found = [
            (n, self.classes[i], self.classes[j])
            for i, row in enumerate(self.changes)
            for j, n in enumerate(row)
            if n and i != j
        ]
        return sorted(found, key=lambda change: -change[0])

    def to_json(self) -> dict[str, Any]:
        changed = [{"a": old, "b": new, "photos": n} for n, old, new in self.largest_changes()]
        return {"agreement": self.share, "kappa": self.kappa, "classes": self.per_class(), "changes": changed}


@dataclass(frozen=True)
class Verdict:
    """Who is right on the photos where two answers differ, of one thing.

    Attributes:
        only_a, only_b, neither: photos, of those that differ, by who is right.
        p: McNemar's exact two-sided probability (1947) of so uneven a split if both were right as often. Photos are
            taken one by one, so with several of one person it is too small; the intervals are not.
        gains: metric -> (b minus a, and its 95 % interval over people where these are known).
    """

    only_a: int
    only_b: int
    neither: int
    p: float
    gains: dict[str, tuple[float, float | None, float | None]]


@dataclass(frozen=True, eq=False)
class CompareReport:
    """What `compare_labels` found; `differing` holds row numbers."""

    names: tuple[str, str]
    ids: IdArray
    a: IntArray
    b: IntArray
    schema: Schema
    truth: IntArray | None
    differing: IntArray
    agreements: dict[str, Agreement]
    verdicts: dict[str, Verdict]

    def to_json(self) -> dict[str, Any]:
        names = self.schema.joint_names()
        rows = [{"id": str(self.ids[r]), "a": names[self.a[r]], "b": names[self.b[r]]} for r in self.differing]
        return {
            "a": self.names[0],
            "b": self.names[1],
            "n_samples": len(self.ids),
            "n_differing": len(self.differing),
            "agreement": {name: found.to_json() for name, found in self.agreements.items()},
            "verdict": {name: asdict(found) for name, found in self.verdicts.items()} or None,
            "rows": rows,
        }

    def text(self) -> str:
        lines = [f"a: {self.names[0]}", f"b: {self.names[1]}"]
        lines.append(f"{len(self.ids)} photos, {len(self.differing)} differ")
        rows = [
            [name, f"{found.share:.4f}", "-" if found.kappa is None else f"{found.kappa:.3f}"]
            for name, found in self.agreements.items()
        ]
        lines.append(fitted(["", "agreement", "kappa"], rows, WIDTH))
        lines += self._class_lines() + self._verdict_lines() + self._row_lines()
        return "\n".join(lines)

    def _class_lines(self) -> list[str]:
        joint = self.agreements["joint"]
        rows = []
        for row in joint.per_class():
            share = "-" if row["agree"] is None else f"{row['agree']:.3f}"
            rows.append([row["class"], *(str(row[key]) for key in ("a", "b", "both")), share])
        lines = [fitted(["class", "a", "b", "both", "agree"], rows, WIDTH)]
        changes = joint.largest_changes()
        if changes:
            lines.append("largest changes, a -> b:")
            lines.append(fitted(["", ""], [[f"{old} -> {new}", str(n)] for n, old, new in changes[:FEW]], WIDTH))
            if len(changes) > FEW:
                lines.append(f"  and {len(changes) - FEW} more kinds; all with --json")
        return lines

    def _verdict_lines(self) -> list[str]:
        if not self.verdicts:
            return []
        rows = [
            [name, str(found.only_a), str(found.only_b), str(found.neither), f"{found.p:.3g}"]
            for name, found in self.verdicts.items()
        ]
        lines = [fitted(["where they differ", "a right", "b right", "neither", "p (McNemar)"], rows, WIDTH)]
        for metric, (gain, low, high) in self.verdicts["joint"].gains.items():
            between = "" if low is None else f" [{low:+.4f}, {high:+.4f}], 95 % over people"
            lines.append(f"joint {metric.replace('_', ' ')}, b minus a: {gain:+.4f}{between}")
        return lines

    def _row_lines(self) -> list[str]:
        names = self.schema.joint_names()
        lines = ["rows that differ:"] if len(self.differing) else []
        shown = []
        for row in self.differing[:FEW]:
            known = "" if self.truth is None else f"   truth: {names[self.truth[row]]}"
            shown.append((str(self.ids[row]), f"{names[self.a[row]]} -> {names[self.b[row]]}", known))
        if all(len(name) + len(said) + len(known) + 4 <= WIDTH for name, said, known in shown):
            lines += [f"  {name}  {said}{known}" for name, said, known in shown]
        else:
            lines += [line for one in shown for line in _below(*one)]
        if len(self.differing) > FEW:
            lines.append(f"  and {len(self.differing) - FEW} more; all with --rows FILE")
        return lines


def _below(name: str, said: str, known: str) -> list[str]:
    """A photo, and what is said of it in lines of their own."""
    lines = [f"    {said}{known}"]
    if len(lines[0]) > WIDTH and known:
        lines = [f"    {said}", f"    {known.strip()}"]
    return [f"  {name}", *(wrapped for line in lines for wrapped in _wrapped(line))]


def _wrapped(line: str) -> list[str]:
    return ["    " + part for part in wrap(line.strip(), WIDTH - 4).splitlines()]


def compare_labels(
    ids: IdArray,
    a: ArrayLike,
    b: ArrayLike,
    schema: Schema,
    *,
    truth: ArrayLike | None = None,
    groups: ArrayLike | None = None,
    names: tuple[str, str] = ("a", "b"),
    seed: int = 0,
) -> CompareReport:
    """Compares two sets of joint classes of the same photos.

    Args:
        ids: `(n_samples,)`.
        a, b: `(n_samples,)` joint classes.
        truth: `(n_samples,)` joint classes, where the answers are known.
        groups: `(n_samples,)` whose photo it is, for intervals of the differences in score.

    Raises:
        DataError: lengths that differ, no photos, or numbers that are no joint classes.

    Examples:
        >>> from ensemble_kit.schema import Attribute
        >>> schema = Schema(Attribute("mask", ["worn", "incorrect", "not_worn"]))
        >>> found = compare_labels(np.array(["x", "y", "z"]), [0, 1, 2], [0, 1, 1], schema, truth=[0, 1, 1])
        >>> found.agreements["mask"].largest_changes(), found.verdicts["joint"].only_b
        ([(1, 'not_worn', 'incorrect')], 1)
    """
    one, other = np.asarray(a, dtype=np.int64), np.asarray(b, dtype=np.int64)
    true = None if truth is None else np.asarray(truth, dtype=np.int64)
    for values in (one, other, *(() if true is None else (true,))):
        if values.shape != (len(ids),) or not len(ids):
            raise DataError(f"compare: expected a class for each of at least one photo, found {values.shape}")
        if values.min() < 0:
            raise DataError(f"compare: joint classes are 0 to {schema.n_joint - 1}, found {values.min()}")
    of_a, of_b = _views(one, schema), _views(other, schema)
    classes = {"joint": tuple(schema.joint_names())} | {x.name: x.classes for x in schema.attributes}
    agreements = {name: _agreement(of_a[name], of_b[name], classes[name]) for name in classes}
    verdicts = {}
    if true is not None:
        people = People.several(groups, N_BOOT, seed)
        of_truth = _views(true, schema)
        verdicts = {
            name: _verdict(of_a[name], of_b[name], of_truth[name], len(classes[name]), people) for name in classes
        }
    return CompareReport(names, ids, one, other, schema, true, np.flatnonzero(one != other), agreements, verdicts)


def write_rows(path: Path, report: CompareReport) -> None:
    """Writes the rows that differ: ImageID, the two numbers and names, and where it is known the truth."""
    names = report.schema.joint_names()
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(
        ["ImageID", "a", "b", "a_class", "b_class", *(() if report.truth is None else ("ans", "ans_class"))]
    )
    for row in report.differing:
        one, other = int(report.a[row]), int(report.b[row])
        known = () if report.truth is None else (int(report.truth[row]), names[report.truth[row]])
        writer.writerow([report.ids[row], one, other, names[one], names[other], *known])
    write_text(path, text.getvalue())


def mcnemar(only_a: int, only_b: int) -> float:
    """The exact two-sided probability of a split at least as uneven, each photo falling either way by a fair coin."""
    n, fewer = only_a + only_b, min(only_a, only_b)
    tail = sum(
        math.exp(math.lgamma(n + 1) - math.lgamma(i + 1) - math.lgamma(n - i + 1) - n * math.log(2))
        for i in range(fewer + 1)
    )
    return min(1.0, 2 * tail)


def _views(joint: IntArray, schema: Schema) -> dict[str, IntArray]:
    return {"joint": joint} | schema.decode(joint)


def _agreement(a: IntArray, b: IntArray, classes: tuple[str, ...]) -> Agreement:
    n = len(classes)
    table = np.bincount(a * n + b, minlength=n * n).reshape(n, n)
    share = float(np.trace(table) / len(a))
    by_chance = float((table.sum(axis=1) / len(a) * (table.sum(axis=0) / len(a))).sum())
    kappa = (share - by_chance) / (1 - by_chance) if by_chance < 1 else None
    return Agreement(classes, share, kappa, table.tolist())


def _verdict(a: IntArray, b: IntArray, truth: IntArray, n_classes: int, people: People | None) -> Verdict:
    differ, a_right, b_right = a != b, a == truth, b == truth
    only_a, only_b = int((differ & a_right).sum()), int((differ & b_right).sum())
    tallies = [Tally(truth, labels, [View.all(n_classes)]) for labels in (a, b)]
    plain = _gains([tally.scores(Drawn.once(len(truth))) for tally in tallies])
    drawn = None if people is None else _gains(people.scores(tallies))
    gains = {}
    for row, metric in enumerate(METRICS):
        low, high = (None, None) if drawn is None else interval(drawn[row])
        gains[metric] = (float(plain[row, 0]), low, high)
    return Verdict(only_a, only_b, int(differ.sum()) - only_a - only_b, mcnemar(only_a, only_b), gains)


def _gains(scores: list[FloatArray]) -> FloatArray:
    """b minus a, `(n_metrics, n_draws)`: paired, as both are of the same people."""
    return np.asarray(scores[1][0] - scores[0][0])
