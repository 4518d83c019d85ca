"""The data report as plain text of at most 80 columns."""

from __future__ import annotations

import textwrap
from collections.abc import Collection, Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ensemble_kit.data.check import DataReport, FoldReport

WIDTH = 80
NAME = 28
"""Columns for a class name; longer names are cut."""

MANY = 24
"""A list of more classes than this is cut to its rarest; --json has them all."""

SHOWN_PROBLEMS = 20
FOLDS_A_BLOCK = 5
BARS = " ▁▂▃▄▅▆▇█"

Counts = dict[str, tuple[int, list[int]]]


def report_text(report: DataReport) -> str:
    """The whole report; sections are parted by an empty line."""
    sections = [
        _title(report),
        *_attributes(report),
        _joint(report),
        *_around(report),
        *(_folds(report.folds, _told_by_joint(report)) if report.folds else []),
        _notices(report),
        _problems(report),
    ]
    return "\n\n".join("\n".join(line.rstrip() for line in section) for section in sections if section)


def _title(report: DataReport) -> list[str]:
    lines = [_cut(f"{report.data} ({report.layout})", WIDTH)]
    parts = [("training", report.train)] + ([("evaluation", report.eval)] if report.eval else [])
    for name, part in parts:
        people = f" of {part.people:,} people" if part.people < part.photos else ", each a group of its own"
        lines.append(f"  {name:<12}{part.photos:>8,} photos{people}{'' if part.attributes else ', unlabelled'}")
        if part.sizes:
            first = [f"{size} ({count:,})" for size, count in list(part.sizes.items())[:2]]
            more = f", {len(part.sizes) - 2} more sizes" if len(part.sizes) > 2 else ""
            lines.append(f"  {'':<20} width x height: {', '.join(first)}{more}")
    if not report.schema.is_product:
        counts = ", ".join(f"{a.name} {len(a.classes):,}" for a in report.schema.attributes)
        lines += _wrap(f"taxonomy of {report.schema.n_joint:,} paths: {counts}", "  ", "    ")
    if report.fixes is not None:
        lines.append(f"  {report.fixes.text()}")
    return lines


def _attributes(report: DataReport) -> Iterable[list[str]]:
    """One table an attribute: photos, share and people; the evaluation part beside it when it is labelled."""
    for name, classes in report.train.attributes.items():
        if name in _told_by_joint(report):
            continue
        beside = report.eval.attributes.get(name, {}) if report.eval else {}
        lines = [f"{_cut(name, NAME):<{NAME + 2}}{'photos':>8}{'%':>7}{'people':>8}"]
        lines[0] += f"{'| eval':>8}{'%':>7}{'people':>8}" if beside else ""
        rows = []
        for label in dict.fromkeys([*classes, *beside]):
            photos, people = classes.get(label, (0, 0))
            row = f"  {_cut(label or '(unlabelled)', NAME):<{NAME}}{_share(photos, report.train.photos)}{people:>8,}"
            if beside and report.eval:
                photos_beside, people_beside = beside.get(label, (0, 0))
                row += f" |{_share(photos_beside, report.eval.photos)[2:]}{people_beside:>8,}"
            rows.append((photos, row))
        yield lines + _rarest(rows, "classes")


def _share(count: int, total: int) -> str:
    """`   4,000  71.4%`, 15 wide."""
    return f"{count:>8,}{100 * count / max(total, 1):>6.1f}%"


def _rarest(rows: Sequence[tuple[int, str]], what: str) -> list[str]:
    """All rows, or the rarest ones of many, with what was left out."""
    if len(rows) <= MANY:
        return [row for _, row in rows]
    kept = sorted(sorted(range(len(rows)), key=lambda i: rows[i][0])[: MANY // 2])
    return [rows[i][1] for i in kept] + [f"  ... the {len(kept)} rarest of {len(rows)} {what} (--json lists all)"]


def _told_by_joint(report: DataReport) -> set[str]:
    """The finest level of a taxonomy: its classes are the joint classes, which are listed with their whole path."""
    if report.train.joint is None or len(report.schema.names) < 2:
        return set()
    unlabelled = {name for name, classes in report.train.attributes.items() if "" in classes}
    return {a.name for a in report.schema.attributes if len(a.classes) == report.schema.n_joint} - unlabelled


def _joint(report: DataReport) -> list[str]:
    if report.train.joint is None or len(report.schema.names) < 2:
        return []
    beside = report.eval.joint if report.eval else None
    digits = len(str(report.schema.n_joint - 1))
    names = report.schema.joint_names()
    wide = max(NAME + 2, min(max(map(len, names)) + digits + 1, WIDTH - 32))
    lines = [f"{'joint class':<{wide}}{'photos':>8}{'%':>7}" + (f"{'| eval':>8}{'%':>7}" if beside else "")]
    rows = []
    for number, (name, photos) in enumerate(zip(names, report.train.joint, strict=True)):
        row = f"{_cut(f'{number:>{digits}} {name}', wide):<{wide}}{_share(photos, report.train.photos)}"
        if beside and report.eval:
            row += f" |{_share(beside[number], report.eval.photos)[2:]}"
        rows.append((photos, row))
    return lines + _rarest(rows, "joint classes")


def _around(report: DataReport) -> Iterable[list[str]]:
    """Two lines a border: the numbers, and the photos that have them with a bar each."""
    for (name, border), counts in report.train.around.items():
        top = max(counts.values(), default=0)
        bars = [BARS[-(-count * (len(BARS) - 1) // top)] if top else " " for count in counts.values()]
        middle = len(bars) // 2
        label = _cut(f"{name} around {border:g}", 22)
        cells = [_split([f"{text:>7}" for text in texts]) for texts in (map(str, counts), map(str, counts.values()))]
        yield [
            f"{label:<24}{cells[0]}",
            f"{'  photos':<24}{cells[1]}   {''.join(bars[:middle])}|{''.join(bars[middle:])}",
        ]


def _split(cells: Sequence[str]) -> str:
    middle = len(cells) // 2
    return f"{''.join(cells[:middle])} |{''.join(cells[middle:])}"


def _folds(folds: FoldReport, left_out: Collection[str]) -> Iterable[list[str]]:
    """Shares of the training | validation photos, side by side, at most five folds a block."""
    tables: list[tuple[str, Counts]] = [row for row in folds.classes.items() if row[0] not in left_out]
    if len(folds.classes) > 1 and folds.joint:
        tables.append(("joint class", folds.joint))
    for start in range(0, len(folds.photos), FOLDS_A_BLOCK):
        shown = range(start, min(start + FOLDS_A_BLOCK, len(folds.photos)))
        one = len(folds.photos) == 1
        wide = max(NAME, min(WIDTH - 2 - 10 * len(shown), max(len(name) for _, table in tables for name in table)))
        head = "% of training|validation" if not start else ""
        titles = "".join(f"{'share' if one else f'fold {k}':>10}" for k in shown)
        sizes = "".join(f"{f'{folds.total - folds.photos[k]}|{folds.photos[k]}':>10}" for k in shown)
        yield [f"{head:<{wide + 2}}{titles}", f"{'  photos':<{wide + 2}}{sizes}"]
        for name, classes in tables:
            rows = [
                (total, f"  {_cut(label, wide):<{wide}}{_fold_cells(total, held, shown, folds)}")
                for label, (total, held) in classes.items()
            ]
            yield [name, *_rarest(rows, "classes")]


def _fold_cells(total: int, held: Sequence[int], shown: Iterable[int], folds: FoldReport) -> str:
    cells = []
    for k in shown:
        training = _percent(total - held[k], folds.total - folds.photos[k])
        cells.append(f"{f'{training}|{_percent(held[k], folds.photos[k])}':>10}")
    return "".join(cells)


def _percent(count: int, total: int) -> str:
    share = 100 * count / max(total, 1)
    return "100" if share >= 99.95 else f"{share:.1f}"


def _notices(report: DataReport) -> list[str]:
    if not report.notices:
        return []
    return ["worth knowing", *(line for notice in report.notices for line in _wrap(notice, "  ", "    "))]


def _problems(report: DataReport) -> list[str]:
    if not report.problems:
        return ["no problems found"]
    lines = [f"problems ({len(report.problems):,})"]
    last = None
    for problem in report.problems[:SHOWN_PROBLEMS]:
        if problem.path != last:
            lines += _wrap(problem.path, "  ", "      ")
            last = problem.path
        lines += _wrap(problem.problem, "    ", "      ")
    more = len(report.problems) - SHOWN_PROBLEMS
    return [*lines, f"  ... and {more:,} more (--json lists all)"] if more > 0 else lines


def _wrap(text: str, first: str, later: str) -> list[str]:
    wrapped = textwrap.wrap(text, WIDTH, initial_indent=first, subsequent_indent=later, break_on_hyphens=False)
    return wrapped or [first]


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"
