"""Several answer files side by side, joined by id."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ensemble_kit.arrays import IdArray, IntArray
from ensemble_kit.errors import DataError, UsageError
from ensemble_kit.ids import match_ids
from ensemble_kit.schema import Schema
from ensemble_kit.submission import read_submission


@dataclass(frozen=True, eq=False)
class Submissions:
    """Answers of several files to the same photos.

    Attributes:
        names: how each file was named.
        ids: `(n_samples,)`, in the first file's order.
        labels: `(n_files, n_samples)` joint classes.
    """

    names: tuple[str, ...]
    ids: IdArray
    labels: IntArray


def read_submissions(paths: Sequence[str | Path], schema: Schema) -> Submissions:
    """Reads answer files, their rows in any order.

    Raises:
        UsageError: none, or one file named twice.
        DataError: as `read_submission`, or files of different photos; says which ids differ.
    """
    if not paths:
        raise UsageError("expected at least one submission, found none")
    for number, path in enumerate(paths):
        if any(same_file(path, other) for other in paths[:number]):
            raise UsageError(f"{path} is named twice, so it would count twice; name it once (weights say how much)")
    ids, first = read_submission(paths[0], schema)
    labels = np.empty((len(paths), len(ids)), dtype=np.int64)
    labels[0] = first
    for number, path in enumerate(paths[1:], start=1):
        own_ids, own = read_submission(path, schema)
        rows = match_ids(own_ids, ids, str(path), f"they must be of the same photos as {paths[0]}")
        labels[number] = own if rows is None else own[rows]
    return Submissions(tuple(str(path) for path in paths), ids, labels)


def same_file(one: str | Path, other: str | Path) -> bool:
    """Whether two names are one file: by its content's place where both exist (links), else by the path."""
    try:
        return Path(one).samefile(other)
    except OSError:
        return Path(one).resolve() == Path(other).resolve()


def refuse_overwriting(out: str | Path, inputs: Iterable[str | Path | None]) -> None:
    """Raises UsageError when the file to write is one of those read, DataError when it is a folder."""
    for path in inputs:
        if path is not None and same_file(out, path):
            raise UsageError(f"{out}: the file to write is one of those read and would be lost; name another")
    if Path(out).is_dir():
        raise DataError(f"{out}: expected the name of a file to write, found a folder; write {Path(out) / 'out.csv'}")
