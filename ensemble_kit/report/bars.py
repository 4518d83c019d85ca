"""The panel of scores beside the photos."""

from __future__ import annotations

from collections.abc import Sequence

from ensemble_kit.report.canvas import INK, PALE, PAPER, SOFT, Canvas
from ensemble_kit.structure_report import (
    ChildRow,
    Comparison,
    Interval,
    StructureReport,
    StructureRow,
    same_votes,
    structure_text,
)

ACCURACY, MACRO_F1 = "#a9bfcb", "#2f5d7c"
BAR, HEAD, STEP = 12, 62, 64
COMPARE_HEAD, COMPARE_STEP, ROUTES = 60, 42, 96
VALUE_WIDTH, MOST = 44, 4


def scores_height(report: StructureReport) -> int:
    """Pixels that `draw_scores` takes."""
    n_compared = len(report.main_comparisons()[:MOST])
    compared = COMPARE_HEAD + COMPARE_STEP * n_compared + 8 if n_compared else 0
    return HEAD + STEP * len(report.main_rows()) + compared + ROUTES * bool(report.main_children())


def draw_scores(canvas: Canvas, x: float, y: float, width: float, report: StructureReport) -> None:
    """Two bars a structure with their intervals, then what specialised experts gain and what wrong routes cost."""
    rows = report.main_rows()
    canvas.text(x, y + 8, "Joint class: every attribute right", size=11, weight="bold", width=width)
    _legend(canvas, x, y + 34, {"accuracy": ACCURACY, "macro F1": MACRO_F1}, same_votes(rows), width)
    for i, row in enumerate(rows):
        _structure(canvas, x, y + HEAD + i * STEP, width, row)
    y += HEAD + len(rows) * STEP
    compared, children = report.main_comparisons()[:MOST], report.main_children()
    if compared:
        _comparisons(canvas, x, y, width, compared)
        y += COMPARE_HEAD + COMPARE_STEP * len(compared) + 8
    if children:
        _routes(canvas, x, y, width, children[0])


def _legend(canvas: Canvas, x: float, y: float, colours: dict[str, str], end: str, width: float) -> None:
    place = x
    for name, colour in colours.items():
        canvas.bar(place, y - 5, 10, 10, fill=colour)
        place += 16 + canvas.text(place + 15, y, name, size=8.5, colour=SOFT) + 12
    canvas.text(x + width, y, end, size=8.5, colour=SOFT, align="right", width=max(20.0, x + width - place))


def _structure(canvas: Canvas, x: float, y: float, width: float, row: StructureRow) -> None:
    is_bound = row.structure.startswith("perfect")
    taken = canvas.text(x, y + 7, structure_text(row.structure), size=9.5, colour=SOFT if is_bound else INK)
    if is_bound:
        canvas.text(x + taken + 6, y + 7, "(bound, told the truth)", size=8, colour=SOFT, width=width - taken - 6)
    score = row.joint
    alpha = 0.45 if is_bound else 1.0
    _bar(canvas, x, y + 19, width, score.accuracy, score.accuracy_interval, ACCURACY, alpha)
    _bar(canvas, x, y + 19 + BAR + 2, width, score.macro_f1, score.macro_f1_interval, MACRO_F1, alpha)


def _bar(
    canvas: Canvas, x: float, y: float, width: float, value: float, interval: Interval | None, fill: str, alpha: float
) -> None:
    """A bar on a scale from 0 to 1, its interval as a thin line, the value at the end of the scale."""
    full = width - VALUE_WIDTH
    canvas.bar(x, y, full, BAR, fill=PALE, alpha=0.55)
    canvas.bar(x, y, full * value, BAR, fill=fill, alpha=alpha)
    if interval is not None:
        low, high = (x + full * end for end in interval)
        middle = y + BAR / 2
        canvas.line([low, high], [middle, middle], colour=PAPER, width=3.4)
        canvas.line([low, high], [middle, middle], colour=INK, width=1.4)
    canvas.text(x + width, y + BAR / 2, f"{value:.3f}", size=9, align="right")


def _comparisons(canvas: Canvas, x: float, y: float, width: float, compared: Sequence[Comparison]) -> None:
    """Specialised minus pooled expert with its interval, about a line at 0."""
    names = " and ".join(dict.fromkeys(c.attribute for c in compared))
    canvas.line([x, x + width], [y + 2, y + 2], colour=PALE)
    canvas.text(x, y + 22, f"Does {names} gain from an expert of its own?", size=11, weight="bold", width=width)
    canvas.text(x, y + 44, "macro F1, specialised minus pooled expert", size=8.5, colour=SOFT, width=width)
    ends = [abs(end) for c in compared for end in (c.macro_f1_gain, *(c.macro_f1_gain_interval or ()))]
    reach = max(0.05, *ends) * 1.08
    for i, comparison in enumerate(compared):
        _gain(canvas, x, y + COMPARE_HEAD + i * COMPARE_STEP, width, comparison, reach)


def _gain(canvas: Canvas, x: float, y: float, width: float, comparison: Comparison, reach: float) -> None:
    verdict, interval = comparison.verdict, comparison.macro_f1_gain_interval
    taken = canvas.text(x, y + 9, comparison.condition.replace("_", " "), size=9)
    is_shown = not verdict.startswith("no")
    canvas.text(
        x + width, y + 9, verdict, size=8.5, align="right", colour=INK if is_shown else SOFT, width=width - taken - 10
    )
    full, line = width - VALUE_WIDTH, y + 26
    zero = x + full / 2
    canvas.bar(x, line - 6, full, 12, fill=PALE, alpha=0.55)
    canvas.line([zero, zero], [line - 9, line + 9], colour=SOFT)
    if interval is not None:
        canvas.line([zero + full / 2 * end / reach for end in interval], [line, line], colour=INK, width=1.6)
    canvas.dot(zero + full / 2 * comparison.macro_f1_gain / reach, line, 5, fill=MACRO_F1 if is_shown else SOFT)
    canvas.text(x + width, line, f"{comparison.macro_f1_gain:+.3f}", size=9, align="right")


def _routes(canvas: Canvas, x: float, y: float, width: float, child: ChildRow) -> None:
    """What wrong routes cost the conditioned attribute."""
    parents = ", ".join(child.parents)
    canvas.line([x, x + width], [y + 2, y + 2], colour=PALE)
    canvas.text(x, y + 22, "What do wrong routes cost?", size=11, weight="bold", width=width)
    words = f"{child.attribute} accuracy, answered by the expert of the"
    canvas.text(x, y + 44, words.replace("_", " "), size=8.5, colour=SOFT, width=width)
    for i, (name, score) in enumerate([("predicted", child.predicted_state), ("true", child.true_state)]):
        canvas.text(x, y + 65 + 18 * i, f"{name} {parents}".replace("_", " "), size=9, width=width - VALUE_WIDTH)
        canvas.text(x + width, y + 65 + 18 * i, f"{score.accuracy:.3f}", size=9, align="right")
