"""A search in one picture: scores by trial, and by the value of each parameter."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from ensemble_kit.errors import UsageError
from ensemble_kit.files import replacing
from ensemble_kit.report.canvas import DPI, INK, PALE, PAPER, SOFT, STATE_COLOURS

COLUMNS = 2
PANEL = (4.2, 2.5)
"""Width and height of one panel, in inches."""


class Axis(Protocol):
    """A parameter: its key, and whether and how its values are numbers."""

    @property
    def key(self) -> str: ...
    @property
    def ends(self) -> tuple[Any, ...]: ...


@dataclass(frozen=True)
class Point:
    """One trial; score None = it has none, state complete, pruned or failed."""

    number: int
    score: float | None
    state: str
    params: Mapping[str, Any]

    @property
    def is_complete(self) -> bool:
        return self.state == "complete"


def draw_search(out: Path, points: Sequence[Point], axes: Sequence[Axis], score: str) -> Path:
    """Draws the history (dots, and the best so far as a line) and a panel a parameter; pruned trials are hollow.

    Args:
        score: what the scores are, in words.

    Raises:
        UsageError: no trial with a score.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    scored = [point for point in points if point.score is not None]
    if not scored:
        raise UsageError("history: expected at least one trial with a score, found none")
    n_panels = 1 + len(axes)
    columns = min(COLUMNS, n_panels)
    rows = -(-n_panels // columns)
    figure = Figure(figsize=(PANEL[0] * columns, PANEL[1] * rows + 0.3), dpi=DPI, facecolor=PAPER)
    FigureCanvasAgg(figure)
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    _history(panels[0], scored, score)
    for panel, axis in zip(panels[1:], axes, strict=False):
        _parameter(panel, axis, [point for point in scored if axis.key in point.params])
    for panel in panels[n_panels:]:
        panel.set_axis_off()
    figure.tight_layout(pad=1.0)
    with replacing(Path(out)) as temporary:
        figure.savefig(temporary, format="png")
    return Path(out)


def _history(panel: Any, points: Sequence[Point], score: str) -> None:
    best, line = float("-inf"), []
    for point in points:
        if point.is_complete and point.score is not None:
            best = max(best, point.score)
        line.append(best if best > float("-inf") else None)
    panel.step([p.number for p in points], line, where="post", color=STATE_COLOURS[0], linewidth=1.4)
    _dots(panel, [(point.number, point) for point in points])
    panel.xaxis.get_major_locator().set_params(integer=True)
    _style(panel, f"{score} by trial (line: the best so far)")


def _parameter(panel: Any, axis: Axis, points: Sequence[Point]) -> None:
    is_range = hasattr(axis, "log")
    labels = [] if is_range else [_text(value) for value in axis.ends]
    placed = [(p.params[axis.key] if is_range else labels.index(_text(p.params[axis.key])), p) for p in points]
    if is_range:
        low, high = axis.ends  # every value lies between them
        if getattr(axis, "log", False):
            panel.set_xscale("log")
            panel.set_xlim(low / (high / low) ** 0.05, high * (high / low) ** 0.05)
        else:
            panel.xaxis.get_major_locator().set_params(integer=all(isinstance(end, int) for end in axis.ends))
            panel.set_xlim(low - 0.05 * (high - low), high + 0.05 * (high - low))
    else:
        panel.set_xticks(range(len(labels)), [_short(label) for label in labels])
        panel.set_xlim(-0.5, len(labels) - 0.5)
    _dots(panel, placed)
    _style(panel, axis.key)


def _dots(panel: Any, placed: Sequence[tuple[float, Point]]) -> None:
    for x, point in placed:
        fill = STATE_COLOURS[0] if point.is_complete else PAPER
        panel.plot([x], [point.score], "o", markersize=5, markerfacecolor=fill, markeredgecolor=STATE_COLOURS[0])


def _style(panel: Any, title: str) -> None:
    panel.set_title(title, fontsize=9, color=INK, loc="left", parse_math=False)
    panel.tick_params(labelsize=8, colors=SOFT)
    panel.grid(color=PALE)
    panel.set_axisbelow(True)
    for side in ("top", "right"):
        panel.spines[side].set_visible(False)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _short(label: str) -> str:
    return label if len(label) <= 14 else f"{label[:11]}..."
