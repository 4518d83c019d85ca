"""How often each joint class occurs in training data."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ensemble_kit.arrays import IntArray
from ensemble_kit.errors import DataError
from ensemble_kit.schema import Schema
from ensemble_kit.submission import ANSWER, ID, read_submission


def training_counts(source: str | Path, schema: Schema, *, layout: str = "auto", fixes: Path | None = None) -> IntArray:
    """Photos of each joint class, `(n_joint,)`.

    Args:
        source: a data set, its training table, or a file of answers (ImageID, ans).
        layout, fixes: how a data set is read, as `read_samples`.

    Raises:
        DataError: no such data, not labelled, or as `read_samples`.
    """
    source = Path(source)
    if _is_answers(source):
        return np.bincount(read_submission(source, schema)[1], minlength=schema.n_joint).astype(np.int64)
    from ensemble_kit.data.samples import read_samples

    in_tree = source.name == "train.csv" and source.parent.name == "train"  # the competition's: photos lie beside it
    table = read_samples(source.parent.parent if in_tree else source, schema, layout=layout, fixes=fixes)
    unlabelled = [name for name in schema.names if not table.has(name)]
    if unlabelled:
        raise DataError(f"{source}: no labels of {', '.join(unlabelled)}, so joint classes cannot be counted")
    joint = table.joint()
    return np.bincount(joint[joint >= 0], minlength=schema.n_joint).astype(np.int64)


def _is_answers(source: Path) -> bool:
    if source.suffix != ".csv" or not source.is_file():
        return False
    with open(source, encoding="utf-8-sig", errors="replace") as handle:
        header = [name.strip() for name in handle.readline().split(",")]
    return ID in header and ANSWER in header
