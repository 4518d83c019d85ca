"""The competition's answer file: `ImageID,ans`, one row a photo, `ans` the joint class."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from ensemble_kit.arrays import IdArray, IntArray
from ensemble_kit.errors import DataError
from ensemble_kit.files import write_text
from ensemble_kit.ids import as_ids
from ensemble_kit.predictions import Decision, Predictions
from ensemble_kit.schema import Schema

ID, ANSWER = "ImageID", "ans"

_WHOLE_NUMBER = re.compile(r"[+-]?\d{1,9}(\.0*)?")  # spreadsheets and pandas turn 13 into 13.0


def write_submission(
    path: str | Path,
    predictions: Predictions | tuple[Sequence[str] | IdArray, ArrayLike],
    *,
    template: str | Path | None = None,
    decide: Decision = "joint",
    schema: Schema | None = None,
) -> None:
    """Writes `ImageID,ans`, whole or not at all.

    Args:
        path: the file to write.
        predictions: what combining returns (one voter, its columns the joint classes), or `(ids, labels)`, each
            `(n_samples,)`.
        template: a CSV with the column ImageID, as handed out: its ids, in its order, are what is written.
        decide: how joint predictions become labels, `"joint"` or `"attribute"`; labels given as such stay as they are.
        schema: whose joint classes the answers must be; without it any one voter's columns are taken.

    Raises:
        DataError: predictions or labels that are not of the schema's joint classes, a photo without an answer (-1 =
            abstained), a label that is no whole number, or the ids are not the template's.
    """
    if isinstance(predictions, Predictions):
        if schema is not None:
            _check_joint(predictions, schema)
        ids, labels = predictions.ids, predictions.labels(decide)
    else:
        ids, labels = as_ids(predictions[0], "submission"), _labels(predictions[1])
    answers = _answers(ids, labels)
    if schema is not None and labels.max(initial=-1) >= schema.n_joint:
        raise DataError(f"labels must be joint classes, 0 to {schema.n_joint - 1}, found {labels.max()}")
    order = list(answers) if template is None else _template_order(Path(template), answers)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([ID, ANSWER])
    writer.writerows((sample_id, answers[sample_id]) for sample_id in order)
    write_text(Path(path), text.getvalue())


def read_submission(path: str | Path, schema: Schema) -> tuple[IdArray, IntArray]:
    """Reads `ImageID,ans` (further columns are ignored); `13.0` counts as 13, a byte order mark is skipped.

    Returns:
        ids `(n_samples,)` and joint index `(n_samples,)`, in the file's order.

    Raises:
        DataError: no such file, no rows, a column missing, an id twice, an answer that is no joint class of the schema.
    """
    path = Path(path)
    ids: dict[str, int] = {}
    labels = []
    for line, (sample_id, answer) in _rows(path, ID, ANSWER):
        _add_id(ids, sample_id, path, line)
        answer = answer.strip()
        number = int(float(answer)) if _WHOLE_NUMBER.fullmatch(answer) else -1
        if not 0 <= number < schema.n_joint:
            raise DataError(
                f'{path} line {line}: {ANSWER} must be a whole number from 0 to {schema.n_joint - 1}, found "{answer}" '
                f"(photo {sample_id}); correct that row or write the file again"
            )
        labels.append(number)
    return np.array(list(ids), dtype=np.str_), np.array(labels, dtype=np.int64)


def read_template(path: str | Path) -> IdArray:
    """The ids `(n_samples,)` of a CSV with the column ImageID, in its order.

    Raises:
        DataError: no such file, no rows, no such column, an id twice.
    """
    ids: dict[str, int] = {}
    for line, (sample_id,) in _rows(Path(path), ID):
        _add_id(ids, sample_id, Path(path), line)
    return np.array(list(ids), dtype=np.str_)


def _check_joint(predictions: Predictions, schema: Schema) -> None:
    """Raises DataError unless the columns are the schema's joint classes in its order."""
    if predictions.names != schema.names or predictions.condition:
        raise DataError(
            f"a submission needs joint predictions of {','.join(schema.names)}, found {predictions.describe()}; "
            'combine the experts first ("ens combine")'
        )
    joint = [tuple(a.classes[i] for a, i in zip(schema.attributes, row, strict=True)) for row in schema.paths]
    if predictions.attributes != schema.attributes or list(predictions.classes) != joint:
        raise DataError(
            f"predictions of {predictions.describe()}: classes, borders or columns are not the schema's; combine the "
            "experts again with this schema"
        )


def _labels(values: ArrayLike) -> IntArray:
    labels = np.asarray(values)
    if labels.dtype.kind not in "iuf" or not np.array_equal(labels, np.trunc(labels)):
        raise DataError(f"labels must be whole numbers (joint classes), found {labels.dtype} {labels.ravel()[:3]}")
    return labels.astype(np.int64)


def _answers(ids: IdArray, labels: IntArray) -> dict[str, int]:
    """id -> label; refuses what could not be a submission."""
    if ids.shape != labels.shape or ids.ndim != 1:
        raise DataError(f"expected one label for each id, found {ids.shape} ids and {labels.shape} labels")
    silent = np.flatnonzero(labels < 0)
    if len(silent):
        raise DataError(
            f'{len(silent)} of {len(ids)} photos have no answer (abstained; the first is "{ids[silent[0]]}") and a '
            "submission needs one for each; combine again with a route that always answers, such as soft, "
            "or name an answer with --missing"
        )
    answers = dict(zip(ids.tolist(), labels.tolist(), strict=True))
    if len(answers) < len(ids):
        names, counts = np.unique(ids, return_counts=True)
        raise DataError(f'id "{names[counts > 1][0]}" has more than one answer; expected each photo once')
    return answers


def _template_order(template: Path, answers: dict[str, int]) -> list[str]:
    order: list[str] = read_template(template).tolist()
    missing = [sample_id for sample_id in order if sample_id not in answers]
    wanted = set(order)
    extra = [sample_id for sample_id in answers if sample_id not in wanted]
    found = []
    if missing:
        found.append(f'{len(missing)} of its {len(order)} ids have no prediction (the first is "{missing[0]}")')
    if extra:
        found.append(f'{len(extra)} predicted ids are not in it (the first is "{extra[0]}")')
    if found:
        raise DataError(
            f"{template}: {' and '.join(found)}; pass the template that belongs to these photos or predict its photos"
        )
    return order


def _add_id(ids: dict[str, int], sample_id: str, path: Path, line: int) -> None:
    if not sample_id.strip():
        raise DataError(f"{path} line {line}: expected an id in column {ID}, found an empty one")
    if sample_id in ids:
        raise DataError(
            f'{path} line {line}: {ID} "{sample_id}" is there already on line {ids[sample_id]}; expected each id once'
        )
    ids[sample_id] = line


def _rows(path: Path, *columns: str) -> Iterator[tuple[int, list[str]]]:
    """Yields the line number and the wanted fields of each row that is not blank; DataError when there is none."""
    n_rows = 0
    try:
        with open(path, encoding="utf-8-sig", newline="") as handle:
            reader = csv.reader(handle)
            header = [name.strip() for name in next(reader, [])]
            if not header:
                raise DataError(f"{path} line 1: expected a header with {', '.join(columns)}, found an empty file")
            absent = [name for name in columns if name not in header]
            if absent:
                raise DataError(
                    f"{path} line 1: expected the columns {', '.join(columns)}, found {', '.join(header)}; "
                    f"{', '.join(absent)} is missing"
                )
            places = [header.index(name) for name in columns]
            for row in reader:
                if not row:
                    continue
                if len(row) != len(header):
                    raise DataError(
                        f"{path} line {reader.line_num}: expected {len(header)} fields as in the header, "
                        f"found {len(row)}"
                    )
                n_rows += 1
                yield reader.line_num, [row[place] for place in places]
    except FileNotFoundError:
        raise DataError(f"{path}: expected a CSV file with {', '.join(columns)}, found none") from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: not readable as a CSV file in UTF-8 ({error})") from None
    if not n_rows:
        raise DataError(f"{path} line 2: expected a row for each photo, found none")
