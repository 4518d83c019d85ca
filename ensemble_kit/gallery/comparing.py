"""Two answers side by side: where they agree, what became what, and the photos on which they differ."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
from markupsafe import Markup, escape

from ensemble_kit.arrays import FloatArray, IdArray, IntArray
from ensemble_kit.columns import on_or_below, wrap
from ensemble_kit.errors import UsageError
from ensemble_kit.gallery.board import Board, Facet, Line, Order, Span, packed, packed_probs
from ensemble_kit.gallery.comparing_text import (
    comparison_sentences,
    matrix_sentence,
    p_text,
    short_names,
    size_sentence,
)
from ensemble_kit.gallery.page import LARGE_PHOTOS, LIMIT, SCRIPT, STYLE, board_blocks
from ensemble_kit.gallery.pictures import Picture, Place, take_pictures
from ensemble_kit.gallery.text import photos_sentence
from ensemble_kit.pages import element, write_page
from ensemble_kit.pages.numbers import count, percent, score
from ensemble_kit.submissions import CompareReport

TEMPLATE = "gallery/templates/comparison.html"
SHOWN_JOINT = 5
MATRIX_CLASSES = 12
"""Attributes of more classes are shown by their largest changes alone."""
TOP_CHANGES = 12


@dataclass(frozen=True, eq=False)
class ComparisonFacts:
    """Two answers to the same photos.

    Attributes:
        report: what `compare_labels` found.
        joints: of a and of b the joint probabilities `(n_photos, n_joint)`, rows as `report.ids`; None = not known.
        people: `(n_photos,)`.
    """

    report: CompareReport
    joints: tuple[FloatArray | None, FloatArray | None] = (None, None)
    people: IdArray | None = None


@dataclass(frozen=True)
class ComparisonPage:
    """What was written; `n_shown` of the `n_differing` photos are in the page."""

    path: Path
    n_shown: int
    n_differing: int
    has_photos: bool
    problems: list[tuple[str, str]]

    def to_json(self) -> dict[str, Any]:
        problems = [{"id": name, "problem": problem} for name, problem in self.problems]
        return {
            "page": str(self.path), "n_shown": self.n_shown, "has_photos": self.has_photos,
            "bytes": self.path.stat().st_size, "unread": problems,
        }  # fmt: skip

    def text(self) -> str:
        size = self.path.stat().st_size / 1e6
        told = f"({self.n_shown} of {count(self.n_differing, 'differing photo')}, {size:.1f} MB)"
        lines = [on_or_below(f"page: {self.path}", told)]
        if not self.has_photos:
            lines.append("no photos are in it; put them in with --photos DIR")
        if self.problems:
            name, problem = self.problems[0]
            lines.append(
                wrap(f"{count(len(self.problems), 'photo')} could not be shown, the first is {name}: {problem}")
            )
        return "\n".join(lines)


def comparison_board(facts: ComparisonFacts) -> Board:
    """The photos on which two answers differ, with the filters of the gallery."""
    report, rows = facts.report, facts.report.differing
    schema = report.schema
    sides = {"a": schema.decode(report.a[rows]), "b": schema.decode(report.b[rows])}
    true = None if report.truth is None else schema.decode(report.truth[rows])
    changed = np.stack([sides["a"][name] != sides["b"][name] for name in schema.names], axis=1)
    facets = [_right(report, rows)] if report.truth is not None else []
    facets += [_changed(schema.names, changed), _what_became_what(report, rows)]
    for attribute in schema.attributes:
        name, classes = attribute.name, attribute.classes
        if true is not None:
            facets.append(Facet(f"true_{name}", f"{name}: true", classes, true[name]))
        facets += [Facet(f"{side}_{name}", f"{name}: {side}", classes, sides[side][name]) for side in "ab"]
    columns = ("a", "b") if true is None else ("truth", "a", "b")
    prefixes = ("a", "b") if true is None else ("true", "a", "b")
    return Board(
        ids=report.ids[rows],
        facets=tuple(facets),
        spans=tuple(_spans(facts, rows)),
        orders=tuple(_orders(facts, rows)),
        columns=columns,
        lines=tuple(_line(facts, rows, name, prefixes) for name in schema.names),
        people=None if facts.people is None else facts.people[rows],
        contrast="change",
        probs_are="Beside each class: its probability in the joint probabilities of that answer.",
        legend="Under each photo: what a says, and what b says instead"
        + ("." if true is None else "; the one that is right is marked."),
    )


def _right(report: CompareReport, rows: IntArray) -> Facet:
    assert report.truth is not None
    a_right, b_right = report.a[rows] == report.truth[rows], report.b[rows] == report.truth[rows]
    numbers = np.where(a_right, 0, np.where(b_right, 1, 2)).astype(np.int64)
    return Facet("right", "Who is right", ("a", "b", "neither"), numbers, "Of the whole answer, all attributes of it.")


def _changed(names: Sequence[str], changed: np.ndarray[Any, Any]) -> Facet:
    alone = changed & (changed.sum(axis=1) == 1)[:, None]
    if len(names) < 3:
        return Facet("changed", "What differs", tuple(names), changed)
    titles = (*names, *(f"only {name}" for name in names))
    return Facet("changed", "What differs", titles, np.hstack([changed, alone]))


def _what_became_what(report: CompareReport, rows: IntArray) -> Facet:
    """`age: <30 → 30-59`, the most frequent first."""
    schema = report.schema
    a, b = schema.decode(report.a[rows]), schema.decode(report.b[rows])
    found: dict[str, np.ndarray[Any, Any]] = {}
    for attribute in schema.attributes:
        name, classes = attribute.name, attribute.classes
        pairs = np.stack([a[name], b[name]], axis=1)
        for old, new in np.unique(pairs[a[name] != b[name]], axis=0).tolist():
            found[f"{name}: {classes[old]} → {classes[new]}"] = (a[name] == old) & (b[name] == new)
    names = sorted(found, key=lambda text: -int(found[text].sum()))
    values = np.stack([found[name] for name in names], axis=1) if names else np.zeros((len(rows), 0), dtype=np.bool_)
    return Facet("change", "What became what", tuple(names), values)


def _sure(facts: ComparisonFacts, side: int, rows: IntArray) -> FloatArray | None:
    joint, said = facts.joints[side], (facts.report.a, facts.report.b)[side]
    return None if joint is None else joint[rows, said[rows]].astype(np.float64)


def _spans(facts: ComparisonFacts, rows: IntArray) -> list[Span]:
    found = []
    for side, name in enumerate("ab"):
        sure = _sure(facts, side, rows)
        if sure is not None:
            about = f"The probability that {name} gives its own joint class."
            found.append(Span(f"sure_{name}", f"Confidence of {name}", sure, 0.01, about))
    return found


def _orders(facts: ComparisonFacts, rows: IntArray) -> list[Order]:
    """By confidence where it is known, else as the photos stand in a."""
    found, known = [], [(name, _sure(facts, side, rows)) for side, name in enumerate("ab")]
    both = [values for _, values in known if values is not None]
    if len(both) == 2:
        found.append(Order.by("sure", "both most confident first", np.minimum(*both), falling=True))
    found += [
        Order.by(f"sure_{name}", f"{name} most confident first", values, falling=True)
        for name, values in known
        if values is not None
    ]
    ids = facts.report.ids[rows]
    found.append(Order("row", "as in a", np.arange(len(rows), dtype=np.int64)))
    return [*found, Order("id", "by name", np.argsort(ids, kind="stable").astype(np.int64))]


def _line(facts: ComparisonFacts, rows: IntArray, name: str, prefixes: Sequence[str]) -> Line:
    schema = facts.report.schema
    probs: list[FloatArray | None] = []
    column = schema.names.index(name)
    for prefix in prefixes:
        side = "ab".find(prefix)
        joint = None if prefix == "true" else facts.joints[side]
        if joint is None:
            probs.append(None)
            continue
        own = schema.decode((facts.report.a, facts.report.b)[side][rows])[name]
        total = np.zeros(len(rows))
        for number, of_class in enumerate(schema.paths[:, column].tolist()):
            total += np.where(own == of_class, joint[rows, number], 0)
        probs.append(total)
    return Line(name, tuple(f"{prefix}_{name}" for prefix in prefixes), tuple(probs))


def comparison_details(facts: ComparisonFacts, rows: IntArray) -> dict[str, Any]:
    """The most probable joint classes of a and of b, of the photos of some rows of the report."""
    names, found = facts.report.schema.joint_names(), []
    for joint, side in zip(facts.joints, "ab", strict=True):
        if joint is not None:
            shown = min(SHOWN_JOINT, len(names))
            top = np.argsort(-joint[rows], axis=1, kind="stable")[:, :shown]
            probs = np.take_along_axis(joint[rows], top, axis=1)
            found.append(
                {
                    "title": side,
                    "names": names,
                    "shown": shown,
                    "top": packed(top, np.uint32),
                    "probs": packed_probs(probs),
                }
            )
    return {"joint": found}


@dataclass(frozen=True)
class Matrix:
    """What became what of one attribute: a's classes down, b's across; each number leads to its photos."""

    title: str
    sentence: str
    columns: list[str]
    rows: list[tuple[str, list[tuple[Markup, str]]]]


def matrices(report: CompareReport) -> list[Matrix]:
    """One an attribute that differs, of few classes; a cell is (a link to the photos, or the number, and its tint)."""
    found = []
    for attribute in report.schema.attributes:
        name, classes, agreement = attribute.name, attribute.classes, report.agreements[attribute.name]
        changes = agreement.largest_changes()
        if len(classes) > MATRIX_CLASSES or not changes:
            continue
        most = changes[0][0]
        rows = []
        for i, old in enumerate(classes):
            cells = []
            for j, new in enumerate(classes):
                n = agreement.changes[i][j]
                link = _link({f"a_{name}": old, f"b_{name}": new}, f"{n:,}") if n and i != j else escape(f"{n:,}")
                tint = f"bad t{round(9 * n / most)}" if n and i != j else "same"
                cells.append((link, tint))
            rows.append((old, cells))
        found.append(Matrix(name, matrix_sentence(report, name), list(classes), rows))
    return found


def _link(chosen: dict[str, str], text: str) -> Markup:
    """A link to the photos of this page with these values."""
    parts = [f"{quote(key, safe='')}={quote(value, safe='')}" for key, value in chosen.items()]
    return element("a", text, href="#" + "&".join(parts))


def agreement_rows(report: CompareReport) -> tuple[list[Any], list[list[Any]]]:
    """The columns and rows of the table of agreement, and where the truth is known of who is right."""
    columns: list[Any] = ["", ("differ", "number"), ("agreement", "number"), ("kappa", "number")]
    if report.verdicts:
        columns += [("a right", "number"), ("b right", "number"), ("neither", "number"), ("p (McNemar)", "number")]
    rows = []
    for name, found in report.agreements.items():
        n_differing = sum(n for n, _, _ in found.largest_changes())
        linked = n_differing and name != "joint"
        row: list[Any] = [
            name,
            _link({"changed": name}, f"{n_differing:,}") if linked else f"{n_differing:,}",
            percent(found.share),
            score(found.kappa),
        ]
        if report.verdicts:
            verdict = report.verdicts[name]
            row += [f"{n:,}" for n in (verdict.only_a, verdict.only_b, verdict.neither)]
            row.append(p_text(verdict.p).removeprefix("p ").removeprefix("= "))
        rows.append(row)
    return columns, rows


def change_rows(report: CompareReport) -> list[list[Any]]:
    """The largest changes of the joint class: how many photos, from what, to what."""
    schema, names = report.schema, report.schema.joint_names()
    classes = dict(zip(names, schema.class_rows(), strict=True))
    rows = []
    for n, old, new in report.agreements["joint"].largest_changes()[:TOP_CHANGES]:
        chosen = {f"a_{x}": value for x, value in zip(schema.names, classes[old], strict=True)}
        chosen |= {f"b_{x}": value for x, value in zip(schema.names, classes[new], strict=True)}
        rows.append([_link(chosen, f"{n:,}"), old, new])
    return rows


def write_comparison(
    path: str | Path,
    facts: ComparisonFacts,
    places: Sequence[Place] | None,
    *,
    limit: int = LIMIT,
    inputs: Iterable[str | Path | None] = (),
    threads: int = 2,
    begin: Callable[[str, int], None] | None = None,
    advance: Callable[[int], None] | None = None,
) -> ComparisonPage:
    """Writes two answers side by side: one file that holds everything.

    Args:
        path: the page.
        places: where each photo of `facts.report.ids` lies; None = no photos in the page, which says so.
        limit: differing photos in the page, the first in the page's first order.
        inputs: files that the page may not replace.
        begin, advance: told what is being read, and how far.

    Raises:
        UsageError: a limit below 1, or a path that is no place for a page.
    """
    if limit < 1:
        raise UsageError(f"--limit {limit}: expected at least 1 photo")
    report = facts.report
    whole = comparison_board(facts)
    rows = np.sort(whole.orders[0].rows[:limit]) if len(whole) else np.zeros(0, dtype=np.int64)
    board = whole.select(rows)
    pictures: list[Picture] | None = None
    if places is not None:
        if begin is not None:
            begin("reading photos", len(rows))
        of_report = report.differing[rows].tolist()
        large = board.orders[0].rows[:LARGE_PHOTOS].tolist()
        pictures = take_pictures([places[row] for row in of_report], large=large, threads=threads, advance=advance)
    columns, agreement = agreement_rows(report)
    write_page(
        path,
        TEMPLATE,
        inputs=inputs,
        styles=[STYLE],
        scripts=[SCRIPT],
        title=" and ".join(short_names(*report.names)),
        version=version("ensemble_kit"),
        kind="Two answers side by side",
        names=report.names,
        sections=[("agreement", "Agreement"), ("changes", "What became what"), ("photos", "Photos")],
        sentences=comparison_sentences(report),
        columns=columns,
        agreement=agreement,
        matrices=matrices(report),
        changes=change_rows(report),
        n_differing=len(report.differing),
        small_print=[size_sentence(len(rows), len(report.differing)), photos_sentence(pictures is not None)],
        blocks=board_blocks(board, comparison_details(facts, report.differing[rows]), pictures) if len(rows) else [],
    )
    problems = [(str(board.ids[row]), one.problem) for row, one in enumerate(pictures or ()) if one.problem]
    return ComparisonPage(Path(path), len(rows), len(report.differing), pictures is not None, problems)
