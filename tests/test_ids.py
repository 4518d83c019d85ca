from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ensemble_kit import ids as module
from ensemble_kit.errors import DataError
from ensemble_kit.ids import as_ids, check_unique, decode_ids, encode_ids, ids_sha256, match_ids

TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=8)
UNIQUE = st.lists(TEXT, max_size=20, unique=True)


@settings(max_examples=80, deadline=None)
@given(UNIQUE)
def test_ids_survive_bytes(names: list[str]) -> None:
    ids = as_ids(names)
    assert decode_ids(encode_ids(ids)).tolist() == names
    assert ids_sha256(ids) == ids_sha256(np.array(names, dtype="U64"))


def test_the_hash_knows_order_and_borders() -> None:
    hashes = {ids_sha256(np.array(names)) for names in (["a", "b"], ["b", "a"], ["ab"], ["a"], ["a", "b", "c"])}
    assert len(hashes) == 5


@pytest.mark.parametrize("collide", [False, True])
@settings(max_examples=80, deadline=None)
@given(names=UNIQUE, random=st.randoms(use_true_random=False))
def test_rows_are_matched_by_id(collide: bool, names: list[str], random: Any) -> None:
    shuffled = random.sample(names, len(names))
    with pytest.MonkeyPatch.context() as patch:
        if collide:
            patch.setattr(module, "_keys", lambda ids: np.zeros(len(ids), dtype=np.uint64))
        rows = match_ids(as_ids(shuffled), as_ids(names).astype("U30"), "test")
    found = shuffled if rows is None else [shuffled[row] for row in rows]
    assert found == names
    assert (rows is None) == (shuffled == names)


@pytest.mark.parametrize("collide", [False, True])
@pytest.mark.parametrize(
    ("ids", "wanted", "message"),
    [
        (
            ["a", "b"],
            ["a", "c"],
            'x: expected the same 2 ids, found 2: 1 are missing, the first is "c"; 1 are too many, ',
        ),
        (["a"], ["a", "c"], 'expected the same 2 ids, found 1: 1 are missing, the first is "c"; do this'),
        (["a", "b", "c"], ["c", "a"], 'expected the same 2 ids, found 3: 1 are too many, the first is "b"; do this'),
        ([], ["a"], 'expected the same 1 ids, found 0: 1 are missing, the first is "a"'),
        (["a"], [], 'expected the same 0 ids, found 1: 1 are too many, the first is "a"'),
        (["b", "a", "b"], ["a", "b"], 'x: 1 ids occur more than once, the first is "b"; make them unique'),
    ],
)
def test_other_ids_are_refused(
    collide: bool, ids: list[str], wanted: list[str], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if collide:
        monkeypatch.setattr(module, "_keys", lambda found: np.zeros(len(found), dtype=np.uint64))
    with pytest.raises(DataError, match=re.escape(message)):
        match_ids(as_ids(ids), as_ids(wanted), "x", "do this")


def test_unique_ids_pass() -> None:
    check_unique(as_ids(["a", "b", "aa", "ab"]), "x")
    check_unique(as_ids([]), "x")


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ([1, 2], "ids: expected text, found int64; read the table's id column as text (dtype=str)"),
        (["a", ""], "ids: row 1 has an empty id"),
        ([["a"]], "ids: expected one id a sample, shape (n_samples,), found shape (1, 1)"),
        (np.array(["a", None], dtype=object), "ids: expected text, found object"),
    ],
)
def test_what_is_no_text_is_refused(ids: Any, message: str) -> None:
    with pytest.raises(DataError, match=re.escape(message)):
        as_ids(ids)


def test_text_from_a_table_is_taken() -> None:
    assert as_ids(np.array(["000001", "b"], dtype=object)).tolist() == ["000001", "b"]
