"""What can be a voter over joint classes, one reader each; rows are read when they are asked for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ensemble_kit.arrays import FloatArray, IdArray, IntArray
from ensemble_kit.ensemble import Combined
from ensemble_kit.errors import DataError, UsageError
from ensemble_kit.ids import as_ids, check_unique, match_ids
from ensemble_kit.predictions import SUM_TOLERANCE, Predictions, check_probs, load_predictions, read_prediction_schema
from ensemble_kit.schema import Schema
from ensemble_kit.submission import read_submission
from ensemble_kit.voters.columns import class_rows, frame_columns, joint_columns


@dataclass(frozen=True, eq=False)
class Source:
    """One voter that can be read.

    Attributes:
        name: the voter's.
        ids: `(n_samples,)` the samples it has, or None: it answers for any.
        read: (row numbers, their ids) -> `(n_rows, n_joint)` probabilities, or `(n_rows,)` joint classes, -1 =
            abstained.
    """

    name: str
    ids: IdArray | None
    read: Callable[[IntArray, IdArray], Any]


@dataclass(frozen=True)
class Reader:
    """One kind of voter.

    Attributes:
        what: for error messages.
        fits: whether a source is of this kind.
        open: (source, schema, ids, name) -> Source; ids are those given beside it.
    """

    what: str
    fits: Callable[[Any], bool]
    open: Callable[[Any, Schema, IdArray | None, str | None], Source]


def as_voter(source: Any, schema: Schema, ids: ArrayLike | None = None, name: str | None = None) -> Predictions:
    """Anything in READERS as joint predictions of one voter.

    Args:
        source: predictions of all attributes as one block, what combining returns, a prediction set's folder, a
            submission file, an array of probabilities `(n_samples, n_joint)` or joint classes `(n_samples,)`, a pair
            (ids, array), a DataFrame of probabilities with the ids as its index and a column for each joint class, or
            a function ids -> array.
        schema: the joint classes.
        ids: for arrays and functions whose rows they are; for the others the order wanted.
        name: the voter's; taken from the source when left out.

    Returns:
        One voter, its columns the schema's joint classes; a joint class alone is a row of 0 and one 1.

    Raises:
        UsageError: nothing that is known, no ids where they are needed, several voters in one.
        DataError: another schema's classes, other or repeated ids, numbers that are no probabilities.

    Examples:
        >>> from ensemble_kit.schema import Attribute
        >>> schema = Schema(Attribute("mask", ["worn", "not_worn"]), Attribute("gender", ["male", "female"]))
        >>> as_voter([3, -1], schema, ids=["a", "b"]).layers[0].tolist()
        [[0.0, 0.0, 0.0, 1.0], [0.0, 0.0, 0.0, 0.0]]
    """
    wanted = None if ids is None else as_ids(ids)
    voter = open_voter(source, schema, wanted, name)
    own = voter.ids if voter.ids is not None else wanted
    if own is None:
        raise UsageError(f"voter {voter.name}: a function answers for any ids; say which, with ids=")
    order = own if wanted is None else wanted
    rows = join(voter, order)
    numbers = np.arange(len(order), dtype=np.int64) if rows is None else rows
    probs = read_rows(voter, schema, numbers, order)
    return Predictions(schema.attributes, probs, order, classes=class_rows(schema), voters=[voter.name])


def open_voter(source: Any, schema: Schema, ids: IdArray | None = None, name: str | None = None) -> Source:
    """The source as something to read from; the first row of READERS that fits.

    Raises:
        UsageError, DataError: as `as_voter`.
    """
    for reader in READERS:
        if reader.fits(source):
            voter = reader.open(source, schema, ids, name)
            if voter.ids is not None:
                check_unique(voter.ids, f"ids of voter {voter.name}")
            return voter
    raise UsageError(
        f"voter: expected {', or '.join(reader.what for reader in READERS)}; found {type(source).__name__}"
    )


def join(voter: Source, wanted: IdArray) -> IntArray | None:
    """The voter's row of each id; None where its rows are in that order already, or it answers for any ids."""
    if voter.ids is None:
        check_unique(wanted, f"ids asked of voter {voter.name}")
        return None
    return match_ids(voter.ids, wanted, f"voter {voter.name}", "voters answer for the same photos")


def read_rows(voter: Source, schema: Schema, rows: IntArray, ids: IdArray) -> FloatArray:
    """`(n_rows, n_joint)`; DataError unless they are probabilities or joint classes."""
    who = f"voter {voter.name}"
    values = np.asarray(voter.read(rows, ids))
    if values.ndim == 1 and len(values) == len(rows):
        return _one_hot(values, schema.n_joint, who)
    if values.shape != (len(rows), schema.n_joint) or values.dtype.kind not in "fiu":
        raise DataError(
            f"{who}: expected probabilities of shape {(len(rows), schema.n_joint)} (a column for each joint class) or "
            f"joint classes of shape {(len(rows),)}, found {values.dtype} {values.shape}"
        )
    probs = values if values.dtype.kind == "f" else values.astype(np.float64)
    check_probs(probs, who, SUM_TOLERANCE * len(schema.names))
    return probs


def _one_hot(labels: Any, n_classes: int, who: str) -> FloatArray:
    if labels.size and labels.dtype.kind == "f" and np.array_equal(labels, np.trunc(labels)):
        labels = labels.astype(np.int64)  # 13.0, as tables give it
    if labels.size and labels.dtype.kind not in "iu":
        raise DataError(f"{who}: expected joint classes as whole numbers, found {labels.dtype} {labels[:3].tolist()}")
    if labels.size and (labels.min() < -1 or labels.max() >= n_classes):
        raise DataError(
            f"{who}: joint classes are 0 to {n_classes - 1}, or -1 = abstained, found {labels.min()} to {labels.max()}"
        )
    probs = np.zeros((len(labels), n_classes), dtype=np.float32)
    spoke = np.flatnonzero(labels >= 0)
    probs[spoke, labels[spoke].astype(np.int64)] = 1
    return probs


def _open_predictions(source: Predictions, schema: Schema, ids: IdArray | None, name: str | None) -> Source:
    del ids
    own = name or source.voters[0]
    if len(source.layers) > 1:
        raise UsageError(
            f"voter: {source.describe()} holds {len(source.layers)} voters ({', '.join(source.voters)}), expected one; "
            "pass each with select_voters, or combine them first"
        )
    order, layer = joint_columns(source, schema, f"voter {own}"), source.layers[0]
    return Source(own, source.ids, lambda rows, _: layer[rows] if order is None else layer[rows][:, order])


def _open_combined(source: Combined, schema: Schema, ids: IdArray | None, name: str | None) -> Source:
    return _open_predictions(source.joint, schema, ids, name)


def _open_file(source: str | Path, schema: Schema, ids: IdArray | None, name: str | None) -> Source:
    path = Path(source)
    if not path.is_dir():
        names, labels = read_submission(path, schema)
        return Source(name or path.stem, names, lambda rows, _: labels[rows])
    found = read_prediction_schema(path)
    if found != schema:
        raise DataError(
            f"{path}: expected predictions of {schema}, found the schema {found} with other classes or paths"
        )
    experts = load_predictions(path)
    joint = [e for e in experts if set(e.names) == set(schema.names) and not e.condition]
    if len(joint) != 1:
        held = ", ".join(expert.describe() for expert in experts)
        raise DataError(
            f"{path}: expected one block of {','.join(schema.names)}, found {held}; "
            'combine the experts first ("ens combine") and pass its joint predictions'
        )
    return _open_predictions(joint[0], schema, ids, name or path.name)


def _open_pair(source: Any, schema: Schema, ids: IdArray | None, name: str | None) -> Source:
    del ids
    return _open_array(source[1], schema, as_ids(source[0], f"ids of voter {name or 'array'}"), name)


def _open_array(source: ArrayLike, schema: Schema, ids: IdArray | None, name: str | None) -> Source:
    own = name or "array"
    values = source if isinstance(source, np.ndarray) else np.asarray(source)
    if values.ndim not in (1, 2) or (values.ndim == 2 and values.shape[1] != schema.n_joint):
        raise DataError(
            f"voter {own}: expected probabilities of shape (n_samples, {schema.n_joint}) or joint classes of shape "
            f"(n_samples,), found shape {values.shape}"
        )
    if ids is None:
        raise UsageError(f"voter {own}: an array needs ids; pass ids=, or the pair (ids, array)")
    if len(ids) != len(values):
        raise DataError(f"voter {own}: expected one id a row, found {len(ids)} ids and {len(values)} rows")
    return Source(own, ids, lambda rows, _: values[rows])


def _open_frame(source: Any, schema: Schema, ids: IdArray | None, name: str | None) -> Source:
    del ids
    own = name or "table"
    order = frame_columns(source.columns, schema, f"voter {own}")
    names = as_ids(np.asarray(source.index), f"index of voter {own}")
    try:
        values = source.iloc[:, order].to_numpy(dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise DataError(f"voter {own}: expected numbers in every column ({error})") from None
    return Source(own, names, lambda rows, _: values[rows])


def _open_function(source: Callable[[IdArray], Any], schema: Schema, ids: IdArray | None, name: str | None) -> Source:
    del schema, ids
    own = name or str(getattr(source, "__name__", type(source).__name__))
    return Source(own, None, lambda _, asked: source(asked))


def _is_pair(source: Any) -> bool:
    if not isinstance(source, tuple) or len(source) != 2:
        return False
    ids = np.asarray(source[0])
    return ids.ndim == 1 and ids.dtype.kind in "UO"


READERS: Sequence[Reader] = (
    Reader("Predictions", lambda source: isinstance(source, Predictions), _open_predictions),
    Reader("what combine returns", lambda source: isinstance(source, Combined), _open_combined),
    Reader("a prediction set's folder or a submission file", lambda source: isinstance(source, str | Path), _open_file),
    Reader(
        "a DataFrame indexed by id", lambda source: hasattr(source, "iloc") and hasattr(source, "columns"), _open_frame
    ),
    Reader("a pair (ids, array)", _is_pair, _open_pair),
    Reader("an array", lambda source: isinstance(source, np.ndarray | list | tuple), _open_array),
    Reader("a function ids -> array", callable, _open_function),
)
"""Asked in this order. A further kind is one function and one row here."""
