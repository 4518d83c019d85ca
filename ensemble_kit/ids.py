"""Sample ids: text, unique, and the only thing that rows are ever joined by."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ensemble_kit.arrays import BoolArray, IdArray, IntArray
from ensemble_kit.errors import DataError

_FACTOR = 0x9E3779B97F4A7C15
"""An odd 64-bit number with well mixed bits (2**64 / the golden ratio): the base of the keys' polynomial."""


def as_ids(ids: Any, who: str = "ids") -> IdArray:
    """Ids as a text array `(n_samples,)`.

    Raises:
        DataError: not one-dimensional, or not text (`000001` read as a number has lost its zeros for good), or empty.
    """
    array = np.asarray(ids)
    if array.ndim != 1:
        raise DataError(f"{who}: expected one id a sample, shape (n_samples,), found shape {array.shape}")
    if array.dtype.kind == "O" and all(isinstance(value, str) for value in array):
        array = array.astype(np.str_)
    if array.size == 0:
        return np.zeros(0, dtype=np.str_)
    if array.dtype.kind != "U":
        raise DataError(f"{who}: expected text, found {array.dtype}; read the table's id column as text (dtype=str)")
    if (array == "").any():
        raise DataError(f"{who}: row {int(np.flatnonzero(array == '')[0])} has an empty id")
    return array


def encode_ids(ids: IdArray) -> NDArray[np.bytes_]:
    """Ids as UTF-8 bytes, a quarter of the space."""
    if ids.size == 0:
        return np.zeros(0, dtype="S1")
    try:
        return ids.astype(np.bytes_)  # ASCII only, and ten times faster
    except UnicodeEncodeError:
        return np.char.encode(ids, "utf-8")


def decode_ids(raw: NDArray[np.bytes_]) -> IdArray:
    if raw.size == 0:
        return np.zeros(0, dtype=np.str_)
    try:
        return raw.astype(np.str_)
    except UnicodeDecodeError:
        return np.char.decode(raw, "utf-8")


def ids_sha256(ids: IdArray) -> str:
    """Hash of the ids in their order, whatever the width of the array that holds them."""
    return hashlib.sha256(b"\0".join(encode_ids(ids).tolist())).hexdigest()


def check_unique(ids: IdArray, who: str) -> None:
    """Raises DataError when an id occurs twice, naming it."""
    keys = np.sort(_keys(ids))
    if (keys[1:] == keys[:-1]).any():
        values, counts = np.unique(ids, return_counts=True)
        if counts.max() > 1:
            twice = values[counts > 1]
            raise DataError(
                f'{who}: {len(twice)} ids occur more than once, the first is "{twice[0]}"; make them unique'
            )


def match_ids(
    ids: IdArray, wanted: IdArray, who: str, todo: str = "both must be of the same photos"
) -> IntArray | None:
    """Row numbers so that `ids[rows] == wanted`; None when the two are the same already.

    Joined by a 64-bit key a row, then compared in full.

    Args:
        who: whose ids they are, for the message.
        todo: the message's end.

    Raises:
        DataError: an id that occurs twice, or ids that only one of the two has.
    """
    if len(ids) == len(wanted) and (ids is wanted or np.array_equal(ids, wanted)):
        return None
    keys, wanted_keys = _keys(ids), _keys(wanted)
    order, wanted_order = np.argsort(keys), np.argsort(wanted_keys)
    ordered = keys[order]
    if np.array_equal(ordered, wanted_keys[wanted_order]) and not (ordered[1:] == ordered[:-1]).any():
        rows = np.empty(len(ids), dtype=np.int64)
        rows[wanted_order] = order
        found = np.asarray(ids[rows] == wanted)
    else:  # two ids that share a key, or ids that differ
        check_unique(ids, who)
        rows, found = _match_slowly(ids, wanted)
    if not found.all() or len(ids) != len(wanted):
        raise DataError(_difference(ids, wanted, found, who) + todo)
    return rows


def _keys(ids: IdArray) -> NDArray[np.uint64]:
    """One 64-bit number an id; equal ids give equal keys, whatever the width of their arrays."""
    key = np.zeros(len(ids), dtype=np.uint64)
    if ids.dtype.itemsize == 0 or not len(ids):
        return key
    codes = np.ascontiguousarray(ids).view(np.uint32).reshape(len(ids), -1)
    factor = 1
    for position in range(codes.shape[1]):
        factor = factor * _FACTOR % 2**64
        key += codes[:, position] * np.uint64(factor)
    return key


def _match_slowly(ids: IdArray, wanted: IdArray) -> tuple[IntArray, BoolArray]:
    """By a dictionary of all ids; a wanted id that is not there gives row 0, not found."""
    row_of = {name: row for row, name in enumerate(ids.tolist())}
    rows = np.array([row_of.get(name, -1) for name in wanted.tolist()], dtype=np.int64)
    return np.maximum(rows, 0), rows >= 0


def _difference(ids: IdArray, wanted: IdArray, found: BoolArray, who: str) -> str:
    missing: Sequence[str] = wanted[~found].tolist()
    extra: Sequence[str] = sorted(set(ids.tolist()) - set(wanted.tolist())) if len(ids) > int(found.sum()) else []
    parts = []
    if missing:
        parts.append(f'{len(missing)} are missing, the first is "{missing[0]}"')
    if extra:
        parts.append(f'{len(extra)} are too many, the first is "{extra[0]}"')
    return f"{who}: expected the same {len(wanted)} ids, found {len(ids)}: {'; '.join(parts)}; "
