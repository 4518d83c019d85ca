"""The page: facts, their sentences and their pictures in one file."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from markupsafe import Markup

from ensemble_kit.data.check import FoldReport, PartReport
from ensemble_kit.data.fixes import COLUMNS
from ensemble_kit.data_report import sentences
from ensemble_kit.data_report.doubts import Contradiction, Doubt, LabelDoubts
from ensemble_kit.data_report.duplicates import Pair
from ensemble_kit.data_report.facts import DataFacts, Measured
from ensemble_kit.data_report.hashing import NEAR
from ensemble_kit.data_report.measures import Spread
from ensemble_kit.data_report.photos import Photo
from ensemble_kit.pages import thumbnail, write_page
from ensemble_kit.pages.charts import Bar, draw_bars, draw_columns, draw_shares
from ensemble_kit.pages.numbers import percent

TEMPLATE = "data_report/templates/data_report.html"
STYLES = ("data_report/data_report.css",)
SCRIPTS = ("data_report/data_report.js",)

MOST_COLOURS = 8
"""More classes than this are drawn as a bar each."""

MOST_BARS = 24
"""Of more classes the rarest and the commonest half are drawn; the table has all."""

MOST_CARDS = 100
"""Doubts of an attribute, and pairs, that the page lists; the fix file and --json have all."""

MOST_LINES = 200
"""Problems that the page lists."""

SMALL, LARGE = 96, 144
"""Pixels of a thumbnail's longer side: in a sheet, and where two are compared."""


@dataclass(frozen=True)
class Drawn:
    """A figure: what it is called, what it says, the picture, and the numbers behind it."""

    title: str
    sentence: str
    picture: Markup
    columns: Sequence[Any] = ()
    rows: Sequence[Sequence[Any]] = ()
    summary: str = ""


@dataclass
class Thumbs:
    """Thumbnails for the page, each made once; none where no photos were asked for."""

    paths: Sequence[Path]
    is_wanted: bool
    readable: Sequence[bool]
    progress: Callable[[int], None] | None = None
    made: dict[tuple[int, int], str] = field(default_factory=dict)

    def of(self, photo: Photo, side: int) -> str:
        """A `data:` address; "" without photos and for broken ones."""
        if not self.is_wanted or not self.readable[photo.at]:
            return ""
        key = photo.at, side
        if key not in self.made:
            self.made[key] = thumbnail(self.paths[photo.at], side)
            if self.progress is not None:
                self.progress(len(self.made))
        return self.made[key]


def write_report(
    path: Path, facts: DataFacts, *, with_photos: bool = False, progress: Callable[[int], None] | None = None
) -> Path:
    """Writes the page.

    Args:
        path: the HTML file.
        with_photos: thumbnails in it: contact sheets, and beside what is listed. Without, no photo is in the page.
        progress: called with the thumbnails made so far.

    Raises:
        UsageError: the file is there and is no page, or is a part of the data.
    """
    thumbs = Thumbs(facts.photos.full_paths, with_photos, facts.photos.looks.is_decoded.tolist(), progress)
    return write_page(
        path, TEMPLATE, inputs=[Path(facts.check.data)], styles=STYLES, scripts=SCRIPTS, **page_facts(facts, thumbs)
    )


def page_facts(facts: DataFacts, thumbs: Thumbs) -> dict[str, Any]:
    """What the template names."""
    doubts = [_doubts_card(one, thumbs, facts) for one in facts.doubts]
    pairs = _pairs(facts, thumbs)
    has_fixes = any(card["offers"] for one in doubts for card in one["cards"]) or any(p["ways"] for p in pairs)
    sheets = [_sheet(sheet, thumbs) for sheet in facts.sheets] if thumbs.is_wanted else []
    outliers = [(s.name, _outliers(s, thumbs)) for s in facts.spreads]
    return {
        "title": f"Data: {Path(facts.check.data).resolve().name}",
        "kind": "A data set before training",
        "version": version("ensemble_kit"),
        "sections": _sections(facts),
        "holdings": sentences.said_holdings(facts),
        "about": _about(facts),
        "first": sentences.said_first(facts),
        "attributes": _attributes(facts),
        "joint": _joint(facts),
        "measured": [_measured(name, one, facts) for name, one in facts.measured.items()],
        "folds_say": sentences.said_folds(facts.check.folds, _fold_problems(facts)),
        "folds": _folds(facts.check.folds),
        "sizes": _sizes(facts),
        "spreads": [_spread(one) for one in facts.spreads],
        "outliers": [(name, rows) for name, rows in outliers if rows],
        "duplicates": _nearest(facts),
        "pairs": pairs,
        "n_pairs": facts.duplicates.n_pairs,
        "run": facts.run,
        "who": "its person" if facts.photos.has_people[0] else "it",
        "doubts": doubts,
        "has_fixes": has_fixes,
        "fixes_data": {"columns": list(COLUMNS), "before": [list(fix.cells) for fix in facts.listed]},
        "problems_say": sentences.said_problems(facts),
        "problems": [(p.path, p.problem) for p in facts.check.problems[:MOST_LINES]],
        "n_more_problems": max(0, len(facts.check.problems) - MOST_LINES),
        "notices": list(facts.check.notices),
        "sheets_say": sentences.said_sheets(facts, thumbs.is_wanted),
        "sheets": sheets,
        "with_photos": thumbs.is_wanted,
        "n_thumbs": len({at for at, _ in thumbs.made}),
    }


def _sections(facts: DataFacts) -> list[tuple[str, str]]:
    names = [("first", "First"), ("classes", "Classes")]
    names += [("numbers", ", ".join(facts.measured).capitalize())] if facts.measured else []
    names += [("folds", "Folds"), ("photos", "Photos"), ("duplicates", "Duplicates"), ("labels", "Labels in doubt")]
    return [*names, ("problems", "Problems"), ("sheets", "Contact sheets")]


def _about(facts: DataFacts) -> list[tuple[str, str]]:
    check = facts.check
    pairs = [("data", check.data), ("layout", check.layout)]
    if check.fixes is not None:
        pairs.append(("fix list", check.fixes.text().removeprefix("fixes: ")))
    return [*pairs, ("run", facts.run or "none asked")]


def _attributes(facts: DataFacts) -> list[Drawn]:
    check, found = facts.check, []
    for name, classes in check.train.attributes.items():
        beside = check.eval.attributes.get(name, {}) if check.eval else {}
        say = sentences.said_attribute(name, classes, beside)
        labels = [c for c in dict.fromkeys([*classes, *beside]) if c]
        parts = [("training", classes, check.train)]
        parts += [("evaluation", beside, check.eval)] if beside and check.eval else []
        counts = [(part, [values.get(c, (0, 0))[0] for c in labels]) for part, values, _ in parts]
        title = f"{name}: share of each class"
        if len(labels) <= MOST_COLOURS:
            picture = draw_shares(counts, labels, title, say)
        else:
            picture = _bars(labels, counts[0][1], title, say)
        people = facts.photos.has_people[0]
        columns, rows = _count_table(labels, parts, people)
        found.append(Drawn(name, say, picture, columns, rows, f"Photos{' and people' if people else ''} by {name}"))
    return found


def _bars(names: Sequence[str], counts: Sequence[int], title: str, about: str) -> Markup:
    order = sorted(range(len(names)), key=lambda i: -counts[i])
    if len(order) > MOST_BARS:
        order = [*order[: MOST_BARS // 2], *order[-MOST_BARS // 2 :]]
    total = max(1, sum(counts))
    bars = [Bar(names[i], counts[i] / total) for i in order]
    top = max([0.001, *(bar.value for bar in bars)])
    return draw_bars(bars, title, about, limits=(0.0, top), write=lambda value, _: percent(value))


def _count_table(
    labels: Sequence[str],
    parts: Sequence[tuple[str, Mapping[str, tuple[int, int]], PartReport | None]],
    has_people: bool,
) -> tuple[list[Any], list[list[Any]]]:
    columns: list[Any] = ["class"]
    for part, _, _ in parts:
        columns += [(f"{part} photos", "number"), ("share", "number")]
        columns += [("people", "number")] if has_people else []
    rows = []
    for label in labels:
        row: list[Any] = [label]
        for _, values, report in parts:
            photos, people = values.get(label, (0, 0))
            row += [f"{photos:,}", percent(photos / max(1, report.photos if report else 0))]
            row += [f"{people:,}"] if has_people else []
        rows.append(row)
    return columns, rows


def _joint(facts: DataFacts) -> dict[str, Any] | None:
    check = facts.check
    if check.train.joint is None or len(check.schema.names) < 2:
        return None
    names, counts = check.schema.joint_names(), check.train.joint
    beside = check.eval.joint if check.eval else None
    order = sorted(range(len(names)), key=lambda i: -counts[i])
    cut = len(order) > MOST_BARS
    half = MOST_BARS // 2
    shown = [*order[:half], *order[-half:]] if cut else order
    return {
        "say": sentences.said_joint(names, check.train),
        "caption": f"Photos of the {half} commonest and the {half} rarest of {len(names):,} joint classes"
        if cut
        else "Photos of each joint class, commonest first",
        "has_eval": beside is not None,
        "rows": [_joint_row(names[i], counts, beside, i) for i in shown],
        "all": [_joint_row(names[i], counts, beside, i) for i in order] if cut else [],
    }


def _joint_row(name: str, counts: Sequence[int], beside: Sequence[int] | None, i: int) -> dict[str, Any]:
    parts = [counts] + ([beside] if beside is not None else [])
    cells = []
    for part in parts:
        share = part[i] / max(1, sum(part))
        cells.append({"n": f"{part[i]:,}", "share": percent(share), "tint": min(9, -(-part[i] * 9 // max(1, *part)))})
    return {"name": name, "cells": cells}


def _measured(name: str, one: Measured, facts: DataFacts) -> Drawn:
    people = facts.photos.has_people[0]
    say = sentences.said_measured(name, one, people)
    who = "people" if people else "photos"
    title = f"{who.capitalize()} by {name}, borders dashed"
    picture = draw_columns(one.people, title, say, x_name=name, y_name=who, borders=one.borders)
    rows = [[f"{number:g}", f"{one.people[number]:,}", f"{n:,}"] for number, n in one.counts.items()]
    columns = [name, (who if people else "groups", "number"), ("photos", "number")]
    return Drawn(title, say, picture, columns, rows, f"Every {name}")


def _fold_problems(facts: DataFacts) -> list[str]:
    return [problem.problem for problem in facts.check.problems if problem.path == "folds"]


def _folds(folds: FoldReport | None) -> list[Drawn]:
    if folds is None:
        return []
    found = []
    for name, classes in folds.classes.items():
        names = [f"fold {k}" if len(folds.photos) > 1 else "held out" for k in range(len(folds.photos))]
        labels = list(classes)
        columns = ["class", ("all", "number"), *((fold, "number") for fold in names)]
        rows = [
            [label, percent(total / max(1, folds.total))]
            + [percent(n / max(1, folds.photos[k])) for k, n in enumerate(held)]
            for label, (total, held) in classes.items()
        ]
        about = sentences.said_fold(classes, folds.photos)
        if len(labels) <= MOST_COLOURS:
            all_photos = ("all photos", [total for total, _ in classes.values()])
            held_out = [(fold, [held[k] for _, held in classes.values()]) for k, fold in enumerate(names)]
            picture = draw_shares([all_photos, *held_out], labels, f"{name} by fold", about)
        else:
            picture = Markup("")
        found.append(Drawn(name, about, picture, columns, rows, f"Shares of {name} by fold"))
    return found


def _sizes(facts: DataFacts) -> dict[str, Any]:
    sizes = facts.sizes
    say = sentences.said_sizes(sizes, len(facts.photos.looks))
    if sizes is None or len(sizes.counts) < 2:
        return {"say": say, "rows": []}
    total = sum(sizes.counts.values())
    rows = [[f"{w} x {h}", f"{n:,}", percent(n / total)] for (w, h), n in list(sizes.counts.items())[:12]]
    return {"say": say, "rows": rows, "n_more": max(0, len(sizes.counts) - 12)}


def _spread(one: Spread) -> Drawn:
    say = sentences.said_spread(one)
    title = one.name.capitalize()
    inside = [round(fence, 1) for fence in one.fences if min(one.counts) < fence <= max(one.counts)]
    unit = "step between neighbours, grey levels" if one.name == "sharpness" else "grey levels, 0 to 255"
    picture = draw_columns(
        one.counts, f"Photos by {one.name}", say, x_name=f"{one.name} ({unit})", y_name="photos", borders=inside,
        step=one.step,
    )  # fmt: skip
    return Drawn(title, say, picture)


def _outliers(one: Spread, thumbs: Thumbs) -> list[dict[str, Any]]:
    low, high = sentences.OUTSIDE[one.name]
    rows = [(low, *row) for row in one.low] + [(high, *row) for row in one.high]
    return [_told(photo, thumbs, SMALL) | {"side": side, "value": f"{value:.1f}"} for side, photo, value in rows]


def _told(photo: Photo, thumbs: Thumbs, side: int) -> dict[str, Any]:
    return {
        "path": photo.path,
        "part": photo.part,
        "person": photo.person,
        "labels": ", ".join(photo.labels.values()) or "unlabelled",
        "fold": photo.fold,
        "thumb": thumbs.of(photo, side),
    }


def _nearest(facts: DataFacts) -> Drawn | None:
    found = facts.duplicates
    say = sentences.said_duplicates(found, facts.photos.has_people[0])
    if not found.nearest:
        return Drawn("Duplicates", say, Markup(""))
    title = f"How far the nearest {'photo of somebody else' if facts.photos.has_people[0] else 'other photo'} is"
    picture = draw_columns(
        {0.0: 0} | {float(bits): n for bits, n in found.nearest.items()}, title, say, x_name="bits that differ",
        y_name="photos", borders=[float(NEAR + 1)],
    )  # fmt: skip
    return Drawn(title, say, picture)


def _pairs(facts: DataFacts, thumbs: Thumbs) -> list[dict[str, Any]]:
    settled: dict[int, list[Contradiction]] = {}
    for one in facts.contradictions:
        settled.setdefault(id(one.pair), []).append(one)
    return [
        {
            "one": _told(pair.one, thumbs, LARGE),
            "other": _told(pair.other, thumbs, LARGE),
            "tags": pair_tags(pair),
            "ways": [way for one in settled.get(id(pair), []) if (way := _ways(one))],
        }
        for pair in facts.duplicates.pairs[:MOST_CARDS]
    ]


def pair_tags(pair: Pair) -> list[str]:
    """What is worth knowing about a pair, in a few words each."""
    tags = ["the same file" if pair.is_same_file else f"{pair.distance} bits differ"]
    tags += ["mirrored"] if pair.is_mirrored else []
    tags += [f"{pair.n_photos:,} pairs of photos"] if pair.n_photos > 1 else []
    tags += ["in training and evaluation"] if pair.is_across_parts else []
    tags += ["in two folds"] if pair.is_across_folds else []
    return tags + [f"{name}: {one} and {other}" for name, (one, other) in pair.differing.items()]


def _ways(one: Contradiction) -> dict[str, Any] | None:
    first, second = one.pair.differing[one.attribute]
    choices = [
        {"text": f"both {second}", "fixes": [list(fix.cells) for fix in one.one_as_other]},
        {"text": f"both {first}", "fixes": [list(fix.cells) for fix in one.other_as_one]},
    ]
    kept = [choice for choice in choices if choice["fixes"]]
    return {"attribute": one.attribute, "choices": kept, "likelier": one.likelier} if kept else None


def _doubts_card(one: LabelDoubts, thumbs: Thumbs, facts: DataFacts) -> dict[str, Any]:
    return {
        "name": one.name,
        "say": sentences.said_doubts(one, facts.cut),
        "is_measured": one.is_measured,
        "n": len(one.doubts),
        "cards": [_card(doubt, thumbs) for doubt in one.doubts[:MOST_CARDS]],
    }


def _card(doubt: Doubt, thumbs: Thumbs) -> dict[str, Any]:
    shown = doubt.photos
    return {
        "name": shown[0].person if doubt.n_photos > 1 else shown[0].path,
        "photos": [_told(photo, thumbs, SMALL) for photo in shown],
        "n_photos": doubt.n_photos,
        "n_agree": doubt.n_agree,
        "label": doubt.label,
        "class": doubt.name,
        "confidence": percent(doubt.confidence),
        "beside": doubt.beside,
        "best": doubt.offers[0].name,
        "best_prob": percent(doubt.offers[0].prob or 0.0, 0),
        "offers": [
            {
                "text": o.text,
                "name": o.name,
                "prob": percent(o.prob or 0.0, 0),
                "fixes": [list(f.cells) for f in o.fixes],
            }
            for o in doubt.offers
            if o.fixes
        ],
    }


def _sheet(sheet: Any, thumbs: Thumbs) -> dict[str, Any]:
    return {
        "name": sheet.name,
        "n": sheet.n_photos,
        "photos": [told for photo in sheet.photos if (told := _told(photo, thumbs, SMALL))["thumb"]],
    }
