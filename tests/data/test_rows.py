"""Text tables: nothing is guessed, and every message says where."""

from __future__ import annotations

import csv
import tempfile
from pathlib import Path

import pytest
from fake_tree import write
from hypothesis import given, settings
from hypothesis import strategies as st

from ensemble_kit.data.rows import number_or_none, read_parquet, read_rows
from ensemble_kit.errors import DataError

cells = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=6)


@given(st.lists(st.tuples(cells, cells), min_size=1, max_size=6), st.booleans(), st.sampled_from(["\n", "\r\n"]))
@settings(max_examples=60, deadline=None)
def test_reads_what_the_csv_module_wrote(records: list[tuple[str, str]], has_mark: bool, end: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "t.csv"
        with open(path, "w", encoding="utf-8-sig" if has_mark else "utf-8", newline="") as handle:
            csv.writer(handle, lineterminator=end, quoting=csv.QUOTE_ALL).writerows([("id", "name"), *records])
        rows = read_rows(path, ["id"], strip=False)
    assert list(zip(rows["id"], rows["name"], strict=True)) == records


def test_text_stays_text_and_lines_are_the_files_own(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", '\ufeff id , name\r\n000001,NA\r\n\r\n1e3,"two\r\nlines"\r\n nan , null \r\n')
    rows = read_rows(path, ["id", "name"])
    assert rows["id"] == ["000001", "1e3", "nan"]
    assert rows["name"] == ["NA", "two\r\nlines", "null"]
    assert rows.lines == [2, 5, 6]


BAD = {
    "empty": (b"", "found an empty file"),
    "missing": (b"id,nmae\n1,2\n", "missing column name \\(expected id, name; found id, nmae\\)"),
    "both missing": (b"a,b\n1,2\n", "missing columns id, name"),
    "twice": (b"id,name,id\n1,2,3\n", 'the column "id" occurs twice'),
    "semicolons": (b"id;name\n1;2\n", "separated by semicolons: save it with commas"),
    "short line": (b"id,name\n1,2\n3\n", "line 3: expected 2 values, found 1"),
    "long line": (b"id,name\n1,2,3\n", "line 2: expected 2 values, found 3"),
    "utf-16": ("id,name\n1,ä\n".encode("utf-16"), "expected text in UTF-8"),
    "latin-1": ("id,name\n1,ä\n".encode("latin-1"), "expected text in UTF-8"),
    "open quote": (b'id,name\n1,"2\n', "not readable as csv"),
}


@pytest.mark.parametrize(("content", "message"), BAD.values(), ids=BAD.keys())
def test_bad_files(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        read_rows(path, ["id", "name"])
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_a_missing_file_and_a_folder_are_data_errors(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="expected a csv file with id, found none"):
        read_rows(tmp_path / "none.csv", ["id"])
    with pytest.raises(DataError, match="not readable as csv"):
        read_rows(tmp_path, ["id"])


def test_parquet_is_read_as_text(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    pq = pytest.importorskip("pyarrow.parquet")
    columns = {"id": ["000001", "NA", None], "age": [42.0, 29.5, None], "n": [1, 2, 3]}
    pq.write_table(pa.table(columns), tmp_path / "t.parquet")
    rows = read_parquet(tmp_path / "t.parquet", ["id"])
    assert rows.columns == {"id": ["000001", "NA", ""], "age": ["42", "29.5", ""], "n": ["1", "2", "3"]}
    with pytest.raises(DataError, match="missing column path"):
        read_parquet(tmp_path / "t.parquet", ["path"])
    with pytest.raises(DataError, match="expected a Parquet table, found something else"):
        read_parquet(write(tmp_path / "bad.parquet", "id,age\n"), ["id"])


def test_parquet_without_pyarrow_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pyarrow.parquet", None)
    with pytest.raises(DataError, match=r"Parquet needs pyarrow: pip install \"ensemble_kit\[parquet\]\""):
        read_parquet(tmp_path / "t.parquet", ["id"])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("13.0", 13.0),
        ("-1", -1.0),
        ("1e3", 1000.0),
        ("", None),
        ("abc", None),
        ("nan", None),
        ("inf", None),
        ("1_0", None),
    ],
)
def test_numbers(text: str, expected: float | None) -> None:
    assert number_or_none(text) == expected
