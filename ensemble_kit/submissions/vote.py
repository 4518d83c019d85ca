"""A hard vote of submissions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike

from ensemble_kit.arrays import BoolArray, FloatArray, IntArray
from ensemble_kit.columns import WIDTH, fitted
from ensemble_kit.errors import UsageError, nearest
from ensemble_kit.schema import Schema
from ensemble_kit.submission import write_submission
from ensemble_kit.submissions.table import Submissions, read_submissions, refuse_overwriting
from ensemble_kit.voting import vote_labels, vote_labels_by_attribute

By = Literal["joint", "attribute"]


@dataclass(frozen=True, eq=False)
class VoteReport:
    """What a vote of submissions gave.

    Attributes:
        labels: `(n_samples,)` joint classes, in the order of the first file.
        names, weights: of the inputs.
        unanimous: share of photos on which every input of a weight above 0 says the same.
        ties: what was voted on (joint, or each attribute) -> photos on which several classes led, broken by the
            training counts and by the lowest class number.
        agreement: `(n_files,)` share of photos on which each input says what the result says.
    """

    labels: IntArray
    names: tuple[str, ...]
    weights: FloatArray
    unanimous: float
    ties: dict[str, dict[str, int]]
    agreement: FloatArray

    def to_json(self) -> dict[str, Any]:
        inputs = [
            {"file": name, "weight": float(weight), "agreement": float(share)}
            for name, weight, share in zip(self.names, self.weights, self.agreement, strict=True)
        ]
        return {"n_samples": len(self.labels), "unanimous": self.unanimous, "ties": self.ties, "inputs": inputs}

    def text(self) -> str:
        lines = [f"{len(self.labels)} photos, {self.unanimous:.1%} unanimous"]
        for what, found in self.ties.items():
            broken = f"{found['by_counts']} by training counts, {found['by_index']} by the lower class number"
            count = sum(found.values())
            lines.append(f"ties, {what}: {count}" + (f" ({broken})" if count else ""))
        rows = [[name, f"{share:.4f}"] for name, share in zip(self.names, self.agreement, strict=True)]
        head = ["", "agreement with\nthe result"]
        if np.ptp(self.weights):
            head.append("weight")
            rows = [[*row, f"{weight:g}"] for row, weight in zip(rows, self.weights, strict=True)]
        return "\n".join([*lines, fitted(head, rows, WIDTH)])


def vote_submissions(
    labels: ArrayLike,
    schema: Schema,
    weights: ArrayLike | None = None,
    *,
    by: By = "joint",
    counts: ArrayLike | None = None,
    names: Sequence[str] | None = None,
) -> VoteReport:
    """The class with the most votes; ties fall to the class of more training photos, then to the lowest class number.

    Args:
        labels: `(n_files, n_samples)` joint classes.
        weights: `(n_files,)` >= 0; all 1 when left out.
        by: "joint", or "attribute": each attribute voted on apart.
        counts: `(n_joint,)` training photos of each joint class, for ties.
        names: of the files, for the report.

    Raises:
        UsageError: an unknown `by`, weights or counts that cannot be.
        DataError: labels that are no joint classes.

    Examples:
        >>> from ensemble_kit.schema import Attribute
        >>> schema = Schema(Attribute("mask", ["worn", "incorrect", "not_worn"]))
        >>> vote_submissions([[0, 2], [1, 2]], schema).labels.tolist()
        [0, 2]
        >>> vote_submissions([[0, 2], [1, 2]], schema, counts=[5, 9, 1]).ties
        {'joint': {'by_counts': 1, 'by_index': 0}}
    """
    if by not in get_args(By):
        raise UsageError(f'--by "{by}"{nearest(by, get_args(By))}')
    given = np.asarray(labels)
    own = np.ones(len(given)) if weights is None else np.asarray(weights, dtype=np.float64)
    if by == "attribute":
        voted = vote_labels_by_attribute(given, schema, own, counts=counts).labels
    else:
        voted = vote_labels(given, schema.n_joint, own, counts=counts).labels
    speaking = given[own > 0]
    return VoteReport(
        voted,
        tuple(names) if names is not None else tuple(f"input {number + 1}" for number in range(len(given))),
        own,
        float((speaking == speaking[0]).all(axis=0).mean()) if voted.size else 0.0,
        _ties(given, schema, own, by, counts),
        (given == voted).mean(axis=1),
    )


def vote_files(
    paths: Sequence[Path],
    out: Path,
    schema: Schema,
    weights: Sequence[float] | None = None,
    *,
    by: By = "joint",
    counts: ArrayLike | None = None,
    template: Path | None = None,
) -> VoteReport:
    """Votes over answer files and writes the result, in the template's order or the first file's.

    Raises:
        UsageError: a number of weights other than of files, the output is an input; as `vote_submissions`.
        DataError: as `read_submissions` and `write_submission`.
    """
    refuse_overwriting(out, [*paths, template])
    if weights is not None and len(weights) != len(paths):
        raise UsageError(f"--weights: expected one for each of {len(paths)} submissions, found {len(weights)}")
    found: Submissions = read_submissions(paths, schema)
    report = vote_submissions(found.labels, schema, weights, by=by, counts=counts, names=found.names)
    write_submission(out, (found.ids, report.labels), template=template, schema=schema)
    return report


def _ties(
    labels: IntArray, schema: Schema, weights: FloatArray, by: By, counts: ArrayLike | None
) -> dict[str, dict[str, int]]:
    own_counts = None if counts is None else np.asarray(counts, dtype=np.float64)
    if by == "joint":
        return {"joint": _broken(labels, schema.n_joint, weights, own_counts)}
    parts = schema.decode(labels)
    found = {}
    for column, attribute in enumerate(schema.attributes):
        n_own = len(attribute.classes)
        number = schema.paths[:, column]
        of_own = None if own_counts is None else np.bincount(number, own_counts, minlength=n_own).astype(np.float64)
        found[attribute.name] = _broken(parts[attribute.name], n_own, weights, of_own)
    return found


def _broken(labels: IntArray, n_classes: int, weights: FloatArray, counts: FloatArray | None) -> dict[str, int]:
    plain = np.zeros(n_classes) if counts is None else counts
    tied = _depends_on_index(labels, n_classes, weights, np.zeros(n_classes))
    by_index = tied & _depends_on_index(labels, n_classes, weights, plain)
    return {"by_counts": int((tied & ~by_index).sum()), "by_index": int(by_index.sum())}


def _depends_on_index(labels: IntArray, n_classes: int, weights: FloatArray, counts: FloatArray) -> BoolArray:
    """Where the result changes when equal counts fall to the highest class number and not to the lowest."""
    ranks = np.empty(n_classes, dtype=np.int64)
    ranks[np.lexsort((np.arange(n_classes), counts))] = np.arange(n_classes)
    lowest = vote_labels(labels, n_classes, weights, counts=counts).labels
    highest = vote_labels(labels, n_classes, weights, counts=ranks).labels
    return np.asarray(lowest != highest)
