"""The page of a run: its sections in order, and the file."""

from __future__ import annotations

import json
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path

from ensemble_kit.data.decode import PhotoError
from ensemble_kit.pages import thumbnail, write_page
from ensemble_kit.pages.numbers import count, percent
from ensemble_kit.run_report import figures, route_figures, sentences
from ensemble_kit.run_report.facts import RunReport, ShownPhoto
from ensemble_kit.run_report.layout import Numbers, Section

TEMPLATE, STYLE = "run_report/templates/report.html", "run_report/report.css"
SIDE = 144
HASH = 12
"""Digits of a hash that are shown; the JSON has them all."""


def write_report(report: RunReport, out: str | Path, *, inputs: Iterable[str | Path | None] = ()) -> Path:
    """Writes the report as one self-contained HTML file.

    Args:
        report: its facts; `shown` photos become small pictures in the page.
        out: the file; one that is there and is no page is not replaced.
        inputs: what must not be overwritten.

    Raises:
        UsageError: `out` would overwrite something.
    """
    sections = report_sections(report)
    names = [("short", "In short"), *((one.id, one.short) for one in sections)]
    if report.shown:
        names.insert(-1, ("photos", "Photos"))
    return write_page(
        out,
        TEMPLATE,
        inputs=inputs,
        styles=[STYLE],
        title=f"Report of the run {report.name}",
        kind="ensemble_kit: report of a run",
        version=version("ensemble_kit"),
        sections=names,
        report=report,
        summary=figures.summary_figure(report),
        headline=sentences.on_scores(report) if report.answers else "",
        advice=report.diagnosis.advice if report.diagnosis else [],
        parts=sections[:-1],
        setup=sections[-1],
        shared=shared_settings(report),
        photos=[(one, _picture(one)) for one in report.shown],
        photos_say=on_photos(report),
        gallery_says=on_gallery(report),
    )


def report_sections(report: RunReport) -> list[Section]:
    """Every section but the first, which is the headline, in order; the last one is the set-up."""
    return [
        figures.data_section(report),
        figures.learning_section(report),
        figures.answers_section(report),
        figures.trust_section(report),
        route_figures.routing_section(report),
        route_figures.votes_section(report),
        route_figures.shift_section(report),
        route_figures.subgroups_section(report),
        setup_section(report),
    ]


def on_photos(report: RunReport) -> str:
    """What photos the page holds."""
    lacking = report.lacks("photos")
    if lacking is not None:
        return f"This page holds no photo: {lacking.reason}."
    if not report.shown:
        return "This page holds no photo; --photos would add the surest wrong answers."
    first = report.shown[0]
    return (
        f"{count(len(report.shown), 'wrong answer')}, the surest first: {first.true} called {first.said} with "
        f"confidence {percent(first.confidence, 0)}. These pictures are part of this file: whoever gets it gets them."
    )


def on_gallery(report: RunReport) -> str:
    """How many answers are wrong, and what shows them one by one; "" where no photo has an answer."""
    if not report.gallery:
        return ""
    n_wrong = round(report.n_scored * (1 - report.answers[0].score.accuracy))
    wrong = f"{count(n_wrong, 'answer is', 'answers are')} wrong" if n_wrong else "No answer is wrong"
    return f"{wrong}; a gallery shows every photo with what each expert and checkpoint said of it. To write it, type"


def _picture(shown: ShownPhoto) -> str:
    """A data address; "" where the photo cannot be read any more."""
    try:
        return thumbnail(Path(shown.path), SIDE) if shown.path else ""
    except PhotoError:
        return ""


def setup_section(report: RunReport) -> Section:
    """Recipe and environment."""
    setup = report.setup
    experts = [
        [
            one.name,
            ", ".join(one.folds),
            ", ".join(map(str, one.epochs)) or "not known",
            figures.duration(one.seconds),
            "; ".join(f"{key} = {_text(value)}" for key, value in one.settings.items()) or "none",
            ", ".join(sha256[:HASH] for sha256 in one.checkpoints),
        ]
        for one in setup.experts
    ]
    heads = ["expert", "trainings", "epoch kept", "time", "settings of its own", "checkpoints (SHA-256)"]
    known = {
        "data": f"{report.data.data} (layout {report.data.layout})",
        "task": report.task,
        "graph": report.graph,
        **{f"combine: {key}": _text(value) for key, value in setup.combine.items() if value or value == 0},
        **{key: value[:HASH] if len(value) == 64 else value for key, value in setup.identity.items()},
        **setup.versions,
        "trained on": "; ".join(setup.machines) or "not known",
        f"draws of {'people' if report.n_scored_people else 'photos'}": f"{report.n_boot:,}",
    }
    tables = [
        Numbers("The run", ["what", "value"], [[key, value] for key, value in known.items()]),
        Numbers("Experts", heads, experts),
    ]
    says = [f"{count(len(setup.experts), 'expert')}, {count(len(report.curves), 'training')}."]
    return Section("setup", "Set-up", "Recipe and environment", says, tables=[table for table in tables if table.rows])


def shared_settings(report: RunReport) -> Numbers | None:
    """Settings that all experts have alike."""
    rows = [[key, _text(value)] for key, value in report.setup.shared.items()]
    return Numbers("Settings that all experts share", ["setting", "value"], rows) if rows else None


def _text(value: object) -> str:
    if value is None:
        return "not set"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
