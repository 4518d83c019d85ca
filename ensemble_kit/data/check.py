"""What a data set holds, before anything is trained on it: counts, folds, ages around the borders, problems."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from ensemble_kit.arrays import ByteArray, IntArray
from ensemble_kit.data.check_text import report_text
from ensemble_kit.data.decode import PhotoError, decode_photo
from ensemble_kit.data.extra import extra_notices, with_extra
from ensemble_kit.data.fixes import FixReport, apply_fixes, read_fixes
from ensemble_kit.data.folds import check_folds, divide, missing_classes, people_of
from ensemble_kit.data.layouts import LAYOUTS, find_layout, has_part
from ensemble_kit.data.manifest import check_manifest
from ensemble_kit.data.samples import read_samples
from ensemble_kit.data.table import Problem, SampleTable
from ensemble_kit.errors import DataError
from ensemble_kit.schema import Schema

AROUND = 3
"""Whole numbers looked at on each side of a border."""

FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""What a cell begins with that spreadsheets take for a formula."""

Progress = Callable[[int, int], None]


class Look(Protocol):
    """Who sees every photo while it is decoded anyway."""

    def begin(self, tables: Sequence[SampleTable]) -> None:
        """The photos to come: the training part, the evaluation part where there is one, then the extra photos."""

    def photo(self, part: int, row: int, path: Path, photo: ByteArray) -> None:
        """One decoded photo `(height, width, 3)`. Called on several threads, in any order; not for broken ones."""


@dataclass(frozen=True)
class PartReport:
    """Counts of one part of the data.

    Attributes:
        photos, people: how many.
        attributes: attribute -> class -> (photos, people); the class "" is "unlabelled". Only labelled attributes.
        joint: photos per joint class `(n_joint,)`, when all attributes are labelled.
        around: (attribute, border) -> number -> photos, `AROUND` numbers on each side; of measured numbers only.
        sizes: "width x height" -> photos; empty when the photos were not decoded.
    """

    photos: int
    people: int
    attributes: dict[str, dict[str, tuple[int, int]]]
    joint: list[int] | None
    around: dict[tuple[str, float], dict[int, int]]
    sizes: dict[str, int]


@dataclass(frozen=True)
class FoldReport:
    """Photos per class in the validation part of each fold; the rest is its training part.

    Attributes:
        photos: photos per fold, validation.
        total: photos in all.
        classes: attribute -> class -> (photos in all, validation photos per fold).
        joint: joint class -> the same, when all attributes are labelled.
    """

    photos: list[int]
    total: int
    classes: dict[str, dict[str, tuple[int, list[int]]]]
    joint: dict[str, tuple[int, list[int]]]


@dataclass(frozen=True)
class DataReport:
    """What `ens data check` found. `problems` holds every finding, `notices` what is worth knowing but no fault,
    `altered` those of the problems that a manifest shows."""

    data: str
    layout: str
    schema: Schema
    train: PartReport
    eval: PartReport | None
    folds: FoldReport | None
    fixes: FixReport | None
    notices: tuple[str, ...]
    problems: tuple[Problem, ...]
    altered: tuple[Problem, ...] = ()

    def text(self) -> str:
        """The report for a terminal, plain text of at most 80 columns."""
        return report_text(self)

    def to_json(self) -> dict[str, Any]:
        fixes = (
            None
            if self.fixes is None
            else {
                "applied": self.fixes.applied,
                "changed": self.fixes.changed,
                "done": self.fixes.done,
            }
        )
        return {
            "data": self.data,
            "layout": self.layout,
            "train": _part_json(self.train, self.schema),
            "eval": None if self.eval is None else _part_json(self.eval, self.schema),
            "folds": None if self.folds is None else _folds_json(self.folds),
            "fixes": fixes,
            "notices": list(self.notices),
            "problems": [{"path": p.path, "problem": p.problem} for p in self.problems],
        }


def check_data(
    data: Path,
    schema: Schema,
    *,
    layout: str = "auto",
    folds: int,
    seed: int,
    val_ratio: float | None = None,
    fixes: Path | None = None,
    extra: SampleTable | None = None,
    manifest: Path | None = None,
    decode: bool = True,
    look: Look | None = None,
    progress: Progress | None = None,
) -> DataReport:
    """Reads a data set as training would, and reports instead of training.

    Args:
        data: as for `read_samples`.
        schema: the attributes.
        layout: a name of `LAYOUTS`, or "auto".
        folds, seed: how the folds would be cut.
        val_ratio: one validation share in place of folds.
        fixes: a list of label fixes.
        extra: photos of a second data set, which are trained on and never held out.
        manifest: hashes that the files of both parts are compared with, see `data.manifest`.
        decode: decode every photo of both parts, on all cores.
        look: is shown every photo that is decoded, so that what else is measured costs no second decoding.
        progress: called with (photos decoded, photos in all).

    Raises:
        UsageError, DataError: the data cannot be read at all. Whatever can be read past is a problem of the report.
    """
    data = Path(data)
    name = find_layout(data, layout)
    train, fixed = _train(data, schema, name, fixes)
    tables = [train]
    if has_part(data, "eval", name):
        tables.append(read_samples(data, schema, part="eval", layout=name))
    other_data = [] if fixed is None or fixed.applied else list(fixed.problems)
    trained = train if extra is None else with_extra(train, extra)
    found = [problem for table in tables for problem in table.problems if problem not in other_data]
    found += trained.problems[len(train.problems) :]
    n_parts = len(tables)
    altered = [] if manifest is None else check_manifest(Path(manifest), data, tables)
    found += altered
    if extra is not None:
        tables.append(trained.select(trained.is_extra))
    if look is not None:
        look.begin(tables)
    sizes: list[dict[str, int]] = [{} for _ in tables]
    if decode:
        sizes = _decode_all(tables, LAYOUTS[name].says_part, found, progress, look)
    fold_report, notices = _folds(trained, folds, seed, val_ratio, found)
    parts = [_part(table, size) for table, size in zip(tables[:n_parts], sizes[:n_parts], strict=True)]
    return DataReport(
        data=str(data),
        layout=name,
        schema=schema,
        train=parts[0],
        eval=parts[1] if len(parts) > 1 else None,
        folds=fold_report,
        fixes=fixed,
        notices=(
            *map(str, other_data),
            *LAYOUTS[name].notices(data),
            *notices,
            *extra_notices(trained),
            *_formula_notice(tables, schema),
        ),
        problems=tuple(_by_file(found)),
        altered=tuple(altered),
    )


def _train(data: Path, schema: Schema, layout: str, fixes: Path | None) -> tuple[SampleTable, FixReport | None]:
    table = read_samples(data, schema, layout=layout)
    return (table, None) if fixes is None else apply_fixes(table, read_fixes(Path(fixes)))


def _by_file(problems: Sequence[Problem]) -> list[Problem]:
    """Grouped by file; files in the order in which they first came up."""
    order = {path: number for number, path in enumerate(dict.fromkeys(p.path for p in problems))}
    return sorted(problems, key=lambda problem: order[problem.path])


def _formula_notice(tables: Sequence[SampleTable], schema: Schema) -> list[str]:
    """Names that a spreadsheet would take for formulas: written as they are, since files are joined by them."""
    classes = [name for attribute in schema.attributes for name in attribute.classes]
    names = [*classes, *(str(name) for table in tables for name in [*table.ids.tolist(), *table.groups.tolist()])]
    found = list(dict.fromkeys(name for name in names if name.startswith(FORMULA)))
    if not found:
        return []
    return [
        f"{len(found):,} names begin with =, +, - or @, first {found[0]!r}; written tables hold them as they are, "
        "and a spreadsheet would run them as formulas: import such tables as text"
    ]


def _part(table: SampleTable, sizes: dict[str, int]) -> PartReport:
    _, people = np.unique(table.groups, return_inverse=True)
    attributes = {}
    around = {}
    labelled = [a for a in table.schema.attributes if table.has(a.name)]
    for attribute in labelled:
        numbers = table.numbers(attribute.name)
        rows = {name: numbers == number for number, name in enumerate(attribute.classes)} | {"": numbers < 0}
        counts = {name: (int(keep.sum()), len(np.unique(people[keep]))) for name, keep in rows.items()}
        attributes[attribute.name] = {name: count for name, count in counts.items() if name or count[0]}
        for border in attribute.borders or ():
            measured = table.frame[attribute.name].to_numpy(dtype=np.float64)
            around[attribute.name, border] = _around(measured, border)
    complete = len(labelled) == len(table.schema.attributes)
    joint = table.joint()
    counted = np.bincount(joint[joint >= 0], minlength=table.schema.n_joint).tolist() if complete else None
    return PartReport(len(table), int(people.max(initial=-1)) + 1, attributes, counted, around, sizes)


def _around(measured: Any, border: float) -> dict[int, int]:
    first = int(np.ceil(border)) - AROUND
    whole = np.floor(measured[~np.isnan(measured)])
    return {number: int((whole == number).sum()) for number in range(first, first + 2 * AROUND)}


def _decode_all(
    tables: Sequence[SampleTable],
    says_part: bool,
    found: list[Problem],
    progress: Progress | None,
    look: Look | None = None,
) -> list[dict[str, int]]:
    """Decodes every photo; appends what fails to `found`; returns the sizes seen, commonest first, per table."""
    total, done = sum(map(len, tables)), 0
    sizes = []
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:  # OpenCV lets go of the interpreter while it decodes
        for part, table in enumerate(tables):
            seen: Counter[str] = Counter()
            start = f"{table.root.name}/" if says_part and not table.other_roots else ""
            see, paths = partial(_size_or_problem, look, part), table.paths
            for path, result in zip(table.frame["path"], pool.map(see, range(len(paths)), paths), strict=True):
                if isinstance(result, tuple):
                    seen[f"{result[0]} x {result[1]}"] += 1
                else:
                    found.append(Problem(start + path, result))
                done += 1
                if progress is not None:
                    progress(done, total)
            sizes.append(dict(seen.most_common()))
    return sizes


def _size_or_problem(look: Look | None, part: int, row: int, path: Path) -> tuple[int, int] | str:
    try:
        photo = decode_photo(path)
    except PhotoError as error:
        return str(error).removeprefix(f"{path}: ")
    if look is not None:
        look.photo(part, row, path, photo)
    return photo.shape[1], photo.shape[0]


def _folds(
    table: SampleTable, n_folds: int, seed: int, val_ratio: float | None, found: list[Problem]
) -> tuple[FoldReport | None, list[str]]:
    """The folds that training would cut; what stands against them becomes a problem."""
    numbers = {name: table.numbers(name) for name in table.schema.names if table.has(name)}
    joint = table.joint()
    try:
        folds = divide(table, n_folds=n_folds, seed=seed, val_ratio=val_ratio)
    except DataError as error:
        found.append(Problem("folds", str(error)))
        return None, []
    people = people_of(table)
    missing = missing_classes(folds, numbers, table.schema, people)
    found += [Problem("folds", line) for line in missing]
    notices = [] if missing else check_folds(folds, numbers, table.schema, people)
    classes = {name: _per_fold(column, table.schema[name].classes, folds) for name, column in numbers.items()}
    complete = len(numbers) == len(table.schema.names)
    per_joint = _per_fold(joint, table.schema.joint_names(), folds) if complete else {}
    photos = np.bincount(folds[folds >= 0]).tolist()
    return FoldReport(photos, len(table), classes, per_joint), notices


def _per_fold(numbers: IntArray, names: Sequence[str], folds: IntArray) -> dict[str, tuple[int, list[int]]]:
    n_folds = int(folds.max(initial=-1)) + 1
    counts = np.zeros((len(names), n_folds + 1), dtype=np.int64)  # the last column: training only
    known = numbers >= 0
    np.add.at(counts, (numbers[known], np.where(folds[known] < 0, n_folds, folds[known])), 1)
    return {name: (int(row.sum()), row[:n_folds].tolist()) for name, row in zip(names, counts, strict=True)}


def _part_json(part: PartReport, schema: Schema) -> dict[str, Any]:
    attributes = {
        name: {c or "unlabelled": {"photos": photos, "people": people} for c, (photos, people) in classes.items()}
        for name, classes in part.attributes.items()
    }
    around = [
        {"attribute": name, "border": border, "photos": {str(number): n for number, n in counts.items()}}
        for (name, border), counts in part.around.items()
    ]
    joint = None if part.joint is None else dict(zip(schema.joint_names(), part.joint, strict=True))
    return {
        "photos": part.photos,
        "people": part.people,
        "attributes": attributes,
        "joint": joint,
        "around_borders": around,
        "sizes": part.sizes,
    }


def _folds_json(folds: FoldReport) -> dict[str, Any]:
    def shares(classes: dict[str, tuple[int, list[int]]], k: int) -> dict[str, dict[str, int]]:
        return {name: {"training": total - held[k], "validation": held[k]} for name, (total, held) in classes.items()}

    return {
        "n_folds": len(folds.photos),
        "folds": [
            {
                "fold": k,
                "photos": {"training": folds.total - held_out, "validation": held_out},
                "attributes": {name: shares(classes, k) for name, classes in folds.classes.items()},
                "joint": shares(folds.joint, k),
            }
            for k, held_out in enumerate(folds.photos)
        ],
    }
