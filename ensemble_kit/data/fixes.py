"""Label fixes as data: a list that gives the same table however often it is applied.

A list is a CSV file `group,file,attribute,from,to,sha256`. Each row says what a label is (`from`) and should be
(`to`); a label that is `to` already counts as done. `file` (a name or its stem) may be empty: every photo of the
group. `sha256` finds a photo by its bytes, whatever it is called.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from ensemble_kit.arrays import IntArray
from ensemble_kit.data.rows import number_or_none, read_rows
from ensemble_kit.data.table import Problem, SampleTable
from ensemble_kit.errors import DataError, nearest
from ensemble_kit.files import sha256_file, write_csv
from ensemble_kit.schema import Attribute

COLUMNS = ("group", "file", "attribute", "from", "to", "sha256")
"""The first line of a list."""


@dataclass(frozen=True)
class Fix:
    """One row of a list; `where` is its file and line, for messages."""

    group: str
    file: str
    attribute: str
    old: str
    new: str
    sha256: str
    where: str

    @property
    def is_for_group(self) -> bool:
        """Whether it is about every photo of the group, so that the data itself shows if it was done."""
        return not self.file and not self.sha256

    @property
    def cells(self) -> tuple[str, ...]:
        """Its line of a list, in the order of `COLUMNS`."""
        return self.group, self.file, self.attribute, self.old, self.new, self.sha256


@dataclass(frozen=True)
class FixReport:
    """What applying a list did.

    Attributes:
        changed: photos that got another label.
        done: labels that were as the list wants them already.
        problems: rows that could not be applied, and why.
        applied: False when the list is about other data.
    """

    changed: int
    done: int
    problems: tuple[Problem, ...]
    applied: bool = True

    def text(self) -> str:
        if not self.applied:
            return "fixes: the list is about other data, not applied"
        return f"fixes: {self.changed} photos relabelled, {self.done} labels were right already"


def read_fixes(path: Path) -> list[Fix]:
    """Reads a list of fixes.

    Raises:
        DataError: a missing column, a row without group, attribute, from or to, or a sha256 that is none.
    """
    rows = read_rows(Path(path), ("group", "attribute", "from", "to"))
    empty = [""] * len(rows)
    fixes = []
    for row, line in enumerate(rows.lines):
        group, attribute, old, new = (rows[name][row] for name in ("group", "attribute", "from", "to"))
        file, digest = (rows.columns.get(name, empty)[row] for name in ("file", "sha256"))
        where = f"{path} line {line}"
        if not group or not attribute or old == new:
            raise DataError(
                f"{where}: expected a group, an attribute and two different classes from and to; mend the line"
            )
        if digest and (len(digest) != 64 or set(digest.lower()) - set("0123456789abcdef")):
            raise DataError(f'{where}: sha256 must be 64 hexadecimal digits, found "{digest}"')
        fixes.append(Fix(group, file, attribute, old, new, digest.lower(), where))
    return fixes


def write_fixes(path: Path, fixes: Sequence[Fix]) -> None:
    """Writes a list that `read_fixes` reads as the same rows."""
    write_csv(Path(path), [COLUMNS, *(fix.cells for fix in fixes)])


def apply_fixes(table: SampleTable, fixes: Sequence[Fix]) -> tuple[SampleTable, FixReport]:
    """Applies a list; applying it to its own result changes nothing.

    Two rules keep a list off data that it is not about, or that was mended already:

    - It is applied only when every group it names is in the table. Another data set may use the same ids.
    - A row that finds its photo by name (`file`, no `sha256`) is applied only while some row about a whole group
      still shows `from`. After somebody swapped two files on disk, their names no longer tell; but then the whole
      groups were mended in the same go, and that shows.

    Returns:
        The table with the labels set and the problems added, and the report.

    Raises:
        DataError: a class that the schema does not have, an id that fits two groups, or rows that contradict.
    """
    known = [fix for fix in fixes if fix.attribute in table.schema.names and table.has(fix.attribute)]
    targets = [
        (_class(table.schema[fix.attribute], fix.old, fix), _class(table.schema[fix.attribute], fix.new, fix))
        for fix in known
    ]
    rows_of = _rows_of_groups(table, fixes)
    absent = sorted({fix.group for fix in fixes} - set(rows_of))
    if absent:
        return _refused(table, fixes, absent)
    values = {name: table.frame[name].to_numpy(dtype=object, copy=True) for name in {fix.attribute for fix in known}}
    by_name = _names_still_tell(fixes, known, targets, values, rows_of)
    hashes = _Hashes(table)
    problems: list[Problem] = []
    wanted: dict[tuple[str, int], tuple[Any, Any, Fix]] = {}
    for fix, (old, new) in zip(known, targets, strict=True):
        if fix.file and not fix.sha256 and not by_name:
            continue
        rows = _photos_of(table, fix, rows_of[fix.group], hashes)
        if not len(rows):
            problems.append(Problem(fix.where, f"no photo {fix.sha256 or fix.file} in group {fix.group}; left out"))
        for row in rows:
            earlier = wanted.setdefault((fix.attribute, int(row)), (old, new, fix))
            if earlier[1] != new:
                raise DataError(
                    f"{fix.where}: contradicts {earlier[2].where} about one photo; keep one of the two rows"
                )
    return _set(table, values, wanted, problems)


def _class(attribute: Attribute, text: str, fix: Fix) -> Any:
    """The label as the table holds it: a number for an attribute with borders, else a class name."""
    if attribute.borders is not None:
        number = number_or_none(text)
        if number is None:
            raise DataError(f'{fix.where}: {attribute.name} must be a number, found "{text}"')
        return number
    if text not in attribute.classes:
        raise DataError(f'{fix.where}: {attribute.name} has no class "{text}"{nearest(text, attribute.classes)}')
    return text


def _rows_of_groups(table: SampleTable, fixes: Sequence[Fix]) -> dict[str, IntArray]:
    """The list's group -> row numbers. A group may be named in full or by what stands before its first "_"."""
    names, inverse = np.unique(table.groups, return_inverse=True)
    short: dict[str, list[int]] = {}
    for number, name in enumerate(names.tolist()):
        for spelling in {name, name.partition("_")[0]}:
            short.setdefault(spelling, []).append(number)
    found = {}
    for fix in fixes:
        numbers = short.get(fix.group, [])
        exact = [n for n in numbers if names[n] == fix.group]
        if len(exact or numbers) > 1:
            both = ", ".join(str(names[n]) for n in numbers)
            raise DataError(f"{fix.where}: group {fix.group} is more than one person ({both}); write the whole name")
        if numbers:
            found[fix.group] = np.flatnonzero(inverse == (exact or numbers)[0]).astype(np.int64)
    return found


def _refused(table: SampleTable, fixes: Sequence[Fix], absent: Sequence[str]) -> tuple[SampleTable, FixReport]:
    n_groups = len({fix.group for fix in fixes})
    first = ", ".join(absent[:3]) + (", ..." if len(absent) > 3 else "")
    problem = Problem(
        fixes[0].where.rpartition(" line ")[0],
        f"not applied: {len(absent)} of the {n_groups} groups it names are not here ({first}): it is about other data",
    )
    return replace(table, problems=(*table.problems, problem)), FixReport(0, 0, (problem,), applied=False)


def _names_still_tell(
    fixes: Sequence[Fix],
    known: Sequence[Fix],
    targets: Sequence[tuple[Any, Any]],
    values: dict[str, Any],
    rows_of: dict[str, IntArray],
) -> bool:
    if not any(fix.is_for_group for fix in fixes):
        return True
    return any(
        bool((values[fix.attribute][rows_of[fix.group]] == old).any())
        for fix, (old, _) in zip(known, targets, strict=True)
        if fix.is_for_group
    )


class _Hashes:
    """Photos' hashes, each computed once and only when a row asks for it."""

    def __init__(self, table: SampleTable):
        self._paths = table.paths
        self._known: dict[int, str] = {}

    def __getitem__(self, row: int) -> str:
        if row not in self._known:
            try:
                self._known[row] = sha256_file(self._paths[row])
            except OSError:
                self._known[row] = "unreadable"
        return self._known[row]


def _photos_of(table: SampleTable, fix: Fix, rows: IntArray, hashes: _Hashes) -> IntArray:
    if fix.is_for_group:
        return rows
    if fix.sha256:
        is_it: Callable[[int], bool] = lambda row: hashes[row] == fix.sha256  # noqa: E731
    else:
        names = [PurePosixPath(path) for path in table.frame["path"].iloc[rows]]
        named = {int(row): fix.file in (name.name, name.stem) for row, name in zip(rows, names, strict=True)}
        is_it = named.__getitem__
    return np.array([row for row in rows.tolist() if is_it(row)], dtype=np.int64)


def _set(
    table: SampleTable,
    values: dict[str, Any],
    wanted: dict[tuple[str, int], tuple[Any, Any, Fix]],
    problems: list[Problem],
) -> tuple[SampleTable, FixReport]:
    changed, done = set(), 0
    for (name, row), (old, new, fix) in wanted.items():
        found = values[name][row]
        if found == old:
            values[name][row] = new
            changed.add(row)
        elif found == new:
            done += 1
        else:
            photo = table.frame["path"].iloc[row]
            problems.append(Problem(photo, f"{fix.where} expects {name} {fix.old}, found {found}; left as it is"))
    frame = table.frame.copy()
    for name, column in values.items():
        frame[name] = column if table.schema[name].borders is None else column.astype(np.float64)
    mended = replace(table, frame=frame, problems=(*table.problems, *problems))
    return mended, FixReport(len(changed), done, tuple(problems))
