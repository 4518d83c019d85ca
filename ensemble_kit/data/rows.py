"""Tables of text: CSV (and Parquet) read without guessing, so that `000001` stays an id and `NA` a name."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ensemble_kit.errors import DataError
from ensemble_kit.files import refuse_special


@dataclass(frozen=True)
class Rows:
    """A table of text.

    Attributes:
        source: the file, for messages.
        columns: column name -> values, all as text.
        lines: the line of the file that each row ends on.
    """

    source: Path
    columns: dict[str, list[str]]
    lines: list[int]

    def __getitem__(self, name: str) -> list[str]:
        return self.columns[name]

    def __len__(self) -> int:
        return len(self.lines)

    def pairs(self, name: str) -> Iterator[tuple[int, str]]:
        """(line, value) of one column."""
        return zip(self.lines, self.columns[name], strict=True)

    def refuse_repeated(self, name: str) -> None:
        """Raises DataError when a value of the column occurs on two lines, naming both."""
        first: dict[str, int] = {}
        for line, text in self.pairs(name):
            if text in first:
                raise DataError(
                    f'{self.source} line {line}: {name} "{text}" stands on line {first[text]} already; '
                    f"each {name} may occur once, remove or rename one"
                )
            first[text] = line


def read_rows(path: Path, required: Sequence[str], *, strip: bool = True) -> Rows:
    """Reads a CSV file (comma, UTF-8 with or without a byte order mark, any line ends) as text.

    Empty lines are skipped; blanks around column names and, with `strip`, around values are removed.

    Raises:
        DataError: no such file, not UTF-8, no header, a column missing or named twice, or a line of another length.
    """
    refuse_special(path)
    try:
        with open(path, encoding="utf-8-sig", newline="") as handle:
            reader = csv.reader(_without_nul(path, handle), strict=True)
            records = [
                (reader.line_num, [cell.strip() for cell in record] if strip else record) for record in reader if record
            ]
    except FileNotFoundError:
        raise DataError(f"{path}: expected a csv file with {', '.join(required)}, found none") from None
    except UnicodeDecodeError:
        raise DataError(f"{path}: expected text in UTF-8, found another encoding; save it as CSV UTF-8") from None
    except (OSError, csv.Error) as error:
        raise DataError(f"{path}: not readable as csv ({error})") from None
    if not records:
        raise DataError(f"{path}: expected a csv file with {', '.join(required)}, found an empty file")
    header = [name.strip() for name in records[0][1]]
    check_columns(path, header, required)
    for line, record in records[1:]:
        if len(record) != len(header):
            raise DataError(f"{path} line {line}: expected {len(header)} values, found {len(record)}; mend that line")
    columns = {name: [record[column] for _, record in records[1:]] for column, name in enumerate(header)}
    return Rows(Path(path), columns, [line for line, _ in records[1:]])


def _without_nul(path: Path, lines: Iterable[str]) -> Iterator[str]:
    """Refuses NUL characters: names that differ by one alone are the same name to numpy and to the file system."""
    for number, line in enumerate(lines, 1):
        if "\0" in line:
            raise DataError(f"{path} line {number}: found a NUL character; this is no text, save the table anew")
        yield line


def check_columns(path: Path, found: Sequence[str], required: Sequence[str]) -> None:
    """Raises DataError when a required column is missing or any column is named twice."""
    twice = sorted({name for name in found if found.count(name) > 1})
    if twice:
        raise DataError(f'{path}: the column "{twice[0]}" occurs twice; rename one')
    missing = [name for name in required if name not in found]
    if missing:
        semicolons = len(found) == 1 and ";" in found[0]
        hint = "; it is separated by semicolons: save it with commas" if semicolons else ""
        columns = "column" if len(missing) == 1 else "columns"
        raise DataError(
            f"{path}: missing {columns} {', '.join(missing)} (expected {', '.join(required)}; "
            f"found {', '.join(found) or 'none'}){hint}"
        )


def number_or_none(text: str) -> float | None:
    """A finite number, or None. Underscores, which Python would take, are no number."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) and "_" not in text else None


def read_parquet(path: Path, required: Sequence[str]) -> Rows:
    """Reads a Parquet table as text: 1 -> "1", 42.0 -> "42", null -> "". Lines are row numbers from 1.

    Raises:
        DataError: pyarrow is not installed, the file is no Parquet table, or a column is missing.
    """
    try:
        import pyarrow.parquet
    except ImportError:
        raise DataError(f'{path}: Parquet needs pyarrow: pip install "ensemble_kit[parquet]", or save as csv') from None
    try:
        columns = pyarrow.parquet.read_table(path).to_pydict()
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise DataError(f"{path}: expected a Parquet table, found something else ({reason})") from None
    check_columns(path, list(columns), required)
    texts = {name: [_plain_text(value) for value in values] for name, values in columns.items()}
    n_rows = len(next(iter(texts.values()), []))
    return Rows(Path(path), texts, list(range(1, n_rows + 1)))


def _plain_text(value: object) -> str:
    if value is None or value != value:
        return ""
    return str(int(value)) if isinstance(value, float) and value == int(value) else str(value)
